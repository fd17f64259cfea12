//! The hello of a link: it has one encoding, and strangers' are refused.

use meshtone_overlay::link::hello::Hello;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(hello) = Hello::decode(data) else { return };
    // The first four bytes are the sender's range of versions, which may be wider than ours.
    assert_eq!(hello.encode().get(4..), data.get(4..), "a hello has two encodings");
}
