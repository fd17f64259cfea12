//! What stands in a backup whose passphrase somebody knows. Reading never panics, and an entry that is read has the very bytes that it
//! is written with.

use meshtone_identity::backup::Entry;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((entry, taken))) = Entry::read(rest) {
        let mut written = Vec::new();
        entry.write(&mut written).expect("what was read can be written");
        let (bytes, after) = rest.split_at(taken);
        assert_eq!(written, bytes);
        rest = after;
    }
}
