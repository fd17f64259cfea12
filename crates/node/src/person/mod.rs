//! What this node keeps for the owners of accounts beside their accounts: whom they call ([`contacts`]) and the calls that they had
//! ([`history`]), which are the same at all home nodes ([`belongings`], [`sync`]), and whom they do not want to hear ([`rules`], kept with the
//! account itself).

pub(crate) mod belongings;
pub(crate) mod contacts;
pub(crate) mod history;
pub(crate) mod rules;
pub(crate) mod sync;
