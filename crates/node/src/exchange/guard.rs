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
//! A source that has proven to know an account may be the address of many (a NAT), one of whom guesses. So it has tokens of its
//! own for that account, which mistakes take and successes do not give back. Once they are gone, the *flow* (address and port,
//! so one phone's socket or connection) tells the owner from his neighbour: a flow over which the right answer came goes on
//! being listened to, and one that has not erred yet has its first try, of which there are no more than ports.
//!
//! *Floods.* Requests without valid credentials beyond a rate are dropped before they cost any state.
//!
//! *Reflection.* Towards a source that has proven nothing, no more bytes go out over UDP than came in.

use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHasher;

use super::generations::Generations;
use super::networks::Network;

/// How often something may happen: so many at once, and so many an hour in the long run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) burst: u64,
    pub(crate) per_hour: u64,
}

impl Rate {
    fn times(self, factor: u64) -> Rate {
        Rate { burst: self.burst.saturating_mul(factor), per_hour: self.per_hour.saturating_mul(factor) }
    }
}

/// Wrong passwords from one source: an office behind one address whose phones were all given a wrong one stays below it; a
/// list of 10,000 words takes 16 hours.
const FAILURES_OF_SOURCE: Rate = Rate { burst: 30, per_hour: 600 };
/// Wrong passwords for one account from everywhere, after which each source has but its first try.
const FAILURES_OF_ACCOUNT: Rate = Rate { burst: 30, per_hour: 120 };
/// Wrong passwords for one account from a source that has proven to know it, after which each of its flows has but its first
/// try: somebody who mistypes on a second phone stays below it.
const FAILURES_OF_KNOWN: Rate = Rate { burst: 30, per_hour: 120 };
/// Wrong passwords over a flow that has proven to know the account: one who answers a request of the past with the password of
/// before stays below it, and who fakes the address of that flow gets no further.
const FAILURES_OF_FLOW: Rate = Rate { burst: 10, per_hour: 60 };
/// Requests without credentials from one source: all phones of an office at once after a power cut, and svmap no more.
const UNAUTHENTICATED: Rate = Rate { burst: 1000, per_hour: 360_000 };
/// Accepted registrations of one account: ten phones that keep their bindings alive every 20 s, three times over.
const REGISTRATIONS: Rate = Rate { burst: 100, per_hour: 5_400 };
/// How many phones a trusted source stands for: a session border controller or the front stage of a farm has those of a town
/// behind it, all with its own address. So many times may it do what is limited by source.
const TRUSTED_FACTOR: u64 = 10_000;
/// Bytes that a source may have in hand for answers: the largest datagram, so that saving up for a blow does not pay.
const CREDIT_MAX: u64 = 65_536;
/// How long a source or flow counts as proven after credentials of its own were right, and a flow as one that has erred: longer
/// than the longest registration, so that a phone is known still when it renews in time.
const PROVEN_MS: u64 = 3 * 3_600_000;
/// Entries in each generation of a table: with about 100 bytes each, 26 MB for all of them when flooded.
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
pub(crate) struct Bucket {
    /// In thousandths; what was taken, so that an empty one is a full one.
    taken: u64,
    at_ms: u64,
}

impl Bucket {
    fn refill(&mut self, now_ms: u64, rate: Rate) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        let back = passed_ms.saturating_mul(rate.per_hour) / 3600;
        // Who asks again at once must not keep the time that passes from adding up.
        if back > 0 || self.taken == 0 {
            self.taken = self.taken.saturating_sub(back);
            self.at_ms = now_ms;
        }
    }

    fn has_token(&mut self, now_ms: u64, rate: Rate) -> bool {
        self.refill(now_ms, rate);
        self.taken + 1000 <= rate.burst.saturating_mul(1000)
    }

    pub(crate) fn take(&mut self, now_ms: u64, rate: Rate) -> bool {
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

/// A source's knowledge of an account.
#[derive(Debug, Clone, Copy, Default)]
struct OfKnown {
    until_ms: u64,
    failures: Bucket,
}

/// One flow's knowledge of an account, or of any.
#[derive(Debug, Clone, Copy, Default)]
struct OfFlow {
    proven_until_ms: u64,
    erred_until_ms: u64,
    failures: Bucket,
}

impl OfFlow {
    fn is_trusted(&mut self, now_ms: u64) -> bool {
        self.proven_until_ms > now_ms && self.failures.has_token(now_ms, FAILURES_OF_FLOW)
    }
}

/// A source's port, and the account known there; `None` for any.
type FlowKey = (Source, u16, Option<u64>);

#[derive(Debug, Default)]
struct Tables {
    sources: Generations<Source, OfSource, TABLE_MAX>,
    /// By a hash that has a key already.
    accounts: Generations<u64, OfAccount, TABLE_MAX, BuildHasherDefault<FxHasher>>,
    /// The sources that know an account.
    known: Generations<(Source, u64), OfKnown, TABLE_MAX>,
    /// The flows of sources that know an account.
    flows: Generations<FlowKey, OfFlow, TABLE_MAX>,
}

/// The limits of one node, shared by its workers.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    tables: Mutex<Tables>,
    hasher: RandomState,
    trusted: Vec<Network>,
}

impl Guard {
    /// Limits that are wider for these networks, whose hosts speak for many phones. Passwords are checked as ever.
    pub(crate) fn new(trusted: Vec<Network>) -> Guard {
        Guard { trusted, ..Guard::default() }
    }

    /// Whether a request that would begin something may be looked at; `claims` that it carries credentials. What may not is
    /// dropped without an answer.
    pub(crate) fn admit(&self, now_ms: u64, remote: SocketAddr, claims: bool) -> bool {
        let (source, factor) = (Source::of(remote.ip()), self.factor(remote.ip()));
        let mut tables = self.tables();
        let is_trusted = tables.flows.known((source, remote.port(), None)).is_some_and(|flow| flow.is_trusted(now_ms));
        let source = tables.sources.entry(source);
        // Credentials from a source that may not try any are no more than a stranger's request.
        let may_try = is_trusted || source.failures.has_token(now_ms, FAILURES_OF_SOURCE.times(factor));
        (claims && may_try) || source.unauthenticated.take(now_ms, UNAUTHENTICATED.times(factor))
    }

    /// Whether credentials for `user` from there are looked at.
    pub(crate) fn may_try(&self, now_ms: u64, remote: SocketAddr, user: &str) -> bool {
        let (source, user) = (Source::of(remote.ip()), self.hasher.hash_one(user));
        let rate = FAILURES_OF_SOURCE.times(self.factor(remote.ip()));
        let mut tables = self.tables();
        if let Some(known) = tables.known.known((source, user)).filter(|known| known.until_ms > now_ms) {
            let has_token = known.failures.has_token(now_ms, FAILURES_OF_KNOWN);
            return match tables.flows.known((source, remote.port(), Some(user))) {
                Some(flow) => flow.is_trusted(now_ms) || has_token || flow.erred_until_ms <= now_ms,
                None => true,
            };
        }
        let is_attacked = !tables.accounts.entry(user).failures.has_token(now_ms, FAILURES_OF_ACCOUNT);
        let failures = &mut tables.sources.entry(source).failures;
        if is_attacked { failures.is_full(now_ms, rate) } else { failures.has_token(now_ms, rate) }
    }

    /// Takes note of credentials that were wrong, with the user they named.
    pub(crate) fn failed(&self, now_ms: u64, remote: SocketAddr, user: Option<&str>) {
        let source = Source::of(remote.ip());
        let rate = FAILURES_OF_SOURCE.times(self.factor(remote.ip()));
        let mut tables = self.tables();
        tables.sources.entry(source).failures.take(now_ms, rate);
        let Some(user) = user.map(|user| self.hasher.hash_one(user)) else { return };
        tables.accounts.entry(user).failures.take(now_ms, FAILURES_OF_ACCOUNT);
        // Flows are remembered of sources that have proven something: strangers cannot fill that table.
        if let Some(known) = tables.known.known((source, user)).filter(|known| known.until_ms > now_ms) {
            known.failures.take(now_ms, FAILURES_OF_KNOWN);
            for account in [Some(user), None] {
                let flow = tables.flows.entry((source, remote.port(), account));
                flow.erred_until_ms = now_ms.saturating_add(PROVEN_MS);
                flow.failures.take(now_ms, FAILURES_OF_FLOW);
            }
        }
    }

    /// Takes note of credentials that were right: this source is no made-up one.
    pub(crate) fn succeeded(&self, now_ms: u64, remote: SocketAddr, user: &str) {
        let (source, user) = (Source::of(remote.ip()), self.hasher.hash_one(user));
        let mut tables = self.tables();
        let until_ms = now_ms.saturating_add(PROVEN_MS);
        tables.sources.entry(source).proven_until_ms = until_ms;
        tables.known.entry((source, user)).until_ms = until_ms;
        for account in [Some(user), None] {
            tables.flows.entry((source, remote.port(), account)).proven_until_ms = until_ms;
        }
    }

    /// Whether an account may register once more from there; `None` is another node.
    pub(crate) fn may_register(&self, now_ms: u64, address: Option<IpAddr>, user: &str) -> bool {
        let user = self.hasher.hash_one(user);
        let rate = REGISTRATIONS.times(address.map_or(1, |address| self.factor(address)));
        self.tables().accounts.entry(user).registrations.take(now_ms, rate)
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
        if address.is_loopback() || self.factor(address) > 1 {
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

    fn factor(&self, address: IpAddr) -> u64 {
        if self.trusted.iter().any(|network| network.contains(address)) { TRUSTED_FACTOR } else { 1 }
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

    /// A phone's flow from this address.
    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(ip(text), 5060)
    }

    /// Tries wrong passwords until it is not looked at any more, and returns how many were.
    fn guess(guard: &Guard, now_ms: u64, from: &str, user: &str) -> usize {
        guess_over(guard, now_ms, at(from), user)
    }

    fn guess_over(guard: &Guard, now_ms: u64, from: SocketAddr, user: &str) -> usize {
        let attempt = |_: &usize| {
            let looked_at = guard.may_try(now_ms, from, user);
            if looked_at {
                guard.failed(now_ms, from, Some(user));
            }
            looked_at
        };
        (0..10_000).take_while(attempt).count()
    }

    #[test]
    fn a_word_list_from_one_source_gets_nowhere_and_the_owner_still_registers() {
        let guard = Guard::default();
        guard.succeeded(0, at(HOME), "alice");
        assert!(guess(&guard, 1000, ATTACKER, "alice") <= 30);
        assert!(!guard.may_try(1000, at(ATTACKER), "bob"), "other accounts of the same source neither");
        assert!(guard.may_try(1000, at(HOME), "alice"));
        assert!(guard.may_try(1000, at("203.0.113.9"), "alice"), "from a new place too");
        assert!(guess(&guard, 61_000, ATTACKER, "carol") <= 10, "time gives little back");
    }

    #[test]
    fn behind_the_owners_own_address_guessing_gets_nowhere_and_never_shuts_him_out() {
        let guard = Guard::default();
        let [owner, neighbour, rebooted] = [5060, 40_001, 40_002].map(|port| SocketAddr::new(ip(HOME), port));
        guard.succeeded(0, owner, "alice");
        let mut tries = 0;
        for minute in 0..60 {
            // The owner's phone keeps registering, which must not buy the neighbour anything.
            let now_ms = minute * 60_000;
            assert!(guard.may_try(now_ms, owner, "alice"), "in minute {minute}");
            guard.succeeded(now_ms, owner, "alice");
            tries += guess_over(&guard, now_ms, neighbour, "alice");
        }
        assert!(tries <= 30 + 2 * 60, "{tries} passwords were tried in an hour");
        assert!(guard.may_try(3_600_000, rebooted, "alice"), "over a new flow the owner may try");
        guard.succeeded(3_600_000, rebooted, "alice");
        assert!(guard.may_try(3_600_001, rebooted, "alice"));
    }

    #[test]
    fn a_phone_that_registers_as_seldom_as_it_may_is_still_known_when_it_renews() {
        let guard = Guard::default();
        let [owner, neighbour] = [5060, 40_001].map(|port| SocketAddr::new(ip(HOME), port));
        guard.succeeded(0, owner, "alice");
        let renewal_ms = u64::from(meshtone_sip::registrar::Limits::default().max) * 1000;
        for minute in 0..renewal_ms / 60_000 {
            guess_over(&guard, minute * 60_000, neighbour, "alice");
        }
        assert!(guard.may_try(renewal_ms, owner, "alice") && guard.admit(renewal_ms, owner, true));
    }

    #[test]
    fn each_new_flow_behind_the_owners_address_has_one_try_once_many_have_failed() {
        let guard = Guard::default();
        let at_port = |port: u16| SocketAddr::new(ip(HOME), port);
        guard.succeeded(0, at_port(5060), "alice");
        guess_over(&guard, 0, at_port(1), "alice");
        for port in 2..1000 {
            assert_eq!(guess_over(&guard, 1, at_port(port), "alice"), 1, "port {port}");
        }
        for port in 2..1000 {
            assert_eq!(guess_over(&guard, 2, at_port(port), "alice"), 0, "port {port}, once more");
        }
    }

    #[test]
    fn whoever_fakes_the_address_of_the_owners_flow_is_bounded_too() {
        let guard = Guard::default();
        guard.succeeded(0, at(HOME), "alice");
        assert!(guess(&guard, 0, HOME, "alice") <= 30);
        assert!(guess(&guard, 60_000, HOME, "alice") <= 3, "time gives little back");
        assert!(guard.may_try(120_000, at(HOME), "alice"));
    }

    #[test]
    fn whoever_asks_without_pause_does_not_stop_time() {
        let guard = Guard::default();
        guess(&guard, 0, ATTACKER, "alice");
        let looked_at = (0..60_000).filter(|ms| guard.may_try(*ms, at(ATTACKER), "bob")).count();
        assert!(looked_at > 0, "a minute gives back what it gives, however often it is asked for");
    }

    #[test]
    fn guessing_from_many_sources_leaves_each_of_them_one_try() {
        let guard = Guard::default();
        guess(&guard, 0, ATTACKER, "alice");
        for host in 1..200 {
            assert!(guess(&guard, 0, &format!("203.0.113.{host}"), "alice") <= 1);
        }
        assert!(guard.may_try(0, at(HOME), "alice"));
    }

    #[test]
    fn whoever_knows_one_account_may_still_not_guess_others() {
        let guard = Guard::default();
        guard.succeeded(0, at(ATTACKER), "mallory");
        assert!(guess(&guard, 0, ATTACKER, "alice") <= 30);
        assert!(guard.may_try(0, at(ATTACKER), "mallory"));
    }

    #[test]
    fn sources_of_one_network_in_ipv6_are_one() {
        let guard = Guard::default();
        guess(&guard, 0, "2001:db8:0:1::1", "alice");
        assert!(!guard.may_try(0, at("2001:db8:0:1:ffff::2"), "bob"));
        assert!(guard.may_try(0, at("2001:db8:0:2::1"), "bob"));
        assert_eq!(Source::of(ip("::ffff:192.0.2.7")), Source::of(ip(HOME)));
    }

    #[test]
    fn a_flood_is_let_in_at_its_rate_only_and_others_are_not_touched() {
        let guard = Guard::default();
        let flood = |from_ms: u64, to_ms: u64| {
            (from_ms..to_ms).flat_map(|ms| [ms, ms]).filter(|ms| guard.admit(*ms, at(ATTACKER), false)).count()
        };
        assert!(flood(0, 10_000) <= 1000 + 10 * 100 + 1, "of 20,000 in ten seconds");
        assert!(guard.admit(10_000, at(HOME), false));
        assert!(guard.admit(10_000, at(ATTACKER), true), "a phone behind the same address has credentials");
        guess(&guard, 10_000, ATTACKER, "alice");
        let pretended = (0..1000).filter(|_| guard.admit(10_000, at(ATTACKER), true)).count();
        assert!(pretended <= 1, "but wrong ones help nobody");
        let beside = SocketAddr::new(ip(ATTACKER), 40_000);
        guard.succeeded(10_000, beside, "carol");
        assert!((0..1000).all(|_| guard.admit(10_000, beside, true)), "a phone that has proven itself is heard");
        let pretended = (0..1000).filter(|_| guard.admit(10_000, at(ATTACKER), true)).count();
        assert!(pretended <= 1, "and lends its neighbour nothing");
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
        guard.succeeded(0, at(HOME), "alice");
        assert!(guard.may_answer(0, ip(HOME), 60_000) && guard.may_answer(0, ip(HOME), 60_000));
        assert!(!guard.may_answer(PROVEN_MS, ip(HOME), 60_000), "for a while");
    }

    #[test]
    fn a_phone_that_registers_without_end_is_slowed_down() {
        let guard = Guard::default();
        assert_eq!((0..10_000).filter(|_| guard.may_register(0, Some(ip(HOME)), "alice")).count(), 100);
        assert!(guard.may_register(0, Some(ip(HOME)), "bob"));
        assert!(guard.may_register(60_000, Some(ip(HOME)), "alice"));
    }

    #[test]
    fn a_trusted_source_may_speak_for_many_phones_but_guess_no_account() {
        let guard = Guard::new(vec!["198.51.100.0/24".parse().unwrap()]);
        assert_eq!((0..100_000).filter(|_| guard.admit(0, at(ATTACKER), false)).count(), 100_000);
        assert!(!(0..1001).all(|_| guard.admit(0, at(HOME), false)), "others are limited as ever");
        assert!(guard.may_answer(0, ip(ATTACKER), 60_000), "its address is known to be no made-up one");
        assert!(guess(&guard, 0, ATTACKER, "alice") <= 30);
        guard.succeeded(0, at(ATTACKER), "bob");
        assert!(guard.may_try(0, at(ATTACKER), "bob") && guard.may_try(0, at(ATTACKER), "carol"));
    }

    #[test]
    fn a_million_sources_and_accounts_take_bounded_room() {
        let guard = Guard::default();
        for number in 0..300_000_u32 {
            let address = IpAddr::from(number.to_be_bytes());
            guard.failed(0, SocketAddr::new(address, 5060), Some(&number.to_string()));
            guard.succeeded(0, SocketAddr::new(address, 5060), "alice");
        }
        let tables = guard.tables();
        for len in [
            tables.sources.lens().iter().sum::<usize>(),
            tables.accounts.lens().iter().sum::<usize>(),
            tables.known.lens().iter().sum::<usize>(),
            tables.flows.lens().iter().sum::<usize>(),
        ] {
            assert!(len <= 2 * TABLE_MAX);
        }
    }
}
