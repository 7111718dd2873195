//! cargo run --example pipeline -- 3
//!
//! Worker processes share one slot ring of jobs. One of them is killed in the middle of its work:
//! the job that it held is given to another one, and every job is done.
#![expect(clippy::print_stdout, reason = "a program tells what it did")]

use std::error::Error;
use std::path::Path;
use std::process::Command;

use annulus::{ReadError, Wait, mpmc};

const JOBS: u32 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("expected a number")?;
    match argument.parse() {
        Ok(workers) => manage(workers),
        Err(_) => work(Path::new(&argument)),
    }
}

/// Hands out jobs, kills a worker, and collects the results.
fn manage(workers: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let (jobs, results) = (folder.path().join("jobs"), folder.path().join("results"));
    mpmc::Options::new(256, 8).create(&jobs)?;
    mpmc::Options::new(256, 8).create(&results)?;
    // SAFETY: only this user can enter the folder, and only this program uses the rings in it.
    let jobs = unsafe { mpmc::Producer::attach(&jobs) }?;
    // SAFETY: as above.
    let results = unsafe { mpmc::Consumer::attach(&results) }?;

    let mut children = Vec::new();
    for _ in 0..workers {
        let program = std::env::current_exe()?;
        children.push(Command::new(program).arg(folder.path()).spawn()?);
    }
    let (mut given, mut finished) = (0, 0);
    let mut done = vec![false; JOBS as usize];
    while finished < JOBS {
        while given < JOBS && jobs.try_push(given, b"").is_ok() {
            given += 1;
        }
        if given == finished {
            // All are done, but the last worker has not released its job yet.
            jobs.push(given, b"", Wait::block())?;
            given += 1;
        }
        // A job whose worker dies between result and release is done twice.
        let job = results.read(Wait::block())?.tag() as usize;
        finished += u32::from(!std::mem::replace(&mut done[job], true));
        if given > JOBS / 2 && workers > 1 {
            children[0].kill()?;
        }
    }
    jobs.close();
    for child in children.iter_mut().skip(1) {
        assert!(child.wait()?.success());
    }
    println!("{JOBS} jobs done");
    Ok(())
}

/// A worker: takes jobs until there will be no more.
fn work(folder: &Path) -> Result<(), Box<dyn Error>> {
    // SAFETY: as in `manage`.
    let jobs = unsafe { mpmc::Consumer::attach(folder.join("jobs")) }?;
    // SAFETY: as in `manage`.
    let results = unsafe { mpmc::Producer::attach(folder.join("results")) }?;
    loop {
        match jobs.read(Wait::block()) {
            // The job is released, as it is dropped, when its result is committed.
            Ok(job) => results.push(job.tag(), b"", Wait::block())?,
            Err(ReadError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
