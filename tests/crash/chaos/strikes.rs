//! How a blow is dealt, and what is done about it until it is over.
//!
//! A worker is at large, aimed at, standing still, or dying: see [`State`]. Only who is at large is
//! struck. One of each side is spared at a time, so that it can be seen to wait.

use std::time::{Duration, Instant};

use super::super::log::{Step, Word};
use super::super::system::{self, Event};
use super::blows::{At, Blow, Kind, Side};
use super::crew::{Aim, Life, Seat, State};
use super::director::Director;

/// How long a blow may look for its moment.
const BUDGET: Duration = Duration::from_millis(40);
/// How long one worker of each side is spared.
const SPARED: Duration = Duration::from_secs(3);

/// A tick that comes so late was kept from coming by the machine.
const STALL: Duration = Duration::from_millis(50);

impl Director {
    /// Seats of this side are spared in turn.
    fn spared(&self, side: Side) -> usize {
        let seats = self.of_side(side);
        let turn = self.began.elapsed().as_millis() / SPARED.as_millis();
        seats[usize::try_from(turn).expect("it fits") % seats.len()]
    }

    fn of_side(&self, side: Side) -> Vec<usize> {
        let seats = self.seats.iter().enumerate();
        seats
            .filter(|(_, seat)| seat.side == side)
            .map(|(index, _)| index)
            .collect()
    }

    /// Picks a worker of a side, if one is at large that may be struck.
    fn victim(&self, side: Side, whom: u64) -> Option<usize> {
        let spared = self.spared(side);
        let mut seats = self.of_side(side);
        seats.retain(|index| *index != spared && self.seats[*index].is_at_large());
        let count = seats.len() as u64;
        let which = whom.checked_rem(count)?;
        Some(seats[usize::try_from(which).expect("it fits")])
    }

    pub(super) fn strike(&mut self, blow: Blow) {
        self.last_blows.truncate(15);
        self.last_blows.push_front(blow);
        if blow.at == At::In(Step::Recovering) {
            // So that there is something to recover.
            let other = Side::BOTH[usize::from(blow.side == Side::Producer)];
            if let Some(index) = self.victim(other, blow.whom) {
                self.sequels.push((index, blow));
                self.kill(index);
            }
            return;
        }
        let Some(index) = self.victim(blow.side, blow.whom) else {
            return;
        };
        match (blow.kind, blow.at) {
            (Kind::Kill, At::Birth) => {
                self.stillborn.push(index);
                self.kill(index);
            }
            (Kind::Kill, At::Anywhere) => self.kill(index),
            _ => self.aim(index, blow),
        }
    }

    fn kill(&mut self, index: usize) {
        if self.last_tick.elapsed() > STALL {
            // Blows come between two looks, and a fork among them may have taken long.
            self.note_stall();
        }
        let seat = &mut self.seats[index];
        let wait = seat.unfinished_wait(&self.board);
        self.verdict.note_wait(seat.side, wait);
        let stood_still = matches!(seat.state, State::Stopped(_));
        seat.kill(stood_still);
    }

    fn aim(&mut self, index: usize, blow: Blow) {
        let image = (blow.kind == Kind::Exec).then(|| {
            let number = self.verdict.next_numbers(1);
            Life::new(&self.ring, blow.side, number)
        });
        let seat = &mut self.seats[index];
        let threads = seat.lives.len() as u64;
        let thread = usize::try_from((blow.whom >> 32) % threads).expect("it fits");
        let log = &seat.lives[thread].log;
        let dealt = log.get(Word::Rounds);
        if let Some(image) = &image {
            log.set(Word::SecondAnswer, image.number);
        }
        match blow.at {
            At::In(step) => log.aim_blow(step, blow.kind.number(), blow.within),
            At::Anywhere => system::signal(seat.pid, libc::SIGSTOP),
            At::Asleep | At::Birth => {}
        }
        let until = Instant::now() + BUDGET;
        seat.state = State::Aimed(Aim {
            blow,
            thread,
            until,
            dealt,
            image,
        });
    }

    pub(super) fn fill(&mut self, index: usize) {
        let number = self.verdict.next_numbers(self.seats[index].threads as u64);
        let seed = self.round_seed ^ (index as u64) << 32;
        self.seats[index].fill(&self.ring, &self.board, seed, number);
        self.verdict.figures.births += 1;
        if let Some(at) = self.stillborn.iter().position(|doomed| *doomed == index) {
            self.stillborn.swap_remove(at);
            self.kill(index);
        }
    }

    /// Looks at everything once.
    pub(super) fn tick(&mut self) {
        let unseen = self.note_stall();
        let mut excused = unseen > STALL;
        while let Some((pid, event)) = system::next_event() {
            if event == Event::Stopped && !excused {
                self.board.excuse_also(unseen);
                excused = true;
            }
            let mut seats = self.seats.iter();
            let seat = seats.position(|seat| seat.pid == pid && !seat.is_empty());
            match (seat, event) {
                (Some(index), Event::Stopped) => self.has_stopped(index),
                (Some(index), Event::Killed(nix::sys::signal::SIGKILL)) => {
                    self.has_ended(index, true);
                }
                (Some(index), Event::Exited(0)) => self.has_ended(index, false),
                (Some(index), _) => {
                    let seat = &self.seats[index];
                    panic!("a worker ended by itself: {event:?}, {seat:?}");
                }
                (None, _) => self.verdict.orphan_has_ended(pid, event),
            }
        }
        for index in 0..self.seats.len() {
            self.look_after(index);
        }
        self.verdict.check_bounds(&mut self.seats, &self.board);
        self.board.excuse(self.seats.iter().any(Seat::obstructs));
        self.board.note_look();
    }

    /// Excuses the time since the last look if it was long, and says how long that was.
    fn note_stall(&mut self) -> Duration {
        let unseen = self.last_tick.elapsed();
        self.last_tick = Instant::now();
        if unseen > STALL {
            self.board.excuse_also(unseen);
            self.verdict.figures.stalls += unseen;
        }
        unseen
    }

    fn has_stopped(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let is_meant = match &seat.state {
            State::Aimed(Aim { blow, thread, .. }) if blow.kind.is_stop() => match blow.at {
                At::In(step) => seat.lives[*thread].log.is_hit_in(step),
                _ => true,
            },
            State::Aimed(_) | State::AtLarge => false,
            State::Stopped(_) | State::Dying { .. } | State::Empty => return,
        };
        if is_meant {
            self.verdict.begin_stop(&mut self.seats, index, &self.board);
        } else {
            // It had left the step and comes by again, or it was given up.
            system::signal(seat.pid, libc::SIGCONT);
        }
    }

    fn has_ended(&mut self, index: usize, killed: bool) {
        self.verdict
            .bury(&mut self.seats[index], killed, &self.board);
        if let Some(at) = self.sequels.iter().position(|(seat, _)| *seat == index) {
            let (_, blow) = self.sequels.swap_remove(at);
            if let Some(recoverer) = self.victim(blow.side, blow.whom) {
                self.aim(recoverer, blow);
            }
        }
        // One that was killed while the ring was drained may have held something.
        if killed || !self.finishing {
            self.fill(index);
        }
    }

    /// Whatever is due of a worker that is aimed at or stands still.
    fn look_after(&mut self, index: usize) {
        let is_spared = self.spared(self.seats[index].side) == index;
        let seat = &mut self.seats[index];
        let now = Instant::now();
        let mut is_due = false;
        match &seat.state {
            State::Aimed(aim) => {
                is_due = now >= aim.until;
                let has_dealt = seat.lives[aim.thread].log.get(Word::Rounds) > aim.dealt;
                match (aim.blow.kind, aim.blow.at) {
                    (Kind::Exec, _) if aim.has_arrived() => {
                        return self.verdict.execute(seat, &self.board);
                    }
                    (Kind::Panic | Kind::Fork, _) if has_dealt => {
                        return self.verdict.note_dealt(seat);
                    }
                    (_, At::Asleep) if seat.is_asleep(aim.thread) => {
                        self.verdict.hits.note_asleep(seat.side);
                        return self.kill(index);
                    }
                    _ => {}
                }
            }
            State::Stopped(stop) => is_due = now >= stop.until || is_spared || self.finishing,
            _ => {}
        }
        if is_due {
            self.is_over(index);
        }
    }

    /// A stop has lasted for its time, or a blow has not found its moment.
    fn is_over(&mut self, index: usize) {
        let seat = &mut self.seats[index];
        let kills = match &seat.state {
            State::Stopped(stop) => {
                let kills = stop.aim.blow.kind == Kind::StopAndKill;
                self.verdict.end_stop(seat, kills, &self.board);
                kills
            }
            // What was to execute or to die may be about to: only its death makes sure.
            State::Aimed(aim) => {
                matches!(aim.blow.kind, Kind::Kill | Kind::Exec | Kind::ForkAndDie)
            }
            _ => false,
        };
        if kills {
            self.seats[index].hold_fire();
            self.kill(index);
        } else {
            let seat = &mut self.seats[index];
            seat.hold_fire();
            seat.state = State::AtLarge;
        }
    }
}
