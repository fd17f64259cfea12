//! STUN on the SIP port (RFC 5626 §4.4.2, RFC 5389): a phone keeps its NAT binding open by a Binding request, and learns
//! from the answer whether its address has changed. Pure.
//!
//! A stranger may forge the source of a request, so an answer is never larger than what RFC 5389 needs: 32 bytes for
//! IPv4 and 44 for IPv6, to a request of 20; how many go to one source is bounded by [`Budget`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const XOR_MAPPED_ADDRESS: [u8; 2] = [0x00, 0x20];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const HEADER: usize = 20;
/// The largest request that is looked at. Keep-alives carry no attribute, or few; all of them are ignored.
const MAX_REQUEST: usize = 548;

/// Whether a datagram is STUN: no SIP message begins with an octet below 4 (RFC 5626 §8, RFC 7983).
pub(super) fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}

/// The answer to a Binding request that came from `source`; `None` for anything else, which is dropped.
pub(super) fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    if datagram.len() > MAX_REQUEST || !datagram.len().is_multiple_of(4) || datagram.get(..2)? != BINDING_REQUEST {
        return None;
    }
    let length = u16::from_be_bytes(datagram.get(2..4)?.try_into().ok()?);
    if datagram.get(4..8)? != MAGIC_COOKIE || datagram.len().checked_sub(HEADER)? != usize::from(length) {
        return None;
    }
    // The cookie and the transaction id: the key that addresses are hidden with from meddling NATs.
    let key = datagram.get(4..HEADER)?;
    let source = SocketAddr::new(source.ip().to_canonical(), source.port());
    let (family, octets) = match source.ip() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let attribute_len = u8::try_from(4 + octets.len()).ok()?;
    let mut answer = Vec::with_capacity(HEADER + 4 + usize::from(attribute_len));
    answer.extend_from_slice(&BINDING_SUCCESS);
    answer.extend_from_slice(&[0, 4 + attribute_len]);
    answer.extend_from_slice(key);
    answer.extend_from_slice(&XOR_MAPPED_ADDRESS);
    answer.extend_from_slice(&[0, attribute_len, 0, family]);
    answer.extend(source.port().to_be_bytes().iter().zip(MAGIC_COOKIE).map(|(octet, key)| octet ^ key));
    answer.extend(octets.iter().zip(key).map(|(octet, key)| octet ^ key));
    Some(answer)
}

/// Answers to one address in each window: a household of phones behind one NAT, each every 25 seconds, stays far below.
const ANSWERS_PER_WINDOW: u32 = 100;
/// Length of a window.
const WINDOW_MS: u64 = 10_000;
/// Addresses counted in a window. When there are more, further ones get no answer until it ends: phones ask again.
const MAX_SOURCES: usize = 4096;

/// How many answers each source may have.
#[derive(Debug, Default)]
pub(super) struct Budget {
    window: u64,
    answered: HashMap<IpAddr, u32>,
}

impl Budget {
    /// Whether `source` may have one more answer at this time, which is counted then.
    pub(super) fn allows(&mut self, now_ms: u64, source: IpAddr) -> bool {
        let window = now_ms / WINDOW_MS;
        if self.window != window {
            self.window = window;
            self.answered.clear();
        }
        if self.answered.len() >= MAX_SOURCES && !self.answered.contains_key(&source) {
            return false;
        }
        let answered = self.answered.entry(source).or_default();
        *answered += 1;
        *answered <= ANSWERS_PER_WINDOW
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut request = vec![0, 1, 0, u8::try_from(attributes.len()).unwrap(), 0x21, 0x12, 0xA4, 0x42];
        request.extend([0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae]);
        request.extend(attributes);
        request
    }

    #[test]
    fn the_mapped_addresses_are_those_of_rfc_5769() {
        let answer4 = answer(&request(&[]), "192.0.2.1:32853".parse().unwrap()).unwrap();
        assert_eq!(answer4.len(), 32);
        assert_eq!(answer4[..4], [1, 1, 0, 12]);
        assert_eq!(answer4[4..20], request(&[])[4..20]);
        assert_eq!(answer4[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let answer6 = answer(&request(&[]), "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()).unwrap();
        assert_eq!(answer6.len(), 44);
        assert_eq!(
            answer6[20..],
            [
                0, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
                0xb5, 0xbe, 0xd2, 0xb9, 0xd9
            ]
        );
        let mapped = answer(&request(&[]), "[::ffff:192.0.2.1]:32853".parse().unwrap()).unwrap();
        assert_eq!(mapped, answer4, "an IPv4 address in IPv6 clothes is IPv4");
    }

    #[test]
    fn attributes_make_the_answer_no_larger() {
        let with_software = request(&[0x80, 0x22, 0, 4, b't', b'e', b's', b't']);
        assert_eq!(answer(&with_software, "192.0.2.1:1".parse().unwrap()).unwrap().len(), 32);
    }

    #[test]
    fn anything_but_a_binding_request_gets_no_answer() {
        let source = "192.0.2.1:1".parse().unwrap();
        let good = request(&[]);
        for length in 0..good.len() {
            assert_eq!(answer(&good[..length], source), None, "{length} bytes of it");
        }
        for (at, value) in [(0, 1), (1, 2), (1, 0x11), (3, 4), (4, 0), (2, 0xFF)] {
            let mut other = good.clone();
            other[at] = value;
            assert_eq!(answer(&other, source), None, "octet {at}");
        }
        let mut longer = good.clone();
        longer.extend([0; 4]);
        assert_eq!(answer(&longer, source), None);
        assert!(is_stun(&good) && !is_stun(b"OPTIONS sip:a SIP/2.0\r\n") && !is_stun(b"\r\n\r\n") && !is_stun(&[]));
    }

    #[test]
    fn a_source_has_a_budget_that_comes_back() {
        let (mut budget, source) = (Budget::default(), IpAddr::from([192, 0, 2, 1]));
        let allowed = (0..ANSWERS_PER_WINDOW * 2).filter(|_| budget.allows(50, source)).count();
        assert_eq!(allowed, usize::try_from(ANSWERS_PER_WINDOW).unwrap());
        assert!(budget.allows(50, IpAddr::from([192, 0, 2, 2])));
        assert!(budget.allows(50 + WINDOW_MS, source));
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut budget = Budget::default();
        let most = u32::try_from(MAX_SOURCES).unwrap();
        assert!((0..most).all(|n| budget.allows(0, IpAddr::from(n.to_be_bytes()))));
        assert!(!budget.allows(0, IpAddr::from([255, 0, 0, 1])));
        assert!(budget.allows(0, IpAddr::from([0, 0, 0, 1])), "a known one still may");
    }
}
