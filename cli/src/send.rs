//! `annulus send`.
//!
//! Input is cut in a buffer of its own and copied into claims, never read into them: a claim that
//! waits for somebody's keyboard would hold up every other sender.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Duration;

use annulus::segment::inspect;
use annulus::{ClaimError, Kind, Location, TryClaimError, Wait, mpmc, spsc};
use clap::Args;
use nix::errno::Errno;

use crate::AttachArgs;
use crate::framing::{CutError, Cutter, Framing, RAW_PIECE};
use crate::progress::Progress;
use crate::report::{Answer, Failure};
use crate::stop::{For, Stop};

/// Sends standard input through a ring.
///
/// Waits while the ring is full. Without --close the ring stays open for the next sender.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Framings:
  raw    any bytes, cut into pieces of 64 KiB, or less if the ring takes no more: an eighth of an
         SPSC ring's capacity, a slot of an MPMC ring. A piece is sent once it is full.
  lines  a record a line, without its newline, sent as soon as the line is there.
  len32  each record comes after its length, a little-endian u32.
`recv` gives back what went in, to the last byte. Several senders or receivers of one MPMC ring
share the stream record by record: use lines or len32 then.

Going on after a kill:
  What a killed sender had not committed never existed. If it was the only sender of a new ring,
    annulus send RING --skip-records \"$(annulus stat RING --json | jq .committed_records)\" < FILE
  goes on at the very record, for the input is always cut at the same places.

Examples:
  annulus send /dev/shm/a.ring --close < archive.tar
  journalctl -f | annulus send /dev/shm/log.ring --framing lines")]
pub struct SendArgs {
    #[command(flatten)]
    attach: AttachArgs,
    /// How the input is cut into records.
    #[arg(long, value_enum, default_value = "raw")]
    framing: Framing,
    /// Close the ring after the last record: receivers drain it and end.
    #[arg(long)]
    close: bool,
    /// Leave out the first N records of the input.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_records: u64,
    /// Open a closed ring for writing again.
    #[arg(long)]
    reopen: bool,
}

/// Most bytes that are published at once: receivers are to begin before the sender is done.
const BATCH_BYTES: usize = 128 << 10;
/// How long to wait for space before looking whether it is time to stop.
const PATIENCE: Duration = Duration::from_millis(100);

pub fn run(args: &SendArgs) -> Result<Answer, Failure> {
    let path = &args.attach.path;
    let ring = inspect(&Location::from(path))
        .map_err(|error| Failure::of_ring("send to", path, &error))?;
    let options = args.attach.options();
    let refused = |error| Failure::of_ring("send to", path, &error);
    let stop = Stop::new()?;
    let outcome = match ring.kind {
        Kind::SpscBytes => {
            // SAFETY: whoever may write to the file uses it through annulus: `annulus --help` says
            // that they are trusted to, and that the mode of the file says who they are.
            let producer = unsafe { spsc::Producer::attach_with(path, &options) };
            Sending::new(producer.map_err(refused)?, args, &stop).run()
        }
        Kind::MpmcSlots => {
            // SAFETY: as above.
            let producer = unsafe { mpmc::Producer::attach_with(path, &options) };
            Sending::new(producer.map_err(refused)?, args, &stop).run()
        }
    };
    // By now the producer is detached.
    outcome
        .map(|()| stop.finish(Answer::Yes))
        .map_err(|trouble| trouble.into_failure(args))
}

/// What both producers can do.
trait Producer {
    fn max_record(&self) -> usize;
    fn raw_piece(&self) -> usize;
    fn open_or_close(&mut self, wish: Wish);
    fn is_closed(&self) -> bool;
    /// Publishes as many records as are there and fit, up to a limit. Returns how many bytes of the
    /// input that took.
    fn push_some(&mut self, cutter: &mut Cutter) -> Result<Pushed, Trouble>;
    /// Waits for space for one record.
    fn push_one(&mut self, cutter: &mut Cutter, wait: Wait) -> Result<usize, Trouble>;
}

#[derive(Clone, Copy)]
enum Wish {
    Reopen,
    Close,
}

struct Pushed {
    bytes: usize,
    is_full: bool,
}

enum Trouble {
    Cut(CutError),
    Claim(ClaimError),
    Input(io::Error),
    TooFewToSkip { found: u64 },
}

impl From<CutError> for Trouble {
    fn from(error: CutError) -> Self {
        Self::Cut(error)
    }
}

impl From<ClaimError> for Trouble {
    fn from(error: ClaimError) -> Self {
        Self::Claim(error)
    }
}

struct Sending<'a, P> {
    producer: P,
    cutter: Cutter,
    args: &'a SendArgs,
    stop: &'a Stop,
    progress: Progress,
}

impl<'a, P: Producer> Sending<'a, P> {
    fn new(producer: P, args: &'a SendArgs, stop: &'a Stop) -> Self {
        let (max_record, raw_piece) = (producer.max_record(), producer.raw_piece());
        let cutter = Cutter::new(args.framing, max_record, raw_piece);
        let progress = Progress::new("sent", &io::stdin(), input_bytes());
        Self {
            producer,
            cutter,
            args,
            stop,
            progress,
        }
    }

    fn run(mut self) -> Result<(), Trouble> {
        if self.args.reopen {
            self.producer.open_or_close(Wish::Reopen);
        }
        // Before the first byte of the input is read and lost.
        if self.producer.is_closed() {
            return Err(ClaimError::Closed.into());
        }
        while !self.cutter.is_done() {
            if !self.push_all()? || !self.read_more()? {
                return Ok(()); // Stopped.
            }
        }
        if self.cutter.records() < self.args.skip_records {
            return Err(Trouble::TooFewToSkip {
                found: self.cutter.records(),
            });
        }
        if self.args.close {
            self.producer.open_or_close(Wish::Close);
        }
        self.progress.finish();
        Ok(())
    }

    /// Reads once. False if it is time to stop.
    fn read_more(&mut self) -> Result<bool, Trouble> {
        let stdin = io::stdin();
        loop {
            if !self
                .stop
                .wait_for(stdin.as_fd(), For::Reading)
                .map_err(Trouble::Input)?
            {
                return Ok(false);
            }
            match nix::unistd::read(&stdin, self.cutter.room()) {
                Ok(count) => {
                    self.cutter.filled(count);
                    return Ok(true);
                }
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(errno) => return Err(Trouble::Input(errno.into())),
            }
        }
    }

    /// Sends every whole record of the buffer. False if it is time to stop.
    fn push_all(&mut self) -> Result<bool, Trouble> {
        while self.cutter.records() < self.args.skip_records {
            if self.cutter.take()? == 0 && self.cutter.peek()?.is_none() {
                return Ok(true);
            }
        }
        loop {
            let before = self.cutter.records();
            let Pushed { mut bytes, is_full } = self.producer.push_some(&mut self.cutter)?;
            if is_full {
                let wait = Wait::block().for_at_most(PATIENCE);
                match self.producer.push_one(&mut self.cutter, wait) {
                    Ok(more) => bytes += more,
                    Err(Trouble::Claim(ClaimError::TimedOut)) => {}
                    Err(trouble) => return Err(trouble),
                }
            }
            self.progress
                .add(self.cutter.records() - before, bytes as u64);
            if self.stop.requested() {
                return Ok(false);
            }
            if !is_full && self.cutter.peek()?.is_none() {
                return Ok(true);
            }
        }
    }
}

/// How much is to come, if the input is a file.
fn input_bytes() -> Option<u64> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return None;
    }
    let file = File::from(stdin.as_fd().try_clone_to_owned().ok()?);
    file.metadata()
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|metadata| metadata.len())
}

/// `None` if the ring is full.
fn unless_full(outcome: Result<(), TryClaimError>) -> Result<Option<()>, Trouble> {
    let error = match outcome {
        Ok(()) => return Ok(Some(())),
        Err(TryClaimError::Full) => return Ok(None),
        Err(TryClaimError::TooLong { len, max }) => ClaimError::TooLong { len, max },
        Err(TryClaimError::Closed) => ClaimError::Closed,
        Err(TryClaimError::Forked) => ClaimError::Forked,
        Err(TryClaimError::CutShort(cut)) => ClaimError::CutShort(cut),
        Err(TryClaimError::Damaged(damage)) => ClaimError::Damaged(damage),
    };
    Err(error.into())
}

/// The two producers have the same methods, but no type in common: a slot's claim borrows its
/// handle, a span's claim borrows it alone.
macro_rules! impl_producer {
    ($producer:ty, $raw_piece:expr) => {
        impl Producer for $producer {
            fn max_record(&self) -> usize {
                self.max_record()
            }

            fn raw_piece(&self) -> usize {
                let of: fn(&$producer) -> u64 = $raw_piece;
                usize::try_from(of(self))
                    .unwrap_or(RAW_PIECE)
                    .min(RAW_PIECE)
            }

            fn open_or_close(&mut self, wish: Wish) {
                match wish {
                    Wish::Reopen => self.reopen(),
                    Wish::Close => self.close(),
                }
            }

            fn is_closed(&self) -> bool {
                self.is_closed()
            }

            fn push_some(&mut self, cutter: &mut Cutter) -> Result<Pushed, Trouble> {
                let (mut bytes, mut is_full) = (0, false);
                let mut batch = self.batch();
                let mut stage = |cutter: &mut Cutter| {
                    while let Some(cut) = cutter.peek()?.filter(|_| bytes < BATCH_BYTES) {
                        if unless_full(batch.try_push(cut.tag, cut.bytes))?.is_none() {
                            is_full = true;
                            break;
                        }
                        bytes += cutter.take()?;
                    }
                    Ok(())
                };
                let outcome = stage(cutter);
                // Also what came before something that cannot be sent.
                batch.commit();
                outcome.map(|()| Pushed { bytes, is_full })
            }

            fn push_one(&mut self, cutter: &mut Cutter, wait: Wait) -> Result<usize, Trouble> {
                if let Some(cut) = cutter.peek()? {
                    self.push(cut.tag, cut.bytes, wait)?;
                }
                Ok(cutter.take()?)
            }
        }
    };
}

impl_producer!(spsc::Producer, |producer| producer.capacity() / 8);
impl_producer!(mpmc::Producer, |producer| producer.max_record() as u64);

impl Trouble {
    fn into_failure(self, args: &SendArgs) -> Failure {
        let path = args.attach.path.display();
        match self {
            Self::Cut(error @ CutError::TooLong { .. }) => {
                Failure::because(format_args!("cannot send to `{path}`"), &error)
                    .hint("make the ring larger, or use --framing raw; what came before was sent")
            }
            Self::Cut(error) => Failure::because(format_args!("cannot send to `{path}`"), &error)
                .hint("the records before it were sent"),
            Self::Claim(ClaimError::Closed) => {
                Failure::because(format_args!("cannot send to `{path}`"), &ClaimError::Closed)
                    .hint("open it for writing again with --reopen")
            }
            Self::Claim(error) => Failure::because(format_args!("cannot send to `{path}`"), &error),
            Self::Input(error) => Failure::because("cannot read standard input", &error),
            Self::TooFewToSkip { found } => Failure::new(format_args!(
                "the input has {found} records and {} were to be left out",
                args.skip_records
            ))
            .hint("give the same input and --framing as before"),
        }
    }
}
