//! Flow tokens (RFC 5626 §5.2): what our Record-Route remembers about one side of a dialog, under our own seal.
//!
//! A token is `base64url(seal ‖ where to)`: a flow, or the address that a connection was opened to. The seal covers the Call-ID too,
//! so that whoever has seen the token of one call cannot reach that phone by another. For a peer link the flow is left out of the
//! text but not out of the seal: the next Route, or the Request-URI, names the peer, and must name the sealed one.
//!
//! The seal is 80 bits of SipHash-2-4 with a key of 128 bits, where RFC 5626 §5.2 proposes HMAC-SHA1-80 as an example: made as a
//! MAC for short texts, it takes a tenth of an HMAC, and a call has six of them.

use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64URL_NOPAD;
use siphasher::sip128::{Hasher128, SipHasher13, SipHasher24};
use smallvec::SmallVec;

use crate::message::Message;
use crate::short::Short;
use crate::texts::Texts;
use crate::transport::{Destination, Flow, PeerHost, Transport};

/// 80 bits, as RFC 5626 §5.2 suggests: nobody guesses them online.
const SEAL_LEN: usize = 10;

/// Longest token that is looked at; ours have at most 60 characters.
const TOKEN_MAX: usize = 96;

const KIND_UDP: u8 = 0;
const KIND_STREAM: u8 = 1;
const KIND_PEER: u8 = 2;
const KIND_ADDRESS: u8 = 3;

/// Bytes of a tag: 80 bits, where RFC 3261 §19.3 asks for 32 that nobody can foresee.
const TAG_LEN: usize = 10;

/// The key that seals tokens, and what tags are made with.
pub(crate) struct TokenKey {
    seal: SipHasher24,
    /// A tag vouches for nothing, it is only not to be guessed by who does not see it.
    tag: SipHasher13,
}

/// A To tag of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; 2 * TAG_LEN]);

impl Tag {
    fn new(hash: &[u8; 16]) -> Tag {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'0'; 2 * TAG_LEN];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(hash) {
            *pair = [byte >> 4, byte & 15].map(|digit| DIGITS.get(usize::from(digit)).copied().unwrap_or_default());
        }
        Tag(text)
    }

    /// The tag as it is written.
    pub fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A token that this node never made, or not for this call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged;

impl TokenKey {
    pub(crate) fn new(key: &[u8; 32]) -> TokenKey {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        // Keys of their own, so that neither says anything of the other.
        let own = |purpose: &[u8]| {
            let mut own = [0; 16];
            own.iter_mut().zip(hmac::sign(&key, purpose).as_ref()).for_each(|(place, byte)| *place = *byte);
            own
        };
        TokenKey { seal: SipHasher24::new_with_key(&own(b"flow")), tag: SipHasher13::new_with_key(&own(b"tag")) }
    }

    /// Makes the token of one side of a call.
    pub(crate) fn issue(&self, side: &Destination, call_id: &str) -> Short {
        let plain = encode(side);
        let peer = match side {
            Destination::Peer(host) | Destination::Flow(Flow::Peer { host }) => host.as_str(),
            Destination::Flow(Flow::Udp { .. } | Flow::Stream { .. }) | Destination::Address { .. } => "",
        };
        let mut sealed = Plain::from_slice(&self.seal(&plain, peer, call_id));
        sealed.extend_from_slice(&plain);
        let mut token = Short::default();
        token.push_encoded(&BASE64URL_NOPAD, &sealed);
        token
    }

    /// Opens a token; `next_host` says whom the request goes to next by its own account.
    pub(crate) fn open<'a>(
        &self,
        token: &str,
        call_id: &str,
        next_host: impl FnOnce() -> Option<&'a str>,
    ) -> Result<Destination, Forged> {
        if token.len() > TOKEN_MAX {
            return Err(Forged);
        }
        let mut decoded = [0; TOKEN_MAX];
        let len = BASE64URL_NOPAD.decode_len(token.len()).map_err(|_| Forged)?;
        let decoded = decoded.get_mut(..len).ok_or(Forged)?;
        BASE64URL_NOPAD.decode_mut(token.as_bytes(), decoded).map_err(|_| Forged)?;
        let (seal, plain) = decoded.split_at_checked(SEAL_LEN).ok_or(Forged)?;
        let peer = if plain == [KIND_PEER] { Some(next_host().and_then(PeerHost::parse).ok_or(Forged)?) } else { None };
        let expected = self.seal(plain, peer.as_ref().map_or("", PeerHost::as_str), call_id);
        constant_time::verify_slices_are_equal(seal, &expected).map_err(|_| Forged)?;
        match peer {
            Some(host) => Ok(Destination::Peer(host)),
            None => decode(plain).ok_or(Forged),
        }
    }

    /// The To tag of every response of our own to this request: the same for its retransmissions and for its CANCEL.
    pub(crate) fn tag_for(&self, request: &Message) -> Tag {
        let from_tag = request.from_tag().unwrap_or_default();
        let number = request.cseq().map_or(0, |cseq| cseq.number);
        self.to_tag(request.call_id(), from_tag, number)
    }

    /// A tag that nobody guesses.
    fn to_tag(&self, call_id: &str, from_tag: &str, cseq: u32) -> Tag {
        let mut texts = Texts::new();
        texts.push(call_id);
        texts.push(from_tag);
        texts.push_number(cseq);
        let mut hasher = self.tag;
        texts.hash_into(&mut hasher);
        Tag::new(&hasher.finish128().as_bytes())
    }

    fn seal(&self, plain: &[u8], peer: &str, call_id: &str) -> [u8; SEAL_LEN] {
        let mut hasher = self.seal;
        // Each text ends with a byte that none holds, and so do bytes with their length before them.
        (plain, peer, call_id).hash(&mut hasher);
        let mut seal = [0; SEAL_LEN];
        seal.iter_mut().zip(hasher.finish128().as_bytes()).for_each(|(place, byte)| *place = byte);
        seal
    }
}

/// What a token says, and its seal before that: at most 40 bytes.
type Plain = SmallVec<[u8; 40]>;

fn encode(side: &Destination) -> Plain {
    let mut out = Plain::new();
    match side {
        Destination::Flow(Flow::Udp { listener, remote }) => {
            out.push(KIND_UDP);
            out.extend_from_slice(&listener.to_be_bytes());
            encode_address(&mut out, remote);
        }
        Destination::Flow(Flow::Stream { transport, listener, connection, remote }) => {
            out.extend_from_slice(&[KIND_STREAM, transport_code(*transport)]);
            out.extend_from_slice(&listener.to_be_bytes());
            out.extend_from_slice(&connection.to_be_bytes());
            encode_address(&mut out, remote);
        }
        Destination::Flow(Flow::Peer { .. }) | Destination::Peer(_) => out.push(KIND_PEER),
        Destination::Address { transport, addr, listener } => {
            out.extend_from_slice(&[KIND_ADDRESS, transport_code(*transport)]);
            out.extend_from_slice(&listener.to_be_bytes());
            encode_address(&mut out, addr);
        }
    }
    out
}

fn encode_address(out: &mut Plain, address: &SocketAddr) {
    out.extend_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
}

fn decode(plain: &[u8]) -> Option<Destination> {
    let (kind, rest) = plain.split_first()?;
    if *kind == KIND_UDP {
        let (listener, rest) = rest.split_first_chunk::<2>()?;
        let listener = u16::from_be_bytes(*listener);
        return Some(Destination::Flow(Flow::Udp { listener, remote: decode_address(rest)? }));
    }
    let (transport, rest) = rest.split_first()?;
    let transport = transport_of(*transport)?;
    let (listener, rest) = rest.split_first_chunk::<2>()?;
    let listener = u16::from_be_bytes(*listener);
    match *kind {
        KIND_STREAM => {
            let (connection, rest) = rest.split_first_chunk::<8>()?;
            let connection = u64::from_be_bytes(*connection);
            Some(Destination::Flow(Flow::Stream { transport, listener, connection, remote: decode_address(rest)? }))
        }
        KIND_ADDRESS => Some(Destination::Address { transport, addr: decode_address(rest)?, listener }),
        _ => None,
    }
}

fn decode_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (port, ip) = bytes.split_first_chunk::<2>()?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        16 => <[u8; 16]>::try_from(ip).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

fn transport_code(transport: Transport) -> u8 {
    match transport {
        Transport::Udp => 0,
        Transport::Tcp => 1,
        Transport::Tls => 2,
        Transport::Ws => 3,
        Transport::Wss => 4,
        Transport::Peer => 5,
    }
}

fn transport_of(code: u8) -> Option<Transport> {
    match code {
        0 => Some(Transport::Udp),
        1 => Some(Transport::Tcp),
        2 => Some(Transport::Tls),
        3 => Some(Transport::Ws),
        4 => Some(Transport::Wss),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn key() -> TokenKey {
        TokenKey::new(&[7; 32])
    }

    fn sides() -> Vec<Destination> {
        vec![
            Destination::Flow(Flow::Udp { listener: 3, remote: "192.0.2.9:5062".parse().unwrap() }),
            Destination::Flow(Flow::Udp { listener: 0, remote: "[2001:db8::9]:5060".parse().unwrap() }),
            Destination::Flow(Flow::Stream {
                transport: Transport::Tcp,
                listener: 1,
                connection: u64::MAX,
                remote: "[2001:db8::9]:40000".parse().unwrap(),
            }),
            Destination::Address { transport: Transport::Tls, addr: "192.0.2.9:5061".parse().unwrap(), listener: 7 },
        ]
    }

    #[test]
    fn a_token_gives_its_side_back_in_its_own_call_only() {
        for side in sides() {
            let token = key().issue(&side, "call-1");
            let token = token.as_str();
            assert!(token.len() <= TOKEN_MAX);
            assert_eq!(key().open(token, "call-1", || None), Ok(side));
            assert_eq!(key().open(token, "call-2", || None), Err(Forged));
            assert_eq!(TokenKey::new(&[8; 32]).open(token, "call-1", || None), Err(Forged));
        }
    }

    #[test]
    fn a_changed_character_makes_a_token_worthless() {
        let token = key().issue(&sides()[0], "call-1");
        let token = token.as_str();
        for at in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(key().open(&changed, "call-1", || None), Err(Forged), "character {at}");
        }
    }

    #[test]
    fn a_tag_is_the_same_for_the_same_request_and_key_only() {
        let tag = key().to_tag("call-1", "a1", 7);
        assert_eq!(tag, key().to_tag("call-1", "a1", 7));
        assert_eq!(tag.as_str().len(), 2 * TAG_LEN);
        for (call_id, from_tag, cseq) in
            [("call-2", "a1", 7), ("call-1a", "1", 7), ("call-1", "a1", 8), ("call-1", "", 7)]
        {
            assert_ne!(tag, key().to_tag(call_id, from_tag, cseq));
        }
        assert_ne!(tag, TokenKey::new(&[8; 32]).to_tag("call-1", "a1", 7));
    }

    #[test]
    fn rubbish_is_no_token() {
        for rubbish in ["", "p", "alice", "====", &"A".repeat(64), &"A".repeat(10_000)] {
            assert_eq!(key().open(rubbish, "call-1", || Some("a.peer.alt")), Err(Forged));
        }
    }

    #[test]
    fn a_peer_token_vouches_for_that_peer_only() {
        let host = PeerHost::parse("b0b.peer.alt").unwrap();
        let token = key().issue(&Destination::Peer(host.clone()), "call-1");
        let token = token.as_str();
        assert_eq!(key().open(token, "call-1", || Some("B0B.peer.alt")), Ok(Destination::Peer(host)));
        assert_eq!(key().open(token, "call-1", || Some("eve.peer.alt")), Err(Forged));
        assert_eq!(key().open(token, "call-1", || Some("192.0.2.1")), Err(Forged));
        assert_eq!(key().open(token, "call-1", || None), Err(Forged));
    }
}
