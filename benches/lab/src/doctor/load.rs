//! Who else is at work: on this machine, and on the one below it.

use super::{Finding, Patient, Severity, named};
use crate::report::figures::{digits, number};
use crate::system::System;

/// Per cent of the chosen processors' time that may be somebody else's.
const BUSY_PERCENT: f64 = 5.0;
/// Tasks at work or waiting for it, averaged over a minute.
const LOAD: f64 = 1.0;

pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let before = Stat::read(&patient.system, patient.cpus);
    (patient.meanwhile)();
    let after = Stat::read(&patient.system, patient.cpus);
    let looks = before.zip(after);
    let load = looks
        .as_ref()
        .and_then(|(before, after)| others(patient, before, after));
    let stolen = looks
        .as_ref()
        .and_then(|(before, after)| stolen(patient, before, after));
    [load, stolen.or_else(|| is_virtual(patient))]
        .into_iter()
        .flatten()
        .collect()
}

/// What the chosen processors have done since the machine started, in ticks, and how many tasks
/// are runnable now.
struct Stat {
    busy: u64,
    stolen: u64,
    all: u64,
    runnable: u64,
}

impl Stat {
    fn read(system: &System, cpus: &[usize]) -> Option<Self> {
        let text = system.read("proc/stat")?;
        let mut stat = Self {
            busy: 0,
            stolen: 0,
            all: 0,
            runnable: 0,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            if name == "procs_running" {
                stat.runnable = words.next()?.parse().ok()?;
            }
            let cpu = name.strip_prefix("cpu").and_then(|cpu| cpu.parse().ok());
            if cpu.is_some_and(|cpu| cpus.contains(&cpu)) {
                // Guests' time, which follows, is part of the first two.
                let ticks: Vec<u64> = words.take(8).filter_map(|word| word.parse().ok()).collect();
                let [user, nice, system, idle, wait, irq, softirq, stolen] = ticks[..] else {
                    return None;
                };
                let busy = user + nice + system + irq + softirq;
                stat.busy += busy;
                stat.stolen += stolen;
                stat.all += busy + idle + wait + stolen;
            }
        }
        Some(stat)
    }
}

fn percent(part: u64, all: u64) -> f64 {
    if all == 0 {
        0.0
    } else {
        100.0 * number(part) / number(all)
    }
}

fn others(patient: &Patient<'_>, before: &Stat, after: &Stat) -> Option<Finding> {
    let busy = percent(
        after.busy.saturating_sub(before.busy),
        after.all.saturating_sub(before.all),
    );
    // Who looks is runnable himself.
    let runnable = before.runnable.min(after.runnable).saturating_sub(1);
    let load = patient.system.read("proc/loadavg");
    let load: f64 = load
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_default();
    let is_now = busy > BUSY_PERCENT || runnable > 0;
    (is_now || load > LOAD).then(|| Finding {
        what: format!(
            "others are at work: {} busy for {busy:.0} % of a moment, {runnable} other tasks \
             runnable, load of the last minute {}",
            named(patient.cpus),
            digits(load)
        ),
        why: "slices that they disturb are repeated or left out, and caches are shared with them",
        remedy: "`top` shows who; wait, stop them, or choose other processors with `--cpus`"
            .to_owned(),
        severity: if is_now {
            Severity::Disturbs
        } else {
            Severity::Note
        },
    })
}

fn stolen(patient: &Patient<'_>, before: &Stat, after: &Stat) -> Option<Finding> {
    let now = percent(
        after.stolen.saturating_sub(before.stolen),
        after.all.saturating_sub(before.all),
    );
    let ever = percent(after.stolen, after.all);
    (now > 0.0 || ever >= 0.5).then(|| Finding {
        what: format!(
            "the host took {} % of the time of {} in a moment, {} % since the start",
            digits(now),
            named(patient.cpus),
            digits(ever)
        ),
        why: "a virtual processor stands still in the middle of a hand-off, and no player can \
              tell why",
        remedy: "use a machine of your own, or one whose processors are not shared".to_owned(),
        severity: Severity::Disturbs,
    })
}

fn is_virtual(patient: &Patient<'_>) -> Option<Finding> {
    let flags = patient.system.field("proc/cpuinfo", "flags")?;
    flags
        .split(' ')
        .any(|flag| flag == "hypervisor")
        .then(|| Finding {
            what: "this is a virtual machine".to_owned(),
            why: "what its neighbours do to caches and clock rates shows nowhere",
            remedy: "trust ratios to the floor, not nanoseconds; compare runs of one machine only"
                .to_owned(),
            severity: Severity::Note,
        })
}
