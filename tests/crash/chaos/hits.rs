//! What has struck whom, by side, by step, and by what the ring's words said.
//!
//! A state that was never hit is a failure of the test: [`Hits::missing`] says what is still to be
//! done, and the director does it before it comes to an end.

use std::collections::BTreeMap;

use super::super::log::Step;
use super::blows::{At, Kind, Side};

/// Steps of either side, in the order of a life.
const STEPS: [Step; 12] = [
    Step::Starting,
    Step::Attaching,
    Step::Idle,
    Step::Claiming,
    Step::Waiting,
    Step::Holding,
    Step::Writing,
    Step::Reading,
    Step::Publishing,
    Step::Undoing,
    Step::Detaching,
    Step::Recovering,
];

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Killed,
    KilledStopped,
    WentOn,
    Panicked,
    Forked,
    Executed,
}

const FATES: [(Fate, &str); 6] = [
    (Fate::Killed, "killed"),
    (Fate::KilledStopped, "+stopped"),
    (Fate::WentOn, "went on"),
    (Fate::Panicked, "panicked"),
    (Fate::Forked, "forked"),
    (Fate::Executed, "exec"),
];

/// What is to be done before all has been hit.
pub(super) type Missing = (Kind, Side, At);

#[derive(Debug, Default)]
pub(super) struct Hits {
    fates: BTreeMap<(Side, Step, Fate), u64>,
    asleep: BTreeMap<Side, u64>,
    /// Kills by side and step, and whether the dead one's row still named claims as it was reaped.
    left: BTreeMap<(Side, Step, bool), u64>,
    /// Rows that were RECOVERING for as long as their recoverer stood still, until it was killed.
    pub(super) left_in_recovery: u64,
}

impl Hits {
    pub(super) fn note(&mut self, side: Side, step: Step, fate: Fate) {
        *self.fates.entry((side, step, fate)).or_default() += 1;
    }

    pub(super) fn note_asleep(&mut self, side: Side) {
        *self.asleep.entry(side).or_default() += 1;
    }

    pub(super) fn note_left(&mut self, side: Side, step: Step, claims: bool) {
        *self.left.entry((side, step, claims)).or_default() += 1;
    }

    fn of(&self, side: Side, step: Step, fate: Fate) -> u64 {
        self.fates.get(&(side, step, fate)).copied().unwrap_or(0)
    }

    fn left(&self, side: Side, step: Step, claims: bool) -> u64 {
        self.left.get(&(side, step, claims)).copied().unwrap_or(0)
    }

    /// Nothing, once every state has been hit.
    pub(super) fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        for side in Side::BOTH {
            self.missing_kills(side, &mut missing);
            let mut need = |steps: &[Step], fate, kind| {
                for step in steps {
                    if self.of(side, *step, fate) == 0 {
                        missing.push((kind, side, At::In(*step)));
                    }
                }
            };
            let busy = [Step::Holding, side.handling(), Step::Publishing];
            need(&busy, Fate::KilledStopped, Kind::StopAndKill);
            need(&busy, Fate::WentOn, Kind::Stop);
            need(&busy, Fate::Panicked, Kind::Panic);
            need(&busy, Fate::Forked, Kind::ForkAndDie);
            need(&busy, Fate::Executed, Kind::Exec);
        }
        if self.left_in_recovery == 0 {
            missing.push((Kind::StopAndKill, Side::Producer, At::In(Step::Recovering)));
        }
        missing
    }

    fn missing_kills(&self, side: Side, missing: &mut Vec<Missing>) {
        let other = match side {
            Side::Producer => Step::Reading,
            Side::Consumer => Step::Writing,
        };
        for step in STEPS {
            if step != other && self.of(side, step, Fate::Killed) == 0 {
                let at = if step == Step::Starting {
                    At::Birth
                } else {
                    At::In(step)
                };
                missing.push((Kind::Kill, side, at));
            }
        }
        if !self.asleep.contains_key(&side) {
            missing.push((Kind::Kill, side, At::Asleep));
        }
        // Before the store that publishes, and between that and the return of the call.
        let publishing = Step::Publishing;
        for (step, claims) in [
            (Step::Holding, true),
            (publishing, true),
            (publishing, false),
        ] {
            if self.left(side, step, claims) == 0 {
                missing.push((Kind::StopAndKill, side, At::In(step)));
            }
        }
    }

    /// The table, line by line.
    pub(super) fn table(&self) -> Vec<String> {
        let head: Vec<String> = FATES.iter().map(|(_, name)| format!("{name:>8}")).collect();
        let head = head.join(" ");
        let mut lines = vec![
            format!("{:<11} {:^53} | {:^53}", "", "producer", "consumer"),
            format!("{:<11} {head} | {head} | claims left in the ring", "in"),
        ];
        for step in STEPS {
            let row = |side| {
                let cells = FATES.map(|(fate, _)| format!("{:>8}", self.of(side, step, fate)));
                cells.join(" ")
            };
            let left: Vec<String> = Side::BOTH
                .into_iter()
                .map(|side| {
                    let (some, none) = (self.left(side, step, true), self.left(side, step, false));
                    format!("{some} of {}", some + none)
                })
                .collect();
            let step = format!("{step:?}");
            lines.push(format!(
                "{step:<11} {} | {} | {}, {}",
                row(Side::Producer),
                row(Side::Consumer),
                left[0],
                left[1]
            ));
        }
        let asleep = Side::BOTH.map(|side| self.asleep.get(&side).copied().unwrap_or(0));
        lines.push(format!(
            "killed asleep: {} and {}; rows in recovery whose recoverer was killed: {}",
            asleep[0], asleep[1], self.left_in_recovery
        ));
        lines
    }
}
