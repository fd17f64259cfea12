//! Who has asked to prove which mailbox, and who has: a machine without time, randomness or input of its own.
//!
//! A proof belongs to an address and the key that asked: a code helps nobody else. What is mailed is limited for each address, for
//! each node that asks, and in all; since a proof is only opened with a mail, and what is remembered of mails ends after a day, that
//! bounds all tables here. Times are unix seconds.

use std::collections::{BTreeMap, VecDeque};

use meshtone_identity::NodeId;

use super::code::{Code, CodeHash};

/// How long a code is good: mails may be late, and people at lunch.
pub(super) const CODE_LIFETIME_S: u64 = 3600;

/// How long an open proof is remembered, so that whoever is late hears so.
const REMEMBERED_S: u64 = 2 * CODE_LIFETIME_S;

/// Wrong codes that one proof survives. Of 2^40 codes, nobody guesses one so.
const MAX_WRONG: u8 = 5;

/// Certificates of an address that have not run out: a lost key a few times a year, and no more.
const MAX_CERTIFICATES: usize = 8;

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

/// Mails in an hour and in a day.
struct Limit {
    hour: usize,
    day: usize,
}

/// Mails to one address that one node may cause: the first, and some more for whoever lost it.
const ADDRESS_FROM_NODE: Limit = Limit { hour: 3, day: 6 };
/// Mails to one address, whoever asks.
const ADDRESS: Limit = Limit { hour: 6, day: 12 };
/// The same for a node that has not asked for this address since yesterday: whoever asks in somebody else's name from a few nodes
/// does not so keep its owner from asking at his.
const ADDRESS_FROM_NEW_NODE: Limit = Limit { hour: 12, day: 24 };
/// Mails that one node may cause: a company's people in one morning.
const NODE: Limit = Limit { hour: 20, day: 50 };
/// All mails: what providers let one account send. It bounds the tables here.
const ALL: Limit = Limit { hour: 200, day: 1000 };

/// SHA-256 of a user's public key.
pub(super) type KeyHash = [u8; 32];

/// The state of all proofs.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    proofs: BTreeMap<(String, KeyHash), Proof>,
    /// The mails of the last day, oldest first.
    mailed: VecDeque<Mailed>,
    /// By address.
    certified: BTreeMap<String, Vec<Certified>>,
}

#[derive(Debug)]
struct Proof {
    code: CodeHash,
    expires: u64,
    wrong: u8,
    /// What the code gave: the same again for who asks again, because the answer may have been lost.
    certificate: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Mailed {
    at: u64,
    /// [`inbox`] of the address.
    inbox: String,
    source: NodeId,
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certified {
    /// SHA-256 of the certificate.
    pub(super) certificate: [u8; 32],
    pub(super) key: KeyHash,
    pub(super) issued: u64,
    pub(super) expires: u64,
}

/// What is to be done with a code.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Certify, and tell [`Mailbox::certified`].
    Certify,
    /// Give this certificate again.
    Again(Vec<u8>),
    /// No, and nobody learns why: no such proof, another key's, a wrong code, too many of them.
    Wrong,
    /// It was right, and it is too late.
    Expired,
    /// It is right, and the address has too many certificates.
    TooMany,
}

impl Mailbox {
    /// Takes up a certificate that was issued earlier.
    pub(super) fn restore(&mut self, address: &str, certified: Certified) {
        self.certified.entry(address.to_owned()).or_default().push(certified);
    }

    /// Somebody wants to prove an address. Returns whether this code is to be mailed; it then takes the place of an earlier one.
    /// The asker is not told.
    pub(super) fn ask(&mut self, address: &str, key: KeyHash, source: NodeId, code: &Code, now: u64) -> bool {
        self.forget(now);
        let inbox = inbox(address);
        if !self.may_mail(&inbox, source, now) {
            return false;
        }
        self.mailed.push_back(Mailed { at: now, inbox, source });
        let expires = now.saturating_add(CODE_LIFETIME_S);
        let proof = Proof { code: code.hash(), expires, wrong: 0, certificate: None };
        self.proofs.insert((address.to_owned(), key), proof);
        true
    }

    /// Somebody shows the code that came.
    pub(super) fn prove(&mut self, address: &str, key: KeyHash, code: &Code, now: u64) -> Verdict {
        self.forget(now);
        let has_too_many = self.certificates(address, now) >= MAX_CERTIFICATES;
        let Some(proof) = self.proofs.get_mut(&(address.to_owned(), key)) else { return Verdict::Wrong };
        if proof.wrong >= MAX_WRONG {
            return Verdict::Wrong;
        }
        if !proof.code.is_of(code) {
            proof.wrong += 1;
            return Verdict::Wrong;
        }
        match &proof.certificate {
            _ if now > proof.expires => Verdict::Expired,
            Some(certificate) => Verdict::Again(certificate.clone()),
            None if has_too_many => Verdict::TooMany,
            None => Verdict::Certify,
        }
    }

    /// Whether one more certificate may be issued for an address that was proved otherwise than by a mail.
    pub(super) fn has_room(&self, address: &str, now: u64) -> bool {
        self.certificates(address, now) < MAX_CERTIFICATES
    }

    /// A certificate was issued, upon [`Verdict::Certify`] or where there is [room](Self::has_room).
    pub(super) fn certified(&mut self, address: &str, certified: Certified, der: Vec<u8>) {
        if let Some(proof) = self.proofs.get_mut(&(address.to_owned(), certified.key)) {
            proof.certificate = Some(der);
        }
        let now = certified.issued;
        self.certified.retain(|_, all| {
            all.retain(|known| known.expires >= now);
            !all.is_empty()
        });
        self.restore(address, certified);
    }

    /// How many certificates of an address have not run out.
    pub(super) fn certificates(&self, address: &str, now: u64) -> usize {
        let certified = self.certified.get(address);
        certified.map_or(0, |all| all.iter().filter(|certified| certified.expires >= now).count())
    }

    /// The certificates that have not run out, by address.
    pub(super) fn all(&self, now: u64) -> impl Iterator<Item = (&str, &Certified)> {
        let rows = self.certified.iter().flat_map(|(address, all)| all.iter().map(move |one| (address.as_str(), one)));
        rows.filter(move |(_, certified)| certified.expires >= now)
    }

    fn may_mail(&self, inbox: &str, source: NodeId, now: u64) -> bool {
        let count = |limit: &Limit, is_counted: &dyn Fn(&Mailed) -> bool| {
            let hour = now.saturating_sub(HOUR_S);
            let counted = || self.mailed.iter().filter(|mailed| is_counted(mailed));
            counted().filter(|mailed| mailed.at > hour).count() < limit.hour && counted().count() < limit.day
        };
        let is_new = !self.mailed.iter().any(|mailed| mailed.inbox == inbox && mailed.source == source);
        let of_address = if is_new { &ADDRESS_FROM_NEW_NODE } else { &ADDRESS };
        count(&ADDRESS_FROM_NODE, &|mailed| mailed.inbox == inbox && mailed.source == source)
            && count(of_address, &|mailed| mailed.inbox == inbox)
            && count(&NODE, &|mailed| mailed.source == source)
            && count(&ALL, &|_| true)
    }

    fn forget(&mut self, now: u64) {
        while self.mailed.front().is_some_and(|mailed| mailed.at.saturating_add(DAY_S) <= now) {
            self.mailed.pop_front();
        }
        let kept = REMEMBERED_S - CODE_LIFETIME_S;
        self.proofs.retain(|_, proof| proof.expires.saturating_add(kept) >= now);
    }
}

/// Where mails to an address arrive, as far as that can be told: what follows a `+` is the owner's own sorting nearly everywhere
/// (RFC 5233), and would else let others fill one inbox under many addresses.
fn inbox(address: &str) -> String {
    let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}@{domain}", user.split('+').next().unwrap_or(user))
}

#[cfg(test)]
mod tests;
