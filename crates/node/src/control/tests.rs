#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::account::system_random;
use crate::authority::Client;
use crate::clock::unix_ms;
use crate::enrol;
use crate::store::Store;
use meshtone_overlay::node::Config as OverlayConfig;

struct FixedStatus;

impl StatusSource for FixedStatus {
    fn status(&self) -> Status {
        Status {
            node: "n".to_owned(),
            overlay: "o".to_owned(),
            domain: "example.org".to_owned(),
            version: "0".to_owned(),
            uptime_s: 1,
            links: vec![],
            registrations: vec![],
            calls: vec![],
            finished_calls: vec![],
            trunks: vec![],
            second_stage: vec![],
            turn: None,
            records: BTreeMap::from([("certificate".to_owned(), 2)]),
            accounts: AccountsStatus { users: 0, version: "00".to_owned() },
            peer: Vec::new(),
            sip: Vec::new(),
            sips: Vec::new(),
            role: Role { serves: true, why: "since it has to".to_owned(), others: None, reached: None },
            relay: None,
            relays: Vec::new(),
            network: Default::default(),
            nodes_served: 0,
            overlay_nodes_known: 3,
            clock_behind_ms: 0,
            search: None,
            contradictions: vec![],
            media_between: MediaBetween::default(),
            media: MediaUse::default(),
            authority: None,
            revoked: false,
            key_changes: Vec::new(),
            certified_until: 0,
            renewal_failing: None,
            trust: None,
            acme: None,
        }
    }

    fn netcheck(&self) -> Netcheck {
        let says = vec!["A network.".to_owned()];
        let class = "cone".to_owned();
        let (seen_as, listening, hint) = (Vec::new(), Vec::new(), None);
        Netcheck {
            class,
            seen_as,
            listening,
            direct_links: 1,
            relayed_links: 0,
            relays: 2,
            is_relay: false,
            port_mapping: Default::default(),
            says,
            hint,
        }
    }

    fn trace(&self, target: String) -> Pin<Box<dyn Future<Output = Trace> + Send>> {
        let (address, side, hint, steps) = (None, None, None, Vec::new());
        let verdict = "It works.".to_owned();
        Box::pin(async move { Trace { target, address, works: true, verdict, side, hint, steps, call: None } })
    }

    fn sip(&self) -> Vec<SocketAddr> {
        vec!["0.0.0.0:5060".parse().unwrap()]
    }

    fn offers(&self, algorithms: &[Algorithm]) -> bool {
        algorithms.contains(&Algorithm::Md5)
    }
}

struct Node {
    folder: TempDir,
    _store: Store,
}

async fn node() -> Node {
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let membership = enrol::establish(&store, Some("example.org"), None).await.unwrap();
    let accounts = Accounts::open(store.clone(), "example.org", membership.node(), unix_ms, system_random()).unwrap();
    let mut overlay = OverlayConfig::new(
        vec!["127.0.0.1:0".parse().unwrap()],
        *membership.link_secret,
        membership.signer.clone(),
        membership.authority_certificate.clone(),
        membership.certificate.clone(),
    );
    overlay.homes = vec![membership.home.clone()];
    let delegated = overlay.delegated.clone();
    let overlay = Overlay::start(overlay).await.unwrap();
    let authority = membership.authority_certificate.clone();
    let enroller = Client::new(overlay.clone(), "example.org", authority.clone(), None);
    let members =
        Members::open(store.clone(), overlay, authority, accounts.clone(), delegated, system_random()).unwrap();
    let control = Control {
        enrolments: Enrolments::new(members.clone(), enroller, accounts.clone()),
        rights: Rights::Full,
        accounts,
        members,
        store: store.clone(),
        node: membership.node(),
        inviter: membership.inviter(),
        links: Arc::new(|| vec!["192.0.2.7:6084".parse().unwrap()]),
        entrances: Arc::new(|| {
            let let_in = ["203.0.113.9:6084", "192.0.2.7:6084"].map(|text| text.parse().unwrap());
            (let_in.to_vec(), Some(9443))
        }),
        status: Arc::new(FixedStatus),
        page: None,
        authority: None,
        turn: None,
    };
    tokio::spawn(serve(bind(folder.path()).unwrap(), control));
    Node { folder, _store: store }
}

async fn ask(folder: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(folder.join(SOCKET)).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn users_are_added_listed_changed_and_removed() {
    let node = node().await;
    let data = node.folder.path();
    let (status, added) = ask(data, "POST", "/users", r#"{"user":"Alice","number":"201"}"#).await;
    assert_eq!(status, 201);
    assert_eq!(
        (&added["user"], &added["number"], &added["domain"]),
        (&json!("alice"), &json!("201"), &json!("example.org"))
    );
    assert_eq!(added["server"], "192.0.2.7:5060");

    let (status, changed) = ask(data, "POST", "/users/alice/password", "").await;
    assert_eq!(status, 200);
    assert_ne!(changed["password"], added["password"]);

    let (_, list) = ask(data, "GET", "/users", "").await;
    assert_eq!((&list["users"][0]["user"], &list["users"][0]["number"]), (&json!("alice"), &json!("201")));
    assert!(!list.to_string().contains("ha1"), "no hash leaves the node");

    assert_eq!(ask(data, "DELETE", "/users/alice", "").await.0, 204);
    assert_eq!(ask(data, "GET", "/users", "").await.1["users"], json!([]));
}

#[tokio::test]
async fn a_change_says_how_the_user_stands_and_warns_of_algorithms_that_are_not_offered() {
    let node = node().await;
    let data = node.folder.path();
    ask(data, "POST", "/users", r#"{"user":"alice","number":"201"}"#).await;
    let (status, row) = ask(data, "PATCH", "/users/alice", r#"{"digest":["sha-256"]}"#).await;
    assert_eq!((status, &row["number"], &row["digest"]), (200, &json!("201"), &json!(["SHA-256"])));
    assert!(row["warning"]["warning"].as_str().unwrap().contains("SHA-256"), "{row}");
    assert!(row["warning"]["hint"].as_str().unwrap().contains("--any-digest"), "{row}");
    assert_eq!(ask(data, "GET", "/users", "").await.1["users"][0]["warning"], row["warning"]);
    let (_, credentials) = ask(data, "POST", "/users/alice/password", "").await;
    assert_eq!(credentials["warning"], row["warning"]);

    let (_, row) = ask(data, "PATCH", "/users/alice", r#"{"digest":[],"number":""}"#).await;
    assert_eq!((&row["number"], &row["digest"], &row["warning"]), (&Value::Null, &json!([]), &Value::Null));
    let (_, row) = ask(data, "PATCH", "/users/alice", "{}").await;
    assert_eq!(row["user"], "alice");
}

#[tokio::test]
async fn what_fails_says_why_and_what_to_do() {
    let node = node().await;
    let data = node.folder.path();
    ask(data, "POST", "/users", r#"{"user":"alice"}"#).await;
    for (expected, method, path, body) in [
        (409, "POST", "/users", r#"{"user":"alice"}"#),
        (400, "POST", "/users", r#"{"user":"a b"}"#),
        (400, "POST", "/users", r#"{"user":"echo"}"#),
        (400, "POST", "/users", r#"{"user":"bob","nummer":"1"}"#),
        (400, "POST", "/users", "{"),
        (404, "POST", "/users/bob/password", ""),
        (404, "DELETE", "/users/bob", ""),
        (404, "PATCH", "/users/bob", "{}"),
        (400, "PATCH", "/users/alice", r#"{"digest":["sha-1"]}"#),
        (400, "PATCH", "/users/alice", r#"{"number":"no number"}"#),
        (400, "PATCH", "/users/alice", r#"{"user":"eve"}"#),
        (404, "GET", "/nothing", ""),
        (405, "PUT", "/users", ""),
        (400, "POST", "/invites", r#"{"role":"king","valid_s":60}"#),
        (400, "POST", "/invites", r#"{"role":"home","valid_s":0}"#),
        (409, "GET", "/authority/certificates", ""),
    ] {
        let (status, failure) = ask(data, method, path, body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {failure}");
        let failure: Failure = serde_json::from_value(failure).unwrap();
        assert!(!failure.error.is_empty() && !failure.hint.is_empty());
    }
}

#[tokio::test]
async fn a_ticket_names_the_nodes_link_addresses() {
    let node = node().await;
    let (status, invite) = ask(node.folder.path(), "POST", "/invites", r#"{"role":"home","valid_s":3600}"#).await;
    assert_eq!(status, 201);
    let ticket: meshtone_identity::Ticket = invite["ticket"].as_str().unwrap().parse().unwrap();
    let named = ["203.0.113.9:6084", "192.0.2.7:6084"].map(|text| text.parse().unwrap());
    assert_eq!(ticket.addresses, named, "what the router lets in, and each once");
    assert_eq!(ticket.relay, Some(9443));
    assert_eq!(invite["expires"], ticket.expires);
}

#[tokio::test]
async fn the_status_is_what_the_node_says() {
    let node = node().await;
    let (status, body) = ask(node.folder.path(), "GET", "/status", "").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_value::<Status>(body).unwrap(), FixedStatus.status());
}

#[tokio::test]
async fn the_socket_is_the_owners_alone() {
    let node = node().await;
    let mode = std::fs::metadata(node.folder.path().join(SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    let folder = TempDir::new().unwrap();
    let data = folder.path();
    std::fs::create_dir(data.join("keys")).unwrap();
    drop(bind(data).unwrap());
    assert!(data.join(SOCKET).exists());
    let live = bind(data).unwrap();
    assert_eq!(bind(data).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    drop(live);
    remove(data);
    std::fs::write(data.join(SOCKET), "mine").unwrap();
    assert_eq!(bind(data).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(data.join(SOCKET)).unwrap(), b"mine");
}
