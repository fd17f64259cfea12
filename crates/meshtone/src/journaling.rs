//! From what the program logs to the lines that its page shows.

use std::fmt::Debug;

use meshtone_node::journal::{Journal, Level};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Pushes each event that reaches it.
pub(crate) struct Journaling(pub(crate) Journal);

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }
}

impl Said {
    fn take(&mut self, name: &'static str, value: String) {
        if name == "message" {
            self.message = value;
        } else {
            self.fields.push((name, value));
        }
    }
}

impl<S: Subscriber> Layer<S> for Journaling {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        self.0.push(level, metadata.target(), &said.message, said.fields);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    type Heard = Vec<(String, Vec<(&'static str, String)>)>;

    #[test]
    fn what_is_logged_is_kept_with_its_values() {
        let said = Arc::new(Mutex::new(Heard::new()));
        struct Listening(Arc<Mutex<Heard>>);
        impl<S: Subscriber> Layer<S> for Listening {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut said = Said::default();
                event.record(&mut said);
                if let Ok(mut all) = self.0.lock() {
                    all.push((said.message, said.fields));
                }
            }
        }
        let subscriber = tracing_subscriber::registry().with(Listening(said.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(call_id = "one", count = 3, address = %"alice", "a call begins");
        });
        let fields = vec![("call_id", "one".to_owned()), ("count", "3".to_owned()), ("address", "alice".to_owned())];
        let said = said.lock().map(|said| said.clone()).unwrap_or_default();
        assert_eq!(said, [("a call begins".to_owned(), fields)]);
    }
}
