//! The keys about calls beyond the overlay: other SIP domains, emergency numbers.

use std::net::SocketAddr;
use std::path::Path;

use meshtone_node::policy::{CALLS_PER_USER, Emergency, EmergencyRoute, Inbound, Outbound, Outside};
use serde::Deserialize;

use crate::authority::Foreign;
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
    "caller_authority",
];

/// Begins an emergency route that is a trunk's name.
const TRUNK: &str = "trunk:";

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
    caller_authority: Vec<Foreign>,
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
        let mut emergency = Emergency::default();
        if let Some(numbers) = self.emergency_numbers {
            emergency.numbers = numbers;
        }
        emergency.route = match self.emergency_route {
            None => None,
            Some(route) if route.starts_with("sip:") || route.starts_with("sips:") => Some(EmergencyRoute::Uri(route)),
            Some(route) if route.starts_with(TRUNK) => {
                Some(EmergencyRoute::Trunk(route.trim_start_matches(TRUNK).to_owned()))
            }
            Some(other) => {
                return Err(wrong(
                    format!("`emergency_route` is `{other}`"),
                    "it is a SIP URI such as \"sip:112@gateway.example\", or a trunk: \"trunk:NAME\"",
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
            callers: self
                .caller_authority
                .into_iter()
                .map(|listed| listed.check(at))
                .collect::<Result<_, _>>()
                .map_err(|(what, hint)| wrong(format!("[[caller_authority]]: {what}"), hint))?,
        })
    }
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
        assert!(!outside.allow_private_destinations && outside.emergency.route.is_none());
    }

    #[test]
    fn wrong_values_are_errors_with_a_hint() {
        for text in
            ["outbound = \"some\"", "inbound = \"all\"", "dns = [\"ns.example\"]", "emergency_route = \"nowhere\""]
        {
            assert!(read(text).unwrap_err().contains("\nhint: "), "{text}");
        }
    }
}
