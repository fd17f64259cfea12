//! Tokens by which programs use the interface of the page: random texts with a name, and what they are good for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Hash, fresh_secret, hash_of, id_of};
use crate::store::cbor::to_cbor;
use crate::store::{Store, StoreError, Table};

/// By what a token is known as one, by people and by what looks for secrets in files.
const PREFIX: &str = "mt_";
/// Tokens at a time: one for each program that somebody has written.
pub(crate) const MAX_TOKENS: usize = 32;
/// Most bytes of a name.
pub(crate) const MAX_NAME_LEN: usize = 64;
/// When a token was used last is written down this often, no more.
const WRITTEN_EVERY_MS: u64 = 10 * 60_000;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// The counters at `/metrics`.
    Metrics,
    /// Whatever administrators are shown.
    Read,
    /// Whatever administrators do.
    Admin,
}

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) created_ms: u64,
    pub(crate) used_ms: Option<u64>,
    written_ms: u64,
}

impl Token {
    /// Whether it is good for this.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }
}

/// (name, scopes, created, used)
#[derive(Serialize, Deserialize)]
struct Kept(String, Vec<Scope>, u64, Option<u64>);

/// There are [`MAX_TOKENS`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// All tokens of this node.
pub(crate) struct Tokens {
    tokens: Mutex<BTreeMap<Hash, Token>>,
    store: Store,
}

impl Tokens {
    /// The tokens that the store has.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub(crate) fn open(store: Store) -> Result<Tokens, StoreError> {
        let rows = store.load(Table::Tokens)?;
        let tokens = rows.iter().filter_map(|(key, bytes)| read(key, bytes)).collect();
        Ok(Tokens { tokens: Mutex::new(tokens), store })
    }

    /// Makes a token; its text is shown this once.
    ///
    /// # Errors
    /// [`TooMany`].
    pub(crate) fn make(&self, now_ms: u64, name: &str, scopes: Vec<Scope>) -> Result<(String, Token), TooMany> {
        let text = format!("{PREFIX}{}", fresh_secret());
        let hash = hash_of(&text);
        let token = Token {
            id: id_of(&hash),
            name: name.to_owned(),
            scopes,
            created_ms: now_ms,
            used_ms: None,
            written_ms: now_ms,
        };
        let mut tokens = self.lock();
        if tokens.len() >= MAX_TOKENS {
            return Err(TooMany);
        }
        self.keep(&hash, &token);
        tokens.insert(hash, token.clone());
        Ok((text, token))
    }

    /// The token of this text, which is used by that.
    pub(crate) fn find(&self, now_ms: u64, text: &str) -> Option<Token> {
        let hash = hash_of(text);
        let mut tokens = self.lock();
        let token = tokens.get_mut(&hash).filter(|_| text.starts_with(PREFIX))?;
        if token.used_ms.is_none() || now_ms.saturating_sub(token.written_ms) >= WRITTEN_EVERY_MS {
            token.written_ms = now_ms;
            token.used_ms = Some(now_ms);
            self.keep(&hash, token);
        }
        token.used_ms = Some(now_ms);
        Some(token.clone())
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Token> {
        let mut all: Vec<Token> = self.lock().values().cloned().collect();
        all.sort_by(|left, right| (left.created_ms, &left.id).cmp(&(right.created_ms, &right.id)));
        all
    }

    /// Takes one back; false where there is none of that id.
    pub(crate) fn remove(&self, id: &str) -> bool {
        let mut tokens = self.lock();
        let Some(hash) = tokens.iter().find(|(_, token)| token.id == id).map(|(hash, _)| *hash) else { return false };
        self.store.put(Table::Tokens, &HEXLOWER.encode(&hash), None);
        tokens.remove(&hash).is_some()
    }

    fn keep(&self, hash: &Hash, token: &Token) {
        let kept = Kept(token.name.clone(), token.scopes.clone(), token.created_ms, token.used_ms);
        self.store.put(Table::Tokens, &HEXLOWER.encode(hash), Some(to_cbor(&kept)));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Hash, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(key: &str, bytes: &[u8]) -> Option<(Hash, Token)> {
    let hash: Hash = HEXLOWER.decode(key.as_bytes()).ok()?.try_into().ok()?;
    let Kept(name, scopes, created_ms, used_ms) = ciborium::from_reader(bytes).ok()?;
    let written_ms = used_ms.unwrap_or(created_ms);
    Some((hash, Token { id: id_of(&hash), name, scopes, created_ms, used_ms, written_ms }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_token_is_good_for_what_it_was_made_for_until_it_is_taken_back_over_a_restart_too() {
        let folder = TempDir::new().unwrap();
        let text = {
            let tokens = Tokens::open(Store::open(folder.path()).unwrap()).unwrap();
            let (text, token) = tokens.make(5, "grafana", vec![Scope::Metrics]).unwrap();
            assert!(token.may(Scope::Metrics) && !token.may(Scope::Read) && !token.may(Scope::Admin));
            text
        };
        let store = Store::open(folder.path()).unwrap();
        assert!(!store.load(Table::Tokens).unwrap().iter().any(|(key, value)| {
            key.contains(&text) || value.windows(text.len()).any(|window| window == text.as_bytes())
        }));
        let tokens = Tokens::open(store).unwrap();
        let found = tokens.find(9, &text).unwrap();
        assert_eq!((found.name.as_str(), found.used_ms), ("grafana", Some(9)));
        assert!(tokens.find(9, &text[PREFIX.len()..]).is_none());
        assert!(tokens.remove(&found.id) && !tokens.remove(&found.id));
        assert!(tokens.find(10, &text).is_none());
    }

    #[test]
    fn an_administrators_token_may_all_and_there_are_only_so_many() {
        let folder = TempDir::new().unwrap();
        let tokens = Tokens::open(Store::open(folder.path()).unwrap()).unwrap();
        let (_, token) = tokens.make(0, "all", vec![Scope::Admin]).unwrap();
        assert!(token.may(Scope::Metrics) && token.may(Scope::Read) && token.may(Scope::Admin));
        let made = (0..100).filter(|number| tokens.make(1, &number.to_string(), vec![Scope::Read]).is_ok()).count();
        assert_eq!(made, MAX_TOKENS - 1);
    }
}
