//! The floor of each work, and the floors beside each other.

use super::{Choice, bench, busiest, distinct, size_of};
use crate::contender;
use crate::contender::{Conditions, Contender, Fault, Found};
use crate::contenders::Bytes;
use crate::floors::{Blocks, Exchange, Futex, Lines, SystemCall, records_in_block};
use crate::slices::{Bench, Floor};
use crate::transport::Place;
use crate::work::{Pattern, Waiting, Work};

impl Floor {
    /// The floor of a work.
    ///
    /// A round trip of up to 64 bytes is held against one cache line, a word with up to 56 bytes,
    /// longer ones against all of their lines; one that blocks against a futex. A stream, whoever
    /// takes part, against one process that copies into blocks and another that reads them.
    #[must_use]
    pub fn of(work: &Work, cpus: &[usize]) -> Self {
        let alone = Work {
            batch: 1,
            waiting: if distinct(cpus) > 1 {
                Waiting::Spin
            } else {
                Waiting::Yield
            },
            producers: 1,
            consumers: 1,
            ..*work
        };
        let trip = Work {
            pattern: Pattern::RoundTrip,
            payload: if work.payload == 64 { 56 } else { work.payload },
            ..alone
        };
        match (work.pattern, work.waiting) {
            (Pattern::Stream, _) => Self {
                words: format!(
                    "{} copied into blocks of 32 KiB and read",
                    size_of(work.payload)
                ),
                contender: contender!(work.payload, Blocks),
                work: Work {
                    batch: records_in_block(work.payload),
                    ..alone
                },
            },
            (Pattern::RoundTrip, Waiting::Block) => Self {
                words: "a shared futex there and back".to_owned(),
                contender: contender!(trip.payload, Futex::default()),
                work: trip,
            },
            (Pattern::RoundTrip, _) => Self {
                words: format!("{} there and back", lines(trip.payload)),
                contender: contender!(trip.payload, Lines::default()),
                work: trip,
            },
            (Pattern::Paced { .. }, Waiting::Block) => Self {
                words: "a shared futex, one way".to_owned(),
                contender: Box::new(OneWay(contender!(trip.payload, Futex::default()))),
                work: trip,
            },
            (Pattern::Paced { .. }, _) => Self {
                words: format!("{}, one way", lines(trip.payload)),
                contender: Box::new(OneWay(contender!(trip.payload, Lines::default()))),
                work: trip,
            },
        }
    }
}

fn lines(payload: usize) -> String {
    match (payload + 8).div_ceil(64) {
        1 => format!("one cache line (a word and {payload} B)"),
        lines => format!("{lines} cache lines (a word and {})", size_of(payload)),
    }
}

/// Half of a round trip.
struct OneWay(Box<dyn Contender>);

impl Contender for OneWay {
    fn name(&self) -> String {
        format!("{}, one way", self.0.name())
    }

    fn place(&self) -> Place {
        self.0.place()
    }

    fn run(&self, work: &Work, conditions: &Conditions) -> Result<Found, Fault> {
        let found = self.0.run(work, conditions)?;
        Ok(Found {
            ns: found.ns / 2.0,
            ..found
        })
    }
}

/// A contender at a work of its own, beside those that do the scenario's.
struct At {
    name: String,
    contender: Box<dyn Contender>,
    work: Work,
}

impl Contender for At {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn place(&self) -> Place {
        self.contender.place()
    }

    fn run(&self, _: &Work, conditions: &Conditions) -> Result<Found, Fault> {
        self.contender.run(&self.work, conditions)
    }
}

/// The machine's floors beside each other: round trips, and streams.
pub(super) fn floors_themselves(choice: &Choice, cpus: &[usize]) -> [Bench; 2] {
    let busy = busiest(cpus, 2);
    let trip = |payload, waiting| choice.work(Pattern::RoundTrip, payload, waiting);
    let stream = |payload| choice.work(Pattern::Stream, payload, busy);
    let floor = |name: &str, work: Work| -> Box<dyn Contender> {
        let Floor {
            contender, work, ..
        } = Floor::of(&work, cpus);
        let name = name.to_owned();
        Box::new(At {
            name,
            contender,
            work,
        })
    };
    let two_lines = Work {
        payload: 64,
        ..Floor::of(&trip(64, busy), cpus).work
    };
    let bulk = Work {
        batch: (64 << 10) / 64,
        ..choice.work(Pattern::Stream, 64, Waiting::Block)
    };
    let trips: Vec<Box<dyn Contender>> = vec![
        floor("cache line, 8 B", trip(8, busy)),
        floor("cache line, 56 B", trip(56, busy)),
        Box::new(At {
            name: "two cache lines, 64 B".to_owned(),
            contender: contender!(64, Lines::default()),
            work: two_lines,
        }),
        floor("futex", trip(56, Waiting::Block)),
        Box::new(Exchange),
        Box::new(SystemCall),
    ];
    let streams: Vec<Box<dyn Contender>> = vec![
        floor("block copy, 8 B", stream(8)),
        floor("block copy, 64 B", stream(64)),
        floor("block copy, 4 KiB", stream(4 << 10)),
        Box::new(At {
            name: "TCP, 64 B records, 64 KiB a write".to_owned(),
            contender: contender!(64, Bytes::Tcp),
            work: bulk,
        }),
    ];
    let named = |name: &str, title: &str, bench: Bench| Bench {
        name: name.to_owned(),
        title: title.to_owned(),
        ..bench
    };
    [
        named(
            "floors/round-trip",
            "what the machine itself takes, there and back",
            bench(trip(56, busy), trips, cpus),
        ),
        named(
            "floors/stream",
            "what the machine itself takes, one way",
            bench(stream(64), streams, cpus),
        ),
    ]
}
