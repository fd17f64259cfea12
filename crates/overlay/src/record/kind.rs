//! The kinds of records (RFC 6940 §7.4.5): their data model, who may write them, and their bounds.

use std::fmt;
use std::time::Duration;

/// What a record is about. The numbers go over the wire and are never given to another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which nodes an address-of-record is registered at: one entry for each home node of its domain.
    SipRegistration,
    /// How a node is reached, written by the node itself.
    NodeAddress,
    /// The home certificates of a domain: by them readers find its home nodes.
    Certificate,
    /// Which nodes may speak for a person, said by herself: one entry for each of her certificates.
    Member,
}

/// How values of a kind are held at one resource (RFC 6940 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataModel {
    /// One value for the resource.
    Single,
    /// One value for each key: the writer's node id, for a [`Kind::Member`] the SHA-256 of the user certificate.
    Dictionary,
}

/// The rules of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindRules {
    /// How values are held.
    pub model: DataModel,
    /// Largest content of a value, in bytes.
    pub max_size: usize,
    /// Largest number of values at one resource, removals included.
    pub max_count: usize,
    /// Lifetime when the writer names none.
    pub default_lifetime: Duration,
    /// Longest lifetime accepted.
    pub max_lifetime: Duration,
}

/// Longest resource name in bytes: a user part of 64, `@`, and a domain of 253 (RFC 5321 §4.5.3.1, RFC 1035 §2.3.4), rounded up.
pub const MAX_NAME: usize = 320;

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::SipRegistration, Self::NodeAddress, Self::Certificate, Self::Member];

    /// Returns the number on the wire.
    pub const fn number(self) -> u64 {
        match self {
            Self::SipRegistration => 1,
            Self::NodeAddress => 2,
            Self::Certificate => 3,
            Self::Member => 4,
        }
    }

    /// Returns the kind with this number on the wire.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Returns the name that people see, such as `sip-registration`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SipRegistration => "sip-registration",
            Self::NodeAddress => "node-address",
            Self::Certificate => "certificate",
            Self::Member => "member",
        }
    }

    /// Returns the rules.
    pub const fn rules(self) -> KindRules {
        match self {
            // A registration says little; 16 home nodes a domain keep an answer with certificates below 64 KiB.
            Self::SipRegistration => KindRules {
                model: DataModel::Dictionary,
                max_size: 256,
                max_count: 16,
                default_lifetime: Duration::from_secs(3600),
                max_lifetime: Duration::from_secs(2 * 3600),
            },
            // Short, since addresses change; a node that went silent should not be dialled for long.
            Self::NodeAddress => KindRules {
                model: DataModel::Single,
                max_size: 1024,
                max_count: 1,
                default_lifetime: Duration::from_secs(600),
                max_lifetime: Duration::from_secs(3600),
            },
            Self::Certificate => KindRules {
                model: DataModel::Dictionary,
                max_size: 2048,
                max_count: 16,
                default_lifetime: Duration::from_secs(24 * 3600),
                max_lifetime: Duration::from_secs(7 * 24 * 3600),
            },
            // Signed on another machine than those that store it, perhaps one that is seldom on; its certificate may have been
            // renewed, or replaced after a loss, some times within that.
            Self::Member => KindRules {
                model: DataModel::Dictionary,
                max_size: 2048,
                max_count: 16,
                default_lifetime: Duration::from_secs(30 * 24 * 3600),
                max_lifetime: Duration::from_secs(31 * 24 * 3600),
            },
        }
    }
}

impl Kind {
    /// Whether values of this kind are signed within by somebody else than their writer, whose date is theirs. Any node may write
    /// such a value again, none may date it otherwise or remove it.
    pub const fn dates_itself(self) -> bool {
        matches!(self, Self::Member)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_number_and_no_other_is() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        for number in [0, 5, u64::MAX] {
            assert_eq!(Kind::from_number(number), None);
        }
    }
}
