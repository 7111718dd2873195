//! `annulus recv`.
//!
//! Records are read ahead, written out, and released after that, so that a receiver that is killed
//! in between loses nothing: what it had not released is delivered again.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use annulus::segment::inspect;
use annulus::{Kind, Location, ReadError, TryReadError, Wait, mpmc, spsc};
use clap::Args;

use crate::AttachArgs;
use crate::framing::{Frame, Framing};
use crate::output::{Output, Trouble};
use crate::progress::Progress;
use crate::report::{Answer, Failure};
use crate::stop::Stop;

/// Writes what comes out of a ring to standard output.
///
/// Waits for records until the ring is closed and drained.
#[derive(Debug, Args)]
#[command(after_long_help = "\
A record is released only after its bytes were written. If a receiver is killed, whoever receives
next gets what it had not released: what it had written of that comes a second time. If the reader
of the output goes away (`| head`), the rest stays in the ring, and that is no failure.

Examples:
  annulus recv /dev/shm/a.ring > copy.tar
  annulus recv /dev/shm/jobs.ring --framing lines --count 1")]
pub struct RecvArgs {
    #[command(flatten)]
    attach: AttachArgs,
    /// How records are written; by default each one as `send` has cut it.
    #[arg(long, value_enum)]
    framing: Option<Framing>,
    /// End after N records; exit code 1 if the ring's end comes first.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Most bytes and records that are read ahead of what is released.
const AHEAD_BYTES: u64 = 256 << 10;
const AHEAD_RECORDS: u64 = 4096;
/// How long to wait for a record before looking whether it is time to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Why receiving ended.
enum End {
    /// The ring is closed and drained.
    Closed,
    /// `--count` records were written.
    Counted,
    Stopped,
    ReaderGone,
}

enum Failed {
    Read(ReadError),
    Write(io::Error),
}

impl From<TryReadError> for Failed {
    fn from(error: TryReadError) -> Self {
        Self::Read(match error {
            TryReadError::Empty => ReadError::TimedOut,
            TryReadError::Closed => ReadError::Closed,
            TryReadError::Forked => ReadError::Forked,
            TryReadError::CutShort(cut) => ReadError::CutShort(cut),
            TryReadError::Damaged(damage) => ReadError::Damaged(damage),
        })
    }
}

pub fn run(args: &RecvArgs) -> Result<Answer, Failure> {
    let path = &args.attach.path;
    let ring = inspect(&Location::from(path))
        .map_err(|error| Failure::of_ring("receive from", path, &error))?;
    let options = args.attach.options();
    let refused = |error| Failure::of_ring("receive from", path, &error);
    let stop = Stop::new()?;
    let outcome = match ring.kind {
        Kind::SpscBytes => {
            // SAFETY: whoever may write to the file uses it through annulus: `annulus --help` says
            // that they are trusted to, and that the mode of the file says who they are.
            let consumer = unsafe { spsc::Consumer::attach_with(path, &options) };
            receive(&mut consumer.map_err(refused)?, args, &stop)
        }
        Kind::MpmcSlots => {
            // SAFETY: as above.
            let consumer = unsafe { mpmc::Consumer::attach_with(path, &options) };
            receive(&mut consumer.map_err(refused)?, args, &stop)
        }
    };
    // By now the consumer is detached.
    match outcome {
        Ok(End::Closed) if args.count.is_some() => Ok(Answer::No),
        Ok(_) => Ok(stop.finish(Answer::Yes)),
        Err(Failed::Write(error)) => {
            Err(Failure::because("cannot write to standard output", &error))
        }
        Err(Failed::Read(error)) => Err(Failure::because(
            format_args!("cannot receive from `{}`", path.display()),
            &error,
        )),
    }
}

/// What both consumers can do.
trait Consumer {
    /// Waits for a record and reads on to at most `max` of them, writes all of them out, and
    /// releases those that are out.
    fn pass_on(&mut self, sink: &mut Sink<'_>, max: u64, wait: Wait) -> Result<Passed, Failed>;
}

struct Passed {
    records: u64,
    trouble: Option<Trouble>,
}

/// The framed output.
struct Sink<'s> {
    output: Output<'s>,
    framing: Option<Framing>,
}

impl Sink<'_> {
    #[inline]
    fn add(&mut self, tag: u32, bytes: &[u8]) -> Result<(), Trouble> {
        let frame = Frame::of(self.framing, tag, bytes.len());
        self.output.add(frame.before())?;
        self.output.add(bytes)?;
        self.output.add(frame.after())
    }
}

fn receive(consumer: &mut impl Consumer, args: &RecvArgs, stop: &Stop) -> Result<End, Failed> {
    let mut sink = Sink {
        output: Output::new(stop),
        framing: args.framing,
    };
    let mut progress = Progress::new("received", &io::stdout(), None);
    let mut left = args.count.unwrap_or(u64::MAX);
    let end = loop {
        if left == 0 {
            break End::Counted;
        }
        if stop.requested() {
            break End::Stopped;
        }
        let before = sink.output.written();
        let wait = Wait::block().for_at_most(PATIENCE);
        match consumer.pass_on(&mut sink, left.min(AHEAD_RECORDS), wait) {
            Ok(Passed { records, trouble }) => {
                progress.add(records, sink.output.written() - before);
                left -= records;
                match trouble {
                    None => {}
                    Some(Trouble::ReaderGone) => break End::ReaderGone,
                    Some(Trouble::Stopped) => break End::Stopped,
                    Some(Trouble::Failed(error)) => return Err(Failed::Write(error)),
                }
            }
            Err(Failed::Read(ReadError::TimedOut)) => {}
            Err(Failed::Read(ReadError::Closed)) => break End::Closed,
            Err(failed) => return Err(failed),
        }
    };
    progress.finish();
    Ok(end)
}

impl Consumer for spsc::Consumer {
    fn pass_on(&mut self, sink: &mut Sink<'_>, max: u64, wait: Wait) -> Result<Passed, Failed> {
        let start = sink.output.added();
        // Where each record ends: in the output, and in the ring.
        let mut ends = VecDeque::new();
        let first = self.peek(wait).map_err(Failed::Read)?;
        let mut outcome = sink.add(first.tag(), &first);
        ends.push_back((sink.output.added(), first.mark()));
        while outcome.is_ok()
            && (ends.len() as u64) < max
            && sink.output.added() - start < AHEAD_BYTES
        {
            // Whatever ends this read is found again by the next one, after the release.
            let Ok(next) = self.try_peek() else { break };
            outcome = sink.add(next.tag(), &next);
            ends.push_back((sink.output.added(), next.mark()));
        }
        let trouble = outcome.and_then(|()| sink.output.flush()).err();
        let out = sink.output.written();
        let whole = match trouble {
            None => ends.back(),
            // The last one was perhaps cut off: where it would have ended nobody knows.
            Some(_) => {
                ends.pop_back();
                ends.iter().rev().find(|(end, _)| *end <= out)
            }
        };
        let records = whole.map_or(0, |(_, mark)| self.release_to(*mark));
        Ok(Passed { records, trouble })
    }
}

impl Consumer for mpmc::Consumer {
    fn pass_on(&mut self, sink: &mut Sink<'_>, max: u64, wait: Wait) -> Result<Passed, Failed> {
        // Others want some too, and senders the space.
        let fair = (self.slots() / 4)
            .min(AHEAD_BYTES / self.max_record().max(1) as u64)
            .max(1);
        let max = usize::try_from(max.min(fair)).unwrap_or(usize::MAX);
        let batch = self.read_batch(max, wait).map_err(Failed::Read)?;
        let mut outcome = Ok(());
        let mut ends = Vec::new();
        for record in &batch {
            outcome = sink.add(record.tag(), record);
            if outcome.is_err() {
                break;
            }
            ends.push(sink.output.added());
        }
        let outcome = outcome.and_then(|()| sink.output.flush());
        let Err(trouble) = outcome else {
            return Ok(Passed {
                records: batch.len() as u64,
                trouble: None,
            });
        };
        let out = sink.output.written();
        let whole = ends.iter().take_while(|end| **end <= out).count();
        for (index, record) in batch.into_records().into_iter().enumerate() {
            if index < whole {
                record.release();
            } else {
                record.requeue();
            }
        }
        Ok(Passed {
            records: whole as u64,
            trouble: Some(trouble),
        })
    }
}
