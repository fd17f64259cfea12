//! The response context of one forwarded request (RFC 3261 §16.7, §16.8, §16.10): its branches and their outcomes.
//!
//! It decides; the server carries out. Each input leaves [`Action`]s that say what to forward and whom to cancel.

use std::time::{Duration, Instant};

use super::best::{self, Outcome};
use crate::message::Message;
use crate::transaction::{TimerReason, TransactionId, earlier};

/// What follows from an input.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few at a time, carried out at once")]
pub(crate) enum Action {
    /// Send this response upstream.
    Forward(Message),
    /// Send a failure upstream, and be done.
    Finish(Outcome),
    /// Send CANCEL for this client transaction, which had a provisional response.
    Cancel(TransactionId),
    /// Forget this client transaction: it was given up.
    Abandon(TransactionId),
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
}

#[derive(Debug)]
struct Branch {
    client: TransactionId,
    /// Whether its outcome stands already, though it may still speak: it was silent for too long.
    counted: bool,
    state: BranchState,
}

#[derive(Debug)]
enum BranchState {
    /// Nothing heard yet.
    Calling { give_up: Option<Instant>, ring_until: Option<Instant>, cancel_wanted: bool },
    /// A provisional response was heard.
    Proceeding { ring_until: Option<Instant> },
    /// CANCEL was sent; the final response is awaited.
    Cancelled { until: Instant },
    /// Over.
    Ended,
}

impl Branch {
    fn is_pending(&self) -> bool {
        match self.state {
            BranchState::Calling { .. } | BranchState::Proceeding { .. } | BranchState::Cancelled { .. } => {
                !self.counted
            }
            BranchState::Ended => false,
        }
    }
}

/// The branches of one request.
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
    branches: Vec<Branch>,
    outcomes: Vec<Outcome>,
}

impl ResponseContext {
    /// A context whose targets are not known yet.
    pub(crate) fn new(patience: Patience, is_invite: bool) -> ResponseContext {
        ResponseContext {
            patience,
            is_invite,
            more: true,
            cancelled: false,
            answered: None,
            exhausted: false,
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

    /// Whether another branch may begin (RFC 3261 §16.7 item 5: none after a 6xx).
    pub(crate) fn takes_branches(&self) -> bool {
        !self.is_answered() && !self.cancelled && !self.is_refused()
    }

    /// Whether the node may still name targets, or has not answered at all.
    pub(crate) fn awaits_targets(&self) -> bool {
        self.more
    }

    /// How many branches there were.
    pub(crate) fn branch_count(&self) -> usize {
        self.branches.len()
    }

    /// Adds a branch whose request was just sent.
    pub(crate) fn add_branch(&mut self, now: Instant, client: TransactionId, answer_within: Option<Duration>) {
        self.exhausted = false;
        self.branches.push(Branch {
            client,
            counted: false,
            state: BranchState::Calling {
                give_up: answer_within.map(|within| now + within),
                ring_until: self.is_invite.then(|| now + self.patience.timer_c),
                cancel_wanted: false,
            },
        });
    }

    /// Adds the outcome of a branch that could not even begin.
    pub(crate) fn add_failure(&mut self, status: u16) {
        self.outcomes.push(Outcome::Local(status));
    }

    /// Learns whether further targets may follow.
    pub(crate) fn set_more(&mut self, more: bool, actions: &mut Vec<Action>) {
        self.more = more;
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
                self.cancel_branches(now, actions);
            }
            status => {
                if self.end_branch(index) {
                    self.outcomes.push(Outcome::Received(Box::new(response)));
                }
                if status >= 600 {
                    self.cancel_branches(now, actions);
                }
                self.conclude(actions);
            }
        }
    }

    /// Takes the end of branch `index` without a response: `status` stands for it.
    pub(crate) fn handle_failure(&mut self, index: usize, status: u16, actions: &mut Vec<Action>) {
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
        self.cancel_branches(now, actions);
        self.conclude(actions);
    }

    /// Takes the final answer that the node gives itself.
    pub(crate) fn handle_own_answer(&mut self, now: Instant, status: u16, actions: &mut Vec<Action>) {
        self.answered = Some(status);
        self.cancel_branches(now, actions);
    }

    /// Lets the timers due at `now` fire.
    pub(crate) fn handle_timeout(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for branch in &mut self.branches {
            match &mut branch.state {
                BranchState::Calling { give_up: give_up @ Some(_), cancel_wanted, .. }
                    if give_up.is_some_and(|at| at <= now) =>
                {
                    *give_up = None;
                    *cancel_wanted = true;
                    branch.counted = true;
                    self.outcomes.push(Outcome::Local(408));
                }
                // Timer B ends a branch that never answers at all; until then its CANCEL has to wait (§9.1).
                BranchState::Calling { ring_until: ring_until @ Some(_), cancel_wanted, .. }
                    if ring_until.is_some_and(|at| at <= now) =>
                {
                    *ring_until = None;
                    *cancel_wanted = true;
                }
                BranchState::Proceeding { ring_until: Some(at) } if *at <= now => {
                    actions.push(Action::Cancel(branch.client));
                    branch.state = BranchState::Cancelled { until: now + self.patience.after_cancel };
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
                | BranchState::Ended => {}
            }
        }
        self.conclude(actions);
    }

    /// The next timer.
    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        self.branches.iter().fold(None, |next, branch| {
            let timer = match &branch.state {
                BranchState::Calling { give_up, ring_until, .. } => earlier(
                    give_up.map(|at| (at, TimerReason::AnswerWithin)),
                    ring_until.map(|at| (at, TimerReason::TimerC)),
                ),
                BranchState::Proceeding { ring_until } => ring_until.map(|at| (at, TimerReason::TimerC)),
                BranchState::Cancelled { until } => Some((*until, TimerReason::CancelWait)),
                BranchState::Ended => None,
            };
            earlier(next, timer)
        })
    }

    fn handle_provisional(&mut self, now: Instant, index: usize, response: Message, actions: &mut Vec<Action>) {
        let Some(branch) = self.branches.get_mut(index) else { return };
        let is_trying = response.status() == 100;
        let ring_anew = self.is_invite.then(|| now + self.patience.timer_c);
        match &branch.state {
            BranchState::Calling { cancel_wanted: true, .. } => {
                actions.push(Action::Cancel(branch.client));
                branch.state = BranchState::Cancelled { until: now + self.patience.after_cancel };
            }
            BranchState::Calling { ring_until, .. } | BranchState::Proceeding { ring_until } => {
                // 100 stops the waiting for any answer at all, but does not restart Timer C (§16.7 item 2).
                let ring_until = if is_trying { *ring_until } else { ring_anew };
                branch.state = BranchState::Proceeding { ring_until };
            }
            BranchState::Cancelled { .. } | BranchState::Ended => {}
        }
        let is_wanted = branch.is_pending() && self.answered.is_none();
        if is_wanted && !is_trying {
            actions.push(Action::Forward(response));
        }
    }

    /// Ends a branch; false when it was counted before.
    fn end_branch(&mut self, index: usize) -> bool {
        let Some(branch) = self.branches.get_mut(index) else { return false };
        let was_pending = branch.is_pending();
        branch.state = BranchState::Ended;
        was_pending
    }

    /// Cancels every branch that had a provisional response, and the others as soon as they have one (§9.1).
    fn cancel_branches(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.is_invite {
            return;
        }
        for branch in &mut self.branches {
            match &mut branch.state {
                BranchState::Calling { cancel_wanted, .. } => *cancel_wanted = true,
                BranchState::Proceeding { .. } => {
                    actions.push(Action::Cancel(branch.client));
                    branch.state = BranchState::Cancelled { until: now + self.patience.after_cancel };
                }
                BranchState::Cancelled { .. } | BranchState::Ended => {}
            }
        }
    }

    /// Sends the best failure upstream once no branch can bring anything better.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        if self.is_answered() || self.branches.iter().any(Branch::is_pending) {
            return;
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
                actions.push(Action::Exhausted(outcome.status()));
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
