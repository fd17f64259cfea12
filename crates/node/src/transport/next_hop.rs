//! The name of the host that a message is meant for, which is what a TLS certificate has to prove (RFC 5922 §7.3).

use std::sync::Arc;

use meshtone_sip::message::{Header, Message, NameAddr, Uri};

/// A request's next hop: its topmost Route, else its Request-URI (RFC 3261 §8.1.2). A response's: the host that sent
/// the request, by its Via (§18.2.2).
pub(super) fn name(message: &Message) -> Option<Arc<str>> {
    let host = if message.is_request() {
        let route = message.values(Header::Route).next();
        let uri = match route {
            Some(route) => NameAddr::parse(route).ok()?.uri,
            None => message.request_uri(),
        };
        Uri::parse(uri).ok()?.host.to_owned()
    } else {
        message.top_via().ok()?.host.to_owned()
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    (!bare.is_empty()).then(|| bare.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name_of(start: &str, fields: &str) -> Option<String> {
        let via = "Via: SIP/2.0/TLS Client.example:5061;branch=z9hG4bK1\r\n";
        let text = format!("{start}\r\n{via}{fields}Call-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n");
        name(&Message::parse(text.into()).unwrap()).map(|name| name.to_string())
    }

    #[test]
    fn the_topmost_route_goes_before_the_request_uri() {
        let start = "OPTIONS sip:bob@B.example;transport=tls SIP/2.0";
        assert_eq!(name_of(start, "").unwrap(), "b.example");
        assert_eq!(name_of(start, "Route: <sip:p.example:5061;lr>, <sip:q.example;lr>\r\n").unwrap(), "p.example");
        assert_eq!(name_of("OPTIONS sip:bob@[::1]:5061 SIP/2.0", "").unwrap(), "::1");
        assert_eq!(name_of("OPTIONS tel:+15551234 SIP/2.0", ""), None);
    }

    #[test]
    fn an_answer_goes_to_whom_its_via_names() {
        assert_eq!(name_of("SIP/2.0 200 OK", "").unwrap(), "client.example");
    }
}
