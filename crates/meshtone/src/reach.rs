//! `meshtone netcheck` and `meshtone trace`: how this node reaches others, asked of the running node.

use std::path::Path;

use hyper::Method;
use meshtone_node::control::{Netcheck, Trace};

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

#[cfg(test)]
mod tests {
    use meshtone_node::control::TraceStep;

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
        };
        let text = trace_text(&trace);
        assert!(text.starts_with("ok   look-up  As it is."), "{text}");
        assert!(text.contains("\nFAIL link     As it is.") && !text.contains('\u{1b}'), "{text}");
        assert!(text.ends_with("No way.\nThe reason is on the side of the network.\nhint: wait"), "{text}");
    }
}
