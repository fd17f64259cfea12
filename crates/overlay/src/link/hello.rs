//! The hello: what each side of a new link shows, and how it is judged. Pure.
//!
//! Two version numbers (2 bytes each, big-endian: oldest and newest link protocol spoken) come first and never change
//! their form, so that programs of any age can tell each other so; then deterministic CBOR.

use std::net::SocketAddr;

use meshtone_identity::{AuthorityCertificate, HomeCertificate, LinkKey, NodeCertificate, NodeId, OverlayId};

use super::Neighbour;
use super::address::{decode_addresses, encode_addresses};
use super::code;
use super::limits::{MAX_HELLO, MAX_HOMES};
use crate::record::cbor::{CborError, Decoder, Encoder};

/// The oldest and the newest version of the link protocol that this program speaks. They differ in nothing that the link itself says:
/// nodes that speak the second sign the SIP requests that they send, those that speak the third hear when a neighbour changes its role,
/// those that speak the fourth introduce others to their neighbours, those that speak the fifth verify SIP requests that were diverted,
/// those that speak the sixth take media in datagrams.
pub(crate) const VERSIONS: (u16, u16) = (1, 6);

/// The first version whose nodes hear when a neighbour changes its role.
pub(crate) const HEARS_ROLES: u16 = 3;

/// The first version whose nodes introduce others to their neighbours.
pub(crate) const INTRODUCES: u16 = 4;

/// Set in the newest version by a node that only uses the overlay. Programs that know no such nodes read it as a version that is
/// newer than all they know, which is nothing to them, and take the node for one like any other.
const ORDINARY: u16 = 0x8000;

/// No certificate is larger.
const MAX_CERTIFICATE: usize = 4096;

/// What a node shows of itself when a link opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The newest version of the link protocol that it speaks.
    pub newest: u16,
    /// Whether it stores and forwards for others, or only uses the overlay.
    pub serves: bool,
    /// The overlay it belongs to.
    pub overlay: OverlayId,
    /// Its node certificate, in DER.
    pub certificate: Vec<u8>,
    /// Its home certificates, in DER.
    pub homes: Vec<Vec<u8>>,
    /// A random number of this run: tells a restarted node from one that dials twice.
    pub incarnation: u64,
    /// Where it may be dialled.
    pub addresses: Vec<SocketAddr>,
}

/// Who is at the other end of a link, verified.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its id.
    pub(crate) node: NodeId,
    /// Its link key, as proved by the connection and named in its certificate.
    pub(crate) link_key: LinkKey,
    /// The newest version of the link protocol that both sides speak.
    pub(crate) version: u16,
    /// The domains it may speak for, sorted.
    pub(crate) domains: Vec<String>,
    /// Its node certificate.
    pub(crate) certificate: NodeCertificate,
    /// Its home certificates, those that hold.
    pub(crate) homes: Vec<HomeCertificate>,
    /// A random number of its run.
    pub(crate) incarnation: u64,
    /// Where it says it may be dialled; not proved.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Whether it stores and forwards for others, by its own word and its certificate; who says so and does not is found silent.
    pub(crate) serves: bool,
}

impl Peer {
    /// What it has proved.
    pub(crate) fn neighbour(&self) -> Neighbour {
        Neighbour { certificate: self.certificate.clone(), homes: self.homes.clone(), version: self.version }
    }
}

/// Why a hello was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The peer's program: no hello.
    #[error("its hello is malformed: {0}")]
    Malformed(#[from] CborError),
    /// Neither's fault: too far apart in age.
    #[error("it speaks versions {}–{} of the link protocol, we speak {}–{}", .0.0, .0.1, VERSIONS.0, VERSIONS.1)]
    Version((u16, u16)),
    /// A stranger: it belongs to another overlay.
    #[error("it belongs to overlay {}", .0.short())]
    OtherOverlay(OverlayId),
    /// The peer: a certificate does not verify.
    #[error("{0}")]
    Certificate(#[from] meshtone_identity::Error),
    /// The peer: it shows the certificate of another link key than it proved.
    #[error("its certificate names another link key than the one it proved")]
    LinkKey,
    /// The peer: the authority has taken its certificates back.
    #[error("the authority has revoked node {}", .0.short())]
    Revoked(NodeId),
    /// Another node answers under the link key that was dialled, or we dialled ourselves.
    #[error("it is node {}, not the one dialled", .0.short())]
    OtherNode(NodeId),
}

impl HelloError {
    /// The code by which a connection is closed for it.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Self::Malformed(_) => code::MALFORMED,
            Self::Version(_) => code::VERSION,
            Self::OtherOverlay(_) => code::OTHER_OVERLAY,
            Self::Revoked(_) => code::REVOKED,
            Self::Certificate(_) | Self::LinkKey | Self::OtherNode(_) => code::CERTIFICATE,
        }
    }
}

impl Hello {
    /// Returns the hello's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let newest = if self.serves { self.newest } else { self.newest | ORDINARY };
        let mut bytes = [VERSIONS.0.to_be_bytes(), newest.to_be_bytes()].concat();
        let mut out = Encoder::new();
        out.array(5).bytes(self.overlay.as_bytes()).bytes(&self.certificate).array(self.homes.len());
        for home in &self.homes {
            out.bytes(home);
        }
        out.unsigned(self.incarnation);
        encode_addresses(&mut out, &self.addresses);
        bytes.append(&mut out.finish());
        bytes
    }

    /// Reads a hello; nothing in it is believed yet.
    ///
    /// # Errors
    /// [`HelloError::Version`] before anything else is looked at; [`HelloError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        if bytes.len() > MAX_HELLO {
            return Err(CborError("it is too large").into());
        }
        let Some((&[a, b, c, d], body)) = bytes.split_first_chunk() else {
            return Err(CborError("it is cut short").into());
        };
        let (oldest, newest) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let versions = (oldest, newest & !ORDINARY);
        if versions.0 > VERSIONS.1 || versions.1 < VERSIONS.0 {
            return Err(HelloError::Version(versions));
        }
        let mut input = Decoder::new(body);
        input.array_of(5)?;
        let overlay = OverlayId::from_bytes(input.fixed()?);
        let certificate = input.bytes(MAX_CERTIFICATE)?.to_vec();
        let homes = input.array(MAX_HOMES)?;
        let homes = (0..homes).map(|_| input.bytes(MAX_CERTIFICATE).map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        let hello = Self {
            newest: versions.1,
            serves: newest & ORDINARY == 0,
            overlay,
            certificate,
            homes,
            incarnation: input.unsigned()?,
            addresses: decode_addresses(&mut input)?,
        };
        input.finish()?;
        Ok(hello)
    }

    /// Judges the hello of a peer that has proved to hold the link key `remote`. `now` is in unix seconds.
    pub(crate) fn verify(
        self,
        remote: LinkKey,
        authority: &AuthorityCertificate,
        now: u64,
    ) -> Result<Peer, HelloError> {
        if self.overlay != authority.overlay() {
            return Err(HelloError::OtherOverlay(self.overlay));
        }
        let certificate = NodeCertificate::verify(&self.certificate, authority, now)?;
        if certificate.link_key() != remote {
            return Err(HelloError::LinkKey);
        }
        let rights = certificate.rights();
        let mut homes = Vec::new();
        // Who may speak for nobody shows none; if it does, they are no use to it.
        for der in self.homes.iter().filter(|_| rights.may_speak()) {
            match HomeCertificate::verify(der, authority, now) {
                Ok(home) => {
                    home.check_holder(&certificate)?;
                    homes.push(home);
                }
                // A right that has run out is a right less, and no reason to lose the node.
                Err(meshtone_identity::Error::Expired { .. } | meshtone_identity::Error::NotYetValid { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut domains: Vec<String> = homes.iter().map(|home| home.domain().to_owned()).collect();
        domains.sort();
        domains.dedup();
        Ok(Peer {
            version: self.newest.min(VERSIONS.1),
            node: certificate.node_id(),
            link_key: remote,
            domains,
            certificate,
            homes,
            incarnation: self.incarnation,
            addresses: self.addresses,
            serves: self.serves && rights.may_serve(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use meshtone_identity::{Authority, EnrolRequest, Rights, Signer, SigningKey};

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    const LINK: LinkKey = LinkKey::from_bytes([7; 32]);

    fn hello(authority: &Authority, homes: &[(&str, Duration)]) -> Hello {
        let key = SigningKey::generate().unwrap();
        let certificate = authority.certify_node(key.public_key(), LINK, [1; 16], NOW, YEAR).unwrap();
        let homes = homes
            .iter()
            .map(|(domain, lifetime)| {
                authority.issue_home(&certificate, domain, NOW, *lifetime).unwrap().der().to_vec()
            })
            .collect();
        Hello {
            newest: VERSIONS.1,
            serves: true,
            overlay: authority.certificate().overlay(),
            certificate: certificate.der().to_vec(),
            homes,
            incarnation: u64::MAX,
            addresses: vec!["192.0.2.1:6084".parse().unwrap()],
        }
    }

    fn authority() -> Authority {
        Authority::create(NOW).unwrap().0
    }

    #[test]
    fn a_hello_reads_back_and_verifies() {
        let authority = authority();
        let hello = hello(&authority, &[("b.example", YEAR), ("a.example", YEAR)]);
        let read = Hello::decode(&hello.encode()).unwrap();
        assert_eq!(read, hello);
        let peer = read.verify(LINK, authority.certificate(), NOW).unwrap();
        assert_eq!(peer.domains, ["a.example", "b.example"]);
    }

    #[test]
    fn a_peer_with_another_link_key_than_its_certificate_names_is_refused() {
        let authority = authority();
        let refused = hello(&authority, &[]).verify(LinkKey::from_bytes([8; 32]), authority.certificate(), NOW);
        assert_eq!(refused.unwrap_err(), HelloError::LinkKey);
    }

    #[test]
    fn a_peer_of_another_overlay_is_refused_even_when_it_claims_ours() {
        let (ours, theirs) = (authority(), authority());
        let mut hello = hello(&theirs, &[]);
        let refused = hello.clone().verify(LINK, ours.certificate(), NOW);
        assert_eq!(refused.unwrap_err(), HelloError::OtherOverlay(theirs.certificate().overlay()));
        hello.overlay = ours.certificate().overlay();
        assert!(matches!(hello.verify(LINK, ours.certificate(), NOW), Err(HelloError::Certificate(_))));
    }

    #[test]
    fn an_expired_home_certificate_takes_its_domain_and_no_more() {
        let authority = authority();
        let hello = hello(&authority, &[("old.example", Duration::from_secs(60)), ("new.example", YEAR)]);
        assert_eq!(hello.verify(LINK, authority.certificate(), NOW + 3600).unwrap().domains, ["new.example"]);
    }

    #[test]
    fn the_home_certificate_of_another_node_is_refused() {
        let authority = authority();
        let mut hello_a = hello(&authority, &[]);
        hello_a.homes = hello(&authority, &[("a.example", YEAR)]).homes;
        assert!(matches!(hello_a.verify(LINK, authority.certificate(), NOW), Err(HelloError::Certificate(_))));
    }

    /// The hello of a node that may not do all.
    fn restricted(authority: &Authority, rights: Rights) -> Hello {
        let key = SigningKey::generate().unwrap();
        let request = EnrolRequest::encode(&key, LINK).unwrap();
        let request = EnrolRequest::parse(&request).unwrap();
        let certificate = authority.issue_node(&request, rights, [1; 16], NOW, YEAR).unwrap();
        let home = authority.issue_home(&certificate, "a.example", NOW, YEAR).unwrap();
        let hello = hello(authority, &[]);
        Hello { certificate: certificate.der().to_vec(), homes: vec![home.der().to_vec()], ..hello }
    }

    #[test]
    fn a_node_is_what_its_certificate_lets_it_be_whatever_it_says() {
        let authority = authority();
        let judged = |rights| {
            let peer = restricted(&authority, rights).verify(LINK, authority.certificate(), NOW).unwrap();
            (peer.serves, peer.domains)
        };
        assert_eq!(judged(Rights::Full), (true, vec!["a.example".to_owned()]));
        assert_eq!(judged(Rights::UseOnly), (false, vec!["a.example".to_owned()]));
        assert_eq!(judged(Rights::StoreOnly), (true, Vec::new()));
    }

    #[test]
    fn an_expired_node_is_refused() {
        let authority = authority();
        let refused = hello(&authority, &[]).verify(LINK, authority.certificate(), NOW + 2 * YEAR.as_secs());
        assert!(matches!(refused, Err(HelloError::Certificate(meshtone_identity::Error::Expired { .. }))));
    }

    #[test]
    fn versions_without_overlap_are_told_apart_from_nonsense() {
        let mut bytes = hello(&authority(), &[]).encode();
        bytes[..4].copy_from_slice(&[0, 7, 0, 9]);
        assert_eq!(Hello::decode(&bytes).unwrap_err(), HelloError::Version((7, 9)));
        assert!(matches!(Hello::decode(b"GET / HTTP/1.1"), Err(HelloError::Version(_))));
        assert!(matches!(Hello::decode(&[0, 1, 0, 1, 0xff]), Err(HelloError::Malformed(_))));
        assert!(matches!(Hello::decode(&[]), Err(HelloError::Malformed(_))));
    }

    #[test]
    fn an_ordinary_node_says_so_where_programs_before_it_read_a_newer_version() {
        let authority = authority();
        let ordinary = Hello { serves: false, ..hello(&authority, &[]) };
        let bytes = ordinary.encode();
        assert_eq!(Hello::decode(&bytes).unwrap(), ordinary);
        // What the first release made of it: oldest not above 1, newest not below 1, and nothing unknown behind.
        assert_eq!((bytes[..2].to_vec(), u16::from_be_bytes([bytes[2], bytes[3]]) >= 1), (vec![0, 1], true));
        assert_eq!(bytes[4..], Hello { serves: true, ..ordinary }.encode()[4..]);
    }

    #[test]
    fn a_program_that_speaks_newer_versions_beside_ours_is_let_in() {
        let authority = authority();
        let mut bytes = hello(&authority, &[]).encode();
        for (oldest, newest, understood) in
            [(1, 1, true), (1, 9, true), (0, 1, true), (6, 9, true), (7, 9, false), (0, 0, false)]
        {
            bytes[..4].copy_from_slice(&[0, oldest, 0, newest]);
            let decoded = Hello::decode(&bytes);
            assert_eq!(decoded.is_ok(), understood, "{oldest} to {newest}");
            if understood {
                let peer = decoded.unwrap().verify(LINK, authority.certificate(), NOW).unwrap();
                assert_eq!(peer.version, u16::from(newest).min(VERSIONS.1));
            }
        }
    }

    #[test]
    fn a_hello_cut_anywhere_is_refused() {
        let bytes = hello(&authority(), &[("a.example", YEAR)]).encode();
        for end in 0..bytes.len() {
            assert!(Hello::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
