//! The SPSC ring's words: `tag:32 | len:30 | kind:2` before each record, EMPTY behind the last.
//!
//! With the ring at rest, everything follows from walking headers from the head to the first that
//! is zero; positions may wrap. The journals must then agree with that walk: the checker does not
//! use the rule by which the library chooses between two entries, it looks whether the right one is
//! there.

use std::ops::Range;

use anyhow::{Context as _, Result, bail, ensure};

use super::super::image::{Image, at};
use super::{Account, Left, check_payload, check_rows, common_states, origin_words};

const RECORD: u64 = 1;
const PADDING: u64 = 2;

/// The committed end and the records between head and end.
fn walk(image: &Image) -> Result<(u64, Vec<u32>)> {
    let capacity = image.word(at::CAPACITY);
    let head = image.word(at::HEAD);
    ensure!(head.is_multiple_of(8), "the head {head} is not aligned");
    let (mut position, mut ids) = (head, Vec::new());
    loop {
        let passed = position.wrapping_sub(head);
        ensure!(passed < capacity, "records all round the ring");
        let offset = position % capacity;
        let header = image.data_word(usize::try_from(offset)?);
        let len = header >> 2 & ((1 << 30) - 1);
        match header & 3 {
            _ if header == 0 => return Ok((position, ids)),
            PADDING => position = position.wrapping_add(capacity - offset),
            RECORD => {
                ensure!(
                    offset + 8 + len <= capacity,
                    "a record that wraps at {position}"
                );
                let id = u32::try_from(header >> 32)?;
                let start = usize::try_from(offset + 8)?;
                check_payload(id, image.data(start, usize::try_from(len)?))?;
                ids.push(id);
                position = position.wrapping_add(8 + len.next_multiple_of(8));
            }
            _ => bail!("header {header:#x} at {position}"),
        }
    }
}

/// The parts of the data area that hold committed records: what no producer may write to.
pub(in super::super) fn committed(image: &Image) -> Result<[Range<usize>; 2]> {
    let capacity = image.size(at::CAPACITY);
    let (end, _) = walk(image)?;
    let head = image.word(at::HEAD);
    let len = usize::try_from(end.wrapping_sub(head))?;
    let start = usize::try_from(head % image.word(at::CAPACITY))?;
    let first = len.min(capacity - start);
    Ok([start..start + first, 0..len - first])
}

/// Whether a position lies behind another one.
fn is_after(position: u64, other: u64) -> bool {
    position.wrapping_sub(other).cast_signed() > 0
}

/// A journal's entries: end and records.
fn entries(image: &Image, journal: usize) -> [(u64, u64); 2] {
    [journal, journal + at::ENTRY_BYTES].map(|entry| (image.word(entry), image.word(entry + 8)))
}

/// The number of records that the journal tells for `end`. Of two entries with the same end, one is
/// being overwritten, with a larger number.
fn records_at(image: &Image, journal: usize, end: u64) -> Option<u64> {
    let entries = entries(image, journal).into_iter();
    entries
        .filter(|entry| entry.0 == end)
        .map(|entry| entry.1)
        .min()
}

/// The ends of the two origins, of those that say anything.
fn origin_ends(image: &Image) -> [Option<u64>; 2] {
    [at::ORIGINS, at::ORIGINS + at::ORIGIN_BYTES].map(|entry| {
        let end = image.word(entry);
        (end & 1 == 1).then_some(end & !1)
    })
}

/// What the origin tells that is the last one not beyond `end`: how far the other ring's records
/// have come. Refuses one of which a part is another one's.
fn origin_at(image: &Image, end: u64) -> Result<Option<u64>> {
    let [first, second] = origin_ends(image).map(|at| at.filter(|at| !is_after(*at, end)));
    let entry = match (first, second) {
        (None, None) => return Ok(None),
        (Some(first), Some(second)) if is_after(second, first) => 1,
        (None, Some(_)) => 1,
        _ => 0,
    };
    let words = at::ORIGINS + entry * at::ORIGIN_BYTES + 8;
    let found: [u64; 5] = std::array::from_fn(|index| image.word(words + 8 * index));
    ensure!(
        found == origin_words(found[0]),
        "origin {entry} is torn: {found:x?}"
    );
    Ok(Some(found[0]))
}

/// Draws up the account; refuses words that no death may leave.
pub(in super::super) fn account(image: &Image) -> Result<Account> {
    check_rows(image)?;
    let head = image.word(at::HEAD);
    let (end, ids) = walk(image)?;
    let committed = records_at(image, at::PRODUCER_JOURNAL, end)
        .with_context(|| format!("the producer's journal does not know its end {end}"))?;
    let released = records_at(image, at::CONSUMER_JOURNAL, head)
        .with_context(|| format!("the consumer's journal does not know its head {head}"))?;
    ensure!(
        released + ids.len() as u64 == committed,
        "{committed} committed and {released} released, but {} left",
        ids.len()
    );
    let read_to = image.word(at::CONSUMER_CLAIM);
    ensure!(
        !is_after(read_to, end),
        "read up to {read_to}, beyond the end {end}"
    );
    let left = ids.into_iter().map(|id| Left {
        id,
        attempts: 0,
        is_held: is_after(read_to, head),
    });
    Ok(Account {
        committed,
        released,
        left: left.collect(),
        origin: origin_at(image, end)?,
    })
}

/// The names of the states that the words are in, for the report.
pub(in super::super) fn states(image: &Image) -> Vec<&'static str> {
    let mut states = common_states(image);
    let Ok((end, ids)) = walk(image) else {
        return states;
    };
    let head = image.word(at::HEAD);
    if !ids.is_empty() {
        states.push("RECORD");
    }
    let is_marked = image.word(at::PRODUCER_CLAIM) != 0;
    let journal = entries(image, at::PRODUCER_JOURNAL);
    let is_ahead = journal.iter().any(|entry| is_after(entry.0, end));
    let is_newest = |records| journal.iter().all(|entry| entry.1 <= records);
    let is_torn = !is_ahead
        && records_at(image, at::PRODUCER_JOURNAL, end).is_some_and(|known| !is_newest(known));
    states.extend(match (is_marked, is_ahead, is_torn) {
        (true, false, false) => Some("claim-mark-set"),
        (_, true, _) => Some("journal-written-not-published"),
        (_, _, true) => Some("journal-torn"),
        _ => None,
    });
    let is_published = ids
        .iter()
        .any(|id| id & !super::LONG == super::FIRST_OF_VICTIM);
    if is_marked && is_published {
        states.push("published-mark-set");
    }
    let is_ahead = |origin: Option<u64>| origin.is_some_and(|at| is_after(at, end));
    if origin_ends(image).into_iter().any(is_ahead) {
        states.push("origin-announced");
    }
    let is_torn = [at::ORIGINS + 8, at::ORIGINS + at::ORIGIN_BYTES + 8].map(|words| {
        let found: [u64; 5] = std::array::from_fn(|index| image.word(words + 8 * index));
        found != [0; 5] && found != origin_words(found[0])
    });
    if is_torn.contains(&true) {
        states.push("origin-torn");
    }
    if is_after(image.word(at::CONSUMER_CLAIM), head) {
        states.push("read-ahead");
    }
    let journal = entries(image, at::CONSUMER_JOURNAL);
    if journal.iter().any(|entry| is_after(entry.0, head)) {
        states.push("release-written-not-given");
    }
    states
}
