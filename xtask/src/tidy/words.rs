//! The rules about what may be named where, and about the size of lines and files.

use super::source::{Source, contains_word};
use super::{Finding, LAYOUT};

/// A file of the library has at most this many lines, its tests not counted.
const MAX_LINES: usize = 800;
/// A line has at most this many characters.
const MAX_COLUMNS: usize = 100;

/// The protocol maps nothing, calls nothing and reads no clock.
pub(super) fn protocol_is_pure(sources: &[Source], findings: &mut Vec<Finding>) {
    let protocol = |source: &&Source| source.path.starts_with("src/protocol/");
    for source in sources.iter().filter(protocol) {
        for (number, line) in source.shipped() {
            let path = ["std::fs", "std::time"]
                .into_iter()
                .find(|path| line.code.contains(path));
            let name = ["libc", "nix", "rustix", "memmap2"]
                .into_iter()
                .find(|name| line.has_word(name));
            if let Some(named) = path.or(name) {
                let message = format!("the protocol names {named}");
                findings.push(Finding::new(&source.path, number, message));
            }
        }
    }
}

/// A field of the file has one width on every machine.
pub(super) fn layout_has_no_usize(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources.iter().filter(|source| source.path == LAYOUT) {
        let mut inside = false;
        for (number, line) in source.shipped() {
            inside |= line.has_word("struct") || line.has_word("union");
            // A cast in an array's length is the same number everywhere.
            let code = line.code.replace("as usize", "");
            if inside && contains_word(&code, "usize") {
                let message = "usize in a field of the file".to_owned();
                findings.push(Finding::new(&source.path, number, message));
            }
            let code = code.trim_end();
            inside &= !(code.ends_with(';') || code.ends_with('}'));
        }
    }
}

/// Nothing is left for later without an issue, and no test is switched off.
pub(super) fn leftovers(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources {
        for (number, line) in source.numbered() {
            let code: String = line.code.split_whitespace().collect();
            let in_code = ["#[ignore", "todo!(", "unimplemented!(", "dbg!("]
                .into_iter()
                .find(|left| code.contains(left));
            let in_words = ["FIXME", "XXX"]
                .into_iter()
                .find(|left| line.has_word(left) || contains_word(&line.comment, left));
            if let Some(left) = in_code.or(in_words) {
                findings.push(Finding::new(
                    &source.path,
                    number,
                    format!("`{left}` is left"),
                ));
            }
        }
    }
}

/// Lines fit a screen beside another, files of the library one sitting.
pub(super) fn sizes(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources {
        for (number, line) in source.numbered() {
            let columns = line.raw.chars().count();
            if columns > MAX_COLUMNS {
                let message = format!("{columns} columns, at most {MAX_COLUMNS} are allowed");
                findings.push(Finding::new(&source.path, number, message));
            }
        }
        let count = source.shipped().count();
        if source.path.starts_with("src/") && count > MAX_LINES {
            let message = format!("{count} lines without tests, at most {MAX_LINES} are allowed");
            findings.push(Finding::new(&source.path, MAX_LINES, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&[Source], &mut Vec<Finding>), path: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        rule(&[Source::parse(path, text)], &mut findings);
        findings.len()
    }

    #[test]
    fn a_protocol_that_touches_the_system_is_found() {
        for line in [
            "use std::time::Instant;",
            "libc::getpid();",
            "use std::fs::File;",
        ] {
            assert_eq!(
                check(protocol_is_pure, "src/protocol/a.rs", line),
                1,
                "{line}"
            );
            assert_eq!(
                check(protocol_is_pure, "src/segment/a.rs", line),
                0,
                "{line}"
            );
        }
        assert_eq!(
            check(protocol_is_pure, "src/protocol/a.rs", "// no libc here"),
            0
        );
    }

    #[test]
    fn a_usize_field_is_found_and_a_usize_constant_is_not() {
        let field = "pub struct A {\n    a: u64,\n    b: usize,\n}\n";
        assert_eq!(check(layout_has_no_usize, LAYOUT, field), 1);
        assert_eq!(check(layout_has_no_usize, LAYOUT, "struct A(usize);\n"), 1);
        let constant =
            "struct A {\n    a: [u8; N as usize],\n}\nconst B: usize = size_of::<A>();\n";
        assert_eq!(check(layout_has_no_usize, LAYOUT, constant), 0);
    }

    #[test]
    fn leftovers_are_found_in_code_and_comments_but_not_in_strings() {
        for line in [
            "#[ignore = \"slow\"]",
            "todo!()",
            "dbg!(a)",
            "unimplemented!()",
            "// FIXME: a",
        ] {
            assert_eq!(check(leftovers, "tests/a.rs", line), 1, "{line}");
        }
        assert_eq!(check(leftovers, "src/a.rs", "let a = \"todo!(\";"), 0);
    }

    #[test]
    fn long_lines_and_long_files_are_found() {
        assert_eq!(check(sizes, "src/a.rs", &"x".repeat(101)), 1);
        assert_eq!(check(sizes, "src/a.rs", &"x".repeat(100)), 0);
        assert_eq!(check(sizes, "src/a.rs", &"x\n".repeat(801)), 1);
        assert_eq!(check(sizes, "tests/a.rs", &"x\n".repeat(801)), 0);
        let tested = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(801));
        assert_eq!(check(sizes, "src/a.rs", &tested), 0);
    }
}
