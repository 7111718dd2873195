//! What goes over the wire: frames, their bytes, and nothing of what they are for.
//!
//! `docs/bridge-protocol.md` draws each of them. A frame is a header of 16 bytes and a body; its
//! CRC32C covers both. A body of records is the ring's own bytes: header, payload, padding to 8.
//!
//! # Invariants
//! 1. Whatever the bytes, decoding ends with a frame, a wish for more bytes, or an error: it never
//!    panics, and reads each byte a bounded number of times.
//! 2. A length is checked against the reader's own limit before anything is allocated by it.
//! 3. What was decoded has the bytes that its CRC was made of.

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 16;
/// Bytes of a data frame's body before its records.
pub const DATA_BYTES: usize = 16;
/// The protocol that this build speaks.
pub const VERSION: u32 = 1;
/// Longest body of a frame that carries no records.
pub const CONTROL_LIMIT: u32 = 1024;
/// Longest name of a subscriber in bytes.
pub const NAME_LIMIT: usize = crate::layout::SUBSCRIBER_NAME_BYTES;

const MAGIC: [u8; 8] = *b"annulus\xb1";
const RECORD: u64 = 1;
/// Flags of a hello.
const KNOWS: u32 = 1;
const ACCEPTS_OTHER: u32 = 2;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The protocol that it speaks.
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
    /// Sender to receiver, first.
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
        /// One behind the other; see [`records`].
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

/// A header that was checked as far as it can be without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    kind: u8,
    len: u32,
    crc: u32,
}

impl Head {
    /// Reads a header; `limit` is the longest body of records that the reader takes.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(bytes: &[u8; HEADER_BYTES], limit: u32) -> Result<Self, FrameError> {
        let mut fields = Fields(bytes);
        let len = fields.u32().ok_or(FrameError::TooShort { len: 0 })?;
        let kind = fields.u32().ok_or(FrameError::TooShort { len: 0 })?;
        let crc = fields.u32().ok_or(FrameError::TooShort { len: 0 })?;
        let reserved = fields.u32().ok_or(FrameError::TooShort { len: 0 })?;
        let unknown = |what, found: u32, expected| FrameError::Unknown {
            what,
            found: found.into(),
            expected,
        };
        let kind = u8::try_from(kind)
            .ok()
            .filter(|kind| (HELLO..=DRAINED).contains(kind))
            .ok_or(unknown("the frame's kind", kind, "1 to 9"))?;
        if reserved != 0 {
            return Err(unknown("a reserved field", reserved, "0"));
        }
        let limit = if kind == DATA { limit } else { CONTROL_LIMIT };
        if len > limit {
            return Err(FrameError::TooLong {
                len: len.into(),
                limit: limit.into(),
            });
        }
        Ok(Self { kind, len, crc })
    }

    /// Bytes of the body that follows.
    pub fn body_bytes(&self) -> usize {
        self.len as usize
    }

    /// Whether the body is what was sent.
    ///
    /// # Errors
    /// `Checksum` if not.
    pub fn check(&self, body: &[u8]) -> Result<(), FrameError> {
        let expected = checksum(self.kind, self.len, &[body]);
        if expected != self.crc {
            return Err(FrameError::Checksum {
                found: self.crc,
                expected,
            });
        }
        Ok(())
    }

    /// The frame, of a body that was checked.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn frame<'a>(&self, body: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let len = body.len() as u64;
        let mut fields = Fields(body);
        let frame = decode_body(self.kind, &mut fields).ok_or(FrameError::TooShort { len })??;
        if !fields.0.is_empty() {
            return Err(FrameError::TooLong {
                len,
                limit: len - fields.0.len() as u64,
            });
        }
        Ok(frame)
    }
}

fn decode_body<'a>(kind: u8, fields: &mut Fields<'a>) -> Option<Result<Frame<'a>, FrameError>> {
    Some(Ok(match kind {
        HELLO => return decode_hello(fields),
        WELCOME => {
            if let Err(error) = fields.magic()? {
                return Some(Err(error));
            }
            Frame::Welcome(Welcome {
                stream: fields.stream()?,
                next: fields.u64()?,
                largest_record: fields.u64()?,
                silence_ms: fields.u32()?,
            })
        }
        GAP => Frame::Gap {
            from: fields.u64()?,
            to: fields.u64()?,
        },
        REFUSAL => {
            let number = fields.u32()?;
            let Some(code) = Code::from_number(number) else {
                return Some(Err(FrameError::Unknown {
                    what: "the refusal's code",
                    found: number.into(),
                    expected: "1 to 7",
                }));
            };
            let text = fields.text(CONTROL_LIMIT as usize)?;
            return Some(text.map(|text| Frame::Refusal { code, text }));
        }
        DATA => {
            let (first, count, _reserved) = (fields.u64()?, fields.u32()?, fields.u32()?);
            let records = core::mem::take(&mut fields.0);
            Frame::Data {
                first,
                count,
                records,
            }
        }
        ACK => Frame::Ack {
            confirmed: fields.u64()?,
            credit: fields.u64()?,
        },
        HEARTBEAT => Frame::Heartbeat,
        DRAIN => Frame::Drain {
            end: fields.u64()?,
            closed: fields.u32()? != 0,
        },
        _ => Frame::Drained,
    }))
}

fn decode_hello<'a>(fields: &mut Fields<'a>) -> Option<Result<Frame<'a>, FrameError>> {
    if let Err(error) = fields.magic()? {
        return Some(Err(error));
    }
    let version = fields.u32()?;
    let flags = fields.u32()?;
    let stream = fields.stream()?;
    let (next, largest_record, credit) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (largest_frame, silence_ms) = (fields.u32()?, fields.u32()?);
    let name = match fields.text(NAME_LIMIT)? {
        Ok(name) => name,
        Err(error) => return Some(Err(error)),
    };
    // A later version may say more.
    fields.0 = &[];
    Some(Ok(Frame::Hello(Hello {
        version,
        stream: (flags & KNOWS != 0).then_some(stream),
        accepts_other: flags & ACCEPTS_OTHER != 0,
        next,
        largest_record,
        largest_frame,
        credit,
        silence_ms,
        name,
    })))
}

impl Frame<'_> {
    /// Appends the frame's bytes. Records are better sent by [`data_head`] and from where they lie.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let kind = self.encode_body(&mut body);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        out.extend(header(kind, len, checksum(kind, len, &[&body])));
        out.extend(body);
    }

    fn encode_body(&self, body: &mut Vec<u8>) -> u8 {
        match self {
            Self::Hello(hello) => {
                body.extend(MAGIC);
                body.extend(hello.version.to_le_bytes());
                let knows = if hello.stream.is_some() { KNOWS } else { 0 };
                let accepts = if hello.accepts_other {
                    ACCEPTS_OTHER
                } else {
                    0
                };
                body.extend((knows | accepts).to_le_bytes());
                put_stream(body, &hello.stream.unwrap_or_default());
                put(body, [hello.next, hello.largest_record, hello.credit]);
                body.extend(hello.largest_frame.to_le_bytes());
                body.extend(hello.silence_ms.to_le_bytes());
                put_text(body, hello.name, NAME_LIMIT);
                HELLO
            }
            Self::Welcome(welcome) => {
                body.extend(MAGIC);
                put_stream(body, &welcome.stream);
                put(body, [welcome.next, welcome.largest_record]);
                body.extend(welcome.silence_ms.to_le_bytes());
                WELCOME
            }
            Self::Gap { from, to } => {
                put(body, [*from, *to]);
                GAP
            }
            Self::Refusal { code, text } => {
                body.extend((*code as u32).to_le_bytes());
                put_text(body, text, CONTROL_LIMIT as usize - 8);
                REFUSAL
            }
            Self::Data {
                first,
                count,
                records,
            } => {
                put(body, [*first]);
                body.extend(count.to_le_bytes());
                body.extend([0; 4]);
                body.extend(*records);
                DATA
            }
            Self::Ack { confirmed, credit } => {
                put(body, [*confirmed, *credit]);
                ACK
            }
            Self::Heartbeat => HEARTBEAT,
            Self::Drain { end, closed } => {
                put(body, [*end]);
                body.extend(u32::from(*closed).to_le_bytes());
                DRAIN
            }
            Self::Drained => DRAINED,
        }
    }
}

/// Everything of a data frame but its records, which are sent behind it from where they lie.
///
/// # Panics
/// If the records have 4 GiB or more.
pub fn data_head(first: u64, count: u32, records: &[u8]) -> [u8; HEADER_BYTES + DATA_BYTES] {
    let len = u32::try_from(DATA_BYTES + records.len()).expect("a frame is shorter than 4 GiB");
    let mut bytes = [0; HEADER_BYTES + DATA_BYTES];
    bytes[HEADER_BYTES..][..8].copy_from_slice(&first.to_le_bytes());
    bytes[HEADER_BYTES + 8..][..4].copy_from_slice(&count.to_le_bytes());
    let crc = checksum(DATA, len, &[&bytes[HEADER_BYTES..], records]);
    bytes[..HEADER_BYTES].copy_from_slice(&header(DATA, len, crc));
    bytes
}

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

fn put<const N: usize>(body: &mut Vec<u8>, numbers: [u64; N]) {
    body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn put_stream(body: &mut Vec<u8>, stream: &StreamId) {
    body.extend(stream.ring_id);
    put(body, [stream.generation, stream.life]);
}

/// The text, cut to the limit at the end of a character.
fn put_text(body: &mut Vec<u8>, text: &str, limit: usize) {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=limit.min(text.len())).rev().find(fits).unwrap_or(0);
    body.extend(u32::try_from(end).unwrap_or(0).to_le_bytes());
    body.extend(&text.as_bytes()[..end]);
}

/// What is left of a body; each field is taken from its front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn stream(&mut self) -> Option<StreamId> {
        Some(StreamId {
            ring_id: self.take()?,
            generation: self.u64()?,
            life: self.u64()?,
        })
    }

    fn magic(&mut self) -> Option<Result<(), FrameError>> {
        let found: [u8; 8] = self.take()?;
        Some(if found == MAGIC {
            Ok(())
        } else {
            Err(FrameError::Unknown {
                what: "the magic",
                found: u64::from_le_bytes(found),
                expected: "`annulus` and 0xb1",
            })
        })
    }

    fn text(&mut self, limit: usize) -> Option<Result<&'a str, FrameError>> {
        let len = self.u32()?;
        if len as usize > limit {
            return Some(Err(FrameError::TooLong {
                len: len.into(),
                limit: limit as u64,
            }));
        }
        let (text, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(str::from_utf8(text).map_err(|error| FrameError::Unknown {
            what: "a text",
            found: error.valid_up_to() as u64,
            expected: "UTF-8 up to its end",
        }))
    }
}

/// One record of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireRecord<'a> {
    /// The tag that its producer gave it.
    pub tag: u32,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Bytes that it takes in the frame.
    pub span: usize,
}

/// The first record of `bytes`.
///
/// # Errors
/// `Records` if no whole one stands there.
pub fn first_record(bytes: &[u8]) -> Result<WireRecord<'_>, FrameError> {
    let (header, rest) = bytes.split_first_chunk().ok_or(FrameError::Records)?;
    let header = u64::from_le_bytes(*header);
    let len = (header >> 2) & ((1 << 30) - 1);
    let span = usize::try_from(crate::protocol::byte_ring::span_of(len));
    let (Ok(len), Ok(span)) = (usize::try_from(len), span) else {
        return Err(FrameError::Records);
    };
    if header & 3 != RECORD || span > bytes.len() {
        return Err(FrameError::Records);
    }
    Ok(WireRecord {
        tag: (header >> 32) as u32,
        payload: &rest[..len],
        span,
    })
}

/// Appends a record as it lies in a byte ring.
///
/// # Panics
/// If it has 1 GiB or more.
pub fn put_record(out: &mut Vec<u8>, tag: u32, payload: &[u8]) {
    let len = payload.len() as u64;
    assert!(len < 1 << 30, "no ring holds a record of 1 GiB");
    out.extend((u64::from(tag) << 32 | len << 2 | RECORD).to_le_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(8), 0);
}
