//! The real command, as its users run it: its output, its messages, its exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod bridge;
mod bridge_config;
mod bridge_ops;
mod demo;
mod fan_out;
mod hosts;
mod kills;
mod network;
mod refusals;
mod round_trip;
mod stat;
mod stream;
mod support;
mod watched;
