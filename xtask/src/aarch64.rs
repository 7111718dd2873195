//! The library's unit tests on aarch64, built with Debian's Rust and run by qemu's user emulation.
//!
//! Debian packages the standard library for every architecture it knows, so no toolchain beyond
//! apt is needed. Its compiler lives in `/usr/bin` and is called by that path: rustup's is the
//! default and stays so. The emulator gets no sysroot (`-L`): the packages bring arm64's own
//! C library, and a sysroot would mix its dynamic linker with that library, which hangs at the
//! first thread.
//!
//! Emulation runs the instructions that the compiler chose for aarch64; it does not reorder memory
//! as real hardware may. Loom looks for missing orderings, this looks for code that does not
//! build, or whose sizes and system calls differ. What the emulator does not do is left out by
//! name: [`LEFT_OUT`].

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{setup, shell, steps};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const RUSTC: &str = "/usr/bin/rustc";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
const PACKAGES: [&str; 6] = [
    "rustc-web",
    "cargo-web",
    "libstd-rust-web-dev:arm64",
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user",
];

/// Tests whose subject does not exist under user emulation: the emulator passes over
/// `MADV_DONTFORK`, so that a forked child keeps its parent's mapping and lock, and a program that
/// starts itself again would need the emulator registered with the kernel.
const LEFT_OUT: [&str; 5] = [
    "segment::tests::lives::",
    "segment::tests::looks::",
    "segment::tests::files::a_full_file_system_is_an_error_with_numbers",
    "segment::tests::files::a_size_beyond_the_limit_is_an_error_and_no_signal",
    "segment::tests::files::the_mode_does_not_depend_on_the_umask",
];

/// Installs what is missing, then builds and runs the unit tests.
pub(crate) fn run(root: &Path) -> Result<()> {
    if !is_ready() {
        let add = ["--add-architecture", "arm64"];
        shell::run(Command::new("dpkg").args(add))
            .context("this command needs a Debian-like system, and root to install packages")?;
        setup::apt("the aarch64 toolchain", &PACKAGES)?;
    }
    let mut test = Command::new("/usr/bin/cargo");
    shell::forget_toolchain(&mut test)
        .env("RUSTC", RUSTC)
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env(
            "CARGO_TARGET_DIR",
            steps::target_folder(root).join("aarch64"),
        )
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR)
        .args(["test", "--package", "annulus", "--target", TARGET])
        .args(["--lib", "--test", "properties", "--test", "format", "--"])
        .args(LEFT_OUT.iter().flat_map(|name| ["--skip", name]))
        .current_dir(root);
    eprintln!(
        "left out, for the emulator cannot show them: {}",
        LEFT_OUT.join(", ")
    );
    shell::run(&mut test)
}

/// Whether every part is installed.
fn is_ready() -> bool {
    let libdir = ["--print", "target-libdir", "--target", TARGET];
    let std_is_there = Command::new(RUSTC)
        .args(libdir)
        .output()
        .is_ok_and(|output| {
            let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success() && Path::new(&folder).exists()
        });
    std_is_there
        && shell::succeeds("/usr/bin/cargo", &["--version"])
        && shell::succeeds(LINKER, &["--version"])
        && shell::succeeds(EMULATOR, &["--version"])
        && Path::new("/lib/ld-linux-aarch64.so.1").exists()
}
