//! `meshtone dns-records`: what to write into the zone of a domain, so that phones and other nodes find a node by name (RFC 3263), wherever
//! its address has gone.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hyper::Method;
use meshtone_node::control::Status;
use serde::Serialize;

use crate::administer::{NOTHING, running};
use crate::command::DnsOptions;
use crate::failure::Failure;
use crate::output;

/// How long others may remember a record, in seconds: an address that changes is news for no longer.
const TTL_S: u32 = 300;

/// Letters of a node's id in its name: enough to tell the nodes of a domain apart.
const NAME_LEN: usize = 8;

/// One record.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Record {
    name: String,
    ttl_s: u32,
    kind: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Printed {
    zone: String,
    records: Vec<Record>,
}

pub(crate) fn records(data: &Path, options: &DnsOptions) -> Result<(), Failure> {
    let client = running(data, "it is the running node that knows its addresses")?;
    let status: Status = client.ask(Method::GET, "/status", NOTHING)?;
    let addresses = addresses(&status, &options.address);
    if addresses.is_empty() {
        return Err(Failure::new(
            "this node does not know by which address it is reached from outside its own network",
            "name it with --address, or have the router open ports: `meshtone netcheck` says whether it does",
        ));
    }
    let records = of(&status, options, &addresses);
    if options.json {
        return output::print_json(&Printed { zone: status.domain, records });
    }
    let lines = records.iter().map(|record| {
        let Record { name, ttl_s, kind, value } = record;
        format!("{name}. {ttl_s} IN {kind} {value}")
    });
    output::print(&lines.collect::<Vec<_>>().join("\n"));
    if addresses.iter().any(|address| !is_public(*address)) {
        output::warn(
            "some of these addresses are known in this network alone",
            "put them into the name server of this network, or name others with --address",
        );
    }
    Ok(())
}

/// By which addresses the node is reached: those that were named, else what the router lets in, else those that all the world knows, else
/// whatever it has.
fn addresses(status: &Status, named: &[IpAddr]) -> Vec<IpAddr> {
    let opened = status.network.port_mapping.ports.iter().map(|port| port.outside.ip());
    let own = || status.sip.iter().chain(&status.sips).map(SocketAddr::ip);
    let public: Vec<IpAddr> = opened.chain(own().filter(|own| is_public(*own))).collect();
    let mut all = match (named, public) {
        ([], public) if public.is_empty() => own().filter(|own| !own.is_unspecified()).collect(),
        ([], public) => public,
        (named, _) => named.to_vec(),
    };
    all.sort();
    all.dedup();
    all
}

fn of(status: &Status, options: &DnsOptions, addresses: &[IpAddr]) -> Vec<Record> {
    let domain = &status.domain;
    let short = status.node.get(..NAME_LEN).unwrap_or(&status.node);
    let host = format!("{}.{domain}", options.name.as_deref().unwrap_or(short));
    let record = |name: String, kind, value| Record { name, ttl_s: TTL_S, kind, value };
    let mut records: Vec<Record> = addresses
        .iter()
        .map(|address| record(host.clone(), if address.is_ipv4() { "A" } else { "AAAA" }, address.to_string()))
        .collect();
    let mut services: Vec<(&str, u16)> = Vec::new();
    services.extend(status.sips.iter().map(|at| ("_sips._tcp", at.port())));
    services.extend(status.sip.iter().flat_map(|at| ["_sip._tcp", "_sip._udp"].map(|service| (service, at.port()))));
    services.sort_unstable();
    services.dedup();
    for (service, port) in services {
        // Of a priority all are as good.
        let value = format!("{} 10 {port} {host}.", options.priority);
        records.push(record(format!("{service}.{domain}"), "SRV", value));
    }
    // One for each port of the links; the name stands for all addresses.
    let mut peers: Vec<String> = status
        .peer
        .iter()
        .filter_map(|peer| {
            let (key, place) = peer.split_once('@')?;
            Some(format!("\"peer={key}@{host}:{}\"", place.rsplit_once(':')?.1))
        })
        .collect();
    peers.sort();
    peers.dedup();
    records.extend(peers.into_iter().map(|peer| record(format!("_meshtone.{domain}"), "TXT", peer)));
    records
}

/// Whether an address is one that all the world may know.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let is_carriers = a == 100 && b & 0xc0 == 64;
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_carriers)
        }
        IpAddr::V6(ip) => matches!(ip.segments(), [0x2000..=0x3fff, ..]),
    }
}
