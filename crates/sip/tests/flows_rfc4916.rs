//! The flows of RFC 4916 (Connected Identity), message by message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flows_support;

use flows_support::{act, assert_played, assert_whole, play};

const REVISED: &str = "A>P P>A A>P P>A A>P P>A A>P P>A";

#[test]
fn every_page_is_here() {
    assert_whole("rfc4916", &["5.1", "5.2"], 18);
}

#[test]
fn a_proxy_carries_the_connected_identity_as_the_page_shows() {
    assert_played(
        vec![play("rfc4916/5.1", ('P', "proxy.example.com"), "A>P P>C C>P P>A A>P P>C C>P P>A A>P P>C")],
        false,
    );
}

#[test]
fn our_agent_tells_and_follows_a_revised_identity_as_the_page_shows() {
    let plays = vec![
        act("rfc4916/5.2", ('A', "ua1.example.com"), REVISED),
        act("rfc4916/5.2", ('P', "b2bua.example.com"), REVISED),
    ];
    assert_played(plays, false);
}
