//! Whether a call rings whom it is for, by that one's own wish, and what the histories of both ends say of it.

use meshtone_sip::message::{Message, Method, Uri};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::Flow;

use super::callee::Callee;
use super::shown::{ANONYMOUS, is_private, shown_as};
use super::watch::From;
use super::worker::Worker;
use crate::account::name as account_name;
use crate::person::history::{Change, Direction, NewCall, Outcome};
use crate::person::rules::{Unwanted, unwanted};

impl Worker {
    /// Whether a request may ring the user of this address; if not, its caller is told why. A caller is known by his proven address, or
    /// by what he says of himself.
    pub(super) fn may_ring(&mut self, id: RequestId, request: &Message, address: &str, caller: Option<&str>) -> bool {
        self.may_ring_for(id, request, address, caller, false)
    }

    /// The same of a call that this node makes for somebody outside (`is_own`).
    pub(super) fn may_ring_for(
        &mut self,
        id: RequestId,
        request: &Message,
        address: &str,
        caller: Option<&str>,
        is_own: bool,
    ) -> bool {
        let is_call = request.method() == Method::Invite;
        if !is_call && request.method() != Method::Message {
            return true;
        }
        let exchange = self.exchange.clone();
        let from = request.from().ok();
        let claimed = match caller {
            Some(_) => None,
            None => from.as_ref().and_then(|from| Some(Uri::parse(from.uri).ok()?.address_of_record())),
        };
        let known = caller.or(claimed.as_deref());
        let user = exchange.account_of(address);
        // Where nobody needs an account, there is nobody's wish.
        let Some(verdict) = exchange.accounts.of_settings(user, |settings| unwanted(settings, known)) else {
            return true;
        };
        let place = is_call.then(|| {
            let shown = match known {
                Some(known) => shown_as(request, known),
                None => ANONYMOUS,
            };
            let name = from.as_ref().and_then(|from| from.display).filter(|_| !is_private(request));
            let call = NewCall { direction: Direction::In, address: shown, name, verified: caller.is_some() };
            exchange.history.begin(self.now.unix_ms, user, &call)
        });
        if let (Some(place), Some(verdict)) = (&place, verdict) {
            let outcome = match verdict {
                Unwanted::Blocked => Outcome::Blocked,
                Unwanted::NotDisturbed => Outcome::NotDisturbed,
            };
            exchange.history.change(self.now.unix_ms, place, Change::Unwanted(outcome));
        }
        if is_call {
            let from = if is_own { From::Itself } else { From::Anywhere };
            exchange.watches.begin(self.index, self.now.unix_ms, request, from, place);
        }
        match verdict {
            Some(Unwanted::Blocked) => self.reject(id, 603, "Does Not Take Your Calls"),
            Some(Unwanted::NotDisturbed) if is_call => self.reject(id, 486, "Do Not Disturb"),
            // A text makes no noise, if its phone is told so.
            Some(Unwanted::NotDisturbed) | None => return true,
        }
        false
    }

    /// Takes note of a call that a user here makes.
    pub(super) fn note_call_of(&mut self, request: &Message, flow: &Flow, caller: &str, callee: &Callee) {
        if request.method() != Method::Invite {
            return;
        }
        let (exchange, now_ms) = (self.exchange.clone(), self.now.unix_ms);
        let user = exchange.account_of(caller);
        let place = exchange.accounts.of_settings(user, |_| ()).map(|()| {
            let dialled = match callee {
                Callee::User { address } | Callee::Elsewhere { address } => address.clone(),
                Callee::Echo | Callee::Nobody { .. } | Callee::Node | Callee::BadScheme | Callee::BadUri => {
                    dialled(request.request_uri())
                }
            };
            let call = NewCall { direction: Direction::Out, address: &dialled, name: None, verified: false };
            exchange.history.begin(now_ms, user, &call)
        });
        exchange.watches.begin(self.index, now_ms, request, From::Flow(flow), place);
    }
}

/// What somebody dialled: the number where it is one, else the address.
fn dialled(request_uri: &str) -> String {
    let Ok(uri) = Uri::parse(request_uri) else { return request_uri.chars().take(64).collect() };
    match uri.user_unescaped().filter(|user| account_name::is_number(user)) {
        Some(number) => number.into_owned(),
        None => uri.address_of_record(),
    }
}
