//! A node that was let in, has a call of its own with an honest one, and sends into the calls of others, floods it and sends what is no media:
//! it is heard in its own call alone, and the others go on.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use meshtone_identity::Signer;
use meshtone_identity::passport::{Claims, Kind, Party};
use meshtone_media::roq::{Framed, pieces};
use meshtone_media::rtp::Packet;
use meshtone_node::authority::Settings;
use meshtone_overlay::link::Protocol;
use meshtone_tests::ScriptedPhone;
use meshtone_tests::tone::{ALICE_HZ, BOB_HZ, CAROL_HZ, mulaw_sine};
use meshtone_tests::voice::Voice;
use support::{Founder, Guest, PATIENCE, now_s};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{interval, timeout};

/// What a caller's node says of the flow by which it takes the sound.
const OWN_FLOW: u64 = 4;

/// How many flows on either side of somebody else's are tried: numbers of flows follow each other.
const TRIED: u64 = 32;

/// Nobody's tone but the rogue's.
const MALLORY_HZ: f64 = 1_400.0;

/// The datagrams of the flood: twice what its link may bring in a second.
const FLOOD: u32 = 8000;

/// A call of a guest's to a phone of the honest node.
struct Call {
    /// By which flow that node takes the sound.
    flow: u64,
    voice: Voice,
    _streams: Box<dyn std::any::Any + Send>,
}

/// A guest calls a phone of the honest node, as Alice, and it answers.
async fn call(honest: &Founder, guest: &Guest, callee: &str, hz: f64) -> Call {
    let sip = honest.node.summary().sip[0];
    let address = format!("sip:{callee}@mesh.test");
    let (mut phone, voice) = block_in_place(|| {
        let mut phone = ScriptedPhone::udp(SocketAddr::from((Ipv4Addr::LOCALHOST, sip.port()))).of(callee, "none");
        phone.register();
        (phone, Voice::at(Ipv4Addr::LOCALHOST, hz))
    });
    let host = format!("{}.peer.alt", guest.overlay.node_id());
    let alice = "sip:alice@mesh.test";
    let claims = Claims {
        kind: Kind::Plain,
        orig: Party::Uri(alice.to_owned()),
        dest: vec![Party::Uri(address.clone())],
        iat: now_s(),
        media_keys: Vec::new(),
    };
    let info = format!("sip:{host}");
    let signer: &dyn Signer = &*guest.membership.signer;
    let identity = format!("Identity: {};info=<{info}>;alg=ES256", claims.sign(&info, signer).unwrap());
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=audio 9 QUIC/RTP/AVPF 0\r\na=rtcp-mux\r\n\
         a=roq-flow-id:{OWN_FLOW}\r\n"
    );
    let invite = format!(
        "INVITE {address} SIP/2.0\r\nVia: SIP/2.0/PEER {host};branch=z9hG4bK{callee}\r\nMax-Forwards: 70\r\n\
         From: <{alice}>;tag=1\r\nTo: <{address}>\r\nCall-ID: {callee}\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{host}>\r\n\
         P-Asserted-Identity: <{alice}>\r\n{identity}\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    let opening = guest.overlay.open_stream(honest.id(), Protocol::Sip);
    let (mut send, mut recv) = timeout(PATIENCE, opening).await.unwrap().unwrap();
    send.write_all(invite.as_bytes()).await.unwrap();
    block_in_place(|| {
        let incoming = phone.incoming("INVITE");
        phone.reply(&incoming, 200, "OK", &voice.sdp());
        voice.talk_to(&incoming.body);
    });
    let mut received = String::new();
    let flow = loop {
        let mut buffer = [0; 4096];
        let count = timeout(PATIENCE, recv.read(&mut buffer)).await.expect("an answer").unwrap();
        assert!(count > 0, "the stream ended: {received}");
        received.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if let Some((_, rest)) = received.split_once("a=roq-flow-id:")
            && let Some((flow, _)) = rest.split_once("\r\n")
        {
            break flow.parse().unwrap();
        }
    };
    Call { flow, voice, _streams: Box::new((send, recv, phone)) }
}

/// A guest says a tone by these flows, until told to stop.
fn speak(honest: &Founder, guest: &Guest, flows: Vec<u64>, hz: f64, done: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (overlay, node, done) = (guest.overlay.clone(), honest.id(), Arc::clone(done));
    let sound = mulaw_sine(hz, 1);
    tokio::spawn(async move {
        let (mut ticks, mut sent) = (interval(Duration::from_millis(20)), 0);
        for (number, frame) in (0_u32..).zip(sound.chunks_exact(160).cycle()) {
            if done.load(Ordering::Relaxed) {
                break;
            }
            ticks.tick().await;
            for flow in &flows {
                let sequence_number = u16::try_from(number % 0x1_0000).unwrap();
                let (timestamp, ssrc) = (number * 160, 0x6666);
                let packet =
                    Packet { marker: false, payload_type: 0, sequence_number, timestamp, ssrc, payload: frame };
                for datagram in pieces(*flow, 0, &packet.to_bytes(), 1200) {
                    sent += u64::from(overlay.send_datagram(node, Bytes::from(datagram)));
                }
            }
        }
        sent
    })
}

/// What the honest node has dropped: flows of other neighbours, more than a link may bring, and what cannot be read.
fn dropped(honest: &Founder) -> [u64; 3] {
    let mut socket = UnixStream::connect(honest.data().join("control.sock")).unwrap();
    socket.write_all(b"GET /status HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let body = answer.find('{').map(|at| &answer[at..=answer.rfind('}').unwrap()]).expect(&answer);
    let status: serde_json::Value = serde_json::from_str(body).unwrap();
    ["foreign", "excess", "malformed"].map(|name| status["media_between"][name].as_u64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_sends_into_another_ones_call_is_heard_in_its_own_alone() {
    let mut honest = Founder::start_open(Settings::default()).await;
    let (friend, rogue) = (honest.guest().await, honest.guest().await);
    let heard_by_friend = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&heard_by_friend);
    friend.overlay.hear_datagrams(Arc::new(move |_, datagram: Bytes| {
        if Framed::parse(&datagram).is_some_and(|framed| framed.flow == OWN_FLOW) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let bobs = call(&honest, &friend, "bob", BOB_HZ).await;
    let carols = call(&honest, &rogue, "carol", CAROL_HZ).await;

    // The rogue is in a call itself, and tries that of Bob, and all flows about it, in the friend's numbers.
    let done = Arc::new(AtomicBool::new(false));
    let around: Vec<u64> = (0..=2 * TRIED).map(|step| bobs.flow.saturating_sub(TRIED * 4) + step * 4).collect();
    assert!(around.contains(&bobs.flow) && bobs.flow != carols.flow);
    let said = [
        speak(&honest, &friend, vec![bobs.flow], ALICE_HZ, &done),
        speak(&honest, &rogue, around, MALLORY_HZ, &done),
        speak(&honest, &rogue, vec![carols.flow], MALLORY_HZ, &done),
    ];
    bobs.voice.forget();
    block_in_place(|| {
        bobs.voice.assert_hears_not(ALICE_HZ, MALLORY_HZ);
        // She is not cut off either, and hears the rogue, who is in a call with her.
        carols.voice.assert_hears(MALLORY_HZ);
    });
    let [foreign, _, before] = block_in_place(|| dropped(&honest));
    assert!(foreign > 0, "it tried the other flow");

    // What is no media: nothing, flows that end too early, pieces of nothing, and chance.
    let mut noise = 0x2026_1201_u32;
    let mut random = move || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    };
    let to = honest.id();
    let own = pieces(carols.flow, 0, &[0x80; 12], 1200).into_iter().next().unwrap();
    for len in 0..own.len() {
        rogue.overlay.send_datagram(to, Bytes::copy_from_slice(&own[..len]));
    }
    for len in 0..400 {
        let chance: Vec<u8> = (0..len).map(|_| random()).collect();
        rogue.overlay.send_datagram(to, Bytes::from(chance));
    }
    // More than its share, by its own flow and by that of the other.
    for number in 0..FLOOD {
        let flow = if number % 2 == 0 { carols.flow } else { bobs.flow };
        let sequence_number = u16::try_from(number).unwrap();
        let packet = Packet {
            marker: false,
            payload_type: 0,
            sequence_number,
            timestamp: number * 160,
            ssrc: 0x6667,
            payload: &[0x2a; 160],
        };
        for datagram in pieces(flow, 0, &packet.to_bytes(), 1200) {
            rogue.overlay.send_datagram(to, Bytes::from(datagram));
        }
        if number % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    bobs.voice.forget();
    block_in_place(|| {
        bobs.voice.assert_hears_not(ALICE_HZ, MALLORY_HZ);
        let [_, excess, malformed] = dropped(&honest);
        assert!(excess > 0 && malformed > before, "{excess} {malformed}");
    });
    done.store(true, Ordering::Relaxed);
    for (task, least) in said.into_iter().zip([100, 3000, 100]) {
        let sent = task.await.unwrap();
        assert!(sent > least, "{sent} of {least}");
    }
    assert!(heard_by_friend.load(Ordering::Relaxed) > 100, "Bob is heard at the friend's");
    friend.overlay.shutdown().await;
    rogue.overlay.shutdown().await;
    honest.node.shutdown().await;
}
