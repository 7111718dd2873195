//! Options as people write them, turned into what the lab is asked.

use std::time::Duration;

use annulus_lab::ladder::{self, Choice};
use annulus_lab::slices::Bench;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::{BenchArgs, bytes_of};
use crate::report::Failure;

/// `100ms`, `1s`, `500us`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let hint = || "expected a time from 1ms to 1m, such as 100ms or 1s".to_owned();
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(hint)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.trim().parse().map_err(|_| hint())?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(hint()),
    };
    if (0.001..=60.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(hint())
    }
}

/// Bytes of a record.
pub fn parse_payload(text: &str) -> Result<usize, String> {
    match bytes_of(text)? {
        bytes @ 8..=0x1000_0000 => Ok(bytes),
        _ => Err("expected 8 bytes to 256MiB".to_owned()),
    }
}

/// Records: 1 to a million or so.
pub fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=0x0100_0000) => Ok(count),
        _ => Err(format!("expected a number from 1 to {}", 0x0100_0000)),
    }
}

/// `2+2`.
pub fn parse_players(text: &str) -> Result<(usize, usize), String> {
    let hint = || "expected producers and consumers, 1 to 64 of each, such as 2+2".to_owned();
    let (producers, consumers) = text.split_once('+').ok_or_else(hint)?;
    match (producers.parse(), consumers.parse()) {
        (Ok(producers @ 1..=64), Ok(consumers @ 1..=64)) => Ok((producers, consumers)),
        _ => Err(hint()),
    }
}

/// Records a second, as the time between two.
pub fn parse_rate(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(rate @ 1..=100_000_000) => Ok(Duration::from_nanos(1_000_000_000 / rate)),
        _ => Err("expected records a second, 1 to 100000000".to_owned()),
    }
}

/// Processors to pin to: those that were named, or the first two that may be used.
pub fn cpus(named: &[usize]) -> Result<Vec<usize>, Failure> {
    let set = sched_getaffinity(Pid::from_raw(0))
        .map_err(|error| Failure::because("cannot tell which processors may be used", &error))?;
    let usable = |cpu: &usize| set.is_set(*cpu).unwrap_or(false);
    if let Some(cpu) = named.iter().find(|cpu| !usable(cpu)) {
        let usable: Vec<String> = (0..CpuSet::count())
            .filter(usable)
            .map(|cpu| cpu.to_string())
            .collect();
        return Err(
            Failure::new(format_args!("processor {cpu} may not be used"))
                .hint(format!("these may: {}", usable.join(", "))),
        );
    }
    if named.is_empty() {
        Ok((0..CpuSet::count()).filter(usable).take(2).collect())
    } else {
        Ok(named.to_vec())
    }
}

/// The scenarios that were asked for.
pub fn benches(args: &BenchArgs, cpus: &[usize]) -> Result<Vec<Bench>, Failure> {
    let choice = Choice {
        kinds: args.kind.iter().map(|kind| (*kind).into()).collect(),
        payloads: args.payload.clone(),
        batch: args.batch,
        capacity: args.capacity.map(usize::next_power_of_two),
        waiting: args.wait.map(Into::into),
        players: args.players,
        interval: args.rate,
        backing: args.backing.into(),
    };
    let words = &args.scenarios;
    let is_meant = |bench: &Bench| {
        words.is_empty() || words.iter().any(|word| bench.name.contains(word.as_str()))
    };
    let mut benches = ladder::climb(&choice, cpus);
    benches.retain(is_meant);
    if benches.is_empty() {
        return Err(Failure::new("no scenario is left to measure")
            .hint("see their names with `annulus bench --list`"));
    }
    Ok(benches)
}

/// The command as it was typed, for the report.
pub fn command_line() -> String {
    let words = std::env::args().skip(1);
    words.fold("annulus".to_owned(), |line, word| format!("{line} {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_bounds() {
        assert_eq!(parse_time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(parse_time("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["", "5", "ms", "0.9ms", "2m", "-1s", "1h", "nans"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn players_are_two_numbers() {
        assert_eq!(parse_players("2+3"), Ok((2, 3)));
        for wrong in ["2", "0+1", "1+0", "65+1", "+", "a+b", "1+1+1"] {
            assert!(parse_players(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_an_interval() {
        assert_eq!(parse_rate("100000"), Ok(Duration::from_micros(10)));
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn records_have_eight_bytes_at_least() {
        assert_eq!(parse_payload("4KiB"), Ok(4096));
        assert!(parse_payload("7").is_err());
        assert!(parse_payload("1GiB").is_err());
    }
}
