//! The ends of a bridge, as one writes them.
//!
//! ```text
//! ring:/dev/shm/orders                        a ring
//! tcp://10.0.0.2:7400                         calls that address
//! tcp-listen://0.0.0.0:7400?subscribers=2     is called there
//! tls://orders.example:7401?ca=ca.pem         the same, encrypted
//! unix:/run/orders.sock  unix-listen:/run/orders.sock
//! amqp://localhost/%2f?queue=orders           a broker
//! amqps://broker.example/%2f?queue=orders     the same, encrypted
//! ```
//!
//! Options follow a `?`. One that is not known, is given twice, or means nothing at that end is
//! refused: a misspelt policy must not become a default.

mod amqp;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

#[cfg(feature = "bridge-amqp")]
pub(super) use amqp::TAG_IN_KEY;
pub use amqp::{AmqpEnd, ExchangeType, Password};

use super::adapter::Mode;
use super::error::BridgeError;
use super::frame::is_name;

/// One end of a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A ring of this machine.
    Ring(RingEnd),
    /// A socket.
    Socket(SocketEnd),
    /// A broker that speaks AMQP 0-9-1.
    Amqp(Box<AmqpEnd>),
}

/// A ring, and how it is written to; a ring that is read has no options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingEnd {
    /// Its file.
    pub path: PathBuf,
    /// Goes on behind the records that it holds with those of another ring.
    pub accept_other_source: Option<bool>,
    /// Opens it if it is closed.
    pub reopen: Option<bool>,
}

/// A socket and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEnd {
    /// Where.
    pub address: Address,
    /// Whether it calls or is called.
    pub mode: Mode,
    /// If it is encrypted.
    pub tls: Option<Credentials>,
    /// The file of what both ends know and have to prove.
    pub secret: Option<PathBuf>,
    /// What is spoken.
    pub framing: Framing,
    /// Receiving: under which name the sender is to remember us.
    pub name: Option<String>,
    /// Sending: how many must have a record before it is released.
    pub subscribers: Option<u32>,
    /// Sending: what becomes of those who are slow.
    pub slow: Option<Slow>,
    /// Sending: how many bytes behind the newest is slow.
    pub lag_bytes: Option<u64>,
    /// Sending: names of subscribers that are no longer waited for.
    pub forget: Vec<String>,
    /// Of a UNIX socket: whose processes may be at the other end; anybody's if it is empty.
    pub allow_uid: Vec<u32>,
}

/// An address of one of two families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp {
        /// A name or a number.
        host: String,
        /// 0 for any, if it listens.
        port: u16,
    },
    /// UNIX.
    Unix {
        /// The socket's file.
        path: PathBuf,
    },
}

/// Files of a TLS end, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// By whom the other end's certificate has to be signed. Without it who calls trusts whom the
    /// system trusts, and who listens lets everybody in.
    pub ca: Option<PathBuf>,
    /// This end's certificate, and those between it and its root.
    pub cert: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
}

/// What is spoken over a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// The protocol of the bridges, with confirmations.
    #[default]
    Annulus,
    /// A record a line. Nothing is ever confirmed.
    Lines,
    /// A little-endian u32 of length, then the record. Nothing is ever confirmed.
    Len32,
}

/// What becomes of a subscriber that is too far behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// The ring fills up, and its producer waits.
    #[default]
    Block,
    /// It is disconnected, and no longer waited for until it comes back.
    Disconnect,
    /// It is told of a gap, and goes on at the newest record.
    Drop,
}

/// Why a text is no end of a bridge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndError {
    /// It is no URL.
    #[error("not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// Its scheme is none of ours.
    #[error(
        "`{0}:` is no end of a bridge; there are ring:, tcp://, tcp-listen://, \
         tls://, tls-listen://, unix:, unix-listen:, amqp:// and amqps://"
    )]
    Scheme(String),
    /// Something is missing, or there is too much of it.
    #[error("{0}")]
    Form(&'static str),
    /// An option that is not known here.
    #[error("`{key}` is no option of `{scheme}:`; there {}", listed(.known))]
    UnknownOption {
        /// Its name.
        key: String,
        /// Whose option it is not.
        scheme: String,
        /// Those that there are.
        known: &'static [&'static str],
    },
    /// An option that is given twice.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// A value that the option does not take.
    #[error("`{key}={value}`: expected {expected}")]
    Value {
        /// The option.
        key: String,
        /// What stands there.
        value: String,
        /// What may stand there.
        expected: &'static str,
    },
}

fn listed(known: &[&str]) -> String {
    match known {
        [one] => format!("is {one}"),
        many => format!("are {}", many.join(", ")),
    }
}

const RING_OPTIONS: &[&str] = &["accept-other-source", "reopen"];
const SOCKET_OPTIONS: &[&str] = &[
    "framing",
    "name",
    "subscribers",
    "slow",
    "lag",
    "forget",
    "secret",
];
const TLS_OPTIONS: &[&str] = &[
    "framing",
    "name",
    "subscribers",
    "slow",
    "lag",
    "forget",
    "secret",
    "ca",
    "cert",
    "key",
];
const UNIX_OPTIONS: &[&str] = &[
    "framing",
    "name",
    "subscribers",
    "slow",
    "lag",
    "forget",
    "secret",
    "allow_uid",
];

impl FromStr for End {
    type Err = EndError;

    fn from_str(text: &str) -> Result<Self, EndError> {
        let url = Url::parse(text)?;
        if url.fragment().is_some() {
            return Err(EndError::Form("a `#` must be written %23"));
        }
        if matches!(url.scheme(), "amqp" | "amqps") {
            return Ok(Self::Amqp(Box::new(amqp::amqp_end(&url)?)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndError::Form(
                "there are no users at this end, and others can see a command's arguments",
            ));
        }
        let mode = match url.scheme() {
            "tcp-listen" | "tls-listen" | "unix-listen" => Mode::Listen,
            _ => Mode::Dial,
        };
        match url.scheme() {
            "ring" => Ok(Self::Ring(ring_end(&url)?)),
            "tcp" | "tcp-listen" | "tls" | "tls-listen" => {
                Ok(Self::Socket(socket_end(&url, tcp(&url)?, mode)?))
            }
            "unix" | "unix-listen" => {
                let path = file_path(&url)?;
                Ok(Self::Socket(socket_end(
                    &url,
                    Address::Unix { path },
                    mode,
                )?))
            }
            other => Err(EndError::Scheme(other.to_owned())),
        }
    }
}

fn ring_end(url: &Url) -> Result<RingEnd, EndError> {
    let mut end = RingEnd {
        path: file_path(url)?,
        accept_other_source: None,
        reopen: None,
    };
    for (key, value) in options(url, RING_OPTIONS)? {
        let wish = match value.as_str() {
            "yes" => true,
            "no" => false,
            _ => return Err(wrong(key, value, "yes or no")),
        };
        match key.as_str() {
            "reopen" => end.reopen = Some(wish),
            _ => end.accept_other_source = Some(wish),
        }
    }
    Ok(end)
}

fn socket_end(url: &Url, address: Address, mode: Mode) -> Result<SocketEnd, EndError> {
    let mut end = SocketEnd {
        address,
        mode,
        tls: url.scheme().starts_with("tls").then(Credentials::default),
        secret: None,
        framing: Framing::Annulus,
        name: None,
        subscribers: None,
        slow: None,
        lag_bytes: None,
        forget: Vec::new(),
        allow_uid: Vec::new(),
    };
    let known = match (&end.address, &end.tls) {
        (_, Some(_)) => TLS_OPTIONS,
        (Address::Tcp { .. }, None) => SOCKET_OPTIONS,
        (Address::Unix { .. }, None) => UNIX_OPTIONS,
    };
    for (key, value) in options(url, known)? {
        if let Some(files) = &mut end.tls
            && let Some(file) = files.file(&key)
        {
            *file = Some(value.into());
            continue;
        }
        match key.as_str() {
            "framing" => end.framing = framing(key, value)?,
            "name" => end.name = Some(name(key, value)?),
            "forget" => end.forget.push(name(key, value)?),
            "slow" => end.slow = Some(slow(key, value)?),
            "secret" => end.secret = Some(secret(value)?),
            "allow_uid" => end.allow_uid = uids(key, value)?,
            "subscribers" => {
                let most = crate::layout::SUBSCRIBERS;
                let found = value.parse().ok().filter(|n| (1..=most).contains(n));
                let found = found.and_then(|n| u32::try_from(n).ok());
                end.subscribers = Some(found.ok_or_else(|| wrong(key, value, "1 to 16"))?);
            }
            _ => {
                let found = value.parse().ok().filter(|bytes| *bytes > 0);
                end.lag_bytes = Some(found.ok_or_else(|| wrong(key, value, "a number of bytes"))?);
            }
        }
    }
    if end.tls.is_some() && end.framing != Framing::Annulus {
        return Err(EndError::Form(
            "over TLS there is only framing=annulus: of a plain peer it is not known what has left \
             this end",
        ));
    }
    if end.secret.is_some() && end.framing != Framing::Annulus {
        return Err(EndError::Form(
            "with `secret=` there is only framing=annulus: a plain peer proves nothing",
        ));
    }
    Ok(end)
}

/// A secret's file. What has no `/` may be the secret itself, and is not said again.
fn secret(value: String) -> Result<PathBuf, EndError> {
    if value.contains('/') {
        return Ok(value.into());
    }
    Err(EndError::Form(
        "`secret=` is the path of a file, with a / in it as in ./ours.secret; the secret itself \
         belongs into that file",
    ))
}

impl Credentials {
    /// The file of an option's name.
    fn file(&mut self, key: &str) -> Option<&mut Option<PathBuf>> {
        match key {
            "ca" => Some(&mut self.ca),
            "cert" => Some(&mut self.cert),
            "key" => Some(&mut self.key),
            _ => None,
        }
    }
}

fn framing(key: String, value: String) -> Result<Framing, EndError> {
    match value.as_str() {
        "annulus" => Ok(Framing::Annulus),
        "lines" => Ok(Framing::Lines),
        "len32" => Ok(Framing::Len32),
        _ => Err(wrong(key, value, "annulus, lines or len32")),
    }
}

fn slow(key: String, value: String) -> Result<Slow, EndError> {
    match value.as_str() {
        "block" => Ok(Slow::Block),
        "disconnect" => Ok(Slow::Disconnect),
        "drop" => Ok(Slow::Drop),
        _ => Err(wrong(key, value, "block, disconnect or drop")),
    }
}

fn uids(key: String, value: String) -> Result<Vec<u32>, EndError> {
    let all: Result<Vec<u32>, _> = value.split(',').map(str::parse).collect();
    all.map_err(|_| wrong(key, value, "numbers of users, as in 1000,0"))
}

fn name(key: String, value: String) -> Result<String, EndError> {
    if is_name(&value) {
        Ok(value)
    } else {
        Err(wrong(key, value, "1 to 56 bytes without white space"))
    }
}

fn wrong(key: String, value: String, expected: &'static str) -> EndError {
    EndError::Value {
        key,
        value,
        expected,
    }
}

/// All options, each of them known and, but for `forget`, there once.
fn options(url: &Url, known: &'static [&'static str]) -> Result<Vec<(String, String)>, EndError> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (key, value) in url.query_pairs() {
        if !known.contains(&&*key) {
            return Err(EndError::UnknownOption {
                key: key.into_owned(),
                scheme: url.scheme().to_owned(),
                known,
            });
        }
        if key != "forget" && found.iter().any(|(other, _)| *other == key) {
            return Err(EndError::Twice(key.into_owned()));
        }
        found.push((key.into_owned(), value.into_owned()));
    }
    Ok(found)
}

fn tcp(url: &Url) -> Result<Address, EndError> {
    if !matches!(url.path(), "" | "/") {
        return Err(EndError::Form("a TCP end has no path"));
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or(EndError::Form(
        "a host is missing, e.g. tcp://10.0.0.2:7400",
    ))?;
    let port = url.port().ok_or(EndError::Form(
        "a port is missing, e.g. tcp://10.0.0.2:7400",
    ))?;
    // An IPv6 address stands in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = decoded(host).into_string();
    Ok(Address::Tcp {
        host: host.map_err(|_| EndError::Form("the host is not UTF-8"))?,
        port,
    })
}

fn file_path(url: &Url) -> Result<PathBuf, EndError> {
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(EndError::Form(
            "a path follows the colon, e.g. ring:/dev/shm/orders",
        ));
    }
    let path = decoded(url.path());
    if path.is_empty() || path.as_encoded_bytes().contains(&0) {
        return Err(EndError::Form(
            "a path is missing, e.g. ring:/dev/shm/orders",
        ));
    }
    Ok(path.into())
}

fn decoded(text: &str) -> OsString {
    OsString::from_vec(percent_decode_str(text).collect())
}

impl SocketEnd {
    /// Refuses what only a receiving end may say.
    pub(super) fn check_sending(&self) -> Result<(), BridgeError> {
        let has = |key, given: bool| given.then_some(key);
        if let Some(key) = has("name", self.name.is_some()) {
            let why = "it is the receiving end's name";
            return Err(BridgeError::Option { key, why });
        }
        if self.framing == Framing::Annulus {
            let serves_one = self.mode == Mode::Dial && self.subscribers.unwrap_or(1) > 1;
            if let Some(key) = has("subscribers", serves_one) {
                let why = "a sender that calls serves the one that it calls";
                return Err(BridgeError::Option { key, why });
            }
            let blocks = self.slow.unwrap_or_default() == Slow::Block;
            if let Some(key) = has("lag", self.lag_bytes.is_some() && blocks) {
                let why = "it is for slow=disconnect and slow=drop";
                return Err(BridgeError::Option { key, why });
            }
            return Ok(());
        }
        let asks = has("subscribers", self.subscribers.is_some())
            .or(has("slow", self.slow.is_some()))
            .or(has("lag", self.lag_bytes.is_some()))
            .or(has("forget", !self.forget.is_empty()));
        let why = "a plain peer has no name and confirms nothing";
        asks.map_or(Ok(()), |key| Err(BridgeError::Option { key, why }))
    }

    /// Refuses what only a sending end may say.
    pub(super) fn check_receiving(&self) -> Result<(), BridgeError> {
        let has = |key, given: bool| given.then_some(key);
        let asks = has("subscribers", self.subscribers.is_some())
            .or(has("slow", self.slow.is_some()))
            .or(has("lag", self.lag_bytes.is_some()))
            .or(has("forget", !self.forget.is_empty()));
        if let Some(key) = asks {
            let why = "it is for the end that sends";
            return Err(BridgeError::Option { key, why });
        }
        if self.framing != Framing::Annulus && self.name.is_some() {
            let (key, why) = ("name", "a plain peer remembers nobody");
            return Err(BridgeError::Option { key, why });
        }
        Ok(())
    }
}
