//! What was found, as Markdown for the README: one table for those who hand records from one to
//! one, one for those who share them among many. Who failed keeps its line, with the reason below.

use std::fmt::Write as _;

use annulus_lab::Place;
use annulus_lab::report::figures::{Spread, digits, faults, lost_percent, to_floor};
use annulus_lab::result::{Report, Row, Scenario};

use crate::peers::Field;
use crate::scenarios;

/// Whom the others are held against where many share.
const YARDSTICK: &str = "crossbeam ArrayQueue";

/// Why there is no figure, or no more, and whose.
struct Note {
    reason: String,
    whose: Vec<String>,
}

/// The tables, and the machine that they are of.
pub(crate) fn markdown(report: &Report) -> String {
    let mut notes = Vec::new();
    let mut text = String::new();
    let of = |field| -> Vec<&Scenario> {
        let names = scenarios::ALL.iter().filter(|each| each.field == field);
        let names: Vec<String> = names.map(scenarios::Scenario::name).collect();
        let found = report.scenarios.iter();
        found.filter(|found| names.contains(&found.name)).collect()
    };
    let tables = [
        (
            Field::OneToOne,
            "From one to one: round trips as multiples of one cache line going there \
          and back (less is better), streams as shares of a block copy's throughput (more is \
          better).",
        ),
        (
            Field::ManyToMany,
            "Among many, producers + consumers, 64 B: throughput as a multiple of \
          `ArrayQueue`'s (more is better).",
        ),
    ];
    for (field, caption) in tables {
        let scenarios = of(field);
        if !scenarios.is_empty() {
            let _ = writeln!(text, "{caption}\n");
            table(&mut text, field, &scenarios, &mut notes);
        }
    }
    for (nth, Note { reason, whose }) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}. {}: {reason}.", nth + 1, whose.join("; "));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text.push_str(&footer(report));
    text
}

fn table(text: &mut String, field: Field, scenarios: &[&Scenario], notes: &mut Vec<Note>) {
    let columns: Vec<&str> = scenarios.iter().map(|each| title_of(each)).collect();
    let _ = writeln!(text, "| | {} |", columns.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---".repeat(columns.len()));
    let contenders: Vec<&Row> = scenarios[0].rows.iter().collect();
    for contender in contenders {
        let name = match contender.place {
            Place::Processes => contender.contender.clone(),
            Place::Threads => format!("{} (threads)", contender.contender),
        };
        let cells = scenarios.iter().map(|scenario| {
            let row = row_of(scenario, &contender.contender);
            row.map_or("–".to_owned(), |row| cell(field, scenario, row, notes))
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text.push('\n');
}

fn title_of(scenario: &Scenario) -> &str {
    let known = scenarios::ALL
        .iter()
        .find(|each| each.name() == scenario.name);
    known.map_or(scenario.name.as_str(), |each| each.title)
}

fn row_of<'s>(scenario: &'s Scenario, contender: &str) -> Option<&'s Row> {
    scenario.rows.iter().find(|row| row.contender == contender)
}

fn cell(field: Field, scenario: &Scenario, row: &Row, notes: &mut Vec<Note>) -> String {
    let unit = match field {
        Field::OneToOne => Some(1.0),
        Field::ManyToMany => {
            let yardstick = row_of(scenario, YARDSTICK);
            yardstick
                .and_then(|row| to_floor(scenario, row))
                .map(|spread| spread.median)
        }
    };
    let mut cell = match (to_floor(scenario, row), unit) {
        (Some(Spread { median, min, max }), Some(unit)) => {
            let [median, min, max] = [median, min, max].map(|figure| digits(figure / unit));
            format!("{median} ({min}..{max})")
        }
        (Some(_), None) => "nothing to compare".to_owned(),
        (None, _) if row.failure.is_some() => String::new(),
        (None, _) => "disturbed".to_owned(),
    };
    if let Some(loss) = losses(row) {
        let _ = write!(cell, ", {loss}");
    }
    if let Some(failure) = &row.failure {
        let what = if failure.starts_with("cannot") {
            "–"
        } else {
            "**fails**"
        };
        let whose = format!("{}, {}", row.contender, title_of(scenario));
        let separator = if cell.is_empty() { "" } else { ", " };
        let _ = write!(cell, "{separator}{what} [{}]", note(notes, failure, whose));
    }
    cell
}

/// The number of the note with this reason, which is then about one more.
fn note(notes: &mut Vec<Note>, reason: &str, whose: String) -> usize {
    let known = notes.iter().position(|note| note.reason == reason);
    let nth = known.unwrap_or_else(|| {
        notes.push(Note {
            reason: reason.to_owned(),
            whose: Vec::new(),
        });
        notes.len() - 1
    });
    notes[nth].whose.push(whose);
    nth + 1
}

/// What of the records did not arrive, or arrived more than once.
fn losses(row: &Row) -> Option<String> {
    let (_, repeated) = faults(row);
    let lost = lost_percent(row).map(|share| format!("loses {} %", digits(share)));
    let repeated = (repeated > 0).then(|| format!("repeats {repeated}"));
    let both: Vec<String> = lost.into_iter().chain(repeated).collect();
    (!both.is_empty()).then(|| both.join(", "))
}

fn footer(report: &Report) -> String {
    let machine = &report.machine;
    let versions = machine.versions.iter();
    let versions: Vec<String> = versions
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let governor = machine.governor.as_deref().unwrap_or("unknown");
    format!(
        "Medians over slices taken in turns, each held against its floor right before and after \
         it, with the least and the greatest; \"(threads)\" is within one process, which flatters. \
         {}, processors {:?}, Linux {}, governor {governor}; annulus {}, {}. Made by `{}`.{}\n",
        machine.cpu,
        machine.cpus,
        machine.kernel,
        machine.annulus,
        versions.join(", "),
        report.command,
        spoilt(&machine.warnings)
    )
}

/// What the doctor has to say.
fn spoilt(warnings: &[String]) -> String {
    if warnings.is_empty() {
        return String::new();
    }
    format!(" Spoilt by: {}.", warnings.join("; "))
}

#[cfg(test)]
mod tests {
    use annulus_lab::result::Slice;

    use super::*;

    fn slice(ns: f64, lost: u64) -> Slice {
        Slice {
            ns,
            floor_ns: [2.0, 2.0],
            records: 900,
            lost,
            repeated: 0,
        }
    }

    fn row(contender: &str, slices: Vec<Slice>, failure: Option<&str>) -> Row {
        Row {
            contender: contender.to_owned(),
            place: Place::Processes,
            slices,
            left_out: 0,
            failure: failure.map(str::to_owned),
            latency: None,
        }
    }

    fn scenario(title: &str, rows: Vec<Row>) -> Scenario {
        let known = scenarios::ALL.iter().find(|each| each.title == title);
        let known = known.expect("a scenario");
        Scenario {
            name: known.name(),
            title: String::new(),
            work: known.work,
            floor: String::new(),
            floor_ns: vec![2.0],
            rows,
        }
    }

    fn tables(scenarios: Vec<Scenario>) -> String {
        let machine = serde_json::json!({
            "cpu": "", "cpus": [0, 1], "kernel": "", "governor": null, "annulus": "",
            "versions": [], "clock_ns": 1.0, "warnings": ["somebody else's load"],
        });
        markdown(&Report {
            version: 1,
            machine: serde_json::from_value(machine).expect("a machine"),
            command: String::new(),
            began: 0,
            scenarios,
        })
    }

    #[test]
    fn winners_and_losers_have_a_line_and_a_reason() {
        let wedged = "wedged: not done after 3 s: receiver 0";
        let trips = scenario(
            "round trip, 56 B",
            vec![
                row(
                    "quick",
                    vec![slice(2.2, 0), slice(2.0, 0), slice(3.0, 0)],
                    None,
                ),
                row("stuck", vec![], Some(wedged)),
                row("other", vec![], Some("cannot: it has no way back")),
            ],
        );
        let streams = scenario(
            "64 B",
            vec![
                row("quick", vec![slice(4.0, 0)], None),
                row("stuck", vec![slice(8.0, 100)], Some(wedged)),
                row("other", vec![], None),
            ],
        );
        let text = tables(vec![trips, streams]);
        for line in [
            "| | round trip, 56 B | 64 B |",
            "| quick | 1.10 (1.00..1.50) | 0.50 (0.50..0.50) |",
            "| stuck | **fails** [1] | 0.25 (0.25..0.25), loses 10.0 %, **fails** [1] |",
            "| other | – [2] | disturbed |",
            "1. stuck, round trip, 56 B; stuck, 64 B: wedged: not done after 3 s: receiver 0.",
            "2. other, round trip, 56 B: cannot: it has no way back.",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
        }
        assert!(text.contains("Spoilt by: somebody else's load."), "{text}");
    }

    #[test]
    fn among_many_the_yardstick_is_one() {
        let crowd = scenario(
            "2 + 2",
            vec![
                row("quick", vec![slice(2.0, 0)], None),
                row(
                    YARDSTICK,
                    vec![slice(6.0, 0), slice(4.0, 0), slice(8.0, 0)],
                    None,
                ),
            ],
        );
        let text = tables(vec![crowd]);
        for line in [
            "| quick | 3.00 (3.00..3.00) |",
            "| crossbeam ArrayQueue | 1.00 (0.75..1.50) |",
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
        }
    }
}
