//! The ways in which other nodes are looked for, and what came of each, in words. Pure.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the log says that nobody is found: it is read by people, and the first time matters most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What came of a look-up of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// It has not been answered yet.
    Asked,
    /// So many nodes are named.
    Nodes(usize),
    /// No name server answers.
    NoAnswer,
}

/// How it goes on the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Local {
    /// So many nodes of the overlay are heard.
    Heard(usize),
    /// This machine has no address in a private network.
    NoNetwork,
    /// The system does not let us.
    Failed(String),
}

/// The ways that are tried.
#[derive(Debug)]
pub(crate) struct Tried {
    remembered: usize,
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    names: BTreeMap<String, Named>,
    local: Option<Local>,
}

impl Tried {
    /// Nobody but `remembered` nodes, known from before or by a ticket.
    pub(crate) fn new(remembered: usize) -> Tried {
        Tried { remembered, standing: Mutex::default() }
    }

    /// Notes what came of a name that the configuration gives.
    pub(super) fn named(&self, name: &str, outcome: Named) {
        self.standing().names.insert(name.to_owned(), outcome);
    }

    /// Notes how it goes on the local network.
    pub(super) fn local(&self, outcome: Local) {
        self.standing().local = Some(outcome);
    }

    /// Whether the configuration names anybody, and it is known by now what comes of it.
    pub(super) fn asked_names(&self) -> bool {
        let standing = self.standing();
        !standing.names.is_empty() && !standing.names.values().any(|outcome| *outcome == Named::Asked)
    }

    /// All ways with what came of each, for people.
    pub(crate) fn sentence(&self) -> String {
        let standing = self.standing();
        let known = match self.remembered {
            0 => None,
            1 => Some("1 node known from before".to_owned()),
            many => Some(format!("{many} nodes known from before")),
        };
        let names = standing.names.iter().map(|(name, outcome)| match outcome {
            Named::Asked => format!("--peer {name} (no answer yet)"),
            Named::Nodes(0) => format!("--peer {name} (the DNS names no node there)"),
            Named::Nodes(1) => format!("--peer {name}"),
            Named::Nodes(many) => format!("--peer {name} ({many} nodes)"),
            Named::NoAnswer => format!("--peer {name} (no name server answers)"),
        });
        let local = standing.local.as_ref().map(|local| match local {
            Local::Heard(0) => "the local network (nobody is heard there)".to_owned(),
            Local::Heard(many) => format!("the local network (heard there: {many})"),
            Local::NoNetwork => "the local network (this machine is in none)".to_owned(),
            Local::Failed(why) => format!("the local network ({why})"),
        });
        let ways: Vec<String> = known.into_iter().chain(names).chain(local).collect();
        if ways.is_empty() { "nothing: no node is named or known".to_owned() } else { ways.join("; ") }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When people are to be told that nobody is found.
#[derive(Debug, Default)]
pub(super) struct Saying {
    said: Option<Instant>,
}

impl Saying {
    /// Whether it is time to say so; if so, it counts as said.
    pub(super) fn is_due(&mut self, now: Instant, searching: bool) -> bool {
        if !searching {
            self.said = None;
            return false;
        }
        let due = self.said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_EVERY);
        if due {
            self.said = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_told_of_at_once_and_then_every_minute() {
        let (start, mut saying) = (Instant::now(), Saying::default());
        let at = |second| start + Duration::from_secs(second);
        assert!(!saying.is_due(start, false));
        assert!(saying.is_due(at(1), true));
        assert!(!saying.is_due(at(59), true));
        assert!(saying.is_due(at(61), true));
        assert!(!saying.is_due(at(62), false), "somebody was found");
        assert!(saying.is_due(at(63), true), "and lost again");
    }

    #[test]
    fn the_sentence_names_every_way_and_what_came_of_it() {
        let tried = Tried::new(2);
        tried.named("mesh.example", Named::Nodes(0));
        tried.named("other.example", Named::NoAnswer);
        tried.local(Local::Heard(0));
        assert_eq!(
            tried.sentence(),
            "2 nodes known from before; --peer mesh.example (the DNS names no node there); \
             --peer other.example (no name server answers); the local network (nobody is heard there)"
        );
        assert_eq!(Tried::new(0).sentence(), "nothing: no node is named or known");
    }
}
