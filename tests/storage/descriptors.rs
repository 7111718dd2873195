//! No descriptor left, at every step of every operation.
//!
//! The limit is raised from what the process has, one by one, until the operation succeeds. So each
//! place at which it opens something is one at which it fails, once.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use annulus::mpmc;
use annulus::segment::{
    AttachError, CreateError, InspectError, Location, OpenError, RecoverError, create_memfd,
    inspect, recover,
};
use nix::sys::resource::Resource;

use super::stage::{alone, limit, names, place, text};

/// The least number that is no descriptor; all below it are, once the gaps are filled.
fn open_now() -> u64 {
    let next = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .expect("a descriptor");
    u64::try_from(next.as_raw_fd()).expect("positive")
}

/// Opens whatever numbers are free below those that are open.
fn fill_gaps() -> Vec<OwnedFd> {
    let open: Vec<u64> = names(Path::new("/proc/self/fd"))
        .iter()
        .map(|name| name.parse().expect("a number"))
        .collect();
    let highest = *open.iter().max().expect("the standard three");
    let mut fillers = Vec::new();
    while open_now() < highest {
        fillers.push(
            std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .expect("a descriptor"),
        );
    }
    fillers
}

/// How many descriptors `attempt` needs. It gives the step and the limit of each failure.
fn descriptors_for(attempt: &dyn Fn() -> Result<(), (&'static str, u64)>) -> u64 {
    let _fillers = fill_gaps();
    let before = open_now();
    for needed in 0..16 {
        let soft = before + needed;
        limit(Resource::RLIMIT_NOFILE, soft);
        let outcome = attempt();
        limit(Resource::RLIMIT_NOFILE, 1024);
        assert_eq!(open_now(), before, "a descriptor leaks at {needed}");
        match outcome {
            Ok(()) => return needed,
            Err((step, told)) => assert_eq!(told, soft, "the limit, at: {step}"),
        }
    }
    panic!("it needs no 16 descriptors");
}

const HINT: Option<&str> = Some("close some, or raise the limit (ulimit -n)");

fn create_refusal(error: &CreateError) -> (&'static str, u64) {
    let CreateError::NoDescriptor { step, limit } = *error else {
        panic!("{}", text(error))
    };
    assert_eq!(error.hint(), HINT);
    let said = format!("cannot {step}: the process has all {limit} descriptors that it may have");
    assert_eq!(error.to_string(), said);
    (step, limit)
}

fn open_refusal(error: &OpenError) -> (&'static str, u64) {
    let OpenError::NoDescriptor { step, limit } = *error else {
        panic!("{}", text(error))
    };
    assert_eq!(error.hint(), HINT);
    (step, limit)
}

fn attach_refusal(error: AttachError) -> (&'static str, u64) {
    match error {
        AttachError::Open(error) => open_refusal(&error),
        error => panic!("{}", text(&error)),
    }
}

fn attach(path: &Path) -> Result<mpmc::Producer, AttachError> {
    // SAFETY: only this row has the ring.
    unsafe { mpmc::Producer::attach(path) }
}

#[test]
fn each_creation_that_finds_no_descriptor_says_so_and_leaves_nothing() {
    alone(|| {
        let (directory, path) = place();
        let ring = || mpmc::Options::new(8, 16);
        let needed = descriptors_for(&|| {
            let outcome = ring().create(&path).map_err(|error| create_refusal(&error));
            assert_eq!(path.exists(), outcome.is_ok());
            outcome
        });
        assert_eq!(needed, 2, "the directory and the file");
        assert_eq!(
            names(directory.path()),
            ["orders.ring"],
            "left by the failures"
        );
        let geometry = ring().geometry().expect("a ring");
        let needed = descriptors_for(&|| {
            let made = create_memfd("orders", &geometry, &Default::default());
            made.map(drop).map_err(|error| create_refusal(&error))
        });
        assert_eq!(needed, 2, "the file, and a look at the boot's id");
    });
}

#[test]
fn each_attach_that_finds_no_descriptor_says_so_and_holds_nothing() {
    alone(|| {
        let (_directory, path) = place();
        mpmc::Options::new(8, 16)
            .participants(1)
            .create(&path)
            .expect("a ring");
        let needed = descriptors_for(&|| attach(&path).map(drop).map_err(attach_refusal));
        assert_eq!(needed, 3, "both descriptions, and a look at the boot's id");
        // A row, or its lock, that a failure had kept would leave no room.
        let held = attach(&path).expect("the only row is free");
        let error = held.try_clone().expect_err("and now it is not");
        assert!(
            matches!(error, AttachError::NoRow { participants: 1 }),
            "{error:?}"
        );
    });
}

#[test]
fn looking_and_recovering_say_so_too() {
    alone(|| {
        let (_directory, path) = place();
        mpmc::Options::new(8, 16).create(&path).expect("a ring");
        let location = Location::from(&path);
        let needed = descriptors_for(&|| match inspect(&location) {
            Ok(_) => Ok(()),
            Err(InspectError::Open(error)) => Err(open_refusal(&error)),
            Err(error) => panic!("{}", text(&error)),
        });
        assert_eq!(needed, 2, "the file, and a look at the boot's id");
        let needed = descriptors_for(&|| match recover(&location, &Default::default()) {
            Ok(_) => Ok(()),
            Err(RecoverError::Open(error)) => Err(open_refusal(&error)),
            Err(error) => panic!("{}", text(&error)),
        });
        assert_eq!(needed, 2, "the file, and a look at the boot's id");
    });
}

/// A process that could open the ring, but no more, took the boot's id for unknown, and a ring from
/// before the last boot for one of this.
#[test]
fn a_ring_of_another_boot_is_not_taken_for_one_of_this_for_want_of_a_descriptor() {
    alone(|| {
        let (_directory, path) = place();
        mpmc::Options::new(8, 16).create(&path).expect("a ring");
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("the ring");
        file.write_all_at(&[0x5a; 16], 136).expect("its boot's id");
        let _fillers = fill_gaps();
        let before = open_now();
        for free in 0..16 {
            limit(Resource::RLIMIT_NOFILE, before + free);
            let outcome = attach(&path);
            limit(Resource::RLIMIT_NOFILE, 1024);
            match outcome {
                Err(AttachError::OtherBoot) => return assert_eq!(free, 3),
                Err(error) => drop(attach_refusal(error)),
                Ok(_) => panic!("attached to a ring of another boot with {free} descriptors"),
            }
        }
        panic!("never told of the other boot");
    });
}
