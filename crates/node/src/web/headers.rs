//! The header fields that every answer has.

use axum::http::{HeaderValue, header};
use axum::response::Response;

/// What a page may load and do: what this node serves, and nothing inline. Nobody shows it within a page of his.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
                      frame-ancestors 'none'; base-uri 'none'";

/// Adds them. What says nothing of its own about being kept is not kept: it may be about a person.
pub(super) async fn strict(mut response: Response) -> Response {
    let fields = response.headers_mut();
    // The page itself may do more.
    fields.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // For browsers that do not know frame-ancestors.
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    // Neither windows nor pages of other sites see or load what is here.
    fields.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    fields.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    fields.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
