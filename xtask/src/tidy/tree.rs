//! The rules about the tree: its top level, the links of its documents, and the tie between the
//! layout and the document that describes it.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::Source;
use super::{FORMAT, Finding, LAYOUT};

/// What may stand at the top of the repository; a trailing `*` matches the rest of a name.
const TOP_LEVEL: [&str; 17] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-*",
    "README.md",
    "benches",
    "cli",
    "clippy.toml",
    "docs",
    "examples",
    "fuzz",
    "src",
    "tests",
    "xtask",
];

/// The line of the format document that names the layout it describes.
const HASH_LINE: &str = "layout hash: ";

/// Only known names stand at the top level.
pub(super) fn top_level(paths: &[String], findings: &mut Vec<Finding>) {
    let allowed = |name: &str| {
        TOP_LEVEL
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == *pattern,
            })
    };
    let names: BTreeSet<&str> = paths
        .iter()
        .filter_map(|path| path.split('/').next())
        .collect();
    for name in names.into_iter().filter(|name| !allowed(name)) {
        findings.push(Finding::new(
            name,
            1,
            "not a name for the top level".to_owned(),
        ));
    }
}

/// Each relative link of a document leads to a file.
pub(super) fn links(path: &str, text: &str, root: &Path, findings: &mut Vec<Finding>) {
    let folder = root.join(path).parent().unwrap_or(root).to_owned();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in link_targets(line) {
            let file = target.split('#').next().unwrap_or_default();
            let outside =
                file.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !outside && !folder.join(file).exists() {
                findings.push(Finding::new(
                    path,
                    at + 1,
                    format!("link to {file}: no such file"),
                ));
            }
        }
    }
}

/// The format document carries the hash of the layout it describes.
pub(super) fn format_is_tied(sources: &[Source], document: &str, findings: &mut Vec<Finding>) {
    let Some(hash) = layout_hash(sources) else {
        findings.push(Finding::new(LAYOUT, 1, "the layout is missing".to_owned()));
        return;
    };
    let stated = document
        .lines()
        .enumerate()
        .find_map(|(at, line)| Some((at + 1, line.trim().strip_prefix(HASH_LINE)?.trim())));
    let finding = match stated {
        Some((_, stated)) if stated == hash => return,
        Some((number, stated)) => (
            number,
            format!(
                "describes layout {stated}, but {LAYOUT} is {hash}: bring the text and the format \
                 version up to date, then run `cargo xtask tidy --bless`"
            ),
        ),
        None => (1, format!("has no line `{HASH_LINE}{hash}`")),
    };
    findings.push(Finding::new(FORMAT, finding.0, finding.1));
}

/// The document with the present hash in it.
pub(super) fn blessed(sources: &[Source], document: &str) -> Option<String> {
    let line = format!("{HASH_LINE}{}", layout_hash(sources)?);
    let mut stated = false;
    let mut text = String::new();
    for old in document.lines() {
        let is_hash = old.trim().starts_with(HASH_LINE);
        stated |= is_hash;
        text.push_str(if is_hash { &line } else { old });
        text.push('\n');
    }
    if !stated {
        text.push_str(&format!("\n{line}\n"));
    }
    Some(text)
}

/// FNV-1a over the layout's shipped code, without comments and white space.
fn layout_hash(sources: &[Source]) -> Option<String> {
    let layout = sources.iter().find(|source| source.path == LAYOUT)?;
    let bytes = layout
        .shipped()
        .flat_map(|(_, line)| line.text.bytes())
        .filter(|byte| !byte.is_ascii_whitespace());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Some(format!("{hash:016x}"))
}

/// `[text](target)` and `[name]: target`, without a title behind the target.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    let inline = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next());
    let reference = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "))
        .map(|(_, target)| target.split(' ').next().unwrap_or_default());
    inline.chain(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_at_the_top_is_found() {
        let paths = ["src/lib.rs", "LICENSE-MIT", "notes.txt", "tools/a.sh"].map(String::from);
        let mut findings = Vec::new();
        top_level(&paths, &mut findings);
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("notes.txt:1: "));
    }

    #[test]
    fn a_dead_link_is_found() {
        let root = tempfile::tempdir().expect("a folder for the test");
        std::fs::write(root.path().join("here.md"), "").expect("a file for the test");
        let text = "[a](here.md#part) [b](https://example.org/x)\n[c](#top) [d](gone.md)\n\
                    [e]: away.md\n```\n[f](fenced.md)\n```\n";
        let mut findings = Vec::new();
        links("README.md", text, root.path(), &mut findings);
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "README.md:2: link to gone.md: no such file",
                "README.md:3: link to away.md: no such file",
            ]
        );
    }

    #[test]
    fn a_changed_layout_is_found_until_it_is_blessed() {
        let old = [Source::parse(LAYOUT, "struct A {\n    a: u64, // one\n}\n")];
        let new = [Source::parse(LAYOUT, "struct A {\n    a: u32,\n}\n")];
        let same = [Source::parse(
            LAYOUT,
            "struct A {  a: u64,\n}\n// more words\n",
        )];
        let document = blessed(&old, "# Format\n").expect("the sample has a layout");
        let count = |sources: &[Source], document: &str| {
            let mut findings = Vec::new();
            format_is_tied(sources, document, &mut findings);
            findings.len()
        };
        assert_eq!(count(&old, "# Format\n"), 1);
        assert_eq!(count(&old, &document), 0);
        assert_eq!(count(&same, &document), 0);
        assert_eq!(count(&new, &document), 1);
        let again = blessed(&new, &document).expect("the sample has a layout");
        assert_eq!(count(&new, &again), 0);
        assert_eq!(again.matches(HASH_LINE).count(), 1);
        assert_eq!(count(&[], &document), 1);
    }
}
