//! Seals the state that a client carries from one round of a call to the next, so that it cannot change it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::error::Unspecified;
use ring::hmac;
use ring::rand::SystemRandom;
use rmcp::ErrorData;

/// The key for the states. Only the replicas of the server have it.
pub(crate) struct Seal(hmac::Key);

impl Seal {
    /// A seal with a new key.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map(Self)
    }

    /// Seals a state, such as `multi_round/1`.
    pub(crate) fn seal(&self, state: &str) -> String {
        format!("{state}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, state.as_bytes())))
    }

    /// Opens a sealed state, and fails if this seal has not made it.
    pub(crate) fn open<'a>(&self, sealed: &'a str) -> Result<&'a str, ErrorData> {
        let forged = || ErrorData::invalid_params("`requestState` was not made by this server", None);
        let (state, tag) = sealed.rsplit_once('.').ok_or_else(forged)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| forged())?;
        hmac::verify(&self.0, state.as_bytes(), &tag).map_err(|_| forged())?;
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_untouched_states_open() {
        let seal = Seal::generate().expect("randomness");
        let sealed = seal.seal("round/1");
        assert_eq!(seal.open(&sealed).expect("its own seal"), "round/1");
        assert!(seal.open(&format!("{sealed}-TAMPERED")).is_err());
        assert!(seal.open(&sealed.replace('1', "2")).is_err());
        assert!(seal.open("round/1").is_err());
        assert!(Seal::generate().expect("randomness").open(&sealed).is_err());
    }
}
