//! How a stream of bytes becomes records, and records become a stream again.
//!
//! | framing | a record is | `recv` writes |
//! | --- | --- | --- |
//! | raw | a piece of the stream, always cut at the same places | its bytes |
//! | lines | a line without its newline | its bytes and a newline |
//! | len32 | what follows a little-endian u32 length | the length and its bytes |
//!
//! The cut depends on the input and on the ring's geometry only, never on how the input trickled
//! in, so that `--skip-records` finds the same place again.
//!
//! Each record's tag tells how it was cut, so that `recv` without `--framing` gives back exactly
//! what `send` took in: a last line without a newline too.

#[cfg(test)]
mod tests;

use clap::ValueEnum;

/// How records lie in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Framing {
    /// Any bytes, cut into pieces of up to 64 KiB.
    Raw,
    /// A record a line, without the newline.
    Lines,
    /// A little-endian u32 length before each record.
    Len32,
}

/// Tags by which `recv` knows how a record was cut. Others' records have tags of their own and are
/// written as they are.
pub mod tag {
    pub const RAW: u32 = u32::from_le_bytes(*b"raw\0");
    pub const LINE: u32 = u32::from_le_bytes(*b"line");
    /// The last line of an input that does not end in a newline.
    pub const OPEN_LINE: u32 = u32::from_le_bytes(*b"lin\0");
    pub const LEN32: u32 = u32::from_le_bytes(*b"len4");
}

/// Longest piece of a raw stream.
pub const RAW_PIECE: usize = 64 << 10;
/// The buffer holds at least this much, so that a read fetches many small records.
const BUFFER: usize = 256 << 10;
const LEN_BYTES: usize = 4;

/// Why an input cannot be cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    #[error("{what} {number} is longer than {max} bytes, the longest record of this ring")]
    TooLong {
        what: &'static str,
        number: u64,
        max: usize,
    },
    #[error("the input ends inside record {number}: {found} of {expected} bytes are there")]
    Truncated {
        number: u64,
        found: usize,
        expected: usize,
    },
}

/// A record that was cut and not yet sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut<'b> {
    pub tag: u32,
    pub bytes: &'b [u8],
}

/// Cuts an input into records.
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    max_record: usize,
    raw_piece: usize,
    buffer: Vec<u8>,
    /// What was read and not cut: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// How many bytes of that hold no newline.
    searched: usize,
    is_at_end: bool,
    /// Records taken so far, those that were skipped too.
    records: u64,
}

/// Where the next record lies.
#[derive(Clone, Copy, Debug)]
struct Span {
    tag: u32,
    /// Bytes before it that go with it: its length.
    before: usize,
    len: usize,
    /// Bytes after it that go with it: its newline.
    after: usize,
}

impl Cutter {
    /// For records of at most `max_record` bytes, raw ones of at most `raw_piece`.
    pub fn new(framing: Framing, max_record: usize, raw_piece: usize) -> Self {
        let raw_piece = raw_piece.min(max_record).max(1);
        let buffer = vec![0; BUFFER];
        let (start, end, searched, is_at_end, records) = (0, 0, 0, false, 0);
        Self {
            framing,
            max_record,
            raw_piece,
            buffer,
            start,
            end,
            searched,
            is_at_end,
            records,
        }
    }

    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Room for more input, to be reported to [`filled`](Self::filled). Called when no record is
    /// left to take, so that less than one record is moved.
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(2 * self.buffer.len(), 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were read; 0 is the end.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
        self.is_at_end |= count == 0;
    }

    /// Whether the input has ended and all of it was taken.
    pub fn is_done(&self) -> bool {
        self.is_at_end && self.start == self.end
    }

    /// The next record, which stays the next until it is taken; `None` if more input is needed, or
    /// none is left.
    pub fn peek(&mut self) -> Result<Option<Cut<'_>>, CutError> {
        let Some(Span {
            tag, before, len, ..
        }) = self.find()?
        else {
            return Ok(None);
        };
        let first = self.start + before;
        Ok(Some(Cut {
            tag,
            bytes: &self.buffer[first..first + len],
        }))
    }

    /// Takes the next record; returns the bytes of the input that it took. 0 if there is none.
    pub fn take(&mut self) -> Result<usize, CutError> {
        let Some(Span {
            before, len, after, ..
        }) = self.find()?
        else {
            return Ok(0);
        };
        let taken = before + len + after;
        self.start += taken;
        self.searched = 0;
        self.records += 1;
        Ok(taken)
    }

    fn find(&mut self) -> Result<Option<Span>, CutError> {
        if self.start == self.end {
            return Ok(None);
        }
        match self.framing {
            Framing::Raw => Ok(self.find_piece()),
            Framing::Lines => self.find_line(),
            Framing::Len32 => self.find_counted(),
        }
    }

    fn find_piece(&self) -> Option<Span> {
        let there = self.end - self.start;
        let len = there.min(self.raw_piece);
        let whole = len == self.raw_piece || self.is_at_end;
        whole.then_some(Span {
            tag: tag::RAW,
            before: 0,
            len,
            after: 0,
        })
    }

    fn find_line(&mut self) -> Result<Option<Span>, CutError> {
        let there = &self.buffer[self.start..self.end];
        let newline = memchr::memchr(b'\n', &there[self.searched..]);
        let len = newline.map_or(there.len(), |at| self.searched + at);
        self.searched = len;
        if len > self.max_record {
            return Err(self.too_long("line"));
        }
        Ok(match newline {
            Some(_) => Some(Span {
                tag: tag::LINE,
                before: 0,
                len,
                after: 1,
            }),
            None if self.is_at_end => Some(Span {
                tag: tag::OPEN_LINE,
                before: 0,
                len,
                after: 0,
            }),
            None => None,
        })
    }

    fn find_counted(&self) -> Result<Option<Span>, CutError> {
        let there = &self.buffer[self.start..self.end];
        let expected = match there.first_chunk::<LEN_BYTES>() {
            Some(len) => LEN_BYTES + u32::from_le_bytes(*len) as usize,
            None => LEN_BYTES,
        };
        if expected > LEN_BYTES + self.max_record {
            return Err(self.too_long("record"));
        }
        let is_whole = there.len() >= expected && there.len() >= LEN_BYTES;
        if !is_whole && self.is_at_end {
            let (number, found) = (self.records + 1, there.len());
            return Err(CutError::Truncated {
                number,
                found,
                expected,
            });
        }
        let len = expected - LEN_BYTES;
        Ok(is_whole.then_some(Span {
            tag: tag::LEN32,
            before: LEN_BYTES,
            len,
            after: 0,
        }))
    }

    fn too_long(&self, what: &'static str) -> CutError {
        CutError::TooLong {
            what,
            number: self.records + 1,
            max: self.max_record,
        }
    }
}

/// What goes before and after a record's bytes in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    before: Option<[u8; LEN_BYTES]>,
    newline: bool,
}

impl Frame {
    /// As `framing` says, or else as the record was cut.
    pub fn of(framing: Option<Framing>, tag: u32, len: usize) -> Self {
        let framing = framing.unwrap_or(match tag {
            tag::LINE | tag::OPEN_LINE => Framing::Lines,
            tag::LEN32 => Framing::Len32,
            _ => Framing::Raw,
        });
        // No record is longer: its length is a u32 in the ring too.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Self {
            before: (framing == Framing::Len32).then_some(len.to_le_bytes()),
            newline: framing == Framing::Lines && tag != tag::OPEN_LINE,
        }
    }

    pub fn before(&self) -> &[u8] {
        self.before.as_ref().map_or(&[], |bytes| bytes.as_slice())
    }

    pub fn after(&self) -> &[u8] {
        if self.newline { b"\n" } else { b"" }
    }
}
