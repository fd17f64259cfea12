//! Redirections (3xx): a phone that says "ask there instead" is followed to users of the served domain, and nowhere
//! else. Everything else goes back to the caller, who may call there on his own account; so no phone can make this node
//! send anything to an address of its choice.

use std::time::Instant;

use meshtone_sip::message::Message;
use meshtone_sip::proxy::{Redirect, Target};
use meshtone_sip::server::RequestId;

use super::callee::Callee;
use super::contacts::Phones;
use super::divert::divert;
use super::search::{Sought, locate};
use super::sips;
use super::worker::Worker;

/// Most users that one redirection is followed to; each costs a look-up in the overlay.
const FOLLOWED_MAX: usize = 4;

impl Worker {
    pub(super) fn on_redirected(&mut self, id: RequestId, branch: usize, request: &Message, contacts: &[Redirect]) {
        let (caller, origin) = self
            .forwarded
            .get(&id)
            .map_or((None, None), |forwarded| (forwarded.caller.clone(), forwarded.origin.clone()));
        let mut targets: Vec<Target> = Vec::new();
        let mut spare: Vec<Target> = Vec::new();
        let mut searches = Vec::new();
        let called = self.callee(request);
        for contact in contacts {
            let Some(caller) = caller.as_deref().filter(|_| searches.len() < FOLLOWED_MAX) else { break };
            // What the caller would send if he followed it himself.
            let request = request.edit().request_uri(&contact.uri).finish();
            // Back to whom was called first, who has been asked (RFC 3261 §16.5).
            let callee = self.callee(&request);
            if callee == called {
                continue;
            }
            let Callee::User { address } = callee else { continue };
            let found: Phones = self.local_phones(&address, Some(caller), &request);
            let less = |target: Target| Target { q: target.q.min(contact.q), ..target };
            targets.extend(found.targets.into_iter().map(less));
            spare.extend(found.spare.into_iter().map(less));
            searches.push(Sought::of(address, Some(caller), &request));
        }
        if searches.is_empty() {
            self.server.pass_on(Instant::now(), id, branch);
            return;
        }
        let wants_sips = self.forwarded.get(&id).is_some_and(|forwarded| forwarded.wants_sips);
        let targets = self.anchored(id, sips::permitted(wants_sips, targets));
        if let Some(origin) = origin {
            if let Some(forwarded) = self.forwarded.get_mut(&id) {
                forwarded.searches += 1;
                forwarded.spare.append(&mut spare);
            }
            // With nobody here, whether it is followed at all shows when the others were looked for.
            let undecided = targets.is_empty().then_some(branch);
            if undecided.is_none() {
                self.server.follow(Instant::now(), id, branch, targets);
            }
            let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
            tokio::spawn(divert(exchange, origin, request.clone(), searches, (id, undecided), answers));
            return;
        }
        if let Some(forwarded) = self.forwarded.get_mut(&id) {
            forwarded.searches += searches.len();
            forwarded.spare.append(&mut spare);
            forwarded.sought.extend(searches.iter().cloned());
        }
        for sought in searches {
            tokio::spawn(locate(self.exchange.clone(), sought, id, self.answers.clone()));
        }
        self.server.follow(Instant::now(), id, branch, targets);
    }
}
