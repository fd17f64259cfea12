//! The keys about calls beyond the overlay: other SIP domains, trunks, emergency numbers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use meshtone_node::policy::{CALLS_PER_USER, Emergency, EmergencyRoute, Inbound, Outbound, Outside};
use meshtone_node::trunk::{CALLS_PER_TRUNK, DigitRule, TrunkConfig, TrunkInbound};
use serde::Deserialize;

use crate::failure::Failure;

/// The keys, for telling unknown ones.
pub(crate) const KEYS: [&str; 10] = [
    "dns",
    "outbound",
    "outbound_domains",
    "inbound",
    "known_domains",
    "allow_private_destinations",
    "max_calls_per_user",
    "emergency_numbers",
    "emergency_route",
    "trunk",
];

/// The keys as they are written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutsideKeys {
    dns: Option<Vec<String>>,
    outbound: Option<String>,
    outbound_domains: Option<Vec<String>>,
    inbound: Option<String>,
    known_domains: Option<Vec<String>>,
    allow_private_destinations: Option<bool>,
    max_calls_per_user: Option<usize>,
    emergency_numbers: Option<Vec<String>>,
    emergency_route: Option<String>,
    #[serde(default)]
    trunk: Vec<TrunkKeys>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrunkKeys {
    name: String,
    server: String,
    domain: Option<String>,
    user: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
    realm: Option<String>,
    register: Option<bool>,
    inbound: Option<String>,
    #[serde(default)]
    outbound: Vec<RuleKeys>,
    callers: Option<Vec<String>>,
    max_calls: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleKeys {
    #[serde(rename = "match")]
    pattern: String,
    #[serde(default)]
    strip: usize,
    #[serde(default)]
    prepend: String,
}

impl OutsideKeys {
    /// What they mean; `at` is the file they are in.
    pub(crate) fn read(self, at: &Path) -> Result<Outside, Failure> {
        let wrong = |what: String, hint: &str| Failure::new(format!("{}: {what}", at.display()), hint);
        let dns = self.dns.unwrap_or_default().iter().map(|text| name_server(text)).collect::<Result<_, _>>();
        let outbound = match self.outbound.as_deref() {
            None | Some("any") => Outbound::Any,
            Some("none") => Outbound::None,
            Some("list") => Outbound::List(self.outbound_domains.unwrap_or_default()),
            Some(other) => return Err(wrong(format!("`outbound` is `{other}`"), "it is any, list or none")),
        };
        let inbound = match self.inbound.as_deref() {
            None | Some("none") => Inbound::None,
            Some("any") => Inbound::Any,
            Some("known") => Inbound::Known(self.known_domains.unwrap_or_default()),
            Some(other) => return Err(wrong(format!("`inbound` is `{other}`"), "it is none, known or any")),
        };
        let trunks =
            self.trunk.into_iter().map(|trunk| trunk.read(at)).collect::<Result<Vec<TrunkConfig>, Failure>>()?;
        for (index, trunk) in trunks.iter().enumerate() {
            if trunks.iter().take(index).any(|other| other.name == trunk.name) {
                return Err(wrong(format!("two trunks are named `{}`", trunk.name), "each needs a name of its own"));
            }
        }
        let mut emergency = Emergency::default();
        if let Some(numbers) = self.emergency_numbers {
            emergency.numbers = numbers;
        }
        emergency.route = match self.emergency_route {
            None => None,
            Some(route) if route.starts_with("sip:") || route.starts_with("sips:") => {
                Some(EmergencyRoute::Address(route))
            }
            Some(name) if trunks.iter().any(|trunk| trunk.name == name) => Some(EmergencyRoute::Trunk(name)),
            Some(other) => {
                return Err(wrong(
                    format!("`emergency_route` is `{other}`"),
                    "it is the name of a trunk, or a SIP URI such as \"sip:112@gateway.example\"",
                ));
            }
        };
        Ok(Outside {
            dns: dns.map_err(|text: String| {
                wrong(format!("`{text}` in `dns` is no name server"), "give IP addresses: \"192.0.2.53\"")
            })?,
            outbound,
            inbound,
            allow_private_destinations: self.allow_private_destinations.unwrap_or(false),
            max_calls_per_user: self.max_calls_per_user.unwrap_or(CALLS_PER_USER),
            emergency,
            trunks,
        })
    }
}

impl TrunkKeys {
    fn read(self, at: &Path) -> Result<TrunkConfig, Failure> {
        let name = self.name;
        let wrong =
            |what: &str, hint: &str| Failure::new(format!("{}: trunk `{name}`: {what}", at.display()), hint.to_owned());
        let password = match (self.password, self.password_file) {
            (Some(_), Some(_)) => return Err(wrong("it has both password and password_file", "one of them is enough")),
            (Some(password), None) => Some(password),
            (None, Some(file)) => {
                let file = at.parent().unwrap_or(Path::new("")).join(file);
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    wrong(&format!("{} cannot be read: {error}", file.display()), "name a file with the password")
                })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        let outbound: Vec<DigitRule> = self
            .outbound
            .into_iter()
            .map(|rule| DigitRule { pattern: rule.pattern, strip: rule.strip, prepend: rule.prepend })
            .collect();
        if let Some(rule) = outbound.iter().find(|rule| !rule.is_sound()) {
            return Err(wrong(
                &format!("`{}` is no pattern of digits", rule.pattern),
                "digits, +, *, #, X for any digit, a final $ for the end of the number",
            ));
        }
        let domain = match self.domain {
            Some(domain) => domain,
            None => host_of(&self.server).ok_or_else(|| {
                wrong(&format!("`{}` is no server", self.server), "for example \"sip.provider.example:5060\"")
            })?,
        };
        Ok(TrunkConfig {
            server: self.server,
            domain,
            user: self.user,
            password,
            realm: self.realm,
            register: self.register.unwrap_or(true),
            inbound: match self.inbound {
                None => TrunkInbound::Nobody,
                Some(called) if called == "*" => TrunkInbound::CalledNumber,
                Some(user) => TrunkInbound::User(user),
            },
            outbound,
            callers: self.callers,
            max_calls: self.max_calls.unwrap_or(CALLS_PER_TRUNK),
            name,
        })
    }
}

/// The host in `host`, `host:port`, `host;transport=tcp`, `[v6]:port`.
fn host_of(server: &str) -> Option<String> {
    let server = server.split(';').next()?;
    let host = match server.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => format!("[{address}]"),
        None => server.split(':').next()?.to_owned(),
    };
    (!host.is_empty()).then_some(host)
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse().ok().map(|address: std::net::IpAddr| SocketAddr::new(address, 53));
    text.parse().ok().or_else(bare).ok_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Outside, String> {
        let keys: OutsideKeys = toml::from_str(text).map_err(|error| error.to_string())?;
        keys.read(Path::new("config.toml")).map_err(|failure| failure.to_string())
    }

    #[test]
    fn nothing_said_is_safe() {
        let outside = read("").unwrap();
        assert_eq!((outside.outbound, outside.inbound), (Outbound::Any, Inbound::None));
        assert!(!outside.allow_private_destinations && outside.trunks.is_empty() && outside.emergency.route.is_none());
    }

    #[test]
    fn a_trunk_is_read_with_its_rules() {
        let outside = read(
            "emergency_route = \"provider\"\n[[trunk]]\nname = \"provider\"\nserver = \"sip.example.net:5070;transport=tcp\"\n\
             user = \"4930123\"\npassword = \"secret\"\ninbound = \"alice\"\n\
             outbound = [{ match = \"00\", strip = 2, prepend = \"+\" }]\n",
        )
        .unwrap();
        let trunk = outside.trunks.first().unwrap();
        assert_eq!((trunk.domain.as_str(), trunk.max_calls), ("sip.example.net", CALLS_PER_TRUNK));
        assert_eq!(trunk.inbound, TrunkInbound::User("alice".to_owned()));
        assert_eq!(outside.emergency.route, Some(EmergencyRoute::Trunk("provider".to_owned())));
        assert!(!format!("{trunk:?}").contains("secret"));
    }

    #[test]
    fn wrong_values_are_errors_with_a_hint() {
        let trunk = "[[trunk]]\nname = \"t\"\nserver = \"s\"\nuser = \"u\"\n";
        for text in [
            "outbound = \"some\"".to_owned(),
            "inbound = \"all\"".to_owned(),
            "dns = [\"ns.example\"]".to_owned(),
            "emergency_route = \"nowhere\"".to_owned(),
            format!("{trunk}{trunk}"),
            format!("{trunk}outbound = [{{ match = \"^0\" }}]"),
            format!("{trunk}password_file = \"/nowhere/at/all\""),
        ] {
            assert!(read(&text).unwrap_err().contains("\nhint: "), "{text}");
        }
    }
}
