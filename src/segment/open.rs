//! The door of a file: everything that is checked before a byte of it is mapped.
//!
//! The header is read by `pread` into private memory, so that a short file gives an error and never
//! SIGBUS. Then the file's size, its blocks and its seals are looked at: a hole on a full file
//! system would be SIGBUS on first touch, and so would be what somebody cut off later.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use crate::geometry::{Geometry, HeaderError};
use crate::layout::{HEADER_BYTES, Header, LOCKS_APART};
use crate::protocol::{CutShort, Loss};

use super::error::OpenError;
use super::fork::Private;
use super::liveness;
use super::location::{Access, FileSystem, Location, open_path, reopen};
use super::observe::has_locks_of;

/// What makes a file's size final.
const SIZE_SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

/// A ring's file, opened and checked.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Private,
    /// The file with the locks, if that is another one.
    pub(super) locks: Option<Private>,
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) system: FileSystem,
    /// Where it was found; `None` if it has no name, or was given as a descriptor.
    pub(super) path: Option<PathBuf>,
    pub(super) is_sealed: bool,
}

impl Opened {
    /// Opens and checks the file. `force` admits any file system, and nameless files that somebody
    /// may cut short.
    pub(super) fn new(location: &Location, access: Access, force: bool) -> Result<Self, OpenError> {
        // Before it is opened: overlayfs copies a file up as soon as it is opened for writing.
        let system = location.file_system().map_err(OpenError::opening)?;
        system.check(force)?;
        let file = Private::open(|| location.open(access)).map_err(OpenError::opening)?;
        let metadata = file.metadata().map_err(OpenError::io("look at the file"))?;
        check_type(&metadata)?;
        // Once more, for the name may lead elsewhere by now.
        let system = FileSystem::of(&file).map_err(OpenError::io("look at the file system"))?;
        system.check(force)?;
        let header = read_header(&file, metadata.len())?;
        let geometry = Geometry::read_from(&header, metadata.len())?;
        check_blocks(system, &metadata, &geometry)?;
        let is_sealed = is_sealed(&file);
        if header.anonymous != 0 && !is_sealed && !force {
            return Err(OpenError::NotSealed);
        }
        let locks = open_locks(location, &header, access)?;
        // Absolute, for the process may change its directory while the handle lives.
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
        let path = location
            .as_path()
            .filter(|_| header.anonymous == 0)
            .map(absolute);
        Ok(Self {
            file,
            locks,
            header,
            geometry,
            system,
            path,
            is_sealed,
        })
    }

    /// The same file for one more participant.
    pub(super) fn again(&self) -> Result<Self, OpenError> {
        let open = || reopen(&self.file, Access::ReadWrite);
        let file = Private::open(open).map_err(OpenError::opening)?;
        Ok(Self {
            file,
            locks: self.second_locks()?,
            header: self.header,
            geometry: self.geometry.clone(),
            system: self.system,
            path: self.path.clone(),
            is_sealed: self.is_sealed,
        })
    }

    /// Another description of the same file; `None` if its name leads to another one by now.
    pub(super) fn second(&self) -> Result<Option<Private>, OpenError> {
        let open = || match &self.path {
            Some(path) => open_path(path, Access::ReadWrite, 0),
            None => reopen(&self.file, Access::ReadWrite),
        };
        match Private::open(open) {
            Ok(second) => {
                let same = identity_of(&self.file)? == identity_of(&second)?;
                Ok(same.then_some(second))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::opening(error)),
        }
    }

    /// Another description of the file with the locks, if that is another file.
    pub(super) fn second_locks(&self) -> Result<Option<Private>, OpenError> {
        let open = |locks| Private::open(|| reopen(locks, Access::ReadWrite));
        let opened = self.locks.as_ref().map(open).transpose();
        opened.map_err(OpenError::opening)
    }

    /// Where participants' locks are looked at, and taken for a takeover.
    pub(super) fn lock_file(&self) -> &Private {
        self.locks.as_ref().unwrap_or(&self.file)
    }

    /// Whether there are locks to look at: not for an observer.
    pub(super) fn sees_locks(&self) -> bool {
        self.locks.is_some() || !has_locks_apart(&self.header)
    }

    /// Whether the name that the file was found by is gone, or leads elsewhere.
    pub(super) fn is_renamed(&self) -> Result<bool, OpenError> {
        let Some(path) = &self.path else {
            return Ok(false);
        };
        match std::fs::metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) != identity_of(&self.file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(OpenError::opening(error)),
        }
    }

    /// What has become of the file since it was opened, if anything has. `has_peers` tells whether
    /// anybody lives who could end a wait; it is asked only when the name is gone.
    pub(super) fn loss(&self, has_peers: impl FnOnce() -> bool) -> Option<Loss> {
        let mine = self.file.metadata().ok()?;
        if mine.len() < self.geometry.file_bytes {
            return Some(Loss::CutShort(self.cut_to(mine.len())));
        }
        match std::fs::metadata(self.path.as_ref()?) {
            Ok(named) if (mine.dev(), mine.ino()) != (named.dev(), named.ino()) => {
                Some(Loss::Replaced)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (mine.nlink() == 0 && !has_peers()).then_some(Loss::Removed)
            }
            _ => None,
        }
    }

    /// How much of the file is left.
    pub(super) fn cut(&self) -> CutShort {
        self.cut_to(self.file.metadata().map_or(0, |metadata| metadata.len()))
    }

    fn cut_to(&self, found_bytes: u64) -> CutShort {
        CutShort {
            found_bytes,
            expected_bytes: self.geometry.file_bytes,
        }
    }

    /// Bytes to map.
    pub(super) fn map_bytes(&self) -> u64 {
        self.system.round_up(self.geometry.file_bytes)
    }

    /// Whether the ring was made, or adopted, during this boot, as far as the kernel tells.
    pub(super) fn is_of_this_boot(&self) -> Result<bool, OpenError> {
        let now = boot_id()?;
        let then = self.header.boot_id;
        let is_unknown = now == [0; 16] || then == [0; 16];
        Ok(self.header.anonymous != 0 || is_unknown || now == then)
    }
}

/// The kernel's name of this boot.
pub(super) fn boot_id() -> Result<[u8; 16], OpenError> {
    liveness::boot_id().map_err(OpenError::io("read the boot's id"))
}

/// Device and inode: what makes two descriptions those of one file.
pub(super) fn identity_of(file: &File) -> Result<(u64, u64), OpenError> {
    let metadata = file.metadata().map_err(OpenError::io("look at the file"))?;
    Ok((metadata.dev(), metadata.ino()))
}

fn has_locks_apart(header: &Header) -> bool {
    header.incompatible_features & LOCKS_APART != 0
}

/// The file with the ring's locks, if that is another one. Who only looks can do without it.
fn open_locks(
    location: &Location,
    header: &Header,
    access: Access,
) -> Result<Option<Private>, OpenError> {
    match (location.locks(), has_locks_apart(header)) {
        (None, false) => Ok(None),
        (None, true) if access == Access::Read => Ok(None),
        (None, true) => Err(OpenError::NoLocks),
        (Some(_), false) => Err(OpenError::OtherLocks),
        (Some(locks), true) => {
            let locks = Private::open(|| reopen(locks, access)).map_err(OpenError::opening)?;
            if has_locks_of(&locks, &header.ring_id)? {
                Ok(Some(locks))
            } else {
                Err(OpenError::OtherLocks)
            }
        }
    }
}

fn check_type(metadata: &Metadata) -> Result<(), OpenError> {
    let kind = metadata.file_type();
    let found = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(OpenError::NotRegular { found })
}

pub(super) fn read_header(file: &File, file_bytes: u64) -> Result<Header, OpenError> {
    let mut header = Header::zeroed();
    let bytes = bytemuck::bytes_of_mut(&mut header);
    match file.read_exact_at(bytes, 0) {
        Ok(()) => Ok(header),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(HeaderError::TooShort {
            found: file_bytes,
            expected: HEADER_BYTES,
        }
        .into()),
        Err(error) => Err(OpenError::io("read the header")(error)),
    }
}

fn check_blocks(
    system: FileSystem,
    metadata: &Metadata,
    geometry: &Geometry,
) -> Result<(), OpenError> {
    const BLOCK_BYTES: u64 = 512;
    let allocated_bytes = metadata.blocks().saturating_mul(BLOCK_BYTES);
    if system.counts_blocks() && allocated_bytes < geometry.file_bytes {
        return Err(OpenError::Sparse {
            allocated_bytes,
            file_bytes: geometry.file_bytes,
        });
    }
    Ok(())
}

/// Whether nobody can change the file's size any more.
fn is_sealed(file: &Private) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SIZE_SEALS))
}
