//! A ring's file as bytes, and what each of its words is called.
//!
//! Written from the drawing of the format, not from the library: it names its own offsets, so that
//! a mistake in the library's is seen as a mistake. The file is read by pread and never mapped.

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{FcntlArg, fcntl};

/// Offsets of the shared words.
pub(super) mod at {
    pub(in super::super) const CAPACITY: usize = 40;
    pub(in super::super) const STRIDE: usize = 48;
    pub(in super::super) const DATA_OFFSET: usize = 80;
    pub(in super::super) const DATA_BYTES: usize = 88;
    pub(in super::super) const ORIGIN: usize = 128;
    pub(in super::super) const FLAGS: usize = 2048;
    pub(in super::super) const ITEMS: usize = 2048 + 128;
    pub(in super::super) const SPACE: usize = 2048 + 256;
    pub(in super::super) const TAIL_HINT: usize = 2048 + 384;
    pub(in super::super) const PRODUCER_CLAIM: usize = TAIL_HINT + 8;
    pub(in super::super) const PRODUCER_JOURNAL: usize = TAIL_HINT + 16;
    pub(in super::super) const HEAD: usize = 2048 + 512;
    pub(in super::super) const CONSUMER_CLAIM: usize = 2048 + 640;
    pub(in super::super) const CONSUMER_JOURNAL: usize = CONSUMER_CLAIM + 8;
    /// Bytes of a journal's entry.
    pub(in super::super) const ENTRY_BYTES: usize = 32;
    /// Two of them: where records that came over a bridge came from.
    pub(in super::super) const ORIGINS: usize = 2048 + 768;
    /// Bytes of an origin.
    pub(in super::super) const ORIGIN_BYTES: usize = 64;
    const ROWS: usize = 4096;
    const ROW_BYTES: usize = 512;
    const COUNTERS: usize = 128;

    /// The word of row `number`, which counts from 1, at `offset` in it.
    pub(in super::super) fn row(number: u16, offset: usize) -> usize {
        ROWS + (usize::from(number) - 1) * ROW_BYTES + offset
    }

    /// Counter `index` of row `number`.
    pub(in super::super) fn counter(number: u16, index: usize) -> usize {
        row(number, COUNTERS + index * 8)
    }
}

/// Offsets within a row, states of a row, and the numbers of its counters.
pub(super) mod row {
    pub(in super::super) const STATE: usize = 0;
    pub(in super::super) const PID: usize = 8;
    pub(in super::super) const LIVES: usize = 32;
    pub(in super::super) const ABORT_SLOT: usize = 72;
    pub(in super::super) const SKIPPED_BASE: usize = 80;
    pub(in super::super) const FREE: u32 = 0;
    pub(in super::super) const ATTACHED: u32 = 1;
    pub(in super::super) const RECOVERING: u32 = 2;
    pub(in super::super) const SKIPPED: usize = 7;
}

const PARTICIPANTS: usize = 36;
const LOCK_BASE: i64 = 1 << 62;
const MENDING_BASE: i64 = LOCK_BASE + 4096;

/// The words of a ring at one moment, header, control words, rows and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    head: Vec<u8>,
    data: Vec<u8>,
}

impl Image {
    /// Reads the file through `file`.
    pub(super) fn read(file: &File) -> Result<Self> {
        let mut image = Self {
            head: vec![0; 4096],
            data: Vec::new(),
        };
        file.read_exact_at(&mut image.head, 0)
            .context("read the head")?;
        let rows = usize::from(image.participants()) * 512;
        image.head.resize(4096 + rows, 0);
        image.data = vec![0; usize::try_from(image.word(at::DATA_BYTES))?];
        image.refresh(file)?;
        Ok(image)
    }

    /// Reads it again into the same memory.
    pub(super) fn refresh(&mut self, file: &File) -> Result<()> {
        let data_offset = self.word(at::DATA_OFFSET);
        file.read_exact_at(&mut self.head, 0)
            .context("read the head")?;
        file.read_exact_at(&mut self.data, data_offset)
            .context("read the data")
    }

    /// Rows that the ring has.
    pub(super) fn participants(&self) -> u16 {
        u16::try_from(self.half(PARTICIPANTS)).unwrap_or(u16::MAX)
    }

    /// A u64 of the file's head.
    pub(super) fn word(&self, offset: usize) -> u64 {
        word_at(&self.head, offset)
    }

    /// A u32 of the file's head.
    pub(super) fn half(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.head[offset..offset + 4]);
        u32::from_le_bytes(bytes)
    }

    /// A u64 of the data area.
    pub(super) fn data_word(&self, offset: usize) -> u64 {
        word_at(&self.data, offset)
    }

    /// Bytes of the data area.
    pub(super) fn data(&self, offset: usize, len: usize) -> &[u8] {
        &self.data[offset..offset + len]
    }

    /// A number of the head that fits into memory.
    pub(super) fn size(&self, offset: usize) -> usize {
        usize::try_from(self.word(offset)).unwrap_or(usize::MAX)
    }

    /// The state of a row.
    pub(super) fn row_state(&self, number: u16) -> u32 {
        self.half(at::row(number, row::STATE))
    }

    /// Rows in use, by number.
    pub(super) fn rows_in_use(&self) -> Vec<u16> {
        let rows = 1..=self.participants();
        rows.filter(|row| self.row_state(*row) != row::FREE)
            .collect()
    }

    /// Rows in use by processes other than `pid`.
    pub(super) fn rows_of_others(&self, pid: u32) -> Vec<u16> {
        let mut rows = self.rows_in_use();
        rows.retain(|number| self.half(at::row(*number, row::PID)) != pid);
        rows
    }

    /// The bytes of row `number`.
    pub(super) fn row(&self, number: u16) -> &[u8] {
        &self.head[at::row(number, 0)..at::row(number + 1, 0)]
    }

    /// Bytes of the head, in several ranges.
    pub(super) fn words(&self, ranges: Vec<Range<usize>>) -> Vec<&[u8]> {
        ranges.into_iter().map(|range| &self.head[range]).collect()
    }

    /// Every word that is not zero, as a failure shows it.
    pub(super) fn dump(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let parts = [("", &self.head, 2048), ("data+", &self.data, 0)];
        for (part, bytes, from) in parts {
            for offset in (from..bytes.len()).step_by(8) {
                let word = word_at(bytes, offset);
                if word != 0 {
                    let _ = writeln!(text, "    {part}{offset:<6} {word:#018x}");
                }
            }
        }
        text
    }
}

fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

/// Opens a ring's file for looking.
pub(super) fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

/// Whether somebody holds the lock of row `number`, or mends it.
pub(super) fn is_locked(file: &File, number: u16) -> Result<bool> {
    Ok(is_byte_locked(file, LOCK_BASE + i64::from(number))?
        || is_byte_locked(file, MENDING_BASE + i64::from(number))?)
}

fn is_byte_locked(file: &File, start: i64) -> Result<bool> {
    const WRITE: libc::c_short = 1;
    const NONE: libc::c_short = 2;
    let mut found = libc::flock {
        l_type: WRITE,
        l_whence: 0,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut found)).context("probe a lock")?;
    ensure!(matches!(found.l_type, 0..=NONE), "an unknown kind of lock");
    Ok(found.l_type != NONE)
}
