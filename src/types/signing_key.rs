//! Private keys with which the edge signs tokens of its own (RFC 7515, RFC 7518 section 3).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use thiserror::Error;

use super::Secret;

/// A private key. It is never shown.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    /// What it was read from: two keys are the same when this is.
    der: Secret,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// Not PEM, or of another kind than PKCS#8.
    #[error("holds no PKCS#8 private key: give a PEM file with `BEGIN PRIVATE KEY` (`openssl pkcs8 -topk8 -nocrypt`)")]
    NoKey,
    /// A kind of key that cannot sign here.
    #[error("is of no kind that can sign: give an RSA key of 2048 to 4096 bits, P-256, P-384 or Ed25519")]
    Kind,
}

/// The system gives no random numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("nothing can be signed, because the system gives no random numbers")]
pub struct CannotSign;

impl SigningKey {
    /// Reads the first PKCS#8 key of a PEM text.
    ///
    /// # Errors
    /// There is none that can sign.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningKeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SigningKeyError::NoKey)?;
        let der = der.secret_pkcs8_der();
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, &SystemRandom::new());
        let pair = if let Ok(pair) = ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING) {
            Pair::P256(pair)
        } else if let Ok(pair) = ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING) {
            Pair::P384(pair)
        } else if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Pair::Ed25519(pair)
        } else if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
            Pair::Rsa(pair)
        } else {
            return Err(SigningKeyError::Kind);
        };
        Ok(Self { pair: Arc::new(pair), der: Secret::new(der) })
    }

    /// `alg` of its signatures (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// A JWT in compact form (RFC 7515 section 7.1); `alg` is put into `header`, which is an object.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign_jwt(&self, mut header: Value, claims: &Value) -> Result<String, CannotSign> {
        header["alg"] = self.algorithm().into();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CannotSign> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| CannotSign)
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| CannotSign)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature as verify;
    use ring::signature::{KeyPair, UnparsedPublicKey};
    use serde_json::json;

    fn pem(der: &[u8]) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }

    #[test]
    fn each_kind_of_key_signs_with_its_algorithm() {
        let random = SystemRandom::new();
        let made = |document: ring::pkcs8::Document| pem(document.as_ref());
        let ecdsa = |algorithm| made(EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness"));
        let rsa = include_str!("../../tests/fixtures/keys/rsa.pem").to_owned();
        let kinds: [(&str, String, &dyn verify::VerificationAlgorithm); 4] = [
            ("RS256", rsa, &verify::RSA_PKCS1_2048_8192_SHA256),
            ("ES256", ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING), &verify::ECDSA_P256_SHA256_FIXED),
            ("ES384", ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING), &verify::ECDSA_P384_SHA384_FIXED),
            ("EdDSA", made(Ed25519KeyPair::generate_pkcs8(&random).expect("randomness")), &verify::ED25519),
        ];
        for (name, pem, _) in &kinds {
            let key = SigningKey::from_pem(pem.as_bytes()).expect("a key");
            assert_eq!((key.algorithm(), format!("{key:?}")), (*name, format!("SigningKey({name})")));
            let token = key.sign_jwt(json!({"typ": "JWT"}), &json!({"sub": "edge"})).expect("it signs");
            let (message, signature) = token.rsplit_once('.').expect("three parts");
            let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
            let public = match &*key.pair {
                Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
                Pair::P256(pair) | Pair::P384(pair) => pair.public_key().as_ref().to_vec(),
                Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            };
            for (other, _, algorithm) in &kinds {
                let verified = UnparsedPublicKey::new(*algorithm, &public).verify(message.as_bytes(), &signature);
                assert_eq!(verified.is_ok(), name == other, "{name} as {other}");
            }
            let header = URL_SAFE_NO_PAD.decode(message.split('.').next().expect("a header")).expect("base64url");
            let header: Value = serde_json::from_slice(&header).expect("JSON");
            assert_eq!(header, json!({"typ": "JWT", "alg": name}));
        }
    }

    #[test]
    fn what_is_no_key() {
        for text in ["", "hunter2", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            assert_eq!(SigningKey::from_pem(text.as_bytes()).err(), Some(SigningKeyError::NoKey), "{text}");
        }
        assert_eq!(SigningKey::from_pem(pem(b"no key").as_bytes()).err(), Some(SigningKeyError::Kind));
    }
}
