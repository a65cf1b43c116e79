//! Checks signatures of tokens with *ring*. `jsonwebtoken` lets its user choose the cryptographic library. The TLS
//! stack already uses *ring*, and a second library would have to be kept patched as well.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature as verify;

static PROVIDER: CryptoProvider = CryptoProvider {
    // Not needed: the edge signs with `types::SigningKey`.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| match RingVerifier::new(*algorithm, key) {
        Ok(verifier) => Ok(Box::new(verifier)),
        Err(error) => Err(error),
    },
    // Not needed: `jsonwebtoken` uses these only for thumbprints and to convert keys to JWKs. `types::SigningKey` does
    // that itself.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` and `rustls` use *ring*. May be called any number of times.
pub fn install() {
    // An error means that *ring* is already installed, by an earlier edge in this process.
    let _ = PROVIDER.install_default();
    let _ = rustls::crypto::ring::default_provider().install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl RingVerifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        // A key of one family must never verify a signature of another family. This prevents the RS/HS confusion of RFC
        // 8725 section 2.1.
        if key.family() == family(algorithm)? {
            Ok(Self { algorithm, key: key.clone() })
        } else {
            Err(ErrorKind::InvalidKeyFormat.into())
        }
    }
}

fn family(algorithm: Algorithm) -> Result<AlgorithmFamily, Error> {
    use Algorithm::*;
    Ok(match algorithm {
        HS256 | HS384 | HS512 => AlgorithmFamily::Hmac,
        RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => AlgorithmFamily::Rsa,
        ES256 | ES384 => AlgorithmFamily::Ec,
        EdDSA => AlgorithmFamily::Ed,
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    })
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        use Algorithm::*;
        let valid = match self.algorithm {
            HS256 => self.mac(hmac::HMAC_SHA256, message, signature),
            HS384 => self.mac(hmac::HMAC_SHA384, message, signature),
            HS512 => self.mac(hmac::HMAC_SHA512, message, signature),
            RS256 => self.rsa(&verify::RSA_PKCS1_2048_8192_SHA256, message, signature),
            RS384 => self.rsa(&verify::RSA_PKCS1_2048_8192_SHA384, message, signature),
            RS512 => self.rsa(&verify::RSA_PKCS1_2048_8192_SHA512, message, signature),
            PS256 => self.rsa(&verify::RSA_PSS_2048_8192_SHA256, message, signature),
            PS384 => self.rsa(&verify::RSA_PSS_2048_8192_SHA384, message, signature),
            PS512 => self.rsa(&verify::RSA_PSS_2048_8192_SHA512, message, signature),
            ES256 => self.public(&verify::ECDSA_P256_SHA256_FIXED, message, signature),
            ES384 => self.public(&verify::ECDSA_P384_SHA384_FIXED, message, signature),
            EdDSA => self.public(&verify::ED25519, message, signature),
            _ => false,
        };
        if valid { Ok(()) } else { Err(signature::Error::new()) }
    }
}

impl RingVerifier {
    fn mac(&self, algorithm: hmac::Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let DecodingKeyKind::SecretOrDer(secret) = self.key.kind() else { return false };
        hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).is_ok()
    }

    fn rsa(&self, parameters: &'static verify::RsaParameters, message: &[u8], signature: &[u8]) -> bool {
        match self.key.kind() {
            DecodingKeyKind::SecretOrDer(_) => self.public(parameters, message, signature),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                verify::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
        }
    }

    fn public(&self, algorithm: &'static dyn verify::VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let DecodingKeyKind::SecretOrDer(key) = self.key.kind() else { return false };
        verify::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::jwk::Jwk;
    use ring::rand::SystemRandom;
    use ring::rsa::PublicKeyComponents;
    use ring::signature::{self as sign, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject;
    use serde_json::{Value, json};

    const MESSAGE: &[u8] = b"header.claims";

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// For each algorithm of public keys: a key as in a key set, and its signature of the message.
    fn signatures() -> Vec<(Algorithm, Value, Vec<u8>)> {
        let random = SystemRandom::new();
        let mut made = Vec::new();
        for (algorithm, curve, ring) in [
            (Algorithm::ES256, "P-256", &sign::ECDSA_P256_SHA256_FIXED_SIGNING),
            (Algorithm::ES384, "P-384", &sign::ECDSA_P384_SHA384_FIXED_SIGNING),
        ] {
            let document = EcdsaKeyPair::generate_pkcs8(ring, &random).expect("there is randomness");
            let pair = EcdsaKeyPair::from_pkcs8(ring, document.as_ref(), &random).expect("it was just made");
            let (x, y) = pair.public_key().as_ref()[1..].split_at(pair.public_key().as_ref().len() / 2);
            let key = json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)});
            made.push((algorithm, key, pair.sign(&random, MESSAGE).expect("it can sign").as_ref().to_vec()));
        }
        let document = Ed25519KeyPair::generate_pkcs8(&random).expect("there is randomness");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("it was just made");
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())});
        made.push((Algorithm::EdDSA, key, pair.sign(MESSAGE).as_ref().to_vec()));
        let pem = include_bytes!("../../tests/fixtures/keys/rsa.pem");
        let document = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("the fixture is PKCS#8");
        let pair = RsaKeyPair::from_pkcs8(document.secret_pkcs8_der()).expect("the fixture is an RSA key");
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let key = json!({"kty": "RSA", "n": encode(&public.n), "e": encode(&public.e)});
        let encodings: [(Algorithm, &'static dyn sign::RsaEncoding); 6] = [
            (Algorithm::RS256, &sign::RSA_PKCS1_SHA256),
            (Algorithm::RS384, &sign::RSA_PKCS1_SHA384),
            (Algorithm::RS512, &sign::RSA_PKCS1_SHA512),
            (Algorithm::PS256, &sign::RSA_PSS_SHA256),
            (Algorithm::PS384, &sign::RSA_PSS_SHA384),
            (Algorithm::PS512, &sign::RSA_PSS_SHA512),
        ];
        for (algorithm, encoding) in encodings {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, MESSAGE, &mut signature).expect("it can sign");
            made.push((algorithm, key.clone(), signature));
        }
        made
    }

    fn decoding_key(key: &Value) -> DecodingKey {
        let jwk: Jwk = serde_json::from_value(key.clone()).expect("a key of a set");
        DecodingKey::from_jwk(&jwk).expect("a key that can be used")
    }

    #[test]
    fn each_algorithm_verifies_its_own_signatures_and_no_others() {
        let made = signatures();
        for (algorithm, key, _) in &made {
            for (signer, _, signature) in &made {
                let Ok(verifier) = RingVerifier::new(*algorithm, &decoding_key(key)) else { panic!("{algorithm:?}") };
                let valid = verifier.verify(MESSAGE, signature).is_ok();
                assert_eq!(valid, algorithm == signer, "{algorithm:?} with a signature of {signer:?}");
            }
        }
        for (algorithm, key, signature) in &made {
            let verifier = RingVerifier::new(*algorithm, &decoding_key(key)).expect("the key fits");
            assert!(verifier.verify(b"another message", signature).is_err(), "{algorithm:?}");
        }
    }

    #[test]
    fn a_public_key_is_not_accepted_as_a_shared_secret() {
        for (_, key, _) in signatures() {
            assert!(RingVerifier::new(Algorithm::HS256, &decoding_key(&key)).is_err());
        }
        assert!(RingVerifier::new(Algorithm::ES256, &DecodingKey::from_secret(b"secret")).is_err());
    }

    #[test]
    fn shared_secrets() {
        for (algorithm, ring) in [
            (Algorithm::HS256, hmac::HMAC_SHA256),
            (Algorithm::HS384, hmac::HMAC_SHA384),
            (Algorithm::HS512, hmac::HMAC_SHA512),
        ] {
            let tag = hmac::sign(&hmac::Key::new(ring, b"secret"), MESSAGE).as_ref().to_vec();
            let verify = |secret: &[u8]| {
                let verifier = RingVerifier::new(algorithm, &DecodingKey::from_secret(secret)).expect("the key fits");
                verifier.verify(MESSAGE, &tag).is_ok()
            };
            assert!(verify(b"secret") && !verify(b"another"), "{algorithm:?}");
        }
    }
}
