//! The memory that zygote and racers share.
//!
//! Everything is an atomic in an anonymous shared mapping, so what a killed racer has stored is
//! there. Racers sleep on `race`; the zygote stores their orders and raises it.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::thread::futex;

/// Racers at a time.
pub(crate) const SEATS: usize = 64;
/// The last ones of them are traced.
pub(crate) const VICTIMS: usize = 4;
/// Anything that takes longer hangs.
pub(crate) const LOST: Duration = Duration::from_secs(20);

/// What the racers of a race do with which ring, and how far they are.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Arena {
    /// Counts races; [`Arena::STOP`] ends the racers.
    race: AtomicU32,
    /// Raised whenever somebody who waits for a ring should look again.
    news: AtomicU32,
    /// 1 once nobody is left who could make the ring.
    hopeless: AtomicU32,
    /// How many have finished the race.
    finished: AtomicU32,
    /// Which of the two kinds this race is about.
    pub(crate) is_spsc: AtomicU32,
    pub(crate) seats: [Seat; SEATS],
}

/// One racer's orders and answers.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Seat {
    /// 1: create first, 0: only open.
    pub(crate) creates: AtomicU32,
    /// 1: attach as a producer, 0: as a consumer.
    pub(crate) produces: AtomicU32,
    /// Which operation it is in, see [`super::points::Phase`].
    pub(crate) phase: AtomicU32,
    pub(crate) creation: AtomicU32,
    pub(crate) opening: AtomicU32,
    /// First half of the id of the ring to which it attached.
    pub(crate) ring: AtomicU64,
    /// 1 once its record is committed.
    pub(crate) pushed: AtomicU32,
    /// 1 + the seat whose record it took, 0 for none.
    pub(crate) popped: AtomicU32,
    /// What it was told that it did not expect.
    words: [AtomicU8; 200],
}

/// What came of an attempt, as it stands in a seat.
pub(crate) const NOTHING_YET: u32 = 0;
pub(crate) const DONE: u32 = 1;
pub(crate) const EXISTED: u32 = 2;
pub(crate) const NO_RING: u32 = 3;
pub(crate) const ROLE_TAKEN: u32 = 4;
pub(crate) const UNEXPECTED: u32 = 5;

impl Arena {
    const STOP: u32 = u32::MAX;

    /// Zeroes, in memory that forked children share and that lasts as long as the process.
    pub(crate) fn new() -> &'static Self {
        let bytes = size_of::<Self>().try_into().expect("not 0");
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new anonymous mapping, which touches no memory that exists.
        let page = unsafe { mmap_anonymous(None, bytes, both, MapFlags::MAP_SHARED) };
        let page: NonNull<Self> = page.expect("shared memory").cast();
        // SAFETY: aligned to a page, zeroed, never unmapped, and accessed as these atomics only.
        unsafe { page.as_ref() }
    }

    /// Before the racers of a race are told to go.
    pub(crate) fn prepare(&self, is_spsc: bool) {
        self.is_spsc.store(is_spsc.into(), Ordering::SeqCst);
        for word in [&self.hopeless, &self.finished] {
            word.store(0, Ordering::SeqCst);
        }
        for seat in &self.seats {
            seat.clear();
        }
    }

    /// The starting signal.
    pub(crate) fn go(&self) {
        self.race.fetch_add(1, Ordering::SeqCst);
        wake(&self.race);
    }

    pub(crate) fn stop(&self) {
        self.race.store(Self::STOP, Ordering::SeqCst);
        wake(&self.race);
    }

    /// A racer's wait for the next race; `None` if there is none.
    pub(crate) fn wait_for_race(&self, last: u32) -> Option<u32> {
        loop {
            let now = self.race.load(Ordering::SeqCst);
            match now {
                Self::STOP => return None,
                _ if now != last => return Some(now),
                _ => sleep(&self.race, last, LOST),
            }
        }
    }

    /// What [`wait_for_news`](Self::wait_for_news) compares with.
    pub(crate) fn news(&self) -> u32 {
        self.news.load(Ordering::SeqCst)
    }

    pub(crate) fn spread_news(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
        wake(&self.news);
    }

    /// Sleeps until something has changed since `known`; at most two milliseconds, since a victim
    /// that made the ring and died spreads none.
    pub(crate) fn wait_for_news(&self, known: u32) {
        sleep(&self.news, known, Duration::from_millis(2));
    }

    pub(crate) fn give_up_hope(&self) {
        self.hopeless.store(1, Ordering::SeqCst);
        self.spread_news();
    }

    pub(crate) fn is_hopeless(&self) -> bool {
        self.hopeless.load(Ordering::SeqCst) == 1
    }

    pub(crate) fn finish(&self) {
        self.finished.fetch_add(1, Ordering::SeqCst);
        wake(&self.finished);
    }

    /// Waits until `count` racers are through. False if they are not after so long.
    pub(crate) fn wait_until_finished(&self, count: usize, within: Duration) -> bool {
        let began = Instant::now();
        loop {
            let finished = self.finished.load(Ordering::SeqCst);
            let left = within.saturating_sub(began.elapsed());
            let are_all = finished as usize >= count;
            if are_all || left.is_zero() {
                return are_all;
            }
            sleep(&self.finished, finished, left);
        }
    }
}

impl Seat {
    fn clear(&self) {
        for word in [&self.phase, &self.creation, &self.opening] {
            word.store(0, Ordering::SeqCst);
        }
        for word in [&self.pushed, &self.popped] {
            word.store(0, Ordering::SeqCst);
        }
        self.ring.store(0, Ordering::SeqCst);
    }

    /// Leaves word of something that should not have happened.
    pub(crate) fn complain(&self, words: &str) {
        let bytes = words.bytes().chain(std::iter::repeat(0));
        for (place, byte) in self.words.iter().zip(bytes) {
            place.store(byte, Ordering::SeqCst);
        }
    }

    pub(crate) fn words(&self) -> String {
        let bytes = self.words.iter().map(|byte| byte.load(Ordering::SeqCst));
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn wake(word: &AtomicU32) {
    futex::wake(word, futex::Flags::empty(), i32::MAX as u32).expect("a mapped word");
}

/// Until woken, or the word is another one, or for so long.
fn sleep(word: &AtomicU32, value: u32, timeout: Duration) {
    let timeout = rustix::time::Timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // Every caller looks again, whatever ended it.
    let _ended = futex::wait(word, futex::Flags::empty(), value, Some(&timeout));
}
