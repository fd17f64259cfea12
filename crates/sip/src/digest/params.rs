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
            rest = trim_start(rest);
            if rest.is_empty() {
                break;
            }
            let (name, behind) = split_at_equals(rest).ok_or(MalformedParams)?;
            let name = name.trim_end_matches(is_space);
            let (value, behind) = take_value(trim_start(behind)).ok_or(MalformedParams)?;
            let is_token =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_*.".contains(&byte));
            if !is_token || found.find(name).is_some() || found.params.len() == MAX_PARAMS {
                return Err(MalformedParams);
            }
            found.params.push((name, value));
            let behind = trim_start(behind);
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

fn trim_start(text: &str) -> &str {
    let is_text = |byte: u8| !is_space(char::from(byte));
    text.bytes().position(is_text).and_then(|start| text.get(start..)).unwrap_or_default()
}

fn split_at_equals(text: &str) -> Option<(&str, &str)> {
    let at = memchr::memchr(b'=', text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Cuts a token or a quoted string off.
fn take_value(text: &str) -> Option<(Value<'_>, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end =
            text.bytes().position(|byte| matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return (!token.is_empty() && memchr::memchr2(b'"', b'\\', token.as_bytes()).is_none())
            .then_some((Value::Token(token), rest));
    };
    let mark = memchr::memchr2(b'"', b'\\', inner.as_bytes())?;
    let end = if inner.as_bytes().get(mark) == Some(&b'"') { mark } else { closing_quote(inner)? };
    Some((Value::Quoted(inner.get(..end)?), inner.get(end + 1..)?))
}

/// Finds the quote that ends a string with escapes.
fn closing_quote(inner: &str) -> Option<usize> {
    let mut escaped = false;
    inner.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
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
