//! What stands in a backup, once it is opened ([`sealed_stream`](crate::sealed_stream)): entries, one after the other.
//!
//! An entry is its length (4 bytes, big-endian), its kind (1 byte) and its fields, each a length (4 bytes) and that many bytes. The
//! first one is the [`Start`]. What names and values mean, their owners know; here is only how they are written.

use crate::{Error, NodeId, OverlayId};

/// Longest entry, in bytes without its length: the largest thing a node keeps, an overlay's record, has far less than 64 KiB.
pub const MAX_ENTRY: usize = 256 << 10;

const START: u8 = 1;
const FILE: u8 = 2;
const ROW: u8 = 3;
/// The most fields that an entry has.
const MAX_FIELDS: usize = 5;

const NODE: u8 = 1;
const AUTHORITY: u8 = 2;

/// How much was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A whole node, with the overlay's authority where it has that.
    Node,
    /// The overlay's authority alone, and what it has issued.
    Authority,
}

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// How much.
    pub scope: Scope,
    /// When it was made, in unix seconds.
    pub made: u64,
    /// The node that made it.
    pub node: NodeId,
    /// The node's overlay.
    pub overlay: OverlayId,
    /// The domain that the node serves.
    pub domain: String,
}

/// One thing in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// What it is of; the first entry and no other one.
    Start(Start),
    /// A file of its own, by name.
    File {
        /// Its name.
        name: String,
        /// What it holds.
        contents: Vec<u8>,
    },
    /// A row of a table.
    Row {
        /// The table's name.
        table: String,
        /// The row's key.
        key: String,
        /// What it holds.
        value: Vec<u8>,
    },
}

impl Entry {
    /// Writes the entry at the end of a buffer.
    ///
    /// # Errors
    /// [`Error::Encode`] for one that is longer than [`MAX_ENTRY`]; nothing is written then.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        match self {
            Entry::Start(start) => {
                let scope = match start.scope {
                    Scope::Node => [NODE],
                    Scope::Authority => [AUTHORITY],
                };
                let (made, node, overlay) = (start.made.to_be_bytes(), start.node.as_bytes(), start.overlay.as_bytes());
                write(out, START, &[&scope, &made, node, overlay, start.domain.as_bytes()])
            }
            Entry::File { name, contents } => write(out, FILE, &[name.as_bytes(), contents]),
            Entry::Row { table, key, value } => write(out, ROW, &[table.as_bytes(), key.as_bytes(), value]),
        }
    }

    /// Reads an entry from the beginning of some bytes, and says how many of them it took; `None` where they do not hold all of it.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::Unsupported`] for a kind of a later program.
    pub fn read(bytes: &[u8]) -> Result<Option<(Entry, usize)>, Error> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else { return Ok(None) };
        let length = length_of(*length);
        if length > MAX_ENTRY {
            return Err(malformed("an entry is longer than any"));
        }
        let Some((body, _)) = rest.split_at_checked(length) else { return Ok(None) };
        Ok(Some((Entry::parse(body)?, LENGTH + length)))
    }

    fn parse(body: &[u8]) -> Result<Entry, Error> {
        let (kind, mut rest) = body.split_first().ok_or(malformed("an entry is empty"))?;
        let mut fields = Vec::with_capacity(MAX_FIELDS);
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH>() {
            let split = after.split_at_checked(length_of(*length)).filter(|_| fields.len() < MAX_FIELDS);
            let (field, after) = split.ok_or(malformed("a field does not fit into its entry"))?;
            fields.push(field);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(malformed("an entry is cut short"));
        }
        match (*kind, fields.as_slice()) {
            (START, [scope, made, node, overlay, domain]) => {
                let fixed = || malformed("its start is damaged");
                let scope = match scope {
                    [NODE] => Scope::Node,
                    [AUTHORITY] => Scope::Authority,
                    _ => return Err(fixed()),
                };
                Ok(Entry::Start(Start {
                    scope,
                    made: u64::from_be_bytes((*made).try_into().map_err(|_| fixed())?),
                    node: NodeId::from_bytes((*node).try_into().map_err(|_| fixed())?),
                    overlay: OverlayId::from_bytes((*overlay).try_into().map_err(|_| fixed())?),
                    domain: text(domain)?,
                }))
            }
            (FILE, [name, contents]) => Ok(Entry::File { name: text(name)?, contents: contents.to_vec() }),
            (ROW, [table, key, value]) => {
                Ok(Entry::Row { table: text(table)?, key: text(key)?, value: value.to_vec() })
            }
            (START | FILE | ROW, _) => Err(malformed("an entry has another number of fields")),
            (kind, _) => Err(Error::Unsupported { what: WHAT, which: format!("entry {kind}") }),
        }
    }
}

const WHAT: &str = "backup";
const LENGTH: usize = size_of::<u32>();

fn write(out: &mut Vec<u8>, kind: u8, fields: &[&[u8]]) -> Result<(), Error> {
    let length = 1 + fields.iter().map(|field| LENGTH + field.len()).sum::<usize>();
    let too_long = || Error::Encode { what: WHAT, why: "something is too large for it".to_owned() };
    if length > MAX_ENTRY {
        return Err(too_long());
    }
    let prefix = |length: usize| u32::try_from(length).map(u32::to_be_bytes).map_err(|_| too_long());
    out.extend(prefix(length)?);
    out.push(kind);
    for field in fields {
        out.extend(prefix(field.len())?);
        out.extend_from_slice(field);
    }
    Ok(())
}

fn length_of(bytes: [u8; LENGTH]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

fn text(field: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(field).map(str::to_owned).map_err(|_| malformed("a name is no text"))
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { what: WHAT, why }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn entries() -> [Entry; 4] {
        let start = Start {
            scope: Scope::Authority,
            made: 1_800_000_000,
            node: NodeId::from_bytes([7; 32]),
            overlay: OverlayId::from_bytes([8; 32]),
            domain: "mesh.test".to_owned(),
        };
        [
            Entry::Start(Start { scope: Scope::Node, ..start.clone() }),
            Entry::Start(start),
            Entry::File { name: "node.key".to_owned(), contents: vec![1, 2, 3] },
            Entry::Row { table: "accounts".to_owned(), key: "alice".to_owned(), value: Vec::new() },
        ]
    }

    #[test]
    fn entries_read_back_one_after_the_other() {
        let mut bytes = Vec::new();
        entries().iter().for_each(|entry| entry.write(&mut bytes).unwrap());
        let mut rest = bytes.as_slice();
        for entry in entries() {
            let (read, taken) = Entry::read(rest).unwrap().unwrap();
            assert_eq!(read, entry);
            rest = &rest[taken..];
        }
        assert_eq!((rest.len(), Entry::read(rest)), (0, Ok(None)));
    }

    #[test]
    fn what_is_not_all_there_yet_is_waited_for() {
        let mut bytes = Vec::new();
        entries()[2].write(&mut bytes).unwrap();
        for end in 0..bytes.len() {
            assert_eq!(Entry::read(&bytes[..end]), Ok(None));
        }
    }

    #[test]
    fn what_is_damaged_too_long_or_unknown_is_refused() {
        let huge = Entry::File { name: String::new(), contents: vec![0; MAX_ENTRY] };
        let mut out = Vec::new();
        assert!(matches!(huge.write(&mut out), Err(Error::Encode { .. })) && out.is_empty());
        let malformed = [
            &[0, 0, 0, 0][..],
            &[0xff; 8],
            &[0, 0, 0, 3, FILE, 0, 0],
            &[0, 0, 0, 6, FILE, 0, 0, 0, 9, b'a'],
            &[0, 0, 0, 5, FILE, 0, 0, 0, 0],
            &[0, 0, 0, 10, FILE, 0, 0, 0, 1, 0xff, 0, 0, 0, 0],
        ];
        for bytes in malformed {
            assert!(matches!(Entry::read(bytes), Err(Error::Malformed { .. })), "{bytes:x?}");
        }
        assert!(matches!(Entry::read(&[0, 0, 0, 1, 9]), Err(Error::Unsupported { .. })));
    }
}
