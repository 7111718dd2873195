//! What can go wrong with a ring's file, one enum for each thing that one does with it.
//!
//! The text tells what was found and what was expected; which file it was is for the outer layer to
//! add, which knows it. `hint` tells what to do.

use std::io;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit};

use crate::geometry::{HeaderError, Kind};
use crate::protocol::{CutShort, Damage};

use super::Role;
use super::location::FileSystemError;
use super::sigbus::{GuardError, ROOM};

/// Why a ring was not created. Nothing is left behind then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// No ring can have the numbers that were asked for.
    #[error(transparent)]
    Geometry(#[from] crate::geometry::GeometryError),
    /// Something has that name already; it was not touched.
    #[error("something of that name exists already")]
    AlreadyExists {
        /// The name.
        path: PathBuf,
    },
    /// A descriptor is no place in which to create anything; see
    /// [`create_memfd`](super::create_memfd).
    #[error("a ring is created at a path, and this is a descriptor")]
    NoPath,
    /// The path ends in nothing that a file can be called.
    #[error("the path has no file name")]
    NoFileName,
    /// The file system is not one of those that can carry a ring.
    #[error(transparent)]
    FileSystem(#[from] FileSystemError),
    /// The process may not make files of that size (`RLIMIT_FSIZE`).
    #[error("the ring needs {needed_bytes} bytes, files are limited to {limit_bytes}")]
    FileSizeLimit {
        /// Bytes of the ring's file.
        needed_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// The file system is too full, or there are too few huge pages.
    #[error("the ring needs {needed_bytes} bytes, the file system has {available_bytes}")]
    NoSpace {
        /// Bytes of the ring's file.
        needed_bytes: u64,
        /// Bytes that were available before.
        available_bytes: u64,
    },
    /// The place is on a file system that is mounted read-only.
    #[error("the file system is mounted read-only")]
    ReadOnly,
    /// The process has as many descriptors as it may have (`RLIMIT_NOFILE`).
    #[error("cannot {step}: the process has all {limit} descriptors that it may have")]
    NoDescriptor {
        /// What was to be done.
        step: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Any other failure of the system.
    #[error("cannot {step}")]
    Io {
        /// What was to be done.
        step: &'static str,
        /// Why it was not.
        source: io::Error,
    },
}

/// Why a file was not opened as a ring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such file.
    #[error("no such file")]
    NotFound,
    /// The place holds something else than a file.
    #[error("this is {found}, expected a regular file")]
    NotRegular {
        /// What it is.
        found: &'static str,
    },
    /// The file system is not one of those that can carry a ring.
    #[error(transparent)]
    FileSystem(#[from] FileSystemError),
    /// The file is no ring that this build can use.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Part of the file has no blocks: touching it could kill the process.
    #[error("only {allocated_bytes} bytes are allocated, expected all {file_bytes}: a sparse copy")]
    Sparse {
        /// Bytes that have blocks.
        allocated_bytes: u64,
        /// Bytes of the ring's file.
        file_bytes: u64,
    },
    /// A file without a name that somebody could cut short, and so kill this process.
    #[error("the memfd is not sealed against changes of its size")]
    NotSealed,
    /// The file system is mounted read-only; looking with [`inspect`](super::inspect()) works.
    #[error("the file system is mounted read-only")]
    ReadOnly,
    /// The process has as many descriptors as it may have (`RLIMIT_NOFILE`).
    #[error("cannot {step}: the process has all {limit} descriptors that it may have")]
    NoDescriptor {
        /// What was to be done.
        step: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A memfd of huge pages, for peers that are not trusted: one that punches a hole, and has
    /// somebody take the page, kills this process.
    #[error("a memfd of huge pages, of which there may be none left when they are touched")]
    HugePages,
    /// The ring's locks lie on another file, which was not given.
    #[error("the ring's locks lie on another file: expected both descriptors")]
    NoLocks,
    /// The file that was given for the ring's locks is not theirs.
    #[error("these are not the ring's locks")]
    OtherLocks,
    /// Any other failure of the system.
    #[error("cannot {step}")]
    Io {
        /// What was to be done.
        step: &'static str,
        /// Why it was not.
        source: io::Error,
    },
}

/// Why a participant was not attached. It holds nothing then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The file could not be opened as a ring.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds a ring of the other kind.
    #[error("this is {found}, expected {expected}")]
    OtherKind {
        /// What it holds.
        found: Kind,
        /// What was asked for.
        expected: Kind,
    },
    /// The ring was made before the machine was started: what a power loss has torn is unknown.
    #[error("the ring is from before the last boot")]
    OtherBoot,
    /// The ring is from before the last boot, and somebody holds it who did not adopt it.
    #[error("the ring is from before the last boot and is held by somebody")]
    OtherBootInUse,
    /// The only producer, or the only consumer, lives.
    #[error("the ring has its {role}: process {pid} (`{command}`)")]
    RoleTaken {
        /// The role.
        role: Role,
        /// Its process, as it calls itself.
        pid: u32,
        /// The name of its program.
        command: String,
    },
    /// Every row has a living participant.
    #[error("all {participants} participants of the ring are attached")]
    NoRow {
        /// How many the ring has room for.
        participants: u16,
    },
    /// The name led to another file at every look.
    #[error("the file under that name was replaced again and again")]
    Replaced,
    /// Somebody cut the file short meanwhile.
    #[error(transparent)]
    CutShort(#[from] CutShort),
    /// So many mappings of this process are guarded already.
    #[error("this process has {guards} guarded mappings, which is all that it may have")]
    NoGuard {
        /// How many.
        guards: usize,
    },
    /// The memory could not be locked.
    #[error("cannot lock {needed_bytes} bytes of memory, the limit is {limit_bytes}")]
    LockMemory {
        /// Bytes of the mapping.
        needed_bytes: u64,
        /// `RLIMIT_MEMLOCK`.
        limit_bytes: u64,
        /// What `mlock` said.
        source: io::Error,
    },
    /// Handles do not outlive a fork: attach again in the child.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// The ring's memory contradicts itself.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why a ring was not recovered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The file could not be opened as a ring.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ring was made before the machine was started: what a power loss has torn is unknown.
    #[error("the ring is from before the last boot")]
    OtherBoot,
    /// The ring is from before the last boot, and somebody holds it who did not adopt it.
    #[error("the ring is from before the last boot and is held by somebody")]
    OtherBootInUse,
    /// The ring's memory contradicts itself.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why a ring could not be looked into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file could not be opened as a ring.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The ring's memory contradicts itself.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
}

/// Why a ring was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The file could not be opened as a ring.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A descriptor has no name that could be removed.
    #[error("a descriptor has no name to remove")]
    NoPath,
    /// Somebody else gave the name to another file meanwhile.
    #[error("the name leads elsewhere by now")]
    Replaced,
    /// Somebody is attached.
    #[error("{attached} attached, among them process {pid} (`{command}`)")]
    InUse {
        /// How many participants live.
        attached: usize,
        /// The process of one of them, as it calls itself.
        pid: u32,
        /// The name of its program.
        command: String,
    },
}

impl CreateError {
    pub(super) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EROFS) => Self::ReadOnly,
            Some(libc::EMFILE) => {
                let limit = descriptor_limit();
                Self::NoDescriptor { step, limit }
            }
            _ => Self::Io { step, source },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::AlreadyExists { .. } => "attach to it, or remove it first",
            Self::NoPath => "give a path, or make a memfd",
            Self::NoFileName => "add the name of the file to be made",
            Self::FileSystem(_) => FILE_SYSTEM_HINT,
            Self::FileSizeLimit { .. } => "raise the limit (ulimit -f), or make the ring smaller",
            Self::NoSpace { .. } => "make room, mount a larger tmpfs, or make the ring smaller",
            Self::ReadOnly => READ_ONLY_HINT,
            Self::NoDescriptor { .. } => DESCRIPTOR_HINT,
            Self::Geometry(_) | Self::Io { .. } => return None,
        })
    }
}

impl OpenError {
    pub(super) fn io(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EROFS) => Self::ReadOnly,
            Some(libc::EMFILE) => {
                let limit = descriptor_limit();
                Self::NoDescriptor { step, limit }
            }
            _ => Self::Io { step, source },
        }
    }

    pub(super) fn opening(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            _ => Self::io("open the file")(source),
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound => "create the ring first",
            Self::FileSystem(_) => FILE_SYSTEM_HINT,
            Self::Header(HeaderError::OtherVersion { .. }) => "use the build that made the ring",
            Self::Header(HeaderError::StillBeingCreated) => "remove the file and create it again",
            Self::Header(HeaderError::TooShort { .. }) | Self::Sparse { .. } => {
                "remove the file and create it again: a ring is not copied while it is in use"
            }
            Self::ReadOnly => READ_ONLY_HINT,
            Self::NoDescriptor { .. } => DESCRIPTOR_HINT,
            Self::NotSealed => "let the one who made it add F_SEAL_SHRINK and F_SEAL_GROW",
            Self::HugePages => "let the one who made it use small pages",
            Self::NoLocks | Self::OtherLocks => "ask whoever gave the ring for its locks' file",
            Self::NotRegular { .. } | Self::Header(_) | Self::Io { .. } => return None,
        })
    }
}

impl From<GuardError> for AttachError {
    fn from(error: GuardError) -> Self {
        match error {
            GuardError::NoRoom => Self::NoGuard { guards: ROOM },
            GuardError::Handler(source) => OpenError::io("install the guard")(source).into(),
        }
    }
}

impl AttachError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Open(error) => return error.hint(),
            Self::OtherBoot => OTHER_BOOT_HINT,
            Self::OtherBootInUse | Self::Replaced => "try again, or remove the ring",
            Self::OtherKind { .. } => "use the handles of the other kind",
            Self::RoleTaken { .. } => "end that process first, or use an MPMC ring",
            Self::NoRow { .. } => "detach one, or create the ring with room for more participants",
            Self::LockMemory { .. } => "raise the limit (ulimit -l), or do without locked memory",
            Self::CutShort(_) => CUT_SHORT_HINT,
            Self::NoGuard { .. } => "detach one, or attach without a guard",
            Self::Forked => "attach in the child",
            Self::Damaged(_) => DAMAGED_HINT,
        })
    }
}

impl RecoverError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Open(error) => return error.hint(),
            Self::OtherBoot => OTHER_BOOT_HINT,
            Self::OtherBootInUse => "end those who are attached to it first",
            Self::Damaged(_) => DAMAGED_HINT,
        })
    }
}

impl InspectError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open(error) => error.hint(),
            Self::Damaged(_) => Some(DAMAGED_HINT),
        }
    }
}

impl RemoveError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Open(OpenError::NotFound) => return None,
            Self::Replaced => "look what is there now, and try again",
            Self::Open(_) => "force it, if the file may go whatever it is",
            Self::NoPath => "close it everywhere: a file without a name goes with its last user",
            Self::InUse { .. } => "end those first, or force it: they keep the nameless file",
        })
    }
}

fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

const READ_ONLY_HINT: &str = "mount it for writing, or choose another place";
const DESCRIPTOR_HINT: &str = "close some, or raise the limit (ulimit -n)";
const CUT_SHORT_HINT: &str = "remove the ring and create it again, or use a memfd: it is sealed";
const FILE_SYSTEM_HINT: &str = "put the ring under /dev/shm, or force it and lose the guarantees";
const OTHER_BOOT_HINT: &str = "recover it and accept the other boot, or remove it";
const DAMAGED_HINT: &str =
    "remove the ring and create it again: somebody wrote to it who should not";
