//! `meshtone run`: starts the node, says what a person wants to know, and stops it in order.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use meshtone_node::journal::Journal;
use meshtone_node::{Config, DEFAULT_QUOTA, Node, RelayChoice, RoleChoice, Summary, turn};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::command::{PortRange, RunOptions};
use crate::failure::Failure;
use crate::journaling::Journaling;
use crate::output;
use crate::settings::{LogFilter, PageSettings};

const DEFAULT_SIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5060);
const DEFAULT_TLS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5061);
/// The pages: for everybody over TLS, without it for this machine, where browsers allow the microphone.
const DEFAULT_WS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_WSS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
const DEFAULT_LINK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6084);
/// What iroh calls the port for QUIC address discovery.
const DISCOVERY_PORT: u16 = 7842;
/// STUN and TURN (RFC 8656 §18): nobody is relayed without a login.
const DEFAULT_TURN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3478);
const DEFAULT_TURNS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5349);
const DEFAULT_RTP_PORTS: PortRange = PortRange(16_384, 32_767);
/// The range that is nobody's (RFC 6335 §6), as RFC 8656 §7.2 has it.
const DEFAULT_TURN_PORTS: PortRange = PortRange(49_152, 65_535);

/// Said at each start with open registration.
const OPEN_REGISTRATION: &str = "OPEN REGISTRATION: passwords are not asked for. Whoever reaches this node may register and call as any user of its \
    domain. This is for measurements and closed networks.";

/// Said at each start of a node that signs nothing.
const UNSIGNED: &str = "UNSIGNED: records and callers are believed without proof. Whoever reaches this node may say who is registered where and who     calls. This is for measurements.";

/// Exit code of a process that a second signal ended at once: 128 and SIGINT's number, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

pub(crate) fn run(data: &Path, options: RunOptions, desk: PageSettings) -> Result<(), Failure> {
    let journal = Journal::default();
    let settings = desk.read()?;
    desk.log_by(start_logging(options.log.or(settings.log), &journal)?);
    let PortRange(first, last) = options.rtp_ports.or(settings.rtp_ports).unwrap_or(DEFAULT_RTP_PORTS);
    let sip = first_given(options.sip, settings.sip);
    // Who names the addresses to listen on means these and no other.
    let by_default = |address| if sip.is_empty() { vec![address] } else { Vec::new() };
    let [default_tls, default_ws, default_wss, default_turn, default_turns] =
        [DEFAULT_TLS, DEFAULT_WS, DEFAULT_WSS, DEFAULT_TURN, DEFAULT_TURNS].map(by_default);
    let PortRange(first_relay, last_relay) = options.turn_ports.or(settings.turn.ports).unwrap_or(DEFAULT_TURN_PORTS);
    let wss = first_given(first_given(options.wss, settings.wss), default_wss);
    let default_discovery = wss.iter().map(|address| SocketAddr::new(address.ip(), DISCOVERY_PORT)).collect();
    let public_url = options.public_url.or(settings.public_url);
    let (tls_certificate, tls_key) = (options.tls_cert.or(settings.tls_cert), options.tls_key.or(settings.tls_key));
    if settings.acme.is_some() && tls_certificate.is_some() {
        let hint = "leave out `[acme]`, or the certificate and its key";
        return Err(Failure::new(
            "a certificate is given as a file, and another one is to be asked for by `acme`",
            hint,
        ));
    }
    let host = public_url.as_ref().map(|url| url.host().to_owned());
    let acme = settings.acme.map(|acme| acme.at(host.as_deref())).transpose();
    let acme = acme.map_err(|(what, hint)| Failure::new(what, hint))?;
    let config = Config {
        data: data.to_owned(),
        domain: options.domain.or(settings.domain),
        sip: first_given(sip, vec![DEFAULT_SIP]),
        tls: first_given(first_given(options.tls, settings.tls), default_tls),
        ws: first_given(first_given(options.ws, settings.ws), default_ws),
        wss,
        public_url,
        acme,
        enrol: settings.enrol,
        administration: settings.administration,
        desk: Some(Arc::new(desk)),
        journal,
        tls_certificate,
        tls_key,
        tls_authorities: options.tls_ca.or(settings.tls_ca),
        ws_origins: first_given(options.ws_origin, settings.ws_origin),
        digest: first_given(options.digest, settings.digest),
        link: first_given(first_given(options.link, settings.link), vec![DEFAULT_LINK]),
        peers: first_given(options.peer, settings.peer),
        local_network: !(options.no_mdns || settings.no_mdns),
        port_mapping: !(options.no_port_mapping || settings.no_port_mapping),
        role: options.role.or(settings.role).map_or(RoleChoice::Auto, RoleChoice::from),
        relay: options.relay.or(settings.relay).map_or(RelayChoice::Auto, RelayChoice::from),
        relay_discovery: first_given(first_given(options.relay_discovery, settings.relay_discovery), default_discovery),
        relay_quota: options.relay_limit.or(settings.relay_limit).map_or(DEFAULT_QUOTA, bytes_a_second),
        rtp_ports: (first, last),
        turn: turn::Settings {
            listen: first_given(first_given(options.turn, settings.turn.listen), default_turn),
            tls: first_given(first_given(options.turns, settings.turn.tls), default_turns),
            ports: (first_relay, last_relay),
            relay: settings.turn.relay,
            allow_private: settings.turn.allow_private,
            shared: settings.turn.shared.unwrap_or(true),
            limits: settings.turn.limits,
        },
        anchor: settings.anchor,
        join: options.join.or(settings.join),
        outside: settings.outside,
        callers: settings.callers,
        trusted_sources: settings.trusted_sources,
        workers: options.workers,
        dangerous_open_registration: options.dangerous_open_registration,
        dangerous_unsigned: options.dangerous_unsigned,
        trunks: settings.trunks,
        first_stage: settings.first_stage,
        authority: settings.authority,
    };
    if config.dangerous_open_registration {
        output::warn(OPEN_REGISTRATION, "start without --dangerous-open-registration to ask for passwords");
    }
    if config.dangerous_unsigned {
        output::warn(UNSIGNED, "start without --dangerous-unsigned to sign, and to verify");
    }
    let json = options.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(format!("the runtime cannot be started: {error}"), "are too many threads running?")
    })?;
    runtime.block_on(serve(config, json))
}

async fn serve(config: Config, json: bool) -> Result<(), Failure> {
    // Before the node starts, so that a signal during a slow start is not lost.
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let node = tokio::select! {
        node = Node::start(config) => node?,
        () = either(&mut interrupt, &mut terminate) => return Ok(()),
    };
    let summary = node.summary();
    if json {
        output::print_json(&Up::from(summary))?;
    } else {
        output::print(&greeting(summary));
    }

    either(&mut interrupt, &mut terminate).await;
    tracing::info!("shutting down; a second signal ends it at once");
    tokio::select! {
        () = node.shutdown() => Ok(()),
        () = either(&mut interrupt, &mut terminate) => std::process::exit(EXIT_INTERRUPTED),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("signals cannot be received: {error}"), ""))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// From Mbit/s.
fn bytes_a_second(mbit: u16) -> u32 {
    u32::from(mbit).saturating_mul(1_000_000 / 8)
}

/// The first list, unless there is nothing in it.
fn first_given<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

/// Without what iroh (1.4) calls an error whenever an endpoint is closed: its relay transport notices that nobody listens any more.
pub(crate) const DEFAULT_LOG: &str = "info,iroh::socket::transports::relay=off";

/// Returns what changes the filter from then on.
fn start_logging(filter: Option<String>, journal: &Journal) -> Result<LogFilter, Failure> {
    let filter = filter.unwrap_or_else(|| DEFAULT_LOG.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::new(format!("`{filter}` is no log filter: {error}"), "for example --log info,meshtone_node=debug")
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let (filter, handle) = reload::Layer::new(filter);
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).with_filter(filter);
    let kept = Journaling(journal.clone()).with_filter(LevelFilter::INFO);
    tracing_subscriber::registry().with(written).with(kept).init();
    Ok(Box::new(move |filter| match EnvFilter::try_new(filter) {
        Ok(filter) => drop(handle.reload(filter)),
        Err(error) => tracing::warn!(%error, "that is no log filter"),
    }))
}

/// What `run --json` prints.
#[derive(Serialize)]
struct Up<'a> {
    node: &'a str,
    overlay: &'a str,
    domain: &'a str,
    sip: &'a [SocketAddr],
    tls: &'a [SocketAddr],
    ws: &'a [SocketAddr],
    wss: &'a [SocketAddr],
    page: Option<&'a str>,
    turn: &'a [SocketAddr],
    turns: &'a [SocketAddr],
    link: &'a [SocketAddr],
    data: &'a std::path::Path,
}

impl<'a> From<&'a Summary> for Up<'a> {
    fn from(summary: &'a Summary) -> Up<'a> {
        Up {
            node: &summary.node,
            overlay: &summary.overlay,
            domain: &summary.domain,
            sip: &summary.sip,
            tls: &summary.tls,
            ws: &summary.ws,
            wss: &summary.wss,
            page: summary.page_key.as_deref(),
            turn: &summary.turn,
            turns: &summary.turns,
            link: &summary.link,
            data: &summary.data,
        }
    }
}

/// What `run` prints once the node is up; the last line is `ready` and nothing else, for whoever waits for it.
fn greeting(summary: &Summary) -> String {
    let list = |addresses: &[SocketAddr]| addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    if summary.first_run {
        lines.push("Welcome to Meshtone. This machine has its own keys now; they stay in the data folder.".to_owned());
        lines.push(String::new());
    }
    lines.extend([
        format!("node     {}", summary.node),
        format!("overlay  {}", summary.overlay),
        format!("domain   {}", summary.domain),
        format!("sip      {} (UDP and TCP)", list(&summary.sip)),
    ]);
    for (name, addresses, path) in
        [("tls", &summary.tls, ""), ("ws", &summary.ws, "/sip"), ("wss", &summary.wss, "/sip")]
    {
        if !addresses.is_empty() {
            let addresses: Vec<String> = addresses.iter().map(|address| format!("{address}{path}")).collect();
            lines.push(format!("{name:<8} {}", addresses.join(", ")));
        }
    }
    if !summary.turn.is_empty() {
        lines.push(format!("turn     {} (UDP and TCP)", list(&summary.turn)));
    }
    if !summary.turns.is_empty() {
        lines.push(format!("turns    {}", list(&summary.turns)));
    }
    let pages = pages(summary);
    if !pages.is_empty() {
        lines.push(format!("page     {}", pages.join(", ")));
    }
    if let Some(key) = &summary.page_key {
        lines.push(format!("         {key}"));
        lines.push(
            "         (administers this node; works once, within an hour: `meshtone page` prints another)".to_owned(),
        );
    }
    lines.extend([format!("link     {} (UDP)", list(&summary.link)), format!("data     {}", summary.data.display())]);
    if summary.users == 0 {
        lines.extend([
            String::new(),
            "Try this:".to_owned(),
            "  meshtone user add alice      prints what to type into any SIP phone".to_owned(),
            format!("  call echo@{:<18} from that phone: it plays back what you say", summary.domain),
            "  meshtone invite --role home  lets another machine of yours serve the same users".to_owned(),
        ]);
    }
    lines.push(String::new());
    lines.push("ready".to_owned());
    lines.join("\n")
}

/// The web addresses of the node's pages.
fn pages(summary: &Summary) -> Vec<String> {
    let public = summary.public_url.iter().map(ToString::to_string);
    let protected = summary.wss.iter().map(|address| format!("https://{address}"));
    let local = summary.ws.iter().map(|address| format!("http://{address}"));
    public.chain(protected).chain(local).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn summary(first_run: bool, users: usize) -> Summary {
        Summary {
            node: "n0de".to_owned(),
            overlay: "0verlay".to_owned(),
            domain: "example.org".to_owned(),
            sip: vec![DEFAULT_SIP],
            tls: vec![DEFAULT_TLS],
            ws: Vec::new(),
            wss: vec![DEFAULT_LINK],
            turn: vec![DEFAULT_TURN],
            turns: Vec::new(),
            public_url: Some("https://mesh.example".parse().unwrap()),
            link: vec![DEFAULT_LINK],
            data: "/data".into(),
            page_key: Some("http://localhost:8080/#key=abc".to_owned()),
            first_run,
            users,
        }
    }

    #[test]
    fn the_last_line_is_ready_and_nothing_else() {
        for summary in [summary(true, 0), summary(false, 3)] {
            assert_eq!(greeting(&summary).lines().last(), Some("ready"));
        }
    }

    #[test]
    fn a_first_run_says_what_to_try_and_a_later_one_does_not_repeat_it() {
        let first = greeting(&summary(true, 0));
        for word in ["n0de", "0verlay", "0.0.0.0:5060", "meshtone user add", "echo@example.org", "meshtone invite"] {
            assert!(first.contains(word), "{word} is missing in {first}");
        }
        assert!(!greeting(&summary(false, 3)).contains("Try this"));
        assert!(first.contains("         http://localhost:8080/#key=abc\n"), "{first}");
    }

    #[test]
    fn protected_addresses_are_listed_where_there_are_any() {
        let text = greeting(&summary(false, 1));
        assert!(text.contains("tls      0.0.0.0:5061\n") && text.contains("wss      0.0.0.0:6084/sip\n"), "{text}");
        assert!(text.contains("turn     0.0.0.0:3478 (UDP and TCP)\n") && !text.contains("\nturns "), "{text}");
        assert!(!text.contains("\nws "), "{text}");
        assert!(text.contains("page     https://mesh.example, https://0.0.0.0:6084\n"), "{text}");
    }

    #[test]
    fn a_flag_wins_over_the_file_and_that_over_the_default() {
        assert_eq!(first_given(first_given(vec![1], vec![2]), vec![3]), [1]);
        assert_eq!(first_given(first_given(vec![], vec![2]), vec![3]), [2]);
        assert_eq!(first_given(first_given(vec![], vec![]), vec![3]), [3]);
    }
}
