//! What a message says of media, in few words: where each stream is received, by which codecs, with which candidates.

use meshtone_media::codec::Codec;
use meshtone_media::sdp::{Connection, Media, Session};
use meshtone_sip::message::Message;

use crate::control::TracedStream;
use crate::text::harmless;

/// Codecs and candidates of a stream that are named; descriptions of browsers have some twenty of each.
const MAX_NAMED: usize = 32;
/// Characters of a codec's name, and of a candidate's.
const MAX_NAME: usize = 64;

/// The streams that a message describes; `None` where it describes nothing.
pub(super) fn streams(message: &Message) -> Option<Vec<TracedStream>> {
    let body = message.body();
    // Other bodies do not begin so (RFC 8866 §5.1).
    if !body.starts_with(b"v=0") {
        return None;
    }
    let session = Session::parse(body).ok()?;
    Some(session.media.iter().map(|media| stream(&session, media)).collect())
}

/// All of it in one sentence's part.
pub(super) fn sentence(streams: &[TracedStream]) -> String {
    let one = |stream: &TracedStream| {
        let Some(address) = &stream.address else { return format!("no {}", stream.kind) };
        let codecs =
            if stream.codecs.is_empty() { "nothing known by name".to_owned() } else { stream.codecs.join(", ") };
        let candidates = match stream.candidates.len() {
            0 => String::new(),
            _ => format!(", ICE candidates {}", stream.candidates.join(", ")),
        };
        format!("{} by {codecs} at {address} ({}{candidates})", stream.kind, stream.protocol)
    };
    let parts: Vec<String> = streams.iter().map(one).collect();
    if parts.is_empty() { "no media".to_owned() } else { parts.join("; ") }
}

fn stream(session: &Session<'_>, media: &Media<'_>) -> TracedStream {
    let address = match session.connection_of(media).filter(|_| media.port != 0) {
        Some(Connection::Address(ip)) => Some(std::net::SocketAddr::new(ip, media.port).to_string()),
        Some(Connection::Other) | None => None,
    };
    TracedStream {
        kind: harmless(media.kind, MAX_NAME),
        protocol: harmless(media.protocol, MAX_NAME),
        address,
        codecs: media.formats.iter().filter_map(|format| codec(media, format)).take(MAX_NAMED).collect(),
        candidates: media.values("candidate").filter_map(candidate).take(MAX_NAMED).collect(),
    }
}

/// The name of a format; none for what only goes beside a codec.
fn codec(media: &Media<'_>, format: &str) -> Option<String> {
    let payload_type: u8 = format.parse().ok()?;
    let map = media.rtpmaps.iter().find(|map| map.payload_type == payload_type);
    let name = match map {
        Some(map) => map.encoding,
        None => Codec::of_static(payload_type)?.name(),
    };
    let is_beside = ["telephone-event", "CN", "red", "rtx", "ulpfec", "flexfec-03"];
    (!is_beside.iter().any(|beside| name.eq_ignore_ascii_case(beside))).then(|| harmless(name, MAX_NAME))
}

/// Type and address of a candidate for RTP (RFC 8839 §5.1): `foundation component transport priority address port "typ" type …`.
fn candidate(value: &str) -> Option<String> {
    let mut words = value.split_ascii_whitespace().skip(1);
    let (component, transport, _, address) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (port, _, kind) = (words.next()?, words.next().filter(|word| *word == "typ")?, words.next()?);
    if component != "1" {
        return None;
    }
    let over = if transport.eq_ignore_ascii_case("udp") { "" } else { " over TCP" };
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    Some(harmless(&format!("{kind} {address}:{port}{over}"), MAX_NAME))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn described(body: &str) -> Option<Vec<TracedStream>> {
        let text = format!(
            "INVITE sip:bob@mesh.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\nFrom: <sip:a@mesh.test>;tag=a\r\n\
             To: <sip:bob@mesh.test>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        streams(&Message::parse(bytes::Bytes::from(text)).unwrap())
    }

    #[test]
    fn where_streams_are_by_which_codecs_and_which_candidates_is_told() {
        let streams = described(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n\
             m=audio 4000 RTP/SAVPF 111 0 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=candidate:1 1 UDP 2130706431 192.0.2.2 4000 typ host\r\n\
             a=candidate:1 2 UDP 2130706430 192.0.2.2 4001 typ host\r\n\
             a=candidate:2 1 udp 1 2001:db8::9 50000 typ relay raddr 192.0.2.2 rport 4000\r\n\
             a=candidate:3 1 tcp 1 192.0.2.2 9 typ host tcptype active\r\nm=video 0 RTP/AVP 96\r\n",
        )
        .unwrap();
        let (audio, video) = (streams.first().unwrap(), streams.get(1).unwrap());
        assert_eq!(audio.address.as_deref(), Some("192.0.2.2:4000"));
        assert_eq!(audio.codecs, ["opus", "PCMU"]);
        assert_eq!(audio.candidates, ["host 192.0.2.2:4000", "relay [2001:db8::9]:50000", "host 192.0.2.2:9 over TCP"]);
        assert_eq!((video.kind.as_str(), &video.address), ("video", &None));
        let sentence = sentence(&streams);
        assert!(
            sentence.starts_with("audio by opus, PCMU at 192.0.2.2:4000 (RTP/SAVPF, ICE candidates host "),
            "{sentence}"
        );
        assert!(sentence.ends_with("; no video"), "{sentence}");
    }

    #[test]
    fn what_is_no_description_says_nothing_and_nothing_said_does_harm() {
        assert_eq!(described(""), None);
        assert_eq!(described("hello"), None);
        let odd = "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 96 x\r\n\
                   a=rtpmap:96 \u{1b}[31m/8000\r\na=candidate:\r\na=candidate:1 1 UDP 1 a 1 type host\r\n";
        for stream in described(odd).into_iter().flatten() {
            assert!(!stream.codecs.concat().contains('\u{1b}') && stream.candidates.is_empty(), "{stream:?}");
        }
    }
}
