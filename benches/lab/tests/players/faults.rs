//! Whatever a contender does wrong, its slice says so.

use std::path::Path;
use std::time::{Duration, Instant};

use annulus_lab::contenders::Mpmc;
use annulus_lab::payload::LAST;
use annulus_lab::transport::{Cannot, Place, Receive, Transport};
use annulus_lab::work::{Pattern, Work};
use annulus_lab::{Contender, Fault, Fixed, Of, Payload};

use crate::saboteur::{Flaw, conditions, run, work};

const SHORT: Duration = Duration::from_millis(30);

fn stream(flaw: Flaw) -> Result<annulus_lab::Found, Fault> {
    run(flaw, &work(Pattern::Stream), SHORT)
}

fn broken(outcome: Result<annulus_lab::Found, Fault>) -> String {
    match outcome {
        Err(Fault::Broken(why)) => why,
        Err(other) => panic!("expected it to be broken: {other:?}"),
        Ok(found) => panic!("expected it to be broken: {} records came", found.records),
    }
}

pub fn lost_records_are_counted() {
    let found = stream(Flaw::Loses).expect("all else is whole");
    let sent = found.records + found.lost;
    assert!(
        found.lost > 0 && found.lost.abs_diff(sent / 1000) <= 1,
        "{found:?}"
    );
    assert_eq!(found.repeated, 0);
}

pub fn repeated_records_are_counted() {
    let found = stream(Flaw::Repeats).expect("all else is whole");
    let sent = found.records - found.repeated;
    assert!(
        found.repeated > 0 && found.repeated.abs_diff(sent / 1000) <= 1,
        "{found:?}"
    );
    assert_eq!(found.lost, 0);
}

pub fn a_torn_record_is_told() {
    let why = broken(stream(Flaw::Tears));
    assert!(why.contains("torn"), "{why}");
    let why = broken(run(Flaw::Tears, &work(Pattern::RoundTrip), SHORT));
    assert!(why.contains("torn"), "{why}");
}

pub fn records_that_overtake_are_told() {
    let why = broken(stream(Flaw::Overtakes));
    assert!(why.contains("overtook"), "{why}");
}

pub fn a_slice_ends_though_its_last_record_is_lost() {
    let found = stream(Flaw::LosesTheLast).expect("it is quiet, and then over");
    assert!(found.records > 0 && found.lost == 0, "{found:?}");
}

pub fn a_receiver_that_stands_still_is_wedged() {
    let began = Instant::now();
    match stream(Flaw::StandsStill) {
        Err(Fault::Wedged(who)) => assert!(who.contains("sender 0, receiver 0"), "{who}"),
        other => panic!("expected it to be wedged: {other:?}"),
    }
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "a deadline that nobody lives to see"
    );
    nobody_is_left();
}

pub fn a_round_trip_that_loses_its_record_is_wedged() {
    match run(Flaw::Loses, &work(Pattern::RoundTrip), SHORT) {
        Err(Fault::Wedged(who)) => assert!(who.contains("asker, echo"), "{who}"),
        other => panic!("expected it to be wedged: {other:?}"),
    }
    nobody_is_left();
}

pub fn a_player_that_panics_is_quoted() {
    assert_eq!(
        broken(stream(Flaw::Panics)),
        "a player panicked: enough is enough"
    );
    nobody_is_left();
}

pub fn a_player_that_is_killed_is_told() {
    let why = broken(stream(Flaw::Dies));
    assert!(why.contains("receiver 0 died of SIGKILL"), "{why}");
    nobody_is_left();
}

fn nobody_is_left() {
    let children = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(-1), None);
    assert_eq!(children, Err(nix::errno::Errno::ECHILD));
}

pub fn a_link_that_cannot_be_made_says_why() {
    let outcome = stream(Flaw::CannotLink);
    let expected = Fault::Cannot("it is Sunday".to_owned());
    assert_eq!(outcome.expect_err("there is no link"), expected);
}

/// The slot ring, one of whose receivers drops a record now and then.
struct Sieve;

struct Leaky<R>(R);

impl<P: Payload> Transport<P> for Sieve {
    type Link = <Mpmc as Transport<P>>::Link;
    type Sender<'l> = annulus_lab::contenders::MpmcSender;
    type Receiver<'l> = Leaky<annulus_lab::contenders::MpmcReceiver>;

    fn name(&self) -> String {
        "sieve".to_owned()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Self::Link, Cannot> {
        Transport::<P>::link(&Mpmc::default(), work, folder, name)
    }

    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        Transport::<P>::sender(&Mpmc::default(), link, work, nth)
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        Transport::<P>::receiver(&Mpmc::default(), link, work, nth).map(Leaky)
    }
}

impl<P: Payload, R: Receive<P>> Receive<P> for Leaky<R> {
    fn try_receive(&mut self, payload: P, mut seen: impl FnMut(Option<u64>)) -> bool {
        self.0.try_receive(payload, |number| match number {
            Some(number) if number % 100 == 7 && number < LAST - 1 => {}
            number => seen(number),
        })
    }
}

pub fn losses_between_two_receivers_are_counted() {
    let (payload, transport) = (Fixed::<8>, Sieve);
    let work = Work {
        producers: 2,
        consumers: 2,
        ..work(Pattern::Stream)
    };
    let found = Of { payload, transport }.run(&work, &conditions(SHORT));
    let found = found.expect("all else is whole");
    let sent = found.records + found.lost;
    assert!(
        found.lost > 0 && found.lost.abs_diff(sent / 100) <= 4,
        "{found:?}"
    );
}

pub fn a_stall_is_charged_to_all_records_that_were_due() {
    let paced = Work {
        // The ring is soon full: then the sender is held up, too.
        capacity: 16,
        ..work(Pattern::Paced {
            interval: Duration::from_micros(100),
        })
    };
    let found = run(Flaw::Stalls, &paced, Duration::from_millis(400)).expect("it is whole");
    let latency = found.latency.expect("it is measured");
    assert_eq!(latency.len(), found.records);
    assert!(
        latency.value_at_quantile(0.99) > 10_000_000,
        "{}",
        latency.value_at_quantile(0.99)
    );
    // 200 were due meanwhile, of which three quarters waited for 5 ms at least; the ring had room
    // for some fifty of them.
    let late = latency.count_between(5_000_000, u64::MAX);
    assert!(late >= 140, "only {late} of {} are late", latency.len());
}

pub fn a_rate_that_cannot_be_kept_is_told() {
    let paced = Work {
        capacity: 16,
        ..work(Pattern::Paced {
            interval: Duration::from_micros(10),
        })
    };
    let why = broken(run(Flaw::Crawls, &paced, Duration::from_millis(50)));
    assert!(why.contains("cannot keep the rate"), "{why}");
}
