//! Certificates for servers of the tests.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority's certificate, and one of it for `localhost` with its key; all in PEM.
pub(crate) fn certificates() -> [String; 3] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let own = authority.self_signed(&key).unwrap().pem();
    let server = KeyPair::generate().unwrap();
    let name = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = name.signed_by(&server, &Issuer::new(authority, key)).unwrap().pem();
    [own, certificate, server.serialize_pem()]
}
