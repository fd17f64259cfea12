//! `meshtone run`: starts the node, says what a person wants to know, and stops it in order.

use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use meshtone_node::{Config, Node, Summary};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::command::{PortRange, RunOptions};
use crate::config::Settings;
use crate::failure::Failure;
use crate::output;

const DEFAULT_SIP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 5060);
const DEFAULT_LINK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 6084);
const DEFAULT_RTP_PORTS: PortRange = PortRange(16_384, 32_767);

/// Exit code of a process that a second signal ended at once: 128 and SIGINT's number, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

pub(crate) fn run(data: PathBuf, options: RunOptions, settings: Settings) -> Result<(), Failure> {
    let RunOptions { domain, sip, link, rtp_ports, join, log, json } = options;
    start_logging(log.or(settings.log))?;
    let PortRange(first, last) = rtp_ports.or(settings.rtp_ports).unwrap_or(DEFAULT_RTP_PORTS);
    let config = Config {
        data,
        domain: domain.or(settings.domain),
        sip: choose(sip, settings.sip, DEFAULT_SIP),
        link: choose(link, settings.link, DEFAULT_LINK),
        rtp_ports: (first, last),
        join: join.or(settings.join),
    };
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

fn choose(first: Vec<SocketAddr>, second: Vec<SocketAddr>, default: SocketAddr) -> Vec<SocketAddr> {
    if !first.is_empty() {
        first
    } else if !second.is_empty() {
        second
    } else {
        vec![default]
    }
}

fn start_logging(filter: Option<String>) -> Result<(), Failure> {
    let filter = filter.unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|error| {
        Failure::new(format!("`{filter}` is no log filter: {error}"), "for example --log info,meshtone_node=debug")
    })?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    Ok(())
}

/// What `run --json` prints.
#[derive(Serialize)]
struct Up<'a> {
    node: &'a str,
    overlay: &'a str,
    domain: &'a str,
    sip: &'a [SocketAddr],
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
        format!("link     {} (UDP)", list(&summary.link)),
        format!("data     {}", summary.data.display()),
    ]);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(first_run: bool, users: usize) -> Summary {
        Summary {
            node: "n0de".to_owned(),
            overlay: "0verlay".to_owned(),
            domain: "example.org".to_owned(),
            sip: vec![DEFAULT_SIP],
            link: vec![DEFAULT_LINK],
            data: "/data".into(),
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
    }

    #[test]
    fn a_flag_wins_over_the_file_and_that_over_the_default() {
        let (flag, file) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        assert_eq!(choose(vec![flag], vec![file], DEFAULT_SIP), [flag]);
        assert_eq!(choose(vec![], vec![file], DEFAULT_SIP), [file]);
        assert_eq!(choose(vec![], vec![], DEFAULT_SIP), [DEFAULT_SIP]);
    }
}
