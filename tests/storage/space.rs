//! No room, or only so much.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use annulus::segment::{CreateError, Location, OpenError, inspect};
use annulus::{TryClaimError, TryReadError, mpmc, spsc};
use nix::sys::resource::Resource;

use super::stage::{alone, limit, names, place, with_mounts};

/// Under `/mnt`, where every row that may mount has a tmpfs of its own.
fn mount_one_mebibyte() -> &'static Path {
    let status = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none", "/mnt"])
        .status()
        .expect("mount");
    assert!(status.success(), "a tmpfs of 1 MiB");
    Path::new("/mnt")
}

#[test]
fn a_ring_that_does_not_fit_into_a_small_tmpfs_is_refused_with_both_numbers() {
    with_mounts(|| {
        let directory = mount_one_mebibyte();
        let path = directory.join("large.ring");
        let error = spsc::Options::new(1 << 20)
            .create(&path)
            .expect_err("1 MiB and its header");
        let CreateError::NoSpace {
            needed_bytes: 1_114_112,
            available_bytes: 1_048_576,
        } = error
        else {
            panic!("{error:?}")
        };
        let said = "the ring needs 1114112 bytes, the file system has 1048576";
        assert_eq!(error.to_string(), said);
        let hint = "make room, mount a larger tmpfs, or make the ring smaller";
        assert_eq!(error.hint(), Some(hint));
        assert_eq!(names(directory), [""; 0], "nothing is left behind");
        spsc::Options::new(1 << 19)
            .create(&path)
            .expect("half of it fits");
    });
}

#[test]
fn a_ring_has_all_of_its_blocks_so_a_file_system_that_fills_up_later_does_no_harm() {
    with_mounts(|| {
        let directory = mount_one_mebibyte();
        let path = directory.join("orders.ring");
        spsc::Options::new(1 << 19).create(&path).expect("it fits");
        let mut rest = File::create(directory.join("rest")).expect("a file");
        let chunk = [0xa5; 4096];
        while rest.write_all(&chunk).is_ok() {}
        let error = mpmc::Options::new(2, 16).create(directory.join("next.ring"));
        let Err(CreateError::NoSpace {
            available_bytes: 0, ..
        }) = error
        else {
            panic!("{error:?}")
        };
        // SAFETY: only this test has the ring.
        let mut producer = unsafe { spsc::Producer::attach(&path) }.expect("attach");
        // SAFETY: as above.
        let mut consumer = unsafe { spsc::Consumer::attach(&path) }.expect("attach");
        let payload = [7; 4000];
        let mut got = Vec::new();
        // Twice round the ring: every byte of it is written.
        for round in 0..2 {
            let pushed = (0..)
                .take_while(|_| producer.try_push(round, &payload).is_ok())
                .count();
            assert!(pushed >= (1 << 19) / 4008 - 1, "{pushed} records fit");
            assert_eq!(producer.try_push(0, &payload), Err(TryClaimError::Full));
            for _ in 0..pushed {
                assert_eq!(consumer.try_pop(&mut got), Ok(round));
                assert_eq!(got, payload);
            }
            assert_eq!(consumer.try_pop(&mut got), Err(TryReadError::Empty));
        }
    });
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_signal() {
    alone(|| {
        let (directory, path) = place();
        // 64 KiB of header and rows, 4 KiB of data.
        limit(Resource::RLIMIT_FSIZE, 69_631);
        let error = spsc::Options::new(4096)
            .create(&path)
            .expect_err("a byte too many");
        let CreateError::FileSizeLimit {
            needed_bytes: 69_632,
            limit_bytes: 69_631,
        } = error
        else {
            panic!("{error:?}")
        };
        let said = "the ring needs 69632 bytes, files are limited to 69631";
        assert_eq!(error.to_string(), said);
        let hint = "raise the limit (ulimit -f), or make the ring smaller";
        assert_eq!(error.hint(), Some(hint));
        assert_eq!(names(directory.path()), [""; 0], "nothing is left behind");
        let error = spsc::Options::new(4096).memfd("orders", &Default::default());
        assert!(
            matches!(error, Err(CreateError::FileSizeLimit { .. })),
            "{error:?}"
        );
        limit(Resource::RLIMIT_FSIZE, 69_632);
        spsc::Options::new(4096).create(&path).expect("just so");
    });
}

#[test]
fn a_file_that_was_cut_or_lost_its_blocks_is_refused_before_it_is_touched() {
    alone(|| {
        let (_directory, path) = place();
        spsc::Options::new(4096).create(&path).expect("a ring");
        let image = std::fs::read(&path).expect("its bytes");
        let file = File::options().write(true).open(&path).expect("the file");
        // SAFETY: only this test has the ring.
        let attach = || unsafe { spsc::Producer::attach(&path) };
        for (found, expected) in [(0, 2048), (2047, 2048), (4096, 69_632), (69_631, 69_632)] {
            file.set_len(found).expect("shorter");
            let error = attach().expect_err("too short");
            let said = format!("the file has {found} bytes, expected {expected}");
            assert_eq!(error.to_string(), said);
            let hint =
                "remove the file and create it again: a ring is not copied while it is in use";
            assert_eq!(error.hint(), Some(hint));
            let looked = inspect(&Location::from(&path)).expect_err("too short");
            assert_eq!(looked.to_string(), said);
            std::fs::write(&path, &image).expect("space");
        }
        nix::fcntl::fallocate(
            &file,
            nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE
                | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE,
            65_536,
            4096,
        )
        .expect("a hole");
        let error = attach().expect_err("a hole");
        let annulus::segment::AttachError::Open(OpenError::Sparse {
            allocated_bytes: 65_536,
            file_bytes: 69_632,
        }) = error
        else {
            panic!("{error:?}")
        };
        let said = "only 65536 bytes are allocated, expected all 69632: a sparse copy";
        assert_eq!(error.to_string(), said);
    });
}
