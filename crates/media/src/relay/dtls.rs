//! DTLS-SRTP (RFC 5763, RFC 5764): a handshake on the media path, whose certificate is the one that the description names by its
//! fingerprint, and which makes the keys for SRTP.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use dimpl::{Config, DtlsCertificate, Output, SrtpProfile};

use super::{DtlsTerms, Protection};
use crate::srtp::{MasterKey, Suite};

/// Datagrams of one flight; a handshake has four flights of at most five.
const MAX_FLIGHT: usize = 32;

/// What a record may be at most, with its header.
const BUFFER_LEN: usize = 2048;

/// The certificate that a node shows in media, and its key. Prints redacted.
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    fingerprint: Fingerprint,
}

/// The SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Identity {
    /// Takes a certificate and its key (PKCS #8), both as DER.
    pub fn new(certificate: Vec<u8>, key: Vec<u8>) -> Identity {
        let fingerprint = Fingerprint::of(&certificate);
        Identity { certificate, key, fingerprint }
    }

    /// Returns what descriptions name it by.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, <redacted>)", self.fingerprint)
    }
}

impl Fingerprint {
    fn of(certificate: &[u8]) -> Fingerprint {
        let mut bytes = [0; 32];
        for (byte, hashed) in bytes.iter_mut().zip(digest(&SHA256, certificate).as_ref()) {
            *byte = *hashed;
        }
        Fingerprint(bytes)
    }

    /// Reads the value of `a=fingerprint` (RFC 8122 §5); `None` for other hashes, which nobody uses here.
    pub fn parse(value: &str) -> Option<Fingerprint> {
        let (hash, text) = value.trim().split_once(' ')?;
        let mut bytes = [0; 32];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = parts.next().filter(|part| part.len() == 2).and_then(|part| u8::from_str_radix(part, 16).ok())?;
        }
        (hash.eq_ignore_ascii_case("sha-256") && parts.next().is_none()).then_some(Fingerprint(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha-256 ")?;
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// One handshake.
pub(super) struct Dtls {
    inner: dimpl::Dtls,
    /// To begin anew with each first greeting, as long as none has brought its cookie back: it may be anybody's, and spoil the phone's own.
    greeted: Option<(Arc<Config>, DtlsCertificate)>,
    expected: Fingerprint,
    is_active: bool,
    /// The certificate was the right one.
    is_proven: bool,
    has_failed: bool,
    timeout: Option<Instant>,
    keys: Option<Protection>,
    outgoing: Vec<Vec<u8>>,
}

impl Dtls {
    /// Begins one. `is_checked` where checks say that the other side is where its packets come from.
    pub(super) fn new(now: Instant, identity: &Identity, terms: &DtlsTerms, is_checked: bool) -> Dtls {
        let DtlsTerms { fingerprint: expected, is_active, .. } = *terms;
        let own = DtlsCertificate { certificate: identity.certificate.clone(), private_key: identity.key.clone() };
        // Without checks, which have proved that the other side is where it says, a cookie does: nobody is flooded, nor keeps the phone out,
        // by one packet in its name.
        let config = Config::builder().use_server_cookie(!is_checked).build().unwrap_or_default();
        let config = Arc::new(config);
        let mut inner = dimpl::Dtls::new_12(Arc::clone(&config), own.clone(), now);
        if is_active {
            inner.set_active(true);
        }
        let greeted = (!is_active && !is_checked).then_some((config, own));
        let (is_proven, has_failed) = (false, false);
        let mut dtls = Dtls {
            inner,
            greeted,
            expected,
            is_active,
            is_proven,
            has_failed,
            timeout: None,
            keys: None,
            outgoing: Vec::new(),
        };
        dtls.handle_timeout(now);
        dtls
    }

    /// Whether a datagram at a media port is DTLS (RFC 7983).
    pub(super) fn is_dtls(datagram: &[u8]) -> bool {
        matches!(datagram, [20..=63, ..])
    }

    /// Takes a datagram from where ICE says that the other side is.
    pub(super) fn handle_input(&mut self, now: Instant, datagram: &[u8]) {
        if let Some((config, own)) = self.greeted.as_ref().filter(|_| is_first_greeting(datagram)) {
            self.inner = dimpl::Dtls::new_12(Arc::clone(config), own.clone(), now);
            self.has_failed = false;
        }
        if self.has_failed {
            return;
        }
        self.has_failed = self.inner.handle_timeout(now).is_err()
            || self.drain().is_err()
            || self.inner.handle_packet(datagram).is_err();
        self.has_failed |= self.drain().is_err();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.has_failed {
            self.has_failed = self.inner.handle_timeout(now).is_err() || self.drain().is_err();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // A handshake that is done has nothing to repeat by itself.
        self.timeout.filter(|_| !self.has_failed && self.keys.is_none())
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outgoing)
    }

    /// The keys, once the handshake is done and the certificate was the one that was named.
    pub(super) fn keys(&self) -> Option<&Protection> {
        self.keys.as_ref().filter(|_| self.is_proven)
    }

    fn drain(&mut self) -> Result<(), ()> {
        let mut buffer = vec![0; BUFFER_LEN];
        loop {
            let needed = match self.inner.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    if handshake_type(packet) == Some(SERVER_HELLO) {
                        self.greeted = None;
                    }
                    if self.outgoing.len() < MAX_FLIGHT {
                        self.outgoing.push(packet.to_vec());
                    }
                    0
                }
                Output::BufferTooSmall { needed } => needed,
                Output::Timeout(at) => {
                    self.timeout = Some(at);
                    return Ok(());
                }
                Output::PeerCert(certificate) => {
                    if Fingerprint::of(certificate) != self.expected {
                        tracing::info!("a certificate in media is not the one that the description names");
                        return Err(());
                    }
                    self.is_proven = true;
                    0
                }
                Output::KeyingMaterial(material, profile) => {
                    self.keys = protection(&material, profile, self.is_active);
                    0
                }
                Output::CloseNotify => return Err(()),
                Output::Connected | Output::ApplicationData(_) => 0,
                _ => 0,
            };
            if needed > buffer.len() {
                buffer.resize(needed.min(usize::from(u16::MAX)), 0);
            }
        }
    }
}

impl fmt::Debug for Dtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dtls({:?})", self.inner)
    }
}

/// Handshake messages (RFC 6347 §4.3.2).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// Which message a record begins with, if it is a readable one of a handshake: after 13 bytes of the record's own.
fn handshake_type(datagram: &[u8]) -> Option<u8> {
    (datagram.first() == Some(&22)).then(|| datagram.get(13).copied()).flatten()
}

/// Whether a datagram is the first of a client: its messages are counted from zero.
fn is_first_greeting(datagram: &[u8]) -> bool {
    handshake_type(datagram) == Some(CLIENT_HELLO) && datagram.get(17..19) == Some(&[0, 0])
}

/// RFC 5764 §4.2: the client's key, the server's, the client's salt, the server's.
fn protection(material: &[u8], profile: SrtpProfile, is_client: bool) -> Option<Protection> {
    let suite = match profile {
        SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm80,
        SrtpProfile::AEAD_AES_128_GCM => Suite::AesGcm,
        SrtpProfile::AEAD_AES_256_GCM => Suite::AesGcm256,
        _ => return None,
    };
    let (keys, salts) = material.split_at_checked(2 * suite.key_len())?;
    let (clients, servers) = keys.split_at_checked(suite.key_len())?;
    let (clients_salt, servers_salt) = salts.split_at_checked(suite.salt_len())?;
    let client = MasterKey::new(suite, &[clients, clients_salt].concat())?;
    let server = MasterKey::new(suite, &[servers, servers_salt.get(..suite.salt_len())?].concat())?;
    Some(if is_client {
        Protection { ours: client, theirs: server }
    } else {
        Protection { ours: server, theirs: client }
    })
}
