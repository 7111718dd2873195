//! Pages that nobody may touch, right before and right behind a ring's mapping.
//!
//! AddressSanitizer knows nothing of mapped files, so an access beyond one must meet no memory at
//! all. What lies beside a mapping is the kernel's choice. If it is nothing, a page without any
//! permission is put there; if it is somebody's memory, that place is filled up and another one
//! tried.

use std::fs::read_to_string;
use std::sync::Mutex;

/// Mappings of other threads come and go; within this nobody attaches.
static ATTACHING: Mutex<()> = Mutex::new(());
const PAGE: usize = 4096;

struct Mapping {
    start: usize,
    end: usize,
    is_forbidden: bool,
    is_ring: bool,
}

fn mappings() -> Vec<Mapping> {
    let maps = read_to_string("/proc/self/maps").expect("/proc is mounted");
    let mapping = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        Some(Mapping {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            is_forbidden: fields.next()?.starts_with("---"),
            is_ring: line.contains("/memfd:hostile-"),
        })
    };
    maps.lines().filter_map(mapping).collect()
}

/// Maps `len` bytes that nobody may touch, for ever; at `place`, unless that is 0. False if
/// something is there.
fn forbid(place: usize, len: usize) -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let fixed = if place == 0 {
        0
    } else {
        libc::MAP_FIXED_NOREPLACE
    };
    let place = std::ptr::without_provenance_mut(place);
    // SAFETY: replaces no mapping, so nothing that anybody uses changes.
    let mapped = unsafe { libc::mmap(place, len, libc::PROT_NONE, flags | fixed, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Whether every mapping of the ring lies between pages that nobody may touch.
fn is_guarded() -> bool {
    for ring in mappings().iter().filter(|mapping| mapping.is_ring) {
        forbid(ring.start - PAGE, PAGE);
        forbid(ring.end, PAGE);
    }
    let all = mappings();
    let guards = |place: usize| {
        let holds = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&place);
        all.iter()
            .find(holds)
            .is_some_and(|mapping| mapping.is_forbidden)
    };
    let mut rings = all.iter().filter(|mapping| mapping.is_ring);
    rings.all(|ring| guards(ring.start - 1) && guards(ring.end))
}

/// Attaches so that the mapping is guarded.
pub(crate) fn guarded<H, E>(attach: impl Fn() -> Result<H, E>) -> Result<H, E> {
    const ATTEMPTS: u32 = 32;
    let _attaching = ATTACHING.lock().expect("nobody panics in here");
    for _ in 0..ATTEMPTS {
        let attached = attach()?;
        if is_guarded() {
            return Ok(attached);
        }
        let rings = mappings().into_iter().filter(|mapping| mapping.is_ring);
        let longest = rings.map(|ring| ring.end - ring.start).max();
        drop(attached);
        assert!(
            forbid(0, longest.expect("it is mapped")),
            "no address space"
        );
    }
    panic!("no place for a ring with nothing beside it");
}
