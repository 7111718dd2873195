//! What is asked of all of them.

use annulus_lab::slices::Bench;
use annulus_lab::{Contender, Pattern, Waiting, Work, ladder};

use crate::peers::{self, Field};

/// The same work for a field of contenders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// As the table's column says it.
    pub(crate) title: &'static str,
    pub(crate) field: Field,
    pub(crate) work: Work,
}

const fn work(pattern: Pattern, payload: usize, batch: usize) -> Work {
    Work {
        pattern,
        payload,
        batch,
        capacity: match payload {
            ..=256 => 4096,
            _ => (1 << 20) / payload, // a mebibyte
        },
        waiting: Waiting::Spin,
        producers: 1,
        consumers: 1,
    }
}

const fn one_to_one(title: &'static str, work: Work) -> Scenario {
    let field = Field::OneToOne;
    Scenario { title, field, work }
}

/// With more players than processors each waits as its documentation says.
const fn many_to_many(title: &'static str, players: usize, waiting: Waiting) -> Scenario {
    Scenario {
        title,
        field: Field::ManyToMany,
        work: Work {
            waiting,
            producers: players,
            consumers: players,
            ..work(Pattern::Stream, 64, 1)
        },
    }
}

/// All of them, in the order of the tables' columns.
pub(crate) const ALL: [Scenario; 11] = [
    one_to_one("round trip, 56 B", work(Pattern::RoundTrip, 56, 1)),
    one_to_one("round trip, 64 B", work(Pattern::RoundTrip, 64, 1)),
    one_to_one("stream, 8 B", work(Pattern::Stream, 8, 1)),
    one_to_one("8 B by 32", work(Pattern::Stream, 8, 32)),
    one_to_one("64 B", work(Pattern::Stream, 64, 1)),
    one_to_one("64 B by 32", work(Pattern::Stream, 64, 32)),
    one_to_one("4 KiB", work(Pattern::Stream, 4096, 1)),
    one_to_one("64 KiB", work(Pattern::Stream, 65536, 1)),
    many_to_many("1 + 1", 1, Waiting::Spin),
    many_to_many("2 + 2", 2, Waiting::Block),
    many_to_many("4 + 4", 4, Waiting::Block),
];

impl Scenario {
    /// As `annulus bench` names this work; among many it is another one even with one of each.
    pub(crate) fn name(&self) -> String {
        let name = ladder::name_of(&self.work);
        match self.field {
            Field::OneToOne => name,
            Field::ManyToMany => format!("mpmc/{name}"),
        }
    }

    /// With those contenders that are wanted.
    pub(crate) fn bench(
        &self,
        cpus: &[usize],
        is_wanted: impl Fn(&dyn Contender) -> bool,
    ) -> Bench {
        let mut contenders = peers::contenders(self.field, self.work.payload);
        contenders.retain(|contender| is_wanted(&**contender));
        Bench {
            name: self.name(),
            ..ladder::bench(self.work, contenders, cpus)
        }
    }
}
