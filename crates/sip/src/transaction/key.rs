//! What tells transactions apart (RFC 3261 §17.1.3, §17.2.3).

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::CountHasher;
use crate::message::{Message, Method, ParseError, Via};
use crate::texts::Texts;

/// Start of every branch that is unique by itself (RFC 3261 §8.1.1.7).
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

/// The method that a request counts as when it looks for its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// Its own, but ACK counts as INVITE.
    Itself,
    /// INVITE, for a CANCEL that looks for what it cancels.
    Invite,
}

/// Stands for all that a transaction is found by: 128 bits of a keyed hash, so that a table holds no texts, and nobody who does
/// not know the keys finds two messages with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64, u64);

impl Key {
    /// Half of it, which is enough to look up by.
    pub(super) fn half(&self) -> u64 {
        self.0
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// What hashes keys into a table: they are hashes already.
pub(super) type KeyHasher = BuildHasherDefault<CountHasher>;

/// The key of the hash, another one in each layer.
#[derive(Debug)]
pub(super) struct Keys(SipHasher13);

impl Default for Keys {
    fn default() -> Keys {
        let half = || RandomState::new().hash_one(());
        Keys(SipHasher13::new_with_keys(half(), half()))
    }
}

impl Keys {
    /// Key of the server transaction that a request with this topmost Via belongs to.
    ///
    /// By branch, sent-by and method where the branch is unique, else by the fields that RFC 2543 had to do with. The To
    /// tag is left out there: it tells no two requests of one client apart, and the ACK has one that the INVITE lacks.
    pub(super) fn server(&self, request: &Message, via: &Via<'_>, count_as: As) -> Result<Key, ParseError> {
        let method = match (count_as, request.method()) {
            (As::Invite, _) | (As::Itself, Method::Ack) => "INVITE",
            (As::Itself, _) => request.method_name(),
        };
        let branch = via.branch().unwrap_or_default();
        let mut texts = Texts::new();
        if !is_unique(branch) {
            texts.push(request.request_uri());
            texts.push(request.from()?.tag().unwrap_or_default());
            texts.push(request.call_id());
            texts.push_number(request.cseq()?.number);
        }
        texts.push(branch);
        texts.push_lowercase(via.host);
        texts.push_number(via.port.map_or(u32::MAX, u32::from));
        texts.push(method);
        Ok(self.hash(&texts))
    }

    /// Key of the client transaction that a response belongs to; also of a request that we are about to send.
    pub(super) fn client(&self, message: &Message) -> Result<Key, ParseError> {
        Ok(self.of_branch(&message.top_via()?, message.cseq()?.method))
    }

    /// The same, of a topmost Via and the method that CSeq names.
    pub(super) fn of_branch(&self, via: &Via<'_>, method: &str) -> Key {
        let mut texts = Texts::new();
        texts.push(via.branch().unwrap_or_default());
        texts.push(method);
        self.hash(&texts)
    }

    fn hash(&self, texts: &Texts) -> Key {
        let mut hasher = self.0;
        texts.hash_into(&mut hasher);
        let hash = hasher.finish128();
        Key(hash.h1, hash.h2)
    }
}

fn is_unique(branch: &str) -> bool {
    // The cookie alone, as RFC 4475 §3.2.1 sends it, tells nothing apart.
    branch.len() > MAGIC_COOKIE.len()
        && branch.get(..MAGIC_COOKIE.len()).is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC_COOKIE))
}
