//! AMQP 0-9-1, as RabbitMQ speaks it. At least once.
//!
//! Each session is a connection with one channel, and lives in a thread of its own, with the
//! executor that the protocol's library wants. Through two queues it is told what to do, and tells
//! what came; a descriptor becomes readable when something has. It knows no ring, no window and no
//! cursor: what it is told it publishes, and of each message it tells one outcome.
//!
//! The library's own recovery stays off: what was in flight when a connection ended only the driver
//! knows, and only it publishes that again.
//!
//! | file | for |
//! | --- | --- |
//! | `session` | the thread, the connection, exchanges and queues |
//! | `transport` | the way to the broker, in the clear or over TLS |
//! | `publisher`, `consumer` | what a session does |
//! | `confirms` | which message a confirmation, or a return, is about |
//! | `headers` | which record a message is |
//!
//! # After a crash
//! The broker sees the connection end, and puts back into their queues what was not acknowledged.
//! What it had taken and not confirmed it has, or has not: the driver publishes it again.

mod confirms;
mod consumer;
mod headers;
mod key;
mod publisher;
mod session;
mod transport;

use std::io;
use std::time::Duration;

use super::super::broker::{Broker, Inlet, Outlet};
use super::super::error::BridgeError;
use super::super::frame::StreamId;
use super::super::url::AmqpEnd;
use super::super::{Ring, Settings};
use transport::Transport;

/// Most messages that the broker sends ahead, unless it is said.
const PREFETCH: u16 = 1000;

/// What may be relied upon, whoever is killed.
pub(in crate::bridge) fn guarantee(ring: &Ring) -> &'static str {
    match ring {
        Ring::FromBytes(_) => {
            "each record at least once into the broker, whoever is killed; what comes twice has \
             the same headers, by which a bridge at the other end drops it. A record is released \
             when the broker has confirmed it: from then on it is as safe as its queue is, and one \
             with a limit drops the oldest (drop-head) unless it says reject-publish"
        }
        Ring::FromSlots(_) => {
            "each record at least once into the broker, whoever is killed; what was not confirmed \
             when this bridge dies is published again, with other headers"
        }
        Ring::Into(..) => {
            "each message at least once, whoever is killed; a record of a bridge that has come \
             before is dropped, as far as its headers tell"
        }
    }
}

/// Where a session leads, and how it gets there.
#[derive(Clone, Debug)]
struct Target {
    end: AmqpEnd,
    transport: Transport,
}

/// A broker, and where in it messages go or come from.
#[derive(Debug)]
pub(in crate::bridge) struct Amqp {
    target: Target,
    /// A session that has not begun by then has failed, and one that hears nothing for so long has
    /// ended.
    silence: Duration,
}

impl Amqp {
    /// # Errors
    /// If it is to be TLS and that was not built in, or its credentials cannot be used.
    pub(in crate::bridge) fn new(end: AmqpEnd, settings: &Settings) -> Result<Self, BridgeError> {
        let transport = Transport::new(&end)?;
        Ok(Self {
            target: Target { end, transport },
            silence: settings.silence,
        })
    }

    /// Most messages that the broker is to send ahead.
    pub(in crate::bridge) fn ahead(&self) -> u16 {
        self.target.end.prefetch.unwrap_or(PREFETCH)
    }
}

impl Broker for Amqp {
    fn at(&self) -> String {
        self.target.end.at()
    }

    fn publish(&mut self, stream: StreamId) -> io::Result<Box<dyn Outlet>> {
        let outlet = publisher::begin(self.target.clone(), self.silence, stream)?;
        Ok(Box::new(outlet))
    }

    fn consume(&mut self, ahead: u16) -> io::Result<Box<dyn Inlet>> {
        let inlet = consumer::begin(self.target.clone(), self.silence, ahead)?;
        Ok(Box::new(inlet))
    }
}
