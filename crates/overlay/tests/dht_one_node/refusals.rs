//! What a full neighbour refused.

use std::time::Duration;

use bytes::Bytes;
use meshtone_overlay::dht::Config;
use meshtone_overlay::dht::body::{Ask, OfferState, Reply};
use meshtone_overlay::dht::message::{Refusal, RefusalReason};
use meshtone_overlay::record::Kind;

use crate::support::{Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

/// Lets time pass with neighbours of which the second is full and the others hold whatever they are offered. Returns how often the
/// full one was offered something, and how often it was handed something.
fn pass(lone: &mut Lone, seconds: u64) -> (usize, usize) {
    let (mut offered, mut handed) = (0, 0);
    for _ in 0..seconds * 4 {
        lone.pass(Duration::from_millis(250));
        for (to, request, ask) in lone.asked() {
            let is_full = to == neighbour(2);
            let reply = match ask {
                Ask::Find(_) | Ask::Listen { .. } | Ask::Changed(_) | Ask::Moved { .. } => Reply::Nodes,
                Ask::Fetch { .. } => Reply::Values(Vec::new()),
                Ask::Offer(offers) => {
                    offered += usize::from(is_full);
                    let state = if is_full { OfferState::Wanted } else { OfferState::Same };
                    Reply::Offered { states: vec![state; offers.len()], newer: Vec::new() }
                }
                Ask::Store(values) => {
                    handed += usize::from(is_full);
                    let full = Err(Refusal { reason: RefusalReason::Full, newest_ms: 0 });
                    Reply::Stored(vec![if is_full { full } else { Ok(()) }; values.len()])
                }
                Ask::Put(_) => {
                    handed += usize::from(is_full);
                    let full = Err(Refusal { reason: RefusalReason::Full, newest_ms: 0 });
                    Reply::Merged { result: if is_full { full } else { Ok(()) }, newer: Vec::new() }
                }
                Ask::Clock => Reply::Time(lone.now.unix_ms),
            };
            lone.answer(to, &request, &reply);
        }
    }
    (offered, handed)
}

fn content(updated_ms: u64) -> Bytes {
    registration(NAME, OWN, 1, updated_ms).value.content
}

#[test]
fn what_a_full_node_refused_is_not_offered_to_it_again_until_it_may_have_room_or_there_is_something_newer() {
    let mut lone = Lone::new(Config::default());
    (1..=4).for_each(|number| lone.link(neighbour(number)));
    let hour = Duration::from_secs(3600);
    lone.dht.store(lone.now, KIND, NAME, content(1), hour).unwrap();
    let (_, handed) = pass(&mut lone, 150);
    // Once as a replica of the write, once by the repair.
    assert_eq!(handed, 2);
    assert_eq!(pass(&mut lone, 400), (0, 0));
    lone.dht.store(lone.now, KIND, NAME, content(2), hour).unwrap();
    let (offered, handed) = pass(&mut lone, 150);
    assert!(offered == 1 && handed == 2, "offered {offered} times, handed {handed} times");
    let (offered, handed) = pass(&mut lone, 1200);
    assert!((1..=3).contains(&offered) && (1..=3).contains(&handed), "offered {offered} times, handed {handed} times");
}
