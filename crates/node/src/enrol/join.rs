//! The joining side: shows the ticket, checks what comes back, and only then keeps it.

use meshtone_identity::{AuthorityCertificate, EnrolRequest, HomeCertificate, NodeCertificate, Role, Ticket, domain};
use meshtone_overlay::{PeerAddress, enrol};

use super::wire::{Reply, Request, decode_reply};
use super::{Certificates, EnrolError, Keys, Membership};
use crate::account::Random;
use crate::store::Store;

pub(super) async fn join(
    store: &Store,
    ticket: &Ticket,
    now: fn() -> u64,
    random: &dyn Random,
) -> Result<Membership, EnrolError> {
    let keys = Keys::make(store, random)?;
    let inviter = PeerAddress { link_key: ticket.inviter, addrs: ticket.addresses.clone() };
    let reply =
        enrol::ask(*keys.link_secret, ticket.overlay, inviter.clone(), ticket.relay, &request(&keys, ticket)?).await?;
    accept(store, keys, ticket, inviter, &reply, now)
}

pub(super) fn request(keys: &Keys, ticket: &Ticket) -> Result<Vec<u8>, EnrolError> {
    let certification = EnrolRequest::encode(&*keys.signer, keys.link_key()?)?;
    Ok(Request { token: ticket.token, certification }.encode())
}

/// The domain that a node with this certificate serves when it comes by a ticket of this role from a node of `inviting`.
pub(super) fn domain_for(role: Role, inviting: &str, node: &NodeCertificate) -> String {
    match role {
        Role::Home => inviting.to_owned(),
        Role::Member | Role::StoreOnly | Role::Open => domain::of_member(&node.node_id()),
    }
}

/// Believes nothing but what the ticket's fingerprint vouches for.
pub(super) fn accept(
    store: &Store,
    keys: Keys,
    ticket: &Ticket,
    inviter: PeerAddress,
    reply: &[u8],
    now: fn() -> u64,
) -> Result<Membership, EnrolError> {
    let reply = decode_reply(reply).ok_or(EnrolError::BadReply)?;
    let Reply { authority, node, home } = reply.map_err(EnrolError::Refused)?;
    let authority = AuthorityCertificate::verify(&authority, &ticket.overlay, now())?;
    let node = NodeCertificate::verify(&node, &authority, now())?;
    let home = HomeCertificate::verify(&home, &authority, now())?;
    let promised = domain_for(ticket.role, &ticket.domain, &node);
    if home.domain() != promised {
        return Err(EnrolError::OtherDomain { ours: home.domain().to_owned(), asked: promised });
    }
    let relays = ticket.relay.map(|port| (inviter.link_key, port)).into_iter().collect();
    keys.keep(store, Certificates { authority, node, home }, None, now, (&[inviter], &relays), &ticket.domain)
}
