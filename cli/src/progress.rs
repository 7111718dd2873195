//! What goes by, on stderr, if somebody sits there to see it.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::size;

const PERIOD: Duration = Duration::from_millis(100);

/// Counts records and bytes, and shows them at a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    verb: &'static str,
    records: u64,
    bytes: u64,
    since: Instant,
    shown: Instant,
}

impl Progress {
    /// `other_end` is what the data comes from or goes to: if that is the terminal too, nothing is
    /// shown. `expected_bytes` makes a bar of it.
    pub fn new(
        verb: &'static str,
        other_end: &impl IsTerminal,
        expected_bytes: Option<u64>,
    ) -> Self {
        let visible = io::stderr().is_terminal() && !other_end.is_terminal();
        let bar = visible.then(|| new_bar(expected_bytes));
        let now = Instant::now();
        Self {
            bar,
            verb,
            records: 0,
            bytes: 0,
            since: now,
            shown: now,
        }
    }

    /// Records and bytes that went by.
    pub fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            let now = Instant::now();
            if now - self.shown >= PERIOD {
                self.shown = now;
                bar.set_message(self.records_and_rate(now));
                bar.set_position(self.bytes);
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    fn records_and_rate(&self, now: Instant) -> String {
        let seconds = (now - self.since).as_secs_f64().max(1e-9);
        let rate = size::grouped((self.records as f64 / seconds) as u64);
        format!("{} records, {rate} records/s", size::grouped(self.records))
    }

    /// Leaves a last line behind.
    pub fn finish(self) {
        let now = Instant::now();
        let Some(bar) = &self.bar else { return };
        bar.finish_and_clear();
        let seconds = (now - self.since).as_secs_f64();
        let (verb, bytes) = (self.verb, size::show(self.bytes));
        eprintln!(
            "{verb} {bytes} in {seconds:.1} s: {}",
            self.records_and_rate(now)
        );
    }
}

fn new_bar(expected_bytes: Option<u64>) -> ProgressBar {
    let bar = match expected_bytes {
        Some(bytes) => ProgressBar::new(bytes),
        None => ProgressBar::new_spinner(),
    };
    let template = match expected_bytes {
        Some(_) => "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}  {msg}",
        None => "{spinner} {binary_bytes} {binary_bytes_per_sec}  {msg}",
    };
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.expect("the templates above are well formed"));
    bar.enable_steady_tick(PERIOD);
    bar
}
