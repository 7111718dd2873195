//! A broker over TLS: each end knows whom it talks to.

use annulus::bridge::BridgeError;

use super::client::Client;
use super::node::Node;
use crate::authority::{Authority, ca};
use crate::rig::{
    Place, Running, assert_empty, committed, consumer, pop, producer, push, released, ring_end,
    settings, wait_until,
};

#[test]
fn over_tls_records_go_both_ways_and_only_between_those_who_can_show_who_they_are() {
    let place = Place::new();
    let ours = Authority::new(&place, "ours");
    let _theirs = Authority::new(&place, "theirs");
    let (own, caller) = (ours.signs("127.0.0.1"), ours.signs("caller").own());
    let node = Node::encrypted(&own, &place.path("ours.pem"));
    node.vhost("tls");
    let client = Client::new(&node, "tls");
    client.queue("q", &[]);
    let (a, b) = (place.ring("a", 1 << 20), place.ring("b", 1 << 20));
    push(&mut producer(&a), 0..5000);
    let url = |host: &str, options: &str| {
        let port = node.tls_port;
        format!("amqps://guest:guest@{host}:{port}/tls?queue=q&{options}")
    };
    let trusts = |name| format!("{}&{caller}", ca(&place, name));
    for (host, options, why) in [
        ("127.0.0.1", trusts("theirs"), "UnknownIssuer"),
        // The system trusts no authority of a test.
        ("127.0.0.1", caller.clone(), "UnknownIssuer"),
        (
            "localhost",
            trusts("ours"),
            "certificate not valid for name",
        ),
        ("127.0.0.1", ca(&place, "ours"), "CertificateRequired"),
    ] {
        let out = url(host, &format!("routing_key=q&{options}"));
        for (from, to) in [(ring_end(&a), out), (url(host, &options), ring_end(&b))] {
            let said = told_why(&from, &to);
            assert!(said.contains(why), "{said}");
        }
        assert_eq!((released(&a), committed(&b), client.count("q")), (0, 0, 0));
    }
    let options = trusts("ours");
    let out = url("127.0.0.1", &format!("routing_key=q&{options}"));
    let sends = Running::new(&ring_end(&a), &out);
    let receives = Running::new(&url("127.0.0.1", &options), &ring_end(&b));
    let mut sink = consumer(&b);
    pop(&mut sink, 0..5000);
    wait_until("all is released", || released(&a) == 5000);
    assert!(sends.stop().all_confirmed);
    assert_eq!(receives.stop().duplicates, 0);
    assert_empty(&mut sink);
}

/// What a bridge says that is refused. A broker that goes away with bytes unread, as one may that
/// wants a certificate when the caller's first frame has come, resets the connection, and then TCP
/// may drop its alert with the reason: such a bridge is begun anew.
#[track_caller]
fn told_why(from: &str, to: &str) -> String {
    const ATTEMPTS: usize = 10;
    let attempt = |_| Running::new(from, to).wait_until_it_says("cannot reach amqps://guest@");
    let mut said = (0..ATTEMPTS).map(attempt);
    said.find(|said| !said.contains("Connection reset by peer"))
        .expect("each time the connection was reset before anything was said")
}

/// Before a broker is asked for anything.
#[test]
fn credentials_that_cannot_be_used_are_told_before_anything_is_begun() {
    let place = Place::new();
    let a = ring_end(&place.ring("a", 1 << 16));
    let files = Authority::new(&place, "ours").signs("caller");
    let (cert, key) = (files.cert.display(), files.key.display());
    for (options, why) in [
        (format!("cert={cert}"), "cert=FILE&key=FILE"),
        ("ca=/nowhere.pem".to_owned(), "/nowhere.pem"),
        (format!("ca={key}"), "there is no certificate in it"),
    ] {
        let url = format!("amqps://127.0.0.1:1?routing_key=q&{options}");
        let refused: BridgeError = Running::with(&a, &url, settings()).err().expect(why);
        assert!(refused.to_string().contains(why), "{options}: {refused}");
    }
}
