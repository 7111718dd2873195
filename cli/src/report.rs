//! What the user is told when something fails: one `error:` line with all causes, one `hint:` line.
//!
//! The library's errors say what was found and what was expected; here they get the name of the
//! file and hints that name commands and options.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use annulus::segment::{
    AttachError, CreateError, InspectError, OpenError, RecoverError, RemoveError,
};

/// How a command that did not fail ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done: exit code 0.
    Yes,
    /// It was asked something, and the answer is no: exit code 1.
    No,
}

/// Why a command failed: exit code 2.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<Cow<'static, str>>,
    is_told: bool,
}

impl Failure {
    pub fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            is_told: false,
        }
    }

    /// The user has been told, in another way than by [`print`](Self::print).
    #[must_use]
    pub fn told(self) -> Self {
        Self {
            is_told: true,
            ..self
        }
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hinted(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// `what`, and why: the error and its sources.
    pub fn because(what: impl Display, error: &dyn Error) -> Self {
        Self::new(format_args!("{what}: {}", causes(error)))
    }

    /// `cannot <verb> <path>: <causes>`.
    pub fn of_ring<E: Hinted>(verb: &str, path: &Path, error: &E) -> Self {
        let failure = Self::because(format_args!("cannot {verb} `{}`", path.display()), error);
        Self {
            hint: error.hint_for(path),
            ..failure
        }
    }

    #[must_use]
    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub fn print(&self) {
        if self.is_told {
            return;
        }
        eprintln!("error: {}", printable(&self.message));
        if let Some(hint) = &self.hint {
            eprintln!("hint: {}", printable(hint));
        }
    }
}

/// An error and its sources on one line.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Some messages contain their source already.
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}

/// Names of files and programs are others' to choose: nothing of them may end the line or steer the
/// terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

type Hint = Option<Cow<'static, str>>;

/// An error of the library, with what a user of the command can do about it.
pub trait Hinted: Error {
    fn hint_for(&self, path: &Path) -> Hint;
}

const FORCE_FILE_SYSTEM: &str =
    "put the ring under /dev/shm, or force it with --force-file-system and lose the guarantees";

impl Hinted for CreateError {
    fn hint_for(&self, path: &Path) -> Hint {
        match self {
            Self::AlreadyExists { .. } => Some(
                format!(
                    "look at it with `annulus stat {0}`, or remove it with `annulus rm {0}`",
                    path.display()
                )
                .into(),
            ),
            Self::FileSystem(_) => Some(FORCE_FILE_SYSTEM.into()),
            other => other.hint().map(Cow::from),
        }
    }
}

impl Hinted for OpenError {
    fn hint_for(&self, path: &Path) -> Hint {
        match self {
            Self::NotFound => Some(
                format!(
                    "create it first, e.g. `annulus create {} --spsc --capacity 1MiB`",
                    path.display()
                )
                .into(),
            ),
            Self::FileSystem(_) => Some(FORCE_FILE_SYSTEM.into()),
            other => other.hint().map(Cow::from),
        }
    }
}

fn other_boot(path: &Path) -> Hint {
    Some(
        format!(
            "check and adopt it with `annulus recover {0} --accept-other-boot`, or remove it with \
         `annulus rm {0}`",
            path.display()
        )
        .into(),
    )
}

impl Hinted for AttachError {
    fn hint_for(&self, path: &Path) -> Hint {
        match self {
            Self::Open(error) => error.hint_for(path),
            Self::OtherBoot => other_boot(path),
            other => other.hint().map(Cow::from),
        }
    }
}

impl Hinted for InspectError {
    fn hint_for(&self, path: &Path) -> Hint {
        match self {
            Self::Open(error) => error.hint_for(path),
            other => other.hint().map(Cow::from),
        }
    }
}

impl Hinted for RecoverError {
    fn hint_for(&self, path: &Path) -> Hint {
        match self {
            Self::Open(error) => error.hint_for(path),
            Self::OtherBoot => other_boot(path),
            other => other.hint().map(Cow::from),
        }
    }
}

impl Hinted for RemoveError {
    fn hint_for(&self, _path: &Path) -> Hint {
        match self {
            Self::Open(OpenError::NotFound) => None,
            Self::Open(_) => Some("remove it whatever it is with --force".into()),
            Self::InUse { .. } => {
                Some("end those first, or use --force: they keep the nameless file".into())
            }
            other => other.hint().map(Cow::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_each() {
        let source = std::io::Error::other("the disk is made of cheese");
        let error = OpenError::Io {
            step: "open the file",
            source,
        };
        assert_eq!(
            causes(&error),
            "cannot open the file: the disk is made of cheese"
        );
    }

    #[test]
    fn a_message_stays_on_its_line_and_leaves_the_terminal_alone() {
        assert_eq!(printable("a\nb\x1b[2J"), "a\u{fffd}b\u{fffd}[2J");
    }
}
