//! When to ask, when to answer and what to listen to in one local network (RFC 6762). Pure: time and datagrams come in.
//!
//! Nothing that is heard is kept here: whoever is heard is told of once more each time. So others' announcements fill nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use meshtone_identity::LinkKey;

use super::is_local;
use super::service::{Announced, Messages, Said};

/// The port that everybody speaks from; what comes from another is of a simple resolver, and wants an answer that could be
/// aimed at others (RFC 6762 §6.7).
pub(super) const PORT: u16 = 5353;

/// How often a node that has come says so by itself, a second apart (§8.3): a datagram may be lost.
const ANNOUNCEMENTS: u8 = 2;

/// The same answer is not given twice within this time (§6), however often somebody asks.
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// The shortest delay before an answer, and how much may be added to it, so that not everybody answers at once (§6).
const DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

/// The pause between questions, the first and the longest one; it doubles (§5.2). Who comes or moves says so by himself.
const ASK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

/// Datagrams that are read within a second of one host: a node that comes says five things in its first second, and whoever says more
/// leaves the others theirs.
const MAX_READ: u32 = 16;

/// Hosts that are counted by themselves within a second; of more, each shares what one may say with all further ones. All together is a
/// small part of a processor.
const MAX_HOSTS: usize = 64;

/// What is heard and waits to be taken; it is taken after each datagram, and a datagram tells of one.
const MAX_HEARD: usize = 4;

/// One node's part in what is said in one network.
#[derive(Debug)]
pub(super) struct Conversation {
    own: Announced,
    messages: Messages,
    delay: Duration,
    announcements: u8,
    answer_at: Option<Instant>,
    answered: Option<Instant>,
    ask_at: Instant,
    ask_pause: Duration,
    second: (Instant, BTreeMap<IpAddr, u32>),
    others: u32,
    outbox: VecDeque<Vec<u8>>,
    heard: VecDeque<(LinkKey, SocketAddr)>,
}

impl Conversation {
    /// Enters the network: asks, and says that we are here.
    pub(super) fn new(now: Instant, own: Announced, messages: Messages) -> Self {
        // What tells nodes apart spreads their answers as well as chance would.
        let share = own.key.as_bytes().first().copied().unwrap_or(0);
        let delay = DELAY.0 + DELAY.1 * u32::from(share) / 256;
        Self {
            own,
            messages,
            delay,
            announcements: ANNOUNCEMENTS,
            answer_at: Some(now + delay),
            answered: None,
            ask_at: now + delay,
            ask_pause: ASK.0,
            second: (now, BTreeMap::new()),
            others: 0,
            outbox: VecDeque::new(),
            heard: VecDeque::new(),
        }
    }

    /// Takes in a datagram of the network's group.
    pub(super) fn handle_input(&mut self, now: Instant, source: SocketAddr, bytes: &[u8]) {
        if source.port() != PORT || !is_local(source.ip()) || !self.may_read(now, source.ip()) {
            return;
        }
        match self.messages.read(bytes) {
            Some(Said::Question) => {
                let soonest = self.answered.map_or(now, |answered| answered + ANSWER_EVERY);
                self.answer_at.get_or_insert(soonest.max(now + self.delay));
            }
            Some(Said::Here(node)) => self.on_heard(&node, source.ip()),
            None => {}
        }
    }

    /// Asks anew, soon and then ever more seldom: whom we knew is gone.
    pub(super) fn ask_again(&mut self, now: Instant) {
        self.ask_pause = ASK.0;
        self.ask_at = self.ask_at.min(now + self.delay);
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.answer_at.is_some_and(|at| at <= now) {
            self.announcements = self.announcements.saturating_sub(1);
            self.answered = Some(now);
            self.answer_at = (self.announcements > 0).then(|| now + ANSWER_EVERY);
            self.outbox.push_back(self.messages.answer.clone());
        }
        if self.ask_at <= now {
            self.ask_at = now + self.ask_pause;
            self.ask_pause = (self.ask_pause * 2).min(ASK.1);
            self.outbox.push_back(self.messages.question.clone());
        }
    }

    /// Returns when something is due.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.answer_at.map_or(self.ask_at, |at| at.min(self.ask_at))
    }

    /// Returns a datagram to send to the group.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outbox.pop_front()
    }

    /// Returns a node of our overlay that was heard, and where.
    pub(super) fn poll_event(&mut self) -> Option<(LinkKey, SocketAddr)> {
        self.heard.pop_front()
    }

    /// Returns the datagram that says that we leave.
    pub(super) fn goodbye(&self) -> &[u8] {
        &self.messages.goodbye
    }

    /// A node is where it speaks from, whatever it says of that: so nobody leads us to a place but his own.
    fn on_heard(&mut self, node: &Announced, source: IpAddr) {
        if node.overlay == self.own.overlay && node.key != self.own.key && self.heard.len() < MAX_HEARD {
            self.heard.push_back((node.key, SocketAddr::new(source, node.port)));
        }
    }

    fn may_read(&mut self, now: Instant, host: IpAddr) -> bool {
        if now.saturating_duration_since(self.second.0) >= Duration::from_secs(1) {
            self.second = (now, BTreeMap::new());
            self.others = 0;
        }
        let hosts = &mut self.second.1;
        let is_full = hosts.len() >= MAX_HOSTS && !hosts.contains_key(&host);
        let read = if is_full { &mut self.others } else { hosts.entry(host).or_default() };
        *read = read.saturating_add(1);
        *read <= MAX_READ
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::Ipv4Addr;

    use super::*;

    fn node(number: u8, overlay: &str) -> Announced {
        Announced { overlay: overlay.to_owned(), key: LinkKey::from_bytes([number; 32]), port: 6084 }
    }

    fn messages(number: u8, overlay: &str) -> Messages {
        Messages::new(&node(number, overlay), Ipv4Addr::new(10, 0, 0, number)).unwrap()
    }

    fn conversation(now: Instant, number: u8) -> Conversation {
        Conversation::new(now, node(number, "ours"), messages(number, "ours"))
    }

    fn from(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], PORT))
    }

    /// Lets time pass, and returns what is sent meanwhile, with the milliseconds since the start.
    fn pass(conversation: &mut Conversation, start: Instant, until: Duration) -> Vec<(u128, Vec<u8>)> {
        let mut sent = Vec::new();
        while conversation.poll_timeout() <= start + until {
            let now = conversation.poll_timeout();
            conversation.handle_timeout(now);
            while let Some(datagram) = conversation.poll_transmit() {
                sent.push(((now - start).as_millis(), datagram));
            }
        }
        sent
    }

    fn of<'a>(sent: &'a [(u128, Vec<u8>)], message: &'a [u8]) -> Vec<u128> {
        sent.iter().filter(|(_, bytes)| bytes == message).map(|(at, _)| *at).collect()
    }

    #[test]
    fn a_node_that_comes_says_so_twice_and_asks_ever_more_seldom() {
        let start = Instant::now();
        let mut one = conversation(start, 0);
        let sent = pass(&mut one, start, Duration::from_secs(40));
        assert_eq!(of(&sent, &one.messages.answer), [20, 1020]);
        assert_eq!(of(&sent, &one.messages.question), [20, 1020, 3020, 7020, 15_020, 31_020]);
    }

    #[test]
    fn after_a_day_it_asks_every_hour_and_when_all_are_lost_at_once() {
        let start = Instant::now();
        let mut one = conversation(start, 0);
        let day = Duration::from_secs(86_400);
        pass(&mut one, start, day);
        assert!(one.poll_timeout() > start + day + Duration::from_secs(60));
        one.ask_again(start + day);
        let asked = pass(&mut one, start, day + Duration::from_secs(10));
        let asked: Vec<_> = of(&asked, &one.messages.question).iter().map(|at| at - day.as_millis()).collect();
        assert_eq!(asked, [20, 1020, 3020, 7020]);
    }

    #[test]
    fn whoever_asks_a_thousand_times_a_second_hears_one_answer_a_second() {
        let start = Instant::now();
        let mut one = conversation(start, 0);
        pass(&mut one, start, Duration::from_secs(2));
        let mut answers = 0;
        for step in 2000..12_000 {
            let now = start + Duration::from_millis(step);
            one.handle_input(now, from(9), &messages(9, "ours").question);
            let sent = pass(&mut one, start, Duration::from_millis(step));
            answers += of(&sent, &one.messages.answer).len();
        }
        assert!((9..=10).contains(&answers), "{answers} answers in ten seconds");
    }

    #[test]
    fn a_node_of_this_overlay_is_where_it_speaks_from() {
        let start = Instant::now();
        let mut one = conversation(start, 1);
        // It says that it has 10.0.0.2, but this came from 10.0.0.5.
        one.handle_input(start, from(5), &messages(2, "ours").answer);
        assert_eq!(one.poll_event(), Some((LinkKey::from_bytes([2; 32]), "10.0.0.5:6084".parse().unwrap())));
        assert_eq!(one.poll_event(), None);
    }

    #[test]
    fn other_overlays_our_own_voice_and_strangers_are_let_be() {
        let start = Instant::now();
        let mut one = conversation(start, 1);
        one.handle_input(start, from(2), &messages(2, "another").answer);
        one.handle_input(start, from(1), &messages(1, "ours").answer);
        for source in ["198.51.100.1:5353", "127.0.0.1:5353", "224.0.0.251:5353", "10.0.0.2:4000"] {
            one.handle_input(start, source.parse().unwrap(), &messages(2, "ours").answer);
        }
        assert_eq!(one.poll_event(), None);
    }

    #[test]
    fn a_flood_is_read_in_part_and_leaves_nothing_behind() {
        let start = Instant::now();
        let mut one = conversation(start, 1);
        pass(&mut one, start, Duration::from_secs(2));
        let mut heard = 0;
        for number in 0..50_000 {
            let now = start + Duration::from_secs(2) + Duration::from_micros(number * 20);
            one.handle_input(now, from(9), &messages(9, "ours").answer);
            heard += std::iter::from_fn(|| one.poll_event()).count();
        }
        assert!(heard <= 2 * MAX_READ as usize, "{heard} of 50000 in a second");
        let mut all = conversation(start, 1);
        (0..MAX_READ).for_each(|_| all.handle_input(start, from(9), &messages(9, "ours").answer));
        assert_eq!(all.heard.len(), MAX_HEARD);
    }

    #[test]
    fn who_floods_the_network_leaves_others_their_say_in_the_very_same_second() {
        let start = Instant::now();
        let mut one = conversation(start, 1);
        let flood = |one: &mut Conversation, host: u8| {
            (0..1000).for_each(|_| one.handle_input(start, from(host), &messages(host, "theirs").question));
        };
        (10..10 + 70).for_each(|host| flood(&mut one, host));
        assert!(one.second.1.len() <= MAX_HOSTS);
        let mut few = conversation(start, 1);
        (10..10 + 60).for_each(|host| flood(&mut few, host));
        few.handle_input(start, from(2), &messages(2, "ours").answer);
        assert!(few.poll_event().is_some(), "a node is not heard beside sixty that flood");
        one.handle_input(start + Duration::from_secs(1), from(2), &messages(2, "ours").answer);
        assert!(one.poll_event().is_some(), "afterwards others are heard again");
    }
}
