//! Callers at a receiving end that have not said who they are: none of them keeps a true one out.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use annulus::bridge::Settings;
use annulus::bridge::frame::{Code, Frame, Hello};

use crate::rig::{
    PATIENCE, Place, Running, committed, consumer, pop, producer, push, ring_end, settings,
};
use crate::suite::{Pair, Way};
use crate::wire::{Peer, STREAM, data, records, welcome};

fn patient() -> Settings {
    Settings {
        silence: 10 * PATIENCE,
        ..settings()
    }
}

/// One says nothing, one half of its first words, one something that nobody understands.
fn callers(at: &str, way: Way) -> Vec<TcpStream> {
    let half: &[u8] = match way {
        // A record that announces 512 bytes of handshake, and some of them.
        Way::Tls => &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        _ => &[64, 0, 0, 0, 2, 0, 0],
    };
    let say = |words: &[u8]| {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(words).unwrap();
        stream
    };
    vec![say(&[]), say(half), say(&[0xaa; 100])]
}

#[test]
fn who_says_nothing_or_half_of_it_keeps_no_sender_out() {
    for way in [Way::Tcp, Way::Tls] {
        let pair = Pair::new(way, 1 << 16, 1 << 16);
        push(&mut producer(&pair.place.path("a")), 0..10);
        let receives = Running::with(&pair.listen(""), &pair.b(), patient()).unwrap();
        let at = receives.at();
        let _callers = callers(&at, way);
        let sends = Running::new(&pair.a(), &pair.dial(&at, ""));
        pop(&mut consumer(&pair.place.path("b")), 0..10);
        // One more, while somebody is served.
        let _more = callers(&at, way);
        push(&mut producer(&pair.place.path("a")), 10..20);
        pop(&mut consumer(&pair.place.path("b")), 10..20);
        assert!(sends.stop().all_confirmed);
        // The next one too.
        push(&mut producer(&pair.place.path("a")), 20..30);
        let sends = Running::new(&pair.a(), &pair.dial(&at, ""));
        pop(&mut consumer(&pair.place.path("b")), 20..30);
        assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
    }
}

#[test]
fn a_silent_caller_is_left_in_time_and_a_crowd_of_them_keeps_nobody_out() {
    for way in [Way::Tcp, Way::Tls] {
        let pair = Pair::new(way, 1 << 16, 1 << 16);
        push(&mut producer(&pair.place.path("a")), 0..10);
        let by = Settings {
            silence: Duration::from_millis(300),
            ..settings()
        };
        let receives = Running::with(&pair.listen(""), &pair.b(), by).unwrap();
        let silent = TcpStream::connect(receives.at()).unwrap();
        let why = receives.wait_until_it_says("introduced itself within 300 ms");
        let here = silent.local_addr().unwrap().to_string();
        assert!(why.contains(&here), "{why}");
        drop(receives);
        let receives = Running::with(&pair.listen(""), &pair.b(), patient()).unwrap();
        let at = receives.at();
        let _crowd: Vec<_> = (0..70).map(|_| TcpStream::connect(&at).unwrap()).collect();
        let sends = Running::new(&pair.a(), &pair.dial(&at, ""));
        pop(&mut consumer(&pair.place.path("b")), 0..10);
        receives.wait_until_it_says("too many others call");
        assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
    }
}

#[test]
fn a_second_sender_is_told_over_tls_too_that_another_is_served() {
    let pair = Pair::new(Way::Tls, 1 << 16, 1 << 16);
    let receives = Running::new(&pair.listen(""), &pair.b());
    let dial = pair.dial(&receives.at(), "");
    let first = Running::new(&pair.a(), &dial);
    first.wait_until_it_says("connected with");
    let second = Running::new(&ring_end(&pair.place.ring("c", 4096)), &dial);
    second.wait_until_it_says("another sender is being served");
    drop(first);
    second.wait_until_it_says("connected with");
}

/// Three are told what is held, and one of them is served: what the others were told is not so any
/// more, whether that one is still there or has gone.
#[test]
fn of_those_who_were_told_the_same_one_is_served() {
    let place = Place::new();
    let path = place.ring("b", 1 << 16);
    let receives = Running::new("tcp-listen://127.0.0.1:0", &ring_end(&path));
    let at = receives.at();
    let call = || {
        let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
        let next = peer.until(|frame| match frame {
            Frame::Hello(Hello { next, .. }) => Some(*next),
            _ => None,
        });
        (peer, next)
    };
    let (mut first, mut second, mut third) = (call().0, call().0, call().0);
    second.say(&welcome(STREAM, 0));
    second.0.write_all(&data(0, 3, &records(3))).unwrap();
    second.until_acked(3);
    first.say(&welcome(STREAM, 0));
    assert_eq!(first.until_refused().0, Code::Busy);
    let gone = format!("disconnected from {}", second.0.local_addr().unwrap());
    drop(second);
    receives.wait_until_it_says(&gone);
    // It would send the same once more.
    third.say(&welcome(STREAM, 0));
    assert_eq!(third.until_refused().0, Code::Busy);
    let (mut fourth, next) = call();
    assert_eq!(next, 3);
    fourth.say(&welcome(STREAM, 3));
    fourth.0.write_all(&data(3, 2, &records(2))).unwrap();
    fourth.until_acked(5);
    assert_eq!(committed(&path), 5);
}
