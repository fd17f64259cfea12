//! How many of something there are, in all and of each who has them, within bounds.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The count. Clones are the same.
#[derive(Debug)]
pub(crate) struct Crowd<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    most: usize,
    most_of_one: usize,
    present: Mutex<HashMap<K, usize>>,
}

/// One that counts, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Hash + Eq> {
    crowd: Crowd<K>,
    whose: K,
}

impl<K> Clone for Crowd<K> {
    fn clone(&self) -> Self {
        Crowd(Arc::clone(&self.0))
    }
}

impl<K: Hash + Eq + Clone> Crowd<K> {
    /// So many in all at most, and of one.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Crowd<K> {
        Crowd(Arc::new(Inner { most, most_of_one, present: Mutex::default() }))
    }

    /// Counts one more; `None` where there are too many.
    pub(crate) fn enter(&self, whose: K) -> Option<Place<K>> {
        let mut present = self.present();
        let of_one = present.get(&whose).copied().unwrap_or_default();
        if of_one >= self.0.most_of_one || present.values().sum::<usize>() >= self.0.most {
            return None;
        }
        present.insert(whose.clone(), of_one + 1);
        drop(present);
        Some(Place { crowd: self.clone(), whose })
    }
}

impl<K> Crowd<K> {
    fn present(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.0.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut present = self.crowd.present();
        if let Some(count) = present.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_and_all_are_bounded_and_places_come_back() {
        let crowd = Crowd::new(3, 2);
        let mut kept: Vec<_> = ["a", "a", "b"].into_iter().filter_map(|whose| crowd.enter(whose)).collect();
        assert_eq!(kept.len(), 3);
        assert!(crowd.enter("c").is_none(), "three in all");
        kept.pop();
        assert!(crowd.enter("a").is_none(), "two of one");
        assert!(crowd.enter("c").is_some());
        kept.clear();
        assert!(crowd.present().is_empty(), "nothing is kept of who is gone");
    }
}
