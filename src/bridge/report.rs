//! What a bridge tells while it runs, and when it ends.

use core::fmt;

use super::error::LinkError;

/// A change of state.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// It can be called.
    Listening {
        /// Where.
        at: &'a str,
    },
    /// It calls; told once, until somebody answers.
    Connecting {
        /// Where.
        at: &'a str,
    },
    /// Nobody answers; told once, until somebody does.
    Unreachable {
        /// Where.
        at: &'a str,
        /// Why.
        why: &'a std::io::Error,
    },
    /// Records can flow.
    Connected {
        /// With whom.
        peer: &'a str,
        /// The subscriber's name.
        name: &'a str,
        /// Number of the next record.
        next: u64,
    },
    /// A connection has ended.
    Disconnected {
        /// With whom.
        peer: &'a str,
        /// The subscriber's name; empty if it had not told it.
        name: &'a str,
        /// Why.
        why: &'a LinkError,
    },
    /// A broker does not take a record, and is offered it again and again; told once, until it
    /// takes some.
    NotTaken {
        /// Where.
        at: &'a str,
        /// Number of the record.
        position: u64,
        /// Why.
        why: &'a str,
    },
    /// A broker takes nothing for now.
    Blocked {
        /// Where.
        at: &'a str,
        /// Why.
        why: &'a str,
    },
    /// It does again.
    Unblocked {
        /// Where.
        at: &'a str,
    },
    /// Records that the subscriber never gets.
    Gap {
        /// Its name.
        name: &'a str,
        /// Number of the first one.
        from: u64,
        /// Number of the next one that it gets.
        to: u64,
    },
    /// It is to stop, and waits for what is not confirmed.
    Draining {
        /// How many records that are.
        unconfirmed: u64,
    },
    /// The source is closed, and everything is confirmed.
    Ended {
        /// How many records there were in all.
        records: u64,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening { at } => write!(f, "listening at {at}"),
            Self::Connecting { at } => write!(f, "connecting to {at}"),
            Self::Unreachable { at, why } => write!(f, "cannot reach {at}, trying on: {why}"),
            Self::Connected { peer, name, next } => {
                write!(f, "connected with {peer} as {name}, next record {next}")
            }
            Self::Disconnected { peer, name, why } => {
                write!(f, "disconnected from {peer}")?;
                if !name.is_empty() {
                    write!(f, " ({name})")?;
                }
                write!(f, ": {why}")
            }
            Self::NotTaken { at, position, why } => {
                write!(f, "{at} does not take record {position}, trying on: {why}")
            }
            Self::Blocked { at, why } => write!(f, "{at} takes nothing for now: {why}"),
            Self::Unblocked { at } => write!(f, "{at} takes records again"),
            Self::Gap { name, from, to } => {
                let lost = to.wrapping_sub(*from);
                write!(f, "gap: {name} never gets {lost} records, from {from} on")
            }
            Self::Draining { unconfirmed } => {
                write!(f, "stopping, {unconfirmed} records are not confirmed yet")
            }
            Self::Ended { records } => write!(f, "the stream has ended after {records} records"),
        }
    }
}

/// How a bridge ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Everything that was there when it was to stop is confirmed.
    pub all_confirmed: bool,
    /// The stream has ended: the source was closed.
    pub ended: bool,
    /// Records that were confirmed while it ran: by all subscribers, or to the sender.
    pub confirmed: u64,
    /// Gaps that were told.
    pub gaps: u64,
    /// Records in them, one subscriber's counted apart from another's.
    pub gap_records: u64,
    /// Connections that were made.
    pub connections: u64,
    /// To a broker: messages that were published, each time counted.
    pub published: u64,
    /// Of these, how many it did not take.
    pub nacked: u64,
    /// Of these, for how many it had no queue.
    pub returned: u64,
    /// Records that were, or are, to be published again: for these reasons, or since a session
    /// ended before it was known what had become of them.
    pub republished: u64,
    /// From a broker: messages that had come before, and were dropped.
    pub duplicates: u64,
}
