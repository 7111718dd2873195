//! Which message a confirmation, or a return, is about.
//!
//! The broker tells of an unroutable message before it confirms it. The library keeps what was
//! returned in a queue, and hands the oldest of it to whichever confirmation it resolves next: of
//! that message or of another one, since one confirmation may be about many, in any order. So what
//! was returned is known by its headers alone, and a confirmation that comes with no return is not
//! yet a delivery.
//!
//! # Argument
//! Let a flight be a message from its publication until its confirmation is looked at, and let
//! [`Confirms::settle`] have looked at everything that was resolved before it found nothing more.
//!
//! - If none of the confirmations came with a return, none of these messages was returned: the
//!   return of one would have been in the queue when its own confirmation was resolved, and that
//!   one, or one before it, would have taken it.
//! - If one did, more may be in the queue, of messages whose confirmations came without. Each time
//!   a confirmation is resolved and the queue is not empty, it takes one; each message that is
//!   returned has a confirmation behind its return. So there are never more returns in the queue
//!   than unresolved confirmations of messages that were returned, and with the last flight the
//!   queue is empty. Until then nothing is published, and nothing counts.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

use crate::bridge::broker::{Outcome, Refusal};
use crate::bridge::error::LinkError;

/// A confirmation, and a return that came with it: of which message, and why.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) taken: bool,
    pub(super) returned: Option<(u64, String)>,
}

type Flight = Pin<Box<dyn Future<Output = Result<Resolved, LinkError>>>>;

/// All flights.
#[derive(Default)]
pub(super) struct Confirms {
    /// Each with what wakes it.
    flights: HashMap<u64, (Flight, Waker)>,
    woken: Arc<Woken>,
    /// Resolved and not told yet: whether the broker took it.
    resolved: Vec<(u64, bool)>,
    /// Not told yet.
    returned: HashMap<u64, String>,
}

/// Flights to look at, in the order in which they were resolved.
#[derive(Default)]
struct Woken {
    positions: Mutex<VecDeque<u64>>,
    any: Notify,
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.positions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes one flight.
struct Alarm {
    position: u64,
    woken: Arc<Woken>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.woken.lock().push_back(self.position);
        self.woken.any.notify_one();
    }
}

impl Confirms {
    /// Whether nothing may be published before all flights are over.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.returned.is_empty()
    }

    /// A message is published by the first look at its flight, which is now.
    pub(super) fn begin(&mut self, position: u64, flight: Flight) -> Result<(), LinkError> {
        let woken = Arc::clone(&self.woken);
        let waker = Waker::from(Arc::new(Alarm { position, woken }));
        self.flights.insert(position, (flight, waker));
        self.look(position)
    }

    /// Waits until there is something to settle.
    pub(super) async fn wait(&self) {
        self.woken.any.notified().await;
    }

    /// Looks at everything that was resolved, and tells what is certain.
    pub(super) fn settle(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), LinkError> {
        loop {
            // Ends when nothing more was resolved; no guard is held while a flight is looked at.
            let next = self.woken.lock().pop_front();
            match next {
                Some(position) => self.look(position)?,
                None => break,
            }
        }
        if self.is_in_doubt() && !self.flights.is_empty() {
            return Ok(());
        }
        // A confirmation of many resolves them in any order; whoever is told of the first that was
        // not taken is to be told of the oldest.
        self.resolved.sort_unstable();
        for (position, taken) in self.resolved.drain(..) {
            outcomes.push(match self.returned.remove(&position) {
                Some(why) => Outcome::Refused(position, Refusal::Returned(why)),
                None if taken => Outcome::Confirmed(position),
                None => Outcome::Refused(position, Refusal::Nacked),
            });
        }
        if self.is_in_doubt() {
            return Err(LinkError::Nonsense("returns what was not published"));
        }
        Ok(())
    }

    fn look(&mut self, position: u64) -> Result<(), LinkError> {
        let Some((flight, waker)) = self.flights.get_mut(&position) else {
            return Ok(());
        };
        let Poll::Ready(resolved) = flight.as_mut().poll(&mut Context::from_waker(waker)) else {
            return Ok(());
        };
        self.flights.remove(&position);
        let resolved = resolved?;
        self.resolved.push((position, resolved.taken));
        self.returned.extend(resolved.returned);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    /// What a flight waits for.
    #[derive(Default)]
    struct Answer {
        resolved: Option<Resolved>,
        waker: Option<Waker>,
    }

    /// The library, and a broker behind it.
    #[derive(Default)]
    struct Library {
        answers: HashMap<u64, Rc<RefCell<Answer>>>,
        /// Returns that no confirmation has taken.
        returns: VecDeque<u64>,
    }

    impl Library {
        fn publish(&mut self, confirms: &mut Confirms, position: u64) {
            let answer = Rc::new(RefCell::new(Answer::default()));
            self.answers.insert(position, Rc::clone(&answer));
            let flight = std::future::poll_fn(move |context| {
                let mut answer = answer.borrow_mut();
                match answer.resolved.take() {
                    Some(resolved) => Poll::Ready(Ok(resolved)),
                    None => {
                        answer.waker = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            });
            confirms.begin(position, Box::pin(flight)).unwrap();
        }

        fn confirm(&mut self, position: u64, taken: bool) {
            let answer = self.answers.remove(&position).unwrap();
            let returned = self.returns.pop_front();
            let returned = returned.map(|position| (position, "no route".to_owned()));
            let mut answer = answer.borrow_mut();
            answer.resolved = Some(Resolved { taken, returned });
            if let Some(waker) = answer.waker.take() {
                waker.wake();
            }
        }
    }

    fn settled(confirms: &mut Confirms) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        confirms.settle(&mut outcomes).unwrap();
        outcomes
    }

    fn returned(position: u64) -> Outcome {
        Outcome::Refused(position, Refusal::Returned("no route".to_owned()))
    }

    #[test]
    fn without_returns_each_confirmation_counts_at_once() {
        let (mut confirms, mut library) = (Confirms::default(), Library::default());
        (0..3).for_each(|position| library.publish(&mut confirms, position));
        library.confirm(1, true);
        assert_eq!(settled(&mut confirms), [Outcome::Confirmed(1)]);
        library.confirm(0, false);
        assert_eq!(
            settled(&mut confirms),
            [Outcome::Refused(0, Refusal::Nacked)]
        );
        assert!(!confirms.is_in_doubt());
    }

    /// 1 and 3 are returned, and 3 is confirmed first: with the return of 1. That of 3 waits.
    #[test]
    fn a_confirmation_with_anothers_return_is_no_delivery() {
        let (mut confirms, mut library) = (Confirms::default(), Library::default());
        (0..4).for_each(|position| library.publish(&mut confirms, position));
        library.returns.extend([1, 3]);
        library.confirm(3, true);
        assert_eq!(settled(&mut confirms), []);
        assert!(confirms.is_in_doubt());
        for position in [0, 2, 1] {
            library.confirm(position, true);
        }
        let outcomes = settled(&mut confirms);
        let wanted = [
            Outcome::Confirmed(0),
            returned(1),
            Outcome::Confirmed(2),
            returned(3),
        ];
        assert_eq!(outcomes, wanted);
        assert!(!confirms.is_in_doubt());
    }

    #[test]
    fn a_return_of_nothing_that_flies_is_an_error() {
        let (mut confirms, mut library) = (Confirms::default(), Library::default());
        library.publish(&mut confirms, 0);
        library.returns.push_back(9);
        library.confirm(0, true);
        assert!(confirms.settle(&mut Vec::new()).is_err());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish {
            routable: bool,
        },
        Return,
        /// Of some of those that may be confirmed, beginning anywhere.
        Confirm {
            from: usize,
            count: usize,
            taken: bool,
        },
        Settle,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let one = prop_oneof![
            4 => prop::bool::weighted(0.8).prop_map(|routable| Step::Publish { routable }),
            1 => Just(Step::Return),
            2 => (0..20_usize, 1..6_usize, prop::bool::weighted(0.9))
                .prop_map(|(from, count, taken)| Step::Confirm { from, count, taken }),
            2 => Just(Step::Settle),
        ];
        proptest::collection::vec(one, 1..200)
    }

    proptest! {
        #[test]
        fn whatever_comes_with_what_no_returned_message_counts_and_each_gets_its_outcome(
            steps in steps(),
        ) {
            let (mut confirms, mut library) = (Confirms::default(), Library::default());
            // Published and not confirmed: those of which nothing is to come back, and the others.
            let (mut ready, mut to_return) = (Vec::new(), VecDeque::new());
            let (mut unroutable, mut nacked) = (BTreeSet::new(), BTreeSet::new());
            let (mut next, mut outcomes) = (0, Vec::new());
            for step in steps {
                match step {
                    Step::Publish { .. } if confirms.is_in_doubt() => {}
                    Step::Publish { routable } => {
                        library.publish(&mut confirms, next);
                        if routable {
                            ready.push(next);
                        } else {
                            unroutable.insert(next);
                            to_return.push_back(next);
                        }
                        next += 1;
                    }
                    Step::Return => {
                        let came_back = to_return.pop_front();
                        library.returns.extend(came_back);
                        ready.extend(came_back);
                    }
                    Step::Confirm { from, count, taken } => {
                        for _ in 0..count.min(ready.len()) {
                            let position = ready.remove(from % ready.len());
                            if !taken {
                                nacked.insert(position);
                            }
                            library.confirm(position, taken);
                        }
                    }
                    Step::Settle => confirms.settle(&mut outcomes).unwrap(),
                }
            }
            library.returns.extend(&to_return);
            ready.extend(to_return);
            for position in ready {
                library.confirm(position, true);
            }
            confirms.settle(&mut outcomes).unwrap();
            prop_assert!(!confirms.is_in_doubt());
            let mut told = BTreeSet::new();
            for outcome in outcomes {
                let (position, wanted) = match &outcome {
                    Outcome::Confirmed(position) => (
                        *position,
                        !unroutable.contains(position) && !nacked.contains(position),
                    ),
                    Outcome::Refused(position, Refusal::Returned(_)) => {
                        (*position, unroutable.contains(position))
                    }
                    Outcome::Refused(position, _) => (
                        *position,
                        !unroutable.contains(position) && nacked.contains(position),
                    ),
                    _ => unreachable!("it knows no other outcomes"),
                };
                prop_assert!(wanted, "{outcome:?}");
                prop_assert!(told.insert(position), "{position} is told twice");
            }
            prop_assert_eq!(told.len() as u64, next);
        }
    }
}
