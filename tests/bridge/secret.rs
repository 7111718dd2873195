//! Ends that prove a secret to each other, and proofs that are wrong, missing, old, or sent back.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use annulus::bridge::frame::{Code, Frame, Hello, PROOF_BYTES, StreamId};
use annulus::bridge::{Bridge, BridgeError, End, Settings};
use annulus::segment::AttachOptions;
use ring::hmac;

use crate::proxy::{Fault, cross_by, small};
use crate::rig::{
    PATIENCE, Place, Running, committed, producer, push, released, ring_end, settings, shows,
    wait_until,
};
use crate::suite::Way;
use crate::wire::{Peer, STREAM, data, hello, records, welcome};

/// As it stands in its file.
pub const OURS: &[u8] = b"what both ends know\n";
const THEIRS: &[u8] = b"what others know...\n";
const NONCE: [u8; PROOF_BYTES] = [7; PROOF_BYTES];
const RECEIVER: &str = "annulus bridge 2 receiver\0";
const SENDER: &str = "annulus bridge 2 sender\0";

pub fn write(path: &Path, secret: &[u8], mode: u32) {
    std::fs::write(path, secret).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn option(place: &Place, name: &str, secret: &[u8]) -> String {
    let path = place.path(name);
    write(&path, secret, 0o600);
    format!("secret={}", path.display())
}

fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// As the document says, by another library; over TCP.
fn prove(label: &str, frames: &[&[u8]]) -> [u8; PROOF_BYTES] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, OURS.trim_ascii_end());
    let said = [label.as_bytes(), &[0; 32], &frames.concat()].concat();
    hmac::sign(&key, &said).as_ref().try_into().unwrap()
}

/// A sender with ten records, and where it listens.
fn sender(silence: Duration) -> (Place, Running, String) {
    let place = Place::new();
    let path = place.ring("a", 1 << 16);
    push(&mut producer(&path), 0..10);
    let by = Settings {
        silence,
        drain_timeout: Duration::from_millis(50),
        ..settings()
    };
    let listen = format!("tcp-listen://127.0.0.1:0?{}", option(&place, "s", OURS));
    let sends = Running::with(&ring_end(&path), &listen, by).unwrap();
    let at = sends.at();
    (place, sends, at)
}

fn asking(name: &'static str) -> Hello<'static> {
    Hello {
        nonce: Some(NONCE),
        name,
        ..hello()
    }
}

/// A receiver that has said its hello, and what it is to prove.
fn challenged(at: &str, name: &'static str) -> (Peer, Vec<u8>) {
    let mut peer = Peer::new(TcpStream::connect(at).unwrap());
    let hello = Frame::Hello(asking(name));
    peer.say(&hello);
    let challenge = peer.until(|frame| match frame {
        Frame::Challenge(_) => Some(bytes_of(frame)),
        other => panic!("{other:?} before the challenge"),
    });
    (peer, [bytes_of(&hello), challenge].concat())
}

/// A receiver that is served; the sender has proved itself with its answer.
fn served(at: &str, name: &'static str) -> Peer {
    let (mut peer, said) = challenged(at, name);
    peer.say(&Frame::Proof(prove(RECEIVER, &[&said])));
    let proof = peer.until(|frame| match frame {
        Frame::Proof(proof) => Some(*proof),
        other => panic!("{other:?} before the proof"),
    });
    let answer = peer.until(|frame| match frame {
        Frame::Welcome(_) => Some(bytes_of(frame)),
        other => panic!("{other:?} and no welcome"),
    });
    assert_eq!(proof, prove(SENDER, &[&said, &answer]));
    peer
}

fn ten(frame: &Frame<'_>) -> Option<()> {
    matches!(frame, Frame::Data { .. }).then_some(())
}

#[test]
fn a_proof_with_a_changed_bit_is_none_and_half_a_one_is_waited_for_in_vain() {
    let (place, sends, at) = sender(PATIENCE);
    for bit in 0..PROOF_BYTES * 8 {
        let (mut peer, said) = challenged(&at, "tester");
        let mut proof = prove(RECEIVER, &[&said]);
        proof[bit / 8] ^= 1 << (bit % 8);
        peer.say(&Frame::Proof(proof));
        let (code, text) = peer.until_refused();
        assert_eq!(code, Code::Secret, "bit {bit}");
        assert!(text.contains("has not proved the sending end's"), "{text}");
    }
    let mut half = Vec::new();
    for cut in 0..48 {
        let (mut peer, said) = challenged(&at, "tester");
        let proof = bytes_of(&Frame::Proof(prove(RECEIVER, &[&said])));
        std::io::Write::write_all(&mut peer.0, &proof[..cut]).unwrap();
        if cut % 2 == 0 {
            peer.0.shutdown(std::net::Shutdown::Write).unwrap();
        }
        half.push(peer);
    }
    // Who proves has come behind all of them.
    served(&at, "tester").until(ten);
    let said = sends.said();
    let connected = said.iter().filter(|said| said.contains("connected with"));
    assert_eq!(connected.count(), 1, "{said:#?}");
    assert_eq!(released(&place.path("a")), 0);
}

#[test]
fn a_proof_of_before_proves_nothing_nor_does_one_of_the_other_side() {
    let (_place, sends, at) = sender(PATIENCE);
    let (mut peer, said) = challenged(&at, "tester");
    let old = prove(RECEIVER, &[&said]);
    peer.say(&Frame::Proof(old));
    let theirs = peer.until(|frame| match frame {
        Frame::Proof(proof) => Some(*proof),
        _ => None,
    });
    peer.until(ten);
    let as_sender = |said: &[u8]| prove(SENDER, &[said]);
    let without_a_name = |said: &[u8]| prove("", &[said]);
    // The very bytes of before; the sender's own; such as a sender could have made.
    for proof in [
        &|_: &[u8]| old,
        &|_: &[u8]| theirs,
        &as_sender,
        &without_a_name,
    ] as [&dyn Fn(&[u8]) -> [u8; PROOF_BYTES]; 4]
    {
        let (mut peer, said) = challenged(&at, "tester");
        peer.say(&Frame::Proof(proof(&said)));
        assert_eq!(peer.until_refused().0, Code::Secret);
    }
    drop(sends);
}

#[test]
fn who_has_not_proved_anything_takes_no_place_and_no_name_and_ends_nobody() {
    let (place, sends, at) = sender(PATIENCE);
    let (_evil, _) = challenged(&at, "evil");
    // The one place is another's all the same.
    let mut tester = served(&at, "tester");
    tester.until(ten);
    // Of the same name, and of one that would not be served, and would hear that.
    let (mut twin, _) = challenged(&at, "tester");
    let (mut other, _) = challenged(&at, "other");
    twin.say(&Frame::Proof([0; PROOF_BYTES]));
    other.say(&Frame::Proof([0; PROOF_BYTES]));
    for peer in [&mut twin, &mut other] {
        assert_eq!(peer.until_refused().0, Code::Secret);
    }
    tester.say(&Frame::Ack {
        confirmed: 5,
        credit: 100,
    });
    tester.until(|frame| match frame {
        Frame::Data { first: 5, .. } => Some(()),
        _ => None,
    });
    let names: Vec<String> = sends
        .figures()
        .subscribers
        .into_iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["tester"]);
    let said = sends.said();
    assert!(
        !said.iter().any(|said| said.contains("connected again")),
        "{said:#?}"
    );
    drop(sends);
    // Nor in the ring's file: the next bridge knows whom it serves.
    let listen = format!("tcp-listen://127.0.0.1:0?{}", option(&place, "s", OURS));
    let sends = Running::new(&ring_end(&place.path("a")), &listen);
    let at = sends.at();
    served(&at, "tester").until(ten);
}

#[test]
fn who_never_proves_anything_is_left_in_time() {
    let (_place, sends, at) = sender(Duration::from_millis(300));
    let (mut peer, _) = challenged(&at, "tester");
    let beats = std::thread::spawn(move || {
        let beat = bytes_of(&Frame::Heartbeat);
        // Ends when it is left.
        while std::io::Write::write_all(&mut peer.0, &beat).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    sends.wait_until_it_says("introduced itself within 300 ms");
    beats.join().unwrap();
}

/// A receiver with a secret, at whose socket a sender of the test's own making calls.
fn receiver() -> (Place, Running, String) {
    let place = Place::new();
    let path = place.ring("b", 1 << 16);
    let listen = format!("tcp-listen://127.0.0.1:0?{}", option(&place, "s", OURS));
    let receives = Running::new(&listen, &ring_end(&path));
    let at = receives.at();
    (place, receives, at)
}

/// What a receiver has said and what it was told by `challenge`; then its proof of that.
fn asked(at: &str, challenge: &Frame<'_>) -> (Peer, Vec<u8>, [u8; PROOF_BYTES]) {
    let mut peer = Peer::new(TcpStream::connect(at).unwrap());
    let hello = peer.until(|frame| match frame {
        Frame::Hello(hello) => Some((bytes_of(frame), hello.nonce.unwrap())),
        _ => None,
    });
    assert_ne!(hello.1, [0; PROOF_BYTES]);
    peer.say(challenge);
    let said = [hello.0, bytes_of(challenge)].concat();
    let proof = peer.until(|frame| match frame {
        Frame::Proof(proof) => Some(*proof),
        _ => None,
    });
    assert_eq!(proof, prove(RECEIVER, &[&said]));
    (peer, said, proof)
}

#[test]
fn a_sender_that_proves_nothing_writes_nothing() {
    let (place, receives, at) = receiver();
    let challenge = Frame::Challenge(NONCE);
    let answer = welcome(STREAM, 0);
    let three = [bytes_of(&answer), data(0, 3, &records(3))].concat();
    // It does not even challenge.
    let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
    std::io::Write::write_all(&mut peer.0, &three).unwrap();
    assert_eq!(peer.until_refused().0, Code::Secret);
    // A true one, whose words are kept.
    let (mut peer, said, _) = asked(&at, &challenge);
    let old = prove(SENDER, &[&said, &bytes_of(&answer)]);
    peer.say(&Frame::Proof(old));
    peer.say(&answer);
    receives.wait_until_it_says("connected with");
    let gone = format!("disconnected from {}", peer.0.local_addr().unwrap());
    drop(peer);
    receives.wait_until_it_says(&gone);
    let other = welcome(
        StreamId {
            generation: 9,
            ..STREAM
        },
        0,
    );
    type Proof<'p> = &'p dyn Fn(&[u8], [u8; PROOF_BYTES]) -> [u8; PROOF_BYTES];
    let proofs: [(&str, Proof<'_>); 4] = [
        ("of before", &|_, _| old),
        ("sent back", &|_, theirs| theirs),
        ("of a receiver", &|said, _| {
            prove(RECEIVER, &[said, &bytes_of(&answer)])
        }),
        ("of another answer", &|said, _| {
            prove(SENDER, &[said, &bytes_of(&other)])
        }),
    ];
    for (what, proof) in proofs {
        let (mut peer, said, theirs) = asked(&at, &challenge);
        peer.say(&Frame::Proof(proof(&said, theirs)));
        std::io::Write::write_all(&mut peer.0, &three).unwrap();
        assert_eq!(peer.until_refused().0, Code::Secret, "{what}");
    }
    assert_eq!(committed(&place.path("b")), 0);
    let (mut peer, said, _) = asked(&at, &challenge);
    peer.say(&Frame::Proof(prove(SENDER, &[&said, &bytes_of(&answer)])));
    std::io::Write::write_all(&mut peer.0, &three).unwrap();
    peer.until_acked(3);
}

#[test]
fn only_a_proved_refusal_ends_a_bridge_that_is_called() {
    let (_place, receives, at) = receiver();
    let challenge = Frame::Challenge(NONCE);
    let (code, text) = (Code::OtherStream, "go away");
    let refusal = Frame::Refusal { code, text };
    let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
    peer.say(&refusal);
    receives.wait_until_it_says("go away");
    let (mut peer, _, theirs) = asked(&at, &challenge);
    peer.say(&Frame::Proof(theirs));
    peer.say(&refusal);
    wait_until("it is heard", || {
        let said = receives.said();
        said.iter().filter(|said| said.contains("go away")).count() == 2
    });
    let (mut peer, said, _) = asked(&at, &challenge);
    peer.say(&Frame::Proof(prove(SENDER, &[&said, &bytes_of(&refusal)])));
    peer.say(&refusal);
    let ended = receives.end().unwrap_err();
    assert!(
        matches!(
            &ended,
            BridgeError::Refused {
                code: Code::OtherStream,
                ..
            }
        ),
        "{ended}"
    );
}

#[test]
fn both_ends_are_told_which_of_them_lacks_the_secret_or_has_another() {
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 16), place.ring("b", 1 << 16));
    push(&mut producer(&a), 0..1);
    let (a, b) = (ring_end(&a), ring_end(&b));
    let (ours, theirs) = (option(&place, "s", OURS), option(&place, "t", THEIRS));
    for (sending, receiving, why) in [
        (&*ours, "", "and the receiving end has none"),
        ("", &ours, "and the sending end has none"),
        (&ours, &theirs, "has not proved the sending end's secret"),
        (&theirs, &ours, "has not proved the sending end's secret"),
    ] {
        let sends = Running::new(&a, &format!("tcp-listen://127.0.0.1:0?{sending}"));
        let receives = Running::new(&format!("tcp://{}?{receiving}", sends.at()), &b);
        let refused = receives.end().unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
        assert!(refused.hint().unwrap().contains("secret=FILE"));
        assert!(!shows(&format!("{refused:?}")));
        sends.wait_until_it_says(why);
        drop(sends);
        // The other way round, where a receiver that has a secret is ended by nobody.
        let receives = Running::new(&format!("tcp-listen://127.0.0.1:0?{receiving}"), &b);
        let sends = Running::new(&a, &format!("tcp://{}?{sending}", receives.at()));
        sends.wait_until_it_says(why);
        if receiving.is_empty() {
            assert!(receives.end().unwrap_err().to_string().contains(why));
        } else {
            receives.wait_until_it_says(why);
        }
    }
    assert_eq!(
        (released(&place.path("a")), committed(&place.path("b"))),
        (0, 0)
    );
}

#[test]
fn a_secret_that_others_can_read_is_refused_and_none_is_shown() {
    let place = Place::new();
    let ring = ring_end(&place.ring("a", 4096));
    let secret = option(&place, "s", OURS);
    let end = format!("tcp://127.0.0.1:1?{secret}");
    let parsed: End = end.parse().unwrap();
    assert!(!shows(&format!("{parsed:?}")));
    // SAFETY: nobody but the test uses the file, and through this library only.
    let bridge = unsafe {
        let ring = ring.parse().unwrap();
        Bridge::attach(ring, parsed, settings(), &AttachOptions::default())
    };
    let shown = format!("{:?}", bridge.unwrap());
    assert!(shown.contains("Secret(..)") && !shows(&shown), "{shown}");
    write(&place.path("s"), OURS, 0o644);
    let refused = Running::with(&ring, &end, settings()).err().unwrap();
    assert!(
        refused.to_string().contains("its mode is 0644"),
        "{refused}"
    );
    assert!(refused.hint().unwrap().contains("chmod 600"));
}

/// Frames are as long as they are: the greeting, and what follows it, in both directions.
#[test]
fn a_greeting_may_be_cut_behind_any_byte_and_each_byte_of_it_be_changed() {
    const BYTES: usize = 250;
    let by = Settings {
        // A length that was changed makes a wait for bytes that do not come.
        silence: Duration::from_millis(50),
        ..small()
    };
    let faults = |number: usize| match (number / 4, number % 4) {
        (BYTES.., _) => (Fault::None, Fault::None),
        (at, 0) => (Fault::CutAfter(at), Fault::None),
        (at, 1) => (Fault::None, Fault::CutAfter(at)),
        (at, 2) => (Fault::Flip(at), Fault::None),
        (at, _) => (Fault::None, Fault::Flip(at)),
    };
    assert!(cross_by(Way::Secret, 1000, &by, faults) > 2 * BYTES);
}

/// A dialing receiver hears an old greeting of a true sender, from one that kept all of its words.
#[test]
fn an_old_greeting_convinces_no_receiver_that_calls() {
    let place = Place::new();
    let path = place.ring("b", 1 << 16);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let secret = option(&place, "s", OURS);
    let url = format!("tcp://{}?{secret}", server.local_addr().unwrap());
    let receives = Running::new(&url, &ring_end(&path));
    let (challenge, answer) = (Frame::Challenge(NONCE), welcome(STREAM, 0));
    let mut old = None;
    for life in 0..3 {
        let mut peer = Peer::new(server.accept().unwrap().0);
        let hello = peer.until(|frame| matches!(frame, Frame::Hello(_)).then(|| bytes_of(frame)));
        peer.say(&challenge);
        let fresh = prove(SENDER, &[&hello, &bytes_of(&challenge), &bytes_of(&answer)]);
        peer.say(&Frame::Proof(*old.get_or_insert(fresh)));
        peer.say(&answer);
        if life > 0 {
            assert_eq!(peer.until_refused().0, Code::Secret);
            continue;
        }
        receives.wait_until_it_says("connected with");
    }
    assert_eq!(committed(&path), 0);
}
