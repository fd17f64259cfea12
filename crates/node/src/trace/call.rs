//! What is known of one call: its messages, what they said of media, the way that its sound takes, and how it ended.

use meshtone_identity::NodeId;
use meshtone_media::codec::Codec;
use meshtone_media::relay::{Protected, Way};
use meshtone_sip::message::{Header, Message};

use super::{Side, Tracer, description, heard, ladder};
use crate::clock::unix_ms;
use crate::control::{LadderMessage, TracedCall, TracedDescription, TracedEnd};
use crate::exchange::Exchange;
use crate::exchange::calls::{CallState, Sound};
use crate::exchange::watch::{Shown, Step};
use crate::text::harmless;
use crate::transport::node_of;

/// How long after its answer nothing may have come from an end before that is called a failure: ICE and DTLS take a second or two.
const HEARD_WITHIN_MS: u64 = 5000;

/// Characters of a reason that are shown.
const MAX_REASON: usize = 120;

/// A call that was found.
pub(super) struct Followed {
    /// Whom it is for.
    pub(super) to: String,
    /// The other nodes that it runs through.
    pub(super) nodes: Vec<NodeId>,
    pub(super) end: Ended,
}

/// How it stands, or came to its end.
pub(super) enum Ended {
    /// It rings.
    Not,
    /// It is answered.
    Stands,
    /// It was answered, and hung up.
    Well,
    /// The sound does not arrive.
    Silent(Side),
    /// It failed.
    Failed { side: Side, status: u16, says: String },
}

impl Tracer {
    /// Finds a call that runs here or did lately.
    pub(super) fn follow_call(&mut self, exchange: &Exchange, call_id: &str) -> Option<Followed> {
        let Some(shown) = exchange.watches.find(call_id) else { return self.find_unwatched(exchange, call_id) };
        // It may have been asked for by the name of another leg.
        let sound = exchange.calls.sound(&shown.call_id);
        let now_ms = unix_ms();
        let state = match (shown.answered_ms, shown.ended_ms) {
            (_, Some(_)) => "over",
            (Some(_), None) => "established",
            (None, None) => "ringing",
        };
        let ago_s = now_ms.saturating_sub(shown.ended_ms.or(shown.answered_ms).unwrap_or(shown.began_ms)) / 1000;
        let says = format!("It is {state} since {ago_s} s, from {} to {}.", shown.from, shown.to);
        self.ok(Side::Here, "call", says);
        let messages: Vec<LadderMessage> =
            shown.messages.iter().map(|step| ladder::message(&exchange.own_host, step)).collect();
        let descriptions = descriptions(&shown.messages, &messages);
        for TracedDescription { by, within, streams } in &descriptions {
            let says = format!("{by} says in {within}: {}.", description::sentence(streams));
            let side = match by.as_str() {
                ladder::NODE => Side::Here,
                by if messages.first().is_some_and(|first| first.from == by) => Side::Caller,
                _ => Side::Callee,
            };
            self.ok(side, "media", says);
        }
        let silent = self.tell_sound(&shown, sound.as_ref(), &descriptions, now_ms);
        let end = match (shown.ended_ms, shown.answered_ms, shown.status) {
            (None, None, _) => Ended::Not,
            (None, Some(_), _) => silent.map_or(Ended::Stands, Ended::Silent),
            (Some(_), Some(_), _) => silent.map_or(Ended::Well, Ended::Silent),
            (Some(_), None, status) => self.tell_failure(&shown.messages, &messages, status.unwrap_or_default()),
        };
        let mut nodes: Vec<NodeId> = Vec::new();
        for node in shown.messages.iter().filter_map(ladder::neighbour).filter_map(node_of) {
            if node != exchange.overlay.node_id() && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let to = shown.to.clone();
        self.trace.call = Some(TracedCall {
            call_id: shown.call_id,
            from: shown.from,
            to: shown.to,
            state: state.to_owned(),
            status: shown.status,
            messages,
            left_out: shown.left_out,
            descriptions,
            ends: sound.as_ref().map(ends).unwrap_or_default(),
            is_converted: sound.is_some_and(|sound| sound.converted.is_some()),
        });
        Some(Followed { to, nodes, end })
    }

    /// A call whose messages nobody kept: the node was busy, or it is long over.
    fn find_unwatched(&mut self, exchange: &Exchange, call_id: &str) -> Option<Followed> {
        let running = exchange.calls.all().into_iter().find(|(id, _)| id == call_id);
        let (from, to, state, end) = match running {
            Some((_, call)) => {
                let end = match call.state {
                    CallState::Ringing => Ended::Not,
                    CallState::Established => Ended::Stands,
                };
                (call.from, call.to, call.state.as_str(), end)
            }
            None => {
                let over = exchange.calls.all_finished().into_iter().rev().find(|call| call.call_id == call_id)?;
                (over.from, over.to, "over", Ended::Well)
            }
        };
        let sound = exchange.calls.sound(call_id);
        self.ok(Side::Here, "call", format!("It is {state}, from {from} to {to}; its messages were not kept."));
        if let Some(sound) = &sound {
            self.tell_way(sound);
        }
        self.trace.call = Some(TracedCall {
            call_id: call_id.to_owned(),
            from,
            to: to.clone(),
            state: state.to_owned(),
            status: None,
            messages: Vec::new(),
            left_out: 0,
            descriptions: Vec::new(),
            ends: sound.as_ref().map(ends).unwrap_or_default(),
            is_converted: sound.is_some_and(|sound| sound.converted.is_some()),
        });
        Some(Followed { to, nodes: Vec::new(), end })
    }

    /// Which way the sound takes, and whether it arrives; returns on whose side it is that it does not.
    fn tell_sound(
        &mut self,
        shown: &Shown,
        sound: Option<&Sound>,
        descriptions: &[TracedDescription],
        now_ms: u64,
    ) -> Option<Side> {
        let answered_ms = shown.answered_ms?;
        let Some(sound) = sound else {
            self.ok(Side::Network, "sound", direct(descriptions));
            return None;
        };
        self.tell_way(sound);
        let stood_ms = shown.ended_ms.unwrap_or(now_ms).saturating_sub(answered_ms);
        let (who, side) = match (sound.by_callee.is_none(), sound.by_caller.is_none()) {
            _ if stood_ms < HEARD_WITHIN_MS => return None,
            (false, false) => return None,
            (true, false) => ("the caller's phone", Side::Caller),
            (false, true) => ("the phone that was called", Side::Callee),
            (true, true) => ("either phone", Side::Network),
        };
        self.failed(side, "sound", format!("Nothing has come from {who} since the call was answered."));
        Some(side)
    }

    fn tell_way(&mut self, sound: &Sound) {
        for end in ends(sound) {
            let own = end.own.map_or_else(|| "this node".to_owned(), |own| format!("this node ({own})"));
            let remote = end.remote.map_or_else(|| "nowhere yet".to_owned(), |remote| remote.to_string());
            let way = match end.way.as_str() {
                "described" => format!("{remote}, where it says it is; nothing has come from there"),
                "heard" => format!("{remote}, where its packets come from"),
                "unchecked" => "nowhere yet: no check of its ICE has come".to_owned(),
                "checked" => format!("{remote}, the first candidate pair of ICE that works"),
                "nominated" => format!("{remote}, the candidate pair that its ICE chose"),
                "link" => "another node, over the link".to_owned(),
                _ => "nowhere: nothing is agreed".to_owned(),
            };
            let codec = end.codec.unwrap_or_else(|| "none yet".to_owned());
            let says = format!("The {}: {own} to {way}. Codec: {codec}; protection: {}.", end.end, end.protection);
            self.ok(Side::Network, "sound", says);
        }
        let converted = sound.converted.map_or_else(
            || "It passes as it is".to_owned(),
            |[caller, callee]| format!("It is converted between {} and {}", caller.name(), callee.name()),
        );
        self.ok(Side::Here, "sound", format!("{converted}; {}.", heard(sound)));
    }

    /// Who said that it is not to be, and what that means.
    fn tell_failure(&mut self, steps: &[Step], messages: &[LadderMessage], status: u16) -> Ended {
        let is_it = |message: &Message| {
            !message.is_request()
                && message.status() == status
                && message.cseq().is_ok_and(|cseq| cseq.method == "INVITE")
        };
        let all = || steps.iter().zip(messages);
        let came = all().rev().find(|(step, _)| !step.is_sent && is_it(&step.message));
        let went = all().rev().find(|(step, _)| step.is_sent && is_it(&step.message));
        let (side, meaning) = meaning(status, came.is_some());
        let line = came.or(went).map(|(_, message)| message.first_line.trim_start_matches("SIP/2.0 ").to_owned());
        let line = line.unwrap_or_else(|| status.to_string());
        let by = came.map_or_else(|| "this node itself".to_owned(), |(_, message)| message.from.clone());
        let field = |name| came.or(went).and_then(|(step, _)| step.message.header(name));
        let reason = field(Header::Warning).or_else(|| field(Header::Reason));
        let reason = reason.map(|reason| format!(" ({})", harmless(reason, MAX_REASON))).unwrap_or_default();
        self.failed(side, "answer", format!("{by} answered {line}{reason}: {meaning}."));
        Ended::Failed { side, status, says: meaning.to_owned() }
    }
}

/// What a status says of a call (RFC 3261 §21), and on whose side the reason is; `is_foreign` where it came from another.
fn meaning(status: u16, is_foreign: bool) -> (Side, &'static str) {
    match status {
        401 | 407 => (Side::Caller, "the caller did not prove who he is"),
        403 if is_foreign => (Side::Callee, "whoever is called, or his node, takes no calls from this caller"),
        403 => (Side::Caller, "this caller may not call there"),
        404 | 416 | 484 | 485 | 604 => (Side::Caller, "nobody has that address"),
        405 | 420 | 421 | 422 | 423 | 494 => {
            (Side::Callee, "the two phones want something of each other that one cannot")
        }
        408 | 504 => (Side::Network, "nothing answered in time"),
        410 | 301 | 302 | 305 => (Side::Callee, "whoever is called is somewhere else"),
        415 | 488 | 606 => (Side::Callee, "the ends have no codec or protection in common"),
        480 if is_foreign => (Side::Callee, "no phone took it"),
        480 => (Side::Callee, "no phone of that address is reached"),
        482 | 483 | 440 => (Side::Network, "the call went in circles"),
        486 | 600 => (Side::Callee, "it is busy there"),
        487 => (Side::Caller, "the caller hung up before anybody answered"),
        603 | 607 | 608 => (Side::Callee, "it was declined"),
        428 | 436 | 437 | 438 => (Side::Caller, "the signature of who calls was not accepted"),
        500.. if is_foreign => (Side::Callee, "the other side is not able to take it"),
        500.. => (Side::Here, "this node is not able to take it"),
        _ => (if is_foreign { Side::Callee } else { Side::Here }, "the call was refused"),
    }
}

/// How it sounds, or would, where media does not run through this node.
fn direct(descriptions: &[TracedDescription]) -> String {
    let audio = |described: &&TracedDescription| {
        described.streams.iter().find(|stream| stream.kind == "audio" && stream.address.is_some()).cloned()
    };
    let mut last: Vec<_> = descriptions.iter().rev().filter_map(|described| audio(&described)).take(2).collect();
    let (Some(answer), Some(offer)) = (last.first().cloned(), last.pop().filter(|_| descriptions.len() > 1)) else {
        return "The sound does not run through this node, and where it runs was not seen.".to_owned();
    };
    let (one, other) = (offer.address.unwrap_or_default(), answer.address.unwrap_or_default());
    let codec = answer.codecs.first().cloned().unwrap_or_else(|| "a codec unknown here".to_owned());
    let pair = if offer.candidates.is_empty() || answer.candidates.is_empty() {
        format!("between {one} and {other}, as they say")
    } else {
        "between the candidates above; which pair they chose they tell each other alone".to_owned()
    };
    format!("The sound does not run through this node: it goes {pair}, by {codec}, and is converted nowhere here.")
}

/// Each description once, with who made it first.
fn descriptions(steps: &[Step], messages: &[LadderMessage]) -> Vec<TracedDescription> {
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut all = Vec::new();
    for (step, message) in steps.iter().zip(messages) {
        let body = step.message.body();
        if seen.contains(&body) {
            continue;
        }
        let Some(streams) = description::streams(&step.message) else { continue };
        seen.push(body);
        let within = match step.message.is_request() {
            true => step.message.method_name().to_owned(),
            false => step.message.status().to_string(),
        };
        all.push(TracedDescription { by: message.from.clone(), within, streams });
    }
    all
}

/// Both ends of the sound.
fn ends(sound: &Sound) -> Vec<TracedEnd> {
    let [to_caller, to_callee] = sound.ways;
    let [own_to_caller, own_to_callee] = sound.own;
    // What comes from one end is what the other hears.
    let codec = |heard: Option<meshtone_media::relay::Heard>| heard.and_then(|heard| heard.codec).map(Codec::name);
    let one = |end: &str, way: Way, own, protected, heard: Option<meshtone_media::relay::Heard>| {
        let (way, remote) = match way {
            Way::Unknown => ("unknown", None),
            Way::Described(remote) => ("described", Some(remote)),
            Way::Heard(remote) => ("heard", Some(remote)),
            Way::Unchecked => ("unchecked", None),
            Way::Checked { remote, is_nominated: false } => ("checked", Some(remote)),
            Way::Checked { remote, is_nominated: true } => ("nominated", Some(remote)),
            Way::Link => ("link", None),
        };
        TracedEnd {
            end: end.to_owned(),
            way: way.to_owned(),
            own,
            remote,
            codec: codec(heard).map(str::to_owned),
            protection: protection(protected).to_owned(),
            is_heard: heard.is_some(),
        }
    };
    vec![
        one("caller", to_caller, own_to_caller, sound.to_caller, sound.by_callee),
        one("callee", to_callee, own_to_callee, sound.to_callee, sound.by_caller),
    ]
}

/// How sound is protected, in a word.
pub(crate) fn protection(protected: Protected) -> &'static str {
    match protected {
        Protected::No => "none",
        Protected::Sdes => "sdes",
        Protected::Dtls => "dtls",
        Protected::Link => "link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_side_a_refusal_is_on_depends_on_what_it_says_and_who_says_it() {
        let side = |status, is_foreign| meaning(status, is_foreign).0;
        assert_eq!(side(486, true), Side::Callee);
        assert_eq!(side(487, true), Side::Caller);
        assert_eq!((side(403, true), side(403, false)), (Side::Callee, Side::Caller));
        assert_eq!((side(503, true), side(503, false)), (Side::Callee, Side::Here));
        assert_eq!(side(408, false), Side::Network);
        assert_eq!((side(499, true), side(499, false)), (Side::Callee, Side::Here));
    }

    #[test]
    fn where_the_sound_runs_between_phones_is_read_off_the_last_offer_and_answer() {
        let said = |by: &str, address: &str, codecs: &[&str]| TracedDescription {
            by: by.to_owned(),
            within: "INVITE".to_owned(),
            streams: vec![crate::control::TracedStream {
                kind: "audio".to_owned(),
                protocol: "RTP/AVP".to_owned(),
                address: Some(address.to_owned()),
                codecs: codecs.iter().map(|codec| (*codec).to_owned()).collect(),
                candidates: Vec::new(),
            }],
        };
        let both = [said("a", "192.0.2.1:4000", &["opus", "PCMU"]), said("b", "192.0.2.2:4002", &["PCMU"])];
        let says = direct(&both);
        assert!(says.contains("between 192.0.2.1:4000 and 192.0.2.2:4002") && says.contains("by PCMU"), "{says}");
        assert!(direct(&both[..1]).contains("was not seen"));
    }
}
