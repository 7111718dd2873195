//! Frames from bytes that a stranger has sent.

use super::{
    ACCEPTS_OTHER, ACK, CHALLENGE, CONTROL_LIMIT, Code, DATA, DRAIN, Frame, FrameError, GAP,
    HEADER_BYTES, HEARTBEAT, HELLO, Hello, KNOWS, MAGIC, NAME_LIMIT, PROOF, PROVES, REFUSAL,
    StreamId, VERSION, WELCOME, Welcome, checksum,
};

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
            .filter(|kind| (HELLO..=PROOF).contains(kind))
            .ok_or(unknown("the frame's kind", kind, "1 to 11"))?;
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
                    expected: "1 to 8",
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
        CHALLENGE => Frame::Challenge(fields.take()?),
        PROOF => Frame::Proof(fields.take()?),
        _ => Frame::Drained,
    }))
}

fn decode_hello<'a>(fields: &mut Fields<'a>) -> Option<Result<Frame<'a>, FrameError>> {
    if let Err(error) = fields.magic()? {
        return Some(Err(error));
    }
    let version = fields.u32()?;
    if version != VERSION {
        // Nothing else is known of it, but whom to tell.
        fields.0 = &[];
        return Some(Ok(Frame::Hello(Hello {
            version,
            ..Hello::default()
        })));
    }
    let flags = fields.u32()?;
    let stream = fields.stream()?;
    let (next, largest_record, credit) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (largest_frame, silence_ms) = (fields.u32()?, fields.u32()?);
    let nonce = fields.take()?;
    let name = match fields.text(NAME_LIMIT)? {
        Ok(name) => name,
        Err(error) => return Some(Err(error)),
    };
    Some(Ok(Frame::Hello(Hello {
        version,
        stream: (flags & KNOWS != 0).then_some(stream),
        accepts_other: flags & ACCEPTS_OTHER != 0,
        next,
        largest_record,
        largest_frame,
        credit,
        silence_ms,
        nonce: (flags & PROVES != 0).then_some(nonce),
        name,
    })))
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
