//! What the user agent tells its node.

use std::time::Duration;

use super::{AgentRequestId, DialogId, SubscriptionId};
use crate::message::Message;
use crate::server::RequestId;
use crate::transport::Flow;

/// What happened to a call, request or subscription of our own agent.
///
/// `call` is the number that [`crate::server::Server::place_call`] gave. The first dialog of a call has that number too; a
/// dialog of another branch behind a fork has its own.
#[derive(Debug, Clone)]
pub enum AgentEvent {
    /// A provisional response other than 100 to a call of ours.
    Progress {
        /// The call.
        call: DialogId,
        /// The early dialog that the response belongs to.
        dialog: DialogId,
        /// Its status.
        status: u16,
        /// The response; its body may preview or be the answer (RFC 3262 §5).
        response: Message,
    },
    /// A call of ours was answered. The ACK is sent, unless `wants_answer`.
    Answered {
        /// The call.
        call: DialogId,
        /// The dialog that stands now.
        dialog: DialogId,
        /// The 2xx.
        response: Message,
        /// The body is an offer: [`crate::server::Server::acknowledge`] sends the ACK with the answer.
        wants_answer: bool,
    },
    /// The other side says why it ends a session, by the Reason of its BYE or CANCEL (RFC 3326); the end itself follows.
    EndReason {
        /// The dialog.
        dialog: DialogId,
        /// Value of Reason.
        reason: String,
    },
    /// A call of ours failed, or was cancelled (487). Its number means nothing any more.
    Failed {
        /// The call.
        dialog: DialogId,
        /// Status of the response; 408 for silence, 503 when the INVITE could not be sent.
        status: u16,
        /// The response, if there was one.
        response: Option<Message>,
    },
    /// A request of [`crate::server::Server::send_request`] or `send_in_dialog` is over.
    Response {
        /// The request.
        id: AgentRequestId,
        /// Status of the final response; 408 for silence, 503 when the request could not be sent.
        status: u16,
        /// The response, if there was one.
        response: Option<Message>,
        /// The realm whose challenge was answered on the way, if any.
        realm: Option<String>,
    },
    /// A re-INVITE or UPDATE of ours was answered by 2xx.
    Changed {
        /// The dialog.
        dialog: DialogId,
        /// The 2xx with the answer.
        response: Message,
        /// The body is an offer: [`crate::server::Server::acknowledge`] sends the ACK with the answer.
        wants_answer: bool,
    },
    /// A re-INVITE or UPDATE of ours failed: all stays as it was (RFC 3261 §14.1), unless the dialog ends too.
    ChangeFailed {
        /// The dialog.
        dialog: DialogId,
        /// Status; 408 for silence, 503 when it could not be sent.
        status: u16,
        /// The response, if there was one.
        response: Option<Message>,
    },
    /// A provisional response of ours was acknowledged.
    Prack {
        /// The dialog.
        dialog: DialogId,
        /// The PRACK; its body is the answer where the offer was ours.
        prack: Message,
    },
    /// A request within a dialog that the node said it handles; answer it with `respond` or `reject`.
    Request {
        /// To answer with.
        id: RequestId,
        /// The dialog.
        dialog: DialogId,
        /// The request.
        request: Message,
    },
    /// The other side asks us to refer to somebody (RFC 3515): `accept_refer`, or `reject`.
    Refer {
        /// To answer with.
        id: RequestId,
        /// The dialog.
        dialog: DialogId,
        /// The URI of Refer-To, which may carry `?Replaces=` (RFC 3891).
        refer_to: String,
        /// The request.
        request: Message,
    },
    /// A further notifier answers a subscription of ours that may have several: what it tells follows under its own number.
    Forked {
        /// The subscription that was asked for.
        subscription: SubscriptionId,
        /// That with the further notifier, refreshed and ended by itself.
        fork: SubscriptionId,
    },
    /// A request within a dialog has the right tags but comes from an address where that dialog never was: its phone has moved
    /// to another network, or somebody else has learnt the tags (threat 16). Answer it: a challenge asks for proof,
    /// [`crate::server::Server::admit`] takes the request where the proof is good, `reject` with 481 ends the matter.
    Moved {
        /// To answer with.
        id: RequestId,
        /// The dialog that it names.
        dialog: DialogId,
        /// URI of the other side, as the dialog knows it: whose proof it must be.
        peer: String,
        /// The request.
        request: Message,
        /// Where it came from.
        flow: Flow,
    },
    /// A NOTIFY of a subscription of ours, answered already.
    Notified {
        /// The subscription.
        subscription: SubscriptionId,
        /// What it says of the subscription.
        state: SubscriptionState,
        /// The NOTIFY.
        request: Message,
    },
    /// A NOTIFY that tells how a REFER of ours goes on; answered already.
    ReferProgress {
        /// The subscription that the REFER implied.
        subscription: SubscriptionId,
        /// Status in the `message/sipfrag` body (RFC 3420); 0 when it holds none.
        status: u16,
        /// The NOTIFY.
        request: Message,
    },
    /// The other side prolonged a subscription with us. It was answered and notified of the present state.
    SubscriptionRefreshed {
        /// The subscription.
        subscription: SubscriptionId,
        /// How long it lasts from now on.
        expires: Duration,
    },
    /// A subscription, ours or with us, is over.
    SubscriptionEnded {
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        reason: Termination,
        /// When to try again, if the notifier said so.
        retry_after: Option<Duration>,
    },
}

/// Subscription-State (RFC 6665 §4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionState {
    /// Not decided upon yet.
    Pending,
    /// It stands.
    Active,
    /// It is over.
    Terminated,
}

/// Why a subscription is over (RFC 6665 §4.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Termination {
    /// Subscribe again at once.
    Deactivated,
    /// Try again later.
    Probation,
    /// Policy forbids it.
    Rejected,
    /// It was not refreshed, or was ended by the subscriber.
    Timeout,
    /// Nobody could decide in time.
    GiveUp,
    /// What was subscribed to does not exist (any more).
    NoResource,
    /// What was subscribed to will never change.
    Invariant,
    /// Another reason, or none.
    Other(String),
    /// SUBSCRIBE, REFER or NOTIFY failed with this status; 408 for silence.
    Failed(u16),
}
