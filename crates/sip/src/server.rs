//! The one machine that a worker drives: transactions, proxy and agent behind a single `handle_*` / `poll_*` face.
//!
//! Messages go in with the time and the flow they came from; what to send, what happened and when to wake up next
//! are polled out. Every [`Event::Request`] wants exactly one answer: [`Server::respond`], [`Server::reject`],
//! [`Server::forward`] or [`Server::accept`]. An answer to a request that is over meanwhile does nothing.
//!
//! Inside: `requests` (what arrives), `answers` (what the node answers), `forwarding` (copies to targets), `outcomes` (what
//! becomes of them), `commands` and `calls` (our own agent).

mod answers;
mod calls;
mod commands;
mod forwarding;
mod outcomes;
mod requests;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::agent::{Agent, AgentEvent, Answer, DialogId};
use crate::message::{Header, Message, ParseError};
use crate::proxy::context::{Action, Patience, ResponseContext};
pub use crate::proxy::flow_token::Tag;
use crate::proxy::flow_token::TokenKey;
use crate::proxy::session_timer::Asked;
use crate::proxy::{ForwardPolicy, Redirect, Routing, Target, via};
use crate::transaction::{
    Armed, Owner, TableById, TimerLanes, TimerReason, TimerSettings, TransactionId, TransactionLayer, earlier,
};
use crate::transport::{Destination, Flow, Locals, Randomness, Transmit};

/// Number of a request that awaits, or has got, the node's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) TransactionId);

/// What a [`Server`] is told once.
#[derive(Clone)]
pub struct ServerConfig {
    /// Estimate of the round trip, 500 ms (RFC 3261 §17.1.1.1).
    pub t1: Duration,
    /// Longest pause between retransmissions, 4 s (§17.1.2.2).
    pub t2: Duration,
    /// How long a message may stay in the network, 5 s (§17.1.2.2).
    pub t4: Duration,
    /// How long a proxied INVITE may ring; more than 3 minutes (§16.6 item 11).
    pub timer_c: Duration,
    /// Key of flow tokens, branches and tags. The same for all workers of a node, and kept over a restart so that
    /// dialogs outlive it.
    pub flow_token_key: [u8; 32],
    /// What the Server header field says; empty for none.
    pub server_name: String,
    /// Most transactions at a time; further requests get 503.
    pub max_transactions: usize,
    /// How requests are forwarded.
    pub forwarding: ForwardPolicy,
}

impl ServerConfig {
    /// The values of RFC 3261, room for 100,000 transactions, no name.
    pub fn new(flow_token_key: [u8; 32]) -> ServerConfig {
        ServerConfig {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            timer_c: Duration::from_secs(185),
            flow_token_key,
            server_name: String::new(),
            max_transactions: 100_000,
            forwarding: ForwardPolicy::default(),
        }
    }
}

/// What a [`Server`] has to say to its node.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "an event lives until it is polled; a box would cost an allocation a request"
)]
pub enum Event {
    /// A new request (never ACK or CANCEL); answer it.
    Request {
        /// To answer with.
        id: RequestId,
        /// The request; our own Routes are popped, `received` and `rport` are noted in its top Via.
        request: Message,
        /// Where it came from.
        flow: Flow,
        /// What its Route header field said.
        routing: Routing,
    },
    /// An INVITE within a dialog of our own agent, or an UPDATE or PRACK with an offer; answer it with
    /// [`Server::respond`] or [`Server::reject`].
    Reinvite {
        /// To answer with.
        id: RequestId,
        /// The dialog.
        dialog: DialogId,
        /// The request.
        request: Message,
    },
    /// The ACK of an accepted INVITE, or of a re-INVITE's 200, arrived.
    Acknowledged {
        /// The dialog.
        dialog: DialogId,
        /// The ACK: its body is the other side's answer where the offer was ours (RFC 3261 §13.2.1).
        ack: Message,
    },
    /// A dialog of our own agent is over, whoever ended it.
    DialogEnded {
        /// The dialog.
        dialog: DialogId,
    },
    /// News of our own agent's calls, requests and subscriptions.
    Agent(AgentEvent),
    /// Every branch of a request forwarded with `more` has failed: forward it to further targets, or end it by
    /// [`Server::forward`] with no target and `more` false.
    TargetsExhausted {
        /// The request.
        id: RequestId,
        /// The best status so far; 503 where a server sent that, or nothing could be sent to it.
        status: u16,
    },
    /// A target redirected a request (3xx), and more targets may follow: answer with [`Server::follow`] or
    /// [`Server::pass_on`]. Nothing goes upstream before that.
    Redirected {
        /// The request.
        id: RequestId,
        /// The branch that was redirected, to answer with.
        branch: usize,
        /// The request as the node saw it.
        request: Message,
        /// Where to; contacts that were asked about before are left out.
        contacts: Vec<Redirect>,
    },
    /// The caller cancelled a request that the node may still name targets for; none are wanted any more.
    ///
    /// Its final response needs no answer of the node: 487 at once when no branch runs, else what the branches bring,
    /// with [`Event::Finished`].
    Cancelled {
        /// The request.
        id: RequestId,
    },
    /// A forwarded request has got its final response, which went upstream.
    Finished {
        /// The request.
        id: RequestId,
        /// Status of that response.
        status: u16,
    },
}

/// A request that is not over: the node has yet to answer, or its branches have.
struct OpenRequest {
    /// As the node saw it.
    request: Message,
    /// Where it came from.
    flow: Flow,
    /// Its place among [`Server::ways`].
    way: Option<u64>,
    /// When a client that asked for something else than INVITE gives up.
    client_gone: Instant,
    context: ResponseContext,
    /// The Reason of the caller's CANCEL.
    cancel_reason: Option<String>,
    /// The session timer that the copies ask for.
    session_timer: Option<Asked>,
    /// The dialog of our own agent that it belongs to.
    dialog: Option<DialogId>,
    is_forwarded: bool,
    /// Whether 100, or anything better, was sent.
    is_trying: bool,
    armed: Option<Armed>,
}

/// Whether a message is a request that would open something new, rather than belong to what is established: a server
/// under load takes it last.
pub fn opens_something(message: &Message) -> bool {
    use crate::message::Method;
    message.is_request()
        && !matches!(message.method(), Method::Ack | Method::Cancel | Method::Bye | Method::Prack)
        && message.to_tag().is_none()
}

/// Transactions, proxy core and agent of one worker.
pub struct Server {
    config: ServerConfig,
    locals: Box<dyn Locals>,
    randomness: Box<dyn Randomness>,
    tokens: TokenKey,
    layer: TransactionLayer,
    agent: Agent,
    /// Answers of the agent's, on their way to `answer`.
    owed: VecDeque<(TransactionId, Answer)>,
    /// Boxed, so that a growing table moves pointers and not messages.
    requests: TableById<Box<OpenRequest>>,
    request_timers: TimerLanes<TransactionId>,
    /// How many of the open requests are copies of one, by its loop hash.
    ways: HashMap<u64, u8>,
    /// Empty; its memory serves the next request whose context acts.
    spare_actions: Vec<Action>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

impl Server {
    /// A server without any state yet.
    pub fn new(config: ServerConfig, locals: Box<dyn Locals>, randomness: Box<dyn Randomness>) -> Server {
        let settings = TimerSettings { t1: config.t1, t2: config.t2, t4: config.t4 };
        Server {
            tokens: TokenKey::new(&config.flow_token_key),
            layer: TransactionLayer::new(settings, config.max_transactions),
            agent: Agent::new(settings),
            owed: VecDeque::new(),
            requests: TableById::default(),
            request_timers: TimerLanes::new(),
            ways: HashMap::new(),
            spare_actions: Vec::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            config,
            locals,
            randomness,
        }
    }

    /// Takes a message that arrived over `flow`.
    pub fn handle_message(&mut self, now: Instant, flow: Flow, message: Message) {
        if message.is_request() {
            self.handle_request(now, flow, message);
        } else {
            self.handle_response(now, message);
        }
        self.settle(now);
    }

    /// Answers a message that could not be read, when enough of it could (`partial`) to do so safely.
    pub fn handle_bad_message(&mut self, _now: Instant, flow: Flow, error: &ParseError, partial: Option<Message>) {
        if let Some(partial) = partial {
            self.refuse_unread(&flow, &partial, error);
        }
    }

    /// Takes the news that a [`Transmit`] of this origin could not be sent.
    pub fn handle_transport_error(&mut self, now: Instant, origin: TransactionId) {
        self.layer.handle_transport_error(now, origin);
        self.settle(now);
    }

    /// Takes the news that a flow has failed and is not expected back (RFC 5626 §4.4): who has yet to answer a request there is not available
    /// (480), also where it rang already.
    pub fn handle_flow_failed(&mut self, now: Instant, flow: &Flow) {
        for (id, owner) in self.layer.abandon_over(flow) {
            match owner {
                Owner::Branch { request, index } => self.handle_branch_failure(now, request, index, 480),
                Owner::Agent => self.handle_agent_failure(now, id, 480),
                Owner::Nobody => {}
            }
        }
        self.settle(now);
    }

    /// Lets all timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.layer.handle_timeout(now);
        while let Some(id) = self.request_timers.pop_due(now) {
            let mut actions = std::mem::take(&mut self.spare_actions);
            if let Some(open) = self.requests.get_mut(&id) {
                open.armed = None;
                open.context.handle_timeout(now, &mut actions);
            }
            self.carry_out(now, id, actions);
            self.settle_request_timers();
        }
        self.with_agent(now, Agent::handle_timeout);
        self.settle(now);
    }

    /// When [`Server::handle_timeout`] wants to be called next, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        earlier(earlier(self.layer.poll_timeout(), self.request_timers.next()), self.agent.poll_timeout())
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        let mut transmit = self.layer.poll_transmit().or_else(|| self.transmits.pop_front())?;
        if let Destination::Flow(flow) = &transmit.destination
            && flow.transport().is_reliable()
            && !self.locals.flow_is_open(flow)
        {
            transmit.destination = match flow {
                Flow::Peer { host } => Destination::Peer(host.clone()),
                Flow::Stream { .. } if !transmit.message.is_request() => match transmit.message.top_via() {
                    Ok(via) => via::reply_without_flow(flow, &via),
                    Err(_) => transmit.destination,
                },
                // A request for a lost connection fails, and its transaction learns so from the transport.
                Flow::Stream { .. } | Flow::Udp { .. } => transmit.destination,
            };
        }
        Some(transmit)
    }

    /// The next thing to tell the node.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Answers a request with a response of the node's own; a To tag is added when it has none.
    ///
    /// A provisional response leaves the request open. A final one ends it, even when it was forwarded: branches that
    /// still run are cancelled.
    pub fn respond(&mut self, now: Instant, id: RequestId, response: Message) {
        self.answer(now, id.0, response);
        self.settle(now);
    }

    /// The To tag that a response of the node's own to this request has to have (RFC 3261 §8.2.6.2).
    pub fn to_tag(&self, request: &Message) -> Tag {
        self.tokens.tag_for(request)
    }

    /// Answers a request with a response made of a status, a reason (empty for the usual one) and further fields.
    pub fn reject(&mut self, now: Instant, id: RequestId, status: u16, reason: &str, extra: &[(Header, String)]) {
        if let Some(open) = self.requests.get(&id.0) {
            let response = self.make_response(&open.request, status, reason, extra);
            self.answer(now, id.0, response);
            self.settle(now);
        }
    }

    /// Answers a request as [`Server::reject`] does, and forgets it: one answer for each copy that comes, none sent again.
    ///
    /// For challenges, whose request may bear a victim's address and a flood of which must cost no memory (RFC 3261 §8.2.7,
    /// §26.3.2.4). A request that is under way already is rejected with its state.
    pub fn challenge(&mut self, now: Instant, id: RequestId, status: u16, reason: &str, extra: &[(Header, String)]) {
        let is_untouched =
            |open: &OpenRequest| !open.is_forwarded && open.dialog.is_none() && !open.context.is_answered();
        if !self.requests.get(&id.0).is_some_and(|open| is_untouched(open)) {
            self.reject(now, id, status, reason, extra);
            return;
        }
        if let Some(open) = self.close(id.0) {
            self.layer.forget(id.0);
            self.refuse_statelessly(&open.flow, &open.request, status, reason, extra);
        }
    }

    /// Forwards a request to `targets` (RFC 3261 §16.6): those of the highest q at once, the next when these have failed
    /// or rung for too long. With `more`, no failure goes upstream yet: further targets may follow by another call, and
    /// [`Event::TargetsExhausted`] asks for them.
    ///
    /// A request that must not be forwarded is answered instead: 483 (Max-Forwards), 420 (Proxy-Require), 422 (a session
    /// timer that is too short). Without any target at all it ends with 480.
    pub fn forward(&mut self, now: Instant, id: RequestId, targets: Vec<Target>, more: bool) {
        self.forward_to(now, id.0, targets, more);
        self.settle(now);
    }

    /// Follows a redirection ([`Event::Redirected`]) to these targets, which may be none: others can follow by
    /// [`Server::forward`].
    pub fn follow(&mut self, now: Instant, id: RequestId, branch: usize, targets: Vec<Target>) {
        self.follow_to(now, id.0, branch, targets);
        self.settle(now);
    }

    /// Does not follow a redirection: it counts as what that target answered.
    pub fn pass_on(&mut self, now: Instant, id: RequestId, branch: usize) {
        self.pass_redirection_on(now, id.0, branch);
        self.settle(now);
    }

    /// Refuses a request before anything is known of it, without any state: 503 with Retry-After, for a node that has
    /// more to do than it can. Whatever else arrives, and what belongs to a transaction already, is handled.
    pub fn shed(&mut self, now: Instant, flow: Flow, message: Message, retry_after_s: u32) {
        if opens_something(&message) && !self.layer.knows(&message) {
            self.refuse_for_load(&flow, &message, retry_after_s);
        } else {
            self.handle_message(now, flow, message);
        }
    }

    /// Keeps the first of the requests' timers one that counts.
    fn settle_request_timers(&mut self) {
        let requests = &self.requests;
        self.request_timers.settle(|id| requests.get(&id).and_then(|open| open.armed));
    }

    /// How many transactions there are, finished ones included.
    pub fn transaction_count(&self) -> usize {
        self.layer.len()
    }

    /// A request that just arrived, open until it is answered.
    fn open(&mut self, now: Instant, id: TransactionId, request: Message, flow: Flow, dialog: Option<DialogId>) {
        let client_patience = self.config.t1.saturating_mul(64);
        let policy = &self.config.forwarding;
        let patience = Patience {
            timer_c: self.config.timer_c,
            after_cancel: client_patience,
            group_ring: policy.group_ring,
            failover: policy.failover,
        };
        let is_invite = request.method() == crate::message::Method::Invite;
        let open = OpenRequest {
            request,
            flow,
            way: None,
            client_gone: now + client_patience,
            context: ResponseContext::new(patience, is_invite, policy.asks_about_redirects),
            cancel_reason: None,
            session_timer: None,
            dialog,
            is_forwarded: false,
            is_trying: false,
            armed: None,
        };
        self.requests.insert(id, Box::new(open));
    }

    /// Forgets a request that is over.
    fn close(&mut self, id: TransactionId) -> Option<Box<OpenRequest>> {
        let mut open = self.requests.remove(&id)?;
        if self.request_timers.rearm(id, &mut open.armed, None) {
            self.settle_request_timers();
        }
        if let Some(way) = open.way
            && let Some(copies) = self.ways.get_mut(&way)
        {
            *copies -= 1;
            if *copies == 0 {
                self.ways.remove(&way);
            }
        }
        Some(open)
    }
}
