//! What a message must satisfy before anybody acts upon it (RFC 3261 §8.1.1, §16.3; cases of RFC 4475 §3.1.2, §3.3).

use super::classes::holds_space;
use super::known::{Address, Known, Sequence};
use super::slots::{Names, bit};
use super::{CSeq, Header, MAX_VIAS, Method, NameAddr, ParseError, Parsed, Uri, Via, list};

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

/// Fields whose values are addresses, beside Contact.
const ADDRESSES: [Header; 5] =
    [Header::Route, Header::RecordRoute, Header::Path, Header::ReferTo, Header::ServiceRoute];

const fn bits(headers: &[Header]) -> Names {
    let (mut set, mut index) = (0, 0);
    while index < headers.len() {
        set |= bit(headers[index]);
        index += 1;
    }
    set
}

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

impl Parsed {
    /// Whether this is a request that may be answered, as far as it can be read: it has what an answer repeats (RFC 3261
    /// §8.2.6.2). An ACK is never answered (§17.1.1.3).
    pub(crate) fn is_answerable(&self) -> bool {
        self.is_request()
            && self.method() != Method::Ack
            && MANDATORY.iter().all(|needed| self.header(*needed).is_some())
    }
}

/// Checks all that somebody acts upon, and says what is known by that.
pub(super) fn read(message: &Parsed) -> Result<(Essentials<'_>, Known), ParseError> {
    check_counts(message)?;
    let (via, was_forwarded) = read_vias(message)?;
    let cseq = read_numbers(message)?;
    let (_, from) = read_tag(message, Header::From)?;
    let (to_tag, to) = read_tag(message, Header::To)?;
    let contact = check_addresses(message, Header::Contact)?;
    for header in ADDRESSES.into_iter().filter(|header| message.slots.contains(*header)) {
        check_addresses(message, header)?;
    }
    let call_id = message.call_id();
    if call_id.is_empty() || holds_space(call_id.as_bytes()) {
        return Err(ParseError::Malformed(Header::CallId));
    }
    let request_uri = if message.is_request() { Some(read_request_uri(message, cseq)?) } else { None };
    let number = message.header(Header::CSeq).and_then(|value| Sequence::note(value, cseq));
    Ok((Essentials { via, was_forwarded, to_tag, request_uri }, Known { from, to, contact, cseq: number }))
}

/// Whether no field is missing, or there too often.
fn check_counts(message: &Parsed) -> Result<(), ParseError> {
    let is_missing = |header: &Header| !message.slots.contains(*header);
    let repeated = message.slots.repeated() & (bits(&MANDATORY) | bits(&SINGLE));
    if repeated == 0 && !MANDATORY.iter().any(is_missing) {
        return Ok(());
    }
    for header in MANDATORY.iter().chain(&SINGLE) {
        if MANDATORY.contains(header) && is_missing(header) {
            return Err(ParseError::Missing(*header));
        }
        if repeated & bit(*header) != 0 {
            return Err(ParseError::Repeated(*header));
        }
    }
    Ok(())
}

/// The topmost Via, and whether there are others.
fn read_vias(message: &Parsed) -> Result<(Via<'_>, bool), ParseError> {
    let (mut top, mut count) = (None, 0);
    for mut list in message.fields(Header::Via) {
        while let Some(via) = Via::take_from(&mut list) {
            if count == MAX_VIAS {
                return Err(ParseError::TooManyVias);
            }
            let via = via?;
            if via.has_bad_branch() {
                return Err(ParseError::Malformed(Header::Via));
            }
            count += 1;
            top.get_or_insert(via);
        }
    }
    top.map(|via| (via, count > 1)).ok_or(ParseError::Missing(Header::Via))
}

fn read_numbers(message: &Parsed) -> Result<CSeq<'_>, ParseError> {
    let cseq = message.cseq()?;
    message.max_forwards()?;
    message.expires()?;
    for header in [Header::MinExpires, Header::MaxBreadth] {
        if message.slots.contains(header) && message.header(header).is_some_and(|value| list::decimal(value).is_none())
        {
            return Err(ParseError::Malformed(header));
        }
    }
    Ok(cseq)
}

/// The tag of From or To, which are addresses with one tag at most, and what is to be known of it.
fn read_tag(message: &Parsed, header: Header) -> Result<(Option<&str>, Option<Address>), ParseError> {
    let value = message.header(header).ok_or(ParseError::Missing(header))?;
    let (address, tags) = NameAddr::parse_tagged(value).map_err(|_| ParseError::Malformed(header))?;
    if tags.count > 1 || address.is_wildcard() {
        return Err(ParseError::Malformed(header));
    }
    Ok((tags.first, Address::note(value, &address, tags.first)))
}

/// Checks all addresses in the fields of this name; says what is to be known of the only one.
fn check_addresses(message: &Parsed, header: Header) -> Result<Option<Address>, ParseError> {
    let (mut only, mut count) = (None, 0);
    for field in message.fields(header) {
        let mut list = field;
        while let Some(address) = NameAddr::take_checked(&mut list) {
            let address = address.map_err(|_| ParseError::Malformed(header))?;
            if has_overlarge_expires(&address) {
                return Err(ParseError::Malformed(header));
            }
            only = Some((field, address));
            count += 1;
        }
    }
    let is_only = count == 1 && message.slots.repeated() & bit(header) == 0;
    Ok(only.filter(|_| is_only).and_then(|(field, address)| Address::note(field, &address, None)))
}

/// A value that is no number counts as an hour (RFC 3261 §20.10); a number that does not fit has no meaning.
fn has_overlarge_expires(address: &NameAddr<'_>) -> bool {
    let is_overlarge = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit()) && list::decimal(value).is_none();
    !address.is_wildcard() && address.param("expires").flatten().is_some_and(is_overlarge)
}

/// The Request-URI of a request whose CSeq is this.
fn read_request_uri<'a>(message: &'a Parsed, cseq: CSeq<'a>) -> Result<Uri<'a>, ParseError> {
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
