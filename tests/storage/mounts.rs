//! File systems that are none for rings, or cannot be written to.

use std::path::Path;
use std::process::Command;

use annulus::segment::{
    AttachError, CreateError, Location, OpenError, RecoverError, inspect, recover,
};
use annulus::{Wait, mpmc};

use super::stage::{names, with_mounts};

/// `/mnt` is a tmpfs of this row's own.
fn sh(script: &str) {
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir("/mnt")
        .status();
    assert!(status.expect("a shell").success(), "{script}");
}

fn create(path: &str) -> Result<(), CreateError> {
    mpmc::Options::new(8, 16).create(path)
}

fn attach(path: &str) -> Result<mpmc::Producer, AttachError> {
    // SAFETY: only this row has the ring.
    unsafe { mpmc::Producer::attach(path) }
}

const OVERLAY: &str =
    "overlayfs (magic 0x794c7630) is not supported: expected tmpfs, hugetlbfs, ext4 or xfs";
const OVERLAY_HINT: &str = "put the ring under /dev/shm, or force it and lose the guarantees";

#[test]
fn a_ring_in_a_lower_layer_is_refused_through_the_overlay_and_not_copied_up() {
    with_mounts(|| {
        sh("mkdir lower upper work merged");
        create("/mnt/lower/orders.ring").expect("on tmpfs");
        let below = attach("/mnt/lower/orders.ring").expect("on tmpfs");
        sh("mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work merged");
        let path = "/mnt/merged/orders.ring";

        let error = attach(path).expect_err("locks do not behave there");
        assert!(
            matches!(error, AttachError::Open(OpenError::FileSystem(_))),
            "{error:?}"
        );
        assert_eq!(
            (error.to_string().as_str(), error.hint()),
            (OVERLAY, Some(OVERLAY_HINT))
        );
        let error = recover(&path.into(), &Default::default()).expect_err("nor here");
        assert!(
            matches!(error, RecoverError::Open(OpenError::FileSystem(_))),
            "{error:?}"
        );
        // Opened for writing it would be there: a copy that parts from the ring below.
        assert_eq!(
            names(Path::new("/mnt/upper")),
            [""; 0],
            "a refusal has copied it up"
        );

        let error = create("/mnt/merged/new.ring").expect_err("nor is one made there");
        assert!(matches!(error, CreateError::FileSystem(_)), "{error:?}");
        assert_eq!(
            (error.to_string().as_str(), error.hint()),
            (OVERLAY, Some(OVERLAY_HINT))
        );
        let seen = inspect(&Location::from(path)).expect("looking is harmless");
        assert_eq!(seen.participants.len(), 1);
        below
            .push(1, b"", Wait::block())
            .expect("the one below goes on");
        assert_eq!(names(Path::new("/mnt/upper")), [""; 0]);
    });
}

#[test]
fn a_read_only_mount_can_be_looked_at_and_nothing_else() {
    with_mounts(|| {
        sh("mkdir rings; mount -t tmpfs none rings");
        let path = "/mnt/rings/orders.ring";
        create(path).expect("on tmpfs");
        sh("mount -o remount,ro none /mnt/rings");
        let said = "the file system is mounted read-only";
        let hint = Some("mount it for writing, or choose another place");

        let error = attach(path).expect_err("read-only");
        assert!(
            matches!(error, AttachError::Open(OpenError::ReadOnly)),
            "{error:?}"
        );
        assert_eq!((error.to_string().as_str(), error.hint()), (said, hint));
        let error = create("/mnt/rings/new.ring").expect_err("read-only");
        assert!(matches!(error, CreateError::ReadOnly), "{error:?}");
        assert_eq!((error.to_string().as_str(), error.hint()), (said, hint));
        let error = recover(&path.into(), &Default::default()).expect_err("read-only");
        assert!(
            matches!(error, RecoverError::Open(OpenError::ReadOnly)),
            "{error:?}"
        );
        let seen = inspect(&Location::from(path)).expect("looking writes nothing");
        assert_eq!((seen.capacity, seen.participants.len()), (8, 0));
    });
}
