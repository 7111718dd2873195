//! One connection: bytes in, frames out, and the reverse. It owns its socket and knows no ring.
//!
//! Reading and writing never block. Records are written from where they lie: the caller lends them
//! again each time, until the last byte is out, and other frames wait behind them.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::adapter::{Connected, Stream};
use super::error::LinkError;
use super::frame::{self, Frame, HEADER_BYTES, Head};

/// Most that is read at once.
const READ_BYTES: usize = 512 << 10;
/// How much is read at first: not as much, for strangers may be many.
pub(super) const FIRST_READ_BYTES: usize = 256 << 10;
/// A buffer that is no longer used as much shrinks to this.
const KEPT_BYTES: usize = 1 << 20;

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: Box<dyn Stream>,
    peer: String,
    /// Bytes that came, from `start` to `end` not yet dealt with; behind them room for more.
    input: Vec<u8>,
    start: usize,
    end: usize,
    /// How much is read at once: twice as much after a read that found as much as that, which is
    /// never what a peer says is to come.
    room: usize,
    /// The last read has filled its room.
    filled: bool,
    /// The frame at `start`, whole and checked.
    current: Option<Head>,
    /// Longest body of records that is taken.
    limit: u32,
    /// Bytes before the records that are being written.
    out: Vec<u8>,
    written: usize,
    /// Bytes of records that are still to be written behind `out`.
    lent: usize,
    /// Bytes to go behind them.
    behind: Vec<u8>,
    heard: Instant,
    said: Instant,
    /// Since when the system is known to ask in vain.
    unanswered: Option<Instant>,
}

impl Link {
    pub(super) fn new(connected: Connected, limit: u32, now: Instant) -> Self {
        Self {
            stream: connected.stream,
            peer: connected.peer,
            input: Vec::new(),
            start: 0,
            end: 0,
            room: FIRST_READ_BYTES,
            filled: false,
            current: None,
            limit,
            out: Vec::new(),
            written: 0,
            lent: 0,
            behind: Vec::new(),
            heard: now,
            said: now,
            unanswered: None,
        }
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    /// When bytes last went.
    pub(super) fn said(&self) -> Instant {
        self.said
    }

    /// Reads once what is there. Returns whether anything was.
    pub(super) fn read(&mut self, now: Instant) -> Result<bool, LinkError> {
        self.drop_what_was_read();
        let end = self.end + self.room;
        if self.input.len() < end {
            self.input.resize(end, 0);
        }
        let read = self.stream.read(&mut self.input[self.end..end]);
        self.end += *read.as_ref().unwrap_or(&0);
        self.filled = self.end == end;
        if self.filled {
            self.room = (self.room * 2).min(READ_BYTES);
        }
        match read {
            Ok(0) => Err(LinkError::HungUp),
            Ok(_) => {
                self.heard = now;
                Ok(true)
            }
            Err(error) if is_later(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether more had come, most likely, than the last read has taken.
    pub(super) fn is_behind(&self) -> bool {
        self.filled
    }

    fn drop_what_was_read(&mut self) {
        if self.start == self.end {
            self.end = 0;
            self.input.truncate(KEPT_BYTES);
            self.input.shrink_to(KEPT_BYTES);
        } else if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            self.end -= self.start;
        }
        self.start = 0;
    }

    /// All bytes that came, for who cuts them up himself; see [`take`](Self::take).
    pub(super) fn bytes(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// Goes behind `count` of them.
    pub(super) fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// The frame that has come, if it is whole; again and again, until [`pass`](Self::pass).
    pub(super) fn frame(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        let rest = &self.input[self.start..self.end];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let head = match self.current {
            Some(head) => head,
            None => Head::decode(header, self.limit)?,
        };
        let Some(body) = rest.get(..head.body_bytes()) else {
            return Ok(None);
        };
        if self.current.is_none() {
            head.check(body)?;
            self.current = Some(head);
        }
        Ok(Some(head.frame(body)?))
    }

    /// The bytes of the frame that [`frame`](Self::frame) has found.
    pub(super) fn frame_bytes(&self) -> &[u8] {
        let len = self
            .current
            .map_or(0, |head| HEADER_BYTES + head.body_bytes());
        &self.input[self.start..][..len]
    }

    /// Goes behind the frame.
    pub(super) fn pass(&mut self) {
        if let Some(head) = self.current.take() {
            self.take(HEADER_BYTES + head.body_bytes());
        }
    }

    /// Says something, as soon as it can be written.
    pub(super) fn say(&mut self, frame: &Frame<'_>) {
        if self.lent == 0 {
            frame.encode(&mut self.out);
        } else {
            frame.encode(&mut self.behind);
        }
    }

    /// Begins to write records, which are lent to each [`write`](Self::write) until they are out.
    pub(super) fn begin(&mut self, first: u64, count: u32, records: &[u8]) {
        debug_assert_eq!(self.lent, 0, "others are being written");
        self.out.extend(frame::data_head(first, count, records));
        self.lent = records.len();
    }

    /// The same, of bytes that are not framed.
    pub(super) fn begin_plain(&mut self, bytes: usize) {
        debug_assert_eq!(self.lent, 0, "others are being written");
        self.lent = bytes;
    }

    /// How many of the lent bytes are still to be written.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// Whether records are being written.
    pub(super) fn is_lent(&self) -> bool {
        self.lent > 0
    }

    /// From here on bodies of records may be so long.
    pub(super) fn allow(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether the other end can be spoken to: what is beneath the frames has agreed.
    pub(super) fn is_established(&self) -> bool {
        self.stream.is_established()
    }

    /// By what both ends know that there is nobody between them, if the line has such a thing.
    pub(super) fn binding(&self) -> io::Result<[u8; 32]> {
        self.stream.binding()
    }

    /// Whether the peer has taken its leave, and its socket need not tell: the next read does.
    pub(super) fn is_over(&self) -> bool {
        self.stream.is_over()
    }

    /// Whether anything is to be written.
    pub(super) fn has_more(&self) -> bool {
        self.has_own() || self.stream.has_unsent()
    }

    /// Whether the stream has not taken everything.
    fn has_own(&self) -> bool {
        self.lent > 0 || self.written < self.out.len()
    }

    /// Writes what the socket takes. `lent` are the records of [`begin`](Self::begin), all of them.
    /// Returns whether anything was written.
    pub(super) fn write(&mut self, lent: &[u8], now: Instant) -> Result<bool, LinkError> {
        let mut any = false;
        while self.has_more() {
            let from = lent.len().saturating_sub(self.lent);
            let parts = [
                IoSlice::new(&self.out[self.written..]),
                IoSlice::new(&lent[from..]),
            ];
            let written = if self.has_own() {
                self.stream.write_vectored(&parts)
            } else {
                self.stream.flush().map(|()| 0)
            };
            match written {
                Ok(0) if self.has_own() => return Err(LinkError::HungUp),
                Ok(count) => self.went(count),
                Err(error) if is_later(&error) => break,
                Err(error) => return Err(error.into()),
            }
            any = true;
            self.said = now;
        }
        Ok(any)
    }

    fn went(&mut self, count: usize) {
        let of_out = count.min(self.out.len() - self.written);
        self.written += of_out;
        self.lent -= (count - of_out).min(self.lent);
        if self.written == self.out.len() && self.lent == 0 {
            self.out.clear();
            self.written = 0;
            core::mem::swap(&mut self.out, &mut self.behind);
        }
    }

    /// Says something as the last thing, without waiting for anything.
    pub(super) fn part(&mut self, frame: &Frame<'_>) {
        if self.lent == 0 {
            self.say(frame);
            // Whatever comes of it.
            let _written = self.write(&[], self.said);
        }
    }

    /// Nothing could be heard until `now`, because nobody listened.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = now;
    }

    /// For how long the other machine leaves unanswered what the system asks it, if that is too
    /// long. Who reads nothing is asked every other minute only: when the last answer came says
    /// little, as long as no question has been without one for as long.
    pub(super) fn absence(&mut self, now: Instant, limit: Duration) -> Option<Duration> {
        let Some(unheard) = self.stream.unanswered() else {
            self.unanswered = None;
            return None;
        };
        let since = *self.unanswered.get_or_insert(now);
        let absence = now.saturating_duration_since(since).min(unheard);
        (absence >= limit).then_some(absence)
    }

    /// How long since anything was heard, if that is too long.
    pub(super) fn silence(&self, now: Instant, limit: Duration) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.heard);
        (silence >= limit).then_some(silence)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
