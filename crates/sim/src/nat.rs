//! NAT boxes before simulated nodes: who can be dialled by whom (RFC 4787 §4.1, §5; RFC 5128 §3.3).
//!
//! Only the outcome is simulated, not the packets: a dial comes to a link or not.

/// What stands between a node and the Internet, by how it maps and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Nothing: whoever knows the address reaches the node.
    Open,
    /// Endpoint-independent mapping, address-dependent filtering.
    Cone,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping: what one peer sees is of no use to another.
    Symmetric,
}

impl Nat {
    /// All classes.
    pub const ALL: [Self; 4] = [Self::Open, Self::Cone, Self::PortRestricted, Self::Symmetric];

    /// Says whether a node behind this box gets a link to one behind the other by dialling it. `punched`: somebody whom both reach tells
    /// both when to send, so that each side's packets open its own box for the other's.
    pub fn reaches(self, other: Self, punched: bool) -> bool {
        use Nat::{Cone, Open, PortRestricted, Symmetric};
        match (self, other) {
            (_, Open) => true,
            // The open side is told to dial back.
            (Open, Cone | PortRestricted | Symmetric) => punched,
            // The port that a symmetric box will send from is not known before it does; who filters by ports stays shut.
            (PortRestricted | Symmetric, Symmetric) | (Symmetric, PortRestricted) => false,
            (Cone, Cone | PortRestricted | Symmetric) | (PortRestricted, Cone | PortRestricted) | (Symmetric, Cone) => {
                punched
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_open_is_reached_by_all_and_nobody_else_is_without_help() {
        for from in Nat::ALL {
            for to in Nat::ALL {
                assert_eq!(from.reaches(to, false), to == Nat::Open, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn a_hole_is_punched_unless_a_symmetric_box_meets_one_that_filters_by_ports() {
        let shut = |one, other| one == Nat::Symmetric && matches!(other, Nat::Symmetric | Nat::PortRestricted);
        for from in Nat::ALL {
            for to in Nat::ALL {
                assert_eq!(from.reaches(to, true), !shut(from, to) && !shut(to, from), "{from:?} to {to:?}");
            }
        }
    }
}
