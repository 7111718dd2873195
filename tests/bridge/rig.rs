//! Rings and bridges that end with their test.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use annulus::bridge::{Bridge, BridgeError, Figures, Gauges, Settings, Summary};
use annulus::segment::AttachOptions;
use annulus::{Wait, spsc};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks, so that those who are looked at get on.
const NAP: Duration = Duration::from_millis(1);

/// A folder under `/dev/shm` for rings and sockets.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new byte ring.
    pub fn ring(&self, name: &str, capacity: u64) -> PathBuf {
        let path = self.path(name);
        spsc::Options::new(capacity).create(&path).unwrap();
        path
    }
}

pub fn producer(path: &Path) -> spsc::Producer {
    // SAFETY: nobody but the test uses the file, and through this library only.
    unsafe { spsc::Producer::attach(path) }.unwrap()
}

pub fn consumer(path: &Path) -> spsc::Consumer {
    // SAFETY: as for the producer.
    unsafe { spsc::Consumer::attach(path) }.unwrap()
}

pub fn ring_end(path: &Path) -> String {
    format!("ring:{}", path.display())
}

/// Quick to come back, so that tests are quick.
pub fn settings() -> Settings {
    Settings {
        backoff_first: Duration::from_millis(1),
        backoff_longest: Duration::from_millis(20),
        drain_timeout: Duration::from_secs(5),
        ..Settings::default()
    }
}

/// Whether a text has a secret of these tests, as text or as the numbers of its bytes.
pub fn shows(text: &str) -> bool {
    ["what both ends know", "what others know"]
        .iter()
        .any(|secret| {
            let numbers = format!("{:?}", &secret.as_bytes()[..8]);
            text.contains(secret) || text.contains(numbers.trim_matches(['[', ']']))
        })
}

/// A bridge at work in a thread of its own.
pub struct Running {
    thread: Option<JoinHandle<Result<Summary, BridgeError>>>,
    stop: std::io::PipeWriter,
    said: Arc<Mutex<Vec<String>>>,
    gauges: Arc<Gauges>,
}

impl Running {
    pub fn new(source: &str, destination: &str) -> Self {
        Self::with(source, destination, settings()).unwrap()
    }

    pub fn with(source: &str, destination: &str, by: Settings) -> Result<Self, BridgeError> {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let (stopped, stop) = std::io::pipe().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&said);
        // SAFETY: nobody but the test uses the file, and through this library only.
        let bridge = unsafe { Bridge::attach(source, destination, by, &AttachOptions::default()) }?;
        let gauges = bridge.gauges();
        let thread = std::thread::spawn(move || {
            let mut report = |event: &annulus::bridge::Event<'_>| {
                let said = format!("{event:?}");
                assert!(!shows(&said), "a secret is told");
                log.lock().unwrap().push(event.to_string());
            };
            bridge.run(stopped.as_fd(), &mut report)
        });
        Ok(Self {
            thread: Some(thread),
            stop,
            said,
            gauges,
        })
    }

    /// What it is doing, in numbers.
    pub fn figures(&self) -> Figures {
        self.gauges.figures()
    }

    /// What it has reported.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has reported something with these words, and returns that.
    #[track_caller]
    pub fn wait_until_it_says(&self, words: &str) -> String {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if let Some(found) = said.iter().find(|said| said.contains(words)) {
                return found.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "no `{words}` in {said:#?}");
            std::thread::sleep(NAP);
        }
    }

    /// Where it listens.
    #[track_caller]
    pub fn at(&self) -> String {
        let said = self.wait_until_it_says("listening at ");
        said["listening at ".len()..].to_owned()
    }

    pub fn ask_to_stop(&mut self) {
        self.stop.write_all(b"x").unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Result<Summary, BridgeError> {
        let thread = self.thread.take().unwrap();
        let begun = Instant::now();
        while !thread.is_finished() {
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not end: {:#?}",
                self.said()
            );
            std::thread::sleep(NAP);
        }
        thread.join().unwrap()
    }

    /// Stops it, and waits for its end.
    #[track_caller]
    pub fn stop(mut self) -> Summary {
        self.ask_to_stop();
        self.end().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _stopped = self.stop.write_all(b"x");
            let _ended = thread.join();
        }
    }
}

/// The bytes of a record that tells its number, and of which no two neighbours are as long.
pub fn payload(number: u64) -> Vec<u8> {
    let len = 8 + usize::try_from(number * 7 % 90).unwrap();
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len, number.to_le_bytes()[0]);
    bytes
}

pub fn push(producer: &mut spsc::Producer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let wait = Wait::block().for_at_most(PATIENCE);
        let tag = u32::try_from(number).unwrap();
        producer.push(tag, &payload(number), wait).unwrap();
    }
}

/// Reads these very records.
#[track_caller]
pub fn pop(consumer: &mut spsc::Consumer, numbers: std::ops::Range<u64>) {
    let mut bytes = Vec::new();
    for number in numbers {
        let wait = Wait::block().for_at_most(PATIENCE);
        let tag = consumer.pop(&mut bytes, wait).unwrap();
        assert_eq!(
            (u64::from(tag), &bytes),
            (number, &payload(number)),
            "another came"
        );
    }
}

/// The ring has nothing more, and has released all.
#[track_caller]
pub fn assert_empty(consumer: &mut spsc::Consumer) {
    assert_eq!(
        consumer.try_read().err(),
        Some(annulus::TryReadError::Empty)
    );
}

/// Waits until that is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(NAP);
    }
}

/// Records that the ring's consumer has released.
pub fn released(path: &Path) -> u64 {
    annulus::segment::inspect(&annulus::Location::from(path))
        .unwrap()
        .released_records
}

/// Records that the ring's producer has committed.
pub fn committed(path: &Path) -> u64 {
    annulus::segment::inspect(&annulus::Location::from(path))
        .unwrap()
        .committed_records
}
