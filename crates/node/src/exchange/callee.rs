//! Whom a Request-URI means (RFC 3261 §16.5): this node itself, a service, a user of the served domain, or
//! somebody at another domain.

use meshtone_sip::message::Uri;

/// Who is called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    /// The node itself: a Request-URI without a user.
    Node,
    /// The built-in echo.
    Echo,
    /// A user with an account here, by address.
    User {
        /// The canonical address, `user@domain`.
        address: String,
    },
    /// An address of the served domain that nobody has.
    Nobody {
        /// What was called, `user@domain`.
        address: String,
    },
    /// An address of a domain served elsewhere.
    Elsewhere {
        /// The canonical address, `user@domain`.
        address: String,
    },
    /// Not a scheme that this node routes.
    BadScheme,
    /// Not a URI.
    BadUri,
}

/// The user name that the echo service answers to; `account` reserves it.
pub(crate) const ECHO: &str = "echo";

/// Reads `request_uri`. Bare names, numbers and the node's own addresses are completed with the served domain; `user_of` tells
/// the user there that a name or a number means.
pub(crate) fn callee(
    request_uri: &str,
    domain: &str,
    is_local: impl Fn(&str, Option<u16>) -> bool,
    user_of: impl Fn(&str) -> Option<String>,
) -> Callee {
    let scheme = request_uri.split(':').next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("tel") {
        return of_domain(&digits(request_uri), domain, user_of);
    }
    if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
        return Callee::BadScheme;
    }
    let Ok(uri) = Uri::parse(request_uri) else { return Callee::BadUri };
    let served = uri.host.eq_ignore_ascii_case(domain) || is_local(uri.host, uri.port);
    let address = uri.address_of_record();
    match address.rsplit_once('@') {
        None if served => Callee::Node,
        None => Callee::BadUri,
        Some((user, _)) if served => of_domain(user, domain, user_of),
        // A person with an address of her own has an account by that name.
        Some(_) if user_of(&address).is_some() => Callee::User { address },
        Some(_) => Callee::Elsewhere { address },
    }
}

fn of_domain(user: &str, domain: &str, user_of: impl Fn(&str) -> Option<String>) -> Callee {
    if user.eq_ignore_ascii_case(ECHO) {
        return Callee::Echo;
    }
    match user_of(user) {
        Some(known) if known.contains('@') => Callee::User { address: known },
        Some(known) => Callee::User { address: [&known, "@", domain].concat() },
        None => Callee::Nobody { address: [user, "@", domain].concat() },
    }
}

/// The number of a `tel:` URI without its visual separators (RFC 3966 §5.1.1).
fn digits(tel: &str) -> String {
    let number = tel.split_once(':').map_or("", |(_, rest)| rest);
    let number = number.split(';').next().unwrap_or_default();
    number.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::account::{Accounts, system_random};
    use crate::store::Store;

    fn read(request_uri: &str) -> Callee {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let node = meshtone_identity::NodeId::from_bytes([1; 32]);
        let accounts = Accounts::open(store, "home.example", node, || 1, system_random()).unwrap();
        accounts.add("bob", Some("201")).unwrap();
        accounts.add("alice@example.net", Some("202")).unwrap();
        callee(request_uri, "home.example", |host, _| host == "192.0.2.1", |name| accounts.resolve(name))
    }

    fn bob() -> Callee {
        Callee::User { address: "bob@home.example".to_owned() }
    }

    #[test]
    fn a_user_of_the_served_domain_is_found_by_name_in_any_case_of_the_host() {
        assert_eq!(read("sip:bob@home.example"), bob());
        assert_eq!(read("sip:bob@HOME.Example;user=phone"), bob());
    }

    #[test]
    fn an_address_of_the_node_itself_counts_as_the_served_domain() {
        assert_eq!(read("sip:bob@192.0.2.1:5060"), bob());
        assert_eq!(read("sip:192.0.2.1"), Callee::Node);
    }

    #[test]
    fn a_number_is_completed_to_its_user_dialled_or_as_a_tel_uri() {
        assert_eq!(read("sip:201@home.example"), bob());
        assert_eq!(read("tel:2-0-1;phone-context=home.example"), bob());
    }

    #[test]
    fn echo_is_served_at_any_name_of_the_node() {
        assert_eq!(read("sip:echo@home.example"), Callee::Echo);
        assert_eq!(read("sip:Echo@192.0.2.1"), Callee::Echo);
    }

    #[test]
    fn a_person_with_an_address_of_her_own_is_a_user_here_by_address_and_number() {
        let alice = || Callee::User { address: "alice@example.net".to_owned() };
        assert_eq!(read("sip:alice@Example.net"), alice());
        assert_eq!(read("sip:202@home.example"), alice());
        assert_eq!(read("sip:bob@example.net"), Callee::Elsewhere { address: "bob@example.net".to_owned() });
        assert_eq!(read("sip:alice@home.example"), Callee::Nobody { address: "alice@home.example".to_owned() });
    }

    #[test]
    fn another_domain_is_somewhere_else_and_an_unknown_user_is_nobody() {
        assert_eq!(read("sip:carol@other.example"), Callee::Elsewhere { address: "carol@other.example".to_owned() });
        assert_eq!(read("sip:carol@home.example"), Callee::Nobody { address: "carol@home.example".to_owned() });
    }

    #[test]
    fn what_is_not_routed_is_told_apart_from_what_is_not_a_uri() {
        assert_eq!(read("soap.beep://192.0.2.1"), Callee::BadScheme);
        assert_eq!(read("sip:"), Callee::BadUri);
    }
}
