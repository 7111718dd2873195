//! Other names of the same file, and other clocks.

use super::part::ELSEWHERE;
use super::peer::Peer;
use super::scene::{Scene, is_root};

#[test]
fn an_owner_that_comes_by_a_bind_mount() {
    if !is_root("an owner that comes by a bind mount") {
        return;
    }
    let scene = Scene::new();
    std::fs::create_dir(scene.directory().join(ELSEWHERE)).expect("a directory");
    let mut owner = Peer::start("owner by a bind mount", scene.directory());
    scene.commit_behind();
    scene.keeps(&owner);
    scene.goes_on(&mut owner);
    scene.is_taken_back("an owner that comes by a bind mount", || owner.kill());
}

#[test]
fn a_looker_that_comes_by_a_bind_mount() {
    if !is_root("a looker that comes by a bind mount") {
        return;
    }
    let scene = Scene::new();
    std::fs::create_dir(scene.directory().join(ELSEWHERE)).expect("a directory");
    let owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let mut looker = Peer::start("looker by a bind mount", scene.directory());
    scene.is_kept_from(&owner, &mut looker);
    scene.is_recovered_by("a looker that comes by a bind mount", &mut looker, || {
        owner.kill()
    });
}

#[test]
fn an_owner_that_comes_by_the_root_of_a_process() {
    let scene = Scene::new();
    let mut owner = Peer::start("owner by a process's root", scene.directory());
    scene.commit_behind();
    scene.keeps(&owner);
    scene.goes_on(&mut owner);
    scene.is_taken_back("an owner that comes by the root of a process", || {
        owner.kill()
    });
}

/// Seconds of a day.
const DAY: &str = "step 86400";
const BACK: &str = "step 0";

fn step(peer: &mut Peer, order: &str) {
    let said = peer.ask(order);
    let expected = match order {
        DAY => "stepped 86400 0",
        // Time that passed between two readings of the clock lessens the step.
        _ => "stepped 0 86399",
    };
    assert_eq!(said, expected, "its clock should step");
}

#[test]
fn an_owner_whose_clock_steps() {
    if !is_root("an owner whose clock steps") {
        return;
    }
    let scene = Scene::new();
    let mut owner = Peer::start("owner with one thread", scene.directory());
    scene.commit_behind();
    for order in [DAY, BACK] {
        step(&mut owner, order);
        scene.keeps(&owner);
        scene.goes_on(&mut owner);
    }
    step(&mut owner, DAY);
    scene.is_taken_back("an owner whose clock steps", || owner.kill());
}

#[test]
fn a_looker_whose_clock_steps() {
    if !is_root("a looker whose clock steps") {
        return;
    }
    let scene = Scene::new();
    let mut owner = Peer::start("owner", scene.directory());
    scene.commit_behind();
    let mut looker = Peer::start("looker with one thread", scene.directory());
    for order in [DAY, BACK] {
        scene.is_kept_from(&owner, &mut looker);
        step(&mut looker, order);
        scene.is_kept_from(&owner, &mut looker);
        scene.goes_on(&mut owner);
    }
    scene.is_recovered_by("a looker whose clock steps", &mut looker, || owner.kill());
}
