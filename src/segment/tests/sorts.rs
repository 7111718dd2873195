//! Each sort of participant tells the same of itself and of the others.

use std::fs;

use super::children::Peer;
use super::{created, join_slots, one_that_forks, place, slots};
use crate::geometry::{Geometry, Kind};
use crate::protocol::{
    Attachment, ElementType, Loss, Owner, Recovered, Redelivery, Store, owners, recovery,
};
use crate::segment::{
    AttachOptions, CreateOptions, Location, Mapped, Role, attach, attach_guarded, attach_untrusted,
    create, create_memfd, inspect,
};

/// 8 slots of 64 bytes for 3 participants, of numbers.
fn numbers() -> Geometry {
    let element = ElementType {
        name: "number".to_owned(),
        size: 8,
        align: 8,
        schema: 1,
    };
    Geometry::mpmc(8, 64, 3, Redelivery::Unlimited, Some(element)).unwrap()
}

/// A peer that `place` leads to comes, dies holding a slot, and is recovered.
fn tells_the_living_from_the_dead(mine: &impl Attachment, place: &std::path::Path) {
    assert!(mine.is_here());
    assert_eq!(mine.element().map(|element| element.size), Some(8));
    let store = mine.store();
    assert!(core::ptr::eq(mine.row(), store.row(mine.me())));
    let mut peer = Peer::start("hold a slot", place);
    peer.hear();
    let others = owners(store).filter(|owner| *owner != mine.me());
    let used: Vec<Owner> = others
        .filter(|owner| recovery::in_use(store, *owner))
        .collect();
    let [theirs] = used[..] else {
        panic!("one peer: {used:?}");
    };
    assert!(mine.is_alive(theirs) && mine.is_alive(mine.me()));
    assert_eq!(mine.mend(), Recovered::default(), "nobody has died");
    peer.kill();
    assert!(!mine.is_alive(theirs));
    let done = mine.mend();
    assert_eq!((done.participants, done.skipped), (1, 1));
    assert_eq!(mine.mend(), Recovered::default(), "it is done");
}

#[test]
fn every_sort_of_participant_tells_the_living_from_the_dead() {
    let options = AttachOptions::default();
    let kind = Kind::MpmcSlots;
    let (_directory, path) = created(&numbers());
    let location = Location::from(&path);
    let mapped = attach(&location, Role::Producer, kind, &options).unwrap();
    tells_the_living_from_the_dead(&mapped, &path);
    drop(mapped);
    let guarded = attach_guarded(&location, Role::Producer, kind, &options).unwrap();
    tells_the_living_from_the_dead(&guarded, &path);

    let memfd = create_memfd("orders", &numbers(), &CreateOptions::default()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&memfd);
    let path = format!("/proc/{}/fd/{number}", std::process::id());
    let location = Location::fd(memfd.try_clone().unwrap());
    let untrusted = attach_untrusted(&location, Role::Producer, kind, &options).unwrap();
    tells_the_living_from_the_dead(&untrusted, path.as_ref());
}

#[test]
fn no_sort_of_participant_is_in_a_forked_child() {
    let _alone = one_that_forks();
    let options = AttachOptions::default();
    let kind = Kind::MpmcSlots;
    let (_directory, path) = created(&slots());
    let guarded = attach_guarded(&Location::from(&path), Role::Producer, kind, &options).unwrap();
    let memfd = create_memfd("orders", &slots(), &CreateOptions::default()).unwrap();
    let location = Location::fd(memfd);
    let untrusted = attach_untrusted(&location, Role::Producer, kind, &options).unwrap();
    assert!(guarded.is_here() && untrusted.is_here());
    // SAFETY: the child looks at its own memory, then ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let code = i32::from(guarded.is_here()) + 2 * i32::from(untrusted.is_here());
        // SAFETY: ends this process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: our child, our status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "which of both is still there, in the upper byte");
}

#[test]
fn a_guarded_participant_learns_that_its_ring_was_replaced() {
    let options = AttachOptions::default();
    let (_directory, path) = created(&slots());
    let location = Location::from(&path);
    let guarded = attach_guarded(&location, Role::Producer, Kind::MpmcSlots, &options).unwrap();
    assert_eq!(guarded.loss(), None);
    let (_other, another) = created(&slots());
    fs::rename(&another, &path).unwrap();
    assert_eq!(guarded.loss(), Some(Loss::Replaced));
}

#[test]
fn each_participant_has_the_row_of_its_own_number() {
    let (_directory, path) = created(&slots());
    let joined = [join_slots(&path), join_slots(&path), join_slots(&path)];
    for mapped in joined.map(Result::unwrap) {
        let row = mapped.store().row(mapped.me());
        assert!(core::ptr::eq(mapped.row(), row), "{:?}", mapped.me());
    }
}

#[test]
fn a_ring_has_a_name_of_its_own_and_all_participants_tell_it() {
    let joined = |path| -> Mapped {
        let options = AttachOptions::default();
        attach(
            &Location::from(path),
            Role::Producer,
            Kind::MpmcSlots,
            &options,
        )
        .unwrap()
    };
    let (_directory, path) = created(&slots());
    let (_other, other_path) = place();
    create(
        &Location::from(&other_path),
        &slots(),
        &CreateOptions::default(),
    )
    .unwrap();
    let (mine, another) = (joined(&path), joined(&other_path));
    assert_ne!(mine.ring_id(), another.ring_id());
    let seen = inspect(&Location::from(&path)).unwrap();
    let digits: String = mine
        .ring_id()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digits, seen.ring_id.replace('-', ""));
    assert_eq!(mine.generation(), seen.generation);
}
