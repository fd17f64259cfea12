//! Which of two links to one node stays. Pure.

use meshtone_identity::LinkKey;

/// What decides which of two links to one node stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) incarnation: u64,
    /// We dialled it, not the peer.
    pub(super) dialled: bool,
    /// The connection has ended already.
    pub(super) ended: bool,
}

/// Whether an existing link stays when another one to the same node is ready.
///
/// Both sides come to the same result: of two that were dialled at the same time the one that the side with the lower
/// link key dialled stays. But a peer that was restarted, or dials again, knows better than we that the old one is dead.
pub(super) fn existing_stays(existing: Standing, new: Standing, own_key: LinkKey, peer_key: LinkKey) -> bool {
    let preferred = existing.dialled == (own_key < peer_key);
    !existing.ended && existing.incarnation == new.incarnation && existing.dialled != new.dialled && preferred
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOW: LinkKey = LinkKey::from_bytes([1; 32]);
    const HIGH: LinkKey = LinkKey::from_bytes([2; 32]);

    fn standing(incarnation: u64, dialled: bool) -> Standing {
        Standing { incarnation, dialled, ended: false }
    }

    #[test]
    fn of_two_simultaneous_dials_both_sides_keep_the_same_one() {
        // The connection that LOW dialled and the one that HIGH dialled, as each side sees them.
        for low_first in [true, false] {
            let low_keeps_own = if low_first {
                existing_stays(standing(5, true), standing(5, false), LOW, HIGH)
            } else {
                !existing_stays(standing(5, false), standing(5, true), LOW, HIGH)
            };
            let high_keeps_others = if low_first {
                existing_stays(standing(6, false), standing(6, true), HIGH, LOW)
            } else {
                !existing_stays(standing(6, true), standing(6, false), HIGH, LOW)
            };
            assert!(low_keeps_own && high_keeps_others);
        }
    }

    #[test]
    fn a_restarted_peer_takes_the_place_of_its_former_self() {
        assert!(!existing_stays(standing(1, true), standing(2, false), LOW, HIGH));
    }

    #[test]
    fn a_peer_that_dials_again_knows_that_its_old_link_is_dead() {
        assert!(!existing_stays(standing(1, false), standing(1, false), HIGH, LOW));
    }

    #[test]
    fn a_link_that_has_ended_never_stays() {
        let ended = Standing { ended: true, ..standing(1, true) };
        assert!(!existing_stays(ended, standing(1, false), LOW, HIGH));
    }
}
