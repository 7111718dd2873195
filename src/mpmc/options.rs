//! How an MPMC ring is made and attached to.

use super::{Consumer, Producer, Redelivery};
use crate::geometry::{Geometry, GeometryError};
use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::heap::{Heap, HeapRing};
use crate::protocol::{Attachment, recovery, slot_ring};
use crate::typed::Element;

/// The numbers of a new MPMC ring.
///
/// # Examples
/// ```
/// use annulus::mpmc;
///
/// // 4096 slots of 240 bytes: with their words, 256 bytes from slot to slot.
/// let options = mpmc::Options::new(4096, 240).participants(32);
/// let path = std::env::temp_dir().join(format!("annulus-doc-{}.ring", std::process::id()));
/// # let path = std::path::Path::new("/dev/shm").join(path.file_name().unwrap());
/// options.create(&path)?;
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    slots: u64,
    slot_bytes: u64,
    participants: u16,
    redelivery: Redelivery,
    element: Option<crate::protocol::ElementType>,
    origin: u64,
}

/// Enough for most, and the rows of a file fit into its first 64 KiB.
const PARTICIPANTS: u16 = if cfg!(loom) { 4 } else { 64 };

impl Options {
    /// A ring of `slots` slots, a power of two from 2 on, for records of 0 to `slot_bytes` bytes.
    /// Each slot takes 16 bytes more, and a multiple of 64 in all.
    pub fn new(slots: u64, slot_bytes: u64) -> Self {
        Self {
            slots,
            slot_bytes,
            participants: PARTICIPANTS,
            redelivery: Redelivery::Unlimited,
            element: None,
            origin: 0,
        }
    }

    /// Most handles attached at a time, 1 to 2047; 64 unless said otherwise.
    #[must_use]
    pub fn participants(mut self, participants: u16) -> Self {
        self.participants = participants;
        self
    }

    /// What becomes of a record whose consumer died holding it; delivered again without limit
    /// unless said otherwise.
    #[must_use]
    pub fn redelivery(mut self, redelivery: Redelivery) -> Self {
        self.redelivery = redelivery;
        self
    }

    /// Makes it a typed ring of `T`: its name, size, alignment and schema stand in the file.
    #[must_use]
    pub fn element<T: Element>(mut self) -> Self {
        self.element = Some(crate::typed::element_type::<T>());
        self
    }

    /// Lets positions begin at `origin`: for tests of what happens when they wrap.
    #[doc(hidden)]
    #[must_use]
    pub fn starting_at(mut self, origin: u64) -> Self {
        self.origin = origin;
        self
    }

    /// The numbers, checked.
    ///
    /// # Errors
    /// If one is out of its range, or the element does not fit.
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        Geometry::mpmc(
            self.slots,
            self.slot_bytes,
            self.participants,
            self.redelivery,
            self.element.clone(),
        )
        .map(|geometry| geometry.starting_at(self.origin))
    }

    /// A ring in the memory of this process. More handles come from `try_clone`.
    ///
    /// # Errors
    /// If a number is out of its range. `participants` must be 2 at least.
    pub fn heap(&self) -> Result<(Producer<Heap>, Consumer<Heap>), GeometryError> {
        let geometry = self.geometry()?;
        let ring = HeapRing::new(
            geometry.shape(),
            geometry.data_bytes,
            geometry.participants,
            geometry.origin,
            geometry.element,
        );
        let attach = |role| HeapRing::attach(&ring, None, role);
        let (Some(producer), Some(consumer)) = (attach(ROLE_PRODUCER), attach(ROLE_CONSUMER))
        else {
            let (what, found) = ("the number of participants", geometry.participants.into());
            let expected = "2 at least: heap rings come with a producer and a consumer".into();
            return Err(GeometryError {
                what,
                found,
                expected,
            });
        };
        Ok((Producer::of(producer), Consumer::of(consumer)))
    }
}

/// The slots' shape of an attachment to an MPMC ring.
fn shape_of<A: Attachment>(attachment: &A) -> slot_ring::Shape {
    match attachment.shape() {
        recovery::Shape::Slots(shape, _) => *shape,
        recovery::Shape::Bytes(_) => unreachable!("attaching checks the kind of the ring"),
    }
}

/// All rows of the heap ring are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {participants} rows of the ring are taken")]
pub struct NoRow {
    /// How many there are.
    pub participants: u16,
}

impl<A: Attachment> Producer<A> {
    pub(super) fn of(attachment: A) -> Self {
        let shape = shape_of(&attachment);
        Self::new(attachment, shape)
    }
}

impl<A: Attachment> Consumer<A> {
    pub(super) fn of(attachment: A) -> Self {
        let shape = shape_of(&attachment);
        Self::new(attachment, shape)
    }
}

fn another(of: &Heap, role: u32) -> Result<Heap, NoRow> {
    use crate::protocol::Store;
    let participants = of.store().participants();
    HeapRing::attach(of.ring(), None, role).ok_or(NoRow { participants })
}

impl Producer<Heap> {
    /// Attaches another producer.
    ///
    /// # Errors
    /// If all rows are taken.
    pub fn try_clone(&self) -> Result<Self, NoRow> {
        another(self.participant().attachment(), ROLE_PRODUCER).map(Self::of)
    }
}

impl Consumer<Heap> {
    /// Attaches another consumer.
    ///
    /// # Errors
    /// If all rows are taken.
    pub fn try_clone(&self) -> Result<Self, NoRow> {
        another(self.participant().attachment(), ROLE_CONSUMER).map(Self::of)
    }
}

#[cfg(not(loom))]
mod mapped {
    use super::{Consumer, Options, Producer};
    use crate::geometry::Kind;
    use crate::segment::{
        AttachError, AttachOptions, CreateError, CreateOptions, Location, Role, Untrusted, attach,
        attach_untrusted, create, create_memfd,
    };
    use std::os::fd::OwnedFd;

    impl Options {
        /// Creates the ring's file, whole or not at all, for its owner only (mode 0600).
        ///
        /// # Errors
        /// See [`CreateError`].
        pub fn create(&self, location: impl Into<Location>) -> Result<(), CreateError> {
            self.create_with(location, &CreateOptions::default())
        }

        /// Creates the ring's file as `options` say.
        ///
        /// # Errors
        /// See [`CreateError`].
        pub fn create_with(
            &self,
            location: impl Into<Location>,
            options: &CreateOptions,
        ) -> Result<(), CreateError> {
            create(&location.into(), &self.geometry()?, options)
        }

        /// Creates the ring in a file without a name, to be handed to other processes as a
        /// descriptor. `name` is for display.
        ///
        /// # Errors
        /// See [`CreateError`].
        pub fn memfd(&self, name: &str, options: &CreateOptions) -> Result<OwnedFd, CreateError> {
            create_memfd(name, &self.geometry()?, options)
        }
    }

    impl Producer {
        /// Attaches a producer that trusts its peers, and so may lend slices of the ring itself.
        ///
        /// # Errors
        /// See [`AttachError`].
        ///
        /// # Safety
        /// - Every process that can write to the ring's file, now or while this handle lives, uses
        ///   it through this library (of the same layout version) only.
        /// - None of them runs unsafe code that stores to a span it has not claimed, or to one that
        ///   it has committed or released.
        pub unsafe fn attach(location: impl Into<Location>) -> Result<Self, AttachError> {
            // SAFETY: the caller's contract is the same.
            unsafe { Self::attach_with(location, &AttachOptions::default()) }
        }

        /// Attaches as `options` say.
        ///
        /// # Errors
        /// See [`AttachError`].
        ///
        /// # Safety
        /// As for [`attach`](Self::attach).
        pub unsafe fn attach_with(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            attach(&location.into(), Role::Producer, Kind::MpmcSlots, options).map(Self::of)
        }

        /// Attaches another producer to the same ring.
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn try_clone(&self) -> Result<Self, AttachError> {
            self.participant()
                .attachment()
                .another(Role::Producer)
                .map(Self::of)
        }
    }

    impl Producer<Untrusted> {
        /// Attaches a producer that need not trust its peers: whatever they do to the ring's
        /// memory, it sees errors or wrong bytes and nothing worse. It copies, and lends nothing.
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn attach_untrusting(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            attach_untrusted(&location.into(), Role::Producer, Kind::MpmcSlots, options)
                .map(Self::of)
        }
    }

    impl Consumer {
        /// Attaches a consumer that trusts its peers, and so may lend slices of the ring itself.
        ///
        /// # Errors
        /// See [`AttachError`].
        ///
        /// # Safety
        /// As for [`Producer::attach`].
        pub unsafe fn attach(location: impl Into<Location>) -> Result<Self, AttachError> {
            // SAFETY: the caller's contract is the same.
            unsafe { Self::attach_with(location, &AttachOptions::default()) }
        }

        /// Attaches as `options` say.
        ///
        /// # Errors
        /// See [`AttachError`].
        ///
        /// # Safety
        /// As for [`Producer::attach`].
        pub unsafe fn attach_with(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            attach(&location.into(), Role::Consumer, Kind::MpmcSlots, options).map(Self::of)
        }

        /// Attaches another consumer to the same ring.
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn try_clone(&self) -> Result<Self, AttachError> {
            self.participant()
                .attachment()
                .another(Role::Consumer)
                .map(Self::of)
        }
    }

    impl Consumer<Untrusted> {
        /// Attaches a consumer that need not trust its peers; see
        /// [`Producer::attach_untrusting`].
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn attach_untrusting(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            attach_untrusted(&location.into(), Role::Consumer, Kind::MpmcSlots, options)
                .map(Self::of)
        }
    }
}
