//! How an SPSC ring is made and attached to.

use super::{Consumer, Peer, Producer};
use crate::constructors::{attachable, creatable};
use crate::geometry::{Geometry, GeometryError};
use crate::layout::{KIND_MPMC_SLOTS, ROLE_CONSUMER, ROLE_PRODUCER};
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
        crate::wait::join_barriers(&*ring);
        let attach = |owner, role| {
            HeapRing::attach(&ring, Some(owner), role).expect("the rows of a new ring are free")
        };
        let producer = Producer::of(attach(Owner::PRODUCER, ROLE_PRODUCER));
        let consumer = Consumer::of(attach(Owner::CONSUMER, ROLE_CONSUMER));
        let whole = "a new ring contradicts itself nowhere";
        Ok((producer.expect(whole), consumer.expect(whole)))
    }
}

fn shape_of<A: Attachment>(attachment: &A) -> Result<byte_ring::Shape, Damage> {
    match attachment.shape() {
        recovery::Shape::Bytes(shape) => Ok(*shape),
        // Attaching checks the kind before.
        recovery::Shape::Slots(..) => Err(Damage {
            what: "the kind",
            found: KIND_MPMC_SLOTS.into(),
            expected: "expected 1, an SPSC byte ring",
        }),
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
    pub(crate) fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment)?;
        let writer = Writer::resume(&shape, attachment.store())?;
        Ok(Self::new(attachment, shape, writer))
    }
}

impl<A: Attachment> Consumer<A> {
    pub(crate) fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment)?;
        let reader = Reader::resume(&shape, attachment.store())?;
        Ok(Self::new(attachment, shape, reader))
    }
}

creatable!(Options);
attachable!(Producer, Producer, SpscBytes);
attachable!(Consumer, Consumer, SpscBytes);
