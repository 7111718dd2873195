//! The doctor on machines that are made up of files: a sound one, on which nothing is found, and
//! for each finding the one change that brings it about, and nothing else.

use std::fs;
use std::path::Path;

use annulus_lab::doctor::{self, Finding, Patient, Severity};
use annulus_lab::machine;
use annulus_lab::system::System;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const CPU: &str = "sys/devices/system/cpu";
const PAGES: &str = "sys/kernel/mm/transparent_hugepage";

struct Machine {
    root: TempDir,
    cpus: Vec<usize>,
    shm_bytes: Option<u64>,
    /// `/proc/stat` at the second look.
    later: String,
}

impl Machine {
    /// Four cores of two threads; nothing is wrong with it.
    fn sound() -> Self {
        let machine = Self {
            root: tempfile::tempdir().expect("a folder"),
            cpus: vec![0, 1],
            shm_bytes: Some(4096 * MIB),
            later: stat(1, [[100, 20, 0], [100, 20, 0]]),
        };
        for cpu in 0..8 {
            let cpu_folder = format!("{CPU}/cpu{cpu}");
            let siblings = format!("{},{}\n", cpu % 4, cpu % 4 + 4);
            machine.write(
                &format!("{cpu_folder}/topology/thread_siblings_list"),
                &siblings,
            );
            machine.write(
                &format!("{cpu_folder}/cpufreq/scaling_governor"),
                "performance\n",
            );
            for (state, latency, disable) in [(0, 0, 0), (1, 2, 0), (2, 170, 1)] {
                let state = format!("{cpu_folder}/cpuidle/state{state}");
                machine.write(&format!("{state}/latency"), &format!("{latency}\n"));
                machine.write(&format!("{state}/disable"), &format!("{disable}\n"));
            }
        }
        machine.write(&format!("{CPU}/intel_pstate/no_turbo"), "1\n");
        machine.write(&format!("{CPU}/isolated"), "0-1\n");
        machine.write(&format!("{CPU}/vulnerabilities/meltdown"), "Not affected\n");
        let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        machine.write(clock, "tsc\n");
        machine.write("proc/self/cgroup", "0::/user.slice/bench.scope\n");
        machine.write(
            "sys/fs/cgroup/user.slice/bench.scope/cpu.max",
            "max 100000\n",
        );
        machine.write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
        machine.write(&format!("{PAGES}/enabled"), "always [madvise] never\n");
        machine.write(
            &format!("{PAGES}/shmem_enabled"),
            "always within_size advise [never] deny force\n",
        );
        machine.write(
            "proc/self/mountinfo",
            &mounts("rw,size=8388608k,huge=always"),
        );
        machine.write("proc/meminfo", &huge_pages(7));
        machine.write("proc/swaps", "Filename Type Size Used Priority\n");
        machine.write("proc/loadavg", "0.04 0.10 0.20 1/114 4711\n");
        machine.write("proc/stat", &stat(1, [[100, 0, 0], [100, 0, 0]]));
        machine.write(
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: Sound 9000\nflags\t\t: fpu tsc\n",
        );
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, text).expect("a file");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.path().join(path)).expect("it was there");
    }

    fn examine(&self) -> Vec<Finding> {
        let later = || self.write("proc/stat", &self.later);
        Patient {
            system: System::at(self.root.path()),
            cpus: &self.cpus,
            shm_bytes: self.shm_bytes,
            meanwhile: &later,
        }
        .examine()
    }

    /// The one thing that is wrong.
    fn finding(&self) -> Finding {
        let findings = self.examine();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.into_iter().next().expect("one")
    }

    fn is_sound(&self) {
        assert_eq!(self.examine(), []);
    }
}

/// `/proc/stat` with busy, idle and stolen ticks of the processors 0 and 1; the sums, and processor
/// 6, which nobody asks for, have other figures. Those between are offline.
fn stat(runnable: u32, ticks: [[u32; 3]; 2]) -> String {
    let mut text = "cpu  999 0 9 9 0 0 0 999 0 0\n".to_owned();
    for (cpu, [busy, idle, stolen]) in ticks.iter().enumerate() {
        let (user, system) = (busy / 2, busy - busy / 2);
        text += &format!("cpu{cpu} {user} 0 {system} {idle} 0 0 0 {stolen} 7 0\n");
    }
    text += &format!("cpu6 {0} 0 0 0 0 0 0 {0} 0 0\n", ticks[0][0] * ticks[0][1]);
    text + &format!("intr 12345\nctxt 1\nbtime 2\nprocs_running {runnable}\nprocs_blocked 0\n")
}

fn mounts(options: &str) -> String {
    format!(
        "22 21 0:20 / / rw,relatime - ext4 /dev/vda rw\n\
         25 24 0:23 / /dev/shm rw,relatime - tmpfs tmpfs rw,size=64k\n\
         30 25 0:27 / /dev/shm rw,relatime shared:4 - tmpfs tmpfs {options}\n\
         31 25 0:28 / /run rw,relatime - tmpfs tmpfs rw\n"
    )
}

fn huge_pages(free: u32) -> String {
    format!("MemTotal: 16 kB\nHugePages_Total:       8\nHugePages_Free:   {free:5}\n")
}

fn says(finding: &Finding, severity: Severity, what: &str, remedy: &str) {
    assert_eq!(finding.severity, severity, "{finding:?}");
    assert!(finding.what.contains(what), "'{what}' in {finding:?}");
    assert!(finding.remedy.contains(remedy), "'{remedy}' in {finding:?}");
}

#[test]
fn nothing_is_found_on_a_sound_machine_nor_on_one_that_tells_nothing() {
    Machine::sound().is_sound();
    let mute = Machine {
        root: tempfile::tempdir().expect("a folder"),
        ..Machine::sound()
    };
    assert_eq!(mute.examine(), []);
}

#[test]
fn one_processor() {
    let machine = Machine {
        cpus: vec![1],
        ..Machine::sound()
    };
    says(
        &machine.finding(),
        Severity::Spoils,
        "one processor only: CPU 1",
        "--cpus",
    );
}

#[test]
fn siblings() {
    let machine = Machine {
        cpus: vec![1, 3, 5, 7],
        ..Machine::sound()
    };
    machine.write(&format!("{CPU}/isolated"), "0-7\n");
    says(
        &machine.finding(),
        Severity::Spoils,
        "processors: 1,5 and 3,7",
        "lscpu",
    );
}

#[test]
fn a_governor_that_saves() {
    let machine = Machine::sound();
    machine.write(
        &format!("{CPU}/cpu7/cpufreq/scaling_governor"),
        "powersave\n",
    );
    machine.is_sound();
    machine.write(
        &format!("{CPU}/cpu1/cpufreq/scaling_governor"),
        "powersave\n",
    );
    says(
        &machine.finding(),
        Severity::Disturbs,
        "governor is powersave",
        "cpupower",
    );
}

#[test]
fn turbo_by_both_drivers() {
    let machine = Machine::sound();
    machine.write(&format!("{CPU}/intel_pstate/no_turbo"), "0\n");
    says(
        &machine.finding(),
        Severity::Disturbs,
        "turbo",
        "echo 1 > /sys/devices/system/cpu/intel",
    );
    machine.remove(&format!("{CPU}/intel_pstate/no_turbo"));
    machine.write(&format!("{CPU}/cpufreq/boost"), "0\n");
    machine.is_sound();
    machine.write(&format!("{CPU}/cpufreq/boost"), "1\n");
    says(
        &machine.finding(),
        Severity::Disturbs,
        "turbo",
        "echo 0 > /sys/devices/system/cpu/cpufreq",
    );
}

#[test]
fn deep_sleep() {
    let machine = Machine::sound();
    machine.write(&format!("{CPU}/cpu0/cpuidle/state2/disable"), "0\n");
    says(
        &machine.finding(),
        Severity::Disturbs,
        "170 µs to wake",
        "cpupower idle-set",
    );
}

#[test]
fn a_slow_clock() {
    let machine = Machine::sound();
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    machine.write(path, "arch_sys_counter\n");
    machine.is_sound();
    machine.write(path, "hpet\n");
    says(
        &machine.finding(),
        Severity::Disturbs,
        "the clock is hpet",
        "echo tsc",
    );
}

#[test]
fn a_quota_of_the_group_above_by_cgroups_2() {
    let machine = Machine::sound();
    machine.write("sys/fs/cgroup/user.slice/cpu.max", "200000 100000\n");
    machine.is_sound();
    machine.write("sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    let finding = machine.finding();
    says(
        &finding,
        Severity::Spoils,
        "150000 µs of processor time in each 100000 µs",
        "CPUQuota",
    );
}

#[test]
fn a_quota_by_cgroups_1() {
    let machine = Machine::sound();
    machine.write(
        "proc/self/cgroup",
        "8:pids:/x\n4:cpu,cpuacct:/docker/4711\n0::/\n",
    );
    let folder = "sys/fs/cgroup/cpu,cpuacct/docker/4711";
    machine.write(&format!("{folder}/cpu.cfs_period_us"), "100000\n");
    machine.write(&format!("{folder}/cpu.cfs_quota_us"), "-1\n");
    machine.is_sound();
    machine.write(&format!("{folder}/cpu.cfs_quota_us"), "50000\n");
    says(
        &machine.finding(),
        Severity::Spoils,
        "50000 µs",
        "docker run --cpus",
    );
}

#[test]
fn processors_that_are_not_isolated() {
    let machine = Machine::sound();
    machine.write(&format!("{CPU}/isolated"), "1-3\n");
    says(
        &machine.finding(),
        Severity::Note,
        "not isolated: CPU 0",
        "isolcpus=0-1",
    );
    machine.write(&format!("{CPU}/isolated"), "\n");
    says(
        &machine.finding(),
        Severity::Note,
        "not isolated: CPUs 0-1",
        "nohz_full=0-1",
    );
}

#[test]
fn mitigations() {
    let machine = Machine::sound();
    machine.write(&format!("{CPU}/vulnerabilities/mds"), "Vulnerable\n");
    machine.is_sound();
    machine.write(
        &format!("{CPU}/vulnerabilities/retbleed"),
        "Mitigation: untrained return\n",
    );
    says(
        &machine.finding(),
        Severity::Note,
        "active: retbleed",
        "compare",
    );
}

#[test]
fn a_small_shm_and_none() {
    let machine = Machine {
        shm_bytes: Some(64 * MIB),
        ..Machine::sound()
    };
    says(
        &machine.finding(),
        Severity::Disturbs,
        "64 MiB left",
        "--shm-size=1g",
    );
    let machine = Machine {
        shm_bytes: None,
        ..Machine::sound()
    };
    says(
        &machine.finding(),
        Severity::Spoils,
        "no /dev/shm",
        "mount -t tmpfs",
    );
    let machine = Machine {
        shm_bytes: Some(256 * MIB),
        ..Machine::sound()
    };
    machine.is_sound();
}

#[test]
fn small_pages_for_a_mapped_file() {
    let shmem = format!("{PAGES}/shmem_enabled");
    let machine = Machine::sound();
    machine.write("proc/self/mountinfo", &mounts("rw,size=8388608k"));
    says(
        &machine.finding(),
        Severity::Note,
        "huge=never",
        "remount,huge=always",
    );
    machine.write(&shmem, "always within_size advise never deny [force]\n");
    machine.is_sound();
    machine.write("proc/self/mountinfo", &mounts("rw,huge=within_size"));
    machine.write(&shmem, "always within_size advise never [deny] force\n");
    says(
        &machine.finding(),
        Severity::Note,
        "shmem_enabled is deny",
        "echo never",
    );
}

#[test]
fn no_huge_pages_set_aside() {
    let machine = Machine::sound();
    machine.write("proc/meminfo", &huge_pages(10));
    machine.is_sound();
    machine.write("proc/meminfo", &huge_pages(0));
    says(
        &machine.finding(),
        Severity::Note,
        "no huge pages are set aside",
        "nr_hugepages",
    );
    // A kernel that was built without them.
    machine.write("proc/meminfo", "MemTotal: 16 kB\n");
    machine.is_sound();
}

#[test]
fn huge_pages_for_whoever_does_not_ask() {
    let machine = Machine::sound();
    machine.write(&format!("{PAGES}/enabled"), "[always] madvise never\n");
    says(
        &machine.finding(),
        Severity::Disturbs,
        "transparent huge pages",
        "echo madvise",
    );
}

#[test]
fn swap() {
    let machine = Machine::sound();
    let swaps = "Filename Type Size Used Priority\n/dev/sda2  partition 1024 0 -2\n";
    machine.write("proc/swaps", swaps);
    says(
        &machine.finding(),
        Severity::Note,
        "swap is on: /dev/sda2",
        "swapoff",
    );
}

#[test]
fn a_busy_processor_a_runnable_task_and_a_load() {
    let busy = stat(1, [[110, 10, 0], [100, 20, 0]]);
    let machine = Machine {
        later: busy,
        ..Machine::sound()
    };
    says(
        &machine.finding(),
        Severity::Disturbs,
        "busy for 25 % of a moment, 0 other",
        "top",
    );

    let two = [[100, 20, 0], [100, 20, 0]];
    let machine = Machine {
        later: stat(3, two),
        ..Machine::sound()
    };
    machine.is_sound();
    machine.write("proc/stat", &stat(2, [[100, 0, 0], [100, 0, 0]]));
    says(
        &machine.finding(),
        Severity::Disturbs,
        "1 other tasks runnable",
        "top",
    );

    let machine = Machine::sound();
    machine.write("proc/loadavg", "2.50 1.00 0.50 1/114 4711\n");
    says(
        &machine.finding(),
        Severity::Note,
        "load of the last minute 2.50",
        "top",
    );
}

#[test]
fn time_that_the_host_took_and_a_virtual_machine() {
    let later = stat(1, [[100, 19, 1], [100, 20, 0]]);
    let machine = Machine {
        later,
        ..Machine::sound()
    };
    says(
        &machine.finding(),
        Severity::Disturbs,
        "took 2.50 % of the time of CPUs 0-1",
        "machine",
    );
    let flags = "processor : 0\nflags : fpu hypervisor tsc\n";
    machine.write("proc/cpuinfo", flags);
    machine.write("proc/stat", &stat(1, [[100, 0, 0], [100, 0, 0]]));
    says(&machine.finding(), Severity::Disturbs, "took", "machine");
    let machine = Machine::sound();
    machine.write("proc/cpuinfo", flags);
    says(
        &machine.finding(),
        Severity::Note,
        "virtual machine",
        "ratios",
    );
}

#[test]
fn the_worst_stands_first_and_a_report_is_not_bothered_with_notes() {
    let machine = Machine {
        cpus: vec![0],
        shm_bytes: Some(MIB),
        ..Machine::sound()
    };
    machine.write("proc/swaps", "Filename\n/swap\n");
    let findings = machine.examine();
    let severities: Vec<_> = findings.iter().map(|finding| finding.severity).collect();
    assert_eq!(
        severities,
        [Severity::Spoils, Severity::Disturbs, Severity::Note]
    );
    assert_eq!(
        doctor::warnings(&findings),
        [findings[0].what.clone(), findings[1].what.clone()]
    );
    let text = doctor::render(&findings);
    assert!(
        text.starts_with("spoils    there is one processor only"),
        "{text}"
    );
    assert!(
        text.contains("\n          remedy: `swapoff --all`\n"),
        "{text}"
    );
    assert!(
        text.ends_with("1 spoil figures, 1 disturb them, 1 to know.\n"),
        "{text}"
    );
    assert_eq!(
        doctor::render(&[]),
        "Nothing was found that spoils a measurement.\n"
    );
}

#[test]
fn a_machine_is_described_by_its_files() {
    let sound = Machine::sound();
    sound.write(
        "proc/self/status",
        "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-2,5\n",
    );
    sound.write("proc/sys/kernel/osrelease", "6.12.48\n");
    sound.write(
        &format!("{CPU}/cpu5/cpufreq/scaling_governor"),
        "schedutil\n",
    );
    let system = System::at(sound.root.path());
    let machine = machine::describe_in(&system, "0.1.0".to_owned(), vec![]);
    assert_eq!(machine.cpu, "Sound 9000");
    assert_eq!(machine.cpus, [0, 1, 2, 5]);
    assert_eq!(machine.kernel, "6.12.48");
    assert_eq!(machine.governor.as_deref(), Some("performance, schedutil"));

    sound.write(
        "proc/cpuinfo",
        "processor : 0\nCPU implementer : 0x41\nCPU part : 0xd40\n",
    );
    let system = System::at(Path::new(sound.root.path()));
    let machine = machine::describe_in(&system, "0.1.0".to_owned(), vec![]);
    assert_eq!(machine.cpu, "implementer 0x41, part 0xd40");
}

/// Nothing is known of the machine that this runs on, but that it has these.
#[test]
fn this_machine_is_described_and_examined() {
    let machine = machine::describe("0.1.0".to_owned(), vec![]);
    assert!(
        !machine.cpus.is_empty() && machine.kernel != "unknown",
        "{machine:?}"
    );
    assert!(
        machine.clock_ns > 0.1 && machine.clock_ns < 100_000.0,
        "{machine:?}"
    );
    let findings = doctor::examine(&machine.cpus[..1]);
    assert!(
        findings
            .iter()
            .any(|finding| finding.what.contains("one processor only"))
    );
}
