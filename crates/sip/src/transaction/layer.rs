//! Finds the transaction that a message belongs to, drives all timers, and bounds their number.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::completed::CompletedLog;
use super::derived::{again, cancel};
use super::key::{As, Key, KeyHasher, Keys};
use super::{
    Armed, ById, ClientEvent, ClientStep, InviteClient, InviteServer, OtherClient, OtherServer, ServerEvent,
    ServerStep, Table, TableById, TimerLanes, TimerReason, TimerSettings, TransactionId, earlier, give_back,
};
use crate::message::{Message, Method, Via};
use crate::transport::{Destination, Flow, Transmit};

/// What may still open a transaction when the layer is full has this share of the maximum on top: requests that
/// end calls free more than they take.
const RESERVE_SHARE: usize = 8;

/// How long a transaction that has ended is kept at least, to absorb what is repeated. Where there is room it stays for Timers D,
/// I, J, K, L and M, up to 32 s; in a full layer the oldest one makes room for who comes new, and this is when a lost response
/// has been asked for again four times (0.5 s doubling, RFC 3261 §17.1.2.2).
const ENDED_KEPT: Duration = Duration::from_secs(8);

/// On whose behalf a client transaction runs; handed back with each of its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A branch of a forwarded request.
    Branch {
        /// The server transaction of that request.
        request: TransactionId,
        /// Which branch.
        index: usize,
    },
    /// Our own agent, which knows by the transaction what it is for.
    Agent,
    /// Nobody waits for the outcome: CANCEL.
    Nobody,
}

/// What a request turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The first of its transaction.
    New(TransactionId),
    /// A retransmission, dealt with.
    Repeated,
    /// There is no room for another transaction.
    Full,
    /// Its key fields cannot be read.
    Unreadable,
}

/// What happened to a transaction.
#[derive(Debug, Clone)]
pub enum LayerEvent {
    /// A response for the owner of a client transaction.
    Response {
        /// The client transaction.
        id: TransactionId,
        /// Its owner.
        owner: Owner,
        /// The response.
        response: Message,
    },
    /// A request had no final response in time.
    Timeout {
        /// The client transaction.
        id: TransactionId,
        /// Its owner.
        owner: Owner,
    },
    /// A request could not be sent.
    TransportError {
        /// The client transaction.
        id: TransactionId,
        /// Its owner.
        owner: Owner,
    },
    /// A request has waited so long for its first response that 100 is due.
    TryingDue {
        /// The server transaction.
        id: TransactionId,
    },
}

#[derive(Debug)]
enum ClientMachine {
    Invite(InviteClient),
    Other(OtherClient),
}

impl ClientMachine {
    /// Whether it only waits for what may be repeated.
    fn has_ended(&self) -> bool {
        match self {
            ClientMachine::Invite(invite) => invite.has_ended(),
            ClientMachine::Other(other) => other.has_ended(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            ClientMachine::Invite(invite) => matches!(invite, InviteClient::Terminated),
            ClientMachine::Other(other) => matches!(other, OtherClient::Terminated),
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            ClientMachine::Invite(invite) => invite.poll_timeout(),
            ClientMachine::Other(other) => other.poll_timeout(),
        }
    }
}

#[derive(Debug)]
struct Client {
    machine: ClientMachine,
    key: Key,
    destination: Destination,
    owner: Owner,
    armed: Option<Armed>,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(InviteServer),
    Other(OtherServer),
}

impl ServerMachine {
    /// Whether it only waits for what may be repeated.
    fn has_ended(&self) -> bool {
        match self {
            ServerMachine::Invite(invite) => invite.has_ended(),
            ServerMachine::Other(other) => other.is_answered(),
        }
    }

    /// Whether nothing is left of it here.
    fn is_over(&self) -> bool {
        match self {
            ServerMachine::Invite(invite) => matches!(invite, InviteServer::Terminated),
            ServerMachine::Other(other) => matches!(other, OtherServer::Completed | OtherServer::Terminated),
        }
    }

    fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        match self {
            ServerMachine::Invite(invite) => invite.poll_timeout(),
            ServerMachine::Other(other) => other.poll_timeout(),
        }
    }
}

#[derive(Debug)]
struct Server {
    machine: ServerMachine,
    key: Key,
    reply: Flow,
    armed: Option<Armed>,
}

/// All transactions of one worker.
#[derive(Debug)]
pub struct TransactionLayer {
    settings: TimerSettings,
    limit: usize,
    last_id: u64,
    clients: ById<Client>,
    servers: TableById<Server>,
    completed: CompletedLog,
    keys: Keys,
    client_keys: HashMap<Key, TransactionId, KeyHasher>,
    server_keys: Table<Key, TransactionId, KeyHasher>,
    timers: TimerLanes<TransactionId>,
    /// Those that have ended, oldest first; some are gone by now.
    ended: VecDeque<(Instant, TransactionId)>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<LayerEvent>,
}

impl TransactionLayer {
    /// A layer without transactions, for at most `limit` at a time.
    pub fn new(settings: TimerSettings, limit: usize) -> TransactionLayer {
        TransactionLayer {
            settings,
            limit,
            last_id: 0,
            clients: ById::default(),
            servers: TableById::default(),
            completed: CompletedLog::new(settings.patience()),
            keys: Keys::default(),
            client_keys: HashMap::default(),
            server_keys: Table::default(),
            timers: TimerLanes::new(),
            ended: VecDeque::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// How many transactions there are, finished ones included.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len() + self.completed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a request other than ACK; `reply` is the flow that its responses take.
    pub fn handle_request(&mut self, now: Instant, reply: Flow, request: &Message) -> Arrival {
        let Ok(via) = request.top_via() else { return Arrival::Unreadable };
        self.take_request(now, reply, request, &via)
    }

    /// Takes a request whose topmost Via was read already.
    pub(crate) fn take_request(&mut self, now: Instant, reply: Flow, request: &Message, via: &Via<'_>) -> Arrival {
        let Ok(key) = self.keys.server(request, via, As::Itself) else { return Arrival::Unreadable };
        if let Some(id) = self.server_keys.get(&key).copied() {
            self.step_server(now, id, |machine, _, _| match machine {
                ServerMachine::Invite(invite) => invite.handle_request(),
                ServerMachine::Other(other) => other.handle_request(),
            });
            return Arrival::Repeated;
        }
        if let Some((reply, response)) = self.completed.find(&key, request) {
            let destination = Destination::Flow(reply);
            let again = again(&response).map(|message| Transmit { destination, message, origin: None });
            self.transmits.extend(again);
            return Arrival::Repeated;
        }
        if self.len() >= self.room_for(request) && !self.make_room(now) {
            return Arrival::Full;
        }
        let id = self.fresh_id();
        let machine = if request.method() == Method::Invite {
            ServerMachine::Invite(InviteServer::new(now))
        } else {
            ServerMachine::Other(OtherServer::new(now, &self.settings))
        };
        self.server_keys.insert(key, id);
        let mut server = Server { machine, key, reply, armed: None };
        self.timers.rearm(id, &mut server.armed, server.machine.poll_timeout());
        self.servers.insert(id, server);
        Arrival::New(id)
    }

    /// Whether a request repeats one that has a transaction.
    pub fn knows(&self, request: &Message) -> bool {
        let is_known = |key| self.server_keys.contains_key(&key) || self.completed.contains(&key);
        self.server_key(request, As::Itself).is_some_and(is_known)
    }

    /// Takes an ACK; false when it is for a 2xx or for nothing known, and so not the layer's business.
    pub fn handle_ack(&mut self, now: Instant, ack: &Message) -> bool {
        let Some(key) = self.server_key(ack, As::Itself) else { return false };
        let Some(id) = self.server_keys.get(&key).copied() else { return false };
        let event = self.step_server(now, id, |machine, settings, reliable| match machine {
            ServerMachine::Invite(invite) => invite.handle_ack(now, settings, reliable),
            ServerMachine::Other(_) => ServerStep::default(),
        });
        event != Some(ServerEvent::Ack)
    }

    /// Finds the INVITE that a CANCEL is for (RFC 3261 §9.2).
    pub fn find_cancelled(&self, cancel: &Message) -> Option<TransactionId> {
        let key = self.server_key(cancel, As::Invite)?;
        self.server_keys.get(&key).copied()
    }

    /// The key of the client transaction that a response with this topmost Via belongs to.
    pub(crate) fn key_of_response(&self, response: &Message, via: &Via<'_>) -> Option<Key> {
        Some(self.keys.of_branch(via, response.cseq().ok()?.method))
    }

    /// Takes a response of this key; false when it belongs to no transaction.
    pub(crate) fn handle_response(&mut self, now: Instant, key: Key, response: Message) -> bool {
        let Some(id) = self.client_keys.get(&key).copied() else { return false };
        let news = self.step_client(now, id, |machine, settings, reliable| match machine {
            ClientMachine::Invite(invite) => invite.handle_response(now, settings, &response, reliable),
            ClientMachine::Other(other) => other.handle_response(now, settings, &response, reliable),
        });
        if let Some(owner) = news {
            self.events.push_back(LayerEvent::Response { id, owner, response });
        }
        true
    }

    /// Opens a client transaction and sends its request; `None` when its key fields cannot be read.
    pub fn send_request(
        &mut self,
        now: Instant,
        destination: Destination,
        request: Message,
        owner: Owner,
    ) -> Option<TransactionId> {
        let key = self.keys.client(&request).ok()?;
        let id = self.fresh_id();
        let reliable = destination.transport().is_reliable();
        let machine = if request.method() == Method::Invite {
            ClientMachine::Invite(InviteClient::new(now, &self.settings, &request, reliable))
        } else {
            ClientMachine::Other(OtherClient::new(now, &self.settings, &request, reliable))
        };
        self.client_keys.insert(key, id);
        let mut client = Client { machine, key, destination: destination.clone(), owner, armed: None };
        self.timers.rearm(id, &mut client.armed, client.machine.poll_timeout());
        self.clients.insert(id, client);
        self.transmits.push_back(Transmit { destination, message: request, origin: Some(id) });
        Some(id)
    }

    /// Sends a message that opens no transaction, in order with those that do: the ACK of a 2xx.
    pub fn send_statelessly(&mut self, destination: Destination, message: Message) {
        self.transmits.push_back(Transmit { destination, message, origin: None });
    }

    /// Sends CANCEL for an INVITE that had a provisional response, with this Reason (RFC 3326); false while there was none,
    /// or when it is over.
    pub fn cancel(&mut self, now: Instant, id: TransactionId, reason: Option<&str>) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let ClientMachine::Invite(InviteClient::Proceeding { request }) = &client.machine else { return false };
        let Some(cancel) = again(request).and_then(|invite| cancel(&invite, reason)) else { return false };
        let destination = client.destination.clone();
        self.send_request(now, destination, cancel, Owner::Nobody);
        true
    }

    /// Ends a client transaction without further ado; responses that still come are strays.
    pub fn abandon(&mut self, id: TransactionId) {
        self.remove_client(id);
    }

    /// Ends the client transactions that wait for an answer over this flow, and returns whose they are.
    pub(crate) fn abandon_over(&mut self, flow: &Flow) -> Vec<(TransactionId, Owner)> {
        let waits = |client: &Client| match &client.machine {
            ClientMachine::Invite(InviteClient::Calling { .. } | InviteClient::Proceeding { .. }) => true,
            ClientMachine::Invite(
                InviteClient::Completed { .. } | InviteClient::Accepted { .. } | InviteClient::Terminated,
            ) => false,
            ClientMachine::Other(OtherClient::Trying(_) | OtherClient::Proceeding(_)) => true,
            ClientMachine::Other(OtherClient::Completed { .. } | OtherClient::Terminated) => false,
        };
        let over = |client: &Client| matches!(&client.destination, Destination::Flow(of) if of == flow);
        let found = self.clients.iter().filter(|(_, client)| over(client) && waits(client));
        let mut found: Vec<_> = found.map(|(id, client)| (*id, client.owner)).collect();
        found.sort_unstable_by_key(|(id, _)| *id);
        for (id, _) in &found {
            self.remove_client(*id);
        }
        found
    }

    /// Ends a server transaction without a trace: the request, should it come again, is new.
    pub fn forget(&mut self, id: TransactionId) {
        self.remove_server(id);
    }

    /// Sends a response by its server transaction; false when that is over.
    pub fn respond(&mut self, now: Instant, id: TransactionId, response: Message) -> bool {
        self.answer(now, id, None, response)
    }

    /// As [`TransactionLayer::respond`], with the request at hand: what the response repeats of it is not kept then.
    pub(crate) fn respond_to(&mut self, now: Instant, id: TransactionId, request: &Message, response: Message) -> bool {
        self.answer(now, id, Some(request), response)
    }

    fn answer(&mut self, now: Instant, id: TransactionId, request: Option<&Message>, response: Message) -> bool {
        let Some(server) = self.servers.get_mut(&id) else { return false };
        let (reliable, had_ended) = (server.reply.transport().is_reliable(), server.machine.has_ended());
        let is_sent = match &mut server.machine {
            ServerMachine::Invite(invite) => invite.respond(now, &self.settings, &response, reliable),
            ServerMachine::Other(other) => other.respond(&response, reliable),
        };
        if is_sent {
            if let ServerMachine::Other(OtherServer::Completed) = &server.machine {
                self.completed.append(now, server.key, &server.reply, request, &response);
            }
            let destination = Destination::Flow(server.reply.clone());
            self.transmits.push_back(Transmit { destination, message: response, origin: Some(id) });
        }
        self.settle_server(now, id, had_ended);
        true
    }

    /// Whether a server transaction still waits for its final response.
    pub fn awaits_answer(&self, id: TransactionId) -> bool {
        self.servers.get(&id).is_some_and(|server| match &server.machine {
            ServerMachine::Invite(invite) => !invite.is_answered(),
            ServerMachine::Other(other) => !other.is_answered(),
        })
    }

    /// Whether an INVITE server transaction passes 2xx on.
    pub fn is_accepted(&self, id: TransactionId) -> bool {
        self.servers.get(&id).is_some_and(|server| match &server.machine {
            ServerMachine::Invite(InviteServer::Accepted { .. }) => true,
            ServerMachine::Invite(
                InviteServer::Proceeding { .. }
                | InviteServer::Completed { .. }
                | InviteServer::Confirmed { .. }
                | InviteServer::Terminated,
            )
            | ServerMachine::Other(_) => false,
        })
    }

    /// Takes the news that a message of this transaction could not be sent.
    pub fn handle_transport_error(&mut self, now: Instant, id: TransactionId) {
        // The request of a server transaction is not lost with one response: its client may come back over another
        // connection, so only the client side ends.
        self.step_client(now, id, |machine, _, _| match machine {
            ClientMachine::Invite(invite) => invite.handle_transport_error(),
            ClientMachine::Other(other) => other.handle_transport_error(),
        });
    }

    /// Lets all timers due at `now` fire.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.completed.handle_timeout(now);
        while let Some(id) = self.timers.pop_due(now) {
            if let Some(client) = self.clients.get_mut(&id) {
                client.armed = None;
                self.step_client(now, id, |machine, settings, _| match machine {
                    ClientMachine::Invite(invite) => invite.handle_timeout(now, settings),
                    ClientMachine::Other(other) => other.handle_timeout(now, settings),
                });
            } else if let Some(server) = self.servers.get_mut(&id) {
                server.armed = None;
                let event = self.step_server(now, id, |machine, settings, _| match machine {
                    ServerMachine::Invite(invite) => invite.handle_timeout(now, settings),
                    ServerMachine::Other(other) => other.handle_timeout(now),
                });
                match event {
                    Some(ServerEvent::TryingDue) => self.events.push_back(LayerEvent::TryingDue { id }),
                    // A proxy need not act on a missing ACK (RFC 3261 §16.7 item 9).
                    Some(ServerEvent::NoAck | ServerEvent::Ack) | None => {}
                }
            }
            self.settle_timers();
        }
    }

    /// The next timer.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        earlier(self.timers.next(), self.completed.poll_timeout().map(|at| (at, TimerReason::TimerJ)))
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<LayerEvent> {
        self.events.pop_front()
    }

    fn fresh_id(&mut self) -> TransactionId {
        self.last_id += 1;
        TransactionId(self.last_id)
    }

    fn server_key(&self, request: &Message, count_as: As) -> Option<Key> {
        self.keys.server(request, &request.top_via().ok()?, count_as).ok()
    }

    fn room_for(&self, request: &Message) -> usize {
        let method = request.method();
        let is_in_dialog = || request.to_tag().is_some();
        let ends_something = method == Method::Cancel || (method == Method::Bye && is_in_dialog());
        if ends_something { self.limit + self.limit / RESERVE_SHARE + 1 } else { self.limit }
    }

    /// Takes note that a transaction only waits for what may be repeated, from now on.
    fn note_end(&mut self, now: Instant, id: TransactionId) {
        self.ended.push_back((now, id));
        // Most are gone by their timers, some behind others that run longer: the list stays as long as the tables.
        if self.ended.len() > 2 * self.len() + 64 {
            let (clients, servers) = (&self.clients, &self.servers);
            self.ended.retain(|(_, id)| clients.contains_key(id) || servers.contains_key(id));
            self.ended.shrink_to(2 * self.ended.len());
        }
    }

    /// Forgets the oldest of the transactions that have ended, if it is old enough.
    fn make_room(&mut self, now: Instant) -> bool {
        let (clients, servers) = (&self.clients, &self.servers);
        let is_gone = |(_, id): &(Instant, TransactionId)| !clients.contains_key(id) && !servers.contains_key(id);
        while self.ended.front().is_some_and(is_gone) {
            self.ended.pop_front();
        }
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= ENDED_KEPT;
        let completed = self.completed.oldest().filter(is_old);
        match self.ended.front().copied().filter(|(since, _)| is_old(since)) {
            Some((since, id)) if completed.is_none_or(|completed| since < completed) => {
                self.ended.pop_front();
                self.remove_client(id);
                self.remove_server(id);
                true
            }
            Some(_) | None if completed.is_some() => {
                self.completed.drop_oldest();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Runs one input through a client machine, then carries out what follows; returns whom a response is news to.
    fn step_client(
        &mut self,
        now: Instant,
        id: TransactionId,
        input: impl FnOnce(&mut ClientMachine, &TimerSettings, bool) -> ClientStep,
    ) -> Option<Owner> {
        let client = self.clients.get_mut(&id)?;
        let reliable = client.destination.transport().is_reliable();
        let had_ended = client.machine.has_ended();
        let step = input(&mut client.machine, &self.settings, reliable);
        let owner = client.owner;
        if let Some(message) = step.transmit {
            self.transmits.push_back(Transmit { destination: client.destination.clone(), message, origin: Some(id) });
        }
        match step.event {
            Some(ClientEvent::Timeout) => self.events.push_back(LayerEvent::Timeout { id, owner }),
            Some(ClientEvent::TransportError) => self.events.push_back(LayerEvent::TransportError { id, owner }),
            Some(ClientEvent::Response) | None => {}
        }
        let ends = !had_ended && client.machine.has_ended();
        if client.machine.is_over() {
            self.remove_client(id);
        } else {
            if self.timers.rearm(id, &mut client.armed, client.machine.poll_timeout()) {
                self.settle_timers();
            }
            if ends {
                self.note_end(now, id);
            }
        }
        (step.event == Some(ClientEvent::Response)).then_some(owner)
    }

    /// Runs one input through a server machine, then carries out what follows.
    fn step_server(
        &mut self,
        now: Instant,
        id: TransactionId,
        input: impl FnOnce(&mut ServerMachine, &TimerSettings, bool) -> ServerStep,
    ) -> Option<ServerEvent> {
        let server = self.servers.get_mut(&id)?;
        let reliable = server.reply.transport().is_reliable();
        let had_ended = server.machine.has_ended();
        let step = input(&mut server.machine, &self.settings, reliable);
        if let Some(message) = step.transmit {
            let destination = Destination::Flow(server.reply.clone());
            self.transmits.push_back(Transmit { destination, message, origin: Some(id) });
        }
        self.settle_server(now, id, had_ended);
        step.event
    }

    /// Arms the timer of a server machine that had an input, or removes one that is over.
    fn settle_server(&mut self, now: Instant, id: TransactionId, had_ended: bool) {
        let Some(server) = self.servers.get_mut(&id) else { return };
        let ends = !had_ended && server.machine.has_ended();
        if server.machine.is_over() {
            self.remove_server(id);
        } else {
            if self.timers.rearm(id, &mut server.armed, server.machine.poll_timeout()) {
                self.settle_timers();
            }
            if ends {
                self.note_end(now, id);
            }
        }
    }

    fn remove_client(&mut self, id: TransactionId) {
        if let Some(mut client) = self.clients.remove(&id) {
            self.client_keys.remove(&client.key);
            give_back(&mut self.clients);
            give_back(&mut self.client_keys);
            if self.timers.rearm(id, &mut client.armed, None) {
                self.settle_timers();
            }
        }
    }

    fn remove_server(&mut self, id: TransactionId) {
        if let Some(mut server) = self.servers.remove(&id) {
            self.server_keys.remove(&server.key);
            if self.timers.rearm(id, &mut server.armed, None) {
                self.settle_timers();
            }
        }
    }

    /// Keeps the first of the timers one that counts.
    fn settle_timers(&mut self) {
        let (clients, servers) = (&self.clients, &self.servers);
        self.timers.settle(|id| match clients.get(&id) {
            Some(client) => client.armed,
            None => servers.get(&id).and_then(|server| server.armed),
        });
    }
}
