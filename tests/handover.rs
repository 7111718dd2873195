//! Rings without a name, handed to other processes, and what a creator and an attacher can choose:
//! permissions, seals, POSIX names, pages.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{File, Permissions};
use std::io::{IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use annulus::segment::{
    AttachError, AttachOptions, CreateError, CreateOptions, OpenError, Role, inspect, remove, share,
};
use annulus::{Location, ReadError, Wait, mpmc, spsc};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, setuid};

/// Set in a process that was started to play a part.
const PART: &str = "ANNULUS_TEST_PART";
/// The socket over which it gets its descriptor.
const SOCKET: &str = "ANNULUS_TEST_SOCKET";
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(60);
const RECORDS: u32 = 1000;

fn patiently() -> Wait {
    Wait::block().for_at_most(PATIENCE)
}

/// Another process, to which a ring is handed, and the line to it.
struct Peer {
    child: Child,
    socket: UnixStream,
}

impl Peer {
    /// Starts this program to play `part`, and gives it the file behind `descriptor`.
    fn start(part: &str, descriptor: impl AsFd) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "part", "--nocapture"])
            .env(PART, part)
            .env(SOCKET, &path);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&socket, share(descriptor).unwrap());
        Self { child, socket }
    }

    /// Waits until it says that it has come so far.
    fn until_ready(&mut self) {
        let mut byte = [0];
        self.socket.read_exact(&mut byte).unwrap();
    }

    /// Lets it go on.
    fn go_on(&mut self) {
        self.socket.write_all(&[1]).unwrap();
    }

    fn succeeds(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn send(socket: &UnixStream, descriptor: OwnedFd) {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let bytes = [IoSlice::new(b"r")];
    sendmsg::<()>(socket.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut space), flags).unwrap();
    let rights = message.cmsgs().unwrap().find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(rights.expect("a descriptor")) }
}

/// Attaches by `$attach`, which is unsafe for handles that trust their peers.
macro_rules! trusting {
    ($handle:ty, $location:expr) => {{
        // SAFETY: only the processes of this test have the ring, and they use this library.
        unsafe { <$handle>::attach($location) }
    }};
}

/// Plays the other process; nothing when run by itself.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let mut socket = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let ring = receive(&socket);
    let options = AttachOptions::default();
    match part.as_str() {
        "spsc consumer" => {
            let mut consumer = trusting!(spsc::Consumer, ring).unwrap();
            for tag in 0..RECORDS {
                let record = consumer.read(patiently()).unwrap();
                assert_eq!((record.tag(), &record[..]), (tag, &tag.to_le_bytes()[..]));
            }
            let end = consumer.read(patiently()).map(|record| record.tag());
            assert_eq!(end, Err(ReadError::Closed));
        }
        "untrusting spsc consumer" => {
            let mut consumer = spsc::Consumer::attach_untrusting(ring, &options).unwrap();
            let mut payload = Vec::new();
            for tag in 0..RECORDS {
                assert_eq!(consumer.pop(&mut payload, patiently()), Ok(tag));
                assert_eq!(payload, tag.to_le_bytes());
            }
            assert_eq!(
                consumer.pop(&mut payload, patiently()),
                Err(ReadError::Closed)
            );
        }
        "mpmc echo" => {
            let consumer = mpmc::Consumer::attach_untrusting(Location::fd(ring), &options);
            let consumer = consumer.unwrap();
            let mut payload = Vec::new();
            let mut sum = 0;
            while let Ok(tag) = consumer.pop(&mut payload, patiently()) {
                assert_eq!(payload, tag.to_le_bytes());
                sum += tag;
            }
            socket.write_all(&sum.to_le_bytes()).unwrap();
        }
        "holder" => {
            let mut producer = trusting!(spsc::Producer, ring).unwrap();
            producer.try_push(1, b"kept").unwrap();
            let _claim = producer.try_claim(8).unwrap();
            socket.write_all(&[1]).unwrap();
            // Ends by being killed, or with the other end of the line.
            let _end = socket.read_exact(&mut [0]);
        }
        other => panic!("no such part: {other}"),
    }
}

#[test]
fn a_ring_without_a_name_is_handed_over_and_used_by_two_processes() {
    for part in ["spsc consumer", "untrusting spsc consumer"] {
        let ring = spsc::Options::new(4096)
            .memfd("test", &CreateOptions::default())
            .unwrap();
        let peer = Peer::start(part, &ring);
        let mut producer = trusting!(spsc::Producer, ring).unwrap();
        for tag in 0..RECORDS {
            producer.push(tag, &tag.to_le_bytes(), patiently()).unwrap();
        }
        producer.close();
        peer.succeeds();
    }
}

#[test]
fn neither_side_need_trust_the_other() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let peer = Peer::start("untrusting spsc consumer", &ring);
    let options = AttachOptions::default();
    let mut producer = spsc::Producer::attach_untrusting(ring, &options).unwrap();
    for tag in 0..RECORDS {
        producer.push(tag, &tag.to_le_bytes(), patiently()).unwrap();
    }
    producer.close();
    peer.succeeds();

    let ring = mpmc::Options::new(8, 16)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let mut peers: Vec<_> = (0..3).map(|_| Peer::start("mpmc echo", &ring)).collect();
    let producer = mpmc::Producer::attach_untrusting(ring, &options).unwrap();
    for tag in 0..RECORDS {
        producer.push(tag, &tag.to_le_bytes(), patiently()).unwrap();
    }
    producer.close();
    let sums = peers.iter_mut().map(|peer| {
        let mut sum = [0; 4];
        peer.socket.read_exact(&mut sum).unwrap();
        u32::from_le_bytes(sum)
    });
    assert_eq!(sums.sum::<u32>(), (0..RECORDS).sum::<u32>());
    peers.into_iter().for_each(Peer::succeeds);
}

/// Were the descriptor itself sent, both processes would have one description and so get each
/// other's locks, and the giver's copy would keep a dead receiver's lock.
#[test]
fn what_is_handed_over_shares_no_lock_with_its_giver() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let mut peer = Peer::start("holder", &ring);
    peer.until_ready();
    let location = Location::fd(ring);
    let second = trusting!(spsc::Producer, &location).unwrap_err();
    let pid = peer.child.id();
    assert!(
        matches!(second, AttachError::RoleTaken { role: Role::Producer, pid: p, .. } if p == pid),
        "{second:?}"
    );
    assert!(inspect(&location).unwrap().participants[0].is_alive);
    peer.kill();

    let mut producer = trusting!(spsc::Producer, &location).unwrap();
    assert_eq!(producer.committed_records(), 1, "what was committed stays");
    producer.try_push(2, b"more").unwrap();
    let mut consumer = trusting!(spsc::Consumer, &location).unwrap();
    assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(1));
    assert_eq!(consumer.try_read().map(|record| record.tag()), Ok(2));
}

/// Attaching opens the file anew as well; this is what others may do with what they are given.
#[test]
fn what_is_shared_is_another_description_of_the_same_file() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let mut shared = File::from(share(&ring).unwrap());
    let mut ring = File::from(ring);
    shared.seek(SeekFrom::Start(100)).unwrap();
    assert_eq!(ring.stream_position().unwrap(), 0, "one description");
    let [mine, theirs] = [&ring, &shared].map(|file| file.metadata().unwrap());
    assert_eq!((mine.dev(), mine.ino()), (theirs.dev(), theirs.ino()));
}

#[test]
fn a_peer_that_ends_by_itself_detaches() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let mut peer = Peer::start("holder", &ring);
    peer.until_ready();
    peer.go_on();
    peer.succeeds();
    let snapshot = inspect(&Location::fd(ring)).unwrap();
    assert_eq!(snapshot.participants, []);
    assert!(snapshot.is_anonymous);
}

#[test]
fn a_memfd_is_sealed_against_changes_of_its_size() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let seals = SealFlag::from_bits_retain(fcntl(&ring, FcntlArg::F_GET_SEALS).unwrap());
    assert!(
        seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
        "{seals:?}"
    );
    let file = File::from(ring.try_clone().unwrap());
    let size = file.metadata().unwrap().len();
    for wrong in [0, size - 1, size + 1] {
        let refused = file.set_len(wrong).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{wrong} bytes");
    }
    assert_eq!(file.metadata().unwrap().len(), size);
    trusting!(spsc::Producer, ring).unwrap();
}

/// A memfd that is a ring to the last byte, but can be cut short.
fn unsealed() -> OwnedFd {
    let sealed = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let sealed = File::from(sealed);
    let mut bytes = vec![0; usize::try_from(sealed.metadata().unwrap().len()).unwrap()];
    sealed.read_exact_at(&mut bytes, 0).unwrap();
    let copy = File::from(memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    copy.write_all_at(&bytes, 0).unwrap();
    copy.into()
}

#[test]
fn what_somebody_could_cut_short_is_refused() {
    let options = AttachOptions::default();
    let unsealed = Location::fd(unsealed());
    let refused = trusting!(spsc::Producer, &unsealed).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "{refused:?}"
    );
    let refused = spsc::Producer::attach_untrusting(&unsealed, &options).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "{refused:?}"
    );

    let forced = AttachOptions {
        force_file_system: true,
        ..options.clone()
    };
    // SAFETY: as in `trusting`.
    unsafe { spsc::Producer::attach_with(&unsealed, &forced) }.unwrap();
    let refused = spsc::Consumer::attach_untrusting(&unsealed, &forced).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "forced: {refused:?}"
    );

    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let named = folder.path().join("named.ring");
    mpmc::Options::new(8, 16).create(&named).unwrap();
    let refused = mpmc::Consumer::attach_untrusting(&named, &options).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "named: {refused:?}"
    );
}

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
    alone("the_mode_is_what_was_asked_for_whatever_the_umask", || {
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
    });
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
        "memory_beyond_the_limit_is_not_locked_and_the_numbers_are_told",
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
