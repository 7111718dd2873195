//! The process from which all racers are forked, and that judges them.
//!
//! It is this binary once more, so that it is small, has a single thread at work, and can be made
//! to live in a world without `O_TMPFILE`: a seccomp filter, which its children inherit, has the
//! kernel answer such an `openat` as a file system answers that cannot do it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};

use super::race::Campaign;

const WAY: &str = "ANNULUS_BIRTH_WAY";
const RACES: &str = "ANNULUS_BIRTH_RACES";

/// How the file comes to its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `O_TMPFILE` and a link.
    Unnamed,
    /// A private name, a link, and the private name removed.
    PrivateName,
}

/// Starts a zygote and passes its verdict on.
pub(crate) fn run(way: Way) {
    let program = std::env::current_exe().expect("this binary");
    let mut zygote = Command::new(program);
    zygote.args(["role", "--exact", "--nocapture", "--test-threads=1"]);
    zygote.env(WAY, format!("{way:?}"));
    let output = zygote.output().expect("start the zygote");
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    println!("{told}{complained}");
    assert!(output.status.success(), "{way:?}: {complained}");
    assert!(told.contains(" races"), "the zygote did nothing: {told}");
}

/// The zygote's life, if this process is one.
pub(crate) fn play() {
    let Ok(way) = std::env::var(WAY) else { return };
    set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
    let way = match way.as_str() {
        "Unnamed" => Way::Unnamed,
        "PrivateName" => {
            forbid_tmpfile();
            Way::PrivateName
        }
        other => panic!("no such way: {other}"),
    };
    let races = std::env::var(RACES).map_or(1000, |races| {
        races
            .parse()
            .unwrap_or_else(|_| panic!("{RACES} is `{races}`, expected a number"))
    });
    Campaign::new(way).run(races);
}

/// Forks a process that does `work`, exits, and never returns into the zygote's code.
pub(crate) fn fork_child(work: impl FnOnce()) -> Pid {
    // SAFETY: no other thread of the zygote does anything: it runs one test on one thread, and the
    // one that waits for it holds no lock.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_pdeathsig(Signal::SIGKILL).expect("any process may ask for this");
            let outcome = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends the process without running the zygote's destructors.
            unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) }
        }
    }
}

/// From here on `openat` with `O_TMPFILE` fails with `EOPNOTSUPP`, for this process and those that
/// it forks.
#[expect(
    clippy::cast_possible_truncation,
    reason = "constants of the kernel's interface, all of them small"
)]
fn forbid_tmpfile() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const TMPFILE: u32 = libc::O_TMPFILE as u32;
    let rule = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    // The lower half of the third argument of 8 bytes.
    let flags = std::mem::offset_of!(libc::seccomp_data, args) as u32 + 2 * 8;
    let mut rules = [
        rule(LOAD, 0, 0, number),
        rule(IF_EQUAL, 0, 4, libc::SYS_openat as u32),
        rule(LOAD, 0, 0, flags),
        rule(AND, 0, 0, TMPFILE),
        rule(IF_EQUAL, 0, 1, TMPFILE),
        rule(
            ANSWER,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32,
        ),
        rule(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: rules.len() as u16,
        filter: rules.as_mut_ptr(),
    };
    // SAFETY: five integers.
    let bound = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(bound, 0, "no new privileges");
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the filter and its rules outlive the call, which copies them.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    assert_eq!(set, 0, "a filter: {}", std::io::Error::last_os_error());
    let directory = std::env::temp_dir();
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_TMPFILE);
    let error = options.write(true).open(directory).expect_err("forbidden");
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}
