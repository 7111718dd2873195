//! Tables, for a terminal and for Markdown.
//!
//! A column stands in a table only if some row of it has something to say there.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::figures::{
    Measure, Spread, cpus, date, describe, digits, faults_in_words, nanoseconds, number, place,
    quantity, ranked, spread, time, to_floor,
};
use crate::result::{Latency, Machine, Report, Row, Scenario};
use crate::transport::Place;
use crate::work::Pattern;

/// A column: its header, and what stands in it for each row, the best first.
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) is_number: bool,
    pub(crate) cells: Vec<String>,
}

/// What a table of this scenario shows.
pub(crate) fn columns(scenario: &Scenario) -> Vec<Column> {
    let mut table = Columns {
        rows: ranked(scenario),
        columns: Vec::new(),
    };
    table.text("contender", |row| Some(row.contender.clone()));
    if has_threads(scenario) {
        table.text("players", |row| Some(place(row.place).to_owned()));
    }
    let ratio = |row: &Row| to_floor(scenario, row).as_ref().map(spread);
    table.figure(Measure::of(&scenario.work).heading(), ratio);
    table.figure("time", |row| nanoseconds(row).map(|ns| time(ns.median)));
    if scenario.work.pattern == Pattern::Stream {
        let rate = |row: &Row| nanoseconds(row).map(|ns| quantity(1e9 / ns.median));
        table.figure("records/s", rate);
    }
    table.percentile("p50", |latency| latency.p50);
    table.percentile("p99", |latency| latency.p99);
    table.percentile("p99.9", |latency| latency.p999);
    table.percentile("p99.99", |latency| latency.p9999);
    table.percentile("max", |latency| latency.max);
    table.text("faults", faults_in_words);
    table.figure("left out", |row| {
        (row.left_out > 0).then(|| row.left_out.to_string())
    });
    table.columns
}

/// Columns as they are gathered; one without a word is left out.
struct Columns<'r> {
    rows: Vec<&'r Row>,
    columns: Vec<Column>,
}

impl Columns<'_> {
    fn text(&mut self, title: &'static str, cell: impl Fn(&Row) -> Option<String>) {
        let cells: Vec<_> = self.rows.iter().map(|row| cell(row)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| "-".to_owned()));
            self.columns.push(Column {
                title,
                is_number: false,
                cells: cells.collect(),
            });
        }
    }

    fn figure(&mut self, title: &'static str, cell: impl Fn(&Row) -> Option<String>) {
        let before = self.columns.len();
        self.text(title, cell);
        self.columns[before..]
            .iter_mut()
            .for_each(|column| column.is_number = true);
    }

    fn percentile(&mut self, title: &'static str, value: fn(&Latency) -> u64) {
        self.figure(title, |row| {
            Some(time(number(value(row.latency.as_ref()?))))
        });
    }
}

/// The machine's facts, each with its name.
pub(crate) fn facts(report: &Report) -> Vec<(&str, String)> {
    let Machine {
        cpu,
        cpus: list,
        kernel,
        governor,
        annulus,
        versions,
        clock_ns,
        ..
    } = &report.machine;
    let mut facts = vec![
        ("began", date(report.began)),
        ("processor", cpu.clone()),
        ("processors in use", cpus(list)),
        ("kernel", kernel.clone()),
        (
            "governor",
            governor
                .clone()
                .unwrap_or_else(|| "not readable".to_owned()),
        ),
        ("reading the clock", format!("{} ns", digits(*clock_ns))),
        ("annulus", annulus.clone()),
    ];
    if !versions.is_empty() {
        let versions = versions
            .iter()
            .map(|(name, version)| format!("{name} {version}"));
        facts.push(("others", versions.collect::<Vec<_>>().join(", ")));
    }
    facts
}

/// Its floor in words, with its own spread.
pub(crate) fn floor(scenario: &Scenario) -> String {
    let spread = Spread::of(scenario.floor_ns.iter().copied());
    let spread = match (spread, scenario.floor_ns.len()) {
        (None, _) => "not measured".to_owned(),
        (Some(spread), 1) => format!("{} in one slice", time(spread.median)),
        (Some(Spread { median, min, max }), slices) => {
            let [median, min, max] = [median, min, max].map(time);
            format!("{median} ({min}..{max}) in {slices} slices")
        }
    };
    format!("{}: {spread}", scenario.floor)
}

/// Who failed, with the reason.
pub(crate) fn failures(scenario: &Scenario) -> impl Iterator<Item = (&str, &str)> {
    let failure = |row: &'_ Row| row.failure.is_some();
    scenario
        .rows
        .iter()
        .filter(move |row| failure(row))
        .filter_map(|row| Some((row.contender.as_str(), row.failure.as_deref()?)))
}

fn table(scenario: &Scenario, preset: &str, shown: fn(&str) -> String) -> String {
    let columns = columns(scenario);
    let mut table = Table::new();
    table.load_preset(preset);
    table.set_header(columns.iter().map(|column| shown(column.title)));
    for nth in 0..scenario.rows.len() {
        table.add_row(columns.iter().map(|column| shown(&column.cells[nth])));
    }
    for (of_table, column) in table.column_iter_mut().zip(&columns) {
        if column.is_number {
            of_table.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn has_threads(scenario: &Scenario) -> bool {
    scenario.rows.iter().any(|row| row.place == Place::Threads)
}

/// What the tables leave to be said.
fn notes(report: &Report) -> String {
    let mut notes = "Ratios: median (min..max) over the slices. Time: median.\n".to_owned();
    notes.push_str(if report.scenarios.iter().any(has_threads) {
        "Players are processes. Threads: made for one process, and run in one; it flatters.\n"
    } else {
        "Players are processes.\n"
    });
    notes
}

/// For a terminal.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "{name:<18} {}", printable(&fact));
    }
    let _ = writeln!(out, "{:<18} {}", "command", printable(&report.command));
    for warning in &report.machine.warnings {
        let _ = writeln!(out, "warning: {}", printable(warning));
    }
    for scenario in &report.scenarios {
        let title = printable(&scenario.title);
        let _ = writeln!(out, "\n{}: {title}", printable(&scenario.name));
        let _ = writeln!(out, "  {}", describe(&scenario.work));
        let _ = writeln!(out, "  floor: {}", printable(&floor(scenario)));
        let _ = writeln!(
            out,
            "{}",
            table(scenario, presets::UTF8_FULL_CONDENSED, printable)
        );
        for (contender, failure) in failures(scenario) {
            let _ = writeln!(out, "  {}: {}", printable(contender), printable(failure));
        }
    }
    let _ = write!(out, "\n{}", notes(report));
    out
}

/// For a README: tables first, then what they depend on.
#[must_use]
pub fn render_markdown(report: &Report) -> String {
    let mut out = String::new();
    for scenario in &report.scenarios {
        let _ = writeln!(
            out,
            "**{}** ({})\n",
            mark(&scenario.title),
            describe(&scenario.work)
        );
        let _ = writeln!(out, "{}\n", table(scenario, presets::ASCII_MARKDOWN, mark));
        let _ = writeln!(out, "Floor: {}.", mark(&floor(scenario)));
        for (contender, failure) in failures(scenario) {
            let _ = writeln!(out, "{}: {}.", mark(contender), mark(failure));
        }
        out.push('\n');
    }
    let _ = writeln!(out, "{}", notes(report));
    for (name, fact) in facts(report) {
        let _ = writeln!(out, "- {name}: {}", mark(&fact));
    }
    for warning in &report.machine.warnings {
        let _ = writeln!(out, "- warning: {}", mark(warning));
    }
    let _ = writeln!(out, "\n```sh\n{}\n```", printable(&report.command));
    out
}

/// Nothing that a terminal obeys.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Nothing that Markdown obeys.
fn mark(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        if "\\`*_[]<>|".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
