//! The driver before a broker that says little, and never confirms.

use super::*;
use crate::bridge::Settings;
use crate::bridge::broker::{Broker, Outgoing};
use crate::bridge::feed::Bytes;
use crate::bridge::frame::StreamId;
use crate::bridge::gauges::Gauges;
use crate::spsc;
use std::io::{self, PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says what it is told to say when a session begins, and nothing ever after.
#[derive(Debug)]
struct Mute {
    says: Vec<Outcome>,
    sessions: Arc<AtomicUsize>,
}

struct MuteSession {
    says: Vec<Outcome>,
    never: PipeReader,
    _open: io::PipeWriter,
}

impl Broker for Mute {
    fn at(&self) -> String {
        "nowhere".to_owned()
    }

    fn publish(&mut self, _stream: StreamId) -> io::Result<Box<dyn Outlet>> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        let (never, open) = io::pipe()?;
        Ok(Box::new(MuteSession {
            says: self.says.clone(),
            never,
            _open: open,
        }))
    }

    fn consume(&mut self, _ahead: u16) -> io::Result<Box<dyn super::super::Inlet>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Outlet for MuteSession {
    fn publish(&mut self, _record: Outgoing) {}

    fn take(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), LinkError> {
        outcomes.append(&mut self.says);
        Ok(())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.never.as_fd()
    }

    fn close(&mut self, _patience: Duration) {}
}

/// Runs a bridge with `records` of 64 bytes to such a broker for a while. Returns how many sessions
/// it began, and how many records it published.
fn run_with(records: u64, says: Vec<Outcome>, silence: Duration) -> (usize, u64) {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let path = folder.path().join("ring");
    spsc::Options::new(1 << 20).create(&path).expect("a ring");
    // SAFETY: nobody but this test uses the file.
    let mut producer = unsafe { spsc::Producer::attach(&path) }.expect("a producer");
    for _ in 0..records {
        producer.try_push(0, &[7; 64]).expect("room");
    }
    let backlog = producer.backlog();
    // SAFETY: nobody but this test uses the file.
    let consumer = unsafe { spsc::Consumer::attach(&path) }.expect("a consumer");
    let sessions = Arc::new(AtomicUsize::new(0));
    let settings = Settings {
        silence,
        backoff_first: Duration::from_millis(1),
        backoff_longest: Duration::from_millis(1),
        drain_timeout: Duration::from_millis(400),
        ..Settings::default()
    };
    // To be stopped from the beginning, it has as long as it may drain.
    let (stop, mut stops) = io::pipe().expect("a pipe");
    stops.write_all(b"x").expect("room in a pipe");
    let broker = Mute {
        says,
        sessions: Arc::clone(&sessions),
    };
    let (gauges, mut report) = (Gauges::new(true), |_: &Event<'_>| {});
    let broker = Box::new(broker);
    let course = Course::new(broker, &settings, &gauges, stop.as_fd(), &mut report);
    let summary = run(Bytes::new(consumer), course).expect("it ends by its deadline");
    assert!(!summary.all_confirmed);
    assert_eq!(producer.backlog(), backlog, "nothing was released");
    (sessions.load(Ordering::Relaxed), summary.published)
}

/// How many sessions it begins with a broker that is silent for too long.
fn sessions(says: Vec<Outcome>) -> usize {
    run_with(1, says, Duration::from_millis(20)).0
}

/// What lies idle of a window is lost at each of the broker's confirmations, and more than a window
/// would come twice.
#[test]
fn a_window_is_filled_and_not_overfilled() {
    let silence = Duration::from_secs(60);
    let (_, published) = run_with(2 * MOST_RECORDS, vec![Outcome::Ready], silence);
    let most = MOST_RECORDS - MOST_RECORDS / SHARES..=MOST_RECORDS;
    assert!(most.contains(&published), "{published}");
}

#[test]
fn a_session_that_never_begins_or_never_confirms_is_given_up() {
    assert!(sessions(Vec::new()) >= 3);
    assert!(sessions(vec![Outcome::Ready]) >= 3);
}

#[test]
fn a_broker_that_says_that_it_takes_nothing_is_waited_for() {
    let blocked = Outcome::Blocked("no memory".to_owned());
    assert_eq!(sessions(vec![Outcome::Ready, blocked]), 1);
}

/// What was never in flight cannot be confirmed.
#[test]
fn a_confirmation_of_what_was_not_published_is_nothing() {
    sessions(vec![
        Outcome::Ready,
        Outcome::Confirmed(0),
        Outcome::Confirmed(7),
    ]);
}
