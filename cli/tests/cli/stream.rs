//! A stream of records of all lengths, each of which tells its number.

use std::path::Path;
use std::time::Duration;

use annulus::{ReadError, Wait, spsc};

/// Without a record for so long it has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a record: mostly some tens, at times many thousands, and of its number's own.
fn len_of(number: u64) -> usize {
    let len = match number % 1000 {
        999 => 5000 + number % 7919,
        rest => 8 + rest * 7 % 90,
    };
    usize::try_from(len).unwrap()
}

fn fill(bytes: &mut [u8], number: u64) {
    bytes.fill(number.to_le_bytes()[0]);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
}

/// The number of a record that is whole.
fn number_of(bytes: &[u8]) -> Option<u64> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let number = u64::from_le_bytes(*head);
    let is_whole = bytes.len() == len_of(number) && rest.iter().all(|byte| *byte == head[0]);
    is_whole.then_some(number)
}

fn wait() -> Wait {
    Wait::block().for_at_most(PATIENCE)
}

/// Writes records from 0 on, as long as `more` says so of the next one's number, and closes the
/// ring.
pub fn write(path: &Path, more: impl Fn(u64) -> bool) {
    // SAFETY: only the test and the command use the file.
    let mut ring = unsafe { spsc::Producer::attach(path) }.unwrap();
    for number in (0..).take_while(|number| more(*number)) {
        let mut claim = ring.claim(len_of(number), wait()).unwrap();
        fill(&mut claim, number);
        claim.commit(7);
    }
    ring.close();
}

/// Hands each record's number to `check` until the ring is closed. Each is whole.
fn read_each(path: &Path, tag: u32, mut check: impl FnMut(u64)) {
    // SAFETY: as for the producer.
    let mut ring = unsafe { spsc::Consumer::attach(path) }.unwrap();
    loop {
        let record = match ring.read(wait()) {
            Ok(record) => record,
            Err(ReadError::Closed) => return,
            Err(error) => panic!("no record: {error}"),
        };
        assert_eq!(record.tag(), tag);
        check(number_of(&record).expect("a whole record"));
        record.release();
    }
}

/// Each record once and in order until the ring is closed. Returns how many.
pub fn read(path: &Path) -> u64 {
    let mut next = 0;
    read_each(path, 7, |number| {
        assert_eq!(number, next, "another came");
        next += 1;
    });
    next
}

/// Records whose tags are lost, as plain peers get them: in order, none twice. Returns how many.
pub fn read_some(path: &Path) -> u64 {
    let (mut next, mut count) = (0, 0);
    read_each(path, 0, |number| {
        assert!(number >= next, "{number} behind {next}");
        (next, count) = (number + 1, count + 1);
    });
    count
}
