//! Bridges in processes of their own, to be killed.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use annulus::bridge::{Bridge, Settings};
use annulus::segment::AttachOptions;
use nix::sys::signal::Signal;

use crate::rig::settings;

const SOURCE: &str = "ANNULUS_KILLABLE_SOURCE";
const DESTINATION: &str = "ANNULUS_KILLABLE_DESTINATION";
const WINDOW: &str = "ANNULUS_KILLABLE_WINDOW";

/// The door through which a bridge in a process of its own comes in; does nothing in a run of the
/// tests.
#[test]
fn role() {
    let Ok(source) = std::env::var(SOURCE) else {
        return;
    };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let [destination, window] = [DESTINATION, WINDOW].map(|name| std::env::var(name).unwrap());
    let by = Settings {
        window_records: window.parse().unwrap(),
        ..settings()
    };
    let (stopped, _stop) = std::io::pipe().unwrap();
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    // SAFETY: nobody but the tests uses the file, and through this library only.
    let bridge = unsafe { Bridge::attach(source, destination, by, &AttachOptions::default()) };
    bridge.unwrap().run(stopped.as_fd(), &mut |_| {}).unwrap();
}

/// A bridge in a process of its own, which is killed when this goes.
pub struct Killable(Child);

impl Killable {
    pub fn new(source: &str, destination: &str, window: u64) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["killable::role", "--exact"])
            .env(SOURCE, source)
            .env(DESTINATION, destination)
            .env(WINDOW, window.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        let ended = self.0.try_wait().unwrap();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        if !std::thread::panicking() {
            assert_eq!(ended, None, "it has ended by itself");
        }
    }
}

/// A number below `limit`, another one each time.
pub fn chance(state: &mut u64, limit: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % limit
}
