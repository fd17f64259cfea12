//! Hears at once when a person says anew who may speak for her: a right that she takes back ends within a second, not only with the
//! next look of the [`keeper`](super::keeper). What cannot be heard, the keeper finds.

use std::collections::{BTreeMap, BTreeSet};

use meshtone_overlay::node::{Entry, Overlay};
use meshtone_overlay::record::Kind;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// News that wait to be looked at; then those who bring more wait.
const MAX_NEWS: usize = 16;

/// What was said: whose address, and what the overlay has of it.
pub(super) type News = (String, Vec<Entry>);

/// Whom this node listens to.
pub(super) struct Hearing {
    overlay: Overlay,
    people: BTreeMap<String, Task>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
}

/// A task that ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Hearing {
    pub(super) fn new(overlay: Overlay) -> Self {
        Self { overlay, people: BTreeMap::new(), news: mpsc::channel(MAX_NEWS) }
    }

    /// Listens to these people and nobody else.
    pub(super) fn listen_to(&mut self, people: &BTreeSet<String>) {
        self.people.retain(|address, _| people.contains(address));
        for address in people {
            let begin = || Task(tokio::spawn(listen(self.overlay.clone(), address.clone(), self.news.0.clone())));
            self.people.entry(address.clone()).or_insert_with(begin);
        }
    }

    /// Waits for what somebody says.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.news.1.recv().await
    }
}

async fn listen(overlay: Overlay, address: String, news: mpsc::Sender<News>) {
    let mut listener = match overlay.listen(Kind::Member, &address).await {
        Ok(listener) => listener,
        Err(error) => {
            return tracing::debug!(%address, %error, "a person is not listened to but looked up now and then");
        }
    };
    while let Ok(entries) = listener.changed().await {
        if news.send((address.clone(), entries)).await.is_err() {
            return;
        }
    }
}
