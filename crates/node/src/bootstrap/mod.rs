//! How a node finds the others when those it knows are gone or have moved.
//!
//! | module | what |
//! | --- | --- |
//! | [`peer`] | `--peer`: a node with its key, or a domain whose DNS names some; pure |
//! | `names` | the looking up of those |
//! | `local` | the local network, by multicast DNS |
//! | `tried` | which ways were tried, in words; pure |
//!
//! Whom the node knew before, and who invited it, the overlay dials by itself. All ways end at a dial of a link key, and the
//! link's handshake decides who is there: nothing that is found here is believed.

mod local;
mod names;
mod peer;
mod tried;

pub use peer::{Peer, PeerError};
pub(crate) use tried::Tried;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_overlay::Overlay;
use tokio::task::JoinSet;

use crate::location::dns::Dns;
use tried::Saying;

/// How often it is looked whether somebody has to be told that nobody is found.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where to look for other nodes.
pub(crate) struct Bootstrap {
    /// Whom the configuration names.
    pub(crate) peers: Vec<Peer>,
    /// Whether to look on the local network, and to be found there.
    pub(crate) local: bool,
    /// Answers for names.
    pub(crate) dns: Arc<Dns>,
    /// What came of it.
    pub(crate) tried: Arc<Tried>,
}

impl Bootstrap {
    /// Looks for other nodes, in all ways at once, until it is dropped.
    pub(crate) async fn run(self, overlay: Overlay) {
        let mut ways = JoinSet::new();
        for peer in self.peers {
            ways.spawn(names::look_up(peer, self.dns.clone(), overlay.clone(), self.tried.clone()));
        }
        if self.local {
            ways.spawn(local::listen(overlay.clone(), self.tried.clone()));
        }
        say(&overlay, &self.tried).await;
    }
}

/// Tells people for as long as nobody is found.
async fn say(overlay: &Overlay, tried: &Tried) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    let mut saying = Saying::default();
    loop {
        ticks.tick().await;
        // Who never had anybody to dial is not looking for anybody either: the first node of an overlay.
        let search = overlay.search().filter(|search| search.attempts > 0 || tried.asked_names());
        if saying.is_due(Instant::now(), search.is_some())
            && let Some(search) = search
        {
            let (attempts, reason, tried) = (search.attempts, search.reason, tried.sentence());
            tracing::warn!(
                attempts,
                reason,
                tried,
                "no other node of the overlay is reached; it is tried again and again"
            );
        }
    }
}
