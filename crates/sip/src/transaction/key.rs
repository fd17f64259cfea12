//! What tells transactions apart (RFC 3261 §17.1.3, §17.2.3).

use std::fmt::Write;

use crate::message::{Message, Method, ParseError};

/// Start of every branch that is unique by itself (RFC 3261 §8.1.1.7).
pub(super) const MAGIC_COOKIE: &str = "z9hG4bK";

/// The method that a request counts as when it looks for its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// Its own, but ACK counts as INVITE.
    Itself,
    /// INVITE, for a CANCEL that looks for what it cancels.
    Invite,
}

/// Key of the server transaction that a request belongs to.
///
/// By branch, sent-by and method where the branch is unique, else by the fields that RFC 2543 had to do with. The To
/// tag is left out there: it tells no two requests of one client apart, and the ACK has one that the INVITE lacks.
pub(super) fn server_key(request: &Message, count_as: As) -> Result<String, ParseError> {
    let via = request.top_via()?;
    let method = match (count_as, request.method()) {
        (As::Invite, _) | (As::Itself, Method::Ack) => "INVITE",
        (As::Itself, _) => request.method_name(),
    };
    let mut key = String::with_capacity(96);
    // Line breaks separate the parts, since no part can hold one.
    match via.branch() {
        Some(branch) if is_unique(branch) => {
            let _ = write!(key, "{branch}\n{}\n{:?}\n{method}", via.host.to_ascii_lowercase(), via.port);
        }
        Some(_) | None => {
            let from = request.from()?;
            let _ = write!(
                key,
                "\n{}\n{}\n{}\n{}\n{}\n{:?}\n{}\n{method}",
                request.request_uri(),
                from.tag().unwrap_or_default(),
                request.call_id(),
                request.cseq()?.number,
                via.host.to_ascii_lowercase(),
                via.port,
                via.branch().unwrap_or_default(),
            );
        }
    }
    Ok(key)
}

/// Key of the client transaction that a response belongs to; also of a request that we are about to send.
pub(super) fn client_key(message: &Message) -> Result<String, ParseError> {
    let via = message.top_via()?;
    let cseq = message.cseq()?;
    Ok(format!("{}\n{}", via.branch().unwrap_or_default(), cseq.method))
}

fn is_unique(branch: &str) -> bool {
    // The cookie alone, as RFC 4475 §3.2.1 sends it, tells nothing apart.
    branch.len() > MAGIC_COOKIE.len()
        && branch.get(..MAGIC_COOKIE.len()).is_some_and(|cookie| cookie.eq_ignore_ascii_case(MAGIC_COOKIE))
}
