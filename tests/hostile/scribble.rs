//! What a hostile process writes, and where: mostly where it hurts, and nearly right.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use annulus::segment::{AttachOptions, inspect};
use annulus::{Kind, Location, mpmc, spsc};
use memmap2::{MmapOptions, MmapRaw};

use super::log::word_of;

/// Numbers that look like noise.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let index = self.below(all.len() as u64);
        all[usize::try_from(index).expect("a short list")]
    }
}

// Where things stand: see `docs/format.md`.
const STATE: u64 = 2048;
const EVENTS: [u64; 2] = [2176, 2304];
const TAIL: u64 = 2432;
const HEAD: u64 = 2560;
const CONSUMER: u64 = 2688;
const ROWS: u64 = 4096;
const ROW: u64 = 512;
const DATA: u64 = 64 * 1024;
const STRIDE: u64 = 64;
const SLOTS: u64 = 8;
const CAPACITY: u64 = 4096;

/// The ring's memory, by words.
struct Memory {
    map: MmapRaw,
    /// What it was like before the attack.
    sound: Vec<u64>,
}

impl Memory {
    fn of(ring: &OwnedFd, sound: &[u8]) -> Self {
        let file = File::from(ring.try_clone().expect("a descriptor"));
        let words = sound.chunks_exact(8);
        Self {
            map: MmapOptions::new().map_raw(&file).expect("memory"),
            sound: words
                .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
                .collect(),
        }
    }

    fn words(&self) -> u64 {
        self.map.len() as u64 / 8
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset / 8 < self.words());
        word_of(
            &self.map,
            usize::try_from(offset / 8).expect("inside a mapping"),
        )
    }

    /// Puts a range back to what it was, so that others come further in than to the next error.
    fn heal(&self, from: u64, to: u64) {
        for (word, sound) in self.sound.iter().enumerate() {
            let offset = word as u64 * 8;
            if (from..to).contains(&offset) {
                self.word(offset).store(*sound, Ordering::Relaxed);
            }
        }
    }
}

/// Writes until it is killed. If it is to attach, it does that too, and holds what it can get.
pub(crate) fn scribble(ring: OwnedFd, sound: &[u8], seed: u64, attaches: bool) {
    let memory = Memory::of(&ring, sound);
    let mut noise = Noise(seed * 0x9e37_79b9);
    let at = Location::fd(ring.as_fd().try_clone_to_owned().expect("a descriptor"));
    loop {
        let joined = attaches.then(|| join(&at, noise.below(2) == 0));
        // A storm, in which hardly anything works; or drizzle, in which others come far.
        let (drops, pause) = if noise.below(3) == 0 {
            (64, 200)
        } else {
            (4, 4000)
        };
        for _ in 0..100 {
            for _ in 0..noise.below(drops) {
                spoil(&memory, &mut noise);
            }
            for _ in 0..noise.below(pause) {
                std::hint::spin_loop();
            }
            match noise.below(8) {
                0 => memory.heal(0, memory.words() * 8),
                1 => memory.heal(ROWS, DATA),
                2 => memory.heal(STATE, ROWS),
                3 => memory.heal(DATA, memory.words() * 8),
                _ => {}
            }
        }
        // The header is put back at once, or nobody could attach to be attacked.
        memory.heal(0, STATE);
        drop(joined);
    }
}

/// Handles of this process, kept for what they hold.
type Joined = (
    Option<spsc::Producer<annulus::Untrusted>>,
    Option<spsc::Consumer<annulus::Untrusted>>,
    Option<mpmc::Consumer<annulus::Untrusted>>,
);

/// Takes whatever role is to be had.
fn join(at: &Location, writes: bool) -> Joined {
    let options = AttachOptions::default();
    let Ok(Kind::SpscBytes) = inspect(at).map(|ring| ring.kind) else {
        let consumer = mpmc::Consumer::attach_untrusting(at, &options).ok();
        return (None, None, consumer);
    };
    let producer = writes.then(|| spsc::Producer::attach_untrusting(at, &options).ok());
    let consumer = (!writes).then(|| spsc::Consumer::attach_untrusting(at, &options).ok());
    (producer.flatten(), consumer.flatten(), None)
}

/// One store.
fn spoil(memory: &Memory, noise: &mut Noise) {
    match noise.below(16) {
        0..3 => slot_word(memory, noise),
        3 => {
            let slot = noise.below(SLOTS);
            put(
                memory,
                noise,
                DATA + slot * STRIDE + 8,
                &[40, 41, 0, u32::MAX.into()],
            );
        }
        4..6 => record_header(memory, noise),
        6..9 => cursor(memory, noise),
        9 => {
            let row = ROWS + noise.below(6) * ROW;
            let counter = 128 + noise.below(9) * 8;
            let word = noise.one_of(&[0, 72, 80, counter]);
            put(
                memory,
                noise,
                row + word,
                &[0, 1, 2, 1 << 32 | 1, 9, u64::MAX],
            );
        }
        10 => {
            let word = noise.one_of(&[STATE, STATE + 8, EVENTS[0], EVENTS[1]]);
            put(memory, noise, word, &[0, 1, 1 << 32, u64::MAX]);
        }
        11 => header(memory, noise),
        12 => {
            let word = noise.below(memory.words() - DATA / 8) * 8;
            memory
                .word(DATA + word)
                .store(noise.next(), Ordering::Relaxed);
        }
        _ => {
            let word = STATE / 8 + noise.below(memory.words() - STATE / 8);
            let old = memory.word(word * 8).load(Ordering::Relaxed);
            let new = match noise.below(4) {
                0 => noise.next(),
                1 => old ^ 1 << noise.below(64),
                2 => old.wrapping_add(1),
                _ => u64::MAX - noise.below(9),
            };
            memory.word(word * 8).store(new, Ordering::Relaxed);
        }
    }
}

/// One of the limits, or one beside it.
fn put(memory: &Memory, noise: &mut Noise, offset: u64, limits: &[u64]) {
    let limit = noise.one_of(limits);
    let value = limit.wrapping_add(noise.below(3)).wrapping_sub(1);
    memory.word(offset).store(value, Ordering::Relaxed);
}

/// Lap, owner, attempts and state, all of them possible.
fn slot_word(memory: &Memory, noise: &mut Noise) {
    let word = memory.word(DATA + noise.below(SLOTS) * STRIDE);
    let lap = word.load(Ordering::Relaxed) >> 16;
    let lap = lap.wrapping_add(noise.below(5)).wrapping_sub(2) << 16;
    let states = if noise.below(16) == 0 { 8 } else { 5 };
    let state = noise.below(states);
    let new = lap | noise.below(9) << 5 | noise.below(4) << 3 | state;
    word.store(new, Ordering::Relaxed);
}

/// Tag, length and kind, with lengths around what fits.
fn record_header(memory: &Memory, noise: &mut Noise) {
    let position = noise.below(CAPACITY / 8) * 8;
    let to_end = CAPACITY - position;
    let lengths = [
        0,
        8,
        to_end - 8,
        to_end,
        CAPACITY / 2 - 8,
        CAPACITY / 2,
        (1 << 30) - 1,
    ];
    let len = noise.one_of(&lengths) + noise.below(3);
    let new = noise.below(9) << 32 | (len & ((1 << 30) - 1)) << 2 | noise.below(4);
    memory.word(DATA + position).store(new, Ordering::Relaxed);
}

/// A step, a record, a capacity or a lap from where it is.
fn cursor(memory: &Memory, noise: &mut Noise) {
    const TAIL_WORDS: [u64; 6] = [0, 8, 16, 24, 48, 56];
    const CONSUMER_WORDS: [u64; 5] = [0, 8, 16, 40, 48];
    let offset = match noise.below(3) {
        0 => TAIL + noise.one_of(&TAIL_WORDS),
        1 => CONSUMER + noise.one_of(&CONSUMER_WORDS),
        _ => HEAD,
    };
    let word = memory.word(offset);
    let steps = [1, 8, 16, SLOTS, CAPACITY, CAPACITY + 8, 1 << 48, 1 << 63];
    let step = noise.one_of(&steps);
    let old = word.load(Ordering::Relaxed);
    let new = match noise.below(2) {
        0 => old.wrapping_add(step),
        _ => old.wrapping_sub(step),
    };
    word.store(new, Ordering::Relaxed);
}

/// One word of the header, for a moment.
fn header(memory: &Memory, noise: &mut Noise) {
    let offset = noise.below(32) * 8;
    let old = memory.word(offset).load(Ordering::Relaxed);
    let new = match noise.below(3) {
        0 => noise.next(),
        1 => old ^ 1 << noise.below(64),
        _ => old.wrapping_add(1),
    };
    memory.word(offset).store(new, Ordering::Relaxed);
    for _ in 0..noise.below(500) {
        std::hint::spin_loop();
    }
    memory.heal(offset, offset + 8);
}
