//! Tokens of an issuer with public keys. They are made from text, so that tests can make invalid tokens of any kind.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// Signs with an RSA key, whose `kid` is `rsa`, and with an elliptic-curve key, whose `kid` is `ec`.
pub struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    pub const ISSUER: &str = "https://public.example";

    pub fn new() -> Self {
        let random = SystemRandom::new();
        let pem = include_bytes!("../../fixtures/keys/rsa.pem");
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("the fixture is PKCS#8");
        let rsa = RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).expect("the fixture is an RSA key");
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let ec = EcdsaKeyPair::generate_pkcs8(curve, &random).expect("a key can be made");
        let ec = EcdsaKeyPair::from_pkcs8(curve, ec.as_ref(), &random).expect("the new key is valid");
        Self { rsa, ec, random }
    }

    /// The key set, as an issuer publishes it.
    pub fn jwks(&self) -> String {
        json!({"keys": [self.rsa_jwk(), self.ec_jwk()]}).to_string()
    }

    pub fn rsa_jwk(&self) -> Value {
        let public = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"kty": "RSA", "kid": "rsa", "n": encode(&public.n), "e": encode(&public.e)})
    }

    pub fn ec_jwk(&self) -> Value {
        let (x, y) = self.ec.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": encode(x), "y": encode(y)})
    }

    /// The RSA public key (PKCS#1).
    pub fn rsa_public_key(&self) -> &[u8] {
        self.rsa.public_key().as_ref()
    }

    /// A valid token.
    pub fn token(&self, subject: &str) -> String {
        let end = mcp_edge::types::unix_now() + 600;
        self.token_until(subject, end)
    }

    pub fn token_until(&self, subject: &str, end: u64) -> String {
        let claims = json!({"iss": Self::ISSUER, "aud": "mcp-edge", "sub": subject, "exp": end});
        self.rsa(r#"{"alg":"RS256","kid":"rsa"}"#, claims.to_string())
    }

    /// Signs any header and claims with RS256.
    pub fn rsa(&self, header: &str, claims: impl AsRef<[u8]>) -> String {
        self.rsa_with(&RSA_PKCS1_SHA256, header, claims)
    }

    pub fn rsa_with(&self, encoding: &'static dyn RsaEncoding, header: &str, claims: impl AsRef<[u8]>) -> String {
        let message = message(header, claims.as_ref());
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        self.rsa.sign(encoding, &self.random, message.as_bytes(), &mut signature).expect("it can sign");
        format!("{message}.{}", encode(&signature))
    }

    /// Signs any header and claims with ES256.
    pub fn ec(&self, header: &str, claims: impl AsRef<[u8]>) -> String {
        let message = message(header, claims.as_ref());
        let signature = self.ec.sign(&self.random, message.as_bytes()).expect("it can sign");
        format!("{message}.{}", encode(signature.as_ref()))
    }
}

impl Signer {
    /// The other text of a token that is signed with ES256: with n - s in place of s, where n is the order of P-256.
    pub fn other_signature(token: &str) -> String {
        const ORDER: [u64; 4] = [0xffff_ffff_0000_0000, u64::MAX, 0xbce6_faad_a717_9e84, 0xf3b9_cac2_fc63_2551];
        let (message, signature) = token.rsplit_once('.').expect("a token");
        let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let mut borrow = 0_i128;
        for (word, order) in signature[32..].chunks_exact_mut(8).zip(ORDER).rev() {
            let s = u64::from_be_bytes((&*word).try_into().expect("eight bytes"));
            let difference = i128::from(order) - i128::from(s) + borrow;
            borrow = if difference < 0 { -1 } else { 0 };
            word.copy_from_slice(&(difference.rem_euclid(1 << 64) as u64).to_be_bytes());
        }
        format!("{message}.{}", encode(&signature))
    }
}

/// The signed part of a token.
pub fn message(header: &str, claims: &[u8]) -> String {
    format!("{}.{}", encode(header.as_bytes()), encode(claims))
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
