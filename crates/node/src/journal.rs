//! The last lines of the log, in memory, for whoever runs the node and looks at its page. What the log has is pushed by the program; a line says
//! no more here than there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::clock::unix_ms;
use crate::text::is_harmful;

/// Lines kept, at most some 4 KB each.
const MAX_LINES: usize = 2000;
/// Longest text of a line, and of each of its fields, in characters.
const MAX_TEXT: usize = 500;
/// Fields of a line.
const MAX_FIELDS: usize = 16;
/// Lines that a slow listener may lag behind.
const LINES_KEPT: usize = 256;

/// How much a line matters; the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Somebody must act.
    Warn,
    /// A user would notice.
    Info,
    /// A decision.
    Debug,
    /// A packet.
    Trace,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Line {
    /// Grows by one each.
    pub id: u64,
    /// When, in unix milliseconds.
    pub at_ms: u64,
    /// How much it matters.
    pub level: Level,
    /// Which part of the program says it.
    pub target: String,
    /// What.
    pub message: String,
    /// The values that belong to it.
    pub fields: BTreeMap<String, String>,
}

/// Which lines are meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// This one and worse.
    pub(crate) level: Option<Level>,
    /// Those that name this Call-ID.
    pub(crate) call: Option<String>,
    /// Those that have this text somewhere, in any case.
    pub(crate) text: Option<String>,
    /// Those before this one.
    pub(crate) before: Option<u64>,
}

/// The last lines. Clones are the same.
#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    lines: Mutex<(u64, VecDeque<Arc<Line>>)>,
    news: broadcast::Sender<Arc<Line>>,
}

impl Default for Journal {
    fn default() -> Journal {
        Journal(Arc::new(Inner { lines: Mutex::default(), news: broadcast::channel(LINES_KEPT).0 }))
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Journal").finish_non_exhaustive()
    }
}

impl Journal {
    /// Keeps a line; what is too long of it is cut off, and what would do something where it is shown is left out.
    pub fn push(&self, level: Level, target: &str, message: &str, fields: Vec<(&str, String)>) {
        let fields = fields.into_iter().take(MAX_FIELDS).map(|(name, value)| (name.to_owned(), shown(&value)));
        let (target, message, fields) = (shown(target), shown(message), fields.collect());
        let mut lines = self.lines();
        let (last, kept) = &mut *lines;
        *last += 1;
        let line = Arc::new(Line { id: *last, at_ms: unix_ms(), level, target, message, fields });
        if kept.len() >= MAX_LINES {
            kept.pop_front();
        }
        kept.push_back(line.clone());
        drop(lines);
        // Nobody listens, mostly.
        let _ = self.0.news.send(line);
    }

    /// The newest lines that are meant, newest first.
    pub(crate) fn find(&self, wanted: &Wanted, limit: usize) -> Vec<Arc<Line>> {
        let lines = self.lines();
        lines.1.iter().rev().filter(|line| wanted.means(line)).take(limit).cloned().collect()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Line>> {
        self.0.news.subscribe()
    }

    fn lines(&self) -> MutexGuard<'_, (u64, VecDeque<Arc<Line>>)> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn means(&self, line: &Line) -> bool {
        let has = |text: &str| {
            let text = text.to_lowercase();
            let is_in = |other: &str| other.to_lowercase().contains(&text);
            is_in(&line.message) || is_in(&line.target) || line.fields.values().any(|value| is_in(value))
        };
        self.before.is_none_or(|before| line.id < before)
            && self.level.is_none_or(|level| line.level <= level)
            && self.call.as_ref().is_none_or(|call| line.fields.values().any(|value| value == call))
            && self.text.as_deref().is_none_or(has)
    }
}

fn shown(text: &str) -> String {
    let harmless = text.chars().map(|character| match character {
        '\n' => ' ',
        other if is_harmful(other) => '\u{fffd}',
        other => other,
    });
    harmless.take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(journal: &Journal, wanted: &Wanted) -> Vec<u64> {
        journal.find(wanted, 100).iter().map(|line| line.id).collect()
    }

    #[test]
    fn lines_are_found_by_what_they_say_and_how_much_they_matter() {
        let journal = Journal::default();
        journal.push(Level::Info, "meshtone", "a call begins", vec![("call_id", "one".to_owned())]);
        journal.push(Level::Warn, "meshtone", "A Call is refused", vec![("call_id", "two".to_owned())]);
        journal.push(Level::Error, "store", "the disk is full", Vec::new());
        let text = |text: &str| Wanted { text: Some(text.to_owned()), ..Wanted::default() };
        assert_eq!(ids(&journal, &Wanted::default()), [3, 2, 1]);
        assert_eq!(ids(&journal, &text("a call")), [2, 1]);
        assert_eq!(ids(&journal, &Wanted { level: Some(Level::Warn), ..text("call") }), [2]);
        assert_eq!(ids(&journal, &Wanted { call: Some("one".to_owned()), ..Wanted::default() }), [1]);
        assert_eq!(ids(&journal, &Wanted { before: Some(3), ..Wanted::default() }), [2, 1]);
    }

    #[test]
    fn lines_are_few_short_and_harmless() {
        let journal = Journal::default();
        for _ in 0..MAX_LINES + 5 {
            let fields = (0..40).map(|_| ("x", "y".repeat(5000))).collect();
            journal.push(Level::Info, "meshtone", "\u{1b}[2Jfirst\nsecond", fields);
        }
        let lines = journal.find(&Wanted::default(), 1_000_000);
        assert_eq!((lines.len(), lines.last().map(|line| line.id)), (MAX_LINES, Some(6)));
        assert!(lines.iter().all(|line| line.message == "\u{fffd}[2Jfirst second"));
        assert!(lines.iter().all(|line| line.fields.values().all(|value| value.len() == MAX_TEXT)));
    }
}
