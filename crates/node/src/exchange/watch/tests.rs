#![allow(clippy::unwrap_used)]
use meshtone_identity::NodeId;
use tempfile::TempDir;

use super::*;
use crate::person::belongings::Belongings;
use crate::person::history::{Direction, NewCall, Outcome};
use crate::store::Store;

const NOW: u64 = 1_800_000_000_000;

fn message(first: &str, call_id: &str, method: &str, more: &str) -> Message {
    let text = format!(
        "{first}\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\nFrom: <sip:alice@mesh.test>;tag=a\r\n\
         To: <sip:bob@mesh.test>\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n{more}\r\n"
    );
    Message::parse(bytes::Bytes::from(text)).unwrap()
}

fn request(method: &str, call_id: &str) -> Message {
    message(&format!("{method} sip:bob@mesh.test SIP/2.0"), call_id, method, "")
}

fn response(status: &str, call_id: &str) -> Message {
    message(&format!("SIP/2.0 {status}"), call_id, "INVITE", "")
}

fn flow() -> Flow {
    Flow::Udp { listener: 0, remote: ([192, 0, 2, 2], 5060).into() }
}

struct Scene {
    _folder: TempDir,
    history: Arc<History>,
    watches: Watches,
}

impl Scene {
    fn new() -> Scene {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let belongings = Belongings::open(store.clone(), NodeId::from_bytes([1; 32]), || NOW).unwrap();
        let history = Arc::new(History::open(&store, Arc::new(belongings)).unwrap());
        Scene { watches: Watches::new(1, history.clone()), history, _folder: folder }
    }

    fn begin(&self, call_id: &str) {
        let call = NewCall { direction: Direction::In, address: "alice@mesh.test", name: None, verified: true };
        let place = self.history.begin(NOW, "bob", &call);
        self.watches.begin(0, NOW, &request("INVITE", call_id), From::Flow(&flow()), Some(place));
    }

    fn came(&self, at_ms: u64, message: &Message) {
        self.watches.received(0, NOW + at_ms, &flow(), message);
    }

    fn went(&self, at_ms: u64, message: &Message) {
        self.watches.sent(0, NOW + at_ms, &Destination::Flow(flow()), false, message);
    }

    fn outcome(&self) -> Outcome {
        self.history.of("bob", None, 1)[0].outcome
    }
}

#[test]
fn a_call_is_followed_from_its_first_message_to_its_last() {
    let scene = Scene::new();
    scene.begin("one");
    scene.went(1, &response("100 Trying", "one"));
    scene.went(2, &response("407 Proxy Authentication Required", "one"));
    assert_eq!(scene.outcome(), Outcome::Ringing);
    scene.went(900, &response("200 OK", "one"));
    scene.went(950, &response("200 OK", "one"));
    assert_eq!(scene.outcome(), Outcome::Answered);
    scene.came(5000, &request("BYE", "one"));
    let entry = &scene.history.of("bob", None, 1)[0];
    assert_eq!((entry.answered_ms, entry.ended_ms), (Some(NOW + 900), Some(NOW + 5000)));
    let shown = scene.watches.find("one").unwrap();
    assert_eq!((shown.status, shown.ended_ms), (Some(200), Some(NOW + 5000)));
    let at: Vec<u64> = shown.messages.iter().map(|step| step.at_ms - NOW).collect();
    assert_eq!(at, [0, 1, 2, 900, 950, 5000]);
}

#[test]
fn a_ladder_begins_with_the_first_invite_and_its_challenge() {
    let scene = Scene::new();
    scene.came(0, &request("INVITE", "one"));
    scene.went(1, &response("100 Trying", "one"));
    scene.went(2, &response("407 Proxy Authentication Required", "one"));
    scene.came(3, &request("ACK", "one"));
    assert!(scene.watches.find("one").is_none(), "nobody has called yet");
    let again =
        message("INVITE sip:bob@mesh.test SIP/2.0", "one", "INVITE", "Proxy-Authorization: Digest response=\"x\"\r\n");
    scene.came(4, &again);
    let call = NewCall { direction: Direction::In, address: "alice@mesh.test", name: None, verified: true };
    let place = scene.history.begin(NOW + 4, "bob", &call);
    scene.watches.begin(0, NOW + 4, &again, From::Flow(&flow()), Some(place));
    scene.went(5, &response("180 Ringing", "one"));
    let shown = scene.watches.find("one").unwrap();
    let at: Vec<u64> = shown.messages.iter().map(|step| step.at_ms - NOW).collect();
    assert_eq!(at, [0, 2, 3, 4, 5]);
    assert!(shown.messages.iter().all(|step| !text_of(&step.message).contains("response=")));
}

#[test]
fn strangers_who_begin_no_call_are_forgotten() {
    let scene = Scene::new();
    for number in 0..10_000 {
        scene.came(0, &request("INVITE", &number.to_string()));
    }
    assert_eq!(scene.watches.watch(0).unwrap().beginnings.len(), MAX_BEGINNINGS);
    scene.watches.begin(0, NOW + BEGINS_WITHIN_MS + 1, &request("INVITE", "9999"), From::Anywhere, None);
    assert!(scene.watches.find("9999").unwrap().messages.is_empty(), "that was another one");
    assert!(scene.watches.watch(0).unwrap().beginnings.is_empty());
}

#[test]
fn who_gives_up_and_who_was_answered_elsewhere_are_told_apart() {
    for (reason, outcome) in [("", Outcome::Missed), ("Reason: SIP;cause=200;text=\"x\"\r\n", Outcome::Elsewhere)] {
        let scene = Scene::new();
        scene.begin("one");
        scene.came(1, &message("CANCEL sip:bob@mesh.test SIP/2.0", "one", "CANCEL", reason));
        scene.went(2, &message("SIP/2.0 200 OK", "one", "CANCEL", ""));
        scene.went(3, &response("487 Request Terminated", "one"));
        assert_eq!(scene.outcome(), outcome, "{reason}");
    }
}

#[test]
fn what_this_node_does_for_a_call_stands_in_its_ladder_and_decides_nothing() {
    let scene = Scene::new();
    scene.begin("near");
    scene.watches.belongs(0, "near", "far");
    scene.went(1, &request("INVITE", "far"));
    scene.came(2, &response("200 OK", "far"));
    scene.came(3, &request("BYE", "far"));
    assert_eq!(scene.outcome(), Outcome::Ringing);
    assert_eq!(scene.watches.find("far").unwrap().messages.len(), 4);
    scene.came(4, &request("BYE", "stranger"));
    assert!(scene.watches.find("stranger").is_none());
}

#[test]
fn a_branch_that_the_node_takes_itself_does_not_end_the_call() {
    let scene = Scene::new();
    scene.begin("one");
    let host = meshtone_sip::transport::Destination::Flow(flow());
    scene.watches.sent(0, NOW + 1, &host, true, &response("488 Not Acceptable Here", "one"));
    assert_eq!(scene.outcome(), Outcome::Ringing);
    scene.went(2, &response("200 OK", "one"));
    assert_eq!(scene.outcome(), Outcome::Answered);
}

#[test]
fn what_is_remembered_is_bounded_and_histories_do_without_ladders() {
    let scene = Scene::new();
    for number in 0..1000 {
        let call_id = number.to_string();
        scene.begin(&call_id);
        scene.went(1, &response("486 Busy Here", &call_id));
        assert_eq!(scene.outcome(), Outcome::Busy);
    }
    let shown = scene.watches.all().len();
    assert_eq!(shown, usize::try_from(LADDERS.burst).unwrap());
    let watched = scene.watches.watch(0).unwrap().calls.len();
    assert_eq!(watched, shown, "the others are forgotten");
    scene.watches.tidy(0, NOW + LONGEST_MS + 1);
    assert!(scene.watches.all().is_empty());
    for second in 0..100 {
        scene.watches.begin(0, NOW + 100_000 * second, &request("INVITE", &second.to_string()), From::Anywhere, None);
        (0..MAX_MESSAGES + 10)
            .for_each(|_| scene.went(100_000 * second, &response("180 Ringing", &second.to_string())));
    }
    let watch = scene.watches.watch(0).unwrap();
    assert!(watch.ladders.len() <= MAX_LADDERS && watch.bytes <= MAX_BYTES + MAX_MESSAGES * 1024);
    assert_eq!(watch.calls.len(), watch.ladders.len());
    drop(watch);
    let last = scene.watches.find("99").unwrap();
    assert_eq!((last.messages.len(), last.left_out), (MAX_MESSAGES, 10));
}

#[test]
fn registrations_are_not_looked_at() {
    assert!(!is_of_call(&request("REGISTER", "one")) && !is_of_call(&message("SIP/2.0 200 OK", "one", "REGISTER", "")));
    assert!(is_of_call(&request("BYE", "one")) && is_of_call(&response("200 OK", "one")));
}

#[test]
fn no_secret_and_nothing_harmful_is_shown() {
    let sdp = "v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=ice-pwd:hush\r\na=rtpmap:0 PCMU/8000\r\n";
    let text = format!(
        "INVITE sip:bob@mesh.test SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.2;branch=z9hG4bK1\r\nFrom: \"\u{1b}[31m\u{202e}Eve\" <sip:eve@mesh.test>;tag=a\r\n\
         To: <sip:bob@mesh.test>\r\nCall-ID: one\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
         Proxy-Authorization: Digest username=\"eve\",\r\n response=\"c0ffee\"\r\nAUTHORIZATION : Digest response=\"c0ffee\"\r\n\
         Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    let shown = text_of(&Message::parse(bytes::Bytes::from(text)).unwrap());
    for secret in ["c0ffee", "c2VjcmV0", "hush", "\u{1b}", "\u{202e}"] {
        assert!(!shown.contains(secret), "{secret:?} in {shown}");
    }
    assert!(shown.contains("a=rtpmap:0 PCMU/8000") && shown.contains("[redacted]") && shown.contains("Eve"));
}
