//! Which nodes the authority admits, and what they may do: what the configuration says of it, and the count of those who come uninvited.
//!
//! Of guests (nodes that come by an open ticket) nobody knows whose they are. So they are counted by the network that they come from: how
//! many came from there since yesterday, how many there are, and how many in all. They may only use the overlay, so that whoever has many
//! of them neither stores nor forwards anything (threats of Sybil nodes), whatever place in the overlay they have.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshtone_identity::{LinkKey, Rights, Role};
use meshtone_overlay::dht::Subnet;

use super::error::Refusal;
use crate::store::cbor::to_cbor;
use crate::store::{Setting, Store, StoreError};

/// Guests that an authority admits in all: more than all homes of a town, and a bound for what it keeps of them.
const MAX_GUESTS: usize = 4096;
/// Guests of one network: a /24, in IPv6 a /48, which is what one customer has.
const MAX_GUESTS_OF_NETWORK: usize = 32;
/// And of those as many may come within a day.
const MAX_GUESTS_A_DAY: usize = 8;
/// Guests that come within a day in all.
const MAX_ALL_A_DAY: usize = 256;
/// Answers that are given again to who asks again, because the first was lost: those of the last minutes.
const MAX_ANSWERS: usize = 32;

const DAY_S: u64 = 86_400;

/// Whom the authority admits as nodes, and what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Everybody may bring a node.
    pub(crate) is_open: bool,
    /// Nodes of members store and forward for others, too.
    pub(crate) members_serve: bool,
    /// Nodes that one person may have whom tickets name.
    pub(crate) nodes_per_person: usize,
}

impl Default for Admission {
    fn default() -> Admission {
        Admission { is_open: false, members_serve: true, nodes_per_person: NODES_PER_PERSON }
    }
}

/// Nodes of one person, unless the configuration says otherwise: at home, at work, for the journey, and one to spare.
pub const NODES_PER_PERSON: usize = 4;

impl Admission {
    /// What a node may do that comes in this role.
    pub(super) fn rights(self, role: Role) -> Rights {
        match role {
            Role::Home => Rights::Full,
            Role::Member if self.members_serve => Rights::Full,
            Role::Member | Role::Open => Rights::UseOnly,
            Role::StoreOnly => Rights::StoreOnly,
        }
    }

    /// What it may do when its certificate is renewed: never more than before.
    pub(super) fn renewed(self, role: Role, before: Rights) -> Rights {
        match before {
            Rights::Full => self.rights(role),
            Rights::StoreOnly | Rights::UseOnly => before,
        }
    }
}

/// The nodes that came uninvited.
pub(super) struct Guests {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    guests: Vec<Guest>,
    answers: VecDeque<Answered>,
}

/// (network, when it came, when its certificate ends); a network as a text, empty for one that nobody outside reaches
type Guest = (String, u64, u64);

/// Who was answered, and how.
struct Answered {
    link_key: LinkKey,
    key: [u8; 32],
    reply: Vec<u8>,
}

impl Guests {
    pub(super) fn open(store: &Store) -> Result<Guests, StoreError> {
        let guests = store.setting(Setting::AdmittedGuests)?;
        let guests = guests.and_then(|bytes| ciborium::from_reader(bytes.as_slice()).ok()).unwrap_or_default();
        Ok(Guests { state: Mutex::new(State { guests, answers: VecDeque::new() }) })
    }

    /// The answer that these keys got a moment ago.
    pub(super) fn answered(&self, link_key: LinkKey, key: &[u8; 32]) -> Option<Vec<u8>> {
        let state = self.state();
        let same = |answered: &&Answered| answered.link_key == link_key && answered.key == *key;
        state.answers.iter().find(same).map(|answered| answered.reply.clone())
    }

    /// Whether one more may come from there.
    pub(super) fn admit(&self, source: Option<IpAddr>, now: u64) -> Result<(), Refusal> {
        let mut state = self.state();
        state.guests.retain(|(_, _, end)| *end >= now);
        let network = network_of(source);
        let of_day = |guest: &&Guest| guest.1.saturating_add(DAY_S) > now;
        let of_network = || state.guests.iter().filter(|(of, ..)| !network.is_empty() && *of == network);
        let is_full = state.guests.len() >= MAX_GUESTS
            || state.guests.iter().filter(of_day).count() >= MAX_ALL_A_DAY
            || of_network().count() >= MAX_GUESTS_OF_NETWORK
            || of_network().filter(of_day).count() >= MAX_GUESTS_A_DAY;
        if is_full { Err(Refusal::TooManyGuests) } else { Ok(()) }
    }

    /// Counts a guest who was admitted. Durable with the next flush.
    pub(super) fn count(
        &self,
        store: &Store,
        source: Option<IpAddr>,
        (now, end): (u64, u64),
        (link_key, key, reply): (LinkKey, [u8; 32], Vec<u8>),
    ) {
        let mut state = self.state();
        state.guests.push((network_of(source), now, end));
        state.answers.push_back(Answered { link_key, key, reply });
        if state.answers.len() > MAX_ANSWERS {
            state.answers.pop_front();
        }
        store.put_setting(Setting::AdmittedGuests, to_cbor(&state.guests));
    }

    /// Counts a guest longer, whose certificate was to end then.
    pub(super) fn renew(&self, store: &Store, old_end: u64, end: u64) {
        let mut state = self.state();
        if let Some(counted) = state.guests.iter_mut().find(|(_, _, counted)| *counted == old_end) {
            counted.2 = end;
            store.put_setting(Setting::AdmittedGuests, to_cbor(&state.guests));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network that an address is in. Who comes over a relay is in one with all others who do.
fn network_of(source: Option<IpAddr>) -> String {
    match source.map(Subnet::of) {
        None => "relayed".to_owned(),
        Some(None) => String::new(),
        Some(Some(Subnet::V4([a, b, c]))) => format!("{a}.{b}.{c}"),
        Some(Some(Subnet::V6(bytes))) => data_encoding::HEXLOWER.encode(&bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const YEAR_S: u64 = 365 * DAY_S;

    fn guests() -> (tempfile::TempDir, Store, Guests) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let guests = Guests::open(&store).unwrap();
        (folder, store, guests)
    }

    /// Lets guests in from there until no more may come, and returns how many did.
    fn come(store: &Store, guests: &Guests, from: &str, now: u64) -> usize {
        let source: Option<IpAddr> = Some(from.parse().unwrap());
        let one = |_: &usize| {
            let may = guests.admit(source, now).is_ok();
            if may {
                guests.count(store, source, (now, now + YEAR_S), (LinkKey::from_bytes([1; 32]), [2; 32], Vec::new()));
            }
            may
        };
        (0..100_000).take_while(one).count()
    }

    #[test]
    fn a_network_brings_a_few_nodes_a_day_and_so_many_in_all() {
        let (_folder, store, guests) = guests();
        assert_eq!(come(&store, &guests, "198.51.100.7", NOW), MAX_GUESTS_A_DAY);
        assert_eq!(come(&store, &guests, "198.51.100.200", NOW), 0, "the same network");
        assert_eq!(come(&store, &guests, "203.0.113.1", NOW), MAX_GUESTS_A_DAY);
        let days = (1..10).map(|day| come(&store, &guests, "198.51.100.7", NOW + day * DAY_S)).sum::<usize>();
        assert_eq!(days, MAX_GUESTS_OF_NETWORK - MAX_GUESTS_A_DAY);
        let kept = Guests::open(&store).unwrap();
        assert_eq!(kept.admit("198.51.100.7".parse().ok(), NOW + 9 * DAY_S), Err(Refusal::TooManyGuests), "restarted");
        assert_eq!(kept.admit("198.51.100.7".parse().ok(), NOW + 2 * YEAR_S), Ok(()), "their certificates are over");
    }

    #[test]
    fn many_networks_together_bring_no_more_than_a_day_allows() {
        let (_folder, store, guests) = guests();
        let networks = (0..=255).flat_map(|a| (0..4).map(move |b| format!("198.{a}.{b}.1")));
        let came: usize = networks.map(|from| come(&store, &guests, &from, NOW)).sum();
        assert_eq!(came, MAX_ALL_A_DAY);
        assert_eq!(guests.admit(None, NOW), Err(Refusal::TooManyGuests));
    }

    #[test]
    fn whoever_lost_the_answer_gets_it_again_and_no_second_place() {
        let (_folder, store, guests) = guests();
        let (link_key, key) = (LinkKey::from_bytes([1; 32]), [2; 32]);
        guests.count(&store, None, (NOW, NOW + 1), (link_key, key, b"certificates".to_vec()));
        assert_eq!(guests.answered(link_key, &key).as_deref(), Some(&b"certificates"[..]));
        assert_eq!(guests.answered(link_key, &[3; 32]), None);
        assert_eq!(guests.answered(LinkKey::from_bytes([3; 32]), &key), None);
    }

    #[test]
    fn what_a_node_may_do_follows_from_its_role_and_never_grows() {
        let trusted = Admission { members_serve: false, ..Admission::default() };
        for (admission, of_member) in [(Admission::default(), Rights::Full), (trusted, Rights::UseOnly)] {
            assert_eq!(admission.rights(Role::Home), Rights::Full);
            assert_eq!(admission.rights(Role::Member), of_member);
            assert_eq!(admission.rights(Role::StoreOnly), Rights::StoreOnly);
            assert_eq!(admission.rights(Role::Open), Rights::UseOnly);
            assert_eq!(admission.renewed(Role::Member, Rights::Full), of_member);
            assert_eq!(admission.renewed(Role::Member, Rights::UseOnly), Rights::UseOnly);
            assert_eq!(admission.renewed(Role::Member, Rights::StoreOnly), Rights::StoreOnly);
        }
    }
}
