//! The heap rings alone, in a process that maps no ring: the asymmetric barrier must reach it.
//!
//! membarrier(2) passes over processes that have not registered, and says that all is well. A
//! producer's claim mark could then still be on its way when the consumer of a ring that it closed
//! itself looks for it, and a record be committed after that consumer was told `Closed`. Stores to
//! cold memory before each push keep the mark on its way for long; without the registration a few
//! of the rounds end so in most runs. So the kernel is asked as well, where it tells (Linux 6.3).
//! This test must stay the only one of its file.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};

use annulus::{TryClaimError, TryReadError, spsc};
use nix::libc;

const ROUNDS: usize = 20_000;
const COLD_WORDS: usize = 32 << 20;

/// Both threads' meeting point: they must leave it at the same moment, so they spin.
struct Meeting(AtomicUsize);

impl Meeting {
    fn meet(&self) {
        let arrived = self.0.fetch_add(1, Ordering::AcqRel) + 1;
        let all = arrived.next_multiple_of(2);
        while self.0.load(Ordering::Acquire) < all {
            spin_loop();
        }
    }
}

/// Pushes until it is refused, each time after stores that take long to complete.
fn push_until_closed(
    producer: &mut spsc::Producer<annulus::Heap>,
    cold: &mut [u64],
    random: &mut u64,
) -> u64 {
    let mut committed = 0;
    loop {
        for _ in 0..24 {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            let index = usize::try_from(*random).expect("64 bits") & (COLD_WORDS - 1);
            *black_box(&mut cold[index]) = *random;
        }
        match producer.try_push(0, b"x") {
            Ok(()) => committed += 1,
            Err(TryClaimError::Full) => {}
            Err(TryClaimError::Closed) => return committed,
            Err(error) => panic!("{error}"),
        }
    }
}

/// MEMBARRIER_CMD_GET_REGISTRATIONS and MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED of
/// linux/membarrier.h. `None` if the kernel does not tell.
fn is_registered() -> Option<bool> {
    const GET_REGISTRATIONS: i32 = 1 << 9;
    const REGISTER_GLOBAL_EXPEDITED: i64 = 1 << 2;
    // SAFETY: takes three integers and no pointer; an unknown command is refused with EINVAL.
    let mask = unsafe { libc::syscall(libc::SYS_membarrier, GET_REGISTRATIONS, 0, 0) };
    (mask >= 0).then_some(mask & REGISTER_GLOBAL_EXPEDITED != 0)
}

#[test]
fn nothing_is_committed_after_closed_in_a_process_that_maps_no_ring() {
    assert_ne!(is_registered(), Some(true), "another test of this file");
    let (mut producer, mut consumer) = spsc::Options::new(4096).heap().unwrap();
    assert_ne!(is_registered(), Some(false), "the ring has not registered");
    let meeting = Meeting(AtomicUsize::new(0));
    let mut received = Vec::with_capacity(ROUNDS);
    let committed: Vec<u64> = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| {
            let mut cold = vec![0_u64; COLD_WORDS];
            let mut random = 88_172_645_463_325_252;
            let mut committed = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                meeting.meet();
                committed.push(push_until_closed(&mut producer, &mut cold, &mut random));
                meeting.meet();
                producer.reopen();
            }
            committed
        });
        let mut payload = Vec::new();
        for round in 0..ROUNDS {
            meeting.meet();
            let mut count = 0;
            for _ in 0..round % 64 {
                count += u64::from(consumer.try_pop(&mut payload).is_ok());
            }
            consumer.close();
            loop {
                match consumer.try_pop(&mut payload) {
                    Ok(_) => count += 1,
                    Err(TryReadError::Empty) => {}
                    Err(TryReadError::Closed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            received.push(count);
            meeting.meet();
            while consumer.try_pop(&mut payload).is_ok() {}
        }
        pushing.join().unwrap()
    });
    let late = committed
        .iter()
        .zip(&received)
        .filter(|(all, got)| all != got)
        .count();
    assert_eq!(late, 0, "rounds of {ROUNDS} with records behind `Closed`");
}
