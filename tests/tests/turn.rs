//! The node as a STUN and TURN server: coturn's client in all its modes, and what strangers and users must not be able to do with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use meshtone_tests::turn::{
    EchoPeer, Login, OVER_TCP, OVER_UDP, TurnClient, TurnPorts, TurnStream, assert_relays, attribute, kind, message,
    natdiscovery, put,
};
use meshtone_tests::wire::Wire;
use meshtone_tests::{DOMAIN, Mesh, MeshNode, SOON, eventually, eventually_some};
use serde_json::Value;

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
    let modes: [(&[&str], bool, _); 14] = [
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
        // Connections on both sides (RFC 6062): one client connects, the other takes it up. With `-P` it waits for a peer besides, which it
        // has not: half of its messages go nowhere, at coturn's own server too.
        (&["-T"], false, None),
        (&["-T", "-S"], true, None),
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
    assert!(turn()["relayed_bytes"].as_u64().unwrap() > 15 * 40 * 171);
    assert_eq!(turn()["peer_connections"], 0);
}

/// What comes over a connection until the other side ends it, or nothing more does for a while.
fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

#[test]
fn with_two_addresses_clients_find_out_what_box_they_are_behind() {
    let block = TurnPorts::reserve();
    let (one, other) = (block.plain().port(), block.tls().port());
    let second = Ipv4Addr::new(127, 0, 0, 2);
    let listen = [(Ipv4Addr::LOCALHOST, one), (Ipv4Addr::LOCALHOST, other), (second, one), (second, other)];
    let listen = listen.map(|(ip, port)| format!("\"{ip}:{port}\"")).join(", ");
    let mut node = MeshNode::unstarted("n1").with_domain(DOMAIN);
    node.run_configured(&format!("[turn]\nlisten = [{listen}]\n"));
    // coturn's client asks from other addresses and ports, as RFC 5780 has it.
    let found = natdiscovery(SocketAddr::new(LOOPBACK, one));
    assert!(found.contains("Endpoint Independent Mapping"), "{found}");
    assert!(found.contains("Endpoint Independent Filtering"), "{found}");
    // The answer comes from where it was asked to, and no more answers than without.
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let from = |change: u8| {
        let request = message(kind::BINDING, &[change; 12], &[(attribute::CHANGE_REQUEST, &[0, 0, 0, change])]);
        socket.send_to(&request, (LOOPBACK, one)).unwrap();
        heard(&socket).unwrap().1
    };
    let expected = [(0, LOOPBACK, one), (2, LOOPBACK, other), (4, second.into(), one), (6, second.into(), other)];
    for (change, ip, port) in expected {
        assert_eq!(from(change), SocketAddr::new(ip, port), "{change}");
    }
    let mut asked = 0;
    for number in 0..1000_u32 {
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&number.to_be_bytes());
        let request = message(kind::BINDING, &transaction, &[(attribute::CHANGE_REQUEST, &[0, 0, 0, 6])]);
        asked += request.len();
        socket.send_to(&request, (LOOPBACK, one)).unwrap();
    }
    let mut answered = 0;
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    while let Some((bytes, _)) = heard(&socket) {
        answered += bytes.len();
    }
    assert!(answered * 2 < asked, "{answered} bytes for {asked}");
}

#[test]
fn connections_with_peers_pass_whatever_is_said_and_end_together() {
    let ports = TurnPorts::reserve();
    // A twentieth of a second's worth at a time: it waits, and nothing of it is lost.
    let node = node(&ports, "allow_private = true\nuser_mbit = 16");
    node.user_add("alice");
    let login = Login::for_user(&node, "alice");
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let bob = listener.local_addr().unwrap();
    let mut alice = TurnStream::open(ports.plain(), login.clone());
    let relayed = alice.allocate().unwrap();

    // She connects to him: what he sends before she has taken the connection up waits for her.
    let id = alice.connect(bob).unwrap();
    let (mut peer, from) = listener.accept().unwrap();
    assert_eq!(from, relayed);
    peer.write_all(b"early").unwrap();
    let mut data = TurnStream::open(ports.plain(), login.clone()).join(id).unwrap();
    let long: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            data.write_all(&long).unwrap();
            data.shutdown(Shutdown::Write).unwrap();
        });
        let heard = scope.spawn(|| read_all(&mut peer.try_clone().unwrap()));
        assert!(heard.join().unwrap() == long, "all of it, in order");
    });
    // Hers said its last; his may still answer.
    peer.write_all(b" and late").unwrap();
    drop(peer);
    assert_eq!(read_all(&mut data), b"early and late");

    // He connects to her once she has permitted him, and to nobody else's way in.
    let mut refused = TcpStream::connect(relayed).unwrap();
    refused.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(read_all(&mut refused), b"", "hung up on at once");
    assert_eq!(alice.permit(bob), 0);
    let mut peer = TcpStream::connect(relayed).unwrap();
    let (id, who) = alice.attempt().unwrap();
    assert_eq!(who, peer.local_addr().unwrap());
    let mut data = TurnStream::open(ports.plain(), login.clone()).join(id).unwrap();
    data.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    peer.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    eventually(SOON, "the connection to be counted", || node.status()["turn"]["peer_connections"] == 1);

    // With what was allocated all of it ends.
    drop(alice);
    peer.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(read_all(&mut peer), b"");
    assert_eq!(read_all(&mut data), b"");
    eventually(SOON, "nothing to be left", || {
        let turn = node.status()["turn"].clone();
        turn["allocations"] == 0 && turn["peer_connections"] == 0
    });
}

#[test]
fn connections_with_peers_open_no_service_and_are_nobody_elses() {
    let ports = TurnPorts::reserve();
    let node = node(&ports, "");
    for user in ["alice", "mallory"] {
        node.user_add(user);
    }
    let login = Login::for_user(&node, "alice");
    let mut alice = TurnStream::open(ports.plain(), login.clone());
    let relayed = alice.allocate().unwrap();
    let service = TcpListener::bind((LOOPBACK, 0)).unwrap();
    service.set_nonblocking(true).unwrap();
    let services = service.local_addr().unwrap();
    let media = SocketAddr::new(LOOPBACK, *node.rtp().start());
    for peer in [
        services.to_string(),
        media.to_string(),
        ports.plain().to_string(),
        ports.tls().to_string(),
        node.sip().to_string(),
        "198.51.100.1:25".to_owned(),
        "0.0.0.0:8080".to_owned(),
        "10.0.0.1:8080".to_owned(),
        "192.168.1.1:8080".to_owned(),
        "169.254.169.254:8080".to_owned(),
        "224.0.0.251:8080".to_owned(),
        "255.255.255.255:8080".to_owned(),
        "[::1]:8080".to_owned(),
        "[::]:8080".to_owned(),
        format!("[::ffff:127.0.0.1]:{}", services.port()),
        "[fd00::1]:8080".to_owned(),
    ] {
        let peer: SocketAddr = peer.parse().unwrap();
        assert_eq!((alice.connect(peer), alice.permit(peer)), (Err(403), 403), "{peer}");
    }
    assert!(service.accept().is_err(), "what must not be reached was");

    // Another client's relayed address is a peer; the connection is its owner's alone.
    let mut other = TurnStream::open(ports.plain(), login.clone());
    let others = other.allocate().unwrap();
    assert_eq!(other.permit(relayed), 0);
    let id = alice.connect(others).unwrap();
    let mallory = Login::for_user(&node, "mallory");
    for (guess, refusal) in [(id, 401), (id + 7, 400)] {
        let thief = TurnStream::open(ports.plain(), mallory.clone());
        assert_eq!(thief.join(guess).err(), Some(refusal), "{guess}");
    }
    let unknown = Login { username: "alice".to_owned(), password: "guessed".to_owned() };
    assert_eq!(TurnStream::open(ports.plain(), unknown).join(id).err(), Some(401));
    assert!(TurnStream::open(ports.plain(), login.clone()).join(id).is_ok());
    assert_eq!(TurnStream::open(ports.plain(), login.clone()).join(id).err(), Some(400), "once");
    // A peer that cannot be reached breaks nothing: the others' go on, and it is told.
    let closed = TurnStream::open(ports.plain(), login).allocate().unwrap();
    eventually(SOON, "that allocation to end", || TcpStream::connect(closed).is_err());
    let refused = alice.connect(closed).unwrap_err();
    assert!([403, 447].contains(&refused), "{refused}");
    assert!(other.attempt().is_some());
    // By datagrams nobody gets one, and nobody anything without a login.
    let mut datagrams = TurnClient::new(ports.plain(), Login::for_user(&node, "alice"));
    assert_eq!(datagrams.ask(kind::ALLOCATE, &[OVER_TCP]).code(), 400);
    assert_eq!(datagrams.ask_plainly(kind::CONNECT, &[]).unwrap().code(), 401);
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
fn users_of_a_node_that_is_not_reached_log_in_at_the_server_of_one_that_is() {
    let ports = TurnPorts::reserve();
    let mut first = MeshNode::unstarted("n1").with_domain(DOMAIN);
    let turn = ports.settings(LOOPBACK, "allow_private = true\nuser_allocations = 2");
    first.run_configured(&format!("relay = \"on\"\n{turn}"));
    let second = MeshNode::joining("n2", &first.invite());
    let mesh = Mesh { nodes: vec![first, second] };
    mesh.wait_linked();
    mesh.user("alice");
    let given = eventually_some(SOON, "node 2 to be granted logins at node 1", || {
        let printed = mesh.node(2).command(&["turn-credentials", "alice"]);
        printed.status.success().then(|| serde_json::from_slice::<Value>(&printed.stdout).unwrap())
    });
    assert_eq!(given["urls"][0], format!("turn:{}?transport=udp", ports.plain()));
    let login = Login::of(&given);
    let mut alice = TurnClient::new(ports.plain(), login.clone());
    let relayed = alice.allocate().unwrap();
    let (bob, bobs) = peer();
    assert_eq!(alice.bind(0x4000, bobs), 0);
    alice.send_over(0x4000, b"hello");
    assert_eq!(heard(&bob).unwrap(), (b"hello".to_vec(), relayed));

    // Whoever has such a login can make no other of it: not a longer one, nor that of another node.
    let (until, rest) = login.username.split_once(':').unwrap();
    let (node, granted) = rest.split_once(':').unwrap();
    let (until, granted): (u64, u64) = (until.parse().unwrap(), granted.parse().unwrap());
    let second = mesh.node(2).status()["node"].as_str().unwrap().to_owned();
    assert_eq!(node, second);
    let first = mesh.node(1).status()["node"].as_str().unwrap().to_owned();
    for username in [
        format!("{}:{node}:{granted}", until + 1),
        format!("{until}:{first}:{granted}"),
        format!("{until}:{node}:{}", granted + 1),
        format!("{}:{node}:{}", granted + 1_000_000, granted + 1_000_000),
        format!("{until}:{node}"),
    ] {
        let stolen = Login { username: username.clone(), password: login.password.clone() };
        assert_eq!(TurnClient::new(ports.plain(), stolen).allocate(), Err(401), "{username}");
    }

    // All users of that node have together what one user of this node has, who has his own besides.
    mesh.user("bob");
    let theirs = || {
        eventually_some(SOON, "bob's account to reach node 2", || {
            let printed = mesh.node(2).command(&["turn-credentials", "bob"]);
            printed.status.success().then(|| Login::of(&serde_json::from_slice(&printed.stdout).unwrap()))
        })
    };
    let mut others = [0; 2].map(|_| TurnClient::new(ports.plain(), theirs()));
    assert_eq!([others[0].allocate().map(|_| ()), others[1].allocate().map(|_| ())], [Ok(()), Err(486)]);
    assert!(TurnClient::new(ports.plain(), Login::for_user(mesh.node(1), "alice")).allocate().is_ok());
    let users = || mesh.node(1).status()["turn"]["users"].clone();
    eventually(SOON, "the allocations to be counted", || {
        users()[0]["user"] == format!("node:{second}") && users()[0]["allocations"] == 2
    });

    // A node that is revoked takes its users with it.
    mesh.node(1).must(&["node", "revoke", &second]);
    eventually(SOON, "what they had to be taken back", || users().as_array().unwrap().len() == 1);
    assert_eq!(TurnClient::new(ports.plain(), login).allocate(), Err(401));
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
