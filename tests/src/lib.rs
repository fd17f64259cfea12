//! The harness of the end-to-end tests: real nodes, real phones, real sound.
//!
//! Everything here runs *outside* the program under test. Nodes are processes of the `meshtone` binary, phones are
//! baresip and SIPp processes or a few lines of hand-written SIP; no crate of the workspace is linked in, so a test can
//! only see what a user could see.
//!
//! | module | what |
//! | --- | --- |
//! | [`node`] | [`MeshNode`], one `meshtone run`; [`Mesh`], several joined by ticket |
//! | [`phone`] | [`Phone`], one baresip, remote-controlled |
//! | [`scripted`] | [`ScriptedPhone`], raw SIP for what a well-behaved phone would never do |
//! | [`pebble`] | an ACME server that issues certificates to whoever proves a name |
//! | [`kamailio`], [`name_server`], [`certificates`] | somebody else's SIP domain, the DNS that says where it is, what it shows |
//! | [`provider`] | a telephone company: Kamailio, with an account for a trunk and phones of its own |
//! | [`mail`] | a mail server: Exim, with mailboxes that a test reads |
//! | [`shaper`] | a network that loses packets and holds them back |
//! | [`sipp`] | running a SIPp scenario of `tests/sipp/` |
//! | [`tone`] | making a sine tone and finding it in a recording |
//! | [`wire`], [`web_socket`] | bytes over TCP and TLS, frames over WebSocket, with every mistake a test wants |
//! | [`crowd`], [`statistics`] | thousands of sources; whether two sets of times differ |
//! | [`nat`] | machines behind routers of every kind |
//! | [`router`] | what opens ports at such a router: Debian's miniupnpd |
//! | [`turn`] | STUN and TURN on the wire, with mistakes, and coturn's client, without |
//! | [`lan`], [`namespace`] | hosts on a bridge of the test's own, whose addresses change; what they are made of |
//! | [`ports`], [`wait`] | ports no other test uses; waiting for a condition, never for a time |
//!
//! *Invariant:* no test sleeps in order to be in step with something else. It waits for an event or for a condition,
//! with a deadline that is a generous upper bound and never a measurement.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness that cannot go on fails its test, and that is its job"
)]

pub mod browser;
pub mod capture;
pub mod certificates;
pub mod command;
pub mod crowd;
pub mod http;
pub mod kamailio;
pub mod lan;
pub mod mail;
pub mod name_server;
pub mod namespace;
pub mod nat;
pub mod node;
pub mod page;
pub mod pebble;
pub mod phone;
pub mod ports;
pub mod provider;
pub mod router;
pub mod scripted;
pub mod shaper;
pub mod sipp;
pub mod statistics;
pub mod tone;
pub mod turn;
pub mod voice;
pub mod wait;
pub mod web_socket;
pub mod wire;

pub use node::{Mesh, MeshNode};
pub use phone::{Answer, Phone, PhoneOptions, Transport};
pub use scripted::ScriptedPhone;
pub use wait::{eventually, eventually_some};

use std::time::Duration;

/// How long anything that ought to happen "now" may take on a busy two-core machine before a test gives up.
pub const SOON: Duration = Duration::from_secs(20);

/// The domain that the meshes of the tests serve.
pub const DOMAIN: &str = "mesh.test";
