//! What a person is told to do about an error.

use std::io;

use crate::geometry::{HeaderError, Kind};
use crate::protocol::Damage;
use crate::segment::location::FileSystem;
use crate::segment::{
    AttachError, CreateError, InspectError, OpenError, RecoverError, RemoveError, Role,
};

fn open_errors() -> Vec<(OpenError, Option<&'static str>)> {
    let found = 1;
    let file_system = FileSystem::with_magic(0x6969).check(false).unwrap_err();
    let version = HeaderError::OtherVersion { found: 9 };
    let short = HeaderError::TooShort {
        found,
        expected: 4096,
    };
    let sparse = OpenError::Sparse {
        allocated_bytes: 0,
        file_bytes: 1,
    };
    let io = OpenError::io("read the header")(io::Error::other("broken"));
    vec![
        (OpenError::NotFound, Some("create the ring")),
        (OpenError::FileSystem(file_system), Some("/dev/shm")),
        (version.into(), Some("use the build")),
        (
            HeaderError::StillBeingCreated.into(),
            Some("create it again"),
        ),
        (short.into(), Some("not copied while it is in use")),
        (sparse, Some("not copied while it is in use")),
        (OpenError::NotSealed, Some("F_SEAL_SHRINK")),
        (OpenError::NotRegular { found: "a pipe" }, None),
        (io, None),
    ]
}

fn damage() -> Damage {
    Damage {
        what: "the head",
        found: 1,
        expected: "expected 8 to divide it",
    }
}

#[track_caller]
fn assert_hint(hint: Option<&'static str>, expected: Option<&'static str>) {
    match (hint, expected) {
        (Some(hint), Some(part)) => assert!(hint.contains(part), "{hint}"),
        (hint, _) => assert_eq!(hint, expected),
    }
}

#[test]
fn an_error_says_what_helps() {
    for (error, expected) in open_errors() {
        assert_hint(error.hint(), expected);
    }
    for (error, expected) in open_errors() {
        assert_hint(AttachError::Open(error).hint(), expected);
    }
    for (error, expected) in open_errors() {
        assert_hint(RecoverError::Open(error).hint(), expected);
    }
    for (error, expected) in open_errors() {
        assert_hint(InspectError::Open(error).hint(), expected);
    }
    let created = [
        (
            CreateError::AlreadyExists { path: "a".into() },
            Some("attach to it"),
        ),
        (CreateError::NoPath, Some("make a memfd")),
        (CreateError::NoFileName, Some("name of the file")),
        (
            CreateError::NoSpace {
                needed_bytes: 2,
                available_bytes: 1,
            },
            Some("make room"),
        ),
        (
            CreateError::FileSizeLimit {
                needed_bytes: 2,
                limit_bytes: 1,
            },
            Some("ulimit -f"),
        ),
        (
            CreateError::io("map the file")(io::Error::other("broken")),
            None,
        ),
    ];
    for (error, expected) in created {
        assert_hint(error.hint(), expected);
    }
    let (found, expected) = (Kind::MpmcSlots, Kind::SpscBytes);
    let taken = AttachError::RoleTaken {
        role: Role::Producer,
        pid: 1,
        command: "a".into(),
    };
    let locked = AttachError::LockMemory {
        needed_bytes: 2,
        limit_bytes: 1,
        source: io::Error::other("too much"),
    };
    let attached = [
        (AttachError::OtherBoot, "accept the other boot"),
        (AttachError::OtherBootInUse, "try again"),
        (AttachError::Replaced, "try again"),
        (AttachError::OtherKind { found, expected }, "the other kind"),
        (taken, "end that process"),
        (AttachError::NoRow { participants: 1 }, "more participants"),
        (locked, "ulimit -l"),
        (AttachError::Forked, "in the child"),
        (AttachError::Damaged(damage()), "create it again"),
    ];
    for (error, expected) in attached {
        assert_hint(error.hint(), Some(expected));
    }
    assert_hint(
        RecoverError::OtherBoot.hint(),
        Some("accept the other boot"),
    );
    assert_hint(RecoverError::OtherBootInUse.hint(), Some("end those"));
    assert_hint(
        RecoverError::Damaged(damage()).hint(),
        Some("create it again"),
    );
    assert_hint(
        InspectError::Damaged(damage()).hint(),
        Some("create it again"),
    );
    let in_use = RemoveError::InUse {
        attached: 1,
        pid: 1,
        command: "a".into(),
    };
    assert_hint(in_use.hint(), Some("nameless"));
    assert_hint(RemoveError::NoPath.hint(), Some("close it everywhere"));
    assert_hint(RemoveError::Replaced.hint(), Some("try again"));
    assert_hint(RemoveError::Open(OpenError::NotFound).hint(), None);
    assert_hint(
        RemoveError::Open(OpenError::NotSealed).hint(),
        Some("force it"),
    );
}

#[test]
fn a_role_is_told_by_its_name() {
    assert_eq!(Role::Producer.to_string(), "producer");
    assert_eq!(Role::Consumer.to_string(), "consumer");
}
