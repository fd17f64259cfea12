//! `meshtone netcheck` and `meshtone trace`: how this node reaches others, asked of the running node.

use std::path::Path;

use hyper::Method;
use meshtone_node::control::{Netcheck, Trace, TracedCall};

use crate::administer::{NOTHING, running};
use crate::failure::Failure;
use crate::output::{self, printable};

pub(crate) fn netcheck(data: &Path, json: bool) -> Result<(), Failure> {
    let client = running(data, "it is the running node that knows its network")?;
    let netcheck: Netcheck = client.ask(Method::GET, "/netcheck", NOTHING)?;
    if json {
        return output::print_json(&netcheck);
    }
    output::print(&netcheck_text(&netcheck));
    Ok(())
}

pub(crate) fn trace(data: &Path, target: &str, json: bool) -> Result<(), Failure> {
    let client = running(data, "it is the running node that would call")?;
    let trace: Trace = client.ask(Method::POST, "/traces", Some(&target))?;
    if json {
        output::print_json(&trace)?;
    } else {
        output::print(&trace_text(&trace));
    }
    Ok(())
}

fn netcheck_text(netcheck: &Netcheck) -> String {
    let mut lines = netcheck.says.clone();
    if let Some(hint) = &netcheck.hint {
        lines.push(format!("hint: {hint}"));
    }
    lines.join("\n")
}

fn trace_text(trace: &Trace) -> String {
    let mut lines: Vec<String> = trace
        .steps
        .iter()
        .map(|step| {
            let mark = if step.ok { "ok  " } else { "FAIL" };
            format!("{mark} {:<8} {} ({:.1} ms)", step.what, printable(&step.says), step.took_ms)
        })
        .collect();
    if let Some(call) = trace.call.as_ref().filter(|call| !call.messages.is_empty()) {
        lines.push(String::new());
        lines.extend(ladder(call));
    }
    lines.push(String::new());
    lines.push(printable(&trace.verdict));
    if let Some(side) = &trace.side {
        lines.push(format!("The reason is on the side of {side}."));
    }
    if let Some(hint) = &trace.hint {
        lines.push(format!("hint: {hint}"));
    }
    lines.join("\n")
}

/// The messages of a call, one a line, and when each was seen.
fn ladder(call: &TracedCall) -> Vec<String> {
    let began_ms = call.messages.first().map_or(0, |message| message.at_ms);
    let rows: Vec<[String; 5]> = call
        .messages
        .iter()
        .map(|message| {
            let after_ms = message.at_ms.saturating_sub(began_ms);
            let said =
                [&message.from, &message.to, &message.transport, &message.first_line].map(|text| printable(text));
            let [from, to, transport, first_line] = said;
            [format!("{after_ms} ms"), from, to, transport, first_line]
        })
        .collect();
    let mut lines = vec![output::table(["after", "from", "to", "over", "message"], &rows)];
    if call.left_out > 0 {
        lines.push(format!("{} messages more were not kept.", call.left_out));
    }
    lines
}

#[cfg(test)]
mod tests {
    use meshtone_node::control::{LadderMessage, TraceStep};

    use super::*;

    #[test]
    fn a_trace_ends_with_what_comes_of_the_call_and_whose_side_the_reason_is_on() {
        let step = |what: &str, ok| TraceStep {
            what: what.to_owned(),
            ok,
            says: "As it is.\u{1b}".to_owned(),
            side: "the network".to_owned(),
            took_ms: 1.25,
        };
        let trace = Trace {
            target: "bob".to_owned(),
            address: Some("bob@example.org".to_owned()),
            works: false,
            verdict: "No way.".to_owned(),
            side: Some("the network".to_owned()),
            hint: Some("wait".to_owned()),
            steps: vec![step("look-up", true), step("link", false)],
            call: None,
        };
        let text = trace_text(&trace);
        assert!(text.starts_with("ok   look-up  As it is."), "{text}");
        assert!(text.contains("\nFAIL link     As it is.") && !text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("No way.\nThe reason is on the side of the network.\nhint: wait"), "{text}");
    }

    #[test]
    fn the_messages_of_a_call_stand_under_its_steps() {
        let message = |at_ms, from: &str, to: &str, first_line: &str| LadderMessage {
            at_ms,
            from: from.to_owned(),
            to: to.to_owned(),
            transport: "TLS".to_owned(),
            first_line: first_line.to_owned(),
            text: String::new(),
        };
        let call = TracedCall {
            call_id: "one".to_owned(),
            from: "sip:alice@mesh.test".to_owned(),
            to: "sip:bob@mesh.test".to_owned(),
            state: "over".to_owned(),
            status: Some(486),
            messages: vec![
                message(1000, "192.0.2.2:5061", "node", "INVITE sip:bob@mesh.test SIP/2.0"),
                message(1042, "node", "192.0.2.2:5061", "SIP/2.0 486 Busy\u{1b}"),
            ],
            left_out: 3,
            descriptions: Vec::new(),
            ends: Vec::new(),
            is_converted: false,
        };
        let text = ladder(&call).join("\n");
        assert!(text.contains("42 ms  node            192.0.2.2:5061  TLS   SIP/2.0 486 Busy\u{fffd}"), "{text}");
        assert!(text.ends_with("3 messages more were not kept."), "{text}");
    }
}
