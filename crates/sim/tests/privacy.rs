//! What the nodes on the way of a record, and those that hold it, get to see (docs/security.md).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::Config;
use meshtone_overlay::dht::message::Message;
use meshtone_overlay::record::Kind;
use meshtone_sim::overlay::registration;
use meshtone_sim::{Conditions, Overlay};

const HOUR: Duration = Duration::from_secs(3600);
const NAME: &str = "alice@example.org";
const NODES: usize = 120;

/// All that has reached each node.
type Seen = Rc<RefCell<Vec<Vec<Message>>>>;

fn tapped(seed: u64) -> (Overlay, Seen) {
    let mut overlay = Overlay::new(seed, Conditions::default(), Config::default());
    overlay.grow(NODES, &["example.org"]);
    overlay.network.run_for(Duration::from_secs(60));
    let seen: Seen = Rc::new(RefCell::new(vec![Vec::new(); NODES]));
    for node in 0..NODES {
        let seen = seen.clone();
        let tap = move |_: NodeId, bytes: &Bytes| {
            seen.borrow_mut()[node].push(Message::decode(bytes).unwrap());
            None
        };
        overlay.network.with(node, |node, _| node.set_hijacker(Some(Box::new(tap))));
    }
    (overlay, seen)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The nodes that a request for the name's place has reached, and those that have seen the name itself.
fn who_saw(seen: &Seen) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (mut asked, mut named) = (BTreeSet::new(), BTreeSet::new());
    for (node, messages) in seen.borrow_mut().iter_mut().enumerate() {
        for message in messages.drain(..) {
            if matches!(&message, Message::Request(_)) {
                asked.insert(node);
            }
            if holds(&message.encode(), "alice") {
                named.insert(node);
            }
        }
    }
    (asked, named)
}

#[test]
fn a_request_names_nobody_and_only_who_carries_the_record_sees_whose_it_is() {
    let (mut overlay, seen) = tapped(61);
    let (writer, reader) = (3, 77);

    // Nobody is registered: whoever is asked learns a hash.
    overlay.fetch(reader, Kind::SipRegistration, NAME).unwrap();
    let (asked, named) = who_saw(&seen);
    assert!(asked.len() >= 5, "{asked:?}");
    assert_eq!(named, BTreeSet::new(), "a name travels in no request");

    // The record goes to those who hold it, by way of few others.
    overlay.store(writer, Kind::SipRegistration, NAME, registration(1), HOUR).unwrap();
    overlay.network.run_for(Duration::from_secs(5));
    let (_, named) = who_saw(&seen);
    let holders: BTreeSet<usize> = overlay.holders(Kind::SipRegistration, NAME).into_iter().collect();
    assert!(holders.len() >= 5 && named.len() < NODES / 4, "{} of {NODES} saw it", named.len());

    // An answer shows it to who carries it back, and to nobody else.
    let found = overlay.fetch(reader, Kind::SipRegistration, NAME).unwrap();
    assert_eq!(found.entries.len(), 1);
    let (_, named) = who_saw(&seen);
    assert!(named.contains(&reader) && named.len() < NODES / 4, "{} of {NODES} saw it", named.len());
}
