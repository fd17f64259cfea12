//! The lines of a trunk: how many calls it carries now, in all and for each user. A line is given back when it is dropped, which
//! is when its call ends, whatever ended it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The lines of one trunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Used>>);

#[derive(Debug, Default)]
struct Used {
    all: usize,
    by_user: HashMap<String, usize>,
}

/// A call's line.
#[derive(Debug)]
pub(crate) struct Line {
    user: Option<String>,
    lines: Lines,
}

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoLine {
    /// The trunk carries all the calls that it may.
    Busy,
    /// The user has all the calls that he may have.
    TooMany,
}

impl Lines {
    /// Takes a line for a call that this user makes, or that comes in for `None`.
    pub(crate) fn take(&self, user: Option<&str>, most: usize, most_of_user: usize) -> Result<Line, NoLine> {
        let mut used = self.used();
        let own = user.and_then(|user| used.by_user.get(user)).copied().unwrap_or(0);
        if user.is_some() && own >= most_of_user {
            return Err(NoLine::TooMany);
        }
        if used.all >= most {
            return Err(NoLine::Busy);
        }
        Ok(self.begin(&mut used, user))
    }

    /// Takes a line whatever the limits say, for an emergency.
    pub(crate) fn take_anyway(&self, user: &str) -> Line {
        self.begin(&mut self.used(), Some(user))
    }

    /// How many calls there are.
    pub(crate) fn in_use(&self) -> usize {
        self.used().all
    }

    fn begin(&self, used: &mut Used, user: Option<&str>) -> Line {
        used.all += 1;
        if let Some(user) = user {
            *used.by_user.entry(user.to_owned()).or_default() += 1;
        }
        Line { user: user.map(str::to_owned), lines: self.clone() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut used = self.lines.used();
        used.all = used.all.saturating_sub(1);
        let Some(user) = &self.user else { return };
        if let Some(own) = used.by_user.get_mut(user) {
            *own -= 1;
            if *own == 0 {
                used.by_user.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_counted_in_all_and_for_each_user_and_come_back() {
        let lines = Lines::default();
        let first = lines.take(Some("alice"), 3, 1).unwrap();
        assert_eq!(lines.take(Some("alice"), 3, 1).unwrap_err(), NoLine::TooMany);
        let _second = lines.take(Some("bob"), 3, 1).unwrap();
        let third = lines.take(None, 3, 1).unwrap();
        assert_eq!(lines.take(Some("carol"), 3, 1).unwrap_err(), NoLine::Busy);
        assert_eq!(lines.take(None, 3, 1).unwrap_err(), NoLine::Busy);
        drop(third);
        drop(first);
        assert_eq!(lines.in_use(), 1);
        lines.take(Some("alice"), 3, 1).unwrap();
        assert_eq!(lines.used().by_user.len(), 1, "nothing stays behind");
    }

    #[test]
    fn an_emergency_takes_a_line_that_is_not_there() {
        let lines = Lines::default();
        let _all = lines.take(Some("alice"), 1, 1).unwrap();
        let emergency = lines.take_anyway("alice");
        assert_eq!(lines.in_use(), 2);
        drop(emergency);
        assert_eq!(lines.in_use(), 1);
    }
}
