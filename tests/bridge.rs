//! Bridges on real sockets, within one process: what every adapter must do, and what the network
//! may do to it. Kills of real processes are among the tests of the command.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "bridge/authority.rs"]
mod authority;
#[path = "bridge/crowd.rs"]
mod crowd;
#[path = "bridge/fan_out.rs"]
mod fan_out;
#[path = "bridge/figures.rs"]
mod figures;
#[path = "bridge/frames.rs"]
mod frames;
#[path = "bridge/greeting.rs"]
mod greeting;
#[path = "bridge/killable.rs"]
mod killable;
#[path = "bridge/paths.rs"]
mod paths;
#[path = "bridge/plain.rs"]
mod plain;
#[path = "bridge/proxy.rs"]
mod proxy;
#[path = "bridge/refused.rs"]
mod refused;
#[path = "bridge/rig.rs"]
mod rig;
#[path = "bridge/secret.rs"]
mod secret;
#[path = "bridge/sets.rs"]
mod sets;
#[path = "bridge/slow.rs"]
mod slow;
#[path = "bridge/strangers.rs"]
mod strangers;
#[path = "bridge/suite.rs"]
mod suite;
#[path = "bridge/tls.rs"]
mod tls;
#[path = "bridge/users.rs"]
mod users;
#[path = "bridge/wire.rs"]
mod wire;
