//! Waiting as a future, on tokio's reactor: the pollable descriptor behind an `AsyncFd`.
//!
//! Cancel-safe: at its only await point a wait holds no claim and no record, so a future that is
//! dropped leaves nothing behind.

use std::os::fd::{AsFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Helper;
use crate::protocol::Attachment;

/// A helper whose descriptor is registered with the runtime of the first wait.
#[derive(Debug)]
pub(crate) struct Reactor {
    readable: AsyncFd<OwnedFd>,
}

impl Reactor {
    /// Registers the helper's descriptor with the current runtime.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled. All futures of a handle belong to the runtime in
    /// which its first one waited.
    pub(crate) fn register<A: Attachment>(helper: &Helper<A>) -> std::io::Result<Self> {
        let descriptor = helper.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped, and the `AsyncFd`
        // owns it; nothing takes it out.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self {
            readable: registered.map_err(std::io::Error::from)?,
        })
    }

    /// Waits until the helper signals.
    ///
    /// # Errors
    /// If the runtime shuts down.
    pub(crate) async fn signalled(&self) -> std::io::Result<()> {
        self.readable.readable().await?.clear_ready();
        Ok(())
    }
}
