//! Rounds with contenders that follow a script: no process is started.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::transport::Place;
use crate::work::{Pattern, Waiting};

type Log = Rc<RefCell<Vec<String>>>;

/// Takes what the script says, and its last time over and over.
struct Scripted {
    name: &'static str,
    script: RefCell<VecDeque<Result<f64, Fault>>>,
    log: Log,
}

impl Contender for Scripted {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn run(&self, _: &Work, _: &Conditions) -> Result<Found, Fault> {
        self.log.borrow_mut().push(self.name.to_owned());
        let mut script = self.script.borrow_mut();
        let next = if script.len() > 1 {
            script.pop_front()
        } else {
            script.front().cloned()
        };
        next.expect("a script is never empty").map(|ns| Found {
            ns,
            records: 1,
            lost: 0,
            repeated: 0,
            latency: None,
        })
    }
}

fn scripted(name: &'static str, script: &[f64], log: &Log) -> Box<dyn Contender> {
    failing(name, script.iter().copied().map(Ok).collect(), log)
}

fn failing(
    name: &'static str,
    script: VecDeque<Result<f64, Fault>>,
    log: &Log,
) -> Box<dyn Contender> {
    let (script, log) = (RefCell::new(script), log.clone());
    Box::new(Scripted { name, script, log })
}

fn bench_of(floor: Box<dyn Contender>, contenders: Vec<Box<dyn Contender>>) -> Bench {
    let work = Work {
        pattern: Pattern::Stream,
        payload: 8,
        batch: 1,
        capacity: 16,
        waiting: Waiting::Spin,
        producers: 1,
        consumers: 1,
    };
    let floor = Floor {
        words: String::new(),
        contender: floor,
        work,
    };
    Bench {
        name: "scripted".to_owned(),
        title: String::new(),
        work,
        floor,
        contenders,
    }
}

fn many(rounds: u32) -> Rounds {
    let conditions = Conditions {
        cpus: vec![0],
        warm_up: Duration::ZERO,
        time: Duration::ZERO,
        folder: PathBuf::new(),
    };
    Rounds {
        rounds,
        slice: conditions.clone(),
        floor: conditions,
    }
}

fn rounds_of(floor: Box<dyn Contender>, contenders: Vec<Box<dyn Contender>>, n: u32) -> Scenario {
    let all = run(&bench_of(floor, contenders), &many(n), &mut |_| {
        ControlFlow::Continue(())
    });
    all.expect("the floor is in its script")
}

#[test]
fn each_round_begins_with_another_one_and_a_floor_is_on_both_sides() {
    let log = Log::default();
    let contenders = ["a", "b", "c"].map(|name| scripted(name, &[1.0], &log));
    let scenario = rounds_of(scripted("|", &[1.0], &log), contenders.into(), 3);
    assert_eq!(log.borrow().concat(), "|a|b|c|b|c|a|c|a|b|");
    assert_eq!(scenario.floor_ns.len(), 10);
    assert!(scenario.rows.iter().all(|row| row.slices.len() == 3));
}

#[test]
fn a_slice_is_held_against_the_floors_beside_it() {
    let log = Log::default();
    let floor = scripted("|", &[10.0, 12.0, 10.0], &log);
    let scenario = rounds_of(floor, vec![scripted("a", &[22.0, 11.0], &log)], 2);
    let [first, second] = scenario.rows[0].slices[..] else {
        panic!("two slices: {:?}", scenario.rows)
    };
    assert_eq!((first.floor_ns, first.ratio()), ([10.0, 12.0], 2.0));
    assert_eq!((second.floor_ns, second.ratio()), ([12.0, 10.0], 1.0));
}

#[test]
fn a_disturbed_slice_is_repeated_and_counted_once() {
    let log = Log::default();
    // It moves up, then down, both too far; the third time it stands still.
    let floor = scripted("|", &[10.0, 14.1, 10.0, 13.9], &log);
    let scenario = rounds_of(floor, vec![scripted("a", &[1.0, 2.0, 3.0], &log)], 1);
    assert_eq!(log.borrow().concat(), "|a|a|a|");
    let row = &scenario.rows[0];
    assert_eq!((row.slices.len(), row.left_out), (1, 0));
    assert_eq!(row.slices[0].ns, 3.0);
}

#[test]
fn a_floor_that_is_starved_on_both_sides_does_not_count() {
    let log = Log::default();
    // As if nothing had moved, far above what it was before.
    let floor = scripted("|", &[10.0, 10.0, 101.0, 101.0, 10.0, 10.0], &log);
    let scenario = rounds_of(
        floor,
        vec![scripted("a", &[1.0, 2.0, 3.0, 4.0, 5.0], &log)],
        2,
    );
    let ns: Vec<f64> = scenario.rows[0]
        .slices
        .iter()
        .map(|slice| slice.ns)
        .collect();
    // 2 moved up, 3 was starved, 4 moved down.
    assert_eq!(ns, [1.0, 5.0]);
}

#[test]
fn a_slice_that_stays_disturbed_is_left_out_and_said_so() {
    let log = Log::default();
    let floor = scripted("|", &[10.0, 15.0, 10.0, 15.0, 10.0, 10.0], &log);
    let scenario = rounds_of(floor, vec![scripted("a", &[1.0], &log)], 2);
    // Once and three times more, then the next round.
    assert_eq!(log.borrow().concat(), "|a|a|a|a|a|");
    let row = &scenario.rows[0];
    assert_eq!((row.slices.len(), row.left_out), (1, 1));
}

#[test]
fn a_contender_that_failed_keeps_what_it_had_and_has_no_more_turns() {
    let log = Log::default();
    let wedged = Fault::Wedged("not done: receiver 0".to_owned());
    let script = [Ok(1.0), Err(wedged), Ok(1.0)];
    let contenders = vec![
        failing("a", script.into_iter().collect(), &log),
        scripted("b", &[1.0], &log),
    ];
    let scenario = rounds_of(scripted("|", &[1.0], &log), contenders, 3);
    let [a, b] = &scenario.rows[..] else {
        panic!("two rows")
    };
    assert_eq!(a.slices.len(), 1);
    assert_eq!(a.failure.as_deref(), Some("wedged: not done: receiver 0"));
    assert_eq!((b.slices.len(), &b.failure), (3, &None));
    assert_eq!(log.borrow().concat(), "|a|b|b|a|b|");
}

#[test]
fn a_contender_that_breaks_is_not_held_against_a_floor() {
    let log = Log::default();
    let broken = Fault::Broken("a record was torn".to_owned());
    let contenders = vec![
        failing("a", [Err(broken)].into(), &log),
        scripted("b", &[1.0], &log),
    ];
    let scenario = rounds_of(scripted("|", &[1.0], &log), contenders, 1);
    let failure = scenario.rows[0].failure.as_deref();
    assert_eq!(failure, Some("a record was torn"));
    assert_eq!(log.borrow().concat(), "|a|b|");
}

#[test]
fn whoever_wedges_while_the_machine_is_disturbed_has_another_attempt() {
    let log = Log::default();
    let wedged = || Err(Fault::Wedged("not done: receiver 0".to_owned()));
    let floor = || scripted("|", &[10.0, 15.0, 10.0], &log);
    let once = failing("a", [wedged(), wedged(), Ok(1.0)].into(), &log);
    let scenario = rounds_of(floor(), vec![once], 1);
    let row = &scenario.rows[0];
    assert_eq!((row.slices.len(), row.left_out), (1, 0));
    assert_eq!(row.failure, None);
    assert_eq!(log.take().concat(), "|a|a|a|");

    // Never quiet, never done: that is no accident.
    let floor = scripted("|", &[10.0, 15.0, 10.0, 15.0, 10.0], &log);
    let scenario = rounds_of(floor, vec![failing("a", [wedged()].into(), &log)], 2);
    let failure = scenario.rows[0].failure.as_deref();
    assert_eq!(failure, Some("wedged: not done: receiver 0"));
    assert_eq!(log.borrow().concat(), "|a|a|a|a|");
}

#[test]
fn who_watches_can_break_off() {
    let log = Log::default();
    let contenders = vec![scripted("a", &[1.0], &log)];
    let bench = bench_of(scripted("|", &[1.0], &log), contenders);
    let mut steps = Vec::new();
    let mut watch = |step: &Step<'_>| {
        steps.push((step.done, step.total));
        if step.done == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let scenario = run(&bench, &many(9), &mut watch).expect("the floor is in its script");
    assert_eq!(scenario.rows[0].slices.len(), 2);
    assert_eq!(steps, [(0, 9), (1, 9), (2, 9)]);
}
