//! What may be done in a burst, and then at a pace: a bucket that is emptied at once and fills up slowly. Pure.

use std::time::{Duration, Instant};

/// How much at once, and the time after which there is one more.
pub(crate) type Rate = (u32, Duration);

/// What is left to one party.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    used: u32,
    /// Up to when what was used has been given back; none before the first use.
    since: Option<Instant>,
}

impl Bucket {
    /// Takes as much as is wanted, or nothing when there is not as much left.
    pub(crate) fn take(&mut self, now: Instant, wanted: usize, rate: Rate) -> bool {
        self.refill(now, rate);
        let used = u32::try_from(wanted).unwrap_or(u32::MAX).saturating_add(self.used);
        let allowed = used <= rate.0;
        if allowed {
            self.used = used;
        }
        allowed
    }

    /// Whether nothing of it is used, so that it may be forgotten.
    pub(crate) fn is_full(&mut self, now: Instant, rate: Rate) -> bool {
        self.refill(now, rate);
        self.used == 0
    }

    /// Gives back what time has brought. What is left of a period counts on, however often there is a look at it.
    fn refill(&mut self, now: Instant, (_, period): Rate) {
        let since = *self.since.get_or_insert(now);
        let refilled = now.saturating_duration_since(since).as_nanos() / period.as_nanos().max(1);
        let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
        if refilled >= self.used {
            self.used = 0;
            self.since = Some(now);
        } else {
            self.used -= refilled;
            self.since = since.checked_add(period.saturating_mul(refilled));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "virtual time has to begin somewhere; nothing reads it as a clock")]

    use super::*;

    const RATE: Rate = (10, Duration::from_millis(1));

    #[test]
    fn whoever_asks_more_often_than_it_fills_up_gets_what_it_fills_up_with() {
        let (start, mut bucket) = (Instant::now(), Bucket::default());
        assert!(bucket.take(start, 10, RATE) && !bucket.take(start, 1, RATE));
        let asked = (1..=4000).filter(|step| bucket.take(start + Duration::from_micros(250) * *step, 1, RATE));
        assert_eq!(asked.count(), 1000);
    }

    #[test]
    fn what_does_not_fit_takes_nothing_from_what_does() {
        let (start, mut bucket) = (Instant::now(), Bucket::default());
        assert!(!bucket.take(start, 11, RATE) && !bucket.take(start, usize::MAX, RATE));
        assert!(bucket.take(start, 10, RATE));
        assert!(bucket.is_full(start + RATE.1 * 10, RATE));
    }
}
