//! Whom an account's owner does not want to be rung by: nobody at the moment, or never some. Both are settings of the account, which
//! home nodes replicate, so that each of them refuses alike.

use std::collections::BTreeMap;

use meshtone_identity::address;

use crate::account::{Account, AccountError, Accounts, name};

/// The setting that is there while nobody shall ring.
const DO_NOT_DISTURB: &str = "do-not-disturb";
/// The settings that hold who is blocked, as many as are needed; each takes 512 bytes.
const BLOCKED: [&str; 12] = [
    "blocked-0",
    "blocked-1",
    "blocked-2",
    "blocked-3",
    "blocked-4",
    "blocked-5",
    "blocked-6",
    "blocked-7",
    "blocked-8",
    "blocked-9",
    "blocked-10",
    "blocked-11",
];
/// Addresses that may be blocked: what a person enters by hand.
pub(crate) const MAX_BLOCKED: usize = 100;

/// What an account's owner has set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Whether nobody shall ring.
    pub(crate) do_not_disturb: bool,
    /// Who never shall: addresses and numbers, in their canonical form.
    pub(crate) blocked: Vec<String>,
}

/// Why a call does not ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// Nobody shall now.
    NotDisturbed,
    /// This caller never shall.
    Blocked,
}

/// Rules that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadRules {
    /// This is no address and no number.
    NoAddress(String),
    /// There are more than [`MAX_BLOCKED`], or they are too long together.
    TooMany,
}

impl Rules {
    /// What is set for an account.
    pub(crate) fn of(account: &Account) -> Rules {
        let blocked = BLOCKED.iter().filter_map(|name| account.settings.get(*name));
        Rules {
            do_not_disturb: account.settings.contains_key(DO_NOT_DISTURB),
            blocked: blocked.flat_map(|value| value.split(' ')).map(str::to_owned).collect(),
        }
    }

    /// The same in the form in which callers are compared: addresses in lower case, numbers without separators, each once.
    ///
    /// # Errors
    /// [`BadRules`].
    pub(crate) fn checked(self) -> Result<Rules, BadRules> {
        if self.blocked.len() > MAX_BLOCKED {
            return Err(BadRules::TooMany);
        }
        let mut blocked = Vec::new();
        for text in self.blocked {
            let bare = name::without_scheme(&text);
            let canonical = match address::normalise(bare) {
                Ok(address) => address,
                Err(_) => name::new_number(bare).map_err(|_| BadRules::NoAddress(text.clone()))?,
            };
            if !blocked.contains(&canonical) {
                blocked.push(canonical);
            }
        }
        let rules = Rules { blocked, ..self };
        if rules.chunks().is_some() { Ok(rules) } else { Err(BadRules::TooMany) }
    }

    /// The addresses in texts that a setting takes each; `None` where they are more than there are settings.
    fn chunks(&self) -> Option<Vec<String>> {
        let mut chunks: Vec<String> = Vec::new();
        for address in &self.blocked {
            match chunks.last_mut().filter(|chunk| chunk.len() + 1 + address.len() <= MAX_SETTING_LEN) {
                Some(chunk) => {
                    chunk.push(' ');
                    chunk.push_str(address);
                }
                None => chunks.push(address.clone()),
            }
        }
        let fit = chunks.len() <= BLOCKED.len() && chunks.iter().all(|chunk| chunk.len() <= MAX_SETTING_LEN);
        fit.then_some(chunks)
    }

    fn write(&self, settings: &mut BTreeMap<String, String>) {
        settings.remove(DO_NOT_DISTURB);
        BLOCKED.iter().for_each(|name| drop(settings.remove(*name)));
        if self.do_not_disturb {
            settings.insert(DO_NOT_DISTURB.to_owned(), "yes".to_owned());
        }
        let chunks = self.chunks().unwrap_or_default();
        settings.extend(BLOCKED.iter().map(|name| (*name).to_owned()).zip(chunks));
    }
}

/// What one setting takes, as the account table has it.
const MAX_SETTING_LEN: usize = crate::account::table::MAX_SETTING_LEN;

/// Whether a call from there does not ring. Nearly all accounts have no settings, which is found out at once.
pub(crate) fn unwanted(settings: &BTreeMap<String, String>, caller: Option<&str>) -> Option<Unwanted> {
    if settings.is_empty() {
        return None;
    }
    // A caller of the served domain may be blocked by his number alone, as it was dialled.
    let user =
        caller.and_then(|caller| caller.rsplit_once('@')).map(|(user, _)| user).filter(|user| name::is_number(user));
    let is_meant = |entry: &str| caller == Some(entry) || user == Some(entry);
    let blocked = BLOCKED.iter().filter_map(|name| settings.get(*name)).flat_map(|value| value.split(' '));
    if blocked.into_iter().any(is_meant) {
        return Some(Unwanted::Blocked);
    }
    settings.contains_key(DO_NOT_DISTURB).then_some(Unwanted::NotDisturbed)
}

impl Accounts {
    /// Keeps what an account's owner has set. Durable on return; blocks for an `fsync`.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was changed then, unless the store failed.
    pub(crate) fn set_rules(&self, user: &str, rules: &Rules) -> Result<(), AccountError> {
        self.change_settings(user, |settings| rules.write(settings))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(rules: &Rules) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::from([("digest".to_owned(), "MD5".to_owned())]);
        rules.clone().checked().unwrap().write(&mut settings);
        settings
    }

    fn blocking(addresses: &[&str]) -> Rules {
        Rules { blocked: addresses.iter().map(|text| (*text).to_owned()).collect(), ..Rules::default() }
    }

    #[test]
    fn who_is_blocked_does_not_ring_and_others_do() {
        let settings = settings(&blocking(&["Mallory@Example.NET", "sip:eve@mesh.test", "+49 30 1234"]));
        for caller in ["mallory@example.net", "eve@mesh.test", "+49301234@mesh.test"] {
            assert_eq!(unwanted(&settings, Some(caller)), Some(Unwanted::Blocked), "{caller}");
        }
        for caller in [Some("bob@example.net"), Some("mallory@other.example"), None] {
            assert_eq!(unwanted(&settings, caller), None, "{caller:?}");
        }
    }

    #[test]
    fn nobody_rings_who_does_not_want_to_be_disturbed_and_who_is_blocked_stays_so() {
        let settings = settings(&Rules { do_not_disturb: true, ..blocking(&["eve@mesh.test"]) });
        assert_eq!(unwanted(&settings, Some("bob@mesh.test")), Some(Unwanted::NotDisturbed));
        assert_eq!(unwanted(&settings, None), Some(Unwanted::NotDisturbed));
        assert_eq!(unwanted(&settings, Some("eve@mesh.test")), Some(Unwanted::Blocked));
    }

    #[test]
    fn a_hundred_usual_addresses_fit_and_more_are_refused_in_whole() {
        let usual: Vec<String> =
            (0..MAX_BLOCKED).map(|number| format!("caller-number-{number}@some-domain.example.org")).collect();
        let rules = Rules { blocked: usual, ..Rules::default() }.checked().unwrap();
        let account_settings = settings(&rules);
        assert_eq!(
            unwanted(&account_settings, Some("caller-number-99@some-domain.example.org")),
            Some(Unwanted::Blocked)
        );
        assert!(account_settings.len() <= crate::account::table::MAX_SETTINGS);
        let long: Vec<String> =
            (0..MAX_BLOCKED).map(|number| format!("{}{number}@example.org", "x".repeat(60))).collect();
        assert_eq!(Rules { blocked: long, ..Rules::default() }.checked(), Err(BadRules::TooMany));
        let many = vec!["a@example.org".to_owned(); MAX_BLOCKED + 1];
        assert_eq!(Rules { blocked: many, ..Rules::default() }.checked(), Err(BadRules::TooMany));
        for wrong in ["", "alice", "a b@c", "a@b c"] {
            assert!(matches!(blocking(&[wrong]).checked(), Err(BadRules::NoAddress(_))), "{wrong}");
        }
    }
}
