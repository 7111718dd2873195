//! Bytes of frames.

use super::{
    ACCEPTS_OTHER, ACK, CHALLENGE, CONTROL_LIMIT, DATA, DATA_BYTES, DRAIN, DRAINED, Frame, GAP,
    HEADER_BYTES, HEARTBEAT, HELLO, KNOWS, MAGIC, NAME_LIMIT, PROOF, PROVES, REFUSAL, StreamId,
    WELCOME, checksum, header,
};

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
                let proves = if hello.nonce.is_some() { PROVES } else { 0 };
                body.extend((knows | accepts | proves).to_le_bytes());
                put_stream(body, &hello.stream.unwrap_or_default());
                put(body, [hello.next, hello.largest_record, hello.credit]);
                body.extend(hello.largest_frame.to_le_bytes());
                body.extend(hello.silence_ms.to_le_bytes());
                body.extend(hello.nonce.unwrap_or_default());
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
            Self::Challenge(nonce) => {
                body.extend(nonce);
                CHALLENGE
            }
            Self::Proof(proof) => {
                body.extend(proof);
                PROOF
            }
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
