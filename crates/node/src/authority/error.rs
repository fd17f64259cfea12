//! What can go wrong with proving an address, whose side it is on, and what to do.

use crate::text::harmless;
use meshtone_identity::{Error as IdentityError, NodeId};
use meshtone_overlay::node::Error as OverlayError;

/// Longest text that is believed of an authority of a later release.
const MAX_TEXT: usize = 200;

/// Why the authority says no. The numbers go over the wire and are never given another meaning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 1
    #[error("this overlay's authority sends no mail, so nobody can prove an address by one")]
    NoMail,
    /// 2
    #[error("this is not the code, or it was mailed for another key, or too many wrong ones were tried")]
    WrongCode,
    /// 3
    #[error("the code was right, but it is older than an hour")]
    Expired,
    /// 4
    #[error("the address has too many certificates that have not run out")]
    TooManyCertificates,
    /// 5
    #[error("the authority cannot read the request")]
    Malformed,
    /// 6
    #[error("the authority failed on its own side")]
    Failed,
    /// 7
    #[error("addresses of that domain are given by who runs its nodes, not proved by mail")]
    HomeDomain,
    /// 8
    #[error("the authority has revoked this node")]
    Revoked,
    /// 9
    #[error("these certificates cannot be renewed, or not yet")]
    NotRenewable,
    /// 10
    #[error("this overlay's authority certifies nobody new")]
    Closed,
    /// 11
    #[error("the certificate proves nothing to the authority: {0}")]
    Certificate(String),
    /// What a later release says.
    #[error("{0}")]
    Other(String),
}

impl Refusal {
    pub(super) fn number(&self) -> u8 {
        match self {
            Refusal::NoMail => 1,
            Refusal::WrongCode => 2,
            Refusal::Expired => 3,
            Refusal::TooManyCertificates => 4,
            Refusal::Malformed => 5,
            Refusal::Failed => 6,
            Refusal::HomeDomain => 7,
            Refusal::Revoked => 8,
            Refusal::NotRenewable => 9,
            Refusal::Closed => 10,
            Refusal::Certificate(_) => 11,
            Refusal::Other(_) => u8::MAX,
        }
    }

    pub(super) fn from_number(number: u8, text: &str) -> Refusal {
        match number {
            1 => Refusal::NoMail,
            2 => Refusal::WrongCode,
            3 => Refusal::Expired,
            4 => Refusal::TooManyCertificates,
            5 => Refusal::Malformed,
            6 => Refusal::Failed,
            7 => Refusal::HomeDomain,
            8 => Refusal::Revoked,
            9 => Refusal::NotRenewable,
            10 => Refusal::Closed,
            11 => Refusal::Certificate(shown(text.strip_prefix(CERTIFICATE).unwrap_or(text))),
            _ => Refusal::Other(shown(text)),
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Refusal::NoMail => {
                "ask who runs it to configure a mail server ([authority.mail], see the README), or to invite you"
            }
            Refusal::WrongCode => {
                "type it as it stands in the newest mail, on the machine that asked for it; after five wrong ones ask for another"
            }
            Refusal::Expired => "ask for another one",
            Refusal::TooManyCertificates => {
                "use the key that you have (export and import it), or wait until one of them has run out"
            }
            Refusal::Malformed => "run the same version of meshtone as the authority's node",
            Refusal::HomeDomain => "ask who runs it for an account: `meshtone user add` there",
            Refusal::Revoked | Refusal::NotRenewable => {
                "ask who runs the authority; with a fresh ticket the machine joins anew"
            }
            Refusal::Closed => "who is certified already may enrol anew; for others, ask who runs it",
            Refusal::Certificate(_) => {
                "show one that an authority issued which is listed there ([[authority.foreign]]), for this very address, with its chain; \
                 or enrol by mail"
            }
            Refusal::Failed => "try again; who runs the authority finds the reason in its log",
            Refusal::Other(_) => "a newer version of meshtone may know what to do",
        }
    }
}

/// What stands before the reason of [`Refusal::Certificate`].
const CERTIFICATE: &str = "the certificate proves nothing to the authority: ";

/// As much of a text of the authority as a person is shown.
fn shown(text: &str) -> String {
    harmless(text, MAX_TEXT)
}

/// Why an address could not be proved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Ours: no address, or a key that cannot be used.
    #[error(transparent)]
    Request(IdentityError),
    /// The overlay: it cannot be asked where the authority is.
    #[error("the overlay cannot be asked where the authority of {domain} is: {why}")]
    Overlay {
        /// The authority's domain.
        domain: String,
        /// What happened.
        why: OverlayError,
    },
    /// The authority: it is off, or sends no mail.
    #[error("no node says that it enrols people in the overlay of {domain}")]
    NoAuthority {
        /// The authority's domain.
        domain: String,
    },
    /// The network: the authority's node is not reached.
    #[error("the authority's node {} is not reached: {why}", .node.short())]
    Unreachable {
        /// The node.
        node: NodeId,
        /// What happened.
        why: String,
    },
    /// The authority's node answered what is no answer.
    #[error("node {}, which says that it enrols people, answered something unintelligible", .node.short())]
    Misbehaved {
        /// The node.
        node: NodeId,
    },
    /// The authority's node gave a certificate that proves nothing.
    #[error("node {} gave a certificate that is not the one asked for: {why}", .node.short())]
    WrongCertificate {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        why: String,
    },
    /// Ours: a certificate or a key of another authority that cannot be used.
    #[error("{0}")]
    Foreign(&'static str),
    /// The authority said no.
    #[error("{0}")]
    Refused(Refusal),
}

impl AskError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            AskError::Request(_) => "give an address such as alice@example.net",
            AskError::Overlay { .. } => "`meshtone status` says whether there are links to other nodes; then try again",
            AskError::NoAuthority { .. } => {
                "the node that founded the overlay has to run, and to have a mail server ([authority.mail] in its configuration)"
            }
            AskError::Unreachable { .. } => "try again when it runs; all but new names works without it",
            AskError::Misbehaved { .. } => "run the same version of meshtone there and here",
            AskError::WrongCertificate { .. } => {
                "check the date of this machine; if that is right, somebody answers in the authority's place: tell who runs it"
            }
            AskError::Foreign(_) => {
                "name PEM files: the certificate, followed by those between it and its root, and its key without a passphrase \
                 (`openssl pkey -in KEY -out PLAIN` takes that away)"
            }
            AskError::Refused(refusal) => refusal.hint(),
        }
    }
}
