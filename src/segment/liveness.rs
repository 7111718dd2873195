//! Locks that live exactly as long as somebody's mapping, and what a row says about its process.
//!
//! A participant's lock is an OFD write lock on byte `LOCK_BASE + number` of the ring's file, far
//! beyond its end, on the open file description through which it mapped the ring. The kernel drops
//! it when nothing refers to that description any more: after the process's memory is gone. So a
//! free lock implies that no processor can still store through that mapping, whatever pids say.
//!
//! # Invariants
//! 1. Byte `LOCK_BASE + n` is held by the participant of row n, or by the one who mends its row.
//! 2. Who mends row n as a bystander holds byte `MENDING_BASE + n` before and while it holds the
//!    former. So an attacher that finds the row's lock taken can tell a participant from a mender,
//!    who is about to let go.
//! 3. Byte `CREATOR` of a file under a private name is held by its creator until that name is gone.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::layout::{LOCK_BASE, ROW_ATTACHED, Row};
use crate::protocol::Owner;
use crate::sync::Ordering;

use super::Role;

const MENDING_BASE: u64 = LOCK_BASE + 4096;

const _: () = assert!(
    size_of::<libc::off_t>() == 8,
    "lock bytes need 64-bit file offsets"
);

/// A run of lock bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes {
    start: u64,
    count: u64,
}

impl Bytes {
    /// Held by whoever fills a file that has a private name.
    pub(super) const CREATOR: Self = Self {
        start: LOCK_BASE - 1,
        count: 1,
    };

    /// The lock of a row.
    pub(super) fn row(owner: Owner) -> Self {
        Self {
            start: LOCK_BASE + u64::from(owner.number()),
            count: 1,
        }
    }

    /// The locks of rows 1 to `participants`.
    pub(super) fn all_rows(participants: u16) -> Self {
        Self {
            start: LOCK_BASE + 1,
            count: participants.into(),
        }
    }

    /// Held while somebody else mends the row.
    pub(super) fn mending(owner: Owner) -> Self {
        Self {
            start: MENDING_BASE + u64::from(owner.number()),
            count: 1,
        }
    }

    /// Held together by whoever mends the whole ring.
    pub(super) fn mending_all(participants: u16) -> Self {
        Self {
            start: MENDING_BASE + 1,
            count: participants.into(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the three kinds of lock are 0 to 2"
    )]
    fn flock(self, kind: libc::c_int) -> libc::flock {
        libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self.start.cast_signed(),
            l_len: self.count.cast_signed(),
            l_pid: 0,
        }
    }
}

/// Takes a write lock on the description behind `file`, unless another one holds any of the bytes.
///
/// # Errors
/// Those of `fcntl`, other than the conflict.
pub(super) fn try_lock(file: impl AsFd, bytes: Bytes) -> io::Result<bool> {
    match fcntl(
        file.as_fd(),
        FcntlArg::F_OFD_SETLK(&bytes.flock(libc::F_WRLCK)),
    ) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether no description other than the one behind `file` holds any of the bytes.
///
/// # Errors
/// Those of `fcntl`.
pub(super) fn is_free(file: impl AsFd, bytes: Bytes) -> io::Result<bool> {
    let mut found = bytes.flock(libc::F_WRLCK);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok(libc::c_int::from(found.l_type) == libc::F_UNLCK)
}

/// A lock that its holder gives back, on a description that it keeps.
#[derive(Debug)]
pub(super) struct Lock<F: AsFd> {
    file: F,
    bytes: Bytes,
}

impl<F: AsFd> Lock<F> {
    /// Takes the lock if it is free. Whoever shares the description must be kept out otherwise.
    pub(super) fn take(file: F, bytes: Bytes) -> io::Result<Option<Self>> {
        Ok(try_lock(file.as_fd(), bytes)?.then_some(Self { file, bytes }))
    }
}

impl<F: AsFd> Drop for Lock<F> {
    fn drop(&mut self) {
        // Unlocking can only fail for want of memory when it splits a lock; then the bytes stay
        // locked until the description is closed.
        let _ = fcntl(
            self.file.as_fd(),
            FcntlArg::F_OFD_SETLK(&self.bytes.flock(libc::F_UNLCK)),
        );
    }
}

/// What a row says about the process of its participant. For display, never for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) process_start: u64,
    pub(super) command: String,
}

const COMMAND_BYTES: usize = 32;

impl Identity {
    /// Of this process.
    pub(super) fn of_this_process() -> Self {
        Self {
            pid: std::process::id(),
            process_start: process_start().unwrap_or(0),
            command: command(),
        }
    }

    /// As it stands in a row.
    pub(super) fn in_row(row: &Row) -> Self {
        let mut command = [0; COMMAND_BYTES];
        for (bytes, word) in command.chunks_exact_mut(8).zip(&row.command) {
            // relaxed: display only.
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        let len = command
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(COMMAND_BYTES);
        Self {
            // relaxed: display only.
            pid: row.pid.load(Ordering::Relaxed),
            // relaxed: display only.
            process_start: row.process_start.load(Ordering::Relaxed),
            command: printable(&command[..len]),
        }
    }
}

/// Fills the row of a participant that holds its lock, and puts it to use.
///
/// Dying within leaves a row that is FREE and of which nothing is claimed.
pub(super) fn move_in(row: &Row, role: Role, identity: &Identity, now_unix_ns: u64) {
    let mut command = [0; COMMAND_BYTES];
    let len = identity.command.len().min(COMMAND_BYTES);
    command[..len].copy_from_slice(&identity.command.as_bytes()[..len]);
    for (bytes, word) in command.chunks_exact(8).zip(&row.command) {
        let mut le = [0; 8];
        le.copy_from_slice(bytes);
        // relaxed: display only.
        word.store(u64::from_le_bytes(le), Ordering::Relaxed);
    }
    // relaxed: display only.
    row.pid.store(identity.pid, Ordering::Relaxed);
    // relaxed: display only.
    row.process_start
        .store(identity.process_start, Ordering::Relaxed);
    // relaxed: display only.
    row.attached_unix_ns.store(now_unix_ns, Ordering::Relaxed);
    // relaxed: display only.
    row.role.store(role.number(), Ordering::Relaxed);
    // sync(row-state): release half.
    row.state.store(ROW_ATTACHED, Ordering::Release);
}

fn command() -> String {
    let kernel = std::fs::read("/proc/self/comm").ok();
    let name = kernel.unwrap_or_else(|| {
        let path = std::env::args_os().next().unwrap_or_default();
        let name = std::path::Path::new(&path)
            .file_name()
            .unwrap_or_default()
            .to_os_string();
        std::os::unix::ffi::OsStringExt::into_vec(name)
    });
    printable(name.strip_suffix(b"\n").unwrap_or(&name))
}

/// A name that a terminal can show: whoever wrote it may have wished for something else.
fn printable(bytes: &[u8]) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    String::from_utf8_lossy(bytes).chars().map(shown).collect()
}

/// Field 22 of `/proc/self/stat`: the second one is in brackets and may contain anything.
fn process_start() -> Option<u64> {
    let stat = std::fs::read("/proc/self/stat").ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let rest = std::str::from_utf8(&stat[after_name..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Nanoseconds since 1970 by the wall clock; 0 if it stands before that.
#[expect(clippy::disallowed_methods, reason = "for display: see `clippy.toml`")]
pub(super) fn now_unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// The kernel's name of this boot; zeroes where it tells nobody, for want of `/proc`.
///
/// # Errors
/// Any other reason: who merely has no descriptor left must not take a ring of another boot for one
/// of this boot, nor make one that belongs to none.
pub(super) fn boot_id() -> io::Result<[u8; 16]> {
    let text = match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Err(error) if tells_nobody(&error) => String::new(),
        told => told?,
    };
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or("0");
        *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
    }
    Ok(id)
}

fn tells_nobody(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory)
}
