//! What only newer programs know must not cost a link.

use meshtone_overlay::dht::body::{Ask, Failure, Reply};
use meshtone_overlay::dht::message::{DialBack, Message};
use meshtone_overlay::dht::{Config, Position};
use meshtone_overlay::record::cbor::Encoder;

use crate::support::{Lone, OWN, descriptor, neighbour};

/// Adds to an array of fewer than 20 items what a newer program might.
fn with_more(mut encoded: Vec<u8>) -> Vec<u8> {
    let mut more = Encoder::new();
    more.array(2).array(1).text("more").boolean(true).null();
    encoded[0] += 2;
    encoded.extend(more.finish());
    encoded
}

#[test]
fn what_a_newer_program_adds_to_a_message_is_passed_over() {
    let messages = [
        Message::Acknowledge { origin: neighbour(1), request: 7 },
        Message::Neighbours(vec![descriptor(neighbour(3))]),
        Message::Role { serves: true },
        Message::Test { number: 7 },
        Message::DialBack(DialBack { number: 7, peer: descriptor(neighbour(3)) }),
        Message::DialledBack { number: 7, reached: None },
        Message::DialledBack { number: 7, reached: Some(true) },
        Message::Report { number: 7, dialler: neighbour(3), reached: None },
        Message::Report { number: 7, dialler: neighbour(3), reached: Some(descriptor(neighbour(4)).address) },
        Message::Visit,
    ];
    for message in messages {
        assert_eq!(Message::decode(&with_more(message.encode().to_vec())), Ok(message));
    }
    let place = Ask::Find(Position::from(OWN));
    assert_eq!(Ask::decode(&with_more(place.encode())), Ok(place));
    assert_eq!(Reply::decode(&with_more(Reply::Nodes.encode())), Ok(Reply::Nodes));
    // Cut short it is malformed, wherever.
    let whole = with_more(Reply::Nodes.encode());
    assert!((0..whole.len()).all(|end| Reply::decode(&whole[..end]).is_err()));
}

#[test]
fn a_message_of_an_unknown_type_is_no_offence() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    let unknown = Encoder::new().array(2).unsigned(99).text("from the future").finish();
    lone.hear(neighbour(1), &unknown);
    assert_eq!(lone.events(), []);
    let malformed = Encoder::new().array(1).unsigned(0).finish();
    lone.hear(neighbour(1), &malformed);
    assert_eq!(lone.events().len(), 1);
}

#[test]
fn a_question_of_an_unknown_type_is_answered_with_a_failure() {
    let mut lone = Lone::new(Config::default());
    lone.link(neighbour(1));
    let unknown = Encoder::new().array(2).unsigned(99).unsigned(1).finish();
    assert_eq!(lone.ask(neighbour(1), 5, unknown), Reply::Failed(Failure::NotUnderstood));
}
