//! What the kernel tells of the machine in `/proc` and `/sys`, from a root that tests make up.
//!
//! The files are of a line or a few; the `procfs` crate was looked at and left, because it reads
//! `/proc/stat` into a list that no longer says which processor is which when one is offline.

use std::fs;
use std::path::{Path, PathBuf};

/// Where `/proc`, `/sys` and `/dev` are.
#[derive(Clone, Debug)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::at("/")
    }

    /// A machine whose files are in `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `path` without its slash, in this system.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The text of a file, without the line's end; `None` if it cannot be read.
    #[must_use]
    pub fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// A number that is all of a file.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    /// Processors in a file like `0-3,8`.
    #[must_use]
    pub fn cpus(&self, path: &str) -> Option<Vec<usize>> {
        parse_cpus(&self.read(path)?)
    }

    /// The first value of `key: value` in a file of such lines.
    #[must_use]
    pub fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.read(path)?;
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(name, _)| name.trim() == key)?;
        Some(value.trim().to_owned())
    }

    /// The word in brackets: of several settings, the one that is set.
    #[must_use]
    pub fn chosen(&self, path: &str) -> Option<String> {
        let text = self.read(path)?;
        let (_, rest) = text.split_once('[')?;
        let (word, _) = rest.split_once(']')?;
        Some(word.to_owned())
    }

    /// Names in a folder, sorted.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<_> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Bytes that are free on the file system of a folder.
    #[must_use]
    pub fn free_bytes(&self, folder: &str) -> Option<u64> {
        let path: &Path = &self.path(folder);
        let space = rustix::fs::statvfs(path).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// The governor of these processors, or all of theirs if they differ.
    #[must_use]
    pub fn governors(&self, cpus: &[usize]) -> Vec<String> {
        let governor = |cpu: &usize| {
            self.read(&format!(
                "sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"
            ))
        };
        let mut all: Vec<_> = cpus.iter().filter_map(governor).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// `0-3,8`; nothing is no processor.
pub(crate) fn parse_cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_runs_and_single_ones() {
        assert_eq!(parse_cpus("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpus(""), Some(vec![]));
        assert_eq!(parse_cpus("all"), None);
    }
}
