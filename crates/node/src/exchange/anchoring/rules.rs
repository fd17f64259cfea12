//! Whose calls are carried: what the node does with all of them, and with those of single users.

use std::collections::BTreeMap;

use meshtone_sip::message::{Message, Uri};

use super::{AnchorPolicy, MediaLimits};
use crate::exchange::Exchange;

/// When the media of calls runs through this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnchorRules {
    /// For all that no user has a word in.
    pub others: AnchorPolicy,
    /// By account.
    pub users: BTreeMap<String, AnchorPolicy>,
    /// How much there may be of it.
    pub limits: MediaLimits,
}

impl Exchange {
    /// What holds for a call. Of two users with words of their own, whoever does not want to be seen prevails.
    pub(in crate::exchange) fn anchor_policy(&self, invite: &Message) -> AnchorPolicy {
        let AnchorRules { others, users, .. } = &self.anchor;
        if users.is_empty() {
            return *others;
        }
        let named =
            [invite.from().ok().map(|from| from.uri), invite.to().ok().map(|to| to.uri), Some(invite.request_uri())];
        let words = named.into_iter().flatten().filter_map(|uri| {
            let address = Uri::parse(uri).ok()?.address_of_record();
            let account = self.account_of(&address);
            users.get(account).or_else(|| users.get(&self.user(account)?)).copied()
        });
        words.reduce(AnchorPolicy::prevailing).unwrap_or(*others)
    }
}

impl AnchorPolicy {
    fn prevailing(self, other: AnchorPolicy) -> AnchorPolicy {
        match (self, other) {
            (AnchorPolicy::Always, _) | (_, AnchorPolicy::Always) => AnchorPolicy::Always,
            (AnchorPolicy::Auto, _) | (_, AnchorPolicy::Auto) => AnchorPolicy::Auto,
            (AnchorPolicy::Never, AnchorPolicy::Never) => AnchorPolicy::Never,
        }
    }
}
