//! TLS 1.3 over what another adapter connects, by rustls: each end knows whom it talks to.
//!
//! The one that calls checks the other's certificate against its name, always; the one that listens
//! checks its callers' if it was told by whom they have to be signed. The handshake is part of the
//! first reading and writing, so nothing here waits.
//!
//! # Invariants
//! 1. Nothing is left in this end's buffers that could be read: what is readable, the socket says.
//! 2. What is left in them to be written is told by [`Stream::has_unsent`].
//! 3. That the peer has taken its leave, which may come together with its last words, is told by
//!    [`Stream::is_over`].

use std::fmt::Display;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::tcp::TcpPort;
use super::{Connected, Mode, Port, Stream};
use crate::bridge::error::BridgeError;
use crate::bridge::link::FIRST_READ_BYTES;
use crate::bridge::url::Credentials;

/// More than one turn of rustls decrypts: three records of 16 KiB, and what came before.
const ROOM_BYTES: usize = 64 << 10;
const _: () = assert!(
    ROOM_BYTES < FIRST_READ_BYTES,
    "a buffer without room leaves something in this end's (INV-1)"
);
/// Most that one call reads from the socket, in parts of some KiB: a record of TLS may hold a byte,
/// and a peer that sends these must not keep a driver from its turn. Of those that hold nothing
/// rustls takes some, and hangs up.
const PULLS: usize = 128;

/// What two bridges speak.
const OUR_VERSION: &[&SupportedProtocolVersion] = &[&TLS13];
/// What others may speak.
#[cfg(feature = "bridge-amqp")]
pub(super) const ANY_VERSION: &[&SupportedProtocolVersion] = &[&TLS13, &rustls::version::TLS12];

/// A TCP port whose connections are encrypted.
#[derive(Debug)]
pub(in crate::bridge) struct TlsPort {
    port: TcpPort,
    side: Side,
}

/// What a new connection needs.
#[derive(Debug)]
enum Side {
    Calls(Arc<ClientConfig>, ServerName<'static>),
    IsCalled(Arc<ServerConfig>),
}

impl TlsPort {
    /// # Errors
    /// If a file is missing, or holds something else than it should.
    pub(in crate::bridge) fn new(
        port: TcpPort,
        host: &str,
        mode: Mode,
        files: &Credentials,
    ) -> Result<Self, BridgeError> {
        let side = match mode {
            Mode::Dial => Side::Calls(client(files, OUR_VERSION)?, server_name(host)?),
            Mode::Listen => Side::IsCalled(server(files)?),
        };
        Ok(Self { port, side })
    }

    fn encrypted(&self, connected: Connected) -> io::Result<Connected> {
        let tls = match &self.side {
            Side::Calls(config, name) => {
                ClientConnection::new(Arc::clone(config), name.clone()).map(Connection::from)
            }
            Side::IsCalled(config) => {
                ServerConnection::new(Arc::clone(config)).map(Connection::from)
            }
        };
        let mut stream = TlsStream {
            socket: connected.stream,
            tls: tls.map_err(io::Error::other)?,
            is_over: false,
        };
        // Who calls speaks first, whichever side speaks first inside.
        stream.push()?;
        Ok(Connected {
            stream: Box::new(stream),
            ..connected
        })
    }
}

impl Port for TlsPort {
    fn dials(&self) -> bool {
        self.port.dials()
    }

    fn at(&self) -> String {
        self.port.at()
    }

    fn dial(&mut self, patience: Duration) -> io::Result<Connected> {
        let connected = self.port.dial(patience)?;
        self.encrypted(connected)
    }

    fn listen(&mut self) -> io::Result<()> {
        self.port.listen()
    }

    fn accept(&mut self) -> io::Result<Option<Connected>> {
        let connected = self.port.accept()?;
        connected.map(|one| self.encrypted(one)).transpose()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.port.descriptor()
    }
}

fn refused(path: &Path) -> impl Fn(&dyn Display) -> BridgeError {
    move |why| BridgeError::Credentials {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// How an end that calls verifies whom it reaches, and what it shows.
///
/// # Errors
/// If a file is missing, or holds something else than it should.
pub(super) fn client(
    files: &Credentials,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>, BridgeError> {
    let roots = match &files.ca {
        Some(path) => roots(path)?,
        None => system_roots(),
    };
    let config = ClientConfig::builder_with_protocol_versions(versions);
    let config = config.with_root_certificates(roots);
    let config = match own(files)? {
        Some((path, chain, key)) => config
            .with_client_auth_cert(chain, key)
            .map_err(|why| refused(path)(&why))?,
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn server(files: &Credentials) -> Result<Arc<ServerConfig>, BridgeError> {
    let Some((path, chain, key)) = own(files)? else {
        let why = "who listens over TLS needs a certificate, `cert=FILE`, and its key, `key=FILE`";
        return Err(BridgeError::Ends(why));
    };
    let config = ServerConfig::builder_with_protocol_versions(OUR_VERSION);
    let config = match &files.ca {
        Some(ca) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca)?)).build();
            config.with_client_cert_verifier(verifier.map_err(|why| refused(ca)(&why))?)
        }
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(chain, key);
    config.map(Arc::new).map_err(|why| refused(path)(&why))
}

type Own<'f> = (
    &'f Path,
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

/// This end's certificate, and those between it and its root, with its key.
fn own(files: &Credentials) -> Result<Option<Own<'_>>, BridgeError> {
    match (&files.cert, &files.key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|why| refused(key)(&why))?;
            Ok(Some((cert, chain, key)))
        }
        _ => Err(BridgeError::Ends(
            "a certificate and its key go together: `cert=FILE&key=FILE`",
        )),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BridgeError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|why| refused(path)(&why))?;
    if all.is_empty() {
        return Err(refused(path)(&"there is no certificate in it"));
    }
    Ok(all)
}

fn roots(path: &Path) -> Result<RootCertStore, BridgeError> {
    let mut roots = RootCertStore::empty();
    for one in certificates(path)? {
        roots.add(one).map_err(|why| refused(path)(&why))?;
    }
    Ok(roots)
}

/// Those that the system trusts. One that cannot be read trusts nobody, which is told when a
/// connection finds no issuer.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Refuses a host for which there can be no certificate.
#[cfg(feature = "bridge-amqp")]
pub(super) fn check_host(host: &str) -> Result<(), BridgeError> {
    server_name(host).map(drop)
}

fn server_name(host: &str) -> Result<ServerName<'static>, BridgeError> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        BridgeError::Ends("a certificate is for a name or an address, and this host is neither")
    })
}

/// A socket, and what encrypts it.
#[derive(Debug)]
struct TlsStream {
    socket: Box<dyn Stream>,
    tls: Connection,
    is_over: bool,
}

impl TlsStream {
    /// Writes what is encrypted, as far as the socket takes it.
    fn push(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once from the socket, and answers if the handshake wants it.
    fn pull(&mut self) -> io::Result<()> {
        self.tls.read_tls(&mut self.socket)?;
        let outcome = self.tls.process_new_packets();
        // An error has told the peer why, if it still listens.
        let pushed = self.push();
        let state = outcome.map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
        self.is_over = state.peer_has_closed();
        pushed
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        for _ in 0..PULLS {
            match self.tls.reader().read(&mut buffer[count..]) {
                Ok(0) => return Ok(count),
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Who cuts the line without a word has hung up too: frames tell where they end.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(count),
                Err(error) => return Err(error),
            }
            if count > 0 && buffer.len() - count < ROOM_BYTES {
                return Ok(count);
            }
            match self.pull() {
                Ok(()) => {}
                // What has come counts; an error is told again by the next read.
                Err(_) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
        }
        // Others have their turn; what was pulled last is read here, or invariant 1 would not hold.
        match self.tls.reader().read(&mut buffer[count..]) {
            Ok(more) => Ok(count + more),
            Err(_) if count > 0 => Ok(count),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.push()?;
        let count = self.tls.writer().write_vectored(parts)?;
        self.push()?;
        let wanted = parts.iter().any(|part| !part.is_empty());
        if count == 0 && wanted {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()?;
        if self.tls.wants_write() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.socket.flush()
    }
}

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Stream for TlsStream {
    fn has_unsent(&self) -> bool {
        self.tls.wants_write()
    }

    fn is_established(&self) -> bool {
        !self.tls.is_handshaking()
    }

    /// The `tls-exporter` of RFC 9266.
    fn binding(&self) -> io::Result<[u8; 32]> {
        let label = b"EXPORTER-Channel-Binding";
        let exported = self.tls.export_keying_material([0; 32], label, Some(&[]));
        exported.map_err(io::Error::other)
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.tls.send_close_notify();
        // Whatever comes of it.
        let _pushed = self.push();
    }
}

#[cfg(test)]
mod tests;
