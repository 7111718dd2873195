//! SIGKILL at either end, and signals that ask.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::support::{MPMC, Ring, Running, SPSC, noise, numbered, numbers};

/// Sends the whole input again, without what `stat` says was committed.
fn resume(ring: &Ring, framing: &str, input: &[u8]) {
    let committed = ring.number("committed_records").to_string();
    let options = [
        "--framing",
        framing,
        "--close",
        "--skip-records",
        &committed,
    ];
    ring.send(&options, input).assert_done();
}

#[test]
fn a_sender_that_is_killed_before_a_full_ring_goes_on_where_it_was() {
    for kind in [SPSC, MPMC] {
        for (framing, input) in [("raw", noise(300_001)), ("lines", numbered(30_000))] {
            let ring = Ring::new(kind);
            let sender = ring.start("send", &["--framing", framing], &ring.file("in", &input));
            // Nobody receives, so it ends up asleep.
            ring.wait_until(|stat| stat["participants"][0]["waits"].as_u64() > Some(0));
            sender.kill();
            let output = ring.dir.path().join("output");
            let receiver = ring.start_recv(&[], &output);
            resume(&ring, framing, &input);
            receiver.finish().assert_done();
            assert!(fs::read(&output).unwrap() == input, "{kind:?} {framing}");
        }
    }
}

#[test]
fn a_sender_that_is_killed_half_way_goes_on_where_it_was() {
    for kind in [SPSC, MPMC] {
        for (framing, input) in [("raw", noise(8 << 20)), ("lines", numbered(600_000))] {
            let ring = Ring::new(kind);
            let input = [input, b"the end".to_vec()].concat();
            let output = ring.dir.path().join("output");
            let receiver = ring.start_recv(&[], &output);
            // Half of the input and no end of it: there is time to kill.
            let mut sender = ring.command("send", &["--framing", framing]);
            let mut sender = Running(sender.stdin(Stdio::piped()).spawn().unwrap());
            let mut stdin = sender.0.stdin.take().unwrap();
            stdin.write_all(&input[..input.len() / 2]).unwrap();
            sender.kill();
            assert!(ring.number("committed_records") > 0);
            resume(&ring, framing, &input);
            receiver.finish().assert_done();
            assert!(fs::read(&output).unwrap() == input, "{kind:?} {framing}");
        }
    }
}

#[test]
fn the_input_must_have_the_records_that_are_left_out() {
    let ring = Ring::new(SPSC);
    let options = ["--framing", "lines", "--skip-records", "4"];
    ring.send(&options, &numbered(3))
        .assert_refused(2, &["3 records", "4"]);
    ring.send(&options, &numbered(4)).assert_done();
    assert_eq!(ring.number("committed_records"), 0);
}

#[test]
fn a_receiver_that_is_killed_loses_nothing() {
    const LINES: u64 = 400_000;
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let outputs = ["first", "second"].map(|name| ring.dir.path().join(name));
        let first = ring.start_recv(&[], &outputs[0]);
        let input = ring.file("input", &numbered(LINES));
        let sender = ring.start("send", &["--framing", "lines"], &input);
        ring.wait_until(|stat| stat["released_records"].as_u64() > Some(LINES / 20));
        first.kill();
        let second = ring.start_recv(&[], &outputs[1]);
        sender.finish().assert_done();
        // Only now, so that the first one was not done before it was killed.
        ring.send(&["--close"], b"").assert_done();
        second.finish().assert_done();
        let [first, second] = outputs.map(|output| numbers(&fs::read(output).unwrap()));
        assert!(first.iter().copied().eq(0..first.len() as u64), "{kind:?}");
        // What the first one had written and not released comes again.
        let mut all = [first.clone(), second.clone()].concat();
        all.sort_unstable();
        let twice = all.windows(2).filter(|pair| pair[0] == pair[1]).count();
        all.dedup();
        assert!(all.into_iter().eq(0..LINES), "{kind:?}");
        assert!(twice <= 4096, "{kind:?}: {twice} came twice");
    }
}

/// A receiver that holds records, because nobody reads what it writes. That it has a claim and the
/// ring is full is not enough: it has both for a moment whenever it is slow, too.
fn stuck_receiver(ring: &Ring) -> Running {
    let lines: Vec<u8> = numbered(100_000);
    let input = ring.file("input", &lines);
    let sender = ring.start("send", &["--framing", "lines"], &input);
    let receiver = Running(ring.command("recv", &[]).spawn().unwrap());
    ring.wait_until(|stat| {
        let participants = stat["participants"].as_array().unwrap();
        let sleeps =
            |p: &serde_json::Value| p["role"] == "producer" && p["waits"].as_u64() > Some(0);
        receiver.waits_for_its_reader()
            && participants.iter().any(sleeps)
            && stat["claims_count"].as_u64() > Some(0)
    });
    sender.kill();
    receiver
}

#[test]
fn recover_says_what_it_did() {
    for (kind, expected) in [
        (
            MPMC,
            "recovered 2 dead participants, 16 records to be delivered again\n",
        ),
        (SPSC, "recovered 2 dead participants"),
    ] {
        let ring = Ring::new(kind);
        stuck_receiver(&ring).kill();
        let ran = ring.run("recover", &[]);
        ran.assert_done();
        assert!(ran.text().starts_with(expected), "{}", ran.text());
        let again = ring.run("recover", &[]);
        again.assert_done();
        assert_eq!(
            again.text(),
            "nothing to recover: no participant has died\n"
        );
        let stat = ring.stat();
        assert_eq!(stat["claims_count"], 0);
        assert_eq!(stat["totals"]["recovered"], 2);
    }
}

#[test]
fn a_receiver_that_is_asked_to_end_gives_back_what_it_holds() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let mut receiver = stuck_receiver(&ring);
        receiver.signal(Signal::SIGTERM);
        assert_eq!(
            receiver.0.wait().unwrap().signal(),
            Some(nix::libc::SIGTERM)
        );
        let stat = ring.stat();
        let alive = |p: &&serde_json::Value| p["is_alive"] == true || p["role"] == "consumer";
        assert_eq!(
            stat["participants"]
                .as_array()
                .unwrap()
                .iter()
                .filter(alive)
                .count(),
            0
        );
        // Whole records are released, the one that was cut off is not.
        let mut written = Vec::new();
        receiver
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut written)
            .unwrap();
        let released = stat["released_records"].as_u64().unwrap();
        assert_eq!(numbers(&written).len() as u64, released, "{kind:?}");
    }
}

#[test]
fn a_sender_that_waits_for_input_or_space_ends_when_asked() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let sender = ring
            .command("send", &[])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut waits_for_input = Running(sender);
        ring.wait_until(|stat| stat["participants"][0]["is_alive"] == true);
        waits_for_input.signal(Signal::SIGINT);
        assert_eq!(
            waits_for_input.0.wait().unwrap().signal(),
            Some(nix::libc::SIGINT)
        );

        let mut waits_for_space = ring.start("send", &[], &ring.file("in", &noise(1 << 20)));
        ring.wait_until(|stat| stat["participants"][0]["waits"].as_u64() > Some(0));
        waits_for_space.signal(Signal::SIGTERM);
        assert_eq!(
            waits_for_space.0.wait().unwrap().signal(),
            Some(nix::libc::SIGTERM)
        );
        assert_eq!(ring.stat()["participants"].as_array().unwrap().len(), 0);
        assert_eq!(
            ring.stat()["totals"]["recovered"],
            0,
            "both had left in order"
        );
    }
}
