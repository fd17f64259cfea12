//! Where relays are: what is known of them, by key. It stands in for DNS wherever iroh looks a relay up, so that no such question ever
//! leaves this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use iroh::dns::{BoxIter, DnsError, DnsResolver, Resolver, TxtRecordData};
use meshtone_identity::LinkKey;

use super::name;

/// Addresses of one relay that are tried.
const MAX_HOSTS: usize = 8;

/// The addresses of relays, and whether they answer. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Book(Arc<Mutex<BTreeMap<LinkKey, Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    hosts: Vec<IpAddr>,
    /// The port at which it has answered last.
    port: Option<u16>,
    /// Nobody has answered there since.
    down_since: Option<Instant>,
}

impl Book {
    /// Takes down where a relay is.
    pub(crate) fn set(&self, key: LinkKey, hosts: &[IpAddr]) {
        let hosts = hosts.get(..MAX_HOSTS).unwrap_or(hosts).iter().map(IpAddr::to_canonical).collect();
        self.entries().entry(key).or_default().hosts = hosts;
    }

    /// Takes note of whether a relay answered at a port. Where it has answered at one, silence at another says nothing: that was a guess.
    pub(crate) fn note(&self, key: LinkKey, port: u16, now: Instant, answered: bool) {
        if let Some(entry) = self.entries().get_mut(&key) {
            if answered {
                (entry.port, entry.down_since) = (Some(port), None);
            } else if entry.port.is_none_or(|known| known == port) {
                entry.down_since = entry.down_since.or(Some(now));
            }
        }
    }

    /// Returns since when a relay does not answer, if it did not when it was tried last.
    pub(crate) fn down_since(&self, key: LinkKey) -> Option<Instant> {
        self.entries().get(&key)?.down_since
    }

    /// Returns the relays that have not answered for so long.
    pub(crate) fn down_for(&self, now: Instant, long: Duration) -> Vec<LinkKey> {
        let is_down =
            |entry: &Entry| entry.down_since.is_some_and(|since| now.saturating_duration_since(since) >= long);
        self.entries().iter().filter(|(_, entry)| is_down(entry)).map(|(key, _)| *key).collect()
    }

    /// Forgets a relay.
    pub(crate) fn forget(&self, key: LinkKey) {
        self.entries().remove(&key);
    }

    /// Returns what iroh asks instead of DNS.
    pub(crate) fn resolver(&self) -> DnsResolver {
        DnsResolver::custom(self.clone())
    }

    /// Returns the addresses of a relay.
    pub(crate) fn hosts_of(&self, key: LinkKey) -> Vec<IpAddr> {
        self.entries().get(&key).map(|entry| entry.hosts.clone()).unwrap_or_default()
    }

    fn hosts(&self, host: &str) -> Vec<IpAddr> {
        name::key_of(host).map(|key| self.hosts_of(key)).unwrap_or_default()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<LinkKey, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of the resolver; nothing found is none, and no error.
type Answer<T> = Pin<Box<dyn Future<Output = Result<BoxIter<T>, DnsError>> + Send>>;

impl Resolver for Book {
    fn lookup_ipv4(&self, host: String) -> Answer<Ipv4Addr> {
        let found = self.hosts(&host).into_iter().filter_map(|host| match host {
            IpAddr::V4(host) => Some(host),
            IpAddr::V6(_) => None,
        });
        Box::pin(async { Ok(Box::new(found) as BoxIter<Ipv4Addr>) })
    }

    fn lookup_ipv6(&self, host: String) -> Answer<Ipv6Addr> {
        let found = self.hosts(&host).into_iter().filter_map(|host| match host {
            IpAddr::V6(host) => Some(host),
            IpAddr::V4(_) => None,
        });
        Box::pin(async { Ok(Box::new(found) as BoxIter<Ipv6Addr>) })
    }

    fn lookup_txt(&self, _host: String) -> Answer<TxtRecordData> {
        Box::pin(async { Ok(Box::new(std::iter::empty()) as BoxIter<TxtRecordData>) })
    }

    fn clear_cache(&self) {}

    fn reset(&self) -> Box<dyn Resolver> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn only_relays_that_are_known_are_found_and_nothing_else_is_ever_asked() {
        let (book, key) = (Book::default(), LinkKey::from_bytes([7; 32]));
        let hosts: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        book.set(key, &hosts);
        let name = format!("{}.", name::host_of(key));
        assert!(book.lookup_ipv4(name.clone()).await.unwrap().eq(["192.0.2.1".parse::<Ipv4Addr>().unwrap()]));
        assert!(book.lookup_ipv6(name.clone()).await.unwrap().eq(["2001:db8::1".parse::<Ipv6Addr>().unwrap()]));
        assert_eq!(book.lookup_ipv4("localhost".to_owned()).await.unwrap().count(), 0);
        let (long_ago, now) = (Instant::now(), Instant::now() + Duration::from_secs(9));
        book.note(key, 443, long_ago, true);
        book.note(key, 8443, long_ago, false);
        assert!(book.down_for(now, Duration::from_secs(1)).is_empty(), "it answers at the other port");
        book.note(key, 443, long_ago, false);
        assert_eq!(book.down_for(now, Duration::from_secs(1)), [key]);
        book.forget(key);
        assert_eq!(book.lookup_ipv4(name).await.unwrap().count(), 0);
    }
}
