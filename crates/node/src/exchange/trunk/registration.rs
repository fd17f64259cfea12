//! Staying registered at a provider (RFC 3261 §10.2): when to look for its servers, whom to ask, and how long to leave it alone.
//!
//! Pure: what the time, the DNS and the provider say comes in, [`Action`]s go out. `S` is a server. A trunk that does not register
//! only keeps its servers' addresses fresh.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause after a failure; it doubles (RFC 5626 §4.5 has the same shape).
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause: a provider that returns is found again within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The pause after wrong credentials: trying again does not make them right, and providers lock accounts out.
const REFUSED_PAUSE: Duration = Duration::from_secs(900);
/// The longest pause that a provider may ask for by Retry-After.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// The longest registration that a provider may insist on by Min-Expires.
const EXPIRES_MAX: u32 = 86_400;
/// The shortest time from one registration to the next, whatever a provider grants.
const REFRESH_MIN: Duration = Duration::from_secs(2);
/// How often the servers of a trunk that does not register are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(300);

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action<S> {
    /// Look the provider's servers up: [`Registration::located`].
    Locate,
    /// Send REGISTER to this server, for so many seconds: [`Registration::answered`].
    Register(S, u32),
}

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// 200, for so many seconds.
    Granted(u32),
    /// 423 with this Min-Expires.
    TooBrief(u32),
    /// That the next server shall be tried: 503, or 408 for silence.
    Unreachable(u16, Option<Duration>),
    /// The credentials are not right, or are asked for in a realm that is none of ours.
    Denied(Trouble),
    /// Another status.
    Refused(u16, Option<Duration>),
}

/// Why a trunk is not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No server was found, for this reason.
    NoServer(String),
    /// No server answers.
    Silent,
    /// The provider does not take user and password; its status.
    Credentials(u16),
    /// It asks for credentials in this realm, which is not ours.
    Realm(String),
    /// It answers with this status.
    Refused(u16),
}

#[derive(Debug)]
enum State<S> {
    Resting { until: Instant },
    Locating,
    Asking { server: S, left: VecDeque<S> },
    Leaving,
    Gone,
}

/// The registration of one trunk.
#[derive(Debug)]
pub(crate) struct Registration<S> {
    registers: bool,
    expires_s: u32,
    state: State<S>,
    /// Until when we are registered, and where.
    registered: Option<(Instant, S)>,
    failures: u32,
    trouble: Option<Trouble>,
    actions: VecDeque<Action<S>>,
}

impl<S: Clone> Registration<S> {
    /// One that begins at once.
    pub(crate) fn new(now: Instant, registers: bool, expires: Duration) -> Self {
        Registration {
            registers,
            expires_s: u32::try_from(expires.as_secs()).unwrap_or(EXPIRES_MAX).clamp(1, EXPIRES_MAX),
            state: State::Resting { until: now },
            registered: None,
            failures: 0,
            trouble: None,
            actions: VecDeque::new(),
        }
    }

    /// What is to be done next.
    pub(crate) fn poll_action(&mut self) -> Option<Action<S>> {
        self.actions.pop_front()
    }

    /// When [`Registration::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Resting { until } => Some(until),
            State::Locating | State::Asking { .. } | State::Leaving | State::Gone => None,
        }
    }

    /// Lets the time pass.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.state {
            State::Resting { until } if until <= now => {
                self.state = State::Locating;
                self.actions.push_back(Action::Locate);
            }
            State::Resting { .. } | State::Locating | State::Asking { .. } | State::Leaving | State::Gone => {}
        }
    }

    /// Takes the servers, best first, or why there are none. `chance` (0 to 1000) spreads those that failed together.
    pub(crate) fn located(&mut self, now: Instant, servers: Result<Vec<S>, String>, chance: u32) {
        match self.state {
            State::Locating => {}
            State::Resting { .. } | State::Asking { .. } | State::Leaving | State::Gone => return,
        }
        match servers {
            Ok(servers) if !self.registers && !servers.is_empty() => {
                (self.trouble, self.failures) = (None, 0);
                self.state = State::Resting { until: now + LOOK_UP_EVERY };
            }
            Ok(servers) => {
                let mut left = VecDeque::from(servers);
                match left.pop_front() {
                    Some(server) => self.ask(server, left),
                    None => self.fail(now, Trouble::NoServer("none may be used".to_owned()), None, chance),
                }
            }
            Err(reason) => self.fail(now, Trouble::NoServer(reason), None, chance),
        }
    }

    /// Takes what became of a REGISTER.
    pub(crate) fn answered(&mut self, now: Instant, reply: Reply, chance: u32) {
        let (server, mut left) = match std::mem::replace(&mut self.state, State::Gone) {
            State::Asking { server, left } => (server, left),
            State::Leaving => return,
            other @ (State::Resting { .. } | State::Locating | State::Gone) => {
                self.state = other;
                return;
            }
        };
        match reply {
            Reply::Granted(seconds) => {
                let granted = Duration::from_secs(seconds.into());
                self.registered = Some((now + granted, server));
                (self.trouble, self.failures) = (None, 0);
                // The other half is for a provider that fails just then.
                self.state = State::Resting { until: now + (granted / 2).max(REFRESH_MIN) };
            }
            Reply::TooBrief(least) if least > self.expires_s && least <= EXPIRES_MAX => {
                self.expires_s = least;
                self.ask(server, left);
            }
            Reply::TooBrief(_) => self.fail(now, Trouble::Refused(423), None, chance),
            Reply::Unreachable(status, retry_after) => match left.pop_front() {
                Some(next) => self.ask(next, left),
                None if status == 408 => self.fail(now, Trouble::Silent, retry_after, chance),
                None => self.fail(now, Trouble::Refused(status), retry_after, chance),
            },
            Reply::Denied(trouble) => self.fail(now, trouble, Some(REFUSED_PAUSE), chance),
            Reply::Refused(status, retry_after) => self.fail(now, Trouble::Refused(status), retry_after, chance),
        }
    }

    /// Takes the binding back, if there is one; true when an answer is to be waited for.
    pub(crate) fn leave(&mut self, now: Instant) -> bool {
        let bound = self.registered.take().filter(|(until, _)| *until > now);
        self.actions.clear();
        match bound {
            Some((_, server)) => {
                self.state = State::Leaving;
                self.actions.push_back(Action::Register(server, 0));
                true
            }
            None => {
                self.state = State::Gone;
                false
            }
        }
    }

    /// Until when it is registered.
    pub(crate) fn registered_until(&self, now: Instant) -> Option<Instant> {
        self.registered.as_ref().map(|(until, _)| *until).filter(|until| *until > now)
    }

    /// Why the last attempt failed.
    pub(crate) fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    fn ask(&mut self, server: S, left: VecDeque<S>) {
        self.actions.push_back(Action::Register(server.clone(), self.expires_s));
        self.state = State::Asking { server, left };
    }

    fn fail(&mut self, now: Instant, trouble: Trouble, at_least: Option<Duration>, chance: u32) {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        // Between half of it and all of it.
        let jittered = doubled / 2 + doubled / 2 * chance.min(1000) / 1000;
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(trouble);
        let pause = jittered.max(at_least.unwrap_or_default().min(ASKED_PAUSE_MAX));
        self.state = State::Resting { until: now + pause };
    }
}

impl Trouble {
    /// The reason in a sentence.
    pub(crate) fn text(&self) -> String {
        match self {
            Trouble::NoServer(reason) => format!("no server of the provider was found: {reason}"),
            Trouble::Silent => "no server of the provider answers".to_owned(),
            Trouble::Credentials(status) => format!("the provider does not take user and password ({status})"),
            Trouble::Realm(realm) => format!("the provider asks for credentials of the realm `{realm}`"),
            Trouble::Refused(status) => format!("the provider refuses to register us ({status})"),
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Trouble::NoServer(_) => "check `server`, and that this machine's name servers answer".to_owned(),
            Trouble::Silent => "is the Internet there, and does a firewall let SIP out? check `server`".to_owned(),
            Trouble::Credentials(_) => "check `user`, `auth_user` and the password; then restart the node".to_owned(),
            Trouble::Realm(realm) => format!("if that is your provider's, say `realm = \"{realm}\"`"),
            Trouble::Refused(_) => "ask the provider whether the account is active; check `user`".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const EXPIRES: Duration = Duration::from_secs(300);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A registration whose servers `a` and `b` have been found, `a` being asked.
    fn asking() -> (Registration<char>, Instant) {
        let now = Instant::now();
        let mut registration = Registration::new(now, true, EXPIRES);
        go(&mut registration, now);
        (registration, now)
    }

    fn go(registration: &mut Registration<char>, now: Instant) {
        registration.handle_timeout(now);
        assert_eq!(registration.poll_action(), Some(Action::Locate));
        registration.located(now, Ok(vec!['a', 'b']), 1000);
        assert!(matches!(registration.poll_action(), Some(Action::Register('a', _))));
    }

    /// How long until something is done again.
    fn pause(registration: &Registration<char>, now: Instant) -> Duration {
        registration.poll_timeout().unwrap() - now
    }

    #[test]
    fn it_is_refreshed_at_half_life() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Granted(300), 0);
        assert_eq!(registration.registered_until(now), Some(now + seconds(300)));
        assert_eq!(pause(&registration, now), seconds(150));
        registration.handle_timeout(now + seconds(149));
        assert_eq!(registration.poll_action(), None);
        go(&mut registration, now + seconds(150));
        assert!(registration.registered_until(now + seconds(299)).is_some(), "while it is refreshed");
        assert!(registration.registered_until(now + seconds(300)).is_none());
    }

    #[test]
    fn a_tiny_grant_does_not_make_it_hammer() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Granted(0), 0);
        assert_eq!(pause(&registration, now), REFRESH_MIN);
    }

    #[test]
    fn the_next_server_is_asked_when_one_is_silent() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Unreachable(408, None), 0);
        assert_eq!(registration.poll_action(), Some(Action::Register('b', 300)));
        registration.answered(now, Reply::Granted(60), 0);
        assert!(registration.trouble().is_none() && registration.registered_until(now).is_some());
    }

    #[test]
    fn the_pause_doubles_to_five_minutes_with_jitter_and_begins_anew_after_success() {
        let (mut registration, mut now) = asking();
        let mut pauses = Vec::new();
        for round in 0..12 {
            if round > 0 {
                go(&mut registration, now);
            }
            registration.answered(now, Reply::Unreachable(408, None), 0);
            registration.poll_action();
            registration.answered(now, Reply::Unreachable(408, None), if round < 11 { 1000 } else { 0 });
            let rest = pause(&registration, now);
            pauses.push(rest.as_millis());
            now += rest;
        }
        assert_eq!(pauses[..4], [500, 1000, 2000, 4000]);
        assert_eq!(pauses[9..], [256_000, 300_000, 150_000], "jitter takes up to half");
        assert_eq!(registration.trouble(), Some(&Trouble::Silent));
        go(&mut registration, now);
        registration.answered(now, Reply::Granted(60), 0);
        now += seconds(30);
        go(&mut registration, now);
        registration.answered(now, Reply::Refused(500, None), 1000);
        assert_eq!(pause(&registration, now), FIRST_PAUSE);
    }

    #[test]
    fn wrong_credentials_are_not_tried_again_soon() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Denied(Trouble::Credentials(401)), 0);
        assert_eq!(pause(&registration, now), REFUSED_PAUSE);
        assert!(registration.trouble().unwrap().text().contains("(401)"));
    }

    #[test]
    fn a_longer_time_is_taken_when_asked_for_but_not_any() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::TooBrief(900), 0);
        assert_eq!(registration.poll_action(), Some(Action::Register('a', 900)));
        registration.answered(now, Reply::TooBrief(900), 0);
        assert_eq!(registration.trouble(), Some(&Trouble::Refused(423)), "it has what it asked for");
        let (mut registration, now) = asking();
        registration.answered(now, Reply::TooBrief(u32::MAX), 0);
        assert_eq!(registration.poll_action(), None);
    }

    #[test]
    fn retry_after_is_honoured_within_reason() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Refused(500, Some(seconds(120))), 0);
        assert_eq!(pause(&registration, now), seconds(120));
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Refused(500, Some(seconds(1_000_000))), 0);
        assert_eq!(pause(&registration, now), ASKED_PAUSE_MAX);
    }

    #[test]
    fn a_name_that_leads_nowhere_is_looked_up_again() {
        let now = Instant::now();
        let mut registration: Registration<char> = Registration::new(now, true, EXPIRES);
        registration.handle_timeout(now);
        registration.poll_action();
        registration.located(now, Err("the domain has no SIP server".to_owned()), 1000);
        assert!(registration.trouble().unwrap().text().contains("has no SIP server"));
        assert_eq!(pause(&registration, now), FIRST_PAUSE);
    }

    #[test]
    fn leaving_takes_the_binding_back_where_it_was_made() {
        let (mut registration, now) = asking();
        registration.answered(now, Reply::Unreachable(408, None), 0);
        registration.poll_action();
        registration.answered(now, Reply::Granted(300), 0);
        assert!(registration.leave(now));
        assert_eq!(registration.poll_action(), Some(Action::Register('b', 0)));
        registration.answered(now, Reply::Granted(0), 0);
        assert_eq!((registration.poll_timeout(), registration.poll_action()), (None, None));

        let (mut never, now) = asking();
        assert!(!never.leave(now));
        assert_eq!(never.poll_action(), None);
    }

    #[test]
    fn without_registration_the_addresses_are_kept_fresh() {
        let now = Instant::now();
        let mut registration = Registration::new(now, false, EXPIRES);
        registration.handle_timeout(now);
        assert_eq!(registration.poll_action(), Some(Action::Locate));
        registration.located(now, Ok(vec!['a']), 0);
        assert_eq!((registration.poll_action(), pause(&registration, now)), (None, LOOK_UP_EVERY));
    }
}
