//! What a writer learns from those who hold what it wrote.

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Failure, Handed, Reply};
use meshtone_overlay::dht::message::{Refusal, RefusalReason};
use meshtone_overlay::dht::{Config, DhtError, Event, OperationId, StoreReceipt};
use meshtone_overlay::record::Kind;
use meshtone_overlay::record::value::Record;

use crate::support::{BEGIN_MS, Lone, OWN, neighbour, registration};

const NAME: &str = "bob@example.org";
const KIND: Kind = Kind::SipRegistration;

fn handed(record: Record) -> Handed {
    Handed { remaining_s: 600, record }
}

fn content(number: u64) -> Bytes {
    registration(NAME, OWN, 1, number).value.content
}

fn store(lone: &mut Lone, number: u64) -> OperationId {
    let id = lone.dht.store(lone.now, KIND, NAME, content(number), Duration::from_secs(600)).unwrap();
    lone.drain();
    id
}

/// Lets the neighbours answer for half a second, writes as `answer` says.
fn settle(lone: &mut Lone, mut answer: impl FnMut(NodeId, &Ask) -> Reply) {
    for _ in 0..10 {
        for (to, request, ask) in lone.asked() {
            let reply = match &ask {
                Ask::Store(_) | Ask::Put(_) => answer(to, &ask),
                Ask::Clock => Reply::Time(lone.now.unix_ms),
                Ask::Find(_)
                | Ask::Fetch { .. }
                | Ask::Offer(_)
                | Ask::Listen { .. }
                | Ask::Changed(_)
                | Ask::Moved { .. } => Reply::Nodes,
            };
            lone.answer(to, &request, &reply);
        }
        lone.pass(Duration::from_millis(50));
    }
}

fn result_of(lone: &mut Lone, id: OperationId) -> Result<StoreReceipt, DhtError> {
    let mut ended = lone
        .events()
        .into_iter()
        .filter_map(|event| if let Event::Stored { id: of, result } = event { Some((of, result)) } else { None });
    ended.find(|(of, _)| *of == id).expect("the write has ended").1
}

fn linked() -> Lone {
    let mut lone = Lone::new(Config::default());
    (1..=4).for_each(|number| lone.link(neighbour(number)));
    lone
}

#[test]
fn a_replica_shows_a_writer_what_others_wrote_later_and_nothing_older() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    for (number, (writer, at)) in (0..).zip([(5, 1), (6, 3), (7, 4)]) {
        let record = registration(NAME, neighbour(writer), BEGIN_MS + at, 1);
        lone.ask(neighbour(1), number, Ask::Store(vec![handed(record)]).encode());
    }
    let put = Ask::Put(Box::new(handed(registration(NAME, neighbour(8), BEGIN_MS + 2, 1))));
    let Reply::Merged { result: Ok(()), newer } = lone.ask(neighbour(1), 9, put.encode()) else { panic!("not held") };
    let writers: Vec<NodeId> = newer.iter().map(|handed| handed.record.value.signer).collect();
    assert_eq!(writers, [neighbour(7), neighbour(6)]);
    assert_eq!(lone.dht.held(KIND, NAME).len(), 4);
}

#[test]
fn a_writer_learns_what_another_home_node_wrote_later_and_holds_it_as_well() {
    let mut lone = linked();
    let id = store(&mut lone, 1);
    let later = registration(NAME, neighbour(9), BEGIN_MS + 1000, 7);
    settle(&mut lone, |_, _| Reply::Merged { result: Ok(()), newer: vec![handed(later.clone())] });
    let receipt = result_of(&mut lone, id).unwrap();
    let learned: Vec<_> = receipt.newer.iter().map(|entry| (entry.writer, entry.value.clone())).collect();
    assert_eq!(learned, [(neighbour(9), later.value.content)]);
    assert_eq!(lone.dht.held(KIND, NAME).len(), 2);
}

#[test]
fn what_a_replica_shows_that_is_none_of_it_is_not_believed() {
    let mut lone = linked();
    let id = store(&mut lone, 1);
    let elsewhere = registration("eve@example.org", neighbour(9), BEGIN_MS + 1000, 7);
    let mut of_another_key = registration(NAME, neighbour(9), BEGIN_MS + 1000, 7);
    of_another_key.value.key = neighbour(8).as_bytes().to_vec();
    let older = registration(NAME, neighbour(9), BEGIN_MS - 1000, 7);
    settle(&mut lone, |_, _| {
        let newer = [elsewhere.clone(), of_another_key.clone(), older.clone()].map(handed).to_vec();
        Reply::Merged { result: Ok(()), newer }
    });
    assert_eq!(result_of(&mut lone, id).unwrap().newer, []);
    assert_eq!(lone.dht.held(KIND, NAME).len(), 1);
}

#[test]
fn a_write_that_a_later_one_of_the_same_node_has_beaten_is_no_success() {
    let mut lone = linked();
    let first = store(&mut lone, 1);
    let second = store(&mut lone, 2);
    let newest_ms = BEGIN_MS + 1;
    settle(&mut lone, |_, ask| {
        let Ask::Put(put) = ask else { panic!("{ask:?}") };
        let too_old = Err(Refusal { reason: RefusalReason::TooOld, newest_ms });
        let held = put.record.value.storage_ms == newest_ms;
        Reply::Merged { result: if held { Ok(()) } else { too_old }, newer: Vec::new() }
    });
    let results = lone.events().into_iter().filter_map(|event| {
        if let Event::Stored { id, result } = event {
            Some((id, result.map(|receipt| receipt.storage_ms)))
        } else {
            None
        }
    });
    let mut results: Vec<_> = results.collect();
    results.sort_by_key(|(id, _)| *id);
    assert_eq!(results, [(first, Err(DhtError::Beaten { newest_ms })), (second, Ok(newest_ms))]);
}

#[test]
fn a_node_of_the_first_release_is_asked_in_its_own_way_and_from_then_on_at_once() {
    let mut lone = linked();
    let mut asked = Vec::new();
    for number in 1..=2 {
        let id = store(&mut lone, number);
        settle(&mut lone, |to, ask| {
            let is_put = matches!(ask, Ask::Put(_));
            asked.push((number, to, is_put));
            match (to == neighbour(2), is_put) {
                (true, true) => Reply::Failed(Failure::NotUnderstood),
                (_, false) => Reply::Stored(vec![Ok(())]),
                (false, true) => Reply::Merged { result: Ok(()), newer: Vec::new() },
            }
        });
        assert!(result_of(&mut lone, id).is_ok());
    }
    let of_old: Vec<_> = asked.iter().filter(|(_, to, _)| *to == neighbour(2)).map(|(n, _, put)| (*n, *put)).collect();
    assert_eq!(of_old, [(1, true), (1, false), (2, false)]);
    assert!(asked.iter().filter(|(_, to, _)| *to != neighbour(2)).all(|(_, _, is_put)| *is_put));
}

#[test]
fn an_iterative_write_finds_its_replicas_by_name_before_it_asks_any_of_them_to_store() {
    let mut lone = linked();
    let lifetime = Duration::from_secs(600);
    let id = lone.dht.store_iteratively(lone.now, KIND, NAME, content(1), lifetime).unwrap();
    lone.drain();
    let mut asks = Vec::new();
    loop {
        let asked = lone.asked();
        if asked.is_empty() {
            break;
        }
        for (to, request, ask) in asked.into_iter().filter(|(.., ask)| *ask != Ask::Clock) {
            assert!(request.exact, "{ask:?} is sent towards a place");
            let stored = Reply::Merged { result: Ok(()), newer: Vec::new() };
            let reply = if matches!(ask, Ask::Put(_)) { stored } else { Reply::Nodes };
            asks.push(matches!(ask, Ask::Put(_)));
            lone.answer(to, &request, &reply);
        }
    }
    assert!(result_of(&mut lone, id).is_ok());
    assert!(asks.contains(&false) && asks.contains(&true) && asks.is_sorted(), "{asks:?}");
}
