//! What every report says of a row: the ratio and its spread, the order, the units.

use crate::result::{Row, Scenario, Slice};
use crate::transport::Place;
use crate::work::{Pattern, Work};

/// How a contender is set against the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The share of the floor's throughput that is reached: more is better.
    Share,
    /// How many times as long as the floor it takes: less is better.
    Times,
}

impl Measure {
    /// The one for this work: shares for streams, times for what has a latency.
    #[must_use]
    pub fn of(work: &Work) -> Self {
        match work.pattern {
            Pattern::Stream => Self::Share,
            Pattern::RoundTrip | Pattern::Paced { .. } => Self::Times,
        }
    }

    /// Of one slice.
    #[must_use]
    pub fn of_slice(self, slice: &Slice) -> f64 {
        match self {
            Self::Share => slice.ratio().recip(),
            Self::Times => slice.ratio(),
        }
    }

    /// As a table's header says it.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Share => "share of the floor's throughput",
            Self::Times => "time ÷ floor",
        }
    }

    /// How much longer or shorter a hand-off takes now: below 1 is faster.
    #[must_use]
    pub fn change(self, new: f64, old: f64) -> f64 {
        match self {
            Self::Share => old / new,
            Self::Times => new / old,
        }
    }
}

/// A median with the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle, or the mean of both middles.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// `None` if there is no value; what is not finite is no value.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        let median = f64::midpoint(low, high);
        Some(Self { median, min, max })
    }

    /// Whether there is a value that lies in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// A row's ratio to the floor, as its scenario measures it.
#[must_use]
pub fn to_floor(scenario: &Scenario, row: &Row) -> Option<Spread> {
    let measure = Measure::of(&scenario.work);
    Spread::of(row.slices.iter().map(|slice| measure.of_slice(slice)))
}

/// Nanoseconds of a row.
#[must_use]
pub fn nanoseconds(row: &Row) -> Option<Spread> {
    Spread::of(row.slices.iter().map(|slice| slice.ns))
}

/// The best first, then who has no figure.
#[must_use]
pub fn ranked(scenario: &Scenario) -> Vec<&Row> {
    let measure = Measure::of(&scenario.work);
    let cost = |row: &Row| {
        to_floor(scenario, row).map_or(f64::INFINITY, |spread| measure.change(spread.median, 1.0))
    };
    let mut rows: Vec<_> = scenario.rows.iter().collect();
    rows.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    rows
}

/// Records lost and repeated in all slices.
#[must_use]
pub fn faults(row: &Row) -> (u64, u64) {
    row.slices.iter().fold((0, 0), |(lost, repeated), slice| {
        (lost + slice.lost, repeated + slice.repeated)
    })
}

/// Of the records sent, those that were lost: `None` if none was.
#[must_use]
pub fn lost_percent(row: &Row) -> Option<f64> {
    let (lost, _) = faults(row);
    let received: u64 = row.slices.iter().map(|slice| slice.records).sum();
    (lost > 0).then(|| number(lost) / number(lost + received) * 100.0)
}

/// Records lost, with their share of those sent, and records repeated: `None` if there are none.
#[must_use]
pub fn faults_in_words(row: &Row) -> Option<String> {
    let (lost, repeated) = faults(row);
    let mut words = Vec::new();
    if let Some(share) = lost_percent(row) {
        words.push(format!(
            "{} lost ({} %)",
            quantity(number(lost)),
            digits(share)
        ));
    }
    if repeated > 0 {
        words.push(format!("{} repeated", quantity(number(repeated))));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

/// Where the players lived, in a word.
#[must_use]
pub fn place(place: Place) -> &'static str {
    match place {
        Place::Processes => "processes",
        Place::Threads => "threads",
    }
}

/// What is done, in a line.
#[must_use]
pub fn describe(work: &Work) -> String {
    let Work {
        pattern,
        capacity,
        waiting,
        producers,
        consumers,
        ..
    } = work;
    let (records, batch) = (bytes(work.payload), batches(work.batch));
    format!(
        "{pattern}, {records} records, {batch}, {producers}+{consumers} players, {waiting}, \
         room for {capacity}"
    )
}

/// How many records a call hands over.
#[must_use]
pub fn batches(batch: usize) -> String {
    match batch {
        1 => "one by one".to_owned(),
        more => format!("batches of {more}"),
    }
}

/// At least two digits that matter, three from 1 to 100.
#[must_use]
pub fn digits(value: f64) -> String {
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 0.1 => 2,
        v if v > 0.0 => (1..12).find(|d| v * 10_f64.powi(*d) >= 1.0).unwrap_or(11) + 1,
        _ => 0,
    };
    let decimals = usize::try_from(decimals).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// `1.34 (1.30..1.52)`, or without the spread if there is none.
#[must_use]
pub fn spread(spread: &Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(digits);
    if spread.min < spread.max {
        format!("{median} ({min}..{max})")
    } else {
        median
    }
}

/// With the unit that fits.
#[must_use]
pub fn time(ns: f64) -> String {
    match ns {
        v if v < 999.5 => format!("{} ns", digits(v)),
        v if v < 999.5e3 => format!("{} µs", digits(v / 1e3)),
        v if v < 999.5e6 => format!("{} ms", digits(v / 1e6)),
        v => format!("{} s", digits(v / 1e9)),
    }
}

/// A number of records, or of records a second.
#[must_use]
pub fn quantity(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 999.5e3 => format!("{} k", digits(v / 1e3)),
        v if v < 999.5e6 => format!("{} M", digits(v / 1e6)),
        v => format!("{} G", digits(v / 1e9)),
    }
}

/// Bytes, in units of 1024 where they come out even.
#[must_use]
pub fn bytes(count: usize) -> String {
    match count {
        n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => format!("{n} B"),
    }
}

/// For arithmetic that people read.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn number(count: u64) -> f64 {
    count as f64
}

/// When a run began.
#[must_use]
pub fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "at an unknown time".to_owned(),
            |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        )
}

/// Processors as Linux lists them: `0-3,8`.
#[must_use]
pub fn cpus(list: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &cpu in list {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let show = |&(first, last): &(usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    runs.iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_what_is_not_finite_does_not_count() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([f64::NAN, f64::INFINITY]), None);
        let odd = Spread::of([3.0, 1.0, f64::NAN, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(even.median, 2.5);
        let touching = Spread::of([4.0, 5.0]).unwrap();
        assert!(even.overlaps(&touching) && !odd.overlaps(&touching));
    }

    #[test]
    fn figures_have_the_digits_and_the_unit_that_fit() {
        let shown = [128.4, 14.23, 1.344, 0.634, 0.0551, 0.00512, 0.00081, 0.0].map(digits);
        assert_eq!(
            shown,
            [
                "128", "14.2", "1.34", "0.63", "0.055", "0.0051", "0.00081", "0"
            ]
        );
        let wide = Spread::of([1.0, 2.0]).unwrap();
        assert_eq!(spread(&wide), "1.50 (1.00..2.00)");
        assert_eq!(spread(&Spread::of([1.34]).unwrap()), "1.34");
        let shown = [58.25, 999.9, 1_234.0, 5e6, 2.5e9].map(time);
        assert_eq!(
            shown,
            ["58.2 ns", "1.00 µs", "1.23 µs", "5.00 ms", "2.50 s"]
        );
        assert_eq!(
            [640.0, 5.21e6, 182e6].map(quantity),
            ["640", "5.21 M", "182 M"]
        );
        assert_eq!(
            [8, 61, 4096, 1 << 20].map(bytes),
            ["8 B", "61 B", "4 KiB", "1 MiB"]
        );
        assert_eq!(cpus(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
        assert_eq!(date(u64::MAX), "at an unknown time");
    }
}
