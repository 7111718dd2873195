//! Explicit-state models of the protocols: every step of every party in every order, death
//! included.
//!
//! Each test explores all states of a small ring, some hundred thousand as a rule, and either finds
//! none that is wrong or stuck, or is a mutant: the same model with one rule left out, which must
//! fail in the way stated. The mutants show that the model sees, and that each rule is needed.
//!
//! | file | models |
//! | --- | --- |
//! | `explorer` | the search: safety in every state, and a way from every state to a good end |
//! | `slot_ring` | MPMC: claim, commit, abort, release, requeue, close, recovery, late attach |
//! | `byte_ring` | SPSC: publication, journals, restart, close |
//! | `closing` | SPSC: who closes, with store buffers and barriers that pass over a processor |
//! | `sleeper`, `sleeper_mender` | the event word, with store buffers; a waker that is recovered |
//! | `names` | nothing: it holds the models' names against the code's |
//!
//! Steps take effect in one order for all, but for the store buffers of `sleeper` and `closing`.
//! What weaker memory adds is explored by loom on the code itself.
#![expect(
    clippy::print_stdout,
    reason = "each test says how many states it visited"
)]

mod model {
    pub(crate) mod byte_ring;
    mod byte_ring_steps;
    pub(crate) mod closing;
    pub(crate) mod explorer;
    pub(crate) mod names;
    pub(crate) mod sleeper;
    mod sleeper_mender;
    pub(crate) mod slot_ring;
    mod slot_ring_recovery;
    mod slot_ring_steps;
}

use model::explorer::{Model, Outcome, Report, explore};

/// Explores, and fails with the trace unless all is well.
#[track_caller]
fn assert_sound(model: &impl Model) {
    let Report { states, outcome } = explore(model);
    println!("{}: {states} states", name_of_test());
    match outcome {
        Outcome::Sound => {}
        Outcome::Violation { what, trace } => panic!("{what}\n{}", trace.join("\n")),
        Outcome::Stuck { count, trace } => {
            panic!(
                "{count} of {states} states cannot drain\n{}",
                trace.join("\n")
            )
        }
    }
}

/// Explores a mutant, and fails unless it fails as expected.
#[track_caller]
fn assert_violates(model: &impl Model, expected: &str) {
    let Report { states, outcome } = explore(model);
    println!("{}: found in {states} states", name_of_test());
    match outcome {
        Outcome::Violation { what, .. } => assert_eq!(what, expected),
        Outcome::Stuck { count, .. } => panic!("{count} states cannot drain; expected: {expected}"),
        Outcome::Sound => panic!("the mutant passes; expected: {expected}"),
    }
}

/// Explores a mutant, and fails unless it leaves states that cannot drain.
#[track_caller]
fn assert_wedges(model: &impl Model) {
    let Report { states, outcome } = explore(model);
    match outcome {
        Outcome::Stuck { count, .. } => {
            println!(
                "{}: {count} of {states} states cannot drain",
                name_of_test()
            );
        }
        Outcome::Violation { what, .. } => panic!("expected a wedge, found: {what}"),
        Outcome::Sound => panic!("the mutant passes"),
    }
}

fn name_of_test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

mod names {
    use super::model::names::{STEPS, out_of_step, slot_states};
    use super::model::slot_ring::SlotState;

    #[test]
    fn the_states_of_a_slot_are_those_of_the_code() {
        use SlotState::{Committed, Free, Reading, Skip, Writing};
        let modelled = [Free, Writing, Committed, Reading, Skip]
            .map(|state| (format!("{state:?}").to_uppercase(), state as u8));
        assert_eq!(slot_states(), modelled);
    }

    #[test]
    fn the_steps_of_the_modelled_functions_are_in_the_order_of_the_model() {
        for (source, head, steps) in STEPS {
            assert_eq!(out_of_step(source, head, steps), None, "in `{head}`");
        }
    }
}

mod slots {
    use super::model::slot_ring::{Budgets, Mutant, SkipStore, SlotRing};
    use super::{assert_sound, assert_violates, assert_wedges};
    use crate::model::explorer::{Outcome, explore};

    const IDLE: SlotRing = SlotRing::idle();

    /// Two producers and two consumers, two records, and a death of each kind of party.
    const DEADLY: SlotRing = SlotRing {
        budgets: Budgets {
            claims: 2,
            producer_deaths: 1,
            consumer_deaths: 1,
            recoverer_deaths: 1,
            ..IDLE.budgets
        },
        ..IDLE
    };

    /// Nobody dies, but hints grow stale by more than a lap.
    const SEVERAL_LAPS: SlotRing = SlotRing {
        budgets: Budgets {
            claims: 7,
            ..IDLE.budgets
        },
        ..IDLE
    };

    /// Newcomers take the rows of the dead.
    const LATE_ATTACH: SlotRing = SlotRing {
        producers: 1,
        budgets: Budgets {
            claims: 2,
            attaches: 2,
            producer_deaths: 1,
            consumer_deaths: 2,
            recoverer_deaths: 1,
            ..IDLE.budgets
        },
        ..IDLE
    };

    const REQUEUE: SlotRing = SlotRing {
        budgets: Budgets {
            claims: 2,
            requeues: 2,
            consumer_deaths: 1,
            recoverer_deaths: 1,
            ..IDLE.budgets
        },
        ..IDLE
    };

    const CLOSE: SlotRing = SlotRing {
        closes: true,
        ..DEADLY
    };

    /// Aborts by one producer, by its recoverers, and by who comes after it.
    const ABORTS: SlotRing = SlotRing {
        producers: 1,
        consumers: 1,
        budgets: Budgets {
            claims: 4,
            aborts: 3,
            attaches: 2,
            producer_deaths: 2,
            recoverer_deaths: 2,
            ..IDLE.budgets
        },
        ..IDLE
    };

    fn mutant(of: SlotRing, mutant: Mutant) -> SlotRing {
        SlotRing { mutant, ..of }
    }

    #[test]
    fn nothing_is_lost_or_stuck_whoever_dies_at_any_step() {
        assert_sound(&DEADLY);
    }

    #[test]
    fn nothing_is_lost_or_stuck_when_the_ring_wraps_under_deaths() {
        assert_sound(&SlotRing {
            budgets: Budgets {
                claims: 3,
                ..DEADLY.budgets
            },
            ..DEADLY
        });
    }

    #[test]
    fn nothing_is_lost_or_stuck_with_three_slots() {
        assert_sound(&SlotRing { slots: 3, ..DEADLY });
    }

    #[test]
    fn two_dead_consumers_are_recovered_at_the_same_time() {
        let budgets = Budgets {
            consumer_deaths: 2,
            ..DEADLY.budgets
        };
        assert_sound(&SlotRing { budgets, ..DEADLY });
    }

    #[test]
    fn hints_that_are_laps_behind_cost_a_walk_and_nothing_else() {
        assert_sound(&SEVERAL_LAPS);
    }

    #[test]
    fn hints_that_are_laps_behind_cost_a_walk_with_three_slots_too() {
        assert_sound(&SlotRing {
            slots: 3,
            ..SEVERAL_LAPS
        });
    }

    #[test]
    fn a_requeued_record_is_delivered_again() {
        assert_sound(&REQUEUE);
    }

    #[test]
    fn newcomers_in_the_rows_of_the_dead_find_what_those_held() {
        assert_sound(&LATE_ATTACH);
    }

    #[test]
    fn the_ring_drains_and_closes_whoever_dies() {
        assert_sound(&CLOSE);
    }

    #[test]
    fn a_ring_that_drops_what_the_dead_held_loses_nothing_else() {
        assert_sound(&SlotRing {
            drops: true,
            ..DEADLY
        });
    }

    #[test]
    fn the_count_of_commits_is_exact_after_any_death_in_an_abort() {
        assert_sound(&ABORTS);
    }

    #[test]
    fn the_count_of_commits_is_exact_when_closing_aborts_claims() {
        let budgets = Budgets {
            claims: 3,
            aborts: 2,
            ..ABORTS.budgets
        };
        assert_sound(&SlotRing {
            closes: true,
            budgets,
            ..ABORTS
        });
    }

    /// All 120 orders of the five stores of an abort: base before slot, slot before the count and
    /// the word, those before the end; count and word in either order.
    #[test]
    fn the_ledger_is_exact_in_just_two_orders_of_its_stores() {
        use SkipStore::{Base, Count, End, Slot, Word};
        let budgets = Budgets {
            claims: 3,
            aborts: 2,
            ..ABORTS.budgets
        };
        let sound = orders(&[Base, Slot, Count, Word, End])
            .into_iter()
            .filter(|order| {
                let skip_order = order.as_slice().try_into().expect("five stores");
                let report = explore(&SlotRing {
                    skip_order,
                    budgets,
                    ..ABORTS
                });
                matches!(report.outcome, Outcome::Sound)
            });
        let sound: Vec<_> = sound.collect();
        assert_eq!(
            sound,
            [
                [Base, Slot, Count, Word, End],
                [Base, Slot, Word, Count, End]
            ]
        );
    }

    fn orders(of: &[SkipStore]) -> Vec<Vec<SkipStore>> {
        if of.is_empty() {
            return vec![Vec::new()];
        }
        let begin_with = |first: &SkipStore| {
            let rest: Vec<_> = of.iter().copied().filter(|store| store != first).collect();
            orders(&rest)
                .into_iter()
                .map(|rest| [vec![*first], rest].concat())
                .collect::<Vec<_>>()
        };
        of.iter().flat_map(begin_with).collect()
    }

    #[test]
    fn without_rescans_redelivered_records_stay_behind_the_hint() {
        assert_wedges(&mutant(DEADLY, Mutant::NeverRescans));
    }

    #[test]
    fn reclaiming_a_living_producer_takes_its_claim_away() {
        let living = mutant(SEVERAL_LAPS, Mutant::ReclaimsTheLiving);
        assert_violates(&living, "a producer lost its claim");
    }

    #[test]
    fn recovery_begun_only_for_whom_a_word_names_misses_the_bump() {
        assert_wedges(&mutant(DEADLY, Mutant::RecoversOnlyWhomAWordNames));
    }

    #[test]
    fn an_abort_that_frees_its_slot_leaves_a_hole() {
        assert_violates(
            &mutant(ABORTS, Mutant::AbortFrees),
            "a hint ran past the frontier",
        );
    }

    #[test]
    fn a_newcomer_that_takes_the_present_epoch_as_seen_misses_records() {
        assert_wedges(&mutant(LATE_ATTACH, Mutant::TakesEpochOfItsBirthAsSeen));
    }

    #[test]
    fn an_epoch_taken_as_seen_before_the_walk_hides_a_second_record() {
        assert_wedges(&mutant(LATE_ATTACH, Mutant::TakesEpochAsSeenBeforeTheWalk));
    }

    #[test]
    fn an_epoch_taken_as_seen_after_a_walk_that_claimed_hides_a_second_record() {
        assert_wedges(&mutant(LATE_ATTACH, Mutant::TakesEpochAsSeenAfterAClaim));
    }

    #[test]
    fn an_epoch_read_after_the_walk_hides_what_came_during_it() {
        assert_wedges(&mutant(DEADLY, Mutant::ReadsEpochAfterTheWalk));
    }

    #[test]
    fn a_producer_must_look_at_closed_after_its_claim() {
        assert_violates(
            &mutant(CLOSE, Mutant::LooksAtClosedOnlyBeforeTheClaim),
            "Closed was reported before a committed record",
        );
    }

    #[test]
    fn closed_without_a_walk_over_all_slots_comes_too_early() {
        assert_violates(
            &mutant(CLOSE, Mutant::ReportsClosedWithoutRescan),
            "Closed was reported before a committed record",
        );
    }

    #[test]
    fn a_bump_only_if_something_was_swept_is_lost_with_the_first_recoverer() {
        assert_wedges(&mutant(DEADLY, Mutant::BumpsOnlyIfItSwept));
    }

    #[test]
    fn a_row_freed_before_the_bump_is_never_recovered_again() {
        assert_wedges(&mutant(DEADLY, Mutant::FreesRowBeforeBump));
    }

    #[test]
    fn a_ledger_without_base_cannot_tell_what_was_counted() {
        assert_violates(&mutant(ABORTS, Mutant::KeepsNoBase), "the ledger miscounts");
    }

    #[test]
    fn the_ledger_is_resolved_by_its_count_first() {
        let resolved = mutant(ABORTS, Mutant::ResolvesByEndBeforeCount);
        assert_violates(&resolved, "the ledger miscounts");
    }

    #[test]
    fn a_requeue_without_bump_leaves_the_record_behind_the_hint() {
        assert_wedges(&mutant(REQUEUE, Mutant::RequeuesWithoutBump));
    }

    /// A slot that is a lap ahead holds a record of that lap, which the consumer has not had.
    #[test]
    fn a_consumer_that_jumps_like_a_producer_leaves_a_record_behind() {
        assert_violates(
            &mutant(SEVERAL_LAPS, Mutant::ConsumerJumpsLikeAProducer),
            "the head hint passed what is still to be claimed",
        );
    }
}

mod bytes {
    use super::model::byte_ring::{ByteRing, Mutant};
    use super::{assert_sound, assert_violates, assert_wedges};

    /// Records of one and two units and batches of two, in four units; both sides die.
    const DEADLY: ByteRing = ByteRing {
        capacity: 4,
        records: 4,
        shapes: &[&[1], &[2], &[1, 1], &[1, 2], &[2, 1]],
        producer_deaths: 2,
        consumer_deaths: 1,
        closes: false,
        mutant: Mutant::Nothing,
    };

    const CLOSE: ByteRing = ByteRing {
        records: 3,
        producer_deaths: 1,
        closes: true,
        ..DEADLY
    };

    const RESTART_MISCOUNTS: &str =
        "a restarted producer would miscount or misplace the committed end";

    fn mutant(of: ByteRing, mutant: Mutant) -> ByteRing {
        ByteRing { mutant, ..of }
    }

    #[test]
    fn committed_records_and_both_counts_survive_any_death() {
        assert_sound(&DEADLY);
    }

    #[test]
    fn consumers_die_and_restart_too() {
        assert_sound(&ByteRing {
            producer_deaths: 1,
            consumer_deaths: 3,
            ..DEADLY
        });
    }

    #[test]
    fn committed_records_survive_in_a_larger_ring() {
        assert_sound(&ByteRing {
            capacity: 6,
            producer_deaths: 1,
            ..DEADLY
        });
    }

    #[test]
    fn the_ring_drains_and_closes_whoever_dies() {
        assert_sound(&CLOSE);
    }

    /// So a torn entry has its new end and its old count, and is not yet the true one.
    #[test]
    fn the_journal_is_exact_with_the_end_stored_first_too() {
        assert_sound(&mutant(DEADLY, Mutant::StoresEndBeforeRecords));
    }

    /// Padding and record are published at once: together, with the next header, they must fit.
    #[test]
    fn a_record_longer_than_half_the_ring_may_never_fit() {
        let long = ByteRing {
            records: 2,
            shapes: &[&[3]],
            ..DEADLY
        };
        assert_wedges(&long);
        assert_sound(&ByteRing {
            capacity: 6,
            ..long
        });
    }

    #[test]
    fn a_header_that_is_not_zeroed_shows_a_record_of_the_lap_before() {
        let stale = mutant(DEADLY, Mutant::LeavesNextHeader);
        assert_violates(&stale, "an uncommitted record is seen");
    }

    #[test]
    fn a_claim_needs_room_for_the_header_after_it() {
        let full = mutant(DEADLY, Mutant::ClaimsWithoutRoomForNextHeader);
        assert_violates(&full, "the producer wrote over what is not released");
    }

    #[test]
    fn a_commit_before_the_journal_is_not_counted() {
        assert_violates(
            &mutant(DEADLY, Mutant::CommitsBeforeJournal),
            RESTART_MISCOUNTS,
        );
    }

    #[test]
    fn a_batch_is_committed_by_its_first_header_stored_last() {
        let early = mutant(DEADLY, Mutant::CommitsBeforeHeadersOfBatch);
        assert_violates(&early, "a committed record is not seen");
    }

    /// The last claim wrote over the released record at the lower entry's end, perhaps with zero.
    #[test]
    fn a_restart_that_asks_only_the_header_forgets_a_publication() {
        assert_violates(
            &mutant(DEADLY, Mutant::RestartAsksHeaderAlone),
            RESTART_MISCOUNTS,
        );
    }

    #[test]
    fn of_entries_with_equal_ends_the_one_with_more_records_is_torn() {
        assert_violates(
            &mutant(DEADLY, Mutant::RestartTakesFirstOfEqualEnds),
            RESTART_MISCOUNTS,
        );
    }

    #[test]
    fn a_restart_must_not_overwrite_the_true_entry() {
        assert_violates(
            &mutant(DEADLY, Mutant::RestartWritesFirstEntry),
            RESTART_MISCOUNTS,
        );
    }

    #[test]
    fn a_release_is_journalled_before_the_head_moves() {
        let early = mutant(DEADLY, Mutant::HeadBeforeJournal);
        assert_violates(&early, "a restarted consumer would miscount");
    }

    #[test]
    fn a_producer_must_mark_its_claim_before_it_looks_at_closed() {
        let late = mutant(CLOSE, Mutant::LooksAtClosedBeforeMark);
        assert_violates(&late, "a record was committed after Closed");
    }

    #[test]
    fn a_consumer_must_look_at_closed_before_the_mark() {
        let late = mutant(CLOSE, Mutant::LooksAtClosedLast);
        assert_violates(&late, "a record was committed after Closed");
    }

    #[test]
    fn a_consumer_must_look_at_the_header_after_the_mark() {
        let late = mutant(CLOSE, Mutant::LooksAtMarkLast);
        assert_violates(&late, "Closed was reported before a committed record");
    }

    #[test]
    fn a_consumer_must_look_at_the_mark() {
        let ignored = mutant(CLOSE, Mutant::IgnoresMark);
        assert_violates(&ignored, "a record was committed after Closed");
    }
}

mod closing {
    use super::model::closing::{Closing, LATE, Mutant};
    use super::{assert_sound, assert_violates};

    /// Everybody closes twice; the producer reopens as often; each dies once.
    const CLOSING: Closing = Closing {
        records: 3,
        producer_closes: 2,
        consumer_closes: 2,
        reopenings: 2,
        producer_deaths: 1,
        consumer_deaths: 1,
        is_refused: false,
        mutant: Mutant::Nothing,
    };

    #[test]
    fn no_record_comes_behind_closed_whoever_closes_and_whomever_the_barrier_passes_over() {
        assert_sound(&CLOSING);
    }

    #[test]
    fn where_not_every_processor_can_be_asked_the_end_is_told_when_the_producer_has_left() {
        let is_refused = true;
        assert_sound(&Closing {
            is_refused,
            ..CLOSING
        });
    }

    #[test]
    fn a_producers_own_close_comes_behind_its_commits() {
        assert_sound(&Closing {
            consumer_closes: 0,
            mutant: Mutant::TrustsTheHeavyBarrier,
            ..CLOSING
        });
    }

    #[test]
    fn a_consumer_that_closed_must_ask_every_processor() {
        let mutant = Mutant::TrustsTheHeavyBarrier;
        assert_violates(&Closing { mutant, ..CLOSING }, LATE);
    }

    #[test]
    fn and_again_when_it_has_closed_again() {
        let mutant = Mutant::AsksOnlyOnce;
        assert_violates(&Closing { mutant, ..CLOSING }, LATE);
    }

    /// Opened and closed again behind the look at the header, with a record in between.
    #[test]
    fn the_header_is_looked_at_behind_the_switch() {
        let mutant = Mutant::LooksAtSwitchLast;
        assert_violates(&Closing { mutant, ..CLOSING }, LATE);
    }

    #[test]
    fn and_so_must_its_successor() {
        let mutant = Mutant::SuccessorAsksNobody;
        assert_violates(&Closing { mutant, ..CLOSING }, LATE);
    }
}

mod events {
    use super::model::sleeper::{Barrier, EventWord, Mutant};
    use super::{assert_sound, assert_violates};

    /// Two wakers with three records, two sleepers; sleepers die.
    const HEAVY: EventWord = EventWord {
        barrier: Barrier::Heavy,
        records: [2, 1],
        waker_deaths: 0,
        sleeper_deaths: 1,
        mender_deaths: None,
        mutant: Mutant::Nothing,
    };

    const PASSING: EventWord = EventWord {
        barrier: Barrier::PassesOver,
        ..HEAVY
    };

    /// Sleepers without a bound, and menders, of whom one dies.
    const MENDED: EventWord = EventWord {
        records: [1, 1],
        waker_deaths: 2,
        mender_deaths: Some(1),
        ..HEAVY
    };

    const LOST: &str = "a wake-up was lost";

    #[test]
    fn no_wake_up_is_lost_with_a_heavy_barrier_on_one_side() {
        assert_sound(&HEAVY);
    }

    /// membarrier(2) asks each processor what it has noted, which may be out of date.
    #[test]
    fn no_wake_up_is_lost_if_the_barrier_passes_over_somebody_and_the_first_sleep_is_brief() {
        assert_sound(&PASSING);
    }

    #[test]
    fn whoever_sleeps_long_at_once_relies_on_a_barrier_that_reaches_everybody() {
        let long = EventWord {
            mutant: Mutant::SleepsLongAtOnce,
            ..PASSING
        };
        assert_violates(&long, LOST);
        assert_sound(&EventWord {
            barrier: Barrier::Heavy,
            ..long
        });
    }

    #[test]
    fn no_wake_up_is_lost_with_fences_on_both_sides() {
        assert_sound(&EventWord {
            barrier: Barrier::Fences,
            ..HEAVY
        });
    }

    #[test]
    fn a_dead_waker_costs_each_sleeper_one_bound() {
        assert_sound(&EventWord {
            waker_deaths: 2,
            ..HEAVY
        });
    }

    #[test]
    fn who_has_no_bound_is_woken_by_whoever_mends_a_dead_waker() {
        assert_sound(&MENDED);
    }

    #[test]
    fn a_row_must_be_freed_after_everybody_was_woken() {
        assert_violates(
            &EventWord {
                mutant: Mutant::FreesRowBeforeWaking,
                ..MENDED
            },
            LOST,
        );
    }

    #[test]
    fn a_mender_must_wake_after_its_sweep() {
        assert_violates(
            &EventWord {
                mutant: Mutant::WakesBeforeSweeping,
                ..MENDED
            },
            LOST,
        );
    }

    #[test]
    fn a_mender_must_count_its_wake_up_for_those_about_to_sleep() {
        assert_violates(
            &EventWord {
                mutant: Mutant::WakesWithoutCounting,
                ..MENDED
            },
            LOST,
        );
    }

    #[test]
    fn a_waker_must_count_its_wake_up_for_the_bit_is_set_again_by_others() {
        assert_violates(
            &EventWord {
                mutant: Mutant::ClearsWithoutCounting,
                ..HEAVY
            },
            LOST,
        );
    }

    #[test]
    fn without_barriers_a_publication_waits_in_the_store_buffer_unseen() {
        assert_violates(
            &EventWord {
                barrier: Barrier::Missing,
                ..HEAVY
            },
            LOST,
        );
    }

    #[test]
    fn a_sleeper_must_look_again_after_it_armed_the_word() {
        assert_violates(
            &EventWord {
                mutant: Mutant::LooksBeforeItArms,
                ..HEAVY
            },
            LOST,
        );
    }

    #[test]
    fn a_sleeper_must_look_again_at_closed_and_the_recovery_epoch_too() {
        assert_violates(
            &EventWord {
                mutant: Mutant::LooksAgainOnlyForRecords,
                ..HEAVY
            },
            LOST,
        );
    }

    #[test]
    fn a_sleeper_must_sleep_only_on_the_value_that_it_armed() {
        assert_violates(
            &EventWord {
                mutant: Mutant::SleepsOnWhateverTheWordIs,
                ..HEAVY
            },
            LOST,
        );
    }

    #[test]
    fn a_count_of_sleepers_leaks_with_a_killed_one() {
        let counted = EventWord {
            mutant: Mutant::CountsSleepers,
            ..HEAVY
        };
        assert_violates(&counted, "a waker woke nobody, and will for ever");
    }
}
