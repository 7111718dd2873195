//! What becomes of what was found: tables, a page, files.

use std::fs;
use std::path::Path;

use annulus_lab::report::{baseline, hgrm, html, table};
use annulus_lab::result::{Machine, Report};
use annulus_lab::{doctor, machine};

use super::{BenchArgs, of_file};
use crate::output;
use crate::report::{Failure, causes};

/// Shows a report, and writes it to where it was asked for.
pub fn tell(args: &BenchArgs, report: &Report, old: Option<&Report>) -> Result<(), Failure> {
    if let Some(path) = &args.report {
        write(path, &html::render(report, old))?;
    }
    if let Some(folder) = &args.hgrm {
        write_distributions(folder, report)?;
    }
    let mut text = String::new();
    match args.json.as_deref() {
        // Standard output is for one reader: a program.
        Some(path) if path == Path::new("-") => return output::print(&json(report)?).map(drop),
        Some(path) => write(path, &json(report)?)?,
        None => {}
    }
    text += &table::render(report);
    if let Some(old) = old {
        let what = "cannot compare with the baseline";
        let found = baseline::compare(report, old);
        text += "\n";
        text += &found.map_err(|error| Failure::because(what, &error))?;
    }
    output::print(&text).map(drop)
}

fn json(report: &Report) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(report);
    let json = json.map_err(|error| Failure::because("cannot write JSON", &error))?;
    Ok(json + "\n")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| of_file("write", path, &error))
}

/// A file for each row that has a latency: `round-trip-64B--annulus-SPSC.hgrm`.
fn write_distributions(folder: &Path, report: &Report) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| of_file("make", folder, &error))?;
    for scenario in &report.scenarios {
        for row in &scenario.rows {
            let Some(latency) = &row.latency else {
                continue;
            };
            let text = hgrm::render(latency).map_err(|error| {
                Failure::because(format_args!("no distribution of {}", row.contender), &error)
            })?;
            let name = format!("{}--{}.hgrm", plain(&scenario.name), plain(&row.contender));
            write(&folder.join(name), &text)?;
        }
    }
    Ok(())
}

/// A name with nothing in it that a shell or a file system makes something of.
fn plain(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '+');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// Reads a report that was saved.
pub fn load(path: &Path) -> Result<Report, Failure> {
    let text = fs::read_to_string(path).map_err(|error| of_file("read", path, &error))?;
    baseline::read(&text).map_err(|error| {
        Failure::new(format_args!("`{}`: {}", path.display(), causes(&error)))
            .hint("save a run with `annulus bench --json FILE`")
    })
}

/// Where this runs, with what was found to spoil it.
pub fn machine(cpus: &[usize]) -> Machine {
    Machine {
        cpus: cpus.to_vec(),
        warnings: doctor::warnings(&doctor::examine(cpus)),
        ..machine::describe(version(), Vec::new())
    }
}

/// What spoils a measurement on these processors, and what to do about it.
pub fn examination(cpus: &[usize]) -> String {
    doctor::render(&doctor::examine(cpus))
}

/// The version, and the commit if the sources it was built from are still there.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let sources = env!("CARGO_MANIFEST_DIR");
    let describe = ["-C", sources, "describe", "--always", "--dirty"];
    let commit = std::process::Command::new("git").args(describe).output();
    let commit = commit.map(|output| output.stdout).unwrap_or_default();
    match String::from_utf8_lossy(&commit).trim() {
        "" => version.to_owned(),
        commit => format!("{version} ({commit})"),
    }
}
