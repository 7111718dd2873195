//! What a bridge shows of itself: figures over HTTP, a line for each change of state.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::{Ring, Running, SPSC, numbered, numbers};
use crate::watched::{PATIENCE, Watched, wait_until};

/// Two rings, a bridge that sends from the first one, and what the second one's must be told.
struct Scene {
    from: Ring,
    to: Ring,
    sends: Watched,
    calls: String,
}

impl Scene {
    fn over_unix(options: &[&str]) -> Self {
        let (from, to) = (Ring::new(SPSC), Ring::new(SPSC));
        let socket = from.dir.path().join("socket").display().to_string();
        let ends = [&end(&from), &*format!("unix-listen:{socket}")];
        Self {
            sends: Watched::new("sends", &from, ends, options),
            from,
            to,
            calls: format!("unix:{socket}"),
        }
    }

    fn over_tcp() -> Self {
        let (from, to) = (Ring::new(SPSC), Ring::new(SPSC));
        let ends = [&end(&from), "tcp-listen://127.0.0.1:0"];
        let sends = Watched::new("sends", &from, ends, &[]);
        let calls = format!("tcp://{}", sends.told("listening", "at"));
        Self {
            from,
            to,
            sends,
            calls,
        }
    }

    fn receives(&self, name: &str, options: &[&str]) -> Watched {
        Watched::new(name, &self.to, [&self.calls, &end(&self.to)], options)
    }

    /// Whoever reads what arrives.
    fn reads(&self) -> (Running, PathBuf) {
        let output = self.to.dir.path().join("output");
        (self.to.start_recv(&[], &output), output)
    }

    fn send(&self, lines: u64) -> Running {
        let file = self.from.file("in", &numbered(lines));
        self.from.start("send", &["--framing", "lines"], &file)
    }
}

fn end(ring: &Ring) -> String {
    format!("ring:{}", ring.path.display())
}

#[test]
fn figures_agree_with_what_was_sent_over_a_unix_socket() {
    figures_agree(&Scene::over_unix(&[]));
}

#[test]
fn figures_agree_with_what_was_sent_over_tcp() {
    figures_agree(&Scene::over_tcp());
}

fn figures_agree(scene: &Scene) {
    const LINES: u64 = 30_000;
    let sends = &scene.sends;
    assert_eq!(
        sends.get("/readyz"),
        (503, "not ready: 0 of 1 peers are connected\n".to_owned())
    );
    assert_eq!(sends.get("/livez"), (200, "alive\n".to_owned()));
    assert_eq!(sends.get("/else").0, 404);
    let receives = scene.receives("receives", &[]);
    for bridge in [sends, &receives] {
        wait_until("it is ready", || bridge.get("/readyz").0 == 200);
        bridge
            .scrape()
            .assert(&[("connected", 1), ("peers_wanted", 1)]);
    }

    let (_recv, output) = scene.reads();
    let send = scene.send(LINES);
    let mut looks = 0;
    let mut before = sends.scrape();
    let after = sends.wait_until("all is confirmed", |now| {
        looks += 1;
        for counter in ["confirmed_position", "published_records_total"] {
            assert!(
                now.of(counter) >= before.of(counter),
                "{before:#?} {now:#?}"
            );
        }
        assert!(
            now.of("confirmed_position") <= now.of("read_position"),
            "{now:#?}"
        );
        before = now.clone();
        let lag = now.of("lag_records") + now.of("lag_bytes");
        now.of("confirmed_position") == LINES as f64 && lag == 0.0
    });
    send.finish().assert_done();
    assert!(looks > 0);
    after.assert(&[
        ("read_position", LINES),
        ("confirmed_records_total", LINES),
        ("published_records_total", LINES),
        ("republished_records_total", 0),
        ("lag_records", 0),
        ("in_flight_records", 0),
        ("gaps_total", 0),
        ("gap_records_total", 0),
        ("connections_total", 1),
        ("reconnects_total", 0),
        ("confirm_latency_seconds_count", LINES),
        ("confirm_latency_seconds_bucket{le=\"+Inf\"}", LINES),
    ]);
    let longest = after.of("confirm_latency_seconds_sum") / LINES as f64;
    assert!(
        longest > 0.0 && longest < PATIENCE.as_secs_f64(),
        "{after:#?}"
    );
    let name = sends.told("connected", "name");
    let row = |figure| format!("subscriber_{figure}{{subscriber=\"{name}\"}}");
    after.assert(&[
        (&row("connected"), 1),
        (&row("confirmed_position"), LINES),
        (&row("in_flight_records"), 0),
    ]);
    receives.scrape().assert(&[
        ("confirmed_position", LINES),
        ("confirmed_records_total", LINES),
        ("duplicates_dropped_total", 0),
        ("connections_total", 1),
    ]);
    wait_until("all is written", || {
        numbers(&fs::read(&output).unwrap()).len() as u64 == LINES
    });
    // Idle, it stays ready, and nothing ages.
    assert_eq!(sends.get("/readyz").0, 200);
    let (code, states) = receives.stop();
    assert_eq!(code, Some(0));
    let expected = [
        "starting",
        "metrics",
        "connecting",
        "connected",
        "draining",
        "drained",
    ];
    assert_eq!(states, expected, "a line for each change, and no other");
    wait_until("it sees that the peer has gone", || {
        sends.get("/readyz").0 == 503
    });
    sends.scrape().assert(&[("connected", 0)]);
}

/// Connected, by all appearances: only the age of the last progress tells that nothing arrives.
#[test]
fn a_stopped_receiver_shows_in_the_age_of_the_last_progress() {
    const LINES: u64 = 100;
    let scene = Scene::over_unix(&["--silence=50"]);
    let sends = &scene.sends;
    let receives = scene.receives("first", &["--silence=50"]);
    wait_until("it is ready", || sends.get("/readyz").0 == 200);
    receives.running.signal(Signal::SIGSTOP);
    scene.send(LINES).finish().assert_done();
    let young = sends.wait_until("it owes", |now| now.of("lag_records") == LINES as f64);
    let first = sends.wait_until("it ages", |now| now.of("progress_age_seconds") > 0.7);
    let then = sends.wait_until("it ages on", |now| now.of("progress_age_seconds") > 1.4);
    assert!(young.of("progress_age_seconds") < then.of("progress_age_seconds"));
    for look in [&first, &then] {
        look.assert(&[
            ("connected", 1),
            ("confirmed_position", 0),
            ("in_flight_records", LINES),
            ("lag_records", LINES),
            ("confirm_latency_seconds_count", 0),
        ]);
        assert!(look.of("lag_bytes") >= (LINES * 16) as f64, "{look:#?}");
        // It turns: what does not get on is not the bridge.
        assert!(look.of("turn_age_seconds") < 5.0, "{look:#?}");
    }
    // It dies without having taken anything in, and the next one is sent all of it again.
    receives.running.kill();
    wait_until("it is missed", || sends.get("/readyz").0 == 503);
    let receives = scene.receives("second", &[]);
    let last = sends.wait_until("all is confirmed", |now| {
        now.of("confirmed_position") == LINES as f64 && now.of("lag_records") == 0.0
    });
    last.assert(&[
        ("published_records_total", 2 * LINES),
        ("republished_records_total", LINES),
        ("connections_total", 2),
        ("reconnects_total", 1),
        ("confirm_latency_seconds_count", LINES),
    ]);
    assert!(last.of("progress_age_seconds") < 0.7, "{last:#?}");
    assert_eq!(receives.stop().0, Some(0));
}

/// A receiver whose ring is full says that it is alive, again and again; ready it is not.
#[test]
fn a_full_destination_is_alive_and_not_ready() {
    const LINES: u64 = 20_000;
    let scene = Scene::over_unix(&["--silence=2"]);
    let receives = scene.receives("receives", &["--silence=2"]);
    let send = scene.send(LINES);
    for bridge in [&scene.sends, &receives] {
        wait_until("it stands still", || {
            let (status, text) = bridge.get("/readyz");
            status == 503 && text.starts_with("not ready: nothing was confirmed for ")
        });
        assert_eq!(bridge.get("/livez").0, 200);
    }
    let (_recv, _output) = scene.reads();
    for bridge in [&scene.sends, &receives] {
        wait_until("it gets on", || bridge.get("/readyz").0 == 200);
    }
    send.finish().assert_done();
    let last = scene.sends.wait_until("all is confirmed", |now| {
        now.of("confirmed_position") == LINES as f64 && now.of("lag_records") == 0.0
    });
    last.assert(&[("in_flight_records", 0)]);
    // Nor did it hang up: what it had not read all that time was there to be read.
    let said = receives.lines();
    let lost = said.iter().filter(|line| line["message"] == "lost");
    let mut why = lost.map(|line| line["why"].as_str().unwrap());
    assert!(!why.any(|why| why.contains("silent")), "{said:?}");
}

#[test]
fn a_failure_is_told_as_an_object_too() {
    let ring = Ring::none();
    let bridge = Watched::new(
        "log",
        &ring,
        [&end(&ring), "unix-listen:/nowhere/socket"],
        &[],
    );
    let why = bridge.told("failed", "why");
    assert!(why.contains("cannot bridge"), "{why}");
    assert!(bridge.told("failed", "hint").contains("annulus create"));
    let mut bridge = bridge.running;
    assert_eq!(bridge.0.wait().unwrap().code(), Some(2));
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let ring = Ring::new(SPSC);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("--metrics={}", taken.local_addr().unwrap());
    let socket = format!("unix-listen:{}", ring.dir.path().join("socket").display());
    let ran = crate::support::run(["bridge", "--quiet", &metrics, &end(&ring), &socket]);
    ran.assert_refused(2, &["cannot serve metrics at 127.0.0.1:"]);
}
