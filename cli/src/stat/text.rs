//! A snapshot for people.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use annulus::Kind;
use annulus::segment::{ClaimInfo, ParticipantInfo, Snapshot};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::HumanDuration;

use super::json::{claim_kind, redelivery, role};
use crate::report::printable;
use crate::size::{grouped, show};

/// Runs of claims that are listed.
const RUNS_SHOWN: usize = 20;
const BAR_CELLS: u64 = 40;

/// Since when each claim has been seen: a snapshot alone does not tell.
#[derive(Debug, Default)]
pub struct Watched {
    since: HashMap<(u16, u64), Instant>,
}

impl Watched {
    pub fn look(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let held: Vec<_> = snapshot
            .claims
            .iter()
            .map(|c| (c.owner, c.position))
            .collect();
        self.since.retain(|claim, _| held.contains(claim));
        for claim in held {
            self.since.entry(claim).or_insert(now);
        }
    }

    fn age(&self, claim: &ClaimInfo) -> Option<Duration> {
        self.since
            .get(&(claim.owner, claim.position))
            .map(Instant::elapsed)
    }
}

/// Bytes or slots between head and tail.
pub fn filled(ring: &Snapshot) -> u64 {
    match ring.kind {
        Kind::SpscBytes => ring.tail.wrapping_sub(ring.head).min(ring.capacity),
        Kind::MpmcSlots => ring.backlog_records.min(ring.capacity),
    }
}

pub fn describe(path: &Path, ring: &Snapshot, watched: Option<&Watched>) -> String {
    let mut text = String::new();
    head(&mut text, path, ring);
    numbers(&mut text, ring);
    participants(&mut text, ring);
    claims(&mut text, ring, watched);
    text
}

fn line(text: &mut String, label: &str, value: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {label:<12}{value}");
}

fn head(text: &mut String, path: &Path, ring: &Snapshot) {
    let open = if ring.is_closed { "closed" } else { "open" };
    let path = printable(&path.display().to_string());
    let _ = writeln!(text, "{path}: {}, {open}", ring.kind);
    if ring.is_of_other_boot {
        line(
            text,
            "WARNING",
            "from before the last boot; see `annulus recover --help`",
        );
    }
    let geometry = match ring.kind {
        Kind::SpscBytes => format!("{} bytes", grouped(ring.capacity)),
        Kind::MpmcSlots => format!("{} slots", grouped(ring.capacity)),
    };
    let policy = match ring.kind {
        Kind::SpscBytes => String::new(),
        Kind::MpmcSlots => format!(", redelivery {}", redelivery(ring.redelivery)),
    };
    let max = grouped(ring.max_record_bytes);
    line(
        text,
        "geometry",
        format_args!("{geometry}, records of up to {max} bytes{policy}"),
    );
    if let Some(element) = &ring.element {
        let (name, size) = (printable(&element.name), element.size);
        line(
            text,
            "element",
            format_args!("{name}, {size} bytes, schema {:#x}", element.schema),
        );
    }
    let file = show(ring.file_bytes);
    line(
        text,
        "file",
        format_args!("{file}, created {}", ago(ring.created_unix_ns)),
    );
    line(
        text,
        "ring id",
        format_args!("{}, generation {}", ring.ring_id, ring.generation),
    );
}

fn numbers(text: &mut String, ring: &Snapshot) {
    let (filled, capacity) = (filled(ring), ring.capacity);
    let unit = if ring.kind == Kind::SpscBytes {
        "bytes"
    } else {
        "slots"
    };
    let amount = format!("{} of {} {unit}", grouped(filled), grouped(capacity));
    line(
        text,
        "fill",
        format_args!("{} {amount}", bar(filled, capacity)),
    );
    line(
        text,
        "position",
        format_args!("head {}, tail {}", ring.head, ring.tail),
    );
    line(
        text,
        "records",
        format_args!(
            "{} committed, {} released, {} in the ring",
            grouped(ring.committed_records),
            grouped(ring.released_records),
            grouped(ring.backlog_records)
        ),
    );
    let totals = &ring.totals;
    let recovery = format!(
        "{} recovered, {} redelivered, {} skipped, {} dropped",
        totals.recovered, totals.redelivered, totals.skipped, totals.dropped
    );
    line(text, "recovery", recovery);
}

/// `[######..........]`: a ring that holds anything shows a cell, one that is not full lacks one.
fn bar(filled: u64, capacity: u64) -> String {
    let cells = u128::from(filled) * u128::from(BAR_CELLS) / u128::from(capacity.max(1));
    let mut cells = usize::try_from(cells).unwrap_or(0);
    if filled > 0 {
        cells = cells.max(1);
    }
    let all = usize::try_from(BAR_CELLS).unwrap_or(0);
    format!(
        "[{}{}]",
        "#".repeat(cells),
        ".".repeat(all.saturating_sub(cells))
    )
}

fn table(header: &[&str], first_number: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.iter().copied());
    for index in first_number..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn participants(text: &mut String, ring: &Snapshot) {
    let (count, max) = (ring.participants.len(), ring.participants_max);
    let _ = writeln!(text, "\nparticipants: {count} of {max}");
    if count == 0 {
        return;
    }
    let header = [
        "#",
        "role",
        "pid",
        "command",
        "state",
        "attached",
        "committed",
        "released",
        "full",
        "empty",
        "waits",
    ];
    let mut table = table(&header, 6);
    for participant in &ring.participants {
        let counters = &participant.counters;
        let numbers = [
            counters.committed,
            counters.released,
            counters.full,
            counters.empty,
            counters.waits,
        ];
        let mut row = vec![
            participant.number.to_string(),
            role(participant.role).unwrap_or("?").to_owned(),
            participant.pid.to_string(),
            printable(&participant.command),
            state(participant).to_owned(),
            ago(participant.since_unix_ns),
        ];
        row.extend(numbers.map(grouped));
        table.add_row(row);
    }
    let _ = writeln!(text, "{}", trimmed(&table));
}

/// Nobody is dead because of what stands in a row: the lock tells.
fn state(participant: &ParticipantInfo) -> &'static str {
    if !participant.is_alive {
        "DEAD"
    } else {
        "alive"
    }
}

fn claims(text: &mut String, ring: &Snapshot, watched: Option<&Watched>) {
    let _ = writeln!(text, "\nclaims in flight: {}", grouped(ring.claims_count));
    if ring.claims.is_empty() {
        return;
    }
    let amount = if ring.kind == Kind::SpscBytes {
        "bytes"
    } else {
        "slots"
    };
    let mut table = table(
        &[
            "#", "held by", "claim", "position", amount, "attempts", "seen for",
        ],
        3,
    );
    let runs = runs(ring, watched);
    for run in runs.iter().take(RUNS_SHOWN) {
        table.add_row([
            run.first.owner.to_string(),
            holder(ring, run.first.owner),
            claim_kind(run.first.kind).to_owned(),
            run.first.position.to_string(),
            grouped(run.amount),
            run.first.attempts.to_string(),
            run.age
                .map_or_else(|| "-".to_owned(), |age| format!("{} s", age.as_secs())),
        ]);
    }
    let _ = writeln!(text, "{}", trimmed(&table));
    if runs.len() > RUNS_SHOWN || ring.claims_count > ring.claims.len() as u64 {
        let _ = writeln!(text, " and more; see --json");
    }
}

/// Claims of one owner that follow each other.
struct Run {
    first: ClaimInfo,
    /// Bytes or slots.
    amount: u64,
    age: Option<Duration>,
}

fn runs(ring: &Snapshot, watched: Option<&Watched>) -> Vec<Run> {
    let mut claims = ring.claims.clone();
    let head = ring.head;
    claims.sort_by_key(|claim| claim.position.wrapping_sub(head).cast_signed());
    let mut runs: Vec<Run> = Vec::new();
    for claim in claims {
        let age = watched.and_then(|watched| watched.age(&claim));
        let amount = if ring.kind == Kind::SpscBytes {
            claim.bytes
        } else {
            1
        };
        match runs.last_mut() {
            Some(run) if run.goes_on_with(&claim) => {
                run.amount += amount;
                run.age = run.age.max(age);
            }
            _ => runs.push(Run {
                first: claim,
                amount,
                age,
            }),
        }
    }
    runs
}

impl Run {
    fn goes_on_with(&self, claim: &ClaimInfo) -> bool {
        let ClaimInfo {
            owner,
            kind,
            position,
            attempts,
            ..
        } = self.first;
        (owner, kind, attempts) == (claim.owner, claim.kind, claim.attempts)
            && position.wrapping_add(self.amount) == claim.position
    }
}

fn holder(ring: &Snapshot, owner: u16) -> String {
    let found = ring
        .participants
        .iter()
        .find(|participant| participant.number == owner);
    found.map_or_else(
        || "nobody attached".to_owned(),
        |participant| {
            let state = if participant.is_alive { "" } else { ", dead" };
            format!(
                "{} ({}{state})",
                participant.pid,
                printable(&participant.command)
            )
        },
    )
}

/// Tables are padded to their width; lines need not be.
fn trimmed(table: &Table) -> String {
    table.trim_fmt()
}

fn ago(unix_ns: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_nanos(unix_ns);
    match SystemTime::now().duration_since(then) {
        Ok(age) if unix_ns > 0 => format!("{} ago", HumanDuration(age)),
        _ => "at an unknown time".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_empty_only_if_the_ring_is() {
        assert_eq!(bar(0, 4096), format!("[{}]", ".".repeat(40)));
        assert_eq!(bar(1, 4096), format!("[#{}]", ".".repeat(39)));
        assert_eq!(bar(4096, 4096), format!("[{}]", "#".repeat(40)));
        assert_eq!(bar(u64::MAX, u64::MAX), format!("[{}]", "#".repeat(40)));
    }
}
