//! The steps of `cargo xtask test`: the list, the choice among them, and the run.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::{self, Need};
use crate::shell::{self, cargo};
use crate::{fuzz, tidy};

/// One thing that must pass.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    needs: &'static [Need],
    run: fn(&Context<'_>) -> Result<()>,
}

/// What every step gets to know.
struct Context<'a> {
    root: &'a Path,
    target: PathBuf,
    fuzz_seconds: u32,
}

/// The peers build others' code, one of them with CMake: they have lines of their own.
const WITHOUT_PEERS: &str = "--exclude annulus-peers";

/// The quick ones first.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "formatting, also of fuzz/",
        needs: &[Need::Rustfmt],
        run: fmt,
    },
    Step {
        name: "tidy",
        what: "the house rules",
        needs: &[Need::Git],
        run: house_rules,
    },
    Step {
        name: "msrv",
        what: "rust-version is stated, and holds if that compiler is here",
        needs: &[Need::Compiler],
        run: msrv,
    },
    Step {
        name: "features",
        what: "the library builds without its features",
        needs: &[Need::Compiler],
        run: features,
    },
    Step {
        name: "clippy",
        what: "lints of everything, as built for loom too",
        needs: &[Need::Compiler, Need::Clippy],
        run: clippy,
    },
    Step {
        name: "unit",
        what: "unit, integration, example and doc tests",
        needs: &[
            Need::Compiler,
            Need::Git,
            Need::Browser,
            Need::Broker,
            Need::Clients,
            Need::Network,
        ],
        run: unit,
    },
    Step {
        name: "docs",
        what: "the documentation builds without a warning",
        needs: &[Need::Compiler],
        run: docs,
    },
    Step {
        name: "loom",
        what: "every interleaving of the loom scenarios",
        needs: &[Need::Compiler],
        run: loom,
    },
    Step {
        name: "shuttle",
        what: "random schedules of scenarios too large for loom",
        needs: &[Need::Compiler],
        run: under_shuttle,
    },
    Step {
        name: "bench",
        what: "each benchmark runs once, and the example of one's own",
        needs: &[Need::Compiler, Need::Broker],
        run: bench,
    },
    Step {
        name: "fuzz",
        what: "each fuzz target for a while",
        needs: &[Need::Compiler, Need::Fuzzer],
        run: run_fuzz,
    },
];

/// The steps named by `only` (all, if none is), without those named by `skip`.
pub(crate) fn select(only: &[String], skip: &[String]) -> Result<Vec<&'static Step>> {
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    for name in only.iter().chain(skip) {
        let known = names.contains(&name.as_str());
        ensure!(
            known,
            "no step is called `{name}`; there are: {}",
            names.join(", ")
        );
    }
    let named = |list: &[String], step: &Step| list.iter().any(|name| name == step.name);
    let wanted = |step: &&Step| (only.is_empty() || named(only, step)) && !named(skip, step);
    let selected: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    ensure!(!selected.is_empty(), "no step is left to run");
    Ok(selected)
}

/// Runs the steps up to the first that fails; says whether all passed.
pub(crate) fn run(steps: &[&Step], root: &Path, fuzz_seconds: u32) -> Result<bool> {
    let context = Context {
        root,
        target: target_folder(root),
        fuzz_seconds,
    };
    let began = Instant::now();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        println!(
            "\n[{}/{}] {}: {}",
            at + 1,
            steps.len(),
            step.name,
            step.what
        );
        std::io::stdout().flush()?;
        let step_began = Instant::now();
        let ready = step.needs.iter().try_for_each(|need| setup::ensure(*need));
        let outcome = ready.and_then(|()| (step.run)(&context));
        times.push((step.name, step_began.elapsed()));
        match outcome {
            Ok(()) => println!("{} passed in {}", step.name, seconds(step_began.elapsed())),
            Err(error) => {
                summary(&times, Some(step.name), began.elapsed());
                std::io::stdout().flush()?;
                let again = format!("rerun it with `cargo xtask test --only {}`", step.name);
                eprintln!("error: step {} failed: {error:#}; {again}", step.name);
                return Ok(false);
            }
        }
    }
    summary(&times, None, began.elapsed());
    Ok(true)
}

/// Where cargo builds: `CARGO_TARGET_DIR`, or `target` in the repository.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    // An absolute path replaces the root, a relative one is taken from it.
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn summary(times: &[(&str, Duration)], failed: Option<&str>, total: Duration) {
    println!("\n{:<10} {:>9}  outcome", "step", "time");
    for (name, time) in times {
        let outcome = if failed == Some(*name) {
            "FAILED"
        } else {
            "passed"
        };
        println!("{name:<10} {:>9}  {outcome}", seconds(*time));
    }
    println!("{:<10} {:>9}", "all", seconds(total));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn fmt(context: &Context<'_>) -> Result<()> {
    shell::run(&mut cargo(context.root, "fmt --all --check"))?;
    if has_fuzz(context) {
        shell::run(&mut cargo(
            context.root,
            "fmt --manifest-path fuzz/Cargo.toml --check",
        ))?;
    }
    Ok(())
}

fn house_rules(context: &Context<'_>) -> Result<()> {
    let count = tidy::report(context.root)?;
    ensure!(count == 0, "see the list above ({count} in all)");
    Ok(())
}

/// Clippy's `incompatible_msrv` looks at the library calls; a build by the stated compiler looks
/// at everything, but only where that toolchain is installed.
fn msrv(context: &Context<'_>) -> Result<()> {
    let manifest = std::fs::read_to_string(context.root.join("Cargo.toml"))?;
    let stated = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .context("Cargo.toml states no rust-version")?;
    let toolchain = format!("+{stated}");
    if !shell::succeeds("cargo", &[&toolchain, "--version"]) {
        println!(
            "rust-version is {stated}; that toolchain is not here, so nothing is built with it"
        );
        return Ok(());
    }
    let check = format!("{toolchain} check --workspace {WITHOUT_PEERS} --all-features");
    let mut check = cargo(context.root, &check);
    shell::run(shell::forget_toolchain(&mut check))
}

fn features(context: &Context<'_>) -> Result<()> {
    shell::run(&mut cargo(
        context.root,
        "check --package annulus --no-default-features",
    ))
}

fn clippy(context: &Context<'_>) -> Result<()> {
    let all = "--all-targets --all-features -- --deny warnings";
    let all = format!("clippy --workspace {WITHOUT_PEERS} {all}");
    shell::run(&mut cargo(context.root, &all))?;
    let peers = "clippy --package annulus-peers --all-targets -- --deny warnings";
    shell::run(&mut cargo(context.root, peers))?;
    // The test profile turns on `cfg(test)`: with it the library's own tests are linted too.
    let lib = "clippy --package annulus --lib --profile test -- --deny warnings";
    shell::run(&mut under_loom(context, lib))?;
    shell::run(&mut with_shuttle(context, lib))?;
    if has_fuzz(context) {
        let fuzz = "clippy --manifest-path fuzz/Cargo.toml -- --deny warnings";
        shell::run(&mut cargo(context.root, fuzz))?;
    }
    Ok(())
}

fn unit(context: &Context<'_>) -> Result<()> {
    let tests = format!("test --workspace {WITHOUT_PEERS} --all-features");
    let mut tests = cargo(context.root, &tests);
    // A minute of chaos; see tests/crash/chaos/.
    shell::run(tests.env("ANNULUS_CHAOS_SECONDS", "60"))
}

fn docs(context: &Context<'_>) -> Result<()> {
    let doc = format!("doc --no-deps --workspace {WITHOUT_PEERS} --all-features");
    let mut doc = cargo(context.root, &doc);
    shell::add_flags(&mut doc, "RUSTDOCFLAGS", "--deny warnings");
    shell::run(&mut doc)
}

fn loom(context: &Context<'_>) -> Result<()> {
    let library = "test --release --package annulus --lib loom --";
    let listed = shell::output(&mut under_loom(context, &format!("{library} --list")))?;
    if !listed.lines().any(|line| line.ends_with(": test")) {
        bail!("no test of the library has `loom` in its name");
    }
    let verbose = format!("{library} --nocapture --test-threads=2");
    shell::run(&mut under_loom(context, &verbose))?;
    shell::run(&mut under_loom(
        context,
        "test --release --package loom_downstream",
    ))
}

fn under_shuttle(context: &Context<'_>) -> Result<()> {
    let library = "test --release --package annulus --lib shuttle -- --nocapture";
    shell::run(&mut with_shuttle(context, library))
}

fn bench(context: &Context<'_>) -> Result<()> {
    // No shell expands the pattern. It names the benches alone: without it, cargo would also run
    // the unit tests of every library and program again.
    let benches = format!("bench --workspace {WITHOUT_PEERS} --all-features --bench * -- --test");
    shell::run(&mut cargo(context.root, &benches))?;
    let example = "run --release --package annulus-lab --example own_workload";
    shell::run(&mut cargo(context.root, example))?;
    // Each peer has a figure, or says why not.
    shell::run(&mut cargo(
        context.root,
        "test --release --package annulus-peers",
    ))
}

fn run_fuzz(context: &Context<'_>) -> Result<()> {
    fuzz::run(context.root, &context.target, context.fuzz_seconds)
}

/// Cargo with loom's types in place of the real ones, and a folder of its own: the flag would
/// otherwise rebuild everything twice in each run.
fn under_loom(context: &Context<'_>, args: &str) -> std::process::Command {
    let mut command = cargo(context.root, args);
    shell::add_flags(&mut command, "RUSTFLAGS", "--cfg loom");
    command.env("CARGO_TARGET_DIR", context.target.join("loom"));
    command
}

/// The same with shuttle's types in place of loom's.
fn with_shuttle(context: &Context<'_>, args: &str) -> std::process::Command {
    let mut command = cargo(context.root, args);
    shell::add_flags(&mut command, "RUSTFLAGS", "--cfg loom --cfg shuttle");
    command.env("CARGO_TARGET_DIR", context.target.join("shuttle"));
    command
}

fn has_fuzz(context: &Context<'_>) -> bool {
    context.root.join("fuzz/Cargo.toml").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(only: &[&str], skip: &[&str]) -> Result<Vec<&'static str>> {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let selected = select(&owned(only), &owned(skip))?;
        Ok(selected.iter().map(|step| step.name).collect())
    }

    #[test]
    fn steps_are_chosen_by_name_and_keep_their_order() {
        assert_eq!(names(&[], &[]).expect("all steps").len(), STEPS.len());
        assert_eq!(
            names(&["loom", "fmt"], &[]).expect("two steps"),
            ["fmt", "loom"]
        );
        let all_but_fuzz = names(&[], &["fuzz"]).expect("the other steps");
        assert!(!all_but_fuzz.contains(&"fuzz"));
    }

    #[test]
    fn an_unknown_step_and_an_empty_choice_are_refused() {
        let error = names(&["loam"], &[]).expect_err("there is no such step");
        assert!(
            error.to_string().contains("no step is called `loam`"),
            "{error}"
        );
        names(&["fmt"], &["fmt"]).expect_err("nothing is left");
    }
}
