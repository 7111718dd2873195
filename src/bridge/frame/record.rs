//! Records as they lie in a byte ring and in a data frame alike.

use super::FrameError;

/// The kind of a header that a record follows.
const RECORD: u64 = 1;

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
