//! What a user may be called and which numbers there are.

use meshtone_identity::address;

use super::AccountError;

/// A user name's largest length; more is no name that anybody types into a phone.
pub const MAX_USER_LEN: usize = 64;

/// A number's largest length: 15 digits of E.164 and room for a private prefix.
pub const MAX_NUMBER_LEN: usize = 20;

/// Names that the node's own services answer to, now or soon; an account of that name would never be called.
const RESERVED: [&str; 7] = ["echo", "voicemail", "presence", "rooms", "conference", "trunk", "authority"];

/// A new user's canonical (lower-case) name: a name within the domain, or the whole address of a person who proves it elsewhere.
///
/// # Errors
/// [`AccountError::BadUser`] for what is no user name, [`AccountError::Reserved`] for a service's name.
pub fn new_user(text: &str) -> Result<String, AccountError> {
    let user = text.to_ascii_lowercase();
    if !is_account(&user) {
        return Err(AccountError::BadUser { user: text.to_owned() });
    }
    if RESERVED.contains(&user.as_str()) {
        return Err(AccountError::Reserved { user });
    }
    Ok(user)
}

/// What people write as an address or a number, without the scheme that some write before it.
pub(crate) fn without_scheme(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("sips:").or_else(|| text.strip_prefix("sip:")).unwrap_or(text)
}

/// Whether this is the canonical name of an account: a user name or a whole address.
pub fn is_account(text: &str) -> bool {
    is_user(text) || is_address(text)
}

/// Whether this is a canonical address, the name of the account of a person with an address of her own.
pub fn is_address(text: &str) -> bool {
    address::normalise(text).is_ok_and(|address| address == text)
}

/// Whether this is a canonical user name: the characters that RFC 3261 §25.1 (`user`) allows unescaped, but no upper
/// case (names that differ by case alone would be two people), no `/` and no leading `.` (names become path segments).
pub fn is_user(text: &str) -> bool {
    (1..=MAX_USER_LEN).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"-_.!~*'()&=+$,;?".contains(&byte))
}

/// A number as people write it (`+49 (30) 123-456`) without the separators of RFC 3966 §5.
///
/// # Errors
/// [`AccountError::BadNumber`].
pub fn new_number(text: &str) -> Result<String, AccountError> {
    let number: String = text.chars().filter(|character| !matches!(character, ' ' | '-' | '.' | '(' | ')')).collect();
    if is_number(&number) { Ok(number) } else { Err(AccountError::BadNumber { number: text.to_owned() }) }
}

/// Whether this is a number in the form it is kept in: digits, perhaps after a `+`.
pub fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && text.len() <= MAX_NUMBER_LEN && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn names_are_lower_cased() {
        assert_eq!(new_user("Alice.B-1").unwrap(), "alice.b-1");
    }

    #[test]
    fn names_that_are_no_sip_user_or_no_path_segment_are_refused() {
        let long = "a".repeat(MAX_USER_LEN + 1);
        for name in [
            "", " ", "a b", "a@", "@b", "a@b@c", "a b@c", "a/b@c", "a/b", "..", ".a", "a\n", "a\0", "a%61", "a:b", "ä",
            "a\"", "<a>", &long,
        ] {
            assert!(matches!(new_user(name), Err(AccountError::BadUser { .. })), "{name:?}");
        }
    }

    #[test]
    fn a_person_with_an_address_of_her_own_has_it_as_her_name() {
        assert_eq!(new_user("Alice@Example.NET").unwrap(), "alice@example.net");
        assert!(is_account("alice@example.net") && !is_user("alice@example.net") && !is_account("Alice@example.net"));
    }

    #[test]
    fn a_services_name_is_taken() {
        assert!(matches!(new_user("Echo"), Err(AccountError::Reserved { user }) if user == "echo"));
    }

    #[test]
    fn numbers_lose_their_separators() {
        assert_eq!(new_number("+49 (30) 123-456").unwrap(), "+4930123456");
        assert_eq!(new_number("201").unwrap(), "201");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for number in ["", "+", "2+1", "12a", "１２", "123456789012345678901"] {
            assert!(matches!(new_number(number), Err(AccountError::BadNumber { .. })), "{number:?}");
        }
    }
}
