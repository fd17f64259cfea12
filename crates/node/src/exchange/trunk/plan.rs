//! Which trunks may carry a call, in which order, and as which number. Pure.

use super::settings::Trunk;

/// A trunk by its place in the configuration, and the number to call there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) trunk: usize,
    pub(super) number: String,
}

/// Why no trunk carries a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoTrunk {
    /// No rule fits the number.
    Unknown,
    /// The user may use none that it fits.
    NotAllowed,
    /// Numbers that begin so are refused.
    Refused(String),
}

/// The trunks for a number that this user dials.
pub(super) fn plan<'a>(
    trunks: impl Iterator<Item = &'a Trunk>,
    user: &str,
    dialled: &str,
) -> Result<Vec<Candidate>, NoTrunk> {
    let mut candidates = Vec::new();
    let mut why = NoTrunk::Unknown;
    for (index, trunk) in trunks.enumerate() {
        let Some(number) = trunk.called(dialled) else { continue };
        if !trunk.allows(user) {
            why = NoTrunk::NotAllowed;
        } else if let Some(prefix) = trunk.refusal(dialled, &number) {
            why = NoTrunk::Refused(prefix.to_owned());
        } else {
            candidates.push(Candidate { trunk: index, number });
        }
    }
    if candidates.is_empty() { Err(why) } else { Ok(candidates) }
}

/// The trunk and number for an emergency: no rule, refusal or permission stands in its way.
pub(super) fn emergency(trunk: usize, settings: &Trunk, number: &str) -> Candidate {
    Candidate { trunk, number: settings.called(number).unwrap_or_else(|| number.to_owned()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::digits::DigitRule;
    use super::super::settings::Allow;
    use super::*;

    fn trunk(prefix: &str) -> Trunk {
        let mut trunk = Trunk::new("t", "sip:t.example", "t");
        trunk.outbound = vec![DigitRule::new(prefix, 0, "").unwrap()];
        trunk
    }

    fn order(trunks: &[Trunk], user: &str, dialled: &str) -> Result<Vec<usize>, NoTrunk> {
        plan(trunks.iter(), user, dialled).map(|found| found.iter().map(|candidate| candidate.trunk).collect())
    }

    #[test]
    fn trunks_are_tried_in_the_order_of_the_configuration() {
        let trunks = [trunk("0"), trunk("1"), trunk("")];
        assert_eq!(order(&trunks, "alice", "0123"), Ok(vec![0, 2]));
        assert_eq!(order(&trunks[..2], "alice", "2123"), Err(NoTrunk::Unknown));
    }

    #[test]
    fn a_number_refused_by_one_trunk_may_be_called_by_another() {
        let mut cheap = trunk("0");
        cheap.refuse = vec!["0900".to_owned()];
        assert_eq!(order(&[cheap.clone()], "alice", "0900123"), Err(NoTrunk::Refused("0900".to_owned())));
        assert_eq!(order(&[cheap, trunk("0")], "alice", "0900123"), Ok(vec![1]));
    }

    #[test]
    fn who_may_use_no_trunk_hears_so() {
        let mut closed = trunk("0");
        closed.allow = Allow::Users(vec!["alice".to_owned()]);
        assert_eq!(order(&[closed.clone()], "bob", "0123"), Err(NoTrunk::NotAllowed));
        assert_eq!(order(&[closed], "alice", "0123"), Ok(vec![0]));
    }

    #[test]
    fn in_an_emergency_the_number_is_called_as_it_is_where_no_rule_fits() {
        assert_eq!(emergency(3, &trunk("0"), "112"), Candidate { trunk: 3, number: "112".to_owned() });
    }
}
