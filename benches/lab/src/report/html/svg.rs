//! The parts of a chart: a frame, logarithmic scales, labels that keep out of each other's way.
//!
//! Widths of text are guessed, generously: the page takes whatever font its reader has.

use maud::{Markup, html};

/// Letters in a chart, in units of its view box.
pub(super) const FONT: f64 = 12.0;
/// From one line of text to the next.
pub(super) const LINE: f64 = 16.0;
/// What labels of one axis keep between each other.
const GAP: f64 = 8.0;

/// For whom a chart is laid out; a page holds both and the reader's width decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Wide,
    Narrow,
}

impl Size {
    pub(super) const ALL: [Self; 2] = [Self::Wide, Self::Narrow];

    pub(super) fn width(self) -> f64 {
        match self {
            Self::Wide => 580.0,
            Self::Narrow => 350.0,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}

/// What a chart says of itself to those who do not see it.
pub(super) struct About<'a> {
    /// Unique in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
}

pub(super) fn frame(about: &About<'_>, size: Size, height: f64, body: &Markup) -> Markup {
    let id = format!("{}-{}", about.id, size.class());
    let (title, description) = (format!("{id}-title"), format!("{id}-desc"));
    let view = format!("0 0 {} {}", px(size.width()), px(height));
    html! {
        svg id=(id) class=(size.class()) viewBox=(view) role="img"
            aria-labelledby={ (title) " " (description) } {
            title id=(title) { (about.title) }
            desc id=(description) { (about.description) }
            (body)
        }
    }
}

/// A coordinate, to a tenth of a unit.
pub(super) fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// About as wide as the text gets.
pub(super) fn width(text: &str) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' => 0.37,
        'f' | 't' | 'r' | '(' | ')' | '-' | '/' => 0.45,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '—' => 1.0,
        'A'..='Z' | '×' | '÷' => 0.8,
        c if c > '\u{1100}' => 1.05,
        _ => 0.65,
    };
    text.chars().map(em).sum::<f64>() * FONT
}

/// The text, or as much of it as there is room for.
pub(super) fn cut(text: &str, room: f64) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text.chars() {
        if width(&kept) + width(&c.to_string()) + width("…") > room {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Values to places, logarithmically.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Log {
    /// From `low` at `start` to `high` at `end`; both values are positive. A span of less than a
    /// fifth is widened, so that noise does not look like a difference.
    pub(super) fn new((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        let widen = (1.2 / (high / low)).max(1.0).sqrt();
        Self {
            low: low / widen,
            high: high * widen,
            start,
            end,
        }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.start + share.clamp(0.0, 1.0) * (self.end - self.start)
    }

    /// Round values between both ends: few digits, and not more than there is room for.
    pub(super) fn ticks(&self) -> Vec<f64> {
        const STEPS: [&[f64]; 3] = [
            &[1.0],
            &[1.0, 2.0, 5.0],
            &[
                1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0,
            ],
        ];
        let decades = (self.high / self.low).log10();
        let steps = STEPS[usize::from(decades < 2.2) + usize::from(decades < 0.8)];
        let mut ticks = Vec::new();
        for power in -12..16 {
            ticks.extend(steps.iter().map(|step| step * 10_f64.powi(power)));
        }
        ticks.retain(|tick| (self.low * 0.999..=self.high * 1.001).contains(tick));
        ticks
    }
}

/// A mark of an axis.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// Where the plot lies in the chart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// The labels that stand: all, or each second, or each third, until none touches its neighbour.
fn spaced(ticks: &[Tick], touch: impl Fn(&Tick, &Tick) -> bool) -> Vec<&Tick> {
    (1..=ticks.len())
        .map(|stride| ticks.iter().step_by(stride).collect::<Vec<_>>())
        .find(|kept| !kept.windows(2).any(|pair| touch(pair[0], pair[1])))
        .unwrap_or_default()
}

/// An axis below the plot, with lines through it.
pub(super) fn axis_below(area: Area, size: Size, ticks: &[Tick], title: &str) -> Markup {
    let inside = |centre: f64, text: &str| {
        let half = width(text) / 2.0;
        centre.min(size.width() - half).max(half)
    };
    let labels = spaced(ticks, |a, b| {
        let (from, to) = (inside(a.at, &a.label), inside(b.at, &b.label));
        (to - from).abs() < f64::midpoint(width(&a.label), width(&b.label)) + GAP
    });
    let middle = inside(f64::midpoint(area.left, area.right), title);
    html! {
        g.axis data-axis="x" {
            @for tick in ticks {
                line.grid x1=(px(tick.at)) x2=(px(tick.at)) y1=(px(area.top))
                    y2=(px(area.bottom)) {}
            }
            @for tick in labels {
                text.tick x=(px(inside(tick.at, &tick.label))) y=(px(area.bottom + LINE))
                    text-anchor="middle" { (tick.label) }
            }
            text.name x=(px(middle)) y=(px(area.bottom + 2.2 * LINE)) text-anchor="middle" {
                (title)
            }
        }
    }
}

/// An axis left of the plot; its name stands above, so that nobody turns his head.
pub(super) fn axis_left(area: Area, ticks: &[Tick], title: &str) -> Markup {
    let labels = spaced(ticks, |a, b| (a.at - b.at).abs() < LINE);
    html! {
        g.axis data-axis="y" {
            @for tick in ticks {
                line.grid x1=(px(area.left)) x2=(px(area.right)) y1=(px(tick.at))
                    y2=(px(tick.at)) {}
            }
            @for tick in labels {
                text.tick x=(px(area.left - 6.0)) y=(px(tick.at + 4.0)) text-anchor="end" {
                    (tick.label)
                }
            }
            text.name x="0" y=(px(FONT)) { (title) }
        }
    }
}

/// Places as near as possible to the wanted ones, in their order, at least `gap` apart, from `top`
/// on, and above `bottom` if they all fit.
pub(super) fn apart(wanted: &[f64], gap: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    // Clusters of neighbours that touch, each where its members want to be on average.
    let mut clusters: Vec<(f64, Vec<usize>)> = Vec::new();
    for &index in &order {
        let mut cluster = (wanted[index], vec![index]);
        while let Some((start, members)) =
            clusters.pop_if(|(start, members)| *start + gap * count(members.len()) > cluster.0)
        {
            let (a, b) = (count(members.len()), count(cluster.1.len()));
            let all = [members, cluster.1].concat();
            cluster = ((start * a + (cluster.0 - a * gap) * b) / (a + b), all);
        }
        clusters.push(cluster);
    }
    let mut places = wanted.to_vec();
    for (start, members) in &clusters {
        for (nth, index) in members.iter().enumerate() {
            places[*index] = start + gap * count(nth);
        }
    }
    let mut limit = bottom;
    for &index in order.iter().rev() {
        places[index] = places[index].min(limit);
        limit = places[index] - gap;
    }
    // More than fit: from the top on, over the bottom.
    let mut next = top;
    for &index in &order {
        places[index] = places[index].max(next);
        next = places[index] + gap;
    }
    places
}

#[expect(clippy::cast_precision_loss, reason = "labels of a chart")]
pub(super) fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_order_and_their_distance() {
        assert_eq!(apart(&[50.0, 10.0], 16.0, (0.0, 100.0)), [50.0, 10.0]);
        assert_eq!(
            apart(&[50.0, 50.0, 53.0], 16.0, (0.0, 100.0)),
            [35.0, 51.0, 67.0]
        );
        assert_eq!(apart(&[99.0, 99.0], 16.0, (0.0, 100.0)), [84.0, 100.0]);
        assert_eq!(
            apart(&[9.0, 9.0, 9.0], 16.0, (0.0, 20.0)),
            [0.0, 16.0, 32.0]
        );
    }

    #[test]
    fn a_scale_has_ends_and_round_ticks() {
        let wide = Log::new((80.0, 2e6), (0.0, 100.0));
        assert_eq!(wide.ticks(), [100.0, 1e3, 1e4, 1e5, 1e6]);
        assert_eq!(
            (wide.at(80.0), wide.at(2e6), wide.at(1.0)),
            (0.0, 100.0, 0.0)
        );
        let middle = Log::new((0.5, 6.0), (0.0, 100.0));
        assert_eq!(middle.ticks(), [0.5, 1.0, 2.0, 5.0]);
        let none = Log::new((1.0, 1.0), (0.0, 100.0));
        assert!(
            (none.at(1.0) - 50.0).abs() < 1e-9,
            "one value lies in the middle"
        );
    }

    #[test]
    fn text_is_cut_to_its_room() {
        assert_eq!(cut("annulus", 100.0), "annulus");
        let short = cut("a contender with a long name", 60.0);
        assert!(short.ends_with('…') && width(&short) <= 60.0, "{short}");
    }
}
