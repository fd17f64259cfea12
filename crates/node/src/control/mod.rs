//! Administration: HTTP and JSON over the unix socket `control.sock` in the data folder.
//!
//! Whoever may open the socket (mode 0600, so the node's own user) administers the node; there is no password. The only other
//! way is that of the page (`web::api`). `meshtone user`, `invite` and `status` speak to it; so can `curl --unix-socket`.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /status` | [`Status`] |
//! | `GET /netcheck` | [`Netcheck`] |
//! | `POST /traces`, an address or a Call-ID | [`Trace`] |
//! | `POST /page/key` | 201, [`PageKey`] |
//! | `GET /users` | [`UserList`] |
//! | `POST /users` [`NewUser`] | 201, [`UserCredentials`] |
//! | `POST /users/{name}/password` | [`UserCredentials`] |
//! | `GET /users/{name}/login` | [`UserLogin`] |
//! | `POST /users/{name}/turn` | [`IceServer`](crate::turn::IceServer) |
//! | `PATCH /users/{name}` [`UserChanges`] | [`UserRow`] |
//! | `DELETE /users/{name}` | 204 |
//! | `POST /invites` [`NewInvite`] | 201, [`Invite`] |
//! | `POST /backup` [`NewBackup`] | the backup's bytes, as they are made |
//! | `GET /authority/certificates` | [`CertificateList`], where the authority is |
//! | `GET /authority/nodes` | [`NodeList`], where the authority is |
//! | `POST /authority/nodes/{id}/revocation` [`NewRevocation`] | 204 |
//! | `POST /enrolments` [`Enrolment`] | 202, [`Mailed`]; with a code or a foreign certificate 201, [`UserCredentials`] |
//! | `GET /keys` | [`KeyList`] |
//! | `POST /keys` [`NewKey`] | 201, [`UserCredentials`] |
//! | `POST /keys/{address}/nodes` [`Delegation`] | 204 |
//! | `POST /keys/{address}/export` [`Passphrase`] | [`Card`] |
//!
//! What fails is answered with [`Failure`] and the HTTP status that fits.

mod api;
mod backup;
mod nodes;
mod people;
pub(crate) mod routes;
mod socket;

pub use crate::transport::tls::showing::{Described, Origin};
pub use api::{
    AccountsStatus, AcmeStatus, AuthorityStatus, Call, Card, CertificateList, CertificateRow, Contradiction,
    Delegation, Enrolment, Failure, FinishedCall, ForeignCertificate, Heard, Invite, KeyChange, KeyList, KeyRow,
    LadderMessage, Link, MailStatus, Mailed, MediaBetween, MediaUse, Netcheck, NetworkStatus, NewBackup, NewInvite,
    NewKey, NewRevocation, NewUser, NodeList, NodeRow, OpenPort, OwnRelay, PageCertificate, PageKey, Passphrase,
    PortMappingStatus, Reached, Registration, RelayUsed, Role, Search, ServerStatus, Sound, Status, Trace, TraceStep,
    TracedCall, TracedDescription, TracedEnd, TracedStream, TrunkStatus, Trust, TurnListener, TurnStatus, TurnUser,
    UserChanges, UserCredentials, UserList, UserLogin, UserRow, Warning,
};
pub(crate) use routes::Failed;
pub use socket::{SOCKET, bind, remove};

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use meshtone_identity::{NodeId, Rights};
use meshtone_overlay::Overlay;
use meshtone_sip::digest::Algorithm;
use tokio::net::UnixListener;

use crate::account::{Account, Accounts};
use crate::authority;
use crate::enrol::{Inviter, Open};
use crate::login::keys::Keys;
use crate::member::{Enrolments, Members};
use crate::store::Store;
use crate::transport::reached_from_here;
use crate::turn;

/// What the rest of the node knows of itself.
pub trait StatusSource: Send + Sync {
    /// How the node stands.
    fn status(&self) -> Status;

    /// Who vouches for the node's page.
    fn trust(&self) -> Option<Trust> {
        None
    }

    /// What kind of network this is.
    fn netcheck(&self) -> Netcheck;

    /// What comes of a call to this address, or came of the one with this Call-ID.
    fn trace(&self, target: String) -> Pin<Box<dyn Future<Output = Trace> + Send>>;

    /// The addresses on which it listens for SIP.
    fn sip(&self) -> Vec<SocketAddr>;

    /// Whether phones may authenticate by one of these algorithms at some listener.
    fn offers(&self, algorithms: &[Algorithm]) -> bool;
}

/// All that administration touches. Clones are the same.
#[derive(Clone)]
pub struct Control {
    accounts: Accounts,
    inviter: Arc<Inviter>,
    members: Members,
    store: Store,
    enrolments: Enrolments,
    /// What this node's certificate lets it do.
    rights: Rights,
    node: NodeId,
    /// The addresses of our link, real ones.
    links: Arc<dyn Fn() -> Vec<SocketAddr> + Send + Sync>,
    /// Where others reach it as well, since the router lets them in, and the port of our relay.
    entrances: Arc<dyn Fn() -> (Vec<SocketAddr>, Option<u16>) + Send + Sync>,
    status: Arc<dyn StatusSource>,
    authority: Option<Arc<authority::Service>>,
    page: Option<PageKeys>,
    turn: Option<turn::IceServers>,
}

/// What makes the keys by which the page is opened as administrator.
#[derive(Clone)]
pub(crate) struct PageKeys {
    pub(crate) keys: Arc<Keys>,
    /// Where the page is opened from this machine; `None` where the node listens for no browsers.
    pub(crate) url: Option<String>,
}

/// The page's address with a key in it, behind what no server or log sees.
pub(crate) fn with_key(url: &str, key: &str) -> String {
    format!("{url}/#key={key}")
}

impl Control {
    /// Joins what is administered.
    pub(crate) fn new(
        accounts: Accounts,
        inviter: Arc<Inviter>,
        members: Members,
        store: Store,
        (enrolments, rights): (Enrolments, Rights),
        overlay: Overlay,
        status: Arc<dyn StatusSource>,
    ) -> Control {
        let node = overlay.node_id();
        let own = overlay.clone();
        let links = Arc::new(move || own.addresses());
        let entrances = Arc::new(move || (overlay.entrances(), overlay.relay_port()));
        Control {
            accounts,
            inviter,
            members,
            store,
            enrolments,
            rights,
            node,
            links,
            entrances,
            status,
            authority: None,
            page: None,
            turn: None,
        }
    }

    /// The same, of the node that has the overlay's authority.
    pub(crate) fn with_authority(self, authority: Option<Arc<authority::Service>>) -> Control {
        Control { authority, ..self }
    }

    /// The same, of a node that has a page.
    pub(crate) fn with_page(self, page: PageKeys) -> Control {
        Control { page: Some(page), ..self }
    }

    /// The same, of a node with a TURN server.
    pub(crate) fn with_turn(self, turn: turn::IceServers) -> Control {
        Control { turn: Some(turn), ..self }
    }

    /// How the node stands.
    pub(crate) fn status(&self) -> Status {
        self.status.status()
    }

    /// The tickets that have not ended.
    pub(crate) fn open_invites(&self) -> Vec<Open> {
        self.inviter.open_invites()
    }

    /// Takes a ticket back; false where there is none of that id.
    pub(crate) fn withdraw_invite(&self, id: &str) -> bool {
        self.inviter.withdraw(id)
    }

    /// All users, by name.
    pub(crate) fn users(&self) -> Vec<UserRow> {
        let row = |account: Account| {
            let warning = self.warning(&account);
            UserRow::of(account, warning)
        };
        self.accounts.list().into_iter().map(row).collect()
    }

    /// What is wrong with an account whose phones may use only what no listener here offers.
    fn warning(&self, account: &Account) -> Option<Warning> {
        let algorithms = account.digest().filter(|algorithms| !self.status.offers(algorithms))?;
        let tokens: Vec<&str> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
        let (user, tokens) = (&account.user, tokens.join(" or "));
        Some(Warning {
            warning: format!(
                "no phone of {user} can register at this node: it may use {tokens} only, and no listener offers that"
            ),
            hint: format!(
                "start the node with `--digest` and what is missing, or let {user} use all with `meshtone user set {user} --any-digest`"
            ),
        })
    }

    /// Where a phone on this machine reaches the node.
    fn near_server(&self) -> Option<SocketAddr> {
        self.status.sip().into_iter().next().map(reached_from_here)
    }

    /// What to type into a phone as its server: our SIP address. Where we listen on all of them, one that the links
    /// know is meant.
    fn server(&self) -> String {
        let Some(mut sip) = self.status.sip().into_iter().next() else { return self.accounts.domain().to_owned() };
        if sip.ip().is_unspecified() {
            let links = (self.links)();
            let fits = |ip: &IpAddr| sip.is_ipv6() || ip.is_ipv4();
            if let Some(ip) = links.iter().map(SocketAddr::ip).find(fits) {
                sip.set_ip(ip);
            }
        }
        sip.to_string()
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Control").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// Serves administration until the node ends.
pub async fn serve(listener: UnixListener, control: Control) {
    if let Err(error) = axum::serve(listener, routes::router(control)).await {
        tracing::error!(%error, "administration ended; the node goes on");
    }
}

#[cfg(test)]
mod tests;
