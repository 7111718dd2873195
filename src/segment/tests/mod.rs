//! Files, rows and locks, with real processes: a child is this test program once more, told by the
//! environment what to do, and steered through pipes.

mod children;
mod files;
mod flips;
mod hints;
mod lives;
mod looks;
mod rows;
mod sorts;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::{AttachOptions, CreateOptions, Location, Mapped, Role, attach, create};
use crate::geometry::{Geometry, Kind};
use crate::protocol::Redelivery;

const fn assert_send_sync<T: Send + Sync>() {}
const _: () = assert_send_sync::<Mapped>();
const _: () = assert_send_sync::<super::Untrusted>();

/// For a test that forks, as long as it has children: they have copies of the pipes of others that
/// do, which would wait for their end in vain.
fn one_that_forks() -> MutexGuard<'static, ()> {
    static FORKING: Mutex<()> = Mutex::new(());
    FORKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory on tmpfs, and a path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = directory.path().join("orders.ring");
    (directory, path)
}

/// 4096 bytes.
fn bytes() -> Geometry {
    Geometry::spsc(4096, None).unwrap()
}

/// 8 slots of 64 bytes for 3 participants.
fn slots() -> Geometry {
    Geometry::mpmc(8, 64, 3, Redelivery::Unlimited, None).unwrap()
}

fn created(geometry: &Geometry) -> (TempDir, PathBuf) {
    let (directory, path) = place();
    create(&Location::from(&path), geometry, &CreateOptions::default()).unwrap();
    (directory, path)
}

fn join(path: &PathBuf, role: Role, kind: Kind) -> Result<Mapped, super::AttachError> {
    attach(&Location::from(path), role, kind, &AttachOptions::default())
}

fn join_bytes(path: &PathBuf, role: Role) -> Result<Mapped, super::AttachError> {
    join(path, role, Kind::SpscBytes)
}

fn join_slots(path: &PathBuf) -> Result<Mapped, super::AttachError> {
    join(path, Role::Producer, Kind::MpmcSlots)
}
