//! The tests under a sanitizer of LLVM, with a standard library that is instrumented too.
//!
//! `thread` (ThreadSanitizer) watches the order of accesses on real threads: loom's question, asked
//! of payloads and handles as they are, without a model in between. `address` (AddressSanitizer)
//! watches every access to memory: damaged files, and the paths along which foreign numbers become
//! addresses.
//!
//! The standard library is built with the sanitizer (`-Zbuild-std`): one that is not instrumented
//! hides the order that its locks and counts make, and ThreadSanitizer then reports races in it.
//! So nothing of it is suppressed; what is, and why, is in `thread.supp`. Both need nightly and its
//! `rust-src`.
//!
//! What ThreadSanitizer does not see: fences, of which no payload depends on one here (they order a
//! store before a load, see `Pairing` in `src/protocol/event.rs`); membarrier(2); and that two
//! mappings are the same file, for it goes by addresses.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{setup, shell, steps};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Tests whose subject a sanitizer changes: it makes system calls of its own, and turns `mlock(2)`
/// into nothing.
const LEFT_OUT: [&str; 3] = [
    "memory_beyond_the_limit_is_not_locked_and_the_numbers_are_told",
    "no_system_call_is_made_when_nobody_sleeps",
    "pages_are_mapped_and_locked_on_request_only",
];

/// A sanitizer of LLVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sanitizer {
    /// Data races
    Thread,
    /// Accesses outside of what was allocated, and after it was freed
    Address,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Address => "address",
        }
    }

    /// The test targets that it runs, of those that exist.
    fn tests(self) -> &'static [&'static str] {
        match self {
            // The rings in one process: what threads do to each other.
            Self::Thread => &["threads", "handles", "handover", "properties", "waiting"],
            // Memory that somebody else has filled.
            Self::Address => &["corrupt", "handles", "handover", "hostile", "properties"],
        }
    }
}

/// Installs what is missing, then builds and runs the tests.
pub(crate) fn run(root: &Path, sanitizer: Sanitizer) -> Result<()> {
    setup::install_nightly();
    let add = ["component", "add", "rust-src", "--toolchain", "nightly"];
    shell::run(Command::new("rustup").args(add))
        .context("the standard library is built from its source: nightly's `rust-src`")?;
    let mut test = Command::new("cargo");
    shell::forget_toolchain(&mut test)
        .args(["+nightly", "test", "-Zbuild-std", "--target", TARGET])
        .args(["--package", "annulus", "--all-features", "--lib"])
        .current_dir(root);
    for name in sanitizer.tests() {
        if root.join(format!("tests/{name}.rs")).exists() {
            test.args(["--test", name]);
        }
    }
    test.arg("--")
        .args(LEFT_OUT.iter().flat_map(|name| ["--skip", name]));
    eprintln!("left out: {}", LEFT_OUT.join(", "));
    let flag = format!("-Zsanitizer={}", sanitizer.name());
    shell::add_flags(&mut test, "RUSTFLAGS", &flag);
    let suppressions = root.join("xtask/src/thread.supp");
    let options = format!("suppressions={}", suppressions.display());
    shell::add_flags(&mut test, "TSAN_OPTIONS", &options);
    let folder = format!("sanitize-{}", sanitizer.name());
    test.env("CARGO_TARGET_DIR", steps::target_folder(root).join(folder));
    shell::run(&mut test)
}
