//! The first words of a connection: who says them late, in pieces, or at once.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use annulus::bridge::frame::{Code, Frame, Hello};
use annulus::bridge::{Bridge, Event, Settings};
use annulus::segment::AttachOptions;

use crate::rig::{PATIENCE, Place, Running, producer, push, ring_end, settings};
use crate::wire::{Peer, STREAM, hello, sender, welcome};

const SHORT: Duration = Duration::from_millis(300);

/// Writes byte after byte, each long before anybody would call it silence. Whether all went.
fn drip(mut stream: &TcpStream, frame: &Frame<'_>) -> bool {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let pause = SHORT / 10;
    assert!(pause * u32::try_from(bytes.len()).unwrap() > 4 * SHORT);
    bytes.iter().all(|byte| {
        std::thread::sleep(pause);
        stream.write_all(&[*byte]).is_ok()
    })
}

#[test]
fn a_hello_that_comes_in_drips_is_not_waited_for() {
    let (_place, sends, at) = sender(SHORT);
    let stream = TcpStream::connect(at).unwrap();
    assert!(!drip(&stream, &Frame::Hello(hello())));
    let why = sends.wait_until_it_says("introduced itself within 300 ms");
    let here = stream.local_addr().unwrap().to_string();
    assert!(why.contains(&here), "{why}");
}

#[test]
fn a_welcome_that_comes_in_drips_is_not_waited_for() {
    let place = Place::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let by = Settings {
        silence: SHORT,
        ..settings()
    };
    let ring = ring_end(&place.ring("b", 4096));
    let receives = Running::with(&url, &ring, by).unwrap();
    assert!(!drip(&server.accept().unwrap().0, &welcome(STREAM, 0)));
    receives.wait_until_it_says("introduced itself within 300 ms");
    // Nor does it help to be there, and to say nothing else.
    let mut peer = Peer::new(server.accept().unwrap().0);
    peer.say(&Frame::Heartbeat);
    let (code, text) = peer.until_refused();
    assert!(code == Code::Protocol && text.contains("begin with a welcome"));
}

#[test]
fn a_crowd_that_says_nothing_shuts_nobody_out() {
    let (_place, sends, at) = sender(PATIENCE);
    let _crowd: Vec<_> = (0..70).map(|_| TcpStream::connect(&at).unwrap()).collect();
    let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
    peer.say(&Frame::Hello(hello()));
    peer.until(|frame| matches!(frame, Frame::Data { .. }).then_some(()));
    sends.wait_until_it_says("too many others call");
}

#[test]
fn what_is_said_behind_a_hello_is_heard_at_once() {
    let (_place, _sends, at) = sender(PATIENCE);
    let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
    let mut bytes = Vec::new();
    Frame::Hello(hello()).encode(&mut bytes);
    Frame::Ack {
        confirmed: 0,
        credit: 10,
    }
    .encode(&mut bytes);
    peer.0.write_all(&bytes).unwrap();
    peer.until(|frame| match frame {
        Frame::Data { first, count, .. } if first + u64::from(*count) == 10 => Some(()),
        _ => None,
    });
}

#[test]
fn a_sender_that_comes_second_is_told_that_another_is_served() {
    let place = Place::new();
    let (a, b) = (place.ring("a", 4096), place.ring("b", 4096));
    let receives = Running::new("tcp-listen://127.0.0.1:0", &ring_end(&b));
    let dial = format!("tcp://{}", receives.at());
    let first = Running::new(&ring_end(&a), &dial);
    first.wait_until_it_says("connected with");
    let second = Running::new(&ring_end(&place.ring("c", 4096)), &dial);
    second.wait_until_it_says("another sender is being served");
}

/// Of two callers of one name, both of whom are to be answered, the one stays that called last.
#[test]
fn of_two_who_wait_under_one_name_the_newer_one_stays() {
    let place = Place::new();
    let path = place.ring("a", 1 << 16);
    push(&mut producer(&path), 0..10);
    let source = ring_end(&path).parse().unwrap();
    let to = "tcp-listen://127.0.0.1:0?subscribers=2".parse().unwrap();
    let (stopped, mut stop) = std::io::pipe().unwrap();
    let by = Settings {
        drain_timeout: Duration::from_millis(50),
        ..settings()
    };
    // SAFETY: nobody but the test uses the file, and through this library only.
    let bridge = unsafe { Bridge::attach(source, to, by, &AttachOptions::default()) }.unwrap();
    let (said, says) = mpsc::channel();
    let (go_on, waits) = mpsc::channel();
    let driver = std::thread::spawn(move || {
        let mut report = |event: &Event<'_>| {
            said.send(event.to_string()).unwrap();
            if matches!(event, Event::Connected { name: "other", .. }) {
                // The driver stands still while the others call.
                waits.recv().unwrap();
            }
        };
        bridge.run(stopped.as_fd(), &mut report)
    });
    let until = |words: &str| -> String {
        loop {
            let said: String = says.recv_timeout(PATIENCE).unwrap();
            if said.contains(words) {
                return said;
            }
        }
    };
    let at = until("listening at ")["listening at ".len()..].to_owned();
    let call = |name| {
        let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
        peer.say(&Frame::Hello(Hello { name, ..hello() }));
        peer
    };
    let _other = call("other");
    until("as other");
    let (older, newer) = (call("tester"), call("tester"));
    go_on.send(()).unwrap();
    let why = until("connected again");
    let of = |peer: &Peer| peer.0.local_addr().unwrap().to_string();
    assert!(why.contains(&of(&older)), "{why}, not {}", of(&newer));
    stop.write_all(b"x").unwrap();
    driver.join().unwrap().unwrap();
}
