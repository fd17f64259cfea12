//! A value that is to be stored again while it is being stored.

use std::collections::BTreeSet;
use std::time::Duration;

use meshtone_overlay::dht::body::{Ask, Reply};
use meshtone_overlay::dht::{Config, Event};
use meshtone_overlay::record::Kind;

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";

#[test]
fn a_value_that_is_due_again_waits_for_its_first_writing_to_end() {
    let mut lone = Lone::new(Config::default());
    (1..=3).for_each(|number| lone.link(neighbour(number)));
    let content = registration(NAME, OWN, 1, BEGIN_MS).value.content;
    // Its half life is over long before anybody answers.
    lone.dht.publish(lone.now, Kind::SipRegistration, NAME, content, Duration::from_secs(2)).unwrap();
    lone.drain();
    let (mut dates, mut waiting) = (BTreeSet::new(), Vec::new());
    for _ in 0..14 {
        for (to, request, ask) in lone.asked() {
            if let Ask::Put(put) = ask {
                dates.insert(put.record.value.storage_ms);
                waiting.push((to, request));
            } else {
                lone.answer(to, &request, &Reply::Nodes);
            }
        }
        lone.pass(Duration::from_millis(100));
    }
    assert_eq!(dates.len(), 1, "it was dated anew while it was written");
    for (to, request) in waiting {
        lone.answer(to, &request, &Reply::Merged { result: Ok(()), newer: Vec::new() });
    }
    let ends = lone.events().into_iter().filter(|event| matches!(event, Event::Stored { result: Ok(_), .. })).count();
    assert_eq!(ends, 1);

    lone.pass(Duration::from_millis(600));
    let again = lone
        .asked()
        .into_iter()
        .any(|(.., ask)| matches!(ask, Ask::Put(put) if !dates.contains(&put.record.value.storage_ms)));
    assert!(again, "and then it is stored again");
}
