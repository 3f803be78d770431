//! TLS for the connections that this service makes: to its database, and to the API server.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::BoxError;

/// Trusts the authorities in a PEM file, and no others.
///
/// # Errors
/// When the file is not read or holds no certificate.
pub(crate) fn trusting(file: &str) -> Result<ClientConfig, BoxError> {
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        authorities.add(certificate?)?;
    }
    if authorities.is_empty() {
        return Err("there is no certificate in it".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(config)
}
