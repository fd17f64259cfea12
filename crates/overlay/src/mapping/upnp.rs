//! Messages of UPnP's Internet Gateway Device (IGD:1, and :2 as far as it is the same): how a router is found to be one, where it takes
//! orders, what it is ordered and what it answers. Pure.
//!
//! A router is asked itself, not everybody on the network: SSDP by unicast (UPnP Device Architecture 1.1, 1.3.2). Whatever address it
//! names for what comes next has to be its own; there are no redirections. What is read are documents of bounded size, without a DTD.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use roxmltree::{Document, Node, ParsingOptions};

use super::Transport;

/// The port of SSDP.
pub(crate) const PORT: u16 = 1900;

/// Largest description of a device, and largest answer to an order: those of routers have some kilobytes.
pub const MAX_DOCUMENT: usize = 128 * 1024;

/// Elements of such a document.
const MAX_NODES: u32 = 16 * 1024;

/// Longest path that a router may give; it is sent back to it.
const MAX_PATH: usize = 1024;

/// Services that map ports, as they are named without their version.
const SERVICES: [&str; 2] =
    ["urn:schemas-upnp-org:service:WANIPConnection:", "urn:schemas-upnp-org:service:WANPPPConnection:"];

/// Where a router takes orders, on one of its own ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The port of its web server.
    pub port: u16,
    /// The path, with a slash at its beginning.
    pub path: String,
}

/// What maps ports in a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where it takes orders.
    pub control: Place,
    /// By which name.
    pub kind: String,
}

/// Returns what a router is asked, to find out whether it maps ports.
pub fn search(router: SocketAddr) -> String {
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {router}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )
}

/// Reads from the answer where the router's description is; none where it is elsewhere.
pub fn location(answer: &[u8], router: IpAddr) -> Option<Place> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    let mut status = lines.next()?.split(' ');
    if !status.next()?.starts_with("HTTP/1.") || status.next()? != "200" {
        return None;
    }
    let fields = lines.map_while(|line| line.split_once(':'));
    let mut locations = fields.filter(|(name, _)| name.eq_ignore_ascii_case("location"));
    Place::of_url(locations.next()?.1.trim(), router)
}

/// Reads from a router's description, which is at `place`, what maps ports; none where nothing does.
pub fn service(description: &[u8], place: &Place, router: IpAddr) -> Option<Service> {
    with_document(description, |document| {
        let base = child(document.root_element(), "URLBase").and_then(|base| Place::of_url(base, router));
        let services = document.descendants().filter(|node| node.tag_name().name() == "service");
        services
            .filter_map(|node| {
                let kind = child(node, "serviceType")?;
                let version = SERVICES.iter().find_map(|service| kind.strip_prefix(service))?;
                version.parse::<u8>().ok()?;
                let control = child(node, "controlURL")?;
                let control = match Place::of_url(control, router) {
                    Some(place) => place,
                    None if control.contains("://") => return None,
                    None => Place::at(
                        base.as_ref().unwrap_or(place).port,
                        &format!("/{}", control.trim_start_matches('/')),
                    )?,
                };
                Some(Service { control, kind: kind.to_owned() })
            })
            .next()
    })
}

impl Place {
    fn at(port: u16, path: &str) -> Option<Self> {
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        (port != 0 && is_plain && path.starts_with('/') && path.len() <= MAX_PATH)
            .then(|| Self { port, path: path.to_owned() })
    }

    /// Reads a URL of the router's own web server.
    fn of_url(url: &str, router: IpAddr) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let at: SocketAddr = authority.parse().or_else(|_| format!("{authority}:80").parse()).ok()?;
        if at.ip() != router {
            return None;
        }
        Self::at(at.port(), if path.is_empty() { "/" } else { path })
    }
}

/// An order to a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// What is your address outside?
    Address,
    /// Packets to one of your ports are to come to one of ours.
    Add {
        /// UDP or TCP.
        transport: Transport,
        /// The router's port.
        outside: u16,
        /// Our address and port.
        inside: SocketAddr,
        /// For so many seconds; 0 until it is taken back.
        lease_s: u32,
    },
    /// No longer.
    Delete {
        /// UDP or TCP.
        transport: Transport,
        /// The router's port.
        outside: u16,
    },
}

impl Order {
    /// By which name the order is given.
    pub fn action(&self) -> &'static str {
        match self {
            Order::Address => "GetExternalIPAddress",
            Order::Add { .. } => "AddPortMapping",
            Order::Delete { .. } => "DeletePortMapping",
        }
    }

    /// Returns the order as it is sent to a service (SOAP 1.1). Nothing in it has to be escaped: numbers, addresses, and a service's name
    /// that was read as letters of a URN.
    pub fn body(&self, service: &Service) -> String {
        let action = self.action();
        let mut arguments = String::new();
        let mut argument = |name: &str, value: &dyn std::fmt::Display| {
            let _ = write!(arguments, "<{name}>{value}</{name}>");
        };
        match self {
            Order::Address => {}
            Order::Add { transport, outside, inside, lease_s } => {
                argument("NewRemoteHost", &"");
                argument("NewExternalPort", outside);
                argument("NewProtocol", &upper(*transport));
                argument("NewInternalPort", &inside.port());
                argument("NewInternalClient", &inside.ip());
                argument("NewEnabled", &1);
                argument("NewPortMappingDescription", &"Meshtone");
                argument("NewLeaseDuration", lease_s);
            }
            Order::Delete { transport, outside } => {
                argument("NewRemoteHost", &"");
                argument("NewExternalPort", outside);
                argument("NewProtocol", &upper(*transport));
            }
        }
        format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{}\">{arguments}</u:{action}>\
             </s:Body></s:Envelope>",
            service.kind
        )
    }
}

/// What a router answers to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Its address outside.
    Address(Ipv4Addr),
    /// It will not, by its error code.
    Refused(u16),
}

/// Leases are not known there: a mapping stays until it is taken back (WANIPConnection:1 §2.4.16).
pub(crate) const ONLY_PERMANENT: u16 = 725;

/// Somebody else has that port.
pub(crate) const CONFLICT: u16 = 718;

/// Reads the answer to an order; none where it is none.
pub fn outcome(order: &Order, answer: &[u8]) -> Option<Outcome> {
    with_document(answer, |document| {
        if let Some(code) = text_of(document, "errorCode") {
            return code.parse().ok().map(Outcome::Refused);
        }
        let name = format!("{}Response", order.action());
        document.descendants().find(|node| node.tag_name().name() == name)?;
        match order {
            Order::Address => Some(Outcome::Address(text_of(document, "NewExternalIPAddress")?.parse().ok()?)),
            Order::Add { .. } | Order::Delete { .. } => Some(Outcome::Done),
        }
    })
}

fn with_document<T>(bytes: &[u8], read: impl FnOnce(&Document<'_>) -> Option<T>) -> Option<T> {
    if bytes.len() > MAX_DOCUMENT {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}').trim_start();
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    read(&Document::parse_with_options(text, options).ok()?)
}

fn child<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    node.children().find(|node| node.tag_name().name() == name)?.text().map(str::trim)
}

fn text_of<'a>(document: &'a Document<'_>, name: &str) -> Option<&'a str> {
    document.descendants().find(|node| node.tag_name().name() == name)?.text().map(str::trim)
}

fn upper(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));

    fn found(location_line: &str) -> Option<(u16, String)> {
        let answer = format!("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n{location_line}\r\nEXT:\r\n\r\n");
        location(answer.as_bytes(), ROUTER).map(|place| (place.port, place.path))
    }

    #[test]
    fn a_router_is_believed_only_what_it_says_of_itself() {
        let at = |port, path: &str| Some((port, path.to_owned()));
        assert_eq!(found("LOCATION: http://192.168.1.1:5000/rootDesc.xml"), at(5000, "/rootDesc.xml"));
        assert_eq!(found("location:http://192.168.1.1"), at(80, "/"));
        for elsewhere in [
            "LOCATION: http://192.168.1.10:5000/rootDesc.xml",
            "LOCATION: http://127.0.0.1:8080/api",
            "LOCATION: http://192.168.1.1@198.51.100.1/",
            "LOCATION: http://router.example/",
            "LOCATION: https://192.168.1.1/",
            "LOCATION: file:///etc/passwd",
            "LOCATION: http://192.168.1.1:0/",
            "LOCATION: http://192.168.1.1/a b",
            "LOCATION:",
            "X: y",
        ] {
            assert_eq!(found(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.168.1.1/\r\n\r\n", ROUTER), None);
        assert_eq!(location(b"HTTP/1.1 500 No\r\nLOCATION: http://192.168.1.1/\r\n\r\n", ROUTER), None);
    }

    fn described(base: &str, kind: &str, control: &str) -> Option<Service> {
        let text = format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\">{base}<device><deviceList><device>\
             <serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>\
             <controlURL>/other</controlURL></service><service><serviceType>{kind}</serviceType>\
             <controlURL>{control}</controlURL></service></serviceList></device></deviceList></device></root>"
        );
        service(text.as_bytes(), &Place { port: 5000, path: "/rootDesc.xml".to_owned() }, ROUTER)
    }

    #[test]
    fn what_maps_ports_is_found_in_a_description_whatever_stands_around_it() {
        let kind = "urn:schemas-upnp-org:service:WANIPConnection:1";
        let at = |port, path: &str| Some((port, path.to_owned()));
        let control = |base: &str, control: &str| {
            described(base, kind, control).map(|service| (service.control.port, service.control.path))
        };
        assert_eq!(control("", "/ctl/IPConn"), at(5000, "/ctl/IPConn"));
        assert_eq!(control("", "ctl/IPConn"), at(5000, "/ctl/IPConn"));
        assert_eq!(control("<URLBase>http://192.168.1.1:1901/</URLBase>", "/ctl"), at(1901, "/ctl"));
        assert_eq!(control("", "http://192.168.1.1:1902/ctl"), at(1902, "/ctl"));
        assert_eq!(control("<URLBase>http://198.51.100.1:1/</URLBase>", "/ctl"), at(5000, "/ctl"), "not its own");
        assert_eq!(control("", "http://198.51.100.1/ctl"), None);
        assert!(described("", "urn:schemas-upnp-org:service:WANPPPConnection:1", "/ctl").is_some());
        assert!(described("", "urn:schemas-upnp-org:service:WANIPConnection:\"&gt;", "/ctl").is_none());
        assert!(described("", "urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1", "/ctl").is_none());
    }

    #[test]
    fn documents_that_would_eat_memory_are_refused() {
        let place = Place { port: 80, path: "/".to_owned() };
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><r>&b;</r>";
        assert_eq!(service(bomb.as_bytes(), &place, ROUTER), None);
        let deep = "<a>".repeat(MAX_DOCUMENT / 3);
        assert_eq!(service(deep.as_bytes(), &place, ROUTER), None);
        let wide = format!("<a>{}</a>", "<b/>".repeat(MAX_NODES.try_into().unwrap()));
        assert_eq!(service(wide.as_bytes(), &place, ROUTER), None);
    }

    #[test]
    fn an_order_is_answered_or_refused_by_a_number() {
        let answer =
            |body: &str| format!("<s:Envelope xmlns:s=\"s\" xmlns:u=\"u\"><s:Body>{body}</s:Body></s:Envelope>");
        let add = Order::Add {
            transport: Transport::Udp,
            outside: 6084,
            inside: "192.168.1.2:6084".parse().unwrap(),
            lease_s: 3600,
        };
        let done = answer("<u:AddPortMappingResponse/>");
        assert_eq!(outcome(&add, done.as_bytes()), Some(Outcome::Done));
        assert_eq!(outcome(&Order::Address, done.as_bytes()), None, "of another order");
        let fault = answer("<s:Fault><detail><UPnPError><errorCode>718</errorCode></UPnPError></detail></s:Fault>");
        assert_eq!(outcome(&add, fault.as_bytes()), Some(Outcome::Refused(CONFLICT)));
        let address = |ip: &str| {
            let body = format!(
                "<u:GetExternalIPAddressResponse><NewExternalIPAddress>{ip}</NewExternalIPAddress></u:GetExternalIPAddressResponse>"
            );
            outcome(&Order::Address, answer(&body).as_bytes())
        };
        assert_eq!(address(" 198.51.100.7 "), Some(Outcome::Address(Ipv4Addr::new(198, 51, 100, 7))));
        assert_eq!(address(""), None);
        assert_eq!(outcome(&add, b"<html>"), None);
        let service = Service {
            control: Place { port: 80, path: "/".to_owned() },
            kind: "urn:schemas-upnp-org:service:WANIPConnection:1".to_owned(),
        };
        let body = add.body(&service);
        assert!(body.contains("<NewInternalClient>192.168.1.2</NewInternalClient>") && body.contains("UDP"), "{body}");
        assert!(Document::parse(&body).is_ok());
    }
}
