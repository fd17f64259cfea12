//! The files of the page, as `npm run build` leaves them in `web/dist`: within the program, so that one file is all one installs. A build
//! for debugging reads them from there at each request.
//!
//! Names below `assets/` have a hash of what is in them, so such a file never changes; all others are asked for again each time. Beside a file may
//! lie `FILE.br` and `FILE.gz`, the same compressed.

use std::borrow::Cow;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use rust_embed::{EmbeddedFile, RustEmbed};
use std::sync::Arc;

use super::{EnrolHere, Site, html};

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// What the page's script may do besides: reach this node, and play and show media of its own making.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; \
                      font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
/// What the page may ask for, and nobody within it.
const PERMISSIONS: &str =
    "microphone=(self), camera=(self), speaker-selection=(self), autoplay=(self), geolocation=(), payment=(), usb=()";

/// The page; in a build without it, a word about how to get one.
pub(super) async fn index(State(site): State<Arc<Site>>, fields: HeaderMap) -> Response {
    file("index.html", &fields).unwrap_or_else(|| without_page(&site))
}

/// Any other file of the page.
pub(super) fn serve(uri: &Uri, fields: &HeaderMap) -> Option<Response> {
    file(uri.path().strip_prefix('/')?, fields)
}

fn file(name: &str, fields: &HeaderMap) -> Option<Response> {
    // What is compressed is asked for by its own name alone.
    let plain = Files::get(name).filter(|_| kind_of(name).is_some())?;
    let (encoding, found) = match compressed(name, fields) {
        Some((encoding, found)) => (Some(encoding), found),
        None => (None, plain),
    };
    let kind = kind_of(name)?;
    let tag = BASE64URL_NOPAD.encode(&found.metadata.sha256_hash());
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).ok()?;
    let is_known = fields.get_all(header::IF_NONE_MATCH).iter().any(|known| known == tag);
    let caching = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes(found)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("permissions-policy", HeaderValue::from_static(PERMISSIONS));
    if let Some(encoding) = encoding.filter(|_| !is_known) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}

fn compressed(name: &str, fields: &HeaderMap) -> Option<(&'static str, EmbeddedFile)> {
    let accepted = fields.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let accepted: Vec<&str> = accepted.flat_map(|value| value.split(',')).filter_map(taken).collect();
    [("br", "br"), ("gzip", "gz")]
        .into_iter()
        .filter(|(encoding, _)| accepted.iter().any(|taken| taken.eq_ignore_ascii_case(encoding)))
        .find_map(|(encoding, end)| Some((encoding, Files::get(&format!("{name}.{end}"))?)))
}

/// What somebody takes, unless he says that he does not (RFC 9110 §12.4.2).
fn taken(item: &str) -> Option<&str> {
    let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
    let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
    Some(coding.trim()).filter(|_| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
}

fn bytes(file: EmbeddedFile) -> axum::body::Body {
    match file.data {
        Cow::Borrowed(data) => bytes::Bytes::from_static(data).into(),
        Cow::Owned(data) => data.into(),
    }
}

/// The kinds of files that a page has; others are not served.
fn kind_of(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webmanifest" | "json" => "application/json",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "ogg" | "opus" => "audio/ogg",
        _ => return None,
    })
}

fn without_page(site: &Site) -> Response {
    let domain = html::escape(&site.domain);
    let enrol = match site.enrol() {
        EnrolHere::Local | EnrolHere::Anybody => "<p><a href=\"enroll\">Be called at your mail address</a></p>\n",
        EnrolHere::Nobody => "",
    };
    let body = format!(
        "<h1>{domain}</h1>\n<p>This is a node of a Meshtone network: it serves the phones of <strong>{domain}</strong>.</p>\n{enrol}\
         <p>This program was built without its page. Whoever built it gets one with <code>make build</code>, or \
         <code>npm ci</code> and <code>npm run build</code> in <code>web</code> before <code>cargo build</code>.</p>\n"
    );
    Html(html::page(&site.domain, &body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_taken_unless_its_weight_is_nothing() {
        for (item, expected) in [
            ("br", Some("br")),
            (" gzip ;q=0.5", Some("gzip")),
            ("br;q=0", None),
            ("br; q=0.000", None),
            ("br;q=much", None),
        ] {
            assert_eq!(taken(item), expected, "{item}");
        }
    }

    #[test]
    fn files_of_no_known_kind_are_none_of_the_page() {
        for name in ["index.html.br", "index.html.gz", "map", "assets/x.js.map", ".env"] {
            assert_eq!(kind_of(name), None, "{name}");
        }
    }
}
