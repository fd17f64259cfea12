//! Settings: a flag wins over the environment (clap sees to both), and that over the TOML file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use meshtone_node::bootstrap::Peer;
use meshtone_node::first_stage::{self, SecondStage, Spread};
use meshtone_node::policy::Outside;
use meshtone_node::trunk::settings::Trunk;
use serde::Deserialize;
use toml::Table;

use meshtone_node::{
    Administration, AnchorPolicy, AnchorRules, Callers, DigestRule, EnrolHere, MediaLimits, Network, PublicUrl,
};

use crate::acme::{self, Acme};
use crate::authority;
use crate::command::{OverlayRole, PortRange, Relay};
use crate::failure::Failure;
use crate::outside::{self, OutsideKeys};
use crate::trunk;
use crate::turn::{self, Turn};

/// The keys of the file, named as the flags are.
const KEYS: [&str; 32] = [
    "data",
    "domain",
    "sip",
    "tls",
    "ws",
    "wss",
    "ws_origin",
    "public_url",
    "enroll",
    "tls_cert",
    "tls_key",
    "tls_ca",
    "digest",
    "link",
    "peer",
    "no_mdns",
    "no_port_mapping",
    "role",
    "relay",
    "relay_discovery",
    "relay_limit",
    "rtp_ports",
    "join",
    "log",
    "trusted_sources",
    "verified_mark",
    "anonymous",
    "first_stage",
    "media",
    "page",
    "turn",
    "acme",
];

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) data: Option<PathBuf>,
    pub(crate) domain: Option<String>,
    pub(crate) sip: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) ws: Vec<SocketAddr>,
    pub(crate) wss: Vec<SocketAddr>,
    pub(crate) ws_origin: Vec<String>,
    pub(crate) public_url: Option<PublicUrl>,
    pub(crate) enrol: EnrolHere,
    pub(crate) administration: Administration,
    pub(crate) tls_cert: Option<PathBuf>,
    pub(crate) tls_key: Option<PathBuf>,
    pub(crate) tls_ca: Option<PathBuf>,
    pub(crate) digest: Vec<DigestRule>,
    pub(crate) link: Vec<SocketAddr>,
    pub(crate) peer: Vec<Peer>,
    pub(crate) no_mdns: bool,
    pub(crate) no_port_mapping: bool,
    pub(crate) role: Option<OverlayRole>,
    pub(crate) relay: Option<Relay>,
    pub(crate) relay_discovery: Vec<SocketAddr>,
    pub(crate) relay_limit: Option<u16>,
    pub(crate) rtp_ports: Option<PortRange>,
    pub(crate) anchor: AnchorRules,
    pub(crate) turn: Turn,
    pub(crate) acme: Option<Acme>,
    pub(crate) join: Option<String>,
    pub(crate) log: Option<String>,
    pub(crate) outside: Outside,
    pub(crate) callers: Callers,
    pub(crate) trusted_sources: Vec<Network>,
    pub(crate) trunks: Vec<Trunk>,
    pub(crate) first_stage: Option<first_stage::Settings>,
    pub(crate) authority: Option<meshtone_node::authority::Settings>,
}

/// The keys as they are written: lists as one text (commas allowed) or a list.
#[derive(Debug, Deserialize)]
struct File {
    data: Option<PathBuf>,
    domain: Option<String>,
    sip: Option<Texts>,
    tls: Option<Texts>,
    ws: Option<Texts>,
    wss: Option<Texts>,
    ws_origin: Option<Texts>,
    public_url: Option<String>,
    enroll: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    digest: Option<Texts>,
    link: Option<Texts>,
    peer: Option<Texts>,
    no_mdns: Option<bool>,
    no_port_mapping: Option<bool>,
    role: Option<OverlayRole>,
    relay: Option<Relay>,
    relay_discovery: Option<Texts>,
    relay_limit: Option<NonZeroU16>,
    rtp_ports: Option<String>,
    join: Option<String>,
    log: Option<String>,
    trusted_sources: Option<Texts>,
    verified_mark: Option<String>,
    anonymous: Option<String>,
    first_stage: Option<FirstStageTable>,
    media: Option<MediaTable>,
    page: Option<PageTable>,
    turn: Option<turn::Table>,
    acme: Option<acme::Table>,
}

/// The table `[page]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageTable {
    administration: Option<String>,
}

impl PageTable {
    /// What is meant, or what is wrong with it and a hint.
    fn read(&self) -> Result<Administration, (String, &'static str)> {
        match self.administration.as_deref() {
            None | Some("local") => Ok(Administration::Local),
            Some("anywhere") => Ok(Administration::Anywhere),
            Some(other) => {
                Err((format!("`page.administration` is `{other}`"), "it is \"local\" (as without it) or \"anywhere\""))
            }
        }
    }
}

/// The table `[media]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaTable {
    anchor: Option<String>,
    #[serde(default)]
    users: BTreeMap<String, String>,
    streams_per_user: Option<usize>,
    converted_calls: Option<usize>,
}

impl MediaTable {
    /// What is meant, or what is wrong with it and a hint.
    fn read(self) -> Result<AnchorRules, (String, &'static str)> {
        let policy = |what: &str, text: &str| match text {
            "auto" => Ok(AnchorPolicy::Auto),
            "always" => Ok(AnchorPolicy::Always),
            "never" => Ok(AnchorPolicy::Never),
            other => Err((format!("`{what}` is `{other}`"), "it is \"auto\" (as without it), \"always\" or \"never\"")),
        };
        let most = MediaLimits::default();
        if self.streams_per_user == Some(0) {
            return Err((
                "`streams_per_user` is 0".to_owned(),
                "a call with sound takes 2; `anchor = \"never\"` carries none",
            ));
        }
        let users = self.users.iter().map(|(user, text)| Ok((user.to_ascii_lowercase(), policy(user, text)?)));
        Ok(AnchorRules {
            others: self.anchor.map_or(Ok(AnchorPolicy::Auto), |text| policy("anchor", &text))?,
            users: users.collect::<Result<_, _>>()?,
            limits: MediaLimits {
                streams_per_user: self.streams_per_user.unwrap_or(most.streams_per_user),
                converted_calls: self.converted_calls.unwrap_or(most.converted_calls),
            },
        })
    }
}

/// The table `[first_stage]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstStageTable {
    servers: Vec<String>,
    spread: Option<String>,
}

impl FirstStageTable {
    /// What is meant, or what is wrong with it and a hint.
    fn read(self) -> Result<first_stage::Settings, (String, &'static str)> {
        let count = self.servers.len();
        if !(1..=first_stage::SERVERS_MAX).contains(&count) {
            return Err((format!("`first_stage` has {count} servers"), "name at least one, and no more than 64"));
        }
        let servers = self.servers.iter().map(|text| text.parse()).collect::<Result<Vec<SecondStage>, _>>();
        let spread = match self.spread.as_deref() {
            None | Some("user") => Spread::User,
            Some("call-id") => Spread::CallId,
            Some(other) => {
                return Err((format!("`spread` is `{other}`"), "write \"user\" (as without it) or \"call-id\""));
            }
        };
        let servers = servers.map_err(|why| {
            (
                format!("`first_stage`: {why}"),
                "for example servers = [\"192.0.2.10:5060\", \"192.0.2.11:5060;transport=tcp\"]",
            )
        })?;
        Ok(first_stage::Settings { servers, spread })
    }
}

/// A list, or one text with commas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub(crate) fn list(this: Option<Texts>) -> Vec<String> {
        match this {
            None => Vec::new(),
            Some(Texts::One(text)) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            Some(Texts::Many(texts)) => texts,
        }
    }
}

/// Reads the file: the one named, or the one in the XDG folder if it is there.
pub(crate) fn load(named: Option<&Path>) -> Result<(Table, PathBuf), Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match xdg("XDG_CONFIG_HOME", ".config") {
            Some(folder) => folder.join("meshtone").join("config.toml"),
            None => return Ok((Table::new(), PathBuf::new())),
        },
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((table(&text, &path)?, path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok((Table::new(), path)),
        Err(error) => Err(Failure::new(
            format!("the configuration {} cannot be read: {error}", path.display()),
            "name the file with --config, or leave it out: none is needed",
        )),
    }
}

/// The data folder: flag or environment, file, XDG.
pub(crate) fn data_folder(flag: Option<PathBuf>, file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let folder = flag.or(file).or_else(|| Some(xdg("XDG_DATA_HOME", ".local/share")?.join("meshtone")));
    folder.ok_or_else(|| Failure::new("there is no place for the data: HOME is not set", "name a folder with --data"))
}

/// A text of keys and values, whatever they are.
pub(crate) fn table(text: &str, path: &Path) -> Result<Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        Failure::new(format!("{} is no TOML: {}", path.display(), error.message()), line_hint(text, error.span()))
    })
}

/// What the keys mean; `path` is named in errors.
pub(crate) fn read(mut table: Table, path: &Path) -> Result<Settings, Failure> {
    let at = path.display();
    let known: Vec<&str> = KEYS.iter().chain(&outside::KEYS).chain([&trunk::KEY, &authority::KEY]).copied().collect();
    if let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) {
        let nearest = known.iter().min_by_key(|key| distance(unknown, key)).copied().unwrap_or("domain");
        return Err(Failure::new(
            format!("{at} has an unknown key `{unknown}`"),
            format!("did you mean `{nearest}`? The keys are {}", known.join(", ")),
        ));
    }
    let wrong = |what: String, hint: &str| Failure::new(format!("{at}: {what}"), hint);
    let trunks = table.remove(trunk::KEY).map(|tables| trunk::read(tables, path)).transpose()?.unwrap_or_default();
    let authority = table.remove(authority::KEY).map(|table| authority::read(table, path)).transpose()?;
    let (authority, page) = authority.map_or((None, None), |read| (Some(read.settings), read.page));
    let (others, table): (Table, Table) = table.into_iter().partition(|(key, _)| outside::KEYS.contains(&key.as_str()));
    let outside: OutsideKeys = toml::Value::Table(others).try_into().map_err(|error: toml::de::Error| {
        wrong(error.message().to_owned(), "the README lists the keys and their values")
    })?;
    let outside = outside.read(path)?;
    trunk::check_emergency(&outside, &trunks, path)?;
    let file: File = toml::Value::Table(table)
        .try_into()
        .map_err(|error: toml::de::Error| wrong(error.message().to_owned(), "texts are put in quotes"))?;
    let addresses = |key: &str, texts: Option<Texts>| {
        let read = |text: &String| {
            text.parse::<SocketAddr>().map_err(|_| {
                wrong(format!("`{text}` in `{key}` is no address"), "give an IP address and a port: 192.0.2.1:5060")
            })
        };
        Texts::list(texts).iter().map(read).collect::<Result<Vec<_>, _>>()
    };
    let digest = Texts::list(file.digest).iter().map(|text| text.parse::<DigestRule>()).collect::<Result<Vec<_>, _>>();
    let peer = Texts::list(file.peer).iter().map(|text| text.parse::<Peer>()).collect::<Result<Vec<_>, _>>();
    let public_url = file.public_url.map(|text| text.parse::<PublicUrl>()).transpose();
    let public_url = public_url.map_err(|why| wrong(format!("`public_url`: {why}"), authority::WEB_ADDRESS))?;
    let rtp_ports = file.rtp_ports.map(|text| text.parse::<PortRange>()).transpose();
    let trusted =
        Texts::list(file.trusted_sources).iter().map(|text| text.parse()).collect::<Result<Vec<Network>, _>>();
    Ok(Settings {
        data: file.data,
        domain: file.domain,
        sip: addresses("sip", file.sip)?,
        tls: addresses("tls", file.tls)?,
        ws: addresses("ws", file.ws)?,
        wss: addresses("wss", file.wss)?,
        ws_origin: Texts::list(file.ws_origin),
        public_url: public_url.or(page),
        administration: file
            .page
            .as_ref()
            .map_or_else(|| Ok(Administration::default()), PageTable::read)
            .map_err(|(what, hint)| wrong(what, hint))?,
        enrol: enrol(file.enroll.as_deref()).map_err(|(what, hint)| wrong(what, hint))?,
        tls_cert: file.tls_cert,
        tls_key: file.tls_key,
        tls_ca: file.tls_ca,
        digest: digest
            .map_err(|why| wrong(format!("`digest`: {why}"), "for example [\"md5\", \"192.0.2.1:5080=sha-256\"]"))?,
        link: addresses("link", file.link)?,
        peer: peer
            .map_err(|why| wrong(format!("`peer`: {why}"), "`meshtone status` shows at each node how it is named"))?,
        no_mdns: file.no_mdns.unwrap_or_default(),
        no_port_mapping: file.no_port_mapping.unwrap_or_default(),
        role: file.role,
        relay: file.relay,
        relay_discovery: addresses("relay_discovery", file.relay_discovery)?,
        relay_limit: file.relay_limit.map(NonZeroU16::get),
        rtp_ports: rtp_ports.map_err(|why| wrong(format!("`rtp_ports`: {why}"), "for example \"16384-32767\""))?,
        anchor: file
            .media
            .map_or_else(|| Ok(AnchorRules::default()), MediaTable::read)
            .map_err(|(what, hint)| wrong(format!("`media`: {what}"), hint))?,
        turn: file.turn.unwrap_or_default().read().map_err(|(what, hint)| wrong(format!("`turn`: {what}"), hint))?,
        acme: file
            .acme
            .map(acme::Table::read)
            .transpose()
            .map_err(|(what, hint)| wrong(format!("`acme`: {what}"), hint))?,
        join: file.join,
        log: file.log,
        trusted_sources: trusted.map_err(|why| {
            wrong(format!("`trusted_sources`: {why}"), "for example [\"192.0.2.10\", \"198.51.100.0/24\"]")
        })?,
        outside,
        callers: callers(file.verified_mark, file.anonymous.as_deref()).map_err(|(what, hint)| wrong(what, hint))?,
        trunks,
        first_stage: file
            .first_stage
            .map(FirstStageTable::read)
            .transpose()
            .map_err(|(what, hint)| wrong(what, hint))?,
        authority,
    })
}

/// Who may enrol on the page, or what is wrong with that and a hint.
fn enrol(who: Option<&str>) -> Result<EnrolHere, (String, &'static str)> {
    match who {
        None | Some("local") => Ok(EnrolHere::Local),
        Some("anybody") => Ok(EnrolHere::Anybody),
        Some("nobody") => Ok(EnrolHere::Nobody),
        Some(other) => {
            Err((format!("`enroll` is `{other}`"), "it is \"local\" (as without it), \"anybody\" or \"nobody\""))
        }
    }
}

/// What phones are shown of callers, or what is wrong with it and a hint.
fn callers(verified_mark: Option<String>, anonymous: Option<&str>) -> Result<Callers, (String, &'static str)> {
    if let Some(why) = verified_mark.as_deref().and_then(|mark| Callers::check_mark(mark).err()) {
        return Err((format!("`verified_mark` is none: {why}"), "for example \"✓\""));
    }
    let refuse_anonymous = match anonymous {
        None | Some("accept") => false,
        Some("refuse") => true,
        Some(other) => return Err((format!("`anonymous` is `{other}`"), "it is \"accept\" or \"refuse\"")),
    };
    Ok(Callers { verified_mark, refuse_anonymous })
}

fn line_hint(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let line = span.and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
    format!("look at line {line}")
}

/// An XDG folder: from its variable if that is absolute, as the specification wants it, otherwise under HOME.
fn xdg(variable: &str, fallback: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?).join(fallback)))
}

/// How many letters have to be changed, added, left out or swapped with their neighbour to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (row, left) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, right) in other.iter().enumerate() {
            let changed = rows[row][column] + usize::from(left != right);
            let mut least = changed.min(rows[row][column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *right && other[column - 1] == *left {
                least = least.min(rows[row - 1][column - 1] + 1);
            }
            next.push(least);
        }
        rows.push(next);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let path = Path::new("config.toml");
        table(text, path).and_then(|table| super::read(table, path)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let text = "data = \"/d\"\ndomain = \"example.org\"\nsip = [\"127.0.0.1:5060\", \"[::1]:5060\"]\n\
                    tls = \"127.0.0.1:5061\"\n\
                    ws = \"127.0.0.1:80\"\nwss = \"127.0.0.1:443\"\nws_origin = \"https://a.example, https://b.example\"\n\
                    tls_cert = \"/c\"\ntls_key = \"/k\"\ntls_ca = \"/a\"\nlink = \"127.0.0.1:6084, 127.0.0.2:6084\"\n\
                    peer = \"example.org, example.net\"\nno_mdns = true\nno_port_mapping = true\nrole = \"ordinary\"\nrelay = \"off\"\nrelay_discovery = \"127.0.0.1:7842\"\nrelay_limit = 10\nrtp_ports = \"1000-2000\"\njoin = \"mt1-x\"\nlog = \"debug\"\n\
                    trusted_sources = \"192.0.2.10, 198.51.100.0/24\"\n";
        let settings = read(text).unwrap();
        assert_eq!((settings.sip.len(), settings.link.len()), (2, 2));
        assert_eq!((settings.tls.len(), settings.ws.len(), settings.wss.len()), (1, 1, 1));
        assert_eq!((settings.trusted_sources.len(), settings.peer.len()), (2, 2));
        assert_eq!(
            (settings.relay, settings.relay_discovery.len(), settings.relay_limit),
            (Some(Relay::Off), 1, Some(10))
        );
        assert!(settings.no_mdns && settings.no_port_mapping && settings.role == Some(OverlayRole::Ordinary));
        assert_eq!(settings.ws_origin, ["https://a.example", "https://b.example"]);
        assert_eq!(settings.rtp_ports, Some(PortRange(1000, 2000)));
        assert_eq!(settings.domain.as_deref(), Some("example.org"));
    }

    #[test]
    fn where_the_pages_are_has_a_key_of_its_own_and_the_one_of_before_stands_in_for_it() {
        let url = |text: &str| read(text).unwrap().public_url.map(|url| url.to_string());
        let (own, before) = ("public_url = \"https://a.example/\"\n", "[authority]\npage = \"https://b.example\"\n");
        assert_eq!(url(own).as_deref(), Some("https://a.example"));
        assert_eq!(url(before).as_deref(), Some("https://b.example"));
        assert_eq!(url(&format!("{own}{before}")).as_deref(), Some("https://a.example"));
    }

    #[test]
    fn media_is_carried_where_it_is_needed_unless_the_file_says_otherwise() {
        for (text, meant) in [
            ("", AnchorPolicy::Auto),
            ("[media]\nanchor = \"always\"\n", AnchorPolicy::Always),
            ("[media]\nanchor = \"never\"\n", AnchorPolicy::Never),
        ] {
            assert_eq!(read(text).unwrap().anchor, AnchorRules { others: meant, ..AnchorRules::default() });
        }
        let rules = read("[media]\nanchor = \"never\"\n[media.users]\nAlice = \"always\"\n").unwrap().anchor;
        let users = [("alice".to_owned(), AnchorPolicy::Always)].into();
        assert_eq!(rules, AnchorRules { others: AnchorPolicy::Never, users, ..AnchorRules::default() });
        let limits = read("[media]\nstreams_per_user = 4\nconverted_calls = 0\n").unwrap().anchor.limits;
        assert_eq!(limits, MediaLimits { streams_per_user: 4, converted_calls: 0 });
        assert!(read("[media]\nstreams_per_user = 0\n").is_err());
    }

    #[test]
    fn a_first_stage_is_its_servers() {
        let settings =
            read("[first_stage]\nservers = [\"192.0.2.1:5060\", \"192.0.2.2:5060;transport=tcp\"]\n").unwrap();
        let first_stage = settings.first_stage.unwrap();
        assert_eq!((first_stage.servers.len(), first_stage.spread), (2, Spread::User));
        let by_call = read("[first_stage]\nservers = [\"192.0.2.1:5060\"]\nspread = \"call-id\"\n").unwrap();
        assert_eq!(by_call.first_stage.unwrap().spread, Spread::CallId);
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_the_nearest_one() {
        for (wrong, meant) in [("domian", "domain"), ("rtp-ports", "rtp_ports"), ("sips", "sip"), ("dat", "data")] {
            let error = read(&format!("{wrong} = 1\n")).unwrap_err();
            assert!(
                error.contains(&format!("`{wrong}`")) && error.contains(&format!("did you mean `{meant}`")),
                "{error}"
            );
        }
    }

    #[test]
    fn wrong_values_are_errors_with_a_hint() {
        for text in [
            "trusted_sources = \"sbc\"",
            "sip = 5060",
            "peer = \"192.0.2.1:6084\"",
            "no_mdns = \"maybe\"",
            "role = \"boss\"",
            "relay = \"yes\"",
            "relay = true",
            "relay_limit = 0",
            "relay_discovery = \"7842\"",
            "sip = \"localhost\"",
            "rtp_ports = \"2\"",
            "public_url = \"a.example\"",
            "enroll = \"me\"",
            "[page]\nadministration = \"nobody\"",
            "[page]\nadmin = \"anywhere\"",
            "domain = [",
            "domain = 1",
            "first_stage = \"192.0.2.1:5060\"",
            "authority = \"open\"",
            "[authority.mail]\nserver = \"mail.example.org\"",
            "[media]\nanchor = \"perhaps\"",
            "[media.users]\nalice = \"perhaps\"",
            "[media]\nrelay = true",
            "[turn]\nlisten = [\"a\"]",
            "[acme]\ndirectory = \"https://acme.example\"",
            "[first_stage]\nservers = []",
            "[first_stage]\nservers = [\"sbc\"]",
            "[first_stage]\nservers = [\"192.0.2.1:5060\"]\nspread = \"evenly\"",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("error: config.toml") && error.contains("\nhint: "), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        assert!(load(Some(Path::new("/nowhere/at/all.toml"))).is_err());
    }
}
