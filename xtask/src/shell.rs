//! Running other programs: where they run, what they print, and how their failure reads.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program's outcome as an error that shows its command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// A program's standard output; its messages go to the terminal.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    command.stderr(Stdio::inherit());
    let output = command
        .output()
        .with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("`{}` ended with {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} did not print text", shown(command)))
}

/// Whether a program exists and succeeds, without showing what it prints.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    let quiet = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

/// Cargo in the repository, with a line of arguments that hold no spaces of their own.
pub(crate) fn cargo(root: &Path, args: &str) -> Command {
    let mut command = Command::new("cargo");
    command.args(args.split_whitespace()).current_dir(root);
    command
}

/// Adds a flag to one of the variables that hold compiler flags.
pub(crate) fn add_flags(command: &mut Command, variable: &str, flags: &str) {
    let mut value = std::env::var_os(variable)
        .filter(|old| !old.is_empty())
        .unwrap_or_default();
    if !value.is_empty() {
        value.push(" ");
    }
    value.push(flags);
    command.env(variable, value);
}

/// Drops what `cargo run` told this process about its own toolchain.
pub(crate) fn forget_toolchain(command: &mut Command) -> &mut Command {
    for variable in [
        "CARGO",
        "LD_LIBRARY_PATH",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(variable);
    }
    command
}

/// The variables that were set for it, then the command line.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        let mut pair = name.to_owned();
        pair.push("=");
        pair.push(quoted(value?));
        Some(pair)
    });
    let line = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsString::from);
    let words: Vec<String> = set
        .chain(line)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

fn quoted(value: &std::ffi::OsStr) -> OsString {
    if value.to_string_lossy().contains(' ') {
        let mut quoted = OsString::from("'");
        quoted.push(value);
        quoted.push("'");
        return quoted;
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_command_line() {
        let mut command = Command::new("false");
        command.arg("--now").env("A", "b c");
        let error = run(&mut command).expect_err("false fails");
        assert!(
            error
                .to_string()
                .starts_with("`A='b c' false --now` ended with"),
            "{error}"
        );
        let error = run(&mut Command::new("no-such-program")).expect_err("it does not exist");
        assert!(
            error.to_string().contains("cannot run no-such-program"),
            "{error}"
        );
    }
}
