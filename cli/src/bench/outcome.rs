//! What becomes of what was found: a table, a page, files.

use std::fs;
use std::path::Path;

use annulus_lab::result::{Machine, REPORT_VERSION, Report, Row};
use comfy_table::{CellAlignment, Table, presets};

use super::{BenchArgs, of_file};
use crate::output;
use crate::report::Failure;

/// Shows a report, and writes it to where it was asked for.
pub fn tell(args: &BenchArgs, report: &Report, _baseline: Option<&Report>) -> Result<(), Failure> {
    let mut is_json_printed = false;
    if let Some(path) = &args.json {
        let mut json = serde_json::to_string_pretty(report)
            .map_err(|error| Failure::because("cannot write JSON", &error))?;
        json.push('\n');
        if path == Path::new("-") {
            output::print(&json)?;
            is_json_printed = true;
        } else {
            write(path, &json)?;
        }
    }
    if !is_json_printed {
        output::print(&table(report))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| of_file("write", path, &error))
}

/// Reads a report that was saved.
pub fn load(path: &Path) -> Result<Report, Failure> {
    let text = fs::read(path).map_err(|error| of_file("read", path, &error))?;
    let report: Report = serde_json::from_slice(&text).map_err(|error| {
        let what = format_args!("`{}` is no report", path.display());
        Failure::because(what, &error).hint("save one with `annulus bench --json FILE`")
    })?;
    if report.version == REPORT_VERSION {
        Ok(report)
    } else {
        let (found, path) = (report.version, path.display());
        Err(Failure::new(format_args!(
            "`{path}` is a report of version {found}, expected {REPORT_VERSION}"
        )))
    }
}

pub fn machine(cpus: &[usize]) -> Machine {
    Machine {
        cpu: String::new(),
        cpus: cpus.to_vec(),
        kernel: String::new(),
        governor: None,
        annulus: env!("CARGO_PKG_VERSION").to_owned(),
        versions: Vec::new(),
        clock_ns: annulus_lab::clock::cost_ns(),
        warnings: Vec::new(),
    }
}

pub fn examination(_cpus: &[usize]) -> String {
    String::new()
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    for scenario in &report.scenarios {
        text += &format!("\n{}: {}\n", scenario.name, scenario.title);
        text += &format!(
            "floor: {}, {:.0} ns\n",
            scenario.floor,
            median(&scenario.floor_ns)
        );
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header([
            "", "x floor", "least", "most", "ns", "p50", "p99", "p99.9", "max", "",
        ]);
        for row in &scenario.rows {
            table.add_row(cells(row));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        text += &format!("{table}\n");
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let ratios: Vec<f64> = row.slices.iter().map(|slice| slice.ratio()).collect();
    let ns: Vec<f64> = row.slices.iter().map(|slice| slice.ns).collect();
    let two = |value: f64| format!("{value:.2}");
    let mut cells = vec![row.contender.clone()];
    if ratios.is_empty() {
        cells.extend(std::iter::repeat_n(String::new(), 4));
    } else {
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        cells.extend([two(median(&ratios)), two(least), two(most)]);
        cells.push(format!("{:.1}", median(&ns)));
    }
    match &row.latency {
        Some(latency) => {
            let all = [latency.p50, latency.p99, latency.p999, latency.max];
            cells.extend(all.map(|ns| ns.to_string()));
        }
        None => cells.extend(std::iter::repeat_n(String::new(), 4)),
    }
    let lost: u64 = row.slices.iter().map(|slice| slice.lost).sum();
    let mut remark = row.failure.clone().unwrap_or_default();
    if lost > 0 {
        remark += &format!(" lost {lost}");
    }
    if row.left_out > 0 {
        remark += &format!(" left out {}", row.left_out);
    }
    cells.push(remark);
    cells
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
