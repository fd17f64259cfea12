//! Our own Contact towards whoever a flow leads to, for the dialogs of our own agent.

use meshtone_sip::transport::{Destination, Flow, Locals};

use super::worker::Worker;
use crate::transport::LocalView;

impl Worker {
    /// A URI by which this node is reached the way the flow came in.
    pub(super) fn own_contact(&self, user: &str, flow: &Flow, is_secure: bool) -> String {
        let own = LocalView(self.exchange.transports.clone()).sent_by(&Destination::Flow(flow.clone()));
        match flow {
            Flow::Udp { .. } => format!("sip:{user}@{own}"),
            Flow::Stream { transport, .. } => {
                let scheme = if is_secure { "sips" } else { "sip" };
                format!("{scheme}:{user}@{own};transport={}", transport.uri_param())
            }
            Flow::Peer { .. } => format!("sip:{user}@{own};transport=peer"),
        }
    }
}
