//! A stateful, forking, record-routing proxy (RFC 3261 §16, RFC 5626 §5, RFC 5658).

//!
//! [`Target`] and [`Routing`] are what the node sees. Inside: where a request came from (`via`), what its Routes say
//! (`route`, `flow_token`), the targets and the order they are tried in (`plan`), the copies that leave (`outgoing`,
//! `branch`, `history`), and what becomes of their responses (`context`, `branches`, `best`). `session_timer` is RFC 4028.
//! `stateless` is another proxy, the first stage of a farm.

pub(crate) mod best;
pub(crate) mod branch;
pub(crate) mod branches;
pub(crate) mod context;
pub(crate) mod flow_token;
pub(crate) mod history;
pub(crate) mod outgoing;
pub(crate) mod plan;
pub(crate) mod route;
pub(crate) mod session_timer;
pub mod stateless;
pub(crate) mod via;

use std::time::Duration;

use crate::message::{Header, NameAddr};
use crate::transport::Destination;
pub use session_timer::SessionTimers;

/// Preference of a contact that names none, in thousandths.
const Q_DEFAULT: u16 = 1000;

/// How requests are forwarded, where a node may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardPolicy {
    /// How long the targets of one preference ring while less preferred ones wait: 20 s are four or five rings.
    pub group_ring: Duration,
    /// How long a place may be silent when the target has alternatives: 4 s are four datagrams of an INVITE.
    pub failover: Duration,
    /// Whether the node wants [`crate::server::Event::Redirected`]; else every redirection goes to the caller.
    pub asks_about_redirects: bool,
    /// Session timers.
    pub session_timers: SessionTimers,
}

impl Default for ForwardPolicy {
    fn default() -> ForwardPolicy {
        ForwardPolicy {
            group_ring: Duration::from_secs(20),
            failover: Duration::from_secs(4),
            asks_about_redirects: false,
            session_timers: SessionTimers::default(),
        }
    }
}

/// A contact that a target redirected a request to (RFC 3261 §8.1.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Its URI.
    pub uri: String,
    /// Its preference in thousandths.
    pub q: u16,
}

impl Redirect {
    fn read(contact: &NameAddr<'_>) -> Redirect {
        Redirect { uri: contact.uri.to_owned(), q: contact.param("q").flatten().map_or(Q_DEFAULT, q_value) }
    }
}

/// A q value in thousandths (RFC 3261 §25.1); what is none counts as 1.
fn q_value(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<3}");
    match (whole, digits.get(..3).and_then(|digits| digits.parse().ok())) {
        ("0", Some(thousandths)) => thousandths,
        _ => Q_DEFAULT,
    }
}

/// One place that a request shall be forwarded to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The Request-URI there.
    pub uri: String,
    /// Where to send it.
    pub destination: Destination,
    /// Where else the same server is, in order: tried one by one when the one before cannot be reached, answers 503, or
    /// says nothing (RFC 3263 §4.3).
    pub alternatives: Vec<Destination>,
    /// Preference of the contact in thousandths (RFC 3261 §20.10): targets of the highest are tried first, all at once;
    /// the next when those have failed, or rung for too long.
    pub q: u16,
    /// Header fields that must not go to this target, such as credentials meant for this node (RFC 3261 §22.3); removed
    /// before `extra` is added.
    pub remove: Vec<Header>,
    /// Header fields to add for this target only.
    pub extra: Vec<(Header, String)>,
    /// When nothing at all, not even 100, was heard within this time, the branch ends with 408.
    pub answer_within: Option<Duration>,
    /// A Route value to put before all others (RFC 3261 §16.6 item 6).
    pub prepend_route: Option<String>,
}

impl Target {
    /// A target without any of the options.
    pub fn new(uri: impl Into<String>, destination: Destination) -> Target {
        Target {
            uri: uri.into(),
            destination,
            alternatives: Vec::new(),
            q: Q_DEFAULT,
            remove: Vec::new(),
            extra: Vec::new(),
            answer_within: None,
            prepend_route: None,
        }
    }
}

/// What the Route header field said about a request (RFC 3261 §16.4, RFC 5626 §5.3).
#[derive(Debug, Clone)]
pub enum Routing {
    /// No Route was left and no flow token vouched: the node decides by the Request-URI.
    Initial,
    /// A request within a dialog that this node record-routed: forward it to this target.
    Dialog(Target),
    /// A Route is left that leads elsewhere, and nothing vouches for it: its URI. The node decides, mostly against.
    Foreign(String),
    /// The flow token is ours, but its connection is gone: 430 (Flow Failed, RFC 5626 §5.3) or another way to the user.
    Gone,
}
