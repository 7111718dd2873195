//! Where the kills of the churn have hit: by role, by step, and by what the ring's words said.

use std::collections::BTreeMap;
use std::path::Path;

use annulus::segment::{Location, inspect};

use super::log::Step;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

/// All steps of a sender and of a receiver.
const STEPS: [Step; 9] = [
    Step::Starting,
    Step::Attaching,
    Step::Idle,
    Step::Claiming,
    Step::Waiting,
    Step::Holding,
    Step::Publishing,
    Step::Undoing,
    Step::Detaching,
];

/// What the ring said of a victim that stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum InRing {
    /// No row was its own.
    NoRow,
    /// It had a row, and no slot named it.
    NoClaim,
    /// So many slots named it: WRITING by a sender, READING by a receiver.
    Claims(u64),
}

impl InRing {
    pub(crate) fn of(ring: &Path, pid: u32) -> Self {
        let snapshot = inspect(&Location::from(ring)).expect("inspect");
        let mut rows = snapshot.participants.iter();
        let Some(row) = rows.find(|row| row.pid == pid && row.is_alive) else {
            return Self::NoRow;
        };
        let named = |claim: &&annulus::segment::ClaimInfo| claim.owner == row.number;
        match snapshot.claims.iter().filter(named).count() as u64 {
            0 => Self::NoClaim,
            count => Self::Claims(count),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Hits {
    steps: BTreeMap<(Role, Step), u64>,
    /// Of those that were waiting.
    asleep: BTreeMap<Role, u64>,
    in_ring: BTreeMap<(Role, Step, InRing), u64>,
}

impl Hits {
    /// A kill; `asleep` tells whether its victim slept just before.
    pub(crate) fn note(&mut self, role: Role, step: Step, asleep: bool) {
        *self.steps.entry((role, step)).or_default() += 1;
        if asleep && step == Step::Waiting {
            *self.asleep.entry(role).or_default() += 1;
        }
    }

    /// What the ring said of a victim before it was killed.
    pub(crate) fn note_in_ring(&mut self, role: Role, step: Step, in_ring: InRing) {
        *self.in_ring.entry((role, step, in_ring)).or_default() += 1;
    }

    fn of(&self, role: Role, step: Step) -> u64 {
        self.steps.get(&(role, step)).copied().unwrap_or(0)
    }

    fn asleep(&self, role: Role) -> u64 {
        self.asleep.get(&role).copied().unwrap_or(0)
    }

    pub(crate) fn print(&self) {
        let (sender, receiver) = (Role::Sender, Role::Receiver);
        println!("killed in      sender receiver   stopped there first, and the ring said");
        for step in STEPS {
            let said: Vec<String> = self
                .in_ring
                .iter()
                .filter(|((_, of, _), _)| *of == step)
                .map(|((role, _, in_ring), count)| format!("{role:?} {in_ring:?}: {count}"))
                .collect();
            let (step, said) = (format!("{step:?}"), (step, said.join(", ")));
            let (sender, receiver) = (self.of(sender, said.0), self.of(receiver, said.0));
            println!("{step:<12} {sender:>8} {receiver:>8}   {}", said.1);
        }
        let (sender, receiver) = (self.asleep(sender), self.asleep(receiver));
        println!("{:<12} {sender:>8} {receiver:>8}", "(asleep)");
    }

    /// No state of any role may have been spared.
    pub(crate) fn check(&self) {
        for role in [Role::Sender, Role::Receiver] {
            for step in STEPS {
                assert!(self.of(role, step) > 0, "no {role:?} died in {step:?}");
            }
            assert!(self.asleep(role) > 0, "no {role:?} died asleep");
            for step in [Step::Holding, Step::Publishing] {
                let with_claims = |&(of, at, in_ring): &(Role, Step, InRing)| {
                    (of, at) == (role, step) && matches!(in_ring, InRing::Claims(_))
                };
                let named = self.in_ring.keys().any(with_claims);
                assert!(
                    named,
                    "no {role:?} died in {step:?} with its name on a slot"
                );
            }
        }
    }
}
