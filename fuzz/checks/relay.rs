//! What others write about relays and TURN servers: an address record's part, the host name that a TLS client says, the line that asks for a
//! tunnel.

use meshtone_overlay::link::relay::name;
use meshtone_overlay::link::relay::tunnel::Target;
use meshtone_overlay::record::Via;
use meshtone_overlay::record::via::MAX_SUPER_NODES;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    if let Some(target) = Target::parse(data) {
        let again = format!("CONNECT {}:{} HTTP/1.1\r\n\r\n", target.host, target.port);
        assert_eq!(Target::parse(again.as_bytes()), Some(target), "a target means itself");
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let via = Via::decode(text);
    assert!(via.super_nodes.len() <= MAX_SUPER_NODES);
    match via.encode() {
        // It has to fit where older releases keep a URL of 256 bytes.
        Some(said) => assert!(said.len() <= 256 && Via::decode(&said) == via, "what was read is written the same way"),
        None => assert_eq!(via, Via::default()),
    }
    if let Some(key) = name::key_of(text) {
        assert_eq!(name::key_of(&name::host_of(key)), Some(key));
        assert!(text.trim_end_matches('.').eq_ignore_ascii_case(&name::host_of(key)), "a key has one name");
    }
}
