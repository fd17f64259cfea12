//! The calls in progress, for people who look: a proxy needs no such table to do its work.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshtone_media::codec::Codec;
use meshtone_media::io::Monitor;
use meshtone_media::relay::{End, Heard, Protected, Way};
use meshtone_sip::message::{Message, NameAddr};

use crate::metrics::Metrics;

/// Calls remembered; a busier node shows the first so many and counts on.
const MAX_CALLS: usize = 50_000;
/// A call whose BYE never came by (both phones lost power) is not shown for longer than this.
const LONGEST_MS: u64 = 24 * 3600 * 1000;
/// Calls that are remembered when they are over, how they sounded among them; older ones are in the log.
const MAX_FINISHED: usize = 100;
/// How often a call is listened to; and how many of these are remembered: an hour, of a longer call the last.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const MAX_SAMPLES: usize = 720;

/// The calls that this node takes part in.
#[derive(Default)]
pub(crate) struct Calls {
    calls: Mutex<HashMap<String, Call>>,
    finished: Mutex<VecDeque<Finished>>,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) state: CallState,
    pub(crate) since_ms: u64,
    /// Where its sound runs through this node.
    pub(crate) monitor: Option<Monitor>,
    /// How it has sounded so far.
    quality: Vec<Sample>,
}

/// How a call sounds at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at_ms: u64,
    pub(crate) by_caller: Option<Heard>,
    pub(crate) by_callee: Option<Heard>,
}

/// A call whose sound ran through this node, and that is over.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) call_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) began_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) sound: Sound,
    quality: Vec<Sample>,
}

/// How a call sounds at either end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sound {
    pub(crate) by_caller: Option<Heard>,
    pub(crate) by_callee: Option<Heard>,
    pub(crate) to_caller: Protected,
    pub(crate) to_callee: Protected,
    /// The ways to the caller and to the callee.
    pub(crate) ways: [Way; 2],
    /// This node's addresses on them.
    pub(crate) own: [Option<SocketAddr>; 2],
    /// The codecs of both, where it is converted.
    pub(crate) converted: Option<[Codec; 2]>,
}

impl Sound {
    pub(crate) fn of(monitor: &Monitor) -> Sound {
        Sound {
            by_caller: monitor.heard_by(End::Near),
            by_callee: monitor.heard_by(End::Far),
            to_caller: monitor.protected(End::Near),
            to_callee: monitor.protected(End::Far),
            ways: [End::Near, End::Far].map(|end| monitor.way(end)),
            own: [End::Near, End::Far].map(|end| monitor.own_address(end)),
            converted: monitor.converted(),
        }
    }
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallState {
    Ringing,
    Established,
}

impl CallState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            CallState::Ringing => "ringing",
            CallState::Established => "established",
        }
    }
}

impl Calls {
    /// An INVITE that may become a call.
    pub(crate) fn begin(&self, now_ms: u64, invite: &Message) {
        let mut calls = self.calls();
        if calls.len() >= MAX_CALLS {
            calls.retain(|_, call| now_ms.saturating_sub(call.since_ms) < LONGEST_MS);
        }
        if calls.len() < MAX_CALLS && !calls.contains_key(invite.call_id()) {
            let (from, to) = ends(invite);
            let call =
                Call { from, to, state: CallState::Ringing, since_ms: now_ms, monitor: None, quality: Vec::new() };
            calls.insert(invite.call_id().to_owned(), call);
        }
    }

    /// The INVITE's final answer.
    pub(crate) fn answered(&self, now_ms: u64, call_id: &str, status: u16) {
        let mut calls = self.calls();
        if (200..300).contains(&status) {
            if let Some(call) = calls.get_mut(call_id).filter(|call| call.state == CallState::Ringing) {
                call.state = CallState::Established;
                call.since_ms = now_ms;
            }
        } else {
            calls.remove(call_id);
        }
    }

    /// Its sound runs through this node.
    pub(crate) fn carried(&self, call_id: &str, monitor: Monitor) {
        if let Some(call) = self.calls().get_mut(call_id) {
            call.monitor = Some(monitor);
        }
    }

    /// Listens to all calls whose sound runs through here.
    pub(crate) fn sample(&self, at_ms: u64, metrics: &Metrics) {
        for call in self.calls().values_mut() {
            let Some(monitor) = &call.monitor else { continue };
            let sound = Sound::of(monitor);
            if call.quality.len() >= MAX_SAMPLES {
                call.quality.remove(0);
            }
            for heard in [sound.by_caller, sound.by_callee].into_iter().flatten() {
                metrics.heard(heard.loss, heard.mean_opinion);
            }
            call.quality.push(Sample { at_ms, by_caller: sound.by_caller, by_callee: sound.by_callee });
        }
    }

    /// How a call has sounded, while it lasts and as long as it is remembered.
    pub(crate) fn quality(&self, call_id: &str) -> Vec<Sample> {
        if let Some(call) = self.calls().get(call_id) {
            return call.quality.clone();
        }
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.iter().rev().find(|call| call.call_id == call_id).map(|call| call.quality.clone()).unwrap_or_default()
    }

    /// Remembers how a call sounded that is over.
    pub(crate) fn finished(&self, now_ms: u64, began_ms: u64, invite: &Message, monitor: &Monitor) {
        let (sound, (from, to)) = (Sound::of(monitor), ends(invite));
        let score = |heard: Option<Heard>| heard.map(|heard| (heard.mean_opinion * 10.0).round() / 10.0);
        let loss = |heard: Option<Heard>| heard.map(|heard| (heard.loss * 1000.0).round() / 10.0);
        tracing::info!(
            call_id = invite.call_id(),
            lasted_s = now_ms.saturating_sub(began_ms) / 1000,
            caller_hears_mos = score(sound.by_caller),
            caller_misses_percent = loss(sound.by_caller),
            callee_hears_mos = score(sound.by_callee),
            callee_misses_percent = loss(sound.by_callee),
            "a call that was carried is over"
        );
        let call_id = invite.call_id().to_owned();
        let quality = self.calls().get_mut(&call_id).map(|call| std::mem::take(&mut call.quality)).unwrap_or_default();
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.len() >= MAX_FINISHED {
            finished.pop_front();
        }
        finished.push_back(Finished { call_id, from, to, began_ms, ended_ms: now_ms, sound, quality });
    }

    /// How a call sounds, or sounded, where its sound runs through this node.
    pub(crate) fn sound(&self, call_id: &str) -> Option<Sound> {
        if let Some(call) = self.calls().get(call_id) {
            return call.monitor.as_ref().map(Sound::of);
        }
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.iter().rev().find(|call| call.call_id == call_id).map(|call| call.sound)
    }

    /// Those that are over, oldest first.
    pub(crate) fn all_finished(&self) -> Vec<Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// A BYE went by.
    pub(crate) fn end(&self, call_id: &str) {
        self.calls().remove(call_id);
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<(String, Call)> {
        let mut all: Vec<_> = self.calls().iter().map(|(call_id, call)| (call_id.clone(), call.clone())).collect();
        all.sort_by(|left, right| (left.1.since_ms, &left.0).cmp(&(right.1.since_ms, &right.0)));
        all
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends(invite: &Message) -> (String, String) {
    let address = |name: Result<NameAddr<'_>, _>| name.map(|name| name.uri.to_owned()).unwrap_or_default();
    (address(invite.from()), address(invite.to()))
}
