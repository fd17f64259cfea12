//! Limits per source and per account: what keeps guessing passwords, floods and reflection from paying off.
//!
//! Pure: time and addresses come in, verdicts go out. No verdict is ever told to whoever asks: a source that guessed too
//! often gets the very challenge that a stranger gets, its credentials are just not looked at any more.
//!
//! *Guessing.* Each wrong answer to a challenge costs its source a token, and the account it named another one. A source
//! without tokens may not try any account but those that it has proven to know. An account without tokens is under attack
//! from many places: a source that has failed before may not try it. So the owner still gets in: from where he has been, and
//! from a new place too, if he does not err there.
//!
//! *Floods.* Requests without valid credentials beyond a rate are dropped before they cost any state.
//!
//! *Reflection.* Towards a source that has proven nothing, no more bytes go out over UDP than came in.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often something may happen: so many at once, and so many a minute in the long run.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    per_minute: u64,
}

/// Wrong passwords from one source: an office behind one address whose phones were all given a wrong one stays below it; a
/// list of 10,000 words takes 16 hours.
const FAILURES_OF_SOURCE: Rate = Rate { burst: 30, per_minute: 10 };
/// Wrong passwords for one account from everywhere, after which each source has but its first try.
const FAILURES_OF_ACCOUNT: Rate = Rate { burst: 30, per_minute: 2 };
/// Requests without credentials from one source: all phones of an office at once after a power cut, and svmap no more.
const UNAUTHENTICATED: Rate = Rate { burst: 1000, per_minute: 6000 };
/// Accepted registrations of one account: ten phones that keep their bindings alive every 20 s, three times over.
const REGISTRATIONS: Rate = Rate { burst: 100, per_minute: 90 };
/// Bytes that a source may have in hand for answers: the largest datagram, so that saving up for a blow does not pay.
const CREDIT_MAX: u64 = 65_536;
/// How long a source counts as proven after credentials of its own were right.
const PROVEN_MS: u64 = 3_600_000;
/// Entries in each generation of a table: with about 100 bytes each, 13 MB for all of them when flooded.
const TABLE_MAX: usize = 32_768;

/// A source as it is counted: one IPv4 address, or the /64 that one IPv6 customer has at least (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    /// Takes the address a packet came from.
    pub(crate) fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Source(v4),
            IpAddr::V6(v6) => Source(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

/// Tokens that come back with time.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// In thousandths; what was taken, so that an empty one is a full one.
    taken: u64,
    at_ms: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64, rate: Rate) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.taken = self.taken.saturating_sub(passed_ms.saturating_mul(rate.per_minute) / 60);
        self.at_ms = now_ms;
    }

    fn has_token(&mut self, now_ms: u64, rate: Rate) -> bool {
        self.refill(now_ms, rate);
        self.taken + 1000 <= rate.burst.saturating_mul(1000)
    }

    fn take(&mut self, now_ms: u64, rate: Rate) -> bool {
        let has_token = self.has_token(now_ms, rate);
        if has_token {
            self.taken += 1000;
        }
        has_token
    }

    fn is_full(&mut self, now_ms: u64, rate: Rate) -> bool {
        self.refill(now_ms, rate);
        self.taken == 0
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct OfSource {
    failures: Bucket,
    unauthenticated: Bucket,
    credit: u64,
    proven_until_ms: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct OfAccount {
    failures: Bucket,
    registrations: Bucket,
}

/// A bounded table: when one generation is full it becomes the old one, and what is not asked for meanwhile is forgotten.
#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Generations { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V: Default> Generations<K, V> {
    fn entry(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) {
            if self.young.len() >= TABLE_MAX {
                self.old = std::mem::take(&mut self.young);
            }
            let value = self.old.remove(&key).unwrap_or_default();
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }

    fn get(&self, key: K) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }
}

#[derive(Debug, Default)]
struct Tables {
    sources: Generations<Source, OfSource>,
    accounts: Generations<u64, OfAccount>,
    /// Until when a source counts as one that knows the account.
    known: Generations<(Source, u64), u64>,
}

/// The limits of one node, shared by its workers.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    tables: Mutex<Tables>,
    hasher: RandomState,
}

impl Guard {
    /// Whether a request that would begin something may be looked at; `claims` that it carries credentials. What may not is
    /// dropped without an answer.
    pub(crate) fn admit(&self, now_ms: u64, address: IpAddr, claims: bool) -> bool {
        let mut tables = self.tables();
        let source = tables.sources.entry(Source::of(address));
        // Credentials from a source that may not try any are no more than a stranger's request.
        let may_try = source.proven_until_ms > now_ms || source.failures.has_token(now_ms, FAILURES_OF_SOURCE);
        (claims && may_try) || source.unauthenticated.take(now_ms, UNAUTHENTICATED)
    }

    /// Whether credentials for `user` from there are looked at.
    pub(crate) fn may_try(&self, now_ms: u64, address: IpAddr, user: &str) -> bool {
        let (source, user) = (Source::of(address), self.hasher.hash_one(user));
        let mut tables = self.tables();
        if tables.known.get((source, user)).is_some_and(|until_ms| *until_ms > now_ms) {
            return true;
        }
        let is_attacked = !tables.accounts.entry(user).failures.has_token(now_ms, FAILURES_OF_ACCOUNT);
        let failures = &mut tables.sources.entry(source).failures;
        if is_attacked {
            failures.is_full(now_ms, FAILURES_OF_SOURCE)
        } else {
            failures.has_token(now_ms, FAILURES_OF_SOURCE)
        }
    }

    /// Takes note of credentials that were wrong, with the user they named.
    pub(crate) fn failed(&self, now_ms: u64, address: IpAddr, user: Option<&str>) {
        let mut tables = self.tables();
        tables.sources.entry(Source::of(address)).failures.take(now_ms, FAILURES_OF_SOURCE);
        if let Some(user) = user {
            let user = self.hasher.hash_one(user);
            tables.accounts.entry(user).failures.take(now_ms, FAILURES_OF_ACCOUNT);
        }
    }

    /// Takes note of credentials that were right: this source is no made-up one.
    pub(crate) fn succeeded(&self, now_ms: u64, address: IpAddr, user: &str) {
        let (source, user) = (Source::of(address), self.hasher.hash_one(user));
        let mut tables = self.tables();
        let until_ms = now_ms.saturating_add(PROVEN_MS);
        tables.sources.entry(source).proven_until_ms = until_ms;
        *tables.known.entry((source, user)) = until_ms;
    }

    /// Whether an account may register once more.
    pub(crate) fn may_register(&self, now_ms: u64, user: &str) -> bool {
        let user = self.hasher.hash_one(user);
        self.tables().accounts.entry(user).registrations.take(now_ms, REGISTRATIONS)
    }

    /// Takes note of a datagram, whose length its source may get back.
    pub(crate) fn received(&self, address: IpAddr, len: usize) {
        if !address.is_loopback() {
            let mut tables = self.tables();
            let credit = &mut tables.sources.entry(Source::of(address)).credit;
            *credit = credit.saturating_add(u64::try_from(len).unwrap_or(u64::MAX)).min(CREDIT_MAX);
        }
    }

    /// Whether an answer of this length may go there over UDP. Nobody can send from our loopback address over a network.
    pub(crate) fn may_answer(&self, now_ms: u64, address: IpAddr, len: usize) -> bool {
        if address.is_loopback() {
            return true;
        }
        let mut tables = self.tables();
        let source = tables.sources.entry(Source::of(address));
        if source.proven_until_ms > now_ms {
            return true;
        }
        let left = source.credit.checked_sub(u64::try_from(len).unwrap_or(u64::MAX));
        source.credit = left.unwrap_or(source.credit);
        left.is_some()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const ATTACKER: &str = "198.51.100.66";
    const HOME: &str = "192.0.2.7";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Tries wrong passwords until it is not looked at any more, and returns how many were.
    fn guess(guard: &Guard, now_ms: u64, from: &str, user: &str) -> usize {
        let attempt = |_: &usize| {
            let looked_at = guard.may_try(now_ms, ip(from), user);
            if looked_at {
                guard.failed(now_ms, ip(from), Some(user));
            }
            looked_at
        };
        (0..10_000).take_while(attempt).count()
    }

    #[test]
    fn a_word_list_from_one_source_gets_nowhere_and_the_owner_still_registers() {
        let guard = Guard::default();
        guard.succeeded(0, ip(HOME), "alice");
        assert!(guess(&guard, 1000, ATTACKER, "alice") <= 30);
        assert!(!guard.may_try(1000, ip(ATTACKER), "bob"), "other accounts of the same source neither");
        assert!(guard.may_try(1000, ip(HOME), "alice"));
        assert!(guard.may_try(1000, ip("203.0.113.9"), "alice"), "from a new place too");
        assert!(guess(&guard, 61_000, ATTACKER, "carol") <= 10, "time gives little back");
    }

    #[test]
    fn guessing_from_many_sources_leaves_each_of_them_one_try() {
        let guard = Guard::default();
        guess(&guard, 0, ATTACKER, "alice");
        for host in 1..200 {
            assert!(guess(&guard, 0, &format!("203.0.113.{host}"), "alice") <= 1);
        }
        assert!(guard.may_try(0, ip(HOME), "alice"));
    }

    #[test]
    fn whoever_knows_one_account_may_still_not_guess_others() {
        let guard = Guard::default();
        guard.succeeded(0, ip(ATTACKER), "mallory");
        assert!(guess(&guard, 0, ATTACKER, "alice") <= 30);
        assert!(guard.may_try(0, ip(ATTACKER), "mallory"));
    }

    #[test]
    fn sources_of_one_network_in_ipv6_are_one() {
        let guard = Guard::default();
        guess(&guard, 0, "2001:db8:0:1::1", "alice");
        assert!(!guard.may_try(0, ip("2001:db8:0:1:ffff::2"), "bob"));
        assert!(guard.may_try(0, ip("2001:db8:0:2::1"), "bob"));
        assert_eq!(Source::of(ip("::ffff:192.0.2.7")), Source::of(ip(HOME)));
    }

    #[test]
    fn a_flood_is_let_in_at_its_rate_only_and_others_are_not_touched() {
        let guard = Guard::default();
        let flood = |from_ms: u64, to_ms: u64| {
            (from_ms..to_ms).flat_map(|ms| [ms, ms]).filter(|ms| guard.admit(*ms, ip(ATTACKER), false)).count()
        };
        assert!(flood(0, 10_000) <= 1000 + 10 * 100 + 1, "of 20,000 in ten seconds");
        assert!(guard.admit(10_000, ip(HOME), false));
        assert!(guard.admit(10_000, ip(ATTACKER), true), "a phone behind the same address has credentials");
        guess(&guard, 10_000, ATTACKER, "alice");
        let pretended = (0..1000).filter(|_| guard.admit(10_000, ip(ATTACKER), true)).count();
        assert!(pretended <= 1, "but wrong ones help nobody");
    }

    #[test]
    fn nobody_gets_more_bytes_than_came_from_his_address_until_he_is_proven() {
        let guard = Guard::default();
        guard.received(ip(HOME), 500);
        assert!(guard.may_answer(0, ip(HOME), 450));
        assert!(!guard.may_answer(0, ip(HOME), 450), "not even if the same answer is sent again");
        guard.received(ip(HOME), 500);
        assert!(guard.may_answer(0, ip(HOME), 550), "what was left counts");
        for _ in 0..1000 {
            guard.received(ip(ATTACKER), 60_000);
        }
        assert!(!guard.may_answer(0, ip(ATTACKER), 65_537), "nobody saves up for a blow");
        guard.succeeded(0, ip(HOME), "alice");
        assert!(guard.may_answer(0, ip(HOME), 60_000) && guard.may_answer(0, ip(HOME), 60_000));
        assert!(!guard.may_answer(PROVEN_MS, ip(HOME), 60_000), "for a while");
    }

    #[test]
    fn a_phone_that_registers_without_end_is_slowed_down() {
        let guard = Guard::default();
        assert_eq!((0..10_000).filter(|_| guard.may_register(0, "alice")).count(), 100);
        assert!(guard.may_register(0, "bob"));
        assert!(guard.may_register(60_000, "alice"));
    }

    #[test]
    fn a_million_sources_and_accounts_take_bounded_room() {
        let guard = Guard::default();
        for number in 0..300_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            guard.failed(0, address, Some(&number.to_string()));
            guard.succeeded(0, address, "alice");
        }
        let tables = guard.tables();
        for len in [
            tables.sources.young.len() + tables.sources.old.len(),
            tables.accounts.young.len() + tables.accounts.old.len(),
            tables.known.young.len() + tables.known.old.len(),
        ] {
            assert!(len <= 2 * TABLE_MAX);
        }
    }
}
