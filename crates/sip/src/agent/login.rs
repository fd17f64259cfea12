//! Answers to challenges (RFC 3261 §22.2, §22.3), for the host and realm of the account only (threat 15).

use super::{Credentials, Secret};
use crate::digest::{Algorithm, Challenge, Ha1, Protection, ha1, response};
use crate::message::{Header, Message, Uri};

/// Most challenges answered for one request: user and proxy once each, and a nonce that went stale.
const ANSWERS_MAX: usize = 4;

/// An account, and what of it was used for one request or dialog.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    credentials: Credentials,
    /// The realms that this request has been answered for, with the nonce.
    answered: Vec<(String, String)>,
    /// Whether a host's own challenge fixed the realm: requests within the dialog go to contacts, whose hosts say nothing.
    is_in_dialog: bool,
}

impl Login {
    pub(crate) fn new(credentials: Credentials) -> Login {
        Login { credentials, answered: Vec::new(), is_in_dialog: false }
    }

    /// The realm that was answered last.
    pub(crate) fn realm(&self) -> Option<&str> {
        self.answered.last().map(|(realm, _)| realm.as_str())
    }

    /// The same account for requests within the dialog. Only where the request that began it was challenged: a callee that
    /// asks out of the blue gets nothing.
    pub(crate) fn for_dialog(&self) -> Option<Login> {
        let realm = self.realm()?.to_owned();
        let credentials = Credentials { realm: Some(realm), ..self.credentials.clone() };
        Some(Login { credentials, answered: Vec::new(), is_in_dialog: true })
    }

    /// The fields that answer the challenges of a 401 or 407; `None` when there is nothing to answer, or it was answered
    /// already and only a wrong password explains the repetition.
    pub(crate) fn answer(&mut self, request: &Message, refusal: &Message, cnonce: &str) -> Option<(Header, String)> {
        let (asks, answers) = match refusal.status() {
            401 => (Header::WwwAuthenticate, Header::Authorization),
            407 => (Header::ProxyAuthenticate, Header::ProxyAuthorization),
            _ => return None,
        };
        let host_fits = self.is_in_dialog
            || Uri::parse(request.request_uri()).is_ok_and(|uri| uri.host.eq_ignore_ascii_case(&self.credentials.host));
        if !host_fits || self.answered.len() >= ANSWERS_MAX {
            return None;
        }
        // The first that we can answer: the server lists the one it likes best first (RFC 8760 §2.3).
        let (challenge, ha1) = refusal.fields(asks).find_map(|value| {
            let challenge = Challenge::parse(value)?;
            if !self.is_for(&challenge.realm, request) {
                return None;
            }
            let ha1 = self.ha1(challenge.algorithm, &challenge.realm)?;
            Some((challenge, ha1))
        })?;
        let is_repeated = self.answered.iter().any(|(_, nonce)| nonce == challenge.nonce);
        let is_known = self.answered.iter().any(|(realm, _)| *realm == *challenge.realm);
        if is_repeated || (is_known && !challenge.stale) {
            return None;
        }
        self.answered.push((challenge.realm.clone().into_owned(), challenge.nonce.to_owned()));
        Some((answers, authorization(&self.credentials.username, &challenge, &ha1, request, cnonce)))
    }

    fn is_for(&self, realm: &str, request: &Message) -> bool {
        match &self.credentials.realm {
            Some(own) => own == realm,
            None => {
                realm.eq_ignore_ascii_case(&self.credentials.host)
                    || request.method() == crate::message::Method::Register
            }
        }
    }

    fn ha1(&self, algorithm: Algorithm, realm: &str) -> Option<Ha1> {
        match &self.credentials.secret {
            Secret::Password(password) => Some(ha1(algorithm, &self.credentials.username, realm, password)),
            Secret::Ha1(known) => known.iter().find(|(of, _)| *of == algorithm).map(|(_, ha1)| ha1.clone()),
        }
    }
}

fn authorization(user: &str, challenge: &Challenge<'_>, ha1: &Ha1, request: &Message, cnonce: &str) -> String {
    // A nonce is answered once by us: each request that is challenged gets another one.
    let nc = "00000001";
    let (protection, qop) = if challenge.qop {
        (Protection::Auth { nc, cnonce }, format!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\""))
    } else {
        (Protection::Legacy, String::new())
    };
    let (nonce, uri) = (challenge.nonce, request.request_uri());
    let response = response(challenge.algorithm, ha1, nonce, protection, request.method_name(), uri);
    let opaque = challenge.opaque.map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
    format!(
        "Digest username={}, realm={}, nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", algorithm={}{qop}{opaque}",
        quoted(user),
        quoted(&challenge.realm),
        challenge.algorithm.as_str(),
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
