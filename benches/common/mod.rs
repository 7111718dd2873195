//! What all benchmarks share: records, contenders behind two traits, and processors.

use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use annulus::segment::AttachOptions;
use annulus::{ZeroCopy, mpmc, spsc};
use crossbeam_queue::ArrayQueue;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// A message of `W` words, all of which are its number: 7 fill a cache line with the byte ring's
/// header, 8 are a cache line of their own.
pub type Record<const W: usize> = [u64; W];

/// The number of the last record of a stream.
pub const LAST: u64 = u64::MAX;

/// The sending end of a contender.
pub trait Send<const W: usize> {
    /// False if there is no space.
    fn try_send(&mut self, number: u64) -> bool;

    /// Sends as soon as there is space.
    fn send(&mut self, number: u64) {
        while !self.try_send(number) {
            spin_loop();
        }
    }
}

/// The receiving end of a contender.
pub trait Receive<const W: usize> {
    /// `None` if there is no record. Looks at every byte of one.
    fn try_receive(&mut self) -> Option<u64>;

    /// Receives as soon as there is a record.
    fn receive(&mut self) -> u64 {
        loop {
            match self.try_receive() {
                Some(number) => return number,
                None => spin_loop(),
            }
        }
    }
}

/// The number of a record, all of whose words were looked at.
#[inline]
pub fn checked<const W: usize>(record: &Record<W>) -> u64 {
    let number = record[0];
    let differences = record.iter().fold(0, |all, word| all | (word ^ number));
    assert_eq!(differences, 0, "a record is torn");
    number
}

#[inline]
fn checked_bytes<const W: usize>(bytes: &[u8]) -> u64 {
    let record: &Record<W> = bytemuck::from_bytes(bytes);
    checked(record)
}

#[inline]
fn fill<const W: usize>(bytes: &mut [u8], number: u64) {
    let record: &mut Record<W> = bytemuck::from_bytes_mut(bytes);
    *record = [number; W];
}

impl<const W: usize, A: ZeroCopy> Send<W> for spsc::Producer<A> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        let Ok(mut claim) = self.try_claim(W * 8) else {
            return false;
        };
        fill::<W>(&mut claim, number);
        claim.commit(0);
        true
    }
}

impl<const W: usize, A: ZeroCopy> Receive<W> for spsc::Consumer<A> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        self.try_read()
            .ok()
            .map(|record| checked_bytes::<W>(&record))
    }
}

impl<const W: usize, A: ZeroCopy> Send<W> for mpmc::Producer<A> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        let Ok(mut claim) = self.try_claim(W * 8) else {
            return false;
        };
        fill::<W>(&mut claim, number);
        claim.commit(0);
        true
    }
}

impl<const W: usize, A: ZeroCopy> Receive<W> for mpmc::Consumer<A> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        self.try_read()
            .ok()
            .map(|record| checked_bytes::<W>(&record))
    }
}

impl<const W: usize> Send<W> for rtrb::Producer<Record<W>> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        self.push([number; W]).is_ok()
    }
}

impl<const W: usize> Receive<W> for rtrb::Consumer<Record<W>> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        self.pop().ok().map(|record| checked(&record))
    }
}

impl<const W: usize> Send<W> for Arc<ArrayQueue<Record<W>>> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        self.push([number; W]).is_ok()
    }
}

impl<const W: usize> Receive<W> for Arc<ArrayQueue<Record<W>>> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        self.pop().map(|record| checked(&record))
    }
}

impl<const W: usize> Send<W> for mpsc::SyncSender<Record<W>> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        mpsc::SyncSender::try_send(self, [number; W]).is_ok()
    }
}

impl<const W: usize> Receive<W> for mpsc::Receiver<Record<W>> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        self.try_recv().ok().map(|record| checked(&record))
    }
}

/// The naive rival: a bounded queue behind a mutex.
#[derive(Clone)]
pub struct Locked<const W: usize> {
    queue: Arc<Mutex<VecDeque<Record<W>>>>,
    capacity: usize,
}

impl<const W: usize> Locked<W> {
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: Arc::new(Mutex::new(VecDeque::with_capacity(capacity))),
            capacity,
        }
    }
}

impl<const W: usize> Send<W> for Locked<W> {
    #[inline]
    fn try_send(&mut self, number: u64) -> bool {
        let mut queue = self.queue.lock().expect("nobody panics at it");
        let room = queue.len() < self.capacity;
        if room {
            queue.push_back([number; W]);
        }
        room
    }
}

impl<const W: usize> Receive<W> for Locked<W> {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        let record = self.queue.lock().expect("nobody panics at it").pop_front();
        record.map(|record| checked(&record))
    }
}

/// Sends numbers from 0 on for as long as `more` says so, and then [`LAST`]. `more` is asked once
/// in 1024 records.
pub fn send_while<const W: usize>(tx: &mut impl Send<W>, mut more: impl FnMut(u64) -> bool) -> u64 {
    let mut number = 0;
    while more(number) {
        for _ in 0..1024 {
            tx.send(number);
            number += 1;
        }
    }
    tx.send(LAST);
    number
}

/// Receives until [`LAST`], checks that nothing is missing, and returns how many there were.
pub fn receive_all<const W: usize>(rx: &mut impl Receive<W>) -> u64 {
    let mut expected = 0;
    loop {
        match rx.receive() {
            LAST => return expected,
            number => assert_eq!(number, expected, "a record is missing or repeated"),
        }
        expected += 1;
    }
}

/// Sends `records` and receives each before the next one.
pub fn alternate<const W: usize>(tx: &mut impl Send<W>, rx: &mut impl Receive<W>, records: u64) {
    for number in 0..records {
        tx.send(black_box(number));
        assert_eq!(rx.receive(), number);
    }
}

/// Pins this thread to the `nth` processor that it may use, if there are so many; returns whether.
pub fn pin(nth: usize) -> bool {
    allowed().get(nth).is_some_and(|cpu| run_on(&[*cpu]))
}

/// Asked of the kernel once, by asking for all of them: a child of a pinned thread inherits a
/// single one, which is not what it may use.
fn allowed() -> &'static [usize] {
    static ALLOWED: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    ALLOWED.get_or_init(|| {
        run_on(&(0..CpuSet::count()).collect::<Vec<_>>());
        let set = sched_getaffinity(Pid::from_raw(0)).expect("it reads our own");
        (0..CpuSet::count())
            .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
            .collect()
    })
}

fn run_on(cpus: &[usize]) -> bool {
    let mut set = CpuSet::new();
    cpus.iter()
        .for_each(|cpu| set.set(*cpu).expect("it is in range"));
    sched_setaffinity(Pid::from_raw(0), &set).is_ok()
}

/// A folder under /dev/shm for rings, removed at the end.
pub struct Shelf(tempfile::TempDir);

impl Shelf {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("annulus-bench-")
            .tempdir_in("/dev/shm");
        Self(folder.expect("/dev/shm is there"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn prefaulted() -> AttachOptions {
    AttachOptions {
        prefault: true,
        ..AttachOptions::default()
    }
}

pub fn spsc_producer(path: &Path) -> spsc::Producer {
    // SAFETY: the file is in a folder that only this user enters and only this program uses.
    unsafe { spsc::Producer::attach_with(path, &prefaulted()) }.expect("a new ring")
}

pub fn spsc_consumer(path: &Path) -> spsc::Consumer {
    // SAFETY: as for `spsc_producer`.
    unsafe { spsc::Consumer::attach_with(path, &prefaulted()) }.expect("a new ring")
}

pub fn mpmc_producer(path: &Path) -> mpmc::Producer {
    // SAFETY: as for `spsc_producer`.
    unsafe { mpmc::Producer::attach_with(path, &prefaulted()) }.expect("a new ring")
}

pub fn mpmc_consumer(path: &Path) -> mpmc::Consumer {
    // SAFETY: as for `spsc_producer`.
    unsafe { mpmc::Consumer::attach_with(path, &prefaulted()) }.expect("a new ring")
}
