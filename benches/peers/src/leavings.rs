//! What peers leave behind, and what they say.
//!
//! Some keep files in `/dev/shm` under names of their own choice, not in the folder of the slice.
//! Their names get a prefix here that tells the driver's process, and what has the prefix goes when
//! the driver drops the link: after the players are gone, however they went. If the driver itself
//! was killed, [`sweep`] of the next one does it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where POSIX shared memory is.
const SHARED_MEMORY: &str = "/dev/shm";
/// What all our names there begin with; the driver's process follows.
const PREFIX: &str = "peers";
/// What the names of the lab's folders there begin with; the driver's process follows.
const SLICES: &str = "annulus-bench-";

/// A prefix that no other link has. What begins with it is removed as this is dropped by the
/// process that made it.
pub(crate) struct Leavings {
    folder: PathBuf,
    prefix: String,
    driver: u32,
}

impl Leavings {
    /// In `/dev/shm`.
    pub(crate) fn new() -> Self {
        Self::in_folder(Path::new(SHARED_MEMORY))
    }

    /// The prefix is short, for some peers allow 14 characters.
    fn in_folder(folder: &Path) -> Self {
        static LINKS: AtomicU32 = AtomicU32::new(0);
        let driver = std::process::id();
        let nth = LINKS.fetch_add(1, Ordering::Relaxed);
        Self {
            folder: folder.to_owned(),
            prefix: format!("{PREFIX}{driver}_{nth}_"),
            driver,
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl Drop for Leavings {
    fn drop(&mut self) {
        if std::process::id() == self.driver {
            remove(&files(&self.folder, &self.prefix));
        }
    }
}

/// Removes what drivers left that are gone: files of their peers, and the folders of their slices.
pub(crate) fn sweep() {
    sweep_folder(Path::new(SHARED_MEMORY));
}

fn sweep_folder(folder: &Path) {
    let mut left = files(folder, "");
    left.retain(|file| driver_of(file).is_some_and(|driver| !is_alive(driver)));
    remove(&left);
}

/// The process that made what has this name, if it is one of ours.
fn driver_of(file: &Path) -> Option<u32> {
    let name = file.file_name()?.to_str()?;
    let peers = name.strip_prefix(PREFIX).map(|rest| rest.split_once('_'));
    let slice = name.strip_prefix(SLICES).map(|rest| rest.split_once('-'));
    let (driver, _) = peers.or(slice)??;
    driver.parse().ok()
}

fn is_alive(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

fn files(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let named = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).collect()
}

fn remove(files: &[PathBuf]) {
    for file in files {
        // What is gone already is as good.
        let _gone = fs::remove_file(file).or_else(|_| fs::remove_dir_all(file));
    }
}

/// Keeps what a peer prints out of the table, in the process of a player.
pub(crate) fn silence() {
    if let Ok(nowhere) = fs::File::options().write(true).open("/dev/null") {
        // A peer that is heard does no harm.
        let _heard = nix::unistd::dup2_stdout(&nowhere);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_the_prefix_goes_with_its_link_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let leavings = Leavings::in_folder(folder.path());
        let ours = folder.path().join(format!("{}seq", leavings.prefix()));
        let other = folder.path().join(format!("{PREFIX}{}_x", leavings.driver));
        for file in [&ours, &other] {
            fs::write(file, "").expect("a file");
        }
        drop(leavings);
        assert!(!ours.exists());
        assert!(other.exists());
    }

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_leaves_what_the_living_have() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let dead = child.id();
        child.wait().expect("it ends");
        let own = std::process::id();
        let [file, slice, living, foreign] = [
            format!("{PREFIX}{dead}_0_seq"),
            format!("{SLICES}{dead}-x"),
            format!("{PREFIX}{own}_0_seq"),
            format!("{PREFIX}_of_somebody_else"),
        ]
        .map(|name| folder.path().join(name));
        for file in [&file, &living, &foreign] {
            fs::write(file, "").expect("a file");
        }
        fs::create_dir(&slice).expect("a folder");
        fs::write(slice.join("there"), "").expect("a file");
        sweep_folder(folder.path());
        assert_eq!(
            [file, slice, living, foreign].map(|path| path.exists()),
            [false, false, true, true]
        );
    }
}
