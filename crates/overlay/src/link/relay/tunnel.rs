//! The way to relays over TCP: iroh connects to them through a proxy (CONNECT, RFC 9110 §9.3.6) of our own, on loopback.
//!
//! iroh fails at a relay that is gone, waits up to 16 s before it tries again, and drops nothing meanwhile of what is to go there: after
//! 64 packets everything waits that is to go through *any* relay (1.4; see iroh#4476). So a dial must not fail soon. Here it is held until
//! the relay answers, which is tried twice a second: as long as a dial lasts, iroh drops what waits for it, and when the relay or our line
//! is back, the connection is there at once. What passes is TLS between iroh and the relay. Address discovery goes over UDP, past this.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, trace};

use super::book::Book;
use super::name;

/// Connections at once: those to relays in use, measurements, and what is held of dials that iroh has given up.
const MAX_TUNNELS: usize = 128;

/// Largest head of a request for a tunnel; those of iroh have some 200 bytes.
const MAX_HEAD: usize = 2048;

/// How long the head may take: it comes from this machine.
const HEAD_WITHIN: Duration = Duration::from_secs(2);

/// How long a relay may take to answer before it is tried again: a network that comes back is noticed within that time.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two attempts.
const RETRY: Duration = Duration::from_millis(500);

/// iroh gives a dial up after 10 s.
const HOLD: Duration = Duration::from_secs(12);

/// How long it takes until the kernel asks a silent relay whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Listens on loopback; returns where. The listener ends when `end` does.
///
/// # Errors
/// What the system says.
pub(crate) async fn start(book: Book, end: impl Future<Output = ()> + Send + 'static) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        tokio::select! {
            () = accept(listener, book) => {}
            () = end => {}
        }
    });
    Ok(address)
}

async fn accept(listener: TcpListener, book: Book) {
    let places = Arc::new(Semaphore::new(MAX_TUNNELS));
    // They end with this.
    let mut tunnels = JoinSet::new();
    loop {
        while tunnels.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                    debug!("too many connections to relays");
                    continue;
                };
                let book = book.clone();
                tunnels.spawn(async move {
                    if let Err(error) = serve(stream, &book).await {
                        trace!(%error, "a connection to a relay ended");
                    }
                    drop(place);
                });
            }
            // Out of descriptors, most likely: let others close theirs.
            Err(_) => sleep(RETRY).await,
        }
    }
}

async fn serve(mut client: TcpStream, book: &Book) -> io::Result<()> {
    let _ = client.set_nodelay(true);
    let Some(target) = timeout(HEAD_WITHIN, read_target(&mut client)).await?? else { return Ok(()) };
    let mut relay = tokio::select! {
        relay = timeout(HOLD, reach(book, &target)) => relay?,
        // It has given up.
        () = gives_up(&client) => return Ok(()),
    };
    client.write_all(ESTABLISHED).await?;
    copy_bidirectional(&mut client, &mut relay).await?;
    Ok(())
}

/// Waits until the client hangs up, or says something before it is answered, which would be against the rules.
async fn gives_up(client: &TcpStream) {
    let _ = client.peek(&mut [0]).await;
}

/// Reads the head of a request, and returns the host and port that it asks for; none where it asks for something else.
async fn read_target(client: &mut TcpStream) -> io::Result<Option<Target>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Ok(None);
        }
        // Byte by byte, so that nothing is taken of what follows; it is a hundred or two, and from this machine.
        head.push(client.read_u8().await?);
    }
    Ok(Target::parse(&head))
}

/// What a tunnel leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The host, as it is written.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Target {
    /// Reads the first line of a request (`CONNECT host:port HTTP/1.1`); `None` where it asks for something else.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(head).ok()?.lines().next()?;
        let authority = line.strip_prefix("CONNECT ")?.split(' ').next()?;
        let (host, port) = authority.rsplit_once(':')?;
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// Tries a relay until it answers, wherever it is by then.
async fn reach(book: &Book, target: &Target) -> TcpStream {
    let key = name::key_of(&target.host);
    loop {
        let hosts = key.map(|key| book.hosts_of(key)).unwrap_or_default();
        let connected = connect(&hosts, target.port).await;
        if let Some(key) = key {
            book.note(key, target.port, Instant::now(), connected.is_some());
        }
        if let Some(stream) = connected {
            return stream;
        }
        sleep(RETRY).await;
    }
}

/// Connects to whichever of these answers first.
async fn connect(hosts: &[IpAddr], port: u16) -> Option<TcpStream> {
    let mut attempts = JoinSet::new();
    for host in hosts.iter().copied() {
        attempts.spawn(async move { timeout(CONNECT_WITHIN, TcpStream::connect((host, port))).await.ok()?.ok() });
    }
    while let Some(attempt) = attempts.join_next().await {
        if let Ok(Some(stream)) = attempt {
            let _ = stream.set_nodelay(true);
            let keep_alive = socket2::TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
            let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive);
            return Some(stream);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::pending;

    use meshtone_identity::LinkKey;

    use super::*;

    #[test]
    fn a_request_names_its_target_and_whatever_else_is_none() {
        let target = |head: &str| Target::parse(head.as_bytes()).map(|target| (target.host, target.port));
        let wanted = Some(("a.relay.alt.".to_owned(), 8443));
        assert_eq!(target("CONNECT a.relay.alt.:8443 HTTP/1.1\r\nhost: a\r\n\r\n"), wanted);
        for head in
            ["", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "CONNECT a HTTP/1.1\r\n\r\n", "CONNECT a:x HTTP/1.1\r\n\r\n"]
        {
            assert_eq!(target(head), None, "{head}");
        }
    }

    #[tokio::test]
    async fn a_dial_is_held_until_the_relay_is_there_and_then_carries_both_ways() {
        let (book, key) = (Book::default(), LinkKey::from_bytes([7; 32]));
        book.set(key, &[Ipv4Addr::LOCALHOST.into()]);
        let tunnel = start(book, pending()).await.unwrap();
        // Nobody listens there yet.
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = relay.local_addr().unwrap().port();
        drop(relay);
        let mut client = TcpStream::connect(tunnel).await.unwrap();
        let asked = format!("CONNECT {}:{port} HTTP/1.1\r\n\r\n", name::host_of(key));
        client.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = [0; ESTABLISHED.len()];
        assert!(timeout(Duration::from_millis(300), client.read_exact(&mut answer)).await.is_err(), "not yet");
        let relay = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        let (mut far, _) = relay.accept().await.unwrap();
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, ESTABLISHED);
        client.write_all(b"there").await.unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.unwrap();
        far.write_all(b"again").await.unwrap();
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"again");
    }
}
