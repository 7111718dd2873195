//! Taking a ring's name away.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::protocol::{Owner, Store, owners, recovery};

use super::error::{OpenError, RemoveError};
use super::liveness::{Bytes, Identity, Lock, is_free};
use super::location::{Access, Location};
use super::map::Map;
use super::open::{Opened, identity_of};

/// Removes a ring's name. Those who are attached keep the nameless file until they detach, and
/// learn of it when they wait and somebody has created another ring of that name.
///
/// While it looks whether anybody lives, nobody can attach.
///
/// # Errors
/// `InUse` if somebody lives, unless forced; `Open` if the file is no ring, or the path is a
/// symbolic link, unless forced; `Replaced` if the name leads elsewhere by the time that the ring
/// is known to be unused; `NoPath` for a descriptor.
pub fn remove(location: &Location, force: bool) -> Result<(), RemoveError> {
    let path = location.as_path().ok_or(RemoveError::NoPath)?;
    if force {
        return unlink(path);
    }
    if path.is_symlink() {
        return Err(OpenError::NotRegular {
            found: "a symbolic link",
        }
        .into());
    }
    let opened = Opened::new(location, Access::ReadWrite, true)?;
    let participants = opened.geometry.participants;
    let Some(_all) = Lock::take(&opened.file, Bytes::all_rows(participants))
        .map_err(OpenError::io("lock the rows"))?
    else {
        return Err(in_use(&opened)?);
    };
    unlink_unless_renamed(&opened, path)
}

/// Removes the name unless it leads elsewhere by now. Linux cannot do both in one step: whoever
/// renames a ring to this name between the two loses that name.
pub(super) fn unlink_unless_renamed(opened: &Opened, path: &Path) -> Result<(), RemoveError> {
    let named = fs::symlink_metadata(path).map_err(OpenError::opening)?;
    if (named.dev(), named.ino()) != identity_of(&opened.file)? {
        return Err(RemoveError::Replaced);
    }
    unlink(path)
}

fn unlink(path: &Path) -> Result<(), RemoveError> {
    fs::remove_file(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RemoveError::Open(OpenError::NotFound),
        _ => OpenError::io("remove the file")(error).into(),
    })
}

fn in_use(opened: &Opened) -> Result<RemoveError, OpenError> {
    let map = Map::new(
        &opened.file,
        &opened.geometry,
        opened.map_bytes(),
        Access::Read,
    )
    .map_err(OpenError::io("map the file"))?;
    let is_taken = |owner: &Owner| !is_free(&opened.file, Bytes::row(*owner)).unwrap_or(false);
    let taken: Vec<Owner> = owners(&map).filter(is_taken).collect();
    // A row that is in use tells who has it; one in motion may not yet.
    let named = taken
        .iter()
        .find(|owner| recovery::in_use(&map, **owner))
        .or(taken.first());
    let identity = named.map(|owner| Identity::in_row(map.row(*owner)));
    let (pid, command) = identity.map_or((0, String::new()), |who| (who.pid, who.command));
    Ok(RemoveError::InUse {
        attached: taken.len(),
        pid,
        command,
    })
}
