//! How an MPMC ring is made and attached to.

use super::{Consumer, Producer, Redelivery};
use crate::constructors::{attachable, creatable};
use crate::geometry::{Geometry, GeometryError};
use crate::layout::{KIND_SPSC_BYTES, ROLE_CONSUMER, ROLE_PRODUCER};
use crate::protocol::heap::{Heap, HeapRing};
use crate::protocol::{Attachment, Damage, recovery, slot_ring};
#[cfg(not(loom))]
use crate::segment::{AttachError, Role};
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
    #[expect(clippy::missing_panics_doc, reason = "a new ring is of its own kind")]
    pub fn heap(&self) -> Result<(Producer<Heap>, Consumer<Heap>), GeometryError> {
        let geometry = self.geometry()?;
        let ring = HeapRing::new(
            geometry.shape(),
            geometry.data_bytes,
            geometry.participants,
            geometry.origin,
            geometry.element,
        );
        crate::wait::join_barriers(&*ring);
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
        let kind = "a new ring is of its own kind";
        Ok((
            Producer::of(producer).expect(kind),
            Consumer::of(consumer).expect(kind),
        ))
    }
}

/// The slots' shape of an attachment to an MPMC ring.
fn shape_of<A: Attachment>(attachment: &A) -> Result<slot_ring::Shape, Damage> {
    match attachment.shape() {
        recovery::Shape::Slots(shape, _) => Ok(*shape),
        // Attaching checks the kind before.
        recovery::Shape::Bytes(_) => Err(Damage {
            what: "the kind",
            found: KIND_SPSC_BYTES.into(),
            expected: "expected 2, an MPMC slot ring",
        }),
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
    pub(crate) fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment)?;
        Ok(Self::new(attachment, shape))
    }
}

impl<A: Attachment> Consumer<A> {
    pub(crate) fn of(attachment: A) -> Result<Self, Damage> {
        let shape = shape_of(&attachment)?;
        Ok(Self::new(attachment, shape))
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
        let heap = another(self.participant().attachment(), ROLE_PRODUCER)?;
        Ok(Self::new(heap, *self.shape()))
    }
}

impl Consumer<Heap> {
    /// Attaches another consumer.
    ///
    /// # Errors
    /// If all rows are taken.
    pub fn try_clone(&self) -> Result<Self, NoRow> {
        let heap = another(self.participant().attachment(), ROLE_CONSUMER)?;
        Ok(Self::new(heap, *self.shape()))
    }
}

creatable!(Options);
attachable!(Producer, Producer, MpmcSlots);
attachable!(Consumer, Consumer, MpmcSlots);

#[cfg(not(loom))]
impl Producer {
    /// Attaches another producer to the same ring.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn try_clone(&self) -> Result<Self, AttachError> {
        let mapped = self.participant().attachment().another(Role::Producer)?;
        Ok(Self::of(mapped)?)
    }
}

#[cfg(not(loom))]
impl Consumer {
    /// Attaches another consumer to the same ring.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn try_clone(&self) -> Result<Self, AttachError> {
        let mapped = self.participant().attachment().another(Role::Consumer)?;
        Ok(Self::of(mapped)?)
    }
}
