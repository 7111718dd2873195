//! Percentile curves: how long the slow ones take, and how rare they are.
//!
//! Over 1/(1 - quantile) each step to the right is ten times as rare. A curve ends at its greatest
//! value, at one in as many as were measured.

use maud::{Markup, html};

use super::colours::Colours;
use super::lines::{Chart, Point, Series};
use super::svg::About;
use crate::report::figures::{number, ranked, time};
use crate::result::{Latency, Scenario};

/// For each halving of what is left.
const POINTS_PER_HALVING: u32 = 4;

/// The chart, or nothing if no contender has latencies.
pub(super) fn render(scenario: &Scenario, colours: &Colours<'_>, id: &str) -> Option<Markup> {
    let rows = ranked(scenario);
    let with_latency: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((*row, row.latency.as_ref()?)))
        .collect();
    let mut unreadable = Vec::new();
    let mut series = Vec::new();
    for (row, latency) in &with_latency {
        match points(latency) {
            Ok(points) if points.is_empty() => {}
            Ok(points) => series.push(Series {
                name: row.contender.clone(),
                class: colours.hue(&row.contender),
                points,
                has_marks: false,
            }),
            Err(error) => unreadable.push(format!("{}: {error}", row.contender)),
        }
    }
    if with_latency.is_empty() {
        return None;
    }
    let described = with_latency.iter().map(|(row, latency)| {
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(|v| time(number(v)));
        format!("{} p50 {p50}, p99 {p99}, max {max}", row.contender)
    });
    let description = format!(
        "Latency by percentile: {}.",
        described.collect::<Vec<_>>().join("; ")
    );
    let about = About {
        id,
        title: "Latency by percentile",
        description: &description,
    };
    let rarest = with_latency.iter().map(|(_, latency)| latency.count).max();
    let chart = Chart {
        x_ticks: ticks(rarest.unwrap_or(1)),
        x_title: "percentile, spaced by 1 ÷ (1 − quantile)".to_owned(),
        y_label: time_tick,
        y_title: "latency, log scale".to_owned(),
        series,
    };
    Some(html! {
        figure {
            figcaption { "Latency by percentile" }
            @if !chart.series.is_empty() { (chart.draw(&about)) }
            @for words in &unreadable { p.warning { (words) } }
        }
    })
}

fn points(latency: &Latency) -> Result<Vec<Point>, crate::latency::DecodeError> {
    let histogram = latency.histogram()?;
    let rarest = number(histogram.len());
    let steps = histogram
        .iter_quantiles(POINTS_PER_HALVING)
        .map(|step| Point {
            x: (1.0 - step.quantile_iterated_to())
                .recip()
                .clamp(1.0, rarest),
            y: number(step.value_iterated_to().max(1)),
            spread: None,
        });
    let mut points: Vec<Point> = steps.collect();
    // Every value before the last change at the far right would lie on the same place.
    points.dedup_by(|later, earlier| later.x <= earlier.x && later.y <= earlier.y);
    Ok(points)
}

/// 0, 50, 90, 99, 99.9 and so on, as far as there are values.
fn ticks(rarest: u64) -> Vec<(f64, String)> {
    let mut ticks = vec![(1.0, "0 %".to_owned()), (2.0, "50 %".to_owned())];
    let mut inverse = 10_u64;
    while inverse <= rarest {
        let nines = inverse.ilog10() as usize;
        let decimals = nines.saturating_sub(2);
        let percent = 100.0 - 100.0 / number(inverse);
        ticks.push((number(inverse), format!("{percent:.decimals$} %")));
        inverse = inverse.saturating_mul(10);
    }
    ticks
}

/// A tick's time: it has few digits.
fn time_tick(ns: f64) -> String {
    let (value, unit) = match ns {
        v if v < 999.0 => (v, "ns"),
        v if v < 999e3 => (v / 1e3, "µs"),
        v if v < 999e6 => (v / 1e6, "ms"),
        v => (v / 1e9, "s"),
    };
    let text = format!("{value:.3}");
    format!(
        "{} {unit}",
        text.trim_end_matches('0').trim_end_matches('.')
    )
}
