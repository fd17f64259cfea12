//! What the node asks of its user agent: calls and requests to send, and with whose password (RFC 3261 §8.1, §13.2).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::digest::{Algorithm, Ha1};
use crate::message::{Header, Method};
use crate::transport::Destination;

/// How long a call rings unless it is said otherwise: the 3 minutes that proxies wait at least (RFC 3261 §16.6 item 11).
const RING_FOR: Duration = Duration::from_secs(180);

/// The password of one account. It answers challenges of its host and realm only, whoever else asks (threat 15).
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The realm. `None`: the one that is spelled like the host; for REGISTER, which nobody but the host answers, any.
    pub realm: Option<String>,
    /// Host of the Request-URIs that the account is for.
    pub host: String,
    /// User name of the account.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves who one is. Prints redacted.
#[derive(Clone)]
pub enum Secret {
    /// A password.
    Password(String),
    /// Its hash with user and realm (RFC 7616 §3.4.2), for each algorithm that may be answered.
    Ha1(Vec<(Algorithm, Ha1)>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(<redacted>)")
    }
}

/// A body and its Content-Type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Value of Content-Type.
    pub content_type: String,
    /// The bytes.
    pub content: Vec<u8>,
}

impl Body {
    /// A body of this type.
    pub fn new(content_type: &str, content: &[u8]) -> Body {
        Body { content_type: content_type.to_owned(), content: content.to_vec() }
    }

    /// A session description.
    pub fn sdp(content: &[u8]) -> Body {
        Body::new("application/sdp", content)
    }
}

/// Whether provisional responses shall be acknowledged (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reliability {
    /// Never, unless the other side insists.
    Off,
    /// When the other side can.
    #[default]
    Supported,
    /// Always; who cannot is refused, or refuses us.
    Required,
}

/// A call to place: [`crate::server::Server::place_call`].
#[derive(Debug, Clone)]
pub struct OutgoingCall {
    /// The Request-URI.
    pub uri: String,
    /// Where to send the INVITE. Requests within the call go there too, as to an outbound proxy (RFC 3261 §8.1.2), until
    /// the other side's own requests come over another flow of the same address.
    pub destination: Destination,
    /// Value of From, without a tag.
    pub from: String,
    /// Value of To, without a tag.
    pub to: String,
    /// Our Contact, a URI.
    pub contact: String,
    /// Call-ID; `None` makes one up. A node with several workers names one that leads back to this worker.
    pub call_id: Option<String>,
    /// Further header fields of the INVITE.
    pub headers: Vec<(Header, String)>,
    /// The offer; without one the other side offers, and [`crate::server::Server::acknowledge`] answers.
    pub body: Option<Body>,
    /// The account to answer challenges with.
    pub credentials: Option<Credentials>,
    /// What to do about provisional responses.
    pub reliable: Reliability,
    /// Session-Expires to ask for (RFC 4028); at least 90 s.
    pub session_timer: Option<Duration>,
    /// How long it may ring; then the call is cancelled and fails with 408.
    pub ring_for: Duration,
    /// How long nothing at all may be heard, not even 100; then the call fails with 408, and another server may be tried.
    pub answer_within: Option<Duration>,
    /// Keep each dialog that a fork answers with, not the first alone; the others get BYE.
    pub keep_forks: bool,
    /// Methods within the dialog that the node answers itself ([`super::AgentEvent::Request`], [`super::AgentEvent::Refer`]);
    /// INFO is answered 200 without it, MESSAGE and REFER are refused.
    pub handles: Vec<Method>,
    /// Addresses, besides that of `destination`, from which requests within the dialog may come (threat 16).
    pub sources: Vec<IpAddr>,
}

impl OutgoingCall {
    /// A call without any of the options.
    pub fn new(uri: &str, destination: Destination, from: &str, to: &str, contact: &str) -> OutgoingCall {
        OutgoingCall {
            uri: uri.to_owned(),
            destination,
            from: from.to_owned(),
            to: to.to_owned(),
            contact: contact.to_owned(),
            call_id: None,
            headers: Vec::new(),
            body: None,
            credentials: None,
            reliable: Reliability::default(),
            session_timer: None,
            ring_for: RING_FOR,
            answer_within: None,
            keep_forks: false,
            handles: Vec::new(),
            sources: Vec::new(),
        }
    }
}

/// A request outside of any dialog, such as REGISTER, MESSAGE or OPTIONS: [`crate::server::Server::send_request`].
///
/// Not for INVITE ([`OutgoingCall`]), SUBSCRIBE or REFER ([`OutgoingSubscription`]).
#[derive(Debug, Clone)]
pub struct OutgoingRequest {
    /// The method's name.
    pub method: String,
    /// The Request-URI.
    pub uri: String,
    /// Where to send it.
    pub destination: Destination,
    /// Value of From, without a tag.
    pub from: String,
    /// Value of To, without a tag.
    pub to: String,
    /// Call-ID; `None` makes one up. Registrations of one account share theirs (RFC 3261 §10.2).
    pub call_id: Option<String>,
    /// Number of the CSeq; 1 as a rule. It grows when a challenge is answered: the response tells the one in use.
    pub cseq: u32,
    /// Further header fields, such as Contact and Expires.
    pub headers: Vec<(Header, String)>,
    /// The body.
    pub body: Option<Body>,
    /// The account to answer challenges with.
    pub credentials: Option<Credentials>,
}

impl OutgoingRequest {
    /// A request without any of the options.
    pub fn new(method: &str, uri: &str, destination: Destination, from: &str, to: &str) -> OutgoingRequest {
        OutgoingRequest {
            method: method.to_owned(),
            uri: uri.to_owned(),
            destination,
            from: from.to_owned(),
            to: to.to_owned(),
            call_id: None,
            cseq: 1,
            headers: Vec::new(),
            body: None,
            credentials: None,
        }
    }
}

/// A subscription to ask for (RFC 6665), or a REFER outside of any dialog (RFC 3515): [`crate::server::Server::subscribe`].
#[derive(Debug, Clone)]
pub struct OutgoingSubscription {
    /// Event, with its parameters; `refer` sends REFER, whose `headers` name Refer-To.
    pub event: String,
    /// The Request-URI.
    pub uri: String,
    /// Where to send it.
    pub destination: Destination,
    /// Value of From, without a tag.
    pub from: String,
    /// Value of To, without a tag.
    pub to: String,
    /// Our Contact, a URI.
    pub contact: String,
    /// Call-ID; `None` makes one up.
    pub call_id: Option<String>,
    /// How long it shall last, refreshed until it is ended; zero fetches the state once (RFC 6665 §4.4.3).
    pub expires: Duration,
    /// Further header fields, such as Accept.
    pub headers: Vec<(Header, String)>,
    /// The body.
    pub body: Option<Body>,
    /// The account to answer challenges with.
    pub credentials: Option<Credentials>,
    /// Watch every notifier that a fork of the request reached ([`super::AgentEvent::Forked`]), as packages allow that put
    /// states together (RFC 6665 §4.4.1); else the first alone, and the others get 481.
    pub keep_forks: bool,
}

impl OutgoingSubscription {
    /// A subscription of one hour without any of the options.
    pub fn new(event: &str, uri: &str, destination: Destination, from: &str, to: &str, contact: &str) -> Self {
        OutgoingSubscription {
            event: event.to_owned(),
            uri: uri.to_owned(),
            destination,
            from: from.to_owned(),
            to: to.to_owned(),
            contact: contact.to_owned(),
            call_id: None,
            expires: Duration::from_secs(3600),
            headers: Vec::new(),
            body: None,
            credentials: None,
            keep_forks: false,
        }
    }
}

/// An answer to an INVITE: [`crate::server::Server::accept_with`] and [`crate::server::Server::ring`].
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Our Contact, a URI.
    pub contact: String,
    /// The description: the answer, or the offer where the INVITE brought none.
    pub body: Option<Body>,
    /// Further header fields of the response.
    pub headers: Vec<(Header, String)>,
    /// Session-Expires to ask for when the caller does not (RFC 4028).
    pub session_timer: Option<Duration>,
    /// Methods that the node answers itself, see [`OutgoingCall::handles`].
    pub handles: Vec<Method>,
    /// The dialog that this call replaces (RFC 3891): it gets BYE, or CANCEL, once this one is answered.
    pub replaces: Option<super::DialogId>,
    /// The To tag, where several branches of one request are answered here and each is a call of its own; without it a request that
    /// comes by a second way is refused (RFC 3261 §8.2.2.2).
    pub tag: Option<String>,
}

impl Acceptance {
    /// An answer without any of the options.
    pub fn new(contact: &str) -> Acceptance {
        Acceptance {
            contact: contact.to_owned(),
            body: None,
            headers: Vec::new(),
            session_timer: None,
            handles: Vec::new(),
            replaces: None,
            tag: None,
        }
    }

    /// The same with a session description.
    pub fn with_sdp(mut self, sdp: &[u8]) -> Acceptance {
        self.body = Some(Body::sdp(sdp));
        self
    }
}

/// An answer to a SUBSCRIBE: [`crate::server::Server::accept_subscription`].
#[derive(Debug, Clone)]
pub struct SubscriptionAnswer {
    /// Our Contact, a URI.
    pub contact: String,
    /// The longest time that is granted, and the time for those who name none.
    pub longest: Duration,
    /// What the first NOTIFY says of the subscription.
    pub state: super::SubscriptionState,
    /// The state that the first NOTIFY tells.
    pub body: Option<Body>,
}

/// Why a command to the agent did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// There is no such dialog, or it is over.
    #[error("no such dialog")]
    NoSuchDialog,
    /// An offer, or an INVITE, is under way in either direction (RFC 3264 §4, RFC 3261 §14.1), or the dialog is not
    /// confirmed yet.
    #[error("not in this state of the dialog")]
    NotNow,
    /// The other side does not know the extension that this needs.
    #[error("the other side does not support it")]
    NotSupported,
    /// A table is full.
    #[error("too many requests under way")]
    Full,
}
