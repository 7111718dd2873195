//! Policies for the slow, and receivers that are away.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use annulus::Wait;
use annulus::bridge::frame::{Frame, Hello};
use annulus::bridge::{Bridge, BridgeError, End, Settings};

use crate::rig::{
    PATIENCE, Place, Running, committed, consumer, payload, producer, push, released, ring_end,
    settings, wait_until,
};
use crate::wire::{Peer, hello};

const LAG: u64 = 16 << 10;
const MANY: u64 = 2000;

/// A source `a` for one receiver, the ring `b` of that, and a way between them.
struct Pair {
    place: Place,
}

impl Pair {
    /// One whose receiver is known, has ten records, and is away.
    fn with_one_away() -> Self {
        let place = Place::new();
        place.ring("a", 1 << 16);
        place.ring("b", 1 << 20);
        let pair = Self { place };
        push(&mut producer(&pair.place.path("a")), 0..10);
        let sends = pair.sends(&settings());
        let receives = pair.receives();
        wait_until("it has some", || released(&pair.place.path("a")) == 10);
        assert!(receives.stop().all_confirmed && sends.stop().all_confirmed);
        pair
    }

    fn sends(&self, by: &Settings) -> Running {
        let socket = self.place.path("s");
        let socket = format!("unix-listen:{}?slow=drop&lag={LAG}", socket.display());
        let sends = Running::with(&ring_end(&self.place.path("a")), &socket, by.clone()).unwrap();
        sends.at();
        sends
    }

    fn receives(&self) -> Running {
        let socket = format!("unix:{}", self.place.path("s").display());
        Running::new(&socket, &ring_end(&self.place.path("b")))
    }
}

/// Nobody is there for longer than is borne: the ring goes on, the newest records stay, and whoever
/// is not there does not count as one who has all.
#[test]
fn the_newest_records_stay_for_one_that_is_away() {
    let by = Settings {
        dial_patience: Duration::from_millis(100),
        drain_timeout: Duration::from_millis(300),
        ..settings()
    };
    for closes in [false, true] {
        let pair = Pair::with_one_away();
        let from = pair.place.path("a");
        let sends = pair.sends(&by);
        let mut producer = producer(&from);
        // Far more than the ring holds.
        push(&mut producer, 10..MANY);
        let stays = || {
            let ring = annulus::segment::inspect(&annulus::Location::from(&from)).unwrap();
            ring.tail.wrapping_sub(ring.head)
        };
        wait_until("it lags no more than it may", || stays() <= LAG);
        assert!(stays() >= LAG / 2, "only {} bytes stay", stays());
        let kept = released(&from);
        let summary = if closes {
            producer.close();
            sends.end().unwrap()
        } else {
            sends.stop()
        };
        assert!(!summary.all_confirmed, "{summary:?}");
        assert_eq!(summary.ended, closes);
        assert_eq!(released(&from), kept, "nothing more was given up");

        let sends = pair.sends(&settings());
        let receives = pair.receives();
        producer.close();
        let (sent, received) = (sends.end().unwrap(), receives.end().unwrap());
        assert!(sent.all_confirmed && received.all_confirmed);
        assert_eq!(received.gap_records, kept - 10);
        assert_eq!(received.confirmed, MANY - kept);
        let mut consumer = consumer(&pair.place.path("b"));
        let mut bytes = Vec::new();
        for number in (0..10).chain(kept..MANY) {
            assert_eq!(u64::from(consumer.try_pop(&mut bytes).unwrap()), number);
            assert_eq!(bytes, payload(number));
        }
    }
}

/// After a restart everybody is away. That is no slowness before they have had time to come back.
#[test]
fn who_may_be_about_to_come_back_loses_nothing() {
    let pair = Pair::with_one_away();
    let (from, to) = (pair.place.path("a"), pair.place.path("b"));
    // More than it may lag behind.
    push(&mut producer(&from), 10..700);
    let by = Settings {
        backoff_longest: Duration::from_secs(30),
        ..settings()
    };
    let sends = pair.sends(&by);
    assert!(sends.figures().lag_bytes > LAG || released(&from) == 10);
    wait_until("that is so for a while", || {
        sends.figures().progress_age > Duration::from_millis(2500)
    });
    assert!(sends.figures().lag_bytes > LAG);
    assert_eq!(released(&from), 10);
    let receives = pair.receives();
    wait_until("it has all", || committed(&to) == 700);
    assert!(sends.stop().all_confirmed);
    let summary = receives.stop();
    assert_eq!((summary.gaps, summary.confirmed), (0, 690));
}

/// It takes what is sent, hangs up, and is there again: each connection would have a second, and
/// each absence as long as it takes to come back.
#[test]
fn who_comes_again_and_again_and_confirms_nothing_is_given_up_on() {
    for policy in ["drop", "disconnect"] {
        let place = Place::new();
        let from = place.ring("a", 1 << 16);
        let socket = place.path("s");
        let at = format!("unix-listen:{}?slow={policy}&lag={LAG}", socket.display());
        let sends = Running::with(&ring_end(&from), &at, settings()).unwrap();
        sends.at();
        std::thread::scope(|scope| {
            // More than the ring holds: it ends because somebody is given up on.
            let pushes = scope.spawn(|| push(&mut producer(&from), 0..1500));
            while !pushes.is_finished() {
                let stream = UnixStream::connect(&socket).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut peer = Peer(stream);
                let credit = u64::MAX;
                peer.say(&Frame::Hello(Hello { credit, ..hello() }));
                // Ends with records, or because it is hung up on.
                while let Some((head, body)) = peer.hear() {
                    if matches!(head.frame(&body), Ok(Frame::Data { .. })) {
                        break;
                    }
                }
            }
        });
        let figures = sends.figures();
        assert!(figures.connections > 1, "{figures:?}");
        assert_eq!(figures.subscribers.len(), 1, "it is always the same");
    }
}

/// A ring is full for a long record before all its bytes are taken.
#[test]
fn a_lag_that_would_never_be_reached_is_refused_and_the_largest_one_is_reached() {
    const CAPACITY: u64 = 1 << 16;
    let pair = Pair::with_one_away();
    let (from, socket) = (pair.place.path("a"), pair.place.path("s"));
    let source = ring_end(&from);
    let at = |lag: u64| format!("unix-listen:{}?slow=drop&lag={lag}", socket.display());
    let most = CAPACITY / 4 * 3;
    for lag in [most + 1, CAPACITY, u64::MAX] {
        let end = |text: &str| text.parse::<End>().unwrap();
        let checked = Bridge::check(&end(&source), &end(&at(lag))).unwrap_err();
        let refused = Running::with(&source, &at(lag), settings()).err().unwrap();
        for error in [checked, refused] {
            assert!(
                matches!(&error, BridgeError::Option { key: "lag", .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("three quarters"), "{error}");
        }
    }
    let by = Settings {
        dial_patience: Duration::from_millis(100),
        drain_timeout: Duration::from_millis(300),
        ..settings()
    };
    let sends = Running::with(&source, &at(most), by).unwrap();
    let mut producer = producer(&from);
    // An eighth of the ring each, with its header; one that is away holds them up at first.
    let record = vec![7; usize::try_from(CAPACITY / 8).unwrap() - 8];
    for _ in 0..40 {
        let wait = Wait::block().for_at_most(PATIENCE);
        producer.push(7, &record, wait).unwrap();
    }
    assert!(!sends.stop().all_confirmed);
}
