//! What a creator and an attacher can choose: names, permissions, pages.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use annulus::segment::{AttachError, AttachOptions, CreateError, CreateOptions, inspect, remove};
use annulus::{Location, mpmc, spsc};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, setuid};

use super::peer::trusting;

#[test]
fn a_ring_has_a_name_of_posix_shared_memory() {
    let name = format!("/annulus-handover-{}", std::process::id());
    let location = Location::shm(&name).unwrap();
    let file = Path::new("/dev/shm").join(&name[1..]);
    mpmc::Options::new(8, 16).create(&location).unwrap();
    assert!(file.exists());
    let again = mpmc::Options::new(8, 16).create(&location).unwrap_err();
    assert!(
        matches!(again, CreateError::AlreadyExists { .. }),
        "{again:?}"
    );
    let producer = trusting!(mpmc::Producer, &location).unwrap();
    let consumer = trusting!(mpmc::Consumer, file.as_path()).unwrap();
    producer.try_push(4, b"by either name").unwrap();
    assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(4));
    drop((producer, consumer));
    remove(&location, false).unwrap();
    assert!(!file.exists());

    for wrong in [
        "",
        "/",
        "plain",
        "/a/b",
        "/.",
        "/..",
        "//",
        "/a\0",
        &format!("/{:0256}", 0),
    ] {
        assert!(Location::shm(wrong).is_err(), "{wrong:?}");
    }
}

/// Runs `body` in a process of its own: it changes what belongs to the whole process.
fn alone(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "ANNULUS_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let told =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}\n{}", told[0], told[1]);
    assert!(
        told[0].contains("1 passed"),
        "no such test: {name}\n{}",
        told[0]
    );
}

#[test]
fn the_mode_is_what_was_asked_for_whatever_the_umask() {
    alone(
        "handover::options::the_mode_is_what_was_asked_for_whatever_the_umask",
        || {
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            for mask in [0, 0o022, 0o777] {
                for mode in [0o600, 0o640, 0o666, 0o400] {
                    umask(Mode::from_bits_truncate(mask));
                    let options = CreateOptions {
                        mode,
                        ..CreateOptions::default()
                    };
                    let path = folder.path().join(format!("{mask:o}-{mode:o}.ring"));
                    spsc::Options::new(4096)
                        .create_with(&path, &options)
                        .unwrap();
                    let memfd = mpmc::Options::new(8, 16).memfd("test", &options).unwrap();
                    let found = [
                        std::fs::metadata(&path).unwrap().permissions(),
                        File::from(memfd).metadata().unwrap().permissions(),
                    ];
                    for found in found {
                        assert_eq!(
                            found.mode() & 0o7777,
                            mode,
                            "umask {mask:o}, asked for {mode:o}"
                        );
                    }
                }
                let path = folder.path().join(format!("{mask:o}-default.ring"));
                spsc::Options::new(4096).create(&path).unwrap();
                let found = std::fs::metadata(&path).unwrap().permissions();
                assert_eq!(
                    found.mode() & 0o7777,
                    0o600,
                    "umask {mask:o}, asked for nothing"
                );
            }
        },
    );
}

/// What /proc/self/smaps tells of the mapping of a file, in bytes.
fn mapped(path: &Path, field: &str) -> u64 {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps
        .lines()
        .skip_while(|line| !line.ends_with(path.to_str().unwrap()));
    let line = lines.find(|line| line.starts_with(field)).unwrap();
    let kibibytes = line.split_ascii_whitespace().nth(1).unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}

#[test]
fn pages_are_mapped_and_locked_on_request_only() {
    const CAPACITY: u64 = 4 << 20;
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let attach = |name: &str, options: &AttachOptions| {
        let path = folder.path().join(name);
        spsc::Options::new(CAPACITY).create(&path).unwrap();
        // SAFETY: as in `trusting`.
        let producer = unsafe { spsc::Producer::attach_with(&path, options) }.unwrap();
        let found = (mapped(&path, "Rss:"), mapped(&path, "Locked:"));
        drop(producer);
        found
    };
    let none = AttachOptions::default();
    let (resident, locked) = attach("plain.ring", &none);
    assert!(
        resident < CAPACITY && locked == 0,
        "{resident} bytes, {locked} locked"
    );

    let prefault = AttachOptions {
        prefault: true,
        ..none.clone()
    };
    let (resident, locked) = attach("prefault.ring", &prefault);
    assert!(
        resident >= CAPACITY && locked == 0,
        "{resident} bytes, {locked} locked"
    );

    let lock = AttachOptions {
        lock_memory: true,
        ..none.clone()
    };
    let (resident, locked) = attach("lock.ring", &lock);
    assert!(
        resident >= CAPACITY && locked >= CAPACITY,
        "{resident} bytes, {locked} locked"
    );

    // Whether there are any is the machine's affair; the ring works either way.
    let huge = AttachOptions {
        huge_pages: true,
        prefault: true,
        ..none
    };
    let (resident, _) = attach("huge.ring", &huge);
    assert!(resident >= CAPACITY, "{resident} bytes");
}

#[test]
fn memory_beyond_the_limit_is_not_locked_and_the_numbers_are_told() {
    alone(
        "handover::options::memory_beyond_the_limit_is_not_locked_and_the_numbers_are_told",
        || {
            const LIMIT: u64 = 64 * 1024;
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
            let path = folder.path().join("large.ring");
            let everybody = CreateOptions {
                mode: 0o666,
                ..CreateOptions::default()
            };
            spsc::Options::new(1 << 20)
                .create_with(&path, &everybody)
                .unwrap();
            setrlimit(Resource::RLIMIT_MEMLOCK, LIMIT, LIMIT).unwrap();
            if Uid::effective().is_root() {
                // Root may lock whatever it likes.
                setuid(Uid::from_raw(65534)).unwrap();
            }
            let lock = AttachOptions {
                lock_memory: true,
                ..AttachOptions::default()
            };
            // SAFETY: as in `trusting`.
            let refused = unsafe { spsc::Producer::attach_with(&path, &lock) }.unwrap_err();
            let AttachError::LockMemory {
                needed_bytes,
                limit_bytes,
                ..
            } = refused
            else {
                panic!("{refused:?}")
            };
            assert!(
                needed_bytes > 1 << 20 && limit_bytes == LIMIT,
                "{needed_bytes}, {limit_bytes}"
            );
            // Nothing is left of the attempt: no row, no lock.
            assert_eq!(inspect(&Location::path(&path)).unwrap().participants, []);
            trusting!(spsc::Producer, &path).unwrap();
        },
    );
}

#[test]
fn a_memfd_of_huge_pages_is_made_or_refused_with_the_numbers() {
    let huge = CreateOptions {
        huge_pages: true,
        ..CreateOptions::default()
    };
    match spsc::Options::new(1 << 20).memfd("test", &huge) {
        Ok(ring) => {
            let location = Location::fd(ring);
            let mut producer = trusting!(spsc::Producer, &location).unwrap();
            let mut consumer = trusting!(spsc::Consumer, &location).unwrap();
            producer.try_push(3, b"huge").unwrap();
            assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(3));
        }
        Err(CreateError::NoSpace {
            needed_bytes,
            available_bytes,
        }) => {
            assert!(
                needed_bytes > available_bytes,
                "{needed_bytes} of {available_bytes}"
            );
        }
        Err(CreateError::Io {
            step: "create a memfd",
            ..
        }) => {} // A kernel without them.
        Err(other) => panic!("{other:?}"),
    }
}
