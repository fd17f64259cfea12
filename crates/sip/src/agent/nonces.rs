//! The nonces that servers gave us, each answered again with a higher count until it is stale (RFC 7616 §3.4.5, §3.5), so that
//! not every request is refused once.

use std::collections::HashMap;

use crate::digest::{Algorithm, Challenge, DigestParams, Qop};
use crate::message::{Header, Message};

/// Most accounts that nonces are kept for; beyond, all are forgotten, which costs each account one more challenge.
const ACCOUNTS_MAX: usize = 1024;

/// Most realms of one account: a registrar and the proxies before it.
const REALMS_MAX: usize = 4;

/// Host and user name of an account.
pub(super) type Account = (String, String);

/// A challenge that may be answered again.
#[derive(Debug, Clone)]
pub(super) struct Given {
    /// The field that answers it: that of a server, or of a proxy.
    pub(super) answers: Header,
    pub(super) realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    qop: Option<Qop>,
    count: u32,
}

impl Given {
    /// The challenge and how often it is answered now, this time included.
    pub(super) fn take(&mut self) -> (Challenge<'_>, u32) {
        self.count = self.count.saturating_add(1);
        let challenge = Challenge {
            realm: self.realm.as_str().into(),
            nonce: &self.nonce,
            opaque: self.opaque.as_deref(),
            algorithm: self.algorithm,
            qop: self.qop,
            stale: false,
        };
        (challenge, self.count)
    }
}

/// All nonces, by account: requests of one registration, and of all its calls, count together.
#[derive(Debug, Default)]
pub(super) struct Nonces(HashMap<Account, Vec<Given>>);

impl Nonces {
    pub(super) fn of(&mut self, account: &Account) -> impl Iterator<Item = &mut Given> {
        self.0.get_mut(account).into_iter().flatten()
    }

    /// Takes a challenge in place of the one before it.
    pub(super) fn keep(&mut self, account: &Account, answers: Header, challenge: &Challenge<'_>) {
        if self.0.len() >= ACCOUNTS_MAX && !self.0.contains_key(account) {
            self.0.clear();
        }
        let known = self.0.entry(account.clone()).or_default();
        known.retain(|given| given.answers != answers || given.realm != challenge.realm);
        if known.len() >= REALMS_MAX {
            known.remove(0);
        }
        known.push(Given {
            answers,
            realm: challenge.realm.clone().into_owned(),
            nonce: challenge.nonce.to_owned(),
            opaque: challenge.opaque.map(str::to_owned),
            algorithm: challenge.algorithm,
            qop: challenge.qop,
            count: 0,
        });
    }

    /// Forgets what was answered in vain.
    pub(super) fn forget(&mut self, account: &Account, answers: Header) {
        if let Some(known) = self.0.get_mut(account) {
            known.retain(|given| given.answers != answers);
        }
    }

    /// Takes the nonce that a response gives for the next request, if it is that of the very one answered.
    pub(super) fn renew(&mut self, account: &Account, request: &Message, response: &Message) {
        for (info, answers) in [
            (response.header(Header::AuthenticationInfo), Header::Authorization),
            (response.header_named("Proxy-Authentication-Info"), Header::ProxyAuthorization),
        ] {
            let Some(next) = info.and_then(next_nonce) else { continue };
            let was_used = |given: &Given| request.fields(answers).any(|value| names(value, given));
            for given in self.of(account).filter(|given| given.answers == answers && was_used(given)) {
                given.nonce.clone_from(&next);
                given.count = 0;
            }
        }
    }
}

fn names(credentials: &str, given: &Given) -> bool {
    let params = DigestParams::parse(credentials).ok().flatten();
    params.is_some_and(|params| {
        params.raw("nonce") == Some(&given.nonce) && params.text("realm").as_deref() == Some(&given.realm)
    })
}

fn next_nonce(info: &str) -> Option<String> {
    // The grammar of credentials, but for the scheme.
    let info = format!("Digest {info}");
    let next = DigestParams::parse(&info).ok()??.raw("nextnonce")?.to_owned();
    (!next.is_empty()).then_some(next)
}
