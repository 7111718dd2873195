//! The results of the demo as a table.

use comfy_table::{CellAlignment, Table, presets};

use super::ledger::Outcome;
use crate::size::{grouped, show};

/// A line of the table: its label, and what stands in it for one run.
type Line = (&'static str, fn(&Outcome) -> String);

const LINES: [Line; 14] = [
    ("messages", |run| grouped(run.messages)),
    ("throughput, messages/s", |run| {
        grouped(whole(run.messages_per_second))
    }),
    ("throughput, bytes/s", |run| {
        show(whole(run.bytes_per_second))
    }),
    ("longest wait for a message", |run| {
        time(run.longest_wait_ns)
    }),
    ("at messages/s", |run| grouped(run.paced_rate)),
    ("latency p50", |run| {
        time(run.latency.value_at_quantile(0.5))
    }),
    ("latency p99", |run| {
        time(run.latency.value_at_quantile(0.99))
    }),
    ("latency p99.9", |run| {
        time(run.latency.value_at_quantile(0.999))
    }),
    ("latency max", |run| time(run.latency.max())),
    ("killed holding a claim", |run| run.killed.to_string()),
    ("recovered", |run| if_killed(run, run.recovered)),
    ("redelivered", |run| if_killed(run, run.redelivered)),
    ("lost", |run| run.lost.to_string()),
    ("corrupt", |run| run.corrupt.to_string()),
];

const NOTES: &str = "\
Throughput: as fast as they can, the kills and what they hold up included. Latency: at the rate in
the table, from when a message was due until its consumer has checked it; a late sender counts as
latency. Whoever waits spins for some microseconds, then sleeps.
";

pub fn draw(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    let titles = outcomes.iter().map(|run| run.title);
    table.set_header(std::iter::once("").chain(titles));
    for (label, cell) in LINES {
        let cells = outcomes.iter().map(cell);
        table.add_row(std::iter::once(label.to_owned()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let verdict = if outcomes.iter().all(|run| run.faults().is_empty()) {
        "Every committed message arrived, whole and once."
    } else {
        "FAILED: messages are missing, damaged or too many, or nobody was recovered."
    };
    format!("{table}\n{NOTES}{verdict}\n")
}

/// What only kills bring about.
fn if_killed(run: &Outcome, count: u64) -> String {
    if run.killed == 0 && count == 0 {
        "-".to_owned()
    } else {
        count.to_string()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[expect(clippy::cast_precision_loss, reason = "a time for people")]
fn time(nanoseconds: u64) -> String {
    let ns = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns / 1e6),
        _ => format!("{:.1} s", ns / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        let shown = [7, 1_500, 2_000_000, 3_250_000_000].map(time);
        assert_eq!(shown, ["7 ns", "1.5 µs", "2.0 ms", "3.2 s"]);
    }
}
