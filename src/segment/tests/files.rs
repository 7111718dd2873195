//! How files are made, and which ones are refused.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Barrier;

use super::children::Peer;
use super::{bytes, created, join_bytes, join_slots, place, slots};
use crate::geometry::{HeaderError, Kind};
use crate::layout::{HEADER_BYTES, MAGIC};
use crate::protocol::Attachment;
use crate::segment::location::FileSystem;
use crate::segment::newborn;
use crate::segment::{
    AttachError, AttachOptions, CreateError, CreateOptions, Location, OpenError, Role, attach,
    attach_untrusted, create, create_memfd, share,
};

fn open_error(result: Result<crate::segment::Mapped, AttachError>) -> OpenError {
    match result {
        Err(AttachError::Open(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn patch(path: &PathBuf, offset: u64, bytes: &[u8]) {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

#[test]
fn a_new_ring_has_its_size_its_blocks_and_its_mode() {
    let (directory, path) = created(&slots());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), slots().file_bytes);
    assert!(metadata.blocks() * 512 >= slots().file_bytes);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn the_mode_does_not_depend_on_the_umask() {
    let (_directory, path) = place();
    let mut peer = Peer::start("create under a umask", &path);
    assert_eq!(peer.hear(), "created");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o640
    );
}

#[test]
fn an_existing_name_is_never_touched() {
    let (directory, path) = place();
    let make = |path: &PathBuf| create(&Location::from(path), &bytes(), &CreateOptions::default());
    fs::write(&path, b"precious").unwrap();
    assert!(matches!(
        make(&path),
        Err(CreateError::AlreadyExists { .. })
    ));
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let dangling = directory.path().join("dangling");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &dangling).unwrap();
    assert!(matches!(
        make(&dangling),
        Err(CreateError::AlreadyExists { .. })
    ));
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn of_racing_creators_exactly_one_wins() {
    for _ in 0..50 {
        let (directory, path) = place();
        let start = Barrier::new(8);
        let created = std::thread::scope(|scope| {
            let creators: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        create(&Location::from(&path), &slots(), &CreateOptions::default())
                    })
                })
                .collect();
            let results = creators.into_iter().map(|creator| creator.join().unwrap());
            results
                .filter(|result| match result {
                    Ok(()) => true,
                    Err(CreateError::AlreadyExists { .. }) => false,
                    Err(other) => panic!("{other}"),
                })
                .count()
        });
        assert_eq!(created, 1);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        join_slots(&path).unwrap();
    }
}

#[test]
fn what_dead_creators_left_is_swept_and_what_living_ones_build_is_not() {
    let (directory, path) = place();
    let name = path.file_name().unwrap();
    let (dead, dead_path) = newborn::named(directory.path(), name).unwrap();
    let (_living, living_path) = newborn::named(directory.path(), name).unwrap();
    let other_path = directory.path().join(".orders.ring.annulus-mine");
    fs::write(&other_path, b"not of ours").unwrap();
    drop(dead);
    // More than once: what another test's `Command` has begun to run may have the dead one's
    // descriptor, and its lock, until it executes its program.
    let swept = (0..100_000).any(|_attempt| {
        std::thread::yield_now();
        newborn::sweep(directory.path(), name);
        !dead_path.exists()
    });
    assert!(swept);
    assert!(living_path.exists());
    assert!(other_path.exists());
}

#[test]
fn what_is_no_ring_is_refused_before_it_is_mapped() {
    let (_directory, path) = place();
    let refused = || open_error(join_bytes(&path, Role::Producer));
    assert!(matches!(refused(), OpenError::NotFound));

    fs::write(&path, b"short").unwrap();
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::TooShort {
            found: 5,
            expected: HEADER_BYTES
        })
    ));
    fs::write(&path, vec![0xa5; 1 << 16]).unwrap();
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::NotARing { .. })
    ));
    fs::write(&path, vec![0; 1 << 16]).unwrap();
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::StillBeingCreated)
    ));

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(
        refused(),
        OpenError::Io { .. } | OpenError::NotRegular { .. }
    ));
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(
        refused(),
        OpenError::NotRegular { found: "a pipe" }
    ));
}

#[test]
fn a_header_of_another_make_is_refused() {
    let (_directory, path) = created(&bytes());
    let refused = || open_error(join_bytes(&path, Role::Producer));
    patch(&path, 8, &99_u32.to_le_bytes());
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::OtherVersion { found: 99 })
    ));
    patch(&path, 8, &crate::layout::VERSION.to_le_bytes());
    patch(&path, 40, &4097_u64.to_le_bytes());
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::Impossible(_))
    ));
    patch(&path, 40, &4096_u64.to_le_bytes());
    patch(&path, 0, &(MAGIC + 1).to_le_bytes());
    assert!(matches!(
        refused(),
        OpenError::Header(HeaderError::NotARing { .. })
    ));
    patch(&path, 0, &MAGIC.to_le_bytes());
    join_bytes(&path, Role::Producer).unwrap();
    assert!(matches!(
        join_slots(&path),
        Err(AttachError::OtherKind {
            found: Kind::SpscBytes,
            expected: Kind::MpmcSlots
        })
    ));
}

#[test]
fn only_file_systems_that_are_known_to_behave_are_used() {
    for supported in [0x0102_1994, 0x9584_58f6, 0xef53, 0x5846_5342] {
        FileSystem::with_magic(supported).check(false).unwrap();
    }
    for (magic, name) in [
        (0x6969, "NFS"),
        (0x794c_7630, "overlayfs"),
        (0x0102_1997, "9p"),
    ] {
        let error = FileSystem::with_magic(magic).check(false).unwrap_err();
        assert_eq!((error.name, error.magic), (name, magic));
        FileSystem::with_magic(magic).check(true).unwrap();
    }
    let virtiofs = FileSystem::with_magic(0x6573_5546)
        .check(false)
        .unwrap_err();
    assert!(virtiofs.to_string().starts_with("FUSE or virtiofs"));
    // procfs is at hand to be refused for real.
    let location = Location::from("/proc/self/annulus.ring");
    let error = create(&location, &bytes(), &CreateOptions::default()).unwrap_err();
    assert!(matches!(error, CreateError::FileSystem(error) if error.name == "procfs"));
}

#[test]
fn what_a_file_system_is_known_to_do_goes_by_its_magic() {
    let [tmpfs, hugetlbfs, ext4, xfs, nfs] =
        [0x0102_1994, 0x9584_58f6, 0xef53, 0x5846_5342, 0x6969].map(FileSystem::with_magic);
    let counts = [tmpfs, hugetlbfs, ext4, xfs, nfs].map(FileSystem::counts_blocks);
    assert_eq!(counts, [true, false, true, true, false]);
    // Huge pages are whole ones; here they have 4096 bytes.
    let sizes = [0, 1, 4096, 4097];
    assert_eq!(
        sizes.map(|bytes| hugetlbfs.round_up(bytes)),
        [0, 4096, 4096, 8192]
    );
    assert_eq!(sizes.map(|bytes| tmpfs.round_up(bytes)), sizes);
    assert_eq!(hugetlbfs.round_up(u64::MAX), u64::MAX);
    let unknown = FileSystem::with_magic(1).check(false).unwrap_err();
    assert_eq!(unknown.name, "this file system");
}

#[test]
fn names_of_shared_memory_have_one_slash() {
    assert_eq!(Location::shm("/a.b").unwrap().to_string(), "/dev/shm/a.b");
    for wrong in ["", "/", "a", "//a", "/a/b", "/.", "/..", "/a\0"] {
        assert!(Location::shm(wrong).is_err(), "{wrong:?}");
    }
    assert!(Location::shm(&format!("/{}", "x".repeat(256))).is_err());
}

#[test]
fn a_memfd_is_private_and_sealed_and_shared_by_fresh_descriptions() {
    let fd = create_memfd("orders", &slots(), &CreateOptions::default()).unwrap();
    let file = fs::File::from(fd.try_clone().unwrap());
    assert_eq!(
        file.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
    assert!(file.set_len(4096).is_err(), "sealed");

    let location = Location::fd(fd);
    let options = AttachOptions::default();
    let first = attach(&location, Role::Producer, Kind::MpmcSlots, &options).unwrap();
    let given = Location::fd(first.share().unwrap());
    let second = attach(&given, Role::Consumer, Kind::MpmcSlots, &options).unwrap();
    assert_ne!(first.me(), second.me());
    assert!(first.is_alive(second.me()) && second.is_alive(first.me()));
    attach_untrusted(&given, Role::Consumer, Kind::MpmcSlots, &options).unwrap();
}

#[test]
fn a_memfd_that_can_shrink_is_refused() {
    let sealed = create_memfd("orders", &bytes(), &CreateOptions::default()).unwrap();
    let image = fs::read(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&sealed)
    ));
    let flags = nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
    let open = nix::sys::memfd::memfd_create("orders", flags).unwrap();
    let file = fs::File::from(open.try_clone().unwrap());
    file.write_all_at(&image.unwrap(), 0).unwrap();
    let location = Location::fd(share(&open).unwrap());
    let mut options = AttachOptions::default();
    let refused = attach(&location, Role::Producer, Kind::SpscBytes, &options);
    assert!(matches!(open_error(refused), OpenError::NotSealed));
    options.force_file_system = true;
    let untrusted = attach_untrusted(&location, Role::Producer, Kind::SpscBytes, &options);
    assert!(matches!(
        untrusted,
        Err(AttachError::Open(OpenError::NotSealed))
    ));
    attach(&location, Role::Producer, Kind::SpscBytes, &options).unwrap();
}

#[test]
fn a_path_is_too_open_for_peers_that_are_not_trusted() {
    let (_directory, path) = created(&bytes());
    let options = AttachOptions::default();
    let refused = attach_untrusted(&(&path).into(), Role::Producer, Kind::SpscBytes, &options);
    assert!(matches!(
        refused,
        Err(AttachError::Open(OpenError::NotSealed))
    ));
}
