//! The twin of a token that is signed with ECDSA. A signature (r, s) is valid exactly when (r, n - s) is, and issuers write either
//! of them (RFC 7518 section 3.4 does not choose). So everybody can make a second text of such a token, with another hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The order of P-256 (FIPS 186-5), which ES256 uses.
const ORDER_256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// The order of P-384 (FIPS 186-5), which ES384 uses.
const ORDER_384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The other text of a valid token, if it is a JWT that is signed with ECDSA.
pub(super) fn twin(token: &str) -> Option<String> {
    use jsonwebtoken::Algorithm;
    let order: &[u8] = match jsonwebtoken::decode_header(token).ok()?.alg {
        Algorithm::ES256 => &ORDER_256,
        Algorithm::ES384 => &ORDER_384,
        _ => return None,
    };
    let (message, signature) = token.rsplit_once('.')?;
    let mut signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let s = signature.get_mut(order.len()..).filter(|s| s.len() == order.len())?;
    subtract_from(order, s);
    Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Replaces `number` by `whole - number`. Both are as long as each other, the first byte is the highest, and `number` is not the
/// larger one.
fn subtract_from(whole: &[u8], number: &mut [u8]) {
    let mut borrowed = false;
    for (byte, whole) in number.iter_mut().zip(whole).rev() {
        let (difference, first) = whole.overflowing_sub(*byte);
        let (difference, second) = difference.overflowing_sub(u8::from(borrowed));
        (*byte, borrowed) = (difference, first || second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::unix_now;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::{Value, json};

    #[test]
    fn a_twin_is_valid_and_its_twin_is_the_token() {
        crate::auth::install_crypto();
        let random = SystemRandom::new();
        for (signing, algorithm) in
            [(&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256), (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384)]
        {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(signing, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(signing, pkcs8.as_ref(), &random).expect("a key");
            let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let header = part(json!({"alg": format!("{algorithm:?}")}));
            let message = format!("{header}.{}", part(json!({"sub": "alice", "exp": unix_now() + 60})));
            let signature = pair.sign(&random, message.as_bytes()).expect("a signature");
            let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
            let other = twin(&token).expect("it is signed with ECDSA");
            assert_ne!(token, other);
            assert_eq!(twin(&other).as_ref(), Some(&token));
            let public = DecodingKey::from_ec_der(pair.public_key().as_ref());
            let decoded = jsonwebtoken::decode::<Value>(&other, &public, &Validation::new(algorithm));
            assert_eq!(decoded.expect("valid").claims["sub"], "alice");
        }
    }

    #[test]
    fn other_tokens_have_no_twin() {
        for token in ["", "opaque", "a.b.c", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"] {
            assert_eq!(twin(token), None, "{token}");
        }
    }
}
