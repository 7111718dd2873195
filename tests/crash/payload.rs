//! Records that tell who sent them and whether they are whole.
//!
//! ```text
//! id: u64 | checksum: u64 | 0 to MOST bytes that follow from the id
//! ```
//!
//! The length follows from the id as well, so a record has exactly one right form, and one that was
//! torn, mixed with another or cut short has not.

/// Bytes of the longest record.
pub(crate) const LONGEST: usize = HEAD + MOST;

const HEAD: usize = 16;
const MOST: usize = 180;

/// A sequence of numbers that look random and follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A place in something of `len`.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it fits")
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}

/// Bytes of the record `id`.
pub(crate) fn len_of(id: u64) -> usize {
    HEAD + Random::new(id).index(MOST + 1)
}

/// Writes the record `id` over `bytes`, which are as many as it has.
pub(crate) fn write(bytes: &mut [u8], id: u64) {
    let mut random = Random::new(id);
    random.next();
    let mut checksum = id ^ bytes.len() as u64;
    for chunk in bytes[HEAD..].chunks_mut(8) {
        let word = random.next().to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
        checksum = add(checksum, chunk);
    }
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..HEAD].copy_from_slice(&checksum.to_le_bytes());
}

/// The id of a record, if all of it is as it was written.
pub(crate) fn read(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let checksum = u64::from_le_bytes(bytes.get(8..HEAD)?.try_into().ok()?);
    let found = bytes[HEAD..].chunks(8).fold(id ^ bytes.len() as u64, add);
    (bytes.len() == len_of(id) && checksum == found).then_some(id)
}

fn add(checksum: u64, chunk: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    (checksum ^ u64::from_le_bytes(word))
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(23)
}
