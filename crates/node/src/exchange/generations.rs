//! A table of bounded size that forgets what is not asked for.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

/// Two generations of at most `MAX` entries each: when one is full it becomes the old one, and what is not asked for meanwhile is
/// forgotten with that.
#[derive(Debug)]
pub(crate) struct Generations<K, V, const MAX: usize, S = RandomState> {
    young: HashMap<K, V, S>,
    old: HashMap<K, V, S>,
}

impl<K, V, const MAX: usize, S: Default> Default for Generations<K, V, MAX, S> {
    fn default() -> Self {
        Generations { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<K: Eq + Hash + Copy, V, const MAX: usize, S: BuildHasher + Default> Generations<K, V, MAX, S> {
    /// The entry, this one where there was none; asking keeps it.
    pub(crate) fn entry_or(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        if self.is_full() && !self.young.contains_key(&key) {
            self.turn();
        }
        self.young.entry(key).or_insert_with(|| self.old.remove(&key).unwrap_or_else(new))
    }

    /// The entry, the default where there was none; asking keeps it.
    pub(crate) fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.entry_or(key, V::default)
    }

    /// The entry, if there is one; asking keeps it.
    pub(crate) fn known(&mut self, key: K) -> Option<&mut V>
    where
        V: Default,
    {
        let is_known = self.young.contains_key(&key) || self.old.contains_key(&key);
        is_known.then(|| self.entry(key))
    }

    /// Whether the next new entry begins another generation.
    pub(crate) fn is_full(&self) -> bool {
        self.young.len() >= MAX
    }

    /// Begins another generation, and forgets the last but one.
    pub(crate) fn turn(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    /// How many entries there are in each.
    #[cfg(test)]
    pub(crate) fn lens(&self) -> [usize; 2] {
        [self.young.len(), self.old.len()]
    }
}
