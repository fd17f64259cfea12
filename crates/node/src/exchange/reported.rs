//! How calls sound in the words of whoever has them: browsers say so to the page's interface, phones by PUBLISH (RFC 6035). So there is
//! something to show of calls whose sound does not run through this node, too. They are believed about their own calls alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use meshtone_media::mos;
use meshtone_media::vq;
use meshtone_sip::message::{Builder, Header, Message, Method};
use meshtone_sip::server::RequestId;

use super::Exchange;
use super::worker::Worker;

/// Calls of which reports are kept, as many as have ladders; the oldest goes.
const MAX_CALLS: usize = 256;
/// Reports of one call: an hour, one each five seconds from both ends.
const MAX_REPORTS: usize = 1440;
/// One end's reports are taken this often.
const EVERY_MS: u64 = 2_000;
/// How long a published report stands, in seconds (RFC 3903 §6): it is over as it comes, so that no phone refreshes it.
const EXPIRES_S: u32 = 3600;

/// How a call sounds to one of its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Report {
    pub(crate) at_ms: u64,
    pub(crate) is_caller: bool,
    pub(crate) loss_percent: f64,
    pub(crate) jitter_ms: f64,
    pub(crate) round_trip_ms: Option<f64>,
    /// The score that the end says, else what follows from the losses and delays.
    pub(crate) mean_opinion: f64,
}

/// What an end has measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    pub(crate) loss_percent: f64,
    pub(crate) jitter_ms: f64,
    pub(crate) round_trip_ms: Option<f64>,
    pub(crate) mean_opinion: Option<f64>,
}

/// Why a report is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// Whoever reports has no part in such a call, or nothing is known of it.
    NoCall,
    /// The last one was a moment ago.
    TooOften,
}

/// The reports of all calls.
#[derive(Default)]
pub(crate) struct Reports {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    of_call: HashMap<String, VecDeque<Report>>,
    /// As their first reports came.
    order: VecDeque<String>,
}

impl Reports {
    /// Those of a call, in the order of time.
    pub(crate) fn of(&self, call_id: &str) -> Vec<Report> {
        self.state().of_call.get(call_id).map(|reports| reports.iter().copied().collect()).unwrap_or_default()
    }

    fn note(&self, call_id: &str, report: Report) -> Result<(), NotTaken> {
        let mut state = self.state();
        if !state.of_call.contains_key(call_id) {
            while state.order.len() >= MAX_CALLS {
                let Some(oldest) = state.order.pop_front() else { break };
                state.of_call.remove(&oldest);
            }
            state.order.push_back(call_id.to_owned());
        }
        let reports = state.of_call.entry(call_id.to_owned()).or_default();
        let last = reports.iter().rev().find(|other| other.is_caller == report.is_caller);
        if last.is_some_and(|last| report.at_ms.saturating_sub(last.at_ms) < EVERY_MS) {
            return Err(NotTaken::TooOften);
        }
        if reports.len() >= MAX_REPORTS {
            reports.pop_front();
        }
        reports.push_back(report);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Takes what a user says of a call of hers.
    pub(crate) fn reported(&self, at_ms: u64, user: &str, call_id: &str, measured: &Measured) -> Result<(), NotTaken> {
        let end = self.watches.end_of(call_id, user, &self.address_of(user)).ok_or(NotTaken::NoCall)?;
        let delay = std::time::Duration::from_secs_f64(
            (measured.round_trip_ms.unwrap_or_default() / 2.0 + 2.0 * measured.jitter_ms).clamp(0.0, 60_000.0) / 1000.0,
        );
        let estimated = || mos::mean_opinion(mos::rating(None, measured.loss_percent / 100.0, delay));
        let report = Report {
            at_ms,
            is_caller: end.is_caller,
            loss_percent: measured.loss_percent,
            jitter_ms: measured.jitter_ms,
            round_trip_ms: measured.round_trip_ms,
            mean_opinion: measured.mean_opinion.unwrap_or_else(estimated),
        };
        self.reports.note(&end.call_id, report)
    }
}

impl Worker {
    /// Takes a report that a phone publishes for its own address or this node (RFC 6035 §3.1); false where it is no such request.
    pub(super) fn on_report(&mut self, id: RequestId, request: &Message, caller: &str) -> bool {
        let is_meant = |event: &str| event.split(';').next().is_some_and(|event| event.trim() == vq::EVENT);
        if request.method() != Method::Publish || !request.header(Header::Event).is_some_and(is_meant) {
            return false;
        }
        let kind = request.header(Header::ContentType).and_then(|kind| kind.split(';').next()).unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case(vq::MEDIA_TYPE) {
            self.reject_with(id, 415, "Unsupported Media Type", &[(Header::Accept, vq::MEDIA_TYPE.to_owned())]);
            return true;
        }
        let Some(report) = vq::parse(request.body()) else {
            self.reject(id, 400, "That report cannot be read");
            return true;
        };
        let measured = Measured {
            loss_percent: report.loss_percent,
            jitter_ms: report.jitter_ms,
            round_trip_ms: report.round_trip_ms,
            mean_opinion: report.mean_opinion,
        };
        let exchange = self.exchange.clone();
        let user = exchange.account_of(caller);
        match exchange.reported(self.now.unix_ms, user, &report.call_id, &measured) {
            // RFC 3903 §6: what is published has a name, by which nobody will ask for it here.
            Ok(()) | Err(NotTaken::TooOften) => {
                let tag = self.server.to_tag(request);
                let response = Builder::response(request, 200, "OK")
                    .to_tag(tag.as_str())
                    .header(Header::SipEtag, tag.as_str())
                    .header(Header::Expires, &EXPIRES_S.to_string())
                    .finish();
                self.server.respond(self.now.instant, id, response);
            }
            Err(NotTaken::NoCall) => self.reject(id, 404, "Nothing is known here of that call"),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(at_ms: u64, is_caller: bool) -> Report {
        Report { at_ms, is_caller, loss_percent: 1.0, jitter_ms: 2.0, round_trip_ms: None, mean_opinion: 4.0 }
    }

    #[test]
    fn each_end_is_heard_now_and_then_and_what_is_kept_is_bounded() {
        let reports = Reports::default();
        assert_eq!(reports.note("a", report(0, true)), Ok(()));
        assert_eq!(reports.note("a", report(EVERY_MS - 1, true)), Err(NotTaken::TooOften));
        assert_eq!(reports.note("a", report(1, false)), Ok(()));
        assert_eq!(reports.of("a"), [report(0, true), report(1, false)]);
        for number in 1..3000 {
            assert_eq!(reports.note("a", report(number * EVERY_MS, true)), Ok(()));
        }
        assert_eq!(reports.of("a").len(), MAX_REPORTS);
        for number in 0..MAX_CALLS {
            assert_eq!(reports.note(&number.to_string(), report(0, true)), Ok(()));
        }
        assert!(reports.of("a").is_empty());
        assert_eq!(reports.state().of_call.len(), MAX_CALLS);
    }
}
