//! A certificate that every browser believes, asked for by ACME (RFC 8555): obtained, shown at once by all listeners, kept for the next start,
//! and renewed. Nobody is asked unless the configuration names a server.
//!
//! That a name leads here is proven at this node's own listeners, by what a server finds at port 443 (TLS-ALPN-01, RFC 8737) or 80 (HTTP-01):
//! where the node listens elsewhere, its router has to lead there. When the one is in vain the other is tried next.

mod challenges;
mod client;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::sleep;
use zeroize::Zeroizing;

pub(crate) use challenges::{ALPN, Challenges};

use crate::clock::unix_s;
use crate::control::AcmeStatus;
use crate::store::{KeyFile, Store};
use crate::text::harmless;
use crate::transport::tls::certificate::{Certificate, CertificateError, from_pem};
use crate::transport::tls::showing::{Described, Origin, Showing};
use client::WebClient;

/// Names that one certificate may have.
pub const MAX_NAMES: usize = 16;
/// How often it is looked whether it is time: machines sleep, and clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// The first pause after an attempt in vain; each is twice as long as the one before. Servers allow a few failures an hour.
const AGAIN_AFTER: Duration = Duration::from_secs(120);
/// The longest one.
const AGAIN_AT_MOST: Duration = Duration::from_secs(12 * 3600);
/// How long a server may take to look whether a name leads here, and to issue.
const WITHIN: Duration = Duration::from_secs(90);
/// Longest reason that is shown.
const MAX_REASON: usize = 300;

/// Whom to ask, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The server's directory (RFC 8555 §7.1.1), an https address.
    pub directory: String,
    /// Whom the server may write to, `mailto:…`.
    pub contact: Option<String>,
    /// The names of the certificate.
    pub names: Vec<String>,
    /// The only way by which names are to be proven; otherwise what seems likely to work, and the other one after a failure.
    pub challenge: Option<Challenge>,
    /// Authorities by which the server itself is believed, beside the usual ones, as a PEM file.
    pub authorities: Option<PathBuf>,
}

/// A way to prove that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a text at port 80 (RFC 8555 §8.3).
    Http01,
    /// By a certificate at port 443 (RFC 8737).
    TlsAlpn01,
}

/// How it stands. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Standing(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    failing: Option<Failing>,
    until: Option<u64>,
}

#[derive(Clone)]
struct Failing {
    since_s: u64,
    reason: String,
}

/// What asking needs.
pub(crate) struct Keeper {
    settings: Settings,
    store: Store,
    client: WebClient,
    challenges: Challenges,
    /// All that is shown, to phones and to browsers.
    showings: Vec<Showing>,
    standing: Standing,
    /// The way that is tried first.
    first: ChallengeType,
}

/// The certificate of an earlier start, if it holds still and has these names.
pub(crate) fn kept(store: &Store, settings: &Settings) -> Option<Certificate> {
    let pem = store.read_key(KeyFile::Acme).ok().flatten()?;
    let certificate = from_pem(&pem, Origin::Acme)?;
    let described = Described::of(certificate.leaf()?)?;
    (has_names(&described, &settings.names) && described.expires > unix_s()).then_some(certificate)
}

fn has_names(described: &Described, names: &[String]) -> bool {
    names.iter().all(|name| described.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// When it is time to renew, in unix seconds: when two thirds of its life are over (30 of 90 days are left).
fn due(described: &Described) -> u64 {
    let life = described.expires.saturating_sub(described.starts);
    described.expires.saturating_sub(life / 3)
}

impl Standing {
    /// For people.
    pub(crate) fn status(&self, settings: &Settings, now_s: u64) -> AcmeStatus {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let word = match (&state.failing, state.until) {
            (Some(_), _) => "failing",
            (None, Some(_)) => "ready",
            (None, None) => "asking",
        };
        AcmeStatus {
            directory: settings.directory.clone(),
            names: settings.names.clone(),
            state: word.to_owned(),
            certified_until: state.until,
            failing_for_s: state.failing.as_ref().map(|failing| now_s.saturating_sub(failing.since_s)),
            reason: state.failing.as_ref().map(|failing| failing.reason.clone()),
        }
    }

    fn is(&self, until: Option<u64>, failing: Option<String>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.until = until;
        state.failing = failing.map(|reason| {
            let since_s = state.failing.as_ref().map_or_else(unix_s, |failing| failing.since_s);
            Failing { since_s, reason }
        });
    }
}

impl Keeper {
    /// Makes what [`Keeper::run`] does the work of. `has_port` tells whether this node listens for browsers at ports 443 and 80.
    ///
    /// # Errors
    /// The file of authorities cannot be read.
    pub(crate) fn new(
        settings: Settings,
        store: Store,
        challenges: Challenges,
        showings: Vec<Showing>,
        standing: Standing,
        (has_443, has_80): (bool, bool),
    ) -> Result<Keeper, CertificateError> {
        let client = WebClient::new(settings.authorities.as_deref())?;
        let first = match settings.challenge {
            Some(Challenge::Http01) => ChallengeType::Http01,
            Some(Challenge::TlsAlpn01) => ChallengeType::TlsAlpn01,
            None if has_80 && !has_443 => ChallengeType::Http01,
            None => ChallengeType::TlsAlpn01,
        };
        Ok(Keeper { settings, store, client, challenges, showings, standing, first })
    }

    /// Looks after the certificate until the node stops.
    pub(crate) async fn run(mut self) {
        let mut pause = AGAIN_AFTER;
        loop {
            let shown = self.shown();
            if let Some(shown) = shown.as_ref().filter(|shown| unix_s() < due(shown)) {
                self.standing.is(Some(shown.expires), None);
                let left = Duration::from_secs(due(shown).saturating_sub(unix_s()).saturating_add(1));
                sleep(LOOK_EVERY.min(left)).await;
                continue;
            }
            let obtained = self.obtain().await;
            self.challenges.close();
            match obtained {
                Ok(()) => {
                    tracing::info!(names = self.settings.names.join(", "), "a certificate was obtained by ACME");
                    pause = AGAIN_AFTER;
                }
                Err(reason) => {
                    let reason = harmless(&reason, MAX_REASON);
                    tracing::warn!(reason, "no certificate was obtained by ACME; it is tried again");
                    let until = shown.map(|shown| shown.expires).filter(|expires| *expires > unix_s());
                    self.standing.is(until, Some(reason));
                    // Maybe the other way leads here.
                    if self.settings.challenge.is_none() {
                        let was_http = self.first == ChallengeType::Http01;
                        self.first = if was_http { ChallengeType::TlsAlpn01 } else { ChallengeType::Http01 };
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_AT_MOST);
                }
            }
        }
    }

    /// What is shown, where that is from such a server and has the names that are wanted.
    fn shown(&self) -> Option<Described> {
        let showing = self.showings.first().filter(|showing| showing.origin() == Origin::Acme)?;
        showing.described().filter(|described| has_names(described, &self.settings.names))
    }

    async fn obtain(&self) -> Result<(), String> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self.settings.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await.map_err(said)?;
        self.prove(&mut order).await?;
        let waiting = RetryPolicy::new().timeout(WITHIN);
        match order.poll_ready(&waiting).await {
            Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
            Ok(_) | Err(instant_acme::Error::Api(_)) => return Err(self.why_not(&mut order).await),
            Err(error) => return Err(said(error)),
        }
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = CertificateParams::new(self.settings.names.clone()).map_err(|error| error.to_string())?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(|error| error.to_string())?;
        order.finalize_csr(request.der()).await.map_err(said)?;
        let chain = order.poll_certificate(&waiting).await.map_err(said)?;
        let text = Zeroizing::new(format!("{}\n{}", chain.trim_end(), key.serialize_pem()));
        self.take(text).await
    }

    /// Shows a chain with its key, if both are good, and keeps them.
    async fn take(&self, text: Zeroizing<String>) -> Result<(), String> {
        let read = || from_pem(text.as_bytes(), Origin::Acme).ok_or("the server's certificate cannot be read");
        let described =
            read()?.leaf().and_then(|leaf| Described::of(leaf)).ok_or("the server's certificate is none")?;
        if !has_names(&described, &self.settings.names) || described.expires <= unix_s() {
            return Err("the server's certificate is for other names, or over".to_owned());
        }
        for showing in &self.showings {
            showing.replace(read()?).map_err(|error| error.to_string())?;
        }
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.write_key(KeyFile::Acme, text.as_bytes()));
        kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// The account at this server: the one of before, or a new one.
    async fn account(&self) -> Result<Account, String> {
        let directory = &self.settings.directory;
        let builder = || Account::builder_with_http(Box::new(self.client.clone()));
        let kept = self.store.read_key(KeyFile::AcmeAccount).ok().flatten();
        if let Some((of, credentials)) =
            kept.and_then(|bytes| serde_json::from_slice::<(String, AccountCredentials)>(&bytes).ok())
            && of == *directory
        {
            return builder().from_credentials(credentials).await.map_err(said);
        }
        let contact: Vec<&str> = self.settings.contact.as_deref().into_iter().collect();
        let wanted = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder().create(&wanted, directory.clone(), None).await.map_err(said)?;
        let text =
            serde_json::to_vec(&(directory, &credentials)).map(Zeroizing::new).map_err(|error| error.to_string())?;
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.write_key(KeyFile::AcmeAccount, &text));
        kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(account)
    }

    /// Shows what proves each name, and says so.
    async fn prove(&self, order: &mut Order) -> Result<(), String> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(said)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            if authorization.status != AuthorizationStatus::Pending {
                return Err(format!("the server says that a name is {:?}", authorization.status));
            }
            let offered = |kind: &ChallengeType| authorization.challenges.iter().any(|one| one.r#type == *kind);
            let mut ways = vec![self.first.clone()];
            if self.settings.challenge.is_none() {
                ways.extend([ChallengeType::TlsAlpn01, ChallengeType::Http01]);
            }
            let kind = ways.into_iter().find(offered);
            let kind = kind.ok_or("the server offers no way to prove a name that this node has")?;
            let mut challenge = authorization.challenge(kind).ok_or("the server has taken its challenge back")?;
            let (name, proof) = (challenge.identifier().to_string(), challenge.key_authorization());
            let hash = <[u8; 32]>::try_from(proof.digest().as_ref()).map_err(|_| "a hash has another length")?;
            self.challenges.open(&name, &challenge.token, proof.as_str(), &hash)?;
            challenge.set_ready().await.map_err(said)?;
        }
        Ok(())
    }

    /// What a server says of the names that it did not find here.
    async fn why_not(&self, order: &mut Order) -> String {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                continue;
            }
            let name = authorization.identifier().to_string();
            let error = authorization.challenges.iter().find_map(|challenge| challenge.error.clone());
            if let Some(error) = error {
                let detail = error.detail.unwrap_or_else(|| "it does not say why".to_owned());
                return format!("the server did not find this node at {name}: {detail}");
            }
        }
        "the server did not find this node at these names, and does not say why".to_owned()
    }
}

/// What a server has said, or why it was not heard.
fn said(error: instant_acme::Error) -> String {
    if let instant_acme::Error::Api(problem) = error {
        let why = problem.detail.or(problem.r#type).unwrap_or_else(|| "it does not say why".to_owned());
        return format!("the server refuses: {why}");
    }
    if let instant_acme::Error::Timeout(_) = error {
        return "the server took too long".to_owned();
    }
    format!("the server was not understood, or not reached: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(names: &[&str]) -> Described {
        Described {
            name: String::new(),
            issuer: String::new(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            sha256: String::new(),
            starts: 1_000_000,
            expires: 1_000_000 + 90 * 86_400,
        }
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let shown = described(&[]);
        assert_eq!(due(&shown), shown.starts + 60 * 86_400);
    }

    #[test]
    fn it_is_asked_anew_for_other_names() {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(has_names(&described(&["Mesh.example", "b.example"]), &names(&["mesh.example"])));
        assert!(!has_names(&described(&["mesh.example"]), &names(&["mesh.example", "b.example"])));
    }

    #[test]
    fn how_it_stands_is_told_since_when_it_fails() {
        let settings = Settings {
            directory: "https://acme.example".to_owned(),
            contact: None,
            names: Vec::new(),
            challenge: None,
            authorities: None,
        };
        let standing = Standing::default();
        assert_eq!(standing.status(&settings, unix_s()).state, "asking");
        standing.is(None, Some("first".to_owned()));
        standing.is(None, Some("then".to_owned()));
        let status = standing.status(&settings, unix_s() + 100);
        assert_eq!((status.state.as_str(), status.reason.as_deref()), ("failing", Some("then")));
        assert!(status.failing_for_s.is_some_and(|seconds| seconds >= 100));
        standing.is(Some(5), None);
        assert_eq!(
            (standing.status(&settings, 0).state.as_str(), standing.status(&settings, 0).certified_until),
            ("ready", Some(5))
        );
    }
}
