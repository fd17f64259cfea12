//! A transfer (REFER, RFC 3515) through a call that is carried: whom one side is asked to call, the other side is asked to call; what comes
//! of it goes back. Where the new call is to replace another one (RFC 3891) that is carried here as well, the far end of that one is
//! named instead of ours, which the other side could not know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use meshtone_sip::agent::{DialogId, SubscriptionId, Termination, with_replaces_mapped};
use meshtone_sip::message::{Header, Message};
use meshtone_sip::server::{RequestId, Server};

use super::ending::within_status;
use super::{BridgeId, Bridges};

/// What of a REFER passes besides its Refer-To.
const PASSED: &[Header] = &[Header::ReferredBy];

/// What dialogs of carried calls are named by in Replaces, and what the other end of the call is. All workers of a node share one, since a call
/// and the one that it is to replace may be at different ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replacements(Arc<Mutex<HashMap<String, String>>>);

/// A transfer under way.
#[derive(Debug)]
pub(super) enum Referral {
    /// The other side has said nothing yet.
    Asked { id: RequestId, contact: String },
    /// It tries; who asked hears of it.
    Told { asker: SubscriptionId, is_final: bool },
}

impl Replacements {
    fn get(&self, named: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(named).cloned()
    }

    fn put(&self, named: String, other: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(named, other);
    }

    fn remove(&self, named: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(named);
    }
}

impl Bridges {
    /// Shares what is known of the calls that others carry.
    pub(crate) fn sharing(replacements: Replacements) -> Bridges {
        Bridges { replacements, ..Bridges::default() }
    }

    /// Lets the dialogs of a call that stands be named in transfers.
    pub(super) fn remember_names(&mut self, server: &Server, id: BridgeId) {
        let Some(bridge) = self.bridges.get_mut(&id).filter(|bridge| bridge.media.is_some()) else { return };
        let values = |dialog: Option<DialogId>| server.replaces_values(dialog?);
        let Some(((to_near, of_near), (to_far, of_far))) = values(bridge.near.dialog).zip(values(bridge.far.dialog))
        else {
            return;
        };
        bridge.names = vec![of_near.clone(), of_far.clone()];
        self.replacements.put(of_near, to_far);
        self.replacements.put(of_far, to_near);
    }

    pub(super) fn forget_names(&self, names: &[String]) {
        for name in names {
            self.replacements.remove(name);
        }
    }

    /// One side asks to have the other one call somebody.
    pub(super) fn on_refer(
        &mut self,
        server: &mut Server,
        now: Instant,
        (id, dialog): (RequestId, DialogId),
        refer_to: &str,
        request: &Message,
    ) {
        let Some((bridge, side)) = self.bridge_of(dialog) else { return };
        let contact = bridge.leg(side).contact.clone();
        let other = bridge.leg(side.other()).dialog;
        let target = with_replaces_mapped(refer_to, |named| self.replacements.get(named));
        let passed = |header: &Header| Some((*header, request.header(*header)?.to_owned()));
        let headers: Vec<(Header, String)> = PASSED.iter().filter_map(passed).collect();
        match other.map(|other| server.refer(now, other, &target, &headers)) {
            Some(Ok(asked)) => {
                self.referrals.insert(asked, Referral::Asked { id, contact });
            }
            Some(Err(_)) | None => server.reject(now, id, 480, "The other side is not there yet", &[]),
        }
    }

    /// The other side says how it goes on; 0 where it does not say.
    pub(super) fn on_refer_progress(&mut self, server: &mut Server, now: Instant, asked: SubscriptionId, status: u16) {
        let Some(asker) = self.accept_referral(server, now, asked) else { return };
        if status > 100 {
            server.tell_refer(now, asker, status);
            self.referrals.insert(asked, Referral::Told { asker, is_final: status >= 200 });
        }
    }

    /// The other side says no more, or has refused.
    pub(super) fn on_referral_ended(
        &mut self,
        server: &mut Server,
        now: Instant,
        asked: SubscriptionId,
        reason: &Termination,
    ) {
        match (self.referrals.remove(&asked), reason) {
            (Some(Referral::Asked { id, .. }), Termination::Failed(status)) => {
                server.reject(now, id, within_status(*status), "", &[]);
            }
            // It was agreed to, without a word on what came of it.
            (Some(Referral::Asked { id, contact }), _) => {
                if let Some(asker) = server.accept_refer(now, id, &contact) {
                    server.tell_refer(now, asker, 200);
                }
            }
            (Some(Referral::Told { asker, is_final: false }), _) => server.tell_refer(now, asker, 503),
            (Some(Referral::Told { is_final: true, .. }) | None, _) => {}
        }
    }

    /// Agrees to a transfer that the other side has agreed to; gives who is to hear of it, unless all was said.
    fn accept_referral(&mut self, server: &mut Server, now: Instant, asked: SubscriptionId) -> Option<SubscriptionId> {
        match self.referrals.get(&asked)? {
            Referral::Told { asker, is_final } => (!is_final).then_some(*asker),
            Referral::Asked { id, contact } => {
                let accepted = server.accept_refer(now, *id, contact);
                match accepted {
                    Some(asker) => self.referrals.insert(asked, Referral::Told { asker, is_final: false }),
                    None => self.referrals.remove(&asked),
                };
                accepted
            }
        }
    }
}
