//! The rule that a document names no test that is not there.
//!
//! A document says which test shows what it claims as `tests/crash.rs: name_of_the_test`, between
//! backticks. The test stands in that file or in the folder that belongs to it.

use super::Finding;
use super::source::Source;

/// Every test that the document names exists.
pub(super) fn exist(path: &str, text: &str, sources: &[Source], findings: &mut Vec<Finding>) {
    for (at, line) in text.lines().enumerate() {
        for (file, test) in named(line) {
            if !is_there(sources, file, test) {
                let message = format!("names {test}, which is not in {file}");
                findings.push(Finding::new(path, at + 1, message));
            }
        }
    }
}

/// Files and tests that a line names.
fn named(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|quoted| quoted.split_once(": "))
        .filter(|(file, _)| file.ends_with(".rs") || file.ends_with('/'))
}

fn is_there(sources: &[Source], file: &str, test: &str) -> bool {
    let folder = format!("{}/", file.trim_end_matches(".rs").trim_end_matches('/'));
    let definition = format!("fn {test}(");
    let mut among = sources
        .iter()
        .filter(|source| source.path == file || source.path.starts_with(&folder));
    among.any(|source| {
        source
            .lines
            .iter()
            .any(|line| line.text.contains(&definition))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let sources = [
            Source::parse("tests/a.rs", "#[test]\nfn first() {}\n"),
            Source::parse("tests/a/b.rs", "#[test]\nfn second() {}\n"),
        ];
        let text = "`tests/a.rs: first`, `tests/a.rs: second`\n`tests/a.rs: third` `note: other`\n";
        let mut findings = Vec::new();
        exist("README.md", text, &sources, &mut findings);
        let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            ["README.md:2: names third, which is not in tests/a.rs"]
        );
    }
}
