//! Requests: who asks is proved first (RFC 8489 §9.2), then each method has its own rules (RFC 8656 §7 to §12).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;

use super::allocation::{Allocation, DEFAULT_LIFETIME, MAX_LIFETIME, MAX_PERMISSIONS, NotBound, Relay};
use super::connect::joined;
use super::server::{MAX_RESERVATIONS, Outcome, Owner, RESERVED_FOR, Reservation, Server, finish};
use super::{CHANNELS, Client, Host, Login, Port, Reach, RelayId, source_of};
use crate::stun::{Class, Family, Message, Writer, attribute, integrity_key, method};

/// The protocol numbers of UDP and TCP in REQUESTED-TRANSPORT.
const UDP: u8 = 17;
const TCP: u8 = 6;

/// What authenticated requests may carry besides what their method knows.
const OF_CREDENTIALS: [u16; 3] = [attribute::USERNAME, attribute::REALM, attribute::NONCE];

/// Codes of errors (RFC 8489 §14.8, RFC 8656 §19, RFC 6062 §6.3).
pub(super) mod code {
    pub(in crate::turn) const BAD_REQUEST: u16 = 400;
    pub(in crate::turn) const UNAUTHENTICATED: u16 = 401;
    pub(in crate::turn) const FORBIDDEN: u16 = 403;
    pub(in crate::turn) const UNKNOWN_ATTRIBUTE: u16 = 420;
    pub(in crate::turn) const ALLOCATION_MISMATCH: u16 = 437;
    pub(in crate::turn) const STALE_NONCE: u16 = 438;
    pub(in crate::turn) const FAMILY_NOT_SUPPORTED: u16 = 440;
    pub(in crate::turn) const WRONG_CREDENTIALS: u16 = 441;
    pub(in crate::turn) const UNSUPPORTED_TRANSPORT: u16 = 442;
    pub(in crate::turn) const PEER_FAMILY_MISMATCH: u16 = 443;
    pub(in crate::turn) const CONNECTION_EXISTS: u16 = 446;
    pub(in crate::turn) const CONNECTION_FAILED: u16 = 447;
    pub(in crate::turn) const QUOTA_REACHED: u16 = 486;
    pub(in crate::turn) const INSUFFICIENT_CAPACITY: u16 = 508;
}

/// Why a request is refused.
pub(super) enum Refusal {
    Code(u16),
    Unknown(Vec<u16>),
}

impl From<u16> for Refusal {
    fn from(code: u16) -> Refusal {
        Refusal::Code(code)
    }
}

/// Who asks, once that is proved.
struct Asker {
    username: String,
    owner: String,
    key: hmac::Key,
    stamp: u64,
}

impl Server {
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        len: usize,
        host: &mut impl Host,
    ) -> Outcome {
        let asker = match self.authenticate(now, client, message, host) {
            Ok(asker) => asker,
            Err(answer) => {
                self.refused += u64::from(message.is_signed());
                return self.answer_stranger(now, client, len, finish(answer, message));
            }
        };
        if message.method == method::ALLOCATE
            && let Some(made) = self.allocations.get(&client).filter(|made| made.transaction == message.transaction)
        {
            // The answer was lost: it is the same once more.
            return Outcome::Answer(made.answer.clone());
        }
        let answered = match message.method {
            method::ALLOCATE => self.allocate(now, client, message, &asker, host),
            method::REFRESH => self.refresh(now, client, message, host),
            method::CREATE_PERMISSION => self.create_permission(now, client, message, host),
            method::CHANNEL_BIND => self.channel_bind(now, client, message, host),
            method::CONNECT => match self.connect(client, message, host) {
                Ok(outcome) => return outcome,
                Err(refusal) => Err(refusal),
            },
            method::CONNECTION_BIND => match self.connection_bind(now, client, message) {
                Ok(connection) => return Outcome::Join { connection, answer: joined(message, &asker.key) },
                Err(refusal) => Err(refusal),
            },
            _ => Err(code::BAD_REQUEST.into()),
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(refusal) => {
                self.refused += 1;
                let answer = Writer::answer(Class::Error, message);
                match refusal {
                    Refusal::Code(code) => answer.put_error(code),
                    Refusal::Unknown(kinds) => answer.put_error(code::UNKNOWN_ATTRIBUTE).put_unknown(&kinds),
                }
            }
        };
        let answer = finish(answer.sign(&asker.key), message);
        if message.method == method::ALLOCATE
            && let Some(allocation) = self.allocations.get_mut(&client)
            && allocation.transaction == message.transaction
        {
            allocation.answer.clone_from(&answer);
        }
        Outcome::Answer(answer)
    }

    /// The long-term credential mechanism. An allocation keeps the key of the password that it was made with: a call outlasts the
    /// credential of an hour that it began with, and who is no user any more has his allocations taken back.
    fn authenticate(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        host: &mut impl Host,
    ) -> Result<Asker, Writer> {
        let error = |code| Writer::answer(Class::Error, message).put_error(code);
        let nonce = self.nonces.make(self.now_s(now), &client);
        let challenge =
            |code| error(code).put(attribute::REALM, self.realm.as_bytes()).put(attribute::NONCE, nonce.as_bytes());
        if !message.is_signed() {
            return Err(challenge(code::UNAUTHENTICATED));
        }
        let (Some(username), Some(_), Some(nonce)) = (
            message.text(attribute::USERNAME),
            message.attribute(attribute::REALM),
            message.attribute(attribute::NONCE),
        ) else {
            return Err(error(code::BAD_REQUEST));
        };
        if !self.nonces.is_good(nonce, self.now_s(now), &client) {
            return Err(challenge(code::STALE_NONCE));
        }
        if let Some(allocation) = self.allocations.get(&client).or_else(|| self.named_by(message)) {
            let key = allocation.key.clone();
            if !message.is_signed_with(&key) {
                return Err(challenge(code::UNAUTHENTICATED));
            }
            if allocation.username != username {
                return Err(error(code::WRONG_CREDENTIALS).sign(&key));
            }
            let owner = self.owners.get(&allocation.owner).map(|owner| owner.name.clone()).unwrap_or_default();
            return Ok(Asker { username: username.to_owned(), owner, key, stamp: allocation.stamp });
        }
        let login = host.login(username);
        let is_known = login.is_some();
        // As much work for nobody, so that nobody learns who there is.
        let nobody = Login { owner: String::new(), key: [0; 16], stamp: 0 };
        let Login { owner, key, stamp } = login.unwrap_or(nobody);
        let key = integrity_key(&key);
        if !message.is_signed_with(&key) || !is_known {
            return Err(challenge(code::UNAUTHENTICATED));
        }
        Ok(Asker { username: username.to_owned(), owner, key, stamp })
    }

    fn allocate(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        asker: &Asker,
        host: &mut impl Host,
    ) -> Result<Writer, Refusal> {
        if self.allocations.contains_key(&client) {
            return Err(code::ALLOCATION_MISMATCH.into());
        }
        let wanted = Wanted::read(message)?;
        if wanted.is_tcp && self.limits.connections == 0 {
            return Err(code::UNSUPPORTED_TRANSPORT.into());
        }
        if wanted.is_tcp && !client.is_connection() {
            return Err(code::BAD_REQUEST.into());
        }
        let families = wanted.families(host)?;
        let source = source_of(client.remote());
        let of_source = self.sources.get(&source).copied().unwrap_or_default();
        let owner = self.owners.iter().find(|(_, known)| known.name == asker.owner).map(|(number, _)| *number);
        let of_owner = owner.and_then(|owner| self.owners.get(&owner)).map_or(0, |owner| owner.allocations);
        if of_owner >= self.limits.allocations_of_user || of_source >= self.limits.allocations_of_source {
            return Err(code::QUOTA_REACHED.into());
        }
        if self.allocations.len() >= self.limits.allocations {
            return Err(code::INSUFFICIENT_CAPACITY.into());
        }
        let until = now + wanted.lifetime;
        let mut token = None;
        let mut relays = Vec::new();
        if let Some(wanted) = wanted.reserved {
            let is_theirs = self.reservations.get(&wanted).is_some_and(|reserved| reserved.owner == asker.owner);
            let reserved = if is_theirs { self.reservations.remove(&wanted) } else { None };
            let reserved = reserved.ok_or(code::INSUFFICIENT_CAPACITY)?;
            relays.push(Relay { id: reserved.relay, address: reserved.address, until });
        } else {
            for family in families {
                let id = RelayId(self.next_number());
                let next = RelayId(self.next_number());
                let port = match wanted.even {
                    None => Port::Any,
                    Some(false) => Port::Even,
                    Some(true) if self.reservations.len() >= MAX_RESERVATIONS => {
                        return Err(code::INSUFFICIENT_CAPACITY.into());
                    }
                    Some(true) => Port::EvenWithNext(next),
                };
                let opened = if wanted.is_tcp { host.listen(id, family) } else { host.open(id, family, port) };
                let Some(address) = opened else { continue };
                relays.push(Relay { id, address, until });
                if port == Port::EvenWithNext(next) {
                    let mut fresh = [0; 8];
                    host.fill(&mut fresh);
                    let address = SocketAddr::new(address.ip(), address.port().saturating_add(1));
                    let (owner, until) = (asker.owner.clone(), now + RESERVED_FOR);
                    self.reservations.insert(fresh, Reservation { relay: next, address, owner, until });
                    token = Some(fresh);
                }
            }
        }
        if relays.is_empty() {
            return Err(code::INSUFFICIENT_CAPACITY.into());
        }
        let owner = owner.unwrap_or_else(|| {
            let number = self.next_number();
            self.owners.insert(number, Owner { name: asker.owner.clone(), allocations: 0 });
            number
        });
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.allocations += 1;
        }
        *self.sources.entry(source).or_default() += 1;
        for relay in &relays {
            self.relays.insert(relay.id, client);
        }
        let allocation = Allocation {
            username: asker.username.clone(),
            owner,
            stamp: asker.stamp,
            key: asker.key.clone(),
            transaction: message.transaction,
            answer: Vec::new(),
            is_tcp: wanted.is_tcp,
            relays,
            permissions: Vec::new(),
            channels: Vec::new(),
        };
        self.allocations.insert(client, allocation);
        let answer = self.allocated(now, client, message)?;
        let answer = match token {
            Some(token) => answer.put(attribute::RESERVATION_TOKEN, &token),
            None => answer,
        };
        let has_both = self.allocations.get(&client).is_some_and(|allocation| allocation.relays.len() == 2);
        // Wanted and not had: said beside what was (RFC 8656 §7.2).
        Ok(if wanted.additional && !has_both {
            answer.put(attribute::ADDRESS_ERROR_CODE, &[Family::V6.number(), 0, 4, 40])
        } else {
            answer
        })
    }

    /// What an Allocate is answered with.
    fn allocated(&self, now: Instant, client: Client, message: &Message<'_>) -> Result<Writer, Refusal> {
        let allocation = self.allocations.get(&client).ok_or(code::ALLOCATION_MISMATCH)?;
        let mut answer = Writer::answer(Class::Success, message);
        for relay in &allocation.relays {
            answer = answer.put_address(attribute::XOR_RELAYED_ADDRESS, relay.address);
        }
        let lasts = allocation.relays.iter().map(|relay| relay.until.saturating_duration_since(now)).max();
        let lasts = lasts.map_or(0, |lasts| u32::try_from(lasts.as_secs()).unwrap_or_default());
        Ok(answer.put_number(attribute::LIFETIME, lasts).put_address(attribute::XOR_MAPPED_ADDRESS, client.remote()))
    }

    fn refresh(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        host: &mut impl Host,
    ) -> Result<Writer, Refusal> {
        check_known(message, &[attribute::LIFETIME, attribute::REQUESTED_ADDRESS_FAMILY])?;
        let lifetime = match message.number(attribute::LIFETIME) {
            Some(0) => Duration::ZERO,
            _ => lifetime(message)?,
        };
        let family = requested_family(message, attribute::REQUESTED_ADDRESS_FAMILY)?;
        let allocation = self.allocations.get_mut(&client).ok_or(code::ALLOCATION_MISMATCH)?;
        let is_meant = |relay: &Relay| family.is_none_or(|family| Family::of(relay.address) == family);
        if !allocation.relays.iter().any(is_meant) {
            return Err(code::PEER_FAMILY_MISMATCH.into());
        }
        if lifetime.is_zero() {
            let (gone, left) = allocation.relays.iter().partition::<Vec<_>, _>(|relay| is_meant(relay));
            if left.is_empty() {
                self.remove(client, host);
            } else {
                allocation.relays = left;
                for relay in gone {
                    self.relays.remove(&relay.id);
                    host.close(relay.id);
                }
            }
        } else {
            for relay in allocation.relays.iter_mut().filter(|relay| is_meant(relay)) {
                relay.until = now + lifetime;
            }
        }
        let lasts = u32::try_from(lifetime.as_secs()).unwrap_or_default();
        Ok(Writer::answer(Class::Success, message).put_number(attribute::LIFETIME, lasts))
    }

    fn create_permission(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        host: &impl Host,
    ) -> Result<Writer, Refusal> {
        check_known(message, &[attribute::XOR_PEER_ADDRESS])?;
        let allocation = self.allocations.get_mut(&client).ok_or(code::ALLOCATION_MISMATCH)?;
        let mut peers: Vec<IpAddr> = Vec::new();
        for (_, value) in message.attributes().filter(|(kind, _)| *kind == attribute::XOR_PEER_ADDRESS) {
            let peer = message.address(value).ok_or(code::BAD_REQUEST)?;
            check_peer(allocation, peer, host)?;
            if !peers.contains(&peer.ip()) {
                peers.push(peer.ip());
            }
        }
        if peers.is_empty() {
            return Err(code::BAD_REQUEST.into());
        }
        if peers.len() > MAX_PERMISSIONS || !allocation.permit(now, &peers) {
            return Err(code::INSUFFICIENT_CAPACITY.into());
        }
        Ok(Writer::answer(Class::Success, message))
    }

    fn channel_bind(
        &mut self,
        now: Instant,
        client: Client,
        message: &Message<'_>,
        host: &impl Host,
    ) -> Result<Writer, Refusal> {
        check_known(message, &[attribute::XOR_PEER_ADDRESS, attribute::CHANNEL_NUMBER])?;
        let allocation = self.allocations.get_mut(&client).ok_or(code::ALLOCATION_MISMATCH)?;
        let peer = message.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| message.address(value));
        let number = message.number(attribute::CHANNEL_NUMBER).and_then(|number| u16::try_from(number >> 16).ok());
        let (Some(peer), Some(number)) = (peer, number.filter(|number| CHANNELS.contains(number))) else {
            return Err(code::BAD_REQUEST.into());
        };
        if allocation.is_tcp {
            return Err(code::BAD_REQUEST.into());
        }
        let reach = check_peer(allocation, peer, host)?;
        match allocation.bind(now, number, peer, reach == Reach::WhileOpen) {
            Ok(()) => Ok(Writer::answer(Class::Success, message)),
            Err(NotBound::Otherwise) => Err(code::BAD_REQUEST.into()),
            Err(NotBound::TooMany) => Err(code::INSUFFICIENT_CAPACITY.into()),
        }
    }
}

/// What an Allocate asks for.
struct Wanted {
    /// For connections with peers (RFC 6062).
    is_tcp: bool,
    lifetime: Duration,
    family: Option<Family>,
    additional: bool,
    /// EVEN-PORT, and whether the next one is to be reserved.
    even: Option<bool>,
    reserved: Option<[u8; 8]>,
}

impl Wanted {
    fn read(message: &Message<'_>) -> Result<Wanted, Refusal> {
        let is_tcp = matches!(message.attribute(attribute::REQUESTED_TRANSPORT), Some([TCP, _, _, _]));
        let of_datagrams = [attribute::DONT_FRAGMENT, attribute::EVEN_PORT, attribute::RESERVATION_TOKEN];
        if is_tcp && of_datagrams.into_iter().any(|kind| message.attribute(kind).is_some()) {
            return Err(code::BAD_REQUEST.into());
        }
        check_known(
            message,
            &[
                attribute::REQUESTED_TRANSPORT,
                attribute::LIFETIME,
                attribute::REQUESTED_ADDRESS_FAMILY,
                attribute::EVEN_PORT,
                attribute::RESERVATION_TOKEN,
            ],
        )?;
        match message.attribute(attribute::REQUESTED_TRANSPORT) {
            Some([UDP | TCP, _, _, _]) => {}
            Some([_, _, _, _]) => return Err(code::UNSUPPORTED_TRANSPORT.into()),
            Some(_) | None => return Err(code::BAD_REQUEST.into()),
        }
        let even = match message.attribute(attribute::EVEN_PORT) {
            None => None,
            Some([bits, ..]) => Some(bits & 0x80 != 0),
            Some([]) => return Err(code::BAD_REQUEST.into()),
        };
        let reserved = message.attribute(attribute::RESERVATION_TOKEN);
        let reserved = reserved.map(|token| token.try_into().map_err(|_| code::BAD_REQUEST)).transpose()?;
        let family = requested_family(message, attribute::REQUESTED_ADDRESS_FAMILY)?;
        let additional = match requested_family(message, attribute::ADDITIONAL_ADDRESS_FAMILY)?
            .or(requested_family(message, attribute::DRAFT_ADDITIONAL_ADDRESS_FAMILY)?)
        {
            None => false,
            Some(Family::V6) => true,
            Some(Family::V4) => return Err(code::BAD_REQUEST.into()),
        };
        // What excludes each other (RFC 8656 §7.2).
        if reserved.is_some() && (even.is_some() || family.is_some() || additional)
            || additional && (family.is_some() || even == Some(true))
        {
            return Err(code::BAD_REQUEST.into());
        }
        Ok(Wanted { is_tcp, lifetime: lifetime(message)?, family, additional, even, reserved })
    }

    /// The families to open; one that was asked for in addition may be missing.
    fn families(&self, host: &impl Host) -> Result<Vec<Family>, Refusal> {
        let first = self.family.unwrap_or(Family::V4);
        if self.reserved.is_none() && !host.has_family(first) {
            return Err(code::FAMILY_NOT_SUPPORTED.into());
        }
        let second = (self.additional && host.has_family(Family::V6)).then_some(Family::V6);
        Ok([first].into_iter().chain(second).collect())
    }
}

/// How long is asked for, within what is granted.
fn lifetime(message: &Message<'_>) -> Result<Duration, Refusal> {
    match message.attribute(attribute::LIFETIME) {
        None => Ok(DEFAULT_LIFETIME),
        Some(value) => {
            let seconds = u32::from_be_bytes(value.try_into().map_err(|_| code::BAD_REQUEST)?);
            Ok(Duration::from_secs(seconds.into()).clamp(DEFAULT_LIFETIME, MAX_LIFETIME))
        }
    }
}

fn requested_family(message: &Message<'_>, kind: u16) -> Result<Option<Family>, Refusal> {
    match message.attribute(kind) {
        None => Ok(None),
        Some([number, _, _, _]) => Ok(Some(Family::numbered(*number).ok_or(code::FAMILY_NOT_SUPPORTED)?)),
        Some(_) => Err(code::BAD_REQUEST.into()),
    }
}

pub(super) fn check_known(message: &Message<'_>, known: &[u16]) -> Result<(), Refusal> {
    let unknown: Vec<u16> = message.unknown(known).into_iter().filter(|kind| !OF_CREDENTIALS.contains(kind)).collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::Unknown(unknown)) }
}

/// Whether a client may have this peer.
fn check_peer(allocation: &Allocation, peer: SocketAddr, host: &impl Host) -> Result<Reach, Refusal> {
    // The address decides first: one that is never to be reached is refused as such, whatever its family.
    let reach = if allocation.is_tcp { host.reach_by_connection(peer) } else { host.reach(peer) };
    match reach {
        Reach::Never => Err(code::FORBIDDEN.into()),
        reach @ (Reach::Always | Reach::WhileOpen) => match allocation.relay(Family::of(peer)) {
            Some(_) => Ok(reach),
            None => Err(code::PEER_FAMILY_MISMATCH.into()),
        },
    }
}
