//! The grammar of credentials and challenges: `Digest name=value, name="value"` (RFC 3261 §25.1, RFC 7616 §3.4).

use std::borrow::Cow;

use smallvec::SmallVec;

/// Parameters in one value, at most; RFC 7616 defines thirteen.
pub const MAX_PARAMS: usize = 24;

/// The parameters of a `Digest` value, as they are written; each name occurs once.
#[derive(Debug, Clone, Default)]
pub struct DigestParams<'a> {
    params: SmallVec<[(&'a str, Value<'a>); 16]>,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Token(&'a str),
    /// Without its quotes, with its escapes.
    Quoted(&'a str),
}

impl<'a> DigestParams<'a> {
    /// Reads a value of the scheme `Digest`. `Ok(None)` for another scheme.
    ///
    /// # Errors
    ///
    /// When it is malformed: a parameter without a value, an open quote, a name twice, more than [`MAX_PARAMS`].
    pub fn parse(value: &'a str) -> Result<Option<DigestParams<'a>>, MalformedParams> {
        let value = value.trim_matches(is_space);
        let (scheme, mut rest) = value.split_once(is_space).unwrap_or((value, ""));
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Ok(None);
        }
        let mut found = DigestParams::default();
        loop {
            rest = rest.trim_start_matches(is_space);
            if rest.is_empty() {
                break;
            }
            let (name, behind) = rest.split_once('=').ok_or(MalformedParams)?;
            let name = name.trim_matches(is_space);
            let (value, behind) = take_value(behind.trim_start_matches(is_space)).ok_or(MalformedParams)?;
            let is_token =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*.".contains(&byte));
            if !is_token || found.find(name).is_some() || found.params.len() == MAX_PARAMS {
                return Err(MalformedParams);
            }
            found.params.push((name, value));
            let behind = behind.trim_start_matches(is_space);
            rest = match behind.strip_prefix(',') {
                Some(next) => next,
                None if behind.is_empty() => behind,
                None => return Err(MalformedParams),
            };
        }
        Ok(Some(found))
    }

    /// Returns a value as it is written, without its quotes: the `unq()` of RFC 7616 §3.3, which goes into hashes.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.find(name).map(|value| match value {
            Value::Token(text) | Value::Quoted(text) => text,
        })
    }

    /// Returns a value with its escapes resolved.
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.find(name).map(|value| match value {
            Value::Quoted(text) if text.contains('\\') => Cow::Owned(unescape(text)),
            Value::Token(text) | Value::Quoted(text) => Cow::Borrowed(text),
        })
    }

    fn find(&self, name: &str) -> Option<Value<'a>> {
        self.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// The peer's credentials or challenge do not follow the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed digest parameters")]
pub struct MalformedParams;

/// Cuts a token or a quoted string off.
fn take_value(text: &str) -> Option<(Value<'_>, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(|c| c == ',' || is_space(c)).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return (!token.is_empty() && !token.contains(['"', '\\'])).then_some((Value::Token(token), rest));
    };
    let mut escaped = false;
    let end = inner.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })?;
    Some((Value::Quoted(inner.get(..end)?), inner.get(end + 1..)?))
}

fn unescape(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

/// Writes a quoted string; what may not stand in one is left out.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
