//! Policies for the slow, and receivers that are away.

use std::time::Duration;

use annulus::bridge::Settings;

use crate::rig::{
    Place, Running, committed, consumer, payload, producer, push, released, ring_end, settings,
    wait_until,
};

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
