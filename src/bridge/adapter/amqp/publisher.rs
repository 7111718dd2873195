//! A session that publishes: persistent messages, each of which must find a queue and is confirmed.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Event};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::StreamExt;

use super::Target;
use super::confirms::{Confirms, Resolved};
use super::headers::{self, Stamp};
use super::key::Key;
use super::session::{self, Session, Teller, said};
use crate::bridge::broker::{Outcome, Outgoing, Outlet};
use crate::bridge::error::LinkError;
use crate::bridge::frame::StreamId;

/// Messages that are published before confirmations are looked at again.
const ROUND: usize = 256;

#[derive(Debug)]
pub(super) struct Publisher(Session<Outgoing, Outcome>);

impl Outlet for Publisher {
    fn publish(&mut self, record: Outgoing) {
        self.0.command(record);
    }

    fn take(&mut self, outcomes: &mut Vec<Outcome>) -> Result<(), LinkError> {
        self.0.take(outcomes)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    fn close(&mut self, patience: Duration) {
        self.0.close(patience);
    }
}

pub(super) fn begin(target: Target, silence: Duration, stream: StreamId) -> io::Result<Publisher> {
    let work =
        move |orders, teller| async move { work(&target, silence, stream, orders, teller).await };
    session::begin("bridge-publish", work).map(Publisher)
}

/// What every message of a session has in common.
struct Publishing {
    channel: Channel,
    exchange: ShortString,
    key: Key,
    stream: StreamId,
    stamp: Stamp,
}

async fn work(
    target: &Target,
    silence: Duration,
    stream: StreamId,
    mut orders: UnboundedReceiver<Outgoing>,
    teller: Teller<Outcome>,
) -> Result<(), LinkError> {
    let end = &target.end;
    let begun = async {
        let (connection, channel) = session::connect(target, silence).await?;
        session::prepare(&channel, end).await?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.map_err(said)?;
        Ok((connection, channel))
    };
    let begun = tokio::time::timeout(silence, begun).await;
    let (connection, channel) = begun.unwrap_or(Err(LinkError::Silent(silence)))?;
    let publishing = Publishing {
        channel,
        exchange: end.exchange.as_deref().unwrap_or_default().into(),
        key: Key::new(end.routing_key.as_deref().unwrap_or_default()),
        stream,
        stamp: Stamp::new(&stream),
    };
    let mut events = Box::pin(connection.events_listener());
    let mut confirms = Confirms::default();
    let mut outcomes = vec![Outcome::Ready];
    loop {
        // Ends by the driver's wish, or with the connection.
        let settled = confirms.settle(&mut outcomes);
        teller.tell(outcomes.drain(..));
        settled?;
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(why)) => outcomes.push(Outcome::Blocked(why)),
                Some(Event::ConnectionUnblocked) => outcomes.push(Outcome::Unblocked),
                Some(Event::Error(error)) => return Err(said(error)),
                Some(_) => {}
                None => return Err(LinkError::HungUp),
            },
            () = confirms.wait() => {}
            order = orders.recv(), if !confirms.is_in_doubt() => {
                let Some(record) = order else {
                    session::part(&connection).await;
                    return Ok(());
                };
                publishing.publish(record, &mut confirms)?;
                for _ in 1..ROUND {
                    let Ok(record) = orders.try_recv() else { break };
                    publishing.publish(record, &mut confirms)?;
                }
            }
        }
    }
}

impl Publishing {
    /// What goes to the broker is put in order by the first look at each flight.
    fn publish(&self, record: Outgoing, confirms: &mut Confirms) -> Result<(), LinkError> {
        let (channel, stream) = (self.channel.clone(), self.stream);
        let (exchange, routing_key) = (self.exchange.clone(), self.key.of(record.tag));
        let position = record.position;
        let properties = self.stamp.of(position, record.tag);
        let flight = async move {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let payload = &record.payload;
            let sent = channel.basic_publish(exchange, routing_key, options, payload, properties);
            match sent.await.map_err(said)?.await.map_err(said)? {
                Confirmation::Ack(returned) => resolved(&stream, true, returned),
                Confirmation::Nack(returned) => resolved(&stream, false, returned),
                Confirmation::NotRequested => Err(LinkError::Nonsense("confirms nothing")),
            }
        };
        confirms.begin(position, Box::pin(flight))
    }
}

fn resolved(
    ours: &StreamId,
    taken: bool,
    returned: Option<BasicReturnMessage>,
) -> Result<Resolved, LinkError> {
    let Some(message) = returned else {
        let returned = None;
        return Ok(Resolved { taken, returned });
    };
    match headers::read(&message.delivery.properties) {
        (Some((stream, position)), _) if stream == *ours => {
            let why = format!("{} ({})", message.reply_text, message.reply_code);
            let returned = Some((position, why));
            Ok(Resolved { taken, returned })
        }
        _ => Err(LinkError::Nonsense("returns what was not published")),
    }
}
