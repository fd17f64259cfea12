//! Certificates and requests: only what the authority issued verifies, in the very bytes it issued.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use meshtone_identity::dangerous_deterministic::{DangerousSigner, DangerousVerifier};
use meshtone_identity::{
    Authority, AuthorityCertificate, EnrolRequest, HomeCertificate, LinkKey, NodeCertificate, Rights, Signer,
};

/// The time at which every check happens, in unix seconds.
const NOW: u64 = 1_800_000_000;
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let world = world();
    let own = world.authority.certificate();
    if NodeCertificate::verify_with(&DangerousVerifier, data, own, NOW).is_ok() {
        let issued = [world.node.der(), world.restricted.der()];
        assert!(issued.contains(&data), "a node certificate that nobody issued");
    }
    if HomeCertificate::verify_with(&DangerousVerifier, data, own, NOW).is_ok() {
        assert_eq!(data, world.home.der(), "a home certificate that nobody issued");
    }
    // Real nodes believe nothing that a simulation signed.
    assert!(NodeCertificate::verify(data, own, NOW).is_err());
    assert!(HomeCertificate::verify(data, own, NOW).is_err());
    if let Ok(authority) = AuthorityCertificate::parse(data) {
        assert_eq!(authority.der(), data);
    }
    let _ = EnrolRequest::parse(data);
}

/// An overlay whose every byte is the same at every run, so that the corpus can hold its certificates.
struct World {
    authority: Authority,
    node: NodeCertificate,
    /// Another one, which does not let its node do all.
    restricted: NodeCertificate,
    home: HomeCertificate,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let (signer, verifier) = (Arc::new(DangerousSigner::new(0)), Arc::new(DangerousVerifier));
        let authority = Authority::create_with(signer, verifier, NOW).expect("an authority is made");
        let key = DangerousSigner::new(1);
        let link = LinkKey::from_bytes([7; 32]);
        let node = authority.certify_node(key.public_key(), link, [3; 16], NOW, YEAR).expect("a node is certified");
        let home = authority.issue_home(&node, "example.org", NOW, YEAR).expect("a home is certified");
        let restricted = authority.renew_node(&node, Rights::UseOnly, NOW, YEAR).expect("a node is certified");
        World { authority, node, restricted, home }
    })
}

/// The certificates that verify, for the corpus.
#[cfg(test)]
pub(crate) fn good() -> [(&'static str, Vec<u8>); 4] {
    let world = world();
    let own = world.authority.certificate().der().to_vec();
    let nodes = [("node", &world.node), ("restricted", &world.restricted)];
    let [node, restricted] = nodes.map(|(name, certificate)| (name, certificate.der().to_vec()));
    [("authority", own), node, restricted, ("home", world.home.der().to_vec())]
}
