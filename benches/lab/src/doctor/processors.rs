//! Which processors, and how steadily they run.

use super::{Finding, Patient, Severity, named};
use crate::report::figures::cpus as show_cpus;

const CPUS: &str = "sys/devices/system/cpu";
/// Waking up from an idle state is no part of a hand-off if it takes longer than this.
const DEEP_US: u64 = 10;

pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let checks = [
        one_only,
        siblings,
        governor,
        turbo,
        deep_idle,
        clock,
        quota,
        not_isolated,
        mitigations,
    ];
    checks.iter().filter_map(|check| check(patient)).collect()
}

fn one_only(patient: &Patient<'_>) -> Option<Finding> {
    (patient.cpus.len() == 1).then(|| Finding {
        what: format!("there is one processor only: {}", named(patient.cpus)),
        why: "sender and receiver take turns, and every hand-off is a switch by the scheduler",
        remedy: "choose two cores with `--cpus`, or give this machine or container more".to_owned(),
        severity: Severity::Spoils,
    })
}

fn siblings(patient: &Patient<'_>) -> Option<Finding> {
    let groups = patient.cpus.iter().filter_map(|cpu| {
        let topology = format!("{CPUS}/cpu{cpu}/topology/thread_siblings_list");
        let mut siblings = patient.system.cpus(&topology)?;
        siblings.retain(|sibling| patient.cpus.contains(sibling));
        (siblings.len() > 1).then_some(siblings)
    });
    let mut groups: Vec<_> = groups.collect();
    groups.sort();
    groups.dedup();
    let shown: Vec<_> = groups.iter().map(|group| show_cpus(group)).collect();
    (!groups.is_empty()).then(|| Finding {
        what: format!(
            "siblings among the chosen processors: {}",
            shown.join(" and ")
        ),
        why: "two threads of one core share its first cache and its units: no line moves between \
              cores, and each slows the other down",
        remedy: "choose one of each core with `--cpus`; `lscpu --extended` shows which".to_owned(),
        severity: Severity::Spoils,
    })
}

fn governor(patient: &Patient<'_>) -> Option<Finding> {
    let mut governors = patient.system.governors(patient.cpus);
    governors.retain(|governor| governor != "performance");
    (!governors.is_empty()).then(|| Finding {
        what: format!("the frequency governor is {}", governors.join(", ")),
        why: "clock rates follow the load with a delay: the first slices are slower, and waiting \
              makes a processor slow",
        remedy: "`cpupower frequency-set --governor performance`".to_owned(),
        severity: Severity::Disturbs,
    })
}

fn turbo(patient: &Patient<'_>) -> Option<Finding> {
    let files = [("intel_pstate/no_turbo", 0, 1), ("cpufreq/boost", 1, 0)];
    files.into_iter().find_map(|(file, on, off)| {
        let path = format!("{CPUS}/{file}");
        (patient.system.number(&path)? == on).then(|| Finding {
            what: "turbo is on".to_owned(),
            why: "clock rates depend on the temperature and on what other cores do",
            remedy: format!("`echo {off} > /{path}`"),
            severity: Severity::Disturbs,
        })
    })
}

fn deep_idle(patient: &Patient<'_>) -> Option<Finding> {
    let latency = |cpu: &usize| {
        let folder = format!("{CPUS}/cpu{cpu}/cpuidle");
        let states = patient
            .system
            .names(&folder)
            .into_iter()
            .filter_map(|state| {
                let number =
                    |file: &str| patient.system.number(&format!("{folder}/{state}/{file}"));
                (number("disable") != Some(1)).then(|| number("latency"))?
            });
        states.max()
    };
    let deepest = patient.cpus.iter().filter_map(latency).max()?;
    (deepest > DEEP_US).then(|| Finding {
        what: format!("processors may sleep so deeply that they need {deepest} µs to wake"),
        why: "whoever blocks is charged for it; spinning is not touched",
        remedy: format!("`cpupower idle-set --disable-by-latency {DEEP_US}`"),
        severity: Severity::Disturbs,
    })
}

fn clock(patient: &Patient<'_>) -> Option<Finding> {
    let folder = "sys/devices/system/clocksource/clocksource0";
    let current = patient
        .system
        .read(&format!("{folder}/current_clocksource"))?;
    let is_fast = ["tsc", "arch_sys_counter"].contains(&current.as_str());
    (!is_fast).then(|| Finding {
        what: format!("the clock is {current}"),
        why: "reading it takes longer, often a system call, and latencies include that",
        remedy: format!(
            "`echo tsc > /{folder}/current_clocksource`, if the kernel trusts it (`dmesg`)"
        ),
        severity: Severity::Disturbs,
    })
}

/// Of both versions of cgroups: as many processors' time as the tightest group may use.
fn quota(patient: &Patient<'_>) -> Option<Finding> {
    let system = &patient.system;
    let groups = system.read("proc/self/cgroup")?;
    let mut tightest: Option<(u64, u64)> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "cpu") {
            continue;
        }
        let mount = if is_v2 {
            "sys/fs/cgroup".to_owned()
        } else {
            cpu_mount(controllers)
        };
        for folder in std::path::Path::new(path).ancestors() {
            let file = |name: &str| {
                let path = format!("{mount}/{}/{name}", folder.display());
                system.read(&path.replace("//", "/"))
            };
            let found = if is_v2 {
                file("cpu.max").and_then(|text| {
                    let (quota, period) = text.split_once(' ')?;
                    Some((quota.parse().ok()?, period.trim().parse().ok()?))
                })
            } else {
                let number = |name| file(name)?.parse::<u64>().ok();
                number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"))
            };
            let is_tighter = |(quota, period): (u64, u64)| {
                tightest.is_none_or(|(q, p)| quota.saturating_mul(p) < q.saturating_mul(period))
            };
            tightest = found.filter(|found| is_tighter(*found)).or(tightest);
        }
    }
    let (quota, period) = tightest?;
    let needed = period.saturating_mul(patient.cpus.len() as u64);
    (quota < needed).then(|| Finding {
        what: format!(
            "a cgroup grants {quota} µs of processor time in each {period} µs, to {} processors",
            patient.cpus.len()
        ),
        why: "when the time is used up, all players stand still until the next period",
        remedy: "run outside the container, or without its limit (`docker run --cpus`, a unit's \
                 CPUQuota)"
            .to_owned(),
        severity: Severity::Spoils,
    })
}

/// Where the first version of cgroups has these controllers.
fn cpu_mount(controllers: &str) -> String {
    format!("sys/fs/cgroup/{controllers}")
}

fn not_isolated(patient: &Patient<'_>) -> Option<Finding> {
    let isolated = patient.system.cpus(&format!("{CPUS}/isolated"))?;
    let open: Vec<_> = patient
        .cpus
        .iter()
        .copied()
        .filter(|cpu| !isolated.contains(cpu))
        .collect();
    let list = show_cpus(patient.cpus);
    (!open.is_empty()).then(|| Finding {
        what: format!("not isolated: {}", named(&open)),
        why: "the scheduler puts other tasks and timer ticks there, which the tail of a \
              distribution shows",
        remedy: format!("boot with `isolcpus={list} nohz_full={list} rcu_nocbs={list}`"),
        severity: Severity::Note,
    })
}

fn mitigations(patient: &Patient<'_>) -> Option<Finding> {
    let folder = format!("{CPUS}/vulnerabilities");
    let mut active = patient.system.names(&folder);
    active.retain(|name| {
        let state = patient
            .system
            .read(&format!("{folder}/{name}"))
            .unwrap_or_default();
        state.starts_with("Mitigation")
    });
    (!active.is_empty()).then(|| Finding {
        what: format!("mitigations are active: {}", active.join(", ")),
        why: "every entry into the kernel pays for them: pipes, sockets and whoever blocks",
        remedy: "compare with runs that have the same; this is how most machines run".to_owned(),
        severity: Severity::Note,
    })
}
