//! A session that takes messages, and acknowledges them when it is told to.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::StreamExt;

use super::Target;
use super::headers;
use super::session::{self, Session, Teller, said};
use crate::bridge::broker::{Delivery, Inlet, Notice};
use crate::bridge::error::LinkError;

#[derive(Debug)]
pub(super) struct Consumer(Session<u64, Notice>);

impl Inlet for Consumer {
    fn acknowledge(&mut self, delivery: u64) {
        self.0.command(delivery);
    }

    fn take(&mut self, notices: &mut Vec<Notice>) -> Result<(), LinkError> {
        self.0.take(notices)
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    fn close(&mut self, patience: Duration) {
        self.0.close(patience);
    }
}

pub(super) fn begin(target: Target, silence: Duration, ahead: u16) -> io::Result<Consumer> {
    let work =
        move |orders, teller| async move { work(&target, silence, ahead, orders, teller).await };
    session::begin("bridge-consume", work).map(Consumer)
}

async fn work(
    target: &Target,
    silence: Duration,
    ahead: u16,
    mut orders: UnboundedReceiver<u64>,
    teller: Teller<Notice>,
) -> Result<(), LinkError> {
    let end = &target.end;
    let begun = async {
        let (connection, channel) = session::connect(target, silence).await?;
        session::prepare(&channel, end).await?;
        let limit = channel.basic_qos(ahead, BasicQosOptions::default());
        limit.await.map_err(said)?;
        let queue = end.queue.as_deref().unwrap_or_default().into();
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let consumer = consumer.await.map_err(said)?;
        Ok((connection, channel, consumer))
    };
    let begun = tokio::time::timeout(silence, begun).await;
    let (connection, channel, mut consumer) = begun.unwrap_or(Err(LinkError::Silent(silence)))?;
    teller.tell([Notice::Ready]);
    loop {
        // Ends by the driver's wish, or with the connection or the queue.
        tokio::select! {
            message = consumer.next() => {
                let Some(message) = message else {
                    let why = "the queue is gone, or its consumers are not wanted any more";
                    return Err(LinkError::Broker(why.to_owned()));
                };
                let message = message.map_err(said)?;
                let (source, tag) = headers::read(&message.properties);
                teller.tell([Notice::Delivered(Delivery {
                    delivery: message.delivery_tag,
                    tag,
                    payload: message.data,
                    source,
                })]);
            }
            order = orders.recv() => {
                let Some(mut delivery) = order else {
                    session::part(&connection).await;
                    return Ok(());
                };
                // The last one says what those before it say.
                while let Ok(later) = orders.try_recv() {
                    delivery = later;
                }
                let multiple = true;
                let acknowledged = channel.basic_ack(delivery, BasicAckOptions { multiple });
                let acknowledged = tokio::time::timeout(silence, acknowledged).await;
                acknowledged
                    .map_err(|_| LinkError::Silent(silence))?
                    .map_err(said)?;
            }
        }
    }
}
