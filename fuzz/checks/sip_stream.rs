//! A stream: the pieces it arrives in make no difference, and a message from it is what a datagram would give.

use meshtone_sip::message::Message;
use meshtone_sip::stream::{StreamDecoder, StreamItem};

/// Cuts tried: a message or two, as the work grows with the square.
const CUTS_MAX: usize = 512;

/// Runs the check; the first byte chooses the size of the pieces. It panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let whole = items([stream].into_iter());
    assert_eq!(items(stream.chunks(usize::from(*size).max(1))), whole);
    assert_eq!(items(stream.chunks(1)), whole);
    // Two pieces, cut at every byte there is.
    for at in 1..stream.len().min(CUTS_MAX) {
        let (first, rest) = stream.split_at(at);
        assert_eq!(items([first, rest].into_iter()), whole, "cut at {at}");
    }
}

fn items<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut decoder = StreamDecoder::default();
    let mut found = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(None) => break,
                Ok(Some(StreamItem::Message(message))) => {
                    let again = Message::parse(message.bytes().clone()).expect("a framed message is one");
                    assert_eq!(again.bytes(), message.bytes());
                    assert_eq!(again.body(), message.body());
                    assert!(again.all_fields().eq(message.all_fields()));
                    found.push(format!("{:?}", message.bytes()));
                }
                Ok(Some(StreamItem::Bad(error, partial))) => found.push(format!("bad: {error} {partial:?}")),
                Ok(Some(StreamItem::KeepAlivePing)) => found.push("ping".to_owned()),
                Ok(Some(StreamItem::KeepAlivePong)) => found.push("pong".to_owned()),
                Err(lost) => {
                    assert!(matches!(decoder.next(), Ok(None)) && decoder.pending() == 0);
                    found.push(format!("lost: {} {:?}", lost.error, lost.partial));
                }
            }
        }
    }
    found
}
