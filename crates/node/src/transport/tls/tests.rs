//! Handshakes over a loopback connection: what is trusted, and what is refused.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;

use super::certificate::Certificate;
use super::showing::Origin;
use super::*;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

fn authority() -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let der = params.self_signed(&key).unwrap().der().clone();
    Authority { issuer: Issuer::new(params, key), der }
}

fn issue(authority: &Authority, names: Vec<SanType>, until: i32) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = names;
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let leaf = params.signed_by(&key, &authority.issuer).unwrap();
    Certificate {
        chain: vec![leaf.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        origin: Origin::File,
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// Whether a connection for `name` to a server with this certificate comes about.
async fn is_trusted(trusted: &CertificateDer<'static>, certificate: Certificate, name: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let connector = Connector::trusting(roots).unwrap();
    let tls = Tls::new(Showing::new(certificate).unwrap(), None).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepting = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        tls.accept(stream).await.is_ok()
    });
    let connected = connector.connect(name, stream).await.is_ok();
    assert_eq!(accepting.await.unwrap(), connected);
    connected
}

#[tokio::test]
async fn a_domain_is_proven_by_its_sip_uri_its_dns_name_or_its_address() {
    let ours = authority();
    for (names, wanted) in [
        (vec![uri("sip:a.example")], "a.example"),
        (vec![uri("sip:b.example"), dns("A.example")], "a.example"),
        (vec![uri("sip:A.Example")], "a.example"),
        (vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())], "127.0.0.1"),
        (vec![SanType::IpAddress(std::net::Ipv6Addr::LOCALHOST.into())], "::1"),
    ] {
        assert!(is_trusted(&ours.der, issue(&ours, names.clone(), 2999), wanted).await, "{names:?} for {wanted}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let ours = authority();
    for (names, wanted) in [
        (vec![dns("b.example")], "a.example"),
        (vec![dns("*.example")], "a.example"),
        (vec![uri("sips:a.example")], "a.example"),
        (vec![uri("sip:alice@a.example")], "a.example"),
        (vec![dns("a.example")], "127.0.0.1"),
        (vec![SanType::IpAddress(Ipv4Addr::new(127, 0, 0, 2).into())], "127.0.0.1"),
        (vec![], "a.example"),
    ] {
        assert!(!is_trusted(&ours.der, issue(&ours, names.clone(), 2999), wanted).await, "{names:?} for {wanted}");
    }
}

#[tokio::test]
async fn an_expired_a_foreign_and_a_self_signed_certificate_are_refused() {
    let (ours, other) = (authority(), authority());
    assert!(!is_trusted(&ours.der, issue(&ours, vec![dns("a.example")], 2021), "a.example").await, "expired");
    assert!(!is_trusted(&ours.der, issue(&other, vec![dns("a.example")], 2999), "a.example").await, "foreign");
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let own = Certificate { chain: vec![own.der().clone()], key, origin: Origin::File };
    assert!(!is_trusted(&ours.der, own, "a.example").await, "self-signed");
}
