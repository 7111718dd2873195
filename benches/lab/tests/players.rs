//! Slices by real processes: what goes wrong with a contender is told, and nobody is left behind.
//!
//! One test after the other in a process with one thread, as the driver's must be.

#[path = "players/crew.rs"]
mod crew;
#[path = "players/faults.rs"]
mod faults;
#[path = "players/saboteur.rs"]
mod saboteur;
#[path = "players/ways.rs"]
mod ways;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut arguments = Arguments::from_args();
    // On the main thread, with no other.
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($module:ident: $($test:ident)*;)*) => {
            $($(trials.push(Trial::test(stringify!($test), || {
                $module::$test();
                Ok(())
            }));)*)*
        };
    }
    trials! {
        faults:
            lost_records_are_counted
            repeated_records_are_counted
            a_torn_record_is_told
            records_that_overtake_are_told
            a_slice_ends_though_its_last_record_is_lost
            a_receiver_that_stands_still_is_wedged
            a_round_trip_that_loses_its_record_is_wedged
            a_player_that_panics_is_quoted
            a_player_that_is_killed_is_told
            a_link_that_cannot_be_made_says_why
            losses_between_two_receivers_are_counted
            a_stall_is_charged_to_all_records_that_were_due
            a_rate_that_cannot_be_kept_is_told;
        crew:
            players_die_with_their_driver
            no_more_spin_than_there_are_processors
            a_driver_with_threads_is_refused
            players_of_threads_share_a_process
            players_of_processes_are_pinned_apart;
        ways:
            the_byte_ring_in_all_patterns
            the_slot_ring_in_all_patterns
            the_slot_ring_with_many_on_both_sides
            the_kernels_ways_in_all_patterns
            the_kernels_ways_keep_long_records_whole
            floors_are_measured;
    }
    libtest_mimic::run(&arguments, trials).exit();
}
