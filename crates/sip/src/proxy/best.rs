//! Which of several failures goes upstream (RFC 3261 §16.7 items 6 and 7).

use crate::message::{Header, Message};

/// How a branch ended.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// By this response, our Via popped.
    Received(Box<Message>),
    /// Without one; this status stands for what happened.
    Local(u16),
}

impl Outcome {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Outcome::Received(response) => response.status(),
            Outcome::Local(status) => *status,
        }
    }
}

/// The best status of several failures, as it came: where 503 is the best, another server may do better (RFC 3263 §4.3).
pub(crate) fn status(outcomes: &[Outcome]) -> u16 {
    outcomes.iter().map(Outcome::status).min_by_key(|status| rank(*status)).unwrap_or(408)
}

/// Chooses the failure to forward and merges all challenges into it. Without any, 408.
///
/// A caller who cancelled hears 487 whatever the branches said, unless it was a refusal by everybody (6xx).
pub(crate) fn choose(outcomes: &[Outcome], cancelled: bool) -> Outcome {
    let best = match outcomes.iter().min_by_key(|outcome| rank(outcome.status())) {
        Some(best) => best.clone(),
        None => Outcome::Local(408),
    };
    if cancelled && best.status() < 600 {
        let terminated = outcomes.iter().find(|outcome| outcome.status() == 487);
        return terminated.cloned().unwrap_or(Outcome::Local(487));
    }
    match best {
        // 503 upstream would say that this node can serve nobody at all.
        _ if best.status() == 503 => Outcome::Local(500),
        // Only proxies can do anything about a flow that failed (RFC 5626 §11.5).
        _ if best.status() == 430 => Outcome::Local(480),
        Outcome::Received(response) if matches!(response.status(), 401 | 407) => {
            Outcome::Received(Box::new(with_all_challenges(&response, outcomes)))
        }
        Outcome::Received(_) | Outcome::Local(_) => best,
    }
}

/// Smaller is better: 6xx, then the lowest class; within a class what helps to ask again first, and what only says
/// that nobody was found last.
fn rank(status: u16) -> (u16, u16) {
    let class = if status >= 600 { 0 } else { status / 100 };
    let within = match status {
        401 | 407 => 0,
        415 | 420 | 484 => 1,
        408 | 430 | 480 | 482 | 483 => 3,
        440 | 487 | 503 => 4,
        _ => 2,
    };
    (class, within)
}

fn with_all_challenges(best: &Message, outcomes: &[Outcome]) -> Message {
    let mut editor = best.edit();
    for outcome in outcomes {
        let Outcome::Received(other) = outcome else { continue };
        if !matches!(other.status(), 401 | 407) || other.bytes() == best.bytes() {
            continue;
        }
        for header in [Header::WwwAuthenticate, Header::ProxyAuthenticate] {
            for challenge in other.fields(header) {
                editor.append(header, challenge);
            }
        }
    }
    editor.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(statuses: &[u16], cancelled: bool) -> u16 {
        let outcomes: Vec<Outcome> = statuses.iter().map(|status| Outcome::Local(*status)).collect();
        choose(&outcomes, cancelled).status()
    }

    #[test]
    fn a_refusal_by_everybody_comes_before_all_else() {
        assert_eq!(chosen(&[404, 603, 302], false), 603);
    }

    #[test]
    fn the_lowest_class_wins_and_within_it_what_helps_to_ask_again() {
        assert_eq!(chosen(&[503, 407, 501, 404], false), 407);
        assert_eq!(chosen(&[500, 486], false), 486);
        assert_eq!(chosen(&[486, 302], false), 302);
        assert_eq!(chosen(&[408, 486], false), 486);
        assert_eq!(chosen(&[480, 404], false), 404);
    }

    #[test]
    fn a_503_alone_becomes_500() {
        assert_eq!(chosen(&[503], false), 500);
        assert_eq!(chosen(&[503, 503], false), 500);
        assert_eq!(chosen(&[503, 504], false), 504);
    }

    #[test]
    fn the_node_is_told_of_503_as_such() {
        let told = |statuses: &[u16]| status(&statuses.iter().map(|one| Outcome::Local(*one)).collect::<Vec<_>>());
        assert_eq!(told(&[503]), 503);
        assert_eq!(told(&[503, 486]), 486);
        assert_eq!(told(&[]), 408);
    }

    #[test]
    fn a_failed_flow_is_nobody_there_to_the_caller() {
        assert_eq!(chosen(&[430], false), 480);
        assert_eq!(chosen(&[430, 486], false), 486);
    }

    #[test]
    fn silence_is_408() {
        assert_eq!(chosen(&[], false), 408);
    }

    #[test]
    fn a_cancelled_request_ends_with_487() {
        assert_eq!(chosen(&[486, 408], true), 487);
        assert_eq!(chosen(&[], true), 487);
        assert_eq!(chosen(&[603], true), 603);
    }
}
