//! `annulus bridge`.
//!
//! All that it does is the library's; here it is told what to do ([`config`]), tells what happens
//! ([`log`]) and how much of it ([`metrics`]), and the first signal becomes the wish to stop.

mod config;
mod log;
mod metrics;

use std::path::{Path, PathBuf};

use annulus::bridge::{Bridge, BridgeError, End, Event, Settings};
use annulus::segment::AttachOptions;
use clap::Args;
use tracing::{error, info, warn};

use crate::report::{Answer, Failure};
use crate::stop::Stop;
use config::Layer;
use log::Format;

/// Moves records between a ring and a network, so that none is lost.
///
/// One end is a ring, the other one a socket or a broker. Two bridges make the same ring on two
/// machines: each record arrives once and in order, whichever bridge is killed whenever, if the
/// ring is an SPSC one at the source. Start them in any order; each tries on until the other one is
/// there.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Ends:
  ring:PATH                    a ring of this machine; it must exist
  tcp://HOST:PORT              calls there, again and again
  tcp-listen://ADDRESS:PORT    is called there
  tls://, tls-listen://        the same two, encrypted
  unix:PATH, unix-listen:PATH  the same with a UNIX socket
  amqp://USER:PASSWORD@HOST:PORT/VHOST   a broker that speaks AMQP 0-9-1, as RabbitMQ; guest, guest,
                               5672 and the vhost / (written %2f) if they are not said
  amqps://...                  the same, encrypted; 5671 if the port is not said
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
                  told of a gap when it comes back; the newest `lag` bytes stay for it. One that is
                  away is waited for 5 seconds before
  slow=drop       it stays connected, is told of a gap, and goes on near the newest record
  lag=BYTES       for these two; half of the ring's capacity if it is not said, three quarters of it
                  at most: then records of up to an eighth of the ring make nobody wait for ever
  Of an MPMC ring names are not kept, and there is neither forget= nor slow= but for slow=block.
Of the receiving end's socket:
  name=NAME       under which the sender remembers this receiver; else the ring's own id
Of a TLS end, where framing= is not to be had, and of amqps://; files in PEM, read at the start:
  ca=FILE         calling: by whom the other end has to be signed, else by whom the system trusts;
                  its certificate must be for the host of the URL. Listening: by whom callers have
                  to be signed, else anybody is let in
  cert=FILE, key=FILE   this end's certificate and its key; who listens needs them
Of any socket without framing=:
  secret=FILE     both ends must have the same one, and prove it before a record is sent or a
                  receiver takes a place: 16 bytes at least, better 32 random ones, in a file of
                  mode 0600, read when the bridge starts. Over tcp:// it says who is there, and
                  encrypts nothing: who can alter what goes over the line can do so behind the
                  greeting
Of a UNIX socket:
  allow_uid=1000,0  whose processes may be at the other end, by the kernel's word; others are hung
                  up on before a byte is read. Otherwise the mode of the socket's file decides.
Of either socket:
  framing=lines, framing=len32
                  the peer is no bridge but `nc`, or twenty lines of Python: a record a line, or
                  behind its length as a little-endian u32. Nobody confirms anything.
Of a broker:
  exchange=E, routing_key=K
                  where records go; without an exchange, K is the name of a queue. {tag} in K
                  stands for the record's tag, which is a header as well (annulus-tag)
  queue=Q         where they come from
  declare=yes     create the exchange, the queue and the binding between them, if they are named;
                  otherwise they must exist. With durable=no not for longer than the broker
                  runs, with exchange_type=direct, fanout, topic or headers
  prefetch=N      receiving: most messages ahead of their acknowledgement, 1000 if it is not said
  password_file=PATH, password_env=NAME
                  instead of a password in the URL, which others can see among the arguments. Read
                  anew for each connection
Of a ring that is written to:
  accept-other-source=yes  go on behind the records of another ring, once; otherwise, and for
                           another one after that, it is refused
  reopen=yes               open it if it is closed

What is promised is printed at the start. In short:
  from an SPSC ring        each record once, in order, whoever is killed
  from an MPMC ring        at least once: what was unconfirmed when the sending bridge died comes
                           again; the order is that of its claims. Its --redelivery must be
                           unlimited
  into an MPMC ring        the same as into an SPSC ring; one bridge at a time, beside other
                           producers
  to a plain peer          nothing: a record counts as delivered when the kernel has taken it; it is
                           lost if the connection ends before it is read, and sent twice if the
                           bridge is killed between the two
  from a plain peer        once, but for what was under way when the connection or the bridge ended
  slow=disconnect, drop    the same, but for gaps, which are counted and told
  into a broker            at least once; released when the broker has confirmed it, to a queue. It
                           then is as safe as its queue: a queue that may drop what is oldest
                           (x-overflow drop-head, the default of queues with a limit) may lose it
  from a broker            at least once; what a bridge has published, once, as far as its headers
                           and the ring's file can tell. Other producers' messages simply pass

The end:
  When the source is closed and all is confirmed, both bridges end with 0, and the destination is
  closed. SIGTERM or SIGINT: what was in the ring is sent and confirmed within --drain-timeout, then
  exit 0; otherwise exit 1, and nothing is lost: the rest goes out when the bridge is started again.
  A second signal ends it at once, as safely.

Settings:
  A flag goes before its environment variable, that one before --config FILE, which is TOML with the
  flags' long names and `source` and `destination`; --check-config prints what comes of it. An end
  with a password belongs into the file or the environment: others can see a command's arguments.

Figures, with --metrics:
  /metrics  for Prometheus; alarm on annulus_bridge_progress_age_seconds: for so long something is
            owed and nothing was confirmed
  /readyz   200 if everybody is connected, and what is owed gets on within --silence
  /livez    200 as long as the bridge itself does not hang
  They are for whoever reaches that address, and it has no time-outs: keep it on loopback.

Examples:
  annulus bridge ring:/dev/shm/orders 'tcp-listen://0.0.0.0:7400?subscribers=2'
  annulus bridge tcp://10.0.0.2:7400 ring:/dev/shm/orders           on each of two other machines
  annulus bridge ring:/dev/shm/orders 'tls-listen://0.0.0.0:7401?cert=a.pem&key=a.key&ca=ca.pem'
  annulus bridge ring:/dev/shm/orders 'tcp-listen://10.0.0.1:7400?secret=/etc/annulus/orders.secret'
  annulus bridge ring:/dev/shm/orders unix-listen:/run/orders.sock
  annulus bridge ring:/dev/shm/orders \
    'amqp://me@localhost/%2f?exchange=orders&routing_key=new&password_file=/run/secrets/me'
  annulus bridge 'amqp://localhost/%2f?queue=orders' ring:/dev/shm/orders
  annulus bridge ring:/dev/shm/log 'tcp-listen://127.0.0.1:7401?framing=lines' & nc 127.0.0.1 7401

Who can connect to tcp-listen:// is who can reach it: use addresses that strangers cannot reach, a
UNIX socket, tls-listen:// with ca=, or secret=, which keeps strangers out and hides nothing. A
broker of another machine is for amqps://.")]
pub struct BridgeArgs {
    #[command(flatten)]
    layer: Layer,
    /// Settings that neither a flag nor the environment tells, in TOML.
    #[arg(long, value_name = "FILE", env = "ANNULUS_BRIDGE_CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings as such a file, without passwords, and end.
    #[arg(long)]
    check_config: bool,
}

pub fn run(args: &BridgeArgs) -> Result<Answer, Failure> {
    let file = match &args.config {
        Some(path) => Layer::of_file(path)?,
        None => Layer::default(),
    };
    let layer = args.layer.clone().over(Layer::of_rust_log()).over(file);
    let layer = layer.over(Layer::usual());
    let ends = (
        config::end("source", layer.source.as_deref())?,
        config::end("destination", layer.destination.as_deref())?,
    );
    let level = match &layer.log_level {
        _ if layer.quiet == Some(true) => "error",
        Some(level) => level,
        None => "info",
    };
    let filter = log::filter(level)?;
    if args.check_config {
        Bridge::check(&ends.0, &ends.1).map_err(|error| failure(None, &error))?;
        print(&layer.to_toml()?)?;
        return Ok(Answer::Yes);
    }
    let format = layer.log.unwrap_or_default();
    log::begin(format, filter);
    for name in config::strangers() {
        warn!(name, "unknown environment variable");
    }
    let outcome = bridge(&layer, ends);
    outcome.map_err(|failure| match format {
        Format::Text => failure,
        Format::Json => {
            error!(why = failure.message(), hint = failure.hinted(), "failed");
            failure.told()
        }
    })
}

fn bridge(layer: &Layer, (source, destination): (End, End)) -> Result<Answer, Failure> {
    let stop = Stop::new()?;
    let settings = settings(layer);
    let patience = settings.silence;
    let options = AttachOptions {
        force_file_system: layer.force_file_system.unwrap_or_default(),
        ..AttachOptions::default()
    };
    let path = [&source, &destination]
        .into_iter()
        .find_map(|end| match end {
            End::Ring(ring) => Some(ring.path.clone()),
            End::Socket(_) | End::Amqp(_) => None,
        });
    let shown = [&source, &destination].into_iter().any(shows_password);
    let failed = |error| failure(path.as_deref(), &error);
    // SAFETY: whoever may write to the file uses it through annulus: `annulus --help` says that
    // they are trusted to, and that the mode of the file says who they are.
    let bridge = unsafe { Bridge::attach(source, destination, settings, &options) };
    let bridge = bridge.map_err(failed)?;
    let [from, to] = [&layer.source, &layer.destination]
        .map(|end| end.as_deref().map(config::printed).unwrap_or_default());
    let guarantee = bridge.guarantee();
    info!(source = from, destination = to, guarantee, "starting");
    if shown {
        warn!(
            "others on this machine can see the password among the arguments: give it with \
             ?password_file= or ?password_env="
        );
    }
    if let Some(address) = layer.metrics.and_then(|metrics| metrics.0) {
        let at = metrics::serve(address, bridge.gauges(), patience)?;
        info!(at = format!("http://{at}/metrics"), "metrics");
    }
    let mut report = |event: &Event<'_>| log::event(event);
    let summary = bridge.run(stop.descriptor(), &mut report);
    let summary = summary.map_err(failed)?;
    log::ended(&summary);
    Ok(if summary.all_confirmed {
        Answer::Yes
    } else {
        Answer::No
    })
}

fn shows_password(end: &End) -> bool {
    matches!(end, End::Amqp(end) if end.shows_password())
}

fn settings(layer: &Layer) -> Settings {
    let usual = Settings::default();
    let seconds = |seconds: config::Seconds| seconds.0;
    Settings {
        silence: layer.silence.map_or(usual.silence, seconds),
        drain_timeout: layer.drain_timeout.map_or(usual.drain_timeout, seconds),
        window_records: layer.window_records.unwrap_or(usual.window_records).max(1),
        window_bytes: layer
            .window_bytes
            .map_or(usual.window_bytes, |bytes| bytes.0)
            .max(1),
        ..usual
    }
}

fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    let mut stdout = std::io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::because("cannot write", &error))
        }
        _ => Ok(()),
    }
}

fn failure(ring: Option<&Path>, error: &BridgeError) -> Failure {
    if let (BridgeError::Attach(error), Some(path)) = (error, ring) {
        return Failure::of_ring("bridge", path, error);
    }
    let failure = Failure::because("cannot bridge", error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
