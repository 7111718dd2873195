//! Which record a message is: its stream, its position, its tag, in headers of our own.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::bridge::frame::StreamId;

const RING: &str = "annulus-ring";
const GENERATION: &str = "annulus-generation";
const LIFE: &str = "annulus-life";
const POSITION: &str = "annulus-position";
const TAG: &str = "annulus-tag";

/// A message that is written to disk.
const PERSISTENT: u8 = 2;

/// What the messages of one stream have in common, written once.
pub(super) struct Stamp {
    headers: FieldTable,
    /// The beginning of each `message-id`.
    id: String,
}

impl Stamp {
    pub(super) fn new(stream: &StreamId) -> Self {
        let ring = hex(&stream.ring_id);
        let id = format!("{ring}-{}-{}-", stream.generation, stream.life);
        let mut headers = FieldTable::default();
        headers.insert(RING.into(), AMQPValue::LongString(ring.into()));
        headers.insert(GENERATION.into(), number(stream.generation));
        if stream.life != 0 {
            headers.insert(LIFE.into(), number(stream.life));
        }
        Self { headers, id }
    }

    /// Those of one record.
    pub(super) fn of(&self, position: u64, tag: u32) -> BasicProperties {
        let mut headers = self.headers.clone();
        headers.insert(POSITION.into(), number(position));
        if tag != 0 {
            headers.insert(TAG.into(), number(tag.into()));
        }
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(format!("{}{position}", self.id).into())
            .with_headers(headers)
    }
}

/// A protocol that has no unsigned 64 bits gets the same bits signed.
fn number(number: u64) -> AMQPValue {
    AMQPValue::LongLongInt(number.cast_signed())
}

/// Which record it is, if a bridge has published it; and its tag, which anybody may give.
pub(super) fn read(properties: &BasicProperties) -> (Option<(StreamId, u64)>, u32) {
    let Some(headers) = properties.headers() else {
        return (None, 0);
    };
    let headers = headers.inner();
    let number = |name: &str| match headers.get(name) {
        Some(AMQPValue::LongLongInt(number)) => Some(number.cast_unsigned()),
        _ => None,
    };
    let source = || {
        let Some(AMQPValue::LongString(ring)) = headers.get(RING) else {
            return None;
        };
        let stream = StreamId {
            ring_id: unhex(ring.as_bytes())?,
            generation: number(GENERATION)?,
            life: if headers.contains_key(LIFE) {
                number(LIFE)?
            } else {
                0
            },
        };
        Some((stream, number(POSITION)?))
    };
    let tag = number(TAG).and_then(|tag| u32::try_from(tag).ok());
    (source(), tag.unwrap_or(0))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &[u8]) -> Option<[u8; 16]> {
    let (pairs, rest) = text.as_chunks::<2>();
    let mut bytes = [0; 16];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (generation, life, position, tag) in [
            (1, 0, 0, 0),
            (u64::MAX, u64::MAX, u64::MAX, u32::MAX),
            (7, 9, 1 << 40, 3),
        ] {
            let stream = StreamId {
                ring_id: *b"\x00\xff 3456789abcdef",
                generation,
                life,
            };
            let properties = Stamp::new(&stream).of(position, tag);
            assert_eq!(read(&properties), (Some((stream, position)), tag));
        }
    }

    #[test]
    fn other_producers_messages_are_no_records() {
        assert_eq!(read(&BasicProperties::default()), (None, 0));
        let stream = StreamId {
            ring_id: [7; 16],
            generation: 1,
            life: 1,
        };
        let whole = Stamp::new(&stream)
            .of(5, 1)
            .headers()
            .clone()
            .unwrap_or_default();
        for left_out in whole.inner().keys() {
            let mut headers = FieldTable::default();
            for (name, value) in whole.inner() {
                if name != left_out {
                    headers.insert(name.clone(), value.clone());
                }
            }
            let (source, tag) = read(&BasicProperties::default().with_headers(headers));
            match left_out.as_str() {
                TAG => assert_eq!((source, tag), (Some((stream, 5)), 0)),
                LIFE => assert_eq!(source, Some((StreamId { life: 0, ..stream }, 5))),
                _ => assert_eq!((source, tag), (None, 1)),
            }
        }
        for ring in [
            "",
            "07",
            "zz070707070707070707070707070707",
            "070707070707070707070707070707070",
        ] {
            let mut headers = whole.clone();
            headers.insert(RING.into(), AMQPValue::LongString(ring.into()));
            let (source, _) = read(&BasicProperties::default().with_headers(headers));
            assert_eq!(source, None, "{ring}");
        }
    }
}
