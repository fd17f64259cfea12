//! The overlay against the DNS: both are asked about an address of another domain, and one of them is acted on.

use std::pin::pin;

use tokio::select;

use super::outside::ByName;

/// Whose word is acted on.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// What a verified record of the overlay says.
    InOverlay(T),
    /// What the DNS says, for good or ill.
    ByName(ByName),
}

/// Waits for what to act on: a verified record wins whenever it comes first; servers found by name are acted on once the
/// overlay knows nothing, or `patience` with it is over; never both. Without such servers the overlay has the last word.
///
/// `in_overlay` ends with `None` where the overlay knows nothing.
pub(super) async fn race<T>(
    in_overlay: impl Future<Output = Option<T>>,
    by_name: impl Future<Output = ByName>,
    patience: impl Future<Output = ()>,
) -> Found<T> {
    let (mut in_overlay, mut by_name, mut patience) = (pin!(in_overlay), pin!(by_name), pin!(patience));
    let (mut overlay_knows_nothing, mut is_late, mut named) = (false, false, None);
    loop {
        select! {
            biased;
            found = &mut in_overlay, if !overlay_knows_nothing => match found {
                Some(found) => return Found::InOverlay(found),
                None => overlay_knows_nothing = true,
            },
            found = &mut by_name, if named.is_none() => named = Some(found),
            () = &mut patience, if !is_late => is_late = true,
        }
        let may_act =
            |by_name: &mut ByName| overlay_knows_nothing || (is_late && matches!(by_name, ByName::Servers(_)));
        if let Some(by_name) = named.take_if(may_act) {
            return Found::ByName(by_name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use futures_util::FutureExt;
    use tokio::sync::oneshot::{Sender, channel};

    use super::*;
    use crate::location::dns::LocateError;

    /// What a test lets happen, in the order it likes.
    struct Events {
        overlay: Sender<Option<&'static str>>,
        dns: Sender<ByName>,
        patience: Sender<()>,
    }

    fn start() -> (Events, impl Future<Output = Found<&'static str>>) {
        let ((overlay, in_overlay), (dns, by_name), (patience, over)) = (channel(), channel(), channel());
        let race = race(in_overlay.map(Result::unwrap), by_name.map(Result::unwrap), over.map(Result::unwrap));
        (Events { overlay, dns, patience }, race)
    }

    fn servers() -> ByName {
        ByName::Servers(Vec::new())
    }

    fn failed() -> ByName {
        ByName::Failed(LocateError::NoServer)
    }

    #[test]
    fn a_verified_record_that_comes_in_time_wins_though_the_dns_was_faster() {
        let (events, race) = start();
        let mut race = pin!(race);
        events.dns.send(servers()).unwrap();
        assert!(race.as_mut().now_or_never().is_none(), "the DNS waits for the overlay");
        events.overlay.send(Some("record")).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::InOverlay("record"))));
    }

    #[test]
    fn a_slow_overlay_is_not_waited_for_once_patience_is_over() {
        let (events, race) = start();
        let mut race = pin!(race);
        events.dns.send(servers()).unwrap();
        assert!(race.as_mut().now_or_never().is_none());
        events.patience.send(()).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::ByName(ByName::Servers(_)))));
    }

    #[test]
    fn an_overlay_that_knows_nothing_is_not_waited_for_at_all() {
        let (events, race) = start();
        let mut race = pin!(race);
        events.overlay.send(None).unwrap();
        assert!(race.as_mut().now_or_never().is_none(), "the DNS has not answered");
        events.dns.send(servers()).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::ByName(ByName::Servers(_)))));
    }

    #[test]
    fn after_patience_too_whoever_answers_first_wins() {
        let (events, race) = start();
        let mut race = pin!(race);
        events.patience.send(()).unwrap();
        assert!(race.as_mut().now_or_never().is_none());
        events.overlay.send(Some("record")).unwrap();
        events.dns.send(servers()).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::InOverlay("record"))));
    }

    #[test]
    fn without_servers_by_name_the_overlay_has_the_last_word_however_late() {
        let (events, race) = start();
        let mut race = pin!(race);
        events.patience.send(()).unwrap();
        events.dns.send(failed()).unwrap();
        assert!(race.as_mut().now_or_never().is_none());
        events.overlay.send(Some("record")).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::InOverlay("record"))));

        let (events, race) = start();
        events.dns.send(ByName::Forbidden).unwrap();
        events.overlay.send(None).unwrap();
        assert!(matches!(race.now_or_never(), Some(Found::ByName(ByName::Forbidden))), "then that is the answer");
    }
}
