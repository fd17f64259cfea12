//! The data folder: what a node must still know after a power cut.
//!
//! `version` (the layout's number, checked before anything else is touched), `store.redb` (accounts, bindings, known
//! peers, tickets, settings; one process at a time) and `keys/` (one file a key, see [`KeyFile`]). Values are opaque
//! bytes here: who owns a table owns its encoding.
//!
//! One thread writes; everybody may read. A write is in memory at once and on disk at the latest
//! [`COMMIT_WITHIN`] later, together with whatever else came in the meantime, so that five hundred registrations cost
//! one `fsync`. Who must know that a write is durable calls [`Store::flush`].

pub(crate) mod cbor;
mod error;
mod keys;
mod records;
mod writer;

pub use error::StoreError;
pub use keys::KeyFile;
pub use writer::COMMIT_WITHIN;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError};

use self::writer::Writer;

/// The layout of the data folder that this program writes, as the file `version` says it.
pub const DATA_VERSION: u32 = 1;

/// The database's page cache; the default (1 GiB) would be most of the memory of a small machine, and what is read
/// often is in memory anyway.
const CACHE_BYTES: usize = 16 << 20;

/// The tables of `store.redb`, each a map from text to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Accounts,
    Bindings,
    Tickets,
    Settings,
    Records,
    /// Certificates that the authority here has issued to people.
    Issued,
    /// Nodes that the authority here has certified.
    Nodes,
    /// Keys and certificates of the people who enrolled here.
    People,
    /// By which keys people were known here.
    Met,
    /// What the people said for whom this node speaks.
    Delegated,
    /// Who is logged in at the page.
    Sessions,
    /// By what programs use its interface.
    Tokens,
    /// The people that an account's owner calls, as earlier releases kept them.
    Contacts,
    /// The calls of accounts, as earlier releases kept them.
    History,
    /// What belongs to accounts, at all home nodes alike.
    Belongings,
}

impl Table {
    pub(crate) const ALL: [Table; 15] = [
        Table::Accounts,
        Table::Bindings,
        Table::Tickets,
        Table::Settings,
        Table::Records,
        Table::Issued,
        Table::Nodes,
        Table::People,
        Table::Met,
        Table::Delegated,
        Table::Sessions,
        Table::Tokens,
        Table::Contacts,
        Table::History,
        Table::Belongings,
    ];

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Table::Accounts => "accounts",
            Table::Bindings => "bindings",
            Table::Tickets => "tickets",
            Table::Settings => "settings",
            Table::Records => "records",
            Table::Issued => "issued",
            Table::Nodes => "nodes",
            Table::People => "people",
            Table::Met => "met",
            Table::Delegated => "delegated",
            Table::Sessions => "sessions",
            Table::Tokens => "tokens",
            Table::Contacts => "contacts",
            Table::History => "history",
            Table::Belongings => "belongings",
        }
    }
}

/// The settings that a node keeps, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// The key that authenticates flow tokens; random, so that tokens survive a restart and no other node's are taken.
    FlowTokenKey,
    /// The key that seals temporary GRUUs; random, and kept so that they outlive a restart.
    GruuKey,
    /// The secret that logins of the TURN server are made with; random, and kept so that they outlive a restart.
    TurnSecret,
    /// Peers worth dialling at the next start.
    HostCache,
    /// When the certificates of the nodes end that this one has admitted.
    AdmittedNodes,
    /// The same for nodes of members.
    AdmittedMembers,
    /// When nodes that came uninvited were admitted, from which network, and when their certificates end.
    AdmittedGuests,
    /// Which nodes the authority has revoked, in its words.
    Revocations,
    /// The domain of the node that holds the overlay's authority, where that is another one than ours.
    AuthorityDomain,
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Setting::FlowTokenKey => "flow-token-key",
            Setting::GruuKey => "gruu-key",
            Setting::TurnSecret => "turn-secret",
            Setting::HostCache => "host-cache",
            Setting::AdmittedNodes => "admitted-nodes",
            Setting::AdmittedMembers => "admitted-members",
            Setting::AdmittedGuests => "admitted-guests",
            Setting::Revocations => "revocations",
            Setting::AuthorityDomain => "authority-domain",
        }
    }
}

/// The open data folder. Clones share it; the database is closed when the last one goes.
#[derive(Clone)]
pub struct Store {
    folder: Arc<PathBuf>,
    database: Arc<Database>,
    writer: Arc<Writer>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the data folder, and makes it (mode 0700) where there is none.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a folder that a later program wrote, [`StoreError::Busy`] while another process has
    /// it open, [`StoreError::Corrupt`] and [`StoreError::Io`] as they come. Nothing is changed in a folder whose
    /// version does not fit.
    pub fn open(folder: &Path) -> Result<Store, StoreError> {
        make_folder(folder)?;
        check_version(folder)?;
        make_folder(&keys::folder(folder))?;

        let path = folder.join("store.redb");
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
            .map_err(|error| opening_failed(folder, &path, error))?;
        // What the database holds is as secret as the keys: HA1s log in.
        restrict(&path, 0o600)?;

        let database = Arc::new(database);
        create_tables(&database).map_err(|reason| StoreError::Corrupt { path: path.clone(), reason })?;
        let writer = Arc::new(Writer::start(Arc::clone(&database), path)?);
        Ok(Store { folder: Arc::new(folder.to_owned()), database, writer })
    }

    /// The data folder's path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads a key file; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn read_key(&self, file: KeyFile) -> Result<Option<Vec<u8>>, StoreError> {
        keys::read(&self.folder, file)
    }

    /// Writes a key file (mode 0600) so that after a power cut the whole of it is there or nothing. Durable on return.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_key(&self, file: KeyFile, contents: &[u8]) -> Result<(), StoreError> {
        keys::write(&self.folder, file, contents)
    }

    /// Keeps the bindings of an address-of-record, or forgets them (`None`). Returns at once; see [`COMMIT_WITHIN`].
    pub fn put_bindings(&self, address: &str, bindings: Option<Vec<u8>>) {
        self.put(Table::Bindings, address, bindings);
    }

    /// All bindings kept, by address-of-record, in the order of the addresses.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn load_bindings(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.load(Table::Bindings)
    }

    /// A setting's value; `None` where it was never set.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`].
    pub fn setting(&self, setting: Setting) -> Result<Option<Vec<u8>>, StoreError> {
        self.value(Table::Settings, setting.name())
    }

    /// Keeps a setting. Returns at once; see [`COMMIT_WITHIN`].
    pub fn put_setting(&self, setting: Setting, value: Vec<u8>) {
        self.put(Table::Settings, setting.name(), Some(value));
    }

    /// Waits until everything put before is on disk. Blocks for a few milliseconds (one `fsync`).
    ///
    /// # Errors
    /// [`StoreError::Write`] when the disk refused; the writes stay pending and are tried again.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.writer.flush()
    }

    pub(crate) fn put(&self, table: Table, key: &str, value: Option<Vec<u8>>) {
        self.writer.put(table, key, value);
    }

    /// One value, whether or not it is on disk yet.
    pub(crate) fn value(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(pending) = self.writer.pending(table, key) {
            return Ok(pending);
        }
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.database.begin_read()?.open_table(table.definition())?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// A whole table, in the order of its keys. Flushes first, so that it reads what was put.
    pub(crate) fn load(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.flush()?;
        let read = || -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
            let table = self.database.begin_read()?.open_table(table.definition())?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        read().map_err(|error| self.corrupt(&error))
    }

    /// Shows the rows of these tables as they are at one moment, whatever is written meanwhile. Flushes first.
    pub(crate) fn snapshot<E: From<StoreError>>(
        &self,
        tables: &[Table],
        mut visit: impl FnMut(Table, &str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.flush()?;
        let corrupt = |error: redb::Error| self.corrupt(&error);
        let moment = self.database.begin_read().map_err(|error| corrupt(error.into()))?;
        for table in tables {
            let rows = moment.open_table(table.definition()).map_err(|error| corrupt(error.into()))?;
            for row in rows.iter().map_err(|error| corrupt(error.into()))? {
                let (key, value) = row.map_err(|error| corrupt(error.into()))?;
                visit(*table, key.value(), value.value())?;
            }
        }
        Ok(())
    }

    fn corrupt(&self, error: &redb::Error) -> StoreError {
        StoreError::Corrupt { path: self.folder.join("store.redb"), reason: error.to_string() }
    }
}

fn opening_failed(folder: &Path, path: &Path, error: DatabaseError) -> StoreError {
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return StoreError::Busy { folder: folder.to_owned() };
    }
    if let DatabaseError::Storage(StorageError::Io(source)) = error {
        // redb says so of a file that is no database.
        if source.kind() == io::ErrorKind::InvalidData {
            return StoreError::Corrupt { path: path.to_owned(), reason: source.to_string() };
        }
        return StoreError::Io { path: path.to_owned(), source };
    }
    StoreError::Corrupt { path: path.to_owned(), reason: error.to_string() }
}

/// Reading a table that was never written to is an error in redb, so all are made at once.
fn create_tables(database: &Database) -> Result<(), String> {
    let missing = {
        let read = database.begin_read().map_err(|error| error.to_string())?;
        Table::ALL
            .iter()
            .any(|table| matches!(read.open_table(table.definition()), Err(TableError::TableDoesNotExist(_))))
    };
    if !missing {
        return Ok(());
    }
    let write = database.begin_write().map_err(|error| error.to_string())?;
    for table in Table::ALL {
        write.open_table(table.definition()).map_err(|error| error.to_string())?;
    }
    write.commit().map_err(|error| error.to_string())
}

fn make_folder(path: &Path) -> Result<(), StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

fn restrict(path: &Path, mode: u32) -> Result<(), StoreError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

fn check_version(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join("version");
    let found = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return write_atomically(&path, format!("{DATA_VERSION}\n").as_bytes(), 0o600);
        }
        Err(source) => return Err(StoreError::Io { path, source }),
    };
    match found.trim().parse::<u32>() {
        Ok(DATA_VERSION) => Ok(()),
        Ok(found) if found > DATA_VERSION => Err(StoreError::Newer { folder: folder.to_owned(), found }),
        // There is no older layout yet; 0 and text are no number that this program ever wrote.
        Ok(_) | Err(_) => Err(StoreError::Corrupt {
            path,
            reason: format!("it should hold the number {DATA_VERSION}, not {:?}", found.trim()),
        }),
    }
}

/// Writes a file beside its place, makes it durable, and moves it there: a reader sees the old one or the new one.
fn write_atomically(path: &Path, contents: &[u8], mode: u32) -> Result<(), StoreError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        // Left over from a crash, perhaps with other rights.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself lasts only once the folder is on disk.
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
