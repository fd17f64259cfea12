//! The entries of a backup, sealed into a file and opened from one.

use std::io::{ErrorKind, Read, Write};

use meshtone_identity::backup::Entry;
use meshtone_identity::sealed_stream::{HEAD, Opener, PIECE, RANDOM, Sealer, TAG};
use zeroize::Zeroizing;

use super::BackupError;

/// Entries on their way out.
pub(super) struct Sealing<'a, W> {
    sealer: Sealer,
    /// What is not sealed yet.
    plain: Zeroizing<Vec<u8>>,
    out: &'a mut W,
}

impl<'a, W: Write> Sealing<'a, W> {
    pub(super) fn begin(passphrase: &str, random: &[u8; RANDOM], out: &'a mut W) -> Result<Self, BackupError> {
        let sealer = Sealer::new(passphrase, random)?;
        out.write_all(sealer.head()).map_err(BackupError::Output)?;
        Ok(Sealing { sealer, plain: Zeroizing::default(), out })
    }

    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), BackupError> {
        entry.write(&mut self.plain)?;
        // A full piece waits until there is more: it might be the last one.
        while self.plain.len() > PIECE {
            let rest = Zeroizing::new(self.plain.split_off(PIECE));
            self.seal(false)?;
            self.plain = rest;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        self.seal(true)?;
        self.out.flush().map_err(BackupError::Output)
    }

    fn seal(&mut self, is_last: bool) -> Result<(), BackupError> {
        self.sealer.seal(&mut self.plain, is_last)?;
        self.out.write_all(&self.plain).map_err(BackupError::Output)
    }
}

/// Entries on their way in.
pub(super) struct Opening<R> {
    opener: Opener,
    input: R,
    /// The next sealed piece: whether it is the last one shows when nothing follows.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    is_over: bool,
}

impl<R: Read> Opening<R> {
    pub(super) fn begin(passphrase: &str, mut input: R) -> Result<Self, BackupError> {
        let head = up_to(&mut input, HEAD)?;
        let head = head.try_into().map_err(|_| BackupError::Damaged { what: "it is cut short" })?;
        let opener = Opener::new(&head, passphrase)?;
        let ahead = up_to(&mut input, PIECE + TAG)?;
        Ok(Opening { opener, input, ahead, plain: Zeroizing::default(), is_over: false })
    }

    /// The next entry; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, BackupError> {
        loop {
            if let Some((entry, taken)) = Entry::read(&self.plain)? {
                self.plain.drain(..taken);
                return Ok(Some(entry));
            }
            if self.is_over {
                return if self.plain.is_empty() {
                    Ok(None)
                } else {
                    Err(BackupError::Damaged { what: "it is cut short" })
                };
            }
            let following = up_to(&mut self.input, PIECE + TAG)?;
            self.is_over = following.is_empty();
            let mut piece = Zeroizing::new(std::mem::replace(&mut self.ahead, following));
            let opened = self.opener.open(&mut piece, self.is_over)?;
            self.plain.extend_from_slice(opened);
        }
    }
}

/// So many bytes, or as many as there are.
fn up_to(input: &mut impl Read, count: usize) -> Result<Vec<u8>, BackupError> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(BackupError::Input(error)),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
