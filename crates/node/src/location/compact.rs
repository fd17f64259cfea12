//! Bindings as they are kept, in memory and in the store: one piece of bytes for each address, a fifth of what the values take
//! that are worked with.
//!
//! A version and when the first of them expires; then, with its length in front, what makes the bindings what they are, each in
//! turn; then what every refresh changes, in the same order. Numbers are in LEB128, texts have their length in front, what is
//! seldom there has a bit that says so.

use std::net::{IpAddr, SocketAddr};

use meshtone_sip::registrar::{Binding, Feature};
use meshtone_sip::transport::{Flow, PeerHost, Transport};

/// Raised when the meaning of a field changes. Older forms in the store are [`persist`](super::persist)'s.
const VERSION: u8 = 3;

const HAS_INSTANCE: u8 = 1;
const HAS_REG_ID: u8 = 2;

/// What a flow is.
const UDP: u8 = 0;
const PEER: u8 = 1;
const STREAMS: [(u8, Transport); 4] =
    [(2, Transport::Tcp), (3, Transport::Tls), (4, Transport::Ws), (5, Transport::Wss)];

/// Half of a usual binding, so that the bytes seldom move while they are written.
const USUAL_LEN: usize = 96;

/// The kept form.
pub(super) fn encode(bindings: &[Binding]) -> Box<[u8]> {
    let mut out = Vec::new();
    encode_into(bindings, &mut out);
    out.into_boxed_slice()
}

/// As [`encode`], in place of what `out` holds.
pub(super) fn encode_into(bindings: &[Binding], out: &mut Vec<u8>) {
    out.clear();
    out.reserve(2 * USUAL_LEN);
    out.push(VERSION);
    number(out, bindings.iter().map(|binding| binding.expires_ms).min().unwrap_or(u64::MAX));
    // How long they are is known when they are written.
    let before = out.len();
    length(out, bindings.len());
    for binding in bindings {
        encode_identity(out, binding);
    }
    let identities = out.len() - before;
    length(out, identities);
    out.get_mut(before..).unwrap_or_default().rotate_left(identities);
    for binding in bindings {
        encode_refresh(out, binding);
    }
}

/// The bindings of a kept form; `None` where it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Binding>> {
    let mut bindings = Vec::new();
    decode_into(bytes, &mut bindings).then_some(bindings)
}

/// As [`decode`], in place of what `bindings` holds, whose memory is used again; there are none where it is no kept form.
pub(super) fn decode_into(bytes: &[u8], bindings: &mut Vec<Binding>) -> bool {
    let is_good = decode_over(bytes, bindings).is_some();
    if !is_good {
        bindings.clear();
    }
    is_good
}

fn decode_over(bytes: &[u8], bindings: &mut Vec<Binding>) -> Option<()> {
    let mut input = Input(bytes);
    let mut identities = Input(input.identities()?);
    let length = identities.list_length()?;
    bindings.truncate(length);
    for index in 0..length {
        match bindings.get_mut(index) {
            Some(binding) => identities.identity_over(binding)?,
            None => bindings.push(identities.identity()?),
        }
    }
    for binding in bindings {
        input.refresh(binding)?;
    }
    (input.0.is_empty() && identities.0.is_empty()).then_some(())
}

/// When the first binding of a kept form ends, milliseconds since 1970.
pub(super) fn first_expiry_ms(bytes: &[u8]) -> u64 {
    let mut input = Input(bytes);
    input.byte().and_then(|_version| input.number()).unwrap_or(0)
}

/// Whether two kept forms are of the same bindings, but for what every refresh changes.
pub(super) fn is_refresh(before: &[u8], after: &[u8]) -> bool {
    let (before, after) = (Input(before).identities(), Input(after).identities());
    before.is_some() && before == after
}

fn encode_identity(out: &mut Vec<u8>, binding: &Binding) {
    let Binding { contact, q, flow, instance, reg_id, path, features, .. } = binding;
    let has_instance = if instance.is_some() { HAS_INSTANCE } else { 0 };
    let has_reg_id = if reg_id.is_some() { HAS_REG_ID } else { 0 };
    out.push(has_instance | has_reg_id);
    text(out, contact);
    number(out, u64::from(*q));
    encode_flow(out, flow);
    if let Some(instance) = instance {
        text(out, instance);
    }
    if let Some(reg_id) = reg_id {
        number(out, u64::from(*reg_id));
    }
    length(out, path.len());
    for proxy in path {
        text(out, proxy);
    }
    length(out, features.len());
    for Feature { name, value } in features {
        text(out, name);
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            text(out, value);
        }
    }
}

fn encode_refresh(out: &mut Vec<u8>, binding: &Binding) {
    let Binding { expires_ms, call_id, cseq, user_agent, updated_ms, .. } = binding;
    number(out, *updated_ms);
    // An interval is shorter than a time. Should the clock have gone back, the difference wraps, and back again when read.
    number(out, expires_ms.wrapping_sub(*updated_ms));
    text(out, call_id);
    number(out, u64::from(*cseq));
    text(out, user_agent);
}

fn encode_flow(out: &mut Vec<u8>, flow: &Flow) {
    match flow {
        Flow::Udp { listener, remote } => {
            out.push(UDP);
            number(out, u64::from(*listener));
            address(out, *remote);
        }
        Flow::Stream { transport, listener, connection, remote } => {
            let known = STREAMS.iter().find(|(_, known)| known == transport);
            out.push(known.map_or(u8::MAX, |(number, _)| *number));
            number(out, u64::from(*listener));
            number(out, *connection);
            address(out, *remote);
        }
        Flow::Peer { host } => {
            out.push(PEER);
            text(out, host.as_str());
        }
    }
}

fn address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    number(out, u64::from(address.port()));
}

fn text(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn length(out: &mut Vec<u8>, length: usize) {
    number(out, u64::try_from(length).unwrap_or(u64::MAX));
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

/// What is still to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn str(&mut self) -> Option<&'a str> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn text(&mut self) -> Option<String> {
        self.str().map(str::to_owned)
    }

    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let length = self.list_length()?;
        (0..length).map(|_| read(self)).collect()
    }

    fn list_length(&mut self) -> Option<usize> {
        // Nothing takes less than a byte, so that no number can make a list longer than what is there.
        self.length().filter(|length| *length <= self.0.len())
    }

    fn identities(&mut self) -> Option<&'a [u8]> {
        let (VERSION, _first_expiry) = (self.byte()?, self.number()?) else { return None };
        let length = self.length()?;
        self.bytes(length)
    }

    /// A binding of which only [`Input::refresh`] is missing.
    fn identity(&mut self) -> Option<Binding> {
        let mut binding = Binding {
            contact: String::new(),
            q: 0,
            flow: Flow::Udp { listener: 0, remote: SocketAddr::from(([0; 4], 0)) },
            instance: None,
            reg_id: None,
            path: Vec::new(),
            features: Vec::new(),
            expires_ms: 0,
            call_id: String::new(),
            cseq: 0,
            user_agent: String::new(),
            updated_ms: 0,
        };
        self.identity_over(&mut binding)?;
        Some(binding)
    }

    /// As [`Input::identity`], in place of what another binding said.
    fn identity_over(&mut self, binding: &mut Binding) -> Option<()> {
        let has = self.byte()?;
        self.str()?.clone_into(&mut binding.contact);
        binding.q = self.number()?.try_into().ok()?;
        binding.flow = self.flow()?;
        binding.instance = if has & HAS_INSTANCE == 0 { None } else { Some(self.text()?) };
        binding.reg_id = if has & HAS_REG_ID == 0 { None } else { Some(self.number()?.try_into().ok()?) };
        binding.path = self.list(Input::text)?;
        binding.features = self.list(Input::feature)?;
        Some(())
    }

    fn refresh(&mut self, binding: &mut Binding) -> Option<()> {
        binding.updated_ms = self.number()?;
        binding.expires_ms = binding.updated_ms.wrapping_add(self.number()?);
        self.str()?.clone_into(&mut binding.call_id);
        binding.cseq = self.number()?.try_into().ok()?;
        self.str()?.clone_into(&mut binding.user_agent);
        Some(())
    }

    fn feature(&mut self) -> Option<Feature> {
        let name = self.text()?;
        let value = if self.byte()? == 0 { None } else { Some(self.text()?) };
        Some(Feature { name, value })
    }

    fn flow(&mut self) -> Option<Flow> {
        match self.byte()? {
            UDP => Some(Flow::Udp { listener: self.number()?.try_into().ok()?, remote: self.address()? }),
            PEER => Some(Flow::Peer { host: PeerHost::parse(&self.text()?)? }),
            stream => {
                let (_, transport) = STREAMS.into_iter().find(|(number, _)| *number == stream)?;
                let listener = self.number()?.try_into().ok()?;
                Some(Flow::Stream { transport, listener, connection: self.number()?, remote: self.address()? })
            }
        }
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip: IpAddr = match self.byte()? {
            4 => self.octets::<4>()?.into(),
            6 => self.octets::<16>()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.number()?.try_into().ok()?))
    }

    fn octets<const LENGTH: usize>(&mut self) -> Option<[u8; LENGTH]> {
        self.bytes(LENGTH)?.try_into().ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in crate::location) fn binding(flow: Flow) -> Binding {
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
            features: vec![
                Feature { name: "methods".to_owned(), value: Some("INVITE,BYE".to_owned()) },
                Feature { name: "audio".to_owned(), value: None },
            ],
        }
    }

    fn flows() -> Vec<Flow> {
        let remote = "192.0.2.7:5070".parse().unwrap();
        let stream = |transport| Flow::Stream { transport, listener: 3, connection: u64::MAX, remote };
        let mut flows: Vec<Flow> = STREAMS.iter().map(|(_, transport)| stream(*transport)).collect();
        flows.push(Flow::Udp { listener: 1, remote: "[2001:db8::7]:40000".parse().unwrap() });
        flows.push(Flow::Peer { host: PeerHost::parse("abc.peer.alt").unwrap() });
        flows
    }

    #[test]
    fn a_binding_is_read_as_it_was_over_whatever_flow() {
        let kept: Vec<Binding> = flows().into_iter().map(binding).collect();
        assert_eq!(decode(&encode(&kept)), Some(kept));
    }

    #[test]
    fn bindings_are_read_as_they_were_over_whatever_was_read_before() {
        let plain = Binding {
            instance: None,
            reg_id: None,
            path: Vec::new(),
            features: Vec::new(),
            ..binding(flows().remove(0))
        };
        let lists =
            [Vec::new(), vec![binding(flows().remove(1))], vec![plain], flows().into_iter().map(binding).collect()];
        let (mut bindings, mut encoded) = (Vec::new(), Vec::new());
        for (before, after) in lists.iter().flat_map(|before| lists.iter().map(move |after| (before, after))) {
            for kept in [before, after] {
                encode_into(kept, &mut encoded);
                assert!(decode_into(&encoded, &mut bindings));
                assert_eq!((&bindings, encoded.as_slice()), (kept, &*encode(kept)));
            }
        }
        assert!(!decode_into(&encoded[1..], &mut bindings) && bindings.is_empty());
        assert!(!decode_into(&[], &mut bindings));
    }

    #[test]
    fn a_binding_whose_times_are_odd_is_read_as_it_was() {
        for (updated_ms, expires_ms) in [(5, 3), (0, u64::MAX), (u64::MAX, 0)] {
            let kept = vec![Binding { updated_ms, expires_ms, ..binding(flows().remove(0)) }];
            assert_eq!(decode(&encode(&kept)), Some(kept));
        }
    }

    #[test]
    fn when_the_first_binding_expires_is_known_without_reading_them() {
        let mut kept = vec![binding(flows().remove(0)), binding(flows().remove(1))];
        kept[1].expires_ms -= 5;
        assert_eq!(first_expiry_ms(&encode(&kept)), 1_699_999_999_995);
    }

    #[test]
    fn a_usual_binding_takes_little_more_than_its_texts() {
        let usual = Binding {
            contact: "sip:u123456@192.0.2.7:5070".to_owned(),
            call_id: "f00f00f0-0123456789@192.0.2.7".to_owned(),
            instance: None,
            reg_id: None,
            path: Vec::new(),
            features: Vec::new(),
            ..binding(Flow::Udp { listener: 0, remote: "192.0.2.7:5070".parse().unwrap() })
        };
        let texts = usual.contact.len() + usual.call_id.len() + usual.user_agent.len();
        assert!(encode(&[usual]).len() <= texts + 48);
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_not_guessed_at() {
        let whole = encode(&[binding(flows().remove(0))]);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "{length} bytes");
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(decode(&longer), None);
        let mut newer = whole.to_vec();
        newer[0] = VERSION + 1;
        assert_eq!(decode(&newer), None);
        assert_eq!(decode(&[VERSION, 0, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), None);
    }

    #[test]
    fn a_refresh_is_told_from_a_change() {
        let before = binding(flows().remove(0));
        let kept = encode(std::slice::from_ref(&before));
        let refreshed = Binding {
            expires_ms: before.expires_ms + 5,
            updated_ms: before.updated_ms + 5,
            call_id: "another".to_owned(),
            cseq: 1,
            user_agent: String::new(),
            ..before.clone()
        };
        assert!(is_refresh(&kept, &encode(&[refreshed])));
        let changes: [fn(&mut Binding); 7] = [
            |binding| binding.contact.push('0'),
            |binding| binding.q = 1,
            |binding| binding.flow = flows().remove(1),
            |binding| binding.instance = None,
            |binding| binding.reg_id = None,
            |binding| binding.path.clear(),
            |binding| binding.features.truncate(1),
        ];
        for change in changes {
            let mut changed = before.clone();
            change(&mut changed);
            assert!(!is_refresh(&kept, &encode(&[changed.clone()])), "{changed:?}");
        }
        assert!(!is_refresh(&kept, &encode(&[before.clone(), before])));
        assert!(!is_refresh(&[], &[]));
    }
}
