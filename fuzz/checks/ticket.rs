//! Tickets: what is read is written the same way again, however it was typed.

use meshtone_identity::Ticket;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(ticket) = text.parse::<Ticket>() else { return };
    let written = ticket.to_string();
    assert_eq!(written.parse::<Ticket>().as_ref(), Ok(&ticket));
    assert!(written.starts_with("mt1-"));
}
