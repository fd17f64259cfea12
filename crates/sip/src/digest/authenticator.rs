//! The server's side: challenges, and the verdict on what answers them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;

use super::counts::NonceCounts;
use super::nonce::{self, Stamp};
use super::params::{DigestParams, quote};
use super::{Algorithm, Ha1, Protection, response};

/// Credentials looked at in one request, at most: one for each algorithm and a few for other realms.
const MAX_CREDENTIALS: usize = 8;

/// Bounds of an [`Authenticator`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestConfig {
    /// How long after its challenge a nonce may be used.
    pub nonce_life: Duration,
    /// Nonces remembered as used, at most, give or take a few. Beyond it the oldest are forgotten and, being forgotten, are
    /// stale.
    pub max_tracked_nonces: usize,
}

impl Default for DigestConfig {
    /// Five minutes: long enough for a dialog's requests to share a nonce, short enough that a restart troubles few. 65,536
    /// nonces take about 5 MiB.
    fn default() -> DigestConfig {
        DigestConfig { nonce_life: Duration::from_secs(300), max_tracked_nonces: 65_536 }
    }
}

/// What a request's credentials are worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are right, and this use of their nonce is the first.
    Accepted {
        /// The user as the phone spelled it, escapes resolved.
        username: String,
    },
    /// There are none for this realm: challenge.
    Missing,
    /// They are right, but the nonce is not ours, too old or used already: challenge with `stale=true`, and the phone tries
    /// again without asking anybody.
    Stale,
    /// They are wrong, malformed, for an unknown user or by an algorithm that is not allowed: challenge, count as a failure.
    Refused,
}

/// Challenges, and judges answers. One for all workers of a node, which ask it at the same time: replays are found in its table.
///
/// A nonce is good only where it was made, since each authenticator has a secret of its own: answered elsewhere, or after a
/// restart, it is stale, so that what was captured at one node is worth nothing at another.
pub struct Authenticator {
    key: hmac::Key,
    config: DigestConfig,
    issued: AtomicU64,
    used: NonceCounts,
    /// What unknown users are checked against, so that they take the same steps.
    nobody: [Ha1; 3],
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("config", &self.config)
            .field("used", &self.used.len())
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Makes an authenticator; the secret comes from a good source of randomness and never leaves.
    pub fn new(secret: [u8; 32], config: DigestConfig) -> Authenticator {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let hex = HEXLOWER.encode(hmac::sign(&key, b"nobody").as_ref());
        let nobody = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
            .map(|algorithm| Ha1(hex.get(..algorithm.hex_len()).unwrap_or_default().to_owned()));
        let (issued, used) = (AtomicU64::new(0), NonceCounts::new(config.max_tracked_nonces));
        Authenticator { key, config, issued, used, nobody }
    }

    /// Returns the values of WWW-Authenticate or Proxy-Authenticate, one for each algorithm in the order given: the one
    /// preferred comes first (RFC 8760 §2.3).
    pub fn challenge(&self, now_ms: u64, realm: &str, algorithms: &[Algorithm], stale: bool) -> Vec<String> {
        self.challenge_for(now_ms, realm, algorithms, "auth", stale)
    }

    /// The same, asking for the protection of bodies too (`auth-int`), which a client may take or leave.
    pub fn challenge_with_bodies(
        &self,
        now_ms: u64,
        realm: &str,
        algorithms: &[Algorithm],
        stale: bool,
    ) -> Vec<String> {
        self.challenge_for(now_ms, realm, algorithms, "auth,auth-int", stale)
    }

    fn challenge_for(&self, now_ms: u64, realm: &str, algorithms: &[Algorithm], qop: &str, stale: bool) -> Vec<String> {
        let counter = self.issued.fetch_add(1, Ordering::Relaxed);
        let nonce = nonce::seal(&self.key, Stamp { issued_ms: now_ms, counter }, realm);
        let stale = if stale { ", stale=true" } else { "" };
        let challenge = |algorithm: &Algorithm| {
            let (realm, algorithm) = (quote(realm), algorithm.as_str());
            format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={algorithm}, qop=\"{qop}\"{stale}")
        };
        algorithms.iter().map(challenge).collect()
    }

    /// Judges the values of Authorization or Proxy-Authorization.
    ///
    /// The first credentials for this realm whose algorithm is allowed decide. `lookup` returns the HA1 of a user, and `None`
    /// where there is none, be it that the user is unknown or has no HA1 for this algorithm; both are refused alike.
    ///
    /// The `uri` parameter is covered by the response but not compared with the Request-URI, although RFC 7616 §3.4.6 asks
    /// for it: proxies on the way may have rewritten that, and nonce counting already denies a second use elsewhere.
    #[allow(clippy::too_many_arguments, reason = "a request's parts, which the engine has at hand one by one")]
    pub fn verify<'v>(
        &self,
        now_ms: u64,
        authorization_values: impl Iterator<Item = &'v str>,
        realm: &str,
        method_name: &str,
        body: &[u8],
        mut lookup: impl FnMut(&str, Algorithm) -> Option<Ha1>,
        allowed: &[Algorithm],
    ) -> Verdict {
        let mut verdict = Verdict::Missing;
        for value in authorization_values.take(MAX_CREDENTIALS) {
            let params = match DigestParams::parse(value) {
                Ok(Some(params)) => params,
                Ok(None) => continue,
                Err(_) => {
                    verdict = Verdict::Refused;
                    continue;
                }
            };
            if params.text("realm").as_deref() != Some(realm) {
                continue;
            }
            verdict = Verdict::Refused;
            let algorithm = Algorithm::from_token(params.raw("algorithm").unwrap_or("MD5"));
            let Some(algorithm) = algorithm.filter(|algorithm| allowed.contains(algorithm)) else { continue };
            let Some(credentials) = Credentials::read(&params, body) else { continue };
            return self.judge(now_ms, &credentials, algorithm, realm, method_name, &mut lookup);
        }
        verdict
    }

    fn judge(
        &self,
        now_ms: u64,
        credentials: &Credentials<'_>,
        algorithm: Algorithm,
        realm: &str,
        method_name: &str,
        lookup: &mut impl FnMut(&str, Algorithm) -> Option<Ha1>,
    ) -> Verdict {
        let known = lookup(&credentials.username, algorithm);
        let [md5, sha256, sha512_256] = &self.nobody;
        let nobody = match algorithm {
            Algorithm::Md5 => md5,
            Algorithm::Sha256 => sha256,
            Algorithm::Sha512_256 => sha512_256,
        };
        let ha1 = known.as_ref().unwrap_or(nobody);
        let expected =
            response(algorithm, ha1, credentials.nonce, credentials.protection, method_name, credentials.uri);
        let is_right = expected.is(credentials.response);
        // Whether a nonce is good is told only to those who know the password.
        if !is_right || known.is_none() {
            return Verdict::Refused;
        }
        if !self.use_nonce(now_ms, credentials.nonce, realm, credentials.count) {
            return Verdict::Stale;
        }
        Verdict::Accepted { username: credentials.username.clone() }
    }

    /// Notes a use of a nonce; false if it is not ours, not fresh, or was used with this count or a higher one.
    fn use_nonce(&self, now_ms: u64, nonce: &str, realm: &str, count: u32) -> bool {
        let Some(stamp) = nonce::open(&self.key, nonce, realm) else { return false };
        let life_ms = u64::try_from(self.config.nonce_life.as_millis()).unwrap_or(u64::MAX);
        // A stamp of the future means that our clock went back; its age cannot be told.
        let is_fresh = now_ms.checked_sub(stamp.issued_ms).is_some_and(|age_ms| age_ms <= life_ms);
        is_fresh && self.used.take(stamp, count, now_ms.saturating_sub(life_ms))
    }
}

/// What answers a challenge with `qop`; without it there is no nonce count, so replays could not be told.
struct Credentials<'a> {
    username: String,
    nonce: &'a str,
    uri: &'a str,
    response: &'a str,
    protection: Protection<'a>,
    count: u32,
}

impl<'a> Credentials<'a> {
    fn read(params: &DigestParams<'a>, body: &'a [u8]) -> Option<Credentials<'a>> {
        let nc = params.raw("nc").filter(|nc| nc.len() == 8 && nc.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let cnonce = params.raw("cnonce").filter(|cnonce| !cnonce.is_empty())?;
        let qop = params.raw("qop")?;
        let protection = if qop.eq_ignore_ascii_case("auth") {
            Protection::Auth { nc, cnonce }
        } else if qop.eq_ignore_ascii_case("auth-int") {
            Protection::AuthInt { nc, cnonce, body }
        } else {
            return None;
        };
        Some(Credentials {
            username: params.text("username")?.into_owned(),
            nonce: params.raw("nonce")?,
            uri: params.raw("uri")?,
            response: params.raw("response")?,
            protection,
            count: u32::from_str_radix(nc, 16).ok()?,
        })
    }
}
