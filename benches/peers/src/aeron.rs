//! Aeron's IPC medium: a log of terms in shared memory, kept by a media driver; bytes. One
//! subscriber here, for all subscribers see all records.
//!
//! Exclusive publications, which its documentation recommends for speed, claimed and written in
//! place, read in place by `poll`. What is longer than the longest fragment (65,504 bytes with its
//! header) is offered as a copy and put together again. It spins, as its documentation wants it for
//! benchmarks.
//!
//! The media driver has a process of its own, with all its agents in one thread that backs off when
//! idle: on two processors it shares one with a player. The first link of a slice starts it, and it
//! ends with that link. Its files are in the slice's folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Place, Receive, Send, Transport, Work};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use rusteron_media_driver::bindings::aeron_threading_mode_enum;
use rusteron_media_driver::{
    Aeron as Client, AeronCError, AeronContext, AeronDriver, AeronDriverContext,
    AeronExclusivePublication, AeronFragmentClosureAssembler, AeronHeader, AeronIdleStrategyKind,
    AeronSubscription, Handlers, IntoCString,
};

use crate::ends::cannot;
use crate::leavings::silence;

pub(crate) struct Aeron;

pub(crate) struct Link {
    folder: PathBuf,
    channel: String,
    stream: i32,
    /// Of the slice's first link.
    _driver: Option<MediaDriver>,
}

pub(crate) struct Sender {
    publication: AeronExclusivePublication,
    /// Where a record is written that cannot be claimed.
    record: Vec<u8>,
    _client: Client,
}

pub(crate) struct Receiver {
    subscription: AeronSubscription,
    assembler: AeronFragmentClosureAssembler,
    is_fragmented: bool,
    _client: Client,
}

/// Of each fragment.
const HEADER: usize = 32;
/// The longest fragment, header included.
const FRAGMENT: usize = 65504;
const PATIENCE: Duration = Duration::from_secs(5);

fn is_fragmented(payload: usize) -> bool {
    payload + HEADER > FRAGMENT
}

/// How far a publication may be ahead is half of a term, and what moves that bound is the driver,
/// when it comes to a processor. So terms are long, however few records are asked for: with less it
/// waits for its driver, at a tenth of the speed. 64 MiB are Aeron's default; small records are two
/// to four times as fast with 16 MiB, which stay in the cache.
fn channel(work: &Work) -> String {
    let frame = (work.payload + HEADER).next_multiple_of(HEADER);
    let least = if work.payload <= 256 {
        16 << 20
    } else {
        64 << 20
    };
    let term = (2 * work.capacity * frame).max(least).next_power_of_two();
    format!("aeron:ipc?term-length={term}|mtu={FRAGMENT}")
}

/// The process of a media driver, which ends as this is dropped by the one that made it.
struct MediaDriver {
    process: Pid,
    parent: Pid,
}

impl MediaDriver {
    fn start(folder: &Path) -> Result<Self, Cannot> {
        let parent = getpid();
        // SAFETY: the lab's driver has one thread, as it checks before it makes a link, so that no
        // lock is held in the child by a thread that is missing there.
        match unsafe { fork() }.map_err(cannot)? {
            ForkResult::Parent { child } => Ok(Self {
                process: child,
                parent,
            }),
            ForkResult::Child => {
                let _failed = drive(parent, folder);
                // SAFETY: it ends the process here and now, and runs nothing of the parent's.
                unsafe { libc::_exit(1) }
            }
        }
    }
}

impl Drop for MediaDriver {
    fn drop(&mut self) {
        if getpid() == self.parent {
            // It was not waited for: the pid is still its own.
            let _gone = kill(self.process, Signal::SIGKILL);
            let _reaped = waitpid(self.process, None);
        }
    }
}

/// Drives the medium until the parent ends it, or is gone.
fn drive(parent: Pid, folder: &Path) -> Result<(), AeronCError> {
    set_pdeathsig(Signal::SIGKILL).expect("a valid signal");
    assert_eq!(getppid(), parent, "the parent is gone already");
    silence();
    let context = AeronDriverContext::new()?;
    context.set_dir(&text(folder).into_c_string())?;
    context.set_threading_mode(aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED)?;
    context.set_shared_idle_strategy_kind(AeronIdleStrategyKind::Backoff)?;
    context.set_term_buffer_sparse_file(false)?;
    let driver = AeronDriver::new(&context)?;
    driver.start(true)?;
    loop {
        driver.main_idle_strategy(driver.main_do_work()?);
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn connect(link: &Link) -> Result<Client, AeronCError> {
    let context = AeronContext::new()?;
    context.set_dir(&text(&link.folder).into_c_string())?;
    context.set_pre_touch_mapped_memory(true)?;
    let client = Client::new(&context)?;
    client.start()?;
    Ok(client)
}

impl<P: Payload> Transport<P> for Aeron {
    type Link = Link;
    type Sender<'l> = Sender;
    type Receiver<'l> = Receiver;

    fn name(&self) -> String {
        "Aeron IPC".into()
    }

    fn place(&self) -> Place {
        Place::Processes
    }

    fn link(&self, work: &Work, folder: &Path, name: &str) -> Result<Link, Cannot> {
        if work.consumers != 1 {
            let why = "its consumers do not share the records, each sees all of them";
            return Err(Cannot(why.into()));
        }
        let folder = folder.join("aeron");
        let is_first = !folder.exists();
        if is_first {
            std::fs::create_dir(&folder).map_err(cannot)?;
        }
        Ok(Link {
            _driver: is_first.then(|| MediaDriver::start(&folder)).transpose()?,
            folder,
            channel: channel(work),
            stream: name.bytes().map(i32::from).sum(),
        })
    }

    fn sender<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<Sender, Cannot> {
        silence();
        let client = connect(link).map_err(cannot)?;
        let publication = client
            .async_add_exclusive_publication(&link.channel.as_str().into_c_string(), link.stream)
            .and_then(|adding| adding.poll_blocking(PATIENCE))
            .map_err(cannot)?;
        let record = vec![
            0;
            if is_fragmented(work.payload) {
                work.payload
            } else {
                0
            }
        ];
        Ok(Sender {
            publication,
            record,
            _client: client,
        })
    }

    fn receiver<'l>(&'l self, link: &'l Link, work: &Work, _: usize) -> Result<Receiver, Cannot> {
        silence();
        let client = connect(link).map_err(cannot)?;
        let channel = link.channel.as_str().into_c_string();
        let subscription = client
            .async_add_subscription(&channel, link.stream, Handlers::NONE, Handlers::NONE)
            .and_then(|adding| adding.poll_blocking(PATIENCE))
            .map_err(cannot)?;
        Ok(Receiver {
            subscription,
            assembler: AeronFragmentClosureAssembler::new().map_err(cannot)?,
            is_fragmented: is_fragmented(work.payload),
            _client: client,
        })
    }
}

impl<P: Payload> Send<P> for Sender {
    #[inline(always)]
    fn try_send(&mut self, payload: P, number: u64) -> bool {
        if !self.record.is_empty() {
            payload.fill(&mut self.record, number);
            return self.publication.offer(&self.record).is_ok();
        }
        let Ok(mut claim) = self.publication.try_claim_owned(payload.bytes()) else {
            return false;
        };
        payload.fill(claim.data(), number);
        claim.commit().is_ok()
    }
}

impl<P: Payload> Receive<P> for Receiver {
    #[inline(always)]
    fn try_receive(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> bool {
        self.try_receive_batch(payload, 1, seen) > 0
    }

    #[inline(always)]
    fn try_receive_batch(
        &mut self,
        payload: P,
        max: usize,
        mut seen: impl FnMut(Option<u64>),
    ) -> usize {
        if self.is_fragmented {
            return self.reassemble(payload, seen);
        }
        let polled = self
            .subscription
            .poll_fn(|record, _| seen(payload.check(record)), max);
        usize::try_from(polled.unwrap_or(0)).unwrap_or(0)
    }
}

impl Receiver {
    /// A record of several fragments; how many records that makes.
    fn reassemble<P: Payload>(&mut self, payload: P, seen: impl FnMut(Option<u64>)) -> usize {
        struct Told<P, S> {
            payload: P,
            seen: S,
            records: usize,
        }
        fn tell<P: Payload, S: FnMut(Option<u64>)>(
            told: &mut Told<P, S>,
            record: &[u8],
            _: AeronHeader,
        ) {
            (told.seen)(told.payload.check(record));
            told.records += 1;
        }
        let mut told = Told {
            payload,
            seen,
            records: 0,
        };
        // A failed poll has told nothing.
        let _polled = self
            .assembler
            .poll(&self.subscription, &mut told, tell::<P, _>, 2);
        told.records
    }
}
