//! The super-nodes that a node names in its address record: those that can introduce whoever cannot dial it.
//!
//! They stand where the record has the URL of what reaches the node, as a URI of a scheme of their own, so that programs that know
//! nothing of them read, verify and store the record all the same.

use meshtone_identity::NodeId;

/// Most that are named: some may be gone or silent, and a URI of four fits.
pub const MAX_SUPER_NODES: usize = 4;

const SCHEME: &str = "meshtone-via:";

/// Returns what the record says of these super-nodes, if there are any.
pub fn encode(nodes: &[NodeId]) -> Option<String> {
    let ids: Vec<String> = nodes.iter().take(MAX_SUPER_NODES).map(ToString::to_string).collect();
    (!ids.is_empty()).then(|| format!("{SCHEME}{}", ids.join(",")))
}

/// Reads the super-nodes out of what a record says; none where it says something else.
pub fn decode(text: &str) -> Vec<NodeId> {
    let ids = text.strip_prefix(SCHEME).unwrap_or_default().split(',');
    ids.filter_map(|id| id.parse().ok()).take(MAX_SUPER_NODES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn super_nodes_read_back_and_fit_where_releases_without_them_have_a_url() {
        let nodes = [255, 254, 1, 0].map(node);
        let text = encode(&nodes).unwrap_or_default();
        assert!(text.len() <= 256, "{} bytes", text.len());
        assert_eq!(decode(&text), nodes);
        assert_eq!(encode(&[]), None);
    }

    #[test]
    fn what_names_no_super_nodes_is_passed_over() {
        let one = node(7);
        for text in ["", "https://relay.example:8443/", "meshtone-via:", "meshtone-via:nobody,,", &one.to_string()] {
            assert!(decode(text).is_empty(), "{text}");
        }
        let many = vec![one.to_string(); 9].join(",");
        assert_eq!(decode(&format!("{SCHEME}{many}")).len(), MAX_SUPER_NODES);
        assert_eq!(decode(&format!("{SCHEME}mallory,{one}")), [one]);
    }
}
