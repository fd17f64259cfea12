//! One contact of an address-of-record, and the way to the phone behind it.

use std::net::SocketAddr;

use crate::message::{NameAddr, Uri};
use crate::proxy::via::host_address;
use crate::transport::{Destination, Flow, Transport};

/// One contact of an address-of-record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The contact URI as registered, without the header field's parameters.
    pub contact: String,
    /// Preference in thousandths, 1000 when none was given.
    pub q: u16,
    /// When the binding ends, milliseconds since 1970.
    pub expires_ms: u64,
    /// Call-ID of the last REGISTER that touched it.
    pub call_id: String,
    /// CSeq number of that REGISTER.
    pub cseq: u32,
    /// The flow that REGISTER came over.
    pub flow: Flow,
    /// `+sip.instance` as given, quotes included (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// User-Agent of the phone.
    pub user_agent: String,
    /// When the binding was last written, milliseconds since 1970.
    pub updated_ms: u64,
    /// `reg-id`: which of its instance's flows this is (RFC 5626 §4.2). `None` for an ordinary contact.
    pub reg_id: Option<u32>,
    /// The proxies between this registrar and the phone, the nearest first (RFC 3327): Route values.
    pub path: Vec<String>,
    /// What the phone says it can do (RFC 3840), as written, but for `+sip.instance`.
    pub features: Vec<Feature>,
}

/// A feature parameter of a contact (RFC 3840 §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Name without the leading `+`, in lower case.
    pub name: String,
    /// Value without its quotes; `None` stands for TRUE.
    pub value: Option<String>,
}

impl Binding {
    /// A binding that leads over `flow`, and of which nothing else is written yet.
    pub(super) fn blank(flow: Flow) -> Binding {
        Binding {
            contact: String::new(),
            q: 0,
            expires_ms: 0,
            call_id: String::new(),
            cseq: 0,
            flow,
            instance: None,
            user_agent: String::new(),
            updated_ms: 0,
            reg_id: None,
            path: Vec::new(),
            features: Vec::new(),
        }
    }

    /// Where a request for this contact goes; `None`: there is no way to this phone until it registers again.
    ///
    /// Its flow while that is open, which a UDP flow always is. When the flow was a connection that is lost, the
    /// contact's own address (that of the first proxy where there is a path), but only if it is the very address the
    /// REGISTER came from: a Contact alone must not make this node call upon whatever it names. A flow of RFC 5626 is
    /// never replaced by an address: its phone has, or makes, another flow. A contact that is no SIP URI is told to whoever
    /// asks (RFC 3261 §10.2.3), but no request can go there.
    pub fn destination(&self, flow_is_open: bool) -> Option<Destination> {
        if !Uri::parse(&self.contact).is_ok_and(|uri| uri.is_sip()) {
            return None;
        }
        match &self.flow {
            Flow::Udp { .. } => Some(Destination::Flow(self.flow.clone())),
            Flow::Stream { .. } | Flow::Peer { .. } if flow_is_open => Some(Destination::Flow(self.flow.clone())),
            Flow::Peer { host } => Some(Destination::Peer(host.clone())),
            Flow::Stream { .. } if self.reg_id.is_some() => None,
            Flow::Stream { transport: transport @ (Transport::Tcp | Transport::Tls), listener, remote, .. } => {
                let next_hop = self.path.first().map(|proxy| NameAddr::parse(proxy)).transpose().ok()?;
                let uri = Uri::parse(next_hop.map_or(self.contact.as_str(), |proxy| proxy.uri)).ok()?;
                let address = host_address(uri.host)?;
                (address == remote.ip().to_canonical()).then(|| Destination::Address {
                    transport: *transport,
                    addr: SocketAddr::new(address, uri.port.unwrap_or(transport.default_port())),
                    listener: *listener,
                })
            }
            // Nobody can call a browser back.
            Flow::Stream { .. } => None,
        }
    }

    /// Whether the binding still means something after a restart: a connection does not outlive one.
    pub fn is_restorable(&self) -> bool {
        match self.flow {
            Flow::Udp { .. } => true,
            Flow::Stream { .. } | Flow::Peer { .. } => false,
        }
    }

    /// The value of the Route that leads to this phone; `None` where there is no proxy in between.
    pub fn route(&self) -> Option<String> {
        (!self.path.is_empty()).then(|| self.path.join(", "))
    }

    /// Whether `instance` is this phone's, both in the brackets and quotes of `+sip.instance`.
    pub fn is_of_instance(&self, instance: &str) -> bool {
        self.instance.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(instance))
    }
}
