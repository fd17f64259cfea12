//! The end of a bridge, whoever brings it about: each side hears why.

use std::time::Instant;

use meshtone_sip::agent::DialogId;
use meshtone_sip::message::Message;
use meshtone_sip::server::{RequestId, Server};

use super::{BridgeEvent, BridgeId, Bridges, Side};

/// What both sides are told when a call has lasted as long as it may (Q.850: normal, unspecified).
const LONGEST_REASON: &str = "Q.850;cause=31;text=\"The longest duration of a call is reached\"";

/// What both sides are told when their phones seem to be gone (Q.850: recovery on timer expiry).
pub(super) const SILENCE_REASON: &str = "Q.850;cause=102;text=\"Nothing was heard for too long\"";

/// What both sides are told where the sound of one cannot get to the other (Q.850: incompatible destination).
pub(super) const UNHEARD_REASON: &str = "Q.850;cause=88;text=\"The sound of one side cannot get to the other\"";

impl Bridges {
    /// Ends every call that has lasted as long as it may.
    pub(crate) fn handle_timeout(&mut self, server: &mut Server, now: Instant) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            self.deadlines.remove(&(at, id));
            self.end(server, now, id, Some(LONGEST_REASON));
        }
    }

    /// The caller gave up; his INVITE is answered already.
    pub(super) fn on_cancelled(&mut self, server: &mut Server, now: Instant, invite: RequestId) {
        let Some(id) = self.by_invite.remove(&invite) else { return };
        if let Some(bridge) = self.bridges.get_mut(&id) {
            bridge.open = None;
        }
        self.end(server, now, id, None);
    }

    /// The far call failed.
    pub(super) fn on_failed(&mut self, call: DialogId, status: u16, response: Option<Message>) {
        let Some((id, Side::Far)) = self.of_dialog(call) else { return };
        self.detach_far(id, None);
        let Some(bridge) = self.bridges.get_mut(&id) else { return };
        bridge.far.dialog = None;
        bridge.early.clear();
        bridge.offering = None;
        let rang = bridge.rang;
        self.events.push_back(BridgeEvent::Unanswered { bridge: id, status, response, rang, limit: None });
    }

    /// A dialog is over: so is the other one. Early dialogs of a fork come and go.
    pub(super) fn on_dialog_ended(&mut self, server: &mut Server, now: Instant, dialog: DialogId) {
        let Some((id, side)) = self.of_dialog(dialog) else { return };
        self.by_dialog.remove(&dialog);
        let is_fork = side == Side::Far
            && self.bridges.get(&id).is_some_and(|bridge| bridge.open.is_some() || bridge.far.dialog != Some(dialog));
        if !is_fork {
            self.end(server, now, id, None);
        }
    }

    /// Forgets a bridge, and ends what is left of both sides; the reason is what the side that ended it gave, if it is not named.
    pub(super) fn end(&mut self, server: &mut Server, now: Instant, id: BridgeId, reason: Option<&str>) {
        let Some(bridge) = self.bridges.remove(&id) else { return };
        for (dialog, _) in &bridge.dialogs {
            self.by_dialog.remove(dialog);
        }
        self.forget_names(&bridge.names);
        if let Some(at) = bridge.ends_at {
            self.deadlines.remove(&(at, id));
        }
        if let Some(open) = bridge.open {
            self.by_invite.remove(&open);
            server.reject(now, open, 480, "", &[]);
        }
        for dialog in [bridge.near.dialog, bridge.far.dialog].into_iter().flatten() {
            match reason.or(bridge.end_reason.as_deref()) {
                Some(reason) => server.hang_up_because(now, dialog, reason),
                None => server.hang_up(now, dialog),
            }
        }
        self.events.push_back(BridgeEvent::Ended { bridge: id });
    }
}

/// The status that a refusal within a call has on the other side: what concerns the hop alone is this node's failure to get
/// through (RFC 3261 §21.5.3).
pub(super) fn within_status(status: u16) -> u16 {
    match status {
        300..=399 | 401 | 407 | 408 | 420..=423 | 481..=483 | 494 | 503 => 502,
        other => other,
    }
}
