//! Certificates for tests, and who signs them.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::rig::Place;

/// Whoever signs. Its own certificate is `NAME.pem`.
pub struct Authority<'p> {
    place: &'p Place,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl<'p> Authority<'p> {
    pub fn new(place: &'p Place, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        std::fs::write(place.path(&format!("{name}.pem")), issuer.pem()).unwrap();
        Self { place, issuer }
    }

    /// Signs for a name or an address.
    pub fn signs(&self, name: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let files = Files {
            cert: self.place.path(&format!("{name}.cert.pem")),
            key: self.place.path(&format!("{name}.key.pem")),
        };
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl Files {
    /// As options of the end whose they are.
    pub fn own(&self) -> String {
        format!("cert={}&key={}", self.cert.display(), self.key.display())
    }
}

/// An authority, as the option of an end that is to trust it.
pub fn ca(place: &Place, name: &str) -> String {
    format!("ca={}", place.path(&format!("{name}.pem")).display())
}
