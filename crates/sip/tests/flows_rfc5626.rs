//! The flows of RFC 5626 (Outbound), message by message. We are no edge proxy: we take the part of the proxy with its registrar
//! behind the edge proxies, and of the server that is subscribed to. What the pages leave out (Via, Max-Forwards, and the
//! messages that an edge proxy passes on) is added by the edge proxies below, as §5.1 tells them to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flows_support;

use flows_support::{Part, Play, Step, assert_played, assert_whole, page};
use meshtone_sip::message::{Builder, Header, Message, NameAddr, Uri};
use meshtone_sip::stream::{StreamDecoder, StreamItem};

const PROXY: (char, &str) = ('P', "proxy.example.com");
const BOB: &str = "192.0.2.2";
const ALICE: &str = "192.0.2.20";

/// An edge proxy of the pages.
struct Edge {
    host: &'static str,
    ip: &'static str,
    /// Names Bob's flow there.
    token: &'static str,
    branch: &'static str,
}

const EP1: Edge = Edge {
    host: "ep1.example.com",
    ip: "192.0.2.15",
    token: "VskztcQ/S8p4WPbOnHbuyh5iJvJIW3ib",
    branch: "z9hG4bKnuiqisi",
};
const EP2: Edge =
    Edge { host: "ep2.example.com", ip: "192.0.2.16", token: "wazHDLdIMtUg6r0I/oRZ15zx3zHE1w1Z", branch: "z9hG4bKep2" };

impl Edge {
    fn via(&self) -> String {
        via(self.ip, self.branch)
    }

    /// What it sends on of Bob's (RFC 5626 §5.1, §5.3).
    fn passes(&self, request: &Message) -> Message {
        let mut editor = request.edit();
        let names_us = |route| Uri::parse(NameAddr::parse(route).unwrap().uri).unwrap().host == self.host;
        if request.values(Header::Route).next().is_some_and(names_us) {
            editor.pop_value(Header::Route);
        }
        let token = format!("sip:{}@{};lr", self.token, self.host);
        match request.method_name() {
            "REGISTER" => editor.append(Header::Path, &format!("<{token};ob>")),
            "INVITE" | "SUBSCRIBE" => editor.prepend(Header::RecordRoute, &format!("<{token}>")),
            _ => &mut editor,
        };
        let hops = request.max_forwards().unwrap().unwrap() - 1;
        editor.set(Header::MaxForwards, &hops.to_string()).prepend(Header::Via, &self.via()).finish()
    }
}

fn via(host: &str, branch: &str) -> String {
    format!("SIP/2.0/TCP {host};branch={branch}")
}

/// A message that the page abridged: with these Vias, and in a request as many hops left.
fn whole(message: &Message, vias: &[String], hops: u8) -> Message {
    let mut editor = message.edit();
    editor.remove(Header::Via);
    for via in vias.iter().rev() {
        editor.prepend(Header::Via, via);
    }
    if message.is_request() {
        editor.set(Header::MaxForwards, &hops.to_string());
    }
    editor.finish()
}

/// What comes back when the topmost Via has done its work.
fn back(response: &Message) -> Message {
    response.edit().pop_value(Header::Via).finish()
}

fn with(message: &Message, fields: &[(Header, &str)]) -> Message {
    let mut editor = message.edit();
    for (header, value) in fields {
        editor.append(*header, value);
    }
    editor.finish()
}

/// The 200 to a request, as the page's text describes it.
fn answer(request: &Message, tag: &str, fields: &[(Header, &str)]) -> Message {
    with(&Builder::response(request, 200, "OK").to_tag(tag).finish(), fields)
}

fn flow_of(reg_id: u32) -> String {
    format!(
        "<sip:bob@192.0.2.2;transport=tcp>;reg-id={reg_id};expires=3600;\
         +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\""
    )
}

fn scene(name: &str, ours: (char, &'static str), script: Vec<Step>) -> Play {
    Play { name: name.to_owned(), ours, script, except: &[], leaves_path: true, is_agent: false }
}

/// 9) to 16): Bob registers over two edge proxies.
fn registration() -> Play {
    let [first, ok_1, second, ok_2] = page("rfc5626/9.2").try_into().expect("four messages");
    let ok_2_at_edge = ok_2.edit().prepend(Header::Via, &EP2.via()).finish();
    let script = vec![
        ('B', '1', first.clone()),
        ('1', 'P', EP1.passes(&first)),
        ('P', '1', ok_1.clone()),
        ('1', 'B', back(&ok_1)),
        ('B', '2', second.clone()),
        ('2', 'P', EP2.passes(&second)),
        ('P', '2', ok_2_at_edge),
        ('2', 'B', ok_2),
    ];
    let except =
        &[(7, Part::Field(Header::Contact), "the page spells the instance in two ways that nobody registered")];
    Play { except, ..scene("rfc5626/9.2", PROXY, script) }
}

/// 21) to 34): EP1 has lost Bob's flow, and the call reaches him over EP2.
fn crash() -> Play {
    let file = page("rfc5626/9.3");
    let [alice, ours_1, ours_2] = [via(ALICE, "z9hG4bKa1"), via(PROXY.1, "z9hG4bKp1"), via(PROXY.1, "z9hG4bKp2")];
    let at_edge = |own: &str| vec![own.to_owned(), alice.clone()];
    let contact = [(Header::Contact, "<sip:alice@192.0.2.20;transport=tcp>")];
    let bobs = [(Header::Contact, "<sip:bob@192.0.2.2;transport=tcp>")];
    let failed = whole(&file[2], &at_edge(&ours_1), 0);
    let failed = failed.edit().set(Header::To, "Bob <sip:bob@example.com>;tag=ep1").finish();
    let ack = Builder::request("ACK", file[1].request_uri())
        .header(Header::Via, &ours_1)
        .header(Header::MaxForwards, "70")
        .header(Header::From, failed.header(Header::From).unwrap())
        .header(Header::To, failed.header(Header::To).unwrap())
        .header(Header::CallId, failed.call_id())
        .header(Header::CSeq, "1 ACK")
        .header(Header::Route, file[1].header(Header::Route).unwrap())
        .finish();
    let from_edge = with(&whole(&file[5], &at_edge(&ours_2), 0), &bobs);
    let at_bob: Vec<String> = [vec![EP2.via()], at_edge(&ours_2)].concat();
    let script = vec![
        ('A', 'P', with(&whole(&file[0], std::slice::from_ref(&alice), 70), &contact)),
        ('P', '1', with(&whole(&file[1], &at_edge(&ours_1), 69), &contact)),
        ('1', 'P', failed),
        ('P', '1', ack),
        ('P', '2', with(&whole(&file[3], &at_edge(&ours_2), 69), &contact)),
        ('2', 'B', with(&whole(&file[4], &at_bob, 68), &contact)),
        ('B', '2', with(&whole(&file[5], &at_bob, 0), &bobs)),
        ('2', 'P', from_edge.clone()),
        ('P', 'A', back(&from_edge)),
        ('A', '2', whole(&file[6], &[via(ALICE, "z9hG4bKa2")], 70)),
        ('A', '2', whole(&file[7], &[via(ALICE, "z9hG4bKa3")], 70)),
    ];
    scene("rfc5626/9.3", PROXY, script)
}

/// 38) to 41): Bob registers the flow that was lost again.
fn registration_again() -> Play {
    let again = whole(&page("rfc5626/9.4")[0], &[via(BOB, "z9hG4bKagain")], 70);
    let at_proxy = EP1.passes(&again);
    let (flow_1, flow_2) = (flow_of(1), flow_of(2));
    let fields = [
        (Header::Contact, flow_1.as_str()),
        (Header::Contact, &flow_2),
        (Header::Path, at_proxy.header(Header::Path).unwrap()),
        (Header::Require, "outbound"),
        (Header::Supported, "path, outbound"),
    ];
    let ok = answer(&at_proxy, "again", &fields);
    let script =
        vec![('B', '1', again.clone()), ('1', 'P', at_proxy.clone()), ('P', '1', ok.clone()), ('1', 'B', back(&ok))];
    scene("rfc5626/9.4", PROXY, script)
}

/// 42) to 53): Bob calls Alice over EP1.
fn outgoing_call() -> Play {
    let file = page("rfc5626/9.5");
    let invite = whole(&file[0], &[via(BOB, "z9hG4bKb1")], 70);
    let at_proxy = EP1.passes(&invite);
    let [bob, edge] = [via(BOB, "z9hG4bKb1"), EP1.via()];
    let at_alice = whole(&at_proxy, &[via(PROXY.1, "z9hG4bKp3"), edge, bob], 68);
    let route = at_proxy.header(Header::RecordRoute).unwrap().to_owned();
    let fields = [(Header::RecordRoute, route.as_str()), (Header::Contact, "<sip:alice@a.example>")];
    let ok = answer(&at_alice, "plqus8", &fields);
    let script = vec![
        ('B', '1', invite),
        ('1', 'P', at_proxy),
        ('P', 'A', at_alice),
        ('A', 'P', ok.clone()),
        ('P', '1', back(&ok)),
        ('1', 'B', back(&back(&ok))),
        ('B', '1', whole(&file[1], &[via(BOB, "z9hG4bKb2")], 70)),
    ];
    scene("rfc5626/9.5", PROXY, script)
}

/// 1) to 8): Bob fetches his configuration over EP1, of a server that is our agent.
fn configuration() -> Play {
    const TOKEN: &str = "GopIKSsn0oGLPXRdV9BAXpT3coNuiGKV";
    let edge = Edge { token: TOKEN, branch: "z9hG4bKcfg", ..EP1 };
    let [subscribe, notify] = page("rfc5626/9.1").try_into().expect("two messages");
    let at_server = edge.passes(&subscribe);
    let route = at_server.header(Header::RecordRoute).unwrap().to_owned();
    let fields = [(Header::RecordRoute, route.as_str()), (Header::Contact, "<sip:192.0.2.5;transport=tcp>")];
    let ok = answer(&at_server, "0983", &fields);
    let notify_ok = Builder::response(&notify, 200, "OK").finish();
    let script = vec![
        ('B', '1', subscribe),
        ('1', 'C', at_server),
        ('C', '1', ok.clone()),
        ('1', 'B', back(&ok)),
        ('C', '1', notify.clone()),
        ('1', 'B', edge.passes(&notify)),
        ('B', '1', notify_ok.edit().prepend(Header::Via, &edge.via()).finish()),
        ('1', 'C', notify_ok),
    ];
    let except = &[
        (5, Part::Field(Header::ContentType), "the page describes a body that it does not have"),
        (5, Part::Field(Header::Contact), "the page leaves out what RFC 6665 §8.1.1 asks for"),
    ];
    Play { except, is_agent: true, leaves_path: false, ..scene("rfc5626/9.1", ('C', "192.0.2.5"), script) }
}

#[test]
fn every_page_is_here() {
    assert_whole("rfc5626", &["3.2", "9.1", "9.2", "9.3", "9.4", "9.5"], 18);
}

#[test]
fn a_phone_registers_over_two_edge_proxies_is_reached_over_either_and_calls_as_the_pages_show() {
    assert_played(vec![registration(), crash(), registration_again(), outgoing_call()], true);
}

#[test]
fn a_configuration_is_told_over_an_edge_proxy_as_the_page_shows() {
    assert_played(vec![configuration()], false);
}

#[test]
fn a_flow_is_registered_without_an_edge_proxy_as_the_page_shows() {
    let register = page("rfc5626/3.2").remove(0);
    let contact = format!("{};expires=3600", register.header(Header::Contact).unwrap().replace(' ', ""));
    let fields =
        [(Header::Contact, contact.as_str()), (Header::Require, "outbound"), (Header::Supported, "path, outbound")];
    let script = vec![('B', 'R', register.clone()), ('R', 'B', answer(&register, "r", &fields))];
    assert_played(vec![scene("rfc5626/3.2", ('R', "example.com"), script)], false);
}

/// 17) to 20) and 35) to 37): what is said between requests.
#[test]
fn a_double_line_break_is_a_ping_and_a_single_one_its_answer() {
    let mut decoder = StreamDecoder::default();
    decoder.push(b"\r\n\r\n");
    assert!(matches!(decoder.next(), Ok(Some(StreamItem::KeepAlivePing))));
    decoder.push(b"\r\nREGISTER");
    assert!(matches!(decoder.next(), Ok(Some(StreamItem::KeepAlivePong))));
}
