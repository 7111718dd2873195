//! The examples do what they say, as the processes that a reader would start.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than any example takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Cargo builds the examples before the tests, in a folder beside theirs.
fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let folder: PathBuf = tests.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is missing: cargo build --examples",
        program.display()
    );
    let mut command = Command::new(program);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ends_well(name: &str, mut child: Child) -> String {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{name} is not done after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(status.success(), "{name}: {status}\n{stdout}{stderr}");
    stdout
}

fn start(name: &str, arguments: &[&str]) -> Child {
    example(name).args(arguments).spawn().unwrap()
}

fn place() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("quotes.ring");
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn producer_and_consumer_meet_in_either_order() {
    for order in [["producer", "consumer"], ["consumer", "producer"]] {
        let (_folder, path) = place();
        let children = order.map(|name| match name {
            "producer" => (name, start(name, &[&path, "20000"])),
            _ => (name, start(name, &[&path])),
        });
        for (name, child) in children {
            let stdout = ends_well(name, child);
            if name == "consumer" {
                assert_eq!(stdout, "read records 0 to 20000\n");
            }
        }
        assert!(!Path::new(&path).exists(), "the consumer removes the ring");
    }
}

#[test]
fn a_killed_producer_and_a_killed_consumer_are_started_again_and_lose_nothing() {
    let (_folder, path) = place();
    // Nobody reads yet, so the ring is full long before all are written.
    let mut producer = start("producer", &[&path, "20000"]);
    let mut consumer = start("consumer", &[&path]);
    producer.kill().unwrap();
    producer.wait().unwrap();
    consumer.kill().unwrap();
    consumer.wait().unwrap();

    let producer = start("producer", &[&path, "20000"]);
    let consumer = start("consumer", &[&path]);
    ends_well("producer", producer);
    let stdout = ends_well("consumer", consumer);
    assert!(stdout.ends_with("to 20000\n"), "{stdout}");
}

#[test]
fn a_second_producer_is_told_of_the_first() {
    let (_folder, path) = place();
    annulus::spsc::Options::new(4096)
        .create(path.as_str())
        .unwrap();
    // SAFETY: only this test has the ring.
    let first = unsafe { annulus::spsc::Producer::attach(path.as_str()) }.unwrap();
    let second = start("producer", &[&path, "1"]).wait_with_output().unwrap();
    drop(first);
    let stderr = String::from_utf8(second.stderr).unwrap();
    let expected = format!("process {} is producing already", std::process::id());
    assert!(
        !second.status.success() && stderr.contains(&expected),
        "{stderr}"
    );
}

#[test]
fn a_pipeline_survives_the_death_of_a_worker() {
    let stdout = ends_well("pipeline", start("pipeline", &["3"]));
    assert_eq!(
        stdout,
        "10000 jobs done
"
    );
    let stdout = ends_well("pipeline", start("pipeline", &["1"]));
    assert_eq!(
        stdout,
        "10000 jobs done
"
    );
}

#[test]
fn one_epoll_loop_serves_a_ring_and_a_socket() {
    let stdout = ends_well("epoll", start("epoll", &[]));
    assert_eq!(stdout, "10000 records, 1000 bytes\n");
}

/// Each example says in its first line how it is run, and is short enough to be read.
#[test]
fn an_example_is_a_page_that_begins_with_its_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let command = format!("//! cargo run --example {name}");
        assert!(
            text.starts_with(&command),
            "{name} does not begin with its command"
        );
        assert!(text.lines().count() <= 80, "{name} is longer than a page");
        names.push(name);
    }
    names.sort();
    assert_eq!(
        names,
        ["consumer", "epoll", "pipeline", "producer"],
        "one is without a test"
    );
}
