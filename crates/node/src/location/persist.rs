//! What an earlier run wrote down of bindings: in the form of [`compact`], or in one of those that versions before wrote (CBOR
//! arrays with a version in front).

use std::net::SocketAddr;

use meshtone_sip::registrar::{Binding, Feature};
use meshtone_sip::transport::{Flow, Transport};
use serde::{Deserialize, Serialize};

use super::compact;

/// The last form in CBOR, and the one before, without flows, paths and features.
const VERSION_CBOR: u8 = 2;
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

/// The bindings of a stored form, as they are after a restart; `None` where it is not one of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Binding>> {
    if let Some(bindings) = compact::decode(bytes) {
        return Some(bindings.into_iter().filter_map(after_restart).collect());
    }
    if let Ok(Stored::<StoredBinding>(VERSION_CBOR, stored)) = ciborium::from_reader(bytes) {
        return Some(stored.into_iter().map(from_stored).collect());
    }
    match ciborium::from_reader(bytes) {
        Ok(Stored::<PlainBinding>(VERSION_PLAIN, stored)) => {
            Some(stored.into_iter().map(|plain| from_stored(plain.into())).collect())
        }
        Ok(Stored(..)) | Err(_) => None,
    }
}

/// Number 0 is never given to a connection: this flow is closed, and the contact's address is used instead. No phone registers over
/// a link between nodes.
fn after_restart(mut binding: Binding) -> Option<Binding> {
    match &mut binding.flow {
        Flow::Udp { .. } => {}
        Flow::Stream { connection, .. } => *connection = 0,
        Flow::Peer { .. } => return None,
    }
    Some(binding)
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
        StoredFlow::Connection(listener, remote) => {
            Flow::Stream { transport: Transport::Tcp, listener, connection: 0, remote }
        }
    };
    Binding { contact, q, expires_ms, call_id, cseq, flow, instance, user_agent, updated_ms, reg_id, path, features }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::compact::tests::binding;
    use super::*;

    fn udp() -> Flow {
        Flow::Udp { listener: 1, remote: "192.0.2.7:5070".parse().unwrap() }
    }

    fn cbor<T: Serialize>(version: u8, stored: Vec<T>) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&Stored(version, stored), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_binding_over_udp_is_read_back_as_it_was() {
        let kept = vec![binding(udp())];
        assert_eq!(decode(&compact::encode(&kept)), Some(kept));
    }

    #[test]
    fn a_connection_is_read_back_closed() {
        let flow = |connection| Flow::Stream {
            transport: Transport::Tls,
            listener: 0,
            connection,
            remote: "192.0.2.7:40000".parse().unwrap(),
        };
        assert_eq!(decode(&compact::encode(&[binding(flow(12))])), Some(vec![binding(flow(0))]));
    }

    #[test]
    fn what_the_versions_before_wrote_is_still_read() {
        let mut expected = binding(udp());
        let plain = || {
            PlainBinding(
                expected.contact.clone(),
                expected.q,
                expected.expires_ms,
                expected.call_id.clone(),
                expected.cseq,
                StoredFlow::Datagram(1, "192.0.2.7:5070".parse().unwrap()),
                expected.instance.clone(),
                expected.user_agent.clone(),
                expected.updated_ms,
            )
        };
        let mut stored = StoredBinding::from(plain());
        let feature = |feature: &Feature| (feature.name.clone(), feature.value.clone());
        (stored.9, stored.10) = (expected.reg_id, expected.path.clone());
        stored.11 = expected.features.iter().map(feature).collect();
        assert_eq!(decode(&cbor(VERSION_CBOR, vec![stored])), Some(vec![expected.clone()]));
        let plain = plain();
        (expected.reg_id, expected.path, expected.features) = (None, Vec::new(), Vec::new());
        assert_eq!(decode(&cbor(VERSION_PLAIN, vec![plain])), Some(vec![expected]));
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_not_guessed_at() {
        assert_eq!(decode(&compact::encode(&[])), Some(Vec::new()));
        assert_eq!(decode(&cbor::<StoredBinding>(9, Vec::new())), None);
        assert_eq!(decode(b"\xff\xff"), None);
    }
}
