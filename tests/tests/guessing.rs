//! Passwords tried from behind the very address that the owner's phone has (threat 2): a NAT makes them neighbours.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::{Mesh, ScriptedPhone, Transport};

/// More than a source may try of an account that it has proven to know.
const GUESSES: usize = 60;

#[test]
fn a_guesser_behind_the_owners_address_gets_nowhere_and_the_owner_is_not_shut_out() {
    let mesh = Mesh::start(1);
    let password = mesh.user("alice");
    let mut owner = ScriptedPhone::udp(mesh.sip(1)).of("alice", &password);
    let mut over_tls = ScriptedPhone::new(Transport::Tls, mesh.at(1, Transport::Tls)).of("alice", &password);
    owner.register();
    over_tls.register();

    let mut neighbour = ScriptedPhone::udp(mesh.sip(1)).of("alice", "wrong");
    for guess in 0..GUESSES {
        assert_eq!(neighbour.try_register(600).status(), 401, "guess {guess}");
        if guess % 10 == 0 {
            owner.register();
        }
    }
    let mut neighbour = neighbour.of("alice", &password);
    assert_eq!(neighbour.try_register(600).status(), 401, "now even the right one is not looked at");

    owner.register();
    over_tls.register();
    ScriptedPhone::udp(mesh.sip(1)).of("alice", &password).register();
    ScriptedPhone::tcp(mesh.sip(1)).of("alice", &password).register();
}
