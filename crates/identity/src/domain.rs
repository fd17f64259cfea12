//! Names of domains that a node may serve.

use crate::{Error, NodeId};

/// Longest domain name as a text (RFC 1035 §2.3.4, less the root's dot and length octets).
const MAX_DOMAIN: usize = 253;

/// Longest label (RFC 1035 §2.3.4).
const MAX_LABEL: usize = 63;

/// Returns the domain in its one written form: lower-case letters, digits and hyphens in dotted labels, no final dot.
///
/// # Errors
/// [`Error::Domain`] when it is no host name (RFC 1123 §2.1).
pub fn normalise(domain: &str) -> Result<String, Error> {
    let refuse = |why| Error::Domain { domain: domain.to_owned(), why };
    let name = domain.strip_suffix('.').unwrap_or(domain).to_ascii_lowercase();
    if name.is_empty() {
        return Err(refuse("it is empty"));
    }
    if name.len() > MAX_DOMAIN {
        return Err(refuse("it is longer than 253 characters"));
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL {
            return Err(refuse("a label has to have 1 to 63 characters"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(refuse("a label may not begin or end with a hyphen"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return Err(refuse("only letters, digits, hyphens and dots are allowed"));
        }
    }
    Ok(name)
}

/// Returns the domain of a member's node, which nobody else can have: under `.alt` (RFC 9476) and named by the node's id.
pub fn of_member(node: &NodeId) -> String {
    format!("{node}.member.alt")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_domain_has_one_written_form() {
        assert_eq!(normalise("Example.ORG.").unwrap(), "example.org");
        assert_eq!(normalise("localhost").unwrap(), "localhost");
        assert_eq!(normalise("xn--bcher-kva.example").unwrap(), "xn--bcher-kva.example");
    }

    #[test]
    fn the_domain_of_a_members_node_is_a_domain() {
        for id in [[0; 32], [0xff; 32]] {
            let domain = of_member(&NodeId::from_bytes(id));
            assert_eq!(normalise(&domain).unwrap(), domain);
        }
    }

    #[test]
    fn names_that_could_smuggle_something_are_refused() {
        for name in
            ["", ".", "a..b", "-a.b", "a-.b", "a@b", "a b", "a;b", "a\r\nb", "bücher.example", "a_b", &"a".repeat(64)]
        {
            assert!(normalise(name).is_err(), "{name} was taken for a domain");
        }
        assert!(normalise(&"a.".repeat(130)).is_err());
    }
}
