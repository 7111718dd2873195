//! Bridges between real processes, killed at any moment.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{MPMC, Ring, Running, SPSC, annulus, numbered, numbers};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two rings, and a UNIX socket between them.
struct Scene {
    from: Ring,
    to: Ring,
}

impl Scene {
    fn new(from: &[&str], to: &[&str]) -> Self {
        let (from, to) = (Ring::new(from), Ring::new(to));
        Self { from, to }
    }

    fn socket(&self) -> PathBuf {
        self.from.dir.path().join("socket")
    }

    fn sends(&self, options: &[&str]) -> Running {
        let (ring, socket) = (self.from.path.display(), self.socket());
        let socket = format!("unix-listen:{}", socket.display());
        bridge(&format!("ring:{ring}"), &socket, options)
    }

    fn receives(&self, options: &[&str]) -> Running {
        let (ring, socket) = (self.to.path.display(), self.socket());
        let socket = format!("unix:{}", socket.display());
        bridge(&socket, &format!("ring:{ring}"), options)
    }
}

fn bridge(source: &str, destination: &str, options: &[&str]) -> Running {
    let mut command = annulus(["bridge", source, destination]);
    // What it says may be much: nobody reads it meanwhile.
    command.stderr(std::process::Stdio::null());
    Running(command.args(options).spawn().unwrap())
}

/// Waits until it ends by itself.
#[track_caller]
fn ended(running: &mut Running) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = running.0.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A number below `limit`, another one each time.
fn chance(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % limit
}

#[test]
fn a_stream_crosses_and_its_end_too() {
    let scene = Scene::new(SPSC, SPSC);
    let input = numbered(50_000);
    let mut receives = scene.receives(&[]);
    let mut sends = scene.sends(&[]);
    let output = scene.to.dir.path().join("output");
    let recv = scene.to.start_recv(&["--framing", "lines"], &output);
    let file = scene.from.file("in", &input);
    let send = scene
        .from
        .start("send", &["--framing", "lines", "--close"], &file);
    send.finish().assert_done();
    assert_eq!(
        (ended(&mut sends), ended(&mut receives)),
        (Some(0), Some(0))
    );
    recv.finish().assert_done();
    assert!(fs::read(&output).unwrap() == input);
    assert_eq!(scene.from.number("released_records"), 50_000);
}

/// Either bridge dies by SIGKILL, over and over, wherever it is: no line is lost, doubled or moved.
#[test]
fn whichever_bridge_is_killed_whenever_each_record_arrives_once_and_in_order() {
    kill_either(SPSC, 8_000_000);
}

/// A slot ring has a store for each record, before which the bridge may die as well as behind it.
#[test]
fn so_it_does_in_a_slot_ring() {
    kill_either(MPMC, 1_000_000);
}

fn kill_either(to: &[&str], lines: u64) {
    let scene = Scene::new(SPSC, to);
    let input = numbered(lines);
    let output = scene.to.dir.path().join("output");
    let mut recv = scene.to.start_recv(&["--framing", "lines"], &output);
    let file = scene.from.file("in", &input);
    let _send = scene
        .from
        .start("send", &["--framing", "lines", "--close"], &file);
    let (mut sends, mut receives) = (Some(scene.sends(&[])), Some(scene.receives(&[])));
    let mut state = u64::from(std::process::id()) | 1 << 40;
    let (mut kills, begun) = (0, Instant::now());
    while recv.0.try_wait().unwrap().is_none() {
        assert!(
            begun.elapsed() < PATIENCE,
            "after {kills} kills it does not end"
        );
        // Long enough for some to arrive, short enough that most of the way is ahead.
        std::thread::sleep(Duration::from_millis(2 + chance(&mut state, 40)));
        let which = chance(&mut state, 3);
        // One that has ended by itself has nothing more to do.
        if which != 0 && sends.take().is_some_and(Running::strike) {
            sends = Some(scene.sends(&[]));
            kills += 1;
        }
        if which != 1 && receives.take().is_some_and(Running::strike) {
            receives = Some(scene.receives(&[]));
            kills += 1;
        }
    }
    recv.finish().assert_done();
    let arrived = numbers(&fs::read(&output).unwrap());
    let first_wrong = arrived
        .iter()
        .zip(0..)
        .find(|(found, wanted)| **found != *wanted);
    assert_eq!(
        first_wrong,
        None,
        "{} arrived after {kills} kills",
        arrived.len()
    );
    assert_eq!(arrived.len() as u64, lines, "after {kills} kills");
    assert!(kills >= 20, "only {kills} kills: too few to show anything");
    assert_eq!(scene.to.number("committed_records"), lines);
}

/// Not in an error about the URL, and not while the broker is away.
#[test]
fn a_password_is_never_shown() {
    let ring = Ring::new(SPSC);
    let end = format!("ring:{}", ring.path.display());
    for (url, why) in [
        ("amqp://me:s3cret@localhost/a/b?queue=q", "%2f"),
        (
            "amqps://me:s3cret@localhost?queue=q&ca=/nowhere.pem",
            "/nowhere.pem",
        ),
        ("amqps://me:s3cret@localhost?queue=q&verify=no", "`verify`"),
        ("amqp://me:s3cret@localhost?queu=q", "`queu`"),
        ("amqp://me:s3cret@localhost:x?queue=q", "port"),
        ("tcp://me:s3cret@localhost:1", "others can see"),
    ] {
        let output = annulus(["bridge", url, &end]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why) && !said.contains("s3cret"), "{said}");
    }
    let url = "amqp://me:s3cret@127.0.0.1:1/%2f?routing_key=q";
    let mut command = annulus(["bridge", &end, url]);
    let mut child = command
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    while !said.contains("unreachable at=\"amqp://me@127.0.0.1:1") {
        said += &lines.next().expect("it says so before it ends").unwrap();
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    lines.for_each(|line| said += &line.unwrap());
    assert_eq!(
        child.wait().unwrap().code(),
        Some(0),
        "there was nothing to confirm: {said}"
    );
    assert!(
        said.contains("password_file") && !said.contains("s3cret"),
        "{said}"
    );
}
