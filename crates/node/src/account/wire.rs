//! How an account entry is written, on disk and between home nodes: deterministic CBOR (RFC 8949 §4.2) made of arrays,
//! in which equal entries have equal bytes.

use meshtone_identity::NodeId;
use meshtone_sip::digest::Algorithm;
use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use super::ha1::Ha1Set;
use super::name;
use super::table::{Account, Entry};
use crate::store::cbor::{Octets, to_cbor};

/// What was read is no entry that this program, or a peer that follows the rules, would write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an account entry: {0}")]
pub struct BadEntry(pub(super) String);

/// (wall_ms, counter, node)
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct WireStamp(u64, u32, Octets<32>);

/// (number, md5, sha256, sha512-256, created_ms, settings sorted by name); the hashes in hexadecimal, as digests use them
#[derive(Debug, Clone, Serialize, Deserialize)]
struct WireAccount(Option<String>, String, String, String, u64, Vec<(String, String)>);

/// (user, stamp, account or null)
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WireEntry(String, WireStamp, Option<WireAccount>);

/// Writes an entry.
pub(crate) fn encode(entry: &Entry) -> Vec<u8> {
    to_cbor(&WireEntry::from(entry))
}

/// Reads an entry, and refuses one that breaks the table's bounds.
pub(crate) fn decode(bytes: &[u8]) -> Result<Entry, BadEntry> {
    let wire: WireEntry = ciborium::from_reader(bytes).map_err(|error| BadEntry(error.to_string()))?;
    Entry::try_from(wire)
}

/// Writes what tells one change from another.
pub(super) fn encode_key(user: &str, stamp: &Stamp) -> Vec<u8> {
    to_cbor(&(user, WireStamp::from(stamp)))
}

impl From<&Stamp> for WireStamp {
    fn from(stamp: &Stamp) -> WireStamp {
        WireStamp(stamp.wall_ms, stamp.counter, Octets(*stamp.node.as_bytes()))
    }
}

impl From<WireStamp> for Stamp {
    fn from(WireStamp(wall_ms, counter, node): WireStamp) -> Stamp {
        Stamp { wall_ms, counter, node: NodeId::from_bytes(node.0) }
    }
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> WireEntry {
        let account = entry.account.as_ref().map(|account| {
            let settings = account.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            let hex = |algorithm| account.ha1.of(algorithm).as_str().to_owned();
            WireAccount(
                account.number.clone(),
                hex(Algorithm::Md5),
                hex(Algorithm::Sha256),
                hex(Algorithm::Sha512_256),
                account.created_ms,
                settings,
            )
        });
        WireEntry(entry.user.clone(), WireStamp::from(&entry.stamp), account)
    }
}

impl TryFrom<WireEntry> for Entry {
    type Error = BadEntry;

    fn try_from(WireEntry(user, stamp, account): WireEntry) -> Result<Entry, BadEntry> {
        if !name::is_account(&user) {
            return Err(BadEntry(format!("{user:?} is no user name")));
        }
        let account = match account {
            None => None,
            Some(WireAccount(number, md5, sha256, sha512_256, created_ms, settings)) => {
                let ha1 = Ha1Set::from_hex(&md5, &sha256, &sha512_256)
                    .ok_or_else(|| BadEntry(format!("what is kept of the password of {user} is no hash")))?;
                let account =
                    Account { user: user.clone(), number, ha1, created_ms, settings: settings.into_iter().collect() };
                if !account.is_sound() {
                    return Err(BadEntry(format!("the account of {user} is out of bounds")));
                }
                Some(account)
            }
        };
        Ok(Entry { user, stamp: stamp.into(), account })
    }
}
