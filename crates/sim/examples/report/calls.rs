//! How many calls need a relay in networks mixed as the articles on peer-to-peer SIP have them, and what public nodes carry that relay them:
//! played packet by packet, beside what the formula says (`meshtone relay-calculator`).

use std::time::Instant;

use meshtone_sim::calls::mix::{Mix, play_all};

use crate::output::Output;

/// Calls of each of a thousand nodes.
const CALLS: usize = 50;

#[allow(clippy::disallowed_methods, reason = "the beginning of virtual time")]
pub(crate) fn run(_: usize, output: &mut Output) {
    let mixes = [
        ("a third without UDP", Mix { public: 100, cone: 300, symmetric: 300, blocked: 300 }),
        ("the same with fewer public ones", Mix { public: 45, cone: 355, symmetric: 300, blocked: 300 }),
        ("consumers", Mix { public: 150, cone: 500, symmetric: 300, blocked: 50 }),
    ];
    let mut rows = Vec::new();
    for (name, mix) in mixes {
        let Mix { public, cone, symmetric, blocked } = mix;
        let percent = |thousandths: usize| thousandths as f64 / 10.0;
        let played = play_all(Instant::now(), mix, CALLS, 201).expect("every call finds a way");
        let (tcp, udp) = (1.0 - (1.0 - percent(blocked) / 100.0).powi(2), (percent(symmetric) / 100.0).powi(2));
        rows.push(format!(
            "{name},{},{},{},{},{:.2},{:.2},{:.2},{:.2},{:.2},{:.2},{:.2},{:.2}",
            percent(public),
            percent(cone),
            percent(symmetric),
            percent(blocked),
            played.direct * 100.0,
            (1.0 - tcp - udp) * 100.0,
            played.relayed_udp * 100.0,
            udp * 100.0,
            played.relayed_tcp * 100.0,
            tcp * 100.0,
            played.load_tcp,
            1.0 + 2.0 * tcp / (percent(public) / 100.0),
        ));
    }
    let header = "mix,public,cone,symmetric,blocked,direct_percent,direct_by_formula,relayed_udp_percent,relayed_udp_by_formula,\
                  relayed_tcp_percent,relayed_tcp_by_formula,load_of_public_node,load_by_formula";
    output.csv("calls", header, &rows);
}
