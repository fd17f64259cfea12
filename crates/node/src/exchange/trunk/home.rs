//! Trunks of other home nodes: a home node with a trunk announces so in the overlay, as if a user of a reserved name were registered
//! there, which only home nodes of the domain may write. A user at a home node without one dials out by it; who he is, the two
//! believe each other as for any call (RFC 3325), and who may call what, the node with the trunk decides.

use meshtone_overlay::record::Kind;
use meshtone_sip::message::{Message, Method};
use meshtone_sip::proxy::Target;
use meshtone_sip::server::RequestId;

use super::{TrunkInput, Trunks};
use crate::exchange::policy;
use crate::exchange::search::Sought;
use crate::exchange::worker::{Input, Worker};
use crate::location::publisher::{Announcement, Publisher};

/// The user name under which trunks are announced; `account` reserves it.
const NAME: &str = "trunk";

impl Trunks {
    /// Tells the other home nodes that calls leave here.
    pub(crate) fn announce(&self, publisher: &Publisher, domain: &str) {
        let outbound = self.0.iter().filter(|trunk| !trunk.settings.outbound.is_empty()).count();
        if outbound > 0 {
            publisher.offer(&format!("{NAME}@{domain}"), Announcement { contacts: outbound, q: 1000 });
        }
    }
}

impl Worker {
    /// Looks for a home node that has a trunk for what is dialled; false if that is no number.
    pub(in crate::exchange) fn dial_out_elsewhere(&mut self, id: RequestId, request: &Message, caller: &str) -> bool {
        let Some(dialled) = policy::dialled(request.request_uri(), |uri| self.is_own_host(uri)) else { return false };
        if request.method() != Method::Invite {
            return false;
        }
        let (exchange, answers) = (self.exchange.clone(), self.answers.clone());
        let uri = format!("sip:{}", self.exchange.address_of(&dialled));
        let sought =
            Sought { address: self.exchange.address_of(NAME), uri, caller: Some(caller.to_owned()), origin: None };
        let request = request.clone();
        tokio::spawn(async move {
            let entries = exchange.overlay.fetch(Kind::SipRegistration, &sought.address).await.unwrap_or_default();
            let targets = sought.at_nodes(&exchange, entries).await;
            let _ = answers.send(Input::Trunk(TrunkInput::HomeNodes { id, request, targets })).await;
        });
        true
    }

    /// Takes the home nodes that have trunks: one at a time, since each would place a call.
    pub(super) fn on_home_nodes(&mut self, id: RequestId, request: &Message, mut targets: Vec<Target>) {
        if targets.is_empty() {
            self.reject(id, 404, "No such user here");
            return;
        }
        let first = targets.remove(0);
        self.begin_forwarding(id, request, vec![first], false);
        self.keep_spare(id, targets);
    }

    /// Whether a caller whom another node asserts is a user of the domain served here, who may call out.
    pub(in crate::exchange) fn is_own_user(&self, caller: &str) -> bool {
        caller.rsplit_once('@').is_some_and(|(user, domain)| {
            domain.eq_ignore_ascii_case(&self.exchange.domain) && self.exchange.accounts.find(user).is_some()
        })
    }
}
