//! The one-time keys by which whoever runs the node opens its page as administrator: `meshtone run` prints one, `meshtone page` another.

use std::sync::{Mutex, PoisonError};

use super::{Hash, fresh_secret, hash_of};

/// How long a key is good for: long enough to walk over to the browser.
pub(crate) const GOOD_FOR_MS: u64 = 3_600_000;
/// Keys at a time; the oldest makes room.
const MAX_KEYS: usize = 16;

/// The keys that nobody has used yet. A restart forgets them.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Vec<(Hash, u64)>>);

impl Keys {
    /// Makes a key.
    pub(crate) fn make(&self, now_ms: u64) -> String {
        let key = fresh_secret();
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(_, until_ms)| *until_ms > now_ms);
        if keys.len() >= MAX_KEYS {
            keys.remove(0);
        }
        keys.push((hash_of(&key), now_ms.saturating_add(GOOD_FOR_MS)));
        key
    }

    /// Whether this is one; it is none any more from then on.
    pub(crate) fn redeem(&self, now_ms: u64, key: &str) -> bool {
        let hash = hash_of(key);
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|(_, until_ms)| *until_ms > now_ms);
        let place = keys.iter().position(|(known, _)| *known == hash);
        place.map(|place| keys.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_once_and_for_an_hour() {
        let keys = Keys::default();
        let (first, second) = (keys.make(0), keys.make(1));
        assert_ne!(first, second);
        assert!(!keys.redeem(2, "") && !keys.redeem(2, &first.to_ascii_uppercase()));
        assert!(keys.redeem(2, &first));
        assert!(!keys.redeem(2, &first), "it was used");
        assert!(!keys.redeem(1 + GOOD_FOR_MS, &second), "it is too old");
    }

    #[test]
    fn only_so_many_wait_at_a_time() {
        let keys = Keys::default();
        let all: Vec<String> = (0..40).map(|_| keys.make(0)).collect();
        assert_eq!(all.iter().filter(|key| keys.redeem(1, key)).count(), MAX_KEYS);
    }
}
