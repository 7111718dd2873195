//! Broken builds that the campaign must find: `cargo xtask sabotage`.
//!
//! A test that passes says little as long as nobody has seen it fail. Each [`Break`] is a mistake
//! that one could make in earnest: it is made in a copy of the tree, built, and the check that is
//! there to find it is run. The check must fail. Before that, it must pass on the copy as it is.
//!
//! # Invariants
//! 1. A break that does not build, or whose text is no longer in the source exactly once, is an
//!    error and not a find.
//! 2. A check that reaches no verdict within [`LIMIT`] has found nothing.

mod breaks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell::{self, cargo};
use crate::steps::target_folder;

/// The longest that a build, or a check, may take.
const LIMIT: Duration = Duration::from_secs(900);
/// Between two looks at a check that runs.
const NAP: Duration = Duration::from_millis(20);

/// What is to be broken.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these breaks
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the breaks and do nothing
    #[arg(long)]
    list: bool,
}

/// A mistake, and the check that must find it.
#[derive(Debug)]
struct Break {
    name: &'static str,
    /// What is wrong then.
    what: &'static str,
    edits: &'static [Edit],
    check: Check,
}

/// A change to a file, whose old text occurs there once.
#[derive(Debug)]
struct Edit {
    file: &'static str,
    old: &'static str,
    new: &'static str,
}

/// A part of the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Check {
    /// Loom scenarios whose names contain this.
    Loom(&'static str),
    /// Unit tests of the library whose names contain this.
    Unit(&'static str),
    /// Arguments of `cargo xtask torture`.
    Torture(&'static str),
    /// An integration test of the library, and its arguments.
    Test(&'static str, &'static str),
}

impl Check {
    /// The arguments that build it, and those that run it.
    fn lines(self) -> (String, String) {
        const LOOM: &str = "test --release --package annulus --lib";
        const TORTURE: &str = "--release --package xtask";
        match self {
            Self::Loom(filter) => (format!("{LOOM} --no-run"), format!("{LOOM} {filter}")),
            Self::Unit(filter) => {
                let test = "test --package annulus --all-features --lib";
                (format!("{test} --no-run"), format!("{test} {filter}"))
            }
            Self::Torture(args) => (
                format!("build {TORTURE}"),
                format!("run {TORTURE} -- torture {args}"),
            ),
            Self::Test(name, args) => {
                let test = format!("test --package annulus --all-features --test {name}");
                (format!("{test} --no-run"), format!("{test} -- {args}"))
            }
        }
    }

    fn command(self, tree: &Tree, line: &str) -> Command {
        let mut command = cargo(&tree.root, line);
        let mut target = tree.target.clone();
        if matches!(self, Self::Loom(_)) {
            shell::add_flags(&mut command, "RUSTFLAGS", "--cfg loom");
            target.push("loom");
        }
        command.env("CARGO_TARGET_DIR", target);
        // Most checks fail here, and a trace costs more than the check.
        command.env("RUST_BACKTRACE", "0");
        command
    }

    fn shown(self) -> String {
        match self {
            Self::Loom(filter) => format!("loom: {filter}"),
            Self::Unit(filter) => format!("unit tests: {filter}"),
            Self::Torture(args) => format!("torture {args}"),
            Self::Test(name, args) => format!("tests/{name}.rs: {args}"),
        }
    }
}

/// A copy of the repository.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// Copies every file that git knows, as it is now. What has not changed keeps its time, so that
    /// little is built again.
    fn copy(root: &Path) -> Result<Self> {
        let folder = target_folder(root).join("sabotage");
        let tree = Self {
            root: folder.join("tree"),
            target: folder.join("target"),
        };
        let known = shell::output(Command::new("git").args(["ls-files"]).current_dir(root))?;
        for name in known.lines() {
            // A file that is removed and not yet committed is not of the tree.
            if let Ok(bytes) = fs::read(root.join(name)) {
                tree.write(name, &bytes)?;
            }
        }
        Ok(tree)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.root.join(name);
        if fs::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        let folder = path.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes the edits, and returns what the files were.
    fn edit(&self, edits: &[Edit]) -> Result<Vec<(&'static str, String)>> {
        let mut before = Vec::new();
        for Edit { file, old, new } in edits {
            let text = fs::read_to_string(self.root.join(file))
                .with_context(|| format!("cannot read {file}"))?;
            let found = text.matches(old).count();
            ensure!(found == 1, "{file} holds this {found} times: {old}");
            self.write(file, text.replacen(old, new, 1).as_bytes())?;
            before.push((*file, text));
        }
        Ok(before)
    }

    /// Undoes edits, the last one first.
    fn restore(&self, before: Vec<(&'static str, String)>) -> Result<()> {
        let mut files = before.into_iter().rev();
        files.try_for_each(|(file, text)| self.write(file, text.as_bytes()))
    }

    /// Builds and runs a check. `None` if it passed, otherwise the line that tells best why not.
    fn verdict(&self, check: Check, name: &str) -> Result<Option<String>> {
        let (build, run) = check.lines();
        let log = self.target.with_file_name(format!("{name}.log"));
        let built = self.run(check, &build, &log)?;
        ensure!(built, "it does not build: see {}", log.display());
        if self.run(check, &run, &log)? {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let tells = |line: &&str| line.contains("FAILED: ") || line.ends_with(" ... FAILED");
        let line = text.lines().find(tells).unwrap_or("it failed");
        Ok(Some(line.chars().take(140).collect()))
    }

    /// Whether the command succeeds; what it prints goes to `log`.
    fn run(&self, check: Check, line: &str, log: &Path) -> Result<bool> {
        let out = fs::File::create(log).with_context(|| format!("make {}", log.display()))?;
        let mut command = check.command(self, line);
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let mut child = command.spawn().context("cannot run cargo")?;
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if began.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                bail!("no verdict within {LIMIT:?}: `cargo {line}`");
            }
            std::thread::sleep(NAP);
        }
    }
}

/// Runs all of it.
///
/// # Errors
/// If a break cannot be made, or a check reaches no verdict; what was missed is in the exit code.
pub(crate) fn run(args: &Args, root: &Path) -> Result<ExitCode> {
    let all = breaks::BREAKS;
    for name in &args.only {
        let known = all.iter().any(|it| it.name == name);
        ensure!(known, "no break is called `{name}`; --list shows them");
    }
    let is_wanted = |it: &&Break| args.only.is_empty() || args.only.iter().any(|n| n == it.name);
    let wanted: Vec<&Break> = all.iter().filter(is_wanted).collect();
    if args.list {
        for it in wanted {
            println!("{:<22} {} ({})", it.name, it.what, it.check.shown());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let tree = Tree::copy(root)?;
    let checks: BTreeSet<Check> = wanted.iter().map(|it| it.check).collect();
    for (at, check) in checks.iter().enumerate() {
        let began = Instant::now();
        if let Some(line) = tree.verdict(*check, "unbroken")? {
            bail!("{} fails as it is: {line}", check.shown());
        }
        println!(
            "as it is {}/{}: {} passed in {:.0} s",
            at + 1,
            checks.len(),
            check.shown(),
            began.elapsed().as_secs_f64()
        );
    }
    let mut missed = 0;
    for it in &wanted {
        let began = Instant::now();
        let before = tree
            .edit(it.edits)
            .with_context(|| format!("break {}", it.name))?;
        let verdict = tree.verdict(it.check, it.name);
        tree.restore(before)?;
        let verdict = verdict.with_context(|| format!("break {}: {}", it.name, it.what))?;
        missed += usize::from(verdict.is_none());
        println!(
            "{:<22} {:<6} {:>4.0} s  {}\n    {}: {}",
            it.name,
            if verdict.is_some() { "found" } else { "MISSED" },
            began.elapsed().as_secs_f64(),
            it.what,
            it.check.shown(),
            verdict.as_deref().unwrap_or("passed")
        );
    }
    println!("{} breaks, {missed} missed", wanted.len());
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A break whose text has moved on would be found out only by whoever runs all of them.
    #[test]
    fn every_break_can_be_made_in_the_source_as_it_is() {
        let root = crate::root();
        for it in breaks::BREAKS {
            for edit in it.edits {
                let text = fs::read_to_string(root.join(edit.file)).expect("the file is there");
                assert_eq!(
                    text.matches(edit.old).count(),
                    1,
                    "{}: {}",
                    it.name,
                    edit.old
                );
                assert_ne!(edit.old, edit.new);
            }
        }
    }

    #[test]
    fn no_two_breaks_have_one_name() {
        let names: BTreeSet<&str> = breaks::BREAKS.iter().map(|it| it.name).collect();
        assert_eq!(names.len(), breaks::BREAKS.len());
    }
}
