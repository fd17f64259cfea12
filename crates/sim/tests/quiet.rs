//! An overlay in which nothing happens sends less and less, and is as quick as ever once something does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::time::Duration;

use meshtone_overlay::dht::Config;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const KIND: Kind = Kind::SipRegistration;
const NODES: usize = 12;
const RECORDS: usize = 30;
const MINUTES: u64 = 60;

fn name(record: usize) -> String {
    format!("user{record}@example.org")
}

/// Returns how many messages are sent in five minutes.
fn messages(overlay: &mut Overlay) -> u64 {
    let before = overlay.network.traffic().messages;
    overlay.network.run_for(Duration::from_secs(5 * MINUTES));
    overlay.network.traffic().messages - before
}

#[test]
fn a_quiet_overlay_sends_less_and_the_first_loss_ends_that() {
    let mut overlay = Overlay::new(97, Conditions::default(), Config::default());
    overlay.grow(NODES, &["example.org"]);
    for record in 0..RECORDS {
        let (writer, lifetime) = (record % NODES, Duration::from_secs(7200));
        overlay.network.with(writer, |node, now| {
            node.dht.store(now, KIND, &name(record), registration(1), lifetime).unwrap();
        });
    }
    overlay.network.run_for(Duration::from_secs(10));
    let young = messages(&mut overlay);
    overlay.network.run_for(Duration::from_secs(90 * MINUTES));
    let quiet = messages(&mut overlay);
    overlay.network.kill(NODES - 1);
    overlay.network.run_for(Duration::from_secs(10));
    let held = (0..RECORDS).map(|record| overlay.holders(KIND, &name(record)).len()).min();
    assert!(held >= Some(5), "what was lost is not replaced: {held:?} copies");
    let after = messages(&mut overlay);
    println!("{young} messages in five minutes, {quiet} when it has been quiet, {after} after a loss");
    assert!(quiet * 3 < young, "{quiet} of {young}");
    assert!(after * 10 > young * 7, "{after} of {young}");
}
