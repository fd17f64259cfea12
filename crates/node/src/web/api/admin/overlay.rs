//! The overlay as this node sees it: a ring of ids, on which nodes and addresses have their places.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use meshtone_identity::NodeId;
use meshtone_overlay::Path as LinkPath;
use meshtone_overlay::dht::Position;
use meshtone_overlay::node::DEFAULT_REPLICAS;
use meshtone_overlay::record::{Kind, ResourceId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::account::name;
use crate::web::Site;
use crate::web::api::Failure;
use crate::web::api::asker::{Administrator, Asked};

/// The overlay as this node sees it.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct Overlay {
    #[serde(rename = "self")]
    own: OwnNode,
    /// The others that it knows.
    nodes: Vec<OtherNode>,
    /// How many it knows; of very many not all are named.
    known: usize,
}

/// This node.
#[derive(Serialize, ToSchema)]
struct OwnNode {
    id: String,
    /// Where it is on the ring, from 0 to 1.
    position: f64,
    /// Whether it stores and forwards for others.
    serves: bool,
}

/// Another node.
#[derive(Serialize, ToSchema)]
struct OtherNode {
    id: String,
    /// Where it is on the ring, from 0 to 1.
    position: f64,
    /// What it may speak for, where there is a link.
    domains: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<OwnLink>,
}

/// A link of this node's.
#[derive(Serialize, ToSchema)]
struct OwnLink {
    path: Way,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    rtt_ms: f64,
}

/// How the packets of a link travel.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// From one to the other.
    Direct,
    /// The same, after both were introduced: one could not be dialled.
    Introduced,
    /// Over a relay.
    Relayed,
}

/// Whose place is looked for.
#[derive(Deserialize, IntoParams)]
pub(in crate::web::api) struct Wanted {
    /// An address.
    address: String,
}

/// Where an address has its place on the ring.
#[derive(Serialize, ToSchema)]
pub(in crate::web::api) struct Place {
    address: String,
    /// From 0 to 1.
    position: f64,
    /// The ids of the nodes nearest to it that this node knows, itself among them: they store what stands there.
    closest: Vec<String>,
    /// What stands there.
    found: Vec<Found>,
}

/// Something that stands at a place.
#[derive(Serialize, ToSchema)]
struct Found {
    /// The id of the node that wrote and signed it.
    by: String,
    kind: String,
}

/// The overlay as this node sees it.
#[utoipa::path(get, path = "/admin/overlay", tag = "admin", responses(
    (status = 200, body = Overlay), (status = 401, body = Failure), (status = 403, body = Failure),
))]
pub(in crate::web::api) async fn show(_: Administrator, State(site): State<Arc<Site>>) -> Json<Overlay> {
    let overlay = &site.overlay;
    let own = overlay.node_id();
    let mut nodes: Vec<OtherNode> = overlay
        .links()
        .into_iter()
        .map(|link| {
            let (path, address) = match link.path {
                LinkPath::Direct(address) if link.introduced => (Way::Introduced, Some(address.to_string())),
                LinkPath::Direct(address) => (Way::Direct, Some(address.to_string())),
                LinkPath::Relayed => (Way::Relayed, None),
            };
            let link_of = OwnLink { path, address, rtt_ms: (link.rtt_ms * 10.0).round() / 10.0 };
            let position = position(link.node.as_bytes());
            OtherNode { id: link.node.to_string(), position, domains: link.domains, link: Some(link_of) }
        })
        .collect();
    let known = overlay.known_nodes();
    for node in known.iter().filter(|node| **node != own) {
        let id = node.to_string();
        if !nodes.iter().any(|other| other.id == id) {
            nodes.push(OtherNode { id, position: position(node.as_bytes()), domains: Vec::new(), link: None });
        }
    }
    let serves = overlay.role().serves;
    let known = overlay.nodes_known().max(nodes.len());
    Json(Overlay { own: OwnNode { id: own.to_string(), position: position(own.as_bytes()), serves }, nodes, known })
}

/// Where an address has its place, who stores it, and what stands there.
#[utoipa::path(get, path = "/admin/overlay/place", tag = "admin", params(Wanted), responses(
    (status = 200, body = Place), (status = 400, body = Failure), (status = 401, body = Failure), (status = 403, body = Failure),
    (status = 504, body = Failure, description = "`timeout`: the overlay does not answer"),
))]
pub(in crate::web::api) async fn place(
    _: Administrator,
    State(site): State<Arc<Site>>,
    Asked(Wanted { address }): Asked<Wanted>,
) -> Result<Json<Place>, Failure> {
    let bare = name::without_scheme(&address);
    let name = match bare.contains('@') {
        true => meshtone_identity::address::normalise(bare).map_err(|_| Failure::bad_request("this is no address"))?,
        // As it is dialled here.
        false => site.exchange.address_of(&site.exchange.user(bare).unwrap_or_else(|| bare.to_ascii_lowercase())),
    };
    let place = *ResourceId::of_name(&name).as_bytes();
    let mut nodes = site.overlay.known_nodes();
    nodes.push(site.overlay.node_id());
    nodes.sort_by_key(|node| Position(*node.as_bytes()).distance(Position(place)));
    nodes.dedup();
    let closest = nodes.iter().take(DEFAULT_REPLICAS).map(NodeId::to_string).collect();
    let mut found = Vec::new();
    for kind in [Kind::SipRegistration, Kind::Member] {
        let entries = site.overlay.fetch(kind, &name).await.map_err(|error| {
            let hint = "try again; the overview says whether this node has links";
            Failure::new(StatusCode::GATEWAY_TIMEOUT, "timeout", format!("the overlay does not say: {error}"), hint)
        })?;
        found.extend(entries.iter().map(|entry| Found { by: entry.writer.to_string(), kind: kind.to_string() }));
    }
    Ok(Json(Place { address: name, position: position(&place), closest, found }))
}

/// A place as a part of the ring.
fn position(id: &[u8; 32]) -> f64 {
    let leading = id.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    f64::from(leading) / 2_f64.powi(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_part_of_the_ring() {
        assert!(position(&[0; 32]).abs() < f64::EPSILON);
        let mut half = [0; 32];
        half[0] = 0x80;
        assert!((position(&half) - 0.5).abs() < f64::EPSILON);
        assert!(position(&[0xff; 32]) < 1.0);
    }
}
