//! History-Info: which addresses a request was sent to on its way (RFC 7044).
//!
//! Written where somebody wants it (the request has one already, or supports it) and where a redirection changed who is
//! called. Not where the caller wants privacy: entries tell addresses.

use super::plan::Former;
use crate::message::{Header, Message, NameAddr, Uri};

/// Most entries that a request may gather; one more than hops that it may take.
const ENTRIES_MAX: usize = 71;

/// The History-Info values to add to the copy for one target, which is the `number`th of the request.
pub(crate) fn entries(request: &Message, uri: &str, number: usize, former: Option<&Former>) -> Vec<String> {
    let mut last = None;
    let mut count = 0;
    for value in request.values(Header::HistoryInfo) {
        last = NameAddr::parse(value).ok();
        count += 1;
    }
    let is_wanted = last.is_some() || former.is_some() || lists(request, Header::Supported, "histinfo");
    let is_private = [";history", ";header", ";session"].iter().any(|what| {
        request.fields(Header::Privacy).any(|value| format!(";{}", value.replace([' ', '\t'], "")).contains(what))
    });
    if !is_wanted || is_private || count >= ENTRIES_MAX {
        return Vec::new();
    }
    let mut entries = Vec::new();
    let base = match last.as_ref().map(|entry| (entry.uri, entry.param("index").flatten().unwrap_or("1"))) {
        // The proxy before wrote what we got.
        Some((known, index)) if same(known, request.request_uri()) => index.to_owned(),
        Some((_, index)) => {
            let index = format!("{index}.1");
            entries.push(entry(request.request_uri(), &index, ""));
            index
        }
        None => {
            entries.push(entry(request.request_uri(), "1", ""));
            "1".to_owned()
        }
    };
    let mut how = format!(";rc={base}");
    if let Some(former) = former {
        let index = format!("{base}.{}", former.number);
        entries.push(entry(&with_cause(&former.uri, former.status), &index, &how));
        // The redirecting server mapped the address to another user (RFC 7044 §10.4).
        how = format!(";mp={index}");
    }
    if former.is_some() || !same(uri, request.request_uri()) {
        entries.push(entry(uri, &format!("{base}.{number}"), &how));
    }
    entries
}

fn entry(uri: &str, index: &str, how: &str) -> String {
    format!("<{uri}>;index={index}{how}")
}

/// The URI with the reason why the request went on from there (RFC 7044 §10.2).
fn with_cause(uri: &str, status: u16) -> String {
    match Uri::parse(uri) {
        Ok(parsed) if parsed.is_sip() => {
            let separator = if uri.contains('?') { '&' } else { '?' };
            format!("{uri}{separator}Reason=SIP%3Bcause%3D{status}")
        }
        Ok(_) | Err(_) => uri.to_owned(),
    }
}

fn same(left: &str, right: &str) -> bool {
    left == right
        || match (Uri::parse(left), Uri::parse(right)) {
            (Ok(left), Ok(right)) => left.equivalent(&right),
            _ => false,
        }
}

/// Whether an option tag or the like is among the values of a header.
pub(crate) fn lists(message: &Message, header: Header, tag: &str) -> bool {
    message.values(header).any(|value| value.eq_ignore_ascii_case(tag))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::message::Builder;

    fn invite(extra: &[(Header, &str)]) -> Message {
        let mut builder = Builder::request("INVITE", "sip:bob@example.org");
        for (header, value) in extra {
            builder = builder.header(*header, value);
        }
        builder.finish()
    }

    #[test]
    fn nothing_is_told_to_whom_it_does_not_matter() {
        assert!(entries(&invite(&[]), "sip:bob@192.0.2.4", 1, None).is_empty());
    }

    #[test]
    fn a_caller_that_supports_it_gets_the_address_and_each_contact() {
        let invite = invite(&[(Header::Supported, "timer, histinfo")]);
        assert_eq!(
            entries(&invite, "sip:bob@192.0.2.4", 2, None),
            ["<sip:bob@example.org>;index=1", "<sip:bob@192.0.2.4>;index=1.2;rc=1"]
        );
    }

    #[test]
    fn entries_go_on_from_the_last_one() {
        let invite =
            invite(&[(Header::HistoryInfo, "<sip:office@example.net>;index=1, <sip:bob@example.org>;index=1.1;mp=1")]);
        assert_eq!(entries(&invite, "sip:bob@192.0.2.4", 1, None), ["<sip:bob@192.0.2.4>;index=1.1.1;rc=1.1"]);
    }

    #[test]
    fn a_redirection_says_who_redirected_and_why() {
        let former = Former { uri: "sip:bob@192.0.2.4".into(), number: 1, status: 302 };
        assert_eq!(
            entries(&invite(&[]), "sip:carol@192.0.2.5", 2, Some(&former)),
            [
                "<sip:bob@example.org>;index=1",
                "<sip:bob@192.0.2.4?Reason=SIP%3Bcause%3D302>;index=1.1;rc=1",
                "<sip:carol@192.0.2.5>;index=1.2;mp=1.1"
            ]
        );
    }

    #[test]
    fn a_caller_who_wants_privacy_leaves_no_trail() {
        let invite = invite(&[(Header::Supported, "histinfo"), (Header::Privacy, "id; history")]);
        assert!(entries(&invite, "sip:bob@192.0.2.4", 1, None).is_empty());
    }
}
