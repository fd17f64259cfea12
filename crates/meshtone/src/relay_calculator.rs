//! `meshtone relay-calculator`: how many calls need a relay where people's networks are mixed so, and what that costs those who relay.
//!
//! Pure arithmetic, of the model that Singh's and Schulzrinne's articles on peer-to-peer SIP use; `docs/report` has the same from calls played packet
//! by packet through simulated boxes.

use serde::Serialize;

use crate::command::RelayCalculatorOptions;
use crate::failure::Failure;
use crate::output;

/// Shares add up to this, but for what rounding to two decimals leaves.
const ALL: f64 = 100.0;
const ROUNDING: f64 = 0.05;

/// What came of it, shares in percent of all calls.
#[derive(Debug, PartialEq, Serialize)]
struct Calls {
    /// Sound goes from one end to the other.
    direct: f64,
    /// Through a relay over UDP: both ends are behind boxes that show every peer another port.
    relayed_udp: f64,
    /// Through a relay over TCP: one end at least lets no UDP through.
    relayed_tcp: f64,
    /// Both kinds.
    relayed: f64,
    /// Calls relayed at each public node, for each call that a node makes or takes itself.
    relayed_calls_per_public_node: f64,
    /// What a public node carries, where its own calls are 1: a relayed one comes in and goes out.
    load_of_public_node: f64,
    /// The same where it relays over TCP alone, as in the articles.
    load_of_public_node_tcp: f64,
}

pub(crate) fn run(options: &RelayCalculatorOptions) -> Result<(), Failure> {
    let RelayCalculatorOptions { public, cone, symmetric, blocked, json } = *options;
    let calls = calculate(public, cone, symmetric, blocked)?;
    if json {
        return output::print_json(&calls);
    }
    output::print(&text(&calls, public));
    Ok(())
}

fn calculate(public: f64, cone: f64, symmetric: f64, blocked: f64) -> Result<Calls, Failure> {
    let shares = [public, cone, symmetric, blocked];
    let sum: f64 = shares.iter().sum();
    if shares.iter().any(|share| !(0.0..=ALL).contains(share)) || (sum - ALL).abs() > ROUNDING {
        return Err(Failure::new(
            format!("the shares come to {sum} %, not to 100"),
            "for example --public 10 --cone 30 --symmetric 30 --blocked 30",
        ));
    }
    let share = |percent: f64| percent / ALL;
    let relayed_tcp = 1.0 - (1.0 - share(blocked)).powi(2);
    let relayed_udp = share(symmetric).powi(2);
    let relayed = relayed_tcp + relayed_udp;
    // Nobody relays where nobody is public.
    let per_public = |calls: f64| if public > 0.0 { calls / share(public) } else { f64::INFINITY };
    let percent = |share: f64| (share * ALL * 100.0).round() / 100.0;
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    Ok(Calls {
        direct: percent(1.0 - relayed),
        relayed_udp: percent(relayed_udp),
        relayed_tcp: percent(relayed_tcp),
        relayed: percent(relayed),
        relayed_calls_per_public_node: rounded(per_public(relayed)),
        load_of_public_node: rounded(1.0 + 2.0 * per_public(relayed)),
        load_of_public_node_tcp: rounded(1.0 + 2.0 * per_public(relayed_tcp)),
    })
}

fn text(calls: &Calls, public: f64) -> String {
    let Calls { direct, relayed_udp, relayed_tcp, relayed, .. } = calls;
    let mut lines = vec![
        format!("direct            {direct:6.2} % of calls"),
        format!("relayed           {relayed:6.2} %"),
        format!("  over UDP (TURN) {relayed_udp:6.2} %  both behind boxes that show every peer another port"),
        format!("  over TCP        {relayed_tcp:6.2} %  one at least lets no UDP through"),
    ];
    if public > 0.0 {
        lines.push(String::new());
        lines.push(format!(
            "Where the public nodes relay, each has {} calls of others for one of its own, and carries {} times what it would for those \
             ({} times where only calls over TCP are relayed by nodes).",
            calls.relayed_calls_per_public_node, calls.load_of_public_node, calls.load_of_public_node_tcp
        ));
    } else if *relayed > 0.0 {
        lines.push(String::new());
        lines.push("Nobody is public, so nobody could relay: these calls would fail.".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_articles_figures_come_out() {
        let mixed = calculate(10.0, 30.0, 30.0, 30.0).unwrap();
        assert_eq!((mixed.relayed_tcp, mixed.relayed_udp, mixed.relayed, mixed.direct), (51.0, 9.0, 60.0, 40.0));
        assert_eq!((mixed.load_of_public_node_tcp, mixed.load_of_public_node), (11.2, 13.0));
        let consumers = calculate(15.0, 50.0, 30.0, 5.0).unwrap();
        assert_eq!((consumers.relayed_tcp, consumers.relayed_udp), (9.75, 9.0));
        assert_eq!((consumers.relayed, consumers.direct), (18.75, 81.25));
        let few_public = calculate(4.5, 35.5, 30.0, 30.0).unwrap();
        assert_eq!(few_public.load_of_public_node_tcp, 23.67);
    }

    #[test]
    fn shares_that_are_none_are_refused_and_a_network_of_nobody_public_is_told() {
        for wrong in [[10.0, 30.0, 30.0, 29.0], [-10.0, 50.0, 30.0, 30.0], [f64::NAN, 0.0, 0.0, 100.0]] {
            let [public, cone, symmetric, blocked] = wrong;
            assert!(calculate(public, cone, symmetric, blocked).is_err(), "{wrong:?}");
        }
        let nobody = calculate(0.0, 40.0, 30.0, 30.0).unwrap();
        assert!(text(&nobody, 0.0).contains("would fail"));
        assert!(text(&calculate(0.0, 100.0, 0.0, 0.0).unwrap(), 0.0).contains("100.00 %"));
    }
}
