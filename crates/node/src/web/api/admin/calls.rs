//! Calls, live and over, and the ladder of each: the messages that this node saw.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use meshtone_media::relay::Heard;
use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::unix_ms;
use crate::control::{Call, LadderMessage, Sound};
use crate::exchange::calls::Sample;
use crate::exchange::reported::Report;
use crate::exchange::watch::Shown;
use crate::trace::ladder;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Named};

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

/// How a call sounded at one end at a moment.
#[derive(Serialize, ToSchema)]
struct Quality {
    /// In unix seconds.
    at_s: u64,
    /// Who hears it so.
    end: HearingEnd,
    /// Who says so: this node, which carries the sound, or that end itself.
    by: Witness,
    loss_percent: f64,
    jitter_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    mos: f64,
}

/// Who says how a call sounds.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Witness {
    Node,
    End,
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
    let mut quality: Vec<Quality> = site.exchange.calls.quality(&call.call_id).into_iter().flat_map(quality).collect();
    quality.extend(site.exchange.reports.of(&call.call_id).iter().map(reported));
    quality.sort_by_key(|one| one.at_s);
    Ok(Json(shown(&site, call, sound, quality)))
}

fn shown(site: &Site, call: Shown, sound: Option<Sound>, quality: Vec<Quality>) -> CallDetail {
    let state = match (call.answered_ms, call.ended_ms) {
        (_, Some(_)) => "over",
        (Some(_), None) => "established",
        (None, None) => "ringing",
    };
    let own_host = &site.exchange.own_host;
    let messages = call.messages.iter().map(|step| ladder::message(own_host, step)).collect();
    let Shown { call_id, from, to, left_out, .. } = call;
    CallDetail { call_id, from, to, state, messages, left_out, sound, quality }
}

fn reported(report: &Report) -> Quality {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    Quality {
        at_s: report.at_ms / 1000,
        end: if report.is_caller { HearingEnd::Caller } else { HearingEnd::Callee },
        by: Witness::End,
        loss_percent: rounded(report.loss_percent),
        jitter_ms: rounded(report.jitter_ms),
        rtt_ms: report.round_trip_ms.map(rounded),
        mos: rounded(report.mean_opinion),
    }
}

fn quality(sample: Sample) -> Vec<Quality> {
    // No more digits than the measurement has.
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let of = |end, heard: Option<Heard>| {
        heard.map(|heard| Quality {
            at_s: sample.at_ms / 1000,
            end,
            by: Witness::Node,
            loss_percent: rounded(heard.loss * 100.0),
            jitter_ms: rounded(heard.jitter_ms),
            rtt_ms: heard.round_trip.map(|time| rounded(time.as_secs_f64() * 1000.0)),
            mos: rounded(heard.mean_opinion),
        })
    };
    let ends = [of(HearingEnd::Caller, sample.by_caller), of(HearingEnd::Callee, sample.by_callee)];
    ends.into_iter().flatten().collect()
}
