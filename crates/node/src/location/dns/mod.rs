//! Location of SIP servers by name (RFC 3263): which servers a URI outside this overlay leads to, best first.
//!
//! | module | what |
//! | --- | --- |
//! | `wanted` | what the URI itself says; pure |
//! | `order` | NAPTR and SRV in their order; pure |
//! | `dead` | servers that failed lately; pure |
//! | `walk` | from the URI to addresses, over whatever answers [`Records`] |
//!
//! Here are the queries, by hickory-resolver. Which of the addresses may be used is `transport::policy`'s to say.

mod dead;
mod order;
mod walk;
mod wanted;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use meshtone_sip::transport::Transport;

use dead::DeadServers;
use order::{Naptr, Srv};
use walk::Records;
pub(crate) use wanted::{Host, Wanted};

/// Transports towards servers, in the order in which they are asked for where the domain has no preference.
const SPOKEN: &[Transport] = &[Transport::Udp, Transport::Tcp, Transport::Tls];

/// How long one name server has to answer one question.
const QUESTION: Duration = Duration::from_secs(2);
/// Times that a question is asked.
const ATTEMPTS: usize = 2;
/// How long the whole walk may take: a caller hears nothing meanwhile.
const WALK: Duration = Duration::from_secs(6);
/// Answers kept until their time to live is over.
const CACHED_ANSWERS: u64 = 4096;

/// Where a request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Server {
    /// What it speaks.
    pub(crate) transport: Transport,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Why no server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LocateError {
    /// The caller's URI.
    #[error("the URI names no SIP server")]
    BadUri,
    /// The caller's URI, or the domain's records, want a transport that is not spoken here.
    #[error("the domain cannot be reached over a transport that this node speaks")]
    NoTransport,
    /// The domain has none.
    #[error("the domain has no SIP server")]
    NoServer,
    /// The name servers, or the network on the way to them.
    #[error("no name server answers")]
    NameServer,
}

/// Name servers to ask, and the servers that failed lately.
pub(crate) struct Dns {
    resolver: Option<TokioResolver>,
    dead: Mutex<DeadServers>,
}

impl Dns {
    /// Asks these name servers, or those of the system where none are given. A system without name servers leaves
    /// numeric addresses only.
    pub(crate) fn new(name_servers: &[SocketAddr]) -> Dns {
        let resolver = build(name_servers)
            .inspect_err(|error| tracing::warn!(%error, "no name servers: only numeric addresses can be called"))
            .ok();
        Dns { resolver, dead: Mutex::default() }
    }

    /// The servers that `wanted` leads to, best first; those that failed lately are left out.
    ///
    /// # Errors
    /// [`LocateError`]
    pub(crate) async fn locate(&self, wanted: &Wanted) -> Result<Vec<Server>, LocateError> {
        let servers = self.all(wanted).await?;
        Ok(self.dead().sift(Instant::now(), servers))
    }

    /// The addresses of all servers of a domain: where its requests may be expected to come from.
    ///
    /// # Errors
    /// [`LocateError`]
    pub(crate) async fn addresses(&self, wanted: &Wanted) -> Result<Vec<IpAddr>, LocateError> {
        Ok(self.all(wanted).await?.into_iter().map(|server| server.address.ip()).collect())
    }

    /// Remembers that a server could not be reached.
    pub(crate) fn failed(&self, server: Server) {
        tracing::debug!(server = %server.address, "no answer from a SIP server");
        self.dead().failed(Instant::now(), server);
    }

    /// Remembers that a server answered.
    pub(crate) fn answered(&self, server: Server) {
        self.dead().answered(server);
    }

    /// The TXT records of a name, the strings of each joined (RFC 7208 §3.3 does likewise).
    ///
    /// # Errors
    /// [`LocateError::NameServer`]
    pub(crate) async fn texts(&self, name: &str) -> Result<Vec<String>, LocateError> {
        let records = self.ask(name, RecordType::TXT).await?.into_iter().filter_map(|data| {
            let RData::TXT(record) = data else { return None };
            Some(record.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect())
        });
        Ok(records.collect())
    }

    /// The addresses of a host, of both families.
    ///
    /// # Errors
    /// [`LocateError::NameServer`]
    pub(crate) async fn hosts(&self, name: &str) -> Result<Vec<IpAddr>, LocateError> {
        Records::addresses(self, name).await
    }

    async fn all(&self, wanted: &Wanted) -> Result<Vec<Server>, LocateError> {
        let walk = walk::servers(self, wanted, SPOKEN, chance);
        tokio::time::timeout(WALK, walk).await.unwrap_or(Err(LocateError::NameServer))
    }

    fn dead(&self) -> MutexGuard<'_, DeadServers> {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, LocateError> {
        let resolver = self.resolver.as_ref().ok_or(LocateError::NameServer)?;
        let answer = resolver.lookup(absolute(name)?, kind).await;
        let answer = answer.map(|lookup| lookup.answers().iter().map(|record| record.data.clone()).collect());
        or_nothing(answer)
    }
}

impl Records for Dns {
    async fn naptr(&self, name: &str) -> Result<Vec<Naptr>, LocateError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = self.ask(name, RecordType::NAPTR).await?.into_iter().filter_map(|data| {
            let RData::NAPTR(record) = data else { return None };
            Some(Naptr {
                order: record.order,
                preference: record.preference,
                flags: text(&record.flags),
                services: text(&record.services),
                has_regexp: !record.regexp.is_empty(),
                replacement: relative(&record.replacement),
            })
        });
        Ok(records.collect())
    }

    async fn srv(&self, name: &str) -> Result<Vec<Srv>, LocateError> {
        let records = self.ask(name, RecordType::SRV).await?.into_iter().filter_map(|data| {
            let RData::SRV(record) = data else { return None };
            Some(Srv {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: relative(&record.target),
            })
        });
        Ok(records.collect())
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LocateError> {
        let resolver = self.resolver.as_ref().ok_or(LocateError::NameServer)?;
        let answer = resolver.lookup_ip(absolute(name)?).await;
        or_nothing(answer.map(|addresses| addresses.iter().collect()))
    }
}

fn build(name_servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if name_servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = name_servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = QUESTION;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHED_ANSWERS;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

/// A name that no search list is put behind.
fn absolute(name: &str) -> Result<Name, LocateError> {
    let mut name = Name::from_ascii(name).map_err(|_| LocateError::NoServer)?;
    name.set_fqdn(true);
    Ok(name)
}

/// A name without its final dot; "." alone stays what it is.
fn relative(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    if text == "." { text } else { text.trim_end_matches('.').to_owned() }
}

/// "There is no such record" is an answer too.
fn or_nothing<T>(answer: Result<Vec<T>, NetError>) -> Result<Vec<T>, LocateError> {
    match answer {
        Ok(found) => Ok(found),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => {
            tracing::debug!(%error, "DNS");
            Err(LocateError::NameServer)
        }
    }
}

/// A number from 0 to `most`, both included.
fn chance(most: u32) -> u32 {
    let mut bytes = [0; 4];
    // Without chance the order is merely always the same.
    let _ = rand::fill(&mut bytes);
    u32::from_be_bytes(bytes).checked_rem(most.saturating_add(1)).unwrap_or(0)
}
