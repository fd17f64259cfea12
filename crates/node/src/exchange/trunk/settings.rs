//! What the configuration says of a trunk.

use std::collections::BTreeMap;
use std::time::Duration;

pub use meshtone_sip::agent::Secret;
use meshtone_sip::message::Uri;

use super::digits::{self, DigitRule};
use crate::exchange::networks::Network;
use crate::location::dns::Wanted;

/// Calls that a trunk carries at once where the configuration says nothing: what providers sell to a household or small office.
pub const CALLS: usize = 4;
/// Calls of one user over a trunk at once where the configuration says nothing: one, and one on hold.
pub const CALLS_PER_USER: usize = 2;
/// The longest call where the configuration says nothing: long talks, but no line left open over the weekend.
pub const LONGEST_CALL: Duration = Duration::from_secs(4 * 3600);
/// The time that a registration is asked for where the configuration says nothing: half of it is how long a provider that has
/// forgotten us may go unnoticed.
pub const EXPIRES: Duration = Duration::from_secs(300);

/// A way into the telephone network, or to another exchange: an account at a provider.
#[derive(Debug, Clone)]
pub struct Trunk {
    /// What people call it.
    pub name: String,
    /// The provider's server, a SIP URI without a user.
    pub server: String,
    /// The user part of our address there.
    pub user: String,
    /// The name that the password belongs to, if it is another one.
    pub auth_user: Option<String>,
    /// The password; without one, challenges are not answered.
    pub password: Option<Secret>,
    /// The realm of the password; `None`: the one in which the server asks when we register, and no other from then on.
    pub realm: Option<String>,
    /// Whether we register there.
    pub register: bool,
    /// For how long a registration is asked.
    pub expires: Duration,
    /// Which numbers are called here, and how they are written.
    pub outbound: Vec<DigitRule>,
    /// Beginnings of numbers that are never called, as the provider reads them or as they are dialled.
    pub refuse: Vec<String>,
    /// Who may call out.
    pub allow: Allow,
    /// Whom a called number means, the first that fits.
    pub inbound: Vec<InboundRule>,
    /// Whom every other number means.
    pub inbound_default: Option<String>,
    /// The number that the called see, and those of single users.
    pub caller_id: Option<String>,
    /// By user.
    pub caller_ids: BTreeMap<String, String>,
    /// How the provider is told that number.
    pub identity: Identity,
    /// Whether the provider's P-Asserted-Identity is believed.
    pub trust_identity: bool,
    /// Whether MESSAGE passes.
    pub messages: bool,
    /// Calls at once, both ways.
    pub max_calls: usize,
    /// Calls at once that one user makes.
    pub max_calls_per_user: usize,
    /// The longest call.
    pub max_duration: Duration,
    /// Addresses, besides those of the server, that calls from the provider come from.
    pub addresses: Vec<Network>,
}

impl Trunk {
    /// A trunk without any of the options: it registers, and carries no call out.
    pub fn new(name: &str, server: &str, user: &str) -> Trunk {
        Trunk {
            name: name.to_owned(),
            server: server.to_owned(),
            user: user.to_owned(),
            auth_user: None,
            password: None,
            realm: None,
            register: true,
            expires: EXPIRES,
            outbound: Vec::new(),
            refuse: Vec::new(),
            allow: Allow::Everybody,
            inbound: Vec::new(),
            inbound_default: None,
            caller_id: None,
            caller_ids: BTreeMap::new(),
            identity: Identity::Preferred,
            trust_identity: false,
            messages: false,
            max_calls: CALLS,
            max_calls_per_user: CALLS_PER_USER,
            max_duration: LONGEST_CALL,
            addresses: Vec::new(),
        }
    }

    /// Whether this user may call out here. People with addresses of their own may be anybody who proved a mailbox, so they have to be
    /// named.
    pub(crate) fn allows(&self, user: &str) -> bool {
        match &self.allow {
            Allow::Everybody => !user.contains('@'),
            Allow::Users(users) => users.iter().any(|allowed| allowed.eq_ignore_ascii_case(user)),
        }
    }

    /// What is called at the provider when this is dialled.
    pub(crate) fn called(&self, dialled: &str) -> Option<String> {
        digits::translate(&self.outbound, dialled)
    }

    /// The beginning for which a number is never called.
    pub(crate) fn refusal(&self, dialled: &str, number: &str) -> Option<&str> {
        let refused = self.refuse.iter().find(|prefix| number.starts_with(*prefix) || dialled.starts_with(*prefix));
        refused.map(String::as_str)
    }

    /// Whom the provider calls: the first of these texts that a rule knows as a number decides.
    pub(crate) fn callee(&self, mut called: impl Iterator<Item = String>) -> Option<&str> {
        let rule = |number: String| self.inbound.iter().find(|rule| digits::is_same(&rule.number, &number));
        called.find_map(rule).map(|rule| rule.to.as_str()).or(self.inbound_default.as_deref())
    }

    /// The number that is shown for this user, or for the trunk itself.
    pub(crate) fn caller_id_of(&self, user: &str) -> &str {
        let own = self.caller_ids.iter().find(|(of, _)| of.eq_ignore_ascii_case(user)).map(|(_, number)| number);
        own.or(self.caller_id.as_ref()).unwrap_or(&self.user)
    }

    /// The host of the provider's server, and with it its port and parameters, as our URIs there end.
    pub(crate) fn host(&self) -> &str {
        Uri::parse(&self.server).map_or("", |uri| uri.host)
    }

    /// A URI at the provider: the server's, with this user.
    pub(crate) fn uri_of(&self, user: &str) -> String {
        let (scheme, rest) = self.server.split_once(':').unwrap_or(("sip", &self.server));
        format!("{scheme}:{user}@{rest}")
    }

    /// An address at the provider, as From and To have them: without port and parameters.
    pub(crate) fn address_of(&self, user: &str) -> String {
        let scheme = self.server.split_once(':').map_or("sip", |(scheme, _)| scheme);
        format!("{scheme}:{user}@{}", self.host())
    }
}

/// The URI of a provider's server, of which a bare domain is short for one; `None` for what is none.
pub fn server_uri(text: &str) -> Option<String> {
    let has_scheme = ["sip:", "sips:"].iter().any(|scheme| text.starts_with(scheme));
    let uri = if has_scheme { text.to_owned() } else { format!("sip:{text}") };
    let parsed = Uri::parse(&uri).ok()?;
    let is_server = parsed.user.is_none() && parsed.headers.is_empty() && Wanted::read(&uri).is_ok();
    is_server.then_some(uri)
}

/// Who may call out over a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Every user.
    Everybody,
    /// These.
    Users(Vec<String>),
}

/// How the provider is told whose number is calling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// By From alone.
    From,
    /// By P-Preferred-Identity too (RFC 3325 §9.2): the provider has the last word.
    Preferred,
    /// By P-Asserted-Identity too: the provider trusts us.
    Asserted,
}

/// Whom a number means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundRule {
    /// The number, however the provider writes it.
    pub number: String,
    /// A user or extension here.
    pub to: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn trunk() -> Trunk {
        let mut trunk = Trunk::new("provider", "sip:sip.example:5070;transport=tcp", "4930123");
        trunk.outbound = vec![DigitRule::new("0", 1, "+49").unwrap(), DigitRule::new("+", 0, "").unwrap()];
        trunk.refuse = vec!["+49900".to_owned(), "0137".to_owned()];
        trunk
    }

    #[test]
    fn a_refused_beginning_is_refused_as_dialled_and_as_called() {
        let trunk = trunk();
        for (dialled, refusal) in [("0900123", Some("+49900")), ("0137123", Some("0137")), ("030123", None)] {
            let number = trunk.called(dialled).unwrap();
            assert_eq!(trunk.refusal(dialled, &number), refusal, "{dialled}");
        }
    }

    #[test]
    fn a_called_number_means_its_user_else_the_default_else_nobody() {
        let mut trunk = trunk();
        trunk.inbound = vec![InboundRule { number: "+4930123".to_owned(), to: "alice".to_owned() }];
        let callee = |trunk: &Trunk, called: &[&str]| {
            trunk.callee(called.iter().map(|text| (*text).to_owned())).map(str::to_owned)
        };
        assert_eq!(callee(&trunk, &["004930123"]).as_deref(), Some("alice"));
        assert_eq!(callee(&trunk, &["f00d", "4930123"]).as_deref(), Some("alice"));
        assert_eq!(callee(&trunk, &["+4930124"]), None);
        trunk.inbound_default = Some("bob".to_owned());
        assert_eq!(callee(&trunk, &["anonymous"]).as_deref(), Some("bob"));
    }

    #[test]
    fn only_those_allowed_call_and_each_shows_his_number() {
        let mut trunk = trunk();
        assert!(trunk.allows("anybody") && !trunk.allows("carol@example.net"));
        trunk.allow = Allow::Users(vec!["alice".to_owned()]);
        assert!(trunk.allows("Alice") && !trunk.allows("bob"));
        assert_eq!(trunk.caller_id_of("alice"), "4930123");
        trunk.caller_id = Some("+4930123".to_owned());
        trunk.caller_ids.insert("bob".to_owned(), "+49301239".to_owned());
        assert_eq!((trunk.caller_id_of("alice"), trunk.caller_id_of("bob")), ("+4930123", "+49301239"));
    }

    #[test]
    fn addresses_at_the_provider_are_its_servers_and_its_domains() {
        let trunk = trunk();
        assert_eq!(trunk.uri_of("+1"), "sip:+1@sip.example:5070;transport=tcp");
        assert_eq!(trunk.address_of("+1"), "sip:+1@sip.example");
    }
}
