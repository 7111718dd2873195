//! The other process of a slice, and the floors, which both processes play.

use std::fs::OpenOptions;
use std::hint::spin_loop;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use annulus::{Wait, spsc};
use hdrhistogram::Histogram;
use memmap2::{MmapOptions, MmapRaw};
use rustix::thread::futex;

use crate::common::{
    LAST, Receive, Send, checked, mpmc_consumer, mpmc_producer, now_ns, pin, receive_all,
    spsc_consumer, spsc_producer,
};
use crate::contenders::W;

/// Another process, started to play a part, and what it says.
pub struct Peer {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it, and returns once it has attached. `cpu` may be [`ANY`].
    pub fn start(part: &str, folder: &Path, cpu: &str) -> Self {
        let program = std::env::current_exe().expect("we are running");
        let mut command = Command::new(program);
        command.args(["peer", part]).arg(folder).arg(cpu);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("this program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut peer = Self { child, stdout };
        assert_eq!(peer.line(), "ready");
        peer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout
            .read_line(&mut line)
            .expect("a peer says something");
        line.trim_end().to_owned()
    }

    /// Lets it begin, if it waits for that.
    pub fn go(&mut self) {
        let mut stdin = self.child.stdin.take().expect("it is a pipe");
        stdin.write_all(b"go\n").expect("a peer listens");
    }

    /// Waits for its end; what it found, as numbers.
    pub fn ends(mut self) -> Vec<u64> {
        let line = self.line();
        assert!(self.child.wait().expect("it is our child").success());
        line.split_whitespace()
            .map(|word| word.parse().expect("a number"))
            .collect()
    }
}

/// A processor for which nobody is pinned.
pub const ANY: &str = "any";

#[expect(clippy::print_stdout, reason = "the other process reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// What a part finds: how many records, and when the last one came.
fn count_and_end(count: u64) -> String {
    format!("{count} {}", now_ns())
}

/// In the other process.
pub fn play(arguments: &[&str]) {
    let [part, folder, cpu] = *arguments else {
        panic!("expected a part, a folder, a processor")
    };
    let folder = PathBuf::from(folder);
    if let Ok(cpu) = cpu.parse() {
        pin(cpu);
    }
    let (there, back) = (folder.join("there"), folder.join("back"));
    let found = match part {
        "receive spsc" => {
            let mut rx = spsc_consumer(&there);
            say("ready");
            count_and_end(receive_all::<W>(&mut rx))
        }
        "receive spsc ahead" => {
            let mut rx = Ahead {
                consumer: spsc_consumer(&there),
                held: 0,
            };
            say("ready");
            count_and_end(receive_all::<W>(&mut rx))
        }
        "receive mpmc" => {
            let mut rx = mpmc_consumer(&there);
            say("ready");
            count_and_end(receive_all::<W>(&mut rx))
        }
        "receive blocks" => {
            let blocks = Blocks::open(&there);
            say("ready");
            count_and_end(blocks.receive())
        }
        "share mpmc in" => share_in(&there),
        "share mpmc out" => share_out(&there),
        "echo spsc" => echo(&mut spsc_consumer(&there), &mut spsc_producer(&back)),
        "echo mpmc" => echo(&mut mpmc_consumer(&there), &mut mpmc_producer(&back)),
        "echo spsc blocking" => {
            let (mut rx, mut tx) = (spsc_consumer(&there), spsc_producer(&back));
            say("ready");
            while let Ok(tag) = rx.read(Wait::block()).map(|record| record.tag()) {
                tx.push(tag, &[1; W * 8], Wait::block())
                    .expect("it stays open");
            }
            String::new()
        }
        "echo mpmc blocking" => {
            let (rx, tx) = (mpmc_consumer(&there), mpmc_producer(&back));
            say("ready");
            while let Ok(tag) = rx.read(Wait::block()).map(|record| record.tag()) {
                tx.push(tag, &[1; W * 8], Wait::block())
                    .expect("it stays open");
            }
            String::new()
        }
        "echo line" => {
            let lines = Lines::open(&there);
            say("ready");
            let mut number = 0;
            while number != LAST {
                number = lines.wait(0, number);
                lines.write(1, number);
            }
            String::new()
        }
        "echo futex" => {
            let lines = Lines::open(&there);
            say("ready");
            while lines.await_turn(1) {
                lines.give_turn(0);
            }
            String::new()
        }
        "late spsc" => {
            let mut rx = spsc_consumer(&there);
            say("ready");
            lateness(&mut rx)
        }
        "late mpmc" => {
            let mut rx = mpmc_consumer(&there);
            say("ready");
            lateness(&mut rx)
        }
        other => panic!("no such part: {other}"),
    };
    say(&found);
}

fn echo(rx: &mut impl Receive<W>, tx: &mut impl Send<W>) -> String {
    say("ready");
    loop {
        let number = rx.receive();
        tx.send(number);
        if number == LAST {
            return String::new();
        }
    }
}

/// Sends its share of a stream, oversubscribed: it sleeps when the ring is full.
fn share_in(path: &Path) -> String {
    let tx = mpmc_producer(path);
    say("ready");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the other one says when");
    let (mut number, mut sum) = (0_u64, 0_u64);
    let end = now_ns() + crate::contenders::SHARED_SLICE_NS;
    while now_ns() < end {
        for _ in 0..256 {
            let mut claim = tx.claim(W * 8, Wait::block()).expect("it stays open");
            claim.copy_from_slice(bytemuck::bytes_of(&[number; W]));
            claim.commit(0);
            (number, sum) = (number + 1, sum + number);
        }
    }
    format!("{number} {sum}")
}

/// Receives its share until the ring is closed.
fn share_out(path: &Path) -> String {
    let rx = mpmc_consumer(path);
    say("ready");
    let (mut count, mut sum) = (0, 0);
    while let Ok(record) = rx.read(Wait::block()) {
        let record: &[u64; W] = bytemuck::from_bytes(&record);
        (count, sum) = (count + 1, sum + checked(record));
    }
    format!("{count} {sum} {}", now_ns())
}

/// A consumer of the byte ring that releases 32 records at a time, or what there is.
struct Ahead {
    consumer: spsc::Consumer,
    held: u32,
}

impl Receive<W> for Ahead {
    #[inline]
    fn try_receive(&mut self) -> Option<u64> {
        if let Ok(record) = self.consumer.try_peek() {
            let record: &[u64; W] = bytemuck::from_bytes(&record);
            let number = checked(record);
            self.held += 1;
            if self.held == 32 {
                self.release();
            }
            return Some(number);
        }
        self.release();
        None
    }
}

impl Ahead {
    fn release(&mut self) {
        self.consumer.release_all();
        self.held = 0;
    }
}

/// How late each record is against the time at which it should have been sent, which is its number.
pub fn lateness(rx: &mut impl Receive<W>) -> String {
    let mut late = Histogram::<u64>::new(3).expect("3 digits");
    loop {
        match rx.receive() {
            LAST => break,
            intended => late
                .record(now_ns().saturating_sub(intended))
                .expect("it grows"),
        }
    }
    let mut words = Vec::new();
    for step in late.iter_recorded() {
        words.push(format!(
            "{} {}",
            step.value_iterated_to(),
            step.count_at_value()
        ));
    }
    words.join(" ")
}

fn map(path: &Path, bytes: usize) -> MmapRaw {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file = file.expect("a file in our folder");
    file.set_len(bytes as u64).expect("room");
    let map = MmapOptions::new()
        .len(bytes)
        .populate()
        .map_raw(&file)
        .expect("a mapping");
    for page in (0..bytes).step_by(4096) {
        // SAFETY: inside the mapping, of zeroes that both processes may write zeroes to.
        let byte = unsafe { map.as_mut_ptr().add(page) };
        // SAFETY: as above; a read that touches the page.
        let _touched = unsafe { byte.read_volatile() };
    }
    map
}

/// The floor of a round trip: two lines of 64 bytes, each of them a word and 56 bytes of payload.
pub struct Lines(MmapRaw);

impl Lines {
    pub fn open(path: &Path) -> Self {
        Self(map(path, 4096))
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn words(&self, line: usize) -> &[AtomicU64; 8] {
        // SAFETY: one of the lines of the mapping, which begin every 256 bytes.
        let start = unsafe { self.0.as_mut_ptr().add(line * 256) };
        // SAFETY: 64 bytes inside the mapping, aligned, alive as long as it; made of atomics.
        unsafe { &*start.cast::<[AtomicU64; 8]>() }
    }

    /// Writes all of a line, its word last.
    pub fn write(&self, line: usize, number: u64) {
        let words = self.words(line);
        words[1..]
            .iter()
            .for_each(|word| word.store(number, Ordering::Relaxed));
        words[0].store(number, Ordering::Release);
    }

    /// Waits for another number than `last`, and reads all of the line.
    pub fn wait(&self, line: usize, last: u64) -> u64 {
        let words = self.words(line);
        loop {
            let number = words[0].load(Ordering::Acquire);
            if number != last {
                let same = words[1..]
                    .iter()
                    .all(|word| word.load(Ordering::Relaxed) == number);
                assert!(same, "a line is torn");
                return number;
            }
            spin_loop();
        }
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn turn(&self) -> &AtomicU32 {
        // SAFETY: 4 bytes of the mapping, aligned, used as this word only, alive as long as it.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU32>() }
    }

    /// Sleeps until it is `mine` turn; false at the end.
    pub fn await_turn(&self, mine: u32) -> bool {
        loop {
            let found = self.turn().load(Ordering::Acquire);
            if found == mine || found == END {
                return found == mine;
            }
            let _woken = futex::wait(self.turn(), futex::Flags::empty(), found, None);
        }
    }

    pub fn give_turn(&self, other: u32) {
        self.turn().store(other, Ordering::Release);
        futex::wake(self.turn(), futex::Flags::empty(), 1).expect("it is mapped");
    }
}

/// A turn that nobody has.
pub const END: u32 = 2;

const BLOCK_WORDS: usize = 32 * 1024 / 8;
const BLOCKS: usize = 8;

/// The floor of a stream: `memcpy` of the records into blocks of 32 KiB, a flag for each block.
pub struct Blocks(MmapRaw);

impl Blocks {
    pub fn open(path: &Path) -> Self {
        Self(map(path, 4096 + BLOCKS * BLOCK_WORDS * 8))
    }

    #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins at a page")]
    fn flag(&self, block: usize) -> &AtomicU64 {
        // SAFETY: inside the first page, of which each block has 128 bytes.
        let start = unsafe { self.0.as_mut_ptr().add(block * 128) };
        // SAFETY: aligned, used as this word only, alive as long as the mapping.
        unsafe { &*start.cast::<AtomicU64>() }
    }

    /// A block's words; whose turn it is says the flag.
    fn start(&self, block: usize) -> *mut u64 {
        // SAFETY: inside the mapping, which has room for all blocks behind its first page.
        unsafe { self.0.as_mut_ptr().add(4096 + block * BLOCK_WORDS * 8) }.cast()
    }

    /// Sends until told otherwise; returns the number of records.
    pub fn send_while(&self, mut more: impl FnMut() -> bool) -> u64 {
        let (mut turn, mut number) = (0_u64, 0_u64);
        loop {
            let block = usize::try_from(turn).expect("64 bits") % BLOCKS;
            while self.flag(block).load(Ordering::Acquire) & 1 != 0 {
                spin_loop();
            }
            if !more() {
                self.flag(block).store(3, Ordering::Release);
                return number;
            }
            for record in 0..BLOCK_WORDS / 8 {
                let words = [number; 8];
                // SAFETY: inside the block.
                let to = unsafe { self.start(block).add(record * 8) };
                // SAFETY: 64 bytes of a block that is ours while its flag is even.
                unsafe { to.copy_from_nonoverlapping(words.as_ptr(), 8) };
                number += 1;
            }
            self.flag(block).store(1, Ordering::Release);
            turn += 1;
        }
    }

    /// Receives and looks at every byte; returns the number of records.
    pub fn receive(&self) -> u64 {
        let (mut turn, mut number) = (0_u64, 0_u64);
        loop {
            let block = usize::try_from(turn).expect("64 bits") % BLOCKS;
            let flag = loop {
                let flag = self.flag(block).load(Ordering::Acquire);
                if flag & 1 != 0 {
                    break flag;
                }
                spin_loop();
            };
            if flag == 3 {
                return number;
            }
            for record in 0..BLOCK_WORDS / 8 {
                // SAFETY: inside the block.
                let from = unsafe { self.start(block).add(record * 8) };
                // SAFETY: 64 bytes of a block that is ours while its flag is odd.
                let words = unsafe { from.cast::<[u64; 8]>().read() };
                assert_eq!(checked(&words), number, "a record is missing");
                number += 1;
            }
            self.flag(block).store(0, Ordering::Release);
            turn += 1;
        }
    }
}
