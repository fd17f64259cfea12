//! The form on a node's page by which people enrol: as a browser without scripts sends it, against a real mail server.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use meshtone_tests::browser::browse;
use meshtone_tests::http::{Answer, Site};
use meshtone_tests::mail::{MAIL_DOMAIN, MailServer, SUBMITTER_PASSWORD, code_in, write_password};
use meshtone_tests::{MeshNode, SOON, ScriptedPhone, eventually};
use serde_json::json;

/// A node that has the overlay's authority, and a mail server.
fn founder(more: &str) -> (MailServer, MeshNode) {
    let mail = MailServer::start();
    let mut node = MeshNode::unstarted("founder").with_domain("mesh.test");
    write_password(&node, SUBMITTER_PASSWORD, 0o600);
    node.run_configured(&format!("{more}{}", mail.settings()));
    (mail, node)
}

/// A browser with its cookies.
struct Browser {
    site: Site,
    cookie: String,
    token: String,
}

impl Browser {
    /// Opens a page with a form.
    #[track_caller]
    fn open(site: Site, path: &str) -> Browser {
        let page = site.get(path);
        assert_eq!(page.status, 200, "{}", page.text());
        let cookie = page.field("set-cookie").expect("a cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
        assert_eq!(cookie.ends_with("; Secure"), site.tls, "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        Browser { site, cookie, token: token_in(&page) }
    }

    /// Sends a form with these fields, encoded already.
    fn send(&self, path: &str, fields: &str) -> Answer {
        self.send_from(path, fields, &[("Sec-Fetch-Site", "same-origin"), ("Origin", "null")])
    }

    fn send_from(&self, path: &str, fields: &str, more: &[(&str, &str)]) -> Answer {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let head: Vec<(&str, &str)> =
            [kind, ("Cookie", self.cookie.as_str())].into_iter().chain(more.iter().copied()).collect();
        self.site.ask("POST", path, &head, &format!("token={}&{fields}", self.token))
    }
}

fn token_in(page: &Answer) -> String {
    let text = page.text();
    let (_, rest) = text.split_once("name=\"token\" value=\"").expect("a token");
    rest.split('"').next().unwrap().to_owned()
}

/// What a page lists under a label.
fn listed(page: &Answer, label: &str) -> String {
    let text = page.text();
    let (_, rest) =
        text.split_once(&format!("<dt>{label}</dt>\n<dd><code>")).unwrap_or_else(|| panic!("{label}: {text}"));
    rest.split("</code>").next().unwrap().to_owned()
}

#[test]
fn somebody_enrols_on_the_page_and_her_phone_registers_with_what_it_shows() {
    let (mail, node) = founder("enroll = \"anybody\"\npublic_url = \"https://mesh.test\"\n");
    let site = Site { server: node.wss(), tls: true };
    let browser = Browser::open(site, "/enroll");
    let asked = browser.send("/enroll", "address=alice%40mail.test");
    assert_eq!(asked.status, 200, "{}", asked.text());
    assert!(asked.text().contains("value=\"alice@mail.test\""), "the address need not be typed again");
    let letter = mail.wait_mail("alice", 1);
    let code = code_in(&letter);
    assert!(letter.contains(&format!("https://mesh.test/confirm#alice@{MAIL_DOMAIN},{code}")), "{letter}");

    let wrong = browser.send("/confirm", "address=alice%40mail.test&code=AAAA-AAAA");
    assert_eq!(wrong.status, 422);
    let text = wrong.text();
    assert!(text.contains("aria-invalid=\"true\"") && text.contains("value=\"AAAA-AAAA\""), "{text}");
    assert!(text.contains("This is not the code"), "{text}");

    let done = browser.send("/confirm", &format!("address=alice%40mail.test&code={code}"));
    assert_eq!((done.status, done.field("cache-control")), (200, Some("no-store")), "{}", done.text());
    assert_eq!(listed(&done, "Address"), "sip:alice@mail.test");
    assert_eq!(listed(&done, "Server (TLS)"), node.tls().to_string());
    let password = listed(&done, "Password");
    let mut phone = ScriptedPhone::udp(node.sip()).of_person("alice@mail.test", &password);
    eventually(SOON, "her phone to register", || phone.try_register(600).status() == 200);
    let again = browser.send("/confirm", &format!("address=alice%40mail.test&code={code}"));
    assert!(!again.text().contains(&password), "the password is shown once");
    assert!(!std::fs::read_to_string(node.log()).unwrap().contains(&code), "no log has the code");
}

#[test]
fn a_browser_takes_the_form_and_fills_in_what_the_link_in_the_mail_knows() {
    let (mail, mut node) = founder("");
    let public = format!("https://{}", node.wss());
    node.terminate();
    node.run_configured(&format!("enroll = \"anybody\"\npublic_url = \"{public}\"\n{}", mail.settings()));
    let asked = browse("enrol.mjs", &json!({ "site": public, "address": "bob@mail.test" }));
    assert_eq!(asked["title"], "Type the code from the mail", "{asked:#}");
    let letter = mail.wait_mail("bob", 1);
    let link = letter.lines().find_map(|line| line.trim().strip_prefix("https://")).expect("a link");
    let shown = browse("enrol.mjs", &json!({ "site": public, "link": format!("https://{link}") }));
    assert_eq!((&shown["address"], &shown["code"]), (&json!("bob@mail.test"), &json!(code_in(&letter))), "{shown:#}");
    assert!(!shown["hash"].as_str().unwrap().contains('#'), "the code stays in no history: {shown:#}");
    assert_eq!((&shown["title"], &shown["listed"][0]), (&json!("The address is yours"), &json!("sip:bob@mail.test")));
    for seen in [&asked, &shown] {
        assert_eq!((&seen["wide"], &seen["unlabelled"]), (&json!(false), &json!(0)), "at 360 px: {seen:#}");
        assert_eq!(seen["hosts"], json!([node.wss().to_string()]), "nothing is asked of others");
        assert_eq!(seen["complaints"], json!([]), "the browser finds nothing wrong");
    }
}

#[test]
fn nobody_learns_who_is_enrolled_or_has_asked() {
    let (mail, node) = founder("enroll = \"anybody\"\n");
    let site = Site { server: node.wss(), tls: true };
    let browser = Browser::open(site, "/enroll");
    let ask = |address: &str| {
        let answer = browser.send("/enroll", &format!("address={}", address.replace('@', "%40")));
        (answer.status, answer.text().replace(address, "ADDRESS"))
    };
    let known = ask("alice@mail.test");
    mail.wait_mail("alice", 1);
    assert_eq!(known.0, 200);
    assert_eq!(ask("nobody@mail.test"), known);
    let show = |address: &str| {
        let fields = format!("address={}&code=AAAA-AAAA", address.replace('@', "%40"));
        let answer = browser.send("/confirm", &fields);
        (answer.status, answer.text().replace(address, "ADDRESS"))
    };
    let known = show("alice@mail.test");
    assert_eq!(known.0, 422);
    assert_eq!(show("never-asked@mail.test"), known);
}

#[test]
fn a_form_counts_only_from_the_page_itself_and_by_the_nodes_own_name() {
    let (_mail, node) = founder("");
    let site = Site { server: node.ws(), tls: false };
    let browser = Browser::open(site, "/enroll");
    let fields = "address=alice%40mail.test";
    for more in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "http://127.0.0.1:1")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", "null")],
    ] {
        assert_eq!(browser.send_from("/enroll", fields, more).status, 403, "{more:?}");
    }
    assert_eq!(browser.send_from("/enroll", fields, &[("Host", "evil.example")]).status, 421);
    assert_eq!(site.get_with("/enroll", &[("Host", "evil.example")]).status, 421);
    let stranger = Browser { token: "0".repeat(32), cookie: browser.cookie.clone(), site };
    assert_eq!(stranger.send("/enroll", fields).status, 403, "another token than the cookie's");
    let stranger = Browser { cookie: "a=b".to_owned(), token: browser.token.clone(), site };
    assert_eq!(stranger.send("/enroll", fields).status, 403, "no cookie");
    let kind = [("Content-Type", "text/plain"), ("Cookie", browser.cookie.as_str())];
    let plain = site.ask("POST", "/enroll", &kind, &format!("token={}&{fields}", browser.token));
    assert_eq!(plain.status, 415);
    let own = format!("http://{}", node.ws());
    assert_eq!(browser.send_from("/enroll", fields, &[("Origin", &own)]).status, 200);
    let too_long = format!("address={}", "a".repeat(20_000));
    assert_eq!(browser.send("/enroll", &too_long).status, 413);
    let shown = browser.send("/enroll", "address=%22%3E%3Cscript%3E%40x");
    assert_eq!(shown.status, 422);
    assert!(!shown.text().contains("<script>"), "{}", shown.text());
}

#[test]
fn strangers_enrol_where_the_administrator_lets_them_and_whoever_sits_at_the_machine_anyway() {
    let local = MeshNode::first("local");
    let at = |node: &MeshNode| Site { server: node.ws(), tls: false };
    assert_eq!(at(&local).get("/enroll").status, 200);
    let offers = |node: &MeshNode, from: &[(&str, &str)]| {
        let told = at(node).get_with("/api/v1/page", from).text();
        serde_json::from_str::<serde_json::Value>(&told).unwrap()["enrol"].as_bool().unwrap()
    };
    assert!(offers(&local, &[]) && !offers(&local, &[("X-Forwarded-For", "198.51.100.7")]));
    let proxied = at(&local).get_with("/enroll", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(proxied.status, 403, "who comes through a proxy is not at this machine");
    let mut closed = MeshNode::unstarted("closed").with_domain("mesh.test");
    closed.run_configured("enroll = \"nobody\"\n");
    for path in ["/enroll", "/confirm"] {
        assert_eq!(at(&closed).get(path).status, 403);
    }
    assert!(!offers(&closed, &[]));
    let mut open = MeshNode::unstarted("open").with_domain("mesh.test");
    open.run_configured("enroll = \"anybody\"\n");
    let proxied = at(&open).get_with("/enroll", &[("X-Forwarded-For", "198.51.100.7")]);
    assert_eq!(proxied.status, 200);
}

#[test]
fn one_source_asks_for_a_few_codes_and_then_waits() {
    let (_mail, node) = founder("enroll = \"anybody\"\n");
    let browser = Browser::open(Site { server: node.ws(), tls: false }, "/enroll");
    let ask = |number: usize, source: &str| {
        let from = [("X-Forwarded-For", source)];
        browser.send_from("/enroll", &format!("address=user{number}%40mail.test"), &from).status
    };
    let answered = (0..10).filter(|number| ask(*number, "198.51.100.7") == 200).count();
    assert_eq!(answered, 6);
    assert_eq!(ask(11, "198.51.100.7"), 429);
    assert_eq!(ask(12, "198.51.100.8"), 200, "others still ask");
}
