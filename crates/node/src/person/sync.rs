//! Keeps what belongs to people the same at all home nodes of a domain: a session with each of them ([`crate::homes`]). The account table's
//! replication ([`crate::account::mesh`]) finds and dials them.
//!
//! A change is told at once. Each minute, and at the start, both say what the accounts amount to, in parts; where a part differs, account by
//! account; of an account that differs each tells the other all that it has. Only what belongs to an account that is here is taken, and
//! nothing that is older than the account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::NodeId;
use meshtone_overlay::{Overlay, Protocol};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::belongings::{BUCKETS, Belongings, Changed, Item, Kind, since_ms};
use crate::account::Accounts;
use crate::account::clock::Stamp;
use crate::homes::{self, Dialogue, Ended, Shared, carry};
use crate::store::cbor::{Blob, Octets, to_cbor};

/// The version that both sides write, and the only one they read.
const VERSION: u8 = 1;
/// All is compared this often, though every change is told: one may get lost with a link.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Items of one message: an account with more is told in several.
const ITEMS_AT_ONCE: usize = 128;
/// Accounts of one message; of more in a part, those that are left come when these are alike.
const USERS_AT_ONCE: usize = 4096;
/// Longest message: so many items of the largest size, and so many accounts with the longest names.
const MAX_MESSAGE_LEN: usize = 2 << 20;

/// What home nodes say to each other.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// What all accounts amount to, in [`BUCKETS`] parts.
    Parts(Vec<[u8; 16]>),
    /// What the accounts of one part amount to.
    Users(usize, Vec<(String, [u8; 16])>),
    /// All of this account is wanted.
    Want(String),
    /// What belongs to an account.
    Items(String, Vec<Item>),
}

#[derive(Serialize, Deserialize)]
struct WireItem(u8, String, (u64, u32, Octets<32>), Option<Blob>);

const PARTS: u8 = 1;
const USERS: u8 = 2;
const WANT: u8 = 3;
const ITEMS: u8 = 4;

impl Message {
    fn encode(&self) -> Vec<u8> {
        match self {
            Message::Parts(parts) => {
                to_cbor(&(VERSION, PARTS, parts.iter().map(|part| Octets(*part)).collect::<Vec<_>>()))
            }
            Message::Users(part, users) => {
                let users: Vec<_> = users.iter().map(|(user, mark)| (user, Octets(*mark))).collect();
                to_cbor(&(VERSION, USERS, part, users))
            }
            Message::Want(user) => to_cbor(&(VERSION, WANT, user)),
            Message::Items(user, items) => {
                let item = |Item { kind, id, stamp, value }: &Item| {
                    let stamp = (stamp.wall_ms, stamp.counter, Octets(*stamp.node.as_bytes()));
                    WireItem(kind.number(), id.clone(), stamp, value.clone().map(Blob))
                };
                to_cbor(&(VERSION, ITEMS, user, items.iter().map(item).collect::<Vec<_>>()))
            }
        }
    }

    /// None for what is no message; kinds of items that only a later release knows are passed over.
    fn decode(bytes: &[u8]) -> Option<Message> {
        let (VERSION, kind) = read::<(u8, u8)>(bytes)? else { return None };
        match kind {
            PARTS => {
                let (_, _, parts) = read::<(u8, u8, Vec<Octets<16>>)>(bytes)?;
                (parts.len() == BUCKETS).then(|| Message::Parts(parts.into_iter().map(|Octets(part)| part).collect()))
            }
            USERS => {
                let (_, _, part, users) = read::<(u8, u8, usize, Vec<(String, Octets<16>)>)>(bytes)?;
                let users = users.into_iter().map(|(user, Octets(mark))| (user, mark)).collect();
                (part < BUCKETS).then_some(Message::Users(part, users))
            }
            WANT => read::<(u8, u8, String)>(bytes).map(|(_, _, user)| Message::Want(user)),
            ITEMS => {
                let (_, _, user, items) = read::<(u8, u8, String, Vec<WireItem>)>(bytes)?;
                let item = |WireItem(kind, id, (wall_ms, counter, Octets(node)), value)| {
                    let stamp = Stamp { wall_ms, counter, node: NodeId::from_bytes(node) };
                    Some(Item { kind: Kind::of_number(kind)?, id, stamp, value: value.map(|Blob(value)| value) })
                };
                let items = items.into_iter().take(ITEMS_AT_ONCE).filter_map(item).collect();
                Some(Message::Items(user, items))
            }
            _ => None,
        }
    }
}

/// Reads the beginning of an array: a reader of tuples does not mind what comes after their end.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}

/// What both sides' sessions go by.
#[derive(Clone)]
struct Here {
    accounts: Accounts,
    belongings: Arc<Belongings>,
}

impl Here {
    /// What is said to what another home node says.
    fn answer(&self, from: NodeId, message: Message) -> Vec<Message> {
        match message {
            Message::Parts(theirs) => {
                let ours = self.belongings.buckets();
                let differing = (0..BUCKETS).filter(|part| ours.get(*part) != theirs.get(*part));
                differing.map(|part| self.users(part)).collect()
            }
            Message::Users(part, theirs) => {
                let theirs: BTreeMap<String, [u8; 16]> = theirs.into_iter().take(USERS_AT_ONCE).collect();
                let ours: BTreeMap<String, [u8; 16]> = self.belongings.users(part).into_iter().collect();
                let mut said = Vec::new();
                for (user, mark) in &ours {
                    if theirs.get(user) != Some(mark) {
                        said.extend(self.items(user));
                    }
                }
                let wanted = theirs.into_iter().filter(|(user, mark)| ours.get(user) != Some(mark));
                said.extend(
                    wanted.filter(|(user, _)| self.since_ms(user).is_some()).map(|(user, _)| Message::Want(user)),
                );
                said
            }
            Message::Want(user) => self.items(&user),
            Message::Items(user, items) => {
                if let Some(since_ms) = self.since_ms(&user) {
                    self.belongings.merge(from, &user, since_ms, items);
                }
                Vec::new()
            }
        }
    }

    /// From when on what belongs to the account of this name is its owner's; `None` where there is none.
    fn since_ms(&self, user: &str) -> Option<u64> {
        self.accounts.find(user).filter(|account| account.user == user).map(|account| since_ms(account.created_ms))
    }

    fn users(&self, part: usize) -> Message {
        let mut users = self.belongings.users(part);
        users.truncate(USERS_AT_ONCE);
        Message::Users(part, users)
    }

    fn items(&self, user: &str) -> Vec<Message> {
        let items = self.belongings.items(user);
        items.chunks(ITEMS_AT_ONCE).map(|some| Message::Items(user.to_owned(), some.to_vec())).collect()
    }
}

/// What a peer sent cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the peer sent what is no message")]
struct NoMessage;

/// Our side of a session with a peer.
struct Exchange {
    here: Here,
    peer: NodeId,
}

impl Dialogue for Exchange {
    type Change = Changed;
    type Misbehaved = NoMessage;

    const LONGEST: usize = MAX_MESSAGE_LEN;
    const BACKLOG: usize = 8 << 20;
    // Three comparisons.
    const SILENT_AFTER: Duration = Duration::from_secs(200);

    fn opening(&self) -> Vec<u8> {
        Message::Parts(self.here.belongings.buckets()).encode()
    }

    fn compare_every(&self) -> Duration {
        COMPARE_EVERY
    }

    fn compare(&self) -> Option<Vec<u8>> {
        Some(self.opening())
    }

    fn tell(&self, change: Changed) -> Vec<u8> {
        Message::Items(change.user, vec![change.item]).encode()
    }

    fn source(change: &Changed) -> Option<NodeId> {
        change.from
    }

    fn answer(&mut self, message: &[u8]) -> Result<Vec<Vec<u8>>, NoMessage> {
        let message = Message::decode(message).ok_or(NoMessage)?;
        Ok(self.here.answer(self.peer, message).iter().map(Message::encode).collect())
    }
}

/// Looks after the sessions until the overlay stops.
pub(crate) async fn run(overlay: Overlay, accounts: Accounts, belongings: Arc<Belongings>) {
    let domain = accounts.domain().to_owned();
    let shared = Shared { protocol: Protocol::Belongings, name: "what belongs to people", domain };
    let here = Here { accounts, belongings };
    homes::keep(overlay, shared, move |peer, _, read, write| exchange(here.clone(), peer, read, write)).await;
}

async fn exchange(
    here: Here,
    peer: NodeId,
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
) -> Result<(), Ended<NoMessage>> {
    let changes = here.belongings.subscribe();
    carry(Exchange { here, peer }, peer, changes, read, write).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::account::system_random;
    use crate::clock::unix_ms;
    use crate::store::Store;

    fn item(id: &str) -> Item {
        let stamp = Stamp { wall_ms: 1, counter: 2, node: NodeId::from_bytes([3; 32]) };
        Item { kind: Kind::Contact, id: id.to_owned(), stamp, value: Some(vec![1, 2]) }
    }

    #[test]
    fn messages_read_back_and_what_is_none_is_none() {
        let removed = Item { value: None, ..item("y") };
        for message in [
            Message::Parts(vec![[7; 16]; BUCKETS]),
            Message::Users(63, vec![("alice".to_owned(), [1; 16])]),
            Message::Want("alice".to_owned()),
            Message::Items("alice".to_owned(), vec![item("x"), removed]),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        let few = Message::Parts(vec![[7; 16]; 3]).encode();
        let out = Message::Users(64, Vec::new()).encode();
        let other_version = to_cbor(&(2, WANT, "alice"));
        let other_kind = to_cbor(&(VERSION, 9, "alice"));
        for bytes in [vec![], vec![0xff; 64], vec![0x9b; 9], vec![0x81; 4096], few, out, other_version, other_kind] {
            assert_eq!(Message::decode(&bytes), None, "{bytes:x?}");
        }
        let unknown =
            to_cbor(&(VERSION, ITEMS, "alice", vec![WireItem(9, "x".to_owned(), (1, 2, Octets([3; 32])), None)]));
        assert_eq!(Message::decode(&unknown), Some(Message::Items("alice".to_owned(), Vec::new())));
    }

    fn here(number: u8) -> (TempDir, Here) {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let node = NodeId::from_bytes([number; 32]);
        let accounts = Accounts::open(store.clone(), "mesh.test", node, unix_ms, system_random()).unwrap();
        for user in ["alice", "bob"] {
            accounts.add(user, None).unwrap();
        }
        (folder, Here { accounts, belongings: Arc::new(Belongings::open(store, node, unix_ms).unwrap()) })
    }

    #[tokio::test]
    async fn two_nodes_come_to_have_the_same_and_tell_each_other_what_changes() {
        let ((_a, one), (_b, other)) = (here(1), here(2));
        for number in 0..300 {
            one.belongings.put("alice", Kind::Contact, &number.to_string(), Some(vec![1]));
        }
        other.belongings.put("bob", Kind::Contact, "x", Some(vec![2]));
        // Nobody has that account.
        one.belongings.put("mallory", Kind::Contact, "x", Some(vec![2]));
        let (left, right) = tokio::io::duplex(4096);
        let ((read, write), (other_read, other_write)) = (tokio::io::split(left), tokio::io::split(right));
        let (first, second) = (one.clone(), other.clone());
        let running = [
            tokio::spawn(async move { exchange(first, NodeId::from_bytes([2; 32]), read, write).await }),
            tokio::spawn(async move { exchange(second, NodeId::from_bytes([1; 32]), other_read, other_write).await }),
        ];
        let until = async |condition: &dyn Fn() -> bool| {
            let waiting = async {
                while !condition() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
        };
        until(&|| other.belongings.of("alice", Kind::Contact).len() == 300).await;
        until(&|| one.belongings.of("bob", Kind::Contact).len() == 1).await;
        other.belongings.put("alice", Kind::Contact, "7", None);
        until(&|| one.belongings.of("alice", Kind::Contact).len() == 299).await;
        assert!(other.belongings.items("mallory").is_empty());
        running.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_length_beyond_the_longest_message_ends_it() {
        let (_folder, here) = here(1);
        let (near, mut far) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(near);
        let session = tokio::spawn(exchange(here, NodeId::from_bytes([2; 32]), read, write));
        far.write_all(&[0xff; 4]).await.unwrap();
        assert!(matches!(session.await.unwrap(), Err(Ended::TooLong(..))));
    }
}
