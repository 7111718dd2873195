//! A bridge whose log and figures are read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Ring, Running, annulus};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks, so that those who are looked at get on.
const NAP: Duration = Duration::from_millis(5);

/// A bridge that tells in JSON what it does, and serves its figures.
pub struct Watched {
    pub running: Running,
    log: PathBuf,
}

impl Watched {
    pub fn new(name: &str, place: &Ring, ends: [&str; 2], options: &[&str]) -> Self {
        let log = place.dir.path().join(name);
        let mut command = annulus(["bridge", "--log=json", "--metrics=127.0.0.1:0"]);
        command.args(ends).args(options);
        command.stderr(File::create(&log).unwrap());
        let running = Running(command.spawn().unwrap());
        Self { running, log }
    }

    /// What it has told. Every line is an object: nothing else may stand on stderr.
    pub fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    pub fn states(&self) -> Vec<String> {
        let lines = self.lines();
        let states = lines.iter().map(|line| line["message"].as_str().unwrap());
        states.map(str::to_owned).collect()
    }

    /// Where it says so: waits until it does.
    #[track_caller]
    pub fn told(&self, state: &str, field: &str) -> String {
        let mut found = None;
        wait_until(&format!("it tells `{state}`"), || {
            let lines = self.lines();
            let line = lines.iter().find(|line| line["message"] == state);
            found = line.map(|line| line[field].as_str().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    }

    /// Status and body.
    #[track_caller]
    pub fn get(&self, path: &str) -> (u16, String) {
        let at = self.told("metrics", "at");
        let at = at
            .strip_prefix("http://")
            .unwrap()
            .trim_end_matches("/metrics");
        let mut stream = TcpStream::connect(at).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    #[track_caller]
    pub fn scrape(&self) -> Figures {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200, "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        let samples = body.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            let name = name.strip_prefix("annulus_bridge_").unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Figures(samples.collect())
    }

    /// Looks again and again until the figures are as expected.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Figures) -> bool) -> Figures {
        let begun = Instant::now();
        loop {
            let figures = self.scrape();
            if is_so(&figures) {
                return figures;
            }
            assert!(begun.elapsed() < PATIENCE, "in vain: {what}: {figures:#?}");
            std::thread::sleep(NAP);
        }
    }

    /// Asks it to end. Its exit code, and what it has told.
    #[track_caller]
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.running.signal(Signal::SIGTERM);
        let mut code = None;
        wait_until("it ends", || {
            code = self.running.0.try_wait().unwrap();
            code.is_some()
        });
        (code.unwrap().code(), self.states())
    }
}

/// One look at `/metrics`.
#[derive(Clone, Debug)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    #[track_caller]
    pub fn of(&self, name: &str) -> f64 {
        *self
            .0
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    #[track_caller]
    pub fn assert(&self, expected: &[(&str, u64)]) {
        for (name, value) in expected {
            assert_eq!(self.of(name), *value as f64, "{name} of {self:#?}");
        }
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(NAP);
    }
}
