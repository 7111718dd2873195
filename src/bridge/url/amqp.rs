//! An AMQP end: `amqp://user:password@host:port/vhost?exchange=E&routing_key=K`, or `amqps://`.
//!
//! A password is never shown: not by `Debug`, not in an error. In a command's arguments others can
//! see it, so it may also come from a file or from the environment, and is read anew for each
//! connection.

use core::fmt;
use std::path::PathBuf;

use url::Url;

use super::{Credentials, EndError, decoded, options, wrong};
use crate::bridge::error::BridgeError;

/// A broker, and where in it messages go or come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpEnd {
    /// A name or a number.
    pub host: String,
    /// 5672 if it is not said, and 5671 over TLS.
    pub port: u16,
    /// Over TLS: what that needs. Without an authority it trusts whom the system trusts.
    pub tls: Option<Credentials>,
    /// `/` if it is not said.
    pub vhost: String,
    /// `guest` if it is not said.
    pub user: String,
    /// `guest` if it is not said.
    pub password: Password,
    /// To which messages are published; the default one if it is not said.
    pub exchange: Option<String>,
    /// With which messages are published, or a queue is bound. `{tag}` in it stands for the
    /// record's tag, and for any tag where a queue is bound.
    pub routing_key: Option<String>,
    /// From which messages come, or that is bound to the exchange.
    pub queue: Option<String>,
    /// Creates exchange, queue and binding; else they must exist.
    pub declare: bool,
    /// Whether what is created outlives the broker; it does if it is not said.
    pub durable: Option<bool>,
    /// The kind of an exchange that is created; direct if it is not said.
    pub exchange_type: Option<ExchangeType>,
    /// Receiving: most messages that the broker sends ahead of their acknowledgement.
    pub prefetch: Option<u16>,
}

/// What stands in a routing key for the record's tag.
pub(in crate::bridge) const TAG_IN_KEY: &str = "{tag}";

/// The kinds of exchanges that each broker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeType {
    /// By equal routing keys.
    Direct,
    /// To every queue.
    Fanout,
    /// By patterns of routing keys.
    Topic,
    /// By headers.
    Headers,
}

/// Where a password is to be had.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Here.
    Given(String),
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Environment(name) => f.debug_tuple("Environment").field(name).finish(),
        }
    }
}

impl Password {
    /// Reads it, wherever it is.
    #[cfg(feature = "bridge-amqp")]
    pub(in crate::bridge) fn read(&self) -> std::io::Result<String> {
        match self {
            Self::Given(password) => Ok(password.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let why = format!("cannot read {}: {error}", path.display());
                    std::io::Error::new(error.kind(), why)
                })?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            Self::Environment(name) => std::env::var(name).map_err(|_| {
                // What stands there is not told, even if it is no text.
                std::io::Error::other(format!("no password in the variable {name}"))
            }),
        }
    }
}

const AMQP_OPTIONS: &[&str] = &[
    "exchange",
    "exchange_type",
    "routing_key",
    "queue",
    "declare",
    "durable",
    "prefetch",
    "password_file",
    "password_env",
];
const AMQPS_OPTIONS: &[&str] = &[
    "exchange",
    "exchange_type",
    "routing_key",
    "queue",
    "declare",
    "durable",
    "prefetch",
    "password_file",
    "password_env",
    "ca",
    "cert",
    "key",
];

/// A short string of the protocol has one byte for its length.
const NAME_BYTES: usize = 255;

pub(super) fn amqp_end(url: &Url) -> Result<AmqpEnd, EndError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or(EndError::Form(
        "a host is missing, e.g. amqp://localhost/%2f",
    ))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let given = url.password().map(text).transpose()?;
    let mut elsewhere = given.is_some();
    let guest = || "guest".to_owned();
    let (tls, port, known) = if url.scheme() == "amqps" {
        (Some(Credentials::default()), 5671, AMQPS_OPTIONS)
    } else {
        (None, 5672, AMQP_OPTIONS)
    };
    let mut end = AmqpEnd {
        host: text(host)?,
        port: url.port().unwrap_or(port),
        tls,
        vhost: match url.path() {
            "" => "/".to_owned(),
            path => vhost(path)?,
        },
        user: match url.username() {
            "" => guest(),
            user => text(user)?,
        },
        password: Password::Given(given.unwrap_or_else(guest)),
        exchange: None,
        routing_key: None,
        queue: None,
        declare: false,
        durable: None,
        exchange_type: None,
        prefetch: None,
    };
    for (key, value) in options(url, known)? {
        if let Some(files) = &mut end.tls
            && let Some(file) = files.file(&key)
        {
            *file = Some(value.into());
            continue;
        }
        match key.as_str() {
            "exchange" => end.exchange = Some(name(key, value)?),
            "routing_key" => end.routing_key = Some(routing_key(key, value)?),
            "queue" => end.queue = Some(name(key, value)?),
            "declare" => end.declare = yes(key, value)?,
            "durable" => end.durable = Some(yes(key, value)?),
            "exchange_type" => end.exchange_type = Some(exchange_type(key, value)?),
            "prefetch" => {
                let found = value.parse().ok().filter(|count| *count > 0);
                end.prefetch = Some(found.ok_or_else(|| wrong(key, value, "1 to 65535"))?);
            }
            _ => {
                if core::mem::replace(&mut elsewhere, true) {
                    return Err(EndError::Form("the password is given twice"));
                }
                end.password = if key == "password_file" {
                    Password::File(value.into())
                } else {
                    Password::Environment(value)
                };
            }
        }
    }
    Ok(end)
}

fn text(encoded: &str) -> Result<String, EndError> {
    let bytes = decoded(encoded).into_string();
    bytes.map_err(|_| EndError::Form("host, user, password and vhost must be UTF-8"))
}

fn vhost(path: &str) -> Result<String, EndError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.contains('/') {
        return Err(EndError::Form(
            "a `/` of a vhost must be written %2f, e.g. amqp://localhost/%2f",
        ));
    }
    text(path)
}

fn name(key: String, value: String) -> Result<String, EndError> {
    if value.len() <= NAME_BYTES {
        Ok(value)
    } else {
        Err(wrong(key, value, "at most 255 bytes"))
    }
}

/// The longest tag has 10 digits.
fn routing_key(key: String, value: String) -> Result<String, EndError> {
    let longest = value.len() + 10;
    match value.split_once(TAG_IN_KEY) {
        Some((_, behind))
            if behind.contains(TAG_IN_KEY) || longest - TAG_IN_KEY.len() > NAME_BYTES =>
        {
            Err(wrong(
                key,
                value,
                "`{tag}` once, and at most 255 bytes with a tag of 10 digits",
            ))
        }
        _ => name(key, value),
    }
}

fn yes(key: String, value: String) -> Result<bool, EndError> {
    match value.as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(wrong(key, value, "yes or no")),
    }
}

fn exchange_type(key: String, value: String) -> Result<ExchangeType, EndError> {
    match value.as_str() {
        "direct" => Ok(ExchangeType::Direct),
        "fanout" => Ok(ExchangeType::Fanout),
        "topic" => Ok(ExchangeType::Topic),
        "headers" => Ok(ExchangeType::Headers),
        _ => Err(wrong(key, value, "direct, fanout, topic or headers")),
    }
}

impl AmqpEnd {
    /// Where that is, for people: without the password.
    pub fn at(&self) -> String {
        let Self {
            user, port, vhost, ..
        } = self;
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let scheme = if self.tls.is_some() { "amqps" } else { "amqp" };
        format!("{scheme}://{user}@{host}:{port}, vhost {vhost}")
    }

    /// Whether others can see the password in the arguments of a command, and could not guess it.
    pub fn shows_password(&self) -> bool {
        matches!(&self.password, Password::Given(password) if password != "guest")
    }

    /// Refuses what only a receiving end may say.
    pub(in crate::bridge) fn check_sending(&self) -> Result<(), BridgeError> {
        if self.prefetch.is_some() {
            let (key, why) = ("prefetch", "it is for the end that receives");
            return Err(BridgeError::Option { key, why });
        }
        if self.exchange.is_none() && self.routing_key.is_none() {
            return Err(BridgeError::Ends(
                "say where messages go: `?exchange=` and `routing_key=`, or `?routing_key=` with \
                 the name of a queue",
            ));
        }
        self.check_declaring()
    }

    /// Refuses what only a sending end may say.
    pub(in crate::bridge) fn check_receiving(&self) -> Result<(), BridgeError> {
        if self.queue.is_none() {
            let why = "say where messages come from: `?queue=`";
            return Err(BridgeError::Ends(why));
        }
        self.check_declaring()
    }

    fn check_declaring(&self) -> Result<(), BridgeError> {
        let asks = self.durable.map(|_| "durable");
        match asks.or(self.exchange_type.map(|_| "exchange_type")) {
            Some(key) if !self.declare => {
                let why = "it is for what is created, with `declare=yes`";
                Err(BridgeError::Option { key, why })
            }
            _ if self.binds_tags_directly() => {
                let why = "with {tag} a queue is bound for any tag, which needs \
                           `exchange_type=topic`";
                Err(BridgeError::Option {
                    key: "routing_key",
                    why,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a binding would be made that no message finds.
    fn binds_tags_directly(&self) -> bool {
        let direct = matches!(self.exchange_type, None | Some(ExchangeType::Direct));
        let key = self.routing_key.as_deref().unwrap_or_default();
        let binds = self.declare && self.exchange.is_some() && self.queue.is_some();
        direct && binds && key.contains(TAG_IN_KEY)
    }
}
