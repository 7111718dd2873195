//! Names that go, move, or belong to another file.

use annulus::segment::{AttachError, Location, OpenError, inspect, remove};
use annulus::{ClaimError, Loss, ReadError, TryReadError, Wait, mpmc, spsc};
use std::time::Duration;

use super::stage::{Child, alone, patiently, place};

fn create(path: &std::path::Path) {
    mpmc::Options::new(8, 16)
        .create(path)
        .expect("the name is free");
}

fn producer(path: &std::path::Path) -> mpmc::Producer {
    // SAFETY: only these tests' processes have the ring, and all use it through the library.
    unsafe { mpmc::Producer::attach(path) }.expect("attach")
}

fn consumer(path: &std::path::Path) -> mpmc::Consumer {
    // SAFETY: as above.
    unsafe { mpmc::Consumer::attach(path) }.expect("attach")
}

#[test]
fn those_in_a_ring_go_on_when_its_name_goes_and_newcomers_find_nothing() {
    alone(|| {
        let (_directory, path) = place();
        create(&path);
        let (producer, consumer) = (producer(&path), consumer(&path));
        let location = Location::from(&path);
        let refused = remove(&location, false).expect_err("somebody lives");
        let hint = "end those first, or force it: they keep the nameless file";
        assert_eq!(refused.hint(), Some(hint));
        remove(&location, true).expect("forced");

        // SAFETY: as above.
        let newcomer = unsafe { mpmc::Consumer::attach(&path) };
        let error = newcomer.expect_err("no such name");
        assert!(
            matches!(error, AttachError::Open(OpenError::NotFound)),
            "{error:?}"
        );
        assert_eq!(error.to_string(), "no such file");
        assert_eq!(error.hint(), Some("create the ring first"));
        assert!(inspect(&location).is_err());

        producer.try_push(1, b"still").expect("space");
        assert_eq!(consumer.try_read().expect("the record").tag(), 1);
        // Somebody is left who could write.
        let bound = std::time::Duration::from_millis(250);
        let waited = consumer.read(Wait::block().for_at_most(bound));
        assert_eq!(waited.expect_err("nothing came"), ReadError::TimedOut);
        assert_eq!(consumer.loss(), None);
        assert!(consumer.try_clone().is_ok(), "of the same file");
    });
}

/// The gap that was known: after `rm --force` an idle receiver waited for ever.
#[test]
fn an_idle_waiter_whose_ring_has_no_name_and_no_peer_left_is_told_so() {
    alone(|| {
        for wait in [Wait::block, Wait::yielding, Wait::spin] {
            let (_directory, path) = place();
            create(&path);
            // Another receiver is no help to this one.
            let (consumer, other) = (consumer(&path), consumer(&path));
            remove(&Location::from(&path), true).expect("forced");
            let error = consumer
                .read(patiently(wait()))
                .expect_err("nobody can write");
            assert_eq!(error, ReadError::Removed);
            assert_eq!(
                error.to_string(),
                "the ring was removed and its peers are gone"
            );
            assert_eq!(other.loss(), Some(Loss::Removed));
            drop((consumer, other));

            create(&path);
            let sender = producer(&path);
            (0..8).for_each(|tag| sender.try_push(tag, b"").expect("space"));
            remove(&Location::from(&path), true).expect("forced");
            let error = sender
                .push(9, b"", patiently(wait()))
                .expect_err("nobody can read");
            assert_eq!(error, ClaimError::Removed);
        }
    });
}

#[test]
fn what_a_removed_ring_holds_is_read_before_the_reader_is_told() {
    alone(|| {
        let (_directory, path) = place();
        spsc::Options::new(4096)
            .create(&path)
            .expect("the name is free");
        // SAFETY: as above.
        let mut consumer = unsafe { spsc::Consumer::attach(&path) }.expect("attach");
        let mut child = Child::start(|talk| {
            // SAFETY: as above.
            let mut producer = unsafe { spsc::Producer::attach(&path) }.expect("attach");
            producer.try_push(1, b"last").expect("space");
            talk.say("pushed");
            talk.hear();
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("a signal");
        });
        assert_eq!(child.talk.hear(), "pushed");
        remove(&Location::from(&path), true).expect("forced");
        child.talk.say("die");
        let waited = consumer.read(patiently(Wait::block())).expect("the record");
        assert_eq!((waited.tag(), &waited[..]), (1, &b"last"[..]));
        drop(waited);
        let waited = consumer.read(patiently(Wait::block()));
        assert_eq!(
            waited.expect_err("the producer is dead"),
            ReadError::Removed
        );
        child.end();
    });
}

#[test]
fn a_waiter_is_told_that_another_file_has_its_name() {
    alone(|| {
        let (directory, path) = place();
        let elsewhere = directory.path().join("elsewhere.ring");
        type Change<'c> = &'c dyn Fn();
        let anew: Change<'_> = &|| {
            std::fs::remove_file(&path).expect("a name");
            create(&path);
        };
        let over: Change<'_> = &|| {
            create(&elsewhere);
            std::fs::rename(&elsewhere, &path).expect("a name");
        };
        let aside: Change<'_> = &|| {
            std::fs::rename(&path, &elsewhere).expect("a name");
            create(&path);
        };
        for (what, change) in [("anew", anew), ("over it", over), ("aside", aside)] {
            create(&path);
            // Both live, so it is the name that counts.
            let (producer, consumer) = (producer(&path), consumer(&path));
            change();
            assert_eq!(consumer.loss(), Some(Loss::Replaced), "{what}");
            let error = consumer.read(patiently(Wait::block())).expect_err(what);
            assert_eq!(error, ReadError::Replaced, "{what}");
            assert_eq!(error.to_string(), "another file has the ring's name now");
            // Also one who never sleeps for long.
            for way in [Wait::block(), Wait::yielding(), Wait::spin()] {
                let told = (0..1000).find_map(|_| {
                    let brief = way.for_at_most(Duration::from_micros(500));
                    let error = consumer.read(brief).expect_err(what);
                    (error != ReadError::TimedOut).then_some(error)
                });
                assert_eq!(told, Some(ReadError::Replaced), "{what}, {way:?}");
            }
            // What is still in there can be had.
            producer.try_push(3, b"").expect("space");
            assert_eq!(consumer.try_read().expect("the record").tag(), 3);
            drop((producer, consumer));
            remove(&Location::from(&path), true).expect("the new one");
            let _ = std::fs::remove_file(&elsewhere);
        }
    });
}

#[test]
fn a_ring_that_was_renamed_goes_on_and_is_found_by_its_new_name() {
    alone(|| {
        let (directory, path) = place();
        let moved = directory.path().join("moved.ring");
        create(&path);
        let (before, consumer) = (producer(&path), consumer(&path));
        std::fs::rename(&path, &moved).expect("a name");
        assert_eq!(
            consumer.loss(),
            None,
            "it has a name, and nobody has the old one"
        );
        // SAFETY: as above.
        let error = unsafe { mpmc::Producer::attach(&path) }.expect_err("the old name");
        assert!(
            matches!(error, AttachError::Open(OpenError::NotFound)),
            "{error:?}"
        );
        let after = producer(&moved);
        before.try_push(1, b"").expect("space");
        after.try_push(2, b"").expect("space");
        assert_eq!(consumer.try_read().expect("a record").tag(), 1);
        assert_eq!(consumer.try_read().expect("a record").tag(), 2);
        assert_eq!(
            consumer.try_read().expect_err("both read"),
            TryReadError::Empty
        );
    });
}
