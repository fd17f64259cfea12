//! Calls, live and over, and the ladder of each: the messages that this node saw.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use meshtone_media::relay::Heard;
use meshtone_sip::transport::{Destination, Flow, PeerHost};
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::unix_ms;
use crate::control::{Call, Sound};
use crate::exchange::calls::Sample;
use crate::exchange::watch::{Shown, Step, With, text_of};
use crate::transport::node_of;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Named};

/// Longest text of a message that is shown, in characters.
const MAX_TEXT: usize = 16 * 1024;

/// The calls that this node takes part in, or did.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct Calls {
    live: Vec<Call>,
    /// Newest first.
    finished: Vec<Finished>,
}

/// A call that is over.
#[derive(Serialize, ToSchema)]
struct Finished {
    call_id: String,
    from: String,
    to: String,
    /// For how many seconds it stood, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    lasted_s: Option<u64>,
    /// How many seconds ago it ended.
    ended_s: u64,
    /// Its last status: 200 where it was answered.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<Sound>,
}

/// A call with its messages.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct CallDetail {
    call_id: String,
    from: String,
    to: String,
    /// `ringing`, `established`, `over`.
    state: &'static str,
    messages: Vec<LadderMessage>,
    /// Messages that were too many to be kept.
    left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<Sound>,
    /// How it sounded as time went on, where its sound runs through this node.
    quality: Vec<Quality>,
}

/// A message that this node saw.
#[derive(Serialize, ToSchema)]
struct LadderMessage {
    /// In unix milliseconds.
    at_ms: u64,
    /// `node`, or the address or id of another.
    from: String,
    to: String,
    transport: String,
    first_line: String,
    /// All of it, without credentials and media keys.
    text: String,
}

/// How a call sounded at one end at a moment.
#[derive(Serialize, ToSchema)]
struct Quality {
    /// In unix seconds.
    at_s: u64,
    /// Who hears it so.
    end: HearingEnd,
    loss_percent: f64,
    jitter_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    mos: f64,
}

/// An end of a call.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum HearingEnd {
    Caller,
    Callee,
}

/// The calls that this node takes part in, or did.
#[utoipa::path(get, path = "/admin/calls", tag = "admin", responses(
    (status = 200, body = Calls), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn list(_: Administrator, State(site): State<Arc<Site>>) -> Json<Calls> {
    let status = site.control.status();
    let now_ms = unix_ms();
    let mut finished: Vec<Finished> = site
        .exchange
        .watches
        .all()
        .into_iter()
        .filter_map(|call| {
            let ended_ms = call.ended_ms?;
            let carried = status.finished_calls.iter().find(|other| other.call_id == call.call_id);
            Some(Finished {
                lasted_s: call.answered_ms.map(|answered_ms| ended_ms.saturating_sub(answered_ms) / 1000),
                ended_s: now_ms.saturating_sub(ended_ms) / 1000,
                status: call.status.unwrap_or_default(),
                sound: carried.map(|carried| carried.sound.clone()),
                call_id: call.call_id,
                from: call.from,
                to: call.to,
            })
        })
        .collect();
    // Carried calls are remembered longer than ladders.
    for carried in &status.finished_calls {
        if !finished.iter().any(|call| call.call_id == carried.call_id) {
            finished.push(Finished {
                call_id: carried.call_id.clone(),
                from: carried.from.clone(),
                to: carried.to.clone(),
                lasted_s: Some(carried.lasted_s),
                ended_s: carried.ended_s,
                status: 200,
                sound: Some(carried.sound.clone()),
            });
        }
    }
    finished.sort_by_key(|call| call.ended_s);
    Json(Calls { live: status.calls, finished })
}

/// A call with its messages.
#[utoipa::path(get, path = "/admin/calls/{call_id}", tag = "admin", params(("call_id" = String, Path)), responses(
    (status = 200, body = CallDetail), (status = 401, body = Failure), (status = 403, body = Failure), (status = 404, body = Failure),
))]
pub(in crate::web::api) async fn show(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Named(call_id): Named,
) -> Result<Json<CallDetail>, Failure> {
    let Some(call) = site.exchange.watches.find(&call_id) else {
        return Err(Failure::not_found(
            "nothing is remembered of this call: it is too long ago, or the node was too busy",
        ));
    };
    let status = site.control.status();
    let live = status.calls.iter().find(|other| other.call_id == call.call_id).and_then(|other| other.sound.clone());
    let over = || status.finished_calls.iter().find(|other| other.call_id == call.call_id);
    let sound = live.or_else(|| over().map(|other| other.sound.clone()));
    let quality = site.exchange.calls.quality(&call.call_id).into_iter().flat_map(quality).collect();
    Ok(Json(shown(&site, call, sound, quality)))
}

fn shown(site: &Site, call: Shown, sound: Option<Sound>, quality: Vec<Quality>) -> CallDetail {
    let state = match (call.answered_ms, call.ended_ms) {
        (_, Some(_)) => "over",
        (Some(_), None) => "established",
        (None, None) => "ringing",
    };
    let own_host = &site.exchange.own_host;
    let messages = call.messages.into_iter().map(|step| ladder_message(own_host, &step)).collect();
    let Shown { call_id, from, to, left_out, .. } = call;
    CallDetail { call_id, from, to, state, messages, left_out, sound, quality }
}

fn ladder_message(own_host: &PeerHost, step: &Step) -> LadderMessage {
    let (other, transport) = match &step.with {
        With::Flow(flow) | With::Destination(Destination::Flow(flow)) => (of_flow(own_host, flow), flow.transport()),
        With::Destination(Destination::Address { transport, addr, .. }) => (addr.to_string(), *transport),
        With::Destination(destination @ Destination::Peer(host)) => (of_host(own_host, host), destination.transport()),
    };
    let text: String = text_of(&step.message).chars().take(MAX_TEXT).collect();
    let first_line = text.lines().next().unwrap_or_default().to_owned();
    let node = "node".to_owned();
    let (from, to) = if step.is_sent { (node, other) } else { (other, node) };
    LadderMessage { at_ms: step.at_ms, from, to, transport: transport.to_string(), first_line, text }
}

fn of_flow(own_host: &PeerHost, flow: &Flow) -> String {
    match flow {
        Flow::Udp { remote, .. } | Flow::Stream { remote, .. } => remote.to_string(),
        Flow::Peer { host } => of_host(own_host, host),
    }
}

fn of_host(own_host: &PeerHost, host: &PeerHost) -> String {
    match node_of(host) {
        Some(_) if host == own_host => "node".to_owned(),
        Some(node) => node.to_string(),
        None => host.to_string(),
    }
}

fn quality(sample: Sample) -> Vec<Quality> {
    // No more digits than the measurement has.
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let of = |end, heard: Option<Heard>| {
        heard.map(|heard| Quality {
            at_s: sample.at_ms / 1000,
            end,
            loss_percent: rounded(heard.loss * 100.0),
            jitter_ms: rounded(heard.jitter_ms),
            rtt_ms: heard.round_trip.map(|time| rounded(time.as_secs_f64() * 1000.0)),
            mos: rounded(heard.mean_opinion),
        })
    };
    let ends = [of(HearingEnd::Caller, sample.by_caller), of(HearingEnd::Callee, sample.by_callee)];
    ends.into_iter().flatten().collect()
}
