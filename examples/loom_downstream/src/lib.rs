//! How a crate that uses annulus tests its own concurrent code under loom.
//!
//! The pipeline below is written against annulus handles, generic over where the ring lies: in a
//! mapped file between processes, or on the heap. Heap rings also exist under `--cfg loom`, where
//! their words are loom's atomics and loom watches their payloads, so the same functions that run
//! in production are explored here interleaving by interleaving:
//!
//! ```text
//! cargo test -p loom_downstream                                         # real threads
//! RUSTFLAGS="--cfg loom" cargo test --release -p loom_downstream        # all interleavings
//! ```
//!
//! Under loom a sleeper has no time-out: a wake-up that your code forgot is reported as a deadlock.
//! Keep scenarios short (2 or 3 threads, 2 slots, a handful of records) and set a preemption bound.
//!
//! ```text
//! jobs (MPMC) -> worker -+
//!             -> worker -+-> results (SPSC) -> whoever asked
//! ```

use std::error::Error;

use annulus::{ReadError, Wait, ZeroCopy, mpmc, spsc};

/// Takes one job and returns its tag and its answer, the sum of its bytes; `None` once the jobs are
/// closed and all are done.
///
/// The job is released after its answer exists. A worker that dies before that gives it to another
/// one: annulus delivers it again.
///
/// # Errors
/// What [`mpmc::Consumer::read`] answers other than the end of the jobs.
pub fn work<A: ZeroCopy>(
    jobs: &mpmc::Consumer<A>,
    wait: Wait,
) -> Result<Option<(u32, u64)>, ReadError> {
    let job = match jobs.read(wait) {
        Ok(job) => job,
        Err(ReadError::Closed) => return Ok(None),
        Err(error) => return Err(error),
    };
    let sum = job.iter().map(|byte| u64::from(*byte)).sum();
    Ok(Some((job.tag(), sum)))
}

/// The second stage: does jobs until they end, writes each answer under its job's tag, and closes
/// the results. Returns how many jobs it did.
///
/// # Errors
/// Whatever ends either ring other than a close.
pub fn work_until_closed<A: ZeroCopy, B: ZeroCopy>(
    jobs: &mpmc::Consumer<A>,
    results: &mut spsc::Producer<B>,
    wait: Wait,
) -> Result<u64, Box<dyn Error>> {
    let mut done = 0;
    while let Some((tag, sum)) = work(jobs, wait)? {
        results.push(tag, &sum.to_le_bytes(), wait)?;
        done += 1;
    }
    results.close();
    Ok(done)
}

/// Reads answers until the results are closed: tag and sum, in the order of their commits.
///
/// # Errors
/// Whatever ends the ring other than a close.
pub fn collect<B: ZeroCopy>(
    results: &mut spsc::Consumer<B>,
    wait: Wait,
) -> Result<Vec<(u32, u64)>, ReadError> {
    let mut answers = Vec::new();
    loop {
        match results.read(wait) {
            Ok(answer) => {
                let mut sum = [0; 8];
                sum.copy_from_slice(&answer);
                answers.push((answer.tag(), u64::from_le_bytes(sum)));
            }
            Err(ReadError::Closed) => return Ok(answers),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(loom)]
    use loom::thread;
    #[cfg(not(loom))]
    use std::thread;

    /// Explores a scenario under loom; elsewhere runs it once, with real threads.
    fn explore(scenario: impl Fn() + Send + Sync + 'static) {
        #[cfg(loom)]
        {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = model.preemption_bound.or(Some(2));
            model.check(scenario);
        }
        #[cfg(not(loom))]
        scenario();
    }

    /// The smallest byte ring: 4 KiB, and under loom a few records.
    const RESULT_BYTES: u64 = if cfg!(loom) { 64 } else { 4096 };

    #[test]
    fn each_job_is_answered_once_and_the_end_is_passed_on() {
        explore(|| {
            let (asking, jobs) = mpmc::Options::new(2, 8).participants(2).heap().unwrap();
            let (mut answering, mut results) = spsc::Options::new(RESULT_BYTES).heap().unwrap();
            let worker = thread::spawn(move || {
                work_until_closed(&jobs, &mut answering, Wait::block()).unwrap()
            });
            asking.push(1, &[1, 2], Wait::block()).unwrap();
            asking.push(2, &[3, 4], Wait::block()).unwrap();
            asking.close();
            assert_eq!(
                collect(&mut results, Wait::block()),
                Ok(vec![(1, 3), (2, 7)])
            );
            assert_eq!(worker.join().unwrap(), 2);
        });
    }

    #[test]
    fn two_workers_share_the_jobs() {
        explore(|| {
            let (asking, one) = mpmc::Options::new(2, 8).participants(3).heap().unwrap();
            let two = one.try_clone().unwrap();
            asking.push(1, &[1], Wait::block()).unwrap();
            asking.push(2, &[2], Wait::block()).unwrap();
            asking.close();
            let worker = thread::spawn(move || work(&one, Wait::block()).unwrap());
            let mine = work(&two, Wait::block()).unwrap();
            let mut answers = [mine, worker.join().unwrap()];
            answers.sort_unstable();
            assert_eq!(answers, [Some((1, 1)), Some((2, 2))]);
        });
    }
}
