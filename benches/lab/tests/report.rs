//! Tables, percentile files and comparisons, of a report with made-up figures.

mod fixture;

use annulus_lab::report::{html, table};

#[test]
fn x() {
    let report = fixture::report();
    std::fs::write(
        "/tmp/w/r/page.html",
        html::render(&report, Some(&fixture::baseline())),
    )
    .unwrap();
    std::fs::write("/tmp/w/r/table.txt", table::render(&report)).unwrap();
    std::fs::write("/tmp/w/r/table.md", table::render_markdown(&report)).unwrap();
    std::fs::write(
        "/tmp/w/r/base.txt",
        annulus_lab::report::baseline::compare(&report, &fixture::baseline()).unwrap(),
    )
    .unwrap();
    std::fs::write(
        "/tmp/w/r/x.hgrm",
        annulus_lab::report::hgrm::render(report.scenarios[0].rows[0].latency.as_ref().unwrap())
            .unwrap(),
    )
    .unwrap();
}
