//! cargo-mutants over the library, as `.cargo/mutants.toml` says: which tests, which time-outs, and
//! which mutants are left out, each with its reason.
//!
//! A mutant that no test notices is code that no test needs. It is an hour's work for all of them,
//! so this is no part of `cargo xtask test`; name the files that were changed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{shell, steps};

const VERSION: &str = "27.1.0";

/// Installs cargo-mutants if it is missing, then mutates `files`, or all.
pub(crate) fn run(root: &Path, files: &[String], jobs: u32) -> Result<()> {
    if !shell::succeeds("cargo", &["mutants", "--version"]) {
        println!("cargo-mutants is missing: installing it");
        let install = ["install", "cargo-mutants", "--locked", "--version", VERSION];
        shell::run(Command::new("cargo").args(install)).with_context(|| {
            format!("hint: run `cargo install cargo-mutants --locked --version {VERSION}`")
        })?;
    }
    let mut mutants = Command::new("cargo");
    mutants
        .args(["mutants", "--package", "annulus"])
        .arg(format!("--jobs={jobs}"))
        .arg("--output")
        .arg(steps::target_folder(root))
        .args(files.iter().flat_map(|file| ["--file", file.as_str()]))
        .current_dir(root);
    // It builds in a copy of its own; a shared folder would mix the mutants of two jobs.
    mutants.env_remove("CARGO_TARGET_DIR");
    shell::run(&mut mutants)
}
