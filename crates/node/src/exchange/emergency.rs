//! Emergency calls: to the one place that the configuration names, or refused.

use meshtone_sip::message::{Message, Method};
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::Flow;

use super::policy::EmergencyRoute;
use super::worker::Worker;

impl Worker {
    /// Sends an emergency call where the configuration says, or refuses it so that nobody waits in vain: it is never routed
    /// like other calls. Caps do not apply.
    pub(super) fn is_emergency(&mut self, id: RequestId, request: &Message, flow: &Flow, caller: &str) -> bool {
        if request.method() != Method::Invite {
            return false;
        }
        let exchange = self.exchange.clone();
        let emergency = &exchange.outside.emergency;
        let Some(number) = emergency.number(request.request_uri(), |uri| self.is_own_host(uri)) else { return false };
        match &emergency.route {
            None => {
                tracing::warn!(%caller, %number, "emergency call refused: no emergency_route is configured");
                self.reject(id, 403, "No emergency calls from here: use another telephone");
            }
            Some(EmergencyRoute::Uri(uri)) => {
                tracing::warn!(%caller, %number, route = %uri, "emergency call");
                self.call_configured(id, request, uri);
            }
            Some(EmergencyRoute::Trunk(trunk)) => {
                tracing::warn!(%caller, %number, %trunk, "emergency call");
                self.dial_emergency(id, request, flow, caller, (trunk, &number));
            }
        }
        true
    }
}
