//! The place of a trial: a directory of its own, a ring in it, and the records that it begins with.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use annulus::{TryClaimError, Wait, mpmc, spsc};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::account::{self, LONG, origin_words, payload};
use super::image::{self, Image, at};
use super::operations::{self, BYTES, Found, ORIGIN_BEFORE, ORIGIN_NEVER, Operation, Ring, Side};
use super::victim::{Page, Stage};

/// Records that went through the ring before the operation, so that positions are not small.
const EARLIER: u32 = 5;
/// The first id of those.
const FIRST_EARLIER: u32 = 901;

/// Where the positions of a trial's ring begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// At 0, as outside of tests.
    Zero,
    /// So that positions and laps wrap behind the first record after the earlier ones: within the
    /// operation, or in what the survivors do after it.
    BeforeWrap,
}

impl Origin {
    fn of_slots(self) -> u64 {
        match self {
            Self::Zero => 0,
            // The 48 bits of a lap wrap at a divisor of 2^64, so here as well.
            Self::BeforeWrap => 0_u64.wrapping_sub(u64::from(EARLIER) + 1),
        }
    }

    fn of_bytes(self, found: Found) -> u64 {
        match (self, found) {
            (Self::Zero, _) => 0,
            // The end of the ring is the end of the numbers, too.
            (_, Found::NearEnd) => 0_u64.wrapping_sub(BYTES),
            _ => {
                let ids = (FIRST_EARLIER..FIRST_EARLIER + EARLIER).chain([1]);
                let spans = ids.map(|id| 8 + payload(id).len().next_multiple_of(8) as u64);
                0_u64.wrapping_sub(spans.sum())
            }
        }
    }
}

/// What the directories are called, before the process's number.
const PREFIX: &str = "/dev/shm/annulus-torture-";

/// How long a sleeper that is to be missing pretends to sleep.
const DOZE: Duration = Duration::from_millis(1);

/// Lets so much time pass that the next refusal makes a handle look after the dead: some
/// milliseconds by the clock that advances with each tick, which is the one that handles read.
pub(super) fn outlast_patience() {
    const ENOUGH: Duration = Duration::from_millis(3);
    const NAP: Duration = Duration::from_micros(500);
    let now = || clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    let until = Duration::from(now()) + ENOUGH;
    while Duration::from(now()) < until {
        std::thread::sleep(NAP);
    }
}

/// A directory and the page that all victims share.
#[derive(Debug)]
pub(super) struct Bench {
    directory: PathBuf,
    pub(super) stage: Stage,
    pub(super) page: Page,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        remove_abandoned();
        let directory = PathBuf::from(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&directory).context("make a directory in /dev/shm")?;
        let page = Page::new()?;
        let stage = Stage::new(directory.join("ring"), page);
        Ok(Self {
            directory,
            stage,
            page,
        })
    }

    /// Names in the directory.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?;
        let name = |entry: std::io::Result<fs::DirEntry>| {
            Ok(entry?.file_name().to_string_lossy().into_owned())
        };
        entries.map(name).collect()
    }

    /// The ring's file, which a process may have opened before it has a name.
    pub(super) fn find_ring(&self, process: Pid) -> Option<File> {
        if let Ok(file) = File::open(&self.stage.ring) {
            return Some(file);
        }
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        let is_ours = |path: &PathBuf| {
            let target = fs::read_link(path).unwrap_or_default();
            target.starts_with(&self.directory) && target.to_string_lossy().ends_with("(deleted)")
        };
        let mut paths = descriptors.flatten().map(|entry| entry.path());
        File::open(paths.find(is_ours)?).ok()
    }

    /// Lays out a new ring for `operation`; what its predecessor did is for [`Self::let_die`].
    /// Returns how many records were committed.
    pub(super) fn lay_out(&self, operation: &Operation, origin: Origin) -> Result<u64> {
        for name in self.names()? {
            fs::remove_file(self.directory.join(name))?;
        }
        match (operation.found, operation.ring) {
            (Found::Missing, _) => Ok(0),
            (_, Ring::Mpmc) => self.lay_out_slots(operation, origin),
            (_, Ring::Spsc) => self.lay_out_bytes(operation, origin),
        }
    }

    fn lay_out_slots(&self, operation: &Operation, origin: Origin) -> Result<u64> {
        let ring = &self.stage.ring;
        let options = operations::mpmc_options().starting_at(origin.of_slots());
        options.create(ring)?;
        let producer = operations::mpmc_producer(ring);
        let consumer = operations::mpmc_consumer(ring);
        let push = |id: u32| producer.try_push(id, &payload(id));
        for id in FIRST_EARLIER..FIRST_EARLIER + EARLIER {
            push(id)?;
            consumer.try_read()?.release();
        }
        if operation.found == Found::Skip {
            producer.try_claim(20)?.abort();
        }
        for id in 1..=operation.ready {
            if !is_copied(operation) {
                push(id)?;
                continue;
            }
            ensure!(producer.begin_copying(), "the seat is taken");
            let mut claim = producer.try_claim(payload(id).len())?;
            claim.copy_from_slice(&payload(id));
            let records = ORIGIN_BEFORE - u64::from(operation.ready - id);
            claim.commit_from(id, &operations::origin(records));
        }
        match operation.found {
            Found::Closed => producer.close(),
            Found::GivenBack => consumer.try_read()?.requeue(),
            Found::ConsumerAsleep => {
                doze(ring, at::ITEMS, |wait| consumer.read(wait).is_err())?;
            }
            Found::ProducerAsleep => {
                doze(ring, at::SPACE, |wait| producer.push(0, b"", wait).is_err())?;
            }
            _ => {}
        }
        Ok((EARLIER + operation.ready).into())
    }

    fn lay_out_bytes(&self, operation: &Operation, origin: Origin) -> Result<u64> {
        let ring = &self.stage.ring;
        let origin = origin.of_bytes(operation.found);
        operations::spsc_options()
            .starting_at(origin)
            .create(ring)?;
        let mut producer = operations::spsc_producer(ring);
        let mut consumer = operations::spsc_consumer(ring);
        let (mut earlier, mut size) = (EARLIER, 0);
        if operation.found == Found::NearEnd {
            (earlier, size) = (4, LONG); // 4 spans of 1008 bytes
        }
        for id in FIRST_EARLIER..FIRST_EARLIER + earlier {
            producer.try_push(id | size, &payload(id | size))?;
            consumer.try_read()?.release();
        }
        for id in 1..=operation.ready {
            let mut batch = producer.batch();
            batch.try_push(id, &payload(id))?;
            if is_copied(operation) {
                batch.commit_from(&operations::origin(
                    ORIGIN_BEFORE - u64::from(operation.ready - id),
                ));
            } else {
                batch.commit();
            }
        }
        let mut committed = u64::from(earlier + operation.ready);
        match operation.found {
            Found::Closed => producer.close(),
            Found::ConsumerAsleep => {
                // Its detaching would wake the sleeper.
                drop(producer);
                doze(ring, at::ITEMS, |wait| consumer.read(wait).is_err())?;
            }
            Found::ProducerAsleep => {
                let count = fill(&mut producer)?;
                committed += u64::from(count);
                let refused = FIRST_EARLIER + count;
                doze(ring, at::SPACE, |wait| {
                    producer.push(refused, &payload(refused), wait).is_err()
                })?;
            }
            _ => {}
        }
        Ok(committed)
    }

    /// Lets the victim's predecessor die, if the operation has one. Survivors are attached before
    /// that, or they would recover it.
    pub(super) fn let_die(&self, operation: &Operation) -> Result<()> {
        let is_bridge = operation.found == Found::DeadBridge;
        if operation.found != Found::DeadPredecessor && !is_bridge {
            return Ok(());
        }
        let ring = &self.stage.ring;
        self.stage
            .die_after(|| match (operation.ring, operation.vacant()) {
                (Ring::Mpmc, _) => {
                    let producer = operations::mpmc_producer(ring);
                    assert!(!is_bridge || producer.begin_copying());
                    hold_slots(producer, operations::mpmc_consumer(ring));
                }
                (Ring::Spsc, Side::Producer) => hold_span(operations::spsc_producer(ring)),
                (Ring::Spsc, _) => hold_records(operations::spsc_consumer(ring)),
            });
        if is_bridge {
            announce(ring, operation.ring)?;
        }
        Ok(())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Removes the directories of campaigns that were killed.
fn remove_abandoned() {
    let entries = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let process = path.to_str().and_then(|path| path.strip_prefix(PREFIX));
        let is_gone = |process: &str| !PathBuf::from(format!("/proc/{process}")).exists();
        if process.is_some_and(is_gone) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Writes what a producer that died just before its publication has written: the origin that is
/// not the true one ends beyond all that is committed.
fn announce(ring: &Path, kind: Ring) -> Result<()> {
    const AHEAD: u64 = 64;
    let file = File::options().read(true).write(true).open(ring)?;
    let image = Image::read(&file)?;
    let entries = [at::ORIGINS, at::ORIGINS + at::ORIGIN_BYTES];
    let [first, second] = entries.map(|entry| image.word(entry));
    ensure!((first | second) & 1 == 1, "there is no true origin");
    let is_first = second == 0 || first != 0 && first.wrapping_sub(second).cast_signed() > 0;
    let (true_end, entry) = if is_first {
        (first, entries[1])
    } else {
        (second, entries[0])
    };
    let mut words = vec![true_end.wrapping_add(AHEAD)];
    words.extend(origin_words(ORIGIN_NEVER));
    if kind == Ring::Mpmc {
        let slots = account::slots::slots(&image);
        let written = slots
            .iter()
            .find(|slot| slot.is_held() && slot.state() == 1);
        let slot = written.context("nobody is writing")?;
        let position = slot.lap() * slots.len() as u64 + slot.index;
        words.extend([position, slot.owner().into()]);
    }
    for (word, offset) in words.into_iter().zip((entry..).step_by(8)) {
        file.write_all_at(&word.to_le_bytes(), offset as u64)?;
    }
    Ok(())
}

/// Whether the records that are ready say where they come from.
fn is_copied(operation: &Operation) -> bool {
    matches!(operation.found, Found::Copied | Found::DeadBridge)
}

/// Fills the ring. Returns how many records it took.
fn fill(producer: &mut spsc::Producer) -> Result<u32> {
    let mut count = 0;
    loop {
        let id = FIRST_EARLIER + count;
        match producer.try_push(id, &payload(id)) {
            Ok(()) => count += 1,
            Err(TryClaimError::Full) => return Ok(count),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets somebody sleep on an event until its announcement stands in the ring. On a crowded machine
/// the time may be over before it has come so far; then it tries again.
fn doze(ring: &Path, event: usize, sleep: impl FnMut(Wait) -> bool) -> Result<()> {
    const TRIES: usize = 1000;
    let file = image::open(ring)?;
    let mut sleep = sleep;
    for _ in 0..TRIES {
        ensure!(
            sleep(Wait::block().for_at_most(DOZE)),
            "nobody was to go on"
        );
        if Image::read(&file)?.half(event) & 1 != 0 {
            return Ok(());
        }
    }
    bail!("nobody falls asleep")
}

#[expect(clippy::mem_forget, reason = "the process dies holding it")]
fn hold_slots(producer: mpmc::Producer, consumer: mpmc::Consumer) {
    std::mem::forget(consumer.try_read().expect("record 1"));
    std::mem::forget(producer.try_claim(20).expect("there is space"));
    std::mem::forget((producer, consumer));
}

#[expect(clippy::mem_forget, reason = "the process dies holding it")]
fn hold_span(mut producer: spsc::Producer) {
    std::mem::forget(producer.try_claim(20).expect("there is space"));
    std::mem::forget(producer);
}

#[expect(clippy::mem_forget, reason = "the process dies holding it")]
fn hold_records(mut consumer: spsc::Consumer) {
    for _ in 0..2 {
        consumer.try_peek().expect("a record");
    }
    std::mem::forget(consumer);
}
