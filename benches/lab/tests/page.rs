//! The page in a real browser: every chart is laid out, every label can be read, nothing is asked
//! of the network. And the look itself is tested: it finds what is spoiled on purpose.

#[path = "page/browser.rs"]
mod browser;
mod fixture;

use annulus_lab::report::html;
use annulus_lab::result::Report;
use browser::{Frame, Look, look};

const WIDE: u32 = 1280;
const NARROW: u32 = 360;

fn frame(name: &'static str, width: u32, html: &str) -> Frame {
    Frame {
        name,
        width,
        html: html.to_owned(),
        is_untouched: false,
    }
}

fn untouched(name: &'static str, html: &str) -> Frame {
    Frame {
        is_untouched: true,
        ..frame(name, WIDE, html)
    }
}

/// The fixture has 11 scenarios, 3 of which have latencies, and 2 groups of payloads.
const CHARTS: usize = 11 + 3 + 2;

fn check(look: &Look, name: &str, is_dark: bool) {
    let found = &look.found[name];
    assert_eq!(found.problems, [""; 0], "{name}");
    assert_eq!(found.charts, CHARTS, "{name}: {found:?}");
    assert_eq!(
        found.tables, 12,
        "{name}: one for each scenario, one for the baseline"
    );
    assert!(found.curves > 50 && found.bars > 100, "{name}: {found:?}");
    assert_eq!(found.dark, is_dark, "{name}");
}

fn every_chart_is_laid_out(is_dark: bool) -> String {
    let page = html::render(&fixture::report(), Some(&fixture::baseline()));
    let frames = [
        frame("wide", WIDE, &page),
        frame("middle", 700, &page),
        frame("narrow", NARROW, &page),
        untouched("untouched", &page),
    ];
    let look = look(&frames, is_dark);
    for name in ["wide", "middle", "narrow"] {
        check(&look, name, is_dark);
    }
    assert_eq!(look.console, [""; 0], "the console is silent");
    look.found["wide"].paper.clone()
}

#[test]
fn every_chart_is_laid_out_and_can_be_read_wide_and_narrow_light_and_dark() {
    let light = every_chart_is_laid_out(false);
    let dark = every_chart_is_laid_out(true);
    assert_eq!(light, "rgb(255, 255, 255)");
    assert_ne!(light, dark);
}

/// Many contenders, long names, names that are markup, one slice, no slice, no floor.
fn awkward() -> Report {
    let mut report = fixture::report();
    let stranger = "<script>nothere()</script> & \"a name\" that does not end <b>soon</b>";
    for scenario in &mut report.scenarios {
        let more: Vec<_> = scenario.rows.iter().take(9).cloned().collect();
        for (nth, mut row) in more.into_iter().enumerate() {
            row.contender = format!("{stranger} {nth}");
            row.failure = Some(stranger.to_owned());
            scenario.rows.push(row);
        }
        scenario.title = stranger.to_owned();
        scenario.name.push_str(stranger);
    }
    report.machine.warnings.push(stranger.to_owned());
    report.command = stranger.repeat(20);
    report.scenarios[0].rows.truncate(1);
    report.scenarios[0].rows[0].slices.truncate(1);
    report.scenarios[1]
        .rows
        .iter_mut()
        .for_each(|row| row.slices.clear());
    report.scenarios[4].floor_ns.clear();
    report
}

#[test]
fn a_report_with_awkward_names_and_missing_figures_is_laid_out_too() {
    let report = awkward();
    let page = html::render(&report, Some(&report));
    let frames = [
        frame("wide", WIDE, &page),
        frame("narrow", NARROW, &page),
        untouched("untouched", &page),
    ];
    let look = look(&frames, false);
    for name in ["wide", "narrow"] {
        let found = &look.found[name];
        assert_eq!(found.problems, [""; 0], "{name}");
        assert_eq!(
            found.charts,
            CHARTS - 1,
            "{name}: no ladder for who has no slice"
        );
    }
    assert_eq!(look.console, [""; 0], "no name became a script");
}

#[test]
fn the_look_tells_what_is_spoiled() {
    let page = html::render(&fixture::report(), None);
    let spoil = |from: &str, to: &str| {
        assert!(page.contains(from), "{from}");
        page.replacen(from, to, 1)
    };
    let after = |start: &str, from: &str, to: &str| {
        let at = page.find(start).expect(start);
        let (before, rest) = page.split_at(at);
        assert!(rest.contains(from), "{from}");
        before.to_owned() + &rest.replacen(from, to, 1)
    };
    let spoiled = [
        (
            "outside",
            after(
                "id=\"ladder-0-wide\"",
                "<text class=\"value\" x=\"578\"",
                "<text class=\"value\" x=\"600\"",
            ),
            "text outside",
        ),
        (
            "overlap",
            spoil("</style>", ".tick { font-size: 60px }</style>"),
            "texts overlap",
        ),
        (
            "straight",
            after(
                "id=\"curves-0-wide\"",
                "<path class=\"curve\" d=\"M",
                "<path class=\"curve\" d=\"M0 0\" data-was=\"",
            ),
            "a curve of 1 points",
        ),
        (
            "nan",
            after(
                "id=\"ladder-0-wide\"",
                "<circle class=\"median\" cx=\"",
                "<circle class=\"median\" cx=\"99",
            ),
            "a circle lies outside",
        ),
        (
            "nameless",
            spoil("<title id=\"ladder-0-wide-title\">", "<title>"),
            "no title or desc",
        ),
        (
            "axis",
            after("id=\"curves-0-wide\"", "data-axis=\"y\"", "data-axis=\"z\""),
            "axis y",
        ),
        (
            "legend",
            after("id=\"ladder-0-wide\"", "class=\"legend\"", ""),
            "has no legend",
        ),
        (
            "hidden",
            spoil("</style>", "svg.wide { display: none }</style>"),
            "shows 0 charts",
        ),
        (
            "flat",
            spoil("</style>", "svg { height: 0 !important }</style>"),
            "laid out as",
        ),
        (
            "pale",
            spoil("</style>", "svg .tick { fill: #ccc }</style>"),
            "contrast of",
        ),
        (
            "broad",
            spoil("</style>", "main { min-width: 3000px }</style>"),
            "wide in",
        ),
        (
            "twice",
            spoil("id=\"ladder-1-wide\"", "id=\"ladder-0-wide\""),
            "one id",
        ),
        (
            "dead",
            spoil("href=\"#scenario-0\"", "href=\"#scenario-99\""),
            "dead link",
        ),
        (
            "asks",
            spoil(
                "</main>",
                "<img src=\"http://elsewhere.invalid/x.png\"></main>",
            ),
            "a request: http://elsewhere.invalid/x.png",
        ),
    ];
    let mut frames: Vec<Frame> = spoiled
        .iter()
        .map(|(name, html, _)| frame(name, WIDE, html))
        .collect();
    frames.push(frame("whole", WIDE, &page));
    frames.push(untouched("fetches", &spoiled[13].1));
    frames.push(untouched(
        "runs",
        &spoil("</main>", "<script>nothere()</script></main>"),
    ));
    let look = look(&frames, false);
    assert_eq!(look.found["whole"].problems, [""; 0]);
    for (name, _, expected) in &spoiled {
        let problems = &look.found[*name].problems;
        let is_told = problems.iter().any(|problem| problem.contains(expected));
        assert!(is_told, "{name}: not told '{expected}' but {problems:?}");
    }
    for name in ["fetches", "runs"] {
        let is_told = |line: &String| line.contains(name) && line.contains("Security Policy");
        assert!(
            look.console.iter().any(is_told),
            "{name}: {:?}",
            look.console
        );
    }
}
