//! The mistakes, one after the other.

use super::{Break, Check, Edit};

const SLOTS: &str = "src/protocol/slot_ring.rs";
const WRITER: &str = "src/protocol/byte_ring/writer.rs";
const RECOVERY: &str = "src/protocol/recovery.rs";
const MENDING: &str = "src/segment/recover.rs";
const WAITING: &str = "src/wait/mod.rs";
const MAP: &str = "src/segment/map.rs";
const PATIENCE: &str = "src/wait/patience.rs";
const POLLABLE: &str = "src/wait/pollable.rs";
const ORIGINS: &str = "src/protocol/byte_ring/origin.rs";
const CONSUMER: &str = "src/spsc/consumer.rs";
const READER: &str = "src/protocol/byte_ring/reader.rs";
const FORKING: &str = "src/segment/fork.rs";

pub(super) const BREAKS: &[Break] = &[
    Break {
        name: "commit-relaxed",
        what: "a commit to the slot ring publishes nothing",
        edits: &[Edit {
            file: SLOTS,
            old: ".store(committed.0, Ordering::Release);",
            new: ".store(committed.0, Ordering::Relaxed);",
        }],
        check: Check::Loom("loom_mpmc"),
    },
    Break {
        name: "header-relaxed",
        what: "a commit to the byte ring publishes nothing",
        edits: &[Edit {
            file: WRITER,
            old: ".store(header, Ordering::Release);",
            new: ".store(header, Ordering::Relaxed);",
        }],
        check: Check::Loom("loom_spsc"),
    },
    Break {
        name: "release-relaxed",
        what: "a slot is free before its reader has read",
        edits: &[Edit {
            file: SLOTS,
            old: ".store(free.0, Ordering::Release);",
            new: ".store(free.0, Ordering::Relaxed);",
        }],
        check: Check::Loom("loom_orderings"),
    },
    Break {
        name: "recovery-on-a-time-out",
        what: "whoever is in the way for a while is taken for dead, whatever his lock says",
        edits: &[
            Edit {
                file: MENDING,
                old: "&& is_free(file, Bytes::row(owner)).unwrap_or(false)",
                new: "&& is_free(file, Bytes::row(owner)).is_ok()",
            },
            Edit {
                file: MENDING,
                old: "let _row = Lock::take(file, Bytes::row(dead)).ok()??;",
                new: "let _row = Lock::take(file, Bytes::row(dead)).ok()?;",
            },
        ],
        check: Check::Torture("--operation mpmc-commit,mpmc-release --mode stop"),
    },
    Break {
        name: "no-rescan-when-closed",
        what: "a consumer that finds nothing in a closed ring does not look at every slot",
        edits: &[Edit {
            file: SLOTS,
            old: "closed_or_blocked(shape, store, mark)\n            }",
            new: "closed_or_blocked(shape, store, mark).or(Err(Refusal::Closed))\n            }",
        }],
        check: Check::Loom("loom_close"),
    },
    Break {
        name: "no-look-before-sleep",
        what: "a sleeper does not look again once it has announced itself",
        edits: &[Edit {
            file: WAITING,
            old: "self.armed = Some(arm(attachment.store(), self.event));
            return Ok(false);
        };
        self.sleep_bounded(attachment, armed)",
            new: "let armed = arm(attachment.store(), self.event);
            return self.sleep_bounded(attachment, armed);
        };
        self.sleep_bounded(attachment, armed)",
        }],
        check: Check::Loom("loom_wait"),
    },
    Break {
        name: "closed-behind-a-barrier-that-passes-over",
        what: "a consumer that closed the ring trusts the heavy barrier",
        edits: &[Edit {
            file: CONSUMER,
            old: "ordered = wait::global_barrier();",
            new: "ordered = wait::heavy_barrier();",
        }],
        check: Check::Unit("every_processor_is_asked_once_where_a_consumer_closed_the_ring"),
    },
    Break {
        name: "no-barrier-in-sleeper",
        what: "a sleeper looks again without a barrier behind its announcement",
        edits: &[Edit {
            file: WAITING,
            old: "if heavy_barrier() {\n        return armed;",
            new: "if true || heavy_barrier() {\n        return armed;",
        }],
        check: Check::Loom("loom_wait"),
    },
    Break {
        name: "epoch-seen-early",
        what: "a consumer takes an epoch for seen when it has found the first record given back",
        edits: &[Edit {
            file: SLOTS,
            old: "if let Some(held) = claim_given_back(shape, store, me) {",
            new: "let found = claim_given_back(shape, store, me);
                self.seen = Some(epoch);
                if let Some(held) = found {",
        }],
        check: Check::Torture("--operation mpmc-release-batch --mode kill"),
    },
    Break {
        name: "epoch-not-bumped",
        what: "recovery does not tell consumers to look for what it gave back",
        edits: &[Edit {
            file: RECOVERY,
            old: "slot_ring::bump_epoch(store);\n    wake();",
            new: "wake();",
        }],
        check: Check::Torture("--operation mpmc-release --mode kill"),
    },
    Break {
        name: "freed-before-woken",
        what: "recovery frees the row and wakes the others after that",
        edits: &[
            Edit {
                file: RECOVERY,
                old: "    wake();\n    ledger::add(row, RECOVERED, 1);",
                new: "    ledger::add(row, RECOVERED, 1);",
            },
            Edit {
                file: RECOVERY,
                old: "row.state.store(ROW_FREE, Ordering::Release);",
                new: "row.state.store(ROW_FREE, Ordering::Release);\n    wake();",
            },
        ],
        check: Check::Unit("recovery::"),
    },
    Break {
        name: "takeover-unlocked",
        what: "a dead one's row is taken over without its lock",
        edits: &[Edit {
            file: MENDING,
            old: "let _row = Lock::take(file, Bytes::row(dead)).ok()??;",
            new: "let _row = Lock::take(file, Bytes::row(dead)).ok()?;",
        }],
        check: Check::Unit("lives::"),
    },
    Break {
        name: "abort-frees",
        what: "an aborted slot is free at once, behind the tail hint",
        edits: &[Edit {
            file: SLOTS,
            old: "let skip = Word::new(held.word.lap(), 0, 0, SKIP);",
            new: "let skip = Word::free(shape.next_lap(held.word.lap()));",
        }],
        check: Check::Torture("--operation mpmc-abort --mode kill"),
    },
    Break {
        name: "skip-counted-early",
        what: "a skip is made before the row announces it",
        edits: &[Edit {
            file: SLOTS,
            old: "    ledger::begin_skip(row, index);
    let skip = Word::new(held.word.lap(), 0, 0, SKIP);
    // sync(record-commit): release half.
    held.slot(store).store(skip.0, Ordering::Release);
",
            new: "    let skip = Word::new(held.word.lap(), 0, 0, SKIP);
    held.slot(store).store(skip.0, Ordering::Release);
    ledger::begin_skip(row, index);
",
        }],
        check: Check::Torture("--operation mpmc-abort --mode kill"),
    },
    Break {
        name: "journal-late",
        what: "the byte ring's header comes before the journal that tells its end",
        edits: &[
            Edit {
                file: WRITER,
                old: "write_entry(&line.journal[self.entry & 1], end, records);",
                new: "",
            },
            Edit {
                file: WRITER,
                old: "line.claim.store(0, Ordering::Release);",
                new: "write_entry(&line.journal[self.entry & 1], end, records);
        line.claim.store(0, Ordering::Release);",
            },
        ],
        check: Check::Torture("--operation spsc-push --mode kill"),
    },
    Break {
        name: "origin-after-its-records",
        what: "records are published before it is written down where they come from",
        edits: &[Edit {
            file: WRITER,
            old: "super::origin::announce(store, self.tail, self.staged_end(), origin);
            self.publish(shape, store);",
            new: "let (tail, end) = (self.tail, self.staged_end());
            self.publish(shape, store);
            super::origin::announce(store, tail, end, origin);",
        }],
        check: Check::Torture("--operation spsc-commit-from --mode kill"),
    },
    Break {
        name: "origin-over-the-true-one",
        what: "where records come from is written over what is still true",
        edits: &[Edit {
            file: ORIGINS,
            old: "map_or(0, |entry| entry ^ 1);",
            new: "unwrap_or(0);",
        }],
        check: Check::Torture("--operation spsc-commit-from --mode kill"),
    },
    Break {
        name: "origin-never-settled",
        what: "what a dead bridge announced comes true with another's records",
        edits: &[Edit {
            file: WRITER,
            old: "super::origin::settle(store, end);",
            new: "let _ = super::origin::settle::<S>;",
        }],
        check: Check::Torture(
            "--operation spsc-attach-producer-after-bridge --mode kill --sample 20",
        ),
    },
    Break {
        name: "intent-never-settled",
        what: "what a dead bridge was about to commit to a slot ring counts as committed",
        edits: &[Edit {
            file: RECOVERY,
            old: "slot_ring::settle_origins(shape, store, dead);",
            new: "let _ = slot_ring::settle_origins::<S>;",
        }],
        check: Check::Torture("--operation mpmc-commit-from --mode kill"),
    },
    Break {
        name: "intent-after-the-commit",
        what: "a record is committed to a slot ring before it is written down where it comes from",
        edits: &[Edit {
            file: SLOTS,
            old: "origin::announce(store, me, held.position(shape, store), origin);
    commit(store, held, tag, len);",
            new: "commit(store, held, tag, len);
    origin::announce(store, me, held.position(shape, store), origin);",
        }],
        check: Check::Torture("--operation mpmc-commit-from --mode kill"),
    },
    Break {
        name: "intent-settled-after-the-sweep",
        what: "whether a dead bridge committed is looked up when the word says it no more",
        edits: &[
            Edit {
                file: RECOVERY,
                old: "slot_ring::settle_origins(shape, store, dead);",
                new: "let () = ();",
            },
            Edit {
                file: RECOVERY,
                old: "            None => {}
        }
    }
    done",
                new: "            None => {}
        }
    }
    #[cfg(not(loom))]
    slot_ring::settle_origins(shape, store, dead);
    done",
            },
        ],
        check: Check::Torture("--operation mpmc-recover-bridge --mode kill --sample 20"),
    },
    Break {
        name: "lock-kept-by-a-child",
        what: "a forked child keeps its parent's descriptor, and so its lock",
        edits: &[Edit {
            file: FORKING,
            old: "unsafe { libc::close(descriptor) };",
            new: "unsafe { libc::fsync(descriptor) };",
        }],
        check: Check::Unit("a_forked_child"),
    },
    Break {
        name: "mapping-kept-by-a-child",
        what: "a forked child inherits the mapping, and with it its parent's lock",
        edits: &[Edit {
            file: MAP,
            old: "raw.advise(Advice::DontFork)?;",
            new: "raw.advise(Advice::Normal)?;",
        }],
        check: Check::Test("crash", "forks::"),
    },
    Break {
        name: "waker-not-looked-after",
        what: "an epoll loop's helper takes no look of its own when its sleep ends",
        edits: &[Edit {
            file: POLLABLE,
            old: "Side::Items => glance.has_record(shape, store),",
            new: "Side::Items => false,",
        }],
        check: Check::Test("crash", "stopped_before_its_wake_up"),
    },
    Break {
        name: "no-probe-while-others-come",
        what: "only who is refused by the same thing for long looks after the dead",
        edits: &[Edit {
            file: PATIENCE,
            old: "!is_first && now_ms >= self.anyway_at_ms",
            new: "false",
        }],
        check: Check::Unit("patience::"),
    },
    Break {
        name: "nothing-is-as-long-as-that",
        what: "a reader that has read nothing takes a header for one like the last",
        edits: &[Edit {
            file: READER,
            old: "form: 0,\n            len: 0,\n            span: NO_SPAN,",
            new: "form: 3,\n            len: 0,\n            span: 0,",
        }],
        check: Check::Unit("a_header_that_no_correct_producer_writes_is_damage"),
    },
    Break {
        name: "length-unchecked",
        what: "a record's length is used as it was found",
        edits: &[Edit {
            file: SLOTS,
            old: "if u64::from(len) > shape.slot_bytes {",
            new: "if u64::from(len) > u64::MAX - shape.slot_bytes {",
        }],
        check: Check::Test("corrupt", ""),
    },
    Break {
        name: "zeroes-lent",
        what: "a guarded handle lends a record without touching its pages first",
        edits: &[
            Edit {
                file: "src/protocol/copy.rs",
                old: "    if len > 0 {\n        // relaxed: as above.",
                new: "    if len > u64::MAX - 1 {\n        // relaxed: as above.",
            },
            Edit {
                file: "src/protocol/copy.rs",
                old: "while at < last {",
                new: "while at > last {",
            },
        ],
        check: Check::Test("storage", "cuts::"),
    },
];
