//! REGISTER: who may bind which address to a phone at this node (RFC 3261 §10.3). What a binding is, and what the
//! answer says, is `meshtone_sip::registrar`'s.

use std::borrow::Cow;

use meshtone_sip::digest::DigestParams;
use meshtone_sip::message::{Header, Message, Uri};
use meshtone_sip::registrar::Grants;
use meshtone_sip::server::RequestId;
use meshtone_sip::transport::{Destination, Flow, Locals};

use super::Authenticated;
use super::worker::Worker;
use crate::login::is_session_name;
use crate::transport::LocalView;

impl Worker {
    pub(super) fn on_register(&mut self, id: RequestId, request: &Message, flow: &Flow) {
        if !self.exchange.rights.may_speak() {
            self.reject(id, 403, "This node stores for others and serves no phones");
            return;
        }
        let user = match self.exchange.authenticate(request, flow, Header::Authorization, Header::WwwAuthenticate) {
            Authenticated::As(user) => user,
            Authenticated::No { challenges } => {
                self.challenge(id, 401, "Unauthorized", &challenges);
                return;
            }
        };
        // Nobody registers for somebody else (RFC 3261 §10.3, step 4).
        let own = request.to().is_ok_and(|to| self.is_own_address(to.uri, &user));
        if !own || !self.is_registrar_of(&user, request.request_uri()) {
            self.reject(id, 403, "These credentials are not for that address");
            return;
        }
        if !self.exchange.may_serve(&user) {
            self.reject(id, 403, "This node may not speak for that address");
            return;
        }
        if !self.exchange.guard.may_register(self.now.unix_ms, flow.remote().map(|remote| remote.ip()), &user) {
            self.reject_with(id, 503, "Too Many Registrations", &[(Header::RetryAfter, "60".to_owned())]);
            return;
        }
        let address = self.exchange.address_of(&user);
        let service_route = self.service_route(request, flow);
        let to_tag = self.server.to_tag(request);
        let grants = Grants {
            to_tag: Some(to_tag.as_str()),
            // A temporary GRUU names its user within the served domain.
            gruu: self.exchange.gruus.as_ref().filter(|_| user != address).map(|key| (address.as_str(), key)),
            service_route: service_route.as_deref(),
        };
        match self.exchange.registrations.register(self.now.unix_ms, &address, request, flow, grants) {
            Ok(response) => {
                tracing::debug!(%address, "registered");
                self.note_flow(request, flow, &address);
                self.server.respond(self.now.instant, id, response);
            }
            Err(rejection) => self.reject_with(id, rejection.status, rejection.reason, &rejection.extra),
        }
    }

    /// Takes note of what this registration depends on.
    fn note_flow(&self, request: &Message, flow: &Flow, address: &str) {
        let named = request.fields(Header::Authorization).find_map(|field| {
            let params = DigestParams::parse(field).ok().flatten()?;
            params.text("username").map(Cow::into_owned).filter(|name| is_session_name(name))
        });
        let session = named.and_then(|name| self.exchange.sessions.of_name(&name));
        self.exchange.flows.note(flow, address, session);
        if let Flow::Stream { connection, .. } = flow
            && !LocalView(self.exchange.transports.clone()).flow_is_open(flow)
        {
            // It has closed before anybody could know.
            self.exchange.flows.closed(*connection);
        }
    }

    /// The Route for the own requests of a phone behind proxies (RFC 3608): they shall come here too. A phone that is
    /// directly behind us sends them here anyway, and some are confused by a Route.
    fn service_route(&self, request: &Message, flow: &Flow) -> Option<String> {
        request.header(Header::Path)?;
        let here = LocalView(self.exchange.transports.clone()).sent_by(&Destination::Flow(flow.clone()));
        Some(format!("<sip:{here};transport={};lr>", flow.transport().uri_param()))
    }

    /// Whether `uri` is the address of account `user`, by name or number, at the served domain or at this node.
    pub(super) fn is_own_address(&self, uri: &str, user: &str) -> bool {
        let Ok(parsed) = Uri::parse(uri) else { return false };
        if !self.is_own_host(&parsed) {
            return user.contains('@') && parsed.address_of_record() == user;
        }
        // Nearly all phones write the name as the account has it.
        if parsed.user == Some(user) {
            return true;
        }
        let address = parsed.address_of_record();
        let name = address.rsplit_once('@').map(|(name, _)| name);
        name.and_then(|name| self.exchange.user(name)).is_some_and(|named| named == user)
    }

    /// Whether a REGISTER for this Request-URI is for this node, where the account is `user`: one with an address of her own
    /// names its domain there.
    fn is_registrar_of(&self, user: &str, uri: &str) -> bool {
        let of_person = |domain: &str| Uri::parse(uri).is_ok_and(|uri| uri.host.eq_ignore_ascii_case(domain));
        self.is_served(uri) || user.rsplit_once('@').is_some_and(|(_, domain)| of_person(domain))
    }

    /// The account that a URI names: of the served domain by name or number, or of a person by her address.
    pub(super) fn account_at(&self, uri: &str) -> Option<String> {
        let parsed = Uri::parse(uri).ok()?;
        let address = parsed.address_of_record();
        if self.is_own_host(&parsed) {
            self.exchange.user(address.rsplit_once('@')?.0)
        } else {
            self.exchange.user(&address).filter(|user| *user == address)
        }
    }

    pub(super) fn is_served(&self, uri: &str) -> bool {
        Uri::parse(uri).is_ok_and(|uri| self.is_own_host(&uri))
    }

    /// Whether a URI is at the served domain, or at an address of this node.
    pub(super) fn is_own_host(&self, uri: &Uri<'_>) -> bool {
        // Nearly all write it as it is.
        uri.host == self.exchange.domain
            || uri.host.eq_ignore_ascii_case(&self.exchange.domain)
            || LocalView(self.exchange.transports.clone()).is_local(uri.host, uri.port)
    }
}
