//! Nodes behind routers of every kind: phones at them call each other, directly wherever there is a way and otherwise through relays that
//! nodes run, and go on talking when that way is lost.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use meshtone_tests::capture::Capture;
use meshtone_tests::lan::in_own_network;
use meshtone_tests::nat::{Kind, LINK, PAGES, Site};
use meshtone_tests::phone::{HangsUp, talk};
use meshtone_tests::router::{Asked, Miniupnpd};
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ};
use meshtone_tests::{Mesh, MeshNode, Phone, PhoneOptions, SOON, eventually, eventually_some};
use serde_json::Value;

const KINDS: [Kind; 6] =
    [Kind::Public, Kind::FullCone, Kind::AddressRestricted, Kind::PortRestricted, Kind::Symmetric, Kind::UdpBlocked];

/// The node stands between its phones and everybody else.
const ALWAYS: &str = "[media]\nanchor = \"always\"\n";

/// The longest silence when the way of a call is lost, whatever else this machine does meanwhile. Alone it takes about two seconds.
const SILENCE: Duration = Duration::from_secs(30);

/// Nodes of one domain behind boxes of these kinds; those without a box run relays.
struct Internet {
    sites: Vec<Site>,
    mesh: Mesh,
}

impl Internet {
    fn of(kinds: &[Kind]) -> Internet {
        Internet::at(Internet::sites(kinds))
    }

    fn sites(kinds: &[Kind]) -> Vec<Site> {
        (1..).zip(kinds).map(|(number, kind)| Site::new(number, *kind)).collect()
    }

    fn at(sites: Vec<Site>) -> Internet {
        let mut mesh = Mesh { nodes: vec![MeshNode::unstarted("n1").with_domain("mesh.test")] };
        mesh.nodes.extend((2..=sites.len()).map(|number| MeshNode::unstarted(&format!("n{number}"))));
        for (node, site) in mesh.nodes.iter_mut().zip(&sites) {
            node.live_behind(site);
            std::fs::write(node.settings(), ALWAYS).unwrap();
        }
        for (index, site) in sites.iter().enumerate() {
            let settings = mesh.nodes[index].settings();
            let mut arguments = vec!["--no-mdns", "--config", settings.to_str().unwrap()];
            let ticket = (index > 0).then(|| mesh.node(1).invite());
            arguments.extend(ticket.iter().flat_map(|ticket| ["--join", ticket]));
            if site.kind() == Kind::Public {
                arguments.extend(["--relay", "on"]);
            }
            mesh.nodes[index].run(&arguments);
        }
        Internet { sites, mesh }
    }

    /// A phone at the node with this number, from 1.
    fn phone(&self, number: usize, user: &str, hz: f64) -> Phone {
        let password = self.mesh.user(user);
        let home = self.sites[number - 1].phones();
        PhoneOptions::new(user, &password, self.mesh.sip(number), hz).living_at(home).start()
    }

    fn id(&self, number: usize) -> String {
        self.mesh.node(number).status()["node"].as_str().unwrap().to_owned()
    }

    /// The link of a node to another one, as its status says.
    fn link(&self, from: usize, to: &str) -> Option<Value> {
        let status = self.mesh.node(from).status();
        status["links"].as_array()?.iter().find(|link| link["node"] == to).cloned()
    }

    /// What the relays know of who reaches whom, settled: every node behind a box is found at two.
    fn wait_settled(&self) {
        for (node, site) in self.mesh.nodes.iter().zip(&self.sites) {
            let wanted = if site.kind() == Kind::Public { 1 } else { 2 };
            let what = format!("{} to be found at relays", node.name());
            eventually(SOON * 3, &what, || {
                node.status()["relays"]
                    .as_array()
                    .is_some_and(|relays| relays.iter().filter(|relay| relay["is_connected"] == true).count() >= wanted)
            });
        }
    }

    /// Whether every node says in which kind of network it is, and what that means.
    fn assert_networks_are_told(&self) {
        for (node, site) in self.mesh.nodes.iter().zip(&self.sites) {
            let (classes, word): (&[&str], _) = match site.kind() {
                Kind::Public => (&["public", "unproved"], "directly"),
                Kind::FullCone => (&["cone", "open"], "directly"),
                Kind::AddressRestricted | Kind::PortRestricted => (&["cone"], "directly"),
                Kind::Symmetric => (&["symmetric"], "through a relay"),
                Kind::UdpBlocked => (&["udp-blocked"], "over TCP"),
            };
            let check = || serde_json::from_str::<Value>(&node.must(&["netcheck", "--json"])).unwrap();
            let what = format!("{} to know that it is behind {:?}", node.name(), site.kind());
            eventually(SOON * 2, &what, || classes.iter().any(|class| check()["class"] == *class));
            let said = node.must(&["netcheck"]);
            assert!(said.contains(word), "{:?}: {said}", site.kind());
            let is_relay = site.kind() == Kind::Public;
            assert_eq!(check()["is_relay"], is_relay, "{said}");
        }
    }

    /// Whether a call to the node with this number is told to go through a relay, and why one fails once that node has lost its power.
    fn assert_calls_are_traced(&mut self, number: usize) {
        let from = KINDS.iter().position(|kind| *kind == Kind::Symmetric).unwrap() + 1;
        let user = "dave";
        let phone = self.phone(number, user, BOB_HZ);
        let trace = |internet: &Internet, target: &str| internet.mesh.node(from).trace(target);
        let step = |trace: &Value, what: &str| {
            let steps = trace["steps"].as_array().unwrap();
            steps.iter().find(|step| step["what"] == what).cloned().unwrap_or_default()
        };
        eventually(SOON, "a call to be traced to the end", || trace(self, user)["works"] == true);
        let works = trace(self, user);
        assert!(step(&works, "link")["says"].as_str().unwrap().contains("through the relay of node"), "{works}");
        assert!(
            step(&works, "record")["says"].as_str().unwrap().contains("The signature and the certificates hold"),
            "{works}"
        );
        let nobody = trace(self, "nobody@mesh.test");
        assert_eq!(
            (&nobody["works"], step(&nobody, "here")["ok"].as_bool()),
            (&Value::Bool(false), Some(false)),
            "{nobody}"
        );

        self.mesh.node_mut(number).kill9();
        phone.unplug();
        // Six seconds of silence end a link.
        eventually(SOON, "the silence to be noticed", || trace(self, user)["works"] == false);
        let fails = trace(self, user);
        assert_eq!((&fails["works"], fails["side"].as_str()), (&Value::Bool(false), Some("the network")), "{fails}");
        assert_eq!(step(&fails, "link")["ok"], false, "{fails}");
        let printed = self.mesh.node(from).must(&["trace", user]);
        assert!(printed.contains("FAIL link") && printed.contains("there is no way to it"), "{printed}");
    }

    /// Whether nothing was sent to anybody but these nodes, their routers, and phones.
    fn assert_kept_to_itself(&self, capture: &Capture) {
        let ours = |host: &Ipv4Addr| {
            let is_site = self
                .sites
                .iter()
                .any(|site| [site.public(), site.later_public(), site.phones(), site.for_phones()].contains(host));
            // Nodes try each other at the addresses that they have at home, too.
            is_site || host.is_loopback() || host.octets().starts_with(&[192, 168, 1])
        };
        let strangers: Vec<Ipv4Addr> = capture.destinations().into_iter().filter(|host| !ours(host)).collect();
        assert!(strangers.is_empty(), "packets left for {strangers:?}");
        assert!(!capture.reached_port(53), "somebody asked the DNS");
        // PCP and SSDP: who is not behind a router asks nobody, who is asks that one alone.
        assert!(!capture.reached_port(5351) && !capture.reached_port(1900), "somebody asked a router that is not his");
    }
}

/// Whether there is a direct way between machines behind two boxes: where UDP gets out at both, and one at least is seen at the same
/// address by everybody and lets in whoever its machine has spoken to, from whatever port he comes (RFC 4787 §4 and §5).
fn is_direct(one: Kind, other: Kind) -> bool {
    let pair = [one, other];
    let has = |kind| pair.contains(&kind);
    if has(Kind::UdpBlocked) {
        return false;
    }
    !(has(Kind::Symmetric) && (has(Kind::PortRestricted) || pair == [Kind::Symmetric; 2]))
}

#[test]
fn phones_behind_boxes_of_every_kind_call_each_other_and_no_packet_leaves_for_anybody_else() {
    if !in_own_network("phones_behind_boxes_of_every_kind_call_each_other_and_no_packet_leaves_for_anybody_else") {
        return;
    }
    let capture = Capture::start();
    let mut internet = Internet::of(&[KINDS, KINDS].concat());
    internet.wait_settled();
    let count = KINDS.len();
    let mut callers: Vec<Phone> =
        (0..count).map(|index| internet.phone(index + 1, &format!("alice{index}"), ALICE_HZ)).collect();
    let mut callees: Vec<Phone> =
        (0..count).map(|index| internet.phone(count + index + 1, &format!("bob{index}"), BOB_HZ)).collect();
    let ids: Vec<String> = (0..count).map(|index| internet.id(count + index + 1)).collect();
    // Five nodes hold each.
    let held = || internet.mesh.nodes.iter().map(|node| node.records("sip-registration")).sum::<u64>();
    eventually(SOON * 2, "all to be found", || held() >= 2 * 3 * count as u64);
    for round in 0..count {
        std::thread::scope(|scope| {
            // Whoever has the number `(index + round) % count` is called by `index`.
            callees.rotate_left(usize::from(round > 0));
            for (caller, callee) in callers.iter_mut().zip(&mut callees) {
                scope.spawn(move || {
                    let target = format!("sip:{}@mesh.test", callee.user());
                    talk(caller, callee, &target, HangsUp::Caller);
                });
            }
        });
        for (index, one) in KINDS.into_iter().enumerate() {
            let other = (index + round) % count;
            let two = KINDS[other];
            let wanted = if is_direct(one, two) { "direct" } else { "relayed" };
            eventually(SOON * 2, &format!("{one:?} and {two:?} to be linked, {wanted}"), || {
                internet.link(index + 1, &ids[other]).is_some_and(|link| {
                    let path = link["path"].as_str().unwrap_or_default();
                    (path == "relayed") == (wanted == "relayed") && (path != "relayed" || link["relay"].is_string())
                })
            });
        }
    }
    internet.assert_kept_to_itself(&capture);
    internet.assert_networks_are_told();
    drop((callers, callees));
    let silent = count + KINDS.iter().position(|kind| *kind == Kind::Symmetric).unwrap() + 1;
    internet.assert_calls_are_traced(silent);
}

/// Two phones that talk, and what their nodes send them.
struct Talk<'a> {
    internet: &'a Internet,
    capture: &'a Capture,
    nodes: [usize; 2],
}

impl Talk<'_> {
    /// Packets that each of the two phones got, most of them sound.
    fn heard(&self) -> [usize; 2] {
        self.nodes.map(|number| {
            let site = &self.internet.sites[number - 1];
            self.capture.packets(site.for_phones(), site.phones())
        })
    }

    /// Waits until both phones hear a second of sound again, and returns how long the silence was.
    fn silence_since(&self, lost: Instant, what: &str) -> Duration {
        let before = self.heard();
        let second = 50;
        eventually(SILENCE, &format!("sound after {what}"), || {
            self.heard().iter().zip(before).all(|(now, before)| *now >= before + second)
        });
        let silence = lost.elapsed().saturating_sub(Duration::from_secs(1));
        eprintln!("silence after {what}: {:.1} s", silence.as_secs_f64());
        silence
    }

    /// Waits until neither hears anything.
    fn wait_silent(&self) {
        let mut before = (Instant::now(), self.heard());
        eventually(SOON, "silence", || {
            if before.0.elapsed() < Duration::from_millis(400) {
                return false;
            }
            let was = std::mem::replace(&mut before, (Instant::now(), self.heard())).1;
            self.heard().iter().zip(was).all(|(now, was)| *now < was + 4)
        });
    }
}

#[test]
fn a_call_outlives_its_relay_new_addresses_and_a_line_that_is_gone_for_a_while() {
    if !in_own_network("a_call_outlives_its_relay_new_addresses_and_a_line_that_is_gone_for_a_while") {
        return;
    }
    let capture = Capture::start();
    let kinds = [Kind::Public, Kind::Public, Kind::Public, Kind::Symmetric, Kind::Symmetric];
    let mut internet = Internet::of(&kinds);
    internet.wait_settled();
    let (mut alice, mut bob) = (internet.phone(4, "alice", ALICE_HZ), internet.phone(5, "bob", BOB_HZ));
    internet.mesh.node(1).wait_records("sip-registration", 2);
    let (here, there) = (internet.id(4), internet.id(5));
    let relay_of = |internet: &Internet| {
        let link = internet.link(4, &there)?;
        Some(link["relay"].as_str()?.to_owned())
    };
    alice.dial("sip:bob@mesh.test");
    bob.wait_established();
    alice.wait_established();
    alice.wait_recorded();
    bob.wait_recorded();
    let relay = eventually_some(SOON, "a relayed link", || relay_of(&internet));
    let number = (1..=3).find(|number| internet.id(*number) == relay).expect("a node of ours");

    internet.mesh.node_mut(number).kill9();
    let lost = Instant::now();
    Talk { internet: &internet, capture: &capture, nodes: [4, 5] }.silence_since(lost, "the death of the relay");
    let other = eventually_some(SOON, "another relay", || relay_of(&internet));
    assert_ne!(other, relay);

    let talk_of_two = Talk { internet: &internet, capture: &capture, nodes: [4, 5] };
    internet.sites[4].move_to_another_address();
    talk_of_two.silence_since(Instant::now(), "a change of address");
    internet.sites[3].change_public_address();
    talk_of_two.silence_since(Instant::now(), "a change of the line's address");
    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);

    // Another call, since their tones end some time. Nobody talks while the line gets its next address, and who calls then is not
    // kept waiting.
    alice.forget_recordings();
    bob.forget_recordings();
    internet.sites[4].change_public_address();
    let moved = Instant::now();
    bob.dial("sip:alice@mesh.test");
    alice.wait_established();
    bob.wait_established();
    eprintln!("called from another address after {:.1} s", moved.elapsed().as_secs_f64());
    bob.hang_up();
    alice.wait_closed(SOON);
    alice.dial("sip:bob@mesh.test");
    bob.wait_established();
    eprintln!("called at another address after {:.1} s", moved.elapsed().as_secs_f64());
    alice.wait_established();
    alice.wait_recorded();
    bob.wait_recorded();
    internet.sites[3].set_line(false);
    let gone = Instant::now();
    talk_of_two.wait_silent();
    let away = Duration::from_secs(20);
    eventually(away * 2, "the line to have been gone for long", || gone.elapsed() >= away);
    internet.sites[3].set_line(true);
    talk_of_two.silence_since(Instant::now(), "twenty seconds without a line");

    alice.hang_up();
    bob.wait_closed(SOON);
    alice.assert_heard(BOB_HZ);
    bob.assert_heard(ALICE_HZ);
    assert!(internet.link(5, &here).is_some());
    internet.assert_kept_to_itself(&capture);
}

#[test]
fn nodes_whose_router_lets_others_in_are_called_directly_whatever_it_does_with_other_packets() {
    if !in_own_network("nodes_whose_router_lets_others_in_are_called_directly_whatever_it_does_with_other_packets") {
        return;
    }
    let capture = Capture::start();
    let kinds = [Kind::Public, Kind::Public, Kind::Symmetric, Kind::Symmetric, Kind::Symmetric, Kind::PortRestricted];
    let (by_pcp, by_upnp, closed, strict) = (3, 4, 5, 6);
    let sites = Internet::sites(&kinds);
    let mut pcp = Miniupnpd::start(&sites[by_pcp - 1], Asked::Pcp);
    let upnp = Miniupnpd::start(&sites[by_upnp - 1], Asked::Upnp);
    let mut internet = Internet::at(sites);
    let mapping =
        |internet: &Internet, number: usize| internet.mesh.node(number).status()["network"]["port_mapping"].clone();
    for (number, protocol) in [(by_pcp, "PCP"), (by_upnp, "UPnP")] {
        let what = format!("the router to open ports by {protocol}");
        eventually(SOON * 2, &what, || mapping(&internet, number)["protocol"] == protocol);
        let outside = format!("{}:{LINK}", internet.sites[number - 1].public());
        let ports = mapping(&internet, number)["ports"].as_array().unwrap().clone();
        assert!(
            ports.iter().any(|port| port["transport"] == "UDP" && port["outside"] == outside.as_str()),
            "{ports:?}"
        );
        assert!(ports.iter().any(|port| port["transport"] == "TCP" && port["port"] == PAGES), "{ports:?}");
        let said = internet.mesh.node(number).must(&["netcheck"]);
        assert!(said.contains(&outside) && said.contains(protocol) && said.contains("directly"), "{said}");
    }
    let refused = mapping(&internet, closed);
    assert!(refused["ports"].as_array().is_some_and(Vec::is_empty) && refused["is_allowed"] == true, "{refused}");

    internet.wait_settled();
    let calls = [(closed, by_pcp), (strict, by_upnp), (by_upnp, by_pcp)];
    let phone = |number: usize, user: &str, hz| internet.phone(number, user, hz);
    let mut pairs: Vec<(Phone, Phone)> = calls
        .iter()
        .enumerate()
        .map(|(index, (from, to))| {
            (phone(*from, &format!("alice{index}"), ALICE_HZ), phone(*to, &format!("bob{index}"), BOB_HZ))
        })
        .collect();
    let held = || internet.mesh.nodes.iter().map(|node| node.records("sip-registration")).sum::<u64>();
    eventually(SOON * 2, "all to be found", || held() >= 3 * 2 * calls.len() as u64);
    std::thread::scope(|scope| {
        for (caller, callee) in &mut pairs {
            scope.spawn(move || {
                let target = format!("sip:{}@mesh.test", callee.user());
                talk(caller, callee, &target, HangsUp::Caller);
            });
        }
    });
    for (from, to) in calls {
        let id = internet.id(to);
        eventually(SOON * 2, &format!("{from} and {to} to be linked directly"), || {
            internet.link(from, &id).is_some_and(|link| link["path"].as_str().is_some_and(|path| path != "relayed"))
        });
    }
    drop(pairs);

    // A router that has lost its power has forgotten everything.
    pcp.restart();
    assert_eq!(pcp.lets_in(), "");
    eventually(SOON * 3, "the router to be asked again", || pcp.lets_in().contains(&LINK.to_string()));
    // What was opened is closed at the end.
    assert!(upnp.lets_in().contains(&PAGES.to_string()), "{}", upnp.lets_in());
    for number in [by_pcp, by_upnp] {
        assert_eq!(internet.mesh.node_mut(number).terminate(), Some(0));
    }
    assert_eq!((pcp.lets_in(), upnp.lets_in()), (String::new(), String::new()));
    internet.assert_kept_to_itself(&capture);
}
