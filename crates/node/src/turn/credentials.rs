//! Logins of the TURN server. Phones use the password of their account, whose MD5 hash is the very key that TURN's long-term credentials
//! are made of; browsers get one for an hour: the username says when it ends and whose it is, the password is a tag over that, which
//! nobody without the node's secret can make (the scheme that other TURN servers know as their REST API).

use aws_lc_rs::hmac;
use data_encoding::{BASE64, HEXLOWER};
use meshtone_identity::NodeId;
use meshtone_media::turn::Login;
use meshtone_overlay::record::Revoked;
use meshtone_sip::digest::{Algorithm, ha1};
use serde::{Deserialize, Serialize};

use super::abroad::{Grant, Guest, node_of_owner};
use crate::account::Accounts;
use crate::clock::unix_s;

/// How long a credential is good for. Allocations that were made with it live on: this bounds what a stolen one is worth.
pub(super) const GOOD_FOR_S: u64 = 3600;

/// The stamp of what users of other nodes have: they have no password here that could change.
const OF_NODES: u64 = 0;

/// STUN and TURN for one user, as a browser's `RTCIceServer` wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// Where: `turn:` and `turns:` URIs (RFC 7065).
    pub urls: Vec<String>,
    /// The username.
    pub username: String,
    /// Its password.
    pub credential: String,
    /// For how many seconds it can be used to begin with.
    pub expires_s: u64,
}

/// Makes and knows logins. Clones are the same.
#[derive(Clone)]
pub struct Credentials {
    accounts: Accounts,
    key: hmac::Key,
    /// What grants to other nodes are made from.
    grants: hmac::Key,
    revoked: Revoked,
    urls: Vec<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those of the users of this table, with the node's secret, for a server that is found there.
    pub(crate) fn new(accounts: Accounts, secret: &[u8], revoked: Revoked, urls: Vec<String>) -> Credentials {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
        Credentials { accounts, key, grants: hmac::Key::new(hmac::HMAC_SHA256, secret), revoked, urls }
    }

    /// What a node of the overlay needs to make logins of its own; `None` where the authority has revoked it.
    pub(super) fn grant(&self, node: NodeId, until_s: u64) -> Option<Grant> {
        (!self.revoked.contains(&node)).then(|| Grant::new(&self.grants, node, until_s))
    }

    /// A fresh login for a user; `None` where there is no such user, or no TURN server to log in at.
    pub fn for_user(&self, user: &str) -> Option<IceServer> {
        let user = self.accounts.resolve(user).filter(|_| !self.urls.is_empty())?;
        let username = format!("{}:{user}", unix_s() + GOOD_FOR_S);
        let credential = self.password(&username);
        Some(IceServer { urls: self.urls.clone(), username, credential, expires_s: GOOD_FOR_S })
    }

    /// Who is behind a username at this second.
    pub(super) fn login(&self, username: &str, now_s: u64) -> Option<Login> {
        if let Some(guest) = Guest::read(username).filter(|guest| guest.is_good(now_s)) {
            let grant = self.grant(guest.node, guest.granted_until_s)?;
            let key = ha1(Algorithm::Md5, username, self.accounts.domain(), &grant.password(username));
            return Some(Login { owner: Guest::owner(guest.node), key: bytes(key.as_str())?, stamp: OF_NODES });
        }
        match username.split_once(':') {
            Some((until, user)) => {
                let until: u64 = until.parse().ok().filter(|until| *until > now_s)?;
                // The name as it was given out and no other: `007:alice` is nobody's.
                (username == format!("{until}:{user}")).then_some(())?;
                let stamp = self.stamp(user)?;
                let realm = self.accounts.domain();
                let key = ha1(Algorithm::Md5, username, realm, &self.password(username));
                Some(Login { owner: user.to_owned(), key: bytes(key.as_str())?, stamp })
            }
            None => {
                let stamp = self.stamp(username)?;
                let key = self.accounts.ha1(username, Algorithm::Md5)?;
                Some(Login { owner: username.to_owned(), key: bytes(key.as_str())?, stamp })
            }
        }
    }

    /// A number that stands for the password of a user; `None` where there is no such user, or the node whose users these are is none any
    /// longer.
    pub(super) fn stamp(&self, user: &str) -> Option<u64> {
        if let Some(node) = node_of_owner(user) {
            return (!self.revoked.contains(&node)).then_some(OF_NODES);
        }
        // As it is in the account, whether or not phones may use it.
        let account = self.accounts.find(user).filter(|account| account.user == user)?;
        let tag = hmac::sign(&self.key, account.ha1.of(Algorithm::Md5).as_str().as_bytes());
        tag.as_ref().first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn password(&self, username: &str) -> String {
        BASE64.encode(hmac::sign(&self.key, username.as_bytes()).as_ref())
    }
}

fn bytes(hex: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()
}
