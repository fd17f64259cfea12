//! What two neighbours say of revoked nodes, over a stream of its own.
//!
//! Who opens it says its version (1 byte) and the SHA-256 of the ids that it knows (in order). Who answers says its version and 0 where it
//! knows the same ones; else 1 and all its statements, upon which the other sends those that were not among them. A later version adds at
//! the end of the first message, and is answered in this one.

use std::collections::BTreeSet;
use std::io;

use meshtone_identity::id::sha256;
use meshtone_identity::revocation::ENCODED;
use meshtone_identity::{NodeId, Revocation};
use meshtone_overlay::record::revoked::MAX_REVOKED;
use meshtone_overlay::{IncomingStream, Overlay, Protocol};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::Revocations;

const VERSION: u8 = 1;
const SAME: u8 = 0;
const OTHERS: u8 = 1;
/// Version, kind, statements.
const MAX_MESSAGE: usize = 2 + MAX_REVOKED * ENCODED;
const GREETING: usize = 1 + 32;

/// Tells a neighbour what this node knows, and hears what that one does.
pub(super) async fn tell(this: &Revocations, overlay: &Overlay, node: NodeId) -> io::Result<()> {
    let opened = overlay.open_stream(node, Protocol::Revocations).await;
    let (mut send, mut recv) = opened.map_err(io::Error::other)?;
    let known = this.0.revoked.all();
    send.write_all(&[&[VERSION], &digest(&known)[..]].concat()).await?;
    let answer = read_to_end(&mut recv).await?;
    if let Some(theirs) = others(&answer)? {
        let heard: BTreeSet<&[u8; ENCODED]> = theirs.iter().collect();
        for said in known.iter().filter(|said| !heard.contains(said.encoded())) {
            send.write_all(said.encoded()).await?;
        }
        send.shutdown().await?;
        this.take_on_thread(theirs).await;
    }
    Ok(())
}

/// Answers a neighbour that tells.
pub(super) async fn answer(this: Revocations, stream: IncomingStream) -> io::Result<()> {
    let IncomingStream { mut send, mut recv, .. } = stream;
    let mut greeting = [0; GREETING];
    recv.read_exact(&mut greeting).await?;
    let known = this.0.revoked.all();
    if greeting.last_chunk() == Some(&digest(&known)) {
        send.write_all(&[VERSION, SAME]).await?;
        return send.shutdown().await;
    }
    send.write_all(&[VERSION, OTHERS]).await?;
    for said in &known {
        send.write_all(said.encoded()).await?;
    }
    send.shutdown().await?;
    let told = read_to_end(&mut recv).await?;
    this.take_on_thread(statements(&told)?).await;
    Ok(())
}

async fn read_to_end(recv: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_add(1);
    recv.take(bound).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// What the other knows, where that is not the same.
fn others(answer: &[u8]) -> io::Result<Option<Vec<[u8; ENCODED]>>> {
    match answer {
        [VERSION, SAME, ..] => Ok(None),
        [VERSION, OTHERS, rest @ ..] => statements(rest).map(Some),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn statements(bytes: &[u8]) -> io::Result<Vec<[u8; ENCODED]>> {
    let (statements, rest) = bytes.as_chunks::<ENCODED>();
    if !rest.is_empty() || statements.len() > MAX_REVOKED {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(statements.to_vec())
}

fn digest(known: &[Revocation]) -> [u8; 32] {
    let ids: Vec<u8> = known.iter().flat_map(|said| *said.node().as_bytes()).collect();
    sha256(&ids)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn answers_are_read_and_what_is_none_is_refused() {
        assert_eq!(others(&[VERSION, SAME]).unwrap(), None);
        assert_eq!(others(&[VERSION, SAME, 7, 7]).unwrap(), None, "a later version's");
        assert_eq!(others(&[VERSION, OTHERS]).unwrap(), Some(Vec::new()));
        let two = [&[VERSION, OTHERS][..], &[5; 2 * ENCODED]].concat();
        assert_eq!(others(&two).unwrap().unwrap().len(), 2);
        let most = [&[VERSION, OTHERS][..], &vec![5; (MAX_REVOKED + 1) * ENCODED]].concat();
        for wrong in [&[][..], &[VERSION], &[VERSION, 9], &[9, SAME], &two[..two.len() - 1], &most] {
            assert!(others(wrong).is_err());
        }
    }
}
