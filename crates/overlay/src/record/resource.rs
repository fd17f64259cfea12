//! Places in the overlay: names are hashed into the space that node ids live in.

use std::fmt;

use super::sha256;

/// Where a record belongs: SHA-256 of the resource name's bytes, in the same 256-bit space as node ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId([u8; 32]);

impl ResourceId {
    /// Returns the place of the resource with this name.
    pub fn of_name(name: &str) -> Self {
        Self(sha256(name.as_bytes()))
    }

    /// Makes an id of its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceId({})", data_encoding::HEXLOWER.encode(self.0.get(..4).unwrap_or_default()))
    }
}
