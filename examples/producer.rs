//! cargo run --example producer -- /dev/shm/quotes.ring 100000
//!
//! Writes numbered records into a byte ring, which the example `consumer` reads. Start them in
//! either order, kill either one with `kill -9`, and start it again: no committed record is lost.

use std::error::Error;
use std::time::Duration;

use annulus::segment::{AttachError, CreateError, Location};
use annulus::{ClaimError, Wait, spsc};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected the path of a ring")?;
    let records: u64 = arguments
        .next()
        .ok_or("expected a number of records")?
        .parse()?;

    let mut producer = attach(&Location::path(path))?;
    // One that was killed goes on behind its last committed record.
    let first = producer.committed_records();
    for number in first..records {
        write(&mut producer, number)?;
    }
    producer.close();
    eprintln!("wrote records {first} to {records}");
    Ok(())
}

/// Creates the ring unless somebody was quicker, and becomes its producer.
fn attach(location: &Location) -> Result<spsc::Producer, Box<dyn Error>> {
    match spsc::Options::new(64 * 1024).create(location) {
        Ok(()) | Err(CreateError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // SAFETY: the ring has mode 0600, and this user's only programs that open it are these two
    // examples, which touch it through this library alone.
    match unsafe { spsc::Producer::attach(location) } {
        Ok(producer) => Ok(producer),
        Err(AttachError::RoleTaken { pid, .. }) => {
            Err(format!("process {pid} is producing already").into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The record is built where the consumer reads it: nothing is copied.
fn write(producer: &mut spsc::Producer, number: u64) -> Result<(), ClaimError> {
    let patience = Wait::block().for_at_most(Duration::from_secs(60));
    let mut claim = producer.claim(16, patience)?;
    claim[..8].copy_from_slice(&number.to_le_bytes());
    claim[8..].copy_from_slice(&(number * number).to_le_bytes());
    claim.commit(0);
    Ok(())
}
