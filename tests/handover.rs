//! Rings without a name, handed to other processes over a UNIX socket.
//!
//! | file | question |
//! | --- | --- |
//! | this one | Do both sides get what they need, and nothing of each other's locks? |
//! | `seals` | Is what somebody could cut short refused? |
//! | `observers` | Can one who may only look do any harm, also to a takeover? |
//! | `holes` | What does an untrusting participant meet when a peer takes pages away? |
//! | `options` | Names, modes and pages that a creator and an attacher can choose |
//! | `peer` | the other process, and its descriptors |
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod handover {
    pub(crate) mod holes;
    pub(crate) mod observers;
    mod options;
    pub(crate) mod peer;
    mod seals;
}

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use annulus::segment::{AttachError, AttachOptions, CreateOptions, Role, inspect, share};
use annulus::{Location, ReadError, mpmc, spsc};

use handover::peer::{PART, Peer, RECORDS, SOCKET, patiently, receive, trusting};
use handover::{holes, observers};

/// Plays the other process; nothing when run by itself.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let mut socket = UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    let mut descriptors = receive(&socket).into_iter();
    let ring = descriptors.next().expect("the ring");
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
        "observer" => observers::look_and_try(ring, &mut socket),
        "slot holder" => {
            let locks = descriptors.next().expect("its locks");
            observers::hold_a_slot(Location::fd_with_locks(ring, locks), &mut socket);
        }
        "puncher" => holes::punch(ring),
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
