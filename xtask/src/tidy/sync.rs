//! The rules about orderings: labels have two halves, every ordering carries its reason, and raw
//! atomics stay in `src/sync.rs`.
//!
//! A comment covers a line when it stands on it, within the three lines above it, or at the head
//! of the run of statements that the line belongs to (a run has no blank line and no brace that
//! opens or closes a block at a line's end).

use std::collections::BTreeMap;

use super::source::{Line, Source};
use super::{Finding, SYNC};

/// How far above its line a comment may stand in any case.
const REACH_LINES: usize = 3;

/// One `sync(label): ... half.` comment.
struct Half<'a> {
    label: &'a str,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Release,
    Acquire,
}

/// Where a label occurs, as the first place of each kind.
#[derive(Default)]
struct Label {
    release: Option<(String, usize)>,
    acquire: Option<(String, usize)>,
}

/// Each label has both halves and is named under `# Pairing`; each label listed there is in use.
pub(super) fn labels(sources: &[Source], findings: &mut Vec<Finding>) {
    let mut labels: BTreeMap<&str, Label> = BTreeMap::new();
    for source in library(sources) {
        for (number, line) in source.shipped().filter(|(_, line)| !is_doc(line)) {
            for half in halves(&line.comment) {
                let entry = labels.entry(half.label).or_default();
                let place = Some((source.path.clone(), number));
                match half.kind {
                    Some(Kind::Release) if entry.release.is_none() => entry.release = place,
                    Some(Kind::Acquire) if entry.acquire.is_none() => entry.acquire = place,
                    Some(_) => {}
                    None => findings.push(Finding::new(
                        &source.path,
                        number,
                        format!(
                            "sync({}) is neither `release half` nor `acquire half`",
                            half.label
                        ),
                    )),
                }
            }
        }
    }

    let pairing: Vec<(&str, usize, &str)> = library(sources).flat_map(pairing_lines).collect();
    for (label, entry) in &labels {
        let (place, missing) = match (&entry.release, &entry.acquire) {
            (Some(place), Some(_)) => (place, None),
            (Some(place), None) => (place, Some("acquire")),
            (None, Some(place)) => (place, Some("release")),
            (None, None) => continue,
        };
        if let Some(missing) = missing {
            let message = format!("sync({label}) has no {missing} half");
            findings.push(Finding::new(&place.0, place.1, message));
        }
        let quoted = format!("`{label}`");
        if !pairing.iter().any(|(_, _, text)| text.contains(&quoted)) {
            let message = format!("sync({label}) is in no module's `# Pairing` section");
            findings.push(Finding::new(&place.0, place.1, message));
        }
    }
    for (path, number, text) in pairing {
        let listed = text
            .strip_prefix("- `")
            .and_then(|rest| rest.split_once('`'));
        if let Some((label, _)) = listed.filter(|(label, _)| !labels.contains_key(label)) {
            let message = format!("`# Pairing` lists {label}, but no sync({label}) comment exists");
            findings.push(Finding::new(path, number, message));
        }
    }
}

/// Each Relaxed says why, each stronger ordering names its label and the right half.
pub(super) fn reasons(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in library(sources).filter(|source| source.path != SYNC) {
        for (number, line) in source.shipped() {
            let code = line.code.trim_start();
            if code.starts_with("use ") || code.starts_with("pub use ") {
                continue;
            }
            for (ordering, wanted) in [
                ("Relaxed", "relaxed: "),
                ("Acquire", "acquire half"),
                ("Release", "release half"),
                ("AcqRel", " half"),
                ("SeqCst", " half"),
            ] {
                let marked = |comment: &str| {
                    let labelled = ordering == "Relaxed" || comment.contains("sync(");
                    labelled && comment.contains(wanted)
                };
                if line.has_word(ordering) && !covered(&source.lines, number - 1, marked) {
                    let hint = match ordering {
                        "Relaxed" => "`// relaxed: <why>`".to_owned(),
                        "Acquire" | "Release" => format!("`// sync(label): {wanted}.`"),
                        _ => "`// sync(label): ... half.`".to_owned(),
                    };
                    let message = format!("{ordering} without a {hint} comment above it");
                    findings.push(Finding::new(&source.path, number, message));
                }
            }
        }
    }
}

/// Raw atomics are wrapped once, so that loom sees them all.
pub(super) fn raw_atomics(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in library(sources).filter(|source| source.path != SYNC) {
        for (number, line) in source.shipped() {
            let named = ["std::sync::atomic", "core::sync::atomic"]
                .into_iter()
                .find(|path| line.code.contains(path));
            if let Some(named) = named {
                let message = format!("{named} outside {SYNC}; use crate::sync");
                findings.push(Finding::new(&source.path, number, message));
            }
        }
    }
}

fn library(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources
        .iter()
        .filter(|source| source.path.starts_with("src/"))
}

fn is_doc(line: &Line) -> bool {
    line.comment.starts_with("///") || line.comment.starts_with("//!")
}

/// Every `sync(label): kind half` of one comment.
fn halves(comment: &str) -> impl Iterator<Item = Half<'_>> {
    comment.split("sync(").skip(1).filter_map(|rest| {
        let (label, rest) = rest.split_once(')')?;
        let kind = match rest.trim_start_matches(':').trim_start() {
            text if text.starts_with("release half") => Some(Kind::Release),
            text if text.starts_with("acquire half") => Some(Kind::Acquire),
            _ => None,
        };
        Some(Half { label, kind })
    })
}

/// The lines of a module doc's `# Pairing` section, without their slashes.
fn pairing_lines(source: &Source) -> impl Iterator<Item = (&str, usize, &str)> {
    let mut inside = false;
    source.numbered().filter_map(move |(number, line)| {
        let Some(text) = line.comment.strip_prefix("//!") else {
            inside = false;
            return None;
        };
        let text = text.trim();
        if text.starts_with("# ") {
            inside = text == "# Pairing";
        }
        inside.then_some((source.path.as_str(), number, text))
    })
}

/// Whether a comment that satisfies `marked` covers line `at` (counted from 0).
fn covered(lines: &[Line], at: usize, marked: impl Fn(&str) -> bool) -> bool {
    let near = &lines[at.saturating_sub(REACH_LINES)..=at];
    if near.iter().any(|line| marked(&line.comment)) {
        return true;
    }
    // The run above: over statements to the first comment block, then over all of that block.
    let mut in_block = false;
    for line in lines[..at].iter().rev() {
        let code = line.code.trim();
        if line.is_comment() {
            in_block = true;
            if marked(&line.comment) {
                return true;
            }
        } else if in_block || code.is_empty() || code.ends_with('{') || code.starts_with('}') {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&[Source], &mut Vec<Finding>), files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source::parse(path, text))
            .collect();
        let mut findings = Vec::new();
        rule(&sources, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    const PAIRED: &str = "//! # Pairing\n//! - `x`: a -> b\n\n\
        // sync(x): release half.\nf();\n// sync(x): acquire half.\ng();\n";

    #[test]
    fn a_label_with_both_halves_and_a_pairing_line_passes() {
        assert_eq!(check(labels, &[("src/a.rs", PAIRED)]), [""; 0]);
    }

    #[test]
    fn a_label_with_one_half_is_found() {
        let text = PAIRED.replace("// sync(x): release half.", "");
        let found = check(labels, &[("src/a.rs", &text)]);
        assert_eq!(found, ["src/a.rs:6: sync(x) has no release half"]);
        let text = PAIRED.replace("// sync(x): acquire half.", "// sync(x): other half.");
        let found = check(labels, &[("src/a.rs", &text)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_label_outside_pairing_and_a_stale_pairing_line_are_found() {
        let text = PAIRED.replace("`x`", "`y`");
        let found = check(labels, &[("src/a.rs", &text)]);
        assert_eq!(
            found,
            [
                "src/a.rs:4: sync(x) is in no module's `# Pairing` section",
                "src/a.rs:2: `# Pairing` lists y, but no sync(y) comment exists",
            ]
        );
    }

    #[test]
    fn a_bare_relaxed_is_found_and_a_reasoned_one_is_not() {
        let bare = "fn f() {\n    a.load(Ordering::Relaxed);\n}\n";
        assert_eq!(check(reasons, &[("src/a.rs", bare)]).len(), 1);
        let said =
            "fn f() {\n    // relaxed: only we write it.\n    a.load(Ordering::Relaxed);\n}\n";
        assert_eq!(check(reasons, &[("src/a.rs", said)]), [""; 0]);
        assert_eq!(check(reasons, &[("src/sync.rs", bare)]), [""; 0]);
        assert_eq!(check(reasons, &[("src/a/tests.rs", bare)]), [""; 0]);
    }

    #[test]
    fn one_comment_covers_a_run_but_not_past_its_end() {
        let run = "    a.load(Relaxed);\n".repeat(6);
        let text = format!("    // relaxed: a hint, all of\n    // it stale at will.\n{run}");
        assert_eq!(check(reasons, &[("src/a.rs", &text)]), [""; 0]);
        let text = format!("    // relaxed: why.\n    f();\n    g();\n    h();\n\n{run}");
        assert_eq!(check(reasons, &[("src/a.rs", &text)]).len(), 6);
    }

    #[test]
    fn an_acquire_needs_the_acquire_half() {
        let text = "    // sync(x): release half.\n    a.load(Ordering::Acquire);\n";
        assert_eq!(check(reasons, &[("src/a.rs", text)]).len(), 1);
        let text = "    // sync(x): acquire half.\n    a.swap(1, Ordering::AcqRel);\n";
        assert_eq!(check(reasons, &[("src/a.rs", text)]), [""; 0]);
        assert_eq!(check(reasons, &[("src/a.rs", "fence(SeqCst);\n")]).len(), 1);
    }

    #[test]
    fn raw_atomics_outside_the_facade_are_found() {
        let text = "use core::sync::atomic::AtomicU64;\n";
        assert_eq!(check(raw_atomics, &[("src/a.rs", text)]).len(), 1);
        assert_eq!(check(raw_atomics, &[("src/sync.rs", text)]), [""; 0]);
        assert_eq!(check(raw_atomics, &[("tests/a.rs", text)]), [""; 0]);
    }
}
