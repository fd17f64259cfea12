//! Keeps this node's right to speak for its users true, and what people said in the overlay.
//!
//! Every half minute, and when something changed, each account of a person is looked up, and what somebody says anew is heard of
//! at once where it can be: a right that was given begins to be used, one
//! that was taken back ends, with the phones that registered by it. What is found is written again now and then, so that it outlives the
//! nodes that hold it; where a key is here, the list is renewed before it runs out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshtone_identity::Delegations;
use tokio::time::{sleep, timeout};

use super::hearing::Hearing;
use super::standing::Unknown;
use super::{Members, Standing};
use crate::clock::unix_ms;
use crate::location::memory::Registrations;
use crate::location::publisher::Publisher;

/// Half of the minute after which a lost right must be of no use anywhere.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where somebody is awaited, as when an overlay forms, or when an account is made here before its owner names this node: soon
/// again, and each time later.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How often what is found is written again. The overlay repairs by itself; this is for when all its holders went at once.
const HAND_ON_EVERY: Duration = Duration::from_secs(3600);

/// A list is renewed when it is this old, a quarter of its life.
const RENEW_AFTER_MS: u64 = 7 * 86_400 * 1000;

/// People looked after at a time, so that many do not ask all at once.
const CONCURRENT: usize = 8;

pub(super) async fn run(members: Members, publisher: Publisher, registrations: Arc<Registrations>) {
    let mut handed_on: BTreeMap<String, Instant> = BTreeMap::new();
    let mut changes = members.inner.accounts.subscribe();
    let mut pause = Pause::default();
    let mut hearing = Hearing::new(members.inner.overlay.clone());
    loop {
        let mut people: BTreeSet<String> = members.inner.keys.all().into_iter().map(|(address, _)| address).collect();
        let accounts = members.inner.accounts.list().into_iter().map(|account| account.user);
        people.extend(accounts.filter(|user| user.contains('@')));
        handed_on.retain(|address, _| people.contains(address));
        hearing.listen_to(&people);
        let (mut is_awaited, mut is_cut_off) = (false, false);
        let people: Vec<String> = people.into_iter().collect();
        for some in people.chunks(CONCURRENT) {
            let looks = some.iter().map(|address| look(&members, &publisher, &registrations, address));
            let found = futures_util::future::join_all(looks).await;
            for (address, known) in some.iter().zip(found) {
                is_cut_off |= known.is_err();
                let known = known.unwrap_or_default();
                is_awaited |= !known || !members.speaks_for(address);
                let is_due = handed_on.get(address).is_none_or(|last| last.elapsed() >= HAND_ON_EVERY);
                if is_due && known && hand_on(&members, address).await {
                    handed_on.insert(address.clone(), Instant::now());
                }
            }
        }
        if is_cut_off {
            pause = Pause::default();
        }
        let next_look = sleep(pause.next(is_awaited));
        tokio::pin!(next_look);
        loop {
            tokio::select! {
                () = &mut next_look => {}
                () = members.inner.wake.notified() => pause = Pause::default(),
                _ = changes.recv() => pause = Pause::default(),
                Some((address, entries)) = hearing.next() => {
                    let standing = members.inner.standings.heard(&address, entries);
                    act(&members, &publisher, &registrations, &address, standing.as_ref());
                    continue;
                }
            }
            break;
        }
        // Several changes at once are one.
        let _ = timeout(Duration::from_millis(50), std::future::pending::<()>()).await;
    }
}

/// How long to wait for the next look.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Pause {
        Pause(LOOK_AGAIN)
    }
}

impl Pause {
    fn next(&mut self, is_awaited: bool) -> Duration {
        let pause = if is_awaited { self.0 } else { LOOK_EVERY };
        self.0 = (pause * 2).min(LOOK_EVERY);
        pause
    }
}

/// Looks what a person says and acts on it. Returns whether anything is known of her; an error where nobody could be asked.
async fn look(
    members: &Members,
    publisher: &Publisher,
    registrations: &Registrations,
    address: &str,
) -> Result<bool, Unknown> {
    let standing = members.inner.standings.ask(address).await?;
    act(members, publisher, registrations, address, standing.as_ref());
    Ok(standing.is_some())
}

/// Acts on what a person says.
fn act(
    members: &Members,
    publisher: &Publisher,
    registrations: &Registrations,
    address: &str,
    standing: Option<&Standing>,
) {
    let has_changed = members.apply(address, standing);
    if has_changed && members.speaks_for(address) {
        tracing::info!(%address, "this node speaks for a person from now on");
        publisher.changed(address, registrations.announcement(address).is_some());
    } else if has_changed {
        tracing::info!(%address, "this node does not speak for a person any longer; her phones are forgotten");
        registrations.remove(address);
    }
}

/// Writes what she says again, signed anew where it is old and her key is here. Returns whether that was done.
async fn hand_on(members: &Members, address: &str) -> bool {
    let Some(standing) = members.inner.standings.last_known(address) else { return false };
    let ours = members.inner.keys.person(address).ok().and_then(|person| person.certificate);
    let is_ours = ours.is_some_and(|ours| ours.der() == standing.certificate.der());
    let is_old = |list: &Delegations| unix_ms().saturating_sub(list.issued_ms()) > RENEW_AFTER_MS;
    if is_ours && is_old(&standing.list) {
        let nodes = standing.list.nodes().iter().copied().collect();
        return members.say(address, &nodes).await.is_ok();
    }
    members.hand_on(address, &standing).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_awaited_is_looked_for_soon_and_then_ever_more_seldom() {
        let mut pause = Pause::default();
        let waits: Vec<u64> = (0..6).map(|_| pause.next(true).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 30, 30]);
        assert_eq!(Pause::default().next(false), LOOK_EVERY, "where nobody is awaited");
    }
}
