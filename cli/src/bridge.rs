//! `annulus bridge`.
//!
//! All that it does is the library's; here the ends are read, what happens is told on stderr, and
//! the first signal becomes the wish to stop.

use std::path::Path;
use std::time::Duration;

use annulus::bridge::{Bridge, BridgeError, End, Event, Settings, Summary};
use annulus::segment::AttachOptions;
use bytesize::ByteSize;
use clap::Args;

use crate::report::{Answer, Failure, printable};
use crate::stop::Stop;

/// Moves records between a ring and a network, so that none is lost.
///
/// One end is a ring, the other one a socket. Two bridges make the same ring on two machines: each
/// record arrives once and in order, whichever bridge is killed whenever, if the ring is an SPSC
/// one at the source. Start them in any order; each tries on until the other one is there.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Ends:
  ring:PATH                    a ring of this machine; it must exist
  tcp://HOST:PORT              calls there, again and again
  tcp-listen://ADDRESS:PORT    is called there
  unix:PATH, unix-listen:PATH  the same with a UNIX socket
  Which side calls is independent of which way records go. Special characters of a path are written
  %3F for ?, %23 for #, %25 for %. Quote a URL with ? or & for the shell.

Options of the sending end's socket, as ?key=value&key=value:
  subscribers=N   serve N receivers, 1 to 16; 1 if it is not said. Each has a name and a place of
                  its own. A record is released when all N have committed it; until N have come for
                  the first time, nothing is. Their names are kept in the ring's file.
  forget=NAME     do not wait for that receiver any more
  slow=block      (as it is if nothing is said) a slow or absent receiver holds the ring up: it
                  fills, and its producer waits
  slow=disconnect a receiver that is more than `lag` bytes behind the fastest one for a second, or
                  confirms nothing for a second while the ring holds as much, is disconnected, and
                  told of a gap when it comes back
  slow=drop       it stays connected, is told of a gap, and goes on near the newest record
  lag=BYTES       for these two; half of the ring's capacity if it is not said
Of the receiving end's socket:
  name=NAME       under which the sender remembers this receiver; else the ring's own id
Of either socket:
  framing=lines, framing=len32
                  the peer is no bridge but `nc`, or twenty lines of Python: a record a line, or
                  behind its length as a little-endian u32. At most once: nobody confirms anything.
Of a ring that is written to:
  accept-other-source=yes  go on behind the records of another ring; otherwise that is refused
  reopen=yes               open it if it is closed

What is promised is printed at the start. In short:
  from an SPSC ring        each record once, in order, whoever is killed
  from an MPMC ring        at least once: what was unconfirmed when the sending bridge died comes
                           again; the order is that of its claims
  into an MPMC ring        the same as into an SPSC ring; one bridge at a time, beside other
                           producers
  plain framings           at most once

The end:
  When the source is closed and all is confirmed, both bridges end with 0, and the destination is
  closed. SIGTERM or SIGINT: what was in the ring is sent and confirmed within --drain-timeout, then
  exit 0; otherwise exit 1, and nothing is lost: the rest goes out when the bridge is started again.
  A second signal ends it at once, as safely.

Examples:
  annulus bridge ring:/dev/shm/orders 'tcp-listen://0.0.0.0:7400?subscribers=2'
  annulus bridge tcp://10.0.0.2:7400 ring:/dev/shm/orders           on each of two other machines
  annulus bridge ring:/dev/shm/orders unix-listen:/run/orders.sock
  annulus bridge ring:/dev/shm/log 'tcp-listen://127.0.0.1:7401?framing=lines' & nc 127.0.0.1 7401

Who can connect is who can reach the socket: there is no password and no TLS. Use addresses that
strangers cannot reach, or a UNIX socket.")]
pub struct BridgeArgs {
    /// Where records come from.
    source: End,
    /// Where they go.
    destination: End,
    /// Wait for confirmations for so many seconds when asked to end.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    drain_timeout: Duration,
    /// Take a peer for gone that is silent for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    silence: Duration,
    /// Most records that are sent and not confirmed, to one receiver.
    #[arg(long, value_name = "N", default_value_t = Settings::default().window_records)]
    window_records: u64,
    /// Most bytes of them.
    #[arg(long, value_name = "SIZE", default_value = "8MiB")]
    window_bytes: ByteSize,
    /// Say nothing but errors.
    #[arg(long)]
    quiet: bool,
    /// Also on file systems on which the guarantees are not known to hold.
    #[arg(long)]
    force_file_system: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number| *number > 0.0);
    number
        .and_then(|number| Duration::try_from_secs_f64(number).ok())
        .ok_or_else(|| "expected a number of seconds above 0".to_owned())
}

pub fn run(args: &BridgeArgs) -> Result<Answer, Failure> {
    let stop = Stop::new()?;
    let settings = Settings {
        silence: args.silence,
        drain_timeout: args.drain_timeout,
        window_records: args.window_records.max(1),
        window_bytes: args.window_bytes.as_u64().max(1),
        ..Settings::default()
    };
    let options = AttachOptions {
        force_file_system: args.force_file_system,
        ..AttachOptions::default()
    };
    let ends = (args.source.clone(), args.destination.clone());
    // SAFETY: whoever may write to the file uses it through annulus: `annulus --help` says that
    // they are trusted to, and that the mode of the file says who they are.
    let bridge = unsafe { Bridge::attach(ends.0, ends.1, settings, &options) };
    let bridge = bridge.map_err(|error| failure(args, &error))?;
    let say = |text: &str| {
        if !args.quiet {
            eprintln!("bridge: {}", printable(text));
        }
    };
    say(&format!("guarantee: {}", bridge.guarantee()));
    let mut report = |event: &Event<'_>| say(&event.to_string());
    let summary = bridge.run(stop.descriptor(), &mut report);
    let summary = summary.map_err(|error| failure(args, &error))?;
    say(&told(&summary));
    Ok(if summary.all_confirmed {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn told(summary: &Summary) -> String {
    let Summary {
        confirmed,
        connections,
        gap_records,
        ..
    } = summary;
    let rest = if summary.all_confirmed {
        "all was confirmed"
    } else {
        "not all was confirmed: start it again, and the rest goes out"
    };
    format!(
        "{confirmed} records confirmed, {connections} connections, {gap_records} in gaps; {rest}"
    )
}

fn failure(args: &BridgeArgs, error: &BridgeError) -> Failure {
    if let (BridgeError::Attach(error), Some(path)) = (error, ring(args)) {
        return Failure::of_ring("bridge", path, error);
    }
    let failure = Failure::because("cannot bridge", error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn ring(args: &BridgeArgs) -> Option<&Path> {
    [&args.source, &args.destination]
        .into_iter()
        .find_map(|end| match end {
            End::Ring(ring) => Some(&*ring.path),
            End::Socket(_) => None,
        })
}
