//! Which part this node takes in the overlay (RFC 6940 §3.2.1): whether it stores and forwards for others, as a super-node, or only
//! uses what they offer, as an ordinary one. The decision alone; what follows from it is the business of `roles`.
//!
//! A node that decides by itself serves while few others do, whatever it is like: an overlay of a household has no choice. In a larger
//! one it begins as an ordinary node, and serves once it has been there for a while and others have reached it twice in a row, unless it
//! was often away in the last days (`presence`). Whoever
//! is found out of reach twice in a row hands over what it holds and is ordinary again, and waits twice as long before the next time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Where fewer nodes than this serve, everybody does: three times the replicas, so that a value has places to go when some die, and few
/// enough that everybody is linked with everybody.
pub const FEW: u64 = 16;

/// Nobody stops to serve unless as many serve as this: half as many again as [`FEW`], which is more than the estimate errs, so that
/// nodes do not go to and fro at the bound.
pub const MANY: u64 = 24;

/// How long a node is there before it serves in an overlay where many do, and how long at most after it has failed again and again.
/// Who has been up for minutes mostly stays for hours; half a day would keep a node out for what was one bad evening.
pub(super) const PROBATION: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(4 * 3600));

/// Tests of the same result, one after the other, that change the role: one may have met a bad moment of the network.
const CONSECUTIVE: u32 = 2;

/// A node that has served for so long has made up for failures before.
const STEADY: Duration = Duration::from_secs(4 * 3600);

/// How long somebody who knows others waits for one that serves before it serves alone: a dial and a hello, and time for a retry.
const ALONE: Duration = Duration::from_secs(3);

/// Without a link to anybody who serves for so long, a node was away: links that were only lost are back within seconds.
const AWAY: Duration = Duration::from_secs(60);

/// When too few serve, everybody else thinks of it; each waits for a random part of this, and looks again. The first where not
/// even every replica has a node.
const FEW_DELAY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));

/// How long a node hands over at most before it stops to serve; the rest it hands over as an ordinary one.
const LEAVING: Duration = Duration::from_secs(300);

/// How often a node that hands over looks whether it is done.
const LEAVING_LOOK: Duration = Duration::from_secs(1);

/// Estimates of how many serve that are kept; their median counts. One errs by a third, the median of nine by some 15 %, and a liar on
/// the way of some of the look-ups moves nothing.
const ESTIMATES: usize = 9;

/// What the operator wants a node to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoleChoice {
    /// Whatever is best for the overlay, by how many serve and whether others reach the node.
    #[default]
    Auto,
    /// It serves, come what may.
    Super,
    /// It only uses the overlay.
    Ordinary,
}

/// Why a node has its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleReason {
    /// Its operator says so.
    Chosen,
    /// It has just started, and looks how many serve.
    Starting,
    /// It serves: nobody else who does was met.
    Alone,
    /// It serves: few others do.
    Few,
    /// It serves: others have reached it.
    Reached,
    /// It serves, as it did before, and no test says anything against it so far.
    Kept,
    /// It does not serve: it has not been there for long enough, or was not reached often enough yet.
    Probation,
    /// It does not serve: others could not reach it.
    Unreached,
    /// It does not serve: it was often away in the last days.
    OftenAway,
    /// It still serves, and hands over what it holds.
    Leaving,
}

/// What has to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Begin to serve.
    Serve,
    /// Hand over what is held, and go on serving meanwhile.
    Leave,
    /// Stop to serve.
    Stop,
}

/// Where this node stands.
#[derive(Debug)]
pub(super) struct Role {
    choice: RoleChoice,
    state: State,
    /// The last estimates of how many others serve.
    estimates: VecDeque<u64>,
    /// What the last tests said that had a result, and how many in a row.
    tests: Option<(bool, u32)>,
    /// How long the next probation takes.
    probation: Duration,
    /// It was often away in the last days.
    often_away: bool,
    /// Since when there is no link to anybody who serves.
    unlinked: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Has just started, and does not know yet how many serve.
    Starting {
        until: Instant,
    },
    Serving {
        since: Instant,
        alone: bool,
    },
    Leaving {
        until: Instant,
    },
    /// `few`: when to serve because too few do.
    Ordinary {
        not_before: Instant,
        few: Option<Instant>,
    },
}

impl Role {
    pub(super) fn new(choice: RoleChoice, now: Instant) -> Self {
        let state = match choice {
            RoleChoice::Auto => State::Serving { since: now, alone: true },
            RoleChoice::Super => State::Serving { since: now, alone: false },
            RoleChoice::Ordinary => State::Ordinary { not_before: now, few: None },
        };
        let (estimates, probation) = (VecDeque::new(), PROBATION.0);
        Self { choice, state, estimates, tests: None, probation, often_away: false, unlinked: Some(now) }
    }

    /// Others are known who may serve: this node begins with looking how many do.
    pub(super) fn start(&mut self, now: Instant) {
        if self.decides() {
            self.state = State::Starting { until: now + ALONE };
        }
    }

    /// This node holds what it was given when it served before, and goes on.
    pub(super) fn resume(&mut self) {
        if let State::Serving { alone, .. } = &mut self.state {
            *alone = false;
        }
    }

    /// Whether this node decides by itself.
    pub(super) fn decides(&self) -> bool {
        self.choice == RoleChoice::Auto
    }

    /// Whether this node stores and forwards for others now.
    pub(super) fn serves(&self) -> bool {
        match self.state {
            State::Serving { .. } | State::Leaving { .. } => true,
            State::Starting { .. } | State::Ordinary { .. } => false,
        }
    }

    /// Whether this node keeps what it holds for others, and does not hand it over to leave.
    pub(super) fn stays(&self) -> bool {
        self.serves() && !self.is_leaving()
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving { .. })
    }

    /// Takes in how many others serve, by one look-up.
    pub(super) fn note_estimate(&mut self, others: u64) {
        self.estimates.push_back(others);
        if self.estimates.len() > ESTIMATES {
            self.estimates.pop_front();
        }
    }

    /// Takes in whether others reached this node.
    pub(super) fn note_test(&mut self, reached: bool) {
        let before = self.tests.filter(|(result, _)| *result == reached).map_or(0, |(_, times)| times);
        self.tests = Some((reached, before.saturating_add(1)));
    }

    /// Takes in whether this node was often away in the last days.
    pub(super) fn note_habit(&mut self, often_away: bool) {
        self.often_away = often_away;
    }

    /// The machine stood still for so long, and its links with it.
    pub(super) fn note_absence(&mut self, away: Duration) {
        if away < AWAY {
            return;
        }
        if let State::Serving { alone, .. } = &mut self.state {
            *alone = true;
        }
        self.estimates.clear();
    }

    /// Returns about how many others serve, as far as that is known.
    pub(super) fn others(&self) -> Option<u64> {
        let mut estimates: Vec<u64> = self.estimates.iter().copied().collect();
        estimates.sort_unstable();
        estimates.get(estimates.len() / 2).copied()
    }

    /// Whether tests are of any use: where few serve, nothing depends on them. `settled`: so far they all say the same.
    pub(super) fn wants_tests(&self) -> bool {
        self.decides() && self.others().is_some_and(|others| others >= FEW)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.tests.is_some_and(|(_, times)| times >= CONSECUTIVE)
    }

    pub(super) fn reason(&self) -> RoleReason {
        if !self.decides() {
            return RoleReason::Chosen;
        }
        let few = self.others().is_some_and(|others| others < FEW);
        match (self.state, self.tests) {
            (State::Starting { .. }, _) => RoleReason::Starting,
            (State::Leaving { .. }, _) => RoleReason::Leaving,
            (State::Serving { alone: true, .. }, _) => RoleReason::Alone,
            (State::Serving { .. }, _) if few => RoleReason::Few,
            (State::Serving { .. }, Some((true, _))) => RoleReason::Reached,
            (State::Serving { .. }, _) => RoleReason::Kept,
            (State::Ordinary { .. }, _) if self.often_away => RoleReason::OftenAway,
            (State::Ordinary { .. }, Some((false, _))) => RoleReason::Unreached,
            (State::Ordinary { .. }, _) => RoleReason::Probation,
        }
    }

    /// Looks at everything again; returns what has to be done. `links` are those to others who serve, `replicas` how many a value
    /// should have, `chance` a random number.
    pub(super) fn look(&mut self, now: Instant, links: usize, replicas: u64, chance: u64) -> Option<Step> {
        if !self.decides() {
            return None;
        }
        self.unlinked = if links > 0 { None } else { Some(self.unlinked.unwrap_or(now)) };
        if self.unlinked.is_some() {
            // What was known of others is past.
            self.estimates.clear();
        }
        match self.state {
            State::Starting { until } => self.look_while_starting(now, until, links, chance),
            State::Serving { since, alone } => self.look_while_serving(now, since, alone),
            State::Leaving { until } if now >= until => Some(self.step_down(now, chance)),
            State::Leaving { .. } => None,
            State::Ordinary { not_before, few } => self.look_while_ordinary(now, not_before, few, replicas, chance),
        }
    }

    fn look_while_starting(&mut self, now: Instant, until: Instant, links: usize, chance: u64) -> Option<Step> {
        match self.others() {
            Some(others) if others < FEW => return Some(self.serve(now, false)),
            Some(_) => self.begin_probation(now, chance),
            None if now < until => {}
            // Whoever serves is there, and slow to say how many they are.
            None if links > 0 => self.state = State::Starting { until: now + ALONE },
            None => return Some(self.serve(now, true)),
        }
        None
    }

    fn look_while_serving(&mut self, now: Instant, since: Instant, alone: bool) -> Option<Step> {
        if now.saturating_duration_since(since) >= STEADY {
            self.probation = PROBATION.0;
        }
        let away = self.unlinked.is_some_and(|since| now >= since + AWAY);
        let many = self.others().is_some_and(|others| others >= MANY);
        let out_of_reach = self.tests.is_some_and(|(reached, times)| !reached && times >= CONSECUTIVE);
        if many && (out_of_reach || alone || self.often_away) {
            self.state = State::Leaving { until: now + LEAVING };
            return Some(Step::Leave);
        }
        // One of few from the beginning stays one of those who serve when they become many.
        let alone = away || alone && self.others().is_none();
        self.state = State::Serving { since, alone };
        None
    }

    fn look_while_ordinary(
        &mut self,
        now: Instant,
        not_before: Instant,
        few: Option<Instant>,
        replicas: u64,
        chance: u64,
    ) -> Option<Step> {
        // Who has links and has not counted yet does not know.
        let others = self.others().or(self.unlinked.map(|_| 0));
        let longest = if others.is_some_and(|others| others < replicas) { FEW_DELAY.0 } else { FEW_DELAY.1 };
        let few = others.filter(|others| *others < FEW).map(|_| few.unwrap_or(now + part(longest, chance)));
        self.state = State::Ordinary { not_before, few };
        let reached = self.tests.is_some_and(|(reached, times)| reached && times >= CONSECUTIVE);
        if few.is_some_and(|at| now >= at) {
            return Some(self.serve(now, self.unlinked.is_some()));
        }
        let fit = reached && now >= not_before && !self.often_away;
        (fit && few.is_none()).then(|| self.serve(now, false))
    }

    /// Everything is handed over.
    pub(super) fn step_down(&mut self, now: Instant, chance: u64) -> Step {
        self.probation = (self.probation * 2).min(PROBATION.1);
        self.begin_probation(now, chance);
        Step::Stop
    }

    /// A quarter sooner or later, so that those who came together do not all serve at once.
    fn begin_probation(&mut self, now: Instant, chance: u64) {
        let jittered = self.probation * 3 / 4 + part(self.probation / 2, chance);
        self.state = State::Ordinary { not_before: now + jittered, few: None };
    }

    fn serve(&mut self, now: Instant, alone: bool) -> Step {
        self.state = State::Serving { since: now, alone };
        Step::Serve
    }

    /// Returns when to look again though nothing happens.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        if !self.decides() {
            return None;
        }
        match self.state {
            State::Starting { until } => Some(until),
            State::Serving { .. } => self.unlinked.map(|since| since + AWAY).filter(|at| *at > now),
            State::Leaving { until } => Some(until.min(now + LEAVING_LOOK)),
            State::Ordinary { few: Some(at), .. } => Some(at),
            State::Ordinary { not_before, few: None } => Some(not_before).filter(|at| *at > now),
        }
    }
}

/// Returns a random part of a period.
fn part(period: Duration, chance: u64) -> Duration {
    let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(chance % period_ms)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere; nothing reads it as a clock")]
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const REPLICAS: u64 = 5;

    /// A node that decides by itself, driven by hand.
    struct Node {
        role: Role,
        now: Instant,
        others: u64,
        links: usize,
        chance: u64,
    }

    impl Node {
        /// A node that starts in an overlay where so many serve, and has links to some of them.
        fn joining(others: u64) -> Self {
            let now = Instant::now();
            let mut role = Role::new(RoleChoice::Auto, now);
            role.start(now);
            let mut node = Self { role, now, others, links: 4, chance: 0 };
            assert_eq!(node.look(), None);
            node
        }

        /// The same, after its first look-up.
        fn joined(others: u64) -> Self {
            let mut node = Self::joining(others);
            node.count();
            node
        }

        fn look(&mut self) -> Option<Step> {
            self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            self.role.look(self.now, self.links, REPLICAS, self.chance)
        }

        fn count(&mut self) -> Option<Step> {
            self.role.note_estimate(self.others);
            self.look()
        }

        /// Lets time pass, looks whenever that is due and hands over whatever is to be handed over at once; returns all steps.
        fn pass(&mut self, duration: Duration) -> Vec<Step> {
            let (end, mut steps) = (self.now + duration, Vec::new());
            while let Some(at) = self.role.next_look(self.now).filter(|at| *at <= end) {
                self.now = at.max(self.now + Duration::from_millis(1));
                steps.extend(self.look());
                if self.role.is_leaving() {
                    steps.push(self.role.step_down(self.now, self.chance));
                }
            }
            self.now = end;
            steps
        }

        /// Plays tests five minutes apart.
        fn test(&mut self, results: &[bool]) -> Vec<Step> {
            let mut steps = Vec::new();
            for result in results {
                steps.extend(self.pass(5 * MINUTE));
                self.role.note_test(*result);
                for _ in 0..ESTIMATES {
                    steps.extend(self.count());
                }
                if self.role.is_leaving() {
                    steps.push(self.role.step_down(self.now, self.chance));
                }
            }
            steps
        }
    }

    #[test]
    fn where_few_serve_a_newcomer_does_as_soon_as_it_knows() {
        let mut node = Node::joining(FEW - 1);
        assert!(!node.role.serves());
        assert_eq!(node.count(), Some(Step::Serve));
        assert_eq!(node.role.reason(), RoleReason::Few);
    }

    #[test]
    fn where_nobody_is_met_who_serves_a_newcomer_does_after_three_seconds() {
        let mut node = Node::joining(0);
        node.links = 0;
        assert_eq!(node.pass(ALONE - Duration::from_millis(1)), []);
        assert_eq!(node.pass(Duration::from_millis(1)), [Step::Serve]);
        assert_eq!(node.role.reason(), RoleReason::Alone);
    }

    #[test]
    fn a_newcomer_who_has_links_waits_until_it_knows_how_many_serve() {
        let mut node = Node::joining(100);
        assert_eq!(node.pass(MINUTE), []);
        assert_eq!((node.count(), node.role.reason()), (None, RoleReason::Probation));
    }

    #[test]
    fn where_many_serve_a_node_does_after_ten_minutes_and_two_tests_that_reached_it() {
        let mut node = Node::joined(100);
        let steps = node.test(&[true, true]);
        let early = node.now;
        let later = node.pass(5 * MINUTE);
        assert_eq!([steps, later].concat(), [Step::Serve]);
        assert!(early + 5 * MINUTE >= node.now);
        assert_eq!(node.role.reason(), RoleReason::Reached);
    }

    #[test]
    fn one_test_is_not_enough_and_neither_are_two_that_disagree() {
        let mut node = Node::joined(100);
        assert_eq!(node.test(&[true]), []);
        assert_eq!(node.pass(60 * MINUTE), []);
        assert_eq!(node.test(&[false, true, false, true, false]), []);
        assert_eq!(node.role.reason(), RoleReason::Unreached);
    }

    #[test]
    fn no_test_makes_a_node_serve_before_its_probation_is_over() {
        let mut node = Node::joined(100);
        for _ in 0..20 {
            node.role.note_test(true);
            assert_eq!(node.count(), None);
        }
    }

    #[test]
    fn who_is_out_of_reach_twice_in_a_row_hands_over_and_stops() {
        let mut node = Node::joined(100);
        node.test(&[true, true, true]);
        assert!(node.role.serves());
        assert_eq!(node.test(&[false]), []);
        assert_eq!(node.test(&[true, false]), []);
        assert_eq!(node.test(&[false]), [Step::Leave, Step::Stop]);
        assert!(!node.role.serves());
    }

    #[test]
    fn who_hands_over_serves_and_keeps_nothing_until_that_is_done_or_five_minutes_are_over() {
        let mut node = Node::joined(100);
        node.test(&[true, true, true]);
        node.role.note_test(false);
        node.role.note_test(false);
        assert_eq!(node.look(), Some(Step::Leave));
        assert!(node.role.serves() && !node.role.stays());
        node.now += LEAVING - Duration::from_millis(1);
        assert_eq!(node.look(), None);
        node.now += Duration::from_millis(1);
        assert_eq!(node.look(), Some(Step::Stop));
    }

    #[test]
    fn nobody_stops_while_not_many_serve_whatever_tests_say() {
        let mut node = Node::joined(FEW - 1);
        node.others = MANY - 1;
        assert_eq!(node.test(&[false; 10]), []);
        node.others = MANY;
        assert_eq!(node.test(&[false]), [Step::Leave, Step::Stop]);
    }

    #[test]
    fn flapping_is_damped_to_a_change_in_hours() {
        let mut node = Node::joined(100);
        // Reached for ten minutes and not for ten minutes, for two days.
        let (mut changes, mut last_day) = (0, 0);
        for round in 0..144 {
            let steps = node.test(&[true, true, false, false]).len();
            changes += steps;
            last_day += if round >= 72 { steps } else { 0 };
        }
        assert!((3..=60).contains(&changes), "{changes} steps in two days");
        // Each time is a step to serve, one to leave and one to stop, and a probation of three to five hours.
        assert!(last_day <= 3 * 8, "{last_day} steps on the second day");
    }

    #[test]
    fn the_longer_waits_of_one_that_failed_are_forgotten_after_it_has_served_for_hours() {
        let mut node = Node::joined(100);
        for _ in 0..40 {
            node.test(&[true, true, false, false]);
        }
        while !node.role.serves() {
            node.test(&[true]);
        }
        node.test(&[true; 50]);
        assert_eq!(node.test(&[false, false]), [Step::Leave, Step::Stop]);
        let stopped = node.now;
        while !node.role.serves() {
            node.test(&[true]);
        }
        assert!(node.now <= stopped + 30 * MINUTE, "{:?}", node.now - stopped);
    }

    #[test]
    fn when_too_few_are_left_ordinary_nodes_serve_though_nobody_reaches_them() {
        let mut node = Node::joined(100);
        node.test(&[false, false, false]);
        node.others = FEW - 1;
        for _ in 0..ESTIMATES {
            assert_eq!(node.count(), None);
        }
        assert_eq!(node.pass(FEW_DELAY.1), [Step::Serve]);
    }

    #[test]
    fn of_many_who_see_that_too_few_serve_not_all_act_at_once() {
        let mut acted: Vec<Duration> = (0..100)
            .map(|number| {
                let mut node = Node::joined(100);
                (node.chance, node.others) = (number, 10);
                for _ in 0..ESTIMATES {
                    node.count();
                }
                let seen = node.now;
                while !node.role.serves() {
                    node.pass(Duration::from_secs(1));
                }
                node.now - seen
            })
            .collect();
        acted.sort_unstable();
        assert!(acted[20] > Duration::from_secs(10), "a fifth within {:?}", acted[20]);
        assert!(acted[99] <= FEW_DELAY.1 + Duration::from_secs(1));
    }

    #[test]
    fn a_moment_without_links_makes_nobody_serve() {
        let mut node = Node::joined(100);
        node.links = 0;
        assert_eq!(node.look(), None);
        node.links = 4;
        assert_eq!(node.look(), None);
        assert_eq!(node.pass(FEW_DELAY.1), []);
    }

    #[test]
    fn who_was_alone_and_meets_an_overlay_where_many_serve_begins_anew() {
        let mut node = Node::joined(100);
        node.links = 0;
        node.look();
        assert_eq!(node.pass(FEW_DELAY.1), [Step::Serve]);
        node.links = 8;
        assert_eq!(node.count(), Some(Step::Leave));
    }

    #[test]
    fn who_served_and_was_away_for_a_while_begins_anew_where_many_serve() {
        for (away, steps) in [(AWAY / 2, vec![]), (AWAY * 2, vec![Step::Leave])] {
            let mut node = Node::joined(100);
            node.test(&[true, true, true]);
            node.links = 0;
            node.look();
            node.pass(away);
            node.links = 8;
            assert_eq!(node.count().into_iter().collect::<Vec<_>>(), steps, "away for {away:?}");
            let mut asleep = Node::joined(100);
            asleep.test(&[true, true, true]);
            asleep.role.note_absence(away);
            assert_eq!(asleep.count().into_iter().collect::<Vec<_>>(), steps, "asleep for {away:?}");
        }
    }

    #[test]
    fn the_first_nodes_of_an_overlay_go_on_to_serve_when_it_grows() {
        let mut founder = Node::joining(0);
        founder.role = Role::new(RoleChoice::Auto, founder.now);
        for others in 1..200 {
            founder.others = others;
            assert_eq!(founder.count(), None, "at {others}");
        }
        assert_eq!(founder.role.reason(), RoleReason::Kept);
    }

    #[test]
    fn who_holds_records_of_the_last_run_goes_on_to_serve() {
        let mut node = Node::joining(100);
        node.role = Role::new(RoleChoice::Auto, node.now);
        node.role.resume();
        assert_eq!((node.count(), node.role.reason()), (None, RoleReason::Kept));
    }

    #[test]
    fn who_was_often_away_serves_only_where_too_few_do() {
        let mut node = Node::joined(100);
        node.role.note_habit(true);
        assert_eq!(node.test(&[true; 10]), []);
        assert_eq!(node.role.reason(), RoleReason::OftenAway);
        node.role.note_habit(false);
        assert_eq!(node.test(&[true]), [Step::Serve]);
        let mut one_of_few = Node::joined(FEW - 1);
        one_of_few.role.note_habit(true);
        assert_eq!((one_of_few.look(), one_of_few.role.reason()), (None, RoleReason::Few));
    }

    #[test]
    fn who_holds_records_of_the_last_run_and_was_often_away_hands_them_over() {
        let mut node = Node::joining(100);
        node.role = Role::new(RoleChoice::Auto, node.now);
        node.role.resume();
        node.role.note_habit(true);
        assert_eq!(node.count(), Some(Step::Leave));
    }

    #[test]
    fn a_few_look_ups_led_astray_change_nothing() {
        let mut node = Node::joined(10);
        assert!(node.role.serves());
        node.role.note_test(false);
        node.role.note_test(false);
        for estimate in [10, 1_000_000, 10, 1_000_000, 10, 1_000_000, 10, 1_000_000, 10] {
            node.others = estimate;
            assert_eq!(node.count(), None);
        }
        assert_eq!(node.role.others(), Some(10));
    }

    #[test]
    fn what_the_operator_has_chosen_stays() {
        for (choice, serves) in [(RoleChoice::Super, true), (RoleChoice::Ordinary, false)] {
            let mut node = Node::joining(100);
            node.role = Role::new(choice, node.now);
            node.role.start(node.now);
            for result in [true, false] {
                assert_eq!(node.test(&[result; 5]), []);
                node.others = 3;
            }
            assert_eq!((node.role.serves(), node.role.reason()), (serves, RoleReason::Chosen));
        }
    }
}
