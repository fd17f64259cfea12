//! `meshtone node`: the nodes that the overlay's authority has certified.

use std::path::Path;

use hyper::Method;
use meshtone_node::control::{NewRevocation, NodeList, NodeRow};

use crate::administer::{NOTHING, lasting, running, unix_ms};
use crate::client::segment;
use crate::command::NodeCommand;
use crate::failure::Failure;
use crate::output::{self, printable, table};

pub(crate) fn node(data: &Path, command: NodeCommand) -> Result<(), Failure> {
    match command {
        NodeCommand::List { json } => {
            let client = running(data, "there is nobody to ask")?;
            let list: NodeList = client.ask(Method::GET, "/authority/nodes", NOTHING)?;
            if json {
                return output::print_json(&list);
            }
            output::print(&list_text(&list));
            Ok(())
        }
        NodeCommand::Revoke { node, because } => {
            let client = running(data, "nobody could be told")?;
            let path = format!("/authority/nodes/{}/revocation", segment(&node));
            client.ask::<()>(Method::POST, &path, Some(&NewRevocation { because }))?;
            let lines = [
                format!("Node {node} is revoked: every node that is linked knows within seconds, others when they come back."),
                "Its machine still has the accounts of the domain that it served: if it was stolen, give them new passwords."
                    .to_owned(),
            ];
            output::print(&lines.join("\n"));
            Ok(())
        }
    }
}

fn list_text(list: &NodeList) -> String {
    let now = unix_ms() / 1000;
    let row = |row: &NodeRow| {
        let state = match row.revoked {
            Some(revoked) if row.because.is_empty() => format!("revoked {} ago", lasting(now.saturating_sub(revoked))),
            Some(revoked) => {
                format!("revoked {} ago: {}", lasting(now.saturating_sub(revoked)), printable(&row.because))
            }
            None => format!("good for {}", lasting(row.expires.saturating_sub(now))),
        };
        let may = match row.may.as_str() {
            "store" => "only stores",
            "use" => "only uses",
            _ => "all",
        };
        [row.node.clone(), printable(&row.domain), may.to_owned(), printable(&row.person), state]
    };
    table(["node", "domain", "may do", "of", "state"], &list.nodes.iter().map(row).collect::<Vec<_>>())
}
