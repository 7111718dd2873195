//! What `stat` tells, and that telling changes nothing.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::support::{MPMC, Ring, Running, SPSC, numbered};

#[test]
fn json_has_the_numbers_of_both_kinds() {
    let ring = Ring::new(SPSC);
    ring.send(&["--framing", "lines"], &numbered(5))
        .assert_done();
    let stat = ring.stat();
    assert_eq!(stat["kind"], "spsc");
    assert_eq!(stat["capacity_bytes"], 65_536);
    assert_eq!(stat["committed_records"], 5);
    assert_eq!(stat["released_records"], 0);
    assert_eq!(stat["backlog_records"], 5);
    assert_eq!(stat["backlog_bytes"], 5 * 16);
    assert_eq!(stat["is_closed"], false);

    let ring = Ring::new(&[
        "--mpmc",
        "--slots",
        "8",
        "--slot-size",
        "100",
        "--redelivery",
        "2",
    ]);
    ring.send(&["--framing", "lines", "--close"], &numbered(5))
        .assert_done();
    let stat = ring.stat();
    assert_eq!(stat["kind"], "mpmc");
    assert_eq!(stat["slots"], 8);
    assert_eq!(stat["max_record_bytes"], 100);
    assert_eq!(stat["redelivery"], "2");
    assert_eq!(stat["committed_records"], 5);
    assert_eq!(stat["is_closed"], true);
    assert_eq!(stat["totals"]["committed"], 5);
}

#[test]
fn who_is_attached_and_what_is_held_is_shown() {
    let ring = Ring::new(SPSC);
    let sender = ring
        .command("send", &[])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let sender = Running(sender);
    let stat = ring.wait_until(|stat| stat["participants"][0]["is_alive"] == true);
    let participant = &stat["participants"][0];
    assert_eq!(participant["role"], "producer");
    assert_eq!(participant["pid"], sender.pid());
    assert_eq!(participant["command"], "annulus");
    let text = ring.run("stat", &[]);
    text.assert_done();
    for word in [
        "SPSC byte ring, open",
        "producer",
        "alive",
        &sender.pid().to_string(),
    ] {
        assert!(text.text().contains(word), "`{word}` in {}", text.text());
    }
    sender.kill();
    let text = ring.run("stat", &[]);
    assert!(text.text().contains("DEAD"), "{}", text.text());
}

#[test]
fn looking_writes_not_a_byte() {
    let ring = Ring::new(MPMC);
    ring.send(&["--framing", "lines"], &numbered(5))
        .assert_done();
    let before = fs::read(&ring.path).unwrap();
    ring.run("stat", &[]).assert_done();
    ring.run("stat", &["--json"]).assert_done();
    assert!(fs::read(&ring.path).unwrap() == before);
}

#[test]
fn watching_goes_on_until_nobody_reads() {
    let ring = Ring::new(MPMC);
    let mut watch = ring
        .command("stat", &["--watch", "--json"])
        .spawn()
        .unwrap();
    let mut output = watch.stdout.take().unwrap();
    let mut first = [0; 64];
    output.read_exact(&mut first).unwrap();
    assert_eq!(first[0], b'{');
    drop(output);
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}
