//! Descriptors for the connections that the listeners may hold: a service is usually started with 1,024, which a flood within
//! the limits of [`super::connections`] would use up.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::connections::{MAX_CONNECTIONS_PER_LISTENER, MAX_OPENED};

/// What a node opens besides: its store, sockets for links and media, the administration's connections.
const OTHER_FILES: usize = 1024;

/// Raises this process's limit of open files to what so many listeners need, as far as the system lets it.
pub(super) fn provide(listeners: usize) {
    let wanted = listeners.saturating_mul(MAX_CONNECTIONS_PER_LISTENER).saturating_add(MAX_OPENED + OTHER_FILES);
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let mut limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let Some(current) = limit.current.filter(|current| *current < wanted) else { return };
    let possible = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    limit.current = Some(possible);
    let granted = if possible > current && setrlimit(Resource::Nofile, limit).is_ok() { possible } else { current };
    if granted < wanted {
        tracing::warn!(granted, wanted, "fewer files may be opened than all connections need: raise `ulimit -Hn`");
    }
}
