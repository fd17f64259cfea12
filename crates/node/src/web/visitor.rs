//! Who asks, and whether a form was really sent from a page of ours. Pure.
//!
//! A browser sends forms that other sites made it send. Three things tell ours apart: what the browser says of where it comes from
//! (`Sec-Fetch-Site`, `Origin`), a random token that stands in the form and in a cookie which other sites cannot set or read, and the
//! name under which the node was asked (`Host`): a name of somebody else's that leads here would make his pages ours (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use meshtone_sip::transport::{Flow, Transport};

use super::PublicUrl;

use crate::login::is_same;

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    source: IpAddr,
    port: u16,
    /// Over TLS.
    is_protected: bool,
}

impl Arrival {
    pub(crate) fn of(flow: &Flow) -> Arrival {
        // A flow without an address would be another node, which asks for no pages.
        let source = flow.remote().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |remote| remote.ip().to_canonical());
        let port = flow.remote().map_or(0, |remote| remote.port());
        Arrival { source, port, is_protected: flow.transport() == Transport::Wss }
    }
}

/// What is known of whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visitor {
    /// Where from, for limits.
    pub(super) source: IpAddr,
    /// The same, with the port where that is known.
    pub(super) remote: SocketAddr,
    /// Somebody at this very machine, as far as that can be told: not through a proxy that says so.
    pub(super) is_local: bool,
    /// Nobody on the way could listen, or there is no way.
    pub(super) is_protected: bool,
    /// The name that the node was asked under, with its port.
    pub(super) host: String,
    /// The cookie with the form's token.
    cookie: Option<String>,
    /// The cookie with the secret of a session.
    pub(super) session: Option<String>,
    /// Whether cookies go over TLS alone.
    is_secure: bool,
}

/// By these a proxy says whom it asks for.
const FORWARDED: [HeaderName; 2] = [HeaderName::from_static("x-forwarded-for"), header::FORWARDED];

/// The cookie; over TLS under a name that browsers take from this very host alone.
const COOKIE: &str = "meshtone-form";
const HOST_COOKIE: &str = "__Host-meshtone-form";
/// The same for the session of the page.
const SESSION: &str = "meshtone_session";
const HOST_SESSION: &str = "__Host-meshtone_session";
/// How long a browser keeps a session; the node may end it before.
const SESSION_S: u32 = 30 * 24 * 3600;
/// How long a form may stay open.
const COOKIE_S: u32 = 4 * 3600;

/// Why a request is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspect {
    /// It asks for a name that is not this node's.
    Host,
    /// It did not come from a page of ours.
    Elsewhere,
}

impl Visitor {
    /// Reads who asks.
    ///
    /// # Errors
    /// [`Suspect::Host`].
    pub(super) fn read(
        arrival: Arrival,
        fields: &HeaderMap,
        domain: &str,
        public: Option<&PublicUrl>,
    ) -> Result<Visitor, Suspect> {
        let host = text(fields, &header::HOST).ok_or(Suspect::Host)?.to_ascii_lowercase();
        let name = without_port(&host);
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let is_known = bare.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name == domain
            || public.is_some_and(|public| without_port(public.authority()) == name);
        if !is_known {
            return Err(Suspect::Host);
        }
        let is_here = arrival.source.is_loopback();
        let through_proxy = FORWARDED.iter().any(|name| fields.contains_key(name));
        // The last one is whom our own proxy saw; who stands at this machine may say what he likes.
        let forwarded =
            text(fields, &FORWARDED[0]).and_then(|all| all.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
        let is_secure = arrival.is_protected;
        let (wanted, session) = if is_secure { (HOST_COOKIE, HOST_SESSION) } else { (COOKIE, SESSION) };
        let all = |wanted: &'static str| {
            let cookies = fields.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
            let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
            pairs.filter(move |(name, _)| *name == wanted).map(|(_, value)| value)
        };
        let cookie = all(wanted).find(|value| is_token(value)).map(str::to_owned);
        let session = all(session).next().map(str::to_owned);
        let forwarded = forwarded.filter(|_| is_here);
        let source = forwarded.unwrap_or(arrival.source);
        // A proxy's port says nothing of whom it asks for.
        let port = if through_proxy { 0 } else { arrival.port };
        Ok(Visitor {
            source,
            remote: SocketAddr::new(source, port),
            is_local: is_here && !through_proxy,
            is_protected: is_secure || is_here,
            host,
            cookie,
            session,
            is_secure,
        })
    }

    /// The name that the node was asked under.
    pub(super) fn name(&self) -> &str {
        without_port(&self.host)
    }

    /// The token for a form, and the cookie to set with it where the browser has none; `fresh` is random.
    pub(super) fn token(&self, fresh: impl FnOnce() -> [u8; 16]) -> (String, Option<String>) {
        if let Some(known) = &self.cookie {
            return (known.clone(), None);
        }
        let token = data_encoding::HEXLOWER.encode(&fresh());
        let (name, secure) = if self.is_secure { (HOST_COOKIE, "; Secure") } else { (COOKIE, "") };
        let cookie = format!("{name}={token}; Path=/; Max-Age={COOKIE_S}; HttpOnly; SameSite=Strict{secure}");
        (token, Some(cookie))
    }

    /// What a browser is told of a session; without one, that it is over.
    pub(super) fn session_cookie(&self, secret: Option<&str>) -> String {
        let (name, secure) = if self.is_secure { (HOST_SESSION, "; Secure") } else { (SESSION, "") };
        let (secret, age_s) = secret.map_or(("", 0), |secret| (secret, SESSION_S));
        format!("{name}={secret}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}")
    }

    /// Judges where a request of the page's script comes from: of this page, or of a program that is no browser.
    ///
    /// # Errors
    /// [`Suspect::Elsewhere`].
    pub(super) fn check_script(&self, fields: &HeaderMap) -> Result<(), Suspect> {
        self.check_origin(fields)?;
        // Scripts are not asked for a referrer: "null" is a page that hides who it is.
        let is_own = match fields.contains_key(header::ORIGIN) {
            true => text(fields, &header::ORIGIN).is_some_and(|origin| self.is_origin(origin)),
            false => true,
        };
        if is_own { Ok(()) } else { Err(Suspect::Elsewhere) }
    }

    /// The same for a WebSocket that cookies open: browsers say there who opens it, and whoever does not is none.
    ///
    /// # Errors
    /// [`Suspect::Elsewhere`].
    pub(super) fn check_socket(&self, fields: &HeaderMap) -> Result<(), Suspect> {
        if fields.contains_key(header::ORIGIN) { self.check_script(fields) } else { Err(Suspect::Elsewhere) }
    }

    /// What the browser says of where a request comes from. What the user typed into the address bar or repeats himself is "none".
    fn check_origin(&self, fields: &HeaderMap) -> Result<(), Suspect> {
        let site = text(fields, &HeaderName::from_static("sec-fetch-site"));
        let is_own = site.is_none_or(|site| ["same-origin", "none"].contains(&site));
        if is_own { Ok(()) } else { Err(Suspect::Elsewhere) }
    }

    fn is_origin(&self, origin: &str) -> bool {
        origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(&self.host))
    }

    /// Judges a form that was sent with this token in it.
    ///
    /// # Errors
    /// [`Suspect::Elsewhere`].
    pub(super) fn check_form(&self, fields: &HeaderMap, token: &str) -> Result<(), Suspect> {
        self.check_origin(fields)?;
        // Browsers write "null" where a page says to whom it sends no referrer, as ours do.
        let origin = text(fields, &header::ORIGIN).filter(|origin| *origin != "null");
        if origin.is_some_and(|origin| !self.is_origin(origin)) {
            return Err(Suspect::Elsewhere);
        }
        let cookie = self.cookie.as_deref().unwrap_or_default();
        if is_same(cookie, token) && is_token(cookie) { Ok(()) } else { Err(Suspect::Elsewhere) }
    }
}

fn is_token(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The value of a field that comes once.
fn text<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => only.to_str().ok(),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons within brackets belong to an IPv6 address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "00112233445566778899aabbccddeeff";

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(field).collect()
    }

    fn from(source: &str, is_protected: bool, lines: &[(&'static str, &str)]) -> Result<Visitor, Suspect> {
        let arrival = Arrival { source: source.parse().unwrap(), port: 40_000, is_protected };
        Visitor::read(arrival, &fields(lines), "mesh.example", "https://calls.example:8443".parse().ok().as_ref())
    }

    #[test]
    fn a_node_answers_to_its_own_names_alone() {
        for host in
            ["192.0.2.1:8443", "[2001:db8::1]", "LOCALHOST:8080", "mesh.example", "calls.example:8443", "calls.example"]
        {
            assert!(from("192.0.2.9", true, &[("host", host)]).is_ok(), "{host}");
        }
        for host in
            ["evil.example", "mesh.example.evil.example", "localhost.evil.example", "", "192.0.2.1.evil.example"]
        {
            assert_eq!(from("127.0.0.1", false, &[("host", host)]), Err(Suspect::Host), "{host}");
        }
        assert_eq!(from("127.0.0.1", false, &[]), Err(Suspect::Host));
        assert_eq!(from("127.0.0.1", false, &[("host", "localhost"), ("host", "localhost")]), Err(Suspect::Host));
    }

    #[test]
    fn who_comes_through_a_proxy_of_this_machine_is_not_at_this_machine() {
        let host = ("host", "localhost:8080");
        let local = from("127.0.0.1", false, &[host]).unwrap();
        assert!(local.is_local && local.is_protected);
        let proxied = from("127.0.0.1", false, &[host, ("x-forwarded-for", "10.0.0.1, 198.51.100.7")]).unwrap();
        assert_eq!((proxied.is_local, proxied.source.to_string().as_str()), (false, "198.51.100.7"));
        let stranger = from("198.51.100.8", false, &[host, ("x-forwarded-for", "127.0.0.1")]).unwrap();
        assert!(!stranger.is_local && !stranger.is_protected);
        assert_eq!(stranger.source.to_string(), "198.51.100.8", "a stranger names nobody in his place");
        assert!(from("198.51.100.8", true, &[host]).unwrap().is_protected);
    }

    #[test]
    fn a_token_is_made_once_and_kept_in_a_cookie_that_other_sites_never_send() {
        let host = ("host", "mesh.example");
        let first = from("198.51.100.8", true, &[host]).unwrap();
        let (token, cookie) = first.token(|| [0xab; 16]);
        let cookie = cookie.unwrap();
        for part in ["__Host-meshtone-form=abab", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        let sent = format!("a=b; __Host-meshtone-form={token}");
        let again = from("198.51.100.8", true, &[host, ("cookie", &sent)]).unwrap();
        assert_eq!(again.token(|| [0; 16]), (token.clone(), None));
        let plain = from("127.0.0.1", false, &[host, ("cookie", &sent)]).unwrap();
        let (_, cookie) = plain.token(|| [0; 16]);
        assert!(cookie.unwrap().starts_with("meshtone-form=0000"), "over TLS cookies have another name");
    }

    #[test]
    fn a_form_counts_only_from_a_page_of_ours() {
        let cookie = format!("meshtone-form={TOKEN}");
        let host = ("host", "localhost:8080");
        let judged = |token: &str, more: &[(&'static str, &str)]| {
            let all: Vec<_> = [host, ("cookie", cookie.as_str())].into_iter().chain(more.iter().copied()).collect();
            from("127.0.0.1", false, &all).unwrap().check_form(&fields(&all), token)
        };
        for more in [
            &[][..],
            &[("origin", "http://localhost:8080")],
            &[("origin", "null"), ("sec-fetch-site", "same-origin")],
            &[("origin", "HTTP://LOCALHOST:8080"), ("sec-fetch-site", "none")],
        ] {
            assert_eq!(judged(TOKEN, more), Ok(()), "{more:?}");
        }
        for more in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "http://localhost:9090")],
            &[("origin", "localhost:8080")],
            &[("sec-fetch-site", "cross-site")],
            &[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(judged(TOKEN, more), Err(Suspect::Elsewhere), "{more:?}");
        }
        assert_eq!(judged("", &[]), Err(Suspect::Elsewhere));
        assert_eq!(judged("ff112233445566778899aabbccddeeff", &[]), Err(Suspect::Elsewhere));
        let without = from("127.0.0.1", false, &[host]).unwrap();
        assert_eq!(without.check_form(&fields(&[host]), ""), Err(Suspect::Elsewhere), "no cookie, no token");
    }
}
