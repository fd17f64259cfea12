//! What phones may authenticate by (RFC 8760): a policy of the listener. It never depends on the user named, as else it
//! would tell who exists; what a user may use is checked with the answer (`Accounts::ha1`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use meshtone_sip::digest::Algorithm;

/// One thing offered, everywhere or at one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRule {
    /// Where; `None` for every listener that has no rules of its own.
    pub listener: Option<SocketAddr>,
    /// What.
    pub offered: Offered,
}

/// What a challenge may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// An algorithm, a challenge of its own.
    Algorithm(Algorithm),
    /// The protection of bodies (`qop=auth-int`), beside the usual.
    AuthInt,
}

impl FromStr for DigestRule {
    type Err = String;

    /// Reads `sha-256`, `auth-int`, or either with `192.0.2.1:5080=` in front.
    fn from_str(text: &str) -> Result<DigestRule, String> {
        let (listener, word) = match text.split_once('=') {
            None => (None, text),
            Some((address, word)) => {
                let address = address.trim().parse().map_err(|_| format!("`{address}` is no address of a listener"))?;
                (Some(address), word)
            }
        };
        let word = word.trim();
        let offered = match Algorithm::from_token(word) {
            Some(algorithm) => Offered::Algorithm(algorithm),
            None if word.eq_ignore_ascii_case("auth-int") => Offered::AuthInt,
            None => return Err(format!("`{word}` is none of md5, sha-256, sha-512-256, auth-int")),
        };
        Ok(DigestRule { listener, offered })
    }
}

/// What is offered at one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Offer {
    /// Strongest first: many phones read the first challenge only.
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) auth_int: bool,
}

/// What is offered where.
#[derive(Debug)]
pub(crate) struct DigestPolicy {
    everywhere: Offer,
    listeners: BTreeMap<SocketAddr, Offer>,
}

impl DigestPolicy {
    pub(crate) fn new(rules: &[DigestRule]) -> DigestPolicy {
        let mut policy = DigestPolicy { everywhere: Offer::default(), listeners: BTreeMap::new() };
        for rule in rules {
            let offer = match rule.listener {
                None => &mut policy.everywhere,
                Some(listener) => policy.listeners.entry(listener).or_default(),
            };
            match rule.offered {
                Offered::Algorithm(algorithm) => offer.algorithms.push(algorithm),
                Offered::AuthInt => offer.auth_int = true,
            }
        }
        policy.everywhere.complete(&[Algorithm::Md5]);
        let usual = policy.everywhere.algorithms.clone();
        for offer in policy.listeners.values_mut() {
            offer.complete(&usual);
        }
        policy
    }

    /// The addresses with rules that are none of these listeners: most likely mistyped.
    pub(crate) fn without_listener(&self, listeners: &[SocketAddr]) -> Vec<SocketAddr> {
        self.listeners.keys().filter(|address| !listeners.contains(address)).copied().collect()
    }

    /// Whether one of these listeners offers one of these algorithms.
    pub(crate) fn offers(&self, listeners: &[SocketAddr], algorithms: &[Algorithm]) -> bool {
        let offered = |listener: &SocketAddr| &self.offer(Some(*listener)).algorithms;
        listeners.iter().any(|listener| offered(listener).iter().any(|algorithm| algorithms.contains(algorithm)))
    }

    pub(crate) fn offer(&self, listener: Option<SocketAddr>) -> &Offer {
        listener.and_then(|listener| self.listeners.get(&listener)).unwrap_or(&self.everywhere)
    }
}

impl Offer {
    fn complete(&mut self, usual: &[Algorithm]) {
        if self.algorithms.is_empty() {
            self.algorithms = usual.to_vec();
        }
        let given = std::mem::take(&mut self.algorithms);
        self.algorithms = Algorithm::ALL.into_iter().filter(|algorithm| given.contains(algorithm)).collect();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(rules: &[&str]) -> DigestPolicy {
        DigestPolicy::new(&rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<_>>())
    }

    fn listener() -> Option<SocketAddr> {
        Some(([192, 0, 2, 1], 5080).into())
    }

    #[test]
    fn md5_alone_is_offered_where_nothing_is_said() {
        let offer = Offer { algorithms: vec![Algorithm::Md5], auth_int: false };
        assert_eq!(policy(&[]).offer(listener()), &offer);
    }

    #[test]
    fn the_strongest_comes_first_however_it_was_written() {
        let policy = policy(&["md5", "SHA-512-256", "sha-256", "md5", "auth-int"]);
        assert_eq!(policy.offer(None), &Offer { algorithms: Algorithm::ALL.to_vec(), auth_int: true });
    }

    #[test]
    fn a_listener_may_have_rules_of_its_own() {
        let policy = policy(&["md5", "192.0.2.1:5080=sha-256", "192.0.2.2:5080=auth-int"]);
        assert_eq!(policy.offer(listener()).algorithms, [Algorithm::Sha256]);
        assert_eq!(policy.offer(Some(([192, 0, 2, 9], 5080).into())).algorithms, [Algorithm::Md5]);
        let bodies = policy.offer(Some(([192, 0, 2, 2], 5080).into()));
        assert_eq!((bodies.algorithms.as_slice(), bodies.auth_int), ([Algorithm::Md5].as_slice(), true));
    }

    #[test]
    fn what_is_offered_somewhere_is_what_a_listener_that_exists_offers() {
        let policy = policy(&["md5", "192.0.2.1:5080=sha-256"]);
        let (strict, usual) = (listener().unwrap(), ([192, 0, 2, 9], 5080).into());
        assert!(policy.offers(&[usual, strict], &[Algorithm::Sha256]));
        assert!(!policy.offers(&[usual], &[Algorithm::Sha256, Algorithm::Sha512_256]));
        assert!(!policy.offers(&[strict], &[Algorithm::Md5]));
        assert!(!policy.offers(&[usual, strict], &[]));
    }

    #[test]
    fn what_is_no_rule_is_named() {
        for wrong in ["", "sha1", "localhost=md5", "192.0.2.1:5080=", "md5-sess"] {
            assert!(wrong.parse::<DigestRule>().is_err(), "{wrong}");
        }
    }
}
