//! What holds for any datagrams at a call's ports: the first byte says which port each came to, a length stands before it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use meshtone_media::relay::{End, Format, Port, Protection, Relay, Terms, Wishes};
use meshtone_media::srtp::{MasterKey, Opener, Sealer, Suite};

/// Carries the datagrams through a call of which one end speaks SRTP, and opens each as what it may be.
pub(crate) fn check(data: &[u8]) {
    let now = Instant::now();
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (near, far) = (SocketAddr::new(host, 4000), SocketAddr::new(host, 5000));
    let key = |seed: u8, suite| MasterKey::random(suite, &mut |bytes| bytes.fill(seed));
    let mut relay = Relay::new(now);
    let mut openers: Vec<Opener> = Suite::ALL.into_iter().map(|suite| Opener::new(&key(1, suite))).collect();
    let mut sealers: Vec<Sealer> = Suite::ALL.into_iter().map(|suite| Sealer::new(&key(3, suite))).collect();
    for (end, remote) in [(End::Near, near), (End::Far, far)] {
        let protection =
            (end == End::Far).then(|| Protection { ours: key(1, Suite::AesGcm), theirs: key(2, Suite::AesGcm) });
        let remote = Some(remote);
        let formats = (0..128).map(|format| Format::new(format, 8000)).collect();
        let terms = Terms {
            remote,
            remote_rtcp: remote,
            sends: true,
            formats,
            protection,
            dtls: None,
            ice: None,
            flow: None,
            events: None,
            wishes: Wishes { picture_loss: end == End::Near, full_intra: end == End::Far },
            carrier: None,
        };
        relay.handle_terms(now, end, vec![Some(terms)], Some(host));
    }
    let mut rest = data;
    while let [place, len, behind @ ..] = rest {
        let (datagram, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let end = if place & 1 == 0 { End::Near } else { End::Far };
        let port = Port { end, stream: 0, is_rtcp: place & 2 != 0 };
        let source = if end == End::Near { near } else { far };
        relay.handle_input(now, port, source, datagram);
        while let Some(transmit) = relay.poll_transmit() {
            // Nobody sends as the far end, whose key nothing here has.
            assert_eq!((end, transmit.destination), (End::Near, far));
            assert!(transmit.datagram.len() > datagram.len(), "what leaves for it is sealed");
        }
        for end in End::ALL {
            let score = relay.heard_by(end).map_or(1.0, |heard| heard.mean_opinion);
            assert!((1.0..=4.5).contains(&score), "{score}");
        }
        for (opener, sealer) in openers.iter_mut().zip(&mut sealers) {
            assert!(opener.open_rtp(datagram).is_err() && opener.open_rtcp(datagram).is_err(), "nobody knows the key");
            if let Ok(sealed) = sealer.seal_rtp(datagram) {
                assert!(sealed.len() > datagram.len());
            }
            if let Ok(sealed) = sealer.seal_rtcp(datagram) {
                assert!(sealed.len() > datagram.len());
            }
        }
    }
}
