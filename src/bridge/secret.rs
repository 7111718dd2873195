//! A secret that both ends know: who has it proves it, and shows nothing of it.
//!
//! ```text
//! receiver                                     sender
//!    | hello, with a number of its own            |
//!    |------------------------------------------->|
//!    |           challenge, with a number of its own
//!    |<-------------------------------------------|
//!    | proof of all this, as a receiver           |
//!    |------------------------------------------->|  who is it? its place is looked for now
//!    |     proof of all this and of what follows, as a sender
//!    |<-------------------------------------------|
//!    |                     welcome, or a refusal  |
//!    |<-------------------------------------------|
//! ```
//!
//! A proof is an HMAC with SHA-256 over the very bytes of the frames; `docs/bridge-protocol.md`
//! says of which, and what all that does not give.
//!
//! # Invariants
//! 1. Nothing that is printed has a byte of a secret.
//! 2. A number is said once, so a proof of before proves nothing.
//! 3. A proof is compared in a time that does not depend on where it is wrong.

use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::error::{BridgeError, LinkError};
use super::frame::{Frame, PROOF_BYTES};
use super::link::Link;
use crate::segment::create::random;

/// Fewest bytes of a secret, which is not to be guessed: whoever hears a proof can try guesses.
const FEWEST: usize = 16;
/// Most bytes of its file.
const MOST: u64 = 4096;
/// Of the mode of its file: what others may do to it.
const OTHERS: u32 = 0o077;

/// A secret.
#[derive(Clone)]
pub(super) struct Secret(Box<Hmac<Sha256>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who proves. The one's proof is not the other's, whatever it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Receiver,
    Sender,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Receiver => b"annulus bridge 2 receiver\0",
            Self::Sender => b"annulus bridge 2 sender\0",
        }
    }
}

/// What is proved: which line it is, and what was said there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Greeting(Vec<u8>);

impl Greeting {
    /// Begins with the line's own name, by which both ends know that it has two ends only.
    pub(super) fn new(link: &Link) -> Result<Self, LinkError> {
        Ok(Self(link.binding()?.to_vec()))
    }

    /// Goes on with a frame's bytes.
    pub(super) fn add(&mut self, frame: &[u8]) {
        self.0.extend(frame);
    }

    /// The same, with another frame behind it.
    pub(super) fn with(&self, frame: &[u8]) -> Self {
        Self([&self.0, frame].concat())
    }
}

impl Secret {
    /// Reads it from a file, but for the end of its line.
    pub(super) fn read(path: &Path) -> Result<Self, BridgeError> {
        let refused = |why: String| BridgeError::Credentials {
            path: path.to_owned(),
            why,
        };
        let failed = |error: io::Error| refused(error.to_string());
        let file = File::open(path).map_err(failed)?;
        // Of the file that is open: its name may be another's by now.
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & OTHERS != 0 {
            let (path, mode) = (path.to_owned(), mode & 0o777);
            return Err(BridgeError::Exposed { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(MOST + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MOST {
            return Err(refused(format!("a secret has at most {MOST} bytes")));
        }
        let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < FEWEST {
            return Err(refused(format!("a secret has {FEWEST} bytes at least")));
        }
        Ok(Self::new(secret))
    }

    fn new(secret: &[u8]) -> Self {
        let key = Hmac::new_from_slice(secret).expect("a key of HMAC has any length");
        Self(Box::new(key))
    }

    fn over(&self, role: Role, greeting: &Greeting) -> Hmac<Sha256> {
        Hmac::clone(&self.0)
            .chain_update(role.label())
            .chain_update(&greeting.0)
    }

    /// Proves it.
    pub(super) fn prove(&self, role: Role, greeting: &Greeting) -> [u8; PROOF_BYTES] {
        self.over(role, greeting).finalize().into_bytes().into()
    }

    /// Whether the peer has proved it, in that role.
    pub(super) fn is_proved(
        &self,
        role: Role,
        greeting: &Greeting,
        proof: &[u8; PROOF_BYTES],
    ) -> bool {
        self.over(role, greeting).verify_slice(proof).is_ok()
    }
}

/// What is told to both ends where they do not agree.
pub(super) const RECEIVER_LACKS: &str =
    "the sending end has a secret (`secret=`), and the receiving end has none";
pub(super) const SENDER_LACKS: &str =
    "the receiving end has a secret (`secret=`), and the sending end has none";
pub(super) const RECEIVER_DIFFERS: &str =
    "the receiving end has not proved the sending end's secret";
pub(super) const SENDER_DIFFERS: &str = "the sending end has not proved the receiving end's secret";

/// A number that was never said before.
pub(super) fn nonce() -> Result<[u8; PROOF_BYTES], LinkError> {
    let mut nonce = [0; PROOF_BYTES];
    random(&mut nonce)?;
    Ok(nonce)
}

/// A frame's bytes.
pub(super) fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
