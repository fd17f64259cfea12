#![allow(clippy::unwrap_used)]

use super::*;

fn listener(over: &str, at: &str) -> TurnListener {
    TurnListener { over: over.to_owned(), at: at.parse().unwrap() }
}

#[test]
fn clients_are_told_a_name_where_there_is_one_and_tls_where_it_is_believed() {
    let nowhere = Facing(Vec::new());
    let all = [listener("udp", "0.0.0.0:3478"), listener("tcp", "0.0.0.0:3478"), listener("tls", "0.0.0.0:5349")];
    assert_eq!(
        urls(&all, &[], &nowhere, Some("mesh.example"), true),
        [
            "turn:mesh.example:3478?transport=udp",
            "turn:mesh.example:3478?transport=tcp",
            "turns:mesh.example:5349?transport=tcp"
        ]
    );
    let relays = ["203.0.113.9/10.0.0.2".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    assert_eq!(
        urls(&all[..1], &relays, &nowhere, None, false),
        ["turn:203.0.113.9:3478?transport=udp", "turn:[2001:db8::1]:3478?transport=udp"]
    );
    let one = [listener("udp", "192.0.2.7:3479"), listener("tls", "192.0.2.7:5349")];
    assert_eq!(urls(&one, &[], &nowhere, None, false), ["turn:192.0.2.7:3479?transport=udp"]);
}
