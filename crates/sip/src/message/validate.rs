//! What a message must satisfy before anybody acts upon it (RFC 3261 §8.1.1, §16.3; cases of RFC 4475 §3.1.2, §3.3).

use super::{CSeq, Header, MAX_VIAS, Message, Method, NameAddr, ParseError, Uri, Via, list};

/// Fields that appear exactly once.
const MANDATORY: [Header; 4] = [Header::From, Header::To, Header::CallId, Header::CSeq];

/// Fields that appear at most once, among those that somebody acts upon: of two, one reader would take the first and
/// another one the last.
const SINGLE: [Header; 20] = [
    Header::MaxForwards,
    Header::Expires,
    Header::MinExpires,
    Header::ContentType,
    Header::ContentDisposition,
    Header::RetryAfter,
    Header::MaxBreadth,
    Header::Event,
    Header::Join,
    Header::MinSe,
    Header::RAck,
    Header::RSeq,
    Header::ReferredBy,
    Header::ReferTo,
    Header::Replaces,
    Header::SessionExpires,
    Header::SipEtag,
    Header::SipIfMatch,
    Header::SubscriptionState,
    Header::Timestamp,
];

/// Fields whose values are addresses.
const ADDRESSES: [Header; 6] =
    [Header::Contact, Header::Route, Header::RecordRoute, Header::Path, Header::ReferTo, Header::ServiceRoute];

/// A set of header names, one bit each.
type Names = u128;

const fn bit(header: Header) -> Names {
    1 << header as u32
}

const fn bits(headers: &[Header]) -> Names {
    let (mut set, mut index) = (0, 0);
    while index < headers.len() {
        set |= bit(headers[index]);
        index += 1;
    }
    set
}

/// There are fewer names than bits.
const _: () = assert!((Header::Other as u32) < Names::BITS);

/// What decides the way of a request through the engine: read once, as it is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Essentials<'a> {
    /// The topmost Via.
    pub(crate) via: Via<'a>,
    /// Whether there are further Vias, those of proxies.
    pub(crate) was_forwarded: bool,
    /// The tag of To.
    pub(crate) to_tag: Option<&'a str>,
    /// `None` in a response.
    pub(crate) request_uri: Option<Uri<'a>>,
}

impl Message {
    /// Whether this is a request that may be answered, as far as it can be read: it has what an answer repeats (RFC 3261
    /// §8.2.6.2). An ACK is never answered (§17.1.1.3).
    pub(crate) fn is_answerable(&self) -> bool {
        self.is_request()
            && self.method() != Method::Ack
            && MANDATORY.iter().all(|needed| self.header(*needed).is_some())
    }
}

/// Checks all that somebody acts upon.
pub(super) fn read(message: &Message) -> Result<Essentials<'_>, ParseError> {
    let seen = check_counts(message)?;
    let (via, was_forwarded) = read_vias(message)?;
    let cseq = read_numbers(message, seen)?;
    read_tag(message, Header::From)?;
    let to_tag = read_tag(message, Header::To)?;
    if seen & bits(&ADDRESSES) != 0 {
        check_addresses(message)?;
    }
    let call_id = message.call_id();
    if call_id.is_empty() || call_id.bytes().any(super::scan::is_space) {
        return Err(ParseError::Malformed(Header::CallId));
    }
    let request_uri = if message.is_request() { Some(read_request_uri(message, cseq)?) } else { None };
    Ok(Essentials { via, was_forwarded, to_tag, request_uri })
}

/// The names that a message has, none of them too often.
fn check_counts(message: &Message) -> Result<Names, ParseError> {
    let (mut seen, mut repeated): (Names, Names) = (0, 0);
    for slot in &message.slots {
        repeated |= seen & bit(slot.header);
        seen |= bit(slot.header);
    }
    let (missing, repeated) = (bits(&MANDATORY) & !seen, repeated & bits(&MANDATORY) | repeated & bits(&SINGLE));
    if missing == 0 && repeated == 0 {
        return Ok(seen);
    }
    match MANDATORY.iter().chain(&SINGLE).find(|header| (missing | repeated) & bit(**header) != 0) {
        Some(header) if missing & bit(*header) != 0 => Err(ParseError::Missing(*header)),
        Some(header) => Err(ParseError::Repeated(*header)),
        None => Ok(seen),
    }
}

/// The topmost Via, and whether there are others.
fn read_vias(message: &Message) -> Result<(Via<'_>, bool), ParseError> {
    let mut top = None;
    for (index, value) in message.values(Header::Via).enumerate() {
        if index == MAX_VIAS {
            return Err(ParseError::TooManyVias);
        }
        let via = Via::parse(value)?;
        if via.has_bad_branch() {
            return Err(ParseError::Malformed(Header::Via));
        }
        top = Some((top.map_or(via, |(top, _)| top), index > 0));
    }
    top.ok_or(ParseError::Missing(Header::Via))
}

fn read_numbers(message: &Message, seen: Names) -> Result<CSeq<'_>, ParseError> {
    let cseq = message.cseq()?;
    if seen & bit(Header::MaxForwards) != 0 {
        message.max_forwards()?;
    }
    if seen & bit(Header::Expires) != 0 {
        message.expires()?;
    }
    for header in [Header::MinExpires, Header::MaxBreadth] {
        if seen & bit(header) != 0 && message.header(header).is_some_and(|value| list::decimal(value).is_none()) {
            return Err(ParseError::Malformed(header));
        }
    }
    Ok(cseq)
}

/// The tag of From or To, which are addresses with one tag at most.
fn read_tag(message: &Message, header: Header) -> Result<Option<&str>, ParseError> {
    let address = message.name_addr(header)?;
    let mut tags = address.params.iter().filter(|(name, _)| name.eq_ignore_ascii_case("tag"));
    let tag = tags.next().and_then(|(_, value)| value);
    if tags.next().is_some() || check_uri(address.uri).is_err() {
        return Err(ParseError::Malformed(header));
    }
    Ok(tag)
}

fn check_addresses(message: &Message) -> Result<(), ParseError> {
    for slot in message.slots.iter().filter(|slot| bit(slot.header) & bits(&ADDRESSES) != 0) {
        for value in list::split_values(message.text(slot.value())) {
            check_address(value).ok_or(ParseError::Malformed(slot.header))?;
        }
    }
    Ok(())
}

fn check_address(value: &str) -> Option<()> {
    let address = NameAddr::parse(value).ok()?;
    if address.is_wildcard() {
        return Some(());
    }
    check_uri(address.uri).ok()?;
    // A value that is no number counts as an hour (RFC 3261 §20.10); a number that does not fit has no meaning.
    let is_overlarge = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()) && list::decimal(value).is_none();
    (!address.param("expires").flatten().is_some_and(is_overlarge)).then_some(())
}

/// Other schemes than ours are no fault in themselves (RFC 4475 §3.3.4), but every URI has one.
fn check_uri(uri: &str) -> Result<(), ParseError> {
    Uri::parse(uri).map(|_| ())
}

/// The Request-URI of a request whose CSeq is this.
fn read_request_uri<'a>(message: &'a Message, cseq: CSeq<'a>) -> Result<Uri<'a>, ParseError> {
    if cseq.method != message.method_name() {
        return Err(ParseError::CSeqMethod);
    }
    let uri = Uri::parse(message.request_uri())?;
    if uri.is_sip() {
        // RFC 3261 §19.1.1: headers have no place in a Request-URI, and nobody must act on them.
        return if uri.headers.is_empty() { Ok(uri) } else { Err(ParseError::Uri) };
    }
    // What proxies of any kind route by: numbers (RFC 3966) and services, emergency calls above all (RFC 5031).
    let is_routable = ["tel", "urn"].iter().any(|scheme| uri.scheme.eq_ignore_ascii_case(scheme));
    if is_routable { Ok(uri) } else { Err(ParseError::Scheme) }
}
