//! Settings that whoever runs the node changes on its page. What they are called, what they mean and where they are kept is the
//! program's business; here is what the page asks of it.
//!
//! A flag wins over the environment, that over the configuration file, that over what the page has set: a machine that is described by its
//! files stays as they describe it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::web::{Administration, EnrolHere};

/// Who has said what a setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Nobody.
    Default,
    /// The page.
    Page,
    /// The configuration file.
    File,
    /// A variable of the environment.
    Environment,
    /// The command line.
    Flag,
    /// It was chosen at the first start.
    Fixed,
}

/// What kind of value a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One of its choices.
    Choice,
    /// A whole number.
    Number,
    /// Yes or no.
    Switch,
    /// A text.
    Text,
}

/// A setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Setting {
    /// What it is called in the configuration; a dot stands before what is in a table.
    pub name: String,
    /// What the node goes by.
    pub value: String,
    /// Where it is changed, for people.
    #[serde(rename = "where")]
    pub place: String,
    /// Who has said so.
    pub from: Source,
    /// Whether the page may change it.
    pub changeable: bool,
    /// Whether a change counts from the next start on.
    pub restart: bool,
    /// What it will be from then on, where that is something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What kind of value it has.
    pub kind: Kind,
    /// The values that there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What it is for.
    pub help: String,
}

/// What a running node takes up at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Live {
    /// Who may get an address of his own by the page.
    pub enrol: EnrolHere,
    /// From where the page administers.
    pub administration: Administration,
}

/// Why settings were not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no such value, or no such setting.
    Bad {
        /// Which.
        field: String,
        /// What is wrong.
        error: String,
        /// What to do.
        hint: String,
    },
    /// Somebody who wins has said otherwise.
    Overruled {
        /// Which.
        field: String,
        /// Who.
        by: Source,
    },
    /// It could not be kept.
    Failed(String),
}

/// Who keeps the settings.
pub trait Desk: Debug + Send + Sync {
    /// Those that the page may change unless somebody else has said what they are.
    fn settings(&self) -> Vec<Setting>;

    /// Who has said what this one is.
    fn source(&self, name: &str) -> Source;

    /// Changes all of these, or none; null takes back what the page has said. May wait for the disk.
    ///
    /// # Errors
    /// [`Refused`].
    fn change(&self, changes: &BTreeMap<String, Value>) -> Result<Live, Refused>;
}
