//! The domain of a node whose owner named none.

use meshtone_identity::domain::normalise;

/// Under `.alt` (RFC 9476) a name can never belong to anybody in the DNS.
const FALLBACK_SUFFIX: &str = "meshtone.alt";

/// The host's name if it is a full one (it has a dot), otherwise `<host>.meshtone.alt`.
pub fn default_domain() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    domain_of(host.trim())
}

fn domain_of(host: &str) -> String {
    match normalise(host) {
        Ok(host) if host.contains('.') => host,
        Ok(host) => normalise(&format!("{host}.{FALLBACK_SUFFIX}")).unwrap_or_else(|_| FALLBACK_SUFFIX.to_owned()),
        Err(_) => FALLBACK_SUFFIX.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_host_name_is_the_domain_and_a_short_one_gets_a_suffix_nobody_owns() {
        assert_eq!(domain_of("Phone.Example.ORG"), "phone.example.org");
        assert_eq!(domain_of("attic"), "attic.meshtone.alt");
        assert_eq!(domain_of("my_box"), "meshtone.alt");
        assert_eq!(domain_of(""), "meshtone.alt");
    }
}
