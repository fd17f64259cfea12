//! The metric: how far two places are apart is the exclusive or of their 256 bits, as in Kademlia.

use std::fmt;

use bytes::Bytes;
use meshtone_identity::NodeId;

use crate::record::ResourceId;

/// Largest opaque link address of a node in bytes: a key, a relay and a handful of socket addresses.
pub const MAX_ADDRESS: usize = 512;

/// A place in the id space, of a node or of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub [u8; 32]);

/// How far apart two places are; the smaller is the closer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance([u8; 32]);

/// A node and how its link is reached. The core passes the address on and does not look inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The node.
    pub node: NodeId,
    /// What the link layer needs to dial it, at most [`MAX_ADDRESS`] bytes.
    pub address: Bytes,
}

impl Position {
    /// Returns how far the other place is.
    pub fn distance(self, other: Self) -> Distance {
        let mut bytes = self.0;
        for (byte, other) in bytes.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        Distance(bytes)
    }

    /// Returns the place that differs from this one first in bit `bucket` and is `noise` after it.
    pub(crate) fn in_bucket(self, bucket: usize, noise: [u8; 32]) -> Self {
        let mut bytes = noise;
        for (index, (byte, own)) in bytes.iter_mut().zip(self.0).enumerate() {
            for bit in 0..8 {
                let mask = 0x80_u8 >> bit;
                let position = index * 8 + bit;
                if position < bucket {
                    *byte = *byte & !mask | own & mask;
                } else if position == bucket {
                    *byte = *byte & !mask | !own & mask;
                }
            }
        }
        Self(bytes)
    }
}

impl Distance {
    /// Returns how many leading bits are equal: the number of the bucket, 0 for the far half; 256 for the place itself.
    pub fn bucket(self) -> usize {
        let mut equal = 0;
        for byte in self.0 {
            equal += byte.leading_zeros() as usize;
            if byte != 0 {
                break;
            }
        }
        equal
    }
}

impl Distance {
    /// Returns the first 64 bits, as a number: how far of all there is, in parts of 2^64.
    pub(super) fn leading(self) -> u64 {
        self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }
}

impl fmt::Debug for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distance(2^{})", 256_usize.saturating_sub(self.bucket()))
    }
}

impl From<NodeId> for Position {
    fn from(node: NodeId) -> Self {
        Self(*node.as_bytes())
    }
}

impl From<ResourceId> for Position {
    fn from(resource: ResourceId) -> Self {
        Self(*resource.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_the_number_of_equal_leading_bits() {
        let own = Position([0; 32]);
        let mut other = [0; 32];
        assert_eq!(own.distance(Position(other)).bucket(), 256);
        other[1] = 0x10;
        assert_eq!(own.distance(Position(other)).bucket(), 11);
    }

    #[test]
    fn a_place_made_for_a_bucket_lies_in_it() {
        let own = Position([0xa5; 32]);
        for bucket in [0, 1, 7, 8, 100, 255] {
            for noise in [[0; 32], [255; 32], [0x3c; 32]] {
                assert_eq!(own.distance(own.in_bucket(bucket, noise)).bucket(), bucket);
            }
        }
    }
}
