//! What strangers say to a bridge, and what users call its ends.

use annulus::bridge::End;
use annulus::bridge::frame::{Frame, HEADER_BYTES, Head, first_record};

/// A frame is read or refused, whatever the bytes; one that is read is written as it came.
pub fn bridge_frames(data: &[u8]) {
    let Some((header, rest)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    if let Ok(head) = Head::decode(header, 1 << 16) {
        let body = &rest[..rest.len().min(head.body_bytes())];
        if body.len() == head.body_bytes() && head.check(body).is_ok() {
            // Hardly ever: a checksum is not guessed.
            let _frame = head.frame(body);
        }
    }
    // So the body is also looked at as one that was checked, of the kind that the first byte says.
    let body = &data[1..];
    let mut header = [0; HEADER_BYTES];
    let len = u32::try_from(body.len()).expect("an input is short");
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4] = data[0] % 14;
    let Ok(Ok(frame)) = Head::decode(&header, 1 << 16).map(|head| head.frame(body)) else {
        return;
    };
    if let Frame::Data { records, .. } = frame {
        walk(records);
    }
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    let (header, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .expect("a frame has a header");
    let head = Head::decode(header, 1 << 16).expect("our own header");
    head.check(body).expect("our own checksum");
    assert_eq!(head.frame(body), Ok(frame));
}

/// Each record is within the frame, and the walk ends.
fn walk(mut records: &[u8]) {
    while let Ok(record) = first_record(records) {
        assert!(record.span >= 8 && record.payload.len() <= record.span);
        records = &records[record.span..];
    }
}

/// A text is an end or is refused with words.
pub fn bridge_ends(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match text.parse::<End>() {
        Ok(End::Ring(ring)) => assert!(!ring.path.as_os_str().is_empty()),
        Ok(End::Socket(socket)) => {
            assert!(
                socket
                    .subscribers
                    .is_none_or(|count| (1..=16).contains(&count))
            );
        }
        Ok(End::Amqp(end)) => assert!(!end.host.is_empty() && end.prefetch != Some(0)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
