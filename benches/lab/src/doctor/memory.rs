//! What backs the rings.

use super::{Finding, Patient, Severity};
use crate::report::figures::number;

const PAGES: &str = "sys/kernel/mm/transparent_hugepage";
const MIB: u64 = 1 << 20;
/// Below this, great payloads and capacities are refused.
const ENOUGH: u64 = 256 * MIB;

pub(super) fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let checks = [
        small_shm,
        small_pages,
        none_set_aside,
        eager_huge_pages,
        swap,
    ];
    checks.iter().filter_map(|check| check(patient)).collect()
}

fn small_shm(patient: &Patient<'_>) -> Option<Finding> {
    let Some(free) = patient.shm_bytes else {
        return Some(Finding {
            what: "there is no /dev/shm".to_owned(),
            why: "the rings that are measured lie there: a disk's file system writes them back",
            remedy: "`mount -t tmpfs tmpfs /dev/shm`".to_owned(),
            severity: Severity::Spoils,
        });
    };
    (free < ENOUGH).then(|| Finding {
        what: format!("/dev/shm has {:.0} MiB left", number(free) / number(MIB)),
        why: "great payloads and capacities do not fit and are left out",
        remedy: "`mount -o remount,size=1G /dev/shm`, `docker run --shm-size=1g`".to_owned(),
        severity: Severity::Disturbs,
    })
}

/// A tmpfs has a setting of its own, which the system's `deny` and `force` overrule.
fn small_pages(patient: &Patient<'_>) -> Option<Finding> {
    let all = patient.system.chosen(&format!("{PAGES}/shmem_enabled"))?;
    let mounts = patient
        .system
        .read("proc/self/mountinfo")
        .unwrap_or_default();
    let of_shm = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some("/dev/shm"));
    let option = of_shm
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|options| {
            options
                .split(',')
                .find_map(|option| option.strip_prefix("huge="))
        })
        .unwrap_or("never");
    let has_huge = match all.as_str() {
        "deny" => false,
        "force" => true,
        _ => option != "never",
    };
    (!has_huge).then(|| Finding {
        what: format!("/dev/shm has no huge pages: huge={option}, shmem_enabled is {all}"),
        why: "a ring of many megabytes misses the translation cache at every page of 4 KiB",
        remedy: if all == "deny" {
            format!("`echo never > /{PAGES}/shmem_enabled`, then a mount with `huge=always`")
        } else {
            "`mount -o remount,huge=always /dev/shm`".to_owned()
        },
        severity: Severity::Note,
    })
}

/// Pages of hugetlbfs, which are nobody else's and never made while somebody waits.
fn none_set_aside(patient: &Patient<'_>) -> Option<Finding> {
    let memory = patient.system.read("proc/meminfo")?;
    let free = memory
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"))?;
    (free.trim() == "0").then(|| Finding {
        what: "no huge pages are set aside, or all are taken".to_owned(),
        why: "`--backing huge` has nothing to lie in, and is refused",
        remedy: "`echo 64 > /proc/sys/vm/nr_hugepages`: 128 MiB of pages of 2 MiB".to_owned(),
        severity: Severity::Note,
    })
}

fn eager_huge_pages(patient: &Patient<'_>) -> Option<Finding> {
    let path = format!("{PAGES}/enabled");
    (patient.system.chosen(&path)? == "always").then(|| Finding {
        what: "transparent huge pages are given to whoever does not ask".to_owned(),
        why: "the kernel moves memory around while slices run, and what lives on the heap has \
              huge pages where a mapped file has none",
        remedy: format!("`echo madvise > /{path}`"),
        severity: Severity::Disturbs,
    })
}

fn swap(patient: &Patient<'_>) -> Option<Finding> {
    let swaps = patient.system.read("proc/swaps")?;
    let names: Vec<_> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    (!names.is_empty()).then(|| Finding {
        what: format!("swap is on: {}", names.join(", ")),
        why: "pages of a ring that nobody touched for a while may be on a disk",
        remedy: "`swapoff --all`".to_owned(),
        severity: Severity::Note,
    })
}
