//! Peers that are no bridges.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::rig::{Place, Running, consumer, producer, released, ring_end, wait_until};

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
