//! What players tell, and what all of it comes to.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::broken;
use crate::contender::{Fault, Found};
use crate::loops::Played;
use crate::result::Latency;
use crate::tally::{self, Seen, Sent};
use crate::work::{Pattern, Work};

/// A player's report, as it goes through its pipe.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) sent: Option<Sent>,
    pub(super) seen: Option<Seen>,
    pub(super) torn_before: u64,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) latency: Option<Latency>,
    pub(super) paced_ns: Option<f64>,
    pub(super) failure: Option<Failure>,
}

/// Why a player did not play to its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// Because of another one, which tells more.
    Over,
    Cannot(String),
    Broken(String),
}

impl Told {
    pub(super) fn of(played: Result<Played, Failure>) -> Self {
        match played {
            Ok(played) => Self {
                sent: played.sent,
                seen: played.seen,
                torn_before: played.torn_before,
                began: played.began,
                ended: played.ended,
                latency: played.latency.as_ref().map(Latency::of),
                paced_ns: played.paced_ns,
                failure: None,
            },
            Err(failure) => Self {
                failure: Some(failure),
                ..Self::default()
            },
        }
    }
}

/// What all of them told, or the reason of the first failure that is not another's.
pub(super) fn verdict(all: Vec<Told>, deaths: &[String]) -> Result<Vec<Told>, Fault> {
    let mut failures: Vec<&Failure> = all
        .iter()
        .filter_map(|told| told.failure.as_ref())
        .collect();
    failures.sort_by_key(|failure| matches!(failure, Failure::Over));
    match failures.first() {
        Some(Failure::Cannot(why)) => Err(Fault::Cannot(why.clone())),
        Some(Failure::Broken(why)) => Err(Fault::Broken(why.clone())),
        // Those that were killed because of a death died too: the first one is the cause.
        _ if !deaths.is_empty() => Err(Fault::Broken(deaths.join(", "))),
        Some(Failure::Over) => Err(Fault::Broken("a player gave up without a word".to_owned())),
        None => Ok(all),
    }
}

/// What all of it comes to.
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
pub(super) fn settle(work: &Work, told: &[Told]) -> Result<Found, Fault> {
    let torn_before: u64 = told.iter().map(|told| told.torn_before).sum();
    if torn_before > 0 {
        return Err(Fault::Broken(format!("{torn_before} records were torn")));
    }
    let latency = merge(told)?;
    if work.pattern == Pattern::RoundTrip {
        return Ok(alone(told, latency));
    }
    let sent: Vec<Sent> = told.iter().filter_map(|told| told.sent).collect();
    let seen: Vec<Seen> = told.iter().filter_map(|told| told.seen).collect();
    let verdict = tally::judge(&sent, &seen);
    if let Some(why) = verdict.broken {
        return Err(Fault::Broken(why));
    }
    if verdict.received == 0 {
        return Err(Fault::Broken("no record arrived".to_owned()));
    }
    let ns = match &latency {
        Some(latency) => latency.value_at_quantile(0.5) as f64,
        None => ns_of_stream(told, &sent, verdict.received),
    };
    Ok(Found {
        ns,
        records: verdict.received,
        lost: verdict.lost,
        repeated: verdict.repeated,
        latency,
    })
}

/// The same where one player has counted and timed it all, and lost nothing.
pub(super) fn alone(told: &[Told], latency: Option<Histogram<u64>>) -> Found {
    let sent = told.iter().filter_map(|told| told.sent);
    Found {
        ns: told
            .iter()
            .find_map(|told| told.paced_ns)
            .unwrap_or(f64::NAN),
        records: sent.map(|sent| sent.records).sum(),
        lost: 0,
        repeated: 0,
        latency,
    }
}

/// Nanoseconds of a record of a stream. If all spin: what its senders measured, without
/// interruptions, shared by the records that arrived. Otherwise all of the time, from the first
/// beginning to the last end.
#[expect(clippy::cast_precision_loss, reason = "some digits are enough")]
fn ns_of_stream(told: &[Told], sent: &[Sent], received: u64) -> f64 {
    let paced: Vec<f64> = told.iter().filter_map(|told| told.paced_ns).collect();
    if paced.is_empty() {
        let began = told.iter().map(|told| told.began).min();
        let ended = told.iter().map(|told| told.ended).max();
        let elapsed = ended.unwrap_or(0).saturating_sub(began.unwrap_or(0));
        return elapsed as f64 / received as f64;
    }
    // Side by side: rates add up.
    let rate: f64 = paced.iter().map(|ns| ns.recip()).sum();
    let sent: u64 = sent.iter().map(|sent| sent.records).sum();
    rate.recip() * sent as f64 / received as f64
}

fn merge(told: &[Told]) -> Result<Option<Histogram<u64>>, Fault> {
    let mut all: Option<Histogram<u64>> = None;
    for latency in told.iter().filter_map(|told| told.latency.as_ref()) {
        let one = latency.histogram();
        let one = one.map_err(broken("a histogram cannot be read"))?;
        match &mut all {
            Some(all) => all.add(one).map_err(broken("histograms differ"))?,
            None => all = Some(one),
        }
    }
    Ok(all)
}
