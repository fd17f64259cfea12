//! How much each node may send through a relay when there is not enough for all. Pure.
//!
//! There is one ceiling for everybody, and it moves: down while all together send more than the relay is to carry, up while there is
//! room. Whoever sends less than the ceiling is not touched, and those above it get the same: that is max-min fairness. Nobody's
//! connection is ended for what he sends, and the ceiling never falls below what a few calls need: a call is never cut off by a limit.
//!
//! The TURN server shares otherwise (`meshtone_media::turn::fair`): it decides for each packet, and knows whose it is. iroh-relay's service asks
//! nobody; it takes one rate for all of its clients, and so a moving ceiling is what can be said to it.

/// What each may send in any case, in bytes a second: three calls of G.711, with all that is around the sound (about 10 KiB each).
pub(crate) const FLOOR: u32 = 32 * 1024;

/// Above this part of the quota, in hundredths, the ceiling does not rise.
const FULL: u64 = 85;

/// The ceiling, and what it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    quota: u32,
    ceiling: u32,
}

impl Share {
    /// A relay that is to carry so many bytes a second in all.
    pub(crate) fn new(quota: u32) -> Self {
        let quota = quota.max(FLOOR);
        Self { quota, ceiling: quota }
    }

    /// What each may send now, in bytes a second.
    pub(crate) fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// Takes note of what all sent in the last second; whether the ceiling has moved.
    pub(crate) fn note(&mut self, sent: u64) -> bool {
        let (quota, ceiling) = (u64::from(self.quota), u64::from(self.ceiling));
        let next = if sent > quota {
            // Down at once by as much as it was too much; those below the ceiling send on, so it takes several steps.
            (ceiling * quota / sent).max(u64::from(FLOOR))
        } else if sent * 100 < quota * FULL {
            (ceiling + ceiling / 4).min(quota)
        } else {
            ceiling
        };
        let moved = next != ceiling;
        self.ceiling = u32::try_from(next).unwrap_or(self.quota);
        moved
    }

    /// Whether there is more to carry than there should be even though everybody is held to the least.
    pub(crate) fn is_overcommitted(&self, sent: u64) -> bool {
        self.ceiling == FLOOR && sent > u64::from(self.quota)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: u32 = 1024 * 1024;

    /// What each sends after a minute, of those who want to send so much.
    fn settled(wants: &[u32]) -> Vec<u32> {
        let mut share = Share::new(QUOTA);
        for _ in 0..60 {
            let sent = wants.iter().map(|want| u64::from(*want.min(&share.ceiling()))).sum();
            share.note(sent);
        }
        wants.iter().map(|want| *want.min(&share.ceiling())).collect()
    }

    #[test]
    fn nobody_is_held_back_while_there_is_room() {
        let wants = [500_000, 10_000, 20_000];
        assert_eq!(settled(&wants), wants);
    }

    #[test]
    fn one_who_takes_all_gets_what_the_others_leave_and_they_notice_nothing() {
        let sent = settled(&[10_000_000, 20_000, 20_000, 20_000]);
        assert_eq!(sent[1..], [20_000; 3]);
        assert!(sent[0] <= QUOTA && sent[0] > QUOTA / 2, "{sent:?}");
    }

    #[test]
    fn those_who_want_too_much_get_the_same() {
        let sent = settled(&[10_000_000, 5_000_000, 1_000_000, 30_000]);
        assert!(sent[0] == sent[1] && sent[1] == sent[2] && sent[3] == 30_000, "{sent:?}");
        assert!(sent.iter().sum::<u32>() <= QUOTA);
    }

    #[test]
    fn a_few_calls_of_everybody_go_through_however_many_there_are() {
        let sent = settled(&[10_000_000; 100]);
        assert_eq!(sent, [FLOOR; 100]);
        let mut share = Share::new(QUOTA);
        for _ in 0..60 {
            share.note(10_000_000);
        }
        assert!(share.is_overcommitted(u64::from(QUOTA) + 1) && !share.is_overcommitted(0));
    }
}
