//! What a broker, or the way to it, may do to a bridge short of dying.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use annulus::bridge::{End, Settings};
use lapin::ExchangeKind;
use lapin::types::AMQPValue;

use super::client::Client;
use super::node::Node;
use crate::rig::{
    Place, Running, assert_empty, consumer, payload, pop, producer, push, released, ring_end,
    settings, wait_until,
};

/// Number of the record that a payload of the rig tells.
fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk().unwrap())
}

/// Some of many messages find no queue, so they come back while others around them are confirmed,
/// many at once. None of them counts as delivered, and each of the others does.
#[test]
fn what_comes_back_in_the_middle_of_a_multiple_ack_is_not_delivered() {
    const ALL: u64 = 3000;
    const LOST: [u64; 5] = [1000, 1001, 1500, 2998, 2999];
    let node = Node::shared();
    node.vhost("unroutable");
    let client = Client::new(&node, "unroutable");
    client.exchange("h", ExchangeKind::Headers);
    client.queue("q", &[]);
    let tagged = |tag| {
        let all = AMQPValue::LongString("all".into());
        [
            ("x-match", all),
            ("annulus-tag", AMQPValue::LongLongInt(tag)),
        ]
    };
    client.bind("q", "h", "", &tagged(1));
    let place = Place::new();
    let a = place.ring("a", 1 << 20);
    let mut source = producer(&a);
    for number in 0..ALL {
        let tag = if LOST.contains(&number) { 2 } else { 1 };
        source.try_push(tag, &payload(number)).unwrap();
    }
    let sends = Running::new(&ring_end(&a), &node.url("unroutable", "exchange=h"));
    sends.wait_until_it_says("does not take record 1000, trying on: NO_ROUTE (312)");
    let others = u32::try_from(ALL).unwrap() - 5;
    wait_until("all others are there", || client.count("q") == others);
    // They come back each time, for as long as it takes.
    std::thread::sleep(Duration::from_millis(300));
    assert!(released(&a) <= 1000, "{} were released", released(&a));
    client.bind("q", "h", "", &tagged(2));
    wait_until("all is released", || released(&a) == ALL);
    let summary = sends.stop();
    assert!(summary.returned >= 5, "{summary:?}");
    println!("{summary:?}");
    let mut found: Vec<u64> = std::iter::from_fn(|| client.get("q"))
        .map(|(payload, _)| number(&payload))
        .collect();
    found.sort_unstable();
    assert!(found.into_iter().eq(0..ALL), "each of them once");
}

/// A queue that is full says no. Nothing is lost, and nothing is confirmed that is not there.
#[test]
fn what_is_nacked_is_published_again() {
    const ALL: u64 = 3000;
    let node = Node::shared();
    node.vhost("nacks");
    let client = Client::new(&node, "nacks");
    let rejects = AMQPValue::LongString("reject-publish".into());
    let limits = [
        ("x-max-length", AMQPValue::LongInt(100)),
        ("x-overflow", rejects),
    ];
    client.queue("q", &limits);
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    push(&mut producer(&a), 0..ALL);
    let sends = Running::new(&ring_end(&a), &node.url("nacks", "routing_key=q"));
    sends.wait_until_it_says("trying on: the broker says no");
    std::thread::sleep(Duration::from_millis(300));
    let there = u64::from(client.count("q"));
    assert!((100..ALL).contains(&there), "{there}");
    assert!(released(&a) <= there, "more was released than is there");
    let receives = Running::new(&node.url("nacks", "queue=q"), &ring_end(&b));
    wait_until("all is released", || released(&a) == ALL);
    wait_until("all has come", || crate::rig::committed(&b) == ALL);
    let (sent, received) = (sends.stop(), receives.stop());
    println!("{sent:?} {received:?}");
    assert!(sent.nacked > 0 && sent.all_confirmed);
    assert_eq!(received.duplicates, 0, "what was nacked was not there");
    let mut sink = consumer(&b);
    let mut bytes = Vec::new();
    let found: BTreeSet<u64> = (0..ALL)
        .map(|_| {
            sink.try_pop(&mut bytes).unwrap();
            number(&bytes)
        })
        .collect();
    assert!(found.into_iter().eq(0..ALL));
    assert_empty(&mut sink);
}

/// Nothing but words: and as soon as it is put right, it goes on.
#[test]
fn a_wrong_password_and_a_missing_vhost_are_told_and_can_be_mended() {
    let node = Node::shared();
    node.vhost("guarded");
    node.control(&["add_user", "bridge", "right"]);
    node.control(&[
        "set_permissions",
        "-p",
        "guarded",
        "bridge",
        ".*",
        ".*",
        ".*",
    ]);
    let place = Place::new();
    let a = place.ring("a", 1 << 16);
    push(&mut producer(&a), 0..10);
    let options = "routing_key=q&queue=q&declare=yes";
    let at = |user: &str, vhost: &str, more: &str| {
        format!(
            "amqp://{user}@127.0.0.1:{}/{vhost}?{options}{more}",
            node.port
        )
    };
    let wrong = at("bridge:wr0ng", "guarded", "");
    let shown = format!("{:?}", wrong.parse::<End>().unwrap());
    assert!(
        shown.contains("bridge") && !shown.contains("wr0ng"),
        "{shown}"
    );
    let sends = Running::new(&ring_end(&a), &wrong);
    sends.wait_until_it_says("cannot reach amqp://bridge@127.0.0.1");
    sends.wait_until_it_says("ACCESS");
    assert!(
        !sends.said().iter().any(|said| said.contains("wr0ng")),
        "{:?}",
        sends.said()
    );
    assert_eq!(released(&a), 0);
    node.control(&["change_password", "bridge", "wr0ng"]);
    wait_until("all is released", || released(&a) == 10);
    assert!(sends.stop().all_confirmed);

    // From a file, which may be put right later.
    push(&mut producer(&a), 10..20);
    let file = place.path("password");
    let more = format!("&password_file={}", file.display());
    let sends = Running::new(&ring_end(&a), &at("bridge", "guarded", &more));
    sends.wait_until_it_says("cannot read");
    std::fs::write(&file, "wr0ng\n").unwrap();
    wait_until("all is released", || released(&a) == 20);
    assert!(sends.stop().all_confirmed);

    push(&mut producer(&a), 20..30);
    let sends = Running::new(&ring_end(&a), &at("guest:guest", "later", ""));
    sends.wait_until_it_says("later");
    assert_eq!(released(&a), 20);
    node.vhost("later");
    wait_until("all is released", || released(&a) == 30);
    assert!(sends.stop().all_confirmed);
    assert_eq!(Client::new(&node, "later").count("q"), 10);
}

#[test]
fn a_queue_that_is_deleted_is_missed_and_found_again() {
    let node = Node::shared();
    node.vhost("deleted");
    let client = Client::new(&node, "deleted");
    client.queue("q", &[]);
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    let sends = Running::new(&ring_end(&a), &node.url("deleted", "routing_key=q"));
    let receives = Running::new(&node.url("deleted", "queue=q"), &ring_end(&b));
    let mut source = producer(&a);
    let mut sink = consumer(&b);
    push(&mut source, 0..100);
    pop(&mut sink, 0..100);
    wait_until("all is acknowledged", || client.count("q") == 0);
    client.delete("q");
    receives.wait_until_it_says("the queue is gone");
    receives.wait_until_it_says("NOT_FOUND");
    push(&mut source, 100..200);
    sends.wait_until_it_says("does not take record 100");
    assert_eq!(released(&a), 100);
    client.queue("q", &[]);
    let mut bytes = Vec::new();
    let mut found = BTreeSet::new();
    while found.len() < 100 {
        let wait = annulus::Wait::block().for_at_most(crate::rig::PATIENCE);
        sink.pop(&mut bytes, wait).unwrap();
        assert!(found.insert(number(&bytes)), "it came twice");
    }
    assert!(found.into_iter().eq(100..200));
    wait_until("all is released", || released(&a) == 200);
    assert!(sends.stop().all_confirmed && receives.stop().all_confirmed);
}

/// The broker is short of memory, and blocks whoever publishes. That is told, lasts longer than any
/// silence may, and neither ends the session nor keeps the bridge from being stopped.
#[test]
fn a_memory_alarm_pauses_and_shows() {
    let node = Node::new();
    let client = Client::new(&node, "%2f");
    client.queue("q", &[]);
    let place = Place::new();
    let a = place.ring("a", 1 << 20);
    let by = Settings {
        silence: Duration::from_secs(2),
        drain_timeout: Duration::from_millis(500),
        ..settings()
    };
    let url = node.url("%2f", "routing_key=q");
    let sends = Running::with(&ring_end(&a), &url, by.clone()).unwrap();
    let mut source = producer(&a);
    push(&mut source, 0..100);
    wait_until("all is released", || released(&a) == 100);
    node.control(&["set_vm_memory_high_watermark", "0"]);
    push(&mut source, 100..200);
    sends.wait_until_it_says("takes nothing for now");
    std::thread::sleep(3 * by.silence);
    assert_eq!(released(&a), 100, "nothing is confirmed meanwhile");
    let said = sends.said();
    assert!(
        !said.iter().any(|said| said.contains("disconnected")),
        "{said:?}"
    );
    let begun = Instant::now();
    assert!(!sends.stop().all_confirmed, "it is not, and says so");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "{:?}",
        begun.elapsed()
    );
    let sends = Running::with(&ring_end(&a), &url, by).unwrap();
    sends.wait_until_it_says("takes nothing for now");
    node.control(&["set_vm_memory_high_watermark", "0.8"]);
    sends.wait_until_it_says("takes records again");
    wait_until("all is released", || released(&a) == 200);
    assert!(sends.stop().all_confirmed);
    let found: BTreeSet<u64> = std::iter::from_fn(|| client.get("q"))
        .map(|(payload, _)| number(&payload))
        .collect();
    assert!(found.into_iter().eq(0..200));
}

/// A way to the broker on which, for as long as it is told so, nothing comes back any more, though
/// nobody hangs up.
fn one_way(port: u16) -> (u16, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    let silent = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(AtomicUsize::new(0));
    let (told, count) = (Arc::clone(&silent), Arc::clone(&connections));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for near in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            let near = near.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let told = Arc::clone(&told);
            std::thread::spawn(move || pump(near, far, &AtomicBool::new(false)));
            std::thread::spawn(move || pump(far2, near2, &told));
        }
    });
    (at, silent, connections)
}

fn pump(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !silent.load(Ordering::Relaxed) && to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _shut = to.shutdown(std::net::Shutdown::Both);
}

/// A confirmation that does not come ends the session, and so does a greeting.
#[test]
fn a_broker_that_falls_silent_is_left() {
    let node = Node::shared();
    node.vhost("silent");
    let client = Client::new(&node, "silent");
    client.queue("q", &[]);
    let place = Place::new();
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    let (port, silent, connections) = one_way(node.port);
    let by = Settings {
        silence: Duration::from_secs(1),
        ..settings()
    };
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/silent?queue=q");
    let sends = format!("{url}&routing_key=q");
    let sends = Running::with(&ring_end(&a), &sends, by.clone()).unwrap();
    let receives = Running::with(&url, &ring_end(&b), by).unwrap();
    let mut source = producer(&a);
    let mut sink = consumer(&b);
    push(&mut source, 0..100);
    pop(&mut sink, 0..100);
    wait_until("all is released", || released(&a) == 100);
    silent.store(true, Ordering::Relaxed);
    push(&mut source, 100..200);
    sends.wait_until_it_says("disconnected");
    receives.wait_until_it_says("disconnected");
    let before = connections.load(Ordering::Relaxed);
    wait_until("they try again and again", || {
        connections.load(Ordering::Relaxed) >= before + 4
    });
    silent.store(false, Ordering::Relaxed);
    // What was published into the silence is there, and comes again: it is known.
    pop(&mut sink, 100..200);
    wait_until("all is released", || released(&a) == 200);
    let (sent, received) = (sends.stop(), receives.stop());
    println!("{sent:?} {received:?}");
    assert!(sent.all_confirmed && sent.republished >= 100);
    wait_until("all is acknowledged", || client.count("q") == 0);
    assert_empty(&mut sink);
    // Whatever was left behind has ended.
    wait_until("no thread of an old session is left", || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let left = names.filter(|name| name.starts_with("lapin-io") || name.starts_with("bridge-"));
        left.count() < 12
    });
}
