//! The certificates of an overlay (RFC 5280), and how each is verified.
//!
//! | certificate | subject alternative names, exactly one of each |
//! | --- | --- |
//! | authority | none; its SHA-256 is the overlay's name |
//! | node | `meshtone-link:<hex link key>`, `meshtone-salt:<hex salt>`; where it may not do all, `meshtone-may:<what>` ([`Rights`]) |
//! | home | `sip:<domain>` (RFC 5922 §4), `meshtone-node:<base36 node id>` |
//! | user ([`member`](crate::member)) | `sip:<address>` |
//! | page | host names and addresses: for browsers alone, and none of the overlay's |
//!
//! A chain is one step long: everything is issued by the authority itself. A later user certificate takes the place of an
//! earlier one; of nodes there is no revocation yet, their certificates expire.

use std::sync::Arc;

use crate::id::SALT_LENGTH;
use crate::x509::Parsed;
use crate::{Error, Es256, LinkKey, NodeId, OverlayId, PublicKey, Verifier, domain};

pub(crate) const AUTHORITY: &str = "authority certificate";
pub(crate) const NODE: &str = "node certificate";
pub(crate) const HOME: &str = "home certificate";
pub(crate) const USER: &str = "user certificate";
pub(crate) const PAGE: &str = "page certificate";

pub(crate) const LINK_URI: &str = "meshtone-link:";
pub(crate) const SALT_URI: &str = "meshtone-salt:";
pub(crate) const RIGHTS_URI: &str = "meshtone-may:";
pub(crate) const NODE_URI: &str = "meshtone-node:";
pub(crate) const DOMAIN_URI: &str = "sip:";
pub(crate) const USER_URI: &str = "sip:";

/// The self-signed certificate of an overlay's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    der: Arc<[u8]>,
    overlay: OverlayId,
    public_key: PublicKey,
    subject: Arc<[u8]>,
    not_before: u64,
    not_after: u64,
}

impl AuthorityCertificate {
    /// Reads an authority certificate that is trusted already, such as our own from the disk.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Issuer`] when it is not signed by itself, [`Error::NotPermitted`].
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        Self::parse_with(&Es256, der)
    }

    /// Reads an authority certificate that a stranger sent, and checks that it is that of the expected overlay.
    ///
    /// # Errors
    /// [`Error::OtherOverlay`] before anything is parsed; those of [`parse`](Self::parse); not valid at `now`.
    pub fn verify(der: &[u8], expected: &OverlayId, now: u64) -> Result<Self, Error> {
        let found = OverlayId::of_certificate(der);
        if found != *expected {
            return Err(Error::OtherOverlay { expected: *expected, found });
        }
        let certificate = Self::parse(der)?;
        certificate.check_time(now)?;
        Ok(certificate)
    }

    /// As [`parse`](Self::parse), with another judge of signatures.
    ///
    /// # Errors
    /// Those of [`parse`](Self::parse).
    pub fn parse_with(verifier: &dyn Verifier, der: &[u8]) -> Result<Self, Error> {
        let parsed = Parsed::read(AUTHORITY, der)?;
        parsed.check_issuer(verifier, parsed.subject, &parsed.public_key)?;
        parsed.check_authority()?;
        let [] = parsed.names([])?;
        Ok(Self {
            der: der.into(),
            overlay: OverlayId::of_certificate(der),
            public_key: parsed.public_key,
            subject: parsed.subject.into(),
            not_before: parsed.not_before,
            not_after: parsed.not_after,
        })
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the name of the overlay.
    pub fn overlay(&self) -> OverlayId {
        self.overlay
    }

    /// Returns the key that issues certificates.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the last second of its validity, in unix seconds.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Checks that the certificate is valid at this time.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), Error> {
        check_time(AUTHORITY, self.not_before, self.not_after, now)
    }
}

/// What a node may do in the overlay. Every other node holds it to that.
///
/// Programs that know no such rights read a certificate with one as malformed: they refuse the node, as they would one with an unknown
/// critical extension (RFC 5280 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rights {
    /// Store and forward for others, and speak for addresses, as other certificates of it say.
    #[default]
    Full,
    /// Store and forward for others, and speak for nobody: the one record that it writes is its own address.
    StoreOnly,
    /// Speak for addresses, and only use what others store and forward.
    UseOnly,
}

impl Rights {
    /// Whether a node may store and forward for others.
    pub const fn may_serve(self) -> bool {
        match self {
            Rights::Full | Rights::StoreOnly => true,
            Rights::UseOnly => false,
        }
    }

    /// Whether a node may speak for addresses, its domain's and people's.
    pub const fn may_speak(self) -> bool {
        match self {
            Rights::Full | Rights::UseOnly => true,
            Rights::StoreOnly => false,
        }
    }

    /// What stands in the certificate; nothing where nothing is missing.
    pub(crate) const fn word(self) -> Option<&'static str> {
        match self {
            Rights::Full => None,
            Rights::StoreOnly => Some("store"),
            Rights::UseOnly => Some("use"),
        }
    }

    fn of_word(word: Option<&str>) -> Option<Rights> {
        [Rights::Full, Rights::StoreOnly, Rights::UseOnly].into_iter().find(|rights| rights.word() == word)
    }
}

/// A node's certificate: binds its signing key, its place in the overlay and its link key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    der: Arc<[u8]>,
    node_id: NodeId,
    public_key: PublicKey,
    link_key: LinkKey,
    salt: [u8; SALT_LENGTH],
    rights: Rights,
    not_before: u64,
    not_after: u64,
}

impl NodeCertificate {
    /// Reads a node certificate and checks that this authority issued it and that it is valid at `now` (unix seconds).
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Issuer`], [`Error::NotYetValid`], [`Error::Expired`], [`Error::NotPermitted`].
    pub fn verify(der: &[u8], authority: &AuthorityCertificate, now: u64) -> Result<Self, Error> {
        Self::verify_with(&Es256, der, authority, now)
    }

    /// As [`verify`](Self::verify), with another judge of signatures.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub fn verify_with(
        verifier: &dyn Verifier,
        der: &[u8],
        authority: &AuthorityCertificate,
        now: u64,
    ) -> Result<Self, Error> {
        let parsed = verify_end_entity(verifier, NODE, der, authority, now)?;
        let ([link_key, salt], rights) = parsed.names_and([LINK_URI, SALT_URI], RIGHTS_URI)?;
        let malformed = |why| Error::Malformed { what: NODE, why };
        let mut salt_bytes = [0; SALT_LENGTH];
        let salt =
            data_encoding::HEXLOWER.decode(salt.as_bytes()).map_err(|_| malformed("its salt is not hexadecimal"))?;
        if salt.len() != SALT_LENGTH {
            return Err(malformed("its salt is not 16 bytes"));
        }
        salt_bytes.copy_from_slice(&salt);
        Ok(Self {
            der: der.into(),
            node_id: NodeId::derive(&parsed.public_key, &salt_bytes),
            public_key: parsed.public_key,
            link_key: link_key.parse().map_err(|_| malformed("its link key cannot be read"))?,
            salt: salt_bytes,
            rights: Rights::of_word(rights).ok_or(malformed("what it may do cannot be read"))?,
            not_before: parsed.not_before,
            not_after: parsed.not_after,
        })
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the node's id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Returns what the authority added to the key, so that nobody chooses an id.
    pub(crate) fn salt(&self) -> [u8; SALT_LENGTH] {
        self.salt
    }

    /// Returns what the node may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Returns the key that signs the node's records.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the key under which the node is dialled.
    pub fn link_key(&self) -> LinkKey {
        self.link_key
    }

    /// Returns the first second of its validity, in unix seconds.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns the last second of its validity, in unix seconds.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Checks that the certificate is valid at this time, for one that was verified before.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), Error> {
        check_time(NODE, self.not_before, self.not_after, now)
    }
}

/// A home node's certificate: this node may speak for the addresses of this domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeCertificate {
    der: Arc<[u8]>,
    domain: String,
    public_key: PublicKey,
    node_id: NodeId,
    not_before: u64,
    not_after: u64,
}

impl HomeCertificate {
    /// Reads a home certificate and checks that this authority issued it and that it is valid at `now` (unix seconds).
    ///
    /// Whoever shows it still has to prove the key: compare with the key that signed, or with the node certificate.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Issuer`], [`Error::NotYetValid`], [`Error::Expired`], [`Error::NotPermitted`].
    pub fn verify(der: &[u8], authority: &AuthorityCertificate, now: u64) -> Result<Self, Error> {
        Self::verify_with(&Es256, der, authority, now)
    }

    /// As [`verify`](Self::verify), with another judge of signatures.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub fn verify_with(
        verifier: &dyn Verifier,
        der: &[u8],
        authority: &AuthorityCertificate,
        now: u64,
    ) -> Result<Self, Error> {
        let parsed = verify_end_entity(verifier, HOME, der, authority, now)?;
        let [name, node] = parsed.names([DOMAIN_URI, NODE_URI])?;
        let malformed = |why| Error::Malformed { what: HOME, why };
        if domain::normalise(name).ok().as_deref() != Some(name) {
            return Err(malformed("its domain is not in the one written form"));
        }
        Ok(Self {
            der: der.into(),
            domain: name.to_owned(),
            public_key: parsed.public_key,
            node_id: node.parse().map_err(|_| malformed("its node id cannot be read"))?,
            not_before: parsed.not_before,
            not_after: parsed.not_after,
        })
    }

    /// Returns the certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the domain, in lower case.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Returns the node's signing key, the same as in its node certificate.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the node's id.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Returns the first second of its validity, in unix seconds.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns the last second of its validity, in unix seconds.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    /// Checks that the certificate is valid at this time, for one that was verified before.
    ///
    /// # Errors
    /// [`Error::NotYetValid`] or [`Error::Expired`].
    pub fn check_time(&self, now: u64) -> Result<(), Error> {
        check_time(HOME, self.not_before, self.not_after, now)
    }

    /// Checks that this certificate and that one are of the same node.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] when key or node id differ.
    pub fn check_holder(&self, node: &NodeCertificate) -> Result<(), Error> {
        if self.node_id != node.node_id || self.public_key != node.public_key {
            return Err(Error::NotPermitted { what: HOME, why: "it is another node's" });
        }
        Ok(())
    }
}

/// What node, home and user certificates have in common.
pub(crate) fn verify_end_entity<'a>(
    verifier: &dyn Verifier,
    what: &'static str,
    der: &'a [u8],
    authority: &AuthorityCertificate,
    now: u64,
) -> Result<Parsed<'a>, Error> {
    authority.check_time(now)?;
    let parsed = Parsed::read(what, der)?;
    parsed.check_issuer(verifier, &authority.subject, &authority.public_key)?;
    check_time(what, parsed.not_before, parsed.not_after, now)?;
    parsed.check_end_entity()?;
    Ok(parsed)
}

/// RFC 5280 §4.1.2.5: both ends belong to the period.
pub(crate) fn check_time(what: &'static str, not_before: u64, not_after: u64, now: u64) -> Result<(), Error> {
    if now < not_before {
        return Err(Error::NotYetValid { what, not_before, now });
    }
    if now > not_after {
        return Err(Error::Expired { what, not_after, now });
    }
    Ok(())
}
