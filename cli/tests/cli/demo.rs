//! The demo: its verdict, and that it leaves nothing behind however it ends.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{Ring, Running, annulus, finish};

fn demo(dir: &Path, seconds: &str) -> Running {
    let dir = dir.to_str().unwrap();
    Running(
        annulus(["demo", "--seconds", seconds, "--dir", dir])
            .spawn()
            .unwrap(),
    )
}

/// The files below `dir`, at any depth.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Pids of those who are attached to the demo's first ring, once both are.
fn crew(dir: &Path) -> Vec<u64> {
    wait_until("a ring", || !files(dir).is_empty());
    let ring = Ring {
        path: files(dir)[0].clone(),
        dir: tempfile::tempdir().unwrap(),
    };
    let stat = ring.wait_until(|stat| stat["participants"].as_array().unwrap().len() == 2);
    stat["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["pid"].as_u64().unwrap())
        .collect()
}

fn is_gone(pid: u64) -> bool {
    // One that nobody has waited for yet is a zombie, and dead.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
}

#[test]
fn it_accounts_for_every_record_and_leaves_nothing() {
    let place = Ring::none();
    let ran = demo(place.dir.path(), "1").finish();
    ran.assert_done();
    let table = ran.text();
    for label in [
        "messages",
        "throughput",
        "p50",
        "p99.9",
        "recovered",
        "redelivered",
        "lost",
    ] {
        assert!(table.contains(label), "`{label}` in {table}");
    }
    assert!(table.contains("Every committed message arrived"), "{table}");
    assert_eq!(ran.stderr.matches("killed").count(), 2, "{}", ran.stderr);
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[test]
fn interrupted_it_takes_its_files_and_children_with_it() {
    let place = Ring::none();
    let demo = demo(place.dir.path(), "60");
    let crew = crew(place.dir.path());
    demo.signal(Signal::SIGINT);
    let ran = demo.finish();
    assert_eq!(ran.status.signal(), Some(nix::libc::SIGINT), "{ran:?}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
    assert!(crew.into_iter().all(is_gone));
}

#[test]
fn killed_it_takes_its_children_with_it() {
    let place = Ring::none();
    let demo = demo(place.dir.path(), "60");
    let crew = crew(place.dir.path());
    demo.kill();
    for pid in crew {
        wait_until("the end of a child", || is_gone(pid));
    }
}

#[test]
fn a_place_that_is_none_is_an_error() {
    let ran = finish(annulus(["demo", "--dir", "/nowhere"]).spawn().unwrap());
    ran.assert_refused(2, &["cannot use `/nowhere`"]);
}
