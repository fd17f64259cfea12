//! How bindings look in the store: CBOR arrays with a version in front.

use std::net::SocketAddr;

use meshtone_sip::registrar::{Binding, Feature};
use meshtone_sip::transport::{Flow, Transport};
use serde::{Deserialize, Serialize};

/// Raised when the meaning of a field changes; older entries are then read by older code paths or dropped.
const VERSION: u8 = 2;

/// The form without flows, paths and features, which is still read.
const VERSION_PLAIN: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<T>(u8, Vec<T>);

/// contact, q, expires, Call-ID, CSeq, source, instance, User-Agent, updated, reg-id, path, features.
#[derive(Serialize, Deserialize)]
struct StoredBinding(
    String,
    u16,
    u64,
    String,
    u32,
    StoredFlow,
    Option<String>,
    String,
    u64,
    Option<u32>,
    Vec<String>,
    Vec<(String, Option<String>)>,
);

/// What version 1 had.
#[derive(Serialize, Deserialize)]
struct PlainBinding(String, u16, u64, String, u32, StoredFlow, Option<String>, String, u64);

impl From<PlainBinding> for StoredBinding {
    fn from(plain: PlainBinding) -> StoredBinding {
        let PlainBinding(contact, q, expires_ms, call_id, cseq, flow, instance, user_agent, updated_ms) = plain;
        StoredBinding(
            contact,
            q,
            expires_ms,
            call_id,
            cseq,
            flow,
            instance,
            user_agent,
            updated_ms,
            None,
            Vec::new(),
            Vec::new(),
        )
    }
}

#[derive(Serialize, Deserialize)]
enum StoredFlow {
    /// Listener and address: as good after a restart as before.
    Datagram(u16, SocketAddr),
    /// The connection is gone after a restart; what remains is the contact's own address.
    Connection(u16, SocketAddr),
}

/// The stored form; an empty list for what cannot be written.
pub(super) fn encode(bindings: &[Binding]) -> Vec<u8> {
    let stored = bindings.iter().filter_map(to_stored).collect();
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    let _ = ciborium::into_writer(&Stored(VERSION, stored), &mut bytes);
    bytes
}

/// The bindings of a stored form; `None` where it is not one of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Binding>> {
    if let Ok(Stored::<StoredBinding>(VERSION, stored)) = ciborium::from_reader(bytes) {
        return Some(stored.into_iter().map(from_stored).collect());
    }
    match ciborium::from_reader(bytes) {
        Ok(Stored::<PlainBinding>(VERSION_PLAIN, stored)) => {
            Some(stored.into_iter().map(|plain| from_stored(plain.into())).collect())
        }
        Ok(Stored(..)) | Err(_) => None,
    }
}

fn to_stored(binding: &Binding) -> Option<StoredBinding> {
    let flow = match &binding.flow {
        Flow::Udp { listener, remote } => StoredFlow::Datagram(*listener, *remote),
        Flow::Stream { listener, remote, .. } => StoredFlow::Connection(*listener, *remote),
        Flow::Peer { .. } => return None,
    };
    Some(StoredBinding(
        binding.contact.clone(),
        binding.q,
        binding.expires_ms,
        binding.call_id.clone(),
        binding.cseq,
        flow,
        binding.instance.clone(),
        binding.user_agent.clone(),
        binding.updated_ms,
        binding.reg_id,
        binding.path.clone(),
        binding.features.iter().map(|feature| (feature.name.clone(), feature.value.clone())).collect(),
    ))
}

fn from_stored(stored: StoredBinding) -> Binding {
    let StoredBinding(
        contact,
        q,
        expires_ms,
        call_id,
        cseq,
        flow,
        instance,
        user_agent,
        updated_ms,
        reg_id,
        path,
        features,
    ) = stored;
    let features = features.into_iter().map(|(name, value)| Feature { name, value }).collect();
    let flow = match flow {
        StoredFlow::Datagram(listener, remote) => Flow::Udp { listener, remote },
        // Number 0 is never given to a connection: this flow is closed, and the contact's address is used instead.
        StoredFlow::Connection(listener, remote) => {
            Flow::Stream { transport: Transport::Tcp, listener, connection: 0, remote }
        }
    };
    Binding { contact, q, expires_ms, call_id, cseq, flow, instance, user_agent, updated_ms, reg_id, path, features }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn binding(flow: Flow) -> Binding {
        Binding {
            contact: "sip:alice@192.0.2.7:5070;transport=udp".to_owned(),
            q: 700,
            expires_ms: 1_700_000_000_000,
            call_id: "a84b4c76e66710".to_owned(),
            cseq: 4711,
            flow,
            instance: Some("\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\"".to_owned()),
            user_agent: "phone".to_owned(),
            updated_ms: 1_699_999_000_000,
            reg_id: Some(2),
            path: vec!["<sip:edge.example.org;lr;ob>".to_owned()],
            features: vec![Feature { name: "methods".to_owned(), value: Some("INVITE,BYE".to_owned()) }],
        }
    }

    #[test]
    fn a_binding_over_udp_is_read_back_as_it_was() {
        let remote = "192.0.2.7:5070".parse().unwrap();
        let kept = vec![binding(Flow::Udp { listener: 1, remote })];
        assert_eq!(decode(&encode(&kept)), Some(kept));
    }

    #[test]
    fn a_connection_is_read_back_closed() {
        let remote = "192.0.2.7:40000".parse().unwrap();
        let flow = Flow::Stream { transport: Transport::Tcp, listener: 0, connection: 12, remote };
        let read = decode(&encode(&[binding(flow)])).unwrap();
        let closed = Flow::Stream { transport: Transport::Tcp, listener: 0, connection: 0, remote };
        assert_eq!(read, vec![binding(closed)]);
    }

    #[test]
    fn what_the_version_before_wrote_is_still_read() {
        let remote = "192.0.2.7:5070".parse().unwrap();
        let mut expected = binding(Flow::Udp { listener: 1, remote });
        let plain = PlainBinding(
            expected.contact.clone(),
            expected.q,
            expected.expires_ms,
            expected.call_id.clone(),
            expected.cseq,
            StoredFlow::Datagram(1, remote),
            expected.instance.clone(),
            expected.user_agent.clone(),
            expected.updated_ms,
        );
        let mut bytes = Vec::new();
        ciborium::into_writer(&Stored(VERSION_PLAIN, vec![plain]), &mut bytes).unwrap();
        (expected.reg_id, expected.path, expected.features) = (None, Vec::new(), Vec::new());
        assert_eq!(decode(&bytes), Some(vec![expected]));
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_not_guessed_at() {
        let mut bytes = encode(&[]);
        assert_eq!(decode(&bytes), Some(Vec::new()));
        bytes[1] = VERSION + 1;
        assert_eq!(decode(&bytes), None);
        assert_eq!(decode(b"\xff\xff"), None);
    }
}
