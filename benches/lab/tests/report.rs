//! Tables, percentile files and comparisons, of a report with made-up figures.

mod fixture;

use annulus_lab::report::baseline::{self, BaselineError};
use annulus_lab::report::{hgrm, html, table};
use annulus_lab::result::{Latency, Report};

/// The line of a table that a contender has in a scenario, with its cells.
fn line<'t>(text: &'t str, scenario: &str, contender: &str) -> Vec<&'t str> {
    let (_, rest) = text.split_once(scenario).expect(scenario);
    let starts = |line: &&str| {
        line.trim_start_matches(['│', '|', ' '])
            .starts_with(contender)
    };
    let line = rest.lines().find(starts).expect(contender);
    let cells = line.trim_matches(['│', '|']).split(['┆', '|']);
    cells.map(str::trim).collect()
}

#[test]
fn a_table_shows_ratios_percentiles_faults_and_failures() {
    let text = table::render(&fixture::report());
    assert!(
        text.starts_with("began              2026-11-18 11:06 UTC\n"),
        "{text}"
    );
    assert!(
        text.contains("\nwarning: CPUs 0 and 1 are siblings"),
        "{text}"
    );
    assert!(
        text.contains("\ncommand            annulus bench --cpus 0,1 "),
        "{text}"
    );

    assert_eq!(
        line(&text, "\nrtt-56: ", "rtrb"),
        [
            "rtrb",
            "threads",
            "1.51 (1.40..1.57)",
            "172 ns",
            "154 ns",
            "183 ns",
            "3.01 µs",
            "21.4 µs",
            "119 µs",
            "-",
        ]
    );
    assert_eq!(line(&text, "\nrtt-56: ", "contender")[2], "time ÷ floor");
    assert_eq!(line(&text, "\nrtt-56: ", "iceoryx2").last(), Some(&"2"));
    assert_eq!(line(&text, "\nrtt-56: ", "ipc_ring")[2..5], ["-"; 3]);
    assert!(
        text.contains("\n  ipc_ring: wedged: player 1 was not done"),
        "{text}"
    );
    assert!(
        text.contains("floor: one cache line, bounced: store, spin on load: 112 ns"),
        "{text}"
    );

    assert_eq!(
        line(&text, "\nstream-64-1: ", "contender")[2],
        "share of the floor's throughput"
    );
    let fastest = line(&text, "\nstream-64-1: ", "annulus spsc");
    assert_eq!(fastest[2..], ["0.81 (0.76..0.89)", "8.66 ns", "115 M"]);
    let ringfire = line(&text, "\nmpmc-4x4-64: ", "ringfire");
    assert_eq!(ringfire.last(), Some(&"36.0 M lost (50.0 %), 153 repeated"));
    assert!(text.ends_with("it flatters.\n"), "{text}");
}

#[test]
fn the_best_stands_first_whatever_is_better() {
    let text = table::render(&fixture::report());
    let order = |scenario: &str| {
        let (_, rest) = text.split_once(scenario).expect(scenario);
        let mut rows = rest
            .lines()
            .skip_while(|line| !line.starts_with('╞'))
            .skip(1);
        let first = rows.next().expect("a row").to_owned();
        let last = rows
            .take_while(|line| line.starts_with('│'))
            .last()
            .expect("a row");
        (first, last.to_owned())
    };
    for scenario in ["\nrtt-56: ", "\nstream-64-1: "] {
        assert!(order(scenario).0.contains("annulus spsc"), "{scenario}");
    }
    assert!(order("\nstream-64-1: ").1.contains("TCP"));
    assert!(
        order("\nrtt-56: ").1.contains("ipc_ring"),
        "who has no figure comes last"
    );
}

#[test]
fn markdown_says_the_same_and_no_name_is_markup() {
    let mut report = fixture::report();
    let text = table::render_markdown(&report);
    let cells = line(&text, "**Round trip of 56 B, spinning**", "rtrb");
    assert_eq!(cells[2..4], ["1.51 (1.40..1.57)", "172 ns"]);
    assert!(text.contains("\nipc\\_ring: wedged: player 1"), "{text}");
    assert!(text.contains("\n- processor: AMD EPYC 7B13\n"), "{text}");
    assert!(text.ends_with(
        "```sh\nannulus bench --cpus 0,1 --rounds 9 --json run.json --report run.html\n```\n"
    ));

    report.scenarios[0].rows[0].contender = "a|b *<i>*\u{1b}[2J".to_owned();
    let text = table::render_markdown(&report);
    assert!(
        text.contains("| a\\|b \\*\\<i\\>\\*\u{fffd}\\[2J"),
        "{text}"
    );
    assert!(
        !table::render(&report).contains('\u{1b}'),
        "no name commands the terminal"
    );
}

#[test]
fn a_percentile_file_is_what_the_plotter_reads() {
    let latency = fixture::latency(100.0, 0);
    let text = hgrm::render(&latency).expect("a histogram");
    let mut lines = text.lines();
    assert_eq!(
        lines.next(),
        Some("       Value     Percentile TotalCount 1/(1-Percentile)")
    );
    assert_eq!(lines.next(), Some(""));
    let rows: Vec<Vec<f64>> = lines
        .take_while(|line| !line.starts_with('#'))
        .map(|line| {
            line.split_whitespace()
                .map(|cell| cell.parse().expect("a number"))
                .collect()
        })
        .collect();
    let (last, body) = rows.split_last().expect("rows");
    assert!(body.iter().all(|row| row.len() == 4));
    assert!(
        rows.windows(2)
            .all(|pair| (0..3).all(|cell| pair[0][cell] <= pair[1][cell]))
    );
    let half = body.iter().find(|row| row[1] == 0.5).expect("the median");
    assert_eq!((half[0], half[3]), (latency.p50 as f64, 2.0));
    assert_eq!(last[..], [latency.max as f64, 1.0, latency.count as f64]);
    let trailer: Vec<_> = text.lines().filter(|line| line.starts_with("#[")).collect();
    assert_eq!(trailer.len(), 3, "{text}");
    assert!(
        trailer[1].ends_with(&format!("Total count    = {:12}]", latency.count)),
        "{text}"
    );
    assert!(
        trailer[2].ends_with("SubBuckets     =         2048]"),
        "{text}"
    );
}

#[test]
fn a_histogram_that_is_damaged_is_an_error_and_a_line_on_the_page() {
    let mut report = fixture::report();
    let latency: &mut Latency = report.scenarios[0].rows[0]
        .latency
        .as_mut()
        .expect("it has one");
    latency.hdr.truncate(41);
    let error = hgrm::render(latency).expect_err("an odd number of digits");
    assert_eq!(
        error.to_string(),
        "the histogram is not in hexadecimal digits"
    );
    latency.hdr.truncate(40);
    let error = hgrm::render(latency).expect_err("cut short");
    assert!(
        error
            .to_string()
            .starts_with("the histogram is not in HdrHistogram's V2"),
        "{error}"
    );
    let page = html::render(&report, None);
    assert!(
        page.contains("annulus spsc: the histogram is not in HdrHistogram&#39;s V2")
            || page.contains("annulus spsc: the histogram is not in HdrHistogram's V2")
    );
}

#[test]
fn a_comparison_shows_what_changed_and_what_did_not() {
    let (new, old) = (fixture::report(), fixture::baseline());
    let text = baseline::compare(&new, &old).expect("one version");
    assert!(!text.contains("warning"), "{text}");
    let cells = line(&text, "difference", "rtt-56");
    assert_eq!(
        cells[1..],
        [
            "annulus spsc",
            "1.79 (1.64..1.92)",
            "1.12 (1.02..1.20)",
            "1.60 × faster"
        ]
    );
    let verdicts = |scenario: &str| {
        let all = baseline::differences(&new, &old).expect("one version");
        let of_it = all
            .into_iter()
            .filter(|difference| difference.scenario == scenario);
        of_it
            .map(|it| (it.contender.to_owned(), it.verdict()))
            .collect::<Vec<_>>()
    };
    let of = |scenario: &str, contender: &str| {
        let all = verdicts(scenario);
        let (_, verdict) = all
            .iter()
            .find(|(name, _)| name == contender)
            .expect(contender);
        verdict.clone()
    };
    for scenario in ["rtt-56", "stream-64-1"] {
        assert_eq!(of(scenario, "annulus spsc"), "1.60 × faster");
        assert_eq!(of(scenario, "shaq"), "no difference seen");
        assert_eq!(of(scenario, "TCP"), "only now");
        assert_eq!(of(scenario, "UDP"), "only in the baseline");
    }
    assert_eq!(of("rtt-56", "ipc_ring"), "no figure in either");
    let back = baseline::differences(&old, &new).expect("one version");
    let slower = back
        .iter()
        .find(|it| it.contender == "annulus spsc")
        .expect("it is there");
    assert_eq!(slower.verdict(), "1.60 × slower");
}

#[test]
fn another_machine_or_command_is_said_before_the_table() {
    let (new, mut old) = (fixture::report(), fixture::baseline());
    old.machine.kernel = "5.10.0".to_owned();
    old.machine.governor = Some("performance".to_owned());
    old.machine.cpus = vec![2, 3];
    old.machine.versions[0].1 = "0.3.1".to_owned();
    old.command = "annulus bench --quick".to_owned();
    old.scenarios[0].work.capacity = 4096;
    let text = baseline::compare(&new, &old).expect("one version");
    let warnings: Vec<_> = text
        .lines()
        .take_while(|line| line.starts_with("warning: "))
        .collect();
    assert_eq!(warnings.len(), 6, "{text}");
    let says = |words: &str| warnings.iter().any(|line| line.contains(words));
    assert!(says("kernel: was `5.10.0`, is `6.12.48`"), "{text}");
    assert!(says("governor: was `performance`, is `unknown`"), "{text}");
    assert!(says("processors in use: was `2-3`, is `0-1`"), "{text}");
    assert!(says("rtrb: was `0.3.1`, is `0.3.2`"), "{text}");
    assert!(says("command: was `annulus bench --quick`"), "{text}");
    assert!(says("rtt-56: was `round trip, 56 B records, "), "{text}");
    assert!(html::render(&new, Some(&old)).contains("kernel: was `5.10.0`, is `6.12.48`"));
}

#[test]
fn a_report_of_another_version_is_refused_whatever_else_it_holds() {
    let new = fixture::report();
    let json = serde_json::to_string(&new).expect("a report");
    let again: Report = baseline::read(&json).expect("it was just written");
    assert_eq!(
        baseline::compare(&new, &again)
            .expect("itself")
            .matches("no difference")
            .count(),
        baseline::compare(&new, &new)
            .expect("itself")
            .matches("no difference")
            .count()
    );

    let wanted = "the baseline is a report of version 7, this build compares version 1";
    let error = baseline::read("{\"version\": 7, \"moons\": []}").expect_err("another version");
    assert_eq!(error.to_string(), wanted);
    let old = Report {
        version: 7,
        ..fixture::baseline()
    };
    let error = baseline::compare(&new, &old).expect_err("another version");
    assert!(
        matches!(
            error,
            BaselineError::OtherVersion {
                found: 7,
                wanted: 1
            }
        ),
        "{error}"
    );
    let page = html::render(&new, Some(&old));
    assert!(page.contains(wanted) && !page.contains("baseline's median"));
    let error = baseline::read("[1, 2]").expect_err("no report");
    assert_eq!(
        error.to_string(),
        "the baseline is not a report of `--json`"
    );
}

#[test]
fn the_page_names_no_address_runs_no_script_and_escapes_every_text() {
    let mut report = fixture::report();
    let stranger = "<img src=x onerror=alert(1)>\"'&";
    report.command = stranger.to_owned();
    report.machine.cpu = stranger.to_owned();
    report.machine.warnings = vec![stranger.to_owned()];
    for scenario in &mut report.scenarios {
        scenario.title = stranger.to_owned();
        scenario.name = stranger.to_owned();
        scenario.floor = stranger.to_owned();
        for row in &mut scenario.rows {
            row.contender = stranger.to_owned();
            row.failure = Some(stranger.to_owned());
        }
    }
    let page = html::render(&report, Some(&report));
    for forbidden in [
        "<img", "<script", "<link", "://", "url(", "@import", " src=",
    ] {
        let found = page
            .match_indices(forbidden)
            .map(|(at, _)| &page[at.saturating_sub(60)..at + 30]);
        let found: Vec<_> = found
            .filter(|around| !around.contains("&lt;img src=x"))
            .collect();
        assert_eq!(found, [""; 0], "{forbidden}");
    }
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;"));
}
