//! The first line of a message: request line or status line (RFC 3261 §7.1, §7.2).

use super::classes::{TOKEN, VISIBLE, is_token, run};
use super::scan::{Span, StartLine};
use super::{Method, ParseError};

/// Reads the first line. With a defect there may still be a reading, good enough to answer the request.
pub(super) fn parse(line: &[u8]) -> (Option<StartLine>, Option<ParseError>) {
    if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
        match status_line(line) {
            Ok(status_line) => (Some(status_line), None),
            Err(error) => (None, Some(error)),
        }
    } else {
        match request_line(line) {
            Ok(request_line) => (Some(request_line), None),
            Err(error) => (lenient_request_line(line), Some(error)),
        }
    }
}

/// `Method SP Request-URI SP SIP-Version`, with exactly these two spaces.
fn request_line(line: &[u8]) -> Result<StartLine, ParseError> {
    let first = run(line, 0, TOKEN);
    let last = run(line, first + 1, VISIBLE);
    let method = method(line, first).ok_or(ParseError::StartLine)?;
    if line.get(first) != Some(&b' ') || last <= first + 1 || line.get(last) != Some(&b' ') {
        return Err(ParseError::StartLine);
    }
    check_version(line.get(last + 1..).unwrap_or_default())?;
    Ok(StartLine::Request { method, name: Span::new(0, first), uri: Span::new(first + 1, last) })
}

/// What a malformed request line probably means: the first word is the method, what follows is the Request-URI.
fn lenient_request_line(line: &[u8]) -> Option<StartLine> {
    let first = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let method = method(line, first)?;
    let uri = line.get(first..).unwrap_or_default().trim_ascii_end();
    let uri = match memchr::memmem::rfind(uri, b" SIP/") {
        Some(version) => uri.get(..version).unwrap_or_default().trim_ascii_end(),
        None => uri,
    };
    let lead = uri.len() - uri.trim_ascii_start().len();
    Some(StartLine::Request { method, name: Span::new(0, first), uri: Span::new(first + lead, first + uri.len()) })
}

fn method(line: &[u8], end: usize) -> Option<Method> {
    let name = line.get(..end).filter(|name| !name.is_empty() && name.iter().all(|byte| is_token(*byte)))?;
    Some(Method::from_name(std::str::from_utf8(name).ok()?))
}

/// `SIP-Version SP Status-Code SP Reason-Phrase`; the space before an empty phrase may be missing, as some peers leave it out.
fn status_line(line: &[u8]) -> Result<StartLine, ParseError> {
    let space = memchr::memchr(b' ', line).ok_or(ParseError::StartLine)?;
    check_version(line.get(..space).unwrap_or_default())?;
    let rest = line.get(space + 1..).unwrap_or_default();
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if !matches!(rest.get(digits), None | Some(b' ')) {
        return Err(ParseError::StartLine);
    }
    let [a, b, c] = rest.get(..digits).unwrap_or_default() else {
        return Err(ParseError::StatusCode);
    };
    let status = [a, b, c].into_iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if !(100..700).contains(&status) {
        return Err(ParseError::StatusCode);
    }
    let reason = (space + 1 + digits + 1).min(line.len());
    Ok(StartLine::Response { status, reason: Span::new(reason, line.len()) })
}

/// The version must be SIP/2.0; something that only looks like a version is another version.
fn check_version(version: &[u8]) -> Result<(), ParseError> {
    if version == b"SIP/2.0" || version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Ok(());
    }
    let is_version = version.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
        && version.iter().skip(4).all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && version.len() > 4;
    Err(if is_version { ParseError::Version } else { ParseError::StartLine })
}
