//! What the callee is shown of who calls: a mark where it is verified, nothing where the caller does not want to be shown.
//!
//! An anonymous caller (RFC 3323, RFC 3325 §7) is known to his own node, which asks him for credentials. Other nodes are told, and
//! signed for, that somebody calls who is certified in this overlay, and no more; whether that is enough is the callee's node's policy
//! (RFC 5079). What his phone says of itself, such as its Contact, is for the phone to leave out (RFC 3323 §4.1).

use meshtone_identity::passport::Attestation;
use meshtone_sip::message::{Header, Message, Method, NameAddr, Uri};

use super::attestation;
use super::phone::{OWN_HEADERS_WITHIN, asserted};

/// Who calls where it is not to be known (RFC 3323 §4.1.1.3).
pub(super) const ANONYMOUS: &str = "anonymous@anonymous.invalid";

/// The same as it stands in From.
pub(super) const ANONYMOUS_FROM: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// Longest mark, in characters: what a phone shows beside a name.
const MAX_MARK: usize = 8;

/// Signs that people take for a proof, whatever the configured mark is.
const LOOKALIKES: [char; 12] = ['✓', '✔', '☑', '✅', '🗸', '🔒', '🔐', '🔏', '🛡', '☒', '✗', '\u{fe0f}'];

/// What phones here are shown of callers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callers {
    /// What stands before the name of a caller who was verified; without it names are left as they are.
    pub verified_mark: Option<String>,
    /// Whether callers who do not want to be shown are refused.
    pub refuse_anonymous: bool,
}

impl Callers {
    /// Checks a mark.
    ///
    /// # Errors
    /// Why it is none.
    pub fn check_mark(mark: &str) -> Result<(), &'static str> {
        if mark.trim().is_empty() || mark.chars().count() > MAX_MARK {
            return Err("a mark has 1 to 8 characters");
        }
        if mark.chars().any(|character| character.is_control() || matches!(character, '"' | '\\' | '<' | '>')) {
            return Err("it has a character that cannot stand in a name");
        }
        Ok(())
    }

    /// Fields to leave out and to add for a phone here, where `caller` is proven to make the request.
    pub(super) fn at_phone(&self, caller: Option<&str>, request: &Message) -> (Vec<Header>, Vec<(Header, String)>) {
        let shown = caller.filter(|caller| *caller != ANONYMOUS);
        let (mut without, mut with) = (OWN_HEADERS_WITHIN.to_vec(), asserted(shown));
        let is_shown = matches!(request.method(), Method::Invite | Method::Message);
        // The mark is for whom a node knows itself, not for whom others told it of.
        let shown = shown.filter(|_| attestation::of(request) == Attestation::A);
        if let Some(mark) = self.verified_mark.as_deref().filter(|_| is_shown)
            && let Some(from) = request.header(Header::From).and_then(|from| marked(from, mark, shown))
        {
            without.push(Header::From);
            with.push((Header::From, from));
        }
        (without, with)
    }
}

/// From with the mark before its name where the caller is verified, and without whatever looks like one; nothing where it is right as
/// it stands. Dialogs are told apart by its tag, which stays (RFC 3261 §12).
fn marked(from: &str, mark: &str, caller: Option<&str>) -> Option<String> {
    let address = NameAddr::parse(from).ok()?;
    let given = address.display.unwrap_or_default();
    let name = given.replace(mark, " ");
    let name: String = name.chars().filter(|character| !LOOKALIKES.contains(character)).collect();
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = match caller {
        // Without a name phones show the address, but then a mark would stand there alone.
        Some(caller) if name.is_empty() => format!("{mark} {caller}"),
        Some(_) => format!("{mark} {name}"),
        None => name,
    };
    if shown == given {
        return None;
    }
    // An escape may have been cut from what it escaped.
    let shown = if shown.contains(['"', '\\']) { shown.replace(['"', '\\'], "") } else { shown };
    let display = if shown.is_empty() { String::new() } else { format!("\"{shown}\" ") };
    let tag = address.tag().map(|tag| format!(";tag={tag}"));
    Some(format!("{display}<{}>{}", address.uri, tag.unwrap_or_default()))
}

/// Whether the caller asks not to be shown (RFC 3323 §4.2, RFC 3325 §9.3), or names himself as nobody.
pub(super) fn is_private(request: &Message) -> bool {
    wishes(request, &["id", "user", "header"]) || request.from().is_ok_and(|from| is_anonymous(from.uri))
}

/// Whether the caller would rather not call than be shown by what only a privacy service could hide: that there is none
/// (RFC 3323 §5).
pub(super) fn wants_what_is_not_there(request: &Message) -> bool {
    wishes(request, &["critical"]) && wishes(request, &["user", "header", "session"])
}

/// Whether a URI is that of nobody (RFC 3323 §4.1.1.3).
pub(super) fn is_anonymous(uri: &str) -> bool {
    const HOST: &str = "anonymous.invalid";
    // Nearly always it is another host, and none of its dots stands where that one's would.
    let may_be = |dot: usize| {
        let start = dot.checked_sub("anonymous".len());
        start.and_then(|start| uri.get(start..start + HOST.len())).is_some_and(|host| host.eq_ignore_ascii_case(HOST))
    };
    uri.match_indices('.').any(|(dot, _)| may_be(dot))
        && Uri::parse(uri).is_ok_and(|uri| uri.host.eq_ignore_ascii_case(HOST))
}

/// Whom other nodes and phones are told to be calling.
pub(super) fn shown_as<'a>(request: &Message, caller: &'a str) -> &'a str {
    if is_private(request) { ANONYMOUS } else { caller }
}

fn wishes(request: &Message, any: &[&str]) -> bool {
    let mut wishes = request.fields(Header::Privacy).flat_map(|value| value.split(';')).map(str::trim);
    wishes.any(|wish| any.iter().any(|named| wish.eq_ignore_ascii_case(named)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "✓";
    const ALICE: &str = "alice@example.net";

    fn shown(from: &str, caller: Option<&str>) -> String {
        marked(from, MARK, caller).unwrap_or_else(|| from.to_owned())
    }

    #[test]
    fn a_verified_caller_has_the_mark_before_his_name() {
        assert_eq!(shown("\"Alice\" <sip:a@b>;tag=1", Some(ALICE)), "\"✓ Alice\" <sip:a@b>;tag=1");
        assert_eq!(shown("Alice <sip:a@b>;tag=1", Some(ALICE)), "\"✓ Alice\" <sip:a@b>;tag=1");
        assert_eq!(shown("<sip:a@b>;tag=1", Some(ALICE)), "\"✓ alice@example.net\" <sip:a@b>;tag=1");
        assert_eq!(shown("sip:a@b;tag=1", Some(ALICE)), "\"✓ alice@example.net\" <sip:a@b>;tag=1");
    }

    #[test]
    fn whoever_imitates_the_mark_loses_it() {
        assert_eq!(shown("\"✓ Alice\" <sip:a@b>;tag=1", None), "\"Alice\" <sip:a@b>;tag=1");
        assert_eq!(shown("\"✔️✅ Alice 🔒\" <sip:a@b>;tag=1", None), "\"Alice\" <sip:a@b>;tag=1");
        assert_eq!(shown("\"✓✓\" <sip:a@b>;tag=1", None), "<sip:a@b>;tag=1");
        assert_eq!(shown("\"✓ ✓ Alice\" <sip:a@b>;tag=1", Some(ALICE)), "\"✓ Alice\" <sip:a@b>;tag=1");
        assert_eq!(shown("\"Alice\" <sip:a@b>;tag=1", None), "\"Alice\" <sip:a@b>;tag=1");
    }

    #[test]
    fn no_name_breaks_out_of_its_quotes() {
        for name in ["\\\"✓", "✓\\\"", "a\\✓\"", "\\✓"] {
            let from = format!("\"{name}\" <sip:a@b>;tag=1");
            let shown = shown(&from, Some(ALICE));
            if let Ok(address) = NameAddr::parse(&shown) {
                assert_eq!(address.uri, "sip:a@b", "{shown}");
            }
        }
    }

    #[test]
    fn the_mark_is_for_whom_a_node_knows_itself() {
        use meshtone_sip::message::Builder;
        let callers = Callers { verified_mark: Some(MARK.to_owned()), refuse_anonymous: false };
        let from = "\"Alice\" <sip:a@b>;tag=1";
        let request = |attestation: Option<&str>| {
            let builder = Builder::request("INVITE", "sip:bob@b").header(Header::From, from);
            match attestation {
                Some(attestation) => builder.header(Header::AttestationInfo, attestation).finish(),
                None => builder.finish(),
            }
        };
        for (attestation, is_marked) in [(None, true), (Some("A"), true), (Some("B"), false), (Some("C"), false)] {
            let (_, with) = callers.at_phone(Some(ALICE), &request(attestation));
            let is_asserted = with.iter().any(|(header, _)| *header == Header::PAssertedIdentity);
            assert_eq!((is_asserted, with.len() == 2), (true, is_marked), "{attestation:?}");
        }
    }

    #[test]
    fn a_mark_is_short_and_cannot_end_a_name() {
        assert!(Callers::check_mark("✓").is_ok() && Callers::check_mark("[ok]").is_ok());
        for wrong in ["", " ", "\"", "a<b", "a\nb", "123456789"] {
            assert!(Callers::check_mark(wrong).is_err(), "{wrong:?}");
        }
    }
}
