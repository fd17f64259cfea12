//! The little SIP that the tests speak: lines, not a parser. It must not share a mistake with the code under test.

use std::fmt;

use super::unique;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sip {
    /// The bytes.
    pub raw: Vec<u8>,
    /// Request or status line.
    pub start: String,
    /// Header fields in their order, names as written.
    pub headers: Vec<(String, String)>,
    /// What follows the empty line.
    pub body: Vec<u8>,
}

impl fmt::Display for Sip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.raw))
    }
}

impl Sip {
    /// Takes a datagram apart; `None` for keep-alives and what is no message.
    pub fn parse(raw: &[u8]) -> Option<Sip> {
        let end = head_end(raw)?;
        let text = std::str::from_utf8(&raw[..end]).ok()?;
        let mut lines = text.split("\r\n");
        let start = lines.next()?.to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        Some(Sip { raw: raw.to_vec(), start, headers, body: raw[end + 4..].to_vec() })
    }

    /// Takes one complete message off the front of what a stream has brought.
    pub fn take_from_stream(received: &mut Vec<u8>) -> Option<Sip> {
        let blank = received.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        received.drain(..blank);
        let end = head_end(received)?;
        let head = Sip::parse(&received[..end + 4])?;
        let length: usize = head.header("Content-Length").and_then(|value| value.parse().ok()).unwrap_or(0);
        let total = end + 4 + length;
        if received.len() < total {
            return None;
        }
        let message = Sip::parse(&received[..total]);
        received.drain(..total);
        message
    }

    /// The status of a response, 0 for a request.
    pub fn status(&self) -> u16 {
        let mut words = self.start.split(' ');
        match (words.next(), words.next()) {
            (Some("SIP/2.0"), Some(status)) => status.parse().unwrap_or(0),
            _ => 0,
        }
    }

    /// The method: the request line's, or that of the request a response belongs to.
    pub fn method(&self) -> &str {
        let in_cseq = self.header("CSeq").and_then(|value| value.split_whitespace().nth(1));
        let first = self.start.split(' ').next();
        if self.status() == 0 { first.unwrap_or_default() } else { in_cseq.unwrap_or_default() }
    }

    /// The Request-URI.
    pub fn request_uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first field of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields(name).next()
    }

    /// All fields of this name.
    pub fn fields(&self, name: &str) -> impl Iterator<Item = &str> {
        let name = name.to_owned();
        self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(&name)).map(|(_, value)| value.as_str())
    }

    /// The names of all fields, in their order.
    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The branch of the topmost Via.
    pub fn branch(&self) -> Option<String> {
        parameter(self.header("Via")?.split(',').next()?, "branch")
    }

    /// Whether it answers the request with this branch and method.
    pub fn answers(&self, branch: &str, method: &str) -> bool {
        self.status() != 0 && self.branch().as_deref() == Some(branch) && self.method() == method
    }

    /// A response to this request.
    pub fn response(&self, status: u16, reason: &str, contact: &str, body: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for (name, value) in &self.headers {
            let tagged = name.eq_ignore_ascii_case("To") && status > 100 && !value.contains(";tag=");
            if tagged {
                text += &format!("{name}: {value};tag={}\r\n", self.callee_tag());
            } else if ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"]
                .iter()
                .any(|copied| name.eq_ignore_ascii_case(copied))
            {
                text += &format!("{name}: {value}\r\n");
            }
        }
        text += &format!("Contact: <{contact}>\r\n");
        if !body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }

    /// Our tag for this request: the same in every answer to it, another one for every branch.
    fn callee_tag(&self) -> String {
        let branch = self.branch().unwrap_or_default();
        let sum = branch.bytes().fold(5381_u64, |sum, byte| sum.wrapping_mul(33) ^ u64::from(byte));
        format!("callee{sum:x}")
    }
}

fn head_end(raw: &[u8]) -> Option<usize> {
    raw.windows(4).position(|window| window == b"\r\n\r\n")
}

fn parameter(value: &str, name: &str) -> Option<String> {
    let mut parts = value.split(';').skip(1).filter_map(|part| part.split_once('='));
    parts.find(|(other, _)| other.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
}

/// A request to be sent; its Via comes from the phone that sends it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Request-URI.
    pub uri: String,
    /// The From field's value.
    pub from: String,
    /// The To field's value.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// Further fields.
    pub headers: Vec<(String, String)>,
    /// Content type and body.
    pub body: Option<(String, String)>,
}

impl Request {
    /// A request outside of any dialog; `from` and `to` are URIs.
    pub fn new(method: &str, uri: &str, from: &str, to: &str) -> Request {
        Request {
            method: method.to_owned(),
            uri: uri.to_owned(),
            from: format!("<{from}>;tag=t{}", unique()),
            to: format!("<{to}>"),
            call_id: format!("c{}@127.0.0.1", unique()),
            cseq: 1,
            headers: Vec::new(),
            body: None,
        }
    }

    /// Says this in From, but for the tag.
    pub fn with_from(mut self, from: &str) -> Request {
        self.from = format!("{from};tag=t{}", unique());
        self
    }

    /// Adds a header field.
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    pub fn with_body(mut self, content_type: &str, body: &str) -> Request {
        self.body = Some((content_type.to_owned(), body.to_owned()));
        self
    }

    /// The bytes to send, with this Via value.
    pub fn to_bytes(&self, via: &str) -> Vec<u8> {
        let Request { method, uri, from, to, call_id, cseq, .. } = self;
        let mut text = format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let body = self.body.as_ref().map_or("", |(content_type, body)| {
            text += &format!("Content-Type: {content_type}\r\n");
            body
        });
        text += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
}

/// One side of a dialog.
#[derive(Debug, Clone)]
pub struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
}

impl Dialog {
    /// The caller's side, from the INVITE and its 2xx.
    pub fn of_caller(invite: &Request, answer: &Sip) -> Dialog {
        let mut routes = route_values(answer);
        routes.reverse();
        Dialog {
            call_id: invite.call_id.clone(),
            local: invite.from.clone(),
            remote: answer.header("To").unwrap_or_default().to_owned(),
            target: bare_uri(answer.header("Contact").unwrap_or_default()),
            routes,
            cseq: invite.cseq,
        }
    }

    /// The callee's side, from the INVITE it has accepted.
    pub fn of_callee(invite: &Sip) -> Dialog {
        let to = invite.header("To").unwrap_or_default();
        let local = if to.contains(";tag=") { to.to_owned() } else { format!("{to};tag={}", invite.callee_tag()) };
        Dialog {
            call_id: invite.header("Call-ID").unwrap_or_default().to_owned(),
            local,
            remote: invite.header("From").unwrap_or_default().to_owned(),
            target: bare_uri(invite.header("Contact").unwrap_or_default()),
            routes: route_values(invite),
            cseq: 100,
        }
    }

    /// How many proxies stay in the path.
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    /// A request within the dialog, with the CSeq of the last one.
    pub fn request(&self, method: &str) -> Request {
        let mut request = Request {
            method: method.to_owned(),
            uri: self.target.clone(),
            from: self.local.clone(),
            to: self.remote.clone(),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            headers: Vec::new(),
            body: None,
        };
        for route in &self.routes {
            request = request.with("Route", route);
        }
        request
    }

    /// The next request within the dialog.
    pub fn next_request(&mut self, method: &str) -> Request {
        self.cseq += 1;
        self.request(method)
    }
}

fn route_values(message: &Sip) -> Vec<String> {
    message.fields("Record-Route").flat_map(|value| value.split(',')).map(|value| value.trim().to_owned()).collect()
}

fn bare_uri(value: &str) -> String {
    match (value.find('<'), value.find('>')) {
        (Some(start), Some(end)) if start < end => value[start + 1..end].to_owned(),
        _ => value.split(';').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_gives_messages_one_by_one() {
        let one = "SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\nhi";
        let mut received = format!("\r\n\r\n{one}{one}").into_bytes();
        received.pop();
        assert_eq!(Sip::take_from_stream(&mut received).map(|message| message.body), Some(b"hi".to_vec()));
        assert_eq!(Sip::take_from_stream(&mut received), None);
        received.push(b'i');
        assert_eq!(Sip::take_from_stream(&mut received).map(|message| message.status()), Some(200));
    }

    #[test]
    fn a_caller_walks_the_recorded_route_backwards() {
        let invite = Request::new("INVITE", "sip:bob@mesh.test", "sip:alice@mesh.test", "sip:bob@mesh.test");
        let answer = Sip::parse(
            b"SIP/2.0 200 OK\r\nRecord-Route: <sip:b;lr>, <sip:a;lr>\r\nTo: <sip:bob@mesh.test>;tag=x\r\n\
              Contact: <sip:bob@127.0.0.1:9>\r\n\r\n",
        );
        let request = Dialog::of_caller(&invite, &answer.unwrap()).next_request("BYE");
        let routes: Vec<&str> = request.headers.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(
            (routes, request.uri.as_str(), request.cseq),
            (vec!["<sip:a;lr>", "<sip:b;lr>"], "sip:bob@127.0.0.1:9", 2)
        );
    }
}
