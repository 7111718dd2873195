//! How an SPSC ring is made and attached to.

use super::{Consumer, Peer, Producer};
use crate::geometry::{Geometry, GeometryError};
use crate::layout::{ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::byte_ring::{self, Reader, Writer};
use crate::protocol::heap::{Heap, HeapRing};
use crate::protocol::{Attachment, Damage, Owner, Store, ledger, recovery};
use crate::typed::Element;

/// The numbers of a new SPSC ring.
///
/// # Examples
/// ```
/// use annulus::spsc;
///
/// let options = spsc::Options::new(1 << 20); // 1 MiB
/// let (producer, _consumer) = options.heap()?;
/// assert_eq!(producer.max_record(), (1 << 19) - 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    capacity: u64,
    element: Option<crate::protocol::ElementType>,
    origin: u64,
}

impl Options {
    /// A ring of `capacity` bytes, a power of two from 4 KiB on. A record takes 8 bytes more than
    /// its payload, rounded up to a multiple of 8, and may be just under half the capacity long.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            element: None,
            origin: 0,
        }
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
    /// If the capacity is no power of two from 4096 on, or the element does not fit.
    pub fn geometry(&self) -> Result<Geometry, GeometryError> {
        let geometry = Geometry::spsc(self.capacity, self.element.clone())?;
        Ok(geometry.starting_at(self.origin))
    }

    /// A ring in the memory of this process.
    ///
    /// # Errors
    /// If the capacity is no power of two from 4096 on, or the element does not fit.
    #[expect(
        clippy::missing_panics_doc,
        reason = "a new ring contradicts itself nowhere"
    )]
    pub fn heap(&self) -> Result<(Producer<Heap>, Consumer<Heap>), GeometryError> {
        let geometry = self.geometry()?;
        let (shape, bytes) = (geometry.shape(), geometry.data_bytes);
        let ring = HeapRing::new(shape, bytes, 2, geometry.origin, geometry.element);
        let attach = |owner, role| {
            HeapRing::attach(&ring, Some(owner), role).expect("the rows of a new ring are free")
        };
        let producer = Producer::of(attach(Owner::PRODUCER, ROLE_PRODUCER));
        let consumer = Consumer::of(attach(Owner::CONSUMER, ROLE_CONSUMER));
        let whole = "a new ring contradicts itself nowhere";
        Ok((producer.expect(whole), consumer.expect(whole)))
    }
}

fn shape_of<A: Attachment>(attachment: &A) -> byte_ring::Shape {
    match attachment.shape() {
        recovery::Shape::Bytes(shape) => *shape,
        recovery::Shape::Slots(..) => unreachable!("attaching checks the kind of the ring"),
    }
}

/// Whether anybody lives in the peer's row; recovers one that died.
pub(super) fn peer<A: Attachment>(attachment: &A, owner: Owner) -> Peer {
    if !attachment.is_here() {
        return Peer::Absent;
    }
    if attachment.is_alive(owner) {
        return Peer::Alive;
    }
    attachment.mend();
    if ledger::ended_in_death(attachment.store().row(owner)) {
        Peer::Died
    } else {
        Peer::Absent
    }
}

impl<A: Attachment> Producer<A> {
    fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment);
        let writer = Writer::resume(&shape, attachment.store())?;
        Ok(Self::new(attachment, shape, writer))
    }
}

impl<A: Attachment> Consumer<A> {
    fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment);
        let reader = Reader::resume(&shape, attachment.store())?;
        Ok(Self::new(attachment, shape, reader))
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
        /// Attaches the producer, one that trusts its consumer and so may lend slices of the ring
        /// itself. It goes on where the last one's committed records end.
        ///
        /// # Errors
        /// See [`AttachError`]; `RoleTaken` names the producer that is attached.
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
            let mapped = attach(&location.into(), Role::Producer, Kind::SpscBytes, options)?;
            Ok(Self::of(mapped)?)
        }
    }

    impl Producer<Untrusted> {
        /// Attaches a producer that need not trust its consumer: whatever that one does to the
        /// ring's memory, this handle answers errors and nothing worse. It copies, and lends
        /// nothing.
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn attach_untrusting(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            let mapped =
                attach_untrusted(&location.into(), Role::Producer, Kind::SpscBytes, options)?;
            Ok(Self::of(mapped)?)
        }
    }

    impl Consumer {
        /// Attaches the consumer, one that trusts its producer and so may lend slices of the ring
        /// itself. It goes on at the oldest record that was not released.
        ///
        /// # Errors
        /// See [`AttachError`]; `RoleTaken` names the consumer that is attached.
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
            let mapped = attach(&location.into(), Role::Consumer, Kind::SpscBytes, options)?;
            Ok(Self::of(mapped)?)
        }
    }

    impl Consumer<Untrusted> {
        /// Attaches a consumer that need not trust its producer: whatever that one does to the
        /// ring's memory, this handle sees errors or wrong bytes and nothing worse.
        ///
        /// # Errors
        /// See [`AttachError`].
        pub fn attach_untrusting(
            location: impl Into<Location>,
            options: &AttachOptions,
        ) -> Result<Self, AttachError> {
            let mapped =
                attach_untrusted(&location.into(), Role::Consumer, Kind::SpscBytes, options)?;
            Ok(Self::of(mapped)?)
        }
    }
}
