//! What a record of the demo holds.
//!
//! ```text
//!  0  u32  checksum of all that follows
//!  4  u32  source: which producer process
//!  8  u64  sequence: counted by that producer from 0
//! 16  u64  due: when it was to be sent, CLOCK_MONOTONIC in nanoseconds; 0 if as soon as possible
//! 24  ..   filling, as long as the sequence number says
//! ```

use nix::time::{ClockId, clock_gettime};

const HEAD: usize = 24;
/// A record is from this long ..
const SHORTEST: u64 = 32;
/// .. to this, exclusive: all fit into a slot.
const LONGEST: u64 = 240;

/// The slots of the demo's ring.
pub const SLOT_BYTES: u64 = LONGEST;

/// What tells one record from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub source: u32,
    pub sequence: u64,
    pub due_ns: u64,
}

impl Record {
    /// Bytes that it takes.
    pub fn len(&self) -> usize {
        let len = SHORTEST + mixed(self.sequence) % (LONGEST - SHORTEST);
        usize::try_from(len).expect("less than LONGEST")
    }

    /// Writes it into a claim of [`len`](Self::len) bytes.
    pub fn write(&self, claim: &mut [u8]) {
        claim[4..8].copy_from_slice(&self.source.to_le_bytes());
        claim[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        claim[16..HEAD].copy_from_slice(&self.due_ns.to_le_bytes());
        let filling = mixed(!self.sequence).to_le_bytes();
        for piece in claim[HEAD..].chunks_mut(filling.len()) {
            piece.copy_from_slice(&filling[..piece.len()]);
        }
        let checksum = crc32fast::hash(&claim[4..]);
        claim[..4].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads one; `None` if it is not what was written.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let checksum = u32::from_le_bytes(*bytes.first_chunk()?);
        let rest = &bytes[4..];
        let record = Self {
            source: u32::from_le_bytes(*rest.first_chunk()?),
            sequence: u64::from_le_bytes(*rest.get(4..)?.first_chunk()?),
            due_ns: u64::from_le_bytes(*rest.get(12..)?.first_chunk()?),
        };
        let whole = checksum == crc32fast::hash(rest) && bytes.len() == record.len();
        whole.then_some(record)
    }
}

/// Numbers without a pattern from numbers in order.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 17
}

/// A clock that all processes of the machine share.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    let (seconds, rest) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    seconds * 1_000_000_000 + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        for sequence in [0, 1, 1 << 40, u64::MAX] {
            let record = Record {
                source: 3,
                sequence,
                due_ns: 17,
            };
            let mut bytes = vec![0; record.len()];
            record.write(&mut bytes);
            assert_eq!(Record::read(&bytes), Some(record));
            for bit in 0..8 * bytes.len() {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::read(&bytes), None, "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        assert_eq!(Record::read(b"short"), None);
    }

    #[test]
    fn every_length_fits_into_a_slot() {
        for sequence in 0..10_000 {
            let len = Record {
                source: 0,
                sequence,
                due_ns: 0,
            }
            .len() as u64;
            assert!((SHORTEST..SLOT_BYTES).contains(&len), "{len}");
        }
    }
}
