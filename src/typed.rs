//! Rings of one element type: plain old data, whose name, size, alignment and schema hash stand in
//! the file.
//!
//! A typed handle wraps an untyped one of either ring after comparing its own element type with the
//! ring's. It lends `&mut T` and `&T` in place of bytes. Each record is one element; records of any
//! other length, which an untyped handle can write, are refused with an error.
//!
//! # Examples
//! ```
//! use annulus::{Wait, mpmc, typed};
//! use bytemuck::{Pod, Zeroable};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
//! #[repr(C)]
//! struct Quote {
//!     instrument: u64,
//!     price_ticks: i64,
//! }
//!
//! impl typed::Element for Quote {
//!     const NAME: &'static str = "example.Quote";
//!     const SCHEMA: u64 = typed::schema_hash("instrument: u64, price_ticks: i64");
//! }
//!
//! let (producer, consumer) = mpmc::Options::new(64, 16).element::<Quote>().heap()?;
//! let producer = producer.typed::<Quote>()?;
//! let consumer = consumer.typed::<Quote>()?;
//!
//! let quote = Quote { instrument: 7, price_ticks: -3 };
//! producer.push(0, &quote, Wait::block())?;
//! assert_eq!(*consumer.read(Wait::block())?, quote);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use crate::error::{ClaimError, ReadError, TryClaimError, TryReadError};
use crate::protocol::{Attachment, Damage, ElementType, ZeroCopy};
use crate::wait::Wait;
use crate::{mpmc, spsc};

/// A type that a typed ring can hold.
///
/// `Pod` promises that every pattern of bits is a value, so that nothing a peer writes can be an
/// invalid one. Size and alignment are compared as well, so the schema need only tell what those
/// cannot: the meaning of the fields.
pub trait Element: bytemuck::Pod {
    /// A name that its users agree on; 1 to 256 bytes.
    const NAME: &'static str;
    /// Changes whenever the meaning of the bytes does; see [`schema_hash`].
    const SCHEMA: u64;
}

/// A hash of a description of the fields: FNV-1a, 64 bits.
///
/// Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm" (RFC 9923).
pub const fn schema_hash(description: &str) -> u64 {
    let bytes = description.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x100_0000_01b3);
        index += 1;
    }
    hash
}

pub(crate) fn element_type<T: Element>() -> ElementType {
    ElementType {
        name: T::NAME.to_owned(),
        size: size_of::<T>() as u64,
        align: align_of::<T>() as u64,
        schema: T::SCHEMA,
    }
}

/// The ring was made for another element type, or for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementMismatch {
    /// What the ring holds; `None` in an untyped ring.
    pub found: Option<ElementType>,
    /// What the handle was asked for.
    pub expected: ElementType,
}

impl fmt::Display for ElementMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.found {
            Some(found) => write!(f, "the ring holds {}", Described(found))?,
            None => f.write_str("the ring is untyped")?,
        }
        write!(f, ", expected {}", Described(&self.expected))
    }
}

impl core::error::Error for ElementMismatch {}

struct Described<'e>(&'e ElementType);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ElementType {
            name,
            size,
            align,
            schema,
        } = self.0;
        write!(
            f,
            "`{name}` ({size} bytes, alignment {align}, schema {schema:#018x})"
        )
    }
}

fn compare<T: Element>(attachment: &impl Attachment) -> Result<(), ElementMismatch> {
    let expected = element_type::<T>();
    match attachment.element() {
        Some(found) if *found == expected => Ok(()),
        found => Err(ElementMismatch {
            found: found.cloned(),
            expected,
        }),
    }
}

fn check_len<T>(len: usize) -> Result<(), Damage> {
    if len == size_of::<T>() {
        return Ok(());
    }
    let expected = "expected the size of the element";
    Err(Damage {
        what: "a typed record's length",
        found: len as u64,
        expected,
    })
}

/// Writes elements. `P` is the producer of either ring.
#[derive(Debug)]
pub struct Producer<T, P> {
    inner: P,
    element: PhantomData<fn(T)>,
}

/// Reads elements. `C` is the consumer of either ring.
#[derive(Debug)]
pub struct Consumer<T, C> {
    inner: C,
    element: PhantomData<fn() -> T>,
}

/// An element being written. Committing consumes it; dropping it aborts.
#[derive(Debug)]
#[must_use = "a claim that is dropped is aborted"]
pub struct Claim<T, C> {
    inner: C,
    element: PhantomData<T>,
}

/// An element being read; released when it is dropped, except while unwinding.
#[derive(Debug)]
#[must_use = "a record that is dropped is released"]
pub struct Record<T, R> {
    inner: R,
    element: PhantomData<T>,
}

impl<A: ZeroCopy> mpmc::Producer<A> {
    /// Makes it a handle of a typed ring.
    ///
    /// # Errors
    /// If the ring holds another element type, or none; the handle is dropped.
    pub fn typed<T: Element>(self) -> Result<Producer<T, Self>, ElementMismatch> {
        compare::<T>(self.participant().attachment())?;
        Ok(Producer {
            inner: self,
            element: PhantomData,
        })
    }
}

impl<A: ZeroCopy> mpmc::Consumer<A> {
    /// Makes it a handle of a typed ring.
    ///
    /// # Errors
    /// If the ring holds another element type, or none; the handle is dropped.
    pub fn typed<T: Element>(self) -> Result<Consumer<T, Self>, ElementMismatch> {
        compare::<T>(self.participant().attachment())?;
        Ok(Consumer {
            inner: self,
            element: PhantomData,
        })
    }
}

impl<A: ZeroCopy> spsc::Producer<A> {
    /// Makes it a handle of a typed ring.
    ///
    /// # Errors
    /// If the ring holds another element type, or none; the handle is dropped.
    pub fn typed<T: Element>(self) -> Result<Producer<T, Self>, ElementMismatch> {
        compare::<T>(self.participant().attachment())?;
        Ok(Producer {
            inner: self,
            element: PhantomData,
        })
    }
}

impl<A: ZeroCopy> spsc::Consumer<A> {
    /// Makes it a handle of a typed ring.
    ///
    /// # Errors
    /// If the ring holds another element type, or none; the handle is dropped.
    pub fn typed<T: Element>(self) -> Result<Consumer<T, Self>, ElementMismatch> {
        compare::<T>(self.participant().attachment())?;
        Ok(Consumer {
            inner: self,
            element: PhantomData,
        })
    }
}

impl<T, P> Producer<T, P> {
    /// The untyped handle.
    pub fn into_inner(self) -> P {
        self.inner
    }
}

impl<T, C> Consumer<T, C> {
    /// The untyped handle.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<T: Element, A: ZeroCopy> Producer<T, mpmc::Producer<A>> {
    /// Claims a slot; its content is some older element.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    pub fn try_claim(&self) -> Result<Claim<T, mpmc::Claim<'_, A>>, TryClaimError> {
        self.inner.try_claim(size_of::<T>()).map(Claim::of)
    }

    /// Waits for a slot.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(&self, wait: Wait) -> Result<Claim<T, mpmc::Claim<'_, A>>, ClaimError> {
        self.inner.claim(size_of::<T>(), wait).map(Claim::of)
    }

    /// Commits a copy of `element`, if there is a slot.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    pub fn try_push(&self, tag: u32, element: &T) -> Result<(), TryClaimError> {
        self.inner.try_push(tag, bytemuck::bytes_of(element))
    }

    /// Waits for a slot and commits a copy of `element`.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn push(&self, tag: u32, element: &T, wait: Wait) -> Result<(), ClaimError> {
        self.inner.push(tag, bytemuck::bytes_of(element), wait)
    }
}

impl<T: Element, A: ZeroCopy> Producer<T, spsc::Producer<A>> {
    /// Claims space for an element; its content is what older records left there.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    pub fn try_claim(&mut self) -> Result<Claim<T, spsc::Claim<'_, A>>, TryClaimError> {
        self.inner.try_claim(size_of::<T>()).map(Claim::of)
    }

    /// Waits for space.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(&mut self, wait: Wait) -> Result<Claim<T, spsc::Claim<'_, A>>, ClaimError> {
        self.inner.claim(size_of::<T>(), wait).map(Claim::of)
    }

    /// Commits a copy of `element`, if there is space.
    ///
    /// # Errors
    /// See [`TryClaimError`].
    pub fn try_push(&mut self, tag: u32, element: &T) -> Result<(), TryClaimError> {
        self.inner.try_push(tag, bytemuck::bytes_of(element))
    }

    /// Waits for space and commits a copy of `element`.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn push(&mut self, tag: u32, element: &T, wait: Wait) -> Result<(), ClaimError> {
        self.inner.push(tag, bytemuck::bytes_of(element), wait)
    }
}

impl<T: Element, A: ZeroCopy> Consumer<T, mpmc::Consumer<A>> {
    /// Claims the next element.
    ///
    /// # Errors
    /// See [`TryReadError`]; a record of another length is `Damaged`, and released.
    pub fn try_read(&self) -> Result<Record<T, mpmc::Record<'_, A>>, TryReadError> {
        let record = self.inner.try_read()?;
        check_len::<T>(record.len())?;
        Ok(Record::of(record))
    }

    /// Waits for the next element.
    ///
    /// # Errors
    /// See [`ReadError`]; a record of another length is `Damaged`, and released.
    pub fn read(&self, wait: Wait) -> Result<Record<T, mpmc::Record<'_, A>>, ReadError> {
        let record = self.inner.read(wait)?;
        check_len::<T>(record.len())?;
        Ok(Record::of(record))
    }
}

impl<T: Element, A: ZeroCopy> Consumer<T, spsc::Consumer<A>> {
    /// Reads the next element.
    ///
    /// # Errors
    /// See [`TryReadError`]; a record of another length is `Damaged`, and released.
    pub fn try_read(&mut self) -> Result<Record<T, spsc::Record<'_, A>>, TryReadError> {
        let record = self.inner.try_read()?;
        check_len::<T>(record.len())?;
        Ok(Record::of(record))
    }

    /// Waits for the next element.
    ///
    /// # Errors
    /// See [`ReadError`]; a record of another length is `Damaged`, and released.
    pub fn read(&mut self, wait: Wait) -> Result<Record<T, spsc::Record<'_, A>>, ReadError> {
        let record = self.inner.read(wait)?;
        check_len::<T>(record.len())?;
        Ok(Record::of(record))
    }
}

impl<T, C> Claim<T, C> {
    fn of(inner: C) -> Self {
        Self {
            inner,
            element: PhantomData,
        }
    }
}

impl<T, R> Record<T, R> {
    fn of(inner: R) -> Self {
        Self {
            inner,
            element: PhantomData,
        }
    }
}

impl<T, A: ZeroCopy> Claim<T, mpmc::Claim<'_, A>> {
    /// Makes the element visible with the user's own `tag`.
    pub fn commit(self, tag: u32) {
        self.inner.commit(tag);
    }
}

impl<T, A: ZeroCopy> Claim<T, spsc::Claim<'_, A>> {
    /// Makes the element visible with the user's own `tag`.
    pub fn commit(self, tag: u32) {
        self.inner.commit(tag);
    }
}

impl<T, A: ZeroCopy> Record<T, mpmc::Record<'_, A>> {
    /// The tag that its producer gave it.
    pub fn tag(&self) -> u32 {
        self.inner.tag()
    }

    /// Gives the element back, to be delivered again.
    pub fn requeue(self) {
        self.inner.requeue();
    }
}

impl<T, A: ZeroCopy> Record<T, spsc::Record<'_, A>> {
    /// The tag that its producer gave it.
    pub fn tag(&self) -> u32 {
        self.inner.tag()
    }
}

// The casts below cannot fail: the claim has the element's size, and `Geometry::check` makes every
// payload of a typed ring aligned for its element.

impl<T: Element, C: Deref<Target = [u8]>> Deref for Claim<T, C> {
    type Target = T;

    fn deref(&self) -> &T {
        bytemuck::from_bytes(&self.inner)
    }
}

impl<T: Element, C: DerefMut<Target = [u8]>> DerefMut for Claim<T, C> {
    fn deref_mut(&mut self) -> &mut T {
        bytemuck::from_bytes_mut(&mut self.inner)
    }
}

impl<T: Element, R: Deref<Target = [u8]>> Deref for Record<T, R> {
    type Target = T;

    fn deref(&self) -> &T {
        bytemuck::from_bytes(&self.inner)
    }
}
