//! The end: of the stream, which everybody is told, or of this bridge, which waits a while for what
//! is not confirmed.

use std::time::Instant;

use crate::bridge::clock::now;
use crate::bridge::feed::Feed;
use crate::bridge::frame::Frame;
use crate::bridge::report::{Event, Summary};
use crate::bridge::subscriber::{Drain, Subscriber};

use super::Sending;

impl<F: Feed> Sending<'_, F> {
    pub(super) fn begin_to_end(&mut self) {
        let target = self.feed.committed().max(self.feed.next());
        self.target = Some(target);
        let unconfirmed = target.saturating_sub(self.floor());
        (self.around.report)(&Event::Draining { unconfirmed });
    }

    /// Whether all who are waited for have everything before `target`, and whether all have.
    fn have(&self, target: u64) -> (bool, bool) {
        if self.subscribers.len() < self.required {
            return (false, false);
        }
        let mut lacking = self.subscribers.iter().filter(|one| one.confirmed < target);
        let all = lacking.clone().next().is_none();
        (lacking.all(Subscriber::has_lapsed), all)
    }

    /// Tells everybody that nothing comes any more, and whether that is all.
    pub(super) fn end(&mut self) -> Option<Summary> {
        let now = now();
        self.summary.confirmed = self.floor() - self.first;
        let end = self.feed.next();
        if let Some(target) = self.target {
            let (waited, all) = self.have(target);
            if !waited && self.around.ending.is_some_and(|deadline| now < deadline) {
                return None;
            }
            self.summary.all_confirmed = all;
            for one in &mut self.subscribers {
                if let Some(session) = &mut one.session {
                    let closed = false;
                    session.link.part(&Frame::Drain { end, closed });
                }
            }
            return Some(self.summary);
        }
        let (waited, all) = self.have(end);
        if !self.closed || !waited {
            self.farewell = None;
            return None;
        }
        for one in &mut self.subscribers {
            let Some(session) = &mut one.session else {
                continue;
            };
            if session.drain == Drain::Untold {
                session.drain = Drain::Told;
                session.link.say(&Frame::Drain { end, closed: true });
                // Whatever comes of it is found by the next turn.
                let _written = session.link.write(&[], now);
            }
        }
        let told = |one: &Subscriber| {
            let session = one.session.as_ref();
            session.is_some_and(|session| session.drain == Drain::Done)
        };
        // Those who are away are told when they come, if they come in time.
        if !self.farewell(now) && !self.subscribers.iter().all(told) {
            return None;
        }
        (self.summary.all_confirmed, self.summary.ended) = (all, true);
        if all {
            (self.around.report)(&Event::Ended { records: end });
        }
        Some(self.summary)
    }

    /// Whether those who have not heard of the end were waited for long enough.
    fn farewell(&mut self, now: Instant) -> bool {
        let patience = self.around.settings.drain_timeout;
        now >= *self.farewell.get_or_insert(now + patience)
    }
}
