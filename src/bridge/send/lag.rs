//! What becomes of slow subscribers where there is a policy for them.

use crate::bridge::clock::now;
use crate::bridge::error::{BridgeError, LinkError};
use crate::bridge::feed::Feed;
use crate::bridge::frame::Frame;
use crate::bridge::report::Event;
use crate::bridge::subscriber::Subscriber;
use crate::bridge::url::Slow;

use super::Sending;

impl<F: Feed> Sending<'_, F> {
    /// Gives up the places of those who are slow, if that is the policy: more than the allowed lag
    /// behind the fastest for a while, or as long without progress while the ring holds as much.
    pub(super) fn enforce_lag(&mut self) -> Result<bool, BridgeError> {
        let policy = self.around.socket.slow.unwrap_or_default();
        if policy == Slow::Block || self.subscribers.len() < self.required {
            return Ok(false);
        }
        let lag = self.around.socket.lag_bytes;
        let lag = lag.unwrap_or(self.feed.capacity_bytes() / 2);
        if self.feed.backlog_bytes() <= lag {
            self.subscribers
                .iter_mut()
                .for_each(|one| one.behind = None);
            return Ok(false);
        }
        let now = now();
        let held = |one: &&Subscriber| !one.lapsed;
        let all_stall = self
            .subscribers
            .iter()
            .filter(held)
            .all(|one| one.stalls(now));
        if all_stall {
            // Nobody shows how far one could be: whatever is there.
            while self.read_lot()? {}
        }
        let fastest = self.subscribers.iter().map(|one| one.confirmed).max();
        let fastest = fastest.unwrap_or(self.released);
        let reached = if all_stall {
            self.bytes_read
        } else {
            self.bytes_before(fastest)
        };
        let oldest = reached.saturating_sub(lag / 2);
        let kept = self.lots.iter().find(|lot| lot.before >= oldest);
        let kept = kept.map_or(self.feed.next(), |lot| lot.first);
        let mut moved = false;
        for number in 0..self.subscribers.len() {
            let confirmed = self.subscribers[number].confirmed;
            let behind = reached.saturating_sub(self.bytes_before(confirmed));
            let one = &mut self.subscribers[number];
            let is_slow = one.is_behind(behind > lag, now) || one.stalls(now);
            if !one.lapsed && confirmed < kept && is_slow {
                self.give_up(number, policy, kept);
                moved = true;
            }
        }
        self.release();
        Ok(moved)
    }

    /// Lets a subscriber go on at `kept`, or go.
    fn give_up(&mut self, number: usize, policy: Slow, kept: u64) {
        let one = &mut self.subscribers[number];
        let stuck = one
            .session
            .as_ref()
            .is_none_or(|session| session.link.is_lent());
        if policy == Slow::Disconnect || stuck {
            // What comes of it is told as a gap when it is back. A frame that is cut off cannot be
            // finished without its records, so this connection ends in any case.
            one.lapsed = true;
            self.hang_up(number, &LinkError::TooSlow);
            return;
        }
        let Some(session) = &mut one.session else {
            return;
        };
        let from = session.next;
        if from < kept {
            session.link.say(&Frame::Gap { from, to: kept });
            session.next = kept;
            self.summary.gaps += 1;
            self.summary.gap_records += kept - from;
            let (name, to) = (&*one.name, kept);
            (self.around.report)(&Event::Gap { name, from, to });
        }
        // What was sent and is on its way is confirmed or not: nothing is held for it.
        one.confirmed = kept.min(session.next);
    }
}
