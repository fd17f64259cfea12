//! The response context of one forwarded request (RFC 3261 §16.7, §16.8, §16.10): its targets, branches and their
//! outcomes.
//!
//! It decides; the server carries out. Each input leaves [`Action`]s that say what to send and whom to cancel.

use std::time::{Duration, Instant};

use super::best::{self, Outcome};
use super::branches::{Branch, BranchState, CancelReason};
use super::plan::{Former, MAX_BREADTH, Obstacle, Planned, Queue};
use super::{Redirect, Target};
use crate::message::Message;
use crate::transaction::{TimerReason, TransactionId, earlier};

/// Most targets of one request, those that wait and those in place of a failed one included. An address has at most ten
/// contacts at each of a few nodes; further ones are not tried.
const TARGETS_MAX: usize = 64;

/// Most redirections followed for one request: a call that is sent on more often goes in circles.
const REDIRECTS_MAX: usize = 5;

/// Most contacts of one redirection that are looked at.
const REDIRECT_CONTACTS_MAX: usize = 8;

/// What follows from an input.
#[derive(Debug)]
pub(crate) enum Action {
    /// Forward the request to this target, then say so by [`ResponseContext::add_branch`] or
    /// [`ResponseContext::handle_unsent`].
    Start(Box<Planned>),
    /// Send this response upstream.
    Forward(Message),
    /// Send a failure upstream, and be done.
    Finish(Outcome),
    /// Send CANCEL for this client transaction, which had a provisional response.
    Cancel(TransactionId, CancelReason),
    /// Forget this client transaction: it was given up.
    Abandon(TransactionId),
    /// Ask the node whether to follow these contacts, which this branch was redirected to.
    Redirected(usize, Vec<Redirect>),
    /// All branches have failed, with this at best, but the node has said that more may follow.
    Exhausted(u16),
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Timer C.
    pub(crate) timer_c: Duration,
    /// 64*T1, after CANCEL.
    pub(crate) after_cancel: Duration,
    /// How long a group rings while others wait.
    pub(crate) group_ring: Duration,
    /// How long a place may be silent while there is another.
    pub(crate) failover: Duration,
}

/// The targets and branches of one request.
#[derive(Debug)]
pub(crate) struct ResponseContext {
    patience: Patience,
    is_invite: bool,
    /// Whether the node may still name targets.
    more: bool,
    /// Whether the caller has sent CANCEL.
    cancelled: bool,
    /// The final status sent upstream.
    answered: Option<u16>,
    /// Whether [`Action::Exhausted`] was said since the last branch began.
    exhausted: bool,
    /// How many branches may still be made of it, here and further on (RFC 5393 §5.3.3).
    breadth: u32,
    queue: Queue,
    /// Preference of the group that is being tried.
    group: u16,
    /// When the next group has its turn, if there is one.
    group_until: Option<Instant>,
    /// How many targets have had their turn.
    started: usize,
    /// How many [`Action::Start`] are not carried out yet.
    starting: usize,
    /// Whether the node wants to be asked about redirections, and the contacts it was asked about.
    redirects: Option<Vec<String>>,
    redirected: usize,
    branches: Vec<Branch>,
    outcomes: Vec<Outcome>,
}

impl ResponseContext {
    /// A context whose targets are not known yet.
    pub(crate) fn new(patience: Patience, is_invite: bool, asks_about_redirects: bool) -> ResponseContext {
        ResponseContext {
            patience,
            is_invite,
            more: true,
            cancelled: false,
            answered: None,
            exhausted: false,
            breadth: MAX_BREADTH,
            queue: Queue::default(),
            group: 0,
            group_until: None,
            started: 0,
            starting: 0,
            redirects: asks_about_redirects.then(Vec::new),
            redirected: 0,
            branches: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// Whether a final response went upstream.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// Whether nothing can happen here any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_answered() && self.branches.iter().all(|branch| matches!(branch.state, BranchState::Ended))
    }

    /// Whether the node may still name targets, or has not answered at all.
    pub(crate) fn awaits_targets(&self) -> bool {
        self.more
    }

    /// How many branches there were.
    pub(crate) fn branch_count(&self) -> usize {
        self.branches.len()
    }

    /// Bounds the breadth by what the request came with.
    pub(crate) fn limit_breadth(&mut self, breadth: u32) {
        self.breadth = self.breadth.min(breadth);
    }

    /// Takes targets of the node, and whether further ones may follow. Those that are preferred no less than the ones
    /// being tried join them at once; others wait.
    pub(crate) fn offer(&mut self, targets: Vec<Target>, more: bool, actions: &mut Vec<Action>) {
        self.more = more;
        self.plan(targets, None, actions);
        self.conclude(actions);
    }

    /// Follows the redirection of branch `index` to these targets; without any, it is forgotten all the same.
    pub(crate) fn follow(&mut self, index: usize, targets: Vec<Target>, actions: &mut Vec<Action>) {
        let Some(branch) = self.branches.get_mut(index) else { return };
        let BranchState::Redirected(response) = &branch.state else { return };
        let status = response.status();
        branch.state = BranchState::Ended;
        self.redirected += 1;
        let former = branch.planned.take().map(|planned| {
            // What asked us to go elsewhere forks no more (RFC 5393 §5.3.3.1).
            self.breadth += planned.breadth;
            Former { uri: planned.target.uri, number: planned.number, status }
        });
        self.plan(targets, former.as_ref(), actions);
        self.conclude(actions);
    }

    /// Lets the redirection of branch `index` count as its outcome.
    pub(crate) fn pass_on(&mut self, index: usize, actions: &mut Vec<Action>) {
        if let Some(branch) = self.branches.get_mut(index) {
            if let BranchState::Redirected(response) = std::mem::replace(&mut branch.state, BranchState::Ended) {
                self.outcomes.push(Outcome::Received(response));
            }
            self.conclude(actions);
        }
    }

    /// Adds a branch whose request was just sent.
    pub(crate) fn add_branch(&mut self, now: Instant, client: TransactionId, planned: Box<Planned>) {
        self.exhausted = false;
        self.starting = self.starting.saturating_sub(1);
        self.group_until = self.is_invite.then(|| now + self.patience.group_ring);
        let answer_within = planned.target.answer_within.or(planned.has_next().then_some(self.patience.failover));
        self.branches.push(Branch {
            client,
            counted: false,
            state: BranchState::Calling {
                give_up: answer_within.map(|within| now + within),
                ring_until: self.is_invite.then(|| now + self.patience.timer_c),
                cancel_wanted: None,
            },
            planned: Some(planned),
        });
    }

    /// Learns that a branch could not even begin.
    pub(crate) fn handle_unsent(&mut self, status: u16, actions: &mut Vec<Action>) {
        self.starting = self.starting.saturating_sub(1);
        self.outcomes.push(Outcome::Local(status));
        self.conclude(actions);
    }

    /// Takes a response of branch `index`, our own Via popped.
    pub(crate) fn handle_response(&mut self, now: Instant, index: usize, response: Message, actions: &mut Vec<Action>) {
        match response.status() {
            ..200 => self.handle_provisional(now, index, response, actions),
            200..300 => {
                self.end_branch(index);
                // A further 2xx to INVITE goes upstream whatever went there before (§16.7 item 5).
                if self.is_invite || !self.is_answered() {
                    actions.push(Action::Forward(response));
                }
                self.answered.get_or_insert(200);
                self.cancel_branches(now, CancelReason::Elsewhere, actions);
            }
            300..400 if self.ask_about(index, &response, actions) => {
                if let Some(branch) = self.branches.get_mut(index) {
                    branch.state = BranchState::Redirected(Box::new(response));
                }
            }
            503 if self.retry(index, Obstacle::Unavailable, actions) => {}
            408 | 430 if self.retry(index, Obstacle::FlowFailed, actions) => {}
            status => {
                if self.end_branch(index) {
                    self.outcomes.push(Outcome::Received(Box::new(response)));
                }
                if status >= 600 {
                    self.cancel_branches(now, CancelReason::Refused(status), actions);
                }
                self.conclude(actions);
            }
        }
    }

    /// Takes the end of branch `index` without a response: `status` stands for it.
    pub(crate) fn handle_failure(&mut self, index: usize, status: u16, actions: &mut Vec<Action>) {
        if matches!(status, 408 | 503) && self.retry(index, Obstacle::Unreachable, actions) {
            return;
        }
        if self.end_branch(index) {
            self.outcomes.push(Outcome::Local(status));
        }
        self.conclude(actions);
    }

    /// Takes the caller's CANCEL.
    pub(crate) fn handle_cancel(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_answered() {
            return;
        }
        self.cancelled = true;
        self.cancel_branches(now, CancelReason::ByCaller, actions);
        self.conclude(actions);
    }

    /// Takes the final answer that the node gives itself.
    pub(crate) fn handle_own_answer(&mut self, now: Instant, status: u16, actions: &mut Vec<Action>) {
        self.answered = Some(status);
        let reason = match status {
            ..300 => CancelReason::Elsewhere,
            _ => CancelReason::Refused(status),
        };
        self.cancel_branches(now, reason, actions);
    }

    /// Lets the timers due at `now` fire.
    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let after_cancel = now + self.patience.after_cancel;
        let may_retry = self.takes_branches();
        for branch in &mut self.branches {
            match &mut branch.state {
                BranchState::Calling { give_up: give_up @ Some(_), cancel_wanted, .. }
                    if give_up.is_some_and(|at| at <= now) =>
                {
                    *give_up = None;
                    *cancel_wanted = Some(CancelReason::NoAnswer);
                    if branch.counted {
                        continue;
                    }
                    branch.counted = true;
                    let next = branch.planned.take().filter(|_| may_retry);
                    match next.and_then(|planned| turned(planned, Obstacle::Unreachable)) {
                        Some(planned) => {
                            self.starting += 1;
                            actions.push(Action::Start(planned));
                        }
                        None => self.outcomes.push(Outcome::Local(408)),
                    }
                }
                // Timer B ends a branch that never answers at all; until then its CANCEL has to wait (§9.1).
                BranchState::Calling { ring_until: ring_until @ Some(_), cancel_wanted, .. }
                    if ring_until.is_some_and(|at| at <= now) =>
                {
                    *ring_until = None;
                    *cancel_wanted = Some(CancelReason::NoAnswer);
                }
                BranchState::Proceeding { ring_until: Some(at) } if *at <= now => {
                    actions.push(Action::Cancel(branch.client, CancelReason::NoAnswer));
                    branch.state = BranchState::Cancelled { until: after_cancel };
                }
                BranchState::Cancelled { until } if *until <= now => {
                    actions.push(Action::Abandon(branch.client));
                    branch.state = BranchState::Ended;
                    if !branch.counted {
                        self.outcomes.push(Outcome::Local(408));
                    }
                }
                BranchState::Calling { .. }
                | BranchState::Proceeding { .. }
                | BranchState::Cancelled { .. }
                | BranchState::Redirected(_)
                | BranchState::Ended => {}
            }
        }
        if self.awaits_turn() && self.group_until.is_some_and(|at| at <= now) {
            self.leave_group(now, actions);
        }
        self.conclude(actions);
    }

    /// The next timer.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        let group = self.group_until.filter(|_| self.awaits_turn()).map(|at| (at, TimerReason::GroupRing));
        self.branches.iter().fold(group, |next, branch| earlier(next, branch.poll_timeout()))
    }

    /// Whether another branch may begin (RFC 3261 §16.7 item 5: none after a 6xx).
    fn takes_branches(&self) -> bool {
        !self.is_answered() && !self.cancelled && !self.is_refused()
    }

    /// Whether a group waits behind one that still rings.
    fn awaits_turn(&self) -> bool {
        !self.queue.is_empty() && self.takes_branches() && self.branches.iter().any(Branch::is_pending)
    }

    fn plan(&mut self, targets: Vec<Target>, former: Option<&Former>, actions: &mut Vec<Action>) {
        if !self.takes_branches() {
            return;
        }
        let is_running = self.starting > 0 || self.branches.iter().any(Branch::is_pending);
        let mut joining = Vec::new();
        for target in targets {
            if self.branches.len() + self.starting + self.queue.len() + joining.len() >= TARGETS_MAX {
                break;
            }
            let planned = Planned::new(target, former.cloned());
            if is_running && planned.target.q >= self.group {
                joining.push(planned);
            } else {
                self.queue.insert(planned);
            }
        }
        self.launch(joining, actions);
    }

    /// Lets targets have their turn, each with its part of the breadth that is left. Where more targets may follow, half
    /// is kept for them.
    fn launch(&mut self, group: Vec<Planned>, actions: &mut Vec<Action>) {
        let waiting = u32::try_from(group.len() + self.queue.len()).unwrap_or(u32::MAX);
        let parts = if self.more { waiting.saturating_mul(2) } else { waiting };
        let share = (self.breadth / parts.max(1)).max(1);
        for mut planned in group {
            self.started += 1;
            if self.breadth == 0 {
                self.outcomes.push(Outcome::Local(440));
                continue;
            }
            planned.breadth = share.min(self.breadth);
            self.breadth -= planned.breadth;
            planned.number = self.started;
            self.starting += 1;
            actions.push(Action::Start(Box::new(planned)));
        }
    }

    /// Stops waiting for the group that rings, and cancels it.
    fn leave_group(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.cancel_branches(now, CancelReason::NoAnswer, actions);
        for branch in self.branches.iter_mut().filter(|branch| branch.is_pending()) {
            branch.counted = true;
            self.outcomes.push(Outcome::Local(408));
        }
    }

    /// Whether the node is asked about a redirection, and does so.
    fn ask_about(&mut self, index: usize, response: &Message, actions: &mut Vec<Action>) -> bool {
        let is_open = self.more && self.takes_branches() && self.redirected < REDIRECTS_MAX;
        let is_pending = self.branches.get(index).is_some_and(Branch::is_pending);
        // 305 and 380 ask for more than another address.
        if !is_open || !is_pending || !matches!(response.status(), 300..=302) {
            return false;
        }
        let Some(known) = &mut self.redirects else { return false };
        let mut contacts = Vec::new();
        for contact in response.contacts().flatten().take(REDIRECT_CONTACTS_MAX) {
            if !known.iter().any(|known| known == contact.uri) {
                known.push(contact.uri.to_owned());
                contacts.push(Redirect::read(&contact));
            }
        }
        let is_news = !contacts.is_empty();
        if is_news {
            actions.push(Action::Redirected(index, contacts));
        }
        is_news
    }

    /// Tries the target of a failed branch at its next place; false when there is none.
    fn retry(&mut self, index: usize, obstacle: Obstacle, actions: &mut Vec<Action>) -> bool {
        let may_retry = self.takes_branches() && self.branches.len() < TARGETS_MAX;
        let Some(branch) = self.branches.get_mut(index).filter(|branch| may_retry && branch.is_pending()) else {
            return false;
        };
        if matches!(branch.state, BranchState::Cancelled { .. }) {
            return false;
        }
        let Some(planned) = branch.planned.take().and_then(|planned| turned(planned, obstacle)) else { return false };
        branch.state = BranchState::Ended;
        self.starting += 1;
        actions.push(Action::Start(planned));
        true
    }

    fn handle_provisional(&mut self, now: Instant, index: usize, response: Message, actions: &mut Vec<Action>) {
        let Some(branch) = self.branches.get_mut(index) else { return };
        let is_trying = response.status() == 100;
        let ring_anew = self.is_invite.then(|| now + self.patience.timer_c);
        match &branch.state {
            BranchState::Calling { cancel_wanted: Some(reason), .. } => {
                actions.push(Action::Cancel(branch.client, *reason));
                branch.state = BranchState::Cancelled { until: now + self.patience.after_cancel };
            }
            BranchState::Calling { ring_until, .. } | BranchState::Proceeding { ring_until } => {
                // 100 stops the waiting for any answer at all, but does not restart Timer C (§16.7 item 2).
                let ring_until = if is_trying { *ring_until } else { ring_anew };
                branch.state = BranchState::Proceeding { ring_until };
            }
            BranchState::Cancelled { .. } | BranchState::Redirected(_) | BranchState::Ended => {}
        }
        let is_wanted = branch.is_pending() && self.answered.is_none();
        // Only 100 may answer another request than INVITE before its final response (RFC 4320 §4.1).
        if is_wanted && !is_trying && self.is_invite {
            actions.push(Action::Forward(response));
        }
    }

    /// Ends a branch; false when it was counted before.
    fn end_branch(&mut self, index: usize) -> bool {
        let Some(branch) = self.branches.get_mut(index) else { return false };
        let was_pending = branch.is_pending();
        branch.state = BranchState::Ended;
        branch.planned = None;
        was_pending
    }

    /// Cancels every branch that had a provisional response, and the others as soon as they have one (§9.1).
    fn cancel_branches(&mut self, now: Instant, reason: CancelReason, actions: &mut Vec<Action>) {
        for branch in &mut self.branches {
            match &mut branch.state {
                BranchState::Calling { cancel_wanted, .. } if self.is_invite => {
                    cancel_wanted.get_or_insert(reason);
                }
                BranchState::Proceeding { .. } if self.is_invite => {
                    actions.push(Action::Cancel(branch.client, reason));
                    branch.state = BranchState::Cancelled { until: now + self.patience.after_cancel };
                }
                BranchState::Redirected(_) => {
                    if let BranchState::Redirected(response) = std::mem::replace(&mut branch.state, BranchState::Ended)
                        && !branch.counted
                    {
                        self.outcomes.push(Outcome::Received(response));
                    }
                }
                // Nothing but INVITE can be cancelled (§9.1).
                BranchState::Calling { .. }
                | BranchState::Proceeding { .. }
                | BranchState::Cancelled { .. }
                | BranchState::Ended => {}
            }
        }
    }

    /// Lets the next group have its turn, or sends the best failure upstream, once no branch can bring anything better.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        loop {
            if self.is_answered() || self.starting > 0 || self.branches.iter().any(Branch::is_pending) {
                return;
            }
            if !self.takes_branches() {
                break;
            }
            let Some((q, group)) = self.queue.pop_group() else { break };
            self.group = q;
            self.launch(group, actions);
        }
        let had_targets = !(self.branches.is_empty() && self.outcomes.is_empty());
        let outcome = if had_targets || self.cancelled {
            best::choose(&self.outcomes, self.cancelled)
        } else {
            // No target at all: nobody is there.
            Outcome::Local(480)
        };
        if self.more && !self.cancelled && !self.is_refused() {
            if had_targets && !self.exhausted {
                self.exhausted = true;
                actions.push(Action::Exhausted(best::status(&self.outcomes)));
            }
            return;
        }
        self.answered = Some(outcome.status());
        actions.push(Action::Finish(outcome));
    }

    fn is_refused(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.status() >= 600)
    }
}

/// The same target at its next place.
fn turned(mut planned: Box<Planned>, obstacle: Obstacle) -> Option<Box<Planned>> {
    planned.turn(obstacle).then_some(planned)
}
