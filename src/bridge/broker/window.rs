//! Records that were read and are not all confirmed: which wait to be published, which are in
//! flight, which are confirmed. It knows positions, and nothing else.
//!
//! # Invariants
//! 1. `head` is the first position that is not confirmed; it never goes back.
//! 2. A position from `head` to `end` is in exactly one of three states. A refusal and the end of a
//!    session lead from flight back to waiting; nothing leads out of confirmed.

use std::collections::{BTreeSet, VecDeque};

/// What is known of a stretch of positions.
#[derive(Debug)]
pub(super) struct Window {
    head: u64,
    /// From `head` on: whether each is confirmed.
    confirmed: VecDeque<bool>,
    /// Those of them that are to be published, for the first time or again.
    waiting: BTreeSet<u64>,
    in_flight: u64,
}

impl Window {
    pub(super) fn new(head: u64) -> Self {
        Self {
            head,
            confirmed: VecDeque::new(),
            waiting: BTreeSet::new(),
            in_flight: 0,
        }
    }

    /// The first position that is not confirmed.
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// The first position that was not read.
    pub(super) fn end(&self) -> u64 {
        self.head + self.confirmed.len() as u64
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// `count` more were read, and wait.
    pub(super) fn extend(&mut self, count: u64) {
        let end = self.end();
        self.waiting.extend(end..end + count);
        self.confirmed.extend((0..count).map(|_| false));
    }

    /// The first position that waits.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.waiting.first().copied()
    }

    /// It was published.
    pub(super) fn published(&mut self, position: u64) {
        if self.waiting.remove(&position) {
            self.in_flight += 1;
        }
    }

    /// It is confirmed. Returns whether that is news: of what is not in flight it is not true.
    pub(super) fn confirm(&mut self, position: u64) -> bool {
        let Some(place) = self.place_in_flight(position) else {
            return false;
        };
        self.confirmed[place] = true;
        self.in_flight -= 1;
        while self.confirmed.front() == Some(&true) {
            self.confirmed.pop_front();
            self.head += 1;
        }
        true
    }

    /// It was not taken. Returns whether it was in flight, and so waits again.
    pub(super) fn refuse(&mut self, position: u64) -> bool {
        let was = self.place_in_flight(position).is_some();
        if was {
            self.in_flight -= 1;
            self.waiting.insert(position);
        }
        was
    }

    /// What is in flight is lost from sight. Returns how many those were.
    pub(super) fn lose_sight(&mut self) -> u64 {
        let flying = (self.head..self.end()).filter(|position| {
            let place = usize::try_from(position - self.head).unwrap_or(usize::MAX);
            self.confirmed.get(place) == Some(&false)
        });
        self.waiting = flying.collect();
        core::mem::take(&mut self.in_flight)
    }

    fn place_in_flight(&self, position: u64) -> Option<usize> {
        let place = usize::try_from(position.checked_sub(self.head)?).ok()?;
        let unconfirmed = self.confirmed.get(place) == Some(&false);
        (unconfirmed && !self.waiting.contains(&position)).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_head_waits_for_the_oldest_one() {
        let mut window = Window::new(10);
        window.extend(4);
        (10..14).for_each(|position| window.published(position));
        assert!(window.confirm(12) && window.confirm(11));
        assert_eq!((window.head(), window.in_flight()), (10, 2));
        assert!(window.confirm(10));
        assert_eq!((window.head(), window.end()), (13, 14));
        assert!(!window.confirm(12), "twice is once");
        assert!(!window.confirm(14) && !window.confirm(9), "never published");
    }

    #[test]
    fn what_was_refused_waits_and_holds_the_head() {
        let mut window = Window::new(0);
        window.extend(3);
        (0..3).for_each(|position| window.published(position));
        assert!(window.refuse(1));
        assert!(!window.refuse(1), "it waits already");
        assert!(!window.confirm(1), "it is not in flight");
        assert!(window.confirm(0) && window.confirm(2));
        assert_eq!((window.head(), window.first_waiting()), (1, Some(1)));
        window.published(1);
        assert!(window.confirm(1));
        assert_eq!(window.head(), 3);
    }

    #[test]
    fn what_is_lost_from_sight_is_published_again_and_nothing_else() {
        let mut window = Window::new(0);
        window.extend(5);
        (0..4).for_each(|position| window.published(position));
        window.confirm(0);
        window.confirm(2);
        assert_eq!(window.lose_sight(), 2);
        let mut again = Vec::new();
        while let Some(position) = window.first_waiting() {
            window.published(position);
            again.push(position);
        }
        assert_eq!(again, [1, 3, 4]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Extend(u64),
        Publish,
        Confirm(usize),
        Refuse(usize),
        LoseSight,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let one = prop_oneof![
            2 => (1..6_u64).prop_map(Step::Extend),
            8 => Just(Step::Publish),
            8 => (0..40_usize).prop_map(Step::Confirm),
            3 => (0..40_usize).prop_map(Step::Refuse),
            1 => Just(Step::LoseSight),
        ];
        proptest::collection::vec(one, 1..200)
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum State {
        Waiting,
        Flying,
        Confirmed,
    }

    proptest! {
        /// Against a list of states in which everything is looked up the slow way.
        #[test]
        fn it_is_what_a_plain_list_of_states_is(start in 0..1000_u64, steps in steps()) {
            let mut window = Window::new(start);
            let mut states: Vec<State> = Vec::new();
            let mut head = start;
            for step in steps {
                match step {
                    Step::Extend(count) => {
                        window.extend(count);
                        states.extend((0..count).map(|_| State::Waiting));
                    }
                    Step::Publish => {
                        let first = states.iter().position(|state| *state == State::Waiting);
                        let position = first.map(|place| start + place as u64);
                        prop_assert_eq!(window.first_waiting(), position);
                        if let (Some(place), Some(position)) = (first, position) {
                            window.published(position);
                            states[place] = State::Flying;
                        }
                    }
                    Step::Confirm(place) | Step::Refuse(place) => {
                        let becomes = if matches!(step, Step::Confirm(_)) {
                            prop_assert_eq!(
                                window.confirm(start + place as u64),
                                states.get(place) == Some(&State::Flying)
                            );
                            State::Confirmed
                        } else {
                            prop_assert_eq!(
                                window.refuse(start + place as u64),
                                states.get(place) == Some(&State::Flying)
                            );
                            State::Waiting
                        };
                        if let Some(state) = states.get_mut(place)
                            && *state == State::Flying
                        {
                            *state = becomes;
                        }
                    }
                    Step::LoseSight => {
                        let flying = states.iter().filter(|state| **state == State::Flying);
                        prop_assert_eq!(window.lose_sight(), flying.count() as u64);
                        for state in &mut states {
                            if *state == State::Flying {
                                *state = State::Waiting;
                            }
                        }
                    }
                }
                let confirmed = states.iter().take_while(|state| **state == State::Confirmed);
                let now = start + confirmed.count() as u64;
                prop_assert_eq!(window.head(), now);
                prop_assert!(now >= head, "the head went back");
                head = now;
                prop_assert_eq!(window.end(), start + states.len() as u64);
                let flying = states.iter().filter(|state| **state == State::Flying);
                prop_assert_eq!(window.in_flight(), flying.count() as u64);
            }
        }
    }
}
