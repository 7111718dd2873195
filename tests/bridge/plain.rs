//! Peers that are no bridges.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::bridge::Settings;
use nix::sys::socket::{setsockopt, sockopt::TcpRepair};

use crate::rig::{Place, Running, consumer, producer, released, ring_end, settings, wait_until};
use crate::users::is_root;

#[test]
fn a_plain_client_reads_lines_and_records_behind_their_lengths() {
    for (framing, expected) in [
        ("lines", &b"one\n\nthree\n"[..]),
        ("len32", b"\x03\0\0\0one\0\0\0\0\x05\0\0\0three"),
    ] {
        let place = Place::new();
        let path = place.ring("a", 1 << 16);
        let mut producer = producer(&path);
        let sends = Running::new(
            &ring_end(&path),
            &format!("tcp-listen://127.0.0.1:0?framing={framing}"),
        );
        for record in ["one", "", "three"] {
            producer.try_push(0, record.as_bytes()).unwrap();
        }
        let mut client = TcpStream::connect(sends.at()).unwrap();
        let mut found = vec![0; expected.len()];
        client.read_exact(&mut found).unwrap();
        assert_eq!(found, expected, "{framing}");
        wait_until("it is released", || released(&path) == 3);
        producer.close();
        // The end of the stream is the end of the connection.
        assert_eq!(client.read(&mut found).unwrap(), 0);
        assert!(sends.end().unwrap().ended);
    }
}

#[test]
fn a_plain_client_sends_into_a_ring_and_half_a_record_is_dropped() {
    for (framing, sent) in [
        ("lines", &b"one\n\nthree\nhal"[..]),
        (
            "len32",
            b"\x03\0\0\0one\0\0\0\0\x05\0\0\0three\x04\0\0\0hal",
        ),
    ] {
        let place = Place::new();
        let path = place.ring("b", 4096);
        let receives = Running::new(
            &format!("tcp-listen://127.0.0.1:0?framing={framing}"),
            &ring_end(&path),
        );
        let mut consumer = consumer(&path);
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(receives.at()).unwrap();
            client.write_all(sent).unwrap();
            drop(client);
            for expected in ["one", "", "three"] {
                let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
                consumer.pop(&mut bytes, wait).unwrap();
                assert_eq!(bytes, expected.as_bytes(), "{framing}");
            }
        }
        assert!(receives.stop().all_confirmed);
    }
}

#[test]
fn a_plain_server_is_called_and_a_full_ring_stops_it() {
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 4096));
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}?framing=lines", server.local_addr().unwrap());
    let mut producer = producer(&a);
    for number in 0..5000 {
        producer
            .try_push(0, format!("{number}").as_bytes())
            .unwrap();
    }
    let _sends = Running::new(&ring_end(&a), &url);
    let (near, _) = server.accept().unwrap();
    let _receives = Running::new(&url, &ring_end(&b));
    let (mut far, _) = server.accept().unwrap();
    let pump = std::thread::spawn(move || {
        for line in BufReader::new(near).lines().take(5000) {
            far.write_all(format!("{}\n", line.unwrap()).as_bytes())
                .unwrap();
        }
        far
    });
    let mut consumer = consumer(&b);
    let mut bytes = Vec::new();
    for number in 0..5000 {
        let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
        consumer.pop(&mut bytes, wait).unwrap();
        assert_eq!(bytes, format!("{number}").as_bytes());
    }
    drop(pump.join().unwrap());
}

#[test]
fn a_line_that_no_record_can_hold_ends_the_connection() {
    let place = Place::new();
    let path = place.ring("b", 4096);
    let receives = Running::new("tcp-listen://127.0.0.1:0?framing=lines", &ring_end(&path));
    let mut client = TcpStream::connect(receives.at()).unwrap();
    // Whether all of it is taken is the kernel's to say.
    let _written = client.write_all(&[b'x'; 5000]);
    receives.wait_until_it_says("too long for the ring");
}

/// A reader that takes what its socket holds and no more: what the kernel has is released, of the
/// rest nothing, and the next reader begins there, whether the connection or the bridge has ended.
#[test]
fn what_the_kernel_has_not_taken_whole_is_sent_to_the_next_one() {
    const RECORDS: u64 = 100_000;
    let place = Place::new();
    let path = place.ring("a", 1 << 22);
    let mut producer = producer(&path);
    for number in 0..RECORDS {
        producer.try_push(0, number.to_string().as_bytes()).unwrap();
    }
    let socket = place.path("s");
    let url = format!("unix-listen:{}?framing=lines", socket.display());
    let by = Settings {
        drain_timeout: Duration::from_millis(50),
        ..settings()
    };
    let call = |sends: &Running| {
        sends.at();
        let client = UnixStream::connect(&socket).unwrap();
        client.set_read_timeout(Some(crate::rig::PATIENCE)).unwrap();
        BufReader::new(client)
    };
    // Numbers of the whole lines that a client gets until the end.
    let whole_lines = |client: &mut BufReader<UnixStream>| {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole]
            .lines()
            .map(|line| line.parse::<u64>().unwrap());
        let first = lines.next().unwrap();
        (first, lines.next_back().unwrap() + 1)
    };
    let sends = Running::with(&ring_end(&path), &url, by.clone()).unwrap();
    let mut first = call(&sends);
    wait_until("what is taken is released", || released(&path) > 0);
    first.get_ref().shutdown(Shutdown::Write).unwrap();
    sends.wait_until_it_says("disconnected");
    let taken = released(&path);
    assert_eq!(whole_lines(&mut first), (0, taken));
    assert!(taken < RECORDS);
    let mut second = call(&sends);
    wait_until("it gets more", || released(&path) > taken);
    let summary = sends.stop();
    assert!(!summary.all_confirmed);
    let taken_too = released(&path);
    assert_eq!((summary.confirmed, summary.gaps), (taken_too, 0));
    assert_eq!(whole_lines(&mut second), (taken, taken_too));
    let mut sends = Running::with(&ring_end(&path), &url, settings()).unwrap();
    let mut third = call(&sends);
    // One line shows that it is served.
    let mut line = String::new();
    third.read_line(&mut line).unwrap();
    assert_eq!(line, format!("{taken_too}\n"));
    // Asked to stop it sends what was there.
    sends.ask_to_stop();
    assert_eq!(whole_lines(&mut third), (taken_too + 1, RECORDS));
    assert!(sends.end().unwrap().all_confirmed);
    assert_eq!(released(&path), RECORDS);
}

/// A machine that is gone sends no end of its connections: only questions find it out.
#[test]
fn a_plain_peer_that_vanishes_is_missed() {
    if !is_root("a plain peer that vanishes") {
        return;
    }
    let place = Place::new();
    let (a, b) = (place.ring("a", 4096), place.ring("b", 4096));
    let plain = "tcp-listen://127.0.0.1:0?framing=lines";
    for (source, destination) in [(&*ring_end(&a), plain), (plain, &*ring_end(&b))] {
        let by = Settings {
            silence: Duration::from_secs(1),
            ..settings()
        };
        let bridge = Running::with(source, destination, by).unwrap();
        let client = TcpStream::connect(bridge.at()).unwrap();
        bridge.wait_until_it_says("connected with");
        // A socket in repair says nothing when it is closed.
        setsockopt(&client, TcpRepair, &1).unwrap();
        drop(client);
        bridge.wait_until_it_says("disconnected");
        let _another = TcpStream::connect(bridge.at()).unwrap();
        wait_until("another one is served", || {
            bridge.figures().connections == 2
        });
    }
}
