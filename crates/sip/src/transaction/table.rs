//! A table whose newest entry lies beside it.
//!
//! Most requests are answered as they come: what is kept of one is looked at a dozen times, then taken out before anything else is
//! put in. Such an entry never gets into the table, and finding it is one comparison.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash};

use super::{CountHasher, TransactionId, give_back};

/// A table by what hashes as well as `S` needs it to.
#[derive(Debug)]
pub(crate) struct Table<K, V, S> {
    newest: Option<(K, V)>,
    others: HashMap<K, V, S>,
}

/// A table by transaction, as [`ById`](super::ById).
pub(crate) type TableById<V> = Table<TransactionId, V, BuildHasherDefault<CountHasher>>;

impl<K, V, S: Default> Default for Table<K, V, S> {
    fn default() -> Self {
        Table { newest: None, others: HashMap::default() }
    }
}

impl<K: Copy + Eq + Hash, V, S: BuildHasher> Table<K, V, S> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        usize::from(self.newest.is_some()) + self.others.len()
    }

    /// Whether there is an entry of this key.
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The entry of this key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match &self.newest {
            Some((newest, value)) if newest == key => Some(value),
            Some(_) | None => self.others.get(key),
        }
    }

    /// The entry of this key.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.newest {
            Some((newest, value)) if newest == key => Some(value),
            Some(_) | None => self.others.get_mut(key),
        }
    }

    /// Puts an entry in, in place of one of the same key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if let Some((known, value)) = self.newest.replace((key, value))
            && known != key
        {
            self.others.insert(known, value);
        }
        if !self.others.is_empty() {
            self.others.remove(&key);
        }
    }

    /// Takes an entry out; gives back the room that a burst has filled.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        if let Some((_, value)) = self.newest.take_if(|(newest, _)| newest == key) {
            return Some(value);
        }
        let value = self.others.remove(key)?;
        give_back(&mut self.others);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_a_plain_table_holds() {
        let (mut table, mut plain) = (TableById::default(), HashMap::new());
        let mut random = 7_u64;
        for step in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = TransactionId((random >> 40) % 50);
            if random >> 63 == 0 {
                table.insert(key, step);
                plain.insert(key, step);
            } else {
                assert_eq!(table.remove(&key), plain.remove(&key));
            }
            assert_eq!(table.len(), plain.len());
            for number in 0..50 {
                let key = TransactionId(number);
                assert_eq!(table.get(&key), plain.get(&key));
                assert_eq!(table.get_mut(&key), plain.get_mut(&key));
                assert_eq!(table.contains_key(&key), plain.contains_key(&key));
            }
        }
    }
}
