//! `bench` runs, tells what it found to people and programs, and refuses what makes no sense. How
//! fast anything is, is nothing that a test could know.

use std::fs;

use serde_json::Value;

use crate::support::run;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON, {error}: {text}"))
}

#[test]
fn a_quick_run_measures_every_scenario_and_nothing_fails() {
    let listed = run(["bench", "--list"]);
    listed.assert_done();
    let names: Vec<&str> = listed
        .text()
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let ran = run(["bench", "--quick", "--json"]);
    ran.assert_done();
    let report = json(ran.text());
    let scenarios = report["scenarios"].as_array().unwrap();
    let found: Vec<&str> = scenarios
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(found, names);
    for scenario in scenarios {
        let rows = scenario["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{scenario}");
        for row in rows {
            assert_eq!(
                row["failure"],
                Value::Null,
                "{} of {}",
                row["contender"],
                scenario["name"]
            );
            let slices = row["slices"].as_array().unwrap();
            let turns = slices.len() as u64 + row["left_out"].as_u64().unwrap();
            assert_eq!(turns, 1, "{row}");
            for slice in slices {
                assert!(slice["ns"].as_f64().unwrap() > 0.0, "{row}");
                assert_eq!(
                    (&slice["lost"], &slice["repeated"]),
                    (&0.into(), &0.into()),
                    "{row}"
                );
            }
        }
    }
}

#[test]
fn a_run_is_written_in_every_way_and_compared_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (saved, page, curves) = (path("run.json"), path("run.html"), path("curves"));
    let what = [
        "bench",
        "--kind",
        "spsc",
        "--payload",
        "61",
        "--wait",
        "yield",
    ];
    let how = ["--rounds", "2", "--slice", "5ms"];
    let ran = run(what
        .iter()
        .chain(&how)
        .copied()
        .chain(["--json", &saved, "--report", &page, "--hgrm", &curves]));
    ran.assert_done();
    for word in [
        "annulus SPSC",
        "round-trip/61B/yielding",
        "stream/61B/yielding",
        "floor: ",
    ] {
        assert!(ran.text().contains(word), "`{word}` in {}", ran.text());
    }
    let report = json(&fs::read_to_string(&saved).unwrap());
    assert_eq!(report["scenarios"].as_array().unwrap().len(), 2);
    assert!(
        report["command"]
            .as_str()
            .unwrap()
            .starts_with("annulus bench --kind spsc")
    );
    assert!(
        fs::read_to_string(&page)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    let latency = &report["scenarios"][0]["rows"][0]["latency"];
    let curve = std::path::Path::new(&curves).join("round-trip-61B-yielding--annulus-SPSC.hgrm");
    assert_eq!(curve.exists(), *latency != Value::Null, "{report}");

    let again = run(what
        .iter()
        .chain(&how)
        .copied()
        .chain(["--baseline", &saved]));
    again.assert_done();
    assert!(again.text().contains("baseline"), "{}", again.text());
}

#[test]
fn records_at_a_fixed_rate_have_their_lateness_told() {
    let ran = run([
        "bench",
        "--kind",
        "mpmc",
        "--rate",
        "2000",
        "--players",
        "2+2",
        "--wait",
        "block",
        "--rounds",
        "1",
        "--slice",
        "20ms",
        "--json",
    ]);
    ran.assert_done();
    let report = json(ran.text());
    let scenario = &report["scenarios"][0];
    assert_eq!(scenario["name"], "paced-2000/64B/2+2/blocking");
    let row = &scenario["rows"][0];
    assert_eq!(row["failure"], Value::Null);
    if let Some(slice) = row["slices"].get(0) {
        // 20 ms at 500 us, from both producers.
        assert_eq!(slice["records"], 80, "{row}");
        assert_eq!(row["latency"]["count"], 80, "{row}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_measured() {
    let refused = |arguments: &[&str], words: &[&str]| {
        run(["bench"].iter().chain(arguments)).assert_refused(2, words);
    };
    refused(&["no-such-thing"], &["no scenario"]);
    refused(&["--kind", "spsc", "--players", "2+2"], &["no scenario"]);
    refused(&["--cpus", "100000"], &["processor 100000 may not be used"]);
    refused(
        &["--baseline", "/no/such/file"],
        &["cannot read `/no/such/file`"],
    );
    refused(
        &["--baseline", "/dev/null"],
        &["`/dev/null`", "not a report"],
    );
    for arguments in [
        &["--payload", "7"][..],
        &["--slice", "10"],
        &["--rate", "0"],
        &["--players", "2"],
        &["--rounds", "0"],
        &["--quick", "--rounds", "3"],
        &["--backing", "cloud"],
    ] {
        let ran = run(["bench"].iter().chain(arguments));
        assert_eq!(ran.code(), Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn the_doctor_says_something_and_measures_nothing() {
    let ran = run(["bench", "--doctor"]);
    ran.assert_done();
    assert!(!ran.text().is_empty(), "{ran:?}");
}
