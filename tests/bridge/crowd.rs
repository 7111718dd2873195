//! More callers than there are descriptors for.

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use annulus::bridge::{Bridge, Settings};
use annulus::segment::AttachOptions;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::rig::{Place, Running, consumer, pop, producer, push, ring_end, settings, wait_until};

const RING: &str = "ANNULUS_CROWD_RING";
const SOCKET: &str = "ANNULUS_CROWD_SOCKET";
/// Descriptors that are left when it begins: for itself, and for some callers.
const LEFT: i32 = 16;

/// The door through which a bridge with few descriptors comes in; does nothing in a run of the
/// tests.
#[test]
fn role() {
    let (Ok(ring), Ok(socket)) = (std::env::var(RING), std::env::var(SOCKET)) else {
        return;
    };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    let (stopped, _stop) = std::io::pipe().unwrap();
    let (source, destination) = (ring.parse().unwrap(), socket.parse().unwrap());
    let by = Settings {
        // Callers that say nothing stay.
        silence: Duration::from_secs(600),
        ..settings()
    };
    // SAFETY: nobody but the tests uses the file, and through this library only.
    let bridge = unsafe { Bridge::attach(source, destination, by, &AttachOptions::default()) };
    let next = stopped.try_clone().unwrap().as_raw_fd();
    let limit = u64::try_from(next + LEFT).unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    bridge.unwrap().run(stopped.as_fd(), &mut |_| {}).unwrap();
}

struct Crowded(Child);

impl Crowded {
    fn new(ring: &str, socket: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["crowd::role", "--exact"])
            .env(RING, ring)
            .env(SOCKET, format!("unix-listen:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap()
    }

    /// Whether it has as many descriptors as it may.
    fn has_none_left(&self) -> bool {
        let limits = self.proc("limits");
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        let soft = soft.parse::<usize>().unwrap();
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap();
        let numbers = open.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        // Some may have been opened before the limit was set, and lie beyond it.
        let within = |number: &String| number.parse::<usize>().unwrap() < soft;
        numbers.filter(within).count() == soft
    }

    /// Hundredths of a second for which it has had a processor.
    fn ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let (_, behind_the_name) = stat.rsplit_once(')').unwrap();
        let mut times = behind_the_name.split_whitespace().skip(11).take(2);
        let mut time = || times.next().unwrap().parse::<u64>().unwrap();
        time() + time()
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A listener stays readable as long as somebody is not answered: who looks again at once does
/// nothing else any more.
#[test]
fn a_bridge_without_descriptors_rests_and_goes_on_when_it_has_some() {
    let place = Place::new();
    let (from, to) = (place.ring("a", 1 << 16), place.ring("b", 1 << 16));
    let socket = place.path("s");
    let crowded = Crowded::new(&ring_end(&from), &socket);
    wait_until("it listens", || UnixStream::connect(&socket).is_ok());
    let callers: Vec<UnixStream> = (0..2 * LEFT)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    wait_until("it has no descriptor left", || crowded.has_none_left());
    let before = crowded.ticks();
    let measured = Duration::from_secs(2);
    std::thread::sleep(measured);
    let ticks = crowded.ticks() - before;
    assert!(ticks < 50, "{ticks} hundredths in {measured:?}");
    assert!(
        crowded.has_none_left(),
        "that was no time without descriptors"
    );
    // Those who are there are served as before; and others, as soon as these go.
    drop(callers);
    let dial = format!("unix:{}", socket.display());
    let receives = Running::new(&dial, &ring_end(&to));
    push(&mut producer(&from), 0..100);
    pop(&mut consumer(&to), 0..100);
    assert!(receives.stop().all_confirmed);
}
