//! Bridges to and from a real RabbitMQ, which each test starts or shares: a private node, ended
//! with the last test that needs it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::print_stdout,
    reason = "tests say what was killed, and what came of it"
)]
#![allow(dead_code, reason = "the rig serves other tests too")]

#[path = "bridge/authority.rs"]
mod authority;
#[path = "bridge/killable.rs"]
mod killable;
#[path = "bridge/rig.rs"]
mod rig;

#[path = "bridge/amqp"]
mod amqp {
    mod basics;
    mod client;
    mod ends;
    mod faults;
    mod interop;
    mod kills;
    mod node;
    mod tls;
}
