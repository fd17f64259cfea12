//! Connectivity checks of ICE (RFC 8445), as an agent that answers them and sends none of its own ("lite"): for that it needs
//! to be reachable, and the other side finds the pair that works.

use std::net::SocketAddr;

use crate::stun::{Class, Message, Writer, attribute, integrity_key, method};

/// A check that knows our password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Check {
    transaction: [u8; 12],
    /// The other side has chosen this pair.
    pub(super) nominates: bool,
}

/// Reads a check; `None` where it is none, is for somebody else, or does not know the password.
pub(super) fn read(datagram: &[u8], username: &str, password: &str) -> Option<Check> {
    let message = Message::read(datagram)?;
    let is_ours = message.class == Class::Request
        && message.method == method::BINDING
        && message.attribute(attribute::USERNAME) == Some(username.as_bytes())
        && message.is_signed_with(&integrity_key(password.as_bytes()));
    let nominates = message.attribute(attribute::USE_CANDIDATE).is_some();
    is_ours.then_some(Check { transaction: message.transaction, nominates })
}

/// Whether this is what an agent sends that has nothing else to say (RFC 8445 §11). It proves nothing.
pub(super) fn is_sign_of_life(datagram: &[u8]) -> bool {
    let message = Message::read(datagram);
    message.is_some_and(|message| message.class == Class::Indication && message.method == method::BINDING)
}

/// Answers a check that came from there.
pub(super) fn answer(check: &Check, source: SocketAddr, password: &str) -> Vec<u8> {
    Writer::new(Class::Success, method::BINDING, check.transaction)
        .put_address(attribute::XOR_MAPPED_ADDRESS, source)
        .sign(&integrity_key(password.as_bytes()))
        .with_fingerprint()
        .finish()
}

/// A check as the other side makes them.
#[cfg(test)]
pub(super) fn request(username: &str, password: &str, nominates: bool) -> Vec<u8> {
    let mut request =
        Writer::new(Class::Request, method::BINDING, [7; 12]).put(attribute::USERNAME, username.as_bytes());
    if nominates {
        request = request.put(attribute::USE_CANDIDATE, &[]);
    }
    request.sign(&integrity_key(password.as_bytes())).finish()
}

/// What the other side sends where it has nothing else to say.
#[cfg(test)]
pub(super) fn sign_of_life() -> Vec<u8> {
    Writer::new(Class::Indication, method::BINDING, [8; 12]).finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::stun::tests::request;

    const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
    const USER: &str = "evtj:h6vY";

    #[test]
    fn the_check_of_rfc_5769_is_read_by_who_knows_the_password() {
        let check = read(&request(), USER, PASSWORD).unwrap();
        assert!(!check.nominates);
        assert_eq!(read(&request(), USER, "other"), None);
        assert_eq!(read(&request(), "evtj:other", PASSWORD), None);
    }

    #[test]
    fn a_changed_or_cut_check_is_none() {
        for at in 0..100 {
            let mut changed = request();
            changed[at] ^= 1;
            assert_eq!(read(&changed, USER, PASSWORD), None, "byte {at}");
        }
        for len in 0..request().len() {
            assert_eq!(read(&request()[..len], USER, PASSWORD), None);
        }
    }

    #[test]
    fn the_answer_says_where_the_check_came_from_and_knows_the_password() {
        let check = read(&request(), USER, PASSWORD).unwrap();
        let answer = answer(&check, "192.0.2.1:32853".parse().unwrap(), PASSWORD);
        // RFC 5769 §2.2, which names its software besides.
        assert_eq!(answer[..4], [1, 1, 0, 44]);
        assert_eq!(answer[20..32], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert!(Message::read(&answer).unwrap().is_signed_with(&integrity_key(PASSWORD.as_bytes())));
        let six = super::answer(&check, "[2001:db8::1]:9".parse().unwrap(), PASSWORD);
        assert_eq!(six[..4], [1, 1, 0, 56]);
    }
}
