//! What the authority certifies of a node's page, so that browsers that trust the authority open it without a warning.
//!
//! Such browsers believe the authority of every name, so it signs few: a node's own domain and what is below that; and, for home nodes of
//! the founder's domain, addresses that are nobody's on the Internet. An address that is somebody's is for an authority that can look
//! who answers there (ACME).

use std::net::IpAddr;

use meshtone_identity::{HomeCertificate, NodeId, PublicKey};

use super::Service;
use super::error::Refusal;
use super::wire::Answer;

/// Names that a certificate may have: those of a machine with several networks.
pub(crate) const MAX_NAMES: usize = 16;

/// What a node wants certified.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Its home certificate, DER: the link proves that it is the node's that asks.
    pub(crate) home: Vec<u8>,
    /// The key of its page, SEC 1.
    pub(crate) key: Vec<u8>,
    /// Host names and addresses; those that it may not have are left out.
    pub(crate) names: Vec<String>,
}

impl Service {
    pub(super) fn certify_page(&self, source: NodeId, wanted: &PageRequest) -> Result<Answer, Refusal> {
        let (authority, now) = (self.authority.certificate(), (self.now)());
        let home = HomeCertificate::verify(&wanted.home, authority, now).map_err(|_| Refusal::Malformed)?;
        let key = PublicKey::from_sec1(&wanted.key).map_err(|_| Refusal::Malformed)?;
        if home.node_id() != source || wanted.names.len() > MAX_NAMES {
            return Err(Refusal::Malformed);
        }
        let inviter = self.inviter.as_ref();
        if inviter.is_some_and(|inviter| inviter.revocations().revoked().contains(&source)) {
            return Err(Refusal::Revoked);
        }
        let is_of_the_founder = home.domain() == self.domain;
        let (mut hosts, mut addresses) = (Vec::new(), Vec::new());
        for name in &wanted.names {
            match name.parse::<IpAddr>() {
                Ok(ip) if is_of_the_founder && is_nobodys(ip) => addresses.push(ip),
                Ok(_) => {}
                Err(_) if is_below(name, home.domain()) => hosts.push(name.clone()),
                Err(_) => {}
            }
        }
        let der = self.authority.issue_page(&home, &key, &hosts, &addresses, now).map_err(|_| Refusal::Failed)?;
        Ok(Answer::Certificate(der))
    }
}

/// Whether an address is one that every network has for itself (RFC 1918, 3927, 4193, 4291, 6598).
pub(crate) fn is_nobodys(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether a host name is the domain, or below it.
pub(crate) fn is_below(host: &str, domain: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        && meshtone_identity::domain::normalise(&host).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_addresses_that_are_nobodys_on_the_internet_are_certified() {
        for ip in ["10.0.0.1", "192.168.1.5", "172.16.0.1", "127.0.0.1", "100.64.0.1", "169.254.1.1", "fd00::1", "::1"]
        {
            assert!(is_nobodys(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:1.1.1.1", "0.0.0.0"] {
            assert!(!is_nobodys(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn only_names_of_the_nodes_own_domain_are_certified() {
        for host in ["mesh.example", "Phone.Mesh.example", "a.b.mesh.example"] {
            assert!(is_below(host, "mesh.example"), "{host}");
        }
        for host in ["example", "othermesh.example", "mesh.example.com", "*.mesh.example", ".mesh.example", ""] {
            assert!(!is_below(host, "mesh.example"), "{host}");
        }
    }
}
