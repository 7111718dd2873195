//! cargo bench --all-features --bench amqp
//!
//! A ring, a bridge, RabbitMQ, beside a bare publisher by the library that the bridge is built on:
//! in turns, as ratios. Both publish persistent, mandatory messages into the same durable queue, as
//! many ahead of their confirmations, and are done when all are confirmed; the queue holds as many
//! then. The floor is there twice: with the headers and the `message-id` that the bridge's messages
//! have, and without any. The broker shares the processors, and takes most of them.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed"
)]
#![allow(dead_code, reason = "what is shared serves the tests too")]

#[path = "../tests/bridge/authority.rs"]
mod authority;
#[path = "../tests/bridge/amqp/client.rs"]
mod client;
#[path = "../tests/bridge/amqp/node.rs"]
mod node;
#[path = "../tests/bridge/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use annulus::Wait;
use annulus::bridge::Settings;
use client::{Client, table};
use futures_util::{StreamExt, stream};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use node::Node;
use rig::{Place, Running, producer, ring_end, wait_until};

const CAPACITY: u64 = 8 << 20;
/// Turns, and messages in each.
const ROUNDS: usize = 9;
const MESSAGES: u32 = 50_000;
/// Most messages without a confirmation: the bridge's own limit, and the floor's.
const WINDOW: usize = 4096;

/// One of those whose turns are compared.
#[derive(Clone, Copy)]
enum Contender {
    Bridge,
    Floor { has_headers: bool },
}

const CONTENDERS: [Contender; 3] = [
    Contender::Bridge,
    Contender::Floor { has_headers: true },
    Contender::Floor { has_headers: false },
];

/// What the bridge's messages have besides their bodies.
fn headers(position: u32) -> BasicProperties {
    let ring = "0123456789abcdef0123456789abcdef";
    let headers = table(&[
        ("annulus-ring", AMQPValue::LongString(ring.into())),
        ("annulus-generation", AMQPValue::LongLongInt(1)),
        ("annulus-position", AMQPValue::LongLongInt(position.into())),
        ("annulus-tag", AMQPValue::LongLongInt(position.into())),
    ]);
    BasicProperties::default()
        .with_message_id(format!("{ring}-1-0-{position}").into())
        .with_headers(headers)
}

/// So many messages, from the first to the confirmation of the last.
async fn floor(url: &str, len: usize, messages: u32, has_headers: bool) -> Duration {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = &connection.create_channel().await.unwrap();
    let confirms = channel.confirm_select(ConfirmSelectOptions::default());
    confirms.await.unwrap();
    let publish = |number: u32| async move {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = if has_headers {
            headers(number)
        } else {
            BasicProperties::default()
        };
        let payload = vec![number.to_le_bytes()[0]; len];
        let sent = channel.basic_publish(
            "".into(),
            "q".into(),
            options,
            &payload,
            properties.with_delivery_mode(2),
        );
        let confirmed = sent.await.unwrap().await;
        assert_eq!(confirmed, Ok(Confirmation::Ack(None)));
    };
    let begun = Instant::now();
    let flights = stream::iter(0..messages).map(publish);
    let flights = flights.buffer_unordered(WINDOW);
    assert_eq!(flights.count().await, messages as usize);
    let took = begun.elapsed();
    connection.close(200, "done".into()).await.unwrap();
    took
}

/// So many records, from the second to the release of the last.
fn bridged(url: &str, len: usize, messages: u32) -> Duration {
    let place = Place::new();
    let ring = place.ring("a", CAPACITY);
    let bridge = Running::with(&ring_end(&ring), url, Settings::default()).unwrap();
    let mut producer = producer(&ring);
    let mut push = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let mut claim = producer.claim(len, Wait::block()).unwrap();
            claim.fill(number.to_le_bytes()[0]);
            claim.commit(number);
        }
        wait_until("all is confirmed", || producer.backlog() == 0);
    };
    // The connection is there.
    push(0..1);
    let begun = Instant::now();
    push(1..messages);
    let took = begun.elapsed();
    let summary = bridge.stop();
    assert!(summary.all_confirmed);
    assert_eq!(
        (summary.published, summary.republished),
        (messages.into(), 0)
    );
    took
}

#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
fn main() {
    // `cargo bench -- --test` shows that it works, and nothing about speed.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (rounds, messages) = if is_test {
        (1, 1000)
    } else {
        (ROUNDS, MESSAGES)
    };
    let node = Node::new();
    node.vhost("bench");
    let client = Client::new(&node, "bench");
    let (url, end) = (node.url("bench", ""), node.url("bench", "routing_key=q"));
    let url = url.trim_end_matches('?');
    // One thread, as a session of the bridge has.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Messages a second.
    let turn = |contender, len| {
        client.queue("q", &[]);
        let took = match contender {
            Contender::Bridge => bridged(&end, len, messages),
            Contender::Floor { has_headers } => {
                runtime.block_on(floor(url, len, messages, has_headers))
            }
        };
        assert_eq!(client.count("q"), messages, "each of them once");
        client.delete("q");
        f64::from(messages) / took.as_secs_f64()
    };
    println!("payload   bridged  over the floor, median (least..greatest)   without headers");
    for len in [64, 1024] {
        let turns: Vec<[f64; 3]> = (0..rounds)
            .map(|round| {
                let mut rates = [0.0; 3];
                for place in 0..rates.len() {
                    let number = (round + place) % rates.len();
                    rates[number] = turn(CONTENDERS[number], len);
                }
                rates
            })
            .collect();
        let mut bridged: Vec<f64> = turns.iter().map(|rates| rates[0]).collect();
        bridged.sort_by(f64::total_cmp);
        let over = |floor: usize| {
            let mut ratios: Vec<f64> = turns.iter().map(|rates| rates[0] / rates[floor]).collect();
            ratios.sort_by(f64::total_cmp);
            let (least, greatest) = (ratios[0], ratios[rounds - 1]);
            format!("{:.2} ({least:.2}..{greatest:.2})", ratios[rounds / 2])
        };
        let rate = bridged[rounds / 2];
        println!("{len:>5} B  {rate:>6.0}/s  {:<44}  {}", over(1), over(2));
    }
}
