//! Reaching a node: where its record says that it is, where it was seen last, and, when it does not answer there, through its
//! super-nodes: introduced by them, and through the relays that they run.

use std::time::Duration;

use meshtone_identity::NodeId;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::driver::Command;
use super::{Error, Overlay};
use crate::link::PeerAddress;
use crate::link::relay::RelayPlace;
use crate::record::{Kind, NodeAddress, Via};

/// How long the overlay is asked where a node is before it is dialled where it was seen last.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a node may take to answer a dial before its super-nodes are asked as well: most answer sooner.
const HEAD_START: Duration = Duration::from_millis(300);

/// How long an introduction may take: links to super-nodes, what they say, and dials of both sides. With the head start no longer than a
/// dial, so that who is gone costs no more time than without.
const INTRODUCTION_TIMEOUT: Duration = Duration::from_millis(4500);

/// Relays that are tried at once to reach a node: it says that it is connected to two, and may run one itself.
const MAX_RELAYS: usize = 3;

/// Where a node is.
struct Found {
    address: PeerAddress,
    super_nodes: Vec<NodeId>,
    /// The relay that it runs itself.
    relay: Option<RelayPlace>,
}

impl Overlay {
    /// Makes sure that there is a link to this node: finds its addresses in the overlay and dials it if need be. Where it cannot be
    /// dialled, nodes that it names as its super-nodes introduce us, and it dials us.
    ///
    /// # Errors
    /// [`Error::NoAddress`], [`Error::Unreachable`], [`Error::Busy`], [`Error::Stopped`].
    pub async fn connect(&self, node: NodeId) -> Result<(), Error> {
        if self.inner.links.is_linked(node) {
            return Ok(());
        }
        let found = self.resolve(node).await?;
        let dial = self.dial(node, &found.address);
        let introduction = self.introduce(node, &found);
        let relayed = self.dial_relayed(node, &found);
        tokio::pin!(dial, introduction, relayed);
        let (mut failed, mut is_introducing, mut is_relaying) = (None, true, true);
        // Whichever way comes to a link first; why there is none, the dial knows.
        loop {
            tokio::select! {
                dialled = &mut dial, if failed.is_none() => match dialled {
                    Ok(()) => return Ok(()),
                    Err(error) => failed = Some(error),
                },
                introduced = &mut introduction, if is_introducing => {
                    if introduced { return Ok(()) }
                    is_introducing = false;
                }
                relayed = &mut relayed, if is_relaying => {
                    if relayed { return Ok(()) }
                    is_relaying = false;
                }
                else => return Err(failed.unwrap_or(Error::NoAddress(node))),
            }
        }
    }

    async fn dial(&self, node: NodeId, address: &PeerAddress) -> Result<(), Error> {
        match self.inner.links.dial(address).await {
            Ok(found) if found == node => Ok(()),
            Ok(found) => Err(Error::Unreachable { node, why: format!("node {} answers there", found.short()) }),
            Err(error) => Err(Error::unreachable(node, &error)),
        }
    }

    /// Asks the super-nodes of a node to introduce us. Whether that came to a link.
    async fn introduce(&self, node: NodeId, found: &Found) -> bool {
        // It may name us alone: whom we cannot reach ourselves we do not reach through ourselves.
        let others = found.super_nodes.iter().copied().filter(|through| *through != self.node_id());
        let others: Vec<NodeId> = others.collect();
        if others.is_empty() {
            return false;
        }
        sleep(HEAD_START).await;
        // They are dropped, and so ended, with this.
        let mut asking = JoinSet::new();
        for through in others {
            let this = self.clone();
            asking.spawn(async move { this.ask_super_node(through, node).await });
        }
        let linked = self.inner.links.link_to(found.address.link_key);
        timeout(INTRODUCTION_TIMEOUT, linked).await.is_ok_and(|linked| linked == node)
    }

    /// Dials a node through the relays that it is connected to. Whether that came to a link.
    async fn dial_relayed(&self, node: NodeId, found: &Found) -> bool {
        let (relays, ()) = tokio::join!(self.relays_of(found), sleep(HEAD_START));
        if relays.is_empty() {
            return false;
        }
        self.inner.links.dial_through(&found.address, &relays).await.is_ok_and(|linked| linked == node)
    }

    /// Returns the relays through which a node is reached, those that it names first at first.
    async fn relays_of(&self, found: &Found) -> Vec<RelayPlace> {
        let mut asking = JoinSet::new();
        for (index, through) in found.super_nodes.iter().copied().enumerate() {
            let this = self.clone();
            asking.spawn(async move { (index, this.relay_of(through).await) });
        }
        let mut relays = asking.join_all().await;
        relays.sort_by_key(|(index, _)| *index);
        let relays = relays.into_iter().filter_map(|(_, relay)| relay);
        found.relay.clone().into_iter().chain(relays).take(MAX_RELAYS).collect()
    }

    /// Returns the relay that a node runs, if it is known, or its record says so.
    async fn relay_of(&self, node: NodeId) -> Option<RelayPlace> {
        if let Ok(Some(relay)) = self.ask(|reply| Command::Relay { node, reply }).await {
            return Some(relay);
        }
        self.resolve(node).await.ok()?.relay
    }

    async fn ask_super_node(&self, through: NodeId, node: NodeId) -> Result<(), Error> {
        let place = match self.seen(through).await? {
            Some(place) => place,
            None => self.resolve(through).await?.address,
        };
        self.inner.commands.send(Command::Introduce { node, through, place }).await.map_err(|_| Error::Stopped)
    }

    /// Finds out where a node is: what the overlay says, and where it was seen last.
    async fn resolve(&self, node: NodeId) -> Result<Found, Error> {
        let name = node.to_string();
        let asked = timeout(RESOLVE_TIMEOUT, self.fetch_first(Kind::NodeAddress, &name)).await;
        let entries = match asked {
            Ok(Err(Error::Stopped)) => return Err(Error::Stopped),
            Ok(Ok(entries)) => entries,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let seen = self.seen(node).await?;
        let told = entries.iter().filter(|entry| entry.writer == node);
        let own = self.addresses();
        let told = told.filter_map(|entry| NodeAddress::decode(&entry.value).ok()).next().map(|record| {
            let via = record.relay.as_deref().map(Via::decode).unwrap_or_default();
            let relay = RelayPlace::of_record(&record, &via, &own);
            let address = PeerAddress { link_key: record.link_key, addrs: record.addresses };
            Found { address, super_nodes: via.super_nodes, relay }
        });
        match (told, seen) {
            (Some(mut found), Some(seen)) if found.address.link_key == seen.link_key => {
                found.address.merge(&seen.addrs);
                Ok(found)
            }
            (Some(found), _) => Ok(found),
            (None, Some(address)) => Ok(Found { address, super_nodes: Vec::new(), relay: None }),
            (None, None) => Err(Error::NoAddress(node)),
        }
    }

    /// Returns where a node was seen last, if it was.
    async fn seen(&self, node: NodeId) -> Result<Option<PeerAddress>, Error> {
        self.ask(|reply| Command::Seen { node, reply }).await
    }
}
