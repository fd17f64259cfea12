//! The table `[acme]` of the configuration: whom to ask for a certificate that every browser believes.

use std::path::PathBuf;

use meshtone_node::acme::{Challenge, MAX_NAMES, Settings};
use serde::Deserialize;

use crate::config::Texts;

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    directory: String,
    #[serde(default)]
    agree_to_terms: bool,
    contact: Option<String>,
    domain: Option<Texts>,
    challenge: Option<String>,
    authorities: Option<PathBuf>,
}

/// What it means, but for the names where it has none.
#[derive(Debug)]
pub(crate) struct Acme {
    directory: String,
    contact: Option<String>,
    names: Vec<String>,
    challenge: Option<Challenge>,
    authorities: Option<PathBuf>,
}

impl Table {
    /// What is meant, or what is wrong with it and a hint.
    pub(crate) fn read(self) -> Result<Acme, (String, &'static str)> {
        let Table { directory, agree_to_terms, contact, domain, challenge, authorities } = self;
        if !directory.starts_with("https://") || directory.len() > 500 || directory.contains(char::is_whitespace) {
            let hint = "for example \"https://acme-v02.api.letsencrypt.org/directory\"";
            return Err((format!("`directory` is `{directory}`, which is no https address"), hint));
        }
        if !agree_to_terms {
            let hint = "read them, and write `agree_to_terms = true`";
            return Err(("the server wants its terms of service to be agreed to".to_owned(), hint));
        }
        let contact = contact.map(|text| if text.starts_with("mailto:") { text } else { format!("mailto:{text}") });
        if let Some(contact) =
            contact.as_deref().filter(|text| !text.contains('@') || text.contains(char::is_whitespace))
        {
            return Err((format!("`contact` is `{contact}`"), "it is a mail address"));
        }
        let challenge = match challenge.as_deref() {
            None => None,
            Some("http-01") => Some(Challenge::Http01),
            Some("tls-alpn-01") => Some(Challenge::TlsAlpn01),
            Some(other) => {
                return Err((format!("`challenge` is `{other}`"), "it is \"tls-alpn-01\" or \"http-01\", or left out"));
            }
        };
        let names = Texts::list(domain);
        names.iter().try_for_each(|name| check(name))?;
        if names.len() > MAX_NAMES {
            return Err((format!("`domain` has {} names", names.len()), "16 fit into a certificate"));
        }
        Ok(Acme { directory, contact, names, challenge, authorities })
    }
}

impl Acme {
    /// The same for a node whose pages are found at `host`.
    pub(crate) fn at(self, host: Option<&str>) -> Result<Settings, (String, &'static str)> {
        let Acme { directory, contact, mut names, challenge, authorities } = self;
        if names.is_empty() {
            let hint = "write `domain = \"mesh.example.org\"` into `[acme]`, or set `public_url`";
            let host = host.ok_or(("`acme` has no name for the certificate".to_owned(), hint))?;
            check(host)?;
            names.push(host.to_owned());
        }
        Ok(Settings { directory, contact, names, challenge, authorities })
    }
}

fn check(name: &str) -> Result<(), (String, &'static str)> {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_host = name.contains('.') && name.len() <= 253 && name.split('.').all(is_label);
    if is_host && name.parse::<std::net::IpAddr>().is_err() {
        return Ok(());
    }
    Err((
        format!("`{name}` is no name that a certificate could be for"),
        "a host name such as \"mesh.example.org\"; no address",
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, host: Option<&str>) -> Result<Settings, String> {
        let table: Table = toml::from_str(text).map_err(|error| error.to_string())?;
        let said = |(what, hint): (String, &'static str)| format!("{what}, {hint}");
        table.read().map_err(said)?.at(host).map_err(said)
    }

    const SERVER: &str = "directory = \"https://acme.example/dir\"\nagree_to_terms = true\n";

    #[test]
    fn a_server_and_a_name_are_enough() {
        let settings = read(SERVER, Some("mesh.example.org")).unwrap();
        assert_eq!((settings.names.as_slice(), settings.contact), (["mesh.example.org".to_owned()].as_slice(), None));
        let more = format!("{SERVER}contact = \"admin@example.org\"\ndomain = \"a.example, b.example\"\n");
        let settings = read(&more, None).unwrap();
        assert_eq!((settings.names.len(), settings.contact.as_deref()), (2, Some("mailto:admin@example.org")));
    }

    #[test]
    fn what_no_server_could_use_is_an_error() {
        assert!(read(SERVER, None).is_err());
        for wrong in [
            "agree_to_terms = true\n".to_owned(),
            "directory = \"https://acme.example/dir\"\n".to_owned(),
            "directory = \"http://acme.example/dir\"\nagree_to_terms = true\n".to_owned(),
            format!("{SERVER}contact = \"me\"\n"),
            format!("{SERVER}domain = \"192.0.2.1\"\n"),
            format!("{SERVER}domain = \"*.example.org\"\n"),
            format!("{SERVER}domain = \"localhost\"\n"),
            format!("{SERVER}server = 1\n"),
            format!("{SERVER}challenge = \"dns-01\"\n"),
        ] {
            assert!(read(&wrong, Some("mesh.example.org")).is_err(), "{wrong}");
        }
    }
}
