//! Moves records through a ring, one by one, in one thread: for tools that count instructions.
//!
//! ```text
//! cargo build --release -p annulus-lab --example count
//! valgrind --tool=callgrind --callgrind-out-file=a.out target/release/examples/count spsc 100000
//! valgrind --tool=callgrind --callgrind-out-file=b.out target/release/examples/count spsc 200000
//! callgrind_annotate --inclusive=yes a.out | grep -E 'claim_to_commit|claim_to_release'
//! ```
//!
//! `claim_to_commit` and `claim_to_release` are functions of their own, each called once a record:
//! the difference between both runs, divided by 100,000, is what a record takes on that side. It
//! repeats exactly for one binary. Each includes 64 bytes written or checked; `bare` does these
//! without a ring, `bare-records` and `bare-slots` in a loop without what makes a ring safe.
//! `-32` moves batches of so many. With a folder the ring stays in it, for the next run to go on
//! with.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

use annulus::Location;
use annulus_lab::contenders::{Mpmc, Spsc};
use annulus_lab::floors::{Records, Slots};
use annulus_lab::transport::{Receive, Send, Transport};
use annulus_lab::{Fixed, Pattern, Payload, Waiting, Work};

/// Records of a batch.
const BATCH: usize = 32;

/// A cache line of it.
type Line = Fixed<8>;

const WORK: Work = Work {
    pattern: Pattern::Stream,
    payload: 64,
    batch: 1,
    capacity: 4096,
    waiting: Waiting::Spin,
    producers: 1,
    consumers: 1,
};

#[inline(never)]
fn claim_to_commit(tx: &mut impl Send<Line>, number: u64) -> bool {
    tx.try_send(Fixed, number)
}

#[inline(never)]
fn claim_to_release(rx: &mut impl Receive<Line>) -> Option<u64> {
    let mut found = None;
    rx.try_receive(Fixed, |number| found = number);
    found
}

/// The same of [`BATCH`] records.
#[inline(never)]
fn batch_claim_to_commit(tx: &mut impl Send<Line>, first: u64) -> usize {
    tx.try_send_batch(Fixed, first, BATCH)
}

#[inline(never)]
fn batch_claim_to_release(rx: &mut impl Receive<Line>) -> Option<u64> {
    let mut last = None;
    rx.try_receive_batch(Fixed, BATCH, |number| last = number);
    last
}

fn alternate(tx: &mut impl Send<Line>, rx: &mut impl Receive<Line>, records: u64) {
    for number in 0..records {
        assert!(claim_to_commit(tx, black_box(number)), "the ring is empty");
        assert_eq!(claim_to_release(rx), Some(number), "it was just sent");
    }
}

fn alternate_batches(tx: &mut impl Send<Line>, rx: &mut impl Receive<Line>, records: u64) {
    for first in (0..records).step_by(BATCH) {
        let sent = batch_claim_to_commit(tx, black_box(first));
        assert_eq!(sent, BATCH, "the ring is empty");
        let last = first + BATCH as u64 - 1;
        assert_eq!(batch_claim_to_release(rx), Some(last), "it was just sent");
    }
}

/// Through a new ring.
fn through(ring: &impl Transport<Line>, records: u64) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let link = ring.link(&WORK, folder.path(), "ring")?;
    over(ring, &link, |tx, rx| alternate(tx, rx, records))
}

fn through_in_batches(ring: &impl Transport<Line>, records: u64) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let link = ring.link(&WORK, folder.path(), "ring")?;
    over(ring, &link, |tx, rx| alternate_batches(tx, rx, records))
}

/// Through the ring of an earlier run, or a new one that stays there.
fn through_kept(
    ring: &impl Transport<Line, Link = Location>,
    folder: &Path,
    records: u64,
) -> Result<(), Box<dyn Error>> {
    let path = folder.join("ring");
    let link = if path.exists() {
        Location::from(path)
    } else {
        ring.link(&WORK, folder, "ring")?
    };
    over(ring, &link, |tx, rx| alternate(tx, rx, records))
}

fn over<'l, T: Transport<Line>>(
    ring: &'l T,
    link: &'l T::Link,
    work: impl FnOnce(&mut T::Sender<'l>, &mut T::Receiver<'l>),
) -> Result<(), Box<dyn Error>> {
    let mut tx = ring.sender(link, &WORK, 0)?;
    let mut rx = ring.receiver(link, &WORK, 0)?;
    work(&mut tx, &mut rx);
    Ok(())
}

/// A line, and nobody else to hand it to.
struct Bare<'l>(&'l mut [u8; 64]);

impl Send<Line> for Bare<'_> {
    fn try_send(&mut self, payload: Line, number: u64) -> bool {
        payload.fill(black_box(self.0), number);
        true
    }
}

impl Receive<Line> for Bare<'_> {
    fn try_receive(&mut self, payload: Line, mut seen: impl FnMut(Option<u64>)) -> bool {
        seen(payload.check(black_box(self.0)));
        true
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (ring, folder, records) = match &arguments[..] {
        [ring, records] => (ring, None, records),
        [ring, folder, records] => (ring, Some(Path::new(folder)), records),
        _ => {
            eprintln!(
                "usage: count bare|bare-records[-32]|spsc[-32]|bare-slots|mpmc [FOLDER] RECORDS"
            );
            return Ok(ExitCode::from(2));
        }
    };
    let records = records.parse()?;
    match (ring.as_str(), folder) {
        ("spsc", None) => through(&Spsc::default(), records)?,
        ("mpmc", None) => through(&Mpmc::default(), records)?,
        ("spsc", Some(folder)) => through_kept(&Spsc::default(), folder, records)?,
        ("mpmc", Some(folder)) => through_kept(&Mpmc::default(), folder, records)?,
        ("spsc-32", None) => through_in_batches(&Spsc::default(), records)?,
        ("bare-records", None) => through(&Records, records)?,
        ("bare-records-32", None) => through_in_batches(&Records, records)?,
        ("bare-slots", None) => through(&Slots, records)?,
        ("bare", None) => {
            let mut line = [0; 64];
            for number in 0..records {
                claim_to_commit(&mut Bare(&mut line), black_box(number));
                assert_eq!(claim_to_release(&mut Bare(&mut line)), Some(number));
            }
        }
        _ => {
            return Err(
                "expected bare, bare-records, spsc, bare-slots or mpmc; a folder for single records"
                    .into(),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}
