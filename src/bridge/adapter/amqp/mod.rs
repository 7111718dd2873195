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
mod publisher;
mod session;

use std::io;
use std::time::Duration;

use super::super::broker::{Broker, Inlet, Outlet};
use super::super::frame::StreamId;
use super::super::url::AmqpEnd;
use super::super::{Ring, Settings};

/// Most messages that the broker sends ahead, unless it is said.
pub(in crate::bridge) const PREFETCH: u16 = 1000;

/// What may be relied upon, whoever is killed.
pub(in crate::bridge) fn guarantee(ring: &Ring) -> &'static str {
    match ring {
        Ring::FromBytes(_) => {
            "each record at least once into the broker, whoever is killed; what comes twice has \
             the same headers, by which a bridge at the other end drops it. A record is released \
             when the broker has confirmed it: from then on it is as safe as its queue is"
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

/// A broker, and where in it messages go or come from.
#[derive(Debug)]
pub(in crate::bridge) struct Amqp {
    end: AmqpEnd,
    /// A session that has not begun by then has failed, and one that hears nothing for so long has
    /// ended.
    silence: Duration,
}

impl Amqp {
    pub(in crate::bridge) fn new(end: AmqpEnd, settings: &Settings) -> Self {
        Self {
            end,
            silence: settings.silence,
        }
    }
}

impl Broker for Amqp {
    fn at(&self) -> String {
        self.end.at()
    }

    fn publish(&mut self, stream: StreamId) -> io::Result<Box<dyn Outlet>> {
        let outlet = publisher::begin(self.end.clone(), self.silence, stream)?;
        Ok(Box::new(outlet))
    }

    fn consume(&mut self, ahead: u16) -> io::Result<Box<dyn Inlet>> {
        let inlet = consumer::begin(self.end.clone(), self.silence, ahead)?;
        Ok(Box::new(inlet))
    }
}
