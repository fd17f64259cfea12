//! SRTP and SRTCP (RFC 3711; AES-GCM: RFC 7714): packets are sealed and opened, nothing is sent.
//!
//! A [`Sealer`] protects what goes one way under one master key, an [`Opener`] opens what comes the other way under another. Both
//! keep a rollover counter and a replay window for each source. Not here: how keys are agreed upon, re-keying by MKI, key
//! derivation rates other than zero (which nobody uses).

mod cipher;
mod index;

#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;

use crate::rtp::header_len;
use cipher::Keys;
use index::{Index, Streams};

/// Length of the longest master key, in bytes.
pub const MAX_KEY_LEN: usize = 32;

/// Length of the longest master salt, in bytes.
pub const MAX_SALT_LEN: usize = 14;

/// The longest that a sealed packet is more than the plain one: the tag of GCM, and the index of SRTCP.
pub const MAX_OVERHEAD: usize = 16 + 4;

/// The fixed part of an RTCP packet: header and sender's source, which stay readable.
const RTCP_CLEAR_LEN: usize = 8;

/// The word behind an SRTCP packet: whether it is encrypted, and its index.
const RTCP_INDEX_LEN: usize = 4;

const ENCRYPTED: u32 = 1 << 31;

/// A protection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`, which everybody knows.
    AesCm80,
    /// `AES_CM_128_HMAC_SHA1_32`: short tags for RTP, long ones for RTCP (RFC 5764 §4.1.2).
    AesCm32,
    /// `AEAD_AES_128_GCM`.
    AesGcm,
    /// `AEAD_AES_256_GCM`, which browsers and their like choose.
    AesGcm256,
}

impl Suite {
    /// All of them. Those that phones know come first, in the order in which they are offered.
    pub const ALL: [Suite; 4] = [Suite::AesGcm, Suite::AesCm80, Suite::AesCm32, Suite::AesGcm256];

    /// Returns the length of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            Suite::AesCm80 | Suite::AesCm32 | Suite::AesGcm => 16,
            Suite::AesGcm256 => 32,
        }
    }

    /// Returns the name in `a=crypto` (RFC 4568 §6.2, RFC 7714 §14.2).
    pub const fn name(self) -> &'static str {
        match self {
            Suite::AesCm80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AesGcm => "AEAD_AES_128_GCM",
            Suite::AesGcm256 => "AEAD_AES_256_GCM",
        }
    }

    /// Returns the length of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            Suite::AesCm80 | Suite::AesCm32 => MAX_SALT_LEN,
            Suite::AesGcm | Suite::AesGcm256 => 12,
        }
    }

    const fn rtp_tag_len(self) -> usize {
        match self {
            Suite::AesCm80 => 10,
            Suite::AesCm32 => 4,
            Suite::AesGcm | Suite::AesGcm256 => 16,
        }
    }

    const fn rtcp_tag_len(self) -> usize {
        match self {
            Suite::AesCm80 | Suite::AesCm32 => 10,
            Suite::AesGcm | Suite::AesGcm256 => 16,
        }
    }
}

/// A master key with its salt. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    /// Shorter keys end in zeros, which nothing reads.
    key: [u8; MAX_KEY_LEN],
    /// Shorter salts end in zeros, which is how the key derivation wants them.
    salt: [u8; MAX_SALT_LEN],
}

impl MasterKey {
    /// Takes key and salt, one behind the other; `None` when the length is wrong.
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Option<MasterKey> {
        let (key, salt) = key_and_salt.split_at_checked(suite.key_len())?;
        if salt.len() != suite.salt_len() {
            return None;
        }
        let (mut padded_key, mut padded_salt) = ([0; MAX_KEY_LEN], [0; MAX_SALT_LEN]);
        padded_key.get_mut(..key.len())?.copy_from_slice(key);
        padded_salt.get_mut(..salt.len())?.copy_from_slice(salt);
        Some(MasterKey { suite, key: padded_key, salt: padded_salt })
    }

    /// Makes a key of random bytes.
    pub fn random(suite: Suite, fill: &mut dyn FnMut(&mut [u8])) -> MasterKey {
        let (mut key, mut salt) = ([0; MAX_KEY_LEN], [0; MAX_SALT_LEN]);
        fill(key.split_at_mut(suite.key_len()).0);
        fill(salt.split_at_mut(suite.salt_len()).0);
        MasterKey { suite, key, salt }
    }

    /// Returns key and salt, one behind the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        let salt = self.salt.iter().take(self.suite.salt_len());
        self.key().iter().chain(salt).copied().collect()
    }

    fn key(&self) -> &[u8] {
        self.key.split_at(self.suite.key_len()).0
    }

    /// Returns what it is for.
    pub const fn suite(&self) -> Suite {
        self.suite
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}, <redacted>)", self.suite.name())
    }
}

/// Why a packet is not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// It is too short, or its header is longer than it.
    #[error("the packet is cut short")]
    Short,
    /// The tag is wrong: it is not the peer's, or was changed on the way.
    #[error("the packet is not authentic")]
    Tag,
    /// It was here before, or is too old to tell.
    #[error("the packet was here before, or is too old to tell")]
    Replayed,
    /// There are too many sources, or a key has protected as many packets as it may.
    #[error("no more packets may be protected under this key")]
    Exhausted,
}

/// Protects what goes one way.
pub struct Sealer {
    keys: Keys,
    rtp: Streams,
    /// The next SRTCP index; one for all sources, so that none is used twice.
    rtcp_index: u32,
}

impl Sealer {
    /// Derives the session keys.
    pub fn new(master: &MasterKey) -> Sealer {
        Sealer { keys: Keys::derive(master), rtp: Streams::default(), rtcp_index: 1 }
    }

    /// Seals an RTP packet.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Short`]; [`SrtpError::Replayed`] where a packet of this number was sealed before, since the same key stream must
    /// not hide two packets; [`SrtpError::Exhausted`].
    pub fn seal_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let header = header_len(packet).ok_or(SrtpError::Short)?;
        let (ssrc, sequence_number) = names_of(packet).ok_or(SrtpError::Short)?;
        let index = self.rtp.expect(ssrc, sequence_number)?;
        let sealed = self.keys.rtp.seal(packet, header, ssrc, index.value())?;
        self.rtp.accept(ssrc, index);
        Ok(sealed)
    }

    /// Seals a compound RTCP packet.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Short`] or [`SrtpError::Exhausted`].
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let ssrc = rtcp_ssrc(packet).ok_or(SrtpError::Short)?;
        let index = self.rtcp_index;
        if index & ENCRYPTED != 0 {
            return Err(SrtpError::Exhausted);
        }
        self.rtcp_index += 1;
        self.keys.rtcp.seal_rtcp(packet, RTCP_CLEAR_LEN, ssrc, index)
    }
}

/// Opens what comes the other way.
pub struct Opener {
    keys: Keys,
    rtp: Streams,
    rtcp: Streams,
}

impl Opener {
    /// Derives the session keys.
    pub fn new(master: &MasterKey) -> Opener {
        Opener { keys: Keys::derive(master), rtp: Streams::default(), rtcp: Streams::default() }
    }

    /// Opens an RTP packet. Nothing is remembered of one that is not authentic.
    ///
    /// # Errors
    ///
    /// [`SrtpError`].
    pub fn open_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let header = header_len(packet).ok_or(SrtpError::Short)?;
        let (ssrc, sequence_number) = names_of(packet).ok_or(SrtpError::Short)?;
        let index = self.rtp.expect(ssrc, sequence_number)?;
        let opened = self.keys.rtp.open(packet, header, ssrc, index.value())?;
        self.rtp.accept(ssrc, index);
        Ok(opened)
    }

    /// Opens a compound RTCP packet.
    ///
    /// # Errors
    ///
    /// [`SrtpError`].
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let ssrc = rtcp_ssrc(packet).ok_or(SrtpError::Short)?;
        let (opened, index) = self.keys.rtcp.open_rtcp(packet, RTCP_CLEAR_LEN, ssrc, |index| {
            self.rtcp.expect_exactly(ssrc, u64::from(index)).map(Index::value)
        })?;
        let index = self.rtcp.expect_exactly(ssrc, index)?;
        self.rtcp.accept(ssrc, index);
        Ok(opened)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(<redacted>)")
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(<redacted>)")
    }
}

/// Source and sequence number of an RTP packet.
fn names_of(packet: &[u8]) -> Option<(u32, u16)> {
    let [_, _, s0, s1, _, _, _, _, r0, r1, r2, r3] = *packet.first_chunk::<12>()?;
    Some((u32::from_be_bytes([r0, r1, r2, r3]), u16::from_be_bytes([s0, s1])))
}

fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let [first, _, _, _, r0, r1, r2, r3] = *packet.first_chunk::<RTCP_CLEAR_LEN>()?;
    (first >> 6 == crate::rtp::VERSION).then(|| u32::from_be_bytes([r0, r1, r2, r3]))
}
