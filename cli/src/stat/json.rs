//! A snapshot as JSON. Names end in their unit; what does not apply to the kind of ring is null.

use annulus::segment::{ClaimKind, Counters, Role, RowState, Snapshot};
use annulus::{Kind, Redelivery};
use serde::Serialize;

use crate::report::Failure;

#[derive(Serialize)]
struct Ring<'s> {
    kind: &'static str,
    capacity_bytes: Option<u64>,
    slots: Option<u64>,
    stride_bytes: Option<u64>,
    max_record_bytes: u64,
    participants_max: u16,
    redelivery: Option<String>,
    file_bytes: u64,
    element: Option<Element<'s>>,
    ring_id: &'s str,
    generation: u64,
    created_unix_ns: u64,
    is_of_other_boot: bool,
    is_anonymous: bool,
    is_closed: bool,
    uses_real_fences: bool,
    recovery_epoch: u64,
    head: u64,
    tail: u64,
    backlog_bytes: Option<u64>,
    backlog_records: u64,
    committed_records: u64,
    released_records: u64,
    totals: Counts,
    participants: Vec<Participant<'s>>,
    claims_count: u64,
    claims: Vec<Claim>,
}

#[derive(Serialize)]
struct Element<'s> {
    name: &'s str,
    size_bytes: u64,
    align_bytes: u64,
    schema: u64,
}

#[derive(Serialize)]
struct Participant<'s> {
    number: u16,
    role: Option<&'static str>,
    pid: u32,
    command: &'s str,
    is_alive: bool,
    state: &'static str,
    since_unix_ns: u64,
    lives: u64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Counts {
    committed: u64,
    released: u64,
    full: u64,
    empty: u64,
    waits: u64,
    recovered: u64,
    redelivered: u64,
    skipped: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Claim {
    owner: u16,
    kind: &'static str,
    position: u64,
    bytes: Option<u64>,
    attempts: u8,
}

/// Over many lines, for people.
pub fn pretty(snapshot: &Snapshot) -> Result<String, Failure> {
    serde_json::to_string_pretty(&Ring::from(snapshot)).map_err(|error| failed(&error))
}

/// On one line, for programs that read line by line.
pub fn line(snapshot: &Snapshot) -> Result<String, Failure> {
    serde_json::to_string(&Ring::from(snapshot)).map_err(|error| failed(&error))
}

fn failed(error: &serde_json::Error) -> Failure {
    Failure::because("cannot write JSON", error)
}

impl<'s> From<&'s Snapshot> for Ring<'s> {
    fn from(ring: &'s Snapshot) -> Self {
        let is_spsc = ring.kind == Kind::SpscBytes;
        let element = ring.element.as_ref().map(|element| Element {
            name: &element.name,
            size_bytes: element.size,
            align_bytes: element.align,
            schema: element.schema,
        });
        Self {
            kind: if is_spsc { "spsc" } else { "mpmc" },
            capacity_bytes: is_spsc.then_some(ring.capacity),
            slots: (!is_spsc).then_some(ring.capacity),
            stride_bytes: (!is_spsc).then_some(ring.stride_bytes),
            max_record_bytes: ring.max_record_bytes,
            participants_max: ring.participants_max,
            redelivery: (!is_spsc).then(|| redelivery(ring.redelivery)),
            file_bytes: ring.file_bytes,
            element,
            ring_id: &ring.ring_id,
            generation: ring.generation,
            created_unix_ns: ring.created_unix_ns,
            is_of_other_boot: ring.is_of_other_boot,
            is_anonymous: ring.is_anonymous,
            is_closed: ring.is_closed,
            uses_real_fences: ring.uses_real_fences,
            recovery_epoch: ring.recovery_epoch,
            head: ring.head,
            tail: ring.tail,
            backlog_bytes: is_spsc.then(|| super::text::filled(ring)),
            backlog_records: ring.backlog_records,
            committed_records: ring.committed_records,
            released_records: ring.released_records,
            totals: Counts::from(&ring.totals),
            participants: ring.participants.iter().map(Participant::from).collect(),
            claims_count: ring.claims_count,
            claims: ring
                .claims
                .iter()
                .map(|claim| Claim::of(claim, is_spsc))
                .collect(),
        }
    }
}

pub fn redelivery(policy: Redelivery) -> String {
    match policy {
        Redelivery::Unlimited => "unlimited".to_owned(),
        Redelivery::Never => "never".to_owned(),
        Redelivery::AtMost(times) => times.to_string(),
    }
}

pub fn role(role: Option<Role>) -> Option<&'static str> {
    role.map(|role| match role {
        Role::Producer => "producer",
        Role::Consumer => "consumer",
    })
}

pub fn claim_kind(kind: ClaimKind) -> &'static str {
    match kind {
        ClaimKind::Writing => "writing",
        ClaimKind::Reading => "reading",
    }
}

impl<'s> From<&'s annulus::segment::ParticipantInfo> for Participant<'s> {
    fn from(participant: &'s annulus::segment::ParticipantInfo) -> Self {
        Self {
            number: participant.number,
            role: role(participant.role),
            pid: participant.pid,
            command: &participant.command,
            is_alive: participant.is_alive,
            state: match participant.state {
                RowState::Recovering => "recovering",
                _ => "attached",
            },
            since_unix_ns: participant.since_unix_ns,
            lives: participant.lives,
            counts: Counts::from(&participant.counters),
        }
    }
}

impl From<&Counters> for Counts {
    fn from(counters: &Counters) -> Self {
        Self {
            committed: counters.committed,
            released: counters.released,
            full: counters.full,
            empty: counters.empty,
            waits: counters.waits,
            recovered: counters.recovered,
            redelivered: counters.redelivered,
            skipped: counters.skipped,
            dropped: counters.dropped,
        }
    }
}

impl Claim {
    fn of(claim: &annulus::segment::ClaimInfo, is_spsc: bool) -> Self {
        Self {
            owner: claim.owner,
            kind: claim_kind(claim.kind),
            position: claim.position,
            bytes: is_spsc.then_some(claim.bytes),
            attempts: claim.attempts,
        }
    }
}
