//! What this node keeps for the owners of accounts beside their accounts: whom they call ([`contacts`]), the calls that they had
//! ([`history`]), and whom they do not want to hear ([`rules`], kept with the account itself, so at every home node).

pub(crate) mod contacts;
pub(crate) mod history;
pub(crate) mod rules;
