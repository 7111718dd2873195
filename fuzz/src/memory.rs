//! Nameless files, and numbers taken from an input.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use annulus::segment::CreateOptions;
use annulus::{Location, mpmc, spsc};
use rustix::fs::{MemfdFlags, SealFlags};

/// A file in memory with this content, all of it allocated.
pub(crate) fn file_of(image: &[u8], sealed: bool) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("fuzz", flags).expect("a memfd"));
    file.write_all_at(image, 0).expect("memory for the image");
    if sealed {
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
            .expect("a memfd can be sealed");
    }
    file
}

/// A small byte ring, or a small slot ring.
pub(crate) fn ring(slots: bool, origin: u64) -> File {
    let options = CreateOptions::default();
    let descriptor = if slots {
        let ring = mpmc::Options::new(4, 40).participants(4);
        ring.starting_at(origin).memfd("fuzz", &options)
    } else {
        let ring = spsc::Options::new(4096);
        ring.starting_at(origin).memfd("fuzz", &options)
    };
    File::from(descriptor.expect("memory for a small ring"))
}

/// The file as a place to attach to.
pub(crate) fn location(file: &File) -> Location {
    let descriptor = OwnedFd::from(file.try_clone().expect("a descriptor"));
    Location::from(descriptor)
}

/// The numbers of an input, one after the other; 0 once it has ended.
pub(crate) struct Input<'i>(pub(crate) &'i [u8]);

impl Input<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        bytes[..taken.len()].copy_from_slice(taken);
        self.0 = rest;
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.bytes())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    /// A position shortly before something wraps, or any one.
    pub(crate) fn origin(&mut self) -> u64 {
        let (wrap, before) = (self.u8(), u64::from(self.u16()));
        match wrap % 8 {
            0 => 0,
            1 => 0_u64.wrapping_sub(before),
            2 => (1 << 32) - before,
            3 => (1 << 63) - before,
            // The end of a lap of 48 bits in rings of 4 and of 16 slots.
            4 => (4_u64 << 48) - before % 16,
            5 => (16_u64 << 48) - before % 64,
            6 => before,
            _ => self.u64(),
        }
    }
}

/// A store to one word of a ring's file, by somebody who is not of the ring.
#[derive(Clone, Copy)]
pub(crate) struct Scribble {
    pub(crate) offset: u64,
    kind: u8,
    value: u64,
}

impl Scribble {
    /// Of any word, mostly of those that mean something.
    pub(crate) fn of(input: &mut Input<'_>) -> Self {
        let (place, kind) = (input.u8(), input.u8());
        let at = u64::from(input.u16());
        let offset = match place % 8 {
            0 => at % 2048,
            // Control words and origins; the names behind them mean nothing to a ring.
            1 => 2048 + at % 896,
            // Tail, head, consumer: positions and journals.
            2..=3 => 2432 + at % 320,
            4 => 4096 + at % 2048,
            // In the slot ring the words and the lengths beside them.
            5 => 65536 + at % 4 * 64 + at / 4 % 2 * 8,
            6 => 65536 + at % 4096,
            _ => at * 8 % 69632,
        };
        let value = match kind >> 4 {
            0..=7 => u64::from(input.u8()),
            8..=11 => u64::from(input.u16()),
            12..=13 => input.u32().into(),
            _ => input.u64(),
        };
        Self {
            offset: offset & !7,
            kind,
            value,
        }
    }

    /// The word's new value.
    pub(crate) fn applied(self, old: u64) -> u64 {
        let Self { kind, value, .. } = self;
        match kind & 7 {
            0..=1 => value,
            2 => old.wrapping_add(value),
            3 => old.wrapping_sub(value),
            4 => old ^ 1 << (value % 64),
            5 => old & 0xffff_ffff | value << 32,
            6 => old & !0xffff_ffff | value & 0xffff_ffff,
            _ => !value,
        }
    }

    /// Does it to a file.
    pub(crate) fn store(self, file: &File) {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, self.offset)
            .expect("inside the file");
        let new = self.applied(u64::from_le_bytes(word));
        file.write_all_at(&new.to_le_bytes(), self.offset)
            .expect("inside the file");
    }
}
