//! Answers to challenges (RFC 3261 §22.2, §22.3), for the host and realm of the account only (threat 15).

use super::nonces::{Account, Nonces};
use super::{Credentials, Secret};
use crate::digest::{Algorithm, Answer, Challenge, Ha1, answer, ha1};
use crate::message::{Header, Message, Method, Uri};

/// Most challenges answered for one request: user and proxy once each, and a nonce that went stale.
const ANSWERS_MAX: usize = 4;

/// An account, and what of it was used for one request or dialog.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    credentials: Credentials,
    account: Account,
    /// The realms that this request has been answered for, with the nonce.
    answered: Vec<(String, String)>,
    /// A realm whose nonce was answered before anybody asked.
    presented: Option<String>,
    /// Whether a host's own challenge fixed the realm: requests within the dialog go to contacts, whose hosts say nothing.
    is_in_dialog: bool,
}

impl Login {
    pub(crate) fn new(credentials: Credentials) -> Login {
        let account = (credentials.host.to_ascii_lowercase(), credentials.username.clone());
        Login { credentials, account, answered: Vec::new(), presented: None, is_in_dialog: false }
    }

    /// The realm that was answered last.
    pub(crate) fn realm(&self) -> Option<&str> {
        self.answered.last().map(|(realm, _)| realm.as_str()).or(self.presented.as_deref())
    }

    /// The same account for requests within the dialog. Only where the request that began it was challenged, or answered a
    /// challenge of before: a callee that asks out of the blue gets nothing.
    pub(crate) fn for_dialog(&self) -> Option<Login> {
        let realm = self.realm()?.to_owned();
        let credentials = Credentials { realm: Some(realm), ..self.credentials.clone() };
        Some(Login { is_in_dialog: true, account: self.account.clone(), ..Login::new(credentials) })
    }

    /// Takes a challenge (401 or 407) for [`Login::authorize`] to answer. False when there is nothing to answer, or it was
    /// answered already and only a wrong password explains the repetition.
    pub(super) fn take_challenge(&mut self, nonces: &mut Nonces, request: &Message, refusal: &Message) -> bool {
        let (asks, answers) = match refusal.status() {
            401 => (Header::WwwAuthenticate, Header::Authorization),
            407 => (Header::ProxyAuthenticate, Header::ProxyAuthorization),
            _ => return false,
        };
        if !self.is_for_host(request) || self.answered.len() >= ANSWERS_MAX {
            return false;
        }
        // The first that we can answer: the server lists the one it likes best first (RFC 8760 §2.3).
        let challenge = refusal.fields(asks).filter_map(Challenge::parse).find(|challenge| {
            self.is_for_realm(&challenge.realm, request) && self.ha1(challenge.algorithm, &challenge.realm).is_some()
        });
        let Some(challenge) = challenge else { return false };
        let is_repeated = self.answered.iter().any(|(_, nonce)| nonce == challenge.nonce);
        let is_known = self.answered.iter().any(|(realm, _)| *realm == *challenge.realm);
        if is_repeated || (is_known && !challenge.stale) {
            nonces.forget(&self.account, answers);
            return false;
        }
        self.answered.push((challenge.realm.clone().into_owned(), challenge.nonce.to_owned()));
        nonces.keep(&self.account, answers, &challenge);
        true
    }

    /// The fields that answer all challenges known for this request, each nonce with its next count.
    pub(super) fn authorize(&mut self, nonces: &mut Nonces, request: &Message, cnonce: &str) -> Vec<(Header, String)> {
        let mut fields = Vec::new();
        if !self.is_for_host(request) {
            return fields;
        }
        for given in nonces.of(&self.account) {
            if !self.is_for_realm(&given.realm, request) {
                continue;
            }
            let (answers, (challenge, count)) = (given.answers, given.take());
            let Some(ha1) = self.ha1(challenge.algorithm, &challenge.realm) else { continue };
            let (method_name, uri, body) = (request.method_name(), request.request_uri(), request.body());
            let with = Answer { user: &self.credentials.username, ha1: &ha1, method_name, uri, body, cnonce, count };
            fields.push((answers, answer(&challenge, &with)));
            self.presented = Some(challenge.realm.into_owned());
        }
        fields
    }

    /// Takes what a response says of the next nonce.
    pub(super) fn renew(&self, nonces: &mut Nonces, request: &Message, response: &Message) {
        nonces.renew(&self.account, request, response);
    }

    fn is_for_host(&self, request: &Message) -> bool {
        self.is_in_dialog
            || Uri::parse(request.request_uri()).is_ok_and(|uri| uri.host.eq_ignore_ascii_case(&self.credentials.host))
    }

    fn is_for_realm(&self, realm: &str, request: &Message) -> bool {
        match &self.credentials.realm {
            Some(own) => own == realm,
            None => realm.eq_ignore_ascii_case(&self.credentials.host) || request.method() == Method::Register,
        }
    }

    fn ha1(&self, algorithm: Algorithm, realm: &str) -> Option<Ha1> {
        match &self.credentials.secret {
            Secret::Password(password) => Some(ha1(algorithm, &self.credentials.username, realm, password)),
            Secret::Ha1(known) => known.iter().find(|(of, _)| *of == algorithm).map(|(_, ha1)| ha1.clone()),
        }
    }
}
