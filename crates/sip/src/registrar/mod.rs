//! The bindings of one address-of-record (RFC 3261 §10.3).
//!
//! Pure data and one decision: who may register, and where bindings are kept, is the node's business.

mod date;

use std::net::SocketAddr;

use crate::message::{Builder, Header, Message, NameAddr, Uri};
use crate::proxy::via::host_address;
use crate::transport::{Destination, Flow, Transport};

/// One contact of an address-of-record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The contact URI as registered, without the header field's parameters.
    pub contact: String,
    /// Preference in thousandths, 1000 when none was given.
    pub q: u16,
    /// When the binding ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Call-ID of the last REGISTER that touched it.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The flow that REGISTER came over.
    pub flow: Flow,
    /// `+sip.instance` as given, quotes included (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// User-Agent of the phone.
    pub user_agent: String,
    /// When the binding was last written, milliseconds since 1970.
    pub updated_ms: u64,
}

/// What a registrar grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Shortest interval granted, seconds; less is refused with 423.
    pub min: u32,
    /// Interval granted when none was asked for, seconds.
    pub default: u32,
    /// Longest interval granted, seconds.
    pub max: u32,
    /// Most contacts of one address.
    pub max_contacts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { min: 60, default: 3600, max: 7200, max_contacts: 10 }
    }
}

/// Why a REGISTER was refused, as the response that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Header fields that the response must carry.
    pub extra: Vec<(Header, String)>,
}

impl Rejection {
    fn new(status: u16, reason: &'static str) -> Rejection {
        Rejection { status, reason, extra: Vec::new() }
    }
}

/// Longest contact URI that is kept; with 500,000 registrations a table must not be filled by a few.
const CONTACT_LEN_MAX: usize = 512;

/// Longest `+sip.instance`; a URN of a UUID with its brackets has 47 characters.
const INSTANCE_LEN_MAX: usize = 128;

/// How much of User-Agent is kept, in characters, for people to recognise the phone.
const USER_AGENT_MAX: usize = 64;

/// Above an hour an interval is never too brief (RFC 3261 §10.3 item 7).
const NEVER_TOO_BRIEF: u32 = 3600;

/// Preference of a contact that names none, in thousandths.
const FULL_PREFERENCE: u16 = 1000;

/// Applies a REGISTER to the bindings of its address, wholly or not at all; says whether anything changed.
///
/// Bindings that have run out are dropped on the way. A request without Contact only asks.
///
/// # Errors
///
/// 400 for a malformed Contact or a misused `*`, 423 for a too brief interval, 500 for a request that comes after a
/// newer one of the same Call-ID, 403 for too many contacts; the bindings are as before then.
pub fn register(
    now_ms: u64,
    limits: &Limits,
    bindings: &mut Vec<Binding>,
    request: &Message,
    flow: &Flow,
) -> Result<bool, Rejection> {
    let contacts =
        request.contacts().collect::<Result<Vec<_>, _>>().map_err(|_| Rejection::new(400, "Malformed Contact"))?;
    let cseq = request.cseq().map_err(|_| Rejection::new(400, "Malformed CSeq"))?.number;
    let expires = request.expires().ok().flatten();
    let mut updated: Vec<Binding> = bindings.iter().filter(|binding| binding.expires_ms > now_ms).cloned().collect();

    if contacts.iter().any(NameAddr::is_wildcard) {
        if contacts.len() > 1 || expires != Some(0) {
            return Err(Rejection::new(400, "* Needs Expires 0 and No Other Contact"));
        }
        if updated.iter().any(|binding| is_outdated(binding, request.call_id(), cseq)) {
            return Err(OUT_OF_ORDER);
        }
        updated.clear();
    } else {
        for contact in &contacts {
            let uri = checked_uri(contact)?;
            let seconds = granted(limits, contact, expires)?;
            let same = |binding: &Binding| Uri::parse(&binding.contact).is_ok_and(|known| known.equivalent(&uri));
            // Judged by the bindings as they were, so that a contact given twice is no conflict with itself.
            if bindings.iter().any(|known| same(known) && is_outdated(known, request.call_id(), cseq)) {
                return Err(OUT_OF_ORDER);
            }
            let place = updated.iter().position(same);
            if seconds == 0 {
                updated.retain(|binding| !same(binding));
                continue;
            }
            let binding = Binding {
                contact: contact.uri.to_owned(),
                q: preference(contact),
                expires_ms: now_ms.saturating_add(u64::from(seconds) * 1000),
                call_id: request.call_id().to_owned(),
                cseq,
                flow: flow.clone(),
                instance: instance(contact),
                user_agent: user_agent(request),
                updated_ms: now_ms,
            };
            match place.and_then(|place| updated.get_mut(place)) {
                Some(known) => *known = binding,
                None => updated.push(binding),
            }
        }
        if updated.len() > limits.max_contacts && !contacts.is_empty() {
            return Err(Rejection::new(403, "Too Many Contacts"));
        }
    }
    let changed = updated != *bindings;
    *bindings = updated;
    Ok(changed)
}

/// The 200 to a REGISTER: all current contacts, each with the seconds it has left (RFC 3261 §10.3 item 8).
pub fn ok(now_ms: u64, bindings: &[Binding], request: &Message) -> Message {
    let mut builder = Builder::response(request, 200, "");
    for binding in bindings.iter().filter(|binding| binding.expires_ms > now_ms) {
        // Rounded up, so that no phone hears 0 for a contact that it still has.
        let left = (binding.expires_ms - now_ms).div_ceil(1000);
        let mut value = format!("<{}>;expires={left}", binding.contact);
        if binding.q != FULL_PREFERENCE {
            value.push_str(&format!(";q=0.{:03}", binding.q.min(FULL_PREFERENCE - 1)));
        }
        if let Some(instance) = &binding.instance {
            value.push_str(&format!(";+sip.instance={instance}"));
        }
        builder = builder.header(Header::Contact, &value);
    }
    builder.header(Header::Date, &date::http_date(now_ms / 1000)).finish()
}

impl Binding {
    /// Where a request for this contact goes; `None`: there is no way to this phone until it registers again.
    ///
    /// Its flow while that is open, which a UDP flow always is. When the flow was a connection that is lost, the
    /// contact's own address, but only if it is the very address the phone registered from: a Contact alone must not
    /// make this node call upon whatever it names.
    pub fn destination(&self, flow_is_open: bool) -> Option<Destination> {
        match &self.flow {
            Flow::Udp { .. } => Some(Destination::Flow(self.flow.clone())),
            Flow::Stream { .. } | Flow::Peer { .. } if flow_is_open => Some(Destination::Flow(self.flow.clone())),
            Flow::Peer { host } => Some(Destination::Peer(host.clone())),
            Flow::Stream { transport: transport @ (Transport::Tcp | Transport::Tls), listener, remote, .. } => {
                let uri = Uri::parse(&self.contact).ok()?;
                let address = host_address(uri.host)?;
                (address == remote.ip().to_canonical()).then(|| Destination::Address {
                    transport: *transport,
                    addr: SocketAddr::new(address, uri.port.unwrap_or(transport.default_port())),
                    listener: *listener,
                })
            }
            // Nobody can call a browser back.
            Flow::Stream { .. } => None,
        }
    }

    /// Whether the binding still means something after a restart: a connection does not outlive one.
    pub fn is_restorable(&self) -> bool {
        match self.flow {
            Flow::Udp { .. } => true,
            Flow::Stream { .. } | Flow::Peer { .. } => false,
        }
    }
}

/// RFC 3261 §10.3 item 7: the update is aborted, and so the request fails with 500.
const OUT_OF_ORDER: Rejection = Rejection { status: 500, reason: "CSeq Out of Order", extra: Vec::new() };

fn is_outdated(binding: &Binding, call_id: &str, cseq: u32) -> bool {
    binding.call_id == call_id && cseq <= binding.cseq
}

fn checked_uri<'a>(contact: &NameAddr<'a>) -> Result<Uri<'a>, Rejection> {
    let uri = Uri::parse(contact.uri).map_err(|_| Rejection::new(400, "Malformed Contact"))?;
    if !uri.is_sip() {
        return Err(Rejection::new(400, "Contact Is No SIP URI"));
    }
    if contact.uri.len() > CONTACT_LEN_MAX {
        return Err(Rejection::new(400, "Contact Too Long"));
    }
    Ok(uri)
}

/// The interval that a contact gets, in seconds; 0 removes it.
fn granted(limits: &Limits, contact: &NameAddr<'_>, expires: Option<u32>) -> Result<u32, Rejection> {
    let own = contact.param("expires").map(|value| match value.map(str::parse::<u64>) {
        Some(Ok(seconds)) => u32::try_from(seconds).unwrap_or(u32::MAX),
        // RFC 3261 §20.10: malformed values count as an hour.
        Some(Err(_)) | None => NEVER_TOO_BRIEF,
    });
    let requested = own.or(expires).unwrap_or(limits.default);
    if requested > 0 && requested < NEVER_TOO_BRIEF && requested < limits.min {
        let extra = vec![(Header::MinExpires, limits.min.to_string())];
        return Err(Rejection { status: 423, reason: "Interval Too Brief", extra });
    }
    Ok(requested.min(limits.max))
}

/// `q` in thousandths (RFC 3261 §25.1: `0` or `1` with up to three digits behind the point).
fn preference(contact: &NameAddr<'_>) -> u16 {
    let Some(q) = contact.param("q").flatten() else { return FULL_PREFERENCE };
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.get(..3).and_then(|digits| digits.parse::<u16>().ok())) {
        ("0" | "", Some(thousandths)) => thousandths,
        _ => FULL_PREFERENCE,
    }
}

fn instance(contact: &NameAddr<'_>) -> Option<String> {
    let instance = contact.param("+sip.instance").flatten()?;
    (instance.len() <= INSTANCE_LEN_MAX).then(|| instance.to_owned())
}

fn user_agent(request: &Message) -> String {
    request.header(Header::UserAgent).unwrap_or_default().chars().take(USER_AGENT_MAX).collect()
}
