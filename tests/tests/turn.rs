//! The node as a STUN and TURN server: coturn's client in all its modes, and what strangers and users must not be able to do with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use meshtone_tests::turn::{
    EchoPeer, Login, OVER_UDP, TurnClient, TurnPorts, assert_relays, attribute, kind, message, put,
};
use meshtone_tests::wire::Wire;
use meshtone_tests::{DOMAIN, MeshNode, SOON, eventually};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A node with a TURN server on loopback.
fn node(ports: &TurnPorts, more: &str) -> MeshNode {
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    node.run_configured(&ports.settings(LOOPBACK, more));
    node
}

/// A socket that stands for a peer.
fn peer() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    Some((buffer[..len].to_vec(), from))
}

fn hears_nothing(socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let nothing = heard(socket).is_none();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    nothing
}

fn allocations(node: &MeshNode) -> u64 {
    node.status()["turn"]["allocations"].as_u64().unwrap()
}

#[test]
fn coturns_client_is_relayed_in_every_mode() {
    let ports = TurnPorts::reserve();
    // The client, the relay and the peer are one machine.
    let node = node(&ports, "allow_private = true\nrelay = [\"127.0.0.1\", \"::1\"]");
    let alice = Login { username: "alice".to_owned(), password: node.user_add("alice") };
    let for_an_hour = Login::for_user(&node, "alice");
    let echo = EchoPeer::start(&[LOOPBACK, Ipv6Addr::LOCALHOST.into()]);
    let four = Some((LOOPBACK, echo.port()));
    let six = Some((Ipv6Addr::LOCALHOST.into(), echo.port()));
    let modes: [(&[&str], bool, _); 12] = [
        (&["-c"], false, four),
        (&[], false, four),
        (&["-c", "-s"], false, four),
        (&["-c", "-D"], false, four),
        (&["-c", "-x"], false, six),
        (&["-Z"], false, four),
        (&["-c", "-G"], false, four),
        (&["-y", "-c"], false, None),
        (&["-t", "-c"], false, four),
        (&["-t", "-c", "-s"], false, four),
        (&["-t", "-c", "-S"], true, four),
        (&["-t", "-c", "-S", "-s"], true, four),
    ];
    // Each takes some seconds, and waits for most of them.
    std::thread::scope(|scope| {
        for (flags, over_tls, peer) in modes {
            let server = if over_tls { ports.tls() } else { ports.plain() };
            let alice = &alice;
            scope.spawn(move || assert_relays(server, alice, flags, peer));
        }
    });
    assert_relays(ports.plain(), &for_an_hour, &["-c"], four);
    let turn = || node.status()["turn"].clone();
    eventually(SOON, "those of connections to end with them", || turn()["over_connections"] == 0);
    assert!(turn()["relayed_bytes"].as_u64().unwrap() > 13 * 40 * 171);
}

#[test]
fn a_peer_reaches_a_client_once_that_has_permitted_it_and_nobody_else_does() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "allow_private = true");
    node.user_add("alice");
    let mut alice = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    let relayed = alice.allocate().unwrap();
    let ((bob, bobs), (mallory, mallorys)) = (peer(), peer());
    bob.send_to(b"too early", relayed).unwrap();
    assert!(alice.hears_nothing());
    assert_eq!(alice.bind(0x4000, bobs), 0);
    alice.send_over(0x4000, b"hello");
    assert_eq!(heard(&bob).unwrap(), (b"hello".to_vec(), relayed));
    bob.send_to(b"hello too", relayed).unwrap();
    assert_eq!(alice.receive().unwrap(), [&[0x40, 0, 0, 9], b"hello too".as_slice()].concat());
    alice.send_to(bobs, b"without a channel");
    assert_eq!(heard(&bob).unwrap().0, b"without a channel");
    // A permission is for an address, whatever the port: what another port sends is told apart.
    mallory.send_to(b"me too", relayed).unwrap();
    let told = meshtone_tests::turn::Answer { bytes: alice.receive().unwrap() };
    assert_eq!(told.address(attribute::XOR_PEER_ADDRESS), Some(mallorys));
    let stranger = UdpSocket::bind("127.0.0.2:0").unwrap();
    stranger.send_to(b"me too", relayed).unwrap();
    assert!(alice.hears_nothing(), "whoever was not permitted");
    // Whoever sends as if it were alice's channel, from elsewhere.
    let thief = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    thief.send_over(0x4000, b"stolen");
    assert!(hears_nothing(&bob));
    let mut thief = thief;
    assert_eq!(thief.bind(0x4000, bobs), 437, "there is no allocation on his 5-tuple");
    let users = &node.status()["turn"]["users"];
    assert_eq!((users[0]["user"].as_str(), users[0]["allocations"].as_u64()), (Some("alice"), Some(1)));
}

#[test]
fn nothing_is_relayed_to_the_machine_itself_or_to_private_networks() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "");
    node.user_add("alice");
    let mut alice = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    alice.allocate().unwrap();
    let (service, services) = peer();
    let forbidden = [
        services.to_string(),
        ports.plain().to_string(),
        node.sip().to_string(),
        "0.0.0.0:80".to_owned(),
        "10.0.0.1:80".to_owned(),
        "172.16.3.4:80".to_owned(),
        "192.168.1.1:80".to_owned(),
        "100.64.0.1:80".to_owned(),
        "169.254.169.254:80".to_owned(),
        "224.0.0.251:5353".to_owned(),
        "255.255.255.255:9".to_owned(),
        "[::1]:80".to_owned(),
        "[::]:80".to_owned(),
        format!("[::ffff:127.0.0.1]:{}", services.port()),
        "[fe80::1]:80".to_owned(),
        "[fd00::1]:80".to_owned(),
        "[ff02::1]:80".to_owned(),
        "[64:ff9b::7f00:1]:80".to_owned(),
    ];
    for peer in forbidden {
        let peer: SocketAddr = peer.parse().unwrap();
        assert_eq!(alice.permit(peer), 403, "{peer}");
        assert_eq!(alice.bind(0x4000, peer), 403, "{peer}");
        alice.send_to(peer, b"unheard");
    }
    alice.send_over(0x4000, b"unheard");
    assert!(hears_nothing(&service), "what must not be reached was");
    // Ports of media of this very node are peers, with or without TURN: calls that it carries, and others' relays.
    let media = SocketAddr::new(LOOPBACK, *node.rtp().start());
    assert_eq!(alice.permit(media), 0);
    let mut bob = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    let relayed = bob.allocate().unwrap();
    assert_eq!(alice.bind(0x4001, relayed), 0);
}

#[test]
fn relays_of_two_clients_at_one_node_reach_each_other() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "");
    node.user_add("alice");
    let mut clients = [0, 1].map(|_| TurnClient::new(ports.plain(), Login::for_user(&node, "alice")));
    let relayed: Vec<SocketAddr> = clients.iter_mut().map(|client| client.allocate().unwrap()).collect();
    let [one, other] = &mut clients;
    assert_eq!((one.bind(0x4000, relayed[1]), other.bind(0x4000, relayed[0])), (0, 0));
    one.send_over(0x4000, b"hello");
    assert_eq!(other.receive().unwrap(), [&[0x40, 0, 0, 5], b"hello".as_slice()].concat());
    // The other one gives his back: its port may be anybody's now, and is no peer any more.
    assert_eq!(other.ask(kind::REFRESH, &[(attribute::LIFETIME, &[0; 4])]).code(), 0);
    let next = UdpSocket::bind(relayed[1]).unwrap();
    one.send_over(0x4000, b"hello");
    assert!(hears_nothing(&next));
}

#[test]
fn a_login_that_is_wrong_or_over_opens_nothing() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "");
    let password = node.user_add("alice");
    let allocate = |username: &str, password: &str| {
        let login = Login { username: username.to_owned(), password: password.to_owned() };
        TurnClient::new(ports.plain(), login).allocate()
    };
    assert!(allocate("alice", &password).is_ok(), "a phone's own password");
    let given = Login::for_user(&node, "alice");
    assert!(allocate(&given.username, &given.password).is_ok());
    let (until, _) = given.username.split_once(':').unwrap();
    let until: u64 = until.parse().unwrap();
    let longer = format!("{}:alice", until + 1_000_000);
    // What a thief could show: a login after its time cannot be made here, since only the node signs; one that says so is none.
    for (username, password) in [
        ("alice", "guessed"),
        ("bob", password.as_str()),
        ("", ""),
        (longer.as_str(), given.password.as_str()),
        ("1:alice", given.password.as_str()),
        (&format!("{until}:bob"), given.password.as_str()),
        (&format!("0{until}:alice"), given.password.as_str()),
        (":alice", given.password.as_str()),
        (&"a".repeat(600), "x"),
    ] {
        assert_eq!(allocate(username, password), Err(401), "{username}");
    }
    assert_eq!(node.command(&["turn-credentials", "nobody"]).status.code(), Some(1));
}

#[test]
fn who_is_removed_or_has_a_new_password_loses_what_he_had() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "allow_private = true");
    for user in ["alice", "bob", "carol"] {
        node.user_add(user);
    }
    let client = |user: &str| {
        let mut client = TurnClient::new(ports.plain(), Login::for_user(&node, user));
        client.allocate().unwrap();
        client
    };
    let (_alice, _bob, mut carol) = (client("alice"), client("bob"), client("carol"));
    eventually(SOON, "three allocations", || allocations(&node) == 3);
    node.must(&["user", "remove", "alice"]);
    node.user_passwd("bob");
    node.must(&["user", "set", "carol", "--number", "42"]);
    eventually(SOON, "two of them to be taken back", || allocations(&node) == 1);
    let (echo, echos) = peer();
    assert_eq!(carol.bind(0x4000, echos), 0, "a new number takes nothing away");
    carol.send_over(0x4000, b"still here");
    assert_eq!(heard(&echo).unwrap().0, b"still here");
}

#[test]
fn quotas_hold_and_others_are_served_still() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "user_allocations = 3\nsource_allocations = 5");
    for user in ["alice", "bob", "carol"] {
        node.user_add(user);
    }
    let allocate = |user: &str| TurnClient::new(ports.plain(), Login::for_user(&node, user)).allocate().map(|_| ());
    assert_eq!([0; 5].map(|_| allocate("alice")), [Ok(()), Ok(()), Ok(()), Err(486), Err(486)]);
    assert_eq!([0; 3].map(|_| allocate("bob")), [Ok(()), Ok(()), Err(486)], "five of one source");
    assert_eq!(allocate("carol"), Err(486));
    eventually(SOON, "five allocations", || allocations(&node) == 5);
}

#[test]
fn one_peer_that_cannot_be_reached_breaks_nothing_else() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "allow_private = true");
    node.user_add("alice");
    let mut alice = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    let relayed = alice.allocate().unwrap();
    let (bob, bobs) = peer();
    assert_eq!(alice.bind(0x4000, bobs), 0);
    // A port where nobody listens (ICMP says so at once), and networks to which there is no way from loopback.
    let closed = peer().1;
    for (number, unreachable) in
        (0x4001..).zip([closed, "240.0.0.1:9".parse().unwrap(), "198.51.100.1:9".parse().unwrap()])
    {
        let bound = alice.bind(number, unreachable);
        assert!([0, 403].contains(&bound), "{unreachable}: {bound}");
        for _ in 0..20 {
            alice.send_over(number, b"lost");
            alice.send_to(unreachable, b"lost");
        }
        alice.send_over(0x4000, b"hello");
        assert_eq!(heard(&bob).unwrap().0, b"hello", "after {unreachable}");
        bob.send_to(b"hello too", relayed).unwrap();
        assert_eq!(alice.receive().unwrap(), [&[0x40, 0, 0, 9], b"hello too".as_slice()].concat());
    }
}

#[test]
fn whoever_forges_a_source_gains_nothing_by_the_answers() {
    let ports = TurnPorts::reserve();
    let _node = node(&ports, "");
    let stranger = TurnClient::new(ports.plain(), Login { username: String::new(), password: String::new() });
    // The shortest requests that are answered at all, many of them from one address, as if it were a victim's.
    let (mut asked, mut answered) = (0, 0);
    for number in 0..2000_u64 {
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&number.to_be_bytes());
        let request = match number % 2 {
            0 => message(kind::BINDING, &transaction, &[]),
            _ => message(kind::ALLOCATE, &transaction, &[OVER_UDP]),
        };
        asked += request.len();
        stranger.send(&request);
    }
    while let Some(answer) = stranger.receive() {
        answered += answer.len();
    }
    assert!(answered > 0 && answered * 4 < asked, "{answered} bytes for {asked}");
}

#[test]
fn malformed_messages_get_no_answer_and_do_no_harm() {
    let ports = TurnPorts::reserve();
    let mut node = node(&ports, "");
    node.user_add("alice");
    let mut alice = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    let relayed = alice.allocate().unwrap();
    let good = message(kind::BINDING, &[7; 12], &[(0x8022, b"soft")]);
    let mut wrong_fingerprint = good.clone();
    put(&mut wrong_fingerprint, attribute::FINGERPRINT, &[1, 2, 3, 4]);
    let mut longer = good.clone();
    longer[3] += 4;
    let mut odd = good.clone();
    odd[3] -= 1;
    let mut attribute_too_long = good.clone();
    attribute_too_long[23] = 200;
    let mut cookie = good.clone();
    cookie[4] = 0;
    let many: Vec<(u16, &[u8])> = vec![(0x8022, &[]); 1000];
    let many = message(kind::BINDING, &[7; 12], &many);
    let answer = message(0x0101, &[7; 12], &[]);
    for bytes in [wrong_fingerprint, longer, odd, attribute_too_long, cookie, many, answer, vec![], vec![0], vec![0x40]]
    {
        alice.send(&bytes);
        assert!(alice.hears_nothing(), "{bytes:x?}");
    }
    for cut in 1..good.len() {
        alice.send(&good[..cut]);
    }
    for channel in [[0x40, 0, 0xff, 0xff], [0x7f, 0xff, 0, 0], [0x4f, 0xff, 0, 1], [0xff, 0xff, 0xff, 0xff]] {
        alice.send(&channel);
    }
    assert!(alice.hears_nothing());
    // Signed, and yet not to be done.
    assert_eq!(alice.ask(kind::CREATE_PERMISSION, &[]).code(), 400);
    assert_eq!(alice.ask(kind::CHANNEL_BIND, &[(attribute::CHANNEL_NUMBER, &[0x40])]).code(), 400);
    assert_eq!(alice.ask(kind::REFRESH, &[(attribute::LIFETIME, &[0; 3])]).code(), 400);
    assert_eq!(alice.ask(kind::REFRESH, &[(0x7abc, &[0; 4])]).code(), 420);
    assert_eq!(alice.ask(0x000f, &[]).code(), 400);
    let other = message(kind::ALLOCATE, &[8; 12], &[OVER_UDP, (attribute::MESSAGE_INTEGRITY, &[0; 20])]);
    assert_eq!(alice.exchange(&other).unwrap().code(), 400, "signed without a name");
    let again = alice.ask_plainly(kind::BINDING, &[]).unwrap();
    assert_eq!(again.address(attribute::XOR_MAPPED_ADDRESS), Some(alice.local()));
    assert!(node.is_running() && allocations(&node) == 1, "{relayed}");
}

#[test]
fn connections_that_make_no_sense_end_and_leave_room() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "");
    node.user_add("alice");
    for (server, tls) in [(ports.plain(), false), (ports.tls(), true)] {
        let mut nonsense = Wire::open(server, tls).unwrap();
        nonsense.send(b"\x80\x01GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(!nonsense.receive(&mut Vec::new(), SOON), "nonsense is hung up on");
    }
    // More at once than one address may hold; those beyond are closed at once, and no other is.
    let mut kept = Vec::new();
    for mut wire in (0..80).filter_map(|_| Wire::open(ports.plain(), false).ok()) {
        let mut answer = Vec::new();
        if wire.send(&message(kind::BINDING, &[1; 12], &[])).is_ok() && wire.receive(&mut answer, SOON) {
            kept.push(wire);
        }
    }
    assert_eq!(kept.len(), 64);
    let mut alice = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    assert!(alice.allocate().is_ok());
}
