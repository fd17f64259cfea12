//! The replication of the account table between two home nodes: the pure half, messages in and messages out.
//!
//! One stream joins a pair of home nodes. The acceptor says every now and then what its table amounts to
//! ([`Message::Summary`]). If the opener's differs it goes through its own table page by page ([`Message::Page`], users
//! with their stamps); the acceptor answers each page with what it has newer ([`Message::Entries`]) and with what it
//! wants ([`Message::Want`]), and says how far that answer goes. Changes are sent at once, unasked
//! ([`Session::push`]). Everything is safe to repeat or to lose: the next summary finds what is missing.
//!
//! Who may take part is decided before a session starts; here a peer is trusted with the table, not with our memory.

use std::collections::BTreeMap;

use ciborium::Value;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::clock::Stamp;
use super::table::{Entry, Refused, Replica};
use super::wire::{WireEntry, WireStamp};
use crate::homes::Role;
use crate::store::cbor::{Octets, to_cbor};

/// The version of this protocol that the first message names.
pub const VERSION: u8 = 1;

/// The largest message, in bytes. A page or a full bundle of entries stays below it.
pub const MAX_MESSAGE_LEN: usize = 64 << 10;

/// Users in a page. 256 of the longest names with their stamps are 32 KiB.
const PAGE_USERS: usize = 256;

/// A bundle of entries is closed when it reaches this size; the largest entry (some 9 KiB) still fits the message.
const BUNDLE_LEN: usize = 48 << 10;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The first message of both ends: [`VERSION`] and domain.
    Hello(u8, String),
    /// What the sender's table amounts to.
    Summary([u8; 32]),
    /// The opener's users after `after` and up to `upto` (to the end with `None`).
    Page {
        /// The user after whom the page begins.
        after: String,
        /// The last user that the page speaks of.
        upto: Option<String>,
        /// The users and their newest stamps.
        users: Vec<(String, Stamp)>,
    },
    /// Changes.
    Entries(Vec<Entry>),
    /// The users whose entries the acceptor lacks. Ends the answer to a page; the next one goes on after `upto`.
    Want {
        /// The users.
        users: Vec<String>,
        /// How far the answer goes; `None` when that was the end of the table.
        upto: Option<String>,
    },
}

/// The peer broke the protocol; the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerMisbehaved {
    /// Bytes that are no message.
    #[error("the peer sent what is no message: {0}")]
    BadMessage(String),
    /// A message that its role may not send, or not now.
    #[error("the peer sent a message out of turn")]
    OutOfTurn,
    /// It speaks another version.
    #[error("the peer speaks version {0} of the account protocol, we speak {VERSION}")]
    OtherVersion(u8),
    /// It replicates another domain.
    #[error("the peer replicates {0}, which is not our domain")]
    OtherDomain(String),
}

/// What a message led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be sent, in this order.
    pub replies: Vec<Message>,
    /// The changes that were news: to be kept and passed on.
    pub applied: Vec<Entry>,
    /// The changes that were not taken, by user.
    pub refused: Vec<(String, Refused)>,
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    role: Role,
    domain: String,
    greeted: bool,
    /// The opener waits for the answer to the page that begins after this user.
    comparing: Option<String>,
}

impl Session {
    /// A session in which nothing was said yet.
    pub fn new(role: Role, domain: &str) -> Session {
        Session { role, domain: domain.to_owned(), greeted: false, comparing: None }
    }

    /// Our first message.
    pub fn hello(&self) -> Message {
        Message::Hello(VERSION, self.domain.clone())
    }

    /// What to say when it is time to compare tables again: at the start, every now and then, and after changes were
    /// lost on their way. The opener has nothing to say; it waits for the acceptor's next summary.
    pub fn summary(&self, replica: &Replica) -> Option<Message> {
        match self.role {
            Role::Acceptor => Some(Message::Summary(replica.table.fingerprint())),
            Role::Opener => None,
        }
    }

    /// What to say of a change.
    pub fn push(&self, entry: &Entry) -> Message {
        Message::Entries(vec![entry.clone()])
    }

    /// Takes a message from the peer.
    ///
    /// # Errors
    /// [`PeerMisbehaved`]; the session must end.
    pub fn handle(&mut self, now_ms: u64, message: Message, replica: &mut Replica) -> Result<Outcome, PeerMisbehaved> {
        let mut outcome = Outcome::default();
        match (message, self.role) {
            (Message::Hello(version, domain), _) if !self.greeted => {
                if version != VERSION {
                    return Err(PeerMisbehaved::OtherVersion(version));
                }
                if domain != self.domain {
                    return Err(PeerMisbehaved::OtherDomain(domain));
                }
                self.greeted = true;
                outcome.replies.extend(self.summary(replica));
            }
            (_, _) if !self.greeted => return Err(PeerMisbehaved::OutOfTurn),
            (Message::Summary(theirs), Role::Opener) => {
                if theirs == replica.table.fingerprint() {
                    // Shows the acceptor that we are alive, although there is nothing to say.
                    outcome.replies.push(Message::Summary(theirs));
                } else if self.comparing.is_none() {
                    self.comparing = Some(String::new());
                    outcome.replies.push(page(replica, String::new()));
                }
            }
            (Message::Summary(_), Role::Acceptor) => {}
            (Message::Page { after, upto, users }, Role::Acceptor) => {
                outcome.replies = answer(replica, &after, upto, &users);
            }
            (Message::Want { users, upto }, Role::Opener) => {
                // An answer that leads nowhere would have us go in circles.
                let after = self.comparing.take().ok_or(PeerMisbehaved::OutOfTurn)?;
                if upto.as_ref().is_some_and(|upto| *upto <= after) {
                    return Err(PeerMisbehaved::OutOfTurn);
                }
                let wanted = users.iter().take(PAGE_USERS).filter_map(|user| replica.table.entry(user));
                outcome.replies = bundles(wanted);
                if let Some(upto) = upto {
                    outcome.replies.push(page(replica, upto.clone()));
                    self.comparing = Some(upto);
                }
            }
            (Message::Entries(entries), _) => {
                for entry in entries {
                    match replica.apply(now_ms, entry.clone()) {
                        Ok(true) => outcome.applied.push(entry),
                        Ok(false) => {}
                        Err(refused) => outcome.refused.push((entry.user, refused)),
                    }
                }
            }
            (Message::Hello(..), _) | (Message::Page { .. }, Role::Opener) | (Message::Want { .. }, Role::Acceptor) => {
                return Err(PeerMisbehaved::OutOfTurn);
            }
        }
        Ok(outcome)
    }
}

fn page(replica: &Replica, after: String) -> Message {
    let mut entries = replica.table.range(&after, None);
    let users: Vec<(String, Stamp)> =
        entries.by_ref().take(PAGE_USERS).map(|entry| (entry.user.clone(), entry.stamp)).collect();
    let upto = match entries.next() {
        Some(_) => users.last().map(|(user, _)| user.clone()),
        None => None,
    };
    Message::Page { after, upto, users }
}

/// The acceptor's answer to a page: what it has newer, then what it wants. If it would have to send more than a page
/// of entries, the answer stops short and says so.
fn answer(replica: &Replica, after: &str, upto: Option<String>, users: &[(String, Stamp)]) -> Vec<Message> {
    let theirs: BTreeMap<&str, &Stamp> = users.iter().map(|(user, stamp)| (user.as_str(), stamp)).collect();
    let mut newer = replica
        .table
        .range(after, upto.as_deref())
        .filter(|ours| theirs.get(ours.user.as_str()).is_none_or(|stamp| ours.stamp > **stamp));
    let sent: Vec<&Entry> = newer.by_ref().take(PAGE_USERS).collect();
    let upto = match newer.next() {
        Some(_) => sent.last().map(|entry| entry.user.clone()),
        None => upto,
    };
    let users = theirs
        .iter()
        .filter(|(user, _)| upto.as_deref().is_none_or(|upto| **user <= upto))
        .filter(|(user, stamp)| replica.table.entry(user).is_none_or(|ours| ours.stamp < ***stamp))
        .map(|(user, _)| (*user).to_owned())
        .collect();
    let mut replies = bundles(sent.into_iter());
    replies.push(Message::Want { users, upto });
    replies
}

fn bundles<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Message> {
    let mut messages = Vec::new();
    let (mut bundle, mut len) = (Vec::new(), 0);
    for entry in entries {
        bundle.push(entry.clone());
        len += super::wire::encode(entry).len();
        if len >= BUNDLE_LEN {
            messages.push(Message::Entries(std::mem::take(&mut bundle)));
            len = 0;
        }
    }
    if !bundle.is_empty() {
        messages.push(Message::Entries(bundle));
    }
    messages
}

impl Message {
    /// Writes the message: a CBOR array of its number and its parts.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Message::Hello(version, domain) => to_cbor(&(0, version, domain)),
            Message::Summary(fingerprint) => to_cbor(&(1, Octets(*fingerprint))),
            Message::Page { after, upto, users } => {
                let users: Vec<(&str, WireStamp)> =
                    users.iter().map(|(user, stamp)| (user.as_str(), stamp.into())).collect();
                to_cbor(&(2, after, upto, users))
            }
            Message::Entries(entries) => to_cbor(&(3, entries.iter().map(WireEntry::from).collect::<Vec<_>>())),
            Message::Want { users, upto } => to_cbor(&(4, users, upto)),
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`PeerMisbehaved::BadMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Message, PeerMisbehaved> {
        let value: Value = ciborium::from_reader(bytes).map_err(bad)?;
        let kind = value.as_array().and_then(|parts| parts.first()).and_then(Value::as_integer);
        let kind = kind.and_then(|kind| u8::try_from(kind).ok());
        match kind {
            Some(0) => parts::<(u8, u8, String)>(&value).map(|(_, version, domain)| Message::Hello(version, domain)),
            Some(1) => parts::<(u8, Octets<32>)>(&value).map(|(_, fingerprint)| Message::Summary(fingerprint.0)),
            Some(2) => {
                type Page = (u8, String, Option<String>, Vec<(String, WireStamp)>);
                let (_, after, upto, users) = parts::<Page>(&value)?;
                let users = users.into_iter().map(|(user, stamp)| (user, stamp.into())).collect();
                Ok(Message::Page { after, upto, users })
            }
            Some(3) => {
                let (_, entries) = parts::<(u8, Vec<WireEntry>)>(&value)?;
                let entries = entries.into_iter().map(Entry::try_from).collect::<Result<_, _>>().map_err(bad)?;
                Ok(Message::Entries(entries))
            }
            Some(4) => {
                parts::<(u8, Vec<String>, Option<String>)>(&value).map(|(_, users, upto)| Message::Want { users, upto })
            }
            Some(_) | None => Err(PeerMisbehaved::BadMessage("unknown kind".to_owned())),
        }
    }
}

fn parts<T: DeserializeOwned + for<'de> Deserialize<'de>>(value: &Value) -> Result<T, PeerMisbehaved> {
    value.deserialized().map_err(bad)
}

fn bad(error: impl std::fmt::Display) -> PeerMisbehaved {
    PeerMisbehaved::BadMessage(error.to_string())
}

#[cfg(test)]
mod tests;
