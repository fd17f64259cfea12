//! What whoever runs the node sees and does.

pub(super) mod calls;
pub(super) mod health;
pub(super) mod invites;
pub(super) mod log;
pub(super) mod overlay;
pub(super) mod settings;
pub(super) mod status;
pub(super) mod tokens;
pub(super) mod users;
