//! A browser's side of the interface of a node's page: a session's cookie, its CSRF token, and JSON.

use serde_json::Value;

use crate::MeshNode;
use crate::http::{Answer, Site};

/// A browser on which somebody is logged in.
#[derive(Debug, Clone)]
pub struct Page {
    /// Where the node is.
    pub site: Site,
    /// Name and value of the cookie.
    pub cookie: String,
    /// What the node said of the session.
    pub session: Value,
}

impl Page {
    /// Logs in with an address and its password, over plain HTTP from this machine.
    #[track_caller]
    pub fn log_in(node: &MeshNode, address: &str, password: &str) -> Page {
        let site = Site { server: node.ws(), tls: false };
        let answer = log_in_at(site, address, password, &[]);
        assert_eq!(answer.status, 200, "{address}: {}", answer.text());
        Page::of(site, &answer)
    }

    /// Logs in as whoever runs the node, with the key that `meshtone page` prints.
    #[track_caller]
    pub fn administer(node: &MeshNode) -> Page {
        let site = Site { server: node.ws(), tls: false };
        let printed: Value = serde_json::from_str(&node.must(&["page", "--json"])).expect("JSON");
        let (_, key) = printed["url"].as_str().expect("an address").split_once("#key=").expect("a key");
        let answer = post(site, "/session/key", &serde_json::json!({ "key": key }), &[]);
        assert_eq!(answer.status, 200, "{}", answer.text());
        Page::of(site, &answer)
    }

    /// What an answer that opens a session makes of a browser.
    #[track_caller]
    pub fn of(site: Site, answer: &Answer) -> Page {
        let cookie = answer.field("set-cookie").expect("a cookie").split(';').next().unwrap_or_default().to_owned();
        Page { site, cookie, session: json(answer) }
    }

    /// The token that has to come with changes.
    pub fn csrf(&self) -> &str {
        self.session["csrf"].as_str().unwrap_or_default()
    }

    /// Fetches what has to be there.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        json(&answer)
    }

    /// Sends a request as the page's script does.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let origin = format!("http://{}", self.site.server);
        self.ask_with(method, path, body, &[("X-Meshtone-Csrf", self.csrf()), ("Origin", &origin)])
    }

    /// Sends a request with the session's cookie and these fields.
    #[track_caller]
    pub fn ask_with(&self, method: &str, path: &str, body: Option<&Value>, fields: &[(&str, &str)]) -> Answer {
        let mut all = vec![("Cookie", self.cookie.as_str())];
        all.extend(fields);
        send(self.site, method, path, body, &all)
    }
}

/// Tries to log in.
#[track_caller]
pub fn log_in_at(site: Site, address: &str, password: &str, fields: &[(&str, &str)]) -> Answer {
    post(site, "/session", &serde_json::json!({ "address": address, "password": password }), fields)
}

/// Sends JSON to the interface.
#[track_caller]
pub fn post(site: Site, path: &str, body: &Value, fields: &[(&str, &str)]) -> Answer {
    send(site, "POST", path, Some(body), fields)
}

/// Sends a request to the interface.
#[track_caller]
pub fn send(site: Site, method: &str, path: &str, body: Option<&Value>, fields: &[(&str, &str)]) -> Answer {
    let mut all = fields.to_vec();
    let text = body.map(Value::to_string).unwrap_or_default();
    if body.is_some() && !fields.iter().any(|(name, _)| *name == "Content-Type") {
        all.push(("Content-Type", "application/json"));
    }
    site.ask(method, &format!("/api/v1{path}"), &all, &text)
}

/// The JSON of an answer.
#[track_caller]
pub fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// The code of an answer that says why something was not done.
#[track_caller]
pub fn code(answer: &Answer) -> (u16, String) {
    let told = json(answer);
    for part in ["error", "hint"] {
        assert!(told[part].as_str().is_some_and(|text| text.len() > 5), "no {part} in {told}");
    }
    (answer.status, told["code"].as_str().unwrap_or_default().to_owned())
}
