//! One tiny slice of each contender: says who works. The floor is measured once and no slice is
//! repeated, so that the figures say next to nothing.

use std::ops::ControlFlow;

use annulus_lab::result::{Row, Scenario, Slice};
use annulus_lab::slices::{Bench, Rounds, Step, Watch};
use annulus_lab::{Contender, Fault, Found};

/// Runs each contender of a scenario once, until `watch` has enough.
///
/// # Errors
///
/// [`Fault`] of the floor, as `slices::run`.
pub(crate) fn run(
    bench: &Bench,
    rounds: &Rounds,
    watch: &mut Watch<'_>,
) -> Result<Scenario, Fault> {
    let floor = &bench.floor;
    let floor_ns = floor.contender.run(&floor.work, &rounds.floor)?.ns;
    let total = u32::try_from(bench.contenders.len()).expect("a few contenders");
    let mut rows: Vec<Row> = bench
        .contenders
        .iter()
        .map(|contender| unmeasured(&**contender))
        .collect();
    for (done, contender) in (0..).zip(&bench.contenders) {
        let step = Step {
            scenario: &bench.name,
            contender: &contender.name(),
            done,
            total,
        };
        if watch(&step) == ControlFlow::Break(()) {
            break;
        }
        let row = &mut rows[done as usize];
        match contender.run(&bench.work, &rounds.slice) {
            Ok(found) => row.slices.push(slice(&found, floor_ns)),
            Err(fault) => row.failure = Some(fault.to_string()),
        }
    }
    Ok(scenario(bench, vec![floor_ns], rows))
}

fn slice(found: &Found, floor_ns: f64) -> Slice {
    Slice {
        ns: found.ns,
        floor_ns: [floor_ns; 2],
        records: found.records,
        lost: found.lost,
        repeated: found.repeated,
    }
}

/// A scenario of which nothing can be said, for its floor failed.
pub(crate) fn without_floor(bench: &Bench, fault: &Fault) -> Scenario {
    let why = format!("not measured, for the floor failed: {fault}");
    let mut rows = Vec::new();
    for contender in &bench.contenders {
        rows.push(Row {
            failure: Some(why.clone()),
            ..unmeasured(&**contender)
        });
    }
    scenario(bench, Vec::new(), rows)
}

fn scenario(bench: &Bench, floor_ns: Vec<f64>, rows: Vec<Row>) -> Scenario {
    Scenario {
        name: bench.name.clone(),
        title: bench.title.clone(),
        work: bench.work,
        floor: bench.floor.words.clone(),
        floor_ns,
        rows,
    }
}

fn unmeasured(contender: &dyn Contender) -> Row {
    Row {
        contender: contender.name(),
        place: contender.place(),
        slices: Vec::new(),
        left_out: 0,
        failure: None,
        latency: None,
    }
}
