//! The ladder: contenders from the best to the worst, by their distance to the floor.
//!
//! A bar of a logarithmic scale has no natural start. Here it starts at the floor, so its length is
//! what is compared: how far from the floor. Every slice has its own tick, because some rings have
//! two speeds and a median shows one.

use maud::{Markup, html};

use super::colours::Colours;
use super::svg::{
    About, Area, FONT, LINE, Log, Size, Tick, axis_below, count, cut, frame, px, width,
};
use crate::report::baseline;
use crate::report::figures::{Measure, Spread, digits, lost_percent, ranked, spread, to_floor};
use crate::result::{Report, Row, Scenario};
use crate::transport::Place;

const ROW: f64 = 24.0;
const TOP: f64 = 22.0;

struct Ladder<'r> {
    measure: Measure,
    rows: Vec<(&'r Row, Option<Spread>, Option<Spread>)>,
    area: Area,
    scale: Log,
    size: Size,
}

/// The chart, in both sizes; nothing if no contender has a figure.
pub(super) fn render(
    scenario: &Scenario,
    old: Option<&Report>,
    colours: &Colours<'_>,
    id: &str,
) -> Option<Markup> {
    let rows = ranked(scenario);
    let description = describe(scenario, &rows)?;
    let about = About {
        id,
        title: "Distance to the floor",
        description: &description,
    };
    let draw = |size| Some(Ladder::new(scenario, &rows, old, size)?.draw(&about, colours));
    let [wide, narrow] = Size::ALL.map(draw);
    Some(html! {
        figure.ladder {
            figcaption { "Distance to the floor" }
            (wide?) (narrow?)
        }
    })
}

fn describe(scenario: &Scenario, rows: &[&Row]) -> Option<String> {
    let measure = Measure::of(&scenario.work).heading();
    let figures = rows.iter().filter_map(|row| {
        let figure = to_floor(scenario, row)?;
        Some(format!("{} {}", row.contender, spread(&figure)))
    });
    let figures: Vec<_> = figures.collect();
    (!figures.is_empty()).then(|| {
        format!(
            "{measure}, best first, median (min..max): {}.",
            figures.join("; ")
        )
    })
}

impl<'r> Ladder<'r> {
    fn new(
        scenario: &'r Scenario,
        rows: &[&'r Row],
        old: Option<&Report>,
        size: Size,
    ) -> Option<Self> {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let then = old.and_then(|old| baseline::find(old, scenario, row));
                (
                    *row,
                    to_floor(scenario, row).filter(is_positive),
                    then.filter(is_positive),
                )
            })
            .collect();
        let spreads = rows.iter().flat_map(|(_, now, then)| [now, then]).flatten();
        let all = spreads
            .flat_map(|spread| [spread.min, spread.max])
            .chain([1.0]);
        let (low, high) = all.fold((1.0_f64, 1.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        rows.iter().find_map(|(_, now, _)| *now)?;
        // A narrower scale would make much of little.
        let measure = Measure::of(&scenario.work);
        let (low, high) = match measure {
            Measure::Share => (low.min(0.67), high),
            Measure::Times => (low, high.max(1.5)),
        };

        let names = rows.iter().map(|(row, ..)| width(&name(row)));
        let left = names.fold(0.0, f64::max).min(size.width() * 0.38) + 12.0;
        let values = rows
            .iter()
            .map(|(_, now, _)| width(&value(now.as_ref(), size)));
        let right = size.width() - values.fold(0.0, f64::max) - 14.0;
        let bottom = TOP + ROW * count(rows.len()) + 4.0;
        let area = Area {
            left,
            right,
            top: TOP,
            bottom,
        };
        let scale = Log::new((low / 1.04, high * 1.04), (left, right));
        Some(Self {
            measure,
            rows,
            area,
            scale,
            size,
        })
    }

    fn draw(&self, about: &About<'_>, colours: &Colours<'_>) -> Markup {
        let Self {
            area, scale, size, ..
        } = *self;
        let ticks: Vec<_> = scale
            .ticks()
            .into_iter()
            .map(|tick| Tick {
                at: scale.at(tick),
                label: round(tick),
            })
            .collect();
        let floor = scale.at(1.0);
        let mut centre = TOP + ROW / 2.0 + 2.0;
        let mut rows = Vec::new();
        for (row, now, then) in &self.rows {
            rows.push(self.row(row, now.as_ref(), then.as_ref(), centre, colours));
            centre += ROW;
        }
        let better = match self.measure {
            Measure::Share => "more is better",
            Measure::Times => "less is better",
        };
        let title = match size {
            Size::Wide => format!("{}, log scale; {better}", self.measure.heading()),
            Size::Narrow => format!("{}; {better}", self.measure.heading()),
        };
        let (legend, height) = self.legend(area.bottom + 3.5 * LINE);
        let half = width("floor") / 2.0;
        let label = floor.clamp(half, size.width() - half);
        let body = html! {
            (axis_below(area, size, &ticks, &title))
            line.floor x1=(px(floor)) x2=(px(floor)) y1=(px(TOP - 4.0)) y2=(px(area.bottom)) {}
            text.floor x=(px(label)) y=(px(FONT)) text-anchor="middle" { "floor" }
            @for row in &rows { (row) }
            (legend)
        };
        frame(about, size, height, &body)
    }

    fn row(
        &self,
        row: &Row,
        now: Option<&Spread>,
        then: Option<&Spread>,
        centre: f64,
        colours: &Colours<'_>,
    ) -> Markup {
        let left = self.area.left;
        let scale = &self.scale;
        let floor = scale.at(1.0);
        let hue = colours.hue(&row.contender);
        let y = |offset: f64| px(centre + offset);
        let words = row.failure.as_deref().unwrap_or("no figure");
        html! {
            g class={ "row " (hue) } {
                title { (row.contender) ": " (now.map_or(words.to_owned(), spread)) }
                text.contender x=(px(left - 8.0)) y=(y(4.0)) text-anchor="end" {
                    (cut(&name(row), left - 8.0))
                }
                @if let Some(now) = now {
                    @let (from, to) = ends(floor, scale.at(now.median));
                    rect.bar x=(px(from)) y=(y(-4.0)) width=(px((to - from).max(0.5)))
                        height="8" {}
                    @for slice in &row.slices {
                        @let at = px(scale.at(self.measure.of_slice(slice)));
                        line.slice x1=(at) x2=(at) y1=(y(-7.0)) y2=(y(7.0)) {}
                    }
                    path.whisker d={
                        "M" (px(scale.at(now.min))) " " (y(-5.0)) "v10m0 -5H"
                        (px(scale.at(now.max))) "m0 -5v10"
                    } {}
                    circle.median cx=(px(scale.at(now.median))) cy=(y(0.0)) r="4" {}
                    @if let Some(then) = then {
                        path.then d={
                            "M" (px(scale.at(then.median))) " " (y(4.0)) "l4 6h-8z"
                        } {}
                    }
                    text.value x=(px(self.size.width() - 2.0)) y=(y(4.0)) text-anchor="end" {
                        (value(Some(now), self.size))
                    }
                } @else {
                    text.failure x=(px(left + 6.0)) y=(y(4.0)) {
                        (cut(words, self.size.width() - left - 8.0))
                    }
                }
            }
            line.rule x1="0" x2=(px(self.size.width())) y1=(y(12.0)) y2=(y(12.0)) {}
        }
    }

    /// What the marks mean, from `top` on, and where it ends.
    fn legend(&self, top: f64) -> (Markup, f64) {
        let mut entries = vec![
            (
                "median",
                html! {
                    rect.bar x="2" y="-8" width="18" height="8" {}
                    circle.median cx="20" cy="-4" r="4" {}
                },
            ),
            (
                "min to max",
                html! { path.whisker d="M2 -9v10m0 -5h22m0 -5v10" {} },
            ),
            (
                "one slice",
                html! { line.slice x1="14" x2="14" y1="-11" y2="3" {} },
            ),
        ];
        if self.rows.iter().any(|(.., then)| then.is_some()) {
            entries.push((
                "baseline's median",
                html! { path.then d="M14 -8l4 6h-8z" {} },
            ));
        }
        let (mut x, mut y) = (0.0, top);
        let mut marks = Vec::new();
        for (label, mark) in entries {
            let needed = 30.0 + width(label);
            if x + needed > self.size.width() {
                (x, y) = (0.0, y + 1.3 * LINE);
            }
            marks.push(html! {
                g transform={ "translate(" (px(x)) " " (px(y)) ")" } {
                    (mark)
                    text x="30" y="0" { (label) }
                }
            });
            x += needed + 14.0;
        }
        let legend = html! { g.legend { @for mark in &marks { (mark) } } };
        (legend, y + 6.0)
    }
}

fn is_positive(spread: &Spread) -> bool {
    spread.min > 0.0
}

fn ends(a: f64, b: f64) -> (f64, f64) {
    (a.min(b), a.max(b))
}

/// Threads are told apart: they have it easier. So is who loses records: he does less.
fn name(row: &Row) -> String {
    let mut remarks = Vec::new();
    if row.place == Place::Threads {
        remarks.push("threads".to_owned());
    }
    if let Some(share) = lost_percent(row) {
        remarks.push(format!("loses {} %", digits(share)));
    }
    if remarks.is_empty() {
        row.contender.clone()
    } else {
        format!("{} ({})", row.contender, remarks.join(", "))
    }
}

fn value(now: Option<&Spread>, size: Size) -> String {
    match (now, size) {
        (None, _) => String::new(),
        (Some(now), Size::Wide) => spread(now),
        (Some(now), Size::Narrow) => digits(now.median),
    }
}

/// A tick's value: it has few digits.
fn round(tick: f64) -> String {
    let text = format!("{tick:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
