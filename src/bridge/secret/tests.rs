//! Proofs and files, without a bridge.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::{Greeting, Role, Secret};
use crate::bridge::error::BridgeError;

const SECRET: &[u8] = b"sixteen bytes...";

fn greeting(frames: &[u8]) -> Greeting {
    let mut greeting = Greeting::default();
    greeting.add(&[0; 32]);
    greeting.add(frames);
    greeting
}

/// Made by another library: what goes over the wire is what `docs/bridge-protocol.md` says.
#[test]
fn a_proof_is_the_hmac_of_label_and_line_and_frames() {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    for (role, label) in [
        (Role::Receiver, &b"annulus bridge 2 receiver\0"[..]),
        (Role::Sender, b"annulus bridge 2 sender\0"),
    ] {
        let bytes = [label, &[0; 32], b"frames"].concat();
        let expected = ring::hmac::sign(&key, &bytes);
        let proof = Secret::new(SECRET).prove(role, &greeting(b"frames"));
        assert_eq!(proof, expected.as_ref());
    }
}

#[test]
fn a_proof_is_of_one_role_one_secret_and_one_greeting_to_the_last_bit() {
    let secret = Secret::new(SECRET);
    let said = greeting(b"frames");
    let proof = secret.prove(Role::Receiver, &said);
    let holds = Secret::is_proved;
    assert!(holds(&secret, Role::Receiver, &said, &proof));
    assert!(
        !holds(&secret, Role::Sender, &said, &proof),
        "it can be sent back"
    );
    let other = Secret::new(b"sixteen bytes,,,");
    assert!(!holds(&other, Role::Receiver, &said, &proof));
    for other in [&b"frame"[..], b"framest", b"Frames", b""] {
        assert!(!holds(&secret, Role::Receiver, &greeting(other), &proof));
    }
    assert_ne!(secret.prove(Role::Receiver, &said.with(b"x")), proof);
    for bit in 0..proof.len() * 8 {
        let mut changed = proof;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !holds(&secret, Role::Receiver, &said, &changed),
            "bit {bit}"
        );
    }
}

#[test]
fn a_secret_is_read_from_a_file_of_its_owner_alone() {
    let file = |bytes: &[u8], mode| {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(bytes).expect("room");
        let permissions = std::fs::Permissions::from_mode(mode);
        file.as_file()
            .set_permissions(permissions)
            .expect("its owner");
        file
    };
    let said = greeting(b"");
    let expected = Secret::new(SECRET).prove(Role::Sender, &said);
    for end in ["", "\n", "\r\n"] {
        let bytes = [SECRET, end.as_bytes()].concat();
        let read = Secret::read(file(&bytes, 0o600).path()).expect("a secret");
        assert!(read.is_proved(Role::Sender, &said, &expected));
        assert_eq!(format!("{read:?}"), "Secret(..)");
    }
    for (bytes, mode, why) in [
        (SECRET, 0o640, "its mode is 0640"),
        (SECRET, 0o604, "its mode is 0604"),
        (SECRET, 0o620, "its mode is 0620"),
        (b"fifteen bytes..\n", 0o600, "16 bytes at least"),
        (b"", 0o400, "16 bytes at least"),
        (&[b'x'; 4097], 0o600, "at most 4096 bytes"),
    ] {
        let refused = Secret::read(file(bytes, mode).path()).expect_err(why);
        assert!(refused.to_string().contains(why), "{refused}");
        let is_exposed = matches!(refused, BridgeError::Exposed { .. });
        assert_eq!(is_exposed, refused.hint().is_some());
    }
    let missing = Secret::read("/nowhere/at/all".as_ref()).expect_err("no file");
    assert!(missing.to_string().contains("/nowhere/at/all"), "{missing}");
}
