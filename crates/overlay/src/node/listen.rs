//! Listening: what stands under a name, and each change of it, for whoever wants to know at once.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Entry, Error};
use crate::dht::{self, Dht, Now};
use crate::record::Kind;

/// What stands under a name, whenever it changes. Dropped, it listens no more.
#[derive(Debug)]
pub struct Listener(watch::Receiver<Option<Vec<Entry>>>);

impl Listener {
    /// Waits for what stands there: at first for what does now, then for the next change. Who waits for each only now and then gets
    /// the last.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn changed(&mut self) -> Result<Vec<Entry>, Error> {
        loop {
            self.0.changed().await.map_err(|_| Error::Stopped)?;
            if let Some(entries) = self.0.borrow_and_update().clone() {
                return Ok(entries);
            }
        }
    }
}

/// All listeners of this node, by what they listen to.
#[derive(Default)]
pub(super) struct Listeners(BTreeMap<(Kind, String), watch::Sender<Option<Vec<Entry>>>>);

impl Listeners {
    /// Begins to listen, or shares it with who does already.
    pub(super) fn listen(&mut self, dht: &mut Dht, now: Now, kind: Kind, name: String) -> Result<Listener, Error> {
        self.drop_unused(dht);
        if let Some(sender) = self.0.get(&(kind, name.clone())) {
            let mut receiver = sender.subscribe();
            if receiver.borrow().is_some() {
                receiver.mark_changed();
            }
            return Ok(Listener(receiver));
        }
        dht.listen(now, kind, &name)?;
        let (sender, receiver) = watch::channel(None);
        self.0.insert((kind, name), sender);
        Ok(Listener(receiver))
    }

    /// Something has changed.
    pub(super) fn on_changed(&mut self, dht: &mut Dht, kind: Kind, name: String, entries: Vec<dht::Entry>) {
        if let Some(sender) = self.0.get(&(kind, name)) {
            sender.send_replace(Some(entries.into_iter().map(Entry::from).collect()));
        }
        self.drop_unused(dht);
    }

    /// Ends what nobody listens to any more.
    pub(super) fn drop_unused(&mut self, dht: &mut Dht) {
        self.0.retain(|(kind, name), sender| {
            let used = !sender.is_closed();
            if !used {
                dht.unlisten(*kind, name);
            }
            used
        });
    }
}
