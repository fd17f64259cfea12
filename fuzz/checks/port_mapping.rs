//! What a router answers: it is only ever believed of itself, and only what it was asked.

use std::net::{IpAddr, Ipv4Addr};

use meshtone_overlay::mapping::Transport;
use meshtone_overlay::mapping::pcp::{self, Answer, Request};
use meshtone_overlay::mapping::upnp::{self, Order, Place};

const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let router = IpAddr::V4(ROUTER);
    for transport in [Transport::Udp, Transport::Tcp] {
        let outside = "0.0.0.0:6084".parse().expect("an address");
        let request = Request { transport, port: 6084, outside, lifetime_s: 3600, nonce: *b"twelve bytes" };
        if let Some(Answer::Mapped { .. }) = request.decode_pcp(data) {
            let answered = data.get(24..36).is_some_and(|nonce| nonce == b"twelve bytes");
            assert!(answered, "somebody else's mapping was taken for ours");
            let other = Request { port: 6085, ..request };
            assert!(other.decode_pcp(data).is_none(), "one answer answers two questions");
        }
        let by_nat_pmp = request.decode_nat_pmp(data, ROUTER);
        if let Some(Answer::Mapped { outside, .. }) = by_nat_pmp {
            assert_eq!(outside.ip(), router);
        }
    }
    let _ = pcp::nat_pmp_address(data);
    if let Some(place) = upnp::location(data, router) {
        check_place(&place);
    }
    let place = Place { port: 5000, path: "/rootDesc.xml".to_owned() };
    if let Some(service) = upnp::service(data, &place, router) {
        check_place(&service.control);
        let orders = [
            Order::Address,
            Order::Delete { transport: Transport::Tcp, outside: 443 },
            Order::Add {
                transport: Transport::Udp,
                outside: 6084,
                inside: "192.168.1.2:6084".parse().expect("an address"),
                lease_s: 3600,
            },
        ];
        for order in orders {
            let body = order.body(&service);
            // The service's name is written into it: it must not break out of its place.
            assert_eq!(body.matches("<s:Body>").count(), 1);
            assert!(body.ends_with("</s:Body></s:Envelope>"));
        }
    }
    for order in [Order::Address, Order::Delete { transport: Transport::Udp, outside: 1 }] {
        let _ = upnp::outcome(&order, data);
    }
}

/// Goes into the head of a request.
fn check_place(place: &Place) {
    assert!(place.port != 0 && place.path.starts_with('/'));
    assert!(place.path.bytes().all(|byte| byte.is_ascii_graphic()), "a path with blanks or line ends");
}
