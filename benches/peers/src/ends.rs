//! What the links of several peers share: ends that one player takes, rooms for values, waiting for
//! what another player makes.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use annulus_lab::transport::Cannot;
use annulus_lab::{Payload, Work};

/// An end of a queue for threads. It lies in the link until its player comes for it.
pub(crate) struct End<T>(Mutex<Option<T>>);

impl<T> End<T> {
    pub(crate) fn new(end: T) -> Self {
        Self(Mutex::new(Some(end)))
    }

    /// Hands the end over, once.
    pub(crate) fn take(&self) -> Result<T, Cannot> {
        let mut end = self.0.lock().expect("nobody panics with it");
        end.take()
            .ok_or_else(|| Cannot("it has one such end".into()))
    }
}

/// The error of a peer, as the report shows it.
pub(crate) fn cannot(error: impl Display) -> Cannot {
    Cannot(error.to_string())
}

/// Refuses payloads that have no type, for peers that carry values.
pub(crate) fn expect_values<P: Payload>(work: &Work) -> Result<(), Cannot> {
    if size_of::<P::Value>() == work.payload {
        return Ok(());
    }
    Err(Cannot(format!(
        "it carries values, and none of {} bytes is compiled in",
        work.payload
    )))
}

/// Refuses more than one player on a side.
pub(crate) fn expect_one_each(work: &Work) -> Result<(), Cannot> {
    if (work.producers, work.consumers) == (1, 1) {
        return Ok(());
    }
    Err(Cannot("it has one producer and one consumer".into()))
}

/// Attaches to what another player makes at this very moment.
///
/// Whoever waits here needs the other player, who waits for nobody; the bound is for one that died.
pub(crate) fn attach<T, E: Display>(
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, Cannot> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(attached) => return Ok(attached),
            Err(error) if Instant::now() > deadline => {
                return Err(Cannot(format!("{error}, for {PATIENCE:?}")));
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}
