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

    /// Tells everybody that nothing comes any more, and whether that is all.
    pub(super) fn end(&mut self) -> Option<Summary> {
        let now = now();
        let floor = self.floor();
        self.summary.confirmed = floor - self.first;
        let all = self.subscribers.len() >= self.required && floor >= self.feed.next();
        if let Some(target) = self.target {
            let confirmed = floor >= target;
            if !confirmed && self.around.ending.is_some_and(|deadline| now < deadline) {
                return None;
            }
            self.summary.all_confirmed = confirmed;
            let end = self.feed.next();
            for one in &mut self.subscribers {
                if let Some(session) = &mut one.session {
                    let closed = false;
                    session.link.part(&Frame::Drain { end, closed });
                }
            }
            return Some(self.summary);
        }
        if !self.closed || !all {
            return None;
        }
        let end = self.feed.next();
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
        if self.farewell(now) || self.subscribers.iter().all(told) {
            self.summary.all_confirmed = true;
            self.summary.ended = true;
            (self.around.report)(&Event::Ended { records: end });
            return Some(self.summary);
        }
        None
    }

    /// Whether those who have not heard of the end were waited for long enough.
    fn farewell(&mut self, now: Instant) -> bool {
        let patience = self.around.settings.drain_timeout;
        now >= *self.farewell.get_or_insert(now + patience)
    }
}
