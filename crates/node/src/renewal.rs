//! Keeps this node's certificates from running out: asks the overlay's authority for new ones in time, and uses them at once.
//!
//! The authority is found among the home nodes of its domain, which say so in the overlay. Where it is not reached, it is asked again,
//! later each time; a node has four months for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meshtone_identity::{AuthorityCertificate, Error as IdentityError, LinkKey, SigningKey};
use meshtone_overlay::Overlay;
use meshtone_overlay::record::Renewed;
use tokio::time::sleep;

use crate::authority::{AskError, Client};
use crate::clock::unix_s;
use crate::enrol::Membership;
use crate::enrol::renew::Pair;
use crate::store::{KeyFile, Store};

/// How often the time of day is looked at: machines sleep, and clocks are set.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The first pause after an attempt in vain, as when there is no link yet; each is twice as long as the one before.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// The longest one.
const AGAIN_AT_MOST: Duration = Duration::from_secs(6 * 3600);
/// An operator is told when it has been in vain and this much is left, in seconds: a month.
const WARN_BEFORE_S: u64 = 30 * 86_400;

/// How this node's certificates stand. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Validity(Arc<Mutex<Standing>>);

#[derive(Clone, Default)]
struct Standing {
    ends: u64,
    failing: Option<String>,
}

/// What renewing needs.
pub(crate) struct Keeper {
    pub(crate) store: Store,
    pub(crate) overlay: Overlay,
    pub(crate) client: Client,
    pub(crate) authority: AuthorityCertificate,
    pub(crate) signer: Arc<SigningKey>,
    pub(crate) link_key: LinkKey,
    pub(crate) pair: Pair,
    pub(crate) renewed: Renewed,
    pub(crate) validity: Validity,
}

impl Validity {
    pub(crate) fn of(membership: &Membership) -> Self {
        let ends = membership.certificate.not_after().min(membership.home.not_after());
        Self(Arc::new(Mutex::new(Standing { ends, failing: None })))
    }

    /// When the certificates end, in unix seconds, and why they could not be renewed where that is urgent.
    pub(crate) fn now(&self) -> (u64, Option<String>) {
        let Standing { ends, failing } = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (ends, failing.filter(|_| ends.saturating_sub(unix_s()) < WARN_BEFORE_S))
    }

    fn set(&self, ends: u64, failing: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Standing { ends, failing };
    }
}

impl Keeper {
    /// Renews whenever it is time, until the node stops.
    pub(crate) async fn run(mut self) {
        let mut pause = AGAIN_AFTER;
        loop {
            if unix_s() < self.pair.due() {
                sleep(LOOK_EVERY).await;
                continue;
            }
            match self.renew().await {
                Ok(()) => {
                    tracing::info!("this node's certificates were renewed");
                    pause = AGAIN_AFTER;
                }
                Err(error) => {
                    tracing::warn!(%error, "this node's certificates could not be renewed; it is tried again");
                    self.validity.set(self.pair.ends(), Some(error));
                    sleep(pause).await;
                    pause = (pause * 2).min(AGAIN_AT_MOST);
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), String> {
        let asked = self.client.renew(&*self.signer, self.link_key, &self.pair).await;
        let (node, home) = asked.map_err(|error: AskError| error.to_string())?;
        let pair = self.judge(&node, &home).map_err(|error| error.to_string())?;
        let store = self.store.clone();
        // Each of the two goes with either of the other, so that a crash in between does no harm.
        let kept = tokio::task::spawn_blocking(move || {
            store.write_key(KeyFile::NodeCertificate, &node)?;
            store.write_key(KeyFile::HomeCertificate, &home)
        });
        kept.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let homes = if pair.node.rights().may_speak() { vec![pair.home.clone()] } else { Vec::new() };
        self.renewed.set(pair.node.clone(), homes);
        self.validity.set(pair.ends(), None);
        self.pair = pair;
        // Stopped: they are on disk.
        let _ = self.overlay.say_again().await;
        Ok(())
    }

    /// Whoever answered, what counts is that the authority says the same of this node for longer.
    fn judge(&self, node: &[u8], home: &[u8]) -> Result<Pair, IdentityError> {
        let pair = Pair::verify(node, home, &self.authority, unix_s())?;
        let is_ours = pair.node.node_id() == self.pair.node.node_id()
            && pair.node.link_key() == self.pair.node.link_key()
            && pair.home.domain() == self.pair.home.domain()
            && pair.ends() > self.pair.ends();
        if is_ours {
            Ok(pair)
        } else {
            Err(IdentityError::NotPermitted { what: "certificate", why: "it is not a renewal" })
        }
    }
}
