//! A contender with a flaw: the byte ring, and what somebody did to it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use annulus_lab::contenders::Spsc;
use annulus_lab::payload::LAST;
use annulus_lab::transport::{Cannot, Place, Receive, Send, Transport};
use annulus_lab::work::{Pattern, Waiting, Work};
use annulus_lab::{Conditions, Contender, Fault, Fixed, Found, Of, Payload};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    Nothing,
    Loses,
    Repeats,
    Tears,
    Overtakes,
    LosesTheLast,
    StandsStill,
    Panics,
    Dies,
    CannotLink,
    /// Does nothing for 20 ms, once.
    Stalls,
    /// Takes a millisecond for each record.
    Crawls,
}

/// It strikes at these records, the first and then one in a thousand: on a busy machine a slice may
/// have few.
fn strikes(number: u64) -> bool {
    number.is_multiple_of(1000) && number < LAST - 1
}

/// The byte ring with a flaw.
#[derive(Clone, Copy, Debug)]
pub struct Saboteur(pub Flaw);

/// Eight words, one of which is another record's now and then.
#[derive(Clone, Copy)]
struct Torn<P>(P);

impl<P: Payload> Payload for Torn<P> {
    type Value = P::Value;

    fn bytes(self) -> usize {
        self.0.bytes()
    }

    fn fill(self, to: &mut [u8], number: u64) {
        self.0.fill(to, number);
        if strikes(number) {
            to[self.0.bytes() - 1] ^= 1;
        }
    }

    fn check(self, from: &[u8]) -> Option<u64> {
        self.0.check(from)
    }

    fn value(self, number: u64) -> P::Value {
        self.0.value(number)
    }

    fn check_value(self, value: &P::Value) -> Option<u64> {
        self.0.check_value(value)
    }
}

pub struct Sender<S> {
    ring: S,
    flaw: Flaw,
    held: Option<u64>,
}

pub struct Receiver<R> {
    ring: R,
    flaw: Flaw,
    received: u64,
}

impl<P: Payload> Transport<P> for Saboteur {
    type Link = <Spsc as Transport<P>>::Link;
    type Sender<'l> = Sender<annulus_lab::contenders::SpscSender>;
    type Receiver<'l> = Receiver<annulus_lab::contenders::SpscReceiver>;

    fn name(&self) -> String {
        format!("{:?}", self.0)
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Self::Link, Cannot> {
        if self.0 == Flaw::CannotLink {
            return Err(Cannot("it is Sunday".to_owned()));
        }
        Transport::<P>::link(&Spsc::default(), work, folder, name)
    }

    fn sender<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Sender<'l>, Cannot> {
        Ok(Sender {
            ring: Transport::<P>::sender(&Spsc::default(), link, work, nth)?,
            flaw: self.0,
            held: None,
        })
    }

    fn receiver<'l>(
        &'l self,
        link: &'l Self::Link,
        work: &Work,
        nth: usize,
    ) -> Result<Self::Receiver<'l>, Cannot> {
        Ok(Receiver {
            ring: Transport::<P>::receiver(&Spsc::default(), link, work, nth)?,
            flaw: self.0,
            received: 0,
        })
    }
}

impl<P: Payload, S: Send<P> + Send<Torn<P>>> Send<P> for Sender<S> {
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        match self.flaw {
            Flaw::Loses if strikes(number) => true,
            Flaw::LosesTheLast if number >= LAST - 1 => true,
            Flaw::Repeats if strikes(number) => {
                self.ring.send(payload, number, Waiting::Spin);
                self.ring.send(payload, number, Waiting::Spin);
                true
            }
            Flaw::Overtakes if strikes(number) => {
                self.held = Some(number);
                true
            }
            Flaw::Tears => self.ring.try_send(Torn(payload), number),
            _ => {
                let sent = self.ring.try_send(payload, number);
                if sent && let Some(held) = self.held.take() {
                    self.ring.send(payload, held, Waiting::Spin);
                }
                sent
            }
        }
    }
}

impl<P: Payload, R: Receive<P>> Receive<P> for Receiver<R> {
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        let many = self.received > 2000;
        match self.flaw {
            Flaw::StandsStill if many => return false,
            Flaw::Panics if many => panic!("enough is enough"),
            Flaw::Dies if many => {
                nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("it is ours");
            }
            Flaw::Stalls if self.received == 1000 => thread::sleep(Duration::from_millis(20)),
            Flaw::Crawls => thread::sleep(Duration::from_millis(1)),
            _ => {}
        }
        let received = self.ring.try_receive(payload, seen);
        self.received += u64::from(received);
        received
    }
}

/// One slice of it.
pub fn run(flaw: Flaw, work: &Work, time: Duration) -> Result<Found, Fault> {
    let (payload, transport) = (Fixed::<8>, Saboteur(flaw));
    Of { payload, transport }.run(work, &conditions(time))
}

pub fn conditions(time: Duration) -> Conditions {
    Conditions {
        cpus: cpus(),
        warm_up: Duration::from_millis(1),
        time,
        folder: "/dev/shm".into(),
    }
}

/// Two processors that may be used.
pub fn cpus() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("our own");
    let usable = (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true));
    let cpus: Vec<usize> = usable.take(2).collect();
    assert_eq!(cpus.len(), 2, "these tests need two processors");
    cpus
}

pub fn work(pattern: Pattern) -> Work {
    Work {
        pattern,
        payload: 64,
        batch: 1,
        capacity: 1024,
        waiting: Waiting::Yield,
        producers: 1,
        consumers: 1,
    }
}
