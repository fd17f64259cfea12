//! What happens, told over a WebSocket (RFC 6455) as it does: to a person what concerns her, to whoever runs the node how it stands.
//!
//! The other side has nothing to say. Whoever reads too slowly is told that something was left out, and reads anew what he shows.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};
use tokio::time::{Instant, interval, timeout};
use tokio_websockets::{CloseCode, Config, Limits, Message as Frame, ServerBuilder, WebSocketStream};

use super::admin::status::AdminStatus;
use super::asker;
use super::failure::Failure;
use super::me::{PastCall, Settings, settings_of};
use crate::clock::unix_ms;
use crate::crowd::Crowd;
use crate::journal::Line;
use crate::login::Hash;
use crate::login::tokens::Scope;
use crate::person::belongings::Kind;
use crate::person::history;
use crate::web::Site;

/// What RFC 6455 §1.3 appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Sockets in all, and those of one account (its browsers' tabs) or of all administrators.
const MAX_SOCKETS: usize = 1000;
const MAX_OF_ONE: usize = 40;
/// Largest frame from the other side, which has nothing to say.
const MAX_FRAME: usize = 1024;
/// Frames of it that are passed over.
const MAX_FRAMES: u32 = 10_000;
/// How often it is looked what has changed of what nobody tells of: so long a lost node may be shown as there.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the line is proven to be there; boxes on the way forget one that is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long one message may take to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Notices that a slow socket may lag behind.
const NOTICES_KEPT: usize = 64;
/// The session is over: the page asks to log in.
const SESSION_OVER: u16 = 4401;

/// What one tab of a person's has changed, for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Notice {
    Contacts,
}

/// The notices to all sockets, and who has how many.
pub(crate) struct Notices {
    sender: broadcast::Sender<(String, Notice)>,
    open: Crowd<Option<String>>,
}

impl Default for Notices {
    fn default() -> Notices {
        Notices { sender: broadcast::channel(NOTICES_KEPT).0, open: Crowd::new(MAX_SOCKETS, MAX_OF_ONE) }
    }
}

impl Notices {
    pub(in crate::web) fn tell(&self, user: &str, notice: Notice) {
        let _ = self.sender.send((user.to_owned(), notice));
    }
}

/// Who listens.
struct Listener {
    /// A person; else whoever runs the node.
    user: Option<String>,
    /// The session that it lasts as long as; a token is good until it is taken back.
    session: Option<Hash>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event<'a> {
    Hello { missed: bool },
    Call { call: PastCall },
    Registration { address: &'a str, contacts: usize },
    Settings(Settings),
    Contacts,
    Status { status: Box<AdminStatus> },
    Log { entry: &'a Line },
}

/// Opens the socket.
#[utoipa::path(get, path = "/events", tag = "events", responses(
    (status = 101, description = "A WebSocket; what comes over it is in docs/api.md"), (status = 401, body = Failure),
    (status = 403, body = Failure, description = "`origin`"), (status = 426, description = "This is a WebSocket"),
    (status = 503, body = Failure, description = "`busy`"),
))]
pub(super) async fn open(State(site): State<Arc<Site>>, mut request: Request) -> Result<Response, Failure> {
    let listener = listener(&site, &request)?;
    let Some(accept) = accept(request.headers()) else {
        let fields = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        return Ok((StatusCode::UPGRADE_REQUIRED, fields).into_response());
    };
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| Failure::bad_request("this connection cannot become a WebSocket"))?;
    let Some(room) = site.notices.open.enter(listener.user.clone()) else {
        let error = "there are too many open pages, of yours or of all";
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error, "close some"));
    };
    tokio::spawn(async move {
        let _room = room;
        if let Ok(upgraded) = upgrade.await {
            carry(&site, &listener, upgraded).await;
        }
    });
    let fields = [
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, fields).into_response())
}

fn listener(site: &Site, request: &Request) -> Result<Listener, Failure> {
    let fields = request.headers();
    let visitor = asker::visitor(request.extensions(), fields, site)?;
    if let Some(token) = asker::bearer(fields) {
        asker::check_place(&visitor, site)?;
        asker::check_token(&visitor, site, token, Scope::Read)?;
        return Ok(Listener { user: None, session: None });
    }
    let session = asker::session(&visitor, site)?;
    visitor.check_socket(fields)?;
    Ok(Listener { user: session.user, session: Some(session.id) })
}

/// What accepts an upgrade (RFC 6455 §4.2.2), if this is one.
fn accept(fields: &HeaderMap) -> Option<HeaderValue> {
    let text = |name| fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has = |name, token: &str| text(name).split(',').any(|part: &str| part.trim().eq_ignore_ascii_case(token));
    let key = text(header::SEC_WEBSOCKET_KEY);
    let is_key = BASE64.decode(key.as_bytes()).is_ok_and(|nonce| nonce.len() == 16);
    let is_upgrade = has(header::UPGRADE, "websocket")
        && has(header::CONNECTION, "upgrade")
        && text(header::SEC_WEBSOCKET_VERSION) == "13";
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    HeaderValue::from_str(&BASE64.encode(hash.as_ref())).ok().filter(|_| is_key && is_upgrade)
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Tells what happens until one side ends it.
async fn carry(site: &Site, listener: &Listener, upgraded: Upgraded) {
    let limits = Limits::default().max_payload_len(Some(MAX_FRAME));
    let server = ServerBuilder::new().config(Config::default()).limits(limits);
    let mut socket = server.serve(TokioIo::new(upgraded));
    let code = match &listener.user {
        Some(user) => tell_person(site, listener, user, &mut socket).await,
        None => tell_administrator(site, listener, &mut socket).await,
    };
    if let Some(code) = code {
        let _ = timeout(WRITE_WITHIN, socket.send(Frame::close(Some(code), ""))).await;
    }
    let _ = timeout(WRITE_WITHIN, socket.close()).await;
}

/// What both kinds of sockets have to look after.
struct Keeper {
    ends: Receiver<Hash>,
    ping: Instant,
    frames: u32,
}

impl Keeper {
    fn new(site: &Site) -> Keeper {
        Keeper { ends: site.sessions.ends(), ping: Instant::now() + PING_EVERY, frames: 0 }
    }

    /// Whether the session that this one is for is over.
    fn is_over(&self, site: &Site, listener: &Listener) -> bool {
        listener.session.is_some_and(|id| !site.sessions.is_open(unix_ms(), &id))
    }

    /// Proves from time to time that the line is there.
    async fn keep(&mut self, socket: &mut Socket) -> Option<()> {
        if self.ping > Instant::now() {
            return Some(());
        }
        self.ping = Instant::now() + PING_EVERY;
        timeout(WRITE_WITHIN, socket.send(Frame::ping(""))).await.ok()?.ok()
    }

    /// Takes what the other side says, of which nothing is wanted but that it is there.
    fn take(&mut self, frame: Option<Result<Frame, tokio_websockets::Error>>) -> Option<()> {
        self.frames += 1;
        let is_fine = frame?.is_ok_and(|frame| !frame.is_close());
        (is_fine && self.frames < MAX_FRAMES).then_some(())
    }
}

fn over() -> Option<CloseCode> {
    CloseCode::try_from(SESSION_OVER).ok()
}

async fn tell(socket: &mut Socket, event: &Event<'_>) -> Option<()> {
    let text = serde_json::to_string(event).ok()?;
    timeout(WRITE_WITHIN, socket.send(Frame::text(text))).await.ok()?.ok()
}

async fn tell_person(site: &Site, listener: &Listener, user: &str, socket: &mut Socket) -> Option<CloseCode> {
    let mut line = Keeper::new(site);
    let mut calls = site.exchange.history.changes();
    let mut notices = site.notices.sender.subscribe();
    let mut accounts = site.exchange.accounts.subscribe();
    let mut belongings = site.belongings.subscribe();
    let address = site.exchange.address_of(user);
    let phones = || site.exchange.registrations.bindings(unix_ms(), &address).len();
    let (mut settings, mut contacts) = (settings_of(site, user), phones());
    let mut look = interval(LOOK_EVERY);
    tell(socket, &Event::Hello { missed: false }).await?;
    tell(socket, &Event::Registration { address: &address, contacts }).await?;
    loop {
        let event = tokio::select! {
            call = calls.recv() => match call {
                Ok((of, entry)) => (of == user).then(|| Event::Call { call: PastCall::from(entry) }),
                Err(error) => missed(&error)?,
            },
            notice = notices.recv() => match notice {
                Ok((of, Notice::Contacts)) => (of == user).then_some(Event::Contacts),
                Err(error) => missed(&error)?,
            },
            change = belongings.recv() => match change {
                // What this node has changed itself is told above.
                Ok(change) if change.user != user || change.from.is_none() => None,
                Ok(change) => match (change.item.kind, &change.item.value) {
                    (Kind::Contact, _) => Some(Event::Contacts),
                    (Kind::Call, Some(bytes)) => {
                        history::read(&change.item.id, bytes).map(|entry| Event::Call { call: PastCall::from(entry) })
                    }
                    (Kind::Call | Kind::Seen | Kind::Cleared, _) => Some(Event::Hello { missed: true }),
                },
                Err(error) => missed(&error)?,
            },
            change = accounts.recv() => {
                let is_hers = change.map_or(true, |change| change.user() == user);
                let now = settings_of(site, user);
                let has_changed = is_hers && now != settings;
                settings = now;
                has_changed.then(|| Event::Settings(settings.clone()))
            }
            _ = line.ends.recv() => None,
            _ = look.tick() => {
                line.keep(socket).await?;
                let now = phones();
                let has_changed = now != contacts;
                contacts = now;
                has_changed.then_some(Event::Registration { address: &address, contacts })
            }
            frame = socket.next() => {
                line.take(frame)?;
                None
            }
        };
        if line.is_over(site, listener) {
            return over();
        }
        if let Some(event) = event {
            tell(socket, &event).await?;
        }
    }
}

async fn tell_administrator(site: &Site, listener: &Listener, socket: &mut Socket) -> Option<CloseCode> {
    let mut line = Keeper::new(site);
    let mut lines = site.journal.subscribe();
    let mut look = interval(LOOK_EVERY);
    tell(socket, &Event::Hello { missed: false }).await?;
    loop {
        tokio::select! {
            news = lines.recv() => match news {
                Ok(entry) => tell(socket, &Event::Log { entry: &entry }).await?,
                Err(error) => if let Some(event) = missed(&error)? {
                    tell(socket, &event).await?;
                },
            },
            _ = line.ends.recv() => {}
            _ = look.tick() => {
                line.keep(socket).await?;
                tell(socket, &Event::Status { status: Box::new(AdminStatus::of(site)) }).await?;
            }
            frame = socket.next() => line.take(frame)?,
        }
        if line.is_over(site, listener) {
            return over();
        }
    }
}

/// What to say where something was left out; nothing more where nobody speaks any more.
#[allow(clippy::option_option, reason = "nothing to say is not the end")]
fn missed(error: &RecvError) -> Option<Option<Event<'static>>> {
    match error {
        RecvError::Lagged(_) => Some(Some(Event::Hello { missed: true })),
        RecvError::Closed => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fields(all: &[(&'static str, &'static str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_upgrade_is_accepted_as_the_rfc_has_it() {
        let usual = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        assert_eq!(accept(&fields(&usual)).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for without in 0..usual.len() {
            let mut some = usual.to_vec();
            some.remove(without);
            assert_eq!(accept(&fields(&some)), None);
        }
    }
}
