//! Children that outlive an owner: what they keep of it, and what they do not.
//!
//! A child that has a copy of the memory, or another program, keeps nothing: the mapping is not in
//! it, and no descriptor that it has holds a lock. A child that *shares* the memory can still store
//! through the mapping, so while it lives the owner's claims are alive, whatever its pid says.

use std::ffi::{CString, c_int, c_void};
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use annulus::{TryClaimError, mpmc};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::part::say;
use super::peer::{Peer, state_of};
use super::scene::Scene;

/// Who opens it for writing lets a `vfork`ed child go on.
pub(crate) const FIFO: &str = "fifo";

/// Lives on until the test closes the standard input that the family shares. System calls alone:
/// it may run on memory that is not its own.
pub(crate) fn linger() -> ! {
    let mut input = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    loop {
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut input, 1, -1) };
        if input.revents & libc::POLLHUP != 0 {
            // SAFETY: ends this process.
            unsafe { libc::_exit(0) }
        }
    }
}

/// A child by the bare system call, of which no handler hears, with a copy of the memory. It sees
/// that the handles are not its own, also after it has made one in `own`.
pub(crate) fn clone_bare(flags: c_int, slots: &mpmc::Producer, own: impl FnOnce()) {
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: as `fork`, in a process whose only other thread waits in the harness.
    let made = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    if Errno::result(made).expect("clone") > 0 {
        return;
    }
    let before = slots.try_push(0, b"");
    own();
    let after = slots.try_push(0, b"");
    if [before, after] == [Err(TryClaimError::Forked); 2] {
        say(&format!("child {}", std::process::id()));
    } else {
        say(&format!("the parent's handle: {before:?}, then {after:?}"));
    }
    linger()
}

extern "C" fn linger_in_our_memory(_: *mut c_void) -> c_int {
    linger()
}

pub(crate) fn clone_with_our_memory() {
    let child = clone_onto_a_stack(libc::CLONE_VM, linger_in_our_memory, std::ptr::null_mut());
    say(&format!("child {child}"));
}

/// Its answer comes from the child, for this thread sleeps until that one executes `cat`.
pub(crate) fn vfork(fifo: &Path) {
    extern "C" fn execute(fifo: *mut c_void) -> c_int {
        // The parent sleeps meanwhile, so that its memory is ours.
        say(&format!("child {}", std::process::id()));
        // SAFETY: a path that ends in a zero, of the thread that sleeps.
        unsafe { libc::open(fifo.cast(), libc::O_RDONLY | libc::O_CLOEXEC) };
        let arguments = [c"cat".as_ptr(), std::ptr::null()];
        // SAFETY: a name, and a list of strings that ends in a null pointer.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        127
    }
    let fifo = CString::new(fifo.as_os_str().as_bytes()).expect("no zero within");
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    clone_onto_a_stack(flags, execute, fifo.as_ptr().cast_mut().cast());
}

fn clone_onto_a_stack(
    flags: c_int,
    body: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> i32 {
    const STACK_WORDS: usize = 1 << 15;
    let stack: &'static mut [u128] = vec![0_u128; STACK_WORDS].leak();
    let end = stack.as_mut_ptr_range().end;
    // SAFETY: a stack that nobody else uses, for ever; the body makes system calls alone, or runs
    // while this thread sleeps.
    let child = unsafe { libc::clone(body, end.cast(), flags | libc::SIGCHLD, argument) };
    Errno::result(child).expect("clone")
}

fn is_running(pid: Pid) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

/// The child that `order` makes outlives the owner, and keeps nothing of it.
fn keeps_nothing(order: &str) {
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let child = owner.ask_for_child(order);
    scene.keeps(&owner);
    scene.goes_on(&mut owner);
    scene.is_taken_back(order, || owner.kill());
    assert!(is_running(child), "it should outlive the owner");
}

#[test]
fn a_child_by_bare_clone_keeps_nothing() {
    keeps_nothing("clone");
}

#[test]
fn a_child_that_shares_the_file_table_keeps_nothing() {
    keeps_nothing("clone with our files");
}

#[test]
fn a_program_that_inherits_a_descriptor_of_the_file_keeps_nothing() {
    keeps_nothing("spawn");
}

#[test]
fn a_child_that_shares_the_memory_is_alive_for_its_parent() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let child = owner.ask_for_child("clone with our memory");
    scene.goes_on(&mut owner);
    owner.kill();
    owner.until_dead();
    scene.keeps(&owner);
    scene.is_taken_back("a child that shares the memory", || {
        let now = Instant::now();
        kill(child, Signal::SIGKILL).expect("it lives");
        now
    });
}

#[test]
fn a_child_by_vfork_is_alive_for_its_parent_until_it_executes() {
    let scene = Scene::new();
    let fifo = scene.directory().join(FIFO);
    mkfifo(&fifo, Mode::S_IRWXU).expect("a pipe with a name");
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    scene.goes_on(&mut owner);
    let child = owner.ask_for_child("vfork");
    scene.keeps(&owner);
    owner.kill();
    owner.until_dead();
    scene.keeps(&owner);
    scene.is_taken_back("vfork", || {
        let now = Instant::now();
        let opened = OpenOptions::new().write(true).open(&fifo);
        opened.expect("the child reads it");
        now
    });
    assert!(is_running(child), "it has executed another program");
}
