//! Keeps the models in step with the code: the states by name and number, and the steps of each
//! modelled function by name, in the order in which the model takes them. Whoever changes either
//! finds out here that the other one is to be changed too.

const SLOT_RING: &str = include_str!("../../src/protocol/slot_ring.rs");
const SLOT_WORD: &str = include_str!("../../src/protocol/slot_ring/word.rs");
const WRITER: &str = include_str!("../../src/protocol/byte_ring/writer.rs");
const READER: &str = include_str!("../../src/protocol/byte_ring/reader.rs");
const CONSUMER: &str = include_str!("../../src/spsc/consumer.rs");
const LEDGER: &str = include_str!("../../src/protocol/ledger.rs");
const EVENT: &str = include_str!("../../src/protocol/event.rs");
const SWITCHES: &str = include_str!("../../src/protocol/switches.rs");
const RECOVERY: &str = include_str!("../../src/protocol/recovery.rs");
const WAIT: &str = include_str!("../../src/wait/mod.rs");
const FUTEX: &str = include_str!("../../src/wait/futex.rs");

/// The states of a slot, as `slot_ring::word` declares them.
pub(crate) fn slot_states() -> Vec<(String, u8)> {
    let mut lines = SLOT_WORD.lines();
    let mut states = Vec::new();
    while lines.any(|line| line.starts_with("/// State of a slot:")) {
        let constant = lines
            .next()
            .and_then(|line| line.strip_prefix("pub const "));
        let (name, number) = constant
            .and_then(|line| line.split_once(": u64 = "))
            .expect("a constant behind its comment");
        let number = number.trim_end_matches(';').parse();
        states.push((name.to_owned(), number.expect("a small number")));
    }
    states
}

/// Each modelled function, and its steps in the order of the model.
pub(crate) const STEPS: [(&str, &str, &[&str]); 24] = [
    (
        RECOVERY,
        "pub fn recover<",
        &[
            "ROW_RECOVERING",
            "sweep",
            "bump_epoch",
            "wake()",
            "ROW_FREE",
        ],
    ),
    (
        LEDGER,
        "pub fn begin_skip(",
        &[
            "skipped_base.store(",
            "abort_slot.store(",
            "counters[SKIPPED].store(",
        ],
    ),
    (
        SLOT_RING,
        "pub fn commit<",
        &["held.meta(store).store(meta", ".store(committed"],
    ),
    (
        SLOT_RING,
        "pub fn release<",
        &["Word::free(shape.next_lap(", ".store(free"],
    ),
    (
        SLOT_RING,
        "pub(super) fn sweep_slot<",
        &[
            "slot.load(",
            "is_held_by(dead, WRITING)",
            "begin_skip(",
            "slot.compare_exchange(word.0, skip",
            "end_skip(",
            "is_held_by(dead, READING)",
            "slot.compare_exchange(word.0, next",
        ],
    ),
    (
        SLOT_RING,
        "pub fn abort<",
        &["begin_skip(", ".store(skip", "end_skip("],
    ),
    (
        SLOT_RING,
        "pub fn requeue<",
        &[".store(held.word.given_back()", "bump_epoch("],
    ),
    (
        SLOT_RING,
        "pub fn claim_to_write<",
        &["claim_to_write_ahead(", "admit("],
    ),
    (
        SLOT_RING,
        "pub fn claim_to_write_ahead<",
        &[".compare_exchange(", "hint.store(position"],
    ),
    (
        SLOT_RING,
        "pub fn claim_to_write_behind<",
        &[".compare_exchange(", ".hint", ".store(position", "admit("],
    ),
    (
        SLOT_RING,
        "    pub fn claim_ahead<",
        &["recovery_epoch", ".compare_exchange(", ".store(position"],
    ),
    (
        SLOT_RING,
        "    pub fn claim_behind<",
        &["claim_given_back(", "self.seen = ", "claim_in_order("],
    ),
    (
        WRITER,
        "    pub fn claim_ahead<",
        &["claim.store(mark", "switches::admits("],
    ),
    (
        WRITER,
        "    fn claim_anywhere<",
        &["claim.store(mark", "switches::admits("],
    ),
    (
        SWITCHES,
        "pub fn admits<",
        &["light_barrier(", ".load(", "admits_behind_a_fence("],
    ),
    (
        SWITCHES,
        "fn admits_behind_a_fence(",
        &["full_fence(", ".load("],
    ),
    (
        WRITER,
        "    fn publish_to<",
        &[
            ".store(0,",
            "write_entry(",
            ".store(header",
            "line.claim.store(0",
        ],
    ),
    (
        CONSUMER,
        "fn empty_or_closed<",
        &[
            "is_closed(store)",
            "is_closed_in_order(store)",
            "heavy_barrier()",
            "is_alive(Owner::PRODUCER)",
            "global_barrier()",
            "reader.drained(",
        ],
    ),
    (
        READER,
        "    pub fn drained<",
        &["claim.load(", "is_closed(store)", ".load("],
    ),
    (
        READER,
        "    fn release_until<",
        &["write_entry(", ".store(place.position"],
    ),
    (
        EVENT,
        "pub fn take_sleepers(",
        &["light_barrier(", ".load(", "take_sleepers_slow("],
    ),
    (
        FUTEX,
        "pub(crate) fn wake_all(",
        &["event::count_wake_up(", "wake_sleepers("],
    ),
    (EVENT, "pub fn count_wake_up(", &["word.fetch_add(WAKE_UP"]),
    (
        WAIT,
        "fn sleep_bounded<",
        &[
            "FIRST_BOUND",
            "sleep(self.event",
            ".loss()",
            "has_settled = true",
        ],
    ),
];

/// The first of `steps` that does not follow on those before it in the function's body.
pub(crate) fn out_of_step<'s>(source: &str, head: &str, steps: &[&'s str]) -> Option<&'s str> {
    let indent = head.len() - head.trim_start().len();
    let (_, from_head) = source.split_once(head).expect("the function is there");
    let end = format!("\n{}}}\n", " ".repeat(indent));
    let (mut body, _) = from_head.split_once(&end).expect("it ends");
    steps
        .iter()
        .copied()
        .find(|step| match body.split_once(step) {
            Some((_, rest)) => {
                body = rest;
                false
            }
            None => true,
        })
}
