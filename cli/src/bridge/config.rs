//! What a bridge is told: flags, over the environment, over a file, over what is usual.
//!
//! All three say the same by the same names: `--drain-timeout`, `ANNULUS_BRIDGE_DRAIN_TIMEOUT` and
//! `drain-timeout = ` are one setting. A name that is not known is refused in a file and among
//! the flags, and warned of in the environment, into which others write too (Kubernetes puts
//! `<SERVICE>_PORT` there).

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use annulus::bridge::{End, Settings};
use bytesize::ByteSize;
use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::report::Failure;

use super::log::Format;

const PREFIX: &str = "ANNULUS_BRIDGE_";

/// One layer of settings; what is `None` is left to the layer below.
#[derive(Clone, Debug, Default, Args, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Layer {
    /// Where records come from.
    #[arg(env = "ANNULUS_BRIDGE_SOURCE", hide_env_values = true)]
    pub source: Option<String>,
    /// Where they go.
    #[arg(env = "ANNULUS_BRIDGE_DESTINATION", hide_env_values = true)]
    pub destination: Option<String>,
    /// Wait for confirmations for so many seconds when asked to end [usually: 10].
    #[arg(long, value_name = "SECONDS", env = "ANNULUS_BRIDGE_DRAIN_TIMEOUT")]
    pub drain_timeout: Option<Seconds>,
    /// Take a peer for gone that is silent for so many seconds [usually: 10].
    #[arg(long, value_name = "SECONDS", env = "ANNULUS_BRIDGE_SILENCE")]
    pub silence: Option<Seconds>,
    /// Most records that are sent and not confirmed, to one receiver [usually: 262144].
    #[arg(long, value_name = "N", env = "ANNULUS_BRIDGE_WINDOW_RECORDS")]
    pub window_records: Option<u64>,
    /// Most bytes of them [usually: 8MiB].
    #[arg(long, value_name = "SIZE", env = "ANNULUS_BRIDGE_WINDOW_BYTES")]
    pub window_bytes: Option<Bytes>,
    /// Serve /metrics, /livez and /readyz there; at 127.0.0.1:9464 if no address is said.
    #[arg(
        long,
        value_name = "ADDRESS:PORT|off",
        env = "ANNULUS_BRIDGE_METRICS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:9464"
    )]
    pub metrics: Option<Metrics>,
    /// How what happens is told on stderr [usually: text].
    #[arg(long, env = "ANNULUS_BRIDGE_LOG")]
    pub log: Option<Format>,
    /// How much of it: error, warn, info, debug, or what RUST_LOG takes [usually: as RUST_LOG, or
    /// info].
    #[arg(long, value_name = "LEVEL", env = "ANNULUS_BRIDGE_LOG_LEVEL")]
    pub log_level: Option<String>,
    /// Say nothing but errors.
    #[arg(
        long,
        env = "ANNULUS_BRIDGE_QUIET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub quiet: Option<bool>,
    /// Also on file systems on which the guarantees are not known to hold.
    #[arg(
        long,
        env = "ANNULUS_BRIDGE_FORCE_FILE_SYSTEM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub force_file_system: Option<bool>,
}

/// A number of seconds above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds(pub Duration);

/// A number of bytes, with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Where metrics are served, if they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics(pub Option<SocketAddr>);

impl Layer {
    /// Reads a file.
    pub fn of_file(path: &Path) -> Result<Self, Failure> {
        let what = format!("cannot read `{}`", path.display());
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::because(&what, &error))?;
        toml::from_str(&text).map_err(|error| {
            // Not the error's own text: that shows the whole line, which may hold a password.
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            Failure::new(format_args!("{what}: line {line}: {}", error.message()))
        })
    }

    /// What this one says, and of what it does not say, what `below` says.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            source: self.source.or(below.source),
            destination: self.destination.or(below.destination),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            silence: self.silence.or(below.silence),
            window_records: self.window_records.or(below.window_records),
            window_bytes: self.window_bytes.or(below.window_bytes),
            metrics: self.metrics.or(below.metrics),
            log: self.log.or(below.log),
            log_level: self.log_level.or(below.log_level),
            quiet: self.quiet.or(below.quiet),
            force_file_system: self.force_file_system.or(below.force_file_system),
        }
    }

    /// What is usual.
    pub fn usual() -> Self {
        let settings = Settings::default();
        Self {
            source: None,
            destination: None,
            drain_timeout: Some(Seconds(settings.drain_timeout)),
            silence: Some(Seconds(settings.silence)),
            window_records: Some(settings.window_records),
            window_bytes: Some(Bytes(settings.window_bytes)),
            metrics: Some(Metrics(None)),
            log: Some(Format::Text),
            log_level: Some("info".to_owned()),
            quiet: Some(false),
            force_file_system: Some(false),
        }
    }

    /// The environment's wish that is not ours alone.
    pub fn of_rust_log() -> Self {
        let log_level = std::env::var("RUST_LOG").ok();
        Self {
            log_level: log_level.filter(|level| !level.is_empty()),
            ..Self::default()
        }
    }

    /// As a file that says the same, without its secrets.
    pub fn to_toml(&self) -> Result<String, Failure> {
        let mut shown = self.clone();
        for end in [&mut shown.source, &mut shown.destination] {
            *end = end.take().map(|end| printed(&end));
        }
        toml::to_string(&shown).map_err(|error| Failure::because("cannot print", &error))
    }
}

/// Variables that look like ours, and are not.
pub fn strangers() -> Vec<String> {
    let command = Layer::augment_args(clap::Command::new("bridge"));
    let known = |name: &str| {
        name == "ANNULUS_BRIDGE_CONFIG"
            || command
                .get_arguments()
                .any(|arg| arg.get_env().is_some_and(|env| env == name))
    };
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with(PREFIX) && !known(name))
        .collect()
}

/// Reads an end; which one is told, and no secret of it.
pub fn end(which: &str, text: Option<&str>) -> Result<End, Failure> {
    let missing = || {
        Failure::new(format_args!("the {which} is missing"))
            .hint("e.g. annulus bridge ring:/dev/shm/orders tcp-listen://0.0.0.0:7400")
    };
    let text = text.ok_or_else(missing)?;
    text.parse().map_err(|error| {
        let what = format!("`{}` is no {which}", printed(text));
        Failure::because(what, &error)
    })
}

/// An end as others may see it.
pub fn printed(end: &str) -> String {
    let Ok(mut url) = Url::parse(end) else {
        // Where a secret would begin cannot be told.
        let scheme = end.split_once(':').map_or("", |(scheme, _)| scheme);
        return format!("{scheme}:...");
    };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return format!("{}:...", url.scheme());
    }
    // A secret is a file's path, which may be seen; what is no path may be the secret itself.
    let is_secret =
        |key: &str, value: &str| key == "password" || key == "secret" && !value.contains('/');
    if url
        .query_pairs()
        .any(|(key, value)| is_secret(&key, &value))
    {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let mut query = url.query_pairs_mut();
        query.clear();
        for (key, value) in &pairs {
            query.append_pair(key, if is_secret(key, value) { "***" } else { value });
        }
        drop(query);
        return url.into();
    }
    if url.password().is_some() {
        return url.into();
    }
    end.to_owned()
}

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().and_then(Self::new);
        number.ok_or("expected a number of seconds above 0")
    }
}

impl Seconds {
    fn new(number: f64) -> Option<Self> {
        let duration = Duration::try_from_secs_f64(number).ok()?;
        (!duration.is_zero()).then_some(Self(duration))
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<ByteSize>().map(|size| Self(size.as_u64()))
    }
}

impl FromStr for Metrics {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        let address = text.parse().map(|address| Self(Some(address)));
        address.map_err(|_| "expected an address and a port, e.g. 127.0.0.1:9464, or off")
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = f64::deserialize(from)?;
        let expected = "expected a number of seconds above 0";
        Self::new(number).ok_or_else(|| serde::de::Error::custom(expected))
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.as_secs_f64().serialize(to)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        ByteSize::deserialize(from).map(|size| Self(size.as_u64()))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.to_string().serialize(to)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => write!(f, "off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::printed;

    #[test]
    fn an_end_is_printed_without_its_secrets() {
        for (end, expected) in [
            ("ring:/dev/shm/a b", "ring:/dev/shm/a b"),
            ("tcp://10.0.0.2:7400?name=x", "tcp://10.0.0.2:7400?name=x"),
            (
                "amqp://me:hunter2@host/%2f?queue=q",
                "amqp://me:***@host/%2f?queue=q",
            ),
            ("amqp://:hunter2@host/", "amqp://:***@host/"),
            (
                "tcp://host:1?secret=hunter2&name=x",
                "tcp://host:1?secret=***&name=x",
            ),
            ("tcp://host:1?secret=/run/s", "tcp://host:1?secret=/run/s"),
            ("amqp://me:hunter2@ho st/", "amqp:..."),
            ("hunter2", ":..."),
        ] {
            assert_eq!(printed(end), expected);
        }
    }
}
