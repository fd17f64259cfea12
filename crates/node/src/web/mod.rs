//! What this node serves to browsers (HTTP/1.1, RFC 9112), at the listeners of SIP over WebSocket: every path but `/sip`.
//!
//! | path | what |
//! | --- | --- |
//! | `/`, `/assets/…` | [the page](files): a softphone, and what the network looks like |
//! | `/api/v1/…` | [the interface](api) that the page uses |
//! | `/enroll`, `/confirm` | [the form](enrol) by which people enrol |
//! | `/metrics` | what is counted, in Prometheus' form |
//! | `/health`, `/ready`, `/version` | for whoever watches over the node: a line of text |
//! | [`/certificates/…`](certificates) | by what others verify what the node has signed |
//!
//! Every answer carries the same strict headers ([`headers`]); nothing is asked of other hosts. Heads, bodies, times and connections are
//! bounded here and in `transport`.

mod api;
mod certificates;
mod enrol;
mod files;
mod headers;
mod html;
mod limits;
mod public_url;
mod visitor;

use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use meshtone_overlay::Overlay;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use crate::acme::Challenges;
use crate::clock::unix_s;
use crate::control::Control;
use crate::exchange::Exchange;
use crate::journal::Journal;
use crate::login::Sessions;
use crate::login::keys::Keys;
use crate::login::tokens::Tokens;
use crate::member::Enrolments;
use crate::person::belongings::Belongings;
use crate::settings::{Desk, Live};
use crate::store::Store;
use crate::transport::Addresses;
use crate::turn;
pub use api::Administration;
pub(crate) use api::Notices;
use api::{Severity, Watcher, health};
pub(crate) use certificates::{Certificates, pem};
use limits::Limits;
pub use public_url::{NotPublic, PublicUrl};
pub(crate) use visitor::Arrival;

/// Largest head of a request, and its fields: as for upgrades to WebSocket.
const MAX_HEAD: usize = 8 * 1024;
const MAX_FIELDS: usize = 64;
/// How long the next request may be waited for and arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Largest body: a form with an address and a code.
const MAX_BODY: usize = 16 * 1024;
/// How long an answer may take: the overlay's authority may have to be asked (20 s), and what is left is for the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one connection may be used; whoever reads nothing of what he asks for goes then, too.
const CONNECTION_WITHIN: Duration = Duration::from_secs(120);

/// What the pages are made of.
pub(crate) struct Site {
    pub(crate) domain: String,
    pub(crate) overlay: Overlay,
    pub(crate) certificates: Certificates,
    pub(crate) enrolments: Enrolments,
    pub(crate) limits: Mutex<Limits>,
    pub(crate) ports: Ports,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) tokens: Tokens,
    /// What the page may change of itself while it is served.
    pub(crate) live: Mutex<Live>,
    pub(crate) desk: Option<Arc<dyn Desk>>,
    pub(crate) challenges: Option<Challenges>,
    pub(crate) turn: turn::IceServers,
    pub(crate) control: Control,
    pub(crate) store: Store,
    pub(crate) belongings: Arc<Belongings>,
    pub(crate) journal: Journal,
    pub(crate) notices: Notices,
}

impl Site {
    /// Who may get an address of his own by these pages.
    fn enrol(&self) -> EnrolHere {
        match self.exchange.rights.may_speak() {
            true => self.live().enrol,
            false => EnrolHere::Nobody,
        }
    }

    /// From where they administer the node.
    fn administration(&self) -> Administration {
        self.live().administration
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes by other settings from now on.
    fn take_up(&self, live: Live) {
        *self.live() = live;
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may get an address of his own at this node by its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnrolHere {
    /// Whoever sits at this machine.
    #[default]
    Local,
    /// Everybody who reaches the page.
    Anybody,
    /// Nobody.
    Nobody,
}

/// The ports at which phones register.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    tls: Option<u16>,
    sip: Option<u16>,
}

impl Ports {
    pub(crate) fn of(addresses: &Addresses) -> Ports {
        let first = |all: &[SocketAddr]| all.first().map(SocketAddr::port);
        Ports { tls: first(&addresses.tls), sip: first(&addresses.sip) }
    }
}

/// The pages. Clones are the same.
#[derive(Clone)]
pub(crate) struct Pages {
    router: Router,
}

impl Pages {
    pub(crate) fn new(site: Site) -> Pages {
        let router = Router::new()
            .route("/", get(files::index))
            .merge(api::router())
            .route("/style.css", get(style))
            .route("/icon.svg", get(icon))
            .route("/health", get(async || "ok\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/version", get(async || concat!("meshtone ", env!("CARGO_PKG_VERSION"), "\n")))
            .route("/certificates/{file}", get(certificates::serve))
            .route("/.well-known/acme-challenge/{token}", get(certificates::serve_challenge))
            .route(certificates::AUTHORITY_FILE, get(certificates::serve_authority))
            .route("/enroll", get(enrol::ask_form).post(enrol::ask))
            .route("/confirm", get(enrol::confirm_form).post(enrol::confirm))
            .route("/confirm.js", get(enrol::script))
            .route("/sip", any(sip))
            .fallback(async |request: axum::extract::Request| other(&request))
            .method_not_allowed_fallback(async |uri: Uri| match api::is_within(uri.path()) {
                true => api::not_allowed(),
                false => html::refused(StatusCode::METHOD_NOT_ALLOWED, "That cannot be done with this page."),
            })
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(from_fn(in_time))
            .layer(map_response(headers::strict))
            .with_state(Arc::new(site));
        Pages { router }
    }

    /// Serves a connection of whose first request `head` was read already, until either side ends it.
    pub(crate) async fn serve<S>(self, stream: S, head: Vec<u8>, arrival: Arrival)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(stream);
        let io = TokioIo::new(tokio::io::join(Cursor::new(head).chain(read), write));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(arrival);
            let mut router = self.router.clone();
            async move { Ok::<Response, Infallible>(router.call(request).await.into_response()) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(MAX_HEAD).max_headers(MAX_FIELDS);
        let connection = server.serve_connection(io, service).with_upgrades();
        tokio::pin!(connection);
        tokio::select! {
            _ = &mut connection => {}
            () = sleep(CONNECTION_WITHIN) => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(ANSWER_WITHIN, connection).await;
            }
        }
    }
}

/// A file of the page, or nothing that is here.
fn other(request: &axum::extract::Request) -> Response {
    let (method, uri) = (request.method(), request.uri());
    if api::is_within(uri.path()) {
        return api::unknown();
    }
    let file = files::serve(uri, request.headers()).filter(|_| [Method::GET, Method::HEAD].contains(method));
    file.unwrap_or_else(|| html::refused(StatusCode::NOT_FOUND, "There is no such page here."))
}

async fn in_time(request: axum::extract::Request, next: Next) -> Response {
    let is_for_script = api::is_within(request.uri().path());
    timeout(ANSWER_WITHIN, next.run(request)).await.unwrap_or_else(|_| match is_for_script {
        true => api::too_slow(),
        false => html::refused(StatusCode::SERVICE_UNAVAILABLE, "This took too long. Please try again."),
    })
}

async fn icon() -> Response {
    let fields = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "max-age=3600")];
    (fields, include_str!("icon.svg")).into_response()
}

async fn style() -> Response {
    let fields = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (fields, include_str!("style.css")).into_response()
}

/// SIP over WebSocket begins with a connection's first request; a proxy that keeps its connections opens another one for it then.
async fn sip() -> Response {
    (StatusCode::UPGRADE_REQUIRED, [(header::CONNECTION, "close"), (header::UPGRADE, "websocket")]).into_response()
}

/// Randomness for a form's token; without any the system gives no keys either.
fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    #[allow(clippy::expect_used, reason = "a token that can be guessed is none: stop")]
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random number generator works");
    bytes
}

/// What is counted, for whoever watches over the node from its own machine or with a token.
async fn metrics(_: Watcher, State(site): State<Arc<Site>>) -> Response {
    let status = site.control.status();
    let found = health(&status, unix_s());
    let count = |severity| found.iter().filter(|health| health.severity() == severity).count();
    let problems =
        [("error", count(Severity::Error)), ("warning", count(Severity::Warning)), ("info", count(Severity::Info))];
    let text = site.exchange.metrics.text(&status, problems, site.sessions.count());
    // OpenMetrics 1.0, which Prometheus reads.
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Whether this node does all that it is there for: a node that has lost all others serves its own phones alone.
async fn ready(State(site): State<Arc<Site>>) -> Response {
    if site.overlay.is_alone() || !site.overlay.links().is_empty() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no link to any other node\n").into_response()
    }
}
