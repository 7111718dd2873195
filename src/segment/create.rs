//! A ring's file is born whole: it has its name only once everything in it is right.
//!
//! It is built without a name, every block of it allocated, initialised, its magic stored last, and
//! then linked to its name, which fails if anything has that name already. So whoever opens it
//! finds a ring, and of creators that race exactly one wins.
//!
//! # Invariants
//! 1. `RLIMIT_FSIZE` is looked at before the first block is asked for: past it is SIGXFSZ.
//! 2. Nobody maps a byte that has no block.
//! 3. The mode is what was asked for, whatever the umask.
//!
//! # Pairing
//! - `born-whole`: store of the magic in [`fill`] -> load in [`Map::is_published`]; carries all of
//!   the header, the positions and the slots' words.
//!
//! # After a crash
//! Before the link: an unnamed file is gone with its creator; for one under a private name see
//! [`super::newborn`]. After it: a ring.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};

use crate::geometry::Geometry;
use crate::layout::{Header, JournalEntry, MAGIC};
use crate::protocol::{Store, recovery};
use crate::sync::{AtomicU64, Ordering};

use super::error::CreateError;
use super::liveness;
use super::location::{Access, FileSystem, Location};
use super::map::{HEADER_WORDS, Map};
use super::newborn::Newborn;

/// How a ring's file is made.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// The permissions, exactly: the umask is not applied. Whoever may write to the file may join
    /// the ring, and is trusted. Whoever may read it is trusted not to lock it: a read lock that is
    /// kept puts off the recovery of the dead for as long. Rings that others may look at without
    /// being trusted are made by `create_observable`.
    pub mode: u32,
    /// A memfd of huge pages. A path has them if it lies in hugetlbfs, whatever this says.
    pub huge_pages: bool,
    /// Also on file systems on which locks, blocks or mappings are not known to behave.
    pub force_file_system: bool,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            mode: 0o600,
            huge_pages: false,
            force_file_system: false,
        }
    }
}

/// Creates a ring at a path.
///
/// # Errors
/// `AlreadyExists` if anything has that name, be it a dangling symbolic link; see [`CreateError`]
/// for the rest. No failure leaves anything behind.
pub fn create(
    location: &Location,
    geometry: &Geometry,
    options: &CreateOptions,
) -> Result<(), CreateError> {
    let path = location.as_path().ok_or(CreateError::NoPath)?;
    let newborn = Newborn::beside(path, options)?;
    let _ring_id = fill(newborn.file(), geometry, options, Name::Path)?;
    newborn.publish()
}

/// Creates a ring in a file without a name, sealed against changes of its size.
///
/// # Errors
/// See [`CreateError`].
pub fn create_memfd(
    name: &str,
    geometry: &Geometry,
    options: &CreateOptions,
) -> Result<OwnedFd, CreateError> {
    sealed_memfd(name, geometry, options, 0).map(|(file, _)| file)
}

/// The same for a ring with these incompatible features; with the ring's id.
pub(super) fn sealed_memfd(
    name: &str,
    geometry: &Geometry,
    options: &CreateOptions,
    features: u64,
) -> Result<(OwnedFd, [u8; 16]), CreateError> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if options.huge_pages {
        flags |= MFdFlags::MFD_HUGETLB;
    }
    let file = memfd_create(name, flags)
        .map(File::from)
        .map_err(|errno| CreateError::io("create a memfd")(errno.into()))?;
    let name = Name::None { features };
    let ring_id = fill(&file, geometry, options, name)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    retry(|| fcntl(&file, FcntlArg::F_ADD_SEALS(seals)))
        .map_err(CreateError::io("seal the memfd"))?;
    Ok((file.into(), ring_id))
}

/// Whether the file is going to have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Path,
    /// No name, and these incompatible features.
    None {
        features: u64,
    },
}

/// Gives a file the mode that was asked for.
pub(super) fn set_mode(file: &File, options: &CreateOptions) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(options.mode & 0o7777))
}

/// Makes a ring of an empty file, and returns its id.
fn fill(
    file: &File,
    geometry: &Geometry,
    options: &CreateOptions,
    name: Name,
) -> Result<[u8; 16], CreateError> {
    set_mode(file, options).map_err(CreateError::io("set the mode"))?;
    let file_bytes = allocate(file, geometry.file_bytes)?;
    let map = Map::new(file, geometry, file_bytes, Access::ReadWrite)
        .map_err(CreateError::io("map the file"))?;
    initialise(&map, geometry);
    let header = header_of(geometry, name)?;
    write_header(&map, &header);
    Ok(header.ring_id)
}

/// Gives the file its size and all of its blocks. Returns its size.
pub(super) fn allocate(file: &File, bytes: u64) -> Result<u64, CreateError> {
    let io = CreateError::io;
    let system = FileSystem::of(file).map_err(io("look at the file system"))?;
    let needed_bytes = system.round_up(bytes);
    let (limit_bytes, _) =
        getrlimit(Resource::RLIMIT_FSIZE).map_err(|e| io("read RLIMIT_FSIZE")(e.into()))?;
    if needed_bytes > limit_bytes {
        return Err(CreateError::FileSizeLimit {
            needed_bytes,
            limit_bytes,
        });
    }
    let available_bytes = system.available_bytes();
    match allocate_in_parts(file, needed_bytes) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            return Err(CreateError::NoSpace {
                needed_bytes,
                available_bytes,
            });
        }
        Err(error) => return Err(io("allocate the file")(error)),
    }
    file.set_len(needed_bytes)
        .map_err(io("set the file's size"))?;
    Ok(needed_bytes)
}

/// In parts, since tmpfs gives up and undoes everything on any signal: a process with a fast timer
/// would never see the end of a large file.
pub(super) fn allocate_in_parts(file: &File, bytes: u64) -> io::Result<()> {
    const PART_BYTES: u64 = 16 << 20;
    let mut done = 0;
    while done < bytes {
        let part = PART_BYTES.min(bytes - done);
        let (offset, len) = (done.cast_signed(), part.cast_signed());
        retry(|| fallocate(file.as_fd(), FallocateFlags::empty(), offset, len))?;
        done += part;
    }
    Ok(())
}

/// Repeats a system call that a signal interrupted.
pub(super) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Stores what is not zero in a new ring; [`Control::new`](crate::layout::Control::new) and the
/// heap ring do the same.
fn initialise(map: &Map, geometry: &Geometry) {
    let origin = geometry.origin;
    let control = map.control();
    set(&control.tail.hint, origin);
    set(&control.head.position, origin);
    set(&control.consumer.claim, origin);
    let journals = control.tail.journal.iter().chain(&control.consumer.journal);
    journals.for_each(|JournalEntry { end, .. }| set(end, origin));
    if let recovery::Shape::Slots(slots, _) = geometry.shape() {
        for index in 0..slots.slots() {
            set(slots.word(map, index), slots.first_word(index, origin).0);
        }
    }
}

fn header_of(geometry: &Geometry, name: Name) -> Result<Header, CreateError> {
    let mut header = Header::zeroed();
    geometry.write_into(&mut header);
    header.magic = MAGIC;
    header.generation = 1;
    header.boot_id = liveness::boot_id().map_err(CreateError::io("read the boot's id"))?;
    header.created_unix_ns = liveness::now_unix_ns();
    if let Name::None { features } = name {
        header.anonymous = 1;
        header.incompatible_features = features;
    }
    random(&mut header.ring_id).map_err(CreateError::io("draw a ring id"))?;
    Ok(header)
}

fn write_header(map: &Map, header: &Header) {
    let words: [u64; HEADER_WORDS] = bytemuck::cast(*header);
    for (shared, word) in map.header_words().iter().zip(words).skip(1) {
        set(shared, word);
    }
    // sync(born-whole): release half.
    map.header_words()[0].store(words[0], Ordering::Release);
}

fn set(word: &AtomicU64, value: u64) {
    // relaxed: nobody else has the ring before its magic, which publishes this.
    word.store(value, Ordering::Relaxed);
}

/// Fills `bytes` with what nobody can guess.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    // Ends: each call but an interrupted one fills at least a byte.
    while filled < bytes.len() {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
