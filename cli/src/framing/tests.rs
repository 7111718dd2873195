use super::*;

/// Cuts `input`, which arrives `step` bytes at a time.
fn cut(mut cutter: Cutter, input: &[u8], step: usize) -> Result<Vec<(u32, Vec<u8>)>, CutError> {
    let mut records = Vec::new();
    let mut arriving = input.chunks(step);
    while !cutter.is_done() {
        while let Some(Cut { tag, bytes }) = cutter.peek()? {
            records.push((tag, bytes.to_vec()));
            cutter.take()?;
        }
        let more = arriving.next().unwrap_or_default();
        cutter.room()[..more.len()].copy_from_slice(more);
        cutter.filled(more.len());
    }
    Ok(records)
}

fn join(records: &[(u32, Vec<u8>)]) -> Vec<u8> {
    records.iter().fold(Vec::new(), |mut output, (tag, bytes)| {
        let frame = Frame::of(None, *tag, bytes.len());
        output.extend([frame.before(), bytes, frame.after()].concat());
        output
    })
}

#[test]
fn what_is_joined_is_what_was_cut_however_it_trickled_in() {
    let inputs: [(Framing, &[u8]); 10] = [
        (Framing::Lines, b""),
        (Framing::Lines, b"\n"),
        (Framing::Lines, b"\n\n"),
        (Framing::Lines, b"one\n\ntwo\n"),
        (Framing::Lines, b"one\ntwo"),
        (Framing::Raw, b""),
        (Framing::Raw, b"one\0two\nthree"),
        (Framing::Raw, b"1234567890123456"),
        (Framing::Len32, b""),
        (Framing::Len32, b"\x03\0\0\0one\0\0\0\0\x01\0\0\0x"),
    ];
    for (framing, input) in inputs {
        let whole = cut(Cutter::new(framing, 8, 8), input, 64).unwrap();
        assert_eq!(join(&whole), input, "{framing:?} {input:?}");
        for step in 1..8 {
            let trickled = cut(Cutter::new(framing, 8, 8), input, step).unwrap();
            assert_eq!(trickled, whole, "{framing:?} {input:?} by {step}");
        }
    }
}

#[test]
fn a_line_that_is_too_long_is_named() {
    let found = cut(Cutter::new(Framing::Lines, 3, 8), b"one\nfour\n", 64);
    let expected = CutError::TooLong {
        what: "line",
        number: 2,
        max: 3,
    };
    assert_eq!(found, Err(expected));
}

#[test]
fn a_length_that_no_record_has_is_refused_before_its_bytes_come() {
    let found = cut(Cutter::new(Framing::Len32, 3, 8), b"\xff\xff\xff\xffx", 64);
    let expected = CutError::TooLong {
        what: "record",
        number: 1,
        max: 3,
    };
    assert_eq!(found, Err(expected));
}

#[test]
fn an_input_that_ends_inside_a_record_says_where() {
    for (input, found, expected) in [(&b"\x03\0"[..], 2, 4), (b"\x03\0\0\0on", 6, 7)] {
        let outcome = cut(Cutter::new(Framing::Len32, 8, 8), input, 64);
        assert_eq!(
            outcome,
            Err(CutError::Truncated {
                number: 1,
                found,
                expected
            })
        );
    }
}

#[test]
fn a_record_longer_than_the_buffer_makes_it_grow() {
    let line = vec![b'x'; 3 * BUFFER];
    let found = cut(Cutter::new(Framing::Lines, 4 * BUFFER, 8), &line, 1024).unwrap();
    assert_eq!(found, [(tag::OPEN_LINE, line)]);
}
