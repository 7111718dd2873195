//! What the tests need beside cargo: looked for first, and installed only where it is missing.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::shell;

/// What a step asks for before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A C and C++ compiler: the linker of every build, and libFuzzer's compiler.
    Compiler,
    Git,
    Rustfmt,
    Clippy,
    /// A browser without a window, which lays out the lab's page.
    Browser,
    /// RabbitMQ, of which the tests start nodes of their own.
    Broker,
    /// Clients of brokers that are not ours: pika and kombu, for Debian's Python.
    Clients,
    /// `ip` and `tc`, which make the networks of tests.
    Network,
    /// `cargo fuzz`, and a compiler that takes its flags (see [`nightly`]).
    Fuzzer,
}

/// Installs whatever of `need` is missing, or says what to do by hand.
pub(crate) fn ensure(need: Need) -> Result<()> {
    match need {
        Need::Compiler => {
            let found =
                shell::succeeds("cc", &["--version"]) && shell::succeeds("c++", &["--version"]);
            if found {
                Ok(())
            } else {
                apt("a C compiler", &["build-essential"])
            }
        }
        Need::Browser => {
            let names = ["chromium", "chromium-browser", "google-chrome"];
            if names.iter().any(|it| shell::succeeds(it, &["--version"])) {
                return Ok(());
            }
            apt("a browser", &["chromium"])
        }
        Need::Broker => {
            // Its scripts refuse to say who they are to anybody but their own user.
            if std::path::Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
                return Ok(());
            }
            apt("a broker", &["rabbitmq-server"])
        }
        Need::Clients => {
            // Another Python, if there is one, does not see what Debian installs.
            if shell::succeeds("/usr/bin/python3", &["-c", "import pika, kombu"]) {
                return Ok(());
            }
            apt("pika or kombu", &["python3-pika", "python3-kombu"])
        }
        Need::Network => {
            if shell::succeeds("ip", &["-Version"]) && shell::succeeds("tc", &["-Version"]) {
                return Ok(());
            }
            apt("what makes networks", &["iproute2"])
        }
        Need::Git if shell::succeeds("git", &["--version"]) => Ok(()),
        Need::Git => apt("git", &["git"]),
        Need::Rustfmt => component("fmt", "rustfmt"),
        Need::Clippy => component("clippy", "clippy"),
        Need::Fuzzer => {
            install_nightly();
            if shell::succeeds("cargo", &["fuzz", "--version"]) {
                return Ok(());
            }
            println!("cargo-fuzz is missing: installing it");
            shell::run(Command::new("cargo").args(["install", "cargo-fuzz", "--locked"]))
                .context("cannot install cargo-fuzz; hint: run `cargo install cargo-fuzz --locked`")
        }
    }
}

/// Whether a nightly toolchain is there.
pub(crate) fn nightly() -> bool {
    shell::succeeds("cargo", &["+nightly", "--version"])
}

/// Installs Debian packages, as root on a system that has apt.
pub(crate) fn apt(what: &str, packages: &[&str]) -> Result<()> {
    let hint = format!(
        "hint: as root, run `apt-get install {}`",
        packages.join(" ")
    );
    ensure!(
        shell::succeeds("apt-get", &["--version"]),
        "{what} is missing and there is no apt-get"
    );
    ensure!(
        is_root()?,
        "{what} is missing and only root can install it; {hint}"
    );
    println!("{what} is missing: installing {}", packages.join(" "));
    shell::run(Command::new("apt-get").arg("update")).with_context(|| hint.clone())?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    shell::run(&mut install).context(hint)
}

fn is_root() -> Result<bool> {
    Ok(shell::output(Command::new("id").arg("-u"))?.trim() == "0")
}

fn component(subcommand: &str, component: &str) -> Result<()> {
    if shell::succeeds("cargo", &[subcommand, "--version"]) {
        return Ok(());
    }
    println!("{component} is missing: installing it");
    shell::run(Command::new("rustup").args(["component", "add", component]))
        .with_context(|| format!("hint: run `rustup component add {component}`"))
}

/// Tries to install a nightly toolchain; the fuzz step can do without one.
pub(crate) fn install_nightly() {
    if nightly() {
        return;
    }
    println!("no nightly toolchain is here: installing one");
    let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
    if let Err(error) = shell::run(Command::new("rustup").args(install)) {
        println!("note: {error:#}; the stable compiler is told to take nightly flags instead");
    }
}
