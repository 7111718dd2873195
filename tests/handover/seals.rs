//! Seals of a memfd: what an attacher insists on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use annulus::segment::{AttachError, AttachOptions, CreateOptions, OpenError};
use annulus::{HeaderError, Location, mpmc, spsc};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::peer::trusting;

#[test]
fn a_memfd_is_sealed_against_changes_of_its_size() {
    let ring = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let seals = SealFlag::from_bits_retain(fcntl(&ring, FcntlArg::F_GET_SEALS).unwrap());
    assert!(
        seals.contains(SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW),
        "{seals:?}"
    );
    let file = File::from(ring.try_clone().unwrap());
    let size = file.metadata().unwrap().len();
    for wrong in [0, size - 1, size + 1] {
        let refused = file.set_len(wrong).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{wrong} bytes");
    }
    assert_eq!(file.metadata().unwrap().len(), size);
    trusting!(spsc::Producer, ring).unwrap();
}

/// A memfd that is a ring to the last byte, but can be cut short.
fn unsealed() -> OwnedFd {
    let sealed = spsc::Options::new(4096)
        .memfd("test", &CreateOptions::default())
        .unwrap();
    let sealed = File::from(sealed);
    let mut bytes = vec![0; usize::try_from(sealed.metadata().unwrap().len()).unwrap()];
    sealed.read_exact_at(&mut bytes, 0).unwrap();
    let copy = File::from(memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    copy.write_all_at(&bytes, 0).unwrap();
    copy.into()
}

#[test]
fn what_somebody_could_cut_short_is_refused() {
    let options = AttachOptions::default();
    let unsealed = Location::fd(unsealed());
    let refused = trusting!(spsc::Producer, &unsealed).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "{refused:?}"
    );
    let refused = spsc::Producer::attach_untrusting(&unsealed, &options).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "{refused:?}"
    );

    let forced = AttachOptions {
        force_file_system: true,
        ..options.clone()
    };
    // SAFETY: as in `trusting`.
    unsafe { spsc::Producer::attach_with(&unsealed, &forced) }.unwrap();
    let refused = spsc::Consumer::attach_untrusting(&unsealed, &forced).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "forced: {refused:?}"
    );

    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let named = folder.path().join("named.ring");
    mpmc::Options::new(8, 16).create(&named).unwrap();
    let refused = mpmc::Consumer::attach_untrusting(&named, &options).unwrap_err();
    assert!(
        matches!(refused, AttachError::Open(OpenError::NotSealed)),
        "named: {refused:?}"
    );
}

#[test]
fn a_memfd_that_lacks_one_seal_or_a_byte_is_refused() {
    let whole = File::from(unsealed());
    let size = whole.metadata().unwrap().len();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    whole.read_exact_at(&mut bytes, 0).unwrap();
    let both = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    for (seals, size, refused) in [
        (SealFlag::F_SEAL_SHRINK, size, true),
        (SealFlag::F_SEAL_GROW, size, true),
        (both, size - 1, true),
        (both, 4096, true),
        (both, 100, true),
        (both, size, false),
    ] {
        let file = File::from(memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(size).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
        let at = Location::fd(OwnedFd::from(file));
        let attached = spsc::Producer::attach_untrusting(&at, &AttachOptions::default());
        match attached {
            Err(AttachError::Open(OpenError::NotSealed)) => assert_ne!(seals, both),
            Err(AttachError::Open(OpenError::Header(HeaderError::TooShort { found, .. }))) => {
                assert_eq!((seals, found), (both, size));
            }
            other => assert!(
                other.is_ok() && !refused,
                "{seals:?}, {size} bytes: {other:?}"
            ),
        }
    }
}

/// There need be no huge page for this: it is refused before it is looked at.
#[test]
fn huge_pages_are_refused_among_those_who_are_not_trusted() {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_HUGETLB;
    let memfd = match memfd_create("test", flags) {
        Ok(memfd) => memfd,
        Err(errno) => {
            let kernel = std::fs::read_to_string("/proc/filesystems").unwrap();
            assert!(!kernel.contains("hugetlbfs"), "{errno}");
            eprintln!("NOT RUN: a kernel without huge pages");
            return;
        }
    };
    let refused = mpmc::Consumer::attach_untrusting(memfd, &AttachOptions::default());
    assert!(
        matches!(refused, Err(AttachError::Open(OpenError::HugePages))),
        "{refused:?}"
    );
}
