//! What the driver tells of itself in numbers.

use std::time::Duration;

use crate::bridge::clock::now;
use crate::bridge::feed::Feed;

use super::Sending;

/// How much there is in the ring stands in its producer's words, which are not to be fetched at
/// each turn: so often while records flow, and before each sleep.
const LOOK: Duration = Duration::from_millis(20);

impl<F: Feed> Sending<'_, F> {
    /// Stores the figures of this turn. `rests` if nothing moved in it.
    pub(super) fn tell_figures(&mut self, rests: bool) {
        let now = now();
        let floor = self.floor();
        let gauges = self.around.gauges;
        let mut in_flight = 0;
        let mut connected = 0;
        for (number, one) in self.subscribers.iter().enumerate() {
            let session = one.session.as_ref();
            let sent = session.map_or(0, |session| session.next.saturating_sub(one.confirmed));
            in_flight += sent;
            connected += u64::from(session.is_some());
            let figures = (one.confirmed, sent, session.is_some());
            gauges.subscriber(number, &one.name, figures);
        }
        gauges.in_flight.set(in_flight);
        gauges.connected.set(connected);
        gauges.wanted.set(self.required as u64);
        gauges.read.set(self.feed.next());
        let mut summary = self.summary;
        summary.confirmed = floor - self.first;
        gauges.count(&summary);
        if self.target.is_some() {
            gauges.drains();
        }
        // The position last of all: whoever sees that it has moved sees what moved with it.
        let is_due = |looked| now.saturating_duration_since(looked) >= LOOK;
        let mut is_idle = false;
        if rests || self.looked.is_none_or(is_due) {
            self.looked = Some(now);
            let (records, bytes) = self.feed.lag(floor);
            gauges.lag_bytes.set(bytes);
            gauges.lag_records.set(records);
            is_idle = records == 0;
        }
        gauges.turn(now, floor, is_idle);
    }
}
