//! What a bridge does with a broker that is well.

use annulus::Wait;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::client::Client;
use super::node::Node;
use crate::rig::{
    PATIENCE, Place, Running, assert_empty, committed, consumer, payload, pop, producer, push,
    released, ring_end, wait_until,
};

#[test]
fn records_go_through_a_queue_into_another_ring() {
    let node = Node::shared();
    node.vhost("basics");
    let client = Client::new(&node, "basics");
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    let options = "exchange=e&queue=q&routing_key=k&declare=yes";
    let sends = Running::new(&ring_end(&a), &node.url("basics", options));
    let receives = Running::new(&node.url("basics", options), &ring_end(&b));
    push(&mut producer(&a), 0..5000);
    let mut sink = consumer(&b);
    pop(&mut sink, 0..5000);
    wait_until("all is released", || released(&a) == 5000);
    let (sent, received) = (sends.stop(), receives.stop());
    assert!(sent.all_confirmed && received.all_confirmed);
    assert_eq!(
        (sent.confirmed, sent.published, sent.republished),
        (5000, 5000, 0)
    );
    assert_eq!((received.confirmed, received.duplicates), (5000, 0));
    assert_eq!(client.count("q"), 0, "all is acknowledged");
    assert_empty(&mut sink);
}

#[test]
fn a_routing_key_may_have_the_tag_in_it() {
    let node = Node::shared();
    node.vhost("keys");
    let client = Client::new(&node, "keys");
    let place = Place::new();
    let a = place.ring("a", 1 << 16);
    let options = "exchange=e&exchange_type=topic&queue=q&routing_key=t.{tag}.x&declare=yes";
    let sends = Running::new(&ring_end(&a), &node.url("keys", options));
    let mut source = producer(&a);
    for tag in [7, 0, u32::MAX] {
        source.push(tag, b"tagged", Wait::block()).unwrap();
    }
    wait_until("all is released", || released(&a) == 3);
    for key in ["t.7.x", "t.0.x", "t.4294967295.x"] {
        assert_eq!(client.next_key("q").as_deref(), Some(key));
    }
    assert!(sends.stop().all_confirmed);
}

#[test]
fn a_message_says_which_record_it_is_and_survives_the_broker() {
    let node = Node::shared();
    node.vhost("headers");
    let client = Client::new(&node, "headers");
    client.queue("q", &[]);
    let place = Place::new();
    let a = place.ring("a", 1 << 16);
    let sends = Running::new(&ring_end(&a), &node.url("headers", "routing_key=q"));
    producer(&a).try_push(77, b"hello").unwrap();
    producer(&a).try_push(0, b"").unwrap();
    wait_until("both are released", || released(&a) == 2);
    let (payload, properties) = client.get("q").unwrap();
    assert_eq!(payload, b"hello");
    assert_eq!(properties.delivery_mode(), &Some(2));
    let headers = properties.headers().clone().unwrap();
    let header = |name: &str| headers.inner().get(name).cloned();
    assert_eq!(header("annulus-position"), Some(AMQPValue::LongLongInt(0)));
    assert_eq!(header("annulus-tag"), Some(AMQPValue::LongLongInt(77)));
    let Some(AMQPValue::LongString(ring)) = header("annulus-ring") else {
        panic!("no ring in {headers:?}");
    };
    let Some(AMQPValue::LongLongInt(generation)) = header("annulus-generation") else {
        panic!("no generation in {headers:?}");
    };
    let id = properties.message_id().clone().unwrap();
    let ring = String::from_utf8(ring.as_bytes().to_vec()).unwrap();
    assert_eq!(ring.len(), 32);
    assert_eq!(id.as_str(), format!("{ring}-{generation}-0-0"));
    assert_eq!(client.get("q").unwrap().0, b"");
    drop(sends);
}

#[test]
fn other_producers_messages_simply_pass() {
    let node = Node::shared();
    node.vhost("others");
    let client = Client::new(&node, "others");
    client.queue("q", &[]);
    let place = Place::new();
    let b = place.ring("b", 1 << 16);
    for _ in 0..2 {
        client.publish("q", b"same", BasicProperties::default());
    }
    let strange = super::client::table(&[("annulus-ring", AMQPValue::Boolean(true))]);
    client.publish(
        "q",
        b"strange",
        BasicProperties::default().with_headers(strange),
    );
    let receives = Running::new(&node.url("others", "queue=q"), &ring_end(&b));
    let mut sink = consumer(&b);
    let mut bytes = Vec::new();
    for wanted in ["same", "same", "strange"] {
        let wait = Wait::block().for_at_most(PATIENCE);
        assert_eq!(sink.pop(&mut bytes, wait), Ok(0));
        assert_eq!(bytes, wanted.as_bytes());
    }
    wait_until("all is acknowledged", || client.count("q") == 0);
    assert_eq!(receives.stop().duplicates, 0);
}

/// A full ring stops the broker, by the messages that it sends ahead.
#[test]
fn a_full_ring_holds_the_queue_up() {
    let node = Node::shared();
    node.vhost("full");
    let client = Client::new(&node, "full");
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 4096));
    let sends = Running::new(
        &ring_end(&a),
        &node.url("full", "routing_key=q&queue=q&declare=yes"),
    );
    push(&mut producer(&a), 0..1000);
    wait_until("all is in the queue", || released(&a) == 1000);
    let receives = Running::new(&node.url("full", "queue=q&prefetch=50"), &ring_end(&b));
    wait_until("some has come", || committed(&b) > 10);
    assert!(committed(&b) < 500, "the ring holds fewer");
    assert!(
        client.count("q") > 400,
        "more than the prefetch was sent ahead"
    );
    pop(&mut consumer(&b), 0..1000);
    assert!(sends.stop().all_confirmed);
    assert_eq!(receives.stop().duplicates, 0);
    wait_until("all is acknowledged", || client.count("q") == 0);
}

/// The destination's file says how far it has come, whatever brought the records there.
#[test]
fn another_bridge_drops_what_has_come_before() {
    let node = Node::shared();
    node.vhost("again");
    let client = Client::new(&node, "again");
    client.queue("q", &[]);
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    let sends = Running::new(&ring_end(&a), &node.url("again", "routing_key=q"));
    push(&mut producer(&a), 0..100);
    wait_until("all is in the queue", || released(&a) == 100);
    let first = Running::new(&node.url("again", "queue=q"), &ring_end(&b));
    let mut sink = consumer(&b);
    pop(&mut sink, 0..100);
    assert_eq!(first.stop().duplicates, 0);
    push(&mut producer(&a), 100..110);
    wait_until("they are in the queue", || released(&a) == 110);
    // As if those that came last had come from a broker that had lost the acknowledgement.
    let again: Vec<_> = std::iter::from_fn(|| client.get("q")).collect();
    assert_eq!(again.len(), 10);
    for _ in 0..2 {
        for (payload, properties) in &again {
            client.publish("q", payload, properties.clone());
        }
    }
    let second = Running::new(&node.url("again", "queue=q"), &ring_end(&b));
    pop(&mut sink, 100..110);
    wait_until("all is acknowledged", || client.count("q") == 0);
    let third = second.stop();
    assert_eq!((third.confirmed, third.duplicates), (10, 10));
    for (payload, properties) in &again {
        client.publish("q", payload, properties.clone());
    }
    client.publish("q", b"end", BasicProperties::default());
    let fourth = Running::new(&node.url("again", "queue=q"), &ring_end(&b));
    let mut bytes = Vec::new();
    sink.pop(&mut bytes, Wait::block().for_at_most(PATIENCE))
        .unwrap();
    assert_eq!(
        bytes, b"end",
        "a bridge that is new knows from the file what has come"
    );
    assert_eq!(fourth.stop().duplicates, 10);
    drop(sends);
}

/// A slot ring at both ends: held until they are confirmed, and committed one by one.
#[test]
fn records_go_from_a_slot_ring_into_another() {
    let node = Node::shared();
    node.vhost("slots");
    let place = Place::new();
    let (a, b) = (place.path("a"), place.path("b"));
    for ring in [&a, &b] {
        annulus::mpmc::Options::new(64, 128).create(ring).unwrap();
    }
    let options = "routing_key=q&queue=q&declare=yes";
    let receives = Running::new(&node.url("slots", "queue=q&declare=yes"), &ring_end(&b));
    // SAFETY: nobody but the test uses the file, and through this library only.
    let source = unsafe { annulus::mpmc::Producer::attach(&a) }.unwrap();
    // SAFETY: as for the producer.
    let sink = unsafe { annulus::mpmc::Consumer::attach(&b) }.unwrap();
    let wait = || Wait::block().for_at_most(PATIENCE);
    let mut next = 0;
    for _ in 0..2 {
        // Each life of the sending bridge numbers anew, and its headers say so.
        let sends = Running::new(&ring_end(&a), &node.url("slots", options));
        for number in next..next + 300_u64 {
            let tag = u32::try_from(number).unwrap();
            source.push(tag, &payload(number), wait()).unwrap();
            let record = sink.read(wait()).unwrap();
            assert_eq!(
                (u64::from(record.tag()), &record[..]),
                (number, &*payload(number))
            );
        }
        next += 300;
        let summary = sends.stop();
        assert!(summary.all_confirmed);
        assert_eq!(summary.published, 300);
    }
    assert_eq!(receives.stop().duplicates, 0);
}

/// The end of the source ends the sending bridge; a queue has no end.
#[test]
fn a_closed_ring_ends_its_bridge_when_all_is_confirmed() {
    let node = Node::shared();
    node.vhost("closed");
    let client = Client::new(&node, "closed");
    let place = Place::new();
    let a = place.ring("a", 1 << 20);
    let mut source = producer(&a);
    push(&mut source, 0..2000);
    source.close();
    let url = node.url("closed", "routing_key=q&queue=q&declare=yes");
    let summary = Running::new(&ring_end(&a), &url).end().unwrap();
    assert!(summary.ended && summary.all_confirmed);
    assert_eq!((released(&a), client.count("q")), (2000, 2000));
}

/// What can never be committed stays in its queue.
#[test]
fn a_message_that_is_too_long_for_the_ring_is_told_and_kept() {
    let node = Node::shared();
    node.vhost("long");
    let client = Client::new(&node, "long");
    client.queue("q", &[]);
    let place = Place::new();
    let b = place.ring("b", 4096);
    client.publish("q", b"fits", BasicProperties::default());
    client.publish("q", &[7; 300_000], BasicProperties::default());
    let receives = Running::new(&node.url("long", "queue=q"), &ring_end(&b));
    let refused = receives.end().unwrap_err().to_string();
    assert!(refused.contains("300000 bytes"), "{refused}");
    wait_until("it is in the queue again", || client.count("q") >= 1);
}
