//! The numbers of a ring: how a creator's wishes become a geometry, and how one is read from a
//! header that anybody may have written.
//!
//! # Invariants
//! 1. Every `Geometry` that exists is possible: powers of two where they must be, parts in order,
//!    none overlapping, all inside the file. Both ways to make one end in [`Geometry::check`].
//! 2. An opener makes one from a private copy of the header and never reads the header again.

use crate::layout::{
    BYTE_ORDER, ELEMENT_NAME_BYTES, Header, KIND_MPMC_SLOTS, KIND_SPSC_BYTES, LOCKS_APART, MAGIC,
    MAX_PARTICIPANTS, PART_ALIGN, ROW_BYTES, ROWS_OFFSET, VERSION,
};
use crate::protocol::{ElementType, Redelivery, byte_ring, recovery, slot_ring};

/// Which ring the data area holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Variable-length records from one producer to one consumer.
    SpscBytes,
    /// Slots that many producers and consumers share.
    MpmcSlots,
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::SpscBytes => "an SPSC byte ring",
            Self::MpmcSlots => "an MPMC slot ring",
        })
    }
}

/// The checked numbers of one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Which ring.
    pub kind: Kind,
    /// SPSC: bytes. MPMC: slots. A power of two.
    pub capacity: u64,
    /// MPMC: bytes from slot to slot. SPSC: 8.
    pub stride: u64,
    /// Longest record in bytes.
    pub max_record: u64,
    /// Bytes from a slot's word, or from a header, to the payload.
    pub payload_offset: u64,
    /// MPMC: what becomes of records that a dead consumer held.
    pub redelivery: Redelivery,
    /// Most participants at a time.
    pub participants: u16,
    /// Where the data area begins in a file.
    pub data_offset: u64,
    /// Bytes of the data area.
    pub data_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Position at which the ring begins.
    pub origin: u64,
    /// The element type of a typed ring.
    pub element: Option<ElementType>,
}

/// A wish that no ring can fulfil.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found}, expected {expected}")]
pub struct GeometryError {
    /// Which number.
    pub what: &'static str,
    /// What was asked for.
    pub found: u64,
    /// What is possible.
    pub expected: String,
}

/// Why a file's first bytes are no header of a ring that this build can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The file is shorter than its header, or than its header says.
    #[error("the file has {found} bytes, expected {expected}")]
    TooShort {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// The magic is not there yet.
    #[error("the ring is still being created, or its creator died")]
    StillBeingCreated,
    /// The magic is another one.
    #[error("not a ring: the magic is {found:#018x}, expected {MAGIC:#018x}")]
    NotARing {
        /// What stands in its place.
        found: u64,
    },
    /// Written on a machine of the other byte order.
    #[error("the ring has byte order mark {found:#010x}, expected {BYTE_ORDER:#010x}")]
    OtherByteOrder {
        /// The mark.
        found: u32,
    },
    /// Written by a newer build.
    #[error("the layout is version {found}, this build reads version {VERSION}")]
    OtherVersion {
        /// The version.
        found: u32,
    },
    /// Needs a feature that this build lacks.
    #[error("the ring needs features {found:#x}, this build has none of them")]
    UnknownFeatures {
        /// The bits that are not known.
        found: u64,
    },
    /// A number that no creator can have written.
    #[error("impossible header: {0}")]
    Impossible(#[from] GeometryError),
}

const LARGEST: u64 = 1 << 46;

fn fail<T>(
    what: &'static str,
    found: u64,
    expected: impl Into<String>,
) -> Result<T, GeometryError> {
    Err(GeometryError {
        what,
        found,
        expected: expected.into(),
    })
}

impl Geometry {
    /// A byte ring of `capacity` bytes.
    ///
    /// # Errors
    /// If the capacity is no power of two from 4096 on, or the element does not fit.
    pub fn spsc(capacity: u64, element: Option<ElementType>) -> Result<Self, GeometryError> {
        let mut geometry = Self {
            kind: Kind::SpscBytes,
            capacity,
            stride: byte_ring::HEADER,
            max_record: 0,
            payload_offset: byte_ring::HEADER,
            redelivery: Redelivery::Unlimited,
            participants: 2,
            data_offset: 0,
            data_bytes: capacity,
            file_bytes: 0,
            origin: 0,
            element,
        };
        geometry.check_capacity()?;
        geometry.max_record = byte_ring::Shape::max_record_of(capacity);
        geometry.place()
    }

    /// A ring of `slots` slots for records of at most `slot_bytes`.
    ///
    /// # Errors
    /// If a number is out of its range, or the element does not fit.
    pub fn mpmc(
        slots: u64,
        slot_bytes: u64,
        participants: u16,
        redelivery: Redelivery,
        element: Option<ElementType>,
    ) -> Result<Self, GeometryError> {
        let align = element.as_ref().map_or(1, |element| element.align);
        if !align.is_power_of_two() || align > 128 {
            return fail("the element's alignment", align, "a power of two up to 128");
        }
        let payload_offset = align.max(2 * slot_ring::META_OFFSET);
        if slot_bytes > 1 << 30 {
            return fail("the slot size", slot_bytes, "at most 1 GiB");
        }
        // Slots begin at lines of their own, so that words of neighbours do not share one.
        let line = if cfg!(loom) { 8 } else { align.max(64) };
        let mut geometry = Self {
            kind: Kind::MpmcSlots,
            capacity: slots,
            stride: (payload_offset + slot_bytes).next_multiple_of(line),
            max_record: slot_bytes,
            payload_offset,
            redelivery,
            participants,
            data_offset: 0,
            data_bytes: 0,
            file_bytes: 0,
            origin: 0,
            element,
        };
        geometry.check_capacity()?;
        geometry.data_bytes = slots * geometry.stride;
        geometry.place()
    }

    /// The same ring, beginning at another position: for tests of what happens near a wrap.
    #[must_use]
    pub fn starting_at(mut self, origin: u64) -> Self {
        self.origin = match self.kind {
            Kind::SpscBytes => origin & !7,
            Kind::MpmcSlots => origin,
        };
        self
    }

    fn place(mut self) -> Result<Self, GeometryError> {
        let rows_end = ROWS_OFFSET + u64::from(self.participants) * ROW_BYTES;
        self.data_offset = rows_end.next_multiple_of(PART_ALIGN);
        self.file_bytes = (self.data_offset + self.data_bytes).next_multiple_of(4096);
        self.check()?;
        Ok(self)
    }

    fn check_capacity(&self) -> Result<(), GeometryError> {
        let (what, least) = match self.kind {
            Kind::SpscBytes => ("the capacity in bytes", byte_ring::MIN_CAPACITY),
            Kind::MpmcSlots => ("the number of slots", 2),
        };
        let most = LARGEST / self.stride.max(1);
        if !self.capacity.is_power_of_two() || !(least..=most).contains(&self.capacity) {
            let expected = format!("a power of two from {least} to {most}");
            return fail(what, self.capacity, expected);
        }
        Ok(())
    }

    /// Checks every number against every other.
    fn check(&self) -> Result<(), GeometryError> {
        if self.stride == 0 || self.stride > 1 << 31 || !self.stride.is_multiple_of(8) {
            return fail("the stride", self.stride, "a multiple of 8 up to 2 GiB");
        }
        self.check_capacity()?;
        match self.kind {
            Kind::SpscBytes => self.check_bytes()?,
            Kind::MpmcSlots => self.check_slots()?,
        }
        if !(1..=MAX_PARTICIPANTS).contains(&self.participants) {
            let expected = format!("from 1 to {MAX_PARTICIPANTS}");
            return fail(
                "the number of participants",
                self.participants.into(),
                expected,
            );
        }
        if let Redelivery::AtMost(limit) = self.redelivery
            && !(1..=slot_ring::MAX_ATTEMPTS).contains(&limit)
        {
            return fail("the limit of redeliveries", limit.into(), "from 1 to 3");
        }
        let rows_end = ROWS_OFFSET + u64::from(self.participants) * ROW_BYTES;
        if self.data_offset < rows_end || !self.data_offset.is_multiple_of(PART_ALIGN) {
            return fail(
                "the data offset",
                self.data_offset,
                "a multiple of 64 KiB after the rows",
            );
        }
        match self.data_offset.checked_add(self.data_bytes) {
            Some(end) if end <= self.file_bytes && self.file_bytes <= 2 * LARGEST => {}
            _ => return fail("the file size", self.file_bytes, "room for the data area"),
        }
        self.check_element()
    }

    fn check_bytes(&self) -> Result<(), GeometryError> {
        if self.stride != byte_ring::HEADER || self.payload_offset != byte_ring::HEADER {
            return fail("the stride", self.stride, "8 in a byte ring");
        }
        if self.max_record != byte_ring::Shape::max_record_of(self.capacity) {
            return fail(
                "the longest record",
                self.max_record,
                "what the capacity allows",
            );
        }
        if self.data_bytes != self.capacity {
            return fail("the data area", self.data_bytes, "the capacity in bytes");
        }
        if self.participants != 2 {
            return fail(
                "the number of participants",
                self.participants.into(),
                "2 in a byte ring",
            );
        }
        if !self.origin.is_multiple_of(8) {
            return fail("the origin", self.origin, "a multiple of 8");
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), GeometryError> {
        let payload_starts_well = self.payload_offset.is_multiple_of(8)
            && (2 * slot_ring::META_OFFSET..=128).contains(&self.payload_offset);
        if !payload_starts_well {
            return fail(
                "the payload offset",
                self.payload_offset,
                "a multiple of 8, 16 to 128",
            );
        }
        // The last word of a payload is copied whole.
        let used = self.max_record.checked_next_multiple_of(8);
        if used.is_none_or(|used| used > self.stride - self.payload_offset.min(self.stride)) {
            return fail(
                "the slot size",
                self.max_record,
                "at most stride less payload offset",
            );
        }
        if self.data_bytes != self.capacity * self.stride {
            return fail("the data area", self.data_bytes, "slots times stride");
        }
        Ok(())
    }

    fn check_element(&self) -> Result<(), GeometryError> {
        let Some(element) = &self.element else {
            return Ok(());
        };
        if element.size > self.max_record {
            let expected = format!("at most the longest record, {} bytes", self.max_record);
            return fail("the element's size", element.size, expected);
        }
        let aligned = element.align.is_power_of_two()
            && self.payload_offset.is_multiple_of(element.align)
            && self.stride.is_multiple_of(element.align)
            && element.align <= PART_ALIGN;
        if !aligned {
            return fail(
                "the element's alignment",
                element.align,
                "one that the payloads have",
            );
        }
        if element.name.is_empty() || element.name.len() > ELEMENT_NAME_BYTES as usize {
            return fail(
                "the element's name",
                element.name.len() as u64,
                "1 to 256 bytes",
            );
        }
        Ok(())
    }

    /// The numbers as the protocol takes them.
    pub fn shape(&self) -> recovery::Shape {
        match self.kind {
            Kind::SpscBytes => recovery::Shape::Bytes(byte_ring::Shape::new(self.capacity)),
            Kind::MpmcSlots => {
                let slots = slot_ring::Shape::new(
                    self.capacity,
                    self.stride,
                    self.payload_offset,
                    self.max_record,
                );
                recovery::Shape::Slots(slots, self.redelivery)
            }
        }
    }

    /// Fills the header's geometry; magic, ids and times are the creator's.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked: at most 128, and at most 256"
    )]
    pub fn write_into(&self, header: &mut Header) {
        header.version = VERSION;
        header.byte_order = BYTE_ORDER;
        header.kind = match self.kind {
            Kind::SpscBytes => KIND_SPSC_BYTES,
            Kind::MpmcSlots => KIND_MPMC_SLOTS,
        };
        header.participants = self.participants.into();
        header.capacity = self.capacity;
        header.stride = self.stride;
        header.max_record = self.max_record;
        header.payload_offset = self.payload_offset as u32;
        header.redelivery = match self.redelivery {
            Redelivery::Unlimited => 0,
            Redelivery::Never => 1,
            Redelivery::AtMost(limit) => u32::from(limit) + 1,
        };
        header.rows_offset = ROWS_OFFSET;
        header.data_offset = self.data_offset;
        header.data_bytes = self.data_bytes;
        header.file_bytes = self.file_bytes;
        header.origin = self.origin;
        if let Some(element) = &self.element {
            header.element_size = element.size;
            header.element_align = element.align;
            header.element_schema = element.schema;
            header.element_name_len = element.name.len() as u32;
            header.element_name[..element.name.len()].copy_from_slice(element.name.as_bytes());
        }
    }

    /// Reads a geometry from a private copy of a header in a file of `file_bytes`.
    ///
    /// # Errors
    /// See [`HeaderError`]: anything that this build cannot use.
    pub fn read_from(header: &Header, file_bytes: u64) -> Result<Self, HeaderError> {
        match header.magic {
            MAGIC => {}
            0 => return Err(HeaderError::StillBeingCreated),
            found => return Err(HeaderError::NotARing { found }),
        }
        if header.byte_order != BYTE_ORDER {
            return Err(HeaderError::OtherByteOrder {
                found: header.byte_order,
            });
        }
        if header.version != VERSION {
            return Err(HeaderError::OtherVersion {
                found: header.version,
            });
        }
        let known = if header.anonymous == 0 {
            0
        } else {
            LOCKS_APART
        };
        if header.incompatible_features & !known != 0 {
            return Err(HeaderError::UnknownFeatures {
                found: header.incompatible_features,
            });
        }
        let geometry = Self::numbers_of(header)?;
        geometry.check()?;
        if header.rows_offset != ROWS_OFFSET {
            fail("the rows' offset", header.rows_offset, "4096")?;
        }
        if file_bytes < geometry.file_bytes {
            let expected = geometry.file_bytes;
            return Err(HeaderError::TooShort {
                found: file_bytes,
                expected,
            });
        }
        Ok(geometry)
    }

    fn numbers_of(header: &Header) -> Result<Self, GeometryError> {
        let kind = match header.kind {
            KIND_SPSC_BYTES => Kind::SpscBytes,
            KIND_MPMC_SLOTS => Kind::MpmcSlots,
            other => return fail("the kind", other.into(), "1 (SPSC bytes) or 2 (MPMC slots)"),
        };
        let redelivery = match header.redelivery {
            0 => Redelivery::Unlimited,
            1 => Redelivery::Never,
            2 => Redelivery::AtMost(1),
            3 => Redelivery::AtMost(2),
            4 => Redelivery::AtMost(3),
            other => return fail("the redelivery policy", other.into(), "from 0 to 4"),
        };
        let Ok(participants) = u16::try_from(header.participants) else {
            let found = header.participants.into();
            return fail("the number of participants", found, "at most 2047");
        };
        Ok(Self {
            kind,
            capacity: header.capacity,
            stride: header.stride,
            max_record: header.max_record,
            payload_offset: header.payload_offset.into(),
            redelivery,
            participants,
            data_offset: header.data_offset,
            data_bytes: header.data_bytes,
            file_bytes: header.file_bytes,
            origin: header.origin,
            element: element_of(header)?,
        })
    }
}

fn element_of(header: &Header) -> Result<Option<ElementType>, GeometryError> {
    if header.element_name_len == 0 {
        return Ok(None);
    }
    let name = header
        .element_name
        .get(..header.element_name_len as usize)
        .and_then(|bytes| core::str::from_utf8(bytes).ok());
    let Some(name) = name else {
        let found = header.element_name_len.into();
        return fail(
            "the length of the element's name",
            found,
            "at most 256 bytes of UTF-8",
        );
    };
    Ok(Some(ElementType {
        name: name.to_owned(),
        size: header.element_size,
        align: header.element_align,
        schema: header.element_schema,
    }))
}
