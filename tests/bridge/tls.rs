//! Who is at the other end: certificates that are signed by whom they have to be, and others.

use std::io::Write;
use std::net::TcpStream;

use annulus::bridge::frame::Frame;
use annulus::bridge::{BridgeError, Settings};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConnection, StreamOwned};

use crate::authority::{Authority, Files, ca};
use crate::proxy::{Fault, cross_by, small};
use crate::rig::{
    PATIENCE, Place, Running, committed, consumer, pop, producer, push, released, ring_end,
    settings,
};
use crate::suite::{Pair, Way};
use crate::wire::{Peer, STREAM, data, hello, records, welcome};

/// A ring that has a record, and one that lacks it.
fn rings() -> (Place, String, String) {
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 16), place.ring("b", 1 << 16));
    push(&mut producer(&a), 0..1);
    (place, ring_end(&a), ring_end(&b))
}

/// Nothing has crossed.
#[track_caller]
fn assert_nothing_crossed(place: &Place) {
    assert_eq!(released(&place.path("a")), 0);
    assert_eq!(committed(&place.path("b")), 0);
}

#[test]
fn who_calls_speaks_only_to_whom_its_authority_has_signed_and_by_his_name() {
    let (place, a, b) = rings();
    let ours = Authority::new(&place, "ours");
    let _theirs = Authority::new(&place, "theirs");
    let listen = |files: &Files| format!("tls-listen://127.0.0.1:0?{}", files.own());
    for (name, authority, why) in [
        ("127.0.0.1", "theirs", "UnknownIssuer"),
        ("127.0.0.2", "ours", "certificate not valid for name"),
        ("example.org", "ours", "certificate not valid for name"),
    ] {
        let sends = Running::new(&a, &listen(&ours.signs(name)));
        let dial = format!("tls://{}?{}", sends.at(), ca(&place, authority));
        let receives = Running::new(&dial, &b);
        receives.wait_until_it_says(why);
        // It calls again, and is refused again: the other end hears of it too.
        sends.wait_until_it_says("received fatal alert");
        assert_nothing_crossed(&place);
    }
    let sends = Running::new(&a, &listen(&ours.signs("127.0.0.1")));
    let dial = format!("tls://{}?{}", sends.at(), ca(&place, "ours"));
    let receives = Running::new(&dial, &b);
    pop(&mut consumer(&place.path("b")), 0..1);
    assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
}

#[test]
fn who_listens_speaks_only_to_callers_whom_its_authority_has_signed() {
    let (place, a, b) = rings();
    let (ours, theirs) = (
        Authority::new(&place, "ours"),
        Authority::new(&place, "theirs"),
    );
    let own = ours.signs("127.0.0.1").own();
    let listen = format!("tls-listen://127.0.0.1:0?{own}&{}", ca(&place, "ours"));
    let sends = Running::new(&a, &listen);
    let dial = format!("tls://{}?{}", sends.at(), ca(&place, "ours"));
    for (files, why) in [
        (String::new(), "peer sent no certificates"),
        (theirs.signs("caller").own(), "UnknownIssuer"),
    ] {
        let receives = Running::new(&format!("{dial}&{files}"), &b);
        sends.wait_until_it_says(why);
        receives.wait_until_it_says("alert");
        assert_nothing_crossed(&place);
    }
    let caller = ours.signs("caller").own();
    let receives = Running::new(&format!("{dial}&{caller}"), &b);
    pop(&mut consumer(&place.path("b")), 0..1);
    assert!(receives.stop().all_confirmed && sends.stop().all_confirmed);
}

#[test]
fn an_end_in_the_clear_and_one_that_is_not_do_not_understand_each_other() {
    let (place, a, b) = rings();
    let own = Authority::new(&place, "ours").signs("127.0.0.1").own();
    let sends = Running::new(&a, &format!("tls-listen://127.0.0.1:0?{own}"));
    let receives = Running::new(&format!("tcp://{}", sends.at()), &b);
    sends.wait_until_it_says("corrupt message");
    drop((sends, receives));
    let sends = Running::new(&a, "tcp-listen://127.0.0.1:0");
    let dial = format!("tls://{}?{}", sends.at(), ca(&place, "ours"));
    let receives = Running::new(&dial, &b);
    sends.wait_until_it_says("expected 1 to 11");
    drop((sends, receives));
    assert_nothing_crossed(&place);
}

#[test]
fn credentials_that_cannot_be_used_are_told_before_anything_is_begun() {
    let (place, a, b) = rings();
    let files = Authority::new(&place, "ours").signs("127.0.0.1");
    let (cert, key) = (files.cert.display(), files.key.display());
    let other_key = Authority::new(&place, "theirs").signs("other").key;
    std::fs::write(place.path("empty"), "").unwrap();
    let empty = place.path("empty");
    for (source, destination, why) in [
        (
            &*a,
            "tls-listen://127.0.0.1:0".to_owned(),
            "needs a certificate".to_owned(),
        ),
        (
            &a,
            format!("tls-listen://127.0.0.1:0?cert={cert}"),
            "go together".to_owned(),
        ),
        (&a, format!("tls://h:1?key={key}"), "go together".to_owned()),
        (
            &a,
            format!("tls://h:1?ca={}", empty.display()),
            format!("{}: there is no", empty.display()),
        ),
        (
            &a,
            "tls://h:1?ca=/nowhere/ca.pem".to_owned(),
            "/nowhere/ca.pem: ".to_owned(),
        ),
        (
            &a,
            format!("tls://h:1?cert={key}&key={key}"),
            "there is no certificate".to_owned(),
        ),
        (
            &a,
            format!(
                "tls-listen://127.0.0.1:0?cert={cert}&key={}",
                other_key.display()
            ),
            format!("cannot use {cert}: "),
        ),
        (
            &a,
            format!("tls-listen://127.0.0.1:0?cert={cert}&key={cert}"),
            format!("{cert}: "),
        ),
    ] {
        let refused = Running::with(source, &destination, settings()).err();
        let said = refused
            .as_ref()
            .map(BridgeError::to_string)
            .unwrap_or_default();
        assert!(said.contains(&why), "{destination}: {said:?}, not {why:?}");
    }
    drop(
        Running::with(
            &format!("tls://127.0.0.1:1?{}", ca(&place, "ours")),
            &b,
            settings(),
        )
        .unwrap(),
    );
}

/// What rustls has taken before the handshake may never leave this end.
#[test]
fn plain_framings_are_refused() {
    for end in ["tls://h:1?framing=lines", "tls-listen://h:1?framing=len32"] {
        let refused = end.parse::<annulus::bridge::End>().unwrap_err();
        assert!(
            refused.to_string().contains("only framing=annulus"),
            "{refused}"
        );
    }
}

#[test]
fn an_encrypted_connection_may_be_cut_behind_any_byte_of_either_direction() {
    // Most of them within the handshake, which takes some 350 bytes one way and 1000 the other.
    const CUTS: usize = 120;
    let cut = |number: usize| match number {
        number if number >= CUTS => (Fault::None, Fault::None),
        number if number.is_multiple_of(2) => (Fault::CutAfter(number * 5), Fault::None),
        number => (Fault::None, Fault::CutAfter(number * 13)),
    };
    assert!(cross_by(Way::Tls, 3000, &small(), cut) > 60);
}

#[test]
fn encrypted_bytes_may_come_one_by_one() {
    let alone = |_| (Fault::SingleBytes, Fault::SingleBytes);
    assert_eq!(cross_by(Way::Tls, 300, &small(), alone), 1);
}

#[test]
fn an_encrypted_byte_that_is_changed_ends_the_connection() {
    // Each greeting counts from end to end; behind them some bytes mean nothing to anybody.
    const GREETINGS: usize = 60;
    let flip = |number: usize| match number {
        number if number >= 2 * GREETINGS => (Fault::None, Fault::None),
        number if number >= GREETINGS => (Fault::None, Fault::Flip(number * 20)),
        number if number.is_multiple_of(2) => (Fault::Flip(number * 2), Fault::None),
        number => (Fault::None, Fault::Flip(number + 10)),
    };
    let by = annulus::bridge::Settings {
        // A length that was changed makes a wait for bytes that do not come.
        silence: std::time::Duration::from_millis(200),
        ..small()
    };
    let taken = cross_by(Way::Tls, 1500, &by, flip);
    assert!(taken > GREETINGS, "{taken}");
}

/// Much more than any buffer holds, in records larger than a record of TLS.
#[test]
fn large_records_cross_while_neither_end_waits_for_the_other() {
    let pair = Pair::new(Way::Tls, 1 << 22, 1 << 22);
    let (path_a, path_b) = (pair.place.path("a"), pair.place.path("b"));
    let sends = Running::new(&pair.a(), &pair.listen(""));
    let receives = Running::new(&pair.dial(&sends.at(), ""), &pair.b());
    let bytes =
        |number: u64| vec![number.to_le_bytes()[0]; 100_000 + usize::from(number.to_le_bytes()[0])];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut producer = producer(&path_a);
            for number in 0..500 {
                let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
                producer.push(0, &bytes(number), wait).unwrap();
            }
        });
        let mut consumer = consumer(&path_b);
        let mut found = Vec::new();
        for number in 0..500 {
            let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
            consumer.pop(&mut found, wait).unwrap();
            assert!(found == bytes(number), "record {number}");
        }
    });
    assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
}

/// A caller of its own making, behind its handshake.
fn encrypted(place: &Place, at: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(place.path("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let mut tls = ClientConnection::new(config.into(), name).unwrap();
    let mut stream = TcpStream::connect(at).unwrap();
    tls.complete_io(&mut stream).unwrap();
    StreamOwned::new(tls, stream)
}

/// Says all of it and takes its leave, in one flight. The line stays.
fn say_and_leave(stream: &mut StreamOwned<ClientConnection, TcpStream>, bytes: &[u8]) {
    stream.conn.writer().write_all(bytes).unwrap();
    stream.conn.send_close_notify();
    let mut flight = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut flight).unwrap();
    }
    stream.sock.write_all(&flight).unwrap();
}

#[test]
fn a_peer_that_leaves_with_its_last_words_is_gone_once_they_are_heard() {
    let by = Settings {
        silence: 10 * PATIENCE,
        ..settings()
    };
    // A receiver that has hardly begun.
    let pair = Pair::new(Way::Tls, 1 << 16, 1 << 16);
    push(&mut producer(&pair.place.path("a")), 0..10);
    let sends = Running::with(&pair.a(), &pair.listen(""), by.clone()).unwrap();
    let mut peer = encrypted(&pair.place, &sends.at());
    let mut bytes = Vec::new();
    Frame::Hello(hello()).encode(&mut bytes);
    say_and_leave(&mut peer, &bytes);
    sends.wait_until_it_says("as tester");
    sends.wait_until_it_says("(tester): the peer hung up");
    drop(sends);
    // A sender, whose records are taken all the same.
    let receives = Running::with(&pair.listen(""), &pair.b(), by).unwrap();
    let mut peer = Peer(encrypted(&pair.place, &receives.at()));
    peer.until(|frame| matches!(frame, Frame::Hello(_)).then_some(()));
    let mut bytes = Vec::new();
    welcome(STREAM, 0).encode(&mut bytes);
    bytes.extend(data(0, 3, &records(3)));
    say_and_leave(&mut peer.0, &bytes);
    receives.wait_until_it_says("connected with");
    receives.wait_until_it_says("the peer hung up");
    assert_eq!(committed(&pair.place.path("b")), 3);
}
