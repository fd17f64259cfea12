//! The way from a QUIC connection to a link: hellos, tie-break, admission.

use std::sync::Arc;

use iroh::endpoint::{Connection, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::debug;

use super::hello::{Hello, HelloError, Peer};
use super::limits::{
    DIAL_TIMEOUT, DUPLICATE_WAIT, HELLO_TIMEOUT, MAX_HANDSHAKES, MAX_HELLO, RELAYED_DIAL_TIMEOUT, TIE_BREAK_WAIT,
    VALIDATE_FROM,
};
use super::relay::RelayPlace;
use super::table::{Shared, unix_ms};
use super::{ALPN, JOIN_ALPN, LinkError, PeerAddress, Protocol, code, endpoint};
use crate::dht::DIAL_BACK_TIMEOUT;
use meshtone_identity::{LinkKey, NodeId};

type OwnStream = (iroh::endpoint::SendStream, iroh::endpoint::RecvStream);

/// Dials a peer and makes a link of it.
pub(super) async fn dial(shared: &Arc<Shared>, peer: &PeerAddress, relays: &[RelayPlace]) -> Result<NodeId, LinkError> {
    let urls: Vec<_> = relays.iter().filter_map(|relay| shared.relays.visit(relay)).collect();
    let connecting = shared.endpoint.connect(endpoint::dial_address(peer, &urls)?, ALPN);
    let within = if urls.is_empty() { DIAL_TIMEOUT } else { RELAYED_DIAL_TIMEOUT };
    let connection = timeout(within, connecting)
        .await
        .map_err(|_| LinkError::Timeout)?
        .map_err(|error| LinkError::Unreachable(format!("{error:#}")))?;
    let Some(_introduction) = shared.may_introduce(peer.link_key) else {
        endpoint::close(&connection, code::DUPLICATE);
        return link_of_other_dial(shared, peer.link_key).await;
    };
    let serves = shared.serves();
    let shown = timeout(HELLO_TIMEOUT, introduce(shared, &connection, serves)).await.unwrap_or(Err(LinkError::Timeout));
    match shown {
        Ok((peer, own_stream)) => shared.admit(peer, connection, (true, serves), own_stream).await,
        Err(LinkError::ClosedByPeer(code::Code(reason))) if reason == u64::from(code::DUPLICATE) => {
            // The peer's own dial is to stay.
            link_of_other_dial(shared, peer.link_key).await
        }
        Err(error) => {
            endpoint::close(&connection, closing_code(&error));
            Err(error)
        }
    }
}

/// The link to this peer that another dial, ours or the peer's, makes any moment.
async fn link_of_other_dial(shared: &Shared, key: LinkKey) -> Result<NodeId, LinkError> {
    timeout(DUPLICATE_WAIT, shared.link_to(key)).await.map_err(|_| LinkError::Timeout)
}

/// Dials a peer as far as its link key is proved, and hangs up. Whether that was possible; none when we have stopped.
pub(super) async fn dial_back(shared: &Shared, peer: &PeerAddress) -> Option<bool> {
    let address = endpoint::dial_address(peer, &[]).ok()?;
    if shared.endpoint.is_closed() {
        return None;
    }
    match timeout(DIAL_BACK_TIMEOUT, shared.endpoint.connect(address, ALPN)).await {
        Ok(Ok(connection)) => {
            endpoint::close(&connection, code::GOODBYE);
            Some(true)
        }
        Ok(Err(_)) | Err(_) => Some(false),
    }
}

/// The dialling side of the hello.
async fn introduce(shared: &Shared, connection: &Connection, serves: bool) -> Result<(Peer, OwnStream), LinkError> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|_| endpoint::why_closed(connection))?;
    let mut greeting = vec![Protocol::Overlay.number()];
    greeting.extend(framed(&shared.hello(serves)));
    send.write_all(&greeting).await.map_err(|_| endpoint::why_closed(connection))?;
    let peer = read_hello(shared, connection, &mut recv).await?;
    Ok((peer, (send, recv)))
}

/// Accepts connections until the endpoint closes.
pub(super) async fn accept_all(shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!("a connection was turned away, too many have not said who they are");
            incoming.refuse();
            continue;
        };
        let crowded = MAX_HANDSHAKES - places.available_permits() > VALIDATE_FROM;
        if crowded && !incoming.remote_addr_validated() {
            // It fails only for addresses that are validated already.
            let _ = incoming.retry();
            continue;
        }
        tokio::spawn(accept(Arc::clone(&shared), incoming, place));
    }
}

/// Serves one inbound connection until it is a link, or an enrolment is answered, or it is refused.
async fn accept(shared: Arc<Shared>, incoming: Incoming, place: OwnedSemaphorePermit) {
    let connection = match timeout(HELLO_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return debug!(%error, "a connection failed"),
        Err(_) => return,
    };
    if connection.alpn() == JOIN_ALPN {
        // Its own, smaller bounds hold from here on.
        drop(place);
        match &shared.enrol {
            Some(desk) => desk.serve(&connection).await,
            None => endpoint::close(&connection, code::PROTOCOL),
        }
        return;
    }
    let serves = shared.serves();
    let greeted = timeout(HELLO_TIMEOUT, greet(&shared, &connection, serves)).await.unwrap_or(Err(LinkError::Timeout));
    let refused = match greeted {
        Ok((peer, own_stream)) => shared.admit(peer, connection.clone(), (false, serves), own_stream).await.err(),
        Err(error) => Some(error),
    };
    drop(place);
    if let Some(error) = refused {
        debug!(peer = %endpoint::remote_key(&connection).short(), %error, "a link was refused");
        endpoint::close(&connection, closing_code(&error));
    }
}

/// The accepting side of the hello: ours goes out only when the peer's was believed and there is room for it.
async fn greet(shared: &Shared, connection: &Connection, serves: bool) -> Result<(Peer, OwnStream), LinkError> {
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|_| endpoint::why_closed(connection))?;
    let mut tag = [0];
    recv.read_exact(&mut tag).await.map_err(|_| endpoint::why_closed(connection))?;
    if Protocol::from_number(tag[0]) != Some(Protocol::Overlay) {
        return Err(LinkError::Misbehaved("its first stream is not the link's own"));
    }
    let peer = read_hello(shared, connection, &mut recv).await?;
    if shared.own_key < peer.link_key {
        // Ours would stay, if there is one on its way. The peer must not wait for it in vain.
        let _ = timeout(TIE_BREAK_WAIT, shared.own_dials_ended(peer.link_key)).await;
    }
    if let Some(refusal) = shared.refusal(&peer) {
        endpoint::close(connection, refusal);
        return Err(LinkError::Busy(if refusal == code::BUSY { "links" } else { "links to that node" }));
    }
    send.write_all(&framed(&shared.hello(serves))).await.map_err(|_| endpoint::why_closed(connection))?;
    Ok((peer, (send, recv)))
}

async fn read_hello(
    shared: &Shared,
    connection: &Connection,
    recv: &mut iroh::endpoint::RecvStream,
) -> Result<Peer, LinkError> {
    let mut length = [0; 4];
    recv.read_exact(&mut length).await.map_err(|_| endpoint::why_closed(connection))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_HELLO {
        return Err(LinkError::Misbehaved("its hello is too large"));
    }
    let mut bytes = vec![0; length];
    recv.read_exact(&mut bytes).await.map_err(|_| endpoint::why_closed(connection))?;
    let hello = Hello::decode(&bytes)?;
    let peer = hello.verify(endpoint::remote_key(connection), &shared.authority, unix_ms() / 1000)?;
    if peer.node == shared.own_node {
        return Err(HelloError::OtherNode(peer.node).into());
    }
    if shared.revoked.contains(&peer.node) {
        return Err(HelloError::Revoked(peer.node).into());
    }
    Ok(peer)
}

fn framed(hello: &Hello) -> Vec<u8> {
    let bytes = hello.encode();
    let mut framed = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    framed.extend(bytes);
    framed
}

/// The code that tells the peer why we hang up.
fn closing_code(error: &LinkError) -> u32 {
    match error {
        LinkError::Peer(error) => error.code(),
        LinkError::Misbehaved(_) => code::MALFORMED,
        LinkError::Busy(_) => code::BUSY,
        LinkError::Timeout => code::SILENT,
        LinkError::Local(_)
        | LinkError::Stopped
        | LinkError::Unreachable(_)
        | LinkError::ClosedByPeer(_)
        | LinkError::NoLink => code::GOODBYE,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::net::UdpSocket;
    use std::time::Duration;

    use meshtone_identity::{Authority, Signer, SigningKey};
    use tokio::sync::mpsc;

    use super::super::table::{LinkConfig, LinkInput, Links};
    use super::*;

    async fn links(authority: &Authority, number: u8) -> (Links, mpsc::Receiver<LinkInput>, LinkKey) {
        let (key, link_secret, now) = (SigningKey::generate().unwrap(), [number; 32], unix_ms() / 1000);
        let link_key = LinkKey::from_secret(&link_secret).unwrap();
        let lifetime = Duration::from_secs(3600);
        let certificate = authority.certify_node(key.public_key(), link_key, [number; 16], now, lifetime).unwrap();
        let config = LinkConfig {
            bind: vec!["127.0.0.1:0".parse().unwrap()],
            link_secret,
            authority: authority.certificate().clone(),
            certificate,
            homes: Vec::new(),
            incarnation: u64::from(number),
            enrol: None,
            revoked: Default::default(),
            renewed: Default::default(),
            relay: None,
            salt: [0; 32],
        };
        let (links, inputs) = Links::start(config).await.unwrap();
        links.begin(true);
        (links, inputs, link_key)
    }

    #[tokio::test]
    async fn a_dial_for_others_finds_out_who_is_there_and_makes_no_link() {
        let authority = Authority::create(unix_ms() / 1000).unwrap().0;
        let (dialler, mut dialler_inputs, own) = links(&authority, 1).await;
        let (peer, mut peer_inputs, link_key) = links(&authority, 2).await;
        let at = |link_key, addrs| PeerAddress { link_key, addrs };
        assert_eq!(dialler.dial_back(&at(link_key, peer.addresses())).await, Some(true));
        // Somebody else answers there, or nobody does.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(dialler.dial_back(&at(own, peer.addresses())).await, Some(false));
        let (_, _, other) = links(&authority, 3).await;
        assert_eq!(dialler.dial_back(&at(other, vec![silent.local_addr().unwrap()])).await, Some(false));
        assert!(dialler.status().is_empty() && peer.status().is_empty());
        assert!(dialler_inputs.try_recv().is_err() && peer_inputs.try_recv().is_err());
        // Who is linked is no witness.
        dialler.dial(&at(link_key, peer.addresses())).await.unwrap();
        assert_eq!(dialler.dial_back(&at(link_key, peer.addresses())).await, None);
    }
}
