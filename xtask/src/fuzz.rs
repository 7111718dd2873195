//! The fuzz step: builds every target once and runs each for a while.
//!
//! A target starts from `fuzz/corpus/<target>` and from seeds made here. What it finds goes to a
//! folder under `target/`, so a test run leaves the checked-in corpus as it was; inputs that fail
//! are kept by cargo-fuzz in `fuzz/artifacts/<target>`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{setup, shell};

/// Lengths of the seeds: around the sizes of words, records, rows and pages.
const SEED_BYTES: [usize; 8] = [1, 8, 24, 64, 128, 512, 2048, 8192];
/// A single input may take this long before it counts as a hang.
const INPUT_TIMEOUT_SECONDS: u32 = 20;
/// Inputs that are lists of steps stay this short, in bytes: a hundred steps fill, drain and wrap
/// the small rings several times, and five hundred take five times as long to say the same.
const STEPS_BYTES: u32 = 768;

/// Runs every fuzz target for `seconds`.
pub(crate) fn run(root: &Path, target_folder: &Path, seconds: u32) -> Result<()> {
    ensure!(
        root.join("fuzz/Cargo.toml").exists(),
        "fuzz/Cargo.toml is missing"
    );
    let listed = shell::output(&mut cargo_fuzz(root, "list"))?;
    let targets: Vec<&str> = listed
        .lines()
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    ensure!(!targets.is_empty(), "`cargo fuzz list` names no target");
    shell::run(&mut cargo_fuzz(root, "build"))?;

    for (at, target) in targets.iter().enumerate() {
        println!(
            "fuzz target {}/{}: {target}, {seconds} s",
            at + 1,
            targets.len()
        );
        let found = target_folder.join("fuzz-corpus").join(target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let seeds = seeds(target_folder)?;

        let mut command = cargo_fuzz(root, "run");
        // The first folder receives what the run finds, the others are only read.
        command.arg(target).arg(&found).arg(&seeds);
        let corpus = root.join("fuzz/corpus").join(target);
        if corpus.exists() {
            command.arg(&corpus);
        }
        command.arg("--");
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"));
        if *target != "open_image" {
            command.arg(format!("-max_len={STEPS_BYTES}"));
        }
        command.arg("-print_final_stats=1");
        shell::run(&mut command).with_context(|| {
            format!("fuzz target {target} failed; its input is in fuzz/artifacts/{target}")
        })?;
    }
    Ok(())
}

/// `cargo fuzz` on a nightly, or on the present compiler with the nightly's flags unlocked.
fn cargo_fuzz(root: &Path, subcommand: &str) -> Command {
    let mut command = Command::new("cargo");
    if setup::nightly() {
        shell::forget_toolchain(&mut command).arg("+nightly");
    } else {
        command.env("RUSTC_BOOTSTRAP", "1");
    }
    command.args(["fuzz", subcommand]).current_dir(root);
    command
}

/// Writes the seeds, the same ones each time: constants, a count, and noise of several lengths.
fn seeds(target_folder: &Path) -> Result<PathBuf> {
    let folder = target_folder.join("fuzz-seeds");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for length in SEED_BYTES {
        let kinds: [(&str, Vec<u8>); 4] = [
            ("zeros", vec![0; length]),
            ("ones", vec![0xff; length]),
            ("count", (0..=u8::MAX).cycle().take(length).collect()),
            ("noise", noise().take(length).collect()),
        ];
        for (kind, bytes) in kinds {
            let path = folder.join(format!("{kind}-{length}"));
            fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(folder)
}

/// An xorshift generator's top bytes.
fn noise() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_written_and_are_the_same_each_time() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let first = seeds(folder.path()).expect("the folder can be written");
        let noise = fs::read(first.join("noise-64")).expect("the seed is there");
        assert_eq!(noise.len(), 64);
        seeds(folder.path()).expect("the folder can be written again");
        assert_eq!(
            fs::read(first.join("noise-64")).expect("the seed is there"),
            noise
        );
        assert_eq!(
            fs::read_dir(first).expect("it is a folder").count(),
            SEED_BYTES.len() * 4
        );
    }
}
