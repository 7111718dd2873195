//! Rings that others may look at who take no part: observers, who are trusted with nothing but the
//! sight of it.
//!
//! An observer gets a descriptor that can be read and no more, and looks through it with
//! [`inspect`](super::inspect()). It cannot write to the ring: the descriptor does not allow it,
//! another user's process cannot open the file anew (mode 0600), and the memfd is sealed against
//! new ways to write (`F_SEAL_FUTURE_WRITE`), which binds even root. It cannot change the ring's
//! size either, nor punch holes into it.
//!
//! One thing can be done with any descriptor that can be read: to take *read locks* on the file,
//! which keep every write lock away, and so a dead participant's takeover, for as long as the
//! observer likes. So the locks of such a ring lie on a second memfd, of which observers have no
//! descriptor. It holds the ring's id and nothing else.
//!
//! ```text
//! create_observable -> ring, locks     both to participants:  Observable::share
//!                       |              all of them attach; then
//!                       +------------  to observers, to read: Observable::observe
//! ```
//!
//! # Invariants
//! 1. A ring whose header says `LOCKS_APART` is joined and mended only with the lock file that
//!    holds its id: with other locks, or those of its own file, everybody would seem dead.
//! 2. The lock file is sealed, content and all, before anybody else has it.
//! 3. A participant's lock is pinned by a mapping of the lock file, which goes with the process's
//!    memory, as the ring's does, and which [`Map`](super::Map) gives up after the ring's.
//!
//! # What ends
//! From the first [`observe`](Observable::observe) on nobody can attach any more, for nobody can
//! map the ring for writing. Those who are attached go on, and take over from their dead.
//!
//! # After a crash
//! Dead before both files are sealed: the kernel frees both, for nobody else has them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::geometry::Geometry;
use crate::layout::LOCKS_APART;

use super::create::{CreateOptions, retry, sealed_memfd};
use super::error::{CreateError, OpenError};
use super::location::{Access, Location, reopen, share};
use super::open::read_header;

/// The two files of a ring that others may look at.
#[derive(Debug)]
pub struct Observable {
    /// The ring itself.
    pub ring: OwnedFd,
    /// Where its participants have their locks. Not for observers.
    pub locks: OwnedFd,
}

/// Creates a ring, in a file without a name, that others may look at who are not trusted.
///
/// # Errors
/// See [`CreateError`].
pub fn create_observable(
    name: &str,
    geometry: &Geometry,
    options: &CreateOptions,
) -> Result<Observable, CreateError> {
    let (ring, ring_id) = sealed_memfd(name, geometry, options, LOCKS_APART)?;
    let locks = lock_file(name, options, &ring_id).map_err(CreateError::io("make its locks"))?;
    Ok(Observable { ring, locks })
}

fn lock_file(name: &str, options: &CreateOptions, ring_id: &[u8; 16]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(name, flags)?);
    super::create::set_mode(&file, options)?;
    file.write_all_at(ring_id, 0)?;
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let seals = size | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    retry(|| fcntl(&file, FcntlArg::F_ADD_SEALS(seals)))?;
    Ok(file.into())
}

/// Whether `file` has the locks of this ring (INV-1).
pub(super) fn has_locks_of(file: &File, ring_id: &[u8; 16]) -> Result<bool, OpenError> {
    let mut found = [0; 16];
    match file.read_exact_at(&mut found, 0) {
        Ok(()) => Ok(found == *ring_id),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(OpenError::io("read the lock file")(error)),
    }
}

impl Observable {
    /// Both files by freshly opened descriptions, for a participant in another process.
    ///
    /// # Errors
    /// Those of opening `/proc/self/fd`.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            ring: share(&self.ring)?,
            locks: share(&self.locks)?,
        })
    }

    /// A descriptor for an observer. From now on nobody can attach any more.
    ///
    /// # Errors
    /// `InvalidInput` if the ring is none whose locks lie apart: an observer could hold them.
    /// Otherwise those of sealing the memfd (before Linux 5.1 it cannot be) and of opening
    /// `/proc/self/fd`.
    pub fn observe(&self) -> io::Result<OwnedFd> {
        observe(&self.ring)
    }

    /// The place at which participants attach.
    ///
    /// # Errors
    /// If the process has no descriptors left.
    pub fn location(&self) -> io::Result<Location> {
        let ring = self.ring.as_fd().try_clone_to_owned()?;
        let locks = self.locks.as_fd().try_clone_to_owned()?;
        Ok(Location::fd_with_locks(ring, locks))
    }
}

impl From<Observable> for Location {
    fn from(Observable { ring, locks }: Observable) -> Self {
        Self::fd_with_locks(ring, locks)
    }
}

fn observe(ring: &OwnedFd) -> io::Result<OwnedFd> {
    let file = reopen(ring, Access::Read)?;
    let header = read_header(&file, file.metadata()?.len());
    let header = header.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    if header.incompatible_features & LOCKS_APART == 0 {
        let why = "the ring's locks lie on its own file, where an observer could hold them";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    retry(|| fcntl(ring, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_FUTURE_WRITE)))?;
    Ok(file.into())
}
