//! Messages of the Port Control Protocol (RFC 6887) and of NAT-PMP before it (RFC 6886): what a router is asked to open, and what it
//! answers. Pure.
//!
//! Both go to UDP port 5351 of the router. Of PCP there is the opcode MAP without options, of NAT-PMP the mapping and the question for
//! the router's address. An answer that is none to the question asked is no answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Transport;

/// The port of both protocols (RFC 6887 §19, RFC 6886 §1.1).
pub(crate) const PORT: u16 = 5351;

/// Largest message of PCP (RFC 6887 §7).
pub const MAX_MESSAGE: usize = 1100;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const MAP: u8 = 1;
const ANSWER: u8 = 0x80;
const UNSUPPORTED_VERSION: u16 = 1;
const PCP_LEN: usize = 60;

/// What a router is asked for: packets to one of its ports are to come to one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// UDP or TCP.
    pub transport: Transport,
    /// Our port.
    pub port: u16,
    /// The router's port that we would like, and its address, where we had one before.
    pub outside: SocketAddr,
    /// For how many seconds; 0 ends what there is.
    pub lifetime_s: u32,
    /// By which the router knows us again (RFC 6887 §11.2); whoever does not know it cannot take the mapping away.
    pub nonce: [u8; 12],
}

/// What a router answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Mapped {
        /// The router's port and, as PCP alone says, its address.
        outside: SocketAddr,
        /// For so many seconds.
        lifetime_s: u32,
    },
    /// It speaks another version.
    OtherVersion,
    /// It will not, by its result code.
    Refused(u16),
}

impl Request {
    /// Returns the request in PCP, from this address of ours.
    pub fn encode_pcp(&self, client: IpAddr) -> [u8; PCP_LEN] {
        let mut out = Vec::with_capacity(PCP_LEN);
        out.extend([PCP, MAP, 0, 0]);
        out.extend(self.lifetime_s.to_be_bytes());
        out.extend(mapped(client).octets());
        out.extend(self.nonce);
        out.extend([self.protocol(), 0, 0, 0]);
        out.extend(self.port.to_be_bytes());
        out.extend(self.outside.port().to_be_bytes());
        out.extend(mapped(self.outside.ip()).octets());
        out.try_into().unwrap_or([0; PCP_LEN])
    }

    /// Reads what came back in PCP; `None` where that is no answer to this request.
    pub fn decode_pcp(&self, bytes: &[u8]) -> Option<Answer> {
        if !(24..=MAX_MESSAGE).contains(&bytes.len()) {
            // A router of before PCP answers any version with eight bytes of its own (RFC 6886 §3.5).
            let is_older = matches!(bytes, [NAT_PMP, op, 0, 1, ..] if op & ANSWER != 0);
            return (is_older && bytes.len() >= 8).then_some(Answer::OtherVersion);
        }
        let [version, op, _, result, ..] = *bytes else { return None };
        if op != ANSWER | MAP {
            return None;
        }
        if version != PCP || u16::from(result) == UNSUPPORTED_VERSION {
            return Some(Answer::OtherVersion);
        }
        let lifetime_s = u32::from_be_bytes(field(bytes, 4)?);
        if bytes.len() < PCP_LEN || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let is_ours = field::<12>(bytes, 24)? == self.nonce
            && bytes.get(36).copied()? == self.protocol()
            && u16::from_be_bytes(field(bytes, 40)?) == self.port;
        if !is_ours {
            return None;
        }
        if result != 0 {
            return Some(Answer::Refused(result.into()));
        }
        let port = u16::from_be_bytes(field(bytes, 42)?);
        let ip = Ipv6Addr::from(field::<16>(bytes, 44)?).to_canonical();
        Some(Answer::Mapped { outside: SocketAddr::new(ip, port), lifetime_s })
    }

    /// Returns the request in NAT-PMP.
    pub fn encode_nat_pmp(&self) -> [u8; 12] {
        let [a, b] = self.port.to_be_bytes();
        // What ends asks for no port (RFC 6886 §3.4).
        let outside = if self.lifetime_s == 0 { 0 } else { self.outside.port() };
        let [c, d] = outside.to_be_bytes();
        let [e, f, g, h] = self.lifetime_s.to_be_bytes();
        [NAT_PMP, self.nat_pmp_op(), 0, 0, a, b, c, d, e, f, g, h]
    }

    /// Reads what came back in NAT-PMP, from a router that said of itself that it is at `router`; `None` where that is no answer to this
    /// request.
    pub fn decode_nat_pmp(&self, bytes: &[u8], router: Ipv4Addr) -> Option<Answer> {
        let [version, op, ..] = *bytes else { return None };
        if op != ANSWER | self.nat_pmp_op() || bytes.len() > MAX_MESSAGE {
            return None;
        }
        let result = u16::from_be_bytes(field(bytes, 2)?);
        if version != NAT_PMP || result == UNSUPPORTED_VERSION {
            return Some(Answer::OtherVersion);
        }
        if result != 0 {
            return Some(Answer::Refused(result));
        }
        if u16::from_be_bytes(field(bytes, 8)?) != self.port {
            return None;
        }
        let outside = SocketAddr::new(router.into(), u16::from_be_bytes(field(bytes, 10)?));
        Some(Answer::Mapped { outside, lifetime_s: u32::from_be_bytes(field(bytes, 12)?) })
    }

    /// The number of the protocol, by IANA.
    fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Udp => 17,
            Transport::Tcp => 6,
        }
    }

    fn nat_pmp_op(&self) -> u8 {
        match self.transport {
            Transport::Udp => 1,
            Transport::Tcp => 2,
        }
    }
}

/// What a router is asked in NAT-PMP for its own address.
pub(crate) const NAT_PMP_ADDRESS: [u8; 2] = [NAT_PMP, 0];

/// Reads the router's own address; an error where it says that there is none.
pub fn nat_pmp_address(bytes: &[u8]) -> Option<Result<Ipv4Addr, u16>> {
    let [NAT_PMP, ANSWER, ..] = *bytes else { return None };
    match u16::from_be_bytes(field(bytes, 2)?) {
        0 => Some(Ok(Ipv4Addr::from(field::<4>(bytes, 8)?))),
        result => Some(Err(result)),
    }
}

fn field<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Addresses of both families have 16 octets in PCP (RFC 6887 §5).
fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn request() -> Request {
        let outside = "0.0.0.0:6084".parse().unwrap();
        Request { transport: Transport::Udp, port: 6084, outside, lifetime_s: 3600, nonce: *b"twelve bytes" }
    }

    /// As a router answers: its own octets in the header, what was asked behind.
    fn answer(request: &Request, result: u8, outside: &str) -> Vec<u8> {
        let outside: SocketAddr = outside.parse().unwrap();
        let mut bytes = request.encode_pcp("192.168.1.2".parse().unwrap()).to_vec();
        bytes[1] |= 0x80;
        bytes[3] = result;
        bytes[8..24].fill(0);
        bytes[42..44].copy_from_slice(&outside.port().to_be_bytes());
        bytes[44..].copy_from_slice(&mapped(outside.ip()).octets());
        bytes
    }

    #[test]
    fn a_request_has_the_octets_of_the_rfc() {
        let bytes = request().encode_pcp("192.168.1.2".parse().unwrap());
        assert_eq!(bytes[..8], [2, 1, 0, 0, 0, 0, 14, 16]);
        assert_eq!(bytes[8..24], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 2]);
        assert_eq!(&bytes[24..36], b"twelve bytes");
        assert_eq!(bytes[36..44], [17, 0, 0, 0, 0x17, 0xc4, 0x17, 0xc4]);
        assert_eq!(bytes[44..60], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]);
        let tcp = Request { transport: Transport::Tcp, ..request() };
        assert_eq!(tcp.encode_nat_pmp(), [0, 2, 0, 0, 0x17, 0xc4, 0x17, 0xc4, 0, 0, 14, 16]);
        let end = Request { lifetime_s: 0, ..request() };
        assert_eq!(end.encode_nat_pmp(), [0, 1, 0, 0, 0x17, 0xc4, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_a_router_opened_is_read_and_whatever_answers_another_question_is_not() {
        let asked = request();
        let opened = Answer::Mapped { outside: "198.51.100.7:45000".parse().unwrap(), lifetime_s: 3600 };
        assert_eq!(asked.decode_pcp(&answer(&asked, 0, "198.51.100.7:45000")), Some(opened));
        assert_eq!(asked.decode_pcp(&answer(&asked, 8, "0.0.0.0:0")), Some(Answer::Refused(8)));
        assert_eq!(asked.decode_pcp(&answer(&asked, 1, "0.0.0.0:0")), Some(Answer::OtherVersion));
        for other in [
            Request { port: 6085, ..asked },
            Request { transport: Transport::Tcp, ..asked },
            Request { nonce: [0; 12], ..asked },
        ] {
            assert_eq!(asked.decode_pcp(&answer(&other, 0, "198.51.100.7:45000")), None);
        }
        assert_eq!(asked.decode_pcp(&asked.encode_pcp("192.168.1.2".parse().unwrap())), None, "a request");
        assert_eq!(asked.decode_pcp(&[0, 0x81, 0, 1, 0, 0, 0, 9]), Some(Answer::OtherVersion));
    }

    #[test]
    fn a_router_of_before_says_its_address_apart() {
        let (asked, router) = (request(), Ipv4Addr::new(198, 51, 100, 7));
        assert_eq!(nat_pmp_address(&[0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7]), Some(Ok(router)));
        assert_eq!(nat_pmp_address(&[0, 128, 0, 3, 0, 0, 0, 9, 0, 0, 0, 0]), Some(Err(3)));
        assert_eq!(nat_pmp_address(&[0, 129, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7]), None);
        let bytes = [0, 129, 0, 0, 0, 0, 0, 9, 0x17, 0xc4, 0xaf, 0xc8, 0, 0, 14, 16];
        let opened = Answer::Mapped { outside: "198.51.100.7:45000".parse().unwrap(), lifetime_s: 3600 };
        assert_eq!(asked.decode_nat_pmp(&bytes, router), Some(opened));
        assert_eq!(asked.decode_nat_pmp(&bytes[..12], router), None);
        assert_eq!(asked.decode_nat_pmp(&[0, 129, 0, 2, 0, 0, 0, 9], router), Some(Answer::Refused(2)));
        let other = [0, 129, 0, 0, 0, 0, 0, 9, 0x17, 0xc5, 0xaf, 0xc8, 0, 0, 14, 16];
        assert_eq!(asked.decode_nat_pmp(&other, router), None);
    }
}
