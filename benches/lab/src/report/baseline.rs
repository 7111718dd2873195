//! A run beside an earlier one, ratio to the floor against ratio to the floor.
//!
//! Nanoseconds of two runs are not compared: the machine may have been another between them. Two
//! ratios differ only if the spreads of their slices do not overlap; otherwise nothing was seen.

use comfy_table::{CellAlignment, Table, presets};
use std::fmt::Write as _;

use super::figures::{Measure, Spread, cpus, digits, spread, to_floor};
use crate::result::{REPORT_VERSION, Report, Row, Scenario};

/// Why two runs cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// A field means something else in it.
    #[error("the baseline is a report of version {found}, this build compares version {wanted}")]
    OtherVersion {
        /// The baseline's.
        found: u32,
        /// [`REPORT_VERSION`].
        wanted: u32,
    },
    /// No report at all.
    #[error("the baseline is not a report of `--json`")]
    NotAReport(#[from] serde_json::Error),
}

/// What became of a contender in a scenario.
#[derive(Clone, Debug)]
pub struct Difference<'r> {
    /// The scenario's name.
    pub scenario: &'r str,
    /// The contender's.
    pub contender: &'r str,
    /// How both figures are read.
    pub measure: Measure,
    /// Its ratio in the earlier run.
    pub old: Option<Spread>,
    /// Its ratio now.
    pub new: Option<Spread>,
}

impl Difference<'_> {
    /// Whether both have a figure and the spreads do not overlap.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        matches!((&self.old, &self.new), (Some(old), Some(new)) if !old.overlaps(new))
    }

    /// In words; the sign is the time's: less is faster, whatever the measure.
    #[must_use]
    pub fn verdict(&self) -> String {
        let (Some(old), Some(new)) = (self.old, self.new) else {
            return match (self.old.is_some(), self.new.is_some()) {
                (true, _) => "only in the baseline",
                (_, true) => "only now",
                _ => "no figure in either",
            }
            .to_owned();
        };
        if !self.is_seen() {
            return "no difference seen".to_owned();
        }
        let change = self.measure.change(new.median, old.median);
        let (factor, word) = if change < 1.0 {
            (change.recip(), "faster")
        } else {
            (change, "slower")
        };
        format!("{} × {word}", digits(factor))
    }
}

/// Reads what `--json` wrote.
///
/// # Errors
///
/// [`BaselineError`], if it is of another version (even if nothing else in it can be read), or no
/// report.
pub fn read(json: &str) -> Result<Report, BaselineError> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_str(json)?;
    check(head.version)?;
    Ok(serde_json::from_str(json)?)
}

fn check(found: u32) -> Result<(), BaselineError> {
    let wanted = REPORT_VERSION;
    (found == wanted)
        .then_some(())
        .ok_or(BaselineError::OtherVersion { found, wanted })
}

/// All contenders of both runs, in the order of the new one; what only the old one has comes last.
///
/// # Errors
///
/// [`BaselineError::OtherVersion`].
pub fn differences<'r>(
    new: &'r Report,
    old: &'r Report,
) -> Result<Vec<Difference<'r>>, BaselineError> {
    check(old.version)?;
    check(new.version)?;
    let mut found: Vec<Difference<'r>> = Vec::new();
    for (now, then) in [(new, old), (old, new)] {
        for scenario in &now.scenarios {
            for row in &scenario.rows {
                let (scenario_name, contender) = (scenario.name.as_str(), row.contender.as_str());
                let is_there =
                    |d: &Difference<'_>| d.scenario == scenario_name && d.contender == contender;
                if found.iter().any(is_there) {
                    continue;
                }
                let here = to_floor(scenario, row);
                let there = find(then, scenario, row);
                let (old, new) = if std::ptr::eq(now, new) {
                    (there, here)
                } else {
                    (here, there)
                };
                let measure = Measure::of(&scenario.work);
                found.push(Difference {
                    scenario: scenario_name,
                    contender,
                    measure,
                    old,
                    new,
                });
            }
        }
    }
    Ok(found)
}

/// The ratio of the same contender in the same scenario of another run.
#[must_use]
pub fn find(report: &Report, scenario: &Scenario, row: &Row) -> Option<Spread> {
    let scenario = report
        .scenarios
        .iter()
        .find(|other| other.name == scenario.name)?;
    let row = scenario
        .rows
        .iter()
        .find(|other| other.contender == row.contender)?;
    to_floor(scenario, row)
}

/// What makes a comparison doubtful, in words.
#[must_use]
pub fn doubts(new: &Report, old: &Report) -> Vec<String> {
    let (now, then) = (&new.machine, &old.machine);
    let none = || "unknown".to_owned();
    let mut facts = vec![
        ("processor", then.cpu.clone(), now.cpu.clone()),
        ("processors in use", cpus(&then.cpus), cpus(&now.cpus)),
        ("kernel", then.kernel.clone(), now.kernel.clone()),
        (
            "governor",
            then.governor.clone().unwrap_or_else(none),
            now.governor.clone().unwrap_or_else(none),
        ),
        ("command", old.command.clone(), new.command.clone()),
    ];
    for (name, version) in &now.versions {
        if let Some((_, other)) = then.versions.iter().find(|(other, _)| other == name) {
            facts.push((name, other.clone(), version.clone()));
        }
    }
    for scenario in &new.scenarios {
        let other = old
            .scenarios
            .iter()
            .find(|other| other.name == scenario.name);
        if let Some(other) = other.filter(|other| other.work != scenario.work) {
            facts.push((&scenario.name, describe(other), describe(scenario)));
        }
    }
    facts
        .into_iter()
        .filter(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("{what}: was `{then}`, is `{now}`"))
        .collect()
}

fn describe(scenario: &Scenario) -> String {
    super::figures::describe(&scenario.work)
}

/// The table, with what makes it doubtful above it.
///
/// # Errors
///
/// [`BaselineError::OtherVersion`].
pub fn compare(new: &Report, old: &Report) -> Result<String, BaselineError> {
    let differences = differences(new, old)?;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED);
    table.set_header(["scenario", "contender", "baseline", "now", "difference"]);
    let mut last = "";
    for difference in &differences {
        let scenario = if difference.scenario == last {
            ""
        } else {
            difference.scenario
        };
        last = difference.scenario;
        let show = |ratio: &Option<Spread>| ratio.as_ref().map_or("-".to_owned(), spread);
        table.add_row([
            scenario,
            difference.contender,
            &show(&difference.old),
            &show(&difference.new),
            &difference.verdict(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = String::new();
    for doubt in doubts(new, old) {
        let _ = writeln!(text, "warning: not the same run: {doubt}");
    }
    let _ = writeln!(
        text,
        "{table}\nMedian (min..max) over the slices. Streams: {}; all others: {}.\n\
         'No difference seen': the spreads overlap.",
        Measure::Share.heading(),
        Measure::Times.heading()
    );
    Ok(text)
}
