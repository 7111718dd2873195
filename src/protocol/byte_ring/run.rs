//! Records one behind the other, as bytes: as they lie in a ring, and as a bridge sends them.

use super::{RECORD, Shape, span_of};

/// Whole records at the beginning of some bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The header of the first one.
    pub first: u64,
    /// Bytes of all of them, headers and padding included.
    pub bytes: usize,
    /// How many they are.
    pub count: u64,
}

impl Records {
    /// As many whole records of `bytes` as have `most` bytes together and may lie in such a ring.
    /// Each header is checked before it is a length.
    #[inline]
    pub fn of(bytes: &[u8], most: u64, shape: &Shape) -> Self {
        let mut found = Self::default();
        let end = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        // Each step goes on by a header at least.
        while let Some(header) = bytes[found.bytes..end].first_chunk() {
            let header = u64::from_le_bytes(*header);
            let len = (header >> 2) & ((1 << 30) - 1);
            let left = (end - found.bytes) as u64;
            if header & 3 != RECORD || len > shape.max_record || span_of(len) > left {
                break;
            }
            if found.count == 0 {
                found.first = header;
            }
            #[expect(clippy::cast_possible_truncation, reason = "no more than is left")]
            let span = span_of(len) as usize;
            found.bytes += span;
            found.count += 1;
        }
        found
    }
}
