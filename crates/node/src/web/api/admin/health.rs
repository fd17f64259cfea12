//! What is not as it should be, in sentences with the cure. Pure: it reads what the node says of itself.

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{Search, Status};

/// A clock that is off by more than this makes signatures look old or early.
const CLOCK_OFF_MS: u64 = 30_000;
/// Certificates that end within this, though they are renewed a month before.
const ENDS_SOON_S: u64 = 14 * 86_400;
/// A score below which people repeat themselves (ITU-T G.107: many users dissatisfied).
const BAD_SCORE: f64 = 3.1;

/// How much it matters; the first is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::web) enum Severity {
    /// Calls fail.
    Error,
    /// They will, or somebody must look.
    Warning,
    /// It is good to know.
    Info,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::web) struct Health {
    severity: Severity,
    /// The same for programs.
    code: &'static str,
    /// What, and what of it.
    sentence: String,
    /// What to do about it.
    cure: String,
}

impl Health {
    pub(in crate::web) fn severity(&self) -> Severity {
        self.severity
    }
}

/// What is not as it should be, worst first.
pub(in crate::web) fn health(status: &Status, now_s: u64) -> Vec<Health> {
    let mut found = Vec::new();
    let mut say = |severity, code, sentence: String, cure: &str| {
        found.push(Health { severity, code, sentence, cure: cure.to_owned() });
    };
    if status.revoked {
        say(
            Severity::Error,
            "revoked",
            "The overlay's authority has taken this node's certificates back: no other node speaks to it.".to_owned(),
            "Ask whoever runs the overlay. With a fresh ticket the machine joins again, in a fresh data folder.",
        );
    }
    // Who has never heard of another node misses none.
    let misses = |search: &&Search| search.attempts > 0 || status.overlay_nodes_known > 0;
    if let Some(search) = status.search.as_ref().filter(misses) {
        say(
            Severity::Error,
            "no_link",
            format!(
                "For {} there has been no link to any other node ({}), so that calls reach only phones at this one.",
                lasting(search.since_s),
                search.reason
            ),
            "Look whether this machine has a network and whether UDP gets out; another node's `peer` line, given as --peer, helps it to find the others.",
        );
    }
    if let Some(reason) = &status.renewal_failing {
        let left_s = status.certified_until.saturating_sub(now_s);
        let severity = if left_s < ENDS_SOON_S { Severity::Error } else { Severity::Warning };
        say(
            severity,
            "renewal",
            format!("This node's certificates end in {} and could not be renewed: {reason}", lasting(left_s)),
            "The node that founded the overlay has to run and to be reached: without certificates no other node speaks to this one.",
        );
    }
    if let Some(acme) = status.acme.as_ref().filter(|acme| acme.state == "failing") {
        let left_s = acme.certified_until.map(|until| until.saturating_sub(now_s));
        let severity =
            if left_s.is_some_and(|left_s| left_s < ENDS_SOON_S) { Severity::Error } else { Severity::Warning };
        let so_far = match left_s {
            Some(left_s) => format!("The one that there is ends in {}.", lasting(left_s)),
            None => "Until then browsers see the one of the overlay's authority, and warn unless they trust that."
                .to_owned(),
        };
        let reason = acme.reason.as_deref().unwrap_or("nobody says why");
        say(
            severity,
            "acme",
            format!(
                "No certificate for {} could be obtained from {}: {reason}. {so_far}",
                acme.names.join(", "),
                acme.directory
            ),
            "The name has to lead to this machine by DNS, and port 443 (or 80) there to a listener of its page (`--wss`, `--ws`).",
        );
    }
    if status.clock_behind_ms.unsigned_abs() > CLOCK_OFF_MS {
        let way = if status.clock_behind_ms < 0 { "ahead of" } else { "behind" };
        let off_s = status.clock_behind_ms.unsigned_abs() / 1000;
        say(
            Severity::Warning,
            "clock",
            format!("This machine's clock is {} {way} those of most neighbours.", lasting(off_s)),
            "Synchronise it by NTP; most systems have a service for that.",
        );
    }
    for trunk in status.trunks.iter().filter(|trunk| trunk.state == "failing") {
        let reason = trunk.reason.as_deref().unwrap_or("nobody says why");
        say(
            Severity::Error,
            "trunk",
            format!("The trunk {} does not work: {reason}.", trunk.name),
            trunk.hint.as_deref().unwrap_or("Compare its settings with what the provider has written to you."),
        );
    }
    for server in status.second_stage.iter().filter(|server| !server.answers) {
        say(
            Severity::Warning,
            "second_stage",
            format!("The server {} of the farm does not answer; its users go to the others.", server.server),
            "Look after that machine.",
        );
    }
    let mail = status.authority.as_ref().and_then(|authority| authority.mail.as_ref());
    if let Some(mail) = mail.filter(|mail| mail.state == "failing") {
        let reason = mail.reason.as_deref().unwrap_or("it does not answer");
        say(
            Severity::Warning,
            "mail",
            format!("The mail server {} takes no mails, so that nobody can prove an address: {reason}", mail.server),
            mail.hint
                .as_deref()
                .unwrap_or("Compare `[authority]` in the configuration with what the mail server wants."),
        );
    }
    for change in &status.key_changes {
        say(
            Severity::Warning,
            "new_key",
            format!("{} has proved the mailbox anew and has another key since.", change.address),
            "If that person did not, somebody else reads those mails: tell her by another way.",
        );
    }
    if !status.contradictions.is_empty() {
        say(
            Severity::Warning,
            "contradictions",
            format!("{} times a node signed two different records of one moment.", status.contradictions.len()),
            "That node is broken or lies; `meshtone status --json` has the proof for whoever runs the overlay.",
        );
    }
    for call in &status.calls {
        let ends = call.sound.iter().flat_map(|sound| [&sound.heard_by_caller, &sound.heard_by_callee]).flatten();
        if let Some(worst) = ends.min_by(|left, right| left.mos.total_cmp(&right.mos)).filter(|end| end.mos < BAD_SCORE)
        {
            say(
                Severity::Warning,
                "bad_sound",
                format!(
                    "A call between {} and {} sounds bad: {}% are lost, the score is {:.1} of 4.5.",
                    call.from, call.to, worst.loss_percent, worst.mos
                ),
                "Look at the networks of both: a full line or a weak radio loses packets.",
            );
        }
    }
    if let Some(test) = status.role.reached.as_ref().filter(|test| test.dialled > 0 && test.reached == 0) {
        say(
            Severity::Info,
            "not_reached",
            format!(
                "None of {} nodes that tried could dial this one: it reaches others, and they reach it through its neighbours.",
                test.dialled
            ),
            "Forward UDP port 6084 to this machine, if others shall be able to join through it.",
        );
    }
    if status.accounts.users == 0 {
        say(
            Severity::Info,
            "no_users",
            "There are no users yet, so nobody can register a phone.".to_owned(),
            "Add one under People, or with `meshtone user add NAME`.",
        );
    } else if status.registrations.is_empty() {
        say(
            Severity::Info,
            "no_phones",
            "No phone is registered at this node.".to_owned(),
            "Log in on this page, or type a user's name, password and this node's address into a SIP phone.",
        );
    }
    found.sort_by_key(|health| health.severity);
    found
}

/// A time as people say it.
fn lasting(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn status(more: serde_json::Value) -> Status {
        let mut whole = json!({
            "node": "n", "overlay": "o", "domain": "mesh.test", "version": "0", "uptime_s": 1, "links": [], "registrations": [
                { "address": "alice@mesh.test", "contact": "sip:a@b", "transport": "udp", "expires_s": 60, "q": 1.0 }
            ],
            "calls": [], "records": {}, "accounts": { "users": 1, "version": "" },
            "role": { "serves": true, "why": "few" }, "overlay_nodes_known": 3,
        });
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn codes(more: serde_json::Value) -> Vec<&'static str> {
        health(&status(more), 1_800_000_000).into_iter().map(|health| health.code).collect()
    }

    #[test]
    fn a_node_with_phones_and_links_has_nothing_to_say() {
        assert!(codes(json!({})).is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_worst_first_with_a_cure() {
        let search = json!({ "since_s": 90, "attempts": 3, "reason": "nobody answers", "tried": "" });
        let ends_soon = 1_800_000_000_u64 + 86_400;
        let all = json!({
            "search": search, "clock_behind_ms": -45_000, "revoked": true, "registrations": [],
            "renewal_failing": "the authority is not reached", "certified_until": ends_soon,
            "trunks": [{ "name": "office", "server": "sip.example", "state": "failing", "reason": "wrong password", "calls": 0, "max_calls": 2 }],
            "role": { "serves": false, "why": "x", "reached": { "dialled": 3, "reached": 0, "ago_s": 9 } },
        });
        assert_eq!(codes(all.clone()), ["revoked", "no_link", "renewal", "trunk", "clock", "not_reached", "no_phones"]);
        for Health { sentence, cure, .. } in health(&status(all), 1_800_000_000) {
            assert!(sentence.len() > 20 && cure.len() > 10, "{sentence} {cure}");
        }
    }

    #[test]
    fn a_certificate_that_could_not_be_obtained_is_told_and_is_urgent_when_the_last_one_ends() {
        let acme = |until: Option<u64>| {
            let acme = json!({ "directory": "https://acme.example/dir", "names": ["mesh.example"], "state": "failing",
                "certified_until": until, "failing_for_s": 9, "reason": "the server did not find this node" });
            health(&status(json!({ "acme": acme })), 1_800_000_000).remove(0)
        };
        assert_eq!((acme(None).severity, acme(None).code), (Severity::Warning, "acme"));
        assert!(acme(None).sentence.contains("did not find") && acme(None).sentence.contains("mesh.example"));
        assert_eq!(acme(Some(1_800_000_000 + 86_400)).severity, Severity::Error);
    }

    #[test]
    fn a_certificate_that_lasts_is_no_error_yet_and_bad_sound_is_told() {
        let late = json!({ "renewal_failing": "x", "certified_until": 1_800_000_000_u64 + 40 * 86_400 });
        assert_eq!(health(&status(late), 1_800_000_000)[0].severity, Severity::Warning);
        let heard = json!({ "codec": null, "loss_percent": 20.0, "jitter_ms": 1.0, "round_trip_ms": null, "mos": 2.0, "reported_mos": null });
        let call = |mos: f64| {
            let mut heard = heard.clone();
            heard["mos"] = json!(mos);
            json!({ "calls": [{ "call_id": "1", "from": "a", "to": "b", "state": "established", "since_s": 1, "sound": {
                "heard_by_caller": heard, "heard_by_callee": null, "protection_of_caller": "none", "protection_of_callee": "none" } }] })
        };
        assert_eq!(codes(call(2.0)), ["bad_sound"]);
        assert!(codes(call(4.2)).is_empty());
        assert_eq!(codes(json!({ "accounts": { "users": 0, "version": "" }, "registrations": [] })), ["no_users"]);
    }
}
