//! Keeps a certificate of the overlay's authority for this node's page: asks for one when there is none, when it ends soon, and when this
//! machine has got other addresses; shows it at once, and keeps it for the next start.
//!
//! Until there is one the page shows what the node made itself, for which nobody vouches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::{AuthorityCertificate, domain};
use meshtone_overlay::Overlay;
use rcgen::KeyPair;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::authority::Client;
use crate::authority::page::{MAX_NAMES, PageRequest, is_below, is_nobodys};
use crate::clock::unix_s;
use crate::store::{KeyFile, Store};
use crate::transport::tls::certificate::{Certificate, from_pem};
use crate::transport::tls::provider;
use crate::transport::tls::showing::{Described, Origin, Showing};
use crate::web::{Certificates, pem};

/// How often it is looked whether the certificate still says what it should: a laptop has another address within a minute.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The first pause after an attempt in vain, as when there is no link yet; each is twice as long as the one before.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The longest one.
const AGAIN_AT_MOST: Duration = Duration::from_secs(3600);

/// What that needs.
pub(crate) struct PageKeeper {
    pub(crate) store: Store,
    pub(crate) overlay: Overlay,
    pub(crate) client: Client,
    pub(crate) authority: AuthorityCertificate,
    pub(crate) certificates: Certificates,
    pub(crate) showing: Showing,
    /// Where browsers are listened for.
    pub(crate) listening: Vec<SocketAddr>,
}

/// The one kept from an earlier start, if it still holds.
pub(crate) fn kept(store: &Store, authority: &AuthorityCertificate, domain: &str) -> Option<Certificate> {
    let pem = store.read_key(KeyFile::Page).ok().flatten()?;
    let certificate = from_pem(&pem, Origin::Authority)?;
    verify(certificate.leaf()?, authority, domain).ok()?;
    Some(certificate)
}

impl PageKeeper {
    /// Looks after it until the node stops.
    pub(crate) async fn run(self) {
        let mut pause = AGAIN_AFTER;
        loop {
            let names = self.names();
            if self.is_settled(&names) {
                sleep(LOOK_EVERY).await;
                continue;
            }
            match self.renew(names).await {
                Ok(()) => pause = AGAIN_AFTER,
                Err(reason) => {
                    tracing::debug!(reason, "the overlay's authority has not certified the page; it is tried again");
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_AT_MOST);
                }
            }
        }
    }

    /// What browsers may call this machine by, and the authority certifies.
    fn names(&self) -> Vec<String> {
        let home = self.certificates.home();
        let mut names = vec![home.domain().to_owned()];
        names.extend(self.certificates.public().map(|url| url.host().to_ascii_lowercase()));
        names.retain(|name| is_below(name, home.domain()));
        if domain::of_member(&home.node_id()) != home.domain() {
            let mut addresses: Vec<IpAddr> = self.listening.iter().map(SocketAddr::ip).collect();
            if addresses.iter().any(IpAddr::is_unspecified) {
                addresses.extend(self.overlay.addresses().iter().map(SocketAddr::ip));
                addresses.extend([IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]);
            }
            addresses.retain(|ip| !ip.is_unspecified() && is_nobodys(*ip));
            addresses.sort();
            names.extend(addresses.iter().map(ToString::to_string));
        }
        names.dedup();
        names.truncate(MAX_NAMES);
        names
    }

    fn is_settled(&self, names: &[String]) -> bool {
        match self.showing.origin() {
            Origin::File | Origin::Acme => true,
            Origin::Own => false,
            Origin::Authority => self.showing.described().is_some_and(|shown| is_good(&shown, names, unix_s())),
        }
    }

    async fn renew(&self, names: Vec<String>) -> Result<(), String> {
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let home = self.certificates.home();
        let wanted = PageRequest { home: home.der().to_vec(), key: key.public_key_raw().to_vec(), names };
        let der = self.client.certify_page(wanted).await.map_err(|error| error.to_string())?;
        verify(&CertificateDer::from(der.as_slice()), &self.authority, home.domain())?;
        let text = Zeroizing::new([pem(&der), pem(self.authority.der()), key.serialize_pem()].concat());
        let certificate = from_pem(text.as_bytes(), Origin::Authority).ok_or("what was issued cannot be read")?;
        // ACME may have been faster.
        if matches!(self.showing.origin(), Origin::Own | Origin::Authority) {
            self.showing.replace(certificate).map_err(|error| error.to_string())?;
        }
        let store = self.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.write_key(KeyFile::Page, text.as_bytes()));
        kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        tracing::info!("the overlay's authority has certified this node's page");
        Ok(())
    }
}

/// Whether what is shown has these names, and lasts: two thirds of its life are not over.
fn is_good(shown: &Described, names: &[String], now: u64) -> bool {
    let has = |name: &String| shown.names.iter().any(|other| other.eq_ignore_ascii_case(name));
    let life = shown.expires.saturating_sub(shown.starts);
    names.iter().all(has) && now < shown.expires.saturating_sub(life / 3)
}

/// Judges a certificate as a browser does that trusts this authority alone.
fn verify(leaf: &CertificateDer<'_>, authority: &AuthorityCertificate, domain: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der())).map_err(|error| error.to_string())?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(domain.to_owned()).map_err(|error| error.to_string())?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s()));
    verifier.verify_server_cert(leaf, &[], &name, &[], now).map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use meshtone_identity::{Authority, HomeCertificate, LinkKey, NodeCertificate, PublicKey, Signer, SigningKey};

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn a_browser_that_trusts_the_authority_believes_its_pages_and_the_overlay_believes_them_nothing() {
        let now = unix_s();
        let authority = Authority::create(now).unwrap().0;
        let signer = SigningKey::generate().unwrap();
        let node =
            authority.certify_node(signer.public_key(), LinkKey::from_bytes([7; 32]), [1; 16], now, YEAR).unwrap();
        let home = authority.issue_home(&node, "mesh.example", now, YEAR).unwrap();
        let key = KeyPair::generate().unwrap();
        let public = PublicKey::from_sec1(key.public_key_raw()).unwrap();
        let names = ["phone.mesh.example".to_owned()];
        let page = authority.issue_page(&home, &public, &names, &["10.0.0.1".parse().unwrap()], now).unwrap();
        let (leaf, trusted) = (CertificateDer::from(page.as_slice()), authority.certificate());
        for name in ["mesh.example", "phone.mesh.example", "10.0.0.1"] {
            assert_eq!(verify(&leaf, trusted, name), Ok(()), "{name}");
        }
        for name in ["other.mesh.example", "example", "10.0.0.2"] {
            assert!(verify(&leaf, trusted, name).is_err(), "{name}");
        }
        assert!(verify(&leaf, Authority::create(now).unwrap().0.certificate(), "mesh.example").is_err());
        assert!(authority.issue_page(&home, &public, &["example.org".to_owned()], &[], now).is_err());
        assert!(HomeCertificate::verify(&page, trusted, now).is_err());
        assert!(NodeCertificate::verify(&page, trusted, now).is_err());
        // Nor does a browser believe a certificate of the overlay's to be a page's.
        assert!(verify(&CertificateDer::from(home.der()), trusted, "mesh.example").is_err());

        let shown = Described::of(&page).unwrap();
        let wanted = ["10.0.0.1".to_owned(), "Phone.mesh.example".to_owned()];
        assert!(is_good(&shown, &wanted, now) && !is_good(&shown, &["10.0.0.2".to_owned()], now));
        assert!(!is_good(&shown, &wanted, shown.expires - 86_400));
    }
}
