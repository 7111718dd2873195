//! What happens, on stderr: one line for each change of state, and none for a record.

use annulus::bridge::{Event, LinkError, Summary};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::report::Failure;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// Checks a filter: a level, or more of what `RUST_LOG` takes.
///
/// The AMQP library tells of each message that comes back, with all that is in it, and of each
/// attempt; the bridge tells of both once. It is heard if it is asked for by its name.
pub fn filter(directives: &str) -> Result<EnvFilter, Failure> {
    let quiet = format!("lapin=off,{directives}");
    EnvFilter::try_new(quiet).map_err(|error| {
        let what = format!("`{directives}` is no level of a log");
        Failure::because(what, &error).hint("one of error, warn, info, debug, trace, off")
    })
}

/// Everything that is told from here on goes to stderr.
pub fn begin(format: Format, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    match format {
        Format::Text => builder.init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

/// One change of state. What others have chosen, as names, stands in fields: these are quoted.
pub fn event(event: &Event<'_>) {
    match event {
        Event::Listening { at } => info!(at, "listening"),
        Event::Connecting { at } => info!(at, "connecting"),
        Event::Unreachable { at, why } => warn!(at, why = why.to_string(), "unreachable"),
        Event::Connected { peer, name, next } => info!(peer, name, next, "connected"),
        Event::Disconnected { peer, name, why } => {
            let text = why.to_string();
            match why {
                LinkError::Refused { .. }
                | LinkError::Forbidden { .. }
                | LinkError::Unproved(_) => warn!(peer, name, why = text, "refused"),
                _ => warn!(peer, name, why = text, "lost"),
            }
        }
        Event::Gap { name, from, to } => {
            warn!(name, from, to, records = to.wrapping_sub(*from), "gap");
        }
        Event::Draining { unconfirmed } => info!(unconfirmed, "draining"),
        Event::Ended { records } => info!(records, "ended"),
        Event::NotTaken { at, position, why } => warn!(at, position, why, "not taken"),
        Event::Blocked { at, why } => warn!(at, why, "blocked"),
        Event::Unblocked { at } => info!(at, "unblocked"),
        other => info!(what = other.to_string(), "changed"),
    }
}

/// The last line.
pub fn ended(summary: &Summary) {
    let Summary {
        confirmed,
        connections,
        gap_records,
        nacked,
        returned,
        republished,
        duplicates,
        ..
    } = *summary;
    // What did not happen is not told.
    let [nacked, returned, republished, duplicates] =
        [nacked, returned, republished, duplicates].map(|count| (count > 0).then_some(count));
    if summary.all_confirmed {
        info!(
            confirmed,
            connections, gap_records, nacked, returned, republished, duplicates, "drained"
        );
    } else {
        let rest = "start it again, and the rest goes out";
        warn!(
            confirmed,
            connections,
            gap_records,
            nacked,
            returned,
            republished,
            duplicates,
            rest,
            "not drained"
        );
    }
}
