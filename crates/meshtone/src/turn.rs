//! The table `[turn]` of the configuration, and `meshtone turn-credentials`.

use std::net::SocketAddr;
use std::path::Path;

use hyper::Method;
use meshtone_node::TurnLimits;
use meshtone_node::turn::{IceServer, RelayAddress};
use serde::Deserialize;

use crate::administer::{NOTHING, running};
use crate::client::segment;
use crate::command::PortRange;
use crate::config::Texts;
use crate::failure::Failure;
use crate::output;

/// Bits of a megabit.
const MEGABIT: u64 = 1_000_000;

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    listen: Option<Texts>,
    tls: Option<Texts>,
    ports: Option<String>,
    relay: Option<Texts>,
    #[serde(default)]
    allow_private: bool,
    shared: Option<bool>,
    allocations: Option<usize>,
    user_allocations: Option<usize>,
    source_allocations: Option<usize>,
    connections: Option<usize>,
    mbit: Option<u64>,
    user_mbit: Option<u64>,
}

/// What it means.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) ports: Option<PortRange>,
    pub(crate) relay: Vec<RelayAddress>,
    pub(crate) allow_private: bool,
    /// Whether users of other nodes are served; said by nobody, they are.
    pub(crate) shared: Option<bool>,
    pub(crate) limits: TurnLimits,
}

impl Table {
    /// What is meant, or what is wrong with it and a hint.
    pub(crate) fn read(self) -> Result<Turn, (String, &'static str)> {
        let addresses = |key: &str, texts: Option<Texts>| {
            let read = |text: &String| {
                text.parse::<SocketAddr>().map_err(|_| {
                    (format!("`{text}` in `{key}` is no address"), "give an IP address and a port: \"192.0.2.1:3478\"")
                })
            };
            Texts::list(texts).iter().map(read).collect::<Result<Vec<_>, _>>()
        };
        let ports = self.ports.map(|text| text.parse::<PortRange>()).transpose();
        let relay = Texts::list(self.relay).iter().map(|text| text.parse()).collect::<Result<Vec<RelayAddress>, _>>();
        let defaults = TurnLimits::default();
        let megabits = |mbit: Option<u64>, default| mbit.map_or(default, |mbit| mbit.saturating_mul(MEGABIT));
        Ok(Turn {
            listen: addresses("listen", self.listen)?,
            tls: addresses("tls", self.tls)?,
            ports: ports.map_err(|why| (format!("`ports`: {why}"), "for example \"49152-65535\""))?,
            relay: relay.map_err(|why| {
                (format!("`relay`: {why}"), "for example [\"203.0.113.9\"], or \"203.0.113.9/10.0.0.2\" behind a NAT")
            })?,
            allow_private: self.allow_private,
            shared: self.shared,
            limits: TurnLimits {
                allocations: self.allocations.unwrap_or(defaults.allocations),
                allocations_of_user: self.user_allocations.unwrap_or(defaults.allocations_of_user),
                allocations_of_source: self.source_allocations.unwrap_or(defaults.allocations_of_source),
                connections: self.connections.unwrap_or(defaults.connections),
                bits_in_all: megabits(self.mbit, defaults.bits_in_all),
                bits_of_user: megabits(self.user_mbit, defaults.bits_of_user),
            },
        })
    }
}

/// `meshtone turn-credentials`.
pub(crate) fn credentials(data: &Path, user: &str) -> Result<(), Failure> {
    let client = running(data, "it is the running node that makes logins")?;
    let login: IceServer = client.ask(Method::POST, &format!("/users/{}/turn", segment(user)), NOTHING)?;
    output::print_json(&login)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Result<Turn, String> {
        let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
        table.read().map_err(|(what, hint)| format!("{what}, {hint}"))
    }

    #[test]
    fn nothing_said_is_safe_and_what_is_said_is_meant() {
        let turn = read("").unwrap();
        assert!(!turn.allow_private && turn.listen.is_empty() && turn.limits == TurnLimits::default());
        let turn = read(
            "listen = [\"192.0.2.1:3478\"]\nrelay = [\"203.0.113.9/10.0.0.2\"]\nuser_mbit = 4\nuser_allocations = 3\n",
        )
        .unwrap();
        assert_eq!((turn.listen.len(), turn.limits.bits_of_user, turn.limits.allocations_of_user), (1, 4_000_000, 3));
        assert_eq!(turn.relay, ["203.0.113.9/10.0.0.2".parse().unwrap()]);
    }

    #[test]
    fn addresses_are_one_text_or_a_list_as_those_of_other_listeners() {
        let turn = read("listen = \"192.0.2.1:3478, [::1]:3478\"\ntls = \"192.0.2.1:5349\"\nrelay = \"203.0.113.9\"\n")
            .unwrap();
        assert_eq!((turn.listen.len(), turn.tls.len(), turn.relay.len()), (2, 1, 1));
    }

    #[test]
    fn wrong_values_are_errors() {
        for text in
            ["listen = [\"a\"]", "tls = 5", "ports = \"5\"", "relay = [\"a.example\"]", "mbits = 3", "mbit = -1"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
