//! Becoming a participant: two descriptions of one file, a mapping, a row, a lock.
//!
//! ```text
//! D2  open, check the header                       kept: probes, takeovers, the next participant
//! D1  open, same inode? map, not for children      the mapping pins it
//!     a ring with locks apart: their file, too     its mapping pins them
//!     lock byte of a row                           nobody else attaches there from here on
//!     row in use? its participant is dead: recover
//!     fill the row; state = ATTACHED               in use from here on
//!     close D1                                     the lock lives as long as the mapping
//! ```
//!
//! # Invariants
//! 1. The lock is on D1, through which the ring is mapped, and D1 is on no other descriptor: it was
//!    opened by ourselves and no forked child keeps it ([`super::fork`]).
//! 2. D2 is never mapped and holds locks only for the moment of a takeover.
//! 3. The row is FREE from before the participant's first write to it until it is complete, and
//!    nothing is claimed before it is in use.
//!
//! # After a crash
//! See [`super`]: each line above leaves something that a later attacher handles.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use crate::geometry::{HeaderError, Kind};
use crate::layout::ROW_ATTACHED;
use crate::protocol::{Attachment, Owner, Store, byte_ring, ledger, owners, recovery};
use crate::sync::Ordering;

use super::Role;
use super::error::{AttachError, OpenError};
use super::fork::Private;
use super::liveness::{self, Bytes, Identity, is_free, try_lock};
use super::location::{Access, Location};
use super::map::Map;
use super::mapped::{Guarded, Mapped, Untrusted};
use super::open::Opened;
use super::recover::{adopt, mend_row, report};

/// How a participant joins.
#[derive(Clone, Debug, Default)]
pub struct AttachOptions {
    /// Has every page mapped before the first use; kernels before 5.14 cannot.
    pub prefault: bool,
    /// Keeps the ring in memory. Fails beyond `RLIMIT_MEMLOCK`.
    pub lock_memory: bool,
    /// Asks for transparent huge pages. A file system that has none ignores it: tmpfs must be
    /// mounted with `huge=advise`.
    pub huge_pages: bool,
    /// Also on file systems on which locks, blocks or mappings are not known to behave, and also a
    /// nameless file that somebody may cut short.
    pub force_file_system: bool,
    /// Checks and adopts a ring from before the last boot, if nobody is attached to it.
    pub accept_other_boot: bool,
}

/// Whether the mapping is watched for pages that its file loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarding {
    On,
    Off,
}

/// Names that lead to another file at each look end the attempt after this many.
const LOOKS: u32 = 16;
/// How long, in naps, an attacher waits for somebody who is about to let go of a row.
const NAPS: u32 = 250;
const NAP: Duration = Duration::from_millis(1);

/// Joins a ring whose other participants are trusted.
///
/// # Errors
/// See [`AttachError`]. A second producer or consumer of an SPSC ring is refused with the name of
/// the first one, unless that one is dead: then its claims are recovered and its place is taken.
pub fn attach(
    location: &Location,
    role: Role,
    kind: Kind,
    options: &AttachOptions,
) -> Result<Mapped, AttachError> {
    attach_checked(location, role, options, Guarding::Off, |opened| {
        check_kind(opened, kind)
    })
}

/// Joins a ring whose other participants are trusted, except in this: somebody may cut its file
/// short. Then operations answer `CutShort`; the head of `sigbus.rs` tells how far that goes.
/// Installs a handler for SIGBUS, which passes on what is not about such a mapping.
///
/// # Errors
/// See [`AttachError`]; `NoGuard` if the process has too many of them.
pub fn attach_guarded(
    location: &Location,
    role: Role,
    kind: Kind,
    options: &AttachOptions,
) -> Result<Guarded, AttachError> {
    let check = |opened: &Opened| check_kind(opened, kind);
    let mapped = attach_checked(location, role, options, Guarding::On, check)?;
    mapped.check_whole().map(Guarded::new)
}

/// Joins a ring whose other participants may do anything to its memory: only a sealed memfd will
/// do, and payloads are copied.
///
/// # Errors
/// See [`AttachError`]; `NotSealed` also for a file that has a name, `HugePages` for a memfd of
/// huge pages.
pub fn attach_untrusted(
    location: &Location,
    role: Role,
    kind: Kind,
    options: &AttachOptions,
) -> Result<Untrusted, AttachError> {
    let system = location.file_system().map_err(OpenError::opening)?;
    if system.has_huge_pages() {
        return Err(OpenError::HugePages.into());
    }
    let mapped = attach_checked(location, role, options, Guarding::Off, |opened| {
        check_kind(opened, kind)?;
        if opened.is_sealed {
            Ok(())
        } else {
            Err(OpenError::NotSealed.into())
        }
    })?;
    Ok(Untrusted::new(mapped))
}

fn attach_checked(
    location: &Location,
    role: Role,
    options: &AttachOptions,
    guarding: Guarding,
    check: impl Fn(&Opened) -> Result<(), AttachError>,
) -> Result<Mapped, AttachError> {
    for _ in 0..LOOKS {
        let opened = Opened::new(location, Access::ReadWrite, options.force_file_system)?;
        check(&opened)?;
        if let Some(mapped) = join(opened, role, options, guarding)? {
            return Ok(mapped);
        }
    }
    Err(AttachError::Replaced)
}

fn check_kind(opened: &Opened, expected: Kind) -> Result<(), AttachError> {
    let found = opened.geometry.kind;
    if found != expected {
        return Err(AttachError::OtherKind { found, expected });
    }
    Ok(())
}

/// A participant of the opened file; `None` if its name leads to another one by now.
pub(super) fn join(
    opened: Opened,
    role: Role,
    options: &AttachOptions,
    guarding: Guarding,
) -> Result<Option<Mapped>, AttachError> {
    let Some(pin) = opened.second()? else {
        return Ok(None);
    };
    let locks = opened.second_locks()?;
    let mut map = Map::new(
        &pin,
        &opened.geometry,
        opened.map_bytes(),
        Access::ReadWrite,
    )
    .map_err(OpenError::io("map the file"))?;
    if guarding == Guarding::On {
        map.watch(opened.system.page_bytes())?;
    }
    let map = match &locks {
        Some(locks) => map.with_locks(locks),
        None => Ok(map),
    }
    .map_err(OpenError::io("map the lock file"))?;
    if !map.is_published() {
        return Err(OpenError::from(HeaderError::StillBeingCreated).into());
    }
    if !opened.is_of_this_boot()? {
        if !options.accept_other_boot {
            return Err(AttachError::OtherBoot);
        }
        adopt(&opened, &map)?;
    }
    tune(&map, options)?;
    let shape = opened.geometry.shape();
    let me = lock_row(&opened, locks.as_ref().unwrap_or(&pin), &map, role)?;
    if opened.is_renamed()? {
        return Ok(None);
    }
    let previous = recovery::in_use(&map, me).then(|| mend_row(&map, &shape, me));
    crate::wait::join_barriers(&map);
    let row = map.row(me);
    if let recovery::Shape::Bytes(bytes) = &shape {
        byte_ring::bring_up_to_date(bytes, &map, me);
    }
    ledger::begin_life(row);
    liveness::move_in(
        row,
        role,
        &Identity::of_this_process(),
        liveness::now_unix_ns(),
    );
    // Elsewhere a lock may go with the descriptor although the mapping is there (overlayfs).
    let pin = (!opened.system.is_supported()).then_some(pin);
    let mapped = Mapped::new(map, pin, opened, me, options);
    report(&previous.unwrap_or_default());
    mapped.mend();
    Ok(Some(mapped))
}

fn tune(map: &Map, options: &AttachOptions) -> Result<(), AttachError> {
    if options.huge_pages {
        map.prefer_huge_pages();
    }
    if options.prefault {
        map.prefault();
    }
    if options.lock_memory {
        map.lock_memory()
            .map_err(|source| AttachError::LockMemory {
                needed_bytes: map.bytes_mapped(),
                limit_bytes: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(u64::MAX, |(soft, _)| soft),
                source,
            })?;
    }
    Ok(())
}

/// Why a row was not to be had.
enum Taken {
    /// Somebody is about to let go of a row, or to put it to use.
    InMotion,
    /// By one who lives.
    Alive,
}

/// Locks a row through `pin`: of the role in an SPSC ring, any one otherwise.
fn lock_row(opened: &Opened, pin: &Private, map: &Map, role: Role) -> Result<Owner, AttachError> {
    let wanted = match (opened.geometry.kind, role) {
        (Kind::MpmcSlots, _) => None,
        (Kind::SpscBytes, Role::Producer) => Some(Owner::PRODUCER),
        (Kind::SpscBytes, Role::Consumer) => Some(Owner::CONSUMER),
    };
    // A mender that lets go between our attempt and our look at it is seen by the next attempt; it
    // leaves the row free, so that no other one follows.
    let mut looks_at_the_living = 3;
    for _ in 0..NAPS {
        let found = match wanted {
            Some(owner) => try_row(opened, pin, map, owner)?,
            None => try_any_row(opened, pin, map)?,
        };
        match found {
            Ok(owner) => return Ok(owner),
            Err(Taken::InMotion) => std::thread::sleep(NAP),
            Err(Taken::Alive) => looks_at_the_living -= 1,
        }
        if looks_at_the_living == 0 {
            break;
        }
    }
    Err(match wanted {
        Some(owner) => {
            let Identity { pid, command, .. } = Identity::in_row(map.row(owner));
            AttachError::RoleTaken { role, pid, command }
        }
        None => AttachError::NoRow {
            participants: opened.geometry.participants,
        },
    })
}

/// Free rows first, for whoever is in a row that is in use is most likely alive.
fn try_any_row(
    opened: &Opened,
    pin: &Private,
    map: &Map,
) -> Result<Result<Owner, Taken>, AttachError> {
    let mut why = Taken::Alive;
    for in_use in [false, true] {
        for owner in owners(map).filter(|owner| recovery::in_use(map, *owner) == in_use) {
            match try_row(opened, pin, map, owner)? {
                Ok(owner) => return Ok(Ok(owner)),
                Err(Taken::InMotion) => why = Taken::InMotion,
                Err(Taken::Alive) => {}
            }
        }
    }
    Ok(Err(why))
}

fn try_row(
    opened: &Opened,
    pin: &Private,
    map: &Map,
    owner: Owner,
) -> Result<Result<Owner, Taken>, AttachError> {
    let lock = OpenError::io("lock a row");
    if try_lock(pin, Bytes::row(owner)).map_err(lock)? {
        return Ok(Ok(owner));
    }
    let probe = OpenError::io("probe a lock");
    let is_mended = !is_free(opened.lock_file(), Bytes::mending(owner)).map_err(probe)?;
    // sync(row-state): acquire half.
    let state = map.row(owner).state.load(Ordering::Acquire);
    Ok(Err(if is_mended || state != ROW_ATTACHED {
        Taken::InMotion
    } else {
        Taken::Alive
    }))
}
