//! What the command refuses: with one clear line, never a panic, and nothing left behind.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::{MPMC, Ring, Running, SPSC, annulus, finish, noise, numbered, run};

const ALL: [&str; 5] = ["send", "recv", "stat", "recover", "rm"];

#[test]
fn a_second_producer_is_refused_by_the_name_of_the_first() {
    let ring = Ring::new(SPSC);
    let first = Running(
        ring.command("send", &[])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    ring.wait_until(|stat| stat["participants"][0]["is_alive"] == true);
    let pid = first.pid().to_string();
    ring.send(&[], b"x")
        .assert_refused(2, &["producer", &pid, "`annulus`"]);
}

#[test]
fn a_record_that_is_too_long_is_named_and_those_before_it_arrive() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let input = [b"one\ntwo\n".to_vec(), vec![b'x'; 1 << 20]].concat();
        let ran = ring.send(&["--framing", "lines"], &input);
        ran.assert_refused(2, &["line 3", "bytes"]);
        let ran = ring.send(&["--framing", "len32"], b"\x01\0\0\0x\xff\xff\xff\x7fx");
        ran.assert_refused(2, &["record 2"]);
        ring.send(&["--close"], b"").assert_done();
        assert_eq!(ring.run("recv", &[]).stdout, b"one\ntwo\n\x01\0\0\0x");
    }
}

#[test]
fn an_input_that_ends_inside_a_record_is_named() {
    let ring = Ring::new(SPSC);
    let ran = ring.send(&["--framing", "len32", "--close"], b"\x05\0\0\0four");
    ran.assert_refused(2, &["record 1", "8 of 9 bytes"]);
    assert_eq!(
        ring.stat()["is_closed"],
        false,
        "what has failed is not the end"
    );
}

#[test]
fn whatever_is_no_ring_gets_one_clear_line() {
    let ring = Ring::new(SPSC);
    let whole = fs::read(&ring.path).unwrap();
    let images: [&[u8]; 5] = [
        b"",
        b"not a ring",
        &noise(4096),
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 4096],
    ];
    for image in images {
        fs::write(&ring.path, image).unwrap();
        for subcommand in ALL {
            ring.run(subcommand, &[]).assert_refused(2, &["test.ring"]);
        }
    }
}

#[test]
fn places_without_a_file_are_told_apart() {
    let ring = Ring::none();
    for subcommand in ALL {
        ring.run(subcommand, &[])
            .assert_refused(2, &["no such file"]);
        let directory = ring.dir.path().to_str().unwrap();
        run([subcommand, directory]).assert_refused(2, &[directory]);
    }
}

#[test]
fn numbers_that_no_ring_can_have_are_refused() {
    for options in [
        &["--spsc", "--capacity", "3000"][..],
        &["--spsc", "--capacity", "1MB"],
        &["--mpmc", "--slots", "3"],
        &["--mpmc", "--slots", "0"],
        &["--mpmc", "--participants", "0"],
        &["--mpmc", "--participants", "5000"],
        &["--mpmc", "--slot-size", "17EiB"],
        &[
            "--mpmc",
            "--slots",
            "18446744073709551615",
            "--slot-size",
            "1GiB",
        ],
    ] {
        let ring = Ring::none();
        let ran = ring.run("create", options);
        assert_eq!(ran.code(), Some(2), "{options:?} {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{ran:?}");
        assert!(!ring.path.exists());
    }
}

#[test]
fn an_existing_file_is_left_alone() {
    let ring = Ring::none();
    fs::write(&ring.path, "precious").unwrap();
    ring.run("create", SPSC).assert_refused(2, &["exists"]);
    assert_eq!(fs::read(&ring.path).unwrap(), b"precious");
}

#[test]
fn the_mode_is_exact_whatever_the_umask() {
    for (options, mode) in [(&[][..], 0o600), (&["--mode", "0666"], 0o666)] {
        let ring = Ring::none();
        let script = "umask 077; exec \"$0\" create \"$@\"";
        let status = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_annulus")])
            .arg(&ring.path)
            .args(SPSC)
            .args(options)
            .stderr(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let found = fs::metadata(&ring.path).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode);
    }
}

#[test]
fn a_ring_in_use_is_removed_only_by_force() {
    for kind in [SPSC, MPMC] {
        let ring = Ring::new(kind);
        let user = Running(
            ring.command("send", &[])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        ring.wait_until(|stat| stat["participants"][0]["is_alive"] == true);
        ring.run("rm", &[])
            .assert_refused(1, &[&user.pid().to_string(), "annulus"]);
        assert!(ring.path.exists());
        ring.run("rm", &["--force"]).assert_done();
        assert!(!ring.path.exists());
        drop(user);

        let ring = Ring::new(kind);
        let user = Running(
            ring.command("send", &[])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        ring.wait_until(|stat| stat["participants"][0]["is_alive"] == true);
        user.kill();
        ring.run("rm", &[]).assert_done();
        assert!(!ring.path.exists(), "the dead hold nothing");
    }
}

#[test]
fn wrong_usage_is_a_failure_and_help_is_none() {
    for args in [
        &["create", "/dev/shm/x"][..],
        &["send"],
        &["recv", "x", "--count", "-1"],
        &[],
    ] {
        assert_eq!(run(args).code(), Some(2), "{args:?}");
    }
    let help = run(["--help"]);
    help.assert_done();
    assert!(help.text().contains("Exit codes"));
    for subcommand in ["demo", "create", "send", "recv", "stat", "recover", "rm"] {
        run([subcommand, "--help"]).assert_done();
        assert!(help.text().contains(subcommand));
    }
}

/// Runs a script in a mount namespace of its own, in which it may mount; as root, or else as the
/// root of a user namespace. `None` if this machine permits neither.
fn in_own_mounts(script: &str, args: &[&str]) -> Option<crate::support::Ran> {
    for flags in [&["-m"][..], &["-r", "-m"]] {
        let probe = Command::new("unshare")
            .args(flags)
            .args(["sh", "-c", "mount -t tmpfs none /mnt"])
            .stderr(Stdio::null())
            .status();
        if probe.is_ok_and(|status| status.success()) {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-c", script]).args(args);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            return Some(finish(command.spawn().unwrap()));
        }
    }
    None
}

#[test]
fn a_full_file_system_is_an_error_and_nothing_is_left_there() {
    let mount = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$1\" || exit 99
        \"$0\" create \"$1/a.ring\" --spsc --capacity 1MiB; code=$?
        ls -A \"$1\"; exit $code";
    let args = [
        env!("CARGO_BIN_EXE_annulus"),
        mount.path().to_str().unwrap(),
    ];
    if let Some(ran) = in_own_mounts(script, &args) {
        ran.assert_refused(2, &["a.ring", "the file system has"]);
        assert_eq!(ran.text(), "", "nothing is left");
        return;
    }
    // Past what the test harness would swallow.
    let warning = "WARNING: neither root nor a user namespace may mount a tmpfs on this machine; \
                   instead of a full one only a file size limit was tried\n";
    std::io::stderr().write_all(warning.as_bytes()).unwrap();
    a_file_size_limit_is_an_error();
}

#[test]
fn a_file_size_limit_is_an_error() {
    let ring = Ring::none();
    let script = "ulimit -f 100; exec \"$0\" create \"$1\" --spsc --capacity 1MiB";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_annulus")])
        .arg(&ring.path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(command.spawn().unwrap());
    ran.assert_refused(2, &["files are limited to"]);
    assert!(!ring.path.exists());
}

#[test]
fn a_disk_that_is_full_does_not_lose_what_was_to_be_written() {
    let ring = Ring::new(MPMC);
    let input = numbered(50);
    ring.send(&["--framing", "lines", "--close"], &input)
        .assert_done();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = finish(ring.command("recv", &[]).stdout(full).spawn().unwrap());
    ran.assert_refused(2, &["standard output", "No space left"]);
    assert_eq!(ring.run("recv", &[]).stdout, input);
}

#[test]
fn answers_to_nobody_are_no_failure() {
    let ring = Ring::new(MPMC);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut stat = annulus(["stat"]);
    let ran = finish(stat.arg(&ring.path).stdout(writer).spawn().unwrap());
    ran.assert_done();
    assert_eq!(ran.stderr, "");
}
