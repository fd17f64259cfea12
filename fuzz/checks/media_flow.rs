//! What holds for any datagrams on a link: the first byte says from which neighbour each came, a length stands before it.

use std::time::Instant;

use meshtone_media::relay::MAX_DATAGRAM_LEN;
use meshtone_media::roq::{Flows, Framed, Piece, pieces};

/// Takes the datagrams as a node with two calls does, and sends the very bytes as packets.
pub(crate) fn check(data: &[u8]) {
    let now = Instant::now();
    let mut flows = Flows::new(0);
    for neighbour in [0_u8, 1] {
        flows.open(now, neighbour, neighbour).expect("room for two");
    }
    let mut rest = data;
    while let [from, len, behind @ ..] = rest {
        let (datagram, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let from = from % 3;
        if let Some((stream, packet)) = flows.handle_datagram(now, from, datagram) {
            assert_eq!(stream, from, "only the neighbour whose flow it is");
            assert!(!packet.is_empty() && packet.len() <= MAX_DATAGRAM_LEN);
        }
        if let Some(Framed { flow, piece: Piece::Whole(packet) }) = Framed::parse(datagram) {
            let written = pieces(flow, 0, packet, MAX_DATAGRAM_LEN);
            if let Some(written) = written.first() {
                // It may have been written longer than it has to be.
                assert!(written.len() <= datagram.len() && written.ends_with(packet));
                assert_eq!(Framed::parse(written), Framed::parse(datagram));
            }
        }
    }
    for longest in [12, 64, 1200] {
        let mut joiner = meshtone_media::roq::Joiner::default();
        let joined: Vec<Vec<u8>> = pieces(4, 9, data, longest)
            .iter()
            .inspect(|datagram| assert!(datagram.len() <= longest))
            .filter_map(|datagram| joiner.take(Framed::parse(datagram).expect("ours").piece, MAX_DATAGRAM_LEN))
            .collect();
        assert!(joined.is_empty() || joined == [data]);
    }
}
