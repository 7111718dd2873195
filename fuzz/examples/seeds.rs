//! Writes the seeds of the fuzz targets.
//!
//! `cargo run --manifest-path fuzz/Cargo.toml --example seeds`
//!
//! They are the same each time. Each is short and shows the fuzzer one way in.

use std::fs;
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    for (target, seeds) in [
        ("bridge_ends", bridge_ends()),
        ("bridge_frames", bridge_frames()),
        ("ops_model", ops_model()),
        ("corrupted_ops", corrupted_ops()),
        ("open_image", open_image()),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target);
        fs::create_dir_all(&folder)?;
        for (name, bytes) in seeds {
            fs::write(folder.join(name), bytes)?;
        }
    }
    Ok(())
}

type Seeds = Vec<(String, Vec<u8>)>;

fn bridge_ends() -> Seeds {
    let ends = [
        ("ring", "ring:/dev/shm/a?accept-other-source=yes&reopen=no"),
        ("tcp", "tcp://[::1]:7400?framing=lines&name=b%20"),
        (
            "tcp_listen",
            "tcp-listen://0.0.0.0:7400?subscribers=2&slow=drop&lag=9&forget=a",
        ),
        ("unix", "unix-listen:/run/a%3Fb.sock?framing=len32#"),
    ];
    ends.map(|(name, end)| (name.to_owned(), end.as_bytes().to_vec()))
        .into()
}

/// Kind, then the body.
fn bridge_frames() -> Seeds {
    let magic = b"annulus\xb1";
    let kinds: [(&str, u8, Vec<u8>); 7] = [
        (
            "hello",
            1,
            [&magic[..], &[2, 0, 0, 0, 7], &[0; 99], b"\x02\0\0\0ab"].concat(),
        ),
        ("welcome", 2, [&magic[..], &[0; 52]].concat()),
        ("refusal", 4, b"\x02\0\0\0\x03\0\0\0why".to_vec()),
        (
            "data",
            5,
            [
                &[0; 16][..],
                &[13, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0],
            ]
            .concat(),
        ),
        ("ack", 6, vec![7; 16]),
        ("challenge", 10, vec![7; 32]),
        ("proof", 11, vec![7; 32]),
    ];
    kinds
        .into_iter()
        .map(|(name, kind, body)| (name.to_owned(), [vec![kind], body].concat()))
        .collect()
}

/// Step by step: kind, length, tag.
fn steps(head: &[u8], steps: impl IntoIterator<Item = (u8, u16, u32)>) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for (kind, length, tag) in steps {
        bytes.push(kind);
        bytes.extend(length.to_le_bytes());
        bytes.extend(tag.to_le_bytes());
    }
    bytes
}

/// Every operation twice, with long and short records.
fn everything() -> impl Iterator<Item = (u8, u16, u32)> {
    (0..128).map(|kind: u8| {
        let length = u16::from(kind).wrapping_mul(0x2f1d);
        (kind ^ (kind << 7), length, u32::from(kind) * 0x0105_0301)
    })
}

/// Fills the ring and empties it, three times.
fn full_and_empty(length: u16) -> impl Iterator<Item = (u8, u16, u32)> {
    let fill = move || (0..40).map(move |tag| (0, length, tag));
    let empty = || (0..41).map(|_| (30, 0, 0));
    (0..3).flat_map(move |_| fill().chain(empty()))
}

fn ops_model() -> Seeds {
    // Which ring, bytes of a slot, which wrap, how far before it.
    let rings: [(&str, [u8; 5]); 6] = [
        ("bytes_at_0", [0, 0, 0, 0, 0]),
        ("bytes_before_2_64", [1, 0, 1, 0xf8, 0x0f]),
        ("slots_before_2_63", [2, 40, 3, 5, 0]),
        ("slots_before_the_lap", [3, 200, 5, 3, 0]),
        ("file_of_bytes", [6, 0, 2, 0x10, 0]),
        ("file_of_slots", [7, 0, 4, 2, 0]),
    ];
    let mut seeds = Seeds::new();
    for (name, head) in rings {
        seeds.push((name.to_owned(), steps(&head, everything())));
    }
    let full = steps(&[0, 0, 1, 0, 8], full_and_empty(0x8000 | 300));
    seeds.push(("bytes_full_and_empty".to_owned(), full));
    seeds.push((
        "slots_full_and_empty".to_owned(),
        steps(&[4, 9, 1, 7, 0], full_and_empty(0x5)),
    ));
    seeds
}

/// A store: place, kind, offset, value.
fn scribble(place: u8, kind: u8, at: u16, value: u8) -> [u8; 6] {
    let [low, high] = at.to_le_bytes();
    [16, place, kind, low, high, value]
}

fn corrupted_ops() -> Seeds {
    let mut seeds = Seeds::new();
    for (name, ring) in [("bytes", 0), ("slots", 1)] {
        let mut bytes = vec![ring, 0, 0, 0];
        for round in 0..24_u8 {
            // Push, push, store, pop, pop, and now and then something else.
            bytes.extend([0, round, 0, 0, 40, 0]);
            let place = 1 + round % 6;
            bytes.extend(scribble(place, round * 3, u16::from(round) * 8, round));
            bytes.extend([8, 8]);
            bytes.extend([26, round]);
            bytes.extend([28 + round % 4]);
        }
        seeds.push((name.to_owned(), bytes));
    }
    seeds
}

fn open_image() -> Seeds {
    let store = |place, kind, at, value| scribble(place, kind, at, value)[1..].to_vec();
    let whole: [(&str, Vec<u8>); 8] = [
        ("nothing", vec![]),
        ("zeroes", vec![0, 0x80]),
        ("magic", vec![1, 0x80]),
        ("magic_and_short", [vec![1, 0], vec![0; 64]].concat()),
        ("bytes", vec![2, 0, 0, 0, 0x13]),
        ("slots", vec![3, 0, 0, 0, 0x13]),
        ("bytes_of_other_boot", vec![2 | 8 | 16, 0, 0, 0, 0x13]),
        ("slots_of_other_boot", vec![3 | 8 | 16, 0, 0, 0, 0x13]),
    ];
    let mut seeds: Seeds = whole.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    // The geometry, the positions, and the words of the data area, one by one.
    let places = [
        ("header", 0),
        ("control", 1),
        ("cursors", 2),
        ("rows", 4),
        ("words", 5),
    ];
    for (name, place) in places {
        for (mode, kind) in [(2 | 8 | 16, "bytes"), (3 | 8 | 16, "slots")] {
            let mut bytes = vec![mode, 0, 0, 0, 0x13];
            bytes.extend(store(place, 2, 40, 1));
            bytes.extend(store(place, 4, 8, 63));
            seeds.push((format!("{kind}_{name}"), bytes));
        }
    }
    seeds
}
