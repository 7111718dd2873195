//! The codec and the ends, as text and bytes.

use annulus::bridge::frame::{
    Code, Frame, FrameError, HEADER_BYTES, Head, Hello, PROOF_BYTES, StreamId, VERSION, Welcome,
    data_head, first_record, put_record,
};
use annulus::bridge::{End, EndError};

const STREAM: StreamId = StreamId {
    ring_id: [3; 16],
    generation: 4,
    life: 5,
};

fn samples(records: &[u8]) -> Vec<Frame<'_>> {
    let hello = Hello {
        version: VERSION,
        stream: Some(STREAM),
        accepts_other: true,
        next: 6,
        largest_record: 7,
        largest_frame: 8,
        credit: 9,
        silence_ms: 10,
        nonce: Some([11; PROOF_BYTES]),
        name: "näme",
    };
    vec![
        Frame::Hello(hello.clone()),
        Frame::Hello(Hello {
            stream: None,
            accepts_other: false,
            nonce: None,
            name: "",
            ..hello
        }),
        Frame::Welcome(Welcome {
            stream: STREAM,
            next: 6,
            largest_record: 7,
            silence_ms: 8,
        }),
        Frame::Gap { from: 1, to: 2 },
        Frame::Refusal {
            code: Code::Ahead,
            text: "why",
        },
        Frame::Data {
            first: 1,
            count: 2,
            records,
        },
        Frame::Ack {
            confirmed: 1,
            credit: u64::MAX,
        },
        Frame::Heartbeat,
        Frame::Drain {
            end: 1,
            closed: true,
        },
        Frame::Drained,
        Frame::Challenge([12; PROOF_BYTES]),
        Frame::Proof([13; PROOF_BYTES]),
    ]
}

fn two_records() -> Vec<u8> {
    let mut records = Vec::new();
    put_record(&mut records, 7, b"one");
    put_record(&mut records, u32::MAX, b"");
    records
}

fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    let head = Head::decode(header, 1 << 20)?;
    head.check(body)?;
    head.frame(body)
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    let records = two_records();
    for frame in samples(&records) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        assert_eq!(decode(&bytes), Ok(frame.clone()));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err(), "bit {bit} of {frame:?}");
        }
    }
    // Of one that speaks another version that much is known, whatever it says behind it.
    let mut hello = Vec::new();
    Frame::Hello(Hello {
        version: VERSION + 1,
        name: "later",
        ..Hello::default()
    })
    .encode(&mut hello);
    let expected = Hello {
        version: VERSION + 1,
        ..Hello::default()
    };
    assert_eq!(decode(&hello), Ok(Frame::Hello(expected)));
    let head = data_head(1, 2, &records);
    let mut bytes = Vec::new();
    samples(&records)[5].encode(&mut bytes);
    assert_eq!(
        [&head[..], &records].concat(),
        bytes,
        "records may be sent from where they lie"
    );
}

#[test]
fn a_length_is_refused_before_its_body_has_come() {
    let mut bytes = Vec::new();
    Frame::Data {
        first: 0,
        count: 1,
        records: &[0; 100],
    }
    .encode(&mut bytes);
    let header = bytes.first_chunk().unwrap();
    assert!(Head::decode(header, 116).is_ok());
    let too_long = FrameError::TooLong {
        len: 116,
        limit: 115,
    };
    assert_eq!(Head::decode(header, 115), Err(too_long));
}

#[test]
fn records_are_those_of_a_ring_and_end_with_their_frame() {
    let records = two_records();
    let first = first_record(&records).unwrap();
    assert_eq!((first.tag, first.payload, first.span), (7, &b"one"[..], 16));
    let second = first_record(&records[16..]).unwrap();
    assert_eq!(
        (second.tag, second.payload, second.span),
        (u32::MAX, &b""[..], 8)
    );
    for cut in [0, 7, 8, 15] {
        assert_eq!(
            first_record(&records[..cut]),
            Err(FrameError::Records),
            "{cut}"
        );
    }
    assert_eq!(
        first_record(&[0; 16]),
        Err(FrameError::Records),
        "an empty header"
    );
    assert_eq!(first_record(&[0xff; 16]), Err(FrameError::Records));
}

#[test]
fn an_end_is_read_or_refused_with_its_reason() {
    for good in [
        "ring:/dev/shm/a?accept-other-source=yes&reopen=no",
        "ring:relative",
        "tcp://localhost:1",
        "tcp://[::1]:7400/",
        "tcp-listen://0.0.0.0:7400?subscribers=16&slow=drop&lag=100&forget=a&forget=b",
        "unix:/run/a%3Fb.sock?name=b",
        "unix-listen:///run/a.sock?framing=len32",
        "tls://a:1?secret=./ours.secret",
    ] {
        assert!(good.parse::<End>().is_ok(), "{good}");
    }
    for (bad, why) in [
        ("/dev/shm/a", "not a URL"),
        ("ftp://a:1", "`ftp:` is no end"),
        ("ring:", "path is missing"),
        ("ring://host/a", "follows the colon"),
        ("ring:/a#b", "%23"),
        ("ring:/a%00b", "path is missing"),
        ("ring:/a?reopen=maybe", "expected yes or no"),
        (
            "ring:/a?subscribers=2",
            "`subscribers` is no option of `ring:`",
        ),
        ("tcp://a", "port is missing"),
        ("tcp://:1", "host"),
        ("tcp://a:1/path", "no path"),
        ("tcp://me:secret@a:1", "others can see"),
        ("tcp-listen://a:1?subscribers=0", "expected 1 to 16"),
        ("tcp-listen://a:1?subscribers=17", "expected 1 to 16"),
        ("tcp-listen://a:1?subscriber=2", "there are framing, name"),
        ("tcp://a:1?secret=hunter2", "path of a file"),
        ("tls://a:1?secret=/s&secret=/s", "given twice"),
        ("unix:/a?secret=/s&framing=lines", "proves nothing"),
        ("tcp-listen://a:1?slow=drop&slow=block", "given twice"),
        ("tcp://a:1?name=a%20b", "white space"),
        ("tcp://a:1?lag=0", "number of bytes"),
        ("tcp://a:1?framing=xml", "lines or len32"),
        ("tcp://a:1?allow_uid=0", "no option of `tcp:`"),
        ("unix:/a?allow_uid=", "numbers of users"),
        ("unix:/a?allow_uid=0,root", "numbers of users"),
        ("unix:/a?allow_uid=0&allow_uid=1", "given twice"),
    ] {
        let refused: EndError = bad.parse::<End>().expect_err(bad);
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
        assert!(refused.to_string().contains(why), "{bad}: {refused}");
    }
}

#[test]
fn ends_that_make_no_bridge_are_refused() {
    let place = crate::rig::Place::new();
    let ring = crate::rig::ring_end(&place.ring("a", 4096));
    let slots = place.path("slots");
    annulus::mpmc::Options::new(8, 64).create(&slots).unwrap();
    // SAFETY: nobody but the test uses the file, and through this library only.
    let producer = unsafe { annulus::mpmc::Producer::attach(&slots) }.unwrap();
    assert!(producer.begin_copying());
    let slots = crate::rig::ring_end(&slots);
    let tcp = "tcp://127.0.0.1:1";
    for (source, destination, why) in [
        (&*ring, &*slots, "two rings"),
        (tcp, tcp, "one end"),
        (tcp, &*slots, "another bridge"),
        (
            &*ring,
            "tcp://127.0.0.1:1?name=a",
            "`name` means nothing here",
        ),
        (
            "tcp://127.0.0.1:1?subscribers=2",
            &*ring,
            "`subscribers` means nothing here",
        ),
        (
            "tcp://127.0.0.1:1?framing=lines&name=a",
            &*ring,
            "`name` means nothing here",
        ),
        (
            &*ring,
            "tcp://127.0.0.1:1?framing=lines&slow=drop",
            "`slow` means nothing here",
        ),
        (&*slots, "tcp://127.0.0.1:1?slow=drop", "only slow=block"),
        ("ring:/nowhere/at/all", tcp, "cannot attach"),
    ] {
        let by = crate::rig::settings();
        let refused = crate::rig::Running::with(source, destination, by).err();
        let refused = refused.expect(why).to_string();
        assert!(refused.contains(why), "{source} {destination}: {refused}");
    }
    let source = format!("{ring}?reopen=yes");
    let refused = crate::rig::Running::with(&source, tcp, crate::rig::settings()).err();
    assert!(
        refused
            .unwrap()
            .to_string()
            .contains("`reopen` means nothing here")
    );
}
