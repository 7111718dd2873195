//! A participant of a mapped ring, as its handle holds it.
//!
//! # Invariants
//! 1. While a `Mapped` exists in the process that made it, its row is in use and its lock is held.
//! 2. Takeovers by one attachment happen one at a time: they lock D2, and a description does not
//!    conflict with itself.
//! 3. In a forked child nothing of it is touched: the mapping is not there, D2 is closed.
//!
//! # After a crash
//! Dead in [`Drop`] before the row is FREE: as dead while attached. After it: the kernel does the
//! rest.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use crate::geometry::Geometry;
use crate::layout::{ROW_FREE, Row};
use crate::protocol::recovery::{self, Shape};
use crate::protocol::{
    Attachment, ElementType, Gone, Loss, Owner, Recovered, Store, ZeroCopy, owners,
};
use crate::sync::Ordering;

use super::Role;
use super::attach::{AttachOptions, Guarding, join};
use super::error::AttachError;
use super::fork::Private;
use super::liveness::{Bytes, is_free};
use super::location::share;
use super::map::{Map, Near};
use super::open::Opened;
use super::recover::{mend_others, report};

/// A participant of a ring in a mapped file. Dropping it detaches.
#[derive(Debug)]
pub struct Mapped {
    map: ManuallyDrop<Map>,
    /// D1, where the mapping alone does not keep the lock.
    pin: Option<Private>,
    /// D2 and what was read through it.
    opened: Opened,
    shape: Shape,
    me: Owner,
    options: AttachOptions,
    takeover: Mutex<()>,
}

impl Mapped {
    /// A participant whose row is in use and whose lock is held.
    pub(super) fn new(
        mut map: Map,
        pin: Option<Private>,
        opened: Opened,
        me: Owner,
        options: &AttachOptions,
    ) -> Self {
        map.belong_to(me);
        Self {
            map: ManuallyDrop::new(map),
            pin,
            shape: opened.geometry.shape(),
            opened,
            me,
            options: options.clone(),
            takeover: Mutex::new(()),
        }
    }

    /// Attaches one more participant to the same file.
    ///
    /// # Errors
    /// `NoRow` or `RoleTaken` if there is no room; `Forked` in a child.
    pub fn another(&self, role: Role) -> Result<Self, AttachError> {
        if !self.is_here() {
            return Err(AttachError::Forked);
        }
        // Of the same file even if its name has gone.
        let opened = Opened {
            path: None,
            ..self.opened.again()?
        };
        let joined = join(opened, role, &self.options, Guarding::Off)?;
        let mut another = joined.ok_or(AttachError::Replaced)?;
        another.opened.path.clone_from(&self.opened.path);
        Ok(another)
    }

    /// A freshly opened description of the file, for another process.
    ///
    /// # Errors
    /// Those of opening `/proc/self/fd`.
    pub fn share(&self) -> io::Result<OwnedFd> {
        share(&self.opened.file)
    }

    /// The numbers of the ring.
    pub fn geometry(&self) -> &Geometry {
        &self.opened.geometry
    }

    /// The ring's random name.
    pub fn ring_id(&self) -> [u8; 16] {
        self.opened.header.ring_id
    }

    /// Whether somebody of the other role lives. Roles are for display, and this decides nothing
    /// but what a waiter is told whose ring has no name.
    fn has_peers(&self) -> bool {
        let role = |owner| {
            // relaxed: display only.
            self.map.row(owner).role.load(Ordering::Relaxed)
        };
        let mine = role(self.me);
        owners(&*self.map).any(|owner| role(owner) != mine && self.is_alive(owner))
    }

    /// Whether part of the file was gone when it attached, or has gone since.
    pub(super) fn check_whole(self) -> Result<Self, AttachError> {
        if self.map.is_cut() {
            return Err(AttachError::CutShort(self.opened.cut()));
        }
        Ok(self)
    }

    /// Which life of the ring's content this is.
    pub fn generation(&self) -> u64 {
        self.opened.header.generation
    }
}

impl Attachment for Mapped {
    type Store = Map;
    type Near<'a> = Near<'a>;
    const COPY_BY_WORDS: bool = false;
    const GUARDED: bool = false;
    const IN_ONE_PROCESS: bool = false;

    #[inline]
    fn store(&self) -> &Map {
        &self.map
    }

    #[inline]
    fn near(&self) -> Near<'_> {
        self.map.near()
    }

    #[inline]
    fn me(&self) -> Owner {
        self.me
    }

    #[inline]
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn element(&self) -> Option<&ElementType> {
        self.opened.geometry.element.as_ref()
    }

    fn mend(&self) -> Recovered {
        if !self.is_here() {
            return Recovered::default();
        }
        let one = self.takeover.lock().unwrap_or_else(PoisonError::into_inner);
        let done = mend_others(
            &self.map,
            self.opened.lock_file(),
            &self.shape,
            Some(self.me),
        );
        drop(one);
        report(&done);
        done
    }

    fn is_alive(&self, owner: Owner) -> bool {
        // What cannot be probed is not dead.
        recovery::in_use(&*self.map, owner)
            && !is_free(self.opened.lock_file(), Bytes::row(owner)).unwrap_or(false)
    }

    #[inline]
    fn row(&self) -> &Row {
        self.map.own_row()
    }

    #[inline]
    fn is_here(&self) -> bool {
        self.opened.file.is_here()
    }

    fn gone(&self) -> Gone {
        Gone::Forked
    }

    fn loss(&self) -> Option<Loss> {
        if !self.is_here() {
            return None;
        }
        self.opened.loss(|| self.has_peers())
    }
}

impl ZeroCopy for Mapped {}

/// A participant to whom a file that somebody cuts short is an error and not SIGBUS.
///
/// See `attach_guarded` of the handles. It costs a look at a mark with each operation, and a load
/// from each page of a record before it is lent.
#[derive(Debug)]
pub struct Guarded(Mapped);

impl Guarded {
    /// Of a mapping that is watched.
    pub(super) fn new(mapped: Mapped) -> Self {
        Self(mapped)
    }

    /// The participant itself.
    pub fn mapped(&self) -> &Mapped {
        &self.0
    }
}

impl Attachment for Guarded {
    type Store = Map;
    type Near<'a> = Near<'a>;
    const COPY_BY_WORDS: bool = false;
    const GUARDED: bool = true;
    const IN_ONE_PROCESS: bool = false;

    #[inline]
    fn store(&self) -> &Map {
        self.0.store()
    }

    #[inline]
    fn near(&self) -> Near<'_> {
        self.0.near()
    }

    #[inline]
    fn me(&self) -> Owner {
        self.0.me()
    }

    #[inline]
    fn row(&self) -> &Row {
        self.0.row()
    }

    #[inline]
    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    fn element(&self) -> Option<&ElementType> {
        self.0.element()
    }

    fn mend(&self) -> Recovered {
        if self.is_here() {
            self.0.mend()
        } else {
            Recovered::default()
        }
    }

    fn is_alive(&self, owner: Owner) -> bool {
        self.0.is_alive(owner)
    }

    #[inline]
    fn is_here(&self) -> bool {
        self.0.is_here() && !self.0.map.is_cut()
    }

    fn gone(&self) -> Gone {
        if self.0.is_here() {
            Gone::CutShort(self.0.opened.cut())
        } else {
            Gone::Forked
        }
    }

    fn loss(&self) -> Option<Loss> {
        if self.0.is_here() && self.0.map.is_cut() {
            return Some(Loss::CutShort(self.0.opened.cut()));
        }
        self.0.loss()
    }
}

impl ZeroCopy for Guarded {}

impl Drop for Mapped {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        // sync(row-state): release half.
        self.map
            .row(self.me)
            .state
            .store(ROW_FREE, Ordering::Release);
        // SAFETY: dropped here and nowhere else, and nothing uses `map` after this; guards borrow
        // the handle and are gone. It unmaps, and with that lets go of the lock.
        unsafe { ManuallyDrop::drop(&mut self.map) };
        self.pin = None;
    }
}

/// A participant of a ring whose other participants may write anything anywhere at any time.
#[derive(Debug)]
pub struct Untrusted(Mapped);

impl Untrusted {
    /// Of a file that nobody can make shorter.
    pub(super) fn new(mapped: Mapped) -> Self {
        Self(mapped)
    }

    /// The participant itself.
    pub fn mapped(&self) -> &Mapped {
        &self.0
    }
}

impl Attachment for Untrusted {
    type Store = Map;
    type Near<'a> = Near<'a>;
    const COPY_BY_WORDS: bool = true;
    const GUARDED: bool = false;
    const IN_ONE_PROCESS: bool = false;

    #[inline]
    fn store(&self) -> &Map {
        self.0.store()
    }

    #[inline]
    fn near(&self) -> Near<'_> {
        self.0.near()
    }

    #[inline]
    fn me(&self) -> Owner {
        self.0.me()
    }

    #[inline]
    fn row(&self) -> &Row {
        self.0.row()
    }

    #[inline]
    fn shape(&self) -> &Shape {
        self.0.shape()
    }

    fn element(&self) -> Option<&ElementType> {
        self.0.element()
    }

    fn mend(&self) -> Recovered {
        self.0.mend()
    }

    fn is_alive(&self, owner: Owner) -> bool {
        self.0.is_alive(owner)
    }

    #[inline]
    fn is_here(&self) -> bool {
        self.0.is_here()
    }

    fn gone(&self) -> Gone {
        self.0.gone()
    }

    fn loss(&self) -> Option<Loss> {
        self.0.loss()
    }
}
