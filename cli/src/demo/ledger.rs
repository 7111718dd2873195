//! Who sent and who received what, and whether that agrees.
//!
//! A producer tells how many records it committed, numbered from 0; the victim tells so before it
//! takes the claim with which it dies. A consumer tells what it released; the victim does so before
//! it takes the record with which it dies, which is therefore due to somebody else. So each number
//! must appear in exactly one consumer's report.

use std::collections::BTreeMap;

use annulus::segment::Snapshot;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A set of sequence numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers(Vec<u64>);

impl Numbers {
    /// Adds a number; false if it was there.
    #[inline]
    pub fn insert(&mut self, number: u64) -> bool {
        let word = usize::try_from(number / 64).expect("as many as were counted one by one");
        if word >= self.0.len() {
            self.0.resize((word + 1).next_power_of_two(), 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn word(&self, index: u64) -> u64 {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.0.get(index))
            .copied()
            .unwrap_or(0)
    }

    fn words(&self) -> u64 {
        self.0.len() as u64
    }
}

/// What one consumer received and released.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// By source.
    pub received: BTreeMap<u32, Numbers>,
    pub bytes: u64,
    /// Records that were not what their producer wrote.
    pub corrupt: u64,
    /// Records that it received more than once.
    pub repeated: u64,
    /// Records that were marked as delivered before.
    pub redelivered: u64,
    /// Longest time without a record while they came as fast as they could.
    pub longest_wait_ns: u64,
    /// Latencies in nanoseconds and how often each occurred.
    pub latencies: Vec<(u64, u64)>,
}

/// The books of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Records committed, by source.
    pub committed: BTreeMap<u32, u64>,
    pub reports: Vec<Report>,
    /// Processes that were killed while they held a claim.
    pub killed: u64,
}

/// What came of one run.
#[derive(Debug)]
pub struct Outcome {
    pub title: &'static str,
    pub killed: u64,
    pub messages: u64,
    pub messages_per_second: f64,
    pub bytes_per_second: f64,
    /// Records a second in the second part, all producers together.
    pub paced_rate: u64,
    pub latency: Histogram<u64>,
    pub longest_wait_ns: u64,
    pub recovered: u64,
    pub redelivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub corrupt: u64,
    /// Numbers that nobody has committed.
    pub invented: u64,
    /// By the ring's own count.
    counted: (u64, u64),
}

/// How much of the books agrees.
#[derive(Debug, Default, PartialEq, Eq)]
struct Balance {
    lost: u64,
    duplicated: u64,
    invented: u64,
}

impl Ledger {
    /// Closes the books. `snapshot` is of the ring after everybody has left, `rate` in records a
    /// second.
    pub fn close(
        self,
        title: &'static str,
        rate: f64,
        paced_rate: u64,
        snapshot: &Snapshot,
    ) -> Outcome {
        let balance = self.balance();
        let messages = self.committed.values().sum();
        let sum = |of: fn(&Report) -> u64| self.reports.iter().map(of).sum::<u64>();
        let mut latency = Histogram::new(3).expect("3 significant digits are possible");
        for (nanoseconds, count) in self.reports.iter().flat_map(|report| &report.latencies) {
            latency
                .record_n(*nanoseconds, *count)
                .expect("the histogram grows as needed");
        }
        Outcome {
            title,
            killed: self.killed,
            messages,
            messages_per_second: rate,
            bytes_per_second: rate * ratio(sum(|report| report.bytes), messages),
            paced_rate,
            latency,
            longest_wait_ns: self
                .reports
                .iter()
                .map(|r| r.longest_wait_ns)
                .max()
                .unwrap_or(0),
            recovered: snapshot.totals.recovered,
            redelivered: sum(|report| report.redelivered),
            lost: balance.lost,
            duplicated: balance.duplicated + sum(|report| report.repeated),
            corrupt: sum(|report| report.corrupt),
            invented: balance.invented,
            counted: (snapshot.committed_records, snapshot.released_records),
        }
    }

    fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        let mut sources: Vec<u32> = self.committed.keys().copied().collect();
        sources.extend(
            self.reports
                .iter()
                .flat_map(|report| report.received.keys()),
        );
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let committed = self.committed.get(&source).copied().unwrap_or(0);
            let sets: Vec<&Numbers> = self
                .reports
                .iter()
                .filter_map(|report| report.received.get(&source))
                .collect();
            balance.add(committed, &sets);
        }
        balance
    }
}

impl Balance {
    /// The numbers below `committed` are due, each in exactly one of `sets`.
    fn add(&mut self, committed: u64, sets: &[&Numbers]) {
        let words = sets.iter().map(|set| set.words()).max().unwrap_or(0);
        for index in 0..words.max(committed.div_ceil(64)) {
            let (mut once, mut twice) = (0, 0);
            for set in sets {
                let word = set.word(index);
                twice |= once & word;
                once |= word;
            }
            let due = low_bits(committed.saturating_sub(64 * index));
            self.lost += u64::from((due & !once).count_ones());
            self.duplicated += u64::from(twice.count_ones());
            self.invented += u64::from((once & !due).count_ones());
        }
    }
}

/// The lowest `count` bits, all 64 at most.
fn low_bits(count: u64) -> u64 {
    if count >= 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

#[expect(clippy::cast_precision_loss, reason = "an average for people")]
fn ratio(sum: u64, count: u64) -> f64 {
    if count == 0 {
        0.0
    } else {
        sum as f64 / count as f64
    }
}

impl Outcome {
    /// What is wrong; nothing if all is well.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |is_wrong: bool, what: String| {
            if is_wrong {
                faults.push(format!("{}: {what}", self.title));
            }
        };
        check(self.messages == 0, "nothing was sent".to_owned());
        check(
            self.lost > 0,
            format!("{} committed records were lost", self.lost),
        );
        check(
            self.duplicated > 0,
            format!("{} records arrived twice", self.duplicated),
        );
        check(
            self.corrupt > 0,
            format!("{} records arrived corrupt", self.corrupt),
        );
        check(
            self.invented > 0,
            format!("{} records were never committed", self.invented),
        );
        if self.killed > 0 {
            check(
                self.recovered < self.killed,
                format!(
                    "{} of {} killed processes were recovered",
                    self.recovered, self.killed
                ),
            );
            check(
                self.redelivered == 0,
                "no record was delivered again".to_owned(),
            );
        }
        check(
            self.counted != (self.messages, self.messages),
            format!(
                "the ring counts {} records committed and {} released, the processes {}",
                self.counted.0, self.counted.1, self.messages
            ),
        );
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(of: impl IntoIterator<Item = u64>) -> Numbers {
        let mut numbers = Numbers::default();
        of.into_iter()
            .for_each(|number| assert!(numbers.insert(number)));
        numbers
    }

    fn balance(committed: u64, sets: &[&Numbers]) -> (u64, u64, u64) {
        let mut balance = Balance::default();
        balance.add(committed, sets);
        (balance.lost, balance.duplicated, balance.invented)
    }

    #[test]
    fn numbers_that_each_arrive_once_are_in_balance() {
        let even = numbers((0..200).filter(|number| number % 2 == 0));
        let odd = numbers((0..200).filter(|number| number % 2 == 1));
        assert_eq!(balance(200, &[&even, &odd]), (0, 0, 0));
        assert_eq!(balance(0, &[]), (0, 0, 0));
    }

    #[test]
    fn every_kind_of_error_is_found() {
        let most = numbers(0..199);
        let last = numbers([3, 199]);
        assert_eq!(balance(200, &[&most]), (1, 0, 0), "lost");
        assert_eq!(balance(500, &[]), (500, 0, 0), "all lost");
        assert_eq!(balance(200, &[&most, &last]), (0, 1, 0), "3 twice");
        assert_eq!(
            balance(198, &[&most, &last]),
            (0, 1, 2),
            "198 and 199 were never sent"
        );
        let mut repeated = numbers([7]);
        assert!(!repeated.insert(7));
    }
}
