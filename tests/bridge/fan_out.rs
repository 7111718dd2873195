//! One ring for several receivers, each with its own place.

use std::path::Path;

use annulus::bridge::SubscriberFigures;

use crate::rig::{
    Place, Running, assert_empty, committed, consumer, payload, pop, producer, push, released,
    ring_end, wait_until,
};

/// A source `a` and three destinations.
struct Fan {
    place: Place,
}

const THREE: [&str; 3] = ["b", "c", "d"];

impl Fan {
    fn new(capacity: u64, others: u64) -> Self {
        let place = Place::new();
        place.ring("a", capacity);
        for name in THREE {
            place.ring(name, others);
        }
        Self { place }
    }

    fn sends(&self, options: &str) -> Running {
        let socket = self.place.path("s");
        let socket = format!("unix-listen:{}?subscribers=3{options}", socket.display());
        let sends = Running::new(&ring_end(&self.place.path("a")), &socket);
        sends.at();
        sends
    }

    fn receives(&self, name: &str) -> Running {
        let socket = self.place.path("s");
        let socket = format!("unix:{}?name=the-{name}", socket.display());
        Running::new(&socket, &ring_end(&self.place.path(name)))
    }

    /// Waits until `b` and `c` have confirmed so many. A driver releases before it tells figures,
    /// so what they allow is released by then.
    fn wait_for_two(&self, sends: &Running, count: u64) {
        let has_all = |row: &SubscriberFigures| row.name == "the-d" || row.confirmed == count;
        wait_until("two have confirmed all", || {
            let rows = sends.figures().subscribers;
            rows.len() >= 2 && rows.iter().all(has_all)
        });
        assert_eq!(self.committed("b"), count);
        assert_eq!(self.committed("c"), count);
    }

    fn committed(&self, name: &str) -> u64 {
        committed(&self.place.path(name))
    }

    fn released(&self) -> u64 {
        released(&self.place.path("a"))
    }
}

#[test]
fn a_record_is_released_when_all_have_it_and_nobody_waits_for_another() {
    let fan = Fan::new(1 << 20, 1 << 20);
    let mut producer = producer(&fan.place.path("a"));
    push(&mut producer, 0..500);
    let sends = fan.sends("");
    let _receives = ["b", "c"].map(|name| fan.receives(name));
    fan.wait_for_two(&sends, 500);
    assert_eq!(fan.released(), 0, "the third one has nothing yet");
    let third = fan.receives("d");
    wait_until("the third has all", || fan.committed("d") == 500);
    wait_until("it is released", || fan.released() == 500);
    // One that is away holds back the release, and nobody else.
    assert!(third.stop().all_confirmed);
    push(&mut producer, 500..900);
    fan.wait_for_two(&sends, 900);
    assert_eq!(fan.released(), 500);
    // Also for a bridge that was started again and has not seen it.
    drop(sends);
    let sends = fan.sends("");
    push(&mut producer, 900..1000);
    fan.wait_for_two(&sends, 1000);
    assert_eq!(fan.released(), 500);
    let _third = fan.receives("d");
    wait_until("all is released", || fan.released() == 1000);
    assert!(sends.stop().all_confirmed);
    for name in THREE {
        let mut consumer = consumer(&fan.place.path(name));
        pop(&mut consumer, 0..1000);
        assert_empty(&mut consumer);
    }
}

#[test]
fn a_fourth_is_not_served_until_a_place_is_given_up() {
    let fan = Fan::new(1 << 16, 1 << 16);
    fan.place.ring("e", 1 << 16);
    push(&mut producer(&fan.place.path("a")), 0..10);
    let sends = fan.sends("");
    let receives = THREE.map(|name| fan.receives(name));
    wait_until("all have all", || fan.released() == 10);
    let refused = fan.receives("e").end().unwrap_err().to_string();
    assert!(refused.contains("other names"), "{refused}");
    drop(sends);
    let [_b, _c, d] = receives;
    drop(d);
    let sends = fan.sends("&forget=the-d");
    let fourth = fan.receives("e");
    fourth.wait_until_it_says("connected");
    // It begins with what is not released: what was is not its.
    push(&mut producer(&fan.place.path("a")), 10..20);
    wait_until("it has what came since", || fan.committed("e") == 10);
    assert!(sends.stop().all_confirmed);
    pop(&mut consumer(&fan.place.path("e")), 10..20);
}

/// What a subscriber got: its records are in order, and it knows how many are missing.
fn numbers_in(path: &Path) -> Vec<u64> {
    let mut consumer = consumer(path);
    let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
    while let Ok(tag) = consumer.try_pop(&mut bytes) {
        assert_eq!(bytes, payload(tag.into()), "a record is whole");
        numbers.push(tag.into());
    }
    assert!(
        numbers.is_sorted_by(|one, next| one < next),
        "each once and in order"
    );
    numbers
}

#[test]
fn a_slow_one_gets_a_counted_gap_and_the_others_everything() {
    const RECORDS: u64 = 5000;
    for policy in ["drop", "disconnect"] {
        let fan = Fan::new(1 << 16, 1 << 20);
        // Nobody reads it, and it is small.
        let slow = fan.place.ring("small", 4096);
        std::fs::rename(&slow, fan.place.path("d")).unwrap();
        let sends = fan.sends(&format!("&slow={policy}&lag=16384"));
        let receives = THREE.map(|name| fan.receives(name));
        for one in &receives {
            one.wait_until_it_says("connected");
        }
        let mut producer = producer(&fan.place.path("a"));
        push(&mut producer, 0..RECORDS);
        wait_until("the others have all", || {
            ["b", "c"].iter().all(|name| fan.committed(name) == RECORDS)
        });
        let got_at_first = fan.committed("d");
        assert!(got_at_first < 200, "{policy}: it is full");
        // Now it is read.
        let mut got = numbers_in(&fan.place.path("d"));
        let gap = || {
            receives[2]
                .said()
                .iter()
                .any(|said| said.starts_with("gap: "))
        };
        wait_until("it is told of the gap", || {
            got.extend(numbers_in(&fan.place.path("d")));
            gap()
        });
        push(&mut producer, RECORDS..RECORDS + 10);
        wait_until("it has the newest", || {
            got.extend(numbers_in(&fan.place.path("d")));
            got.last() == Some(&(RECORDS + 9))
        });
        assert!(
            got.is_sorted_by(|one, next| one < next),
            "{policy}: in order"
        );
        let [b, c, d] = receives;
        let summary = d.stop();
        assert_eq!(
            got.len() as u64 + summary.gap_records,
            RECORDS + 10,
            "{policy}: every record came or is counted, {summary:?}"
        );
        assert!(summary.gap_records > 0);
        for (one, name) in [(b, "b"), (c, "c")] {
            wait_until("it has all", || fan.committed(name) == RECORDS + 10);
            assert_eq!(one.stop().gap_records, 0);
            assert_eq!(numbers_in(&fan.place.path(name)).len() as u64, RECORDS + 10);
        }
        drop(sends);
    }
}

/// A receiver that is refused for what it holds is nobody: its name takes no place, and is not
/// there twice when it comes with something else, which would hold the ring for nobody.
#[test]
fn who_is_refused_is_not_remembered() {
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 16), place.ring("b", 1 << 16));
    let other = place.ring("other", 1 << 16);
    let listen = format!("unix-listen:{}", place.path("s").display());
    let dial = format!("unix:{}?name=one", place.path("s").display());
    push(&mut producer(&other), 0..10);
    let sends = Running::new(&ring_end(&other), &listen);
    sends.at();
    let receives = Running::new(&dial, &ring_end(&b));
    wait_until("it holds another ring's", || committed(&b) == 10);
    assert!(receives.stop().all_confirmed && sends.stop().all_confirmed);

    push(&mut producer(&a), 0..10);
    let sends = Running::new(&ring_end(&a), &listen);
    sends.at();
    for _ in 0..2 {
        let refused = Running::new(&dial, &ring_end(&b)).end().unwrap_err();
        assert!(refused.to_string().contains("another ring"), "{refused}");
    }
    let told = format!("{}?accept-other-source=yes", ring_end(&b));
    let receives = Running::new(&dial, &told);
    wait_until("it is served", || released(&a) == 10);
    assert!(sends.stop().all_confirmed);
    // The next bridge knows it from the ring's file.
    let sends = Running::new(&ring_end(&a), &listen);
    sends.at();
    push(&mut producer(&a), 10..20);
    wait_until("nobody else is waited for", || released(&a) == 20);
    assert_eq!(sends.figures().wanted, 1);
    assert!(receives.stop().all_confirmed && sends.stop().all_confirmed);
}
