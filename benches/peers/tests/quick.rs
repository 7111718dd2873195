//! Every peer takes part, loses nothing that it does not say it loses, and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use annulus_lab::result::{Report, Row};

const ONE_TO_ONE: [&str; 8] = [
    "round-trip/56B",
    "round-trip/64B",
    "stream/8B",
    "stream/8B/batch-32",
    "stream/64B",
    "stream/64B/batch-32",
    "stream/4KiB",
    "stream/64KiB",
];
const MANY_TO_MANY: [&str; 3] = [
    "mpmc/stream/64B",
    "mpmc/stream/64B/2+2/blocking",
    "mpmc/stream/64B/4+4/blocking",
];
/// Who carries records from one to one, but for those that are behind features.
const PAIRS: [&str; 10] = [
    "annulus SPSC",
    "rtrb",
    "ringbuf",
    "crossbeam ArrayQueue",
    "kanal",
    "ringfire",
    "disruptor-mp",
    "shaq",
    "ipc_ring",
    "ipc-channel",
];
const CROWDS: [&str; 5] = [
    "annulus MPMC",
    "crossbeam ArrayQueue",
    "kanal",
    "shaq mpmc",
    "ringfire mpmc",
];
/// Its documentation says that producers overwrite what nobody took.
const LOSSY: &str = "ringfire mpmc";
/// Whoever stops between claim and publication keeps all others spinning: with more players than
/// processors it may not get done.
const MAY_WEDGE: &str = "shaq mpmc";

fn peers() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_annulus-peers"));
    command.stdout(Stdio::piped());
    command
}

/// The report of a quick run, and its tables.
fn quick(options: &[&str]) -> (Report, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let output = peers()
        .arg("--quick")
        .args(options)
        .arg("--json")
        .arg(&file)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{:?}", output.status);
    let report = std::fs::read(file).expect("a report");
    let report = serde_json::from_slice(&report).expect("a report of this version");
    (report, String::from_utf8(output.stdout).expect("text"))
}

/// A contender's row in a scenario.
fn row<'r>(report: &'r Report, scenario: &str, contender: &str) -> &'r Row {
    let found = report.scenarios.iter().find(|each| each.name == scenario);
    let found = found.unwrap_or_else(|| panic!("{scenario} was not run"));
    let row = found.rows.iter().find(|row| row.contender == contender);
    row.unwrap_or_else(|| panic!("{contender} took no part in {scenario}"))
}

/// Demands a figure, and that nothing was lost or came twice.
fn expect_faultless(scenario: &str, row: &Row) {
    let who = format!("{} in {scenario}: {:?}", row.contender, row.failure);
    assert_eq!(row.failure, None, "{who}");
    let [slice] = row.slices.as_slice() else {
        panic!("{who}: {} slices", row.slices.len());
    };
    assert!(slice.records > 0 && slice.ns > 0.0, "{who}: {slice:?}");
    if row.contender != LOSSY {
        assert_eq!((slice.lost, slice.repeated), (0, 0), "{who}");
    }
}

#[test]
fn every_peer_has_a_figure_and_loses_nothing_that_it_does_not_say() {
    let (report, tables) = quick(&[]);
    let pairs = ONE_TO_ONE.iter().flat_map(|scenario| {
        let iceoryx = cfg!(feature = "iceoryx2").then_some("iceoryx2");
        let aeron = cfg!(feature = "aeron").then_some("Aeron IPC");
        let contenders = PAIRS.into_iter().chain(iceoryx).chain(aeron);
        contenders.map(move |contender| (*scenario, contender))
    });
    let crowds = MANY_TO_MANY
        .iter()
        .flat_map(|scenario| CROWDS.map(|contender| (*scenario, contender)));
    for (scenario, contender) in pairs.chain(crowds) {
        let row = row(&report, scenario, contender);
        if row.failure.is_some() && contender == MAY_WEDGE {
            assert!(tables.contains(row.failure.as_deref().expect("a reason")));
            continue;
        }
        let is_late = row
            .failure
            .as_deref()
            .is_some_and(|why| why.starts_with("wedged"));
        if is_late {
            // Somebody else had the processors for seconds: once more, by itself.
            let (again, _) = quick(&["--only", contender, "--scenario", scenario]);
            expect_faultless(scenario, self::row(&again, scenario, contender));
        } else {
            expect_faultless(scenario, row);
        }
        assert!(tables.contains(&format!("| {contender}")), "{tables}");
    }
    for scenario in &report.scenarios {
        let floor = scenario.floor_ns.first();
        assert!(floor.is_some_and(|ns| *ns > 0.0), "{}", scenario.name);
    }
}

/// What a driver has in `/dev/shm`.
fn files_of(driver: u32) -> Vec<PathBuf> {
    let ours = [
        format!("peers{driver}_"),
        format!("annulus-bench-{driver}-"),
    ];
    let entries = std::fs::read_dir("/dev/shm").expect("a tmpfs");
    let named = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        ours.iter().any(|prefix| name.starts_with(prefix))
    });
    named.map(|entry| entry.path()).collect()
}

/// A driver that has begun, killed when it has files.
struct Begun(Child);

impl Begun {
    fn with(contender: &str) -> Self {
        let mut command = peers();
        command.args(["--only", contender, "--scenario", "stream/64B"]);
        Self(command.spawn().expect("it starts"))
    }

    fn wait_for_files(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_peers = |file: &Path| file.to_string_lossy().contains("/peers");
        while !files_of(self.0.id()).iter().any(|file| is_peers(file)) {
            assert!(Instant::now() < deadline, "it has no file of a peer");
            std::thread::yield_now();
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        // It is dead already if all went well.
        let _dead = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn what_a_killed_driver_left_goes_when_the_next_one_begins() {
    for contender in ["disruptor-mp", "iceoryx2"] {
        if contender == "iceoryx2" && !cfg!(feature = "iceoryx2") {
            continue;
        }
        let mut begun = Begun::with(contender);
        begun.wait_for_files();
        begun.0.kill().expect("it lives");
        begun.0.wait().expect("it is ours");
        let left = files_of(begun.0.id());
        assert!(!left.is_empty(), "nothing to sweep after {contender}");
        quick(&["--only", "rtrb", "--scenario", "round-trip/56B"]);
        assert_eq!(files_of(begun.0.id()), Vec::<PathBuf>::new(), "{contender}");
    }
}

#[test]
fn a_driver_that_is_asked_to_stop_reports_what_it_has_and_leaves_nothing() {
    let begun = Begun::with("disruptor-mp");
    begun.wait_for_files();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(begun.0.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it lives");
    let mut begun = begun;
    let stdout = begun.0.stdout.take().expect("piped");
    let tables = std::io::read_to_string(stdout).expect("text");
    let status = begun.0.wait().expect("it is ours");
    assert!(status.success(), "{status}");
    assert!(tables.contains("| disruptor-mp"), "{tables}");
    assert_eq!(files_of(begun.0.id()), Vec::<PathBuf>::new());
}
