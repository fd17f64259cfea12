//! The form by which somebody gets an address of her own at this node: what `meshtone enroll` does, in two steps and without script.
//!
//! 1. `/enroll`: an address; the overlay's authority mails a code there.
//! 2. `/confirm`: that code; this node speaks for the address then, and shows once what to type into a phone.
//!
//! A link in the mail leads to the second step. What it knows stands behind the `#`, which no server, log or scanner of mails sees;
//! `confirm.js` fills it in where scripts run, and without them it is typed.

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use meshtone_identity::Error as IdentityError;
use serde::Deserialize;

use super::html::{self, Field, escape};
use super::visitor::{Arrival, Suspect, Visitor};
use super::{EnrolHere, Site};
use crate::account::Credentials;
use crate::authority::{AskError, Asked, Refusal};
use crate::clock::unix_ms;
use crate::exchange::guard::Source;
use crate::member::{EnrolmentError, MemberError};

/// People whose keys a node keeps before its page takes nobody else: each costs signatures and records for as long as she stays.
const MAX_PEOPLE: usize = 1000;

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    token: String,
    address: String,
    #[serde(default)]
    code: String,
}

type Posted = Result<Form<Sent>, FormRejection>;

/// The first step.
pub(super) async fn ask_form(
    State(site): State<Arc<Site>>,
    Extension(arrival): Extension<Arrival>,
    fields: HeaderMap,
) -> Response {
    admitted(&site, arrival, &fields)
        .map_or_else(|refused| *refused, |visitor| asking(&site, &visitor, "", None, StatusCode::OK))
}

/// An address was sent.
pub(super) async fn ask(
    State(site): State<Arc<Site>>,
    Extension(arrival): Extension<Arrival>,
    fields: HeaderMap,
    posted: Posted,
) -> Response {
    let (visitor, Sent { address, .. }) = match sent(&site, arrival, &fields, posted) {
        Ok(sent) => sent,
        Err(refused) => return *refused,
    };
    if site.enrolments.people() >= MAX_PEOPLE {
        return html::refused(StatusCode::SERVICE_UNAVAILABLE, "This node takes no more people.");
    }
    if !site.limits().may_ask(unix_ms(), Source::of(visitor.source)) {
        return too_many();
    }
    let address = address.trim();
    match site.enrolments.ask(address).await {
        Ok(asked) => {
            let note = match asked {
                Asked::Mailed => "can be enrolled, a mail with a code is on its way there.",
                Asked::MailedIfEnrolled => {
                    "is enrolled already, a mail with a code is on its way there. Nobody new is taken."
                }
            };
            let note = format!("If {address} {note} The code is good for an hour.");
            let typed = Typed { address, code: "", wrong: None };
            confirming(&visitor, Some(&note), typed, StatusCode::OK)
        }
        Err(error) => match about_address(&error) {
            Some(why) => asking(&site, &visitor, address, Some(why), StatusCode::UNPROCESSABLE_ENTITY),
            None => failed(&error),
        },
    }
}

/// The second step.
pub(super) async fn confirm_form(
    State(site): State<Arc<Site>>,
    Extension(arrival): Extension<Arrival>,
    fields: HeaderMap,
) -> Response {
    let typed = Typed { address: "", code: "", wrong: None };
    admitted(&site, arrival, &fields)
        .map_or_else(|refused| *refused, |visitor| confirming(&visitor, None, typed, StatusCode::OK))
}

/// A code was sent.
pub(super) async fn confirm(
    State(site): State<Arc<Site>>,
    Extension(arrival): Extension<Arrival>,
    fields: HeaderMap,
    posted: Posted,
) -> Response {
    let (visitor, Sent { address, code, .. }) = match sent(&site, arrival, &fields, posted) {
        Ok(sent) => sent,
        Err(refused) => return *refused,
    };
    if !site.limits().may_prove(unix_ms(), Source::of(visitor.source)) {
        return too_many();
    }
    let (address, code) = (address.trim(), code.trim());
    match site.enrolments.prove_as_stranger(address, code).await {
        Ok(credentials) => done(&site, &visitor, &credentials),
        Err(error) => {
            let wrong = match (about_address(&error), about_code(&error)) {
                (Some(why), _) => Wrong::Address(why),
                (None, Some(why)) => Wrong::Code(why),
                (None, None) => return failed(&error),
            };
            let typed = Typed { address, code, wrong: Some(wrong) };
            confirming(&visitor, None, typed, StatusCode::UNPROCESSABLE_ENTITY)
        }
    }
}

pub(super) async fn script() -> Response {
    let fields = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (fields, include_str!("confirm.js")).into_response()
}

/// Whether somebody may see the form.
fn admitted(site: &Site, arrival: Arrival, fields: &HeaderMap) -> Result<Visitor, Box<Response>> {
    let visitor = Visitor::read(arrival, fields, &site.domain, site.certificates.public());
    let visitor = visitor.map_err(|error| Box::new(suspect(error)))?;
    if !visitor.is_protected {
        let why = "Whoever is on the way could read what is typed here. Ask for this page by https.";
        return Err(Box::new(html::refused(StatusCode::FORBIDDEN, why)));
    }
    let may = match site.enrol() {
        EnrolHere::Nobody => false,
        EnrolHere::Local => visitor.is_local,
        EnrolHere::Anybody => true,
    };
    if may {
        Ok(visitor)
    } else {
        let why = "Nobody is enrolled on this page. Ask who runs this node, or use the page of another one.";
        Err(Box::new(html::refused(StatusCode::FORBIDDEN, why)))
    }
}

/// The same of whoever sent the form, and what is in it.
fn sent(site: &Site, arrival: Arrival, fields: &HeaderMap, posted: Posted) -> Result<(Visitor, Sent), Box<Response>> {
    let visitor = admitted(site, arrival, fields)?;
    let Form(sent) =
        posted.map_err(|refused| Box::new(html::refused(refused.status(), "This form cannot be read.")))?;
    visitor.check_form(fields, &sent.token).map_err(|error| Box::new(suspect(error)))?;
    Ok((visitor, sent))
}

fn suspect(suspect: Suspect) -> Response {
    match suspect {
        Suspect::Host => html::refused(StatusCode::MISDIRECTED_REQUEST, "This node does not have that name."),
        Suspect::Elsewhere => html::refused(
            StatusCode::FORBIDDEN,
            "This form was not sent from this page, or was open for too long. Cookies have to be allowed. Open it again.",
        ),
    }
}

fn too_many() -> Response {
    let mut refused =
        html::refused(StatusCode::TOO_MANY_REQUESTS, "That was asked too often. Try again in ten minutes.");
    refused.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("600"));
    refused
}

/// What is wrong with an address; the same for all of a kind, whoever is enrolled.
fn about_address(error: &EnrolmentError) -> Option<&'static str> {
    match error {
        EnrolmentError::Ask(AskError::Request(_))
        | EnrolmentError::Member(MemberError::Identity(IdentityError::Text { .. } | IdentityError::Domain { .. })) => {
            Some("This is no mail address. One looks like alice@example.net.")
        }
        EnrolmentError::Ask(AskError::Refused(Refusal::HomeDomain)) => {
            Some("Addresses of this network's own domain are given by who runs it.")
        }
        EnrolmentError::Ask(_) | EnrolmentError::Member(_) | EnrolmentError::Account(_) | EnrolmentError::Failed => {
            None
        }
    }
}

fn about_code(error: &EnrolmentError) -> Option<&'static str> {
    match error {
        EnrolmentError::Ask(AskError::Refused(Refusal::WrongCode)) => Some(
            "This is not the code from the newest mail that was asked for here. After five wrong ones, ask for another.",
        ),
        EnrolmentError::Ask(AskError::Refused(Refusal::Expired)) => {
            Some("This code is older than an hour. Ask for another one.")
        }
        EnrolmentError::Ask(_) | EnrolmentError::Member(_) | EnrolmentError::Account(_) | EnrolmentError::Failed => {
            None
        }
    }
}

/// It is nobody's fault who asks; why is for the log.
fn failed(error: &EnrolmentError) -> Response {
    tracing::warn!(%error, hint = error.hint(), "somebody could not be enrolled on the page");
    match error {
        EnrolmentError::Ask(AskError::Refused(refusal)) => {
            html::refused(StatusCode::FORBIDDEN, &format!("The authority of this network says: {refusal}."))
        }
        EnrolmentError::Ask(_) => html::refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "The authority of this network is not reached at the moment. Please try again later.",
        ),
        EnrolmentError::Member(_) | EnrolmentError::Account(_) | EnrolmentError::Failed => html::refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "This node failed to do it. Who runs it finds the reason in its log.",
        ),
    }
}

fn asking(site: &Site, visitor: &Visitor, address: &str, wrong: Option<&str>, status: StatusCode) -> Response {
    let domain = escape(&site.domain);
    let field = html::field(&Field { value: address, wrong, ..ADDRESS });
    let (token, cookie) = visitor.token(super::random);
    let body = format!(
        "<h1>Be called at your mail address</h1>\n\
         <p>Show that you read the mails to an address. Phones that you register at this node are called at it then, from \
         anywhere in the network of <strong>{domain}</strong>, and nobody else is.</p>\n\
         <form method=\"post\" action=\"enroll\">\n{}{field}<button>Send me a code</button>\n</form>\n\
         <p><a href=\"confirm\">I have a code already</a></p>\n",
        html::hidden("token", &token),
    );
    answer("Be called at your mail address", &body, wrong.is_some(), status, cookie)
}

/// What somebody typed, and what is wrong with it.
struct Typed<'a> {
    address: &'a str,
    code: &'a str,
    wrong: Option<Wrong>,
}

enum Wrong {
    Address(&'static str),
    Code(&'static str),
}

fn confirming(visitor: &Visitor, note: Option<&str>, typed: Typed<'_>, status: StatusCode) -> Response {
    let (of_address, of_code) = match &typed.wrong {
        None => (None, None),
        Some(Wrong::Address(why)) => (Some(*why), None),
        Some(Wrong::Code(why)) => (None, Some(*why)),
    };
    let address = html::field(&Field { value: typed.address, wrong: of_address, ..ADDRESS });
    let code = html::field(&Field { value: typed.code, wrong: of_code, ..CODE });
    let note = note.map_or_else(String::new, |note| format!("<p role=\"status\">{}</p>\n", escape(note)));
    let (token, cookie) = visitor.token(super::random);
    let body = format!(
        "<h1>Type the code from the mail</h1>\n{note}\
         <form method=\"post\" action=\"confirm\">\n{}{address}{code}<button>This address is mine</button>\n</form>\n\
         <p><a href=\"enroll\">Send me another code</a></p>\n<script src=\"confirm.js\" defer></script>\n",
        html::hidden("token", &token),
    );
    answer("Type the code from the mail", &body, typed.wrong.is_some(), status, cookie)
}

fn done(site: &Site, visitor: &Visitor, credentials: &Credentials) -> Response {
    let (_, domain) = credentials.user.rsplit_once('@').unwrap_or(("", &credentials.domain));
    let mut rows = vec![
        ("Address", format!("sip:{}", credentials.user)),
        ("User name, authorization user", credentials.user.clone()),
        ("Password", credentials.password.reveal().to_owned()),
        ("Domain", domain.to_owned()),
    ];
    let name = visitor.name();
    for (label, port) in [("Server (TLS)", site.ports.tls), ("Server (UDP, TCP)", site.ports.sip)] {
        if let Some(port) = port {
            rows.push((label, format!("{name}:{port}")));
        }
    }
    let row = |(label, value): &(&str, String)| format!("<dt>{label}</dt>\n<dd><code>{}</code></dd>\n", escape(value));
    let body = format!(
        "<h1>The address is yours</h1>\n\
         <p>Type this into a phone. <strong>The password is shown this once</strong>: note it down now.</p>\n<dl>\n{}</dl>\n\
         <p>The key of your address is kept at this node, which is known to whoever runs it.</p>\n",
        rows.iter().map(row).collect::<String>(),
    );
    answer("The address is yours", &body, false, StatusCode::OK, None)
}

fn answer(title: &str, body: &str, is_wrong: bool, status: StatusCode, cookie: Option<String>) -> Response {
    // A screen reader reads the title first.
    let title = if is_wrong { format!("Error: {title}") } else { title.to_owned() };
    let mut response = (status, Html(html::page(&title, body))).into_response();
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

const ADDRESS: Field<'static> = Field {
    name: "address",
    label: "Your mail address",
    hint: "You must be able to read the mails that arrive there.",
    kind: "type=\"email\" autocomplete=\"email\" maxlength=\"320\"",
    value: "",
    wrong: None,
};

const CODE: Field<'static> = Field {
    name: "code",
    label: "Code",
    hint: "Eight letters and digits, such as ABCD-EFGH.",
    kind: "type=\"text\" autocomplete=\"one-time-code\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"32\"",
    value: "",
    wrong: None,
};
