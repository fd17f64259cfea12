//! Backups: everything that makes a node, or the overlay's authority alone, in one file encrypted under a passphrase.
//!
//! What is in it: the keys and certificates, and the tables of the store, as they were at one moment. Left out are the phones'
//! registrations, because phones say anew where they are, who was logged in at the
//! page, and tickets: one that was used since would admit a second machine.
//! How it is encrypted, `meshtone_identity::sealed_stream` says; what stands in it, `meshtone_identity::backup`.

mod error;
mod stream;

pub use error::BackupError;
pub use meshtone_identity::backup::{Scope, Start};

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use meshtone_identity::backup::Entry;
use meshtone_identity::{Authority, sealed_stream};

use crate::account::{Accounts, system_random};
use crate::clock::{unix_ms, unix_s};
use crate::enrol;
use crate::member;
use crate::store::{KeyFile, Setting, Store, StoreError, Table};
use stream::{Opening, Sealing};

/// What is read from a backup is on disk after so many rows, so that little of it is in memory at a time.
const ROWS_AT_ONCE: usize = 4096;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What it is of.
    pub start: Start,
    /// Whether the overlay's authority is in it.
    pub has_authority: bool,
    /// Accounts of the domain, and of people with addresses of their own.
    pub accounts: usize,
    /// People whose keys are in it.
    pub people: usize,
    /// Certificates that the authority has issued to people.
    pub certificates: usize,
}

/// Writes a backup of what the store holds at this moment. Blocks, for as long as the disk and the receiver take.
///
/// # Errors
/// [`BackupError`]; what was written until then opens as nothing.
pub fn write(store: &Store, scope: Scope, passphrase: &str, out: &mut impl Write) -> Result<(), BackupError> {
    let identity = enrol::identity(store)?.ok_or(BackupError::NoNode)?;
    if scope == Scope::Authority && store.read_key(KeyFile::Authority)?.is_none() {
        return Err(BackupError::NoAuthority);
    }
    let mut random = [0; sealed_stream::RANDOM];
    system_random().fill(&mut random)?;
    let mut sealing = Sealing::begin(passphrase, &random, out)?;
    let start =
        Start { scope, made: unix_s(), node: identity.node, overlay: identity.overlay, domain: identity.domain };
    sealing.push(&Entry::Start(start))?;
    for file in files(scope) {
        if let Some(contents) = store.read_key(*file)? {
            sealing.push(&Entry::File { name: file.name().to_owned(), contents })?;
        }
    }
    store.snapshot(&tables(scope), |table, key, value| {
        if !is_kept(scope, table, key) {
            return Ok(());
        }
        let (table, key, value) = (table.name().to_owned(), key.to_owned(), value.to_vec());
        sealing.push(&Entry::Row { table, key, value })
    })?;
    sealing.finish()
}

/// Reads a backup to its end, and says what it holds.
///
/// # Errors
/// [`BackupError`].
pub fn inspect(input: impl Read, passphrase: &str) -> Result<Contents, BackupError> {
    read(input, passphrase, |_, _| Ok(()))
}

/// Makes the data folder that a backup is of. It is there whole, or not at all.
///
/// # Errors
/// [`BackupError`]; [`BackupError::Taken`] where there is something already.
pub fn restore(input: impl Read, passphrase: &str, data: &Path) -> Result<Contents, BackupError> {
    check_free(data)?;
    let parent = match data.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    };
    let mut name = std::ffi::OsString::from(".");
    name.push(data.file_name().ok_or_else(|| BackupError::Taken(data.to_owned()))?);
    name.push(".restoring");
    let unfinished = Unfinished::make(parent.join(name))?;
    let contents = fill(&unfinished.0, input, passphrase)?;
    // Over an empty folder a rename does as well as where there is none.
    fs::rename(&unfinished.0, data).map_err(|source| at(data, source))?;
    fs::File::open(&parent).and_then(|folder| folder.sync_all()).map_err(|source| at(&parent, source))?;
    Ok(contents)
}

/// Writes what a backup holds into a fresh folder, and lets those judge it who will have to read it.
fn fill(folder: &Path, input: impl Read, passphrase: &str) -> Result<Contents, BackupError> {
    let store = Store::open(folder)?;
    let mut rows = 0;
    let contents = read(input, passphrase, |_, entry| match entry {
        Restored::File(file, contents) => Ok(store.write_key(file, &contents)?),
        Restored::Row(table, key, value) => {
            store.put(table, &key, Some(value));
            rows += 1;
            if rows % ROWS_AT_ONCE == 0 { Ok(store.flush()?) } else { Ok(()) }
        }
    })?;
    store.flush()?;
    check(&store, &contents)?;
    Ok(contents)
}

/// What was restored must be what it says it is, and readable to its last account.
fn check(store: &Store, contents: &Contents) -> Result<(), BackupError> {
    let damaged = |what| BackupError::Damaged { what };
    let start = &contents.start;
    let (der, key) = (store.read_key(KeyFile::AuthorityCertificate)?, store.read_key(KeyFile::Authority)?);
    let der = der.ok_or(damaged("the authority's certificate is missing"))?;
    let certificate = match key {
        Some(key) => Authority::from_parts(&der, &key)?.certificate().clone(),
        None => meshtone_identity::AuthorityCertificate::parse(&der)?,
    };
    if certificate.overlay() != start.overlay {
        return Err(damaged("its authority is of another overlay"));
    }
    match start.scope {
        Scope::Authority if !contents.has_authority => Err(damaged("the authority's key is missing")),
        Scope::Authority => Ok(()),
        Scope::Node => {
            let identity = enrol::identity(store)?.ok_or(damaged("the node's certificate is missing"))?;
            if identity.node != start.node || identity.domain != start.domain {
                return Err(damaged("its keys are another node's"));
            }
            Accounts::open(store.clone(), &identity.domain, identity.node, unix_ms, system_random())?;
            member::check_kept(store, &certificate)?;
            Ok(())
        }
    }
}

/// What stands in a backup after its start, as this program knows it.
enum Restored {
    File(KeyFile, Vec<u8>),
    Row(Table, String, Vec<u8>),
}

/// Reads a backup entry by entry; what does not belong into one is refused.
fn read(
    input: impl Read,
    passphrase: &str,
    mut take: impl FnMut(&Start, Restored) -> Result<(), BackupError>,
) -> Result<Contents, BackupError> {
    let mut opening = Opening::begin(passphrase, input)?;
    let Some(Entry::Start(start)) = opening.next()? else {
        return Err(BackupError::Damaged { what: "it does not say what it is of" });
    };
    let mut contents = Contents { start, has_authority: false, accounts: 0, people: 0, certificates: 0 };
    while let Some(entry) = opening.next()? {
        let unknown = |what: &str| BackupError::Unknown { what: what.to_owned() };
        let scope = contents.start.scope;
        let restored = match entry {
            Entry::Start(_) => return Err(BackupError::Damaged { what: "it begins twice" }),
            Entry::File { name, contents } => {
                let file = files(scope).iter().find(|file| file.name() == name).ok_or_else(|| unknown(&name))?;
                Restored::File(*file, contents)
            }
            Entry::Row { table: name, key, value } => {
                let table = tables(scope).into_iter().find(|table| table.name() == name);
                let table = table.ok_or_else(|| unknown(&name))?;
                if !is_kept(scope, table, &key) {
                    return Err(unknown(&key));
                }
                Restored::Row(table, key, value)
            }
        };
        match &restored {
            Restored::File(KeyFile::Authority, _) => contents.has_authority = true,
            Restored::Row(Table::Accounts, ..) => contents.accounts += 1,
            Restored::Row(Table::People, ..) => contents.people += 1,
            Restored::Row(Table::Issued, ..) => contents.certificates += 1,
            Restored::File(..) | Restored::Row(..) => {}
        }
        take(&contents.start, restored)?;
    }
    Ok(contents)
}

fn files(scope: Scope) -> &'static [KeyFile] {
    match scope {
        Scope::Node => &KeyFile::ALL,
        Scope::Authority => &[KeyFile::Authority, KeyFile::AuthorityCertificate],
    }
}

/// Of a node all is kept that is not named here, so that nobody forgets what comes later: phones register anew, people log in
/// anew, and tickets may have been used since.
fn tables(scope: Scope) -> Vec<Table> {
    let is_kept = |table: &Table| match scope {
        Scope::Node => !matches!(table, Table::Bindings | Table::Tickets | Table::Sessions),
        Scope::Authority => matches!(table, Table::Settings | Table::Issued | Table::Nodes),
    };
    Table::ALL.into_iter().filter(is_kept).collect()
}

/// Of a node's settings an authority needs whom it has admitted and revoked, the domain it is known by, and where the overlay is.
fn is_kept(scope: Scope, table: Table, key: &str) -> bool {
    let of_authority = [
        Setting::AdmittedNodes,
        Setting::AdmittedMembers,
        Setting::AdmittedGuests,
        Setting::AuthorityDomain,
        Setting::HostCache,
        Setting::Revocations,
    ];
    scope == Scope::Node || table != Table::Settings || of_authority.iter().any(|setting| setting.name() == key)
}

/// Nothing may be there but an empty folder.
fn check_free(data: &Path) -> Result<(), BackupError> {
    match fs::read_dir(data).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(BackupError::Taken(data.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(at(data, source)),
    }
}

fn at(path: &Path, source: io::Error) -> BackupError {
    BackupError::Store(StoreError::Io { path: path.to_owned(), source })
}

/// A folder that goes away again unless it was moved to its place.
struct Unfinished(PathBuf);

impl Unfinished {
    fn make(path: PathBuf) -> Result<Unfinished, BackupError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Unfinished(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Taken(path)),
            Err(source) => Err(at(&path, source)),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is not there any more where all went well.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
