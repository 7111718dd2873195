//! `annulus bench`: how long a hand-off between processes takes, beside what the machine itself
//! takes for it.
//!
//! The lab measures ([`annulus_lab`]); here are its options, its progress, and where its results
//! go.
//!
//! | file | for |
//! | --- | --- |
//! | `choice` | options as people write them, turned into what the lab is asked |
//! | `outcome` | tables, pages and files made of what was found |

mod choice;
mod outcome;

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use annulus_lab::Conditions;
use annulus_lab::contenders::Backing;
use annulus_lab::ladder;
use annulus_lab::result::{REPORT_VERSION, Report};
use annulus_lab::slices::{self, Bench, Rounds, Step};
use annulus_lab::work::Waiting;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output;
use crate::report::{Answer, Failure};
use crate::size;
use crate::stop::Stop;

/// Measures hand-offs between processes: the machine's floors, the rings, the kernel's ways.
///
/// On a machine that others use too an absolute time means little. So everybody runs in short
/// slices, in turns, with the machine's own floor for that very work measured right before and
/// after each slice: one cache line that two processes bounce, a copy into blocks, a shared futex.
/// What counts is the ratio to the floor. A slice between two floors that differ by more than 1.4
/// was disturbed: it is repeated, and left out if that does not help.
///
/// Players are processes, each pinned to a processor. The sender writes every byte of every record,
/// and the receiver checks every byte and every number, in the timed part.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  annulus bench                                 the whole ladder, in about two minutes
  annulus bench --list                          its scenarios
  annulus bench round-trip/64B stream/64B       those whose names contain these words
  annulus bench --doctor                        what spoils a measurement on this machine
  annulus bench --payload 8,64,4KiB --batch 32  your own records, 32 of them a call
  annulus bench --payload 256 --rate 50000      50,000 a second; latency counts from when each
                                                one was due, so that nobody's stall is forgotten
  annulus bench --kind mpmc --players 4+4 --wait block
  annulus bench --json now.json --report now.html
  annulus bench --baseline before.json          what has changed since

Read a ratio, not a time. A round trip of 1.30 takes 1.3 times as long as the bare cache line; a
stream of 0.80 moves 80 % of what the bare copy moves. Beside the median stand the least and the
greatest of the slices: where they lie far apart, the machine or the contender has more than one
state, and the median hides it.

For steady figures give the processes processors of their own (--cpus 2,3, on one socket, not two
threads of one core), and see what --doctor says. To measure rings in huge pages of tmpfs:
  unshare -m sh -c 'mount -t tmpfs -o huge=always none /dev/shm && annulus bench stream'

Exit codes: 0 if every scenario was measured, also if a contender failed, which the table tells;
2 if nothing could be measured.")]
pub struct BenchArgs {
    /// Scenarios whose names contain any of these words; all of them without.
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Names the scenarios, and measures nothing.
    #[arg(long)]
    list: bool,
    /// One round of tiny slices: shows that everything works, and nothing about speed.
    #[arg(long, conflicts_with_all = ["rounds", "slice"])]
    quick: bool,
    /// How often each contender has its turn.
    #[arg(long, value_name = "COUNT", default_value_t = 9)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// How long a turn is; the floor beside it takes a third.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = choice::parse_time)]
    slice: Duration,
    /// Processors to pin to, in turns; the first two that may be used unless said otherwise.
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    cpus: Vec<usize>,

    /// Whom to measure.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Bytes of a record, 8 at least.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = choice::parse_payload)]
    payload: Vec<usize>,
    /// Records handed over in one call.
    #[arg(long, value_name = "COUNT", value_parser = choice::parse_count)]
    batch: Option<usize>,
    /// Records that a ring holds, rounded up to a power of two; a mebibyte of them unless said
    /// otherwise, but 16 to 4096.
    #[arg(long, value_name = "COUNT", value_parser = choice::parse_count)]
    capacity: Option<usize>,
    /// Producers and consumers, each in a process: 2+2.
    #[arg(long, value_name = "P+C", value_parser = choice::parse_players)]
    players: Option<(usize, usize)>,
    /// What a process does that cannot go on. No more can spin than there are processors.
    #[arg(long, value_name = "HOW")]
    wait: Option<Wait>,
    /// Where rings lie: a file on /dev/shm, a file without a name, or one of huge pages.
    #[arg(long, value_name = "WHERE", default_value = "file")]
    backing: Place,
    /// Records a second of each producer, at even intervals, instead of as fast as they go.
    #[arg(long, value_name = "PER_SECOND", value_parser = choice::parse_rate)]
    rate: Option<Duration>,

    /// Writes all of it as JSON, to a file or, without one, to standard output.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Writes one page with curves and tables that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Writes each latency distribution as a .hgrm file, as HdrHistogram's plotter reads them.
    #[arg(long, value_name = "FOLDER")]
    hgrm: Option<PathBuf>,
    /// Shows what has changed since a run whose JSON was saved.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Says what on this machine spoils a measurement, and what to do about it.
    #[arg(long)]
    doctor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// annulus' byte ring, one producer and one consumer; and the same records without a ring.
    Spsc,
    /// annulus' slot ring, many of both; and the same slots without what a ring adds.
    Mpmc,
    /// Pipe, UNIX sockets, TCP, eventfd, POSIX queue.
    Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Looks again, with a processor of its own.
    Spin,
    /// Lets others run between two looks.
    Yield,
    /// Sleeps in the kernel, sooner or later.
    Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// A file on /dev/shm.
    File,
    /// A file without a name.
    Memfd,
    /// A file without a name, of huge pages; some must be set aside for that.
    Huge,
}

impl From<Kind> for ladder::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Spsc => Self::Spsc,
            Kind::Mpmc => Self::Mpmc,
            Kind::Kernel => Self::Kernel,
        }
    }
}

impl From<Wait> for Waiting {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Spin => Self::Spin,
            Wait::Yield => Self::Yield,
            Wait::Block => Self::Block,
        }
    }
}

impl From<Place> for Backing {
    fn from(place: Place) -> Self {
        match place {
            Place::File => Self::File,
            Place::Memfd => Self::Memfd,
            Place::Huge => Self::Huge,
        }
    }
}

pub fn run(args: &BenchArgs) -> Result<Answer, Failure> {
    let cpus = choice::cpus(&args.cpus)?;
    if args.doctor {
        output::print(&outcome::examination(&cpus))?;
        return Ok(Answer::Yes);
    }
    let benches = choice::benches(args, &cpus)?;
    if args.list {
        let names = benches
            .iter()
            .map(|bench| (bench.name.as_str(), bench.title.as_str()));
        let width = names.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = names.map(|(name, title)| format!("{name:width$}  {title}\n"));
        output::print(&lines.collect::<String>())?;
        return Ok(Answer::Yes);
    }
    // Read first: a file that cannot be read is told before minutes are spent.
    let baseline = args.baseline.as_deref().map(outcome::load).transpose()?;
    let stop = Stop::new()?;
    let report = measure(args, &benches, cpus, &stop)?;
    outcome::tell(args, &report, baseline.as_ref())?;
    Ok(stop.finish(Answer::Yes))
}

fn rounds_of(args: &BenchArgs, cpus: Vec<usize>) -> Rounds {
    let (rounds, slice) = if args.quick {
        (1, Duration::from_millis(5))
    } else {
        (args.rounds, args.slice)
    };
    let slice = Conditions {
        cpus,
        warm_up: slice / 10,
        time: slice,
        folder: PathBuf::from("/dev/shm"),
    };
    Rounds {
        rounds,
        floor: Conditions {
            warm_up: slice.time / 20,
            time: slice.time / 3,
            ..slice.clone()
        },
        slice,
    }
}

fn measure(
    args: &BenchArgs,
    benches: &[Bench],
    cpus: Vec<usize>,
    stop: &Stop,
) -> Result<Report, Failure> {
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut report = Report {
        version: REPORT_VERSION,
        machine: outcome::machine(&cpus),
        command: choice::command_line(),
        began: began.unwrap_or_default().as_secs(),
        scenarios: Vec::new(),
    };
    let rounds = rounds_of(args, cpus);
    let progress = Progress::new(benches, &rounds);
    for bench in benches {
        let mut watch = |step: &Step<'_>| {
            progress.show(step);
            if stop.requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let scenario = slices::run(bench, &rounds, &mut watch);
        if stop.requested() {
            break;
        }
        let scenario = scenario.map_err(|fault| {
            let what = format_args!("cannot measure the floor of {}", bench.name);
            Failure::because(what, &fault)
        })?;
        report.scenarios.push(scenario);
    }
    progress.end();
    Ok(report)
}

/// A line on stderr, if somebody sits there. Drawn between slices, by nobody else: a thread that
/// draws would disturb what is measured, and the lab forks.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(benches: &[Bench], rounds: &Rounds) -> Self {
        let rows: usize = benches.iter().map(|bench| bench.contenders.len()).sum();
        let bar = ProgressBar::new(rows as u64 * u64::from(rounds.rounds));
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {eta:>4}  {msg}");
        bar.set_style(style.expect("the template is well formed"));
        Self { bar }
    }

    fn show(&self, step: &Step<'_>) {
        self.bar
            .set_message(format!("{}: {}", step.scenario, step.contender));
        self.bar.inc(1);
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What went wrong with a file.
fn of_file(verb: &str, path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::because(format_args!("cannot {verb} `{}`", path.display()), error)
}

/// Sizes as options have them.
fn bytes_of(text: &str) -> Result<usize, String> {
    usize::try_from(size::parse(text)?).map_err(|error| error.to_string())
}
