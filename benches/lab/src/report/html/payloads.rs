//! Throughput by payload: streams that differ in nothing else, in one chart.

use maud::{Markup, html};

use super::colours::Colours;
use super::lines::{Chart, Point, Series};
use super::svg::About;
use crate::report::figures::{Spread, batches, bytes, nanoseconds, number};
use crate::result::{Report, Scenario};
use crate::work::{Pattern, Work};

/// Streams that are alike but for the payload, from the smallest on.
struct Group<'r> {
    scenarios: Vec<&'r Scenario>,
}

/// A chart for each group of at least two payloads.
pub(super) fn render(report: &Report, colours: &Colours<'_>) -> Vec<Markup> {
    let groups = groups(report);
    groups
        .iter()
        .enumerate()
        .filter_map(|(nth, group)| group.draw(colours, nth))
        .collect()
}

/// A capacity in records usually shrinks as the payload grows: it does not tell groups apart. If
/// a payload comes again, its scenarios are of another group.
fn groups(report: &Report) -> Vec<Group<'_>> {
    let alike = |work: &Work| (work.batch, work.waiting, work.producers, work.consumers);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for scenario in &report.scenarios {
        if scenario.work.pattern != Pattern::Stream {
            continue;
        }
        let takes = |group: &Group<'_>| {
            let [first, ..] = group.scenarios[..] else {
                return false;
            };
            let payload = scenario.work.payload;
            alike(&first.work) == alike(&scenario.work)
                && group
                    .scenarios
                    .iter()
                    .all(|other| other.work.payload != payload)
        };
        match groups.iter_mut().find(|group| takes(group)) {
            Some(group) => group.scenarios.push(scenario),
            None => groups.push(Group {
                scenarios: vec![scenario],
            }),
        }
    }
    for group in &mut groups {
        group
            .scenarios
            .sort_by_key(|scenario| scenario.work.payload);
    }
    groups.retain(|group| group.scenarios.len() > 1);
    groups
}

impl Group<'_> {
    fn draw(&self, colours: &Colours<'_>, nth: usize) -> Option<Markup> {
        let mut contenders: Vec<&str> = Vec::new();
        for row in self.scenarios.iter().flat_map(|scenario| &scenario.rows) {
            if !contenders.contains(&row.contender.as_str()) {
                contenders.push(&row.contender);
            }
        }
        let of_floor = |scenario: &Scenario| Spread::of(scenario.floor_ns.iter().copied());
        let floor = Series {
            name: "floor".to_owned(),
            class: "floor".to_owned(),
            points: self.points(of_floor),
            has_marks: false,
        };
        let mut series = vec![floor];
        for contender in contenders {
            series.push(Series {
                name: contender.to_owned(),
                class: colours.hue(contender),
                points: self.points(|scenario| {
                    let row = scenario
                        .rows
                        .iter()
                        .find(|row| row.contender == contender)?;
                    nanoseconds(row)
                }),
                has_marks: true,
            });
        }
        series.retain(|series| !series.points.is_empty());
        let work = self.scenarios.first()?.work;
        let caption = caption(&work);
        let described = series.iter().map(|series| {
            let figures = series.points.iter().map(|point| rate(point.y));
            format!(
                "{}: {}",
                series.name,
                figures.collect::<Vec<_>>().join(", ")
            )
        });
        let payloads = self
            .scenarios
            .iter()
            .map(|scenario| bytes(scenario.work.payload));
        let description = format!(
            "Bytes a second at {}. {}.",
            payloads.collect::<Vec<_>>().join(", "),
            described.collect::<Vec<_>>().join("; ")
        );
        let id = format!("payloads-{nth}");
        let about = About {
            id: &id,
            title: "Throughput by payload",
            description: &description,
        };
        let chart = Chart {
            x_ticks: self
                .scenarios
                .iter()
                .map(|scenario| (x(scenario), bytes(scenario.work.payload)))
                .collect(),
            x_title: "payload, log scale".to_owned(),
            y_label: rate,
            y_title: "bytes a second, log scale; medians, with their spread".to_owned(),
            series,
        };
        Some(html! { figure { figcaption { (caption) } (chart.draw(&about)) } })
    }

    fn points(&self, time: impl Fn(&Scenario) -> Option<Spread>) -> Vec<Point> {
        let point = |scenario: &&Scenario| {
            let ns = time(scenario).filter(|ns| ns.min > 0.0)?;
            let rate = |ns: f64| x(scenario) / ns * 1e9;
            let spread = Some((rate(ns.max), rate(ns.min)));
            Some(Point {
                x: x(scenario),
                y: rate(ns.median),
                spread,
            })
        };
        self.scenarios.iter().filter_map(point).collect()
    }
}

fn x(scenario: &Scenario) -> f64 {
    number(scenario.work.payload as u64)
}

/// What all of them have in common.
fn caption(work: &Work) -> String {
    let Work {
        producers,
        consumers,
        waiting,
        ..
    } = work;
    format!(
        "{}, {producers}+{consumers} players, {waiting}",
        batches(work.batch)
    )
}

/// Decimal units, as rates have them.
fn rate(bytes: f64) -> String {
    let (value, unit) = match bytes {
        v if v < 999.0 => (v, "B/s"),
        v if v < 999e3 => (v / 1e3, "kB/s"),
        v if v < 999e6 => (v / 1e6, "MB/s"),
        v if v < 999e9 => (v / 1e9, "GB/s"),
        v => (v / 1e12, "TB/s"),
    };
    let text = format!("{value:.1}");
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}
