//! What the node does before it believes that there is nothing: it opens links to those it has heard of and asks them itself.

use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::NodeId;
use meshtone_overlay::dht::body::{Ask, Handed, Reply};
use meshtone_overlay::dht::message::{Answer, Message, Request};
use meshtone_overlay::dht::{Config, Event, OperationId};
use meshtone_overlay::record::{Kind, ResourceId};

use crate::support::{Lone, OWN, descriptor, neighbour, registration};

const KIND: Kind = Kind::SipRegistration;
const NAME: &str = "alice@example.org";

/// Longer than a link lasts that was opened to ask something.
const A_WHILE: Duration = Duration::from_secs(6);

/// Nodes that the only neighbours tell of: all far from the node under test, which has siblings of its own.
fn hearsay(number: u8) -> NodeId {
    let mut id = [number; 32];
    id[0] = 0x80 | number;
    NodeId::from_bytes(id)
}

/// Answers what this node asks, as long as it asks: that there is nothing, and that there are two more nodes. Returns whom it asked.
fn deny(lone: &mut Lone) -> Vec<NodeId> {
    let mut asked = Vec::new();
    loop {
        let requests: Vec<(NodeId, Request)> = lone
            .asked()
            .into_iter()
            .filter(|(_, _, ask)| matches!(ask, Ask::Fetch { .. }))
            .map(|(to, request, _)| (to, request))
            .collect();
        if requests.is_empty() {
            return asked;
        }
        for (to, request) in requests {
            asked.push(to);
            let nodes = vec![descriptor(to), descriptor(hearsay(1)), descriptor(hearsay(2))];
            let body = Bytes::from(Reply::Values(Vec::new()).encode());
            let (origin, number) = (request.origin, request.request);
            // Whoever is asked by name over another's link is answered for by that one.
            let responder = if request.exact { NodeId::from_bytes(request.target.0) } else { to };
            let answer = Answer { origin, request: number, responder, hops: 1, nodes, body };
            lone.hear(to, &Message::Answer(answer).encode());
        }
    }
}

/// Nine siblings, and a read of what two nodes that they tell of hold. Returns the read.
fn begin() -> (Lone, OperationId) {
    let mut lone = Lone::new(Config::default());
    (1..=9).for_each(|number| lone.link(neighbour(number)));
    lone.sent();
    lone.events();
    let now = lone.now;
    let id = lone.dht.fetch_first(now, KIND, NAME);
    lone.drain();
    deny(&mut lone);
    (lone, id)
}

fn dialled(lone: &mut Lone) -> Vec<NodeId> {
    let events = lone.events().into_iter();
    events.filter_map(|event| if let Event::Dial { peer } = event { Some(peer.node) } else { None }).collect()
}

#[test]
fn what_others_say_in_its_name_is_not_believed_before_a_node_was_asked_over_a_link_of_our_own() {
    let (mut lone, id) = begin();
    let dials = dialled(&mut lone);
    assert!(dials.contains(&hearsay(1)) && dials.contains(&hearsay(2)), "{dials:?}");
    lone.link(hearsay(1));
    let sent = lone.sent();
    assert!(sent.contains(&(hearsay(1), Message::Visit)), "{sent:?}");
    let of_request = |(to, message): (NodeId, Message)| {
        if let Message::Request(request) = message { (to == hearsay(1)).then_some(request) } else { None }
    };
    let request = sent.into_iter().find_map(of_request);
    let held = registration(NAME, neighbour(3), lone.now.unix_ms, 1);
    lone.answer(hearsay(1), &request.expect("it is asked itself"), &Reply::Values(vec![held]));
    let of_read = |event| {
        if let Event::Fetched { id: of, result } = event { (of == id).then_some(result) } else { None }
    };
    let found = lone.events().into_iter().find_map(of_read).map(|result| result.expect("it was found").entries.len());
    assert_eq!(found, Some(1));
}

#[test]
fn a_link_opened_to_ask_something_carries_nothing_else_and_is_closed_soon() {
    let (mut lone, _) = begin();
    dialled(&mut lone);
    lone.link(hearsay(1));
    lone.sent();
    let body = Ask::Find(hearsay(1).into()).encode();
    let request = Request {
        origin: neighbour(99),
        request: 5,
        target: hearsay(1).into(),
        exact: false,
        hops: 1,
        body: body.into(),
    };
    lone.hear(neighbour(9), &Message::Request(request).encode());
    let sent = lone.sent();
    let passed_on = |(to, message): &(NodeId, Message)| *to == hearsay(1) && matches!(message, Message::Request(_));
    assert!(!sent.iter().any(passed_on), "{sent:?}");
    lone.pass(A_WHILE);
    assert!(lone.events().contains(&Event::Unlink { node: hearsay(1) }));
}

#[test]
fn a_visitor_is_no_part_of_the_mesh() {
    let mut lone = Lone::new(Config::default());
    (1..=9).for_each(|number| lone.link(neighbour(number)));
    lone.link(hearsay(1));
    lone.hear(hearsay(1), &Message::Visit.encode());
    let place = hearsay(1).into();
    lone.sent();
    let request = Request {
        origin: neighbour(9),
        request: 6,
        target: OWN.into(),
        exact: true,
        hops: 0,
        body: Ask::Find(place).encode().into(),
    };
    lone.hear(neighbour(9), &Message::Request(request).encode());
    let named: Vec<NodeId> = lone
        .sent()
        .into_iter()
        .filter_map(|(_, message)| if let Message::Answer(answer) = message { Some(answer.nodes) } else { None })
        .flatten()
        .map(|node| node.node)
        .collect();
    assert!(!named.is_empty() && !named.contains(&hearsay(1)), "{named:?}");
}

#[test]
fn visitors_near_a_place_keep_nobody_from_holding_what_belongs_there() {
    let mut lone = Lone::new(Config { replicas: 2, ..Config::default() });
    (1..=9).for_each(|number| lone.link(neighbour(number)));
    // At a place that this node is the closest to of its neighbours.
    let is_near = |name: &String| matches!(ResourceId::of_name(name).as_bytes()[0].trailing_zeros(), 4..8);
    let name = (0..).map(|number| format!("user{number}@example.org")).find(is_near).unwrap();
    let mut near = *ResourceId::of_name(&name).as_bytes();
    for number in 0..8 {
        near[31] = number;
        lone.link(NodeId::from_bytes(near));
        lone.hear(NodeId::from_bytes(near), &Message::Visit.encode());
    }
    let record = registration(&name, neighbour(3), lone.now.unix_ms, 1);
    let store = Ask::Store(vec![Handed { remaining_s: 600, record }]).encode();
    assert_eq!(lone.ask(neighbour(1), 7, store), Reply::Stored(vec![Ok(())]));
}
