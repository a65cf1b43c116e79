//! Signs tokens with ES256.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// A key pair and its id. Clones share the key.
#[derive(Clone)]
pub(crate) struct Signer {
    key: Arc<EcdsaKeyPair>,
    id: String,
}

impl Signer {
    /// A signer with a new key.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
        let key = Arc::new(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random)?);
        Ok(Self { key, id: nonce()? })
    }

    /// The public key as an entry of a JWK set.
    pub(crate) fn jwk(&self) -> Value {
        // The public key is an uncompressed point: a marker byte and then both coordinates, 32 bytes each.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({
            "kid": self.id,
            "kty": "EC",
            "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
            "use": "sig",
            "alg": "ES256",
        })
    }

    /// The claims as a signed access token.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, Unspecified> {
        let header = json!({ "alg": "ES256", "typ": "at+jwt", "kid": self.id });
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A random text, safe in URLs.
pub(crate) fn nonce() -> Result<String, Unspecified> {
    let mut bytes = [0; 12];
    SystemRandom::new().fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn decode(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).expect("unpadded base64url")
    }

    #[test]
    fn the_published_key_verifies_the_token() {
        let signer = Signer::generate().expect("a key");
        let token = signer.sign(&json!({ "sub": "alice" })).expect("a signature");
        let (signed, signature) = token.rsplit_once('.').expect("a signature part");
        let (header, claims) = signed.split_once('.').expect("a header and a claims part");

        let jwk = signer.jwk();
        let coordinate = |name: &str| decode(jwk[name].as_str().expect("a text"));
        let point = [vec![4], coordinate("x"), coordinate("y")].concat();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        key.verify(signed.as_bytes(), &decode(signature)).expect("a valid signature");
        key.verify(header.as_bytes(), &decode(signature)).expect_err("a signature of something else");

        let header: Value = serde_json::from_slice(&decode(header)).expect("JSON");
        assert_eq!(header, json!({ "alg": "ES256", "typ": "at+jwt", "kid": jwk["kid"] }));
        let claims: Value = serde_json::from_slice(&decode(claims)).expect("JSON");
        assert_eq!(claims, json!({ "sub": "alice" }));
    }
}
