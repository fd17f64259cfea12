//! Our own agent behind the server: what they have to say to each other.

use std::time::Instant;

use super::{Event, RequestId, Server};
use crate::agent::{Agent, Answer, Asked, DialogId, Question, Refusal, Stack, SubscriptionId, Verdict};
use crate::message::Message;
use crate::transaction::TransactionId;
use crate::transport::Flow;

impl Server {
    pub(super) fn answer_call(
        &mut self,
        now: Instant,
        id: RequestId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<DialogId, Refusal>,
    ) -> DialogId {
        let known = self.requests.get(&id.0).and_then(|open| open.dialog);
        let dialog = match self.decide(now, id.0, decide) {
            Ok(dialog) => {
                if let Some(open) = self.requests.get_mut(&id.0) {
                    open.dialog = Some(dialog);
                }
                dialog
            }
            Err(refusal) => {
                self.refuse(now, id.0, &refusal);
                known.unwrap_or_else(|| {
                    let dialog = self.agent.fresh_id();
                    self.events.push_back(Event::DialogEnded { dialog });
                    dialog
                })
            }
        };
        self.carry_answers(now);
        self.settle(now);
        dialog
    }

    pub(super) fn answer_subscription(
        &mut self,
        now: Instant,
        id: RequestId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<SubscriptionId, Refusal>,
    ) -> Option<SubscriptionId> {
        let decided = self.decide(now, id.0, decide);
        if let Err(refusal) = &decided {
            self.refuse(now, id.0, refusal);
        }
        self.carry_answers(now);
        self.with_agent(now, Agent::notify_due);
        self.settle(now);
        decided.ok()
    }

    /// Lets the agent decide on a request that awaits its answer. What it answers waits in `owed`.
    fn decide<R>(
        &mut self,
        now: Instant,
        id: TransactionId,
        decide: impl FnOnce(&mut Agent, &mut Stack<'_>, &Asked<'_>) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let open = self.requests.get(&id).filter(|open| !open.context.is_answered());
        let open = open.ok_or_else(|| Refusal::plain(481))?;
        let (request, flow, dialog, tag) =
            (open.request.clone(), open.flow.clone(), open.dialog, self.tokens.tag_for(&open.request));
        let asked = Asked { server: id, request: &request, flow: &flow, tag: tag.as_str(), dialog };
        self.run_agent(now, |agent, stack| decide(agent, stack, &asked))
    }

    fn refuse(&mut self, now: Instant, id: TransactionId, refusal: &Refusal) {
        if let Some(open) = self.requests.get(&id) {
            let response = self.make_response(&open.request, refusal.status, "", &refusal.extra);
            self.answer(now, id, response);
        }
    }

    /// Runs the agent, then sends what it answers.
    pub(super) fn with_agent<R>(&mut self, now: Instant, run: impl FnOnce(&mut Agent, &mut Stack<'_>) -> R) -> R {
        let result = self.run_agent(now, run);
        self.carry_answers(now);
        result
    }

    fn run_agent<R>(&mut self, now: Instant, run: impl FnOnce(&mut Agent, &mut Stack<'_>) -> R) -> R {
        let mut stack = Stack {
            now,
            layer: &mut self.layer,
            locals: self.locals.as_ref(),
            randomness: self.randomness.as_mut(),
            events: &mut self.events,
            user_agent: &self.config.server_name,
            answers: Vec::new(),
        };
        let result = run(&mut self.agent, &mut stack);
        let answers = stack.answers;
        self.owed.extend(answers);
        result
    }

    fn carry_answers(&mut self, now: Instant) {
        while let Some((id, answer)) = self.owed.pop_front() {
            match answer {
                Answer::Whole(response) => self.answer(now, id, response),
                Answer::Status(status, extra) => self.refuse(now, id, &Refusal { status, extra }),
            }
        }
    }

    /// Offers a request to the agent; true when it belongs to one of its dialogs, and is dealt with.
    pub(super) fn is_for_agent(&mut self, now: Instant, id: TransactionId, flow: &Flow, request: &Message) -> bool {
        let Some(verdict) = self.run_agent(now, |agent, stack| agent.handle_request(stack, id, request, flow)) else {
            return false;
        };
        match verdict {
            Verdict::Answer(status, extra) => self.answer_at_once(now, id, request, status, &extra),
            Verdict::Ask(dialog, question) => {
                self.open(now, id, request.clone(), flow.clone(), Some(dialog));
                self.events.push_back(question.ask(RequestId(id), dialog, request.clone()));
            }
        }
        self.carry_answers(now);
        self.with_agent(now, Agent::notify_due);
        true
    }

    /// Takes the final answer to a request of one of the agent's dialogs.
    pub(super) fn tell_agent_of_answer(
        &mut self,
        now: Instant,
        dialog: DialogId,
        id: TransactionId,
        response: &Message,
    ) {
        self.run_agent(now, |agent, stack| agent.handle_answer(stack, dialog, id, response));
    }

    /// Takes a response to a request of our own agent.
    pub(super) fn handle_agent_response(&mut self, now: Instant, id: TransactionId, response: &Message) {
        self.with_agent(now, |agent, stack| agent.handle_response(stack, id, response));
    }

    /// Takes the news that a request of our own agent met with silence (408) or could not be sent (503).
    pub(super) fn handle_agent_failure(&mut self, now: Instant, id: TransactionId, status: u16) {
        self.with_agent(now, |agent, stack| agent.handle_failure(stack, id, status));
    }

    /// Sends what the agent owed when an answer of the node's went through it.
    pub(super) fn settle_agent(&mut self, now: Instant) {
        self.carry_answers(now);
    }
}

impl Question {
    fn ask(self, id: RequestId, dialog: DialogId, request: Message) -> Event {
        use crate::agent::AgentEvent;
        match self {
            Question::Change => Event::Reinvite { id, dialog, request },
            Question::Refer(refer_to) => Event::Agent(AgentEvent::Refer { id, dialog, refer_to, request }),
            Question::Other => Event::Agent(AgentEvent::Request { id, dialog, request }),
        }
    }
}
