//! A real other process writes all over a ring, while one that trusts nobody is attached to it.
//!
//! The hostile one has the ring's memory and knows what stands where: it writes noise, and words
//! that are nearly right, to the header, the cursors, the journals, the rows, the slots' words, the
//! lengths and the payload; it attaches, and is killed, over and over. The victim does everything
//! that `attach_untrusting` lets it do, on both sides of either ring. Its user sees errors or
//! bytes; it does not die, and each of its operations returns.
//!
//! # What would show
//! - An access outside the mapping: the pages on both sides of it are nobody's ([`guard`]), and
//!   under AddressSanitizer neither are those around everything on the heap.
//! - A panic or a signal: the victim is a process, whose end is the test's failure.
//! - An endless loop: the victim notes what it begins, and whoever takes longer than [`LIMIT`] is
//!   named, with its operation.
//!
//! # How long
//! Two seconds a ring, and on a crowded machine until the victim has tried everything and has met
//! everything; `ANNULUS_HOSTILE_SECONDS` says otherwise. Under AddressSanitizer:
//!
//! ```sh
//! RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target x86_64-unknown-linux-gnu \
//!     --test hostile --test corrupt
//! ```
//!
//! | file | for |
//! | --- | --- |
//! | `victim` | what the attacked process does |
//! | `scribble` | what the hostile process writes |
//! | `guard` | pages that nobody may touch, around the victim's mappings |
//! | `log` | what the victim is doing, and what it has met |
#![expect(
    clippy::print_stdout,
    reason = "each test says what the victim has met"
)]

mod hostile {
    pub(crate) mod guard;
    pub(crate) mod log;
    pub(crate) mod scribble;
    pub(crate) mod victim;
}

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use annulus::segment::CreateOptions;
use annulus::{Kind, mpmc, spsc};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use hostile::log::{self, Log, Met, Operation};

/// Longest that one operation of the victim may take. Those that wait do so for a millisecond; an
/// attacher gives others a quarter of a second to let go of a row.
const LIMIT: Duration = Duration::from_secs(20);
/// Longer than a victim that makes any progress takes to have met everything.
const LOST: Duration = Duration::from_secs(120);
/// Between two looks at the victim.
const LOOK: Duration = Duration::from_millis(1);
/// How long a hostile process lives.
const LIFE: Duration = Duration::from_millis(250);

const PART: &str = "ANNULUS_HOSTILE_PART";
const RING: &str = "ANNULUS_HOSTILE_RING";
const LOG: &str = "ANNULUS_HOSTILE_LOG";
const SOUND: &str = "sound";
const SEED: &str = "ANNULUS_HOSTILE_SEED";

fn start(part: &str, ring: &OwnedFd, log: &Path, seed: u64) -> Child {
    let ring = format!("/proc/{}/fd/{}", std::process::id(), ring.as_raw_fd());
    Command::new(std::env::current_exe().expect("this program"))
        .args(["part", "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env(RING, ring)
        .env(LOG, log)
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .spawn()
        .expect("start a process")
}

/// The door through which the other processes come in; does nothing in a run of the tests.
#[test]
fn part() {
    let (Ok(part), Ok(seed)) = (std::env::var(PART), std::env::var(SEED)) else {
        return;
    };
    set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
    let path = |variable| std::env::var_os(variable).expect("a path");
    let ring = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path(RING))
        .expect("the ring");
    let ring = OwnedFd::from(ring);
    let seed = seed.parse().expect("a number");
    match part.as_str() {
        "bytes" => hostile::victim::suffer(ring, Kind::SpscBytes, &Log::open(&path(LOG)), seed),
        "slots" => hostile::victim::suffer(ring, Kind::MpmcSlots, &Log::open(&path(LOG)), seed),
        "scribble" => hostile::scribble::scribble(ring, &sound(), seed, false),
        "attach and scribble" => hostile::scribble::scribble(ring, &sound(), seed, true),
        other => panic!("no such part: {other}"),
    }
}

/// What the ring was like before the attack: beside the log.
fn sound() -> Vec<u8> {
    let log = PathBuf::from(std::env::var_os(LOG).expect("a path"));
    std::fs::read(log.with_file_name(SOUND)).expect("the ring as it was")
}

fn seconds() -> Duration {
    let seconds = std::env::var("ANNULUS_HOSTILE_SECONDS");
    Duration::from_secs(seconds.map_or(2, |text| text.parse().expect("a number of seconds")))
}

/// Fails if an operation takes too long. `since` is when each was first seen.
fn watch(log: &Log, since: &mut [(u64, Instant); log::SIDES]) {
    for (side, (count, first_seen)) in since.iter_mut().enumerate() {
        let begun = log.begun(side);
        if begun != *count {
            (*count, *first_seen) = (begun, Instant::now());
        }
        let operation = log.operation(side);
        assert!(
            first_seen.elapsed() < LIMIT,
            "the victim hangs in {operation:?}, its operation {begun} on side {side}"
        );
    }
}

/// What the victim has not tried, or not met, as often as it should.
fn lacks(log: &Log) -> Option<String> {
    let done = Operation::ALL
        .into_iter()
        .find(|operation| log.done(*operation) < 20);
    let met = Met::ALL.into_iter().find(|met| log.met(*met) < 20);
    done.map(|operation| format!("{operation:?}"))
        .or_else(|| met.map(|met| format!("{met:?}")))
}

fn attack(kind: Kind, ring: &OwnedFd) {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let path = directory.path().join("log");
    let log = Log::create(&path);
    let image = std::fs::read(format!("/proc/self/fd/{}", ring.as_raw_fd())).expect("the ring");
    std::fs::write(path.with_file_name(SOUND), image).expect("room for a copy");
    let part = match kind {
        Kind::SpscBytes => "bytes",
        Kind::MpmcSlots => "slots",
    };
    let mut victim = start(part, ring, &path, 1);
    let end = Instant::now() + seconds();
    let mut since = [(0, Instant::now()); log::SIDES];
    let mut seed = 1;
    while Instant::now() < end || lacks(&log).is_some() {
        let missing = lacks(&log);
        assert!(end.elapsed() < LOST, "the victim never came to {missing:?}");
        seed += 1;
        let hostile = ["scribble", "attach and scribble"][usize::from(seed % 2 == 0)];
        let mut hostile = start(hostile, ring, &path, seed);
        let killed = Instant::now() + LIFE;
        while Instant::now() < killed {
            let ended = victim.try_wait().expect("our child");
            let doing = [0, 1].map(|side| log.operation(side));
            assert!(ended.is_none(), "the victim died in {doing:?}: {ended:?}");
            watch(&log, &mut since);
            std::thread::sleep(LOOK);
        }
        hostile.kill().expect("our child");
        let status = hostile.wait().expect("our child");
        assert!(!status.success() && status.code().is_none(), "{status:?}");
    }
    log.stop();
    while victim.try_wait().expect("our child").is_none() {
        watch(&log, &mut since);
        std::thread::sleep(LOOK);
    }
    let status = victim.wait().expect("our child");
    let doing = [0, 1].map(|side| log.operation(side));
    assert!(status.success(), "the victim died in {doing:?}: {status:?}");
    println!("{part}: {seed} hostile processes; {log:?}");
}

#[test]
fn a_byte_ring_under_attack() {
    let ring = spsc::Options::new(4096);
    let ring = ring.memfd("hostile-bytes", &CreateOptions::default());
    attack(Kind::SpscBytes, &ring.expect("a ring"));
}

#[test]
fn a_slot_ring_under_attack() {
    let ring = mpmc::Options::new(8, 40).participants(6);
    let ring = ring.memfd("hostile-slots", &CreateOptions::default());
    attack(Kind::MpmcSlots, &ring.expect("a ring"));
}
