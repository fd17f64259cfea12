//! What the Route header field asks for, and whether anything vouches for it (RFC 3261 §16.4, RFC 5626 §5.3).

use smallvec::SmallVec;

use super::flow_token::{Forged, TokenKey};
use super::{Routing, Target};
use crate::message::{Header, Message, NameAddr, Uri};
use crate::transport::{Destination, Flow, Locals};

/// Most Routes of ours that are popped from one request: a call that passes here eight times. Each costs a copy of
/// those behind it, and a header field of 64 KiB could name us thousands of times.
const OWN_ROUTES_MAX: usize = 16;

/// Routes that are looked at without an allocation: two of ours, and a few of others.
const ROUTES_INLINE: usize = 8;

/// What the Routes of a request said.
pub(crate) struct Routed {
    /// The request without our own Routes, where that changes it.
    pub(crate) changed: Option<Message>,
    pub(crate) routing: Routing,
}

/// Whether a request of this Request-URI says over which proxies it goes; else [`route`] changes nothing.
pub(crate) fn is_routed(request: &Message, uri: Option<&Uri<'_>>) -> bool {
    let names_proxy = |uri: &Uri<'_>| uri.param("lr").is_some() || uri.param("maddr").is_some();
    request.header(Header::Route).is_some() || uri.is_some_and(names_proxy)
}

/// Takes our own Routes off a request and judges what is left.
pub(crate) fn route(request: &Message, flow: &Flow, locals: &dyn Locals, tokens: &TokenKey) -> Result<Routed, Forged> {
    let uri = Uri::parse(request.request_uri()).ok();
    if !is_routed(request, uri.as_ref()) {
        return Ok(Routed { changed: None, routing: Routing::Initial });
    }
    let mut editor = request.edit();
    let mut changed = false;
    let mut ours = OwnRoutes::default();
    let mut routes: SmallVec<[&str; ROUTES_INLINE]> = request.values(Header::Route).collect();

    let strict = uri.filter(|uri| is_strict_routed(uri, &routes, locals));
    let target = match strict {
        Some(uri) => {
            ours.add(&uri);
            let target = routes.pop().and_then(|last| NameAddr::parse(last).ok()).map(|last| last.uri);
            editor.remove(Header::Route);
            for route in &routes {
                editor.append(Header::Route, route);
            }
            target.unwrap_or(request.request_uri())
        }
        None => request.request_uri(),
    };
    let without_maddr = without_own_maddr(target, locals);
    if strict.is_some() || without_maddr.is_some() {
        editor.request_uri(without_maddr.as_deref().unwrap_or(target));
        changed = true;
    }

    let before = ours.count;
    let next_route = ours.take(routes, locals);
    for _ in before..ours.count {
        editor.pop_value(Header::Route);
        changed = true;
    }
    let changed = changed.then(|| editor.finish());
    let routing = judge(changed.as_ref().unwrap_or(request), flow, locals, tokens, &ours, next_route)?;
    Ok(Routed { changed, routing })
}

/// The Routes of ours on top of a request.
#[derive(Default)]
pub(super) struct OwnRoutes<'a> {
    pub(super) count: usize,
    pub(super) last_token: Option<&'a str>,
}

impl<'a> OwnRoutes<'a> {
    /// Takes those of ours that these Route values begin with; gives the URI of the one behind them, as it is written.
    pub(super) fn take(&mut self, routes: impl IntoIterator<Item = &'a str>, locals: &dyn Locals) -> Option<&'a str> {
        for value in routes {
            let address = NameAddr::parse(value);
            match address.and_then(|address| Uri::parse(address.uri)) {
                Ok(uri) if self.count < OWN_ROUTES_MAX && locals.is_local(uri.host, uri.port) => self.add(&uri),
                Ok(_) | Err(_) => return Some(address.map_or(value, |address| address.uri)),
            }
        }
        None
    }

    fn add(&mut self, uri: &Uri<'a>) {
        self.count += 1;
        self.last_token = uri.user;
    }
}

fn judge(
    request: &Message,
    flow: &Flow,
    locals: &dyn Locals,
    tokens: &TokenKey,
    ours: &OwnRoutes<'_>,
    next_route: Option<&str>,
) -> Result<Routing, Forged> {
    let undecided = || next_route.map_or(Routing::Initial, |route| Routing::Foreign(route.to_owned()));
    // A token vouches for nothing but the dialog it was made for; a request outside is judged by the node's policy.
    let is_in_dialog = request.to_tag().is_some();
    let Some(token) = ours.last_token.filter(|_| is_in_dialog) else {
        return Ok(undecided());
    };
    let next_uri = next_route.unwrap_or(request.request_uri());
    let next_host = || Uri::parse(next_uri).ok().map(|uri| uri.host);
    match tokens.open(token, request.call_id(), next_host)? {
        // A single Route of ours that points back to the sender says only who sends (RFC 5626 §5.3.1).
        Destination::Flow(side) if ours.count == 1 && side == *flow => Ok(undecided()),
        Destination::Flow(side) if !locals.flow_is_open(&side) => Ok(Routing::Gone),
        side @ (Destination::Flow(_) | Destination::Address { .. } | Destination::Peer(_)) => {
            Ok(Routing::Dialog(Target::new(request.request_uri(), side)))
        }
    }
}

/// Whether a strict router sent this: the Request-URI is a Record-Route of ours, the real one is the last Route
/// (RFC 3261 §16.4).
fn is_strict_routed(uri: &Uri<'_>, routes: &[&str], locals: &dyn Locals) -> bool {
    !routes.is_empty() && uri.param("lr").is_some() && locals.is_local(uri.host, uri.port)
}

/// The Request-URI without a `maddr` that names this node (RFC 3261 §16.4).
fn without_own_maddr(request_uri: &str, locals: &dyn Locals) -> Option<String> {
    let uri = Uri::parse(request_uri).ok()?;
    let maddr = uri.param("maddr").flatten()?;
    if !locals.is_local(maddr, uri.port) {
        return None;
    }
    let params = uri.params.as_str();
    let kept: String = params
        .split(';')
        .filter(|param| !param.is_empty())
        .filter(|param| !param.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("maddr")))
        .flat_map(|param| [";", param])
        .collect();
    Some(request_uri.replacen(params, &kept, 1))
}
