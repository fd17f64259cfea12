//! Addresses of people: `user@domain`, a mailbox and a SIP address alike.

use crate::{Error, domain};

/// Longest user part (RFC 5321 §4.5.3.1.1).
const MAX_USER: usize = 64;

/// Returns the address in its one written form: lower case, with the characters that a mailbox (RFC 5322 §3.2.3) and a SIP
/// URI (RFC 3261 §25.1) both allow unescaped.
///
/// # Errors
/// [`Error::Text`] for what is no such address, [`Error::Domain`] for what is none behind the `@`.
pub fn normalise(address: &str) -> Result<String, Error> {
    let refuse = |why| Error::Text { what: "an address", why };
    let (user, domain) = address.trim().rsplit_once('@').ok_or(refuse("it has no @"))?;
    let user = user.to_ascii_lowercase();
    if user.is_empty() || user.len() > MAX_USER {
        return Err(refuse("what stands before the @ has to have 1 to 64 characters"));
    }
    if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'&=+$?".contains(&byte)) {
        return Err(refuse("before the @ it has a character that no mailbox and SIP address share"));
    }
    if user.starts_with(['.', '-']) || user.ends_with('.') || user.contains("..") {
        return Err(refuse("its dots stand where no mailbox has any"));
    }
    Ok(format!("{user}@{}", domain::normalise(domain)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_has_one_written_form() {
        assert_eq!(normalise(" Alice.B+phone@Example.NET. ").unwrap(), "alice.b+phone@example.net");
    }

    #[test]
    fn what_could_smuggle_something_into_a_mail_or_a_uri_is_refused() {
        let long = format!("{}@b.c", "a".repeat(MAX_USER + 1));
        for text in [
            "",
            "@",
            "alice",
            "alice@",
            "@b.c",
            "a b@c.d",
            "a\r\nTo: x@c.d",
            "a@b@c.d",
            "<a@b.c>",
            "a;b@c.d",
            "a%61@c.d",
            ".a@c.d",
            "a.@c.d",
            "a..b@c.d",
            "-a@c.d",
            "ä@c.d",
            "\"a\"@c.d",
            "a@b_c",
            "a,b@c.d",
            "a/b@c.d",
            &long,
        ] {
            assert!(normalise(text).is_err(), "{text:?} was taken for an address");
        }
    }
}
