//! A node, started and stopped: every room opened in order and joined.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand;
use meshtone_media::io::{Conversions, PortRange, Shares};
use meshtone_overlay::node::{Config as OverlayConfig, Overlay, RelayChoice, RoleChoice};
use meshtone_overlay::{Expected, RelayOffer, WantedPort, mapping};
use meshtone_sip::digest::{Authenticator, DigestConfig};
use meshtone_sip::registrar::Limits;
use meshtone_sip::registrar::gruu::GruuKey;
use meshtone_sip::server::{Server, ServerConfig};
use meshtone_sip::transport::Randomness;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::account::{self, Accounts};
use crate::acme::{self, Challenges};
use crate::authority::{self, ServiceError};
use crate::bootstrap::{Bootstrap, Peer, Tried};
use crate::clock::{Moment, unix_ms, unix_s};
use crate::control::{self, PageKeys};
use crate::dangerous::{Credulous, Unsigned};
use crate::enrol::renew::Pair;
use crate::enrol::{self, Membership};
use crate::exchange::Exchange;
use crate::exchange::allowance::Allowances;
use crate::exchange::anchoring::{self, AnchorRules, Anchors};
use crate::exchange::attestation::Originations;
use crate::exchange::bridge::Replacements;
use crate::exchange::calls::{Calls, SAMPLE_EVERY};
use crate::exchange::digest::{DigestPolicy, DigestRule};
use crate::exchange::first_stage::{self, FirstStage};
use crate::exchange::flows::{self, Flows};
use crate::exchange::guard::Guard;
use crate::exchange::identity::Identities;
use crate::exchange::networks::Network;
use crate::exchange::policy::Outside;
use crate::exchange::shard::Shard;
use crate::exchange::shown::Callers;
use crate::exchange::trunk::settings::Trunk;
use crate::exchange::trunk::{TrunkInput, TrunkWork, Trunks};
use crate::exchange::watch::Watches;
use crate::exchange::worker::{Input, Worker};
use crate::journal::Journal;
use crate::location::certificates::ForeignCertificates;
use crate::location::dns::Dns;
use crate::location::memory::Registrations;
use crate::location::publisher::Publisher;
use crate::login::Sessions;
use crate::login::keys::Keys;
use crate::login::tokens::Tokens;
use crate::member::{Enrolments, MemberError, Members};
use crate::metrics::Metrics;
use crate::page_certificate::{self, PageKeeper};
use crate::person;
use crate::person::belongings::Belongings;
use crate::person::history::History;
use crate::renewal::{self, Validity};
use crate::revocation::Revocations;
use crate::settings::{Desk, Live};
use crate::status::StatusView;
use crate::store::{Setting, Store, StoreError};
use crate::transport::dispatch::{Dispatch, INBOX};
use crate::transport::tls::Tls;
use crate::transport::tls::certificate::{Certificate, CertificateError};
use crate::transport::tls::showing::{Origin, Showing};
use crate::transport::{self, Addresses, LocalView, Outbox, TransportError, Transports};
use crate::turn::{self, Turn};
use crate::web::{Administration, Certificates, EnrolHere, Pages, Ports, PublicUrl, Site};

/// One shard of the bindings is swept at each tick, all 64 in 16 s.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How often the known peers are written down for the next start.
const HOST_CACHE_EVERY: Duration = Duration::from_secs(10);

/// How long a stop waits for providers: one that is there answers at once, one that is not loses the binding by itself.
const LEAVE_TRUNKS_WITHIN: Duration = Duration::from_secs(2);
/// Workers for each thread that receives: with one each, two threads would too often want the same.
const WORKERS_PER_THREAD: usize = 4;

/// Calls to the echo service at once: each costs two ports and 50 packets a second both ways.
const MAX_ECHO_CALLS: usize = 64;

/// Pairs of ports for calls whose media runs through this node, counted apart from those of echo. A call with sound takes two: a
/// thousand of them are what a small machine carries; whoever comes later is not rung, and hears 503 and why.
const MAX_ANCHOR_PORTS: usize = 2048;

/// What a node is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder; made where there is none.
    pub data: PathBuf,
    /// The domain to serve; needed by the first run only, and then fixed.
    pub domain: Option<String>,
    /// Addresses for SIP, each for UDP and TCP.
    pub sip: Vec<SocketAddr>,
    /// Addresses for SIP over TLS.
    pub tls: Vec<SocketAddr>,
    /// Addresses for the node's pages and SIP over WebSocket.
    pub ws: Vec<SocketAddr>,
    /// Addresses for the same over TLS.
    pub wss: Vec<SocketAddr>,
    /// Where the pages are found from outside.
    pub public_url: Option<PublicUrl>,
    /// Who may get an address of his own at this node by its page.
    pub enrol: EnrolHere,
    /// From where the page administers this node.
    pub administration: Administration,
    /// Who keeps the settings that the page changes.
    pub desk: Option<Arc<dyn Desk>>,
    /// Where the program keeps the last lines of its log.
    pub journal: Journal,
    /// A certificate chain for TLS, leaf first, as a PEM file. Without it the node makes a certificate of its own.
    pub tls_certificate: Option<PathBuf>,
    /// The key of that certificate, as a PEM file.
    pub tls_key: Option<PathBuf>,
    /// Certificate authorities that other domains' servers are verified by, beside the usual ones, as a PEM file.
    pub tls_authorities: Option<PathBuf>,
    /// Origins of web pages, other than this host's own, that may connect over WebSocket.
    pub ws_origins: Vec<String>,
    /// What phones may authenticate by, everywhere or at one listener; MD5 alone where nothing is said.
    pub digest: Vec<DigestRule>,
    /// Whom to ask for a certificate that every browser believes.
    pub acme: Option<acme::Settings>,
    /// UDP addresses for links to other nodes.
    pub link: Vec<SocketAddr>,
    /// First and last UDP port for media.
    pub rtp_ports: (u16, u16),
    /// The STUN and TURN server.
    pub turn: turn::Settings,
    /// When the media of calls runs through this node.
    pub anchor: AnchorRules,
    /// The ticket by which a first run joins another's overlay.
    pub join: Option<String>,
    /// Other nodes to look for, beside those known from before.
    pub peers: Vec<Peer>,
    /// Whether to look for other nodes on the local network, and to be found there.
    pub local_network: bool,
    /// Whether to store and forward for others, or only to use the overlay through nodes that do; or whatever is best for it.
    pub role: RoleChoice,
    /// Whether to pass packets on for nodes that nobody can dial.
    pub relay: RelayChoice,
    /// UDP addresses at which nodes learn which address their packets come from, where this one runs a relay.
    pub relay_discovery: Vec<SocketAddr>,
    /// Whether to have the router before this machine let others in, where it does that.
    pub port_mapping: bool,
    /// How many bytes a second the relay is to carry in all.
    pub relay_quota: u32,
    /// Calls to and from other SIP domains and telephone networks.
    pub outside: Outside,
    /// What phones here are shown of who calls.
    pub callers: Callers,
    /// Hosts that speak for many phones, to which the limits by source do not apply as they are.
    pub trusted_sources: Vec<Network>,
    /// How many workers share the calls; one for each processor where nothing is said.
    pub workers: Option<NonZeroUsize>,
    /// Whether whoever names a user is believed, with no account and no password.
    pub dangerous_open_registration: bool,
    /// Whether to sign nothing and believe everything: for measuring what that costs.
    pub dangerous_unsigned: bool,
    /// Accounts at providers, in the order in which they are tried.
    pub trunks: Vec<Trunk>,
    /// The servers behind, where this node is the first stage of a farm.
    pub first_stage: Option<first_stage::Settings>,
    /// How the overlay's authority works, where this node has it.
    pub authority: Option<authority::Settings>,
}

/// What a person wants to know of a node that has started.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The node's id, base 36.
    pub node: String,
    /// The overlay's id, base 36.
    pub overlay: String,
    /// The domain served.
    pub domain: String,
    /// SIP addresses, UDP and TCP.
    pub sip: Vec<SocketAddr>,
    /// TLS addresses.
    pub tls: Vec<SocketAddr>,
    /// WebSocket addresses.
    pub ws: Vec<SocketAddr>,
    /// Addresses for WebSocket over TLS.
    pub wss: Vec<SocketAddr>,
    /// Addresses for STUN and TURN, UDP and TCP.
    pub turn: Vec<SocketAddr>,
    /// Addresses for TURN over TLS.
    pub turns: Vec<SocketAddr>,
    /// Where the pages are found from outside.
    pub public_url: Option<PublicUrl>,
    /// Link addresses, real ones even where it listens on all of them.
    pub link: Vec<SocketAddr>,
    /// The data folder.
    pub data: PathBuf,
    /// The page's address with a one-time key to administer this node; `None` where there is no page.
    pub page_key: Option<String>,
    /// Whether this start made the node.
    pub first_run: bool,
    /// Accounts in the table.
    pub users: usize,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Keys, certificates or the ticket.
    #[error(transparent)]
    Enrol(#[from] enrol::EnrolError),
    /// Keys of people.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The overlay.
    #[error("the overlay did not start: {0}")]
    Overlay(#[from] meshtone_overlay::node::Error),
    /// A SIP address.
    #[error("cannot listen for SIP on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// An address of the TURN server.
    #[error("cannot listen for STUN and TURN on {address}: {reason}")]
    ListenTurn {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// What TLS shows or trusts.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The administration socket.
    #[error("cannot open the administration socket: {0}")]
    Control(#[source] std::io::Error),
    /// Registration without passwords where strangers could come in.
    #[error("anybody could come in at {0}: a dangerous node is for networks that nobody else can reach")]
    OpenToStrangers(SocketAddr),
    /// The overlay's authority.
    #[error(transparent)]
    Authority(#[from] ServiceError),
    /// The node's id makes no host name.
    #[error("the node's id makes no host name")]
    NodeName,
    /// The ports for media.
    #[error("the ports for media must be a first and a last one with an even one between them")]
    RtpPorts,
}

/// A running node.
pub struct Node {
    summary: Summary,
    store: Store,
    overlay: Overlay,
    publisher: Publisher,
    transports: Arc<Transports>,
    registrations: Arc<Registrations>,
    history: Arc<History>,
    tasks: JoinSet<()>,
    workers: Vec<mpsc::Sender<Input>>,
    turn: Option<Arc<Turn>>,
}

impl Node {
    /// Starts a node: makes or opens its data, joins its overlay and listens.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub async fn start(config: Config) -> Result<Node, StartError> {
        if config.dangerous_open_registration || config.dangerous_unsigned {
            check_closed_network(&config)?;
        }
        let store = Store::open(&config.data)?;
        let membership = enrol::establish(&store, config.domain.as_deref(), config.join.as_deref()).await?;
        let domain = membership.domain.clone();
        let rights = membership.certificate.rights();
        if let Some(authority) = &config.authority {
            membership.inviter().govern(authority.admission());
        }
        let (first, last) = config.rtp_ports;
        let ports = PortRange::new(first..=last, MAX_ECHO_CALLS).map_err(|_| StartError::RtpPorts)?;
        let anchor_ports = PortRange::new(first..=last, MAX_ANCHOR_PORTS).map_err(|_| StartError::RtpPorts)?;
        let overlay_config = overlay_config(&config, &membership, &store);
        let revocations = membership.inviter().revocations();
        let delegated = overlay_config.delegated.clone();
        let renewed = overlay_config.renewed.clone();
        let overlay = if config.dangerous_unsigned {
            let unsigned = Arc::new(Unsigned(membership.node()));
            Overlay::dangerous_start_with(overlay_config, unsigned, Arc::new(Credulous)).await?
        } else {
            Overlay::start(overlay_config).await?
        };

        let accounts = Accounts::open(store.clone(), &domain, overlay.node_id(), unix_ms, account::system_random())?;
        let belongings = Arc::new(Belongings::open(store.clone(), overlay.node_id(), unix_ms)?);
        let history = Arc::new(History::open(&store, belongings.clone())?);
        let sessions = Arc::new(Sessions::open(store.clone(), accounts.clone(), unix_ms())?);
        let certificate = membership.authority_certificate.clone();
        let random = account::system_random();
        let members = Members::open(store.clone(), overlay.clone(), certificate, accounts.clone(), delegated, random)?;
        let publisher = Publisher::default();
        let registrations = Registrations::restore(store.clone(), publisher.clone(), Limits::default(), unix_ms());

        let threads = config.workers.or(std::thread::available_parallelism().ok()).map_or(1, usize::from);
        let workers = threads * WORKERS_PER_THREAD;
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(INBOX)).unzip();
        let shown = Shown::of(&config, &store, &membership)?;
        let settings = transport::Settings { receivers: threads, ..transport_settings(&config, &shown) };
        let transports = Transports::start(settings, overlay.clone(), Dispatch::new(inboxes.clone()))?;

        let dns = Arc::new(Dns::new(&config.outside.dns));
        let flow_token_key = kept_key(&store, Setting::FlowTokenKey)?;
        let own_host = transport::host_of(overlay.node_id()).ok_or(StartError::NodeName)?;
        let published = Certificates::new(
            membership.authority_certificate.clone(),
            membership.home.clone(),
            renewed.clone(),
            config.public_url.clone(),
            shown.browsers.clone(),
        );
        let exchange = Arc::new(Exchange {
            domain: domain.clone(),
            accounts: accounts.clone(),
            sessions: sessions.clone(),
            registrations: registrations.clone(),
            flows: Flows::default(),
            overlay: overlay.clone(),
            transports: transports.clone(),
            calls: Calls::default(),
            history: history.clone(),
            watches: Watches::new(workers, history.clone()),
            reports: Default::default(),
            metrics: Metrics::new(workers),
            // A fresh secret each start, never shared: nonces of before, or of another home node, are stale, and phones try
            // again by themselves.
            authenticator: Authenticator::new(random_key(), DigestConfig::default()),
            digest: DigestPolicy::new(&config.digest),
            gruus: GruuKey::new(&kept_key(&store, Setting::GruuKey)?, &overlay.node_id().to_string()),
            guard: Guard::new(config.trusted_sources.clone()),
            rtp_ports: ports,
            anchor: config.anchor.clone(),
            anchor_ports,
            between: anchoring::between::between(&overlay),
            media_identity: anchoring::media_identity(),
            conversions: Conversions::new(config.anchor.limits.converted_calls),
            shares: Shares::default(),
            certificates: ForeignCertificates::new(
                dns.clone(),
                config.tls_authorities.as_deref(),
                config.outside.allow_private_destinations,
            )?,
            dns: dns.clone(),
            outside: config.outside.clone(),
            allowances: Allowances::default(),
            open_registration: config.dangerous_open_registration,
            trunks: Trunks::new(&config.trunks, &flow_token_key),
            callers: config.callers.clone(),
            members: members.clone(),
            identities: Identities::new(
                membership.signer.clone(),
                &own_host,
                membership.authority_certificate.clone(),
                membership.inviter().revocations().revoked(),
            ),
            published: published.clone(),
            originations: Originations::of(overlay.node_id()),
            own_host,
            rights,
            dangerous_unsigned: config.dangerous_unsigned,
        });
        for address in exchange.digest.without_listener(&exchange.transports.addresses().all()) {
            tracing::warn!(%address, "a digest rule is for an address that is not listened on");
        }
        for account in accounts.list() {
            exchange.warn_if_shut_out(&account);
        }
        exchange.trunks.announce(&publisher, &domain);
        let authority = authority(&config, &membership, &store)?;
        if let Some(authority) = &authority {
            authority.announce(&publisher);
        }

        let mut tasks = JoinSet::new();
        let turn = start_turn(&config, &store, &accounts, (&overlay, &revocations), &shown)?;
        let shared = turn.as_ref().filter(|_| config.turn.shared);
        if let Some((turn, port)) = shared.and_then(|turn| Some((turn, turn.plain_port()?))) {
            let _ = overlay.offer_turn(port).await;
            tasks.spawn(turn::serve(overlay.clone(), turn.credentials().clone()));
        }
        let abroad = turn::Abroad::new(overlay.clone(), accounts.clone());
        tasks.spawn(abroad.clone().run());
        let ice = turn::IceServers::new(turn.as_ref().map(|turn| turn.credentials().clone()), abroad);
        let mut shards = Vec::new();
        let replacements = Replacements::default();
        for (index, (inbox, answers)) in receivers.into_iter().zip(inboxes.clone()).enumerate() {
            let mut server = ServerConfig::new(flow_token_key);
            server.forwarding.asks_about_redirects = true;
            server.server_name = format!("Meshtone/{}", env!("CARGO_PKG_VERSION"));
            let worker = Worker {
                exchange: exchange.clone(),
                server: Server::new(
                    server,
                    Box::new(LocalView(transports.clone())),
                    Box::new(SystemRandomness::default()),
                ),
                index,
                now: Moment::now(),
                outbox: Outbox::default(),
                answers,
                overload: Default::default(),
                echoes: HashMap::new(),
                forwarded: HashMap::new(),
                subscribers: BTreeMap::new(),
                counted: Default::default(),
                trunks: TrunkWork::sharing(replacements.clone()),
                anchors: Anchors::default(),
                workers,
            };
            let shard = Shard::new(worker);
            tasks.spawn(shard.clone().run(inbox));
            shards.push(shard);
        }
        let first_stage = config.first_stage.as_ref();
        let first_stage =
            first_stage.map(|settings| Arc::new(FirstStage::new(settings, &flow_token_key, exchange.clone())));
        let enroller = authority::Client::new(
            overlay.clone(),
            &membership.authority_domain,
            membership.authority_certificate.clone(),
            authority.clone(),
        );
        let enrolments = Enrolments::new(members.clone(), enroller.clone(), accounts.clone());
        let keys = Arc::new(Keys::default());
        let tried = Arc::new(Tried::new(membership.bootstrap.len()));
        let (addresses, links) = (transports.addresses(), overlay.addresses());
        let page_url = page_url(&addresses, config.public_url.as_ref());
        let summary = Summary {
            node: overlay.node_id().to_string(),
            overlay: overlay.overlay_id().to_string(),
            domain: domain.clone(),
            sip: reachable(&addresses.sip, &links),
            tls: reachable(&addresses.tls, &links),
            ws: reachable(&addresses.ws, &links),
            wss: reachable(&addresses.wss, &links),
            turn: turn_addresses(turn.as_deref(), "udp", &links),
            turns: turn_addresses(turn.as_deref(), "tls", &links),
            public_url: config.public_url.clone(),
            link: links,
            data: config.data.clone(),
            page_key: page_url.as_deref().map(|url| control::with_key(url, &keys.make(unix_ms()))),
            first_run: membership.first_run,
            users: accounts.users(),
        };
        let validity = Validity::of(&membership);
        let acme_standing = acme::Standing::default();
        let (own, until) = (authority.clone(), validity.clone());
        let view = StatusView::new(
            summary.clone(),
            exchange.clone(),
            first_stage.clone(),
            tried.clone(),
            own,
            revocations.clone(),
            until,
        )
        .with_turn(turn.clone())
        .with_certificates(published.clone(), config.acme.clone().map(|settings| (settings, acme_standing.clone())));
        let keeper = renewal::Keeper {
            store: store.clone(),
            overlay: overlay.clone(),
            client: enroller.clone(),
            authority: membership.authority_certificate.clone(),
            signer: membership.signer.clone(),
            link_key: membership.link_key(),
            pair: Pair { node: membership.certificate.clone(), home: membership.home.clone() },
            renewed,
            validity,
        };
        tasks.spawn(keeper.run());
        if let (Some(settings), Some(challenges)) = (&config.acme, &shown.challenges) {
            let listens = |all: &[SocketAddr], port| all.iter().any(|address| address.port() == port);
            let ports = (listens(&config.wss, 443), listens(&config.ws, 80));
            // What browsers are shown decides whether there is one already.
            let showings = shown.browsers.iter().chain(&shown.phones).cloned().collect();
            let (store, challenges) = (store.clone(), challenges.clone());
            let keeper =
                acme::Keeper::new(settings.clone(), store, challenges, showings, acme_standing.clone(), ports)?;
            tasks.spawn(keeper.run());
        }
        if let Some(showing) = shown.browsers.clone() {
            let page_keeper = PageKeeper {
                store: store.clone(),
                overlay: overlay.clone(),
                client: enroller.clone(),
                authority: membership.authority_certificate.clone(),
                certificates: published.clone(),
                showing,
                listening: config.wss.clone(),
            };
            tasks.spawn(page_keeper.run());
        }
        let inviter = membership.inviter();
        let control = control::Control::new(
            accounts.clone(),
            inviter,
            members.clone(),
            store.clone(),
            (enrolments.clone(), rights),
            overlay.clone(),
            Arc::new(view),
        )
        .with_authority(authority.clone())
        .with_page(PageKeys { keys: keys.clone(), url: page_url.clone() })
        .with_turn(ice.clone());
        let pages = Pages::new(Site {
            domain: domain.clone(),
            overlay: overlay.clone(),
            certificates: published,
            enrolments: enrolments.clone(),
            limits: Default::default(),
            ports: Ports::of(&transports.addresses()),
            exchange: exchange.clone(),
            sessions: sessions.clone(),
            keys: keys.clone(),
            tokens: Tokens::open(store.clone())?,
            live: Mutex::new(Live { enrol: config.enrol, administration: config.administration }),
            desk: config.desk.clone(),
            challenges: shown.challenges.clone(),
            control: control.clone(),
            store: store.clone(),
            belongings: belongings.clone(),
            journal: config.journal.clone(),
            notices: Default::default(),
            turn: ice,
        });
        transports.receive(shards, first_stage.clone(), &pages)?;
        if let Some(first_stage) = first_stage.clone() {
            tasks.spawn(first_stage.run());
        }
        tasks.spawn(publisher.clone().run(overlay.clone(), registrations.clone()));
        tasks.spawn(sweep(registrations.clone()));
        let moved = transports.clone();
        tasks.spawn(async move { meshtone_overlay::follow_network(|| moved.forget_facing()).await });
        tasks.spawn(listen_to_calls(exchange.clone()));
        let closing = Arc::downgrade(&exchange);
        transports.tell_closed(Box::new(move |connection| {
            if let Some(exchange) = closing.upgrade() {
                exchange.flows.closed(connection);
            }
        }));
        tasks.spawn(flows::follow(exchange.clone()));
        tasks.spawn(members.clone().run(publisher.clone(), registrations.clone()));
        tasks.spawn(follow_accounts(exchange.clone()));
        if rights.may_speak() {
            tasks.spawn(account::mesh::run(overlay.clone(), accounts.clone()));
            tasks.spawn(person::sync::run(overlay.clone(), accounts.clone(), belongings));
        }
        tasks.spawn(revocations.clone().run(overlay.clone()));
        tasks.spawn(remember_peers(store.clone(), overlay.clone()));
        tasks.spawn(anchoring::between::keep_links(overlay.clone(), exchange.between.clone()));
        let (peers, local) = (config.peers.clone(), config.local_network);
        tasks.spawn(Bootstrap { peers, local, dns, tried: tried.clone() }.run(overlay.clone()));

        if let Some(authority) = &authority {
            tasks.spawn(authority.clone().run(overlay.clone()));
        }

        let listener = control::bind(&summary.data).map_err(StartError::Control)?;
        tasks.spawn(control::serve(listener, control));
        Ok(Node {
            summary,
            store,
            overlay,
            publisher,
            transports,
            registrations,
            history,
            tasks,
            workers: inboxes,
            turn,
        })
    }

    /// What to tell a person.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Stops cleanly: leaves its providers, takes this node's registrations out of the overlay, writes everything down and says goodbye.
    pub async fn shutdown(mut self) {
        self.leave_trunks().await;
        self.publisher.withdraw(&self.overlay, &self.registrations).await;
        save_host_cache(&self.store, &self.overlay);
        self.transports.close();
        if let Some(turn) = &self.turn {
            turn.shutdown().await;
        }
        self.tasks.shutdown().await;
        self.overlay.shutdown().await;
        self.registrations.write_all();
        self.history.write_all();
        if let Err(error) = self.store.flush() {
            tracing::error!(%error, "the last changes may not be on disk");
        }
        control::remove(&self.summary.data);
    }
}

impl Node {
    /// Takes the registrations at providers back, and waits for those who answer.
    async fn leave_trunks(&self) {
        let (done, mut left) = mpsc::channel::<()>(1);
        for worker in &self.workers {
            let _ = worker.send(Input::Trunk(TrunkInput::Leave(done.clone()))).await;
        }
        drop(done);
        // Nothing is ever sent: it closes with the last one who waits.
        let _ = tokio::time::timeout(LEAVE_TRUNKS_WITHIN, left.recv()).await;
    }
}

impl From<TransportError> for StartError {
    fn from(error: TransportError) -> StartError {
        match error {
            TransportError::Listen(address, reason) => StartError::Listen { address, reason },
            TransportError::Certificate(error) => StartError::Certificate(error),
        }
    }
}

/// Open registration needs addresses that strangers do not reach: of this machine, or of a private network. One that stands for
/// all addresses may be reached from anywhere.
fn check_closed_network(config: &Config) -> Result<(), StartError> {
    let is_closed = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    // Other nodes have to prove who they are even where their word is not signed; but these believe each other everything.
    let links = if config.dangerous_unsigned { config.link.as_slice() } else { &[] };
    let listening =
        [&config.sip, &config.tls, &config.ws, &config.wss, &config.turn.listen, &config.turn.tls].into_iter();
    let mut listening = listening.flatten().chain(links);
    match listening.find(|address| !is_closed(address.ip())) {
        Some(open) => Err(StartError::OpenToStrangers(*open)),
        None => Ok(()),
    }
}

/// What the transports need.
fn transport_settings(config: &Config, shown: &Shown) -> transport::Settings {
    let addresses =
        Addresses { sip: config.sip.clone(), tls: config.tls.clone(), ws: config.ws.clone(), wss: config.wss.clone() };
    transport::Settings {
        addresses,
        showing: shown.phones.clone(),
        page_showing: shown.browsers.clone(),
        challenges: shown.challenges.clone(),
        authorities: config.tls_authorities.clone(),
        origins: config.ws_origins.clone(),
        receivers: 1,
        dangerous_unsigned: config.dangerous_unsigned,
    }
}

/// What TLS shows, where there is somebody to show it to.
#[derive(Default)]
struct Shown {
    /// To phones, other domains and TURN clients. One of the node's own making stays as long as it can: some were told to trust it.
    phones: Option<Showing>,
    /// To browsers.
    browsers: Option<Showing>,
    /// To servers that are asked for certificates.
    challenges: Option<Challenges>,
}

impl Shown {
    fn of(config: &Config, store: &Store, membership: &Membership) -> Result<Shown, CertificateError> {
        let domain = &membership.domain;
        let certificate = || match (&config.tls_certificate, &config.tls_key) {
            (Some(chain), Some(key)) => Certificate::read(chain, key),
            (Some(_), None) | (None, Some(_)) => Err(CertificateError::Half),
            (None, None) => {
                let named = [&config.tls, &config.wss, &config.turn.tls].into_iter().flatten().copied();
                Certificate::own(store, domain, &named.collect::<Vec<_>>(), unix_ms())
            }
        };
        let showing = |is_needed: bool| match is_needed {
            true => certificate().and_then(Showing::new).map(Some),
            false => Ok(None),
        };
        if config.tls_certificate.is_some() != config.tls_key.is_some() {
            return Err(CertificateError::Half);
        }
        let (for_phones, for_browsers) =
            (!config.tls.is_empty() || !config.turn.tls.is_empty(), !config.wss.is_empty());
        if let Some(settings) = &config.acme
            && acme::kept(store, settings).is_some()
        {
            let obtained = || acme::kept(store, settings).map(Showing::new).transpose();
            let phones = if for_phones { obtained()? } else { None };
            let browsers = if for_browsers { obtained()? } else { None };
            return Ok(Shown { phones, browsers, challenges: Some(Challenges::default()) });
        }
        let phones = showing(for_phones)?;
        let kept = page_certificate::kept(store, &membership.authority_certificate, domain);
        let browsers = match kept.filter(|_| config.tls_certificate.is_none() && for_browsers) {
            Some(kept) => Some(Showing::new(kept)?),
            None => showing(for_browsers)?,
        };
        Ok(Shown { phones, browsers, challenges: config.acme.as_ref().map(|_| Challenges::default()) })
    }
}

/// The STUN and TURN server, where there is to be one.
fn start_turn(
    config: &Config,
    store: &Store,
    accounts: &Accounts,
    (overlay, revocations): (&Overlay, &Revocations),
    shown: &Shown,
) -> Result<Option<Arc<Turn>>, StartError> {
    let settings = &config.turn;
    if settings.listen.is_empty() && settings.tls.is_empty() {
        return Ok(None);
    }
    let around = turn::Surroundings {
        accounts,
        secret: kept_key(store, Setting::TurnSecret)?,
        revoked: revocations.revoked(),
        certificate: shown.phones.clone().map(|showing| Tls::new(showing, shown.challenges.clone())).transpose()?,
        is_certified: shown
            .phones
            .as_ref()
            .is_some_and(|showing| matches!(showing.origin(), Origin::File | Origin::Acme)),
        name: config.public_url.as_ref().map(|url| url.host().to_owned()),
        media: config.rtp_ports,
        addresses: overlay.addresses().iter().map(SocketAddr::ip).collect(),
    };
    let turn = Turn::start(settings, around).map_err(|(address, reason)| StartError::ListenTurn { address, reason })?;
    Ok(Some(Arc::new(turn)))
}

fn turn_addresses(turn: Option<&Turn>, over: &str, links: &[SocketAddr]) -> Vec<SocketAddr> {
    let listeners = turn.map(Turn::listeners).unwrap_or_default().iter();
    let of_kind: Vec<SocketAddr> = listeners.filter(|one| one.over == over).map(|one| one.at).collect();
    reachable(&of_kind, links)
}

fn overlay_config(config: &Config, membership: &Membership, store: &Store) -> OverlayConfig {
    let mut overlay = OverlayConfig::new(
        config.link.clone(),
        *membership.link_secret,
        membership.signer.clone(),
        membership.authority_certificate.clone(),
        membership.certificate.clone(),
    );
    overlay.role = config.role;
    overlay.relay_choice = config.relay;
    let inviter = membership.inviter();
    // It comes in at the listener of the pages.
    overlay.relay = config.wss.first().filter(|address| address.port() != 0).map(|address| RelayOffer {
        port: address.port(),
        discovery: config.relay_discovery.clone(),
        quota: config.relay_quota,
        guests: Expected::when(move || inviter.may_invite() && !inviter.open_invites().is_empty()),
    });
    overlay.port_mapping = config.port_mapping.then(|| mapped_ports(config));
    // Who may speak for nobody says of no domain that it does.
    if membership.certificate.rights().may_speak() {
        overlay.homes = vec![membership.home.clone()];
    }
    overlay.bootstrap = membership.bootstrap.clone();
    overlay.relay_ports = membership.relay_ports.clone();
    overlay.enrol = membership.enrol_handler();
    overlay.revoked = membership.inviter().revocations().revoked();
    overlay.records = Some(Arc::new(store.clone()));
    overlay
}

/// The ports beside the links' that the router is asked to let others in to: those of the relay, which are the pages' as well. Others are
/// told of them with one number for all addresses of the node.
fn mapped_ports(config: &Config) -> Vec<WantedPort> {
    if config.relay == RelayChoice::Off {
        return Vec::new();
    }
    let same = |transport| move |at: &SocketAddr| WantedPort { transport, at: *at, same: true };
    let pages = config.wss.first().into_iter().map(same(mapping::Transport::Tcp));
    let discovery = config.relay_discovery.iter().map(same(mapping::Transport::Udp));
    pages.chain(discovery).filter(|port| port.at.port() != 0).collect()
}

/// Where whoever sits at this machine opens the page: where his requests come from this machine, if he can, since the node is
/// administered from there.
fn page_url(addresses: &Addresses, public: Option<&PublicUrl>) -> Option<String> {
    let local = |all: &[SocketAddr], scheme: &str| {
        let here = all.iter().find(|address| address.ip().is_loopback() || address.ip().is_unspecified())?;
        Some(format!("{scheme}://localhost:{}", here.port()))
    };
    let any = |all: &[SocketAddr], scheme: &str| all.first().map(|address| format!("{scheme}://{address}"));
    local(&addresses.ws, "http")
        .or_else(|| local(&addresses.wss, "https"))
        .or_else(|| public.map(ToString::to_string))
        .or_else(|| any(&addresses.wss, "https"))
        .or_else(|| any(&addresses.ws, "http"))
}

/// The overlay's authority at work, where this node has it.
fn authority(
    config: &Config,
    membership: &Membership,
    store: &Store,
) -> Result<Option<Arc<authority::Service>>, ServiceError> {
    let Some(authority) = membership.inviter().authority() else {
        if config.authority.is_some() {
            tracing::warn!(
                "[authority] in the configuration does nothing: the node that founded the overlay has its authority"
            );
        }
        return Ok(None);
    };
    let settings = config.authority.clone().unwrap_or_default();
    let (domain, random) = (&membership.domain, account::system_random());
    // Whoever gets the mail has to find the form there.
    let url = config.public_url.clone().filter(|_| config.enrol == EnrolHere::Anybody);
    let page = url.map(|url| authority::Page { node: membership.node(), url });
    let service = authority::Service::open(store.clone(), authority, domain, &settings, page, unix_s, random)?;
    Ok(Some(Arc::new(service.renewing(membership.inviter()))))
}

/// The addresses to tell a person: where we listen on all of them, those of this machine that the links know.
pub(crate) fn reachable(listening: &[SocketAddr], links: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut named = Vec::new();
    for address in listening {
        let same_family = links.iter().map(SocketAddr::ip).filter(|ip| ip.is_ipv4() == address.is_ipv4());
        let machine: Vec<_> = same_family.map(|ip| SocketAddr::new(ip, address.port())).collect();
        if address.ip().is_unspecified() && !machine.is_empty() { named.extend(machine) } else { named.push(*address) }
    }
    named.dedup();
    named
}

async fn sweep(registrations: Arc<Registrations>) {
    let mut interval = tokio::time::interval(SWEEP_EVERY);
    let mut turn = 0usize;
    loop {
        interval.tick().await;
        registrations.sweep(unix_ms(), turn);
        turn = turn.wrapping_add(1);
    }
}

/// Listens to the calls whose sound runs through here, for whoever wants to see later how it was.
async fn listen_to_calls(exchange: Arc<Exchange>) {
    let mut interval = tokio::time::interval(SAMPLE_EVERY);
    loop {
        interval.tick().await;
        exchange.calls.sample(unix_ms(), &exchange.metrics);
    }
}

/// A user who was removed, here or at another home node, is reachable no more; one who was changed elsewhere may be shut out
/// here.
async fn follow_accounts(exchange: Arc<Exchange>) {
    use tokio::sync::broadcast::error::RecvError;
    let (accounts, registrations) = (&exchange.accounts, &exchange.registrations);
    let mut changes = accounts.subscribe();
    loop {
        match changes.recv().await {
            Ok(change) if change.is_removal() => {
                exchange.sessions.check_account(change.user());
                exchange.history.forget_before(change.user(), None);
                registrations.remove(&exchange.address_of(change.user()));
            }
            Ok(change) => {
                exchange.sessions.check_account(change.user());
                // It may be another person's than before, though nobody has told of the removal in between.
                let created_ms = change.entry.account.as_ref().map(|account| account.created_ms);
                let since_ms = created_ms.map(person::belongings::since_ms);
                exchange.history.forget_before(change.user(), since_ms);
                // Who changes an account here is told by the command.
                if let Some(account) = accounts.find(change.user()).filter(|_| change.from.is_some()) {
                    exchange.warn_if_shut_out(&account);
                }
            }
            Err(RecvError::Lagged(_)) => {
                for (address, _) in registrations.all(unix_ms()) {
                    if exchange.user(exchange.account_of(&address)).is_none() {
                        registrations.remove(&address);
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn remember_peers(store: Store, overlay: Overlay) {
    let mut interval = tokio::time::interval(HOST_CACHE_EVERY);
    let mut events = overlay.subscribe();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            event = events.recv() => if event.is_err() { interval.tick().await; }
        }
        save_host_cache(&store, &overlay);
    }
}

fn save_host_cache(store: &Store, overlay: &Overlay) {
    let cache = overlay.host_cache();
    // A node that has lost everybody remembers whom it knew.
    if !cache.is_empty() {
        store.put_setting(Setting::HostCache, enrol::encode_host_cache(&cache, &overlay.relay_ports()));
    }
}

/// A key made at the first run and kept.
fn kept_key(store: &Store, setting: Setting) -> Result<[u8; 32], StoreError> {
    if let Some(key) = store.setting(setting)?.and_then(|key| key.try_into().ok()) {
        return Ok(key);
    }
    let key = random_key();
    store.put_setting(setting, key.to_vec());
    Ok(key)
}

pub(crate) fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    SystemRandomness::default().fill(&mut key);
    key
}

/// Bytes that are asked for at once: a branch takes ten, and a request to the generator as long as for two hundred.
const RANDOM_POOL: usize = 256;

/// The operating system's randomness, for the engine's tags, branches and keys.
pub(crate) struct SystemRandomness {
    pool: [u8; RANDOM_POOL],
    /// So many at the end were not given to anybody.
    left: usize,
}

impl Default for SystemRandomness {
    fn default() -> SystemRandomness {
        SystemRandomness { pool: [0; RANDOM_POOL], left: 0 }
    }
}

impl fmt::Debug for SystemRandomness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SystemRandomness").finish_non_exhaustive()
    }
}

impl Randomness for SystemRandomness {
    fn fill(&mut self, bytes: &mut [u8]) {
        if self.left < bytes.len() {
            generate(&mut self.pool);
            self.left = RANDOM_POOL;
        }
        let from = RANDOM_POOL - self.left;
        match self.pool.get_mut(from..from.saturating_add(bytes.len())) {
            Some(given) => {
                bytes.copy_from_slice(given);
                // What was given is not to be found here.
                given.fill(0);
                self.left -= bytes.len();
            }
            None => generate(bytes),
        }
    }
}

fn generate(bytes: &mut [u8]) {
    #[allow(clippy::expect_used, reason = "without randomness every key and tag would be guessable: stop")]
    rand::fill(bytes).expect("the system's random number generator works");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_random_bytes_are_given_twice_however_many_are_asked_for() {
        let mut randomness = SystemRandomness::default();
        let mut seen = std::collections::BTreeSet::new();
        for len in [8, 10, 250, 256, 300, 17].into_iter().cycle().take(600) {
            let mut bytes = vec![0; len];
            randomness.fill(&mut bytes);
            assert!(bytes.chunks_exact(8).all(|chunk| seen.insert(chunk.to_vec())), "{len} bytes");
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_page_is_opened_where_requests_come_from_this_machine() {
        let at = |ws: &[&str], wss: &[&str]| {
            let addresses = Addresses { ws: addresses(ws), wss: addresses(wss), ..Addresses::default() };
            page_url(&addresses, None)
        };
        let url = |text: &str| Some(text.to_owned());
        assert_eq!(at(&["192.0.2.7:8080", "127.0.0.1:8081"], &["0.0.0.0:8443"]), url("http://localhost:8081"));
        assert_eq!(at(&["192.0.2.7:8080"], &["[::]:8443"]), url("https://localhost:8443"));
        assert_eq!(at(&["192.0.2.7:8080"], &["192.0.2.7:8443"]), url("https://192.0.2.7:8443"));
        assert_eq!(at(&[], &[]), None);
    }

    #[test]
    fn a_person_is_told_real_addresses_where_the_node_listens_on_all() {
        let links = addresses(&["192.0.2.7:6084", "[2001:db8::7]:6084"]);
        let told = reachable(&addresses(&["0.0.0.0:5060", "127.0.0.1:5070", "[::]:5060"]), &links);
        assert_eq!(told, addresses(&["192.0.2.7:5060", "127.0.0.1:5070", "[2001:db8::7]:5060"]));
        assert_eq!(reachable(&addresses(&["0.0.0.0:5060"]), &[]), addresses(&["0.0.0.0:5060"]));
    }
}
