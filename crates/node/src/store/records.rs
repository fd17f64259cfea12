//! The records that this node holds for its overlay, kept over restarts.

use bytes::Bytes;
use data_encoding::HEXLOWER;
use meshtone_overlay::RecordStore;

use super::{Store, Table};

impl RecordStore for Store {
    fn load(&self) -> Result<Vec<(Bytes, Bytes)>, String> {
        let rows = Store::load(self, Table::Records).map_err(|error| error.to_string())?;
        // A key in another form was not written here; the value is not restored, and harms nobody where it lies.
        let decoded = rows.into_iter().filter_map(|(key, value)| {
            let key = HEXLOWER.decode(key.as_bytes()).ok()?;
            Some((key.into(), value.into()))
        });
        Ok(decoded.collect())
    }

    fn write(&self, changes: &[(Bytes, Option<Bytes>)]) -> Result<(), String> {
        for (key, value) in changes {
            self.put(Table::Records, &HEXLOWER.encode(key), value.as_ref().map(|value| value.to_vec()));
        }
        self.flush().map_err(|error| error.to_string())
    }
}
