//! One page that holds everything: tables, charts, style. It asks the network for nothing.
//!
//! What a page loads is forbidden by its own content policy, so that a mistake here shows as an
//! error in the browser's console and not as a request. It runs no script.
//!
//! Markup and charts are written with `maud`, which escapes every text as the compiler expands the
//! template. Charts are SVG of our own. `plotters` was looked at first: its SVG back end rounds to
//! whole units and writes each colour and font into each element, so a page could neither follow
//! the reader's light or dark scheme nor his font, and it knows no title, no description and no
//! groups that a label can belong to. What it would spare us is a scale and an axis, see `svg.rs`.

mod colours;
mod curves;
mod ladder;
mod lines;
mod payloads;
mod svg;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::colours::Colours;
use super::baseline::{self, Difference};
use super::figures::{Measure, Spread, date, describe, spread};
use super::table;
use crate::result::{Report, Scenario};

const STYLE: &str = include_str!("style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const METHOD: &str = "\
Every figure is set against this machine's own floor: the same work done by nothing but a loop, \
measured right before and after each slice. Contenders run in short slices, in turns. Ratios are \
medians over the slices, with the least and the greatest; nanoseconds are of this run only.";

/// The page; with a baseline, each ladder shows where a contender stood, and a table compares.
#[must_use]
pub fn render(report: &Report, old: Option<&Report>) -> String {
    let colours = Colours::of(report);
    let compared = old.map(|old| (old, baseline::differences(report, old)));
    // A baseline that cannot be compared is said to be so, and shown nowhere else.
    let comparable = old.filter(|_| compared.as_ref().is_some_and(|(_, found)| found.is_ok()));
    let payloads = payloads::render(report, &colours);
    let title = format!("annulus bench, {}", date(report.began));
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (head(report))
                    (contents(report, !payloads.is_empty(), compared.is_some()))
                    @if !payloads.is_empty() {
                        section id="payloads" {
                            h2 { "Throughput by payload" }
                            div.side { @for chart in &payloads { (chart) } }
                        }
                    }
                    @for (nth, scenario) in report.scenarios.iter().enumerate() {
                        (section(scenario, comparable, &colours, nth))
                    }
                    @if let Some((old, found)) = &compared {
                        section id="baseline" {
                            h2 { "Against the baseline" }
                            @match found {
                                Ok(differences) => (comparison(report, old, differences)),
                                Err(error) => p.warning { (error) },
                            }
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    html! {
        header {
            h1 { "annulus bench" }
            p.method { (METHOD) }
            @if !report.machine.warnings.is_empty() {
                div.warnings {
                    h2 { "What spoils figures on this machine" }
                    ul { @for warning in &report.machine.warnings { li { (warning) } } }
                }
            }
            dl.facts {
                @for (name, fact) in table::facts(report) {
                    div.long[fact.len() > 40] { dt { (name) } dd { (fact) } }
                }
            }
            pre { code { (report.command) } }
        }
    }
}

fn contents(report: &Report, has_payloads: bool, has_baseline: bool) -> Markup {
    html! {
        @if report.scenarios.len() > 2 {
            nav aria-label="Contents" {
                ul {
                    @if has_payloads { li { a href="#payloads" { "Throughput by payload" } } }
                    @for (nth, scenario) in report.scenarios.iter().enumerate() {
                        li { a href={ "#scenario-" (nth) } { (scenario.title) } }
                    }
                    @if has_baseline { li { a href="#baseline" { "Against the baseline" } } }
                }
            }
        }
    }
}

fn section(scenario: &Scenario, old: Option<&Report>, colours: &Colours<'_>, nth: usize) -> Markup {
    let ladder =
        ladder::render(scenario, old, colours, &format!("ladder-{nth}")).unwrap_or_default();
    let curves = curves::render(scenario, colours, &format!("curves-{nth}"));
    html! {
        section id={ "scenario-" (nth) } {
            h2 { (scenario.title) }
            p.work { (describe(&scenario.work)) " " code { (scenario.name) } }
            p.work { "Floor: " (table::floor(scenario)) }
            @if curves.is_none() && fits_beside(scenario) {
                div.side { (ladder) (figures(scenario)) }
            } @else {
                div.side { (ladder) (curves.unwrap_or_default()) }
                (figures(scenario))
            }
        }
    }
}

/// Whether the table is narrow enough to stand beside a chart; a guess, as all widths here.
fn fits_beside(scenario: &Scenario) -> bool {
    const ROOM: f64 = 560.0;
    const PADDING: f64 = 14.0;
    let columns = table::columns(scenario);
    let widths = columns.iter().map(|column| {
        let cells = column.cells.iter().map(|cell| svg::width(cell));
        // Letters are larger than in a chart, which makes up for the generous guess.
        cells.fold(0.0, f64::max) + PADDING
    });
    widths.sum::<f64>() <= ROOM
}

/// The table of a scenario, with the failures below it.
fn figures(scenario: &Scenario) -> Markup {
    let columns = table::columns(scenario);
    let failures: Vec<_> = table::failures(scenario).collect();
    html! {
        div.table tabindex="0" role="region" aria-label={ "Figures: " (scenario.title) } {
            table {
                thead {
                    tr {
                        @for column in &columns {
                            th.number[column.is_number] scope="col" { (column.title) }
                        }
                    }
                }
                tbody {
                    @for row in 0..scenario.rows.len() {
                        tr {
                            @for (nth, column) in columns.iter().enumerate() {
                                @let cell = &column.cells[row];
                                @if nth == 0 { th scope="row" { (cell) } }
                                @else { td.number[column.is_number] { (cell) } }
                            }
                        }
                    }
                }
            }
            @if !failures.is_empty() {
                ul.failures {
                    @for (contender, failure) in failures {
                        li { b { (contender) } " " (failure) }
                    }
                }
            }
        }
    }
}

fn comparison(new: &Report, old: &Report, differences: &[Difference<'_>]) -> Markup {
    let doubts = baseline::doubts(new, old);
    let show = |ratio: &Option<Spread>| ratio.as_ref().map_or("-".to_owned(), spread);
    html! {
        @if !doubts.is_empty() {
            div.warnings {
                h3 { "Not the same run" }
                ul { @for doubt in &doubts { li { (doubt) } } }
            }
        }
        p.work {
            "The baseline began " (date(old.began)) ". Streams: " (Measure::Share.heading())
            "; all others: " (Measure::Times.heading()) ". A difference is seen only if the \
            spreads do not overlap."
        }
        div.table tabindex="0" role="region" aria-label="Against the baseline" {
            table {
                thead {
                    tr {
                        th scope="col" { "scenario" }
                        th scope="col" { "contender" }
                        th.number scope="col" { "baseline" }
                        th.number scope="col" { "now" }
                        th.number scope="col" { "difference" }
                    }
                }
                tbody {
                    @for (nth, difference) in differences.iter().enumerate() {
                        @let is_seen = difference.is_seen();
                        @let before = nth.checked_sub(1).map(|before| differences[before].scenario);
                        @let is_first = before != Some(difference.scenario);
                        tr.seen[is_seen] {
                            td {
                                @if is_first { (difference.scenario) }
                            }
                            th scope="row" { (difference.contender) }
                            td.number { (show(&difference.old)) }
                            td.number { (show(&difference.new)) }
                            td.number.verdict { (difference.verdict()) }
                        }
                    }
                }
            }
        }
    }
}
