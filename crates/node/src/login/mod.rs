//! Who is logged in at this node's page: sessions of people and administrators, the one-time keys that open the latter, and the tokens
//! that programs show instead.
//!
//! A session is a random text in a browser's cookie. Only its hash is kept, and what has to be given to the page again after it was
//! loaded anew is derived from the text itself: the CSRF token, and a SIP credential that is the session's own. So whoever reads the store can
//! open no session, and whoever reads the page's memory learns no password. Sessions outlive a restart of the node.
//!
//! A session is over with its account's password: it remembers by which one it was opened, and that is compared at each use.

pub(crate) mod keys;
mod sessions;
pub(crate) mod tokens;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use meshtone_identity::id::sha256;

pub(crate) use sessions::{Found, Sessions, is_session_name};

/// What stands for a secret where it is looked up.
pub(crate) type Hash = [u8; 32];

/// A random text, as it stands in cookies and addresses of pages.
fn fresh_secret() -> String {
    BASE32_NOPAD.encode(&crate::node::random_key()).to_ascii_lowercase()
}

/// What names a secret where it is listed.
pub(crate) fn id_of(hash: &Hash) -> String {
    HEXLOWER.encode(hash.get(..8).unwrap_or_default())
}

/// Whether two texts of secrets are the same; how long that takes says nothing of them.
pub(crate) fn is_same(left: &str, right: &str) -> bool {
    verify_slices_are_equal(left.as_bytes(), right.as_bytes()).is_ok()
}

fn hash_of(secret: &str) -> Hash {
    sha256(secret.as_bytes())
}

/// A text that follows from a secret, for one purpose; nothing else follows from it.
fn derived(secret: &str, purpose: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, purpose.as_bytes());
    HEXLOWER.encode(tag.as_ref().get(..16).unwrap_or_default())
}
