//! cargo run --example consumer -- /dev/shm/quotes.ring
//!
//! Reads what the example `producer` writes, until that one closes the ring, and removes it.
#![expect(clippy::print_stdout, reason = "a program tells what it did")]

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use annulus::segment::{AttachError, Location, OpenError, remove};
use annulus::{ReadError, Wait, spsc};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("expected the path of a ring")?;
    let location = Location::path(path);

    let mut consumer = attach(&location)?;
    let first = consumer.released_records();
    let mut next = first;
    loop {
        match consumer.read(Wait::block()) {
            Ok(record) => {
                let (number, square) = parse(&record).ok_or("a record of another program")?;
                assert_eq!((number, square), (next, number * number));
                next += 1;
                // The record is released here, as it is dropped. One that is not is read again by
                // the next consumer, if this one is killed.
            }
            Err(ReadError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    drop(consumer);
    // By force, for the producer that closed it may not have left yet.
    remove(&location, true)?;
    println!("read records {first} to {next}");
    Ok(())
}

/// Becomes the ring's consumer as soon as there is a ring.
fn attach(location: &Location) -> Result<spsc::Consumer, AttachError> {
    loop {
        // SAFETY: the ring has mode 0600, and this user's only programs that open it are these two
        // examples, which touch it through this library alone.
        match unsafe { spsc::Consumer::attach(location) } {
            Err(AttachError::Open(OpenError::NotFound)) => sleep(Duration::from_millis(10)),
            outcome => return outcome,
        }
    }
}

fn parse(record: &[u8]) -> Option<(u64, u64)> {
    let (number, square) = record.split_at_checked(8)?;
    Some((
        u64::from_le_bytes(number.try_into().ok()?),
        u64::from_le_bytes(square.try_into().ok()?),
    ))
}
