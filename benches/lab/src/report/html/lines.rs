//! Curves over two logarithmic axes, each with its name at its end.
//!
//! Wide, the names stand right of the plot, each as near to its curve's end as the others allow,
//! with a thin line to it. Narrow, they stand below, in the same order.

use maud::{Markup, html};

use super::svg::{
    About, Area, LINE, Log, Size, Tick, apart, axis_below, axis_left, count, cut, frame, px, width,
};

/// A curve.
pub(super) struct Series {
    pub(super) name: String,
    /// Of the style.
    pub(super) class: String,
    /// At least one, from left to right.
    pub(super) points: Vec<Point>,
    /// Whether its points are marked: they are few and each is a figure.
    pub(super) has_marks: bool,
}

/// A figure of a curve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
    /// The least and the greatest, if it is a median.
    pub(super) spread: Option<(f64, f64)>,
}

/// Curves, with the axes they need.
pub(super) struct Chart {
    pub(super) series: Vec<Series>,
    /// Values with their labels, from left to right; the first and the last may be without.
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) x_title: String,
    pub(super) y_label: fn(f64) -> String,
    pub(super) y_title: String,
}

const TOP: f64 = 26.0;
const PLOT: f64 = 270.0;
const SAMPLE: f64 = 22.0;
/// From a plot to the names beside it: leaders need room to part.
const FAN: f64 = 44.0;

impl Chart {
    /// In both sizes.
    pub(super) fn draw(&self, about: &About<'_>) -> Markup {
        html! {
            @for size in Size::ALL { (self.draw_for(about, size)) }
        }
    }

    fn draw_for(&self, about: &About<'_>, size: Size) -> Markup {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let xs = range(points().map(|point| point.x));
        let all = points().flat_map(|point| {
            let (low, high) = point.spread.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let (low, high) = range(all);
        let names = self.series.iter().map(|series| width(&series.name));
        let widest = names.fold(0.0, f64::max).min(size.width() * 0.3);
        let lines = count(self.series.len());
        let mut area = Area {
            left: 0.0,
            right: 0.0,
            top: TOP,
            bottom: TOP + PLOT,
        };
        if size == Size::Wide {
            area.bottom = area.bottom.max(TOP + lines * LINE);
        }
        let y = Log::new((low / 1.1, high * 1.1), (area.bottom, area.top));
        let y_ticks: Vec<_> = y
            .ticks()
            .into_iter()
            .map(|tick| Tick {
                at: y.at(tick),
                label: (self.y_label)(tick),
            })
            .collect();
        let labels = y_ticks.iter().map(|tick| width(&tick.label));
        area.left = labels.fold(0.0, f64::max) + 8.0;
        area.right = match size {
            Size::Wide => size.width() - widest - FAN - 4.0,
            Size::Narrow => size.width() - 14.0,
        };
        let x = Log::new(xs, (area.left, area.right));
        let x_ticks: Vec<_> = self
            .x_ticks
            .iter()
            .map(|(value, label)| Tick {
                at: x.at(*value),
                label: label.clone(),
            })
            .collect();
        let (legend, height) = match size {
            Size::Wide => (
                self.names_beside(area, &x, &y, widest),
                area.bottom + 2.6 * LINE,
            ),
            Size::Narrow => self.names_below(area.bottom + 3.6 * LINE, size),
        };
        let body = html! {
            (axis_below(area, size, &x_ticks, &self.x_title))
            (axis_left(area, &y_ticks, &self.y_title))
            @for series in &self.series { (curve(series, &x, &y)) }
            (legend)
        };
        frame(about, size, height, &body)
    }

    fn names_beside(&self, area: Area, x: &Log, y: &Log, room: f64) -> Markup {
        let ends: Vec<_> = self
            .series
            .iter()
            .filter_map(|series| series.points.last())
            .map(|point| (x.at(point.x), y.at(point.y)))
            .collect();
        let wanted: Vec<_> = ends.iter().map(|(_, y)| *y).collect();
        let places = apart(&wanted, LINE, (area.top + 4.0, area.bottom - 2.0));
        let start = area.right + FAN;
        html! {
            g.legend {
                @for ((series, (x, y)), place) in self.series.iter().zip(&ends).zip(places) {
                    g class=(series.class) {
                        title { (series.name) }
                        path.leader d={
                            "M" (px(x + 5.0)) " " (px(*y)) "L" (px(area.right + 5.0)) " " (px(*y))
                            "L" (px(start - 18.0)) " " (px(place))
                        } {}
                        path.curve d={ "M" (px(start - 18.0)) " " (px(place)) "h14" } {}
                        text x=(px(start)) y=(px(place + 4.0)) { (cut(&series.name, room)) }
                    }
                }
            }
        }
    }

    fn names_below(&self, top: f64, size: Size) -> (Markup, f64) {
        let (mut x, mut y) = (0.0, top);
        let mut names = Vec::new();
        for series in &self.series {
            let name = cut(&series.name, size.width() - SAMPLE - 8.0);
            let needed = SAMPLE + 6.0 + width(&name);
            if x > 0.0 && x + needed > size.width() {
                (x, y) = (0.0, y + 1.25 * LINE);
            }
            names.push(html! {
                g class=(series.class) {
                    path.curve d={ "M" (px(x)) " " (px(y - 4.0)) "h" (px(SAMPLE)) } {}
                    text x=(px(x + SAMPLE + 6.0)) y=(px(y)) { (name) }
                }
            });
            x += needed + 14.0;
        }
        (
            html! { g.legend { @for name in &names { (name) } } },
            y + 6.0,
        )
    }
}

fn curve(series: &Series, x: &Log, y: &Log) -> Markup {
    let mut path = String::new();
    for point in &series.points {
        let verb = if path.is_empty() { 'M' } else { 'L' };
        path.push(verb);
        path.push_str(&px(x.at(point.x)));
        path.push(' ');
        path.push_str(&px(y.at(point.y)));
    }
    let last = series.points.len().saturating_sub(1);
    html! {
        g class=(series.class) {
            title { (series.name) }
            path.curve d=(path) {}
            @for (index, point) in series.points.iter().enumerate() {
                @if let Some((low, high)) = point.spread {
                    path.range d={
                        "M" (px(x.at(point.x))) " " (px(y.at(low))) "V" (px(y.at(high)))
                    } {}
                }
                @if series.has_marks || index == last {
                    circle.point cx=(px(x.at(point.x))) cy=(px(y.at(point.y))) r="3" {}
                }
            }
        }
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}
