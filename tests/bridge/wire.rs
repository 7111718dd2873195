//! A peer that was written for these tests: it keeps to the protocol, or does not.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use annulus::Wait;

use annulus::bridge::Settings;
use annulus::bridge::frame::{
    Code, Frame, HEADER_BYTES, Head, Hello, StreamId, VERSION, Welcome, put_record,
};

use crate::rig::{
    PATIENCE, Place, Running, committed, consumer, producer, push, released, ring_end, settings,
    wait_until,
};

pub struct Peer<S = TcpStream>(pub S);

impl Peer {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Peer<S> {
    pub fn say(&mut self, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.0.write_all(&bytes).unwrap();
    }

    /// The next frame's bytes; `None` at the end of the connection.
    pub fn hear(&mut self) -> Option<(Head, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.0.read_exact(&mut header).ok()?;
        let head = Head::decode(&header, 1 << 24).unwrap();
        let mut body = vec![0; head.body_bytes()];
        self.0.read_exact(&mut body).ok()?;
        head.check(&body).unwrap();
        Some((head, body))
    }

    /// Hears frames until one is as wanted, and returns what is wanted of it.
    #[track_caller]
    pub fn until<T>(&mut self, wanted: impl Fn(&Frame<'_>) -> Option<T>) -> T {
        loop {
            let (head, body) = self.hear().expect("the connection is there");
            if let Some(found) = wanted(&head.frame(&body).unwrap()) {
                return found;
            }
        }
    }

    #[track_caller]
    pub fn until_refused(&mut self) -> (Code, String) {
        self.until(|frame| match frame {
            Frame::Refusal { code, text } => Some((*code, (*text).to_owned())),
            _ => None,
        })
    }
}

pub fn hello() -> Hello<'static> {
    Hello {
        version: VERSION,
        stream: None,
        accepts_other: false,
        next: 0,
        largest_record: 1 << 20,
        largest_frame: 1 << 20,
        credit: 5,
        silence_ms: 60_000,
        nonce: None,
        name: "tester",
    }
}

/// A sender with ten records, and a connection to it.
pub fn sender(silence: Duration) -> (Place, Running, String) {
    let place = Place::new();
    let path = place.ring("a", 1 << 16);
    push(&mut producer(&path), 0..10);
    let by = Settings {
        silence,
        drain_timeout: Duration::from_millis(50),
        ..settings()
    };
    let sends = Running::with(&ring_end(&path), "tcp-listen://127.0.0.1:0", by).unwrap();
    let at = sends.at();
    (place, sends, at)
}

#[test]
fn nothing_is_sent_beyond_the_credit_and_nothing_released_before_the_ack() {
    let (place, sends, at) = sender(PATIENCE);
    let mut peer = Peer::new(TcpStream::connect(at).unwrap());
    peer.say(&Frame::Hello(hello()));
    let welcome = peer.until(|frame| match frame {
        Frame::Welcome(welcome) => Some(*welcome),
        _ => None,
    });
    assert_eq!(welcome.next, 0);
    let data = |frame: &Frame<'_>| match frame {
        Frame::Data { first, count, .. } => Some((*first, *count)),
        _ => None,
    };
    assert_eq!(peer.until(data), (0, 5));
    peer.say(&Frame::Ack {
        confirmed: 3,
        credit: 6,
    });
    assert_eq!(peer.until(data), (5, 1));
    peer.say(&Frame::Ack {
        confirmed: 6,
        credit: 100,
    });
    assert_eq!(peer.until(data), (6, 4));
    // Figures are told behind what is released.
    wait_until("the ack is taken in", || {
        sends.figures().subscribers[0].confirmed == 6
    });
    assert_eq!(
        released(&place.path("a")),
        0,
        "they were read as one lot, which is not confirmed"
    );
    peer.say(&Frame::Ack {
        confirmed: 10,
        credit: 100,
    });
    wait_until("all is released", || released(&place.path("a")) == 10);
    peer.say(&Frame::Ack {
        confirmed: 11,
        credit: 100,
    });
    assert_eq!(peer.until_refused().0, Code::Protocol);
    assert!(peer.hear().is_none());
}

#[test]
fn a_sender_says_why_it_does_not_serve() {
    let (_place, sends, at) = sender(PATIENCE);
    let refusal = |hello: Hello<'_>| {
        let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
        peer.say(&Frame::Hello(hello));
        peer.until_refused().0
    };
    let version = Hello {
        version: VERSION - 1,
        ..hello()
    };
    assert_eq!(refusal(version), Code::Version);
    let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
    peer.say(&Frame::Hello(hello()));
    let ours = peer.until(|frame| match frame {
        Frame::Welcome(welcome) => Some(welcome.stream),
        _ => None,
    });
    let other = Hello {
        stream: Some(StreamId {
            generation: ours.generation + 1,
            ..ours
        }),
        ..hello()
    };
    assert_eq!(refusal(other), Code::OtherStream);
    let ahead = Hello {
        stream: Some(ours),
        next: 11,
        ..hello()
    };
    assert_eq!(refusal(ahead), Code::Ahead);
    let stranger = Hello {
        name: "stranger",
        ..hello()
    };
    assert_eq!(refusal(stranger), Code::NotInvited);
    // A name that `forget=` could not say.
    for name in ["", "two words", "line\n", "bell\x07"] {
        let (_place, sends, at) = sender(PATIENCE);
        let mut peer = Peer::new(TcpStream::connect(&at).unwrap());
        peer.say(&Frame::Hello(Hello { name, ..hello() }));
        let (code, text) = peer.until_refused();
        assert!(code == Code::NotInvited && text.contains("white space"));
        drop(sends);
    }
    let short = Hello {
        largest_record: 7,
        ..hello()
    };
    assert_eq!(refusal(short), Code::RecordTooLong);
    drop(sends);
}

#[test]
fn noise_silence_and_a_twin_end_a_connection_and_nothing_else() {
    let (place, sends, at) = sender(Duration::from_secs(2));
    let mut noise = TcpStream::connect(&at).unwrap();
    noise.write_all(&[0xaa; 64]).unwrap();
    let mut silent = Peer::new(TcpStream::connect(&at).unwrap());
    let mut first = Peer::new(TcpStream::connect(&at).unwrap());
    first.say(&Frame::Hello(hello()));
    first.until(|frame| matches!(frame, Frame::Data { .. }).then_some(()));
    let mut second = Peer::new(TcpStream::connect(&at).unwrap());
    second.say(&Frame::Hello(hello()));
    sends.wait_until_it_says("connected again");
    while first.hear().is_some() {}
    assert_eq!(noise.read(&mut [0; 1]).unwrap_or(0), 0);
    // It says nothing more, so it is left after two seconds.
    while second.hear().is_some() {}
    assert!(silent.hear().is_none(), "it never said who it is");
    sends.wait_until_it_says("silent for");
    assert_eq!(released(&place.path("a")), 0);
}

#[test]
fn a_sender_with_nothing_to_say_is_heard_all_the_same() {
    let (_place, _sends, at) = sender(PATIENCE);
    let mut peer = Peer::new(TcpStream::connect(at).unwrap());
    peer.say(&Frame::Hello(Hello {
        silence_ms: 100,
        ..hello()
    }));
    for _ in 0..3 {
        peer.until(|frame| matches!(frame, Frame::Heartbeat).then_some(()));
    }
}

pub const STREAM: StreamId = StreamId {
    ring_id: [1; 16],
    generation: 1,
    life: 0,
};

/// A receiver, and the sender's end of its connection, after hello and welcome.
fn receiver(path: &std::path::Path, server: &TcpListener, next: u64) -> (Running, Peer, u64) {
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let receives = Running::new(&url, &ring_end(path));
    let (peer, wanted) = answer(server, next);
    (receives, peer, wanted)
}

fn answer(server: &TcpListener, next: u64) -> (Peer, u64) {
    let mut peer = Peer::new(server.accept().unwrap().0);
    let wanted = peer.welcome(next);
    (peer, wanted)
}

impl<S: Read + Write> Peer<S> {
    /// Hears the hello, and answers it. Returns what was wanted.
    fn welcome(&mut self, next: u64) -> u64 {
        let wanted = self.until(|frame| match frame {
            Frame::Hello(hello) => Some(hello.next),
            _ => None,
        });
        self.say(&welcome(STREAM, next));
        wanted
    }

    #[track_caller]
    pub fn until_acked(&mut self, number: u64) {
        self.until(|frame| {
            matches!(frame, Frame::Ack { confirmed, .. } if *confirmed == number).then_some(())
        });
    }
}

/// A sender's answer.
pub fn welcome(stream: StreamId, next: u64) -> Frame<'static> {
    Frame::Welcome(Welcome {
        stream,
        next,
        largest_record: 100,
        silence_ms: 60_000,
    })
}

/// A frame of records.
pub fn data(first: u64, count: u32, records: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Data {
        first,
        count,
        records,
    }
    .encode(&mut bytes);
    bytes
}

pub fn records(count: u32) -> Vec<u8> {
    let mut records = Vec::new();
    for number in 0..count {
        put_record(&mut records, number, &[0; 11]);
    }
    records
}

#[test]
fn a_receiver_takes_the_next_records_and_no_others() {
    let place = Place::new();
    let path = place.ring("b", 1 << 16);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let (receives, mut peer, wanted) = receiver(&path, &server, 100);
    assert_eq!(wanted, 0);
    let three = records(3);
    peer.0.write_all(&data(100, 3, &three)).unwrap();
    peer.until_acked(103);
    peer.say(&Frame::Gap { from: 103, to: 110 });
    peer.0.write_all(&data(110, 3, &three)).unwrap();
    peer.until_acked(113);
    assert_eq!(committed(&path), 6);
    // Each of these ends the connection, and the next one goes on where this one was.
    for wrong in [
        data(112, 3, &three),
        data(114, 3, &three),
        data(113, 2, &three),
        data(113, 4, &three),
        data(113, 3, &three[..three.len() - 8]),
        data(113, 0, &[]),
    ] {
        peer.0.write_all(&wrong).unwrap();
        while peer.hear().is_some() {}
        let wanted;
        (peer, wanted) = answer(&server, 113);
        assert_eq!(wanted, 113);
        assert_eq!(committed(&path), 6);
    }
    peer.say(&Frame::Drain {
        end: 113,
        closed: true,
    });
    peer.until(|frame| matches!(frame, Frame::Drained).then_some(()));
    let summary = receives.end().unwrap();
    assert!(summary.ended && summary.gap_records == 7, "{summary:?}");
    let mut bytes = Vec::new();
    let mut consumer = consumer(&path);
    let tags: Vec<u32> = std::iter::from_fn(|| consumer.try_pop(&mut bytes).ok()).collect();
    assert_eq!(tags, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn a_receiver_takes_no_more_than_it_has_asked_for() {
    let place = Place::new();
    let path = place.ring("b", 1 << 16);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let by = Settings {
        window_records: 5,
        ..settings()
    };
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let _receives = Running::with(&url, &ring_end(&path), by).unwrap();
    let (mut peer, _) = answer(&server, 0);
    peer.0.write_all(&data(0, 5, &records(5))).unwrap();
    peer.until_acked(5);
    peer.0.write_all(&data(5, 6, &records(6))).unwrap();
    let (code, text) = peer.until_refused();
    assert!(code == Code::Protocol && text.contains("more than it may"));
    assert_eq!(committed(&path), 5);
}

/// A sender that reads no acks, and a ring that nobody reads: what it goes on sending stays in its
/// socket. When both read again everything is there, and one ack says all that none was said of.
#[test]
fn a_full_receiver_reads_nothing_while_an_ack_waits() {
    const MUCH: usize = 4 << 20;
    let place = Place::new();
    let path = place.ring("b", 4096);
    let server = UnixListener::bind(place.path("s")).unwrap();
    let url = format!("unix:{}", place.path("s").display());
    let _receives = Running::new(&url, &ring_end(&path));
    let stream = server.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut peer = Peer(stream);
    peer.welcome(0);
    let mut consumer = consumer(&path);
    let (mut bytes, mut next) = (Vec::new(), 0);
    // More acks than a socket holds, each for a record of its own.
    while next < 2000 {
        peer.0.write_all(&data(next, 1, &records(1))).unwrap();
        let wait = Wait::block().for_at_most(PATIENCE);
        consumer.pop(&mut bytes, wait).unwrap();
        next += 1;
    }
    // Far more than the ring and the sockets hold, none of it beyond the credit.
    peer.0.set_nonblocking(true).unwrap();
    let mut frame = data(next, 1000, &records(1000));
    let (mut at, mut sent, mut moved) = (0, 0, Instant::now());
    while moved.elapsed() < Duration::from_secs(1) {
        match peer.0.write(&frame[at..]) {
            Ok(count) => {
                (at, sent, moved) = (at + count, sent + count, Instant::now());
                assert!(sent < MUCH, "it reads on, and keeps all of that");
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        if at == frame.len() {
            next += 1000;
            (frame, at) = (data(next, 1000, &records(1000)), 0);
        }
        std::thread::yield_now();
    }
    next += 1000;
    peer.0.set_nonblocking(false).unwrap();
    let mut others = Peer(peer.0.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| peer.0.write_all(&frame[at..]).unwrap());
        scope.spawn(move || others.until_acked(next));
        for _ in 2000..next {
            let wait = Wait::block().for_at_most(PATIENCE);
            consumer.pop(&mut bytes, wait).unwrap();
        }
    });
}

/// Two senders that come in turn: the option is for one change, which the first record makes.
#[test]
fn another_source_is_accepted_once() {
    const OTHER: StreamId = StreamId {
        ring_id: [2; 16],
        ..STREAM
    };
    let place = Place::new();
    let path = place.ring("b", 4096);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let told = format!("{}?accept-other-source=yes", ring_end(&path));
    let receives = Running::new(&url, &told);
    let meet = |stream| {
        let mut peer = Peer::new(server.accept().unwrap().0);
        let said = peer.until(|frame| match frame {
            Frame::Hello(hello) => Some((hello.stream, hello.next, hello.accepts_other)),
            _ => None,
        });
        peer.say(&welcome(stream, said.1));
        (peer, said)
    };
    let (mut peer, said) = meet(STREAM);
    assert_eq!(said, (None, 0, true));
    peer.0.write_all(&data(0, 3, &records(3))).unwrap();
    peer.until_acked(3);
    drop(peer);
    for _ in 0..2 {
        // Nothing of the other one is held, so nothing has changed.
        let (mut peer, said) = meet(OTHER);
        assert_eq!(said, (Some(STREAM), 3, true));
        peer.until_acked(3);
    }
    let (mut peer, _) = meet(OTHER);
    peer.0.write_all(&data(3, 1, &records(1))).unwrap();
    peer.until_acked(4);
    drop(peer);
    let (mut peer, said) = meet(STREAM);
    assert_eq!(said, (Some(OTHER), 4, false));
    assert_eq!(peer.until_refused().0, Code::OtherStream);
    let why = receives.end().unwrap_err().to_string();
    assert!(why.contains("another ring's records"), "{why}");
    assert_eq!(committed(&path), 4);
}
