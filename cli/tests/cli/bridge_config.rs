//! What a bridge is told: flags over the environment over a file, and no secret said again.

use std::fs;

use crate::support::{Ran, Ring, SPSC, annulus, finish, numbered};

const RING: &str = "ring:/dev/shm/orders";
const SOCKET: &str = "tcp-listen://127.0.0.1:7400";

/// Runs `annulus bridge` with just these variables.
fn bridge(args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = annulus(["bridge"]);
    command.args(args).envs(variables.iter().copied());
    finish(command.spawn().unwrap())
}

fn checked(args: &[&str], variables: &[(&str, &str)]) -> String {
    let ran = bridge(&[args, &["--check-config"]].concat(), variables);
    ran.assert_done();
    assert_eq!(ran.stderr, "");
    ran.text().to_owned()
}

#[track_caller]
fn assert_says(config: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            config.lines().any(|said| said == *line),
            "{line} in {config}"
        );
    }
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let place = Ring::none();
    let file = place.file(
        "bridge.toml",
        b"source = 'ring:/of-the-file'\n\
          destination = 'unix:/of-the-file'\n\
          silence = 1\n\
          drain-timeout = 1.5\n\
          window-records = 1\n\
          window-bytes = '1KiB'\n\
          metrics = '127.0.0.1:1'\n\
          log = 'json'\n\
          log-level = 'trace'\n\
          quiet = true\n",
    );
    let file = file.to_str().unwrap();
    assert_says(
        &checked(&["--config", file], &[]),
        &[
            "source = \"ring:/of-the-file\"",
            "destination = \"unix:/of-the-file\"",
            "silence = 1.0",
            "drain-timeout = 1.5",
            "window-records = 1",
            "window-bytes = 1024",
            "metrics = \"127.0.0.1:1\"",
            "log = \"json\"",
            "log-level = \"trace\"",
            "quiet = true",
            "force-file-system = false",
        ],
    );
    let variables = [
        ("ANNULUS_BRIDGE_CONFIG", file),
        ("ANNULUS_BRIDGE_SOURCE", RING),
        ("ANNULUS_BRIDGE_DESTINATION", "unix:/of-the-environment"),
        ("ANNULUS_BRIDGE_SILENCE", "2"),
        ("ANNULUS_BRIDGE_DRAIN_TIMEOUT", "2"),
        ("ANNULUS_BRIDGE_METRICS", "127.0.0.1:2"),
        ("ANNULUS_BRIDGE_QUIET", "false"),
        ("RUST_LOG", "warn"),
    ];
    let flags = ["--silence", "3", "--metrics=off", "ring:/of-the-flags"];
    let config = checked(&flags, &variables);
    assert_says(
        &config,
        &[
            "source = \"ring:/of-the-flags\"",
            "destination = \"unix:/of-the-environment\"",
            "silence = 3.0",
            "drain-timeout = 2.0",
            "window-records = 1",
            "metrics = \"off\"",
            "log-level = \"warn\"",
            "quiet = false",
        ],
    );
    let own = [("RUST_LOG", "warn"), ("ANNULUS_BRIDGE_LOG_LEVEL", "debug")];
    let ends = [RING, SOCKET];
    assert_says(&checked(&ends, &own), &["log-level = \"debug\""]);
    let flag = [RING, SOCKET, "--log-level=info"];
    assert_says(&checked(&flag, &own), &["log-level = \"info\""]);

    // What it prints is such a file.
    let again = place.file("again.toml", config.as_bytes());
    assert_eq!(checked(&["--config", again.to_str().unwrap()], &[]), config);
}

#[test]
fn an_option_without_its_value_leaves_the_ends_alone() {
    let config = checked(&["--metrics", RING, SOCKET], &[]);
    assert_says(&config, &["metrics = \"127.0.0.1:9464\""]);
    let config = checked(&["--quiet", RING, SOCKET], &[]);
    assert_says(&config, &["quiet = true", "metrics = \"off\""]);
}

#[test]
fn what_a_file_says_wrongly_is_refused_with_its_line() {
    for (content, words) in [
        ("silence = 1\n\nsilense = 2\n", ["line 3", "`silense`"]),
        ("silence = 'long'\n", ["line 1", "expected f64"]),
        ("# one\nsilence = -1\n", ["line 2", "above 0"]),
        ("quiet = false\nmetrics = 9464\n", ["line 2", "a string"]),
        ("metrics = 'here'\n", ["line 1", "127.0.0.1:9464"]),
        ("log = 'xml'\n", ["line 1", "`json`"]),
        ("silence = 1\nsilence = 2\n", ["line 2", "duplicate"]),
        ("[bridge]\nsilence = 1\n", ["line 1", "`bridge`"]),
    ] {
        let place = Ring::none();
        let file = place.file("bridge.toml", content.as_bytes());
        let ran = bridge(&["--config", file.to_str().unwrap()], &[]);
        ran.assert_refused(2, &words);
    }
    let ran = bridge(&["--config", "/nowhere/bridge.toml"], &[]);
    ran.assert_refused(2, &["/nowhere/bridge.toml"]);
}

#[test]
fn what_is_missing_or_wrong_elsewhere_is_refused_too() {
    bridge(&[], &[]).assert_refused(2, &["the source is missing"]);
    bridge(&[RING], &[]).assert_refused(2, &["the destination is missing"]);
    bridge(&[RING, "smtp://x"], &[]).assert_refused(2, &["`smtp://x` is no destination"]);
    for check in [&["--check-config"][..], &[]] {
        let two = [&[RING, "tcp://127.0.0.1:1?subscribers=2"], check].concat();
        bridge(&two, &[]).assert_refused(2, &["`subscribers`", "the one that it calls"]);
        let lag = [&[RING, "unix-listen:/s?lag=9"], check].concat();
        bridge(&lag, &[]).assert_refused(2, &["`lag`", "slow=drop"]);
    }
    let level = [RING, SOCKET, "--log-level=a=b=c"];
    bridge(&level, &[]).assert_refused(2, &["no level"]);
    let ran = bridge(&[RING, SOCKET], &[("ANNULUS_BRIDGE_SILENCE", "soon")]);
    assert_eq!(ran.code(), Some(2), "{ran:?}");
    assert!(ran.stderr.contains("a number of seconds"), "{ran:?}");
}

/// Kubernetes writes variables for each service, under its name.
#[test]
fn a_variable_that_is_not_ours_is_warned_of_without_its_value() {
    let variables = [("ANNULUS_BRIDGE_SILENSE", "hunter2")];
    let ran = bridge(&["ring:/nowhere", SOCKET], &variables);
    assert_eq!(ran.code(), Some(2), "{ran:?}");
    let line = ran.stderr.lines().next().unwrap();
    assert!(
        line.contains("WARN unknown environment variable"),
        "{ran:?}"
    );
    assert!(line.contains("ANNULUS_BRIDGE_SILENSE"), "{ran:?}");
    assert!(!ran.stderr.contains("hunter2"), "{ran:?}");
}

#[test]
fn a_password_is_never_said_again() {
    let secret = "tcp://me:hunter2@127.0.0.1:1";
    let place = Ring::none();
    let files = [
        format!("source = '{secret}'\nsilense = 1\n"),
        // The parser stops in the very line.
        format!("source = \"{secret}\n"),
        format!("source = ['{secret}']\n"),
        format!("source = '{secret}'\ndestination = '{RING}'\n"),
    ];
    let mut runs = vec![
        bridge(&[secret, RING], &[]),
        bridge(&[secret, RING, "--check-config"], &[]),
        bridge(&["tcp://me:hunter2@ho st:1", RING], &[]),
        bridge(&[secret, RING, "--silence", "x"], &[]),
        bridge(&["--help"], &[("ANNULUS_BRIDGE_SOURCE", secret)]),
        bridge(&["-h"], &[("ANNULUS_BRIDGE_DESTINATION", secret)]),
        bridge(&[], &[("ANNULUS_BRIDGE_SOURCE", secret)]),
        bridge(&[RING], &[("ANNULUS_BRIDGE_DESTINATION", secret)]),
    ];
    for (number, content) in files.iter().enumerate() {
        let file = place.file(&format!("{number}.toml"), content.as_bytes());
        runs.push(bridge(&["--config", file.to_str().unwrap()], &[]));
    }
    for ran in runs {
        let said = format!("{}{}", ran.text(), ran.stderr);
        assert!(!said.is_empty() && !said.contains("hunter2"), "{ran:?}");
    }
}

#[test]
fn a_file_alone_is_enough() {
    let (from, to) = (Ring::new(SPSC), Ring::new(SPSC));
    from.send(&["--framing", "lines", "--close"], &numbered(100))
        .assert_done();
    let socket = from.dir.path().join("socket");
    let log = from.dir.path().join("log");
    let [sends, receives] = [
        (
            "sends",
            [
                format!("ring:{}", from.path.display()),
                format!("unix-listen:{}", socket.display()),
            ],
        ),
        (
            "receives",
            [
                format!("unix:{}", socket.display()),
                format!("ring:{}", to.path.display()),
            ],
        ),
    ]
    .map(|(name, [source, destination])| {
        let content = format!("source = '{source}'\ndestination = '{destination}'\n");
        let file = from.file(name, content.as_bytes());
        let mut command = annulus(["bridge", "--config"]);
        command.arg(file).stderr(
            fs::File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap(),
        );
        crate::support::Running(command.spawn().unwrap())
    });
    sends.finish().assert_done();
    receives.finish().assert_done();
    assert_eq!(to.number("committed_records"), 100);
    let log = fs::read_to_string(&log).unwrap();
    let starts = log.lines().filter(|line| line.contains(" INFO starting "));
    assert_eq!(
        starts
            .filter(|line| line.contains("guarantee=\"each record once"))
            .count(),
        2,
        "{log}"
    );
}
