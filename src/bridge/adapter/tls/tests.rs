//! Two ends of an encrypted connection, without a bridge.

use super::*;
use crate::bridge::clock::now;
use crate::bridge::error::LinkError;
use crate::bridge::link::Link;
use rcgen::generate_simple_self_signed;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Who calls and who is called, on a socket of two ends.
fn pair() -> (TlsStream, TlsStream) {
    let (client, server) = connections();
    let (near, far) = UnixStream::pair().expect("two ends");
    let stream = |socket: UnixStream, tls| {
        socket.set_nonblocking(true).expect("a socket");
        let socket = Box::new(socket);
        TlsStream {
            socket,
            tls,
            is_over: false,
        }
    };
    (stream(near, client.into()), stream(far, server.into()))
}

/// Of one who calls, and of one who is called.
fn connections() -> (ClientConnection, ServerConnection) {
    let own = generate_simple_self_signed(vec!["here".to_owned()]).expect("a certificate");
    let cert = own.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).expect("a root");
    let client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(vec![cert], key.into())
        .expect("its own key");
    // So that records can be made that rustls would not.
    server.enable_secret_extraction = true;
    let name = server_name("here").expect("a name");
    let client = ClientConnection::new(client.into(), name).expect("a client");
    let server = ServerConnection::new(server.into()).expect("a server");
    (client, server)
}

/// The handshake: three flights at most.
fn agree(near: &mut TlsStream, far: &mut TlsStream) {
    let mut buffer = vec![0; 4 * ROOM_BYTES];
    while near.tls.is_handshaking() || far.tls.is_handshaking() {
        near.push().expect("room");
        assert!(is_empty(far.read(&mut buffer)) && is_empty(near.read(&mut buffer)));
    }
}

fn link(stream: TlsStream) -> Link {
    let connected = Connected {
        stream: Box::new(stream),
        peer: String::new(),
        uid: None,
    };
    Link::new(connected, 0, now())
}

fn is_empty(outcome: io::Result<usize>) -> bool {
    outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// The socket takes less than the stream does: what is left goes out as soon as it can, though
/// there is nothing more to say.
#[test]
fn what_the_socket_has_not_taken_goes_out_without_anything_behind_it() {
    let (mut near, mut far) = pair();
    let mut buffer = vec![0; 4 * ROOM_BYTES];
    agree(&mut near, &mut far);
    let mut link = link(near);
    let (chunk, mut sent) = ([7; 4096], 0);
    // Ends when the socket is full.
    while !link.has_more() {
        link.begin_plain(chunk.len());
        link.write(&chunk, now()).expect("the other end is there");
        sent += chunk.len();
    }
    assert!(!link.is_lent(), "the stream has taken all of it");
    let mut came = 0;
    // Each turn moves bytes, and there are so many.
    while link.has_more() {
        came += far.read(&mut buffer).expect("the socket is full");
        link.write(&[], now()).expect("the other end is there");
    }
    while came < sent {
        came += far.read(&mut buffer).expect("all was sent");
    }
    assert_eq!(came, sent);
}

/// Somebody in the middle has two lines, each with a name of its own.
#[test]
fn both_ends_of_a_line_know_it_by_a_name_that_no_other_line_has() {
    let names = [(); 2].map(|()| {
        let (mut near, mut far) = pair();
        assert!(near.binding().is_err(), "there is no line yet");
        agree(&mut near, &mut far);
        let name = near.binding().expect("a line");
        assert_eq!(name, far.binding().expect("a line"));
        name
    });
    assert!(names[0] != names[1] && names[0] != [0; 32]);
}

/// The leave is in the same bytes as the last words, and nothing more ever comes.
#[test]
fn a_leave_that_comes_with_the_last_words_is_told_behind_them() {
    let (mut near, mut far) = pair();
    agree(&mut near, &mut far);
    near.tls.writer().write_all(b"last words").expect("room");
    near.tls.send_close_notify();
    near.push().expect("room");
    let mut link = link(far);
    assert!(!link.is_over());
    assert!(link.read(now()).expect("words have come"));
    assert_eq!(link.bytes(), b"last words");
    assert!(link.is_over(), "the socket has nothing more to tell");
    assert!(matches!(link.read(now()), Err(LinkError::HungUp)));
}

/// Bytes that have all come, and how often they were asked for.
#[derive(Debug)]
struct Canned {
    bytes: io::Cursor<Vec<u8>>,
    reads: Arc<AtomicUsize>,
    socket: UnixStream,
}

impl Read for Canned {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads.fetch_add(1, Relaxed);
        match self.bytes.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Canned {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Canned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream for Canned {}

/// Records of TLS as the other end would write them.
struct Sealer {
    key: LessSafeKey,
    iv: Vec<u8>,
    number: u64,
}

impl Sealer {
    fn new(secrets: ExtractedSecrets) -> Self {
        let (number, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = secrets.tx else {
            panic!("what both ends of rustls prefer");
        };
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("a key");
        Self {
            key: LessSafeKey::new(key),
            iv: iv.as_ref().to_vec(),
            number,
        }
    }

    /// Application data, as RFC 8446 draws it: header, data, type, tag.
    fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let len = u16::try_from(data.len() + 1 + 16).expect("short");
        let [high, low] = len.to_be_bytes();
        let header = [0x17, 3, 3, high, low];
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.number.to_be_bytes());
        nonce.iter_mut().zip(&self.iv).for_each(|(n, i)| *n ^= i);
        self.number += 1;
        let mut sealed = [data, &[0x17]].concat();
        let (nonce, header_of) = (Nonce::assume_unique_for_key(nonce), Aad::from(header));
        let done = self
            .key
            .seal_in_place_append_tag(nonce, header_of, &mut sealed);
        done.expect("room");
        out.extend(header);
        out.extend(sealed);
    }
}

/// A byte a record: what fills a buffer is in so many reads of the socket. A read ends before.
#[test]
fn records_that_say_hardly_anything_do_not_keep_a_driver_from_its_turn() {
    let (mut client, mut server) = connections();
    // Three flights, and what the server says behind them.
    for _ in 0..2 {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).expect("memory");
        server.read_tls(&mut &*bytes).expect("memory");
        server.process_new_packets().expect("a client");
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        client.read_tls(&mut &*bytes).expect("memory");
        client.process_new_packets().expect("a server");
    }
    let mut sealer = Sealer::new(server.dangerous_extract_secrets().expect("they may be"));
    const COUNT: usize = 100_000;
    let mut bytes = Vec::new();
    (0..COUNT).for_each(|_| sealer.seal(b"x", &mut bytes));
    let reads = Arc::<AtomicUsize>::default();
    let mut stream = TlsStream {
        socket: Box::new(Canned {
            bytes: io::Cursor::new(bytes),
            reads: Arc::clone(&reads),
            socket: UnixStream::pair().expect("two ends").0,
        }),
        tls: client.into(),
        is_over: false,
    };
    let mut buffer = vec![0; 4 * ROOM_BYTES];
    let (mut came, mut turns) = (0, 0);
    while came < COUNT {
        reads.store(0, Relaxed);
        came += stream.read(&mut buffer).expect("more is there");
        let asked = reads.load(Relaxed);
        assert!(asked <= PULLS, "{asked} reads in one turn");
        turns += 1;
    }
    assert!(turns > 2, "{turns} turns: there is too little to read");
}
