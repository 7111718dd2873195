//! A file that has no name yet.
//!
//! `O_TMPFILE` makes one that the kernel forgets with its creator. Where that is missing, the file
//! is built under a private name `.NAME.annulus-PID-RANDOM`, and a creator of the same NAME removes
//! what others left under such names.
//!
//! # Invariants
//! 1. A file under a private name is locked by its creator until the name is gone. Who gets that
//!    lock may remove the name, for its creator is dead, or has not locked it yet and will look
//!    whether the name is still there.
//!
//! # After a crash
//! Dead before the link: the private name stays until the next sweep. Dead between the link and the
//! removal of the private name: the ring has two names until then.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use super::create::{CreateOptions, random};
use super::error::CreateError;
use super::liveness::{self, Bytes};
use super::location::{Access, FileSystem, open_path, proc_path};

/// A file that is being made, and the name that it is to have.
#[derive(Debug)]
pub(super) struct Newborn {
    file: File,
    target: PathBuf,
    /// The private name, if the file has one.
    private: Option<PathBuf>,
}

/// Longest name of a file in bytes.
const LONGEST_NAME: usize = 255;
const PRIVATE: &[u8] = b".annulus-";
/// `PID-RANDOM`: 10 digits, a hyphen, 16 digits.
const SUFFIX_BYTES: usize = 27;

impl Newborn {
    /// An empty file in the directory of `target`.
    pub(super) fn beside(target: &Path, options: &CreateOptions) -> Result<Self, CreateError> {
        let name = target.file_name().ok_or(CreateError::NoFileName)?;
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let opened = File::open(directory).map_err(CreateError::io("open the directory"))?;
        let system = FileSystem::of(&opened);
        system
            .map_err(CreateError::io("look at the file system"))?
            .check(options.force_file_system)?;
        // Saves building what could not be linked; the link decides.
        if target.symlink_metadata().is_ok() {
            return Err(CreateError::AlreadyExists {
                path: target.to_path_buf(),
            });
        }
        let (file, private) = match unnamed(directory) {
            Ok(file) => (file, None),
            Err(error) if lacks_tmpfile(&error) => {
                sweep(directory, name);
                named(directory, name).map(|(file, path)| (file, Some(path)))?
            }
            Err(error) => return Err(CreateError::io("create a file")(error)),
        };
        Ok(Self {
            file,
            target: target.to_path_buf(),
            private,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name.
    pub(super) fn publish(self) -> Result<(), CreateError> {
        let linked = match &self.private {
            Some(private) => std::fs::hard_link(private, &self.target),
            None => self.link_unnamed().map_err(io::Error::from),
        };
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CreateError::AlreadyExists {
                path: self.target.clone(),
            },
            _ => CreateError::io("link the file to its name")(error),
        })
    }

    fn link_unnamed(&self) -> nix::Result<()> {
        let by_proc = proc_path(&self.file);
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        match linkat(AT_FDCWD, &by_proc, AT_FDCWD, &self.target, follow) {
            // Without /proc the kernel lets some link by descriptor.
            Err(Errno::ENOENT) if !by_proc.exists() => linkat(
                &self.file,
                "",
                AT_FDCWD,
                &self.target,
                AtFlags::AT_EMPTY_PATH,
            ),
            other => other,
        }
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(private) = &self.private {
            // If that fails, the next creator's sweep does it.
            let _ = std::fs::remove_file(private);
        }
    }
}

fn unnamed(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)
}

/// Kernels and file systems without `O_TMPFILE` answer in one of these ways.
fn lacks_tmpfile(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOSYS)
    )
}

/// A locked file under a private name.
pub(super) fn named(directory: &Path, name: &OsStr) -> Result<(File, PathBuf), CreateError> {
    const ATTEMPTS: u32 = 16;
    for _ in 0..ATTEMPTS {
        let path = directory.join(private_name(name)?);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options
            .open(&path)
            .map_err(CreateError::io("create a file"))?;
        let locked = liveness::try_lock(&file, Bytes::CREATOR);
        // A sweeper may have been quicker than the lock (INV-1).
        let kept = locked.and_then(|locked| Ok(locked && file.metadata()?.nlink() > 0));
        match kept {
            Ok(true) => return Ok((file, path)),
            Ok(false) => {}
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                return Err(CreateError::io("lock the file")(error));
            }
        }
    }
    Err(CreateError::io("create a file")(
        io::ErrorKind::ResourceBusy.into(),
    ))
}

/// `.NAME.annulus-`, with as much of NAME as fits.
fn private_prefix(name: &OsStr) -> Vec<u8> {
    let room = LONGEST_NAME - 1 - PRIVATE.len() - SUFFIX_BYTES;
    let name = name.as_bytes();
    [b".", &name[..name.len().min(room)], PRIVATE].concat()
}

fn private_name(name: &OsStr) -> Result<OsString, CreateError> {
    let mut number = [0; 8];
    random(&mut number).map_err(CreateError::io("draw a private name"))?;
    let suffix = format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(number));
    Ok(OsString::from_vec(
        [private_prefix(name), suffix.into_bytes()].concat(),
    ))
}

/// Removes what dead creators of `name` left. Best effort: whatever fails is left to the next one.
pub(super) fn sweep(directory: &Path, name: &OsStr) {
    let prefix = private_prefix(name);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_private(&prefix, entry.file_name().as_bytes())) {
        let path = entry.path();
        let Ok(file) = open_path(&path, Access::ReadWrite, libc::O_NOFOLLOW) else {
            continue;
        };
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && liveness::try_lock(&file, Bytes::CREATOR).unwrap_or(false) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn is_private(prefix: &[u8], name: &[u8]) -> bool {
    let Some(suffix) = name.strip_prefix(prefix) else {
        return false;
    };
    let mut parts = suffix.split(|byte| *byte == b'-');
    let (pid, number) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    parts.next().is_none()
        && !pid.is_empty()
        && pid.iter().all(u8::is_ascii_digit)
        && number.len() == 16
        && number.iter().all(u8::is_ascii_hexdigit)
}
