//! The opening handshake of a WebSocket (RFC 6455 §4.2, RFC 7118 §4): a pure judgement over one HTTP request.
//!
//! A browser lets any page open a WebSocket to anywhere and says in `Origin` whose page it is. So that is what decides
//! who may speak to this node from within a person's browser; other programs send no Origin.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use data_encoding::BASE64;

/// What RFC 6455 §1.3 appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Header fields of an upgrade request; browsers send some 15.
const MAX_FIELDS: usize = 64;
/// The path that SIP is spoken at.
const PATH: &str = "/sip";
/// Where some phones speak it, too; whoever does not ask for a WebSocket there wants the page.
const ROOT: &str = "/";

/// Whose pages may connect.
pub(in crate::transport) struct Origins(Vec<String>);

impl Origins {
    /// Allows these origins, such as `https://example.org`, beside pages of the very host that is connected to.
    pub(in crate::transport) fn new(allowed: Vec<String>) -> Origins {
        Origins(allowed.into_iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect())
    }

    fn allow(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let of_page = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).map(without_port);
        of_page.is_some_and(|page| !page.is_empty() && page.eq_ignore_ascii_case(without_port(host)))
            || self.0.contains(&origin)
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons within brackets belong to an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

/// Why a request is not upgraded: the whole HTTP response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    reason: &'static str,
    extra: &'static str,
}

impl Refusal {
    const fn new(status: u16, reason: &'static str) -> Refusal {
        Refusal { status, reason, extra: "" }
    }

    pub(super) fn to_response(&self) -> String {
        let Refusal { status, reason, extra } = self;
        format!("HTTP/1.1 {status} {reason}\r\n{extra}Connection: close\r\nContent-Length: 0\r\n\r\n")
    }
}

pub(super) const TOO_LARGE: Refusal = Refusal::new(431, "Request Header Fields Too Large");
const BAD: Refusal = Refusal::new(400, "Bad Request");

/// Whether a request is for the node's pages, by its path. What cannot be read is not: [`judge`] says what is wrong with it. The head
/// may be followed by the beginning of a body.
pub(super) fn is_for_page(head: &[u8]) -> bool {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let Ok(httparse::Status::Complete(_)) = request.parse(head) else { return false };
    match path_of(&request) {
        PATH => false,
        ROOT => !Fields(request.headers).has_token("Upgrade", "websocket"),
        _ => true,
    }
}

fn path_of<'a>(request: &httparse::Request<'_, 'a>) -> &'a str {
    request.path.unwrap_or_default().split('?').next().unwrap_or_default()
}

/// Reads an upgrade request, up to and with its empty line, and returns the response that accepts it.
pub(super) fn judge(head: &[u8], origins: &Origins) -> Result<String, Refusal> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        // What follows the head was sent before this node agreed to anything: not WebSocket, whatever it is.
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Ok(httparse::Status::Complete(_) | httparse::Status::Partial) => return Err(BAD),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(BAD),
    }
    if request.method != Some("GET") {
        return Err(Refusal { extra: "Allow: GET\r\n", ..Refusal::new(405, "Method Not Allowed") });
    }
    if request.version != Some(1) {
        return Err(Refusal::new(505, "HTTP Version Not Supported"));
    }
    if ![PATH, ROOT].contains(&path_of(&request)) {
        return Err(Refusal::new(404, "Not Found"));
    }
    let fields = Fields(request.headers);
    let host = fields.only("Host")?.ok_or(BAD)?;
    if !fields.has_token("Upgrade", "websocket") || !fields.has_token("Connection", "upgrade") {
        return Err(Refusal {
            extra: "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            ..Refusal::new(426, "Upgrade Required")
        });
    }
    if fields.only("Sec-WebSocket-Version")? != Some("13") {
        return Err(Refusal { extra: "Sec-WebSocket-Version: 13\r\n", ..Refusal::new(426, "Upgrade Required") });
    }
    if fields.only("Origin")?.is_some_and(|origin| !origins.allow(origin, host)) {
        return Err(Refusal::new(403, "Forbidden"));
    }
    if !fields.has_token("Sec-WebSocket-Protocol", "sip") {
        return Err(Refusal::new(400, "The WebSocket subprotocol must be sip"));
    }
    let key = fields.only("Sec-WebSocket-Key")?.ok_or(BAD)?;
    if BASE64.decode(key.as_bytes()).map_or(true, |nonce| nonce.len() != 16) {
        return Err(BAD);
    }
    let accept = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref());
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    ))
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of a field that must not come twice.
    fn only(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let (first, second) = (values.next(), values.next());
        match (first, second) {
            (None, _) => Ok(None),
            (Some(value), None) => std::str::from_utf8(value).map(Some).map_err(|_| BAD),
            (Some(_), Some(_)) => Err(BAD),
        }
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|found| found.trim().eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The handshake of RFC 6455 §1.3, asking for SIP.
    const GOOD: &str = "GET /sip HTTP/1.1\r\nHost: node.example:8080\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn judged(head: &str) -> Result<String, u16> {
        let origins = Origins::new(vec!["https://Page.example/".to_owned()]);
        judge(head.as_bytes(), &origins).map_err(|refusal| refusal.status)
    }

    fn from_origin(origin: &str) -> Result<String, u16> {
        judged(&GOOD.replace("Upgrade: websocket", &format!("Upgrade: websocket\r\nOrigin: {origin}")))
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let response = judged(GOOD).unwrap();
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
        assert!(response.contains("Sec-WebSocket-Protocol: sip\r\n"));
        assert!(judged(&GOOD.replace("/sip ", "/ ")).is_ok());
    }

    #[test]
    fn what_is_not_for_sip_is_for_the_page() {
        let for_page = |from: &str, to: &str| is_for_page(GOOD.replace(from, to).as_bytes());
        assert!(!for_page("", ""));
        assert!(!for_page("/sip ", "/ ") && !for_page("/sip ", "/?x ") && !for_page("/sip ", "/sip?x "));
        assert!(!for_page("Upgrade: websocket\r\n", ""), "SIP alone is spoken there");
        assert!(!for_page("GET", "POST"));
        assert!(!for_page("GET /sip HTTP/1.1", "OPTIONS sip:a SIP/2.0"), "nobody can tell whom that is for");
        assert!(for_page("/sip ", "/sips ") && for_page("/sip ", "/enroll "));
        assert!(is_for_page(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(is_for_page(b"POST /enroll HTTP/1.0\r\nHost: a\r\nContent-Length: 3\r\n\r\na=b"));
    }

    #[test]
    fn a_page_of_this_host_or_an_allowed_one_may_connect_and_no_other() {
        for origin in ["http://node.example", "https://NODE.example:8443", "https://page.example"] {
            assert!(from_origin(origin).is_ok(), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "https://node.example.evil.example",
            "https://evilnode.example",
            "http://page.example",
            "null",
            "",
            "file://",
            "https://:1",
        ] {
            assert_eq!(from_origin(origin), Err(403), "{origin}");
        }
    }

    #[test]
    fn what_is_no_websocket_for_sip_is_refused() {
        for (from, to, status) in [
            ("GET", "POST", 405),
            ("HTTP/1.1", "HTTP/1.0", 505),
            ("/sip ", "/admin ", 404),
            ("Protocol", "Protocol-X", 400),
            (": sip", ": xmpp", 400),
            (": sip", ": xsip", 400),
            ("Version: 13", "Version: 8", 426),
            ("Upgrade: websocket\r\n", "", 426),
            ("Host: node.example:8080\r\n", "", 400),
            ("Host: ", "Host: other.example\r\nHost: ", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", 400),
            ("GET /sip HTTP/1.1", "OPTIONS sip:a SIP/2.0", 400),
            ("13\r\n\r\n", "13\r\n\r\nOPTIONS", 400),
        ] {
            assert_eq!(judged(&GOOD.replace(from, to)), Err(status), "{from} -> {to}");
        }
        let many = "X: y\r\n".repeat(MAX_FIELDS);
        assert_eq!(judged(&GOOD.replace("Host:", &format!("{many}Host:"))), Err(431));
    }
}
