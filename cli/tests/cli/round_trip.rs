//! What goes in comes out, to the last byte.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;

use crate::support::{MPMC, Ring, SPSC, noise, numbered, numbers};

/// Sends while somebody receives.
#[track_caller]
fn assert_comes_out(kind: &[&str], framing: &str, input: &[u8]) {
    let ring = Ring::new(kind);
    let output = ring.dir.path().join("output");
    let receiver = ring.start_recv(&[], &output);
    ring.send(&["--framing", framing, "--close"], input)
        .assert_done();
    receiver.finish().assert_done();
    assert!(
        fs::read(&output).unwrap() == input,
        "{kind:?} {framing} {} bytes",
        input.len()
    );
    let stat = ring.stat();
    assert_eq!(stat["committed_records"], stat["released_records"]);
    assert_eq!(stat["participants"].as_array().unwrap().len(), 0);
}

#[test]
fn raw_bytes_come_out_as_they_went_in() {
    for kind in [SPSC, MPMC] {
        for len in [0, 1, 239, 240, 241, 8191, 8192, 1_000_003] {
            assert_comes_out(kind, "raw", &noise(len));
        }
    }
}

#[test]
fn lines_come_out_as_they_went_in_empty_and_open_ones_too() {
    for kind in [SPSC, MPMC] {
        let odd: [&[u8]; 6] = [
            b"",
            b"\n",
            b"\n\n\n",
            b"no newline",
            b"one\n\ntwo",
            b"\0\xff\r\n",
        ];
        for input in odd {
            assert_comes_out(kind, "lines", input);
        }
        assert_comes_out(kind, "lines", &numbered(50_000));
    }
}

#[test]
fn counted_records_come_out_as_they_went_in() {
    let mut input = Vec::new();
    for len in [0_u32, 1, 240, 7].into_iter().cycle().take(5000) {
        input.extend(len.to_le_bytes());
        input.extend(noise(len as usize));
    }
    for kind in [SPSC, MPMC] {
        assert_comes_out(kind, "len32", b"");
        assert_comes_out(kind, "len32", &input);
    }
}

#[test]
fn a_receiver_may_choose_another_framing() {
    for (framing, expected) in [
        ("raw", &b"onetwo"[..]),
        ("lines", b"one\ntwo\n"),
        ("len32", b"\x03\0\0\0one\x03\0\0\0two"),
    ] {
        let ring = Ring::new(MPMC);
        ring.send(&["--framing", "lines", "--close"], b"one\ntwo\n")
            .assert_done();
        let ran = ring.run("recv", &["--framing", framing]);
        ran.assert_done();
        assert_eq!(ran.stdout, expected, "{framing}");
    }
}

#[test]
fn several_senders_and_receivers_share_a_slot_ring_line_by_line() {
    let ring = Ring::new(MPMC);
    let outputs: Vec<_> = (0..2)
        .map(|n| ring.dir.path().join(format!("output{n}")))
        .collect();
    let receivers: Vec<_> = outputs
        .iter()
        .map(|output| ring.start_recv(&[], output))
        .collect();
    let all = numbered(9000);
    let lines: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();
    let senders: Vec<_> = lines
        .chunks(3000)
        .enumerate()
        .map(|(n, part)| {
            let input = ring.file(&format!("input{n}"), &part.concat());
            ring.start("send", &["--framing", "lines"], &input)
        })
        .collect();
    senders
        .into_iter()
        .for_each(|sender| sender.finish().assert_done());
    ring.send(&["--close"], b"").assert_done();
    receivers
        .into_iter()
        .for_each(|receiver| receiver.finish().assert_done());
    let mut found: Vec<u64> = outputs
        .iter()
        .flat_map(|output| numbers(&fs::read(output).unwrap()))
        .collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..9000));
}

#[test]
fn each_line_of_a_slow_input_goes_at_once() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let mut sender = ring.command("send", &["--framing", "lines", "--close"]);
        let mut sender = sender.stdin(Stdio::piped()).spawn().unwrap();
        let mut receiver = ring.command("recv", &[]).spawn().unwrap();
        let mut output = receiver.stdout.take().unwrap();
        let mut input = sender.stdin.take().unwrap();
        for line in [b"one\n", b"two\n"] {
            input.write_all(line).unwrap();
            let mut found = [0; 4];
            output.read_exact(&mut found).unwrap();
            assert_eq!(&found, line);
        }
        drop(input);
        assert!(sender.wait().unwrap().success());
        assert!(receiver.wait().unwrap().success());
    }
}

#[test]
fn a_count_of_records_leaves_the_rest_in_the_ring() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        ring.send(&["--framing", "lines"], &numbered(10))
            .assert_done();
        let first = ring.run("recv", &["--count", "3"]);
        first.assert_done();
        assert_eq!(numbers(&first.stdout), [0, 1, 2]);
        assert_eq!(ring.number("released_records"), 3);
        ring.send(&["--close"], b"").assert_done();
        let rest = ring.run("recv", &["--count", "100"]);
        assert_eq!(rest.code(), Some(1), "the end came first: {rest:?}");
        assert_eq!(numbers(&rest.stdout), [3, 4, 5, 6, 7, 8, 9]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure_and_loses_nothing_that_was_not_written() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let input = numbered(60);
        ring.send(&["--framing", "lines", "--close"], &input)
            .assert_done();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = ring.command("recv", &[]).stdout(writer).spawn().unwrap();
        let ran = crate::support::finish(ran);
        ran.assert_done();
        assert_eq!(ran.stderr, "");
        assert_eq!(ring.run("recv", &[]).stdout, input);
    }
}

#[test]
fn a_pipe_to_head_gets_its_line() {
    let ring = Ring::new(SPSC);
    ring.send(&["--framing", "lines", "--close"], &numbered(1000))
        .assert_done();
    let mut receiver = ring.command("recv", &[]).spawn().unwrap();
    let mut line = [0; 7];
    let mut output = receiver.stdout.take().unwrap();
    output.read_exact(&mut line).unwrap();
    drop(output);
    assert_eq!(&line, b"line 0\n");
    assert_eq!(receiver.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_ring_takes_more_once_it_is_reopened() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        ring.send(&["--close"], b"one").assert_done();
        ring.send(&[], b"two").assert_refused(2, &["closed"]);
        ring.send(&["--reopen", "--close"], b"two").assert_done();
        assert_eq!(ring.run("recv", &[]).stdout, b"onetwo");
    }
}

#[test]
fn the_output_may_be_a_device_and_the_input_an_empty_one() {
    let ring = Ring::new(SPSC);
    let null = || {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap()
    };
    let sent = ring
        .command("send", &["--close"])
        .stdin(null())
        .spawn()
        .unwrap();
    crate::support::finish(sent).assert_done();
    let received = ring.command("recv", &[]).stdout(null()).spawn().unwrap();
    crate::support::finish(received).assert_done();
}
