//! Why a bridge cannot go on, and why a connection ended.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::frame::{Code, FrameError, StreamId};
use crate::segment::AttachError;
use crate::{Damage, Loss};

/// Why a bridge cannot go on, whatever its peer does.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BridgeError {
    /// The ring cannot be attached to.
    #[error("cannot attach to the ring")]
    Attach(#[from] AttachError),
    /// The two ends do not make a bridge.
    #[error("{0}")]
    Ends(&'static str),
    /// An option of an end that this direction does not have.
    #[error("`{key}` means nothing here: {why}")]
    Option {
        /// Its name.
        key: &'static str,
        /// Where it has a meaning.
        why: &'static str,
    },
    /// The ring is closed: nothing can be committed.
    #[error("the ring is closed")]
    Closed,
    /// The ring's file was removed, replaced or cut short.
    #[error("the ring's file is gone: {0:?}")]
    Lost(Loss),
    /// The handle belongs to the process that forked this one.
    #[error("the handle belongs to the process that forked this one")]
    Forked,
    /// The ring's memory holds something that no correct participant writes.
    #[error("the ring is damaged: {0}")]
    Damaged(#[from] Damage),
    /// The peer will not talk to us, now or later.
    #[error("{peer} refuses: {text}")]
    Refused {
        /// Who.
        peer: String,
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        text: String,
    },
    /// The sender has another ring than the one whose records we hold.
    #[error("{peer} sends another ring's records than those held here")]
    OtherStream {
        /// Who.
        peer: String,
        /// Of which there are records here.
        held: StreamId,
        /// Of which records would come.
        sent: StreamId,
    },
    /// A record that the destination's ring can never hold.
    #[error("a record of {len} bytes is too long, the destination takes at most {max}")]
    RecordTooLong {
        /// Its bytes.
        len: u64,
        /// The longest that fits.
        max: u64,
    },
    /// The place to listen at is not to be had.
    #[error("cannot listen at {at}")]
    Listen {
        /// Where.
        at: String,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or a key is missing, or is none.
    #[error("cannot use {}: {why}", .path.display())]
    Credentials {
        /// Its file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Others can read a secret.
    #[error("cannot use {}: others may read or write it, its mode is {mode:04o}", .path.display())]
    Exposed {
        /// Its file.
        path: PathBuf,
        /// Who may do what.
        mode: u32,
    },
    /// The system refused a descriptor, a thread, or a wait.
    #[error("cannot {step}")]
    System {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl BridgeError {
    pub(super) fn system(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { step, source }
    }

    /// The ring cannot be waited for.
    pub(super) fn unwatched(source: io::Error) -> Self {
        Self::system("watch the ring")(source)
    }

    /// Whether the ring is still there to be waited for, once it has been armed.
    pub(super) fn armed(armed: io::Result<()>, loss: Option<Loss>) -> Result<(), Self> {
        armed.map_err(Self::unwatched)?;
        loss.map_or(Ok(()), |loss| Err(Self::Lost(loss)))
    }

    /// What one may do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::OtherStream { .. }
            | Self::Refused {
                code: Code::OtherStream,
                ..
            } => {
                "if the destination is to go on with the new ring's records, behind those that it \
                 holds, say `?accept-other-source=yes` once at its end"
            }
            Self::Refused {
                code: Code::NotInvited,
                ..
            } => {
                "raise `subscribers=` at the sending end, or give a place up there with \
                 `forget=NAME`"
            }
            Self::Refused {
                code: Code::Secret, ..
            } => "give both ends a file of the same content with `secret=FILE`, or none",
            Self::Exposed { .. } => {
                "make it its owner's alone (chmod 600), and think of another secret if somebody \
                 else may have seen this one"
            }
            Self::Closed => "open it again with `?reopen=yes`, or `annulus send --reopen`",
            Self::RecordTooLong { .. } => "create the destination with a larger capacity",
            _ => return None,
        })
    }
}

/// Why a connection ended. The next one may go better.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer hung up.
    #[error("the peer hung up")]
    HungUp,
    /// The peer says things that we do not understand.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer says things that make no sense now.
    #[error("the peer {0}")]
    Nonsense(&'static str),
    /// The peer said why it hangs up.
    #[error("the peer refuses: {text}")]
    Refused {
        /// For programs.
        code: Code,
        /// For people.
        text: String,
    },
    /// One end has a secret, and the other one has not proved that it has the same.
    #[error("{0}")]
    Unproved(&'static str),
    /// The peer is another user's process than those who may be there.
    #[error("uid {uid} is not among those of `allow_uid`")]
    Forbidden {
        /// Whose.
        uid: u32,
    },
    /// A broker says no, or is gone.
    #[error("{0}")]
    Broker(String),
    /// Nothing was heard of the peer.
    #[error("the peer is silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// It did not say who it is, or not to the end.
    #[error("the peer has not introduced itself within {} ms", .0.as_millis())]
    Unintroduced(Duration),
    /// It was the one that had taken longest to say who it is.
    #[error("too many others call, and the peer has not introduced itself")]
    Crowded,
    /// Another connection has taken its place.
    #[error("the same subscriber has connected again")]
    Superseded,
    /// It was too far behind, and the policy is to disconnect.
    #[error("it is too far behind")]
    TooSlow,
}

/// What ends more than a connection, or just that.
pub(super) enum Fault {
    Link(LinkError),
    Bridge(BridgeError),
}

impl From<LinkError> for Fault {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        Self::Link(error.into())
    }
}

impl From<BridgeError> for Fault {
    fn from(error: BridgeError) -> Self {
        Self::Bridge(error)
    }
}
