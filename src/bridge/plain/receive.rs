//! The driver from plain peers into a ring.

use std::time::Duration;

use super::Plain;
use crate::bridge::around::{Around, Driver, drive};
use crate::bridge::error::{BridgeError, LinkError};
use crate::bridge::intake::Intake;
use crate::bridge::report::{Event, Summary};
use crate::bridge::url::Framing;

struct Receiving<'b> {
    plain: Plain<'b>,
    intake: Intake,
    is_full: bool,
}

/// Commits the records of plain peers.
pub(in crate::bridge) fn run(intake: Intake, around: Around<'_>) -> Result<Summary, BridgeError> {
    drive(Receiving {
        plain: Plain::new(around)?,
        intake,
        is_full: false,
    })
}

impl Driver for Receiving<'_> {
    fn turn(&mut self, timeout: Duration) -> Result<bool, BridgeError> {
        let ring = if self.is_full {
            Some(self.intake.descriptor()?)
        } else {
            None
        };
        let woken = self.plain.wait(ring, !self.is_full, timeout)?;
        if woken.stops {
            (self.plain.around.report)(&Event::Draining { unconfirmed: 0 });
        }
        let before = self.plain.summary.confirmed;
        if woken.readable
            && let Some(link) = &mut self.plain.link
            && let Err(why) = link.read(woken.at)
        {
            self.plain.hang_up(&why);
        }
        self.commit()?;
        let received = self.plain.summary.confirmed;
        self.plain.around.gauges.read.set(received);
        self.plain.tell_figures(received, !self.is_full);
        Ok(received > before)
    }

    fn is_done(&mut self) -> Result<Option<Summary>, BridgeError> {
        let stops = self.plain.around.ending.is_some();
        if !stops || self.is_full && !self.plain.is_late() {
            return Ok(None);
        }
        self.plain.summary.all_confirmed = !self.is_full;
        Ok(Some(self.plain.summary))
    }

    fn arm(&mut self) -> Result<(), BridgeError> {
        self.intake.arm()
    }

    fn until_next(&self) -> Duration {
        self.plain.until_next()
    }
}

impl Receiving<'_> {
    /// Commits the whole records that have come, as many as there is room for.
    fn commit(&mut self) -> Result<(), BridgeError> {
        let framing = self.plain.around.socket.framing;
        let limit = usize::try_from(self.intake.largest_record()).unwrap_or(usize::MAX);
        self.is_full = false;
        while let Some(link) = &mut self.plain.link {
            match next_record(link.bytes(), framing, limit) {
                Ok(Some((record, taken))) => {
                    self.is_full = !self.intake.push(record)?;
                    if self.is_full {
                        break;
                    }
                    link.take(taken);
                    self.plain.summary.confirmed += 1;
                }
                Ok(None) => break,
                Err(why) => self.plain.hang_up(&why),
            }
        }
        Ok(())
    }
}

/// The first record, and how many bytes it took.
fn next_record(
    bytes: &[u8],
    framing: Framing,
    limit: usize,
) -> Result<Option<(&[u8], usize)>, LinkError> {
    let too_long = || {
        Err(LinkError::Nonsense(
            "sends a record that is too long for the ring",
        ))
    };
    if framing == Framing::Len32 {
        let Some((len, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > limit {
            return too_long();
        }
        return Ok(rest.get(..len).map(|record| (record, 4 + len)));
    }
    let line = &bytes[..bytes.len().min(limit + 1)];
    match line.iter().position(|byte| *byte == b'\n') {
        Some(at) => Ok(Some((&bytes[..at], at + 1))),
        None if bytes.len() > limit => too_long(),
        None => Ok(None),
    }
}
