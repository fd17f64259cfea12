//! The router, asked over sockets. They are connected to it, so that nobody else is heard, and nothing leaves for anybody else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use netwatch::interfaces::HomeRouter;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::upnp::{self, MAX_DOCUMENT, Order, Outcome, Place, Service};
use super::{is_inside, pcp};

/// How long an answer is waited for before the question is sent again, and at last given up (RFC 6886 §3.1 begins like this; a router
/// that is there answers within milliseconds).
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];

/// The same for SSDP: devices may wait a second before they answer.
const SEARCH_WAITS: [Duration; 2] = [Duration::from_millis(1200), Duration::from_millis(1800)];

/// Datagrams looked at while an answer is waited for: the router alone is heard, and should say one thing.
const MAX_HEARD: usize = 16;

/// How long a router's web server may take.
const WITHIN: Duration = Duration::from_secs(4);

/// The router, and our address towards it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Router {
    pub(crate) local: Ipv4Addr,
    pub(crate) router: Ipv4Addr,
    /// Where it speaks PCP.
    pub(crate) pcp: u16,
    /// Where it speaks SSDP.
    pub(crate) ssdp: u16,
}

/// Our address towards the Internet, by the routing table; nothing is sent. None where it is no private one.
pub(crate) fn local() -> Option<Ipv4Addr> {
    // Whoever is there: these networks are for documentation (RFC 5737).
    facing(Ipv4Addr::new(192, 0, 2, 1)).filter(|local| is_inside(*local))
}

fn facing(remote: Ipv4Addr) -> Option<Ipv4Addr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((remote, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(local) => Some(local),
        IpAddr::V6(_) => None,
    }
}

impl Router {
    /// Finds the router that the default route names, where this machine is behind one.
    pub(crate) async fn find() -> Option<Self> {
        local()?;
        let home = spawn_blocking(HomeRouter::new).await.ok()??;
        let IpAddr::V4(router) = home.gateway else { return None };
        let local = facing(router).filter(|local| is_inside(*local) && *local != router)?;
        Some(Self { local, router, pcp: pcp::PORT, ssdp: upnp::PORT })
    }

    /// Asks a question in PCP or NAT-PMP until `read` takes what comes for an answer.
    pub(crate) async fn ask<T>(&self, question: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        self.exchange(self.pcp, question, &WAITS, read).await
    }

    /// Finds out whether the router maps ports by UPnP, and where it takes orders.
    pub(crate) async fn upnp_service(&self) -> Option<Service> {
        let router = IpAddr::V4(self.router);
        let question = upnp::search(SocketAddr::new(router, self.ssdp));
        let location = |answer: &[u8]| upnp::location(answer, router);
        let place = self.exchange(self.ssdp, question.as_bytes(), &SEARCH_WAITS, location).await?;
        let request = Request::builder().method(Method::GET).body(Full::default()).ok()?;
        upnp::service(&self.request(&place, request).await?, &place, router)
    }

    /// Gives an order.
    pub(crate) async fn order(&self, service: &Service, order: &Order) -> Option<Outcome> {
        let request = Request::builder()
            .method(Method::POST)
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", format!("\"{}#{}\"", service.kind, order.action()))
            .body(Full::from(order.body(service)))
            .ok()?;
        upnp::outcome(order, &self.request(&service.control, request).await?)
    }

    async fn exchange<T>(
        &self,
        port: u16,
        question: &[u8],
        waits: &[Duration],
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let socket = UdpSocket::bind((self.local, 0)).await.ok()?;
        socket.connect((self.router, port)).await.ok()?;
        let (mut heard, mut buffer) = (0, vec![0; 2048]);
        for wait in waits {
            socket.send(question).await.ok()?;
            let until = Instant::now() + *wait;
            while let Ok(received) = timeout_at(until, socket.recv(&mut buffer)).await {
                // Nobody listens there, as the router says itself.
                let answer = buffer.get(..received.ok()?)?;
                if let Some(answer) = read(answer) {
                    return Some(answer);
                }
                heard += 1;
                if heard >= MAX_HEARD {
                    return None;
                }
            }
        }
        None
    }

    /// Sends a request to the router's web server and returns what it answered, whatever the status: refusals have a body, too.
    async fn request(&self, place: &Place, mut request: Request<Full<Bytes>>) -> Option<Bytes> {
        *request.uri_mut() = place.path.parse().ok()?;
        let host = format!("{}:{}", self.router, place.port);
        request.headers_mut().insert(HOST, host.parse().ok()?);
        request.headers_mut().insert(CONNECTION, "close".parse().ok()?);
        let ask = async {
            let socket = TcpSocket::new_v4().ok()?;
            socket.bind((self.local, 0).into()).ok()?;
            let stream = socket.connect((self.router, place.port).into()).await.ok()?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            let answer = async {
                let response = sender.send_request(request).await.ok()?;
                Some(Limited::new(response.into_body(), MAX_DOCUMENT).collect().await.ok()?.to_bytes())
            };
            let (mut connection, mut answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
            tokio::select! {
                answer = &mut answer => answer,
                // It has ended; what was read may still have to be handed over.
                _ = &mut connection => answer.await,
            }
        };
        timeout(WITHIN, ask).await.ok()?
    }
}
