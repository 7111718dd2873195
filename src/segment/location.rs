//! Where a ring's file is, and which file systems can carry one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a ring's file is: a path, a name of POSIX shared memory, or an open descriptor.
///
/// # Examples
/// ```
/// use annulus::segment::{Location, ShmNameError};
///
/// let file = Location::from("/run/orders.ring");
/// let shared = Location::shm("/orders")?;
/// assert_eq!(shared.to_string(), "/dev/shm/orders");
/// assert!(Location::shm("orders").is_err(), "the name needs its slash");
/// # let _ = file;
/// # Ok::<(), ShmNameError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Location(Place);

#[derive(Clone, Debug)]
enum Place {
    Path(PathBuf),
    Descriptor {
        ring: Arc<OwnedFd>,
        /// Where the ring's locks are, if not on its own file.
        locks: Option<Arc<OwnedFd>>,
    },
}

/// A name that is none of POSIX shared memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no name of shared memory: expected a slash and 1 to 255 other characters")]
pub struct ShmNameError {
    /// The name.
    pub name: String,
}

const LONGEST_NAME: usize = 255;

impl Location {
    /// A file by its path.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self(Place::Path(path.into()))
    }

    /// POSIX shared memory by its name, as `shm_open` has it: in `/dev/shm`.
    ///
    /// # Errors
    /// If the name is not one slash followed by 1 to 255 bytes without another.
    pub fn shm(name: &str) -> Result<Self, ShmNameError> {
        let bare = name.strip_prefix('/').unwrap_or_default();
        let usable = (1..=LONGEST_NAME).contains(&bare.len())
            && !bare.contains(['/', '\0'])
            && !matches!(bare, "." | "..");
        if !usable {
            return Err(ShmNameError {
                name: name.to_owned(),
            });
        }
        Ok(Self::path(Path::new("/dev/shm").join(bare)))
    }

    /// An open file: a memfd, or one that another process has handed over.
    ///
    /// The descriptor only tells which file is meant. A participant opens it anew through
    /// `/proc/self/fd`, which must be mounted, since its locks may not be on a description that
    /// somebody else has as well.
    pub fn fd(descriptor: OwnedFd) -> Self {
        Self(Place::Descriptor {
            ring: Arc::new(descriptor),
            locks: None,
        })
    }

    /// An open file, and the one with its locks: see [`Observable`](super::Observable).
    pub fn fd_with_locks(ring: OwnedFd, locks: OwnedFd) -> Self {
        Self(Place::Descriptor {
            ring: Arc::new(ring),
            locks: Some(Arc::new(locks)),
        })
    }

    /// The path, unless the place is a descriptor.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Path(path) => Some(path),
            Place::Descriptor { .. } => None,
        }
    }

    /// The file with the ring's locks, if that is another one.
    pub(super) fn locks(&self) -> Option<&Arc<OwnedFd>> {
        match &self.0 {
            Place::Path(_) => None,
            Place::Descriptor { locks, .. } => locks.as_ref(),
        }
    }

    /// The file system that the place is on.
    pub(super) fn file_system(&self) -> io::Result<FileSystem> {
        let found = match &self.0 {
            Place::Path(path) => rustix::fs::statfs(path)?,
            Place::Descriptor { ring, .. } => rustix::fs::fstatfs(&**ring)?,
        };
        Ok(FileSystem::from(found))
    }

    /// Opens a description of its own. Never blocks: what is no regular file is refused later.
    ///
    /// For reading a given descriptor will do as it is: nobody locks through it, and who may only
    /// look may not be allowed to open the file anew.
    pub(super) fn open(&self, access: Access) -> io::Result<File> {
        match &self.0 {
            Place::Path(path) => open_path(path, access, 0),
            Place::Descriptor { ring, .. } => match access {
                Access::Read => ring.try_clone().map(File::from),
                Access::ReadWrite => reopen(ring, access),
            },
        }
    }
}

impl From<&str> for Location {
    fn from(path: &str) -> Self {
        Self::path(path)
    }
}

impl From<String> for Location {
    fn from(path: String) -> Self {
        Self::path(path)
    }
}

impl From<&String> for Location {
    fn from(path: &String) -> Self {
        Self::path(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::path(path)
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<OwnedFd> for Location {
    fn from(descriptor: OwnedFd) -> Self {
        Self::fd(descriptor)
    }
}

impl From<&Self> for Location {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

impl core::fmt::Display for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match &self.0 {
            Place::Path(path) => path.display().fmt(f),
            Place::Descriptor { ring, .. } => write!(f, "descriptor {}", ring.as_raw_fd()),
        }
    }
}

/// What a description may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    ReadWrite,
}

/// Opens `path` without waiting for anybody, whatever it is.
pub(super) fn open_path(path: &Path, access: Access, flags: libc::c_int) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags)
        .open(path)
}

/// Opens a new description of the file behind a descriptor.
pub(super) fn reopen(descriptor: impl AsFd, access: Access) -> io::Result<File> {
    open_path(&proc_path(&descriptor), access, 0)
}

/// The path by which the kernel finds the file behind a descriptor.
pub(super) fn proc_path(descriptor: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

/// A freshly opened description of the file behind `descriptor`, to be sent to another process.
///
/// Two processes on one description would both get every lock, so one never sends one's own.
///
/// # Errors
/// Those of opening `/proc/self/fd`.
pub fn share(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    reopen(descriptor, Access::ReadWrite).map(OwnedFd::from)
}

/// The file system under a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    magic: u64,
    /// Bytes of a block; of a huge page in hugetlbfs.
    block_bytes: u64,
    free_blocks: u64,
}

/// A file system on which a ring's guarantees are not known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} (magic {magic:#x}) is not supported: expected tmpfs, hugetlbfs, ext4 or xfs")]
pub struct FileSystemError {
    /// Its name, if it is a known one.
    pub name: &'static str,
    /// What `statfs` reports.
    pub magic: u64,
}

const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;
const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;

/// Those that people meet, by the name under which they mounted them.
const KNOWN: [(u64, &str); 16] = [
    (TMPFS, "tmpfs"),
    (HUGETLBFS, "hugetlbfs"),
    (EXT4, "ext4"),
    (XFS, "xfs"),
    (0x6969, "NFS"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1997, "9p"),
    (0x9123_683e, "btrfs"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x00c3_6400, "Ceph"),
    (0x2fc1_2fc1, "ZFS"),
    (0xf2f5_2010, "F2FS"),
    (0x8584_58f6, "ramfs"),
    (0x9fa0, "procfs"),
];

impl From<rustix::fs::StatFs> for FileSystem {
    fn from(found: rustix::fs::StatFs) -> Self {
        Self {
            magic: u64::try_from(found.f_type).unwrap_or(0),
            block_bytes: u64::try_from(found.f_bsize).unwrap_or(1).max(1),
            free_blocks: found.f_bavail,
        }
    }
}

impl FileSystem {
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(rustix::fs::fstatfs(file)?))
    }

    /// Refuses all but those whose locks and blocks are known to behave.
    pub(super) fn check(self, force: bool) -> Result<(), FileSystemError> {
        if force || self.is_supported() {
            return Ok(());
        }
        Err(FileSystemError {
            name: name_of(self.magic),
            magic: self.magic,
        })
    }

    /// Whether a mapping alone keeps a lock here, and `st_blocks` tells holes.
    pub(super) fn is_supported(self) -> bool {
        matches!(self.magic, TMPFS | HUGETLBFS | EXT4 | XFS)
    }

    /// Whether it has huge pages only, which may run out.
    pub(super) fn has_huge_pages(self) -> bool {
        self.magic == HUGETLBFS
    }

    /// Whether `st_blocks` tells what is allocated.
    pub(super) fn counts_blocks(self) -> bool {
        matches!(self.magic, TMPFS | EXT4 | XFS)
    }

    /// Bytes of a page of a mapping.
    pub(super) fn page_bytes(self) -> u64 {
        // SAFETY: takes an integer.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_bytes = u64::try_from(page_bytes).unwrap_or(1 << 16);
        match self.magic {
            HUGETLBFS => self.block_bytes.max(page_bytes),
            _ => page_bytes,
        }
    }

    /// Bytes that files may still allocate.
    pub(super) fn available_bytes(self) -> u64 {
        self.free_blocks.saturating_mul(self.block_bytes)
    }

    /// Bytes that a file of `bytes` has here: hugetlbfs knows whole pages only.
    pub(super) fn round_up(self, bytes: u64) -> u64 {
        match self.magic {
            HUGETLBFS => bytes
                .checked_next_multiple_of(self.block_bytes)
                .unwrap_or(bytes),
            _ => bytes,
        }
    }
}

fn name_of(magic: u64) -> &'static str {
    let known = KNOWN.iter().find(|(known, _)| *known == magic);
    known.map_or("this file system", |(_, name)| name)
}

#[cfg(test)]
impl FileSystem {
    /// One with a magic of one's choice.
    pub(super) fn with_magic(magic: u64) -> Self {
        Self {
            magic,
            block_bytes: 4096,
            free_blocks: 0,
        }
    }
}
