#![allow(clippy::unwrap_used)]

use meshtone_identity::Authority;

use super::*;

fn said(authority: &Authority, node: u8, ends: u64) -> [u8; ENCODED] {
    *Revocation::sign(authority, NodeId::from_bytes([node; 32]), unix_s(), ends).unwrap().encoded()
}

#[test]
fn only_the_authoritys_word_counts_and_it_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, _) = Authority::create(unix_s()).unwrap();
    let (stranger, _) = Authority::create(unix_s()).unwrap();
    let own = NodeId::from_bytes([9; 32]);
    let store = Store::open(folder.path()).unwrap();
    let open = || Revocations::open(store.clone(), authority.certificate().clone(), own).unwrap();
    let soon = unix_s() + 1000;
    let this = open();
    this.take(&[said(&stranger, 1, soon), said(&authority, 2, soon), said(&authority, 3, unix_s() - 1)]).unwrap();
    let knows = |this: &Revocations| [1, 2, 3].map(|node| this.revoked().contains(&NodeId::from_bytes([node; 32])));
    assert_eq!(knows(&this), [false, true, false], "a stranger's, the authority's, one that is not needed any more");
    assert_eq!(knows(&open()), knows(&this));
    assert!(!this.of_own());
    this.take(&[said(&authority, 9, soon)]).unwrap();
    assert!(this.of_own());
}

#[test]
fn a_revocation_is_forgotten_when_the_certificates_have_run_out() {
    let (authority, _) = Authority::create(unix_s()).unwrap();
    let revoked = Revoked::default();
    let node = NodeId::from_bytes([1; 32]);
    assert!(revoked.insert(Revocation::sign(&authority, node, 5, 10).unwrap()));
    revoked.forget_ended(10);
    assert!(revoked.contains(&node));
    revoked.forget_ended(11);
    assert!(!revoked.contains(&node));
}
