//! Instructions of a record, counted by callgrind and compared with those that are kept.
//!
//! The clock of a shared machine is too noisy to hold on to a gain. Instructions repeat exactly for
//! the same binary, so a change of one is seen. They are no measure of time: a line that comes from
//! another processor takes as long as hundreds of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{setup, shell, steps};

/// Where the counts are kept.
const KEPT: &str = "benches/lab/instructions.txt";
const RINGS: [&str; 7] = [
    "bare",
    "bare-records",
    "spsc",
    "bare-records-32",
    "spsc-32",
    "bare-slots",
    "mpmc",
];
/// The two functions of `benches/lab/examples/count.rs`, or with `batch_` before; they are called
/// once a record or once a batch.
const SIDES: [&str; 2] = ["claim_to_commit", "claim_to_release"];
/// Two runs, whose difference leaves out what happens once.
const RECORDS: [u64; 2] = [16_000, 32_000];

/// Counts, and compares with the kept counts or keeps these. The rings are new ones, or `after` so
/// many records.
///
/// # Errors
/// If valgrind cannot be had, or a count is not the kept one.
pub(crate) fn run(root: &Path, bless: bool, after: Option<u64>) -> Result<()> {
    if !shell::succeeds("valgrind", &["--version"]) {
        setup::apt("valgrind", &["valgrind"])?;
    }
    let build = "build --release --package annulus-lab --example count";
    shell::run(
        Command::new("cargo")
            .args(build.split(' '))
            .current_dir(root),
    )?;
    let program = steps::target_folder(root).join("release/examples/count");
    let compiler = shell::output(Command::new("rustc").arg("--version").current_dir(root))?;

    let mut counted = String::new();
    writeln!(
        counted,
        "# Instructions of a record of 64 B; `bare` is without a ring, `-32` moves batches."
    )?;
    writeln!(counted, "# {}", compiler.trim())?;
    let shelf = tempfile::tempdir_in("/dev/shm").context("cannot make a folder for the rings")?;
    for ring in RINGS {
        let mut counted_in = vec![ring.to_owned()];
        let is_kept = !ring.starts_with("bare") && !ring.ends_with("-32");
        if let Some(after) = after.filter(|_| is_kept) {
            let folder = shelf.path().join(ring);
            fs::create_dir(&folder).context("cannot make a folder for a ring")?;
            counted_in.push(folder.display().to_string());
            let mut grow = Command::new(&program);
            grow.args(&counted_in).arg(after.to_string());
            shell::run(&mut grow)?;
        }
        for side in SIDES {
            let [few, many] = RECORDS.map(|records| count(&program, &counted_in, side, records));
            let (difference, records) = (many?.saturating_sub(few?), RECORDS[1] - RECORDS[0]);
            writeln!(
                counted,
                "{ring} {side} {:.1}",
                difference as f64 / records as f64
            )?;
        }
    }
    print!("{counted}");
    let path = root.join(KEPT);
    if bless {
        return fs::write(&path, counted).with_context(|| format!("cannot write {KEPT}"));
    }
    let kept = fs::read_to_string(&path).with_context(|| format!("cannot read {KEPT}"))?;
    for line in kept.lines().filter(|line| !counted.contains(line)) {
        println!("kept: {line}");
    }
    ensure!(
        kept == counted,
        "not the counts of {KEPT}; if that is meant, or the compiler is another, run `cargo xtask \
         instructions --bless`"
    );
    Ok(())
}

/// Instructions inside the function and what it calls.
fn count(program: &Path, ring: &[String], side: &str, records: u64) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*{side}*"))
        .arg(program)
        .args(ring)
        .arg(records.to_string());
    let output = valgrind.output().context("cannot run valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    let Some(line) = told.lines().find(|line| line.contains("Collected :")) else {
        bail!("valgrind counted nothing: {told}");
    };
    let number = line.rsplit(' ').next().unwrap_or_default();
    number
        .parse()
        .with_context(|| format!("no count in `{line}`"))
}
