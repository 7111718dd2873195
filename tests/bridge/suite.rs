//! What every adapter must do, in both directions, whichever side calls: order, bounds, resume,
//! refusal, drain.

use std::time::Duration;

use annulus::bridge::{BridgeError, Settings};

use crate::rig::{
    Place, Running, assert_empty, committed, consumer, pop, producer, push, released, ring_end,
    settings, wait_until,
};

/// How two bridges meet.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Tcp,
    Tls,
    Unix,
    /// TCP between ends that prove a secret.
    Secret,
    /// The same over TLS.
    TlsSecret,
}

/// Two rings, `a` and `b`, and a way between them.
pub struct Pair {
    pub place: Place,
    way: Way,
}

impl Pair {
    pub fn new(way: Way, capacity: u64, other_capacity: u64) -> Self {
        let place = Place::new();
        place.ring("a", capacity);
        place.ring("b", other_capacity);
        Self { place, way }
    }

    /// The file of the secret, as an option.
    pub fn secret(&self) -> String {
        let path = self.place.path("secret");
        crate::secret::write(&path, crate::secret::OURS, 0o600);
        format!("secret={}", path.display())
    }

    pub fn listen(&self, options: &str) -> String {
        match self.way {
            Way::Secret => format!("tcp-listen://127.0.0.1:0?{}&{options}", self.secret()),
            Way::TlsSecret => self.tls_listen(&format!("{}&{options}", self.secret())),
            Way::Tls => self.tls_listen(options),
            Way::Tcp => format!("tcp-listen://127.0.0.1:0?{options}"),
            Way::Unix => format!("unix-listen:{}?{options}", self.place.path("s").display()),
        }
    }

    fn tls_listen(&self, options: &str) -> String {
        let files = crate::authority::Authority::new(&self.place, "ca").signs("127.0.0.1");
        format!("tls-listen://127.0.0.1:0?{}&{options}", files.own())
    }

    fn tls_dial(&self, at: &str, options: &str) -> String {
        let ca = self.place.path("ca.pem");
        format!("tls://{at}?ca={}&{options}", ca.display())
    }

    pub fn dial(&self, at: &str, options: &str) -> String {
        match self.way {
            Way::Secret => format!("tcp://{at}?{}&{options}", self.secret()),
            Way::TlsSecret => self.tls_dial(at, &format!("{}&{options}", self.secret())),
            Way::Tls => self.tls_dial(at, options),
            Way::Tcp => format!("tcp://{at}?{options}"),
            Way::Unix => format!("unix:{at}?{options}"),
        }
    }

    pub fn a(&self) -> String {
        ring_end(&self.place.path("a"))
    }

    pub fn b(&self) -> String {
        ring_end(&self.place.path("b"))
    }

    /// The sending end is called.
    fn start(&self, by: &Settings) -> (Running, Running) {
        let sends = Running::with(&self.a(), &self.listen(""), by.clone()).unwrap();
        let dial = self.dial(&sends.at(), "");
        let receives = Running::with(&dial, &self.b(), by.clone()).unwrap();
        (sends, receives)
    }

    /// The receiving end is called.
    fn start_reversed(&self, by: &Settings) -> (Running, Running) {
        let receives = Running::with(&self.listen(""), &self.b(), by.clone()).unwrap();
        let dial = self.dial(&receives.at(), "");
        let sends = Running::with(&self.a(), &dial, by.clone()).unwrap();
        (sends, receives)
    }
}

const RECORDS: u64 = 20_000;

pub fn records_arrive_in_order_with_tags_and_bytes(way: Way) {
    for reversed in [false, true] {
        let pair = Pair::new(way, 1 << 16, 1 << 13);
        let (path_a, path_b) = (pair.place.path("a"), pair.place.path("b"));
        let by = settings();
        let (sends, receives) = if reversed {
            pair.start_reversed(&by)
        } else {
            pair.start(&by)
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = producer(&path_a);
                push(&mut producer, 0..RECORDS);
                producer.close();
            });
            let mut consumer = consumer(&path_b);
            pop(&mut consumer, 0..RECORDS);
            let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
            assert_eq!(consumer.read(wait).err(), Some(annulus::ReadError::Closed));
        });
        let (sent, received) = (sends.end().unwrap(), receives.end().unwrap());
        assert!(
            sent.ended && sent.all_confirmed && received.ended,
            "{sent:?}, {received:?}"
        );
        assert_eq!((sent.confirmed, received.confirmed), (RECORDS, RECORDS));
        assert_eq!(released(&path_a), RECORDS);
    }
}

/// Nobody reads the destination: the source keeps what does not fit there, and what is released is
/// at the destination already.
pub fn a_full_destination_holds_the_source_up(way: Way) {
    let pair = Pair::new(way, 1 << 20, 4096);
    let by = Settings {
        window_records: 8,
        // Each record is released by itself.
        batch_bytes: 1,
        silence: Duration::from_secs(2),
        ..settings()
    };
    let mut producer = producer(&pair.place.path("a"));
    push(&mut producer, 0..2000);
    let (sends, receives) = pair.start(&by);
    let path_b = pair.place.path("b");
    // Full: another of the longest would not fit.
    wait_until("the destination is full", || {
        let ring = annulus::segment::inspect(&annulus::Location::from(&path_b)).unwrap();
        ring.tail.wrapping_sub(ring.head) > 4096 - 128
    });
    wait_until("what fits is confirmed", || {
        released(&pair.place.path("a")) == committed(&path_b)
    });
    assert!(committed(&path_b) < 100);
    // For longer than a silent peer is borne: both go on saying that they are there, and when the
    // receiver reads again it finds what the sender has said meanwhile.
    wait_until("nothing moves for a while", || {
        receives.figures().progress_age > by.silence + by.silence / 4
    });
    let mut consumer = consumer(&path_b);
    pop(&mut consumer, 0..2000);
    wait_until("all is released", || {
        released(&pair.place.path("a")) == 2000
    });
    assert_empty(&mut consumer);
    let said = receives.said();
    assert!(!said.iter().any(|said| said.contains("silent")), "{said:?}");
    assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
}

/// Either bridge ends and another one takes its place, again and again.
pub fn another_bridge_goes_on_where_one_has_ended(way: Way) {
    let pair = Pair::new(way, 1 << 20, 1 << 20);
    let mut producer = producer(&pair.place.path("a"));
    let mut consumer = consumer(&pair.place.path("b"));
    let by = Settings {
        window_records: 50,
        batch_bytes: 512,
        ..settings()
    };
    let mut sends = Running::with(&pair.a(), &pair.listen(""), by.clone()).unwrap();
    let mut at = sends.at();
    let mut receives = Running::with(&pair.dial(&at, ""), &pair.b(), by.clone()).unwrap();
    for round in 0..20 {
        push(&mut producer, round * 500..(round + 1) * 500);
        if round % 3 != 0 {
            let summary = receives.stop();
            assert!(summary.all_confirmed, "{summary:?}");
            receives = Running::with(&pair.dial(&at, ""), &pair.b(), by.clone()).unwrap();
        }
        if round % 3 != 1 {
            // The receiver is there, so all of it can be confirmed.
            assert!(sends.stop().all_confirmed);
            assert_eq!(released(&pair.place.path("a")), (round + 1) * 500);
            sends = Running::with(&pair.a(), &pair.listen(""), by.clone()).unwrap();
            if sends.at() != at {
                at = sends.at();
                receives.stop();
                receives = Running::with(&pair.dial(&at, ""), &pair.b(), by.clone()).unwrap();
            }
        }
        pop(&mut consumer, round * 500..(round + 1) * 500);
    }
    assert_empty(&mut consumer);
}

pub fn what_cannot_go_well_is_refused_with_its_reason(way: Way) {
    // Another ring than the one whose records the destination holds.
    let pair = Pair::new(way, 1 << 16, 1 << 16);
    pair.place.ring("other", 1 << 16);
    push(&mut producer(&pair.place.path("a")), 0..10);
    push(&mut producer(&pair.place.path("other")), 0..10);
    let (sends, receives) = pair.start(&settings());
    wait_until("all has come", || committed(&pair.place.path("b")) == 10);
    assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
    let other = ring_end(&pair.place.path("other"));
    let sends = Running::new(&other, &pair.listen(""));
    let dial = pair.dial(&sends.at(), "");
    let refused = Running::new(&dial, &pair.b()).end().unwrap_err();
    assert!(matches!(&refused, BridgeError::Refused { text, .. } if text.contains("another ring")));
    assert!(refused.hint().unwrap().contains("accept-other-source"));
    assert_eq!(committed(&pair.place.path("b")), 10);
    // Unless it is told to go on with it; and once it holds some of that, for good.
    for _ in 0..2 {
        let told = format!("{}?accept-other-source=yes", pair.b());
        let receives = Running::new(&dial, &told);
        wait_until("the other's have come", || {
            committed(&pair.place.path("b")) == 20
        });
        assert!(receives.stop().all_confirmed);
    }
    drop(sends);
    let mut consumer = consumer(&pair.place.path("b"));
    pop(&mut consumer, 0..10);
    pop(&mut consumer, 0..10);
    assert_empty(&mut consumer);

    // A receiver of another name.
    let sends = Running::new(&other, &pair.listen(""));
    let dial = pair.dial(&sends.at(), "name=somebody-else");
    let refused = Running::new(&dial, &pair.b()).end().unwrap_err();
    assert!(matches!(&refused, BridgeError::Refused { text, .. } if text.contains("other names")));

    // A record that the destination can never hold: it stays in the source.
    let pair = Pair::new(way, 1 << 16, 4096);
    let mut producer = producer(&pair.place.path("a"));
    push(&mut producer, 0..3);
    producer.try_push(9, &[9; 3000]).unwrap();
    let by = Settings {
        batch_bytes: 1,
        ..settings()
    };
    let (sends, receives) = pair.start(&by);
    let refused = receives.end().unwrap_err().to_string();
    assert!(
        refused.contains("3000 bytes") && refused.contains("2040"),
        "{refused}"
    );
    wait_until("what came before is released", || {
        released(&pair.place.path("a")) == 3
    });
    drop(sends);
    assert_eq!(committed(&pair.place.path("b")), 3);
}

pub fn a_bridge_that_is_to_stop_waits_for_confirmations_and_says_if_they_fail_to_come(way: Way) {
    let pair = Pair::new(way, 1 << 20, 4096);
    push(&mut producer(&pair.place.path("a")), 0..1000);
    let by = Settings {
        drain_timeout: std::time::Duration::from_millis(300),
        ..settings()
    };
    // Nobody is there.
    let sends = Running::with(&pair.a(), &pair.listen(""), by.clone()).unwrap();
    sends.at();
    assert!(!sends.stop().all_confirmed);
    assert_eq!(released(&pair.place.path("a")), 0);
    // Somebody is, but reads too little.
    let (sends, receives) = pair.start(&by);
    wait_until("some has come", || committed(&pair.place.path("b")) > 10);
    assert!(!sends.stop().all_confirmed);
    assert!(
        !receives.stop().all_confirmed,
        "it has records that do not fit"
    );
    // Somebody reads all.
    let patient = settings();
    let (mut sends, receives) = pair.start(&patient);
    sends.ask_to_stop();
    pop(&mut consumer(&pair.place.path("b")), 0..1000);
    assert!(sends.end().unwrap().all_confirmed);
    assert!(receives.stop().all_confirmed);
    assert_eq!(released(&pair.place.path("a")), 1000);
}

/// Records of a slot ring: all of them, and in order as long as nobody dies.
#[test]
fn a_slot_ring_is_emptied_into_a_byte_ring() {
    let place = Place::new();
    let (a, b) = (place.path("a"), place.ring("b", 1 << 20));
    annulus::mpmc::Options::new(64, 128).create(&a).unwrap();
    let socket = place.path("s");
    let listen = format!("unix-listen:{}", socket.display());
    let dial = format!("unix:{}", socket.display());
    let mut receives = Running::new(&dial, &ring_end(&b));
    let mut consumer = consumer(&b);
    // SAFETY: nobody but the test uses the file, and through this library only.
    let producer = unsafe { annulus::mpmc::Producer::attach(&a) }.unwrap();
    let wait = || annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
    for life in 0..5_u64 {
        // Each life of the sending bridge numbers anew, and the receiver knows.
        let sends = Running::new(&ring_end(&a), &listen);
        for number in life * 500..(life + 1) * 500 {
            let tag = u32::try_from(number).unwrap();
            producer
                .push(tag, &crate::rig::payload(number), wait())
                .unwrap();
        }
        pop(&mut consumer, life * 500..(life + 1) * 500);
        assert!(
            sends.stop().all_confirmed,
            "what it held is confirmed, so nothing comes twice"
        );
        if life == 2 {
            assert!(receives.stop().all_confirmed);
            receives = Running::new(&dial, &ring_end(&b));
        }
    }
    // Held and not confirmed when its bridge ends: given back, for others.
    drop(receives);
    let by = Settings {
        drain_timeout: std::time::Duration::from_millis(50),
        ..settings()
    };
    producer.push(7, b"left", wait()).unwrap();
    assert!(!sends_nobody(&a, &listen, by), "nobody has confirmed it");
    // SAFETY: as for the producer.
    let other = unsafe { annulus::mpmc::Consumer::attach(&a) }.unwrap();
    let mut bytes = Vec::new();
    assert_eq!(other.try_pop(&mut bytes), Ok(7));
    assert_empty(&mut consumer);
}

/// Into a slot ring beside producers of its own, by one bridge after the other.
#[test]
fn a_slot_ring_is_filled_from_a_byte_ring() {
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.path("b"));
    annulus::mpmc::Options::new(64, 128).create(&b).unwrap();
    let socket = place.path("s");
    let listen = format!("unix-listen:{}", socket.display());
    let dial = format!("unix:{}", socket.display());
    let sends = Running::new(&ring_end(&a), &listen);
    let mut producer = producer(&a);
    // SAFETY: nobody but the test uses the file, and through this library only.
    let consumer = unsafe { annulus::mpmc::Consumer::attach(&b) }.unwrap();
    // SAFETY: as for the consumer.
    let local = unsafe { annulus::mpmc::Producer::attach(&b) }.unwrap();
    let wait = || annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
    for life in 0..5_u64 {
        local.push(u32::MAX, b"mine", wait()).unwrap();
        let receives = Running::new(&dial, &ring_end(&b));
        for number in life * 500..(life + 1) * 500 {
            let tag = u32::try_from(number).unwrap();
            let bytes = crate::rig::payload(number);
            producer
                .push(tag, &bytes[..bytes.len().min(128)], wait())
                .unwrap();
        }
        let mut wanted = life * 500..(life + 1) * 500;
        let mut locals = 0;
        while locals == 0 || !wanted.is_empty() {
            let record = consumer.read(wait()).unwrap();
            if record.tag() == u32::MAX {
                locals += 1;
                continue;
            }
            let number = wanted.next().unwrap();
            let bytes = crate::rig::payload(number);
            assert_eq!(u64::from(record.tag()), number);
            assert_eq!(&record[..], &bytes[..bytes.len().min(128)]);
        }
        assert!(receives.stop().all_confirmed);
    }
    assert!(sends.stop().all_confirmed);
    assert_eq!(released(&a), 2500, "and nothing came twice");
    assert_eq!(
        consumer.try_read().err(),
        Some(annulus::TryReadError::Empty)
    );
}

/// A sending bridge without a receiver, until it holds what there is.
fn sends_nobody(ring: &std::path::Path, listen: &str, by: Settings) -> bool {
    let sends = Running::with(&ring_end(ring), listen, by).unwrap();
    sends.at();
    wait_until("the record is held", || {
        let seen = annulus::segment::inspect(&annulus::Location::from(ring)).unwrap();
        seen.claims_count > 0
    });
    sends.stop().all_confirmed
}

macro_rules! conformance {
    ($adapter:ident, $way:expr, $($case:ident),* $(,)?) => {
        mod $adapter {
            $(
                #[test]
                fn $case() {
                    super::$case($way);
                }
            )*
        }
    };
}

macro_rules! suite {
    ($adapter:ident, $way:expr) => {
        conformance!(
            $adapter,
            $way,
            records_arrive_in_order_with_tags_and_bytes,
            a_full_destination_holds_the_source_up,
            another_bridge_goes_on_where_one_has_ended,
            what_cannot_go_well_is_refused_with_its_reason,
            a_bridge_that_is_to_stop_waits_for_confirmations_and_says_if_they_fail_to_come,
        );
    };
}

suite!(tcp, super::Way::Tcp);
suite!(tls, super::Way::Tls);
suite!(unix, super::Way::Unix);
suite!(secret, super::Way::Secret);
suite!(tls_and_secret, super::Way::TlsSecret);
