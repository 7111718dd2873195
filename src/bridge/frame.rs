//! What goes over the wire: frames, their bytes, and nothing of what they are for.
//!
//! `docs/bridge-protocol.md` draws each of them. A frame is a header of 16 bytes and a body; its
//! CRC32C covers both. A body of records is the ring's own bytes: header, payload, padding to 8.
//!
//! Here is what can be said; `decode` reads it from a stranger, `encode` writes it, and `record` is
//! the one thing that both ends of a ring's own bytes agree on.
//!
//! # Invariants
//! 1. Whatever the bytes, decoding ends with a frame, a wish for more bytes, or an error: it never
//!    panics, and reads each byte a bounded number of times.
//! 2. A length is checked against the reader's own limit before anything is allocated by it.
//! 3. What was decoded has the bytes that its CRC was made of.

mod decode;
mod encode;
mod record;

pub use decode::Head;
pub use encode::data_head;
pub use record::{WireRecord, first_record, put_record};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a data frame's body before its records.
pub const DATA_BYTES: usize = 16;
/// The protocol that this build speaks.
pub const VERSION: u32 = 2;
/// Longest body of a frame that carries no records.
pub const CONTROL_LIMIT: u32 = 1024;
/// Bytes of a number that is said once, and of a proof.
pub const PROOF_BYTES: usize = 32;
/// Longest name of a subscriber in bytes.
pub const NAME_LIMIT: usize = crate::layout::SUBSCRIBER_NAME_BYTES;

const MAGIC: [u8; 8] = *b"annulus\xb1";
/// Flags of a hello.
const KNOWS: u32 = 1;
const ACCEPTS_OTHER: u32 = 2;
const PROVES: u32 = 4;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No peer of this protocol, or none of this version, says this.
    #[error("{what} is {found:#x}, expected {expected}")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// What stands there.
        found: u64,
        /// What may stand there.
        expected: &'static str,
    },
    /// The frame is longer than the reader takes.
    #[error("a frame of {len} bytes is too long, the limit is {limit}")]
    TooLong {
        /// Bytes of its body.
        len: u64,
        /// The most that is taken.
        limit: u64,
    },
    /// The frame ends before its fields do.
    #[error("a frame of {len} bytes is too short for its kind")]
    TooShort {
        /// Bytes of its body.
        len: u64,
    },
    /// The bytes are not those that were sent.
    #[error("the checksum is {found:#010x}, the bytes make {expected:#010x}")]
    Checksum {
        /// That of the frame.
        found: u32,
        /// That of the bytes.
        expected: u32,
    },
    /// A record that ends beyond its frame, or a frame with more or fewer than it says.
    #[error("the records of a frame do not add up to it")]
    Records,
}

/// The numbers of a stream of records: which ring, and who numbered them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamId {
    /// The ring's random name.
    pub ring_id: [u8; 16],
    /// Which life of its content.
    pub generation: u64,
    /// 0 if the ring numbers its records itself; else who did.
    pub life: u64,
}

/// What the receiving side says first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The protocol that it speaks. Of one that speaks another nothing else is told.
    pub version: u32,
    /// The stream of which it holds records; `None` for a beginner.
    pub stream: Option<StreamId>,
    /// It goes on behind them with another ring's records, if the sender has no others.
    pub accepts_other: bool,
    /// How many records of it there are, so the number of the next one wanted.
    pub next: u64,
    /// Longest record that its ring takes.
    pub largest_record: u64,
    /// Longest frame body that it takes.
    pub largest_frame: u32,
    /// Records before this number may be sent.
    pub credit: u64,
    /// After how many milliseconds of silence it takes the sender for gone.
    pub silence_ms: u32,
    /// A number that it has never said before, if it has a secret and asks for proof of it.
    pub nonce: Option<[u8; PROOF_BYTES]>,
    /// Under which name the sender remembers it.
    pub name: &'a str,
}

impl Hello<'_> {
    /// Without what it borrows, and that.
    pub(super) fn into_owned(self) -> (Hello<'static>, String) {
        let hello = Hello {
            version: self.version,
            stream: self.stream,
            accepts_other: self.accepts_other,
            next: self.next,
            largest_record: self.largest_record,
            largest_frame: self.largest_frame,
            credit: self.credit,
            silence_ms: self.silence_ms,
            nonce: self.nonce,
            name: "",
        };
        (hello, self.name.to_owned())
    }
}

/// The sending side's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// What it sends.
    pub stream: StreamId,
    /// Number of the first record that comes, unless a gap is told next.
    pub next: u64,
    /// Longest record that its ring can hold.
    pub largest_record: u64,
    /// After how many milliseconds of silence it takes the receiver for gone.
    pub silence_ms: u32,
}

/// Why one side will not talk to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// It speaks another version.
    Version = 1,
    /// The receiver holds records of another ring, or of another life of this one.
    OtherStream = 2,
    /// The receiver holds records that this ring never had.
    Ahead = 3,
    /// All subscribers that this ring is served to have other names.
    NotInvited = 4,
    /// A record is longer than the receiver takes.
    RecordTooLong = 5,
    /// Somebody else is being served.
    Busy = 6,
    /// The peer did not keep to the protocol.
    Protocol = 7,
    /// One end has a secret, and the other one has none, or another one.
    Secret = 8,
}

impl Code {
    fn from_number(number: u32) -> Option<Self> {
        [
            Self::Version,
            Self::OtherStream,
            Self::Ahead,
            Self::NotInvited,
            Self::RecordTooLong,
            Self::Busy,
            Self::Protocol,
            Self::Secret,
        ]
        .into_iter()
        .find(|code| *code as u32 == number)
    }

    /// Whether trying again will not help.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Busy | Self::Protocol)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Receiver to sender, first.
    Hello(Hello<'a>),
    /// Sender to receiver, if both have a secret: a number that it has never said before.
    Challenge([u8; PROOF_BYTES]),
    /// Receiver to sender, about what was said; then the reverse, about that and the frame behind
    /// it.
    Proof([u8; PROOF_BYTES]),
    /// Sender to receiver, first but for these two.
    Welcome(Welcome),
    /// Records that can never be had: `from` up to and without `to`.
    Gap {
        /// The first of them.
        from: u64,
        /// The one that comes next.
        to: u64,
    },
    /// The last frame of a side that hangs up.
    Refusal {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: &'a str,
    },
    /// Records.
    Data {
        /// Number of the first one.
        first: u64,
        /// How many.
        count: u32,
        /// One behind the other; see [`first_record`].
        records: &'a [u8],
    },
    /// Everything before `confirmed` is committed; everything before `credit` may be sent.
    Ack {
        /// Number of the first record that is not committed.
        confirmed: u64,
        /// Number of the first record that may not be sent.
        credit: u64,
    },
    /// Somebody is there.
    Heartbeat,
    /// Nothing comes after `end` from this side.
    Drain {
        /// Number of the first record that does not come.
        end: u64,
        /// The ring was closed: nothing ever will.
        closed: bool,
    },
    /// The answer to it: everything before it is committed.
    Drained,
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const GAP: u8 = 3;
const REFUSAL: u8 = 4;
const DATA: u8 = 5;
const ACK: u8 = 6;
const HEARTBEAT: u8 = 7;
const DRAIN: u8 = 8;
const DRAINED: u8 = 9;
const CHALLENGE: u8 = 10;
const PROOF: u8 = 11;

fn header(kind: u8, len: u32, crc: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    bytes[4..8].copy_from_slice(&u32::from(kind).to_le_bytes());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn checksum(kind: u8, len: u32, parts: &[&[u8]]) -> u32 {
    let crc = crc32c::crc32c(&header(kind, len, 0));
    parts
        .iter()
        .fold(crc, |crc, part| crc32c::crc32c_append(crc, part))
}

/// Whether a subscriber can be called that: what no option can say can never be given up.
pub(super) fn is_name(name: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    !name.is_empty() && name.len() <= NAME_LIMIT && !name.chars().any(is_odd)
}

/// Longest frame that can be asked for.
pub(super) fn largest_frame(largest_record: u64, batch_bytes: u64) -> u32 {
    let one = crate::protocol::byte_ring::span_of(largest_record);
    u32::try_from(one.max(batch_bytes) + DATA_BYTES as u64).unwrap_or(u32::MAX)
}
