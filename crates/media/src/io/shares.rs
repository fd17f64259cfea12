//! How much of a node's media single parties use: a stolen password, a stranger or a neighbour that has gone mad must not leave others
//! without ports. A party is whoever answers for a call; what one is called is its owner's business.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::MediaError;
use super::session::lock;

/// How much a party may use at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Pairs of ports and flows: a call with sound takes two, one towards each end.
    pub streams: usize,
    /// Calls that are converted between codecs.
    pub conversions: usize,
}

/// What all parties use. Only those are kept that use something, so there are no more than streams. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Shares(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    used: Mutex<HashMap<String, Used>>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Used {
    streams: usize,
    conversions: usize,
}

/// The share of one party, which a call is charged to.
#[derive(Debug, Clone)]
pub struct Share {
    shares: Shares,
    party: String,
    most: Most,
}

/// What counts until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    shares: Shares,
    party: String,
    kind: Kind,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Stream,
    Conversion,
}

impl Shares {
    /// The share of a party.
    pub fn of(&self, party: String, most: Most) -> Share {
        Share { shares: self.clone(), party, most }
    }

    /// Counts a call that a limit refused, this one or another.
    pub fn count_refusal(&self) {
        self.0.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many calls limits have refused since the start.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns how many streams all parties use together.
    pub fn streams(&self) -> usize {
        lock(&self.0.used).values().map(|used| used.streams).sum()
    }
}

impl Share {
    /// Takes one more.
    pub(super) fn take(&self, kind: Kind) -> Result<Taken, MediaError> {
        let mut all = lock(&self.shares.0.used);
        let used = all.get(&self.party).map_or(0, |used| used.of(kind));
        let (most, error) = match kind {
            Kind::Stream => (self.most.streams, MediaError::StreamsOfOne),
            Kind::Conversion => (self.most.conversions, MediaError::ConversionsOfOne),
        };
        if used >= most {
            tracing::warn!(party = %self.party, most, %error, "a further call is not carried");
            return Err(error);
        }
        *all.entry(self.party.clone()).or_default().of_mut(kind) += 1;
        Ok(Taken { shares: self.shares.clone(), party: self.party.clone(), kind })
    }
}

impl Used {
    fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Stream => self.streams,
            Kind::Conversion => self.conversions,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Stream => &mut self.streams,
            Kind::Conversion => &mut self.conversions,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut all = lock(&self.shares.0.used);
        if let Some(used) = all.get_mut(&self.party) {
            let count = used.of_mut(self.kind);
            *count = count.saturating_sub(1);
            if used.streams == 0 && used.conversions == 0 {
                all.remove(&self.party);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MOST: Most = Most { streams: 2, conversions: 1 };

    #[test]
    fn each_party_has_its_own_and_gets_it_back() {
        let shares = Shares::default();
        let (alice, bob) = (shares.of("alice".to_owned(), MOST), shares.of("bob".to_owned(), MOST));
        let first = alice.take(Kind::Stream).unwrap();
        let _second = alice.take(Kind::Stream).unwrap();
        assert_eq!(alice.take(Kind::Stream).unwrap_err().status(), 403);
        assert!(alice.take(Kind::Conversion).is_ok(), "which is counted apart");
        assert!(bob.take(Kind::Stream).is_ok());
        drop(first);
        assert!(shares.of("alice".to_owned(), MOST).take(Kind::Stream).is_ok());
    }

    #[test]
    fn nothing_stays_behind() {
        let shares = Shares::default();
        let share = shares.of("alice".to_owned(), Most { streams: 1, conversions: 0 });
        drop(share.take(Kind::Stream));
        assert!(share.take(Kind::Conversion).is_err());
        assert!(lock(&shares.0.used).is_empty());
    }
}
