//! Globally routable user agent URIs (RFC 5627): URIs that mean one phone of a user, not all of them.
//!
//! A public one is the address with the instance in `gr`. A temporary one hides both: its user part is sealed by this
//! node, so that nothing has to be remembered of the many that are issued. It is good as long as its instance stays
//! registered by the Call-ID that it was issued to (§5.4). The node that issued it is named in it, as only that one can open
//! it.

use std::borrow::Cow;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hmac};
use data_encoding::BASE64URL_NOPAD;

use super::Binding;
use crate::message::Uri;

/// What the user part of a temporary GRUU begins with.
const MARK: &str = "tgruu.";

/// Longest user part that is looked at; the longest of ours has a node's label of 63 and a user name of 64 characters.
const USER_MAX: usize = 256;

/// How much of the hash of instance and Call-ID a temporary GRUU carries: enough that no two phones of a user collide.
const FINGERPRINT_LEN: usize = 10;

const NONCE_LEN: usize = 12;

/// Whom a URI with `gr` means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gruu {
    /// The phone of this instance, of the user that the URI names: `gr` with a value.
    Public {
        /// The instance as it stands in `+sip.instance`, quotes and brackets included.
        instance: String,
    },
    /// A phone known to the node of this label: `gr` without a value.
    Temporary {
        /// The label of the node that issued it, in lower case.
        node: String,
    },
}

impl Gruu {
    /// Reads the `gr` of a URI; `None` where there is none, or nothing that a node of ours would have issued.
    pub fn of(uri: &Uri<'_>) -> Option<Gruu> {
        match uri.param("gr")? {
            Some(instance) => {
                let instance = unescaped(instance)?;
                let is_clean = !instance.contains(['"', '\\', '<', '>']) && !instance.chars().any(char::is_control);
                is_clean.then(|| Gruu::Public { instance: format!("\"<{instance}>\"") })
            }
            None => {
                let (node, _) = split(uri.user?)?;
                Some(Gruu::Temporary { node: node.to_ascii_lowercase() })
            }
        }
    }
}

impl Binding {
    /// The public GRUU of this phone at the address `user@domain`; `None` for a phone without an instance, or with one
    /// that is no URN.
    pub fn public_gruu(&self, address: &str, scheme: &str) -> Option<String> {
        let instance = self.instance.as_deref()?.strip_prefix("\"<")?.strip_suffix(">\"")?;
        instance.get(..4).filter(|start| start.eq_ignore_ascii_case("urn:"))?;
        // What `paramchar` allows beside the usual (RFC 3261 §25.1).
        let mut escaped = String::with_capacity(instance.len());
        for byte in instance.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&byte) {
                escaped.push(char::from(byte));
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        Some(format!("{scheme}:{address};gr={escaped}"))
    }

    fn fingerprint(&self, address: &str) -> Option<[u8; FINGERPRINT_LEN]> {
        let instance = self.instance.as_deref()?.to_ascii_lowercase();
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [address, &instance, &self.call_id] {
            // The length keeps one part from running into the next.
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().first_chunk().copied()
    }
}

/// What seals and opens the temporary GRUUs of one node.
pub struct GruuKey {
    sealing: LessSafeKey,
    nonces: hmac::Key,
    /// The label of the node that can open them.
    node: String,
}

impl std::fmt::Debug for GruuKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GruuKey").field("node", &self.node).finish_non_exhaustive()
    }
}

/// A temporary GRUU that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The name of the user in front of the `@`.
    pub user: String,
    fingerprint: [u8; FINGERPRINT_LEN],
}

impl Opened {
    /// Whether it means this binding of `address`.
    pub fn means(&self, address: &str, binding: &Binding) -> bool {
        binding.fingerprint(address) == Some(self.fingerprint)
    }
}

impl GruuKey {
    /// Derives the keys from a secret that the node keeps over restarts; `node` is one DNS label.
    pub fn new(secret: &[u8; 32], node: &str) -> Option<GruuKey> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let sealing = UnboundKey::new(&AES_256_GCM_SIV, hmac::sign(&root, b"gruu seal").as_ref()).ok()?;
        let nonces = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, b"gruu nonce").as_ref());
        Some(GruuKey { sealing: LessSafeKey::new(sealing), nonces, node: node.to_ascii_lowercase() })
    }

    /// Makes a temporary GRUU for the phone of a binding of `address` (`user@domain`); another one at every REGISTER, and
    /// nobody else can tell whether two of them are the same phone's.
    pub fn issue(&self, now_ms: u64, address: &str, binding: &Binding, scheme: &str) -> Option<String> {
        let (user, domain) = address.rsplit_once('@')?;
        let mut sealed = binding.fingerprint(address)?.to_vec();
        sealed.extend_from_slice(user.as_bytes());
        // Not random, as this core has no randomness: no two REGISTERs of a phone have time and number in common, and if
        // they had, they would only get the same GRUU twice.
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(&now_ms.to_be_bytes());
        context.update(&binding.cseq.to_be_bytes());
        context.update(&sealed);
        let nonce: [u8; NONCE_LEN] = *context.sign().as_ref().first_chunk()?;
        let aad = Aad::from(domain.to_ascii_lowercase());
        self.sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let text = BASE64URL_NOPAD.encode(&[nonce.as_slice(), &sealed].concat());
        Some(format!("{scheme}:{MARK}{}.{text}@{domain};gr", self.node))
    }

    /// Opens the user part of a temporary GRUU of `domain`; `None` unless this key sealed it.
    pub fn open(&self, user: &str, domain: &str) -> Option<Opened> {
        let (node, sealed) = split(user)?;
        if !node.eq_ignore_ascii_case(&self.node) {
            return None;
        }
        let mut bytes = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
        let aad = Aad::from(domain.to_ascii_lowercase());
        let plain = self.sealing.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, sealed).ok()?;
        let (fingerprint, user) = plain.split_first_chunk::<FINGERPRINT_LEN>()?;
        Some(Opened { user: std::str::from_utf8(user).ok()?.to_owned(), fingerprint: *fingerprint })
    }
}

fn split(user: &str) -> Option<(&str, &str)> {
    if user.len() > USER_MAX {
        return None;
    }
    user.strip_prefix(MARK)?.split_once('.')
}

/// The value of a URI parameter without its escapes.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend_from_slice(before.as_bytes());
        bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
        rest = after.get(2..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok().map(Cow::Owned)
}
