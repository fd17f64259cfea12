//! What can go wrong with an identity or an invitation, whose side it is on, and what to do.

use meshtone_identity::ticket::TicketError;
use meshtone_identity::{Error as IdentityError, OverlayId};
use meshtone_overlay::enrol::EnrolError as AskError;

use super::invite::{MAX_NODES, MAX_OPEN_INVITES, MAX_VALIDITY};
use crate::account::password::NoRandomness;
use crate::store::StoreError;

/// What to do when a domain is full.
const TOO_MANY_NODES: &str = "a place is free again when the certificate of a node that is gone has run out; let machines keep their \
                              data folders, since each that starts without one counts anew";

/// Why a node has no identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key or certificate of ours or of the inviter.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The text given is no ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// A file of the identity is missing or damaged.
    #[error("the node's identity is incomplete: keys/{missing} is missing or damaged")]
    Incomplete {
        /// The file.
        missing: &'static str,
    },
    /// Certificates that are for other keys than those in the data folder.
    #[error("the certificates are for another node's keys")]
    NotOurs,
    /// The node serves another domain than asked for.
    #[error("this node serves {ours}, not {asked}")]
    OtherDomain {
        /// The domain of the data folder or of the ticket.
        ours: String,
        /// The domain on the command line.
        asked: String,
    },
    /// The ticket is for another overlay or domain than the node belongs to.
    #[error("this node belongs to overlay {} already, and serves {domain}", overlay.short())]
    AlreadyEnrolled {
        /// The overlay.
        overlay: OverlayId,
        /// The domain.
        domain: String,
    },
    /// The inviter could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The inviter answered what is no answer.
    #[error("the inviting node answered something unintelligible")]
    BadReply,
    /// The inviter said no.
    #[error("the inviting node refused: {0}")]
    Refused(Refusal),
}

impl EnrolError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            EnrolError::Store(error) => error.hint(),
            EnrolError::Identity(IdentityError::NotYetValid { .. } | IdentityError::Expired { .. }) => {
                "check the date of both machines; a certificate that expired is replaced by joining anew with --data and a fresh ticket"
            }
            EnrolError::Identity(IdentityError::OtherOverlay { .. }) => {
                "somebody else answers at the ticket's addresses; ask for a fresh ticket"
            }
            EnrolError::Identity(IdentityError::Domain { .. }) => "give a domain such as example.org with --domain",
            EnrolError::Identity(_) | EnrolError::Incomplete { .. } | EnrolError::NotOurs => {
                "restore the data folder from a backup, or name a fresh one with --data"
            }
            EnrolError::Randomness(_) => "the machine's random number generator fails; restart the machine",
            EnrolError::Ticket(_) => "copy the whole ticket, as `meshtone invite` printed it",
            EnrolError::OtherDomain { .. } => "leave --domain out, or name another folder with --data",
            EnrolError::AlreadyEnrolled { .. } => "leave --join out, or join with a fresh folder named by --data",
            EnrolError::Ask(_) => "is the inviting node running, and is its link port (UDP 6084) reachable from here?",
            EnrolError::BadReply => "run the same version of meshtone on both machines",
            EnrolError::Refused(refusal) => refusal.hint(),
        }
    }
}

/// Why an inviter says no. The numbers go over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request cannot be read, or its sender does not hold the key.
    #[error("it could not read the request")]
    BadRequest = 1,
    /// No such ticket.
    #[error("it does not know the ticket")]
    Unknown = 2,
    /// The ticket's time is over.
    #[error("the ticket has expired")]
    Expired = 3,
    /// Another machine has joined with the ticket.
    #[error("the ticket was used by another machine")]
    Used = 4,
    /// Its own fault.
    #[error("it cannot issue certificates right now")]
    Failed = 5,
    /// The domain has as many nodes as one may have.
    #[error("its domain has {MAX_NODES} nodes already, as many as one may have")]
    TooManyNodes = 6,
    /// Nobody comes without a ticket.
    #[error("its network takes invited nodes only")]
    NotOpen = 7,
    /// Too many came uninvited.
    #[error("too many nodes have come from this network, or in all")]
    TooManyGuests = 8,
    /// The person has as many nodes as one may have.
    #[error("the person whom the ticket is for has as many nodes as one may have")]
    TooManyOfPerson = 9,
}

impl Refusal {
    pub(super) fn from_number(number: u8) -> Option<Refusal> {
        let all = [
            Refusal::BadRequest,
            Refusal::Unknown,
            Refusal::Expired,
            Refusal::Used,
            Refusal::Failed,
            Refusal::TooManyNodes,
            Refusal::NotOpen,
            Refusal::TooManyGuests,
            Refusal::TooManyOfPerson,
        ];
        all.into_iter().find(|refusal| *refusal as u8 == number)
    }

    fn hint(self) -> &'static str {
        match self {
            Refusal::BadRequest => "run the same version of meshtone on both machines",
            Refusal::Unknown | Refusal::Expired | Refusal::Used => {
                "make a fresh ticket there with `meshtone invite --role home`; each admits one machine"
            }
            Refusal::Failed => "look at the inviting node's log",
            Refusal::TooManyNodes => TOO_MANY_NODES,
            Refusal::NotOpen => "ask who runs it for a ticket: `meshtone invite --role member` there",
            Refusal::TooManyGuests => "try again tomorrow, or ask who runs it for a ticket",
            Refusal::TooManyOfPerson => TOO_MANY_OF_PERSON,
        }
    }
}

/// What to do about a person's nodes.
const TOO_MANY_OF_PERSON: &str =
    "`meshtone node list` says which they are; revoke one that is not needed any more, or raise `nodes_per_person`";

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// Only the node that founded the overlay holds its authority.
    #[error("this node does not hold the overlay's authority")]
    NoAuthority,
    /// Nobody could dial us.
    #[error("this node knows no address under which it could be reached")]
    NoAddress,
    /// An hour or a day, not a year.
    #[error("a ticket is valid for a second at least and {} days at most", MAX_VALIDITY.as_secs() / 86_400)]
    BadValidity,
    /// Somebody makes tickets and nobody uses them.
    #[error("there are {MAX_OPEN_INVITES} open tickets already")]
    TooMany,
    /// A ticket more would admit nobody.
    #[error("this domain has {MAX_NODES} nodes already, as many as one may have")]
    TooManyNodes,
    /// The authority admits nobody uninvited.
    #[error("this overlay is not open to everybody")]
    NotOpen,
    /// No mail address.
    #[error("{0:?} is no address of a person")]
    NoPerson(String),
    /// A ticket more would admit nobody.
    #[error("{0} has as many nodes as one person may have")]
    TooManyOfPerson(String),
    /// The system gives no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The ticket could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl InviteError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            InviteError::NoAuthority => "run `meshtone invite` on the node that was started first",
            InviteError::NoAddress => "give `meshtone run` an address with --link that other machines can reach",
            InviteError::BadValidity => "for example --valid 1h or --valid 2d",
            InviteError::TooMany => "wait until some of them expire",
            InviteError::TooManyNodes => TOO_MANY_NODES,
            InviteError::NotOpen => {
                "write policy = \"open\" into [authority] in its configuration, or make a ticket of another role"
            }
            InviteError::NoPerson(_) => "for example --for alice@example.net",
            InviteError::TooManyOfPerson(_) => TOO_MANY_OF_PERSON,
            InviteError::Randomness(_) => "the machine's random number generator fails; restart the machine",
            InviteError::Store(error) => error.hint(),
        }
    }
}

/// Why a node was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Only the node that founded the overlay holds its authority.
    #[error("this node does not hold the overlay's authority")]
    NoAuthority,
    /// Nobody would be there to say it.
    #[error("this is the authority's own node")]
    Own,
    /// Every node keeps all of them.
    #[error("as many nodes are revoked as may be at a time")]
    TooMany,
    /// It could not be signed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RevokeError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            RevokeError::NoAuthority => "run it on the node that was started first",
            RevokeError::Own => "bring the authority to another machine first: `meshtone backup --authority`",
            RevokeError::TooMany => {
                "wait until the certificates of some of them have run out; `meshtone node list` says when"
            }
            RevokeError::Identity(_) => "restore the data folder from a backup",
            RevokeError::Store(error) => error.hint(),
        }
    }
}

/// Why a node's certificates were not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Only the node that founded the overlay holds its authority.
    #[error("this node does not hold the overlay's authority")]
    NoAuthority,
    /// The node: it shows the certificates of another one.
    #[error("the certificates are another node's")]
    NotTheirs,
    /// The node: the authority has taken its certificates back.
    #[error("the node was revoked")]
    Revoked,
    /// The node: half of their life is not over yet.
    #[error("they last long enough")]
    TooEarly,
    /// The node: what it shows does not verify; or they could not be written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// They could not be listed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
