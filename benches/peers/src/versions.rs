//! What a figure depends on besides the machine: which code was measured.

use std::process::Command;

/// The versions that this program was built with.
const LOCK: &str = include_str!("../../../Cargo.lock");
/// Crates that are no peers.
const TOOLS: [&str; 7] = [
    "annulus",
    "annulus-lab",
    "clap",
    "nix",
    "serde_json",
    "signal-hook",
    "tempfile",
];

/// The version of annulus, and the commit if the sources it was built from are still there.
pub(crate) fn own() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let described = Command::new("git")
        .args(["-C", env!("CARGO_MANIFEST_DIR")])
        .args(["describe", "--always", "--dirty"])
        .output();
    match described {
        Ok(told) if told.status.success() => {
            let commit = String::from_utf8_lossy(&told.stdout);
            format!("{version} ({})", commit.trim())
        }
        _ => version.to_owned(),
    }
}

/// The peers with their versions, by the lock file.
pub(crate) fn of_peers() -> Vec<(String, String)> {
    let packages: Vec<&str> = LOCK.split("[[package]]").collect();
    let package = |name: &str, version: Option<&str>| {
        packages.iter().find(|package| {
            field(package, "name") == Some(name)
                && version.is_none_or(|version| field(package, "version") == Some(version))
        })
    };
    let Some(own) = package(env!("CARGO_PKG_NAME"), None) else {
        return Vec::new();
    };
    let names = own.lines().filter_map(|line| line.trim().strip_prefix('"'));
    names
        .filter_map(|name| name.split('"').next())
        .map(|name| {
            name.split_once(' ')
                .map_or((name, None), |(name, at)| (name, Some(at)))
        })
        .filter(|(name, _)| !TOOLS.contains(name))
        .filter_map(|(name, version)| {
            let version = version.or_else(|| field(package(name, None)?, "version"))?;
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

fn field<'p>(package: &'p str, name: &str) -> Option<&'p str> {
    let line = package.lines().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(" = \"")?.strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_its_version_and_no_tool_has() {
        let versions = of_peers();
        let version_of = |name: &str| {
            let found = versions.iter().find(|(each, _)| each == name);
            found.map(|(_, version)| version.as_str())
        };
        for peer in ["rtrb", "ringbuf", "kanal", "shaq", "iceoryx2"] {
            assert!(version_of(peer).is_some(), "{peer} in {versions:?}");
        }
        assert_eq!(version_of("clap"), None);
        assert!(version_of("rtrb").is_some_and(|version| version.starts_with("0.4")));
    }
}
