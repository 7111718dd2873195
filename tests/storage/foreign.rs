//! Whose SIGBUS the guard leaves alone: other mappings', other processes', earlier handlers'.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;

use annulus::segment::{AttachError, AttachOptions};
use annulus::{Guarded, mpmc};
use nix::sys::resource::Resource;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::WaitStatus;

use super::stage::{Child, alone, limit, place};

const PAGE: usize = 4096;
/// What the handler of these rows exits with.
const HANDLED: i32 = 42;

fn create(path: &Path, participants: u16) {
    let options = mpmc::Options::new(8, 16).participants(participants);
    options.create(path).expect("the name is free");
}

fn attach(path: &Path) -> Result<mpmc::Producer<Guarded>, AttachError> {
    // SAFETY: only these rows' processes have the ring.
    unsafe { mpmc::Producer::attach_guarded(path, &AttachOptions::default()) }
}

/// Maps a file that has a page less than the mapping, at `place` if that is not null, and touches
/// what is missing.
fn touch_a_foreign_cut(directory: &Path, place: *mut u8) {
    let path = directory.join("foreign");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path);
    let file = file.expect("a file");
    file.set_len(PAGE as u64).expect("space");
    let fixed = if place.is_null() { 0 } else { libc::MAP_FIXED };
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at a place where nothing of this process is.
    let start = unsafe {
        libc::mmap(
            place.cast(),
            2 * PAGE,
            both,
            libc::MAP_SHARED | fixed,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: inside the mapping.
    let missing = unsafe { start.cast::<u8>().add(PAGE) };
    // SAFETY: mapped; it has no page, which is what this is about.
    unsafe { missing.write_volatile(1) };
}

extern "C" fn exit_at_once(_: libc::c_int) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(HANDLED) }
}

fn set_handler() {
    let handler: extern "C" fn(libc::c_int) = exit_at_once;
    // SAFETY: a handler that does nothing but end the process.
    unsafe { libc::signal(libc::SIGBUS, handler as *const () as libc::sighandler_t) };
}

fn set_default() {
    // SAFETY: has no handler.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

/// How a process ends that has a guard, and does `deed`.
fn end_after(prepare: fn(), deed: impl FnOnce(&Path)) -> WaitStatus {
    let (directory, path) = place();
    create(&path, 4);
    Child::start(|_| {
        prepare();
        let _producer = attach(&path).expect("attach");
        deed(directory.path());
    })
    .end()
}

fn died(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _))
}

fn handled(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Exited(_, HANDLED))
}

#[test]
fn a_foreign_mapping_still_kills_or_comes_to_the_handler_that_was_there() {
    alone(|| {
        let touch = |directory: &Path| touch_a_foreign_cut(directory, null_mut());
        let status = end_after(set_default, touch);
        assert!(died(status), "{status:?}");
        let status = end_after(set_handler, touch);
        assert!(handled(status), "{status:?}");
        // That of the standard library, which looks for stack overflows.
        let status = end_after(|| (), touch);
        assert!(died(status), "{status:?}");
    });
}

#[test]
fn a_signal_that_somebody_sends_is_no_cut() {
    alone(|| {
        let send = |_: &Path| raise(Signal::SIGBUS).expect("a signal to ourselves");
        let status = end_after(set_default, send);
        assert!(died(status), "{status:?}");
        let status = end_after(set_handler, send);
        assert!(handled(status), "{status:?}");
        let ignore = || {
            // SAFETY: has no handler.
            unsafe { libc::signal(libc::SIGBUS, libc::SIG_IGN) };
        };
        let status = end_after(ignore, send);
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    });
}

/// Where this process has a ring mapped.
fn where_mapped(path: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our mappings");
    let name = path.to_str().expect("a plain name");
    let line = maps
        .lines()
        .find(|line| line.ends_with(name))
        .expect("it is mapped");
    let start = line.split('-').next().expect("an address");
    usize::from_str_radix(start, 16).expect("hexadecimal digits")
}

#[test]
fn what_comes_to_lie_where_a_guarded_ring_was_is_foreign() {
    alone(|| {
        let (directory, path) = place();
        create(&path, 4);
        let detached = Child::start(|_| {
            set_default();
            let producer = attach(&path).expect("attach");
            let start = where_mapped(&path);
            drop(producer);
            touch_a_foreign_cut(
                directory.path(),
                std::ptr::with_exposed_provenance_mut(start),
            );
        });
        let status = detached.end();
        assert!(died(status), "after detaching: {status:?}");
        // A forked child does not have the mapping, and may have another one there.
        let forked = Child::start(|_| {
            set_default();
            let _producer = attach(&path).expect("attach");
            let start = where_mapped(&path);
            let inner = Child::start(|_| {
                touch_a_foreign_cut(
                    directory.path(),
                    std::ptr::with_exposed_provenance_mut(start),
                );
            });
            let status = inner.end();
            assert!(died(status), "in a forked child: {status:?}");
        });
        let status = forked.end();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    });
}

#[test]
fn a_forked_child_can_guard_rings_of_its_own() {
    alone(|| {
        let (_directory, path) = place();
        create(&path, 4);
        let _mine = attach(&path).expect("attach");
        let child = Child::start(|_| {
            let producer = attach(&path).expect("attach");
            let file = File::options().write(true).open(&path).expect("the ring");
            file.set_len(0).expect("shorter");
            let error = producer.try_push(1, b"").expect_err("cut");
            assert!(
                matches!(error, annulus::TryClaimError::CutShort(_)),
                "{error:?}"
            );
        });
        let status = child.end();
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    });
}

#[test]
fn there_is_room_for_so_many_guards_and_room_again_after_them() {
    alone(|| {
        limit(Resource::RLIMIT_NOFILE, 4096);
        let (directory, path) = place();
        let other = directory.path().join("other.ring");
        create(&path, 600);
        create(&other, 600);
        let rings = std::iter::repeat_n(&path, 512).chain(std::iter::repeat_n(&other, 512));
        let held: Vec<_> = rings
            .map(|path| attach(path).expect("a row and a guard"))
            .collect();
        let error = attach(&path).expect_err("one too many");
        assert!(
            matches!(error, AttachError::NoGuard { guards: 1024 }),
            "{error:?}"
        );
        let said = "this process has 1024 guarded mappings, which is all that it may have";
        assert_eq!(error.to_string(), said);
        assert_eq!(error.hint(), Some("detach one, or attach without a guard"));
        drop(held);
        attach(&path).expect("there is room again");
    });
}
