//! What the Route header field asks for, and whether anything vouches for it (RFC 3261 §16.4, RFC 5626 §5.3).

use super::flow_token::{Forged, TokenKey};
use super::{Routing, Target};
use crate::message::{Header, Message, NameAddr, Uri};
use crate::transport::{Destination, Flow, Locals};

/// Most Routes of ours that are popped from one request: a call that passes here eight times. Each costs a copy of
/// those behind it, and a header field of 64 KiB could name us thousands of times.
const OWN_ROUTES_MAX: usize = 16;

/// A request without our own Routes, and what they said.
pub(crate) struct Routed {
    pub(crate) request: Message,
    pub(crate) routing: Routing,
}

/// Whether a request of this Request-URI says over which proxies it goes; else it is the one that [`route`] gives back.
pub(crate) fn is_routed(request: &Message, uri: Option<&Uri<'_>>) -> bool {
    let names_proxy = |uri: &Uri<'_>| uri.param("lr").is_some() || uri.param("maddr").is_some();
    request.header(Header::Route).is_some() || uri.is_some_and(names_proxy)
}

/// Takes our own Routes off a request and judges what is left.
pub(crate) fn route(request: &Message, flow: &Flow, locals: &dyn Locals, tokens: &TokenKey) -> Result<Routed, Forged> {
    if !is_routed(request, Uri::parse(request.request_uri()).ok().as_ref()) {
        return Ok(Routed { request: request.clone(), routing: Routing::Initial });
    }
    let mut editor = request.edit();
    let mut request_uri = request.request_uri().to_owned();
    let mut changed = false;
    let mut ours = OwnRoutes::default();
    let mut routes: Vec<&str> = request.values(Header::Route).collect();

    if let Some(uri) = strict_routed(&request_uri, &routes, locals) {
        ours.add(&uri);
        if let Some(target) = routes.pop().and_then(|last| NameAddr::parse(last).ok()) {
            target.uri.clone_into(&mut request_uri);
        }
        editor.request_uri(&request_uri).remove(Header::Route);
        for route in &routes {
            editor.append(Header::Route, route);
        }
        changed = true;
    }
    if let Some(without_maddr) = without_own_maddr(&request_uri, locals) {
        request_uri = without_maddr;
        editor.request_uri(&request_uri);
        changed = true;
    }

    let mut left = routes.into_iter().peekable();
    while let Some(value) = left.peek() {
        let Ok(address) = NameAddr::parse(value) else { break };
        let Ok(uri) = Uri::parse(address.uri) else { break };
        if !locals.is_local(uri.host, uri.port) || ours.count >= OWN_ROUTES_MAX {
            break;
        }
        ours.add(&uri);
        editor.pop_value(Header::Route);
        changed = true;
        left.next();
    }
    let next_route = left.next().map(|value| NameAddr::parse(value).map_or(value, |address| address.uri).to_owned());

    let request = if changed { editor.finish() } else { request.clone() };
    let routing = judge(&request, flow, locals, tokens, &ours, next_route)?;
    Ok(Routed { request, routing })
}

/// The Routes popped from the top of a request.
#[derive(Default)]
struct OwnRoutes {
    count: usize,
    last_token: Option<String>,
}

impl OwnRoutes {
    fn add(&mut self, uri: &Uri<'_>) {
        self.count += 1;
        self.last_token = uri.user.map(str::to_owned);
    }
}

fn judge(
    request: &Message,
    flow: &Flow,
    locals: &dyn Locals,
    tokens: &TokenKey,
    ours: &OwnRoutes,
    next_route: Option<String>,
) -> Result<Routing, Forged> {
    let undecided = |next_route: Option<String>| next_route.map_or(Routing::Initial, Routing::Foreign);
    // A token vouches for nothing but the dialog it was made for; a request outside is judged by the node's policy.
    let is_in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
    let Some(token) = ours.last_token.as_deref().filter(|_| is_in_dialog) else {
        return Ok(undecided(next_route));
    };
    let next_uri = next_route.as_deref().unwrap_or(request.request_uri());
    let next_host = Uri::parse(next_uri).ok().map(|uri| uri.host.to_owned());
    match tokens.open(token, request.call_id(), next_host.as_deref())? {
        // A single Route of ours that points back to the sender says only who sends (RFC 5626 §5.3.1).
        Destination::Flow(side) if ours.count == 1 && side == *flow => Ok(undecided(next_route)),
        Destination::Flow(side) if !locals.flow_is_open(&side) => Ok(Routing::Gone),
        side @ (Destination::Flow(_) | Destination::Address { .. } | Destination::Peer(_)) => {
            Ok(Routing::Dialog(Target::new(request.request_uri(), side)))
        }
    }
}

/// Whether a strict router sent this: the Request-URI is a Record-Route of ours, the real one is the last Route
/// (RFC 3261 §16.4).
fn strict_routed<'a>(request_uri: &'a str, routes: &[&str], locals: &dyn Locals) -> Option<Uri<'a>> {
    if routes.is_empty() {
        return None;
    }
    let uri = Uri::parse(request_uri).ok()?;
    (uri.param("lr").is_some() && locals.is_local(uri.host, uri.port)).then_some(uri)
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
