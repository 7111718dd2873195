//! What a record holds.
//!
//! Each word of a record is the record's number, whose upper byte is the producer's; a payload that
//! is no multiple of eight ends with the number's first bytes. The sender writes every byte and the
//! receiver looks at every byte, in the timed part: a transport that hands over torn or stale
//! records fails its slice.

/// The number of the last record of a stream; it is not counted.
pub const LAST: u64 = u64::MAX;

/// Bits of a number that are the producer's own count.
pub const COUNT_BITS: u32 = 56;

/// The shape of all records of a slice.
///
/// A shape whose length the compiler knows makes straight-line code of writing and checking, for
/// every contender alike; [`Sized`] is for the lengths that were not foreseen.
pub trait Payload: Copy + Sync + 'static {
    /// A record by value, for transports that are queues of elements.
    type Value: Copy + core::marker::Send + 'static;

    /// Bytes of a record.
    fn bytes(self) -> usize;

    /// Writes record `number` over all of `to`, which is [`bytes`](Self::bytes) bytes long.
    fn fill(self, to: &mut [u8], number: u64);

    /// Reads every byte of a record; its number, or `None` if it is torn.
    fn check(self, from: &[u8]) -> Option<u64>;

    /// The record as a value.
    fn value(self, number: u64) -> Self::Value;

    /// The number of a value, `None` if it is torn.
    fn check_value(self, value: &Self::Value) -> Option<u64>;
}

/// `W` words, known to the compiler.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fixed<const W: usize>;

impl<const W: usize> Payload for Fixed<W> {
    type Value = [u64; W];

    #[inline]
    fn bytes(self) -> usize {
        W * 8
    }

    #[inline]
    fn fill(self, to: &mut [u8], number: u64) {
        let (words, rest) = to.as_chunks_mut::<8>();
        debug_assert!(rest.is_empty());
        let words: &mut [[u8; 8]; W] = words.try_into().expect("as long as the payload");
        *words = [number.to_le_bytes(); W];
    }

    #[inline]
    fn check(self, from: &[u8]) -> Option<u64> {
        let (words, rest) = from.as_chunks::<8>();
        let words: &[[u8; 8]; W] = words.try_into().ok()?;
        let number = u64::from_le_bytes(words[0]);
        let differences = words
            .iter()
            .fold(0, |all, word| all | (u64::from_le_bytes(*word) ^ number));
        (rest.is_empty() && differences == 0).then_some(number)
    }

    #[inline]
    fn value(self, number: u64) -> [u64; W] {
        [number; W]
    }

    #[inline]
    fn check_value(self, value: &[u64; W]) -> Option<u64> {
        let number = value[0];
        let differences = value.iter().fold(0, |all, word| all | (word ^ number));
        (differences == 0).then_some(number)
    }
}

/// Any number of bytes from 8 on.
#[derive(Clone, Copy, Debug)]
pub struct Sized(pub usize);

impl Payload for Sized {
    /// It has no size that a type could have: a transport of values refuses it.
    type Value = ();

    #[inline]
    fn bytes(self) -> usize {
        self.0
    }

    #[inline]
    fn fill(self, to: &mut [u8], number: u64) {
        let bytes = number.to_le_bytes();
        let (words, rest) = to.as_chunks_mut::<8>();
        words.fill(bytes);
        rest.copy_from_slice(&bytes[..rest.len()]);
    }

    #[inline]
    fn check(self, from: &[u8]) -> Option<u64> {
        let (words, rest) = from.as_chunks::<8>();
        let number = u64::from_le_bytes(*words.first()?);
        let differences = words
            .iter()
            .fold(0, |all, word| all | (u64::from_le_bytes(*word) ^ number));
        let is_whole = from.len() == self.0 && rest == &number.to_le_bytes()[..rest.len()];
        (is_whole && differences == 0).then_some(number)
    }

    fn value(self, _: u64) {
        unreachable!("a transport of values refuses a payload without a type");
    }

    fn check_value(self, (): &()) -> Option<u64> {
        unreachable!("a transport of values refuses a payload without a type");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_is_checked_and_a_changed_byte_is_told() {
        fn holds(payload: impl Payload) {
            let mut bytes = vec![0; payload.bytes()];
            payload.fill(&mut bytes, 0x0102_0304_0506_0708);
            assert_eq!(payload.check(&bytes), Some(0x0102_0304_0506_0708));
            for at in 8..bytes.len() {
                bytes[at] ^= 0x40;
                assert_eq!(payload.check(&bytes), None, "byte {at}");
                bytes[at] ^= 0x40;
            }
            assert_eq!(payload.check(&bytes[1..]), None, "a record cut short");
        }
        holds(Fixed::<1>);
        holds(Fixed::<8>);
        holds(Sized(8));
        holds(Sized(61));
        holds(Sized(4096));
    }
}
