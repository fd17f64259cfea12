//! The flows of RFC 3515 (REFER), message by message, with our agent on either side.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flows_support;

use bytes::Bytes;
use flows_support::{Part, Play, act, assert_played, assert_whole, page};
use meshtone_sip::message::{Header, Message};

const REFER: &str = "A>B B>A B>A A>B B>A A>B";
const A: (char, &str) = ('A', "agenta.atlanta.example.com");
const B: (char, &str) = ('B', "agentb.atlanta.example.com");

const RECEIVED: &str = "the page does not note where a request of a host by name came from (RFC 3261 §18.2.1)";
const CONTACT: &str = "the page repeats a Contact that has no meaning in an answer to NOTIFY (RFC 6665 §8.1.2)";

#[test]
fn every_page_is_here() {
    assert_whole("rfc3515", &["4.1", "4.2"], 12);
}

#[test]
fn a_refer_is_accepted_and_reported_on_as_the_page_shows() {
    let a: &[_] = &[
        (4, Part::Via, RECEIVED),
        (4, Part::Field(Header::Contact), CONTACT),
        (6, Part::Via, RECEIVED),
        (6, Part::Field(Header::Contact), CONTACT),
    ];
    let plays = vec![
        Play { except: a, ..act("rfc3515/4.1", A, REFER) },
        Play { except: &[(2, Part::Via, RECEIVED)], ..act("rfc3515/4.1", B, REFER) },
    ];
    assert_played(plays, false);
}

/// The call in which the second page's dialog lives on: the subscription of the first REFER, which alone made it on the page,
/// is over before the second (RFC 5057 §4.2).
fn call() -> Vec<Message> {
    let message = |start: &str, to_tag: &str, cseq: &str, branch: &str, contact: &str| {
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP agenta.atlanta.example.com;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             To: <sip:b@atlanta.example.com>{to_tag}\r\nFrom: <sip:a@atlanta.example.com>;tag=193402342\r\n\
             Call-ID: 898234234@agenta.atlanta.example.com\r\nCSeq: {cseq}\r\n{contact}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    };
    let (uri, tag) = ("sip:b@atlanta.example.com", ";tag=4992881234");
    let (alice, bob) = ("Contact: <sip:a@atlanta.example.com>\r\n", "Contact: <sip:b@atlanta.example.com>\r\n");
    vec![
        message(&format!("INVITE {uri} SIP/2.0"), "", "93809822 INVITE", "call1", alice),
        message("SIP/2.0 200 OK", tag, "93809822 INVITE", "call1", bob),
        message(&format!("ACK {uri} SIP/2.0"), tag, "93809822 ACK", "call2", ""),
    ]
}

/// The call, the first page within it, the second page.
fn within_a_call(ours: (char, &'static str)) -> Play {
    let mut first = page("rfc3515/4.1");
    let to = format!("{};tag=4992881234", first[0].header(Header::To).unwrap());
    first[0] = first[0].edit().set(Header::To, &to).finish();
    let messages = call().into_iter().chain(first).chain(page("rfc3515/4.2"));
    let steps = format!("A>B B>A A>B {REFER} {REFER}");
    let ends = steps.split(' ').map(|step| (step.chars().next().unwrap(), step.chars().nth(2).unwrap()));
    let script = ends.zip(messages).map(|((from, to), message)| (from, to, message)).collect();
    Play { script, ..act("rfc3515/4.2", ours, REFER) }
}

#[test]
fn a_second_refer_of_a_dialog_is_told_apart_as_the_page_shows() {
    const AS_A: [(usize, Part, &str); 8] = [
        (7, Part::Via, RECEIVED),
        (7, Part::Field(Header::Contact), CONTACT),
        (9, Part::Via, RECEIVED),
        (9, Part::Field(Header::Contact), CONTACT),
        (13, Part::Via, RECEIVED),
        (13, Part::Field(Header::Contact), CONTACT),
        (15, Part::Via, RECEIVED),
        (15, Part::Field(Header::Contact), CONTACT),
    ];
    const AS_B: [(usize, Part, &str); 3] =
        [(2, Part::Via, RECEIVED), (5, Part::Via, RECEIVED), (11, Part::Via, RECEIVED)];
    let plays = vec![Play { except: &AS_A, ..within_a_call(A) }, Play { except: &AS_B, ..within_a_call(B) }];
    assert_played(plays, false);
}
