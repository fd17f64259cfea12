//! Who may call whom beyond the overlay: plain SIP domains, in both directions, and emergency numbers. Pure.

use std::net::SocketAddr;

use meshtone_identity::ForeignAuthority;
use meshtone_sip::message::Uri;

/// Calls that one account may have outside at once where the configuration says nothing: a person needs two or three, and a
/// stolen password is worth no more than this (threat 14).
pub const CALLS_PER_USER: usize = 8;

/// The numbers that are emergency calls where the configuration says nothing: those that every mobile phone knows.
const EMERGENCY_NUMBERS: [&str; 2] = ["112", "911"];

/// The service URN of emergency calls (RFC 5031); `urn:service:sos.police` and the like are meant too.
const SOS: &str = "urn:service:sos";

/// Everything about calls that leave, or come from outside, the overlay.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Name servers; those of the system if there are none.
    pub dns: Vec<SocketAddr>,
    /// Which other domains may be called.
    pub outbound: Outbound,
    /// Who may call from other domains.
    pub inbound: Inbound,
    /// Whether what callers or a stranger's DNS name may be an address of this machine or of a private network.
    pub allow_private_destinations: bool,
    /// Calls that one account may have outside at once.
    pub max_calls_per_user: usize,
    /// Where emergency calls go.
    pub emergency: Emergency,
    /// Who certifies the keys by which other domains sign who calls from there.
    pub callers: Vec<ForeignAuthority>,
}

impl Default for Outside {
    fn default() -> Self {
        Outside {
            dns: Vec::new(),
            outbound: Outbound::Any,
            inbound: Inbound::None,
            allow_private_destinations: false,
            max_calls_per_user: CALLS_PER_USER,
            emergency: Emergency::default(),
            callers: Vec::new(),
        }
    }
}

/// Which plain SIP domains the users here may call. Strangers may call none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// None: only the overlay.
    None,
    /// These.
    List(Vec<String>),
    /// All of them.
    Any,
}

/// From which plain SIP domains calls and messages come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// None.
    None,
    /// These, from an address that the DNS gives for them.
    Known(Vec<String>),
    /// All of them; nobody proves who he is.
    Any,
}

/// Where emergency calls go: to one place that was chosen, or nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emergency {
    /// The numbers that are emergency calls.
    pub numbers: Vec<String>,
    /// The place; none refuses them clearly.
    pub route: Option<EmergencyRoute>,
}

/// The place where emergency calls go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmergencyRoute {
    /// A SIP URI.
    Uri(String),
    /// The trunk of this name.
    Trunk(String),
}

impl Default for Emergency {
    fn default() -> Self {
        Emergency { numbers: EMERGENCY_NUMBERS.map(str::to_owned).to_vec(), route: None }
    }
}

impl Outbound {
    /// Whether this host may be called.
    pub(crate) fn permits(&self, host: &str) -> bool {
        match self {
            Outbound::None => false,
            Outbound::List(domains) => is_listed(domains, host),
            Outbound::Any => true,
        }
    }
}

impl Inbound {
    /// What a claim to call from `domain` needs.
    pub(crate) fn of(&self, domain: &str) -> Admission {
        match self {
            Inbound::None => Admission::Refused,
            Inbound::Known(domains) if is_listed(domains, domain) => Admission::Checked,
            Inbound::Known(_) => Admission::Refused,
            Inbound::Any => Admission::Free,
        }
    }
}

/// What a request from outside needs in order to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is a stranger's.
    Refused,
    /// It must come from an address of its domain.
    Checked,
    /// Nothing.
    Free,
}

impl Emergency {
    /// The number called when `request_uri` is an emergency call; the first one for the URN.
    ///
    /// `is_own` tells whether a host is this node or the served domain: 112 at another domain is that domain's.
    pub(crate) fn number(&self, request_uri: &str, is_own: impl Fn(&Uri<'_>) -> bool) -> Option<String> {
        if let Some(rest) = request_uri.get(..SOS.len()).filter(|start| start.eq_ignore_ascii_case(SOS)) {
            let rest = request_uri.get(rest.len()..).unwrap_or_default();
            return (rest.is_empty() || rest.starts_with(['.', ';', '?'])).then(|| self.first());
        }
        let number = dialled(request_uri, is_own)?;
        self.numbers.contains(&number).then_some(number)
    }

    fn first(&self) -> String {
        self.numbers
            .first()
            .map_or_else(|| EMERGENCY_NUMBERS.first().copied().unwrap_or_default().to_owned(), Clone::clone)
    }
}

/// The digits of a number dialled here, with its `+`, without visual separators (RFC 3966 §5.1.1); `None` for anything else.
pub(crate) fn dialled(request_uri: &str, is_own: impl Fn(&Uri<'_>) -> bool) -> Option<String> {
    let (scheme, rest) = request_uri.split_once(':')?;
    let user = if scheme.eq_ignore_ascii_case("tel") {
        rest.split(';').next()?.to_owned()
    } else {
        let uri = Uri::parse(request_uri).ok().filter(|uri| is_own(uri))?;
        uri.user_unescaped()?.split(';').next()?.to_owned()
    };
    number(&user)
}

/// What remains of a dialled text without visual separators, if that is a number.
pub(crate) fn number(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')' | ' ')).collect();
    let bare = digits.strip_prefix('+').unwrap_or(&digits);
    let is_number = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit() || c == '*' || c == '#');
    is_number.then_some(digits)
}

/// Whether a list of domains names this one, or with `*.example.org` one above it.
fn is_listed(domains: &[String], host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    domains.iter().any(|domain| match domain.strip_prefix("*.") {
        Some(parent) => {
            let head = host.len().checked_sub(parent.len()).and_then(|at| Some((host.get(..at)?, host.get(at..)?)));
            head.is_some_and(|(head, tail)| head.ends_with('.') && head.len() > 1 && tail.eq_ignore_ascii_case(parent))
        }
        None => domain.eq_ignore_ascii_case(host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(uri: &Uri<'_>) -> bool {
        uri.host == "home.example"
    }

    #[test]
    fn nothing_comes_in_and_nothing_private_is_called_unless_told() {
        let outside = Outside::default();
        assert_eq!(outside.inbound.of("example.net"), Admission::Refused);
        assert!(!outside.allow_private_destinations);
        assert!(outside.outbound.permits("example.net"));
    }

    #[test]
    fn a_list_names_domains_and_with_a_star_those_below_them() {
        let list = Outbound::List(vec!["example.net".to_owned(), "*.example.org".to_owned()]);
        for good in ["example.net", "Example.NET.", "pbx.example.org", "a.b.example.org"] {
            assert!(list.permits(good), "{good}");
        }
        for bad in ["example.org", "evilexample.org", ".example.org", "example.net.evil.example", "xexample.net"] {
            assert!(!list.permits(bad), "{bad}");
        }
    }

    #[test]
    fn known_domains_are_checked_and_others_refused() {
        let known = Inbound::Known(vec!["example.net".to_owned()]);
        assert_eq!(known.of("example.net"), Admission::Checked);
        assert_eq!(known.of("example.com"), Admission::Refused);
    }

    #[test]
    fn emergency_numbers_are_known_however_they_are_dialled_here() {
        let emergency = Emergency::default();
        for called in
            ["sip:112@home.example", "sip:1-1-2@home.example;user=phone", "tel:112", "tel:112;phone-context=+49"]
        {
            assert_eq!(emergency.number(called, own).as_deref(), Some("112"), "{called}");
        }
        for called in ["urn:service:sos", "URN:service:SOS.police"] {
            assert_eq!(emergency.number(called, own).as_deref(), Some("112"), "{called}");
        }
        for called in ["sip:112@other.example", "tel:1123", "urn:service:sosx", "sip:bob@home.example", "urn:x"] {
            assert_eq!(emergency.number(called, own), None, "{called}");
        }
    }

    #[test]
    fn a_number_is_digits_with_a_plus_or_not() {
        assert_eq!(dialled("tel:+49-(30)-123", own).as_deref(), Some("+4930123"));
        assert_eq!(dialled("sip:*21%23@home.example", own).as_deref(), Some("*21#"));
        for other in ["sip:bob@home.example", "sip:+@home.example", "sip:home.example", "tel:abc"] {
            assert_eq!(dialled(other, own), None, "{other}");
        }
    }
}
