//! Signature checks of tokens with *ring*, which the TLS stack brings anyway: `jsonwebtoken` lets its user choose the
//! implementation, and a second cryptographic library in the process would be one too many to keep patched.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature as verify;

static PROVIDER: CryptoProvider = CryptoProvider {
    // The edge signs no tokens.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| match RingVerifier::new(*algorithm, key) {
        Ok(verifier) => Ok(Box::new(verifier)),
        Err(error) => Err(error),
    },
    // Only thumbprints and conversions of keys to JWKs need these; the edge makes neither.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` and `rustls` use *ring*. May be called any number of times.
pub fn install() {
    // An error says that it was installed before: by an earlier edge of this process.
    let _ = PROVIDER.install_default();
    let _ = rustls::crypto::ring::default_provider().install_default();
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl RingVerifier {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        // A key of one family never checks a signature of another: the RS/HS confusion of RFC 8725 section 2.1.
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

    fn public(
        &self,
        algorithm: &'static dyn verify::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let DecodingKeyKind::SecretOrDer(key) = self.key.kind() else { return false };
        verify::UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
