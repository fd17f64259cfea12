//! The bindings of one address-of-record (RFC 3261 §10.3).
//!
//! Pure data and one decision: who may register, and where bindings are kept, is the node's business.

//!
//! [`register`] changes bindings, [`ok`] says what they are (`answer`); [`Binding`] leads to the phone. Beside them:
//! which URIs mean one phone only ([`gruu`]), which contacts a caller wants ([`preference`]), and how bindings are told
//! to subscribers ([`reg_info`]).

mod answer;
mod binding;
mod change;
pub mod gruu;
pub mod preference;
pub mod reg_info;

use smallvec::SmallVec;

use crate::message::{Header, Message, NameAddr, Uri};
use crate::transport::Flow;
use change::{Change, ContactParams, Update};

pub use answer::{Grants, ok};
pub use binding::{Binding, Feature};

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

/// Most proxies in a path, and the most characters of all of them: three are a lot.
const PATH_MAX: usize = 8;
const PATH_LEN_MAX: usize = 1024;

/// Most feature parameters of a contact, and the most characters of all of them: RFC 3840 knows 22 tags. What is beyond
/// is not kept, so nobody can ask for it.
const FEATURES_MAX: usize = 32;
const FEATURES_LEN_MAX: usize = 1024;

/// Extensions that a REGISTER may require.
const SUPPORTED: &[&str] = &["path", "outbound", "gruu"];

/// Feature tags that are written without a `+` (RFC 3840 §9).
const BASE_TAGS: &[&str] = &[
    "audio",
    "automata",
    "class",
    "duplex",
    "data",
    "control",
    "mobility",
    "description",
    "events",
    "priority",
    "methods",
    "schemes",
    "application",
    "video",
    "language",
    "type",
    "isfocus",
    "actor",
    "text",
    "extensions",
];

/// Applies a REGISTER to the bindings of its address, wholly or not at all; says whether anything changed.
///
/// Bindings that have run out are dropped on the way. A request without Contact only asks. A contact with an instance and
/// a `reg-id` replaces the binding of the same two, whatever its URI (RFC 5626 §6); any other the one of an equivalent URI.
///
/// # Errors
///
/// 400 for a malformed Contact or Path or a misused `*`, 420 for an unknown extension, 423 for a too brief interval, 439
/// when the phone wants a flow kept that its first proxy will not keep, 500 for a request that comes after a newer one of
/// the same Call-ID, 403 for too many contacts or one that leads back here; the bindings are as before then.
pub fn register(
    now_ms: u64,
    limits: &Limits,
    bindings: &mut Vec<Binding>,
    request: &Message,
    flow: &Flow,
) -> Result<bool, Rejection> {
    check_extensions(request)?;
    let contacts = request.contacts().collect::<Result<SmallVec<[NameAddr<'_>; 2]>, _>>();
    let contacts = contacts.map_err(|_| Rejection::new(400, "Malformed Contact"))?;
    let cseq = request.cseq().map_err(|_| Rejection::new(400, "Malformed CSeq"))?.number;
    let expires = request.expires().ok().flatten();
    let path = path(request)?;

    if contacts.iter().any(NameAddr::is_wildcard) {
        if contacts.len() > 1 || expires != Some(0) {
            return Err(Rejection::new(400, "* Needs Expires 0 and No Other Contact"));
        }
        let is_current = |binding: &Binding| binding.expires_ms > now_ms;
        if bindings.iter().any(|binding| is_current(binding) && is_outdated(binding, request.call_id(), cseq)) {
            return Err(OUT_OF_ORDER);
        }
        let changed = !bindings.is_empty();
        bindings.clear();
        return Ok(changed);
    }
    let update = Update { now_ms, request, cseq, flow, path: &path };
    let changes = contacts.iter().map(|contact| {
        let change = Change::read(limits, contact, expires, request)?;
        // Judged by the bindings as they were, so that a contact given twice is no conflict with itself.
        let is_late = |known: &Binding| change.is_for(known) && is_outdated(known, request.call_id(), cseq);
        if bindings.iter().any(is_late) { Err(OUT_OF_ORDER) } else { Ok(change) }
    });
    let changes = changes.collect::<Result<SmallVec<[Change<'_>; 1]>, Rejection>>()?;
    let kept = changes.iter().filter(|change| change.seconds > 0);
    if kept.clone().any(|change| change.reg_id.is_some()) && kept.count() > 1 {
        // One REGISTER makes one flow (RFC 5626 §6).
        return Err(Rejection::new(400, "One Contact for One Flow"));
    }
    // Most phones refresh the one contact they have: nothing has to be put back then.
    let may_be_too_many = !changes.is_empty() && bindings.len() + changes.len() > limits.max_contacts;
    let before = may_be_too_many.then(|| bindings.clone());
    let changed = update.apply(bindings, &changes);
    match before {
        Some(before) if bindings.len() > limits.max_contacts => {
            *bindings = before;
            Err(Rejection::new(403, "Too Many Contacts"))
        }
        Some(_) | None => Ok(changed),
    }
}

/// Whether the REGISTER made or refreshed a flow of RFC 5626, as the phone asked for.
pub fn is_outbound(request: &Message) -> bool {
    let is_flow = |contact: NameAddr<'_>| matches!(outbound_flow(&ContactParams::read(&contact), request), Ok(Some(_)));
    // Few phones name their instance, which takes a `+`.
    request.fields(Header::Contact).any(|field| memchr::memchr(b'+', field.as_bytes()).is_some())
        && supports(request, "outbound")
        && request.contacts().flatten().any(is_flow)
}

/// Whether the phone is directly behind us, with no proxy in between (RFC 5626 §6: told by the Vias).
pub fn is_first_hop(request: &Message) -> bool {
    request.values(Header::Via).nth(1).is_none()
}

/// Whether the phone knows an extension: it says so, or requires it.
fn supports(request: &Message, extension: &str) -> bool {
    // Option tags are tokens, so no comma is within quotes.
    let names = |field: &str| field.split(',').any(|known| known.trim_ascii().eq_ignore_ascii_case(extension));
    [Header::Supported, Header::Require].into_iter().any(|header| request.fields(header).any(names))
}

fn check_extensions(request: &Message) -> Result<(), Rejection> {
    let is_unknown = |wanted: &&str| !SUPPORTED.iter().any(|known| known.eq_ignore_ascii_case(wanted));
    let unknown: Vec<&str> = request.values(Header::Require).filter(is_unknown).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let extra = vec![(Header::Unsupported, unknown.join(", "))];
    Err(Rejection { status: 420, reason: "Bad Extension", extra })
}

/// The path of a REGISTER (RFC 3327 §5.3). Taken from phones that do not say they know it too: without it they could not
/// be reached.
fn path(request: &Message) -> Result<Vec<String>, Rejection> {
    let path: Vec<String> = request.values(Header::Path).map(str::to_owned).collect();
    if path.len() > PATH_MAX || path.iter().map(String::len).sum::<usize>() > PATH_LEN_MAX {
        return Err(Rejection::new(400, "Path Too Long"));
    }
    let is_loose = |proxy: &String| {
        NameAddr::parse(proxy)
            .and_then(|proxy| Uri::parse(proxy.uri))
            .is_ok_and(|uri| uri.is_sip() && uri.param("lr").is_some())
    };
    if !path.iter().all(is_loose) {
        return Err(Rejection::new(400, "Malformed Path"));
    }
    Ok(path)
}

/// The `reg-id` of a contact that names its instance, where a flow can be kept: `None` means an ordinary contact.
fn outbound_flow(contact: &ContactParams<'_>, request: &Message) -> Result<Option<u32>, Rejection> {
    let Some(reg_id) = contact.reg_id.filter(|_| contact.instance.is_some()) else { return Ok(None) };
    // From 1 to 2^31-1 (RFC 5626 §9).
    let reg_id = reg_id.and_then(|text| text.parse::<u32>().ok()).filter(|id| (1..=0x7fff_ffff).contains(id));
    let reg_id = reg_id.ok_or(Rejection::new(400, "Malformed reg-id"))?;
    let keeps_flows = |proxy: &str| {
        NameAddr::parse(proxy).and_then(|proxy| Uri::parse(proxy.uri)).is_ok_and(|uri| uri.param("ob").is_some())
    };
    if is_first_hop(request) || request.values(Header::Path).next().is_some_and(keeps_flows) {
        return Ok(Some(reg_id));
    }
    if supports(request, "outbound") {
        return Err(Rejection::new(439, "First Hop Lacks Outbound Support"));
    }
    Ok(None)
}

/// RFC 3261 §10.3 item 7: the update is aborted, and so the request fails with 500.
const OUT_OF_ORDER: Rejection = Rejection { status: 500, reason: "CSeq Out of Order", extra: Vec::new() };

fn is_outdated(binding: &Binding, call_id: &str, cseq: u32) -> bool {
    binding.call_id == call_id && cseq <= binding.cseq
}

fn checked_uri<'a>(contact: &NameAddr<'a>, request: &Message) -> Result<Uri<'a>, Rejection> {
    let uri = Uri::parse(contact.uri).map_err(|_| Rejection::new(400, "Malformed Contact"))?;
    if contact.uri.len() > CONTACT_LEN_MAX {
        return Err(Rejection::new(400, "Contact Too Long"));
    }
    // The address itself, or a GRUU of it, would lead back to these very bindings (RFC 5627 §5.1).
    let to = request.to().ok().and_then(|to| Uri::parse(to.uri).ok());
    let leads_back = to.is_some_and(|to| {
        let is_gruu = uri.param("gr").is_some() && uri.host.eq_ignore_ascii_case(to.host);
        is_gruu || (to.port == uri.port && to.address_of_record() == uri.address_of_record())
    });
    if leads_back {
        return Err(Rejection::new(403, "Contact Leads Back Here"));
    }
    Ok(uri)
}

/// The interval that a contact gets, in seconds, by its own `expires` parameter or that of all; 0 removes it.
fn granted(limits: &Limits, own: Option<Option<&str>>, expires: Option<u32>) -> Result<u32, Rejection> {
    let own = own.map(|value| match value.map(str::parse::<u64>) {
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
fn preference(q: Option<&str>) -> u16 {
    let Some(q) = q else { return FULL_PREFERENCE };
    let (whole, fraction) = q.split_once('.').unwrap_or((q, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.get(..3).and_then(|digits| digits.parse::<u16>().ok())) {
        ("0" | "", Some(thousandths)) => thousandths,
        _ => FULL_PREFERENCE,
    }
}

fn user_agent(request: &Message) -> &str {
    let whole = request.header(Header::UserAgent).unwrap_or_default();
    whole.char_indices().nth(USER_AGENT_MAX).and_then(|(end, _)| whole.get(..end)).unwrap_or(whole)
}

fn features(contact: &NameAddr<'_>) -> Vec<Feature> {
    let mut room = FEATURES_LEN_MAX;
    let mut features: Vec<Feature> = Vec::new();
    for (name, value) in contact.params.iter() {
        let is_base = || BASE_TAGS.iter().any(|tag| tag.eq_ignore_ascii_case(name));
        let Some(bare) = name.strip_prefix('+').or_else(|| is_base().then_some(name)) else { continue };
        let len = name.len() + value.map_or(0, str::len);
        let is_known = features.iter().any(|known| known.name.eq_ignore_ascii_case(bare));
        if bare.eq_ignore_ascii_case("sip.instance") || is_known {
            continue;
        }
        if features.len() >= FEATURES_MAX || len > room {
            break;
        }
        room -= len;
        let value = value.map(|value| value.trim_matches('"').to_owned());
        features.push(Feature { name: bare.to_ascii_lowercase(), value });
    }
    features
}
