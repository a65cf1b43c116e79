//! A certificate with its private key.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// A certificate chain, leaf first, and its private key.
#[derive(Clone, Debug)]
pub struct KeyPair(pub Arc<CertifiedKey>, Vec<u8>);

impl KeyPair {
    /// `key` is the private key as PKCS#8, PKCS#1 or SEC1 DER.
    pub(crate) fn new(certified: CertifiedKey, key: Vec<u8>) -> Self {
        Self(Arc::new(certified), key)
    }

    /// The private key, as PKCS#8, PKCS#1 or SEC1 DER.
    pub fn key_der(&self) -> &[u8] {
        &self.1
    }

    /// The DNS names of the certificate, in lower case. They may start with `*.`. Empty: it has none, or cannot be read.
    pub fn dns_names(&self) -> Vec<String> {
        let certificate = self.0.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        let Some(Ok(Some(names))) = certificate.as_ref().map(|(_, leaf)| leaf.subject_alternative_name()) else {
            return Vec::new();
        };
        let names = names.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
                _ => None,
            })
            .collect()
    }
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}
