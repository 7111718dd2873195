//! A client that is no bridge: it makes queues, and looks into them.

use std::collections::BTreeMap;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::runtime::Runtime;

use super::node::Node;

pub struct Client {
    runtime: Runtime,
    channel: Channel,
    _connection: Connection,
}

/// Arguments of a queue or a binding.
pub fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let entries = entries.iter().cloned();
    let entries: BTreeMap<ShortString, AMQPValue> =
        entries.map(|(name, value)| (name.into(), value)).collect();
    entries.into()
}

impl Client {
    pub fn new(node: &Node, vhost: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let url = node.url(vhost, "");
        let url = url.trim_end_matches('?');
        let (connection, channel) = runtime.block_on(async {
            let properties = ConnectionProperties::default();
            let connection = Connection::connect(url, properties).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            let confirms = channel.confirm_select(ConfirmSelectOptions::default());
            confirms.await.unwrap();
            (connection, channel)
        });
        Self {
            runtime,
            channel,
            _connection: connection,
        }
    }

    /// Creates a durable queue.
    pub fn queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let declared = self
            .channel
            .queue_declare(name.into(), options, table(arguments));
        self.runtime.block_on(declared).unwrap();
    }

    pub fn delete(&self, queue: &str) {
        let deleted = self
            .channel
            .queue_delete(queue.into(), QueueDeleteOptions::default());
        self.runtime.block_on(deleted).unwrap();
    }

    /// Creates a durable exchange.
    pub fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default();
        let declared = self
            .channel
            .exchange_declare(name.into(), kind, options, none);
        self.runtime.block_on(declared).unwrap();
    }

    pub fn bind(&self, queue: &str, exchange: &str, key: &str, arguments: &[(&str, AMQPValue)]) {
        let options = QueueBindOptions::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        let bound = self
            .channel
            .queue_bind(queue, exchange, key, options, table(arguments));
        self.runtime.block_on(bound).unwrap();
    }

    /// Publishes a message to a queue, as anybody might, and waits until it is there.
    pub fn publish(&self, queue: &str, payload: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let (exchange, key) = ("".into(), queue.into());
        self.runtime.block_on(async {
            let sent = self
                .channel
                .basic_publish(exchange, key, options, payload, properties);
            assert!(sent.await.unwrap().await.unwrap().is_ack());
        });
    }

    /// Takes a message from a queue, if there is one.
    pub fn get(&self, queue: &str) -> Option<(Vec<u8>, BasicProperties)> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options);
        let message = self.runtime.block_on(got).unwrap()?;
        Some((message.delivery.data, message.delivery.properties))
    }

    /// The routing key of the next message of a queue.
    pub fn next_key(&self, queue: &str) -> Option<String> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options);
        let message = self.runtime.block_on(got).unwrap()?;
        Some(message.delivery.routing_key.to_string())
    }

    /// Messages in a queue that nobody has taken.
    pub fn count(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let none = FieldTable::default();
        let found = self.channel.queue_declare(queue.into(), options, none);
        self.runtime.block_on(found).unwrap().message_count()
    }
}
