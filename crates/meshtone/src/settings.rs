//! The settings that the page changes: which there are, who else has a say, and where they are kept.
//!
//! A flag wins over the environment, that over the configuration file, that over the page, whose own file `settings.toml` in the data folder
//! is written like the configuration. So the page never changes what somebody has written down for a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use clap::ArgMatches;
use clap::parser::ValueSource;
use meshtone_node::MediaLimits;
use meshtone_node::policy::CALLS_PER_USER;
use meshtone_node::settings::{Desk, Kind, Live, Refused, Setting, Source};
use serde_json::Value;
use toml::Table;
use tracing_subscriber::EnvFilter;

use crate::config::{self, Settings};
use crate::failure::Failure;
use crate::run::DEFAULT_LOG;

/// The page's file in the data folder.
const FILE: &str = "settings.toml";
/// What stands at its top.
const HEAD: &str =
    "# Written by the node's page. What the configuration file, the environment or a flag says wins over it.\n\n";
/// Longest text that is kept.
const MAX_TEXT: usize = 500;

/// A setting that the page may change.
struct Knob {
    name: &'static str,
    kind: Kind,
    choices: &'static [&'static str],
    default: fn() -> String,
    /// Whether it counts at once.
    is_live: bool,
    help: &'static str,
}

const KNOBS: [Knob; 17] = [
    choice(
        "enroll",
        &["local", "anybody", "nobody"],
        true,
        "Who may get an address by this page: who sits at this machine, everybody who reaches it, nobody.",
    ),
    choice(
        "page.administration",
        &["local", "anywhere"],
        true,
        "From where this page administers the node: from its own machine, or from wherever it is reached over TLS.",
    ),
    text(
        "public_url",
        String::new,
        false,
        "Where this page is found from outside, such as https://mesh.example.org: for links in mails, and for whoever verifies what the node signs.",
    ),
    text(
        "log",
        || DEFAULT_LOG.to_owned(),
        true,
        "What is logged to standard error: `info`, or `info,meshtone_node=debug`.",
    ),
    choice(
        "role",
        &["auto", "super", "ordinary"],
        false,
        "Whether the node holds and forwards for others: as it is best, always, never.",
    ),
    choice("relay", &["auto", "on", "off"], false, "Whether it passes on the packets of nodes that nobody can dial."),
    number("relay_limit", || "32".to_owned(), "How much is passed on in all, in Mbit/s."),
    switch("no_mdns", "Neither look for nodes on the local network nor be found there."),
    switch("no_port_mapping", "Do not ask the router to let others in."),
    choice("anonymous", &["accept", "refuse"], false, "Whether callers who hide who they are ring here."),
    text(
        "verified_mark",
        String::new,
        false,
        "What stands before a caller's name at phones where it is proven: ✓ for example.",
    ),
    choice("outbound", &["any", "none"], false, "Which other SIP domains people here may call."),
    choice("inbound", &["none", "any"], false, "Which other SIP domains may call people here."),
    number(
        "max_calls_per_user",
        || CALLS_PER_USER.to_string(),
        "How many calls beyond the overlay somebody may have at once.",
    ),
    choice("media.anchor", &["auto", "always", "never"], false, "When the sound of calls runs through this node."),
    number(
        "media.streams_per_user",
        || MediaLimits::default().streams_per_user.to_string(),
        "How many streams of carried calls one person may use; a call with sound takes two.",
    ),
    number(
        "media.converted_calls",
        || MediaLimits::default().converted_calls.to_string(),
        "How many calls are converted from one codec to another at once.",
    ),
];

const fn choice(name: &'static str, choices: &'static [&'static str], is_live: bool, help: &'static str) -> Knob {
    Knob { name, kind: Kind::Choice, choices, default: String::new, is_live, help }
}

const fn text(name: &'static str, default: fn() -> String, is_live: bool, help: &'static str) -> Knob {
    Knob { name, kind: Kind::Text, choices: &[], default, is_live, help }
}

const fn number(name: &'static str, default: fn() -> String, help: &'static str) -> Knob {
    Knob { name, kind: Kind::Number, choices: &[], default, is_live: false, help }
}

const fn switch(name: &'static str, help: &'static str) -> Knob {
    Knob { name, kind: Kind::Switch, choices: &[], default: || "false".to_owned(), is_live: false, help }
}

impl Knob {
    /// Without anybody's word: the first choice, where there are some.
    fn default(&self) -> String {
        self.choices.first().map_or_else(self.default, |first| (*first).to_owned())
    }

    /// A value as the page sends it, as it stands in the file.
    fn read(&self, value: &Value) -> Result<toml::Value, (String, String)> {
        let name = self.name;
        let wrong = |hint: &str| Err((format!("`{name}` cannot be {value}"), hint.to_owned()));
        match (self.kind, value) {
            (Kind::Choice, Value::String(text)) if self.choices.contains(&text.as_str()) => Ok(text.as_str().into()),
            (Kind::Choice, _) => wrong(&format!("it is one of {}", self.choices.join(", "))),
            (Kind::Number, Value::Number(number)) => match number.as_i64().filter(|number| *number >= 0) {
                Some(number) => Ok(number.into()),
                None => wrong("it is a whole number"),
            },
            (Kind::Number, _) => wrong("it is a whole number"),
            (Kind::Switch, Value::Bool(on)) => Ok((*on).into()),
            (Kind::Switch, _) => wrong("it is true or false"),
            (Kind::Text, Value::String(text)) if text.len() <= MAX_TEXT && !text.contains(char::is_control) => {
                Ok(text.as_str().into())
            }
            (Kind::Text, _) => wrong("it is a text of one line, of 500 letters at most"),
        }
    }
}

/// What changes the log's filter while the node runs.
pub(crate) type LogFilter = Box<dyn Fn(&str) + Send + Sync>;

/// The page's settings, and everybody else's.
pub(crate) struct PageSettings {
    file: PathBuf,
    /// The configuration, and where it was read.
    configuration: (Table, PathBuf),
    /// What flags and the environment say, by the name that they have in the configuration.
    given: BTreeMap<String, (Source, String)>,
    /// What the page had said when the node started.
    first: Table,
    page: Mutex<Table>,
    log: OnceLock<LogFilter>,
}

impl PageSettings {
    /// Reads the page's file in this data folder.
    pub(crate) fn open(
        data: &Path,
        configuration: (Table, PathBuf),
        given: BTreeMap<String, (Source, String)>,
    ) -> Result<PageSettings, Failure> {
        let file = data.join(FILE);
        let first = match std::fs::read_to_string(&file) {
            Ok(text) => config::table(&text, &file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::new(),
            Err(error) => {
                let hint = "look who may read it, or remove it: then the page's settings are as at first";
                return Err(Failure::new(format!("{} cannot be read: {error}", file.display()), hint));
            }
        };
        if let Some(unknown) = names(&first).into_iter().find(|name| knob(name).is_none()) {
            let error = format!("{} has `{unknown}`, which the page does not set", file.display());
            return Err(Failure::new(error, "settings of your own belong into the configuration file"));
        }
        let page = Mutex::new(first.clone());
        Ok(PageSettings { file, configuration, given, first, page, log: OnceLock::new() })
    }

    /// What configuration file and page say together.
    pub(crate) fn read(&self) -> Result<Settings, Failure> {
        self.read_with(&self.page())
    }

    /// Changes the log's filter by this from now on.
    pub(crate) fn log_by(&self, filter: LogFilter) {
        let _ = self.log.set(filter);
    }

    fn read_with(&self, page: &Table) -> Result<Settings, Failure> {
        // What is wrong with the configuration alone was said before.
        let at = if page.is_empty() { &self.configuration.1 } else { &self.file };
        config::read(joined(&self.configuration.0, page), at)
    }

    /// What a setting is where the page says this, and who says so.
    fn value(&self, knob: &Knob, page: &Table) -> (String, Source) {
        if let Some((source, value)) = self.given.get(knob.name) {
            return (value.clone(), *source);
        }
        let said = |table: &Table, source| Some((shown(find(table, knob.name)?), source));
        said(&self.configuration.0, Source::File)
            .or_else(|| said(page, Source::Page))
            .unwrap_or_else(|| (knob.default(), Source::Default))
    }

    fn page(&self) -> MutexGuard<'_, Table> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, page: &Table) -> Result<(), String> {
        let text = format!("{HEAD}{}", toml::to_string(page).map_err(|error| error.to_string())?);
        let new = self.file.with_extension("toml.new");
        let write = || {
            let mut file = std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, &self.file)
        };
        write().map_err(|error| format!("{}: {error}", self.file.display()))
    }
}

impl Desk for PageSettings {
    fn settings(&self) -> Vec<Setting> {
        let page = self.page();
        let row = |knob: &Knob| {
            let (now, from) = self.value(knob, &page);
            let started = self.value(knob, &self.first).0;
            let (value, pending) = match knob.is_live || started == now {
                true => (now, None),
                false => (started, Some(now)),
            };
            let changeable = matches!(from, Source::Default | Source::Page);
            let place = match from {
                Source::Default | Source::Page => "here",
                Source::File => "the configuration file",
                Source::Environment => "the environment of the program",
                Source::Flag => "the command line of the program",
                Source::Fixed => "chosen at the first start",
            };
            Setting {
                name: knob.name.to_owned(),
                value,
                place: place.to_owned(),
                from,
                changeable,
                restart: !knob.is_live,
                pending,
                kind: knob.kind,
                choices: knob.choices.iter().map(|choice| (*choice).to_owned()).collect(),
                help: knob.help.to_owned(),
            }
        };
        KNOBS.iter().map(row).collect()
    }

    fn source(&self, name: &str) -> Source {
        match self.given.get(name) {
            Some((source, _)) => *source,
            None if find(&self.configuration.0, name).is_some() => Source::File,
            None => Source::Default,
        }
    }

    fn change(&self, changes: &BTreeMap<String, Value>) -> Result<Live, Refused> {
        let mut page = self.page();
        let mut wanted = page.clone();
        for (name, value) in changes {
            let bad = |error: String, hint: String| Refused::Bad { field: name.clone(), error, hint };
            let known = || KNOBS.map(|knob| knob.name).join(", ");
            let knob = knob(name).ok_or_else(|| {
                bad(format!("there is no setting `{name}` that the page changes"), format!("these are: {}", known()))
            })?;
            let by = self.value(knob, &wanted).1;
            if !matches!(by, Source::Default | Source::Page) {
                return Err(Refused::Overruled { field: name.clone(), by });
            }
            // An empty text is none.
            let is_none = value.is_null() || (knob.kind == Kind::Text && value.as_str() == Some(""));
            let value = if is_none { None } else { Some(knob.read(value).map_err(|(error, hint)| bad(error, hint))?) };
            put(&mut wanted, name, value);
            if name == "log"
                && let Err(error) = EnvFilter::try_new(self.value(knob, &wanted).0)
            {
                return Err(bad(
                    format!("that is no log filter: {error}"),
                    "for example info,meshtone_node=debug".to_owned(),
                ));
            }
            self.read_with(&wanted).map_err(|failure| {
                let (error, hint) = failure.into_parts();
                let at = format!("{}: ", self.file.display());
                bad(error.strip_prefix(&at).unwrap_or(&error).to_owned(), hint)
            })?;
        }
        let settings = self.read_with(&wanted).map_err(|failure| Refused::Failed(failure.to_string()))?;
        self.keep(&wanted).map_err(Refused::Failed)?;
        *page = wanted;
        if changes.contains_key("log")
            && let (Some(filter), Some(knob)) = (self.log.get(), knob("log"))
        {
            filter(&self.value(knob, &page).0);
        }
        Ok(Live { enrol: settings.enrol, administration: settings.administration })
    }
}

impl fmt::Debug for PageSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PageSettings").field("file", &self.file).finish_non_exhaustive()
    }
}

/// What flags and the environment say of the node that is to run.
pub(crate) fn given(run: &ArgMatches) -> BTreeMap<String, (Source, String)> {
    let mut given = BTreeMap::new();
    for id in run.ids() {
        let source = match run.value_source(id.as_str()) {
            Some(ValueSource::CommandLine) => Source::Flag,
            Some(ValueSource::EnvVariable) => Source::Environment,
            _ => continue,
        };
        let values = run.get_raw(id.as_str()).into_iter().flatten();
        let values: Vec<String> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        given.insert(id.to_string(), (source, values.join(", ")));
    }
    given
}

fn knob(name: &str) -> Option<&'static Knob> {
    KNOBS.iter().find(|knob| knob.name == name)
}

/// The names of all that stands in a table, with those of the tables within.
fn names(table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (name, value) in table {
        match value.as_table() {
            Some(within) => all.extend(within.keys().map(|inner| format!("{name}.{inner}"))),
            None => {
                all.insert(name.clone());
            }
        }
    }
    all
}

fn find<'a>(table: &'a Table, name: &str) -> Option<&'a toml::Value> {
    match name.split_once('.') {
        Some((outer, inner)) => table.get(outer)?.as_table()?.get(inner),
        None => table.get(name),
    }
}

fn put(table: &mut Table, name: &str, value: Option<toml::Value>) {
    let (outer, inner) = match name.split_once('.') {
        Some((outer, inner)) => (Some(outer), inner),
        None => (None, name),
    };
    let within = match outer {
        None => Some(&mut *table),
        Some(outer) => {
            let entry = table.entry(outer.to_owned()).or_insert_with(|| Table::new().into());
            entry.as_table_mut()
        }
    };
    if let Some(within) = within {
        match value {
            Some(value) => within.insert(inner.to_owned(), value),
            None => within.remove(inner),
        };
    }
    table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
}

/// What the first says, and the second where the first says nothing.
fn joined(first: &Table, second: &Table) -> Table {
    let mut joined = first.clone();
    for (name, value) in second {
        match (joined.get_mut(name), value) {
            (Some(toml::Value::Table(within)), toml::Value::Table(more)) => {
                for (name, value) in more {
                    within.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
            (Some(_), _) => {}
            (None, value) => {
                joined.insert(name.clone(), value.clone());
            }
        }
    }
    joined
}

/// A value as people read it.
fn shown(value: &toml::Value) -> String {
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    match value.as_array() {
        Some(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn open(folder: &Path, configuration: &str, given: &[(&str, Source, &str)]) -> PageSettings {
        let given = given.iter().map(|(name, source, value)| ((*name).to_owned(), (*source, (*value).to_owned())));
        let table = configuration.parse().unwrap();
        PageSettings::open(folder, (table, "config.toml".into()), given.collect()).unwrap()
    }

    fn changes(all: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(all).unwrap()
    }

    fn row(settings: &PageSettings, name: &str) -> Setting {
        settings.settings().into_iter().find(|setting| setting.name == name).unwrap()
    }

    #[test]
    fn every_default_is_one_that_the_configuration_has_too() {
        let folder = tempfile::tempdir().unwrap();
        let settings = open(folder.path(), "", &[]);
        for Setting { name, value, choices, .. } in settings.settings() {
            let value = match knob(&name).unwrap().kind {
                Kind::Number => json!(value.parse::<u64>().unwrap()),
                Kind::Switch => json!(value == "true"),
                Kind::Choice | Kind::Text => json!(value),
            };
            settings.change(&changes(json!({ &name: value }))).unwrap();
            for choice in choices {
                settings.change(&changes(json!({ &name: choice }))).unwrap();
            }
        }
    }

    #[test]
    fn what_the_page_says_lasts_and_counts_at_once_or_from_the_next_start_on() {
        let folder = tempfile::tempdir().unwrap();
        let settings = open(folder.path(), "", &[]);
        let wanted = json!({ "enroll": "anybody", "media.anchor": "always", "relay_limit": 8, "no_mdns": true });
        let live = settings.change(&changes(wanted)).unwrap();
        assert_eq!(live.enrol, meshtone_node::EnrolHere::Anybody);
        let enroll = row(&settings, "enroll");
        assert_eq!((enroll.value.as_str(), enroll.from, enroll.pending), ("anybody", Source::Page, None));
        let anchor = row(&settings, "media.anchor");
        assert_eq!((anchor.value.as_str(), anchor.pending.as_deref()), ("auto", Some("always")));

        let again = open(folder.path(), "", &[]);
        let anchor = row(&again, "media.anchor");
        assert_eq!((anchor.value.as_str(), anchor.from, anchor.pending), ("always", Source::Page, None));
        let read = again.read().unwrap();
        assert_eq!((read.relay_limit, read.no_mdns), (Some(8), true));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.path().join(FILE)).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        again.change(&changes(json!({ "media.anchor": null, "enroll": null }))).unwrap();
        assert_eq!(row(&again, "enroll").from, Source::Default);
        assert_eq!(open(folder.path(), "", &[]).read().unwrap().anchor, Default::default());
    }

    #[test]
    fn flag_environment_and_file_win_over_the_page() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "", &[])
            .change(&changes(json!({ "enroll": "anybody", "role": "super", "media.anchor": "always", "relay": "on" })))
            .unwrap();
        let given = [("role", Source::Flag, "ordinary"), ("relay", Source::Environment, "off")];
        let settings = open(folder.path(), "enroll = \"nobody\"\n[media]\nconverted_calls = 3\n", &given);
        let of = |name: &str| {
            let row = row(&settings, name);
            (row.value, row.from, row.changeable)
        };
        assert_eq!(of("role"), ("ordinary".to_owned(), Source::Flag, false));
        assert_eq!(of("relay"), ("off".to_owned(), Source::Environment, false));
        assert_eq!(of("enroll"), ("nobody".to_owned(), Source::File, false));
        assert_eq!(of("media.converted_calls"), ("3".to_owned(), Source::File, false));
        assert_eq!(of("media.anchor"), ("always".to_owned(), Source::Page, true));
        assert_eq!(settings.read().unwrap().enrol, meshtone_node::EnrolHere::Nobody);
        let refused = settings.change(&changes(json!({ "enroll": "local" }))).unwrap_err();
        assert_eq!(refused, Refused::Overruled { field: "enroll".to_owned(), by: Source::File });
        assert_eq!(settings.source("role"), Source::Flag);
    }

    #[test]
    fn a_wrong_value_is_named_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let settings = open(folder.path(), "", &[]);
        for (name, value) in [
            ("enroll", json!("me")),
            ("enroll", json!(1)),
            ("relay_limit", json!(0)),
            ("relay_limit", json!("8")),
            ("relay_limit", json!(-1)),
            ("relay_limit", json!(70_000)),
            ("no_mdns", json!("yes")),
            ("public_url", json!("mesh.example")),
            ("log", json!("info,=[")),
            ("verified_mark", json!("\u{1b}[31m")),
            ("media.streams_per_user", json!(0)),
            ("domain", json!("x.example")),
            ("nothing", json!("x")),
        ] {
            let both = json!({ "anonymous": "refuse", name: value });
            let refused = settings.change(&changes(both)).unwrap_err();
            let Refused::Bad { field, error, hint } = refused else { panic!("{refused:?}") };
            assert_eq!(field, name, "{error}");
            assert!(!error.is_empty() && !hint.is_empty() && !error.contains(FILE), "{error}");
        }
        assert_eq!(row(&settings, "anonymous").from, Source::Default);
        assert!(!folder.path().join(FILE).exists());
    }

    #[test]
    fn a_file_with_what_the_page_never_sets_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "sip = \"0.0.0.0:5060\"\n").unwrap();
        let opened = PageSettings::open(folder.path(), (Table::new(), "config.toml".into()), BTreeMap::new());
        assert!(opened.unwrap_err().to_string().contains("`sip`"));
    }
}
