//! What pids and process states say, and why nobody asks them.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::peer::{Peer, state_of};
use super::scene::{Scene, is_root};

const LOST: Duration = Duration::from_secs(30);

/// The new one is a participant too: the same pid and the same command stand in two rows, one of
/// somebody alive.
#[test]
fn a_pid_that_is_used_again() {
    if !is_root("a pid that is used again") {
        return;
    }
    let scene = Scene::new();
    let mut first = Peer::start("owner", scene.directory());
    let pid = first.pid;
    first.kill();
    first.reap();
    // Nobody has looked at what it left. Its successor finds the role free, and takes another slot.
    let began = Instant::now();
    let mut second = loop {
        match Peer::start_as(pid, "owner", scene.directory()) {
            Some(peer) => break peer,
            None => assert!(began.elapsed() < LOST, "{pid} stays in use"),
        }
    };
    assert_eq!(
        (second.pid, second.pid_in_row),
        (pid, pid.as_raw().cast_unsigned())
    );
    scene.commit_behind();
    scene.keeps(&second);
    scene.goes_on(&mut second);
    scene.is_taken_back("a pid that is used again", || second.kill());
}

/// The pid of a dead one is that of somebody who has nothing to do with the ring.
#[test]
fn a_pid_that_a_stranger_has_now() {
    if !is_root("a pid that a stranger has now") {
        return;
    }
    let scene = Scene::new();
    let elsewhere = Scene::new();
    let mut first = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let pid = first.pid;
    let mut stranger = None;
    scene.is_taken_back("a pid that a stranger has now", || {
        let died = first.kill();
        first.reap();
        while stranger.is_none() {
            stranger = Peer::start_as(pid, "owner", elsewhere.directory());
            assert!(died.elapsed() < LOST, "{pid} stays in use");
        }
        died
    });
    elsewhere.commit_behind();
    elsewhere.keeps(&stranger.expect("started above"));
}

#[test]
fn a_zombie() {
    let scene = Scene::new();
    let owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    scene.is_taken_back("a zombie", || {
        let died = owner.kill();
        owner.until_dead();
        died
    });
    assert_eq!(state_of(owner.pid), Some('Z'), "nobody has reaped it");
}

#[test]
fn a_process_whose_first_thread_has_ended() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner in a second thread", scene.directory());
    scene.commit_behind();
    let began = Instant::now();
    while state_of(owner.pid) != Some('Z') {
        assert!(began.elapsed() < LOST, "its first thread goes on");
        std::thread::yield_now();
    }
    scene.keeps(&owner);
    scene.goes_on(&mut owner);
    assert_eq!(state_of(owner.pid), Some('Z'), "it looks like a zombie");
    scene.is_taken_back("a process whose first thread has ended", || owner.kill());
}

/// When the process began, as `/proc` shows it.
fn start_of(pid: Pid) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
    rest.split_ascii_whitespace()
        .nth(19)
        .expect("22 fields")
        .to_owned()
}

#[test]
fn a_process_that_executes_another_program() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let start = start_of(owner.pid);
    scene.is_taken_back("a process that executes another program", || {
        let now = Instant::now();
        owner.order("execute");
        now
    });
    assert_eq!(state_of(owner.pid), Some('S'), "it waits for input");
    assert_eq!(start_of(owner.pid), start, "the same process");
}

#[test]
fn an_owner_in_another_pid_namespace() {
    if !is_root("an owner in another PID namespace") {
        return;
    }
    let scene = Scene::new();
    let mut owner = Peer::start("owner in a PID namespace", scene.directory());
    scene.commit_behind();
    assert_eq!(
        owner.pid_in_row, 1,
        "our pid 1 is somebody else, who never dies"
    );
    scene.keeps(&owner);
    scene.goes_on(&mut owner);
    scene.is_taken_back("an owner in another PID namespace", || owner.kill());
}

#[test]
fn a_looker_in_another_pid_namespace() {
    if !is_root("a looker in another PID namespace") {
        return;
    }
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let mut looker = Peer::start("looker in a PID namespace", scene.directory());
    assert_eq!(looker.pid_in_row, 1);
    scene.is_kept_from(&owner, &mut looker);
    scene.goes_on(&mut owner);
    scene.is_kept_from(&owner, &mut looker);
    scene.is_recovered_by("a looker in another PID namespace", &mut looker, || {
        owner.kill()
    });
}
