//! Provisional responses that are acknowledged by PRACK (RFC 3262), as the called side sends them.

use std::collections::VecDeque;
use std::time::Instant;

use crate::message::{Header, Message};
use crate::transaction::{Backoff, TimerReason, TimerSettings, earlier};

/// Most provisional responses that wait for the PRACK of an earlier one; a service rings, plays and answers.
const WAITING_MAX: usize = 4;

/// The first RSeq is by chance below this, so that the number never wraps (RFC 3262 §3).
pub(crate) const FIRST_RSEQ_BELOW: u32 = 1 << 16;

/// The reliable provisional responses of one INVITE. One at a time is under way.
#[derive(Debug, Default)]
pub(crate) struct ReliableResponses {
    last: u32,
    under_way: Option<UnderWay>,
    waiting: VecDeque<Message>,
}

#[derive(Debug)]
struct UnderWay {
    rseq: u32,
    response: Message,
    retransmit: Backoff,
    until: Instant,
}

/// What the time asks for.
#[derive(Debug)]
pub(crate) enum Due {
    Repeat(Message),
    /// Nobody acknowledged it: the INVITE fails (RFC 3262 §3).
    GiveUp,
}

impl ReliableResponses {
    /// The number of the next response, which `first` begins.
    pub(crate) fn next_rseq(&mut self, first: u32) -> u32 {
        self.last = if self.last == 0 { first.max(1) } else { self.last + 1 };
        self.last
    }

    /// Takes a response with its number; gives back what shall be sent now.
    pub(crate) fn push(&mut self, now: Instant, settings: &TimerSettings, response: Message) -> Option<Message> {
        if self.under_way.is_none() {
            return Some(self.begin(now, settings, response));
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(response);
        }
        None
    }

    /// Takes a PRACK. `None`: it acknowledges nothing of ours (481). Else what shall be sent next, if anything.
    #[expect(clippy::option_option, reason = "whether it fits, and what follows")]
    pub(crate) fn acknowledge(
        &mut self,
        now: Instant,
        settings: &TimerSettings,
        prack: &Message,
    ) -> Option<Option<Message>> {
        let (rseq, cseq, method) = read_rack(prack)?;
        let fits = self.under_way.as_ref().is_some_and(|one| {
            one.rseq == rseq && one.response.cseq().is_ok_and(|of| of.number == cseq && of.method == method)
        });
        if !fits {
            return None;
        }
        self.under_way = None;
        Some(self.waiting.pop_front().map(|next| self.begin(now, settings, next)))
    }

    /// Whether a PRACK is awaited.
    pub(crate) fn is_waiting(&self) -> bool {
        self.under_way.is_some()
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        let one = self.under_way.as_ref()?;
        earlier(Some((one.until, TimerReason::PrackWait)), Some((one.retransmit.at, TimerReason::ReliableRetransmit)))
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, settings: &TimerSettings) -> Option<Due> {
        let one = self.under_way.as_mut()?;
        if one.until <= now {
            self.under_way = None;
            return Some(Due::GiveUp);
        }
        if one.retransmit.at > now {
            return None;
        }
        // It doubles without a limit (RFC 3262 §3).
        one.retransmit = one.retransmit.next(now, settings.patience());
        Some(Due::Repeat(one.response.clone()))
    }

    fn begin(&mut self, now: Instant, settings: &TimerSettings, response: Message) -> Message {
        let rseq = response.header(Header::RSeq).and_then(|value| value.trim().parse().ok()).unwrap_or_default();
        self.under_way = Some(UnderWay {
            rseq,
            response: response.clone(),
            retransmit: Backoff::start(now, settings),
            until: now + settings.patience(),
        });
        response
    }
}

/// RAck: RSeq, number and method of the CSeq (RFC 3262 §7.2).
fn read_rack(prack: &Message) -> Option<(u32, u32, &str)> {
    let mut parts = prack.header(Header::RAck)?.split_ascii_whitespace();
    let rack = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
    parts.next().is_none().then_some(rack)
}
