//! The house rules that a machine can check.
//!
//! They run as `cargo xtask tidy` and, through the test at the end of this file, with every
//! `cargo test --workspace`. A finding is printed as `path:line: message`. Each rule is a function
//! over text, so that its own tests can show it failing.

mod source;
mod sync;
mod tests_named;
mod tree;
mod words;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use source::Source;

/// The one file that may name the raw primitives.
const SYNC: &str = "src/sync.rs";
/// The file format as code.
const LAYOUT: &str = "src/layout.rs";
/// The file format as a document.
const FORMAT: &str = "docs/format.md";

/// One broken rule.
#[derive(Debug)]
struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: String) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Checks the tree under `root` and returns what is wrong with it.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let paths = paths(root)?;
    let sources = sources(root, &paths)?;
    let mut findings = Vec::new();
    for rule in [
        sync::labels,
        sync::reasons,
        sync::raw_atomics,
        words::protocol_is_pure,
        words::layout_has_no_usize,
        words::leftovers,
        words::sizes,
    ] {
        rule(&sources, &mut findings);
    }
    tree::top_level(&paths, &mut findings);
    for path in paths.iter().filter(|path| path.ends_with(".md")) {
        let text = read(root, path)?;
        tree::links(path, &text, root, &mut findings);
        tests_named::exist(path, &text, &sources, &mut findings);
    }
    let document = std::fs::read_to_string(root.join(FORMAT)).unwrap_or_default();
    tree::format_is_tied(&sources, &document, &mut findings);
    Ok(findings)
}

/// Prints what is wrong with the tree under `root` and says how many findings that are.
pub(crate) fn report(root: &Path) -> Result<usize> {
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    println!("findings: {}", findings.len());
    Ok(findings.len())
}

/// Writes the layout's present hash into the format document.
pub(crate) fn bless(root: &Path) -> Result<()> {
    let sources = sources(root, &paths(root)?)?;
    let old = read(root, FORMAT)?;
    let new = tree::blessed(&sources, &old).with_context(|| format!("{LAYOUT} is missing"))?;
    if new != old {
        std::fs::write(root.join(FORMAT), new).with_context(|| format!("cannot write {FORMAT}"))?;
    }
    Ok(())
}

/// Every file that is in the repository or could be added to it.
fn paths(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "git ls-files failed: {}",
        errors.trim()
    );
    let listing = String::from_utf8(output.stdout).context("a path is not UTF-8")?;
    let exists = |path: &&str| !path.is_empty() && root.join(path).exists();
    Ok(listing
        .split('\0')
        .filter(exists)
        .map(str::to_owned)
        .collect())
}

fn sources(root: &Path, paths: &[String]) -> Result<Vec<Source>> {
    paths
        .iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Ok(Source::parse(path, &read(root, path)?)))
        .collect()
}

fn read(root: &Path, path: &str) -> Result<String> {
    std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let findings = check(&crate::root()).expect("the tree can be read");
        let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(list.is_empty(), "\n{}\n", list.join("\n"));
    }
}
