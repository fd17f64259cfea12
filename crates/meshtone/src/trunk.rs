//! The `[[trunk]]` tables: accounts at providers.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meshtone_node::policy::{EmergencyRoute, Outside};
use meshtone_node::trunk::digits::{self, DigitRule};
use meshtone_node::trunk::settings::{
    Allow, CALLS, CALLS_PER_USER, EXPIRES, Identity, InboundRule, LONGEST_CALL, Secret, Trunk, server_uri,
};
use serde::Deserialize;

use crate::failure::Failure;

/// The key of the tables.
pub(crate) const KEY: &str = "trunk";

/// Trunks at most: each is an account that somebody pays for.
const TRUNKS_MAX: usize = 64;
/// The shortest registration that may be asked for; half of it is the pace of REGISTER.
const EXPIRES_MIN_S: u64 = 10;
/// The longest: what is registered for longer cannot be told from what is forgotten.
const EXPIRES_MAX_S: u64 = 86_400;
/// The longest call that may be allowed.
const LONGEST_MAX_S: u64 = 7 * 86_400;

/// One table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    server: String,
    user: String,
    auth_user: Option<String>,
    password_file: Option<PathBuf>,
    password: Option<String>,
    realm: Option<String>,
    register: Option<bool>,
    expires: Option<u64>,
    #[serde(default)]
    outbound: Vec<Outbound>,
    #[serde(default)]
    refuse: Vec<String>,
    allow: Option<Vec<String>>,
    #[serde(default)]
    inbound: Vec<Inbound>,
    inbound_default: Option<String>,
    caller_id: Option<String>,
    #[serde(default)]
    caller_ids: BTreeMap<String, String>,
    identity: Option<String>,
    trust_identity: Option<bool>,
    messages: Option<bool>,
    max_calls: Option<usize>,
    max_calls_per_user: Option<usize>,
    max_duration: Option<u64>,
    #[serde(default)]
    addresses: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outbound {
    prefix: String,
    #[serde(default)]
    strip: usize,
    #[serde(default)]
    add: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inbound {
    number: String,
    to: String,
}

/// What is wrong with a table: what happened, and a hint.
pub(crate) type Wrong = (String, &'static str);

/// Reads all tables; `at` is the file they are in.
pub(crate) fn read(tables: toml::Value, at: &Path) -> Result<Vec<Trunk>, Failure> {
    let toml::Value::Array(tables) = tables else {
        return Err(Failure::new(format!("{}: `{KEY}` is no table", at.display()), "write [[trunk]] above each one"));
    };
    if tables.len() > TRUNKS_MAX {
        return Err(Failure::new(
            format!("{}: there are {} trunks", at.display(), tables.len()),
            format!("a node has {TRUNKS_MAX} at most; let another home node have the others"),
        ));
    }
    let mut trunks: Vec<Trunk> = Vec::new();
    for (place, table) in (1..).zip(tables) {
        let name = table.get("name").and_then(toml::Value::as_str).map_or(format!("number {place}"), str::to_owned);
        let failed = |(what, hint): Wrong| Failure::new(format!("{}: trunk {name}: {what}", at.display()), hint);
        let table: Table = table.try_into().map_err(|error: toml::de::Error| {
            failed((error.message().to_owned(), "the README lists the keys of a trunk and their values"))
        })?;
        let trunk = table.check(at).map_err(failed)?;
        if trunks.iter().any(|known| known.name == trunk.name) {
            return Err(failed(("there are two of that name".to_owned(), "give each trunk a name of its own")));
        }
        trunks.push(trunk);
    }
    Ok(trunks)
}

/// Whether the trunk that emergency calls go to is there.
pub(crate) fn check_emergency(outside: &Outside, trunks: &[Trunk], at: &Path) -> Result<(), Failure> {
    match &outside.emergency.route {
        Some(EmergencyRoute::Trunk(name)) if !trunks.iter().any(|trunk| trunk.name == *name) => Err(Failure::new(
            format!("{}: `emergency_route` names the trunk `{name}`, which is not there", at.display()),
            "name a [[trunk]] of this file",
        )),
        Some(EmergencyRoute::Trunk(_) | EmergencyRoute::Uri(_)) | None => Ok(()),
    }
}

impl Table {
    fn check(self, at: &Path) -> Result<Trunk, Wrong> {
        let is_name =
            !self.name.is_empty() && self.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !is_name {
            return Err(("`name` is no plain word".to_owned(), "letters, digits, `-`, `_` and `.` make a name"));
        }
        let mut trunk = Trunk::new(&self.name, &server(&self.server)?, &word("user", self.user)?);
        trunk.password = password(self.password, self.password_file.as_deref(), at, &self.name)?;
        trunk.auth_user = self.auth_user;
        trunk.realm = self.realm;
        trunk.register = self.register.unwrap_or(true);
        trunk.expires = time("expires", self.expires, EXPIRES, EXPIRES_MIN_S..=EXPIRES_MAX_S)?;
        trunk.max_duration = time("max_duration", self.max_duration, LONGEST_CALL, 1..=LONGEST_MAX_S)?;
        trunk.outbound = self.outbound.iter().map(rule).collect::<Result<_, _>>()?;
        trunk.refuse = self.refuse.into_iter().map(|text| beginning("refuse", text)).collect::<Result<_, _>>()?;
        trunk.allow = self.allow.map_or(Allow::Everybody, Allow::Users);
        trunk.inbound = self.inbound.into_iter().map(inbound).collect::<Result<_, _>>()?;
        trunk.inbound_default = self.inbound_default.map(|to| word("inbound_default", to)).transpose()?;
        trunk.caller_id = self.caller_id.map(|text| number("caller_id", text)).transpose()?;
        let own = |(user, text): (String, String)| Ok((user, number("caller_ids", text)?));
        trunk.caller_ids = self.caller_ids.into_iter().map(own).collect::<Result<_, Wrong>>()?;
        trunk.identity = match self.identity.as_deref() {
            None | Some("preferred") => Identity::Preferred,
            Some("asserted") => Identity::Asserted,
            Some("from") => Identity::From,
            Some(other) => return Err((format!("`identity` is `{other}`"), "it is preferred, asserted or from")),
        };
        trunk.trust_identity = self.trust_identity.unwrap_or(false);
        trunk.messages = self.messages.unwrap_or(false);
        trunk.max_calls = self.max_calls.unwrap_or(CALLS);
        trunk.max_calls_per_user = self.max_calls_per_user.unwrap_or(CALLS_PER_USER);
        let networks = self.addresses.iter().map(|text| text.parse());
        trunk.addresses = networks.collect::<Result<_, _>>().map_err(|what: String| {
            (format!("`addresses`: {what}"), "for example [\"198.51.100.7\", \"198.51.100.0/24\"]")
        })?;
        Ok(trunk)
    }
}

/// The server's URI; a bare domain is one.
fn server(text: &str) -> Result<String, Wrong> {
    let hint = "give a domain, or a SIP URI without a user: \"sip.example\", \"sip:sip.example:5060;transport=tls\"";
    server_uri(text).ok_or_else(|| (format!("`server` is `{text}`"), hint))
}

/// A user part that needs no escaping.
fn word(key: &str, text: String) -> Result<String, Wrong> {
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()+=,".contains(&b));
    if is_word { Ok(text) } else { Err((format!("`{key}` is `{text}`"), "give the part before the @ alone")) }
}

fn number(key: &str, text: String) -> Result<String, Wrong> {
    if digits::is_number(&text) {
        Ok(text)
    } else {
        Err((format!("`{text}` in `{key}` is no number"), "give digits, with a + in front or not: \"+4930123456\""))
    }
}

fn beginning(key: &str, text: String) -> Result<String, Wrong> {
    match digits::check(&text) {
        Ok(()) if !text.is_empty() => Ok(text),
        Ok(()) => Err((format!("an empty text in `{key}` means every number"), "leave it out")),
        Err(error) => Err((format!("`{text}` in `{key}`: {error}"), "give the first digits: \"+49900\"")),
    }
}

fn rule(rule: &Outbound) -> Result<DigitRule, Wrong> {
    DigitRule::new(&rule.prefix, rule.strip, &rule.add).map_err(|error| {
        let hint = "for example { prefix = \"00\", strip = 2, add = \"+\" }";
        (format!("`outbound`, prefix `{}`: {error}", rule.prefix), hint)
    })
}

fn inbound(rule: Inbound) -> Result<InboundRule, Wrong> {
    Ok(InboundRule { number: number("inbound", rule.number)?, to: word("inbound", rule.to)? })
}

fn time(
    key: &str,
    seconds: Option<u64>,
    default: Duration,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Duration, Wrong> {
    match seconds {
        None => Ok(default),
        Some(seconds) if range.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => {
            let (least, most) = range.into_inner();
            Err((format!("`{key}` is {seconds}; it is {least} to {most} seconds"), "leave it out for a sensible value"))
        }
    }
}

/// The password, from the file or from the table itself.
fn password(inline: Option<String>, file: Option<&Path>, at: &Path, name: &str) -> Result<Option<Secret>, Wrong> {
    match (inline, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(("both `password` and `password_file` are given".to_owned(), "keep `password_file`")),
        (Some(password), None) => {
            // The log has not been opened yet.
            eprintln!(
                "warning: {}: the password of trunk {name} stands in the configuration\n\
                 hint: put it into a file that only you can read, and say `password_file`",
                at.display()
            );
            Ok(Some(Secret::Password(password)))
        }
        (None, Some(path)) => {
            let folder = at.parent().unwrap_or(Path::new("."));
            Ok(Some(Secret::Password(read_password(&folder.join(path))?)))
        }
    }
}

/// The password in a file that nobody else can read.
pub(crate) fn read_password(path: &Path) -> Result<String, Wrong> {
    let unreadable = |error: std::io::Error| {
        (
            format!("`password_file` {} cannot be read: {error}", path.display()),
            "name a file that holds the password alone",
        )
    };
    let mode = std::fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err((
            format!("`password_file` {} can be read by others (mode {:03o})", path.display(), mode & 0o777),
            "take that right away: chmod 600",
        ));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.contains(['\r', '\n']) {
        let what = format!("`password_file` {} does not hold one line", path.display());
        return Err((what, "write the password into it, and nothing else"));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LEAST: &str = "[[trunk]]\nname = \"p\"\nserver = \"sip.example\"\nuser = \"4930123\"\n";

    fn parse(text: &str) -> Result<Vec<Trunk>, String> {
        let table: toml::Table = text.parse().unwrap();
        read(table.get(KEY).unwrap().clone(), Path::new("/etc/config.toml")).map_err(|failure| failure.to_string())
    }

    #[test]
    fn little_has_to_be_said() {
        let trunks = parse(LEAST).unwrap();
        let trunk = &trunks[0];
        assert_eq!((trunk.server.as_str(), trunk.user.as_str()), ("sip:sip.example", "4930123"));
        assert!(trunk.register && trunk.outbound.is_empty() && !trunk.trust_identity);
        assert_eq!((trunk.max_calls, trunk.max_calls_per_user), (CALLS, CALLS_PER_USER));
    }

    #[test]
    fn every_key_is_read() {
        let text = format!(
            "{LEAST}auth_user = \"a\"\nrealm = \"r\"\nregister = false\nexpires = 60\nrefuse = [\"+49900\"]\n\
             outbound = [{{ prefix = \"00\", strip = 2, add = \"+\" }}, {{ prefix = \"+\" }}]\nallow = [\"alice\"]\n\
             inbound = [{{ number = \"+4930123\", to = \"alice\" }}]\ninbound_default = \"bob\"\ncaller_id = \"+4930123\"\n\
             caller_ids = {{ bob = \"+49301239\" }}\nidentity = \"asserted\"\ntrust_identity = true\nmessages = true\n\
             max_calls = 9\nmax_calls_per_user = 1\nmax_duration = 3600\naddresses = [\"198.51.100.0/24\"]\n\
             password = \"secret\"\n"
        );
        let trunks = parse(&text).unwrap();
        let trunk = &trunks[0];
        assert_eq!((trunk.outbound.len(), trunk.inbound.len(), trunk.addresses.len()), (2, 1, 1));
        assert_eq!((trunk.max_calls, trunk.max_calls_per_user), (9, 1));
        assert_eq!((trunk.expires.as_secs(), trunk.max_duration.as_secs()), (60, 3600));
        assert_eq!((trunk.identity, &trunk.allow), (Identity::Asserted, &Allow::Users(vec!["alice".to_owned()])));
        assert!(!trunk.register && trunk.trust_identity && trunk.messages && trunk.password.is_some());
    }

    #[test]
    fn wrong_values_name_the_trunk_and_the_key_and_give_a_hint() {
        for (line, key) in [
            ("colour = 1", "colour"),
            ("expires = 1", "expires"),
            ("identity = \"x\"", "identity"),
            ("caller_id = \"alice\"", "caller_id"),
            ("refuse = [\"\"]", "refuse"),
            ("refuse = [\"09x\"]", "refuse"),
            ("outbound = [{ prefix = \"x\" }]", "outbound"),
            ("outbound = [{ perfix = \"0\" }]", "perfix"),
            ("inbound = [{ number = \"x\", to = \"a\" }]", "inbound"),
            ("inbound_default = \"a@b\"", "inbound_default"),
            ("addresses = [\"provider\"]", "addresses"),
            ("password_file = \"/nowhere/at/all\"", "password_file"),
            ("password = \"a\"\npassword_file = \"b\"", "password_file"),
        ] {
            let error = parse(&format!("{LEAST}{line}\n")).unwrap_err();
            assert!(error.contains("trunk p: ") && error.contains(key) && error.contains("\nhint: "), "{error}");
        }
        for server in ["sip:user@sip.example", "http://x", "", "a b"] {
            let error = parse(&LEAST.replace("sip.example", server)).unwrap_err();
            assert!(error.contains("`server`"), "{error}");
        }
        assert!(parse(&format!("{LEAST}{LEAST}")).unwrap_err().contains("two of that name"));
    }

    #[test]
    fn a_server_is_a_domain_or_a_uri() {
        for (text, uri) in [
            ("sip.example", "sip:sip.example"),
            ("sip.example:5070", "sip:sip.example:5070"),
            ("[2001:db8::1]:5060", "sip:[2001:db8::1]:5060"),
            ("sip:sip.example;transport=tls", "sip:sip.example;transport=tls"),
            ("sips:sip.example", "sips:sip.example"),
        ] {
            assert_eq!(server(text).unwrap(), uri);
        }
    }

    #[test]
    fn a_password_file_is_the_owners_alone() {
        let folder = std::env::temp_dir().join(format!("meshtone-password-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("password");
        std::fs::write(&path, "secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let (what, hint) = read_password(&path).unwrap_err();
        assert!(what.contains("mode 640") && hint.contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_password(&path).unwrap(), "secret");
        std::fs::write(&path, "two\nlines\n").unwrap();
        assert!(read_password(&path).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn an_emergency_route_names_a_trunk_that_is_there() {
        let trunks = parse(LEAST).unwrap();
        let mut outside = Outside::default();
        for (name, is_there) in [("p", true), ("q", false)] {
            outside.emergency.route = Some(EmergencyRoute::Trunk(name.to_owned()));
            assert_eq!(check_emergency(&outside, &trunks, Path::new("c")).is_ok(), is_there);
        }
    }
}
