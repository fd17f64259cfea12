//! Why the node serves, or does not, in a sentence. Pure.

use meshtone_identity::Rights;
use meshtone_overlay::{Presence, RoleReason, RoleStatus};

use crate::control::{Reached, Role};

/// Returns the role, with what was tested, as of now in unix milliseconds.
pub(super) fn role(status: &RoleStatus, rights: Rights, now_ms: u64) -> Role {
    let reached = status.test.as_ref().map(|test| Reached {
        dialled: test.dialled,
        reached: test.reached,
        address: test.address,
        ago_s: now_ms.saturating_sub(test.at_ms) / 1000,
    });
    let why = if rights.may_serve() {
        why(status)
    } else {
        "since its certificate lets it only use what others serve".to_owned()
    };
    Role { serves: status.serves, why, others: status.others, reached }
}

fn why(status: &RoleStatus) -> String {
    let few = || match status.others {
        Some(1) => "one other node does".to_owned(),
        Some(others) => format!("{others} others do"),
        None => "few others do".to_owned(),
    };
    match (status.reason, status.serves) {
        (RoleReason::Chosen, true) => "as it was told (--role super)".to_owned(),
        (RoleReason::Chosen, false) => "as it was told (--role ordinary)".to_owned(),
        (RoleReason::Starting, _) => "for now, while it looks how many others serve".to_owned(),
        (RoleReason::Alone, _) => "since it has met no other node that does".to_owned(),
        (RoleReason::Few, _) => format!("since only {}", few()),
        (RoleReason::Reached, _) => "since others reach it".to_owned(),
        (RoleReason::Kept, _) => "as it has before".to_owned(),
        (RoleReason::Probation, _) => {
            "until it has been there for some time and others have reached it; enough of them serve".to_owned()
        }
        (RoleReason::Unreached, _) => "since others cannot reach it; enough of them serve".to_owned(),
        (RoleReason::OftenAway, _) => match status.presence {
            Some(Presence { percent, known }) => format!(
                "since it was there for only {percent} % of the last {} hours; enough of them serve",
                known.as_secs() / 3600
            ),
            None => "since it is often away; enough of them serve".to_owned(),
        },
        (RoleReason::Leaving, _) => {
            "for a moment: it hands over what it holds, and will be an ordinary node".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshtone_overlay::ReachTest;

    use super::*;

    #[test]
    fn every_reason_is_a_sentence_and_tests_are_told_with_their_age() {
        let test = ReachTest { at_ms: 1_000, dialled: 3, reached: 2, address: "192.0.2.1:6084".parse().ok() };
        let (serves, reason, test) = (true, RoleReason::Few, Some(test));
        let mut status = RoleStatus { serves, reason, others: Some(3), test, presence: None };
        let told = role(&status, Rights::Full, 121_000);
        assert_eq!(told.why, "since only 3 others do");
        assert_eq!(told.reached.map(|reached| (reached.reached, reached.dialled, reached.ago_s)), Some((2, 3, 120)));
        for reason in [
            RoleReason::Chosen,
            RoleReason::Starting,
            RoleReason::Alone,
            RoleReason::Reached,
            RoleReason::Kept,
            RoleReason::Probation,
            RoleReason::Unreached,
            RoleReason::OftenAway,
            RoleReason::Leaving,
        ] {
            status.reason = reason;
            assert!(why(&status).len() > 10);
        }
        status.presence = Some(Presence { percent: 41, known: Duration::from_secs(100 * 3600) });
        (status.serves, status.reason) = (false, RoleReason::OftenAway);
        assert_eq!(why(&status), "since it was there for only 41 % of the last 100 hours; enough of them serve");
        (status.serves, status.reason) = (false, RoleReason::Chosen);
        assert_eq!(why(&status), "as it was told (--role ordinary)");
    }
}
