//! Clients that nobody here wrote, at the other end of a queue: pika and kombu.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use annulus::Wait;

use super::client::Client;
use super::node::Node;
use crate::rig::{
    PATIENCE, Place, Running, assert_empty, consumer, payload, producer, push, released, ring_end,
    wait_until,
};

/// The interpreter for which Debian packages both.
const PYTHON: &str = "/usr/bin/python3";
const COUNT: u64 = 1000;

/// A script at work at a queue, which ends by itself.
fn begin(node: &Node, script: &str, verb: &str, queue: &str) -> Child {
    let found = Command::new(PYTHON)
        .args(["-c", "import pika, kombu"])
        .stderr(Stdio::null())
        .status();
    assert!(
        found.is_ok_and(|status| status.success()),
        "these tests need other clients: \
         apt-get install --no-install-recommends python3-pika python3-kombu"
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bridge/amqp");
    let url = format!("amqp://guest:guest@127.0.0.1:{}/{script}", node.port);
    Command::new(PYTHON)
        .arg(folder.join(format!("with_{script}.py")))
        .args([verb, &url, queue, &COUNT.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What it has printed, once it has ended well.
#[track_caller]
fn end(script: Child) -> String {
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// It produces, and a bridge drains the queue: every body, in order, and nothing else.
fn what_it_produces_passes(node: &Node, script: &str, body: impl Fn(u64) -> String) {
    let client = Client::new(node, script);
    client.queue("in", &[]);
    let place = Place::new();
    let b = place.ring("b", 1 << 16);
    let receives = Running::new(&node.url(script, "queue=in"), &ring_end(&b));
    let producing = begin(node, script, "produce", "in");
    let mut sink = consumer(&b);
    let mut bytes = Vec::new();
    for number in 0..COUNT {
        let wait = Wait::block().for_at_most(PATIENCE);
        let tag = sink.pop(&mut bytes, wait).unwrap();
        let came = String::from_utf8_lossy(&bytes);
        assert_eq!((tag, &*came), (0, &*body(number)));
    }
    assert_eq!(end(producing), "");
    wait_until("all is acknowledged", || client.count("in") == 0);
    assert_eq!(receives.stop().duplicates, 0);
    assert_empty(&mut sink);
}

/// It consumes what a bridge publishes: each record, and which one it is.
fn what_a_bridge_publishes_is_understood(node: &Node, script: &str) {
    let client = Client::new(node, script);
    client.queue("out", &[]);
    let place = Place::new();
    let a = place.ring("a", 1 << 20);
    let consuming = begin(node, script, "consume", "out");
    let sends = Running::new(&ring_end(&a), &node.url(script, "routing_key=out"));
    push(&mut producer(&a), 0..COUNT);
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let ring = annulus::segment::inspect(&annulus::Location::from(&*a)).unwrap();
    let (id, generation) = (ring.ring_id, ring.generation);
    let lines = end(consuming);
    let mut lines = lines.lines();
    for number in 0..COUNT {
        // Without a tag there is no header.
        let tag = if number == 0 {
            "None".to_owned()
        } else {
            number.to_string()
        };
        let body = hex(&payload(number));
        let wanted =
            format!("{id}-{generation}-0-{number} {id} {generation} {number} {tag} 2 {body}");
        assert_eq!(lines.next(), Some(&*wanted));
    }
    assert_eq!(lines.next(), None);
    wait_until("all is released", || released(&a) == COUNT);
    assert!(sends.stop().all_confirmed);
    assert_eq!(client.count("out"), 0);
}

#[test]
fn pika_produces_into_a_ring_and_consumes_from_one() {
    let node = Node::shared();
    node.vhost("pika");
    what_it_produces_passes(&node, "pika", |number| format!("pika {number}"));
    what_a_bridge_publishes_is_understood(&node, "pika");
}

#[test]
fn kombu_produces_into_a_ring_and_consumes_from_one() {
    let node = Node::shared();
    node.vhost("kombu");
    what_it_produces_passes(&node, "kombu", |number| format!("{{\"kombu\": {number}}}"));
    what_a_bridge_publishes_is_understood(&node, "kombu");
}
