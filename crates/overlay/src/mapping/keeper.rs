//! What is asked of the router when: all ports at the start and wherever this machine moves, again often enough to notice that the router
//! was restarted or has another address, and at the end that it closes what it opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::id::sha256;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info};

use super::pcp::{self, Answer, Request};
use super::router::{self, Router};
use super::upnp::{CONFLICT, ONLY_PERMANENT, Order, Outcome, Service};
use super::{MappedPort, MappingProtocol, PortMapping, Transport, WantedPort, is_address};

/// For how long a port is asked for: should this node end without a word, the router closes it then.
const LIFETIME_S: u32 = 3600;

/// How often the router is asked again, of one that opened something: by then it is noticed that it was restarted, or has another
/// address. One datagram a port in a network at home.
const AGAIN: Duration = Duration::from_secs(30);

/// The same where every question is an HTTP connection to a small machine.
const AGAIN_UPNP: Duration = Duration::from_secs(120);

/// The same of one that opens nothing, or is not there.
const LATER: Duration = Duration::from_secs(300);

/// Rounds in vain until that is believed: a router that restarts takes some minutes.
const PATIENCE: u32 = 10;

/// How often it is looked whether this machine has moved.
const LOOK: Duration = Duration::from_secs(2);

/// Ports of the router that are tried by UPnP, where somebody else has the one that we want.
const TRIES: usize = 4;

/// How long the router may take at the end.
const RELEASE_WITHIN: Duration = Duration::from_millis(1500);

/// Looks after the router's ports, until it is dropped.
pub(crate) struct Mapper {
    status: watch::Receiver<PortMapping>,
    again: Arc<Notify>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
}

impl Mapper {
    /// Begins to ask for these ports. The secret makes what the router knows us again by.
    pub(crate) fn start(ports: Vec<WantedPort>, secret: &[u8; 32]) -> Self {
        let (told, status) = watch::channel(PortMapping { is_allowed: true, ..PortMapping::default() });
        let (again, (stop, stopped)) = (Arc::new(Notify::new()), mpsc::channel(1));
        let keeper = Keeper {
            ports,
            secret: sha256(&[&b"port mapping"[..], secret].concat()),
            way: None,
            made: Vec::new(),
            in_vain: 0,
            open: Vec::new(),
        };
        tokio::spawn(keeper.run(told, Arc::clone(&again), stopped));
        Self { status, again, stop }
    }

    /// How it stands.
    pub(crate) fn status(&self) -> watch::Receiver<PortMapping> {
        self.status.clone()
    }

    /// Something has changed: the router is asked at once.
    pub(crate) fn ask_again(&self) {
        self.again.notify_one();
    }

    /// Has the router close what it opened, and waits for that.
    pub(crate) async fn release(&self) {
        let (done, is_done) = oneshot::channel();
        if self.stop.send(done).await.is_ok() {
            let _ = timeout(RELEASE_WITHIN, is_done).await;
        }
    }
}

/// How a router is asked.
#[derive(Debug, Clone)]
enum Way {
    Pcp,
    NatPmp,
    Upnp(Service),
}

struct Keeper {
    ports: Vec<WantedPort>,
    secret: [u8; 32],
    /// The way that worked last, at which router, and what came of it.
    way: Option<(Router, Way)>,
    made: Vec<MappedPort>,
    /// Rounds since something was open.
    in_vain: u32,
    /// Whatever may be open, also of what was asked and not answered yet: at the end it is closed. One for each port and way.
    open: Vec<(Router, Way, MappedPort)>,
}

impl Keeper {
    async fn run(
        mut self,
        told: watch::Sender<PortMapping>,
        again: Arc<Notify>,
        mut stopped: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        loop {
            let was = router::local();
            tokio::select! {
                () = self.round(&told) => {}
                done = stopped.recv() => return self.release(done).await,
            };
            let wait = match &self.way {
                Some((_, Way::Pcp | Way::NatPmp)) => AGAIN,
                Some((_, Way::Upnp(_))) => AGAIN_UPNP,
                None if self.in_vain < PATIENCE => AGAIN,
                None => LATER,
            };
            let until = Instant::now() + wait;
            while Instant::now() < until && router::local() == was {
                tokio::select! {
                    () = sleep(LOOK) => {}
                    () = again.notified() => break,
                    done = stopped.recv() => return self.release(done).await,
                }
            }
        }
    }

    /// Asks for everything once, and tells what came of it.
    async fn round(&mut self, told: &watch::Sender<PortMapping>) {
        let router = Router::find().await;
        if self.way.as_ref().is_some_and(|(of, _)| Some(*of) != router) {
            self.way = None;
            self.made.clear();
            // Whoever opened it is not there any more.
            self.open.clear();
        }
        let mut status = PortMapping { is_allowed: true, ..PortMapping::default() };
        if let Some(router) = router {
            status.problem = self.ask(router).await.err();
            self.in_vain = if self.way.is_some() { 0 } else { self.in_vain.saturating_add(1) };
            status.router = Some(IpAddr::V4(router.router));
            status.protocol = self.way.as_ref().map(|(_, way)| way.protocol());
            status.ports = self.made.clone();
        }
        told.send_if_modified(|before| {
            let changed = *before != status;
            if changed {
                for MappedPort { transport, port, outside } in &status.ports {
                    info!(%transport, port, %outside, "the router lets others in");
                }
                debug!(?status, "what the router does for us has changed");
                *before = status;
            }
            changed
        });
    }

    /// Asks in the way that worked last, then in every other, until something is open.
    ///
    /// # Errors
    /// Why a port is not, or none.
    async fn ask(&mut self, router: Router) -> Result<(), String> {
        let ports: Vec<WantedPort> = self
            .ports
            .iter()
            .filter(|port| port.at.ip().is_unspecified() && port.at.is_ipv4() || port.at.ip() == router.local)
            .copied()
            .collect();
        if ports.is_empty() {
            return Err("this node does not listen at the address that faces the router".to_owned());
        }
        let mut why = "the router opens no ports: it answers neither PCP nor NAT-PMP nor UPnP".to_owned();
        let known = self.way.take();
        let before = std::mem::take(&mut self.made);
        if let Some((_, way)) = known {
            match self.ask_by(router, way, &ports, &before).await {
                Ok(Some(problem)) => return Err(problem),
                Ok(None) => return Ok(()),
                Err(problem) => why = problem.unwrap_or(why),
            }
        }
        for protocol in [MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp] {
            let way = match protocol {
                MappingProtocol::Pcp => Way::Pcp,
                MappingProtocol::NatPmp => Way::NatPmp,
                MappingProtocol::Upnp => match router.upnp_service().await {
                    Some(service) => Way::Upnp(service),
                    None => continue,
                },
            };
            match self.ask_by(router, way, &ports, &before).await {
                Ok(Some(problem)) => return Err(problem),
                Ok(None) => return Ok(()),
                Err(problem) => why = problem.unwrap_or(why),
            }
        }
        Err(why)
    }

    /// Asks in one way. What is open is noted at once, so that it can be taken back.
    ///
    /// # Errors
    /// Nothing is open, and why, if the router said so.
    async fn ask_by(
        &mut self,
        router: Router,
        way: Way,
        ports: &[WantedPort],
        before: &[MappedPort],
    ) -> Result<Option<String>, Option<String>> {
        let protocol = way.protocol();
        let outside = match &way {
            Way::Pcp => Ok(Ipv4Addr::UNSPECIFIED),
            Way::NatPmp => match router.ask(&pcp::NAT_PMP_ADDRESS, pcp::nat_pmp_address).await {
                Some(address) => address,
                None => return Err(None),
            },
            Way::Upnp(service) => match router.order(service, &Order::Address).await {
                Some(Outcome::Address(address)) => Ok(address),
                Some(Outcome::Refused(code)) => Err(code),
                Some(Outcome::Done) | None => return Err(None),
            },
        };
        let refused = |code: u16| format!("the router refuses to open a port ({protocol}, code {code})");
        let outside = outside.map_err(|code| Some(refused(code)))?;
        self.way = Some((router, way.clone()));
        let mut problem = None;
        for (index, port) in ports.iter().enumerate() {
            let had = before.iter().find(|had| had.transport == port.transport && had.port == port.at.port());
            let opened = match &way {
                Way::Pcp | Way::NatPmp => self.ask_datagram(router, &way, outside, *port, had).await,
                Way::Upnp(service) => self.order_port(router, service, outside, *port, had).await,
            };
            match opened {
                Opened::At(at) if is_address(at) && (!port.same || at.port() == port.at.port()) => {
                    let made = MappedPort { transport: port.transport, port: port.at.port(), outside: at };
                    self.note_open(router, &way, made);
                    self.made.push(made);
                }
                Opened::At(at) => {
                    // Of no use.
                    let made = MappedPort { transport: port.transport, port: port.at.port(), outside: at };
                    self.close(router, &way, made).await;
                    self.note_closed(&way, *port);
                    problem = Some(format!("the router opens {} {} as {at} only", port.transport, port.at.port()));
                }
                Opened::Refused(code) => {
                    self.note_closed(&way, *port);
                    problem = Some(refused(code));
                }
                // Whoever does not speak the protocol says nothing to the first question, and would to none.
                Opened::Silent if index == 0 => {
                    self.note_closed(&way, *port);
                    self.way = None;
                    return Err(None);
                }
                Opened::Silent => {
                    self.note_closed(&way, *port);
                    problem = Some(format!("the router did not answer ({protocol})"));
                }
            }
        }
        if self.made.is_empty() {
            self.way = None;
            return Err(problem);
        }
        Ok(problem)
    }

    fn note_open(&mut self, router: Router, way: &Way, port: MappedPort) {
        self.forget_open(way.protocol(), port.transport, port.port);
        self.open.push((router, way.clone(), port));
    }

    fn note_closed(&mut self, way: &Way, port: WantedPort) {
        self.forget_open(way.protocol(), port.transport, port.at.port());
    }

    fn forget_open(&mut self, protocol: MappingProtocol, transport: Transport, port: u16) {
        self.open
            .retain(|(_, way, open)| !(way.protocol() == protocol && open.transport == transport && open.port == port));
    }

    async fn ask_datagram(
        &mut self,
        router: Router,
        way: &Way,
        address: Ipv4Addr,
        port: WantedPort,
        had: Option<&MappedPort>,
    ) -> Opened {
        let wanted = had.map_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port.at.port())), |had| had.outside);
        let request = self.request(port.transport, port.at.port(), wanted, LIFETIME_S);
        let asked = MappedPort { transport: port.transport, port: port.at.port(), outside: wanted };
        self.note_open(router, way, asked);
        let answer = send(router, way, address, &request).await;
        match answer {
            Some(Answer::Mapped { outside, lifetime_s }) if lifetime_s > 0 => Opened::At(outside),
            Some(Answer::Mapped { .. } | Answer::OtherVersion) | None => Opened::Silent,
            Some(Answer::Refused(code)) => Opened::Refused(code),
        }
    }

    async fn order_port(
        &mut self,
        router: Router,
        service: &Service,
        address: Ipv4Addr,
        port: WantedPort,
        had: Option<&MappedPort>,
    ) -> Opened {
        let inside = SocketAddr::from((router.local, port.at.port()));
        let mut candidates: Vec<u16> = had.map(|had| had.outside.port()).into_iter().chain([port.at.port()]).collect();
        if !port.same {
            let more = sha256(&[&self.secret[..], &port.at.port().to_be_bytes()].concat());
            // Of the range that nobody has been given, and routers let anybody have.
            let pairs = more.chunks_exact(2).filter_map(|pair| pair.first_chunk().copied());
            candidates.extend(pairs.map(|pair| u16::from_be_bytes(pair) | 0x8000));
        }
        candidates.dedup();
        let mut last = Opened::Silent;
        for outside in candidates.into_iter().take(TRIES) {
            let add = |lease_s| Order::Add { transport: port.transport, outside, inside, lease_s };
            let at = SocketAddr::from((address, outside));
            let asked = MappedPort { transport: port.transport, port: port.at.port(), outside: at };
            self.note_open(router, &Way::Upnp(service.clone()), asked);
            let mut outcome = router.order(service, &add(LIFETIME_S)).await;
            if outcome == Some(Outcome::Refused(ONLY_PERMANENT)) {
                outcome = router.order(service, &add(0)).await;
            }
            last = match outcome {
                Some(Outcome::Done) => return Opened::At(at),
                Some(Outcome::Refused(CONFLICT)) => Opened::Refused(CONFLICT),
                Some(Outcome::Refused(code)) => return Opened::Refused(code),
                Some(Outcome::Address(_)) | None => return Opened::Silent,
            };
        }
        last
    }

    fn request(&self, transport: Transport, port: u16, outside: SocketAddr, lifetime_s: u32) -> Request {
        let of_port = [&self.secret[..], transport.to_string().as_bytes(), &port.to_be_bytes()].concat();
        let nonce = sha256(&of_port).first_chunk().copied().unwrap_or_default();
        Request { transport, port, outside, lifetime_s, nonce }
    }

    async fn release(self, done: Option<oneshot::Sender<()>>) {
        for (router, way, port) in &self.open {
            self.close(*router, way, *port).await;
        }
        // Whoever asked may have given up.
        let _ = done.map(|done| done.send(()));
    }

    async fn close(&self, router: Router, way: &Way, port: MappedPort) {
        let closed = match way {
            Way::Pcp | Way::NatPmp => {
                let request = self.request(port.transport, port.port, port.outside, 0);
                send(router, way, Ipv4Addr::UNSPECIFIED, &request).await.is_some()
            }
            Way::Upnp(service) => {
                let order = Order::Delete { transport: port.transport, outside: port.outside.port() };
                router.order(service, &order).await.is_some()
            }
        };
        debug!(?port, closed, "a port of the router is given back");
    }
}

impl Way {
    fn protocol(&self) -> MappingProtocol {
        match self {
            Way::Pcp => MappingProtocol::Pcp,
            Way::NatPmp => MappingProtocol::NatPmp,
            Way::Upnp(_) => MappingProtocol::Upnp,
        }
    }
}

/// What came of asking for a port.
enum Opened {
    At(SocketAddr),
    Refused(u16),
    Silent,
}

async fn send(router: Router, way: &Way, address: Ipv4Addr, request: &Request) -> Option<Answer> {
    match way {
        Way::Pcp => {
            let question = request.encode_pcp(router.local.into());
            router.ask(&question, |bytes| request.decode_pcp(bytes)).await
        }
        Way::NatPmp => router.ask(&request.encode_nat_pmp(), |bytes| request.decode_nat_pmp(bytes, address)).await,
        Way::Upnp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

    use tokio::net::{TcpListener, UdpSocket};

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn keeper() -> Keeper {
        let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6084));
        let ports = vec![WantedPort { transport: Transport::Udp, at, same: false }];
        Keeper { ports, secret: [7; 32], way: None, made: Vec::new(), in_vain: 0, open: Vec::new() }
    }

    /// A port of this machine that answers whatever it is sent. Returns its number.
    async fn answering(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
        let socket = UdpSocket::bind((HERE, 0)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                for bytes in answer(&buffer[..len]) {
                    let _ = socket.send_to(&bytes, from).await;
                }
            }
        });
        port
    }

    /// A router that answers what it is asked at each of its two ports.
    async fn router(
        pcp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
        ssdp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Router {
        let (pcp, ssdp) = (answering(pcp).await, answering(ssdp).await);
        Router { local: HERE, router: HERE, pcp, ssdp }
    }

    #[tokio::test]
    async fn a_router_of_before_pcp_is_asked_in_its_own_words() {
        let older = |question: &[u8]| {
            vec![match question {
                [0, 0] => vec![0, 128, 0, 0, 0, 0, 0, 9, 198, 51, 100, 7],
                [0, 1, 0, 0, a, b, c, d, ..] => vec![0, 129, 0, 0, 0, 0, 0, 9, *a, *b, *c, *d, 0, 0, 14, 16],
                // Whatever is of another version.
                _ => vec![0, 129, 0, 1, 0, 0, 0, 9],
            }]
        };
        let (router, mut keeper) = (router(older, |_| Vec::new()).await, keeper());
        keeper.ask(router).await.unwrap();
        let outside = "198.51.100.7:6084".parse().unwrap();
        assert_eq!(keeper.made, [MappedPort { transport: Transport::Udp, port: 6084, outside }]);
        assert!(matches!(keeper.way, Some((_, Way::NatPmp))));
    }

    #[tokio::test]
    async fn what_a_hostile_router_answers_leads_nowhere_and_is_told_to_nobody() {
        let elsewhere = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let place = elsewhere.local_addr().unwrap();
        // It says that everybody is to be called at loopback, and floods.
        let pcp = |question: &[u8]| {
            let mut answer = question.to_vec();
            answer.resize(60, 0);
            answer[1] |= 0x80;
            answer[44..].copy_from_slice(&Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets());
            let mut all = vec![vec![0xff; 1500]; 8];
            all.push(answer);
            all.extend(vec![vec![2, 0x81]; 100]);
            all
        };
        let ssdp = move |_: &[u8]| {
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{place}/rootDesc.xml\r\n\r\n");
            vec![answer.into_bytes(); 100]
        };
        let (router, mut keeper) = (router(pcp, ssdp).await, keeper());
        assert!(keeper.ask(router).await.is_err());
        assert!(keeper.made.is_empty() && keeper.way.is_none());
        let visited = timeout(Duration::from_millis(100), elsewhere.accept()).await;
        assert!(visited.is_err(), "somebody was led to another place");
    }
}
