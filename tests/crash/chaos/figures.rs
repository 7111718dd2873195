//! What has happened so far, in numbers.

use std::time::Duration;

use super::say;

#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) births: u64,
    /// SIGKILLs that ended a process.
    pub(super) kills: u64,
    pub(super) rounds: u64,
    pub(super) stops: u64,
    pub(super) panics: u64,
    pub(super) forks: u64,
    /// Forked children that outlived their parents, and ended well.
    pub(super) orphans: u64,
    pub(super) executions: u64,
    /// Of a producer and of a consumer.
    pub(super) longest_wait: [Duration; 2],
    pub(super) longest_stop: Duration,
    /// How long somebody who stood still was in others' way, or the machine.
    pub(super) excused: Duration,
    /// How long it was the machine.
    pub(super) stalls: Duration,
}

impl Figures {
    /// All but the kills, for a line of progress.
    pub(super) fn line(&self, records: u64) -> String {
        let Self {
            stops,
            panics,
            forks,
            executions,
            rounds,
            ..
        } = self;
        format!(
            "{stops} stops, {panics} panics, {forks} forks, {executions} execs, \
             {records} records in {rounds} rounds"
        )
    }

    pub(super) fn print(&self) {
        let Self {
            births,
            orphans,
            longest_wait: [producer, consumer],
            longest_stop,
            excused,
            stalls,
            ..
        } = self;
        say!("{births} processes forked, and {orphans} by them that outlived them");
        say!("longest wait of a producer {producer:?}, of a consumer {consumer:?}");
        say!("longest stop {longest_stop:?}");
        say!("excused: {excused:?} of the run, {stalls:?} of that for the machine's sake");
    }
}
