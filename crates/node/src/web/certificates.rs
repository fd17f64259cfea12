//! The certificates that others verify this node's signatures by, where they are fetched (RFC 8224 §4.1: `info`; RFC 8225 §4.3: `x5u`).
//!
//! What signs is the key of the home certificate, which names the domain as RFC 5922 wants it. Its place is named by its hash, so that a
//! renewed one has another: `/certificates/<SHA-256>.pem` is the certificate and that of the overlay's authority (PEM, as RFC 7515 §4.1.5
//! asks for an `x5u`), `….cer` the certificate alone (DER, RFC 2585). The authority's own is not trusted by strangers; who trusts this
//! overlay knows it.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use meshtone_identity::id::sha256;
use meshtone_identity::{AuthorityCertificate, HomeCertificate};
use meshtone_overlay::record::Renewed;
use pem::{EncodeConfig, LineEnding, Pem};

use super::{PublicUrl, Site, html};
use crate::control::{PageCertificate, Trust};
use crate::transport::tls::showing::{Described, Origin, Showing, fingerprint};

/// Where the certificate of the overlay's authority is fetched.
pub(super) const AUTHORITY_FILE: &str = "/authority.crt";

/// This node's certificates, as they are served. Clones are the same.
#[derive(Clone)]
pub(crate) struct Certificates {
    authority: AuthorityCertificate,
    /// The one of the start; whoever got something signed a moment before a renewal still finds it.
    first: HomeCertificate,
    renewed: Renewed,
    public: Option<PublicUrl>,
    /// What this node shows browsers over TLS.
    page: Option<Showing>,
}

impl Certificates {
    pub(crate) fn new(
        authority: AuthorityCertificate,
        first: HomeCertificate,
        renewed: Renewed,
        public: Option<PublicUrl>,
        page: Option<Showing>,
    ) -> Certificates {
        Certificates { authority, first, renewed, public, page }
    }

    /// What somebody has to know who wants to open the page without a warning.
    pub(crate) fn trust(&self) -> Trust {
        let der = self.authority.der();
        let described = Described::of(der);
        let page = self.page.as_ref().and_then(|page| Some((page.origin(), page.described()?)));
        let (overlay, file) = (self.authority.overlay().to_string(), AUTHORITY_FILE.to_owned());
        let name = described.as_ref().map(|described| described.name.clone()).unwrap_or_default();
        Trust {
            name,
            overlay,
            sha256: fingerprint(der),
            starts: described.map_or(0, |described| described.starts),
            expires: self.authority.not_after(),
            file,
            page: page.map(|(from, certificate)| PageCertificate {
                from,
                explanation: explanation(from).to_owned(),
                certificate,
            }),
        }
    }

    /// Where strangers find the certificate of what this node signs now; `None` where its pages have no public address.
    pub(crate) fn url(&self) -> Option<String> {
        Some(self.public.as_ref()?.of(&format!("certificates/{}.pem", name_of(&self.home()))))
    }

    /// Where this node's pages are found from outside.
    pub(crate) fn public(&self) -> Option<&PublicUrl> {
        self.public.as_ref()
    }

    /// The home certificate of this node, the newest.
    pub(crate) fn home(&self) -> HomeCertificate {
        let renewed = self.renewed.get().and_then(|(_, homes)| homes.into_iter().next());
        renewed.unwrap_or_else(|| self.first.clone())
    }

    /// Media type and content of a file.
    fn find(&self, file: &str) -> Option<(&'static str, Vec<u8>)> {
        let (name, form) = file.split_once('.')?;
        let certificate = [self.home(), self.first.clone()].into_iter().find(|known| name_of(known) == name)?;
        match form {
            "pem" => Some(("application/pem-certificate-chain", self.chain(&certificate).into_bytes())),
            "cer" => Some(("application/pkix-cert", certificate.der().to_vec())),
            _ => None,
        }
    }

    fn chain(&self, certificate: &HomeCertificate) -> String {
        [certificate.der(), self.authority.der()].map(pem).concat()
    }
}

/// What the page's certificate is worth, in a sentence.
fn explanation(from: Origin) -> &'static str {
    match from {
        Origin::Own => {
            "This node made the page's certificate itself and nobody vouches for it yet, so every browser warns: compare the fingerprint \
             with what `meshtone page` prints on the node's machine before you go on."
        }
        Origin::Authority => {
            "The overlay's authority issued the page's certificate. A browser that trusts the authority's certificate opens the page without \
             a warning; any other warns, though the connection is encrypted."
        }
        Origin::Acme => "An authority that browsers know issued the page's certificate: there is nothing to be done.",
        Origin::File => {
            "The page's certificate is one from a file that whoever runs the node has configured; where browsers warn, ask that person who \
             issued it."
        }
    }
}

/// The authority's certificate, for whoever wants to trust it. Named so that every system knows what to do with the file.
pub(super) async fn serve_authority(State(site): State<Arc<Site>>) -> Response {
    let fields = [
        (header::CONTENT_TYPE, "application/x-x509-ca-cert"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"meshtone-authority.crt\""),
    ];
    (fields, pem(site.certificates.authority.der())).into_response()
}

/// What proves to an ACME server that a name leads here (RFC 8555 §8.3).
pub(super) async fn serve_challenge(State(site): State<Arc<Site>>, Path(token): Path<String>) -> Response {
    match site.challenges.as_ref().and_then(|challenges| challenges.text(&token)) {
        Some(text) => ([(header::CONTENT_TYPE, "application/octet-stream")], text).into_response(),
        None => html::refused(StatusCode::NOT_FOUND, "There is nothing to be proven here."),
    }
}

fn name_of(certificate: &HomeCertificate) -> String {
    HEXLOWER.encode(&sha256(certificate.der()))
}

/// A certificate as text (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), lines)
}

pub(super) async fn serve(State(site): State<Arc<Site>>, Path(file): Path<String>) -> Response {
    match site.certificates.find(&file) {
        // Named by its hash, so it never changes; public, so whoever fetched it may give it to others.
        Some((kind, content)) => {
            let fields = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=86400, immutable")];
            (fields, content).into_response()
        }
        None => html::refused(StatusCode::NOT_FOUND, "There is no such certificate here."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use meshtone_identity::{Authority, LinkKey, Signer, SigningKey};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    #[test]
    fn a_certificate_is_found_by_its_hash_before_and_after_it_was_renewed() {
        let authority = Authority::create(NOW).unwrap().0;
        let key = SigningKey::generate().unwrap();
        let node = authority.certify_node(key.public_key(), LinkKey::from_bytes([7; 32]), [1; 16], NOW, YEAR).unwrap();
        let home = |from: u64| authority.issue_home(&node, "mesh.example", from, YEAR).unwrap();
        let (first, second) = (home(NOW), home(NOW + 1));
        let renewed = Renewed::default();
        let public = Some("https://mesh.example/node/".parse().unwrap());
        let served = Certificates::new(authority.certificate().clone(), first.clone(), renewed.clone(), public, None);
        let file = |home: &HomeCertificate, form: &str| format!("{}.{form}", name_of(home));

        assert_eq!(served.url(), Some(format!("https://mesh.example/node/certificates/{}", file(&first, "pem"))));
        assert_eq!(served.find(&file(&first, "cer")), Some(("application/pkix-cert", first.der().to_vec())));
        let (kind, chain) = served.find(&file(&first, "pem")).unwrap();
        assert_eq!(kind, "application/pem-certificate-chain");
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).map(Result::unwrap).collect();
        assert_eq!(chain, [first.der(), authority.certificate().der()].map(CertificateDer::from));
        let text = String::from_utf8(served.find(&file(&first, "pem")).unwrap().1).unwrap();
        assert!(text.lines().all(|line| line.len() <= 64), "RFC 7468 §2");

        assert_eq!(served.find(&file(&second, "pem")), None);
        renewed.set(node.clone(), vec![second.clone()]);
        assert!(served.url().unwrap().ends_with(&file(&second, "pem")));
        assert!(served.find(&file(&first, "pem")).is_some() && served.find(&file(&second, "pem")).is_some());
        for other in ["", ".pem", "x.pem", &file(&first, "der"), &name_of(&first)] {
            assert_eq!(served.find(other), None, "{other}");
        }
    }
}
