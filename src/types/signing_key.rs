//! Private keys with which the edge signs its own tokens (RFC 7515, RFC 7518 section 3), and their public keys.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use thiserror::Error;

use super::Secret;

/// A private key. `Debug` does not show it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    /// The encoded key. Two keys are equal when their encodings are equal.
    der: Secret,
}

enum Pair {
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a file cannot be used as a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// The file is not PEM, or contains no PKCS#8 key.
    #[error(
        "contains no PKCS#8 private key: give a PEM file with `BEGIN PRIVATE KEY` (`openssl pkcs8 -topk8 -nocrypt`)"
    )]
    NoKey,
    /// The key is of a type that cannot sign here.
    #[error("is not a key that can sign: give an RSA key of 2048 to 4096 bits, P-256, P-384 or Ed25519")]
    Kind,
}

/// The system provides no random numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("signing failed, because the system provides no random numbers")]
pub struct CannotSign;

impl SigningKey {
    /// Reads the first PKCS#8 key of a PEM text.
    ///
    /// # Errors
    /// The text contains no PKCS#8 key, or the key cannot sign.
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

    /// The `alg` of the key's signatures (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The id of the key: the thumbprint of its public key (RFC 7638 section 3). The same key has the same id on every
    /// edge.
    pub fn id(&self) -> String {
        // Exactly these members in this order, without white space (RFC 7638 section 3.2, RFC 8037 section 2).
        let members = match &*self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = rsa_parts(pair);
                format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#)
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                let (curve, (x, y)) = (self.curve(), point(pair));
                format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#)
            }
            Pair::Ed25519(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#)
            }
        };
        URL_SAFE_NO_PAD.encode(digest(&SHA256, members.as_bytes()))
    }

    /// The public key, as an item of a key set (RFC 7517 section 4).
    pub fn public_jwk(&self) -> Value {
        let mut jwk = match &*self.pair {
            Pair::Rsa(pair) => {
                let (n, e) = rsa_parts(pair);
                json!({"kty": "RSA", "n": n, "e": e})
            }
            Pair::P256(pair) | Pair::P384(pair) => {
                let (x, y) = point(pair);
                json!({"kty": "EC", "crv": self.curve(), "x": x, "y": y})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key())})
            }
        };
        jwk["kid"] = self.id().into();
        jwk["alg"] = self.algorithm().into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// The `crv` of an elliptic-curve key (RFC 7518 section 6.2.1.1).
    fn curve(&self) -> &'static str {
        match &*self.pair {
            Pair::P384(_) => "P-384",
            _ => "P-256",
        }
    }

    /// Signs a JWT in compact form (RFC 7515 section 7.1). `header` must be an object; `alg` is added to it.
    ///
    /// # Errors
    /// The system provides no random numbers.
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

/// The modulus and the exponent in base64url (RFC 7518 section 6.3.1).
fn rsa_parts(pair: &RsaKeyPair) -> (String, String) {
    let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    (URL_SAFE_NO_PAD.encode(parts.n), URL_SAFE_NO_PAD.encode(parts.e))
}

/// The coordinates of a public key in base64url (RFC 7518 section 6.2.1). The first byte of the key says
/// "uncompressed"; two halves of the same length follow.
fn point(pair: &EcdsaKeyPair) -> (String, String) {
    let both = &pair.public_key().as_ref()[1..];
    let (x, y) = both.split_at(both.len() / 2);
    (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
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
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{DecodingKey, Validation};
    use ring::signature as verify;
    use ring::signature::UnparsedPublicKey;

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

    /// Another library must verify a signed token with the published key, and the published key must not contain
    /// private parts.
    #[test]
    fn the_public_half_of_each_kind_verifies_its_tokens() {
        crate::auth::install_crypto();
        let random = SystemRandom::new();
        let made = |document: ring::pkcs8::Document| pem(document.as_ref());
        let ecdsa = |algorithm| made(EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("there is randomness"));
        for (pem, private) in [
            (include_str!("../../tests/fixtures/keys/rsa.pem").to_owned(), vec!["d", "p", "q", "dp", "dq", "qi"]),
            (ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING), vec!["d"]),
            (ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING), vec!["d"]),
            (made(Ed25519KeyPair::generate_pkcs8(&random).expect("randomness")), vec!["d"]),
        ] {
            let key = SigningKey::from_pem(pem.as_bytes()).expect("a key");
            let public = key.public_jwk();
            assert!(private.iter().all(|member| public.get(member).is_none()), "{public}");
            let jwk: Jwk = serde_json::from_value(public.clone()).expect("a key of a set");
            assert_eq!(jwk.common.key_id.as_deref(), Some(key.id().as_str()));
            let token = key.sign_jwt(json!({}), &json!({"sub": "edge"})).expect("it signs");
            let mut validation = Validation::new(key.algorithm().parse().expect("a known algorithm"));
            validation.required_spec_claims.clear();
            validation.validate_exp = false;
            let decoding = DecodingKey::from_jwk(&jwk).expect("a key that can be used");
            let claims = jsonwebtoken::decode::<Value>(&token, &decoding, &validation).expect("it is right").claims;
            assert_eq!(claims["sub"], "edge", "{public}");
        }
    }

    /// RFC 8037 appendix A: the key of A.1 and its thumbprint of A.3.
    #[test]
    fn the_id_of_a_key_is_its_thumbprint() {
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").expect("base64url");
        // An Ed25519 key in PKCS#8 version 1 (RFC 8410 section 7). Two such keys differ only in the seed.
        let prefix = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let key = SigningKey::from_pem(pem(&[&prefix[..], &seed].concat()).as_bytes()).expect("a key");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.public_jwk()["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn invalid_keys_are_refused() {
        for text in ["", "hunter2", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            assert_eq!(SigningKey::from_pem(text.as_bytes()).err(), Some(SigningKeyError::NoKey), "{text}");
        }
        assert_eq!(SigningKey::from_pem(pem(b"no key").as_bytes()).err(), Some(SigningKeyError::Kind));
    }
}
