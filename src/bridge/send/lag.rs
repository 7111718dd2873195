//! What becomes of slow subscribers where there is a policy for them.
//!
//! A slow one that is there goes on near the newest record, and is told of the gap. One that is
//! away, or disconnected for being slow, lapses: the newest records stay for it, as many as it may
//! lag behind, and it is told of the gap when it is back. So nothing of what is new is given up
//! because somebody is away for a moment, be it everybody.

use std::time::Duration;

use crate::bridge::clock::now;
use crate::bridge::error::{BridgeError, LinkError};
use crate::bridge::feed::Feed;
use crate::bridge::frame::Frame;
use crate::bridge::report::Event;
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
        let mut waited = self.subscribers.iter().filter(|one| !one.has_lapsed());
        let all_stall = waited.all(|one| one.stalls(now));
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
        let begin = self.lots.front().map_or(self.bytes_read, |lot| lot.before);
        let kept = Kept {
            // Nearer, so that it is not as slow again at once.
            there: self.first_behind(reached.saturating_sub(lag / 2)),
            away: self.first_behind(begin + self.feed.backlog_bytes() - lag),
        };
        let mut moved = false;
        for number in 0..self.subscribers.len() {
            let confirmed = self.subscribers[number].confirmed;
            let behind = reached.saturating_sub(self.bytes_before(confirmed));
            let one = &mut self.subscribers[number];
            let is_slow = one.is_behind(behind > lag, now) || one.stalls(now);
            if one.has_lapsed() || is_slow {
                moved |= self.give_up(number, policy, &kept);
            }
        }
        self.release();
        Ok(moved)
    }

    /// Number of the first record of the first lot that begins behind so many bytes.
    fn first_behind(&self, bytes: u64) -> u64 {
        let lot = self.lots.iter().find(|lot| lot.before >= bytes);
        lot.map_or(self.feed.next(), |lot| lot.first)
    }

    /// Lets a subscriber go on at what is kept, or go. Whether anything was given up.
    fn give_up(&mut self, number: usize, policy: Slow, kept: &Kept) -> bool {
        let one = &mut self.subscribers[number];
        let free = one.session.as_mut().filter(|session| {
            // A frame that is cut off cannot be finished without its records.
            policy == Slow::Drop && !session.link.is_lent()
        });
        let Some(session) = free else {
            if kept.away <= one.held() {
                return false;
            }
            one.given_up = kept.away;
            self.hang_up(number, &LinkError::TooSlow);
            return true;
        };
        let (from, to) = (session.next, kept.there);
        if to <= one.confirmed {
            return false;
        }
        if from < to {
            session.link.say(&Frame::Gap { from, to });
            session.next = to;
            self.summary.gaps += 1;
            self.summary.gap_records = self.summary.gap_records.saturating_add(to - from);
            let name = &*one.name;
            (self.around.report)(&Event::Gap { name, from, to });
        }
        // What was sent and is on its way is confirmed or not: nothing is held for it.
        (one.confirmed, one.spent) = (to, Duration::ZERO);
        true
    }
}

/// Number of the first record that stays for a slow one.
struct Kept {
    /// For one that is there, and is told of the gap at once.
    there: u64,
    /// For one that is away.
    away: u64,
}
