//! The `[authority]` table: whom the overlay's authority certifies, and by which mail server it reaches them.

use std::path::{Path, PathBuf};

use meshtone_node::PublicUrl;
use meshtone_node::authority::{ForeignAuthority, MailSettings, Password, Policy, Security, Settings, Storing, holder};
use serde::Deserialize;

use crate::failure::Failure;
use crate::trunk::{Wrong, read_password};

/// The key of the table.
pub(crate) const KEY: &str = "authority";

/// How a web address is written.
pub(crate) const WEB_ADDRESS: &str = "for example \"https://mesh.example.org\"";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    policy: Option<String>,
    page: Option<String>,
    storing: Option<String>,
    nodes_per_person: Option<usize>,
    mail: Option<Mail>,
    #[serde(default)]
    foreign: Vec<Foreign>,
}

/// Other authorities, and the domains about whose addresses they are believed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Foreign {
    ca_file: PathBuf,
    domains: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mail {
    server: String,
    tls: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    from: String,
    ca_file: Option<PathBuf>,
}

/// What the table says; the address of the page stood here before it had a key of its own.
pub(crate) struct Read {
    pub(crate) settings: Settings,
    pub(crate) page: Option<PublicUrl>,
}

/// Reads the table; `at` is the file it is in.
pub(crate) fn read(table: toml::Value, at: &Path) -> Result<Read, Failure> {
    let failed = |(what, hint): Wrong| Failure::new(format!("{}: [{KEY}]: {what}", at.display()), hint);
    let table: Table = table.try_into().map_err(|error: toml::de::Error| {
        failed((
            error.message().to_owned(),
            "the README lists the keys of [authority], [authority.mail] and [[authority.foreign]]",
        ))
    })?;
    table.check(at).map_err(failed)
}

impl Table {
    fn check(self, at: &Path) -> Result<Read, Wrong> {
        let policy = match self.policy.as_deref() {
            None => Policy::default(),
            Some(name) => Policy::named(name)
                .ok_or_else(|| (format!("`policy` is `{name}`"), "it is \"invite\", \"open\" or \"closed\""))?,
        };
        let page = self.page.map(|text| {
            let url = text.parse().map_err(|why| (format!("`page` is `{text}`: {why}"), WEB_ADDRESS));
            url as Result<PublicUrl, Wrong>
        });
        let page = page.transpose()?;
        let mail = self.mail.map(|mail| mail.check(at)).transpose()?;
        let storing = match self.storing.as_deref() {
            None | Some("invited") => Storing::Invited,
            Some("trusted") => Storing::Trusted,
            Some(other) => {
                return Err((format!("`storing` is `{other}`"), "it is \"invited\" (as without it) or \"trusted\""));
            }
        };
        let foreign = self.foreign.into_iter().map(|foreign| foreign.check(at)).collect::<Result<_, _>>();
        let foreign = foreign.map_err(|(why, hint)| (format!("[[{KEY}.foreign]]: {why}"), hint))?;
        let nodes_per_person = self.nodes_per_person;
        Ok(Read { settings: Settings { policy, mail, storing, nodes_per_person, foreign }, page })
    }
}

impl Foreign {
    /// Reads the file; `at` is the one that names it.
    pub(crate) fn check(self, at: &Path) -> Result<ForeignAuthority, Wrong> {
        let hint = "name a PEM file with the certificates of an authority, and the domains whose people it certifies";
        let wrong = |why: String| (why, hint);
        let path = beside(at, &self.ca_file);
        let pem = std::fs::read(&path).map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))?;
        holder::listed(&pem, &self.domains).map_err(|error| wrong(error.to_string()))
    }
}

impl Mail {
    fn check(self, at: &Path) -> Result<MailSettings, Wrong> {
        let (host, port) = server(&self.server)?;
        let security = match self.tls.as_deref() {
            None | Some("starttls") => Security::StartTls,
            Some("tls") => Security::Tls,
            Some("none") => Security::None,
            Some(other) => {
                return Err((format!("`tls` is `{other}`"), "it is \"starttls\" (as without it), \"tls\" or \"none\""));
            }
        };
        let beside = |path: PathBuf| beside(at, &path);
        let account = match (self.user, self.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => Some((user, Password(read_password(&beside(file))?))),
            (Some(_), None) | (None, Some(_)) => {
                return Err((
                    "`user` and `password_file` belong together".to_owned(),
                    "give both, or neither where the mail server asks for no password",
                ));
            }
        };
        let read = |path: PathBuf| {
            let path = beside(path);
            std::fs::read(&path).map_err(|error| {
                let what = format!("`ca_file` {} cannot be read: {error}", path.display());
                (what, "name a PEM file, or leave it out where a public authority vouches for the mail server")
            })
        };
        let authorities = self.ca_file.map(read).transpose()?;
        let settings = MailSettings { host, port, security, account, from: self.from, authorities };
        settings.check().map_err(|error| (error.to_string(), error.hint()))?;
        Ok(settings)
    }
}

/// A file that is named in the one at `at`.
fn beside(at: &Path, path: &Path) -> PathBuf {
    at.parent().unwrap_or(Path::new(".")).join(path)
}

/// Host and port; an IPv6 address is written in brackets.
fn server(text: &str) -> Result<(String, u16), Wrong> {
    let wrong = || (format!("`server` is `{text}`"), "give a host and its port: \"mail.example.org:587\"");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)),
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0 && is_host).ok_or_else(wrong)?;
    Ok((bare.unwrap_or(host).to_owned(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(text: &str, folder: &Path) -> Result<Settings, String> {
        parse_all(text, folder).map(|read| read.settings)
    }

    fn parse_all(text: &str, folder: &Path) -> Result<Read, String> {
        let table: toml::Table = text.parse().unwrap();
        read(table.get(KEY).unwrap().clone(), &folder.join("config.toml")).map_err(|failure| failure.to_string())
    }

    /// A folder with a password that its owner alone can read, and one that everybody can.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("secret", 0o600), ("open", 0o644)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "pass word\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    const MAIL: &str = "[authority.mail]\nserver = \"mail.example.org:587\"\nfrom = \"Meshtone <m@example.org>\"\n";

    #[test]
    fn every_key_is_read() {
        let folder = folder();
        let text = format!(
            "[authority]\npolicy = \"closed\"\npage = \"https://mesh.example.org\"\nstoring = \"trusted\"\nnodes_per_person = 2\n{MAIL}tls = \"tls\"\nuser = \"u\"\n\
             password_file = \"secret\"\n"
        );
        let Read { settings, page } = parse_all(&text, folder.path()).unwrap();
        assert_eq!((settings.policy, page), (Policy::Closed, "https://mesh.example.org".parse().ok()));
        assert_eq!((settings.storing, settings.nodes_per_person), (Storing::Trusted, Some(2)));
        let mail = settings.mail.unwrap();
        assert_eq!((mail.host.as_str(), mail.port, mail.security), ("mail.example.org", 587, Security::Tls));
        assert_eq!(mail.account, Some(("u".to_owned(), Password("pass word".to_owned()))));
        let least = parse(MAIL, folder.path()).unwrap();
        assert_eq!((least.policy, least.mail.unwrap().security), (Policy::Invite, Security::StartTls));
        let local = MAIL.replace("mail.example.org:587", "[::1]:25") + "tls = \"none\"\n";
        assert_eq!(parse(&local, folder.path()).unwrap().mail.unwrap().host, "::1");
    }

    /// A company's own, made with OpenSSL.
    const COMPANY: &str = "-----BEGIN CERTIFICATE-----
MIIBezCCASGgAwIBAgIUQuINWWaIauE+BHYZja4ty67HINowCgYIKoZIzj0EAwIw
EjEQMA4GA1UEAwwHQ29tcGFueTAgFw0yNjExMzAyMDMwNTZaGA8yMTI2MTEwNjIw
MzA1NlowEjEQMA4GA1UEAwwHQ29tcGFueTBZMBMGByqGSM49AgEGCCqGSM49AwEH
A0IABFCPaYHldjAdw6APZzCL+DXUSRggSBHvw49rKlg+8SX7Ysq1nVeuEygzprNT
oE+Q/L6f3sBODcJcMKvcC5RPZ/ejUzBRMB0GA1UdDgQWBBTorxJJw4GwboPryATJ
i3wTAFvxTTAfBgNVHSMEGDAWgBTorxJJw4GwboPryATJi3wTAFvxTTAPBgNVHRMB
Af8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIBGzVZeTog8HvbS6KL2/Sy2MECSh
L7GmMtYkU/j6xA2VAiEAu9LThKaBI9xemCoK0EBzq5DgzGhf5V0QIUnJeUOEt3Y=
-----END CERTIFICATE-----
";
    const FOREIGN: &str = "[[authority.foreign]]\nca_file = \"company.pem\"\ndomains = [\"Company.example\"]\n";

    #[test]
    fn other_authorities_are_listed_each_with_its_domains() {
        let folder = folder();
        std::fs::write(folder.path().join("company.pem"), COMPANY).unwrap();
        let settings = parse(&format!("[authority]\n{FOREIGN}{FOREIGN}"), folder.path()).unwrap();
        assert_eq!(settings.foreign.len(), 2);
        assert_eq!(settings.foreign[0].domains(), ["company.example"]);
        for wrong in [
            FOREIGN.replace("company.pem", "nowhere"),
            FOREIGN.replace("company.pem", "secret"),
            FOREIGN.replace("[\"Company.example\"]", "[]"),
            FOREIGN.replace("Company.example", "not a domain"),
        ] {
            let error = parse(&wrong, folder.path()).unwrap_err();
            assert!(error.contains("[[authority.foreign]]") && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_file_key_and_hint() {
        let folder = folder();
        for (key, text) in [
            ("policy", "[authority]\npolicy = \"maybe\"\n".to_owned()),
            ("storing", "[authority]\nstoring = \"me\"\n".to_owned()),
            ("polcy", "[authority]\npolcy = \"open\"\n".to_owned()),
            ("page", "[authority]\npage = \"http://mesh.example.org\"\n".to_owned()),
            ("page", "[authority]\npage = \"https://mesh.example.org/#x\"\n".to_owned()),
            ("server", MAIL.replace(":587", "")),
            ("server", MAIL.replace(":587", ":0")),
            ("server", MAIL.replace("mail.example.org:587", "::1:25")),
            ("from", MAIL.replace("Meshtone <m@example.org>", "Meshtone")),
            ("from", MAIL.replace("Meshtone <m@example.org>", "a\\r\\nBcc: b@c.d")),
            ("tls", format!("{MAIL}tls = \"ssl\"\n")),
            ("tls", format!("{MAIL}tls = \"none\"\n")),
            ("password_file", format!("{MAIL}user = \"u\"\n")),
            ("user", format!("{MAIL}password_file = \"secret\"\n")),
            ("password_file", format!("{MAIL}user = \"u\"\npassword_file = \"open\"\n")),
            ("password_file", format!("{MAIL}user = \"u\"\npassword_file = \"nowhere\"\n")),
            ("ca_file", format!("{MAIL}ca_file = \"nowhere\"\n")),
            ("ca_file", format!("{MAIL}ca_file = \"secret\"\n")),
        ] {
            let error = parse(&text, folder.path()).unwrap_err();
            assert!(error.contains("config.toml: [authority]: "), "{error}");
            assert!(error.contains(key) && error.contains("\nhint: "), "{key}: {error}");
        }
    }
}
