//! Nonces that need no memory: each says when it was made, and proves that this server made it, for this client.

use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD;

use super::Client;

/// How long a nonce is good for. Clients whose nonce is stale try again by themselves.
const GOOD_FOR_S: u32 = 3600;
/// Of the proof this much is sent: who could guess it would still need a password.
const PROOF_LEN: usize = 8;

/// Makes and knows them.
#[derive(Debug)]
pub(super) struct Nonces {
    key: hmac::Key,
}

impl Nonces {
    pub(super) fn new(key: [u8; 32]) -> Nonces {
        Nonces { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// A nonce for a client, at this second of the server's life.
    pub(super) fn make(&self, now_s: u32, client: &Client) -> String {
        BASE64URL_NOPAD.encode(&self.bytes(now_s, client))
    }

    /// Whether a nonce is this client's, and not too old.
    pub(super) fn is_good(&self, nonce: &[u8], now_s: u32, client: &Client) -> bool {
        let Ok(bytes) = BASE64URL_NOPAD.decode(nonce) else { return false };
        let Some(made_s) = bytes.first_chunk::<4>().map(|made| u32::from_be_bytes(*made)) else { return false };
        let is_fresh = now_s.checked_sub(made_s).is_some_and(|age| age <= GOOD_FOR_S);
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.bytes(made_s, client), &bytes).is_ok() && is_fresh
    }

    fn bytes(&self, made_s: u32, client: &Client) -> Vec<u8> {
        let made = made_s.to_be_bytes();
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&made);
        // A client is told by its whole 5-tuple.
        context.update(format!("{client:?}").as_bytes());
        let tag = context.sign();
        made.iter().chain(tag.as_ref().iter().take(PROOF_LEN)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_for_its_client_and_its_time_alone() {
        let client = |port| Client::Datagrams { listener: 0, remote: ([192, 0, 2, 1], port).into() };
        let (nonces, others) = (Nonces::new([1; 32]), Nonces::new([2; 32]));
        let nonce = nonces.make(10, &client(1));
        assert_eq!(nonce.len(), 16, "an answer to a stranger is short");
        assert!(nonces.is_good(nonce.as_bytes(), 10 + GOOD_FOR_S, &client(1)));
        assert!(!nonces.is_good(nonce.as_bytes(), 11 + GOOD_FOR_S, &client(1)));
        assert!(!nonces.is_good(nonce.as_bytes(), 9, &client(1)), "of a time to come");
        assert!(!nonces.is_good(nonce.as_bytes(), 10, &client(2)));
        assert!(!others.is_good(nonce.as_bytes(), 10, &client(1)));
        assert!(!nonces.is_good(b"", 10, &client(1)) && !nonces.is_good(b"AAAAAAAAAAAAAAAA", 10, &client(1)));
    }
}
