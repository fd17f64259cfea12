//! STUN on the SIP port (RFC 5626 §4.4.2, RFC 5389): a phone keeps its NAT binding open by a Binding request, and learns
//! from the answer whether its address has changed. Pure.
//!
//! A stranger may forge the source of a request, so an answer is never larger than what RFC 5389 needs: 32 bytes for
//! IPv4 and 44 for IPv6, to a request of 20; how many go to one source is bounded by [`Budget`].

use std::net::SocketAddr;

use meshtone_media::stun::{Class, Message, Writer, attribute, method};

pub(super) use meshtone_media::stun::is_stun;
pub(super) use meshtone_media::turn::Budget;

/// The largest request that is looked at. Keep-alives carry no attribute, or few; all of them are ignored.
const MAX_REQUEST: usize = 548;

/// The answer to a Binding request that came from `source`; `None` for anything else, which is dropped.
pub(super) fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    let message = Message::read(datagram.get(..MAX_REQUEST.min(datagram.len()))?)?;
    let is_wanted = (message.class, message.method) == (Class::Request, method::BINDING);
    let answer = Writer::answer(Class::Success, &message).put_address(attribute::XOR_MAPPED_ADDRESS, source);
    is_wanted.then(|| answer.finish())
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
}
