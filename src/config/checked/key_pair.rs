//! A certificate with its private key.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

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
}

impl PartialEq for KeyPair {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}
