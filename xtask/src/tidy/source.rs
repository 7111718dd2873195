//! A Rust file as the checks see it: code, comments and strings told apart, line by line.
//!
//! This is a scanner and no parser: it knows comments (nested ones too), the string and character
//! literals, and which lines belong to an in-file test module. That is enough for rules about
//! words and comments, and it cannot be confused by a rule's own name in a string.

/// One line, taken apart.
#[derive(Debug, Default, Clone)]
pub(crate) struct Line {
    /// The line as it stands in the file.
    pub(crate) raw: String,
    /// Without comments; what string and character literals hold is left out.
    pub(crate) code: String,
    /// Without comments, literals whole.
    pub(crate) text: String,
    /// What its comments say, with their opening slashes.
    pub(crate) comment: String,
    /// Belongs to a `#[cfg(test)]` module, or to a file of tests.
    pub(crate) in_test: bool,
}

impl Line {
    /// Nothing but a comment.
    pub(crate) fn is_comment(&self) -> bool {
        self.code.trim().is_empty() && !self.comment.is_empty()
    }

    /// Whether `word` occurs in the code as a whole identifier.
    pub(crate) fn has_word(&self, word: &str) -> bool {
        contains_word(&self.code, word)
    }
}

/// One file, with its path relative to the top of the repository.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) lines: Vec<Line>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut lines = scan(text);
        mark_tests(&mut lines, is_test_path(path));
        Self {
            path: path.to_owned(),
            lines,
        }
    }

    /// The lines with their numbers, counted from 1.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines
            .iter()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
    }

    /// The numbered lines that ship: no tests.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.numbered().filter(|(_, line)| !line.in_test)
    }
}

/// Whether `word` occurs in `text` with no letter, digit or underscore on either side.
pub(crate) fn contains_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(is_word)
            && !text[at + word.len()..].chars().next().is_some_and(is_word)
    })
}

fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Where the scanner stands between two characters.
enum Mode {
    Code,
    LineComment,
    /// How many `/*` are open.
    BlockComment(u32),
    /// A plain string: a backslash escapes.
    Quoted,
    /// A raw string and the number of `#` that end it.
    Raw(usize),
}

fn scan(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = Vec::new();
    let mut line = Line::default();
    let mut mode = Mode::Code;
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        if rest[0] == '\n' {
            if matches!(mode, Mode::LineComment) {
                mode = Mode::Code;
            }
            lines.push(std::mem::take(&mut line));
            at += 1;
            continue;
        }
        let taken = match &mut mode {
            Mode::Code => code(rest, &mut line, &mut mode),
            Mode::LineComment => {
                line.comment.push(rest[0]);
                1
            }
            Mode::BlockComment(depth) => {
                let taken = if rest.starts_with(&['/', '*']) {
                    *depth += 1;
                    2
                } else if rest.starts_with(&['*', '/']) {
                    *depth -= 1;
                    2
                } else {
                    1
                };
                line.comment.extend(&rest[..taken]);
                if *depth == 0 {
                    mode = Mode::Code;
                }
                taken
            }
            Mode::Quoted => {
                let escape = rest[0] == '\\' && rest.get(1).is_some_and(|c| *c != '\n');
                let taken = if escape { 2 } else { 1 };
                line.text.extend(&rest[..taken]);
                if rest[0] == '"' {
                    line.code.push('"');
                    mode = Mode::Code;
                }
                taken
            }
            Mode::Raw(hashes) => {
                let ends = rest[0] == '"' && count_hashes(&rest[1..]) >= *hashes;
                let taken = if ends { 1 + *hashes } else { 1 };
                line.text.extend(&rest[..taken]);
                if ends {
                    line.code.push('"');
                    mode = Mode::Code;
                }
                taken
            }
        };
        line.raw.extend(&rest[..taken]);
        at += taken;
    }
    if !line.raw.is_empty() {
        lines.push(line);
    }
    lines
}

/// Takes one step in code and says how many characters it took.
fn code(rest: &[char], line: &mut Line, mode: &mut Mode) -> usize {
    if rest.starts_with(&['/', '/']) {
        *mode = Mode::LineComment;
        line.comment.push_str("//");
        return 2;
    }
    if rest.starts_with(&['/', '*']) {
        *mode = Mode::BlockComment(1);
        line.comment.push_str("/*");
        return 2;
    }
    let after_word = line
        .code
        .ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if let Some((prefix, hashes)) = raw_string(rest).filter(|_| !after_word) {
        *mode = Mode::Raw(hashes);
        return push(line, &rest[..prefix], "\"");
    }
    if rest[0] == '"' {
        *mode = Mode::Quoted;
        return push(line, &rest[..1], "\"");
    }
    if let Some(taken) = char_literal(rest) {
        return push(line, &rest[..taken], "' '");
    }
    line.code.push(rest[0]);
    line.text.push(rest[0]);
    1
}

fn push(line: &mut Line, taken: &[char], code: &str) -> usize {
    line.text.extend(taken);
    line.code.push_str(code);
    taken.len()
}

/// `r"`, `br#"` and the like: how long the opening is, and how many hashes close it.
fn raw_string(rest: &[char]) -> Option<(usize, usize)> {
    let letters = rest
        .iter()
        .take_while(|c| matches!(c, 'b' | 'c' | 'r'))
        .count();
    let hashes = count_hashes(&rest[letters..]);
    let opens = letters > 0 && letters <= 2 && rest[letters - 1] == 'r';
    (opens && rest.get(letters + hashes) == Some(&'"')).then_some((letters + hashes + 1, hashes))
}

/// The length of a character literal; a lifetime is none.
fn char_literal(rest: &[char]) -> Option<usize> {
    match rest {
        ['\'', '\\', _, tail @ ..] => Some(4 + tail.iter().position(|c| *c == '\'')?),
        ['\'', _, '\'', ..] => Some(3),
        _ => None,
    }
}

fn count_hashes(chars: &[char]) -> usize {
    chars.iter().take_while(|c| **c == '#').count()
}

/// Marks each `mod` under a `cfg(test)` attribute, up to its closing brace.
fn mark_tests(lines: &mut [Line], whole_file: bool) {
    let mut depth = 0_usize;
    let mut pending = false;
    for line in lines {
        let code = line.code.trim();
        let attribute = code.starts_with("#[cfg(") && contains_word(code, "test");
        pending |= attribute && !code.contains("not(test");
        line.in_test = whole_file || pending || depth > 0;
        let (opened, closed) = (code.matches('{').count(), code.matches('}').count());
        if depth > 0 {
            depth = (depth + opened).saturating_sub(closed);
        } else if pending && !code.starts_with("#[") {
            depth = opened.saturating_sub(closed);
            pending = depth == 0 && !code.ends_with([';', '}']);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_told_apart() {
        let text =
            "let a = \"// no\"; // yes\nlet c = '\"'; let s: &'a str = r#\"x \" y\"#; f();\n";
        let source = Source::parse("src/a.rs", text);
        assert_eq!(source.lines[0].code, "let a = \"\"; ");
        assert_eq!(source.lines[0].comment, "// yes");
        assert_eq!(
            source.lines[1].code,
            "let c = ' '; let s: &'a str = \"\"; f();"
        );
        assert!(source.lines[1].text.contains("x \" y"));
    }

    #[test]
    fn block_comments_nest_and_span_lines() {
        let source = Source::parse("src/a.rs", "a /* b /* c */\nd */ e\n");
        assert_eq!(source.lines[0].code.trim(), "a");
        assert_eq!(source.lines[1].code.trim(), "e");
    }

    #[test]
    fn test_modules_are_marked_to_their_closing_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let marks: Vec<bool> = Source::parse("src/a.rs", text)
            .lines
            .iter()
            .map(|line| line.in_test)
            .collect();
        assert_eq!(marks, [false, true, true, true, true, false]);
        assert!(Source::parse("src/ring/tests.rs", text).lines[0].in_test);
    }

    #[test]
    fn words_are_whole_identifiers() {
        assert!(contains_word("use libc::c_int;", "libc"));
        assert!(!contains_word("my_libc()", "libc"));
    }
}
