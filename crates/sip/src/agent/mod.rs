//! A minimal user agent server and its dialogs (RFC 3261 §12, §13.3, §15), for services inside the node.

/// Number of a dialog of our own agent, never used again within one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId(pub(crate) u64);
