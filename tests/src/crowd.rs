//! Many at once: sources of their own in 127.0.0.0/8, which is all this machine's, and the files that so many sockets need.

use std::io::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Sources in one block; a /16 of loopback has more than any test wants.
const MAX_SOURCES: u32 = 65_000;

/// `count` addresses that nobody else has, all in 127.`block`.0.0/16.
pub fn sources(block: u8, count: u32) -> Vec<Ipv4Addr> {
    assert!(count <= MAX_SOURCES, "a block has {MAX_SOURCES} sources");
    let first = u32::from(Ipv4Addr::new(127, block, 0, 1));
    (0..count).map(|number| Ipv4Addr::from(first + number)).collect()
}

/// Connects over TCP from this address.
///
/// # Errors
/// Those of the socket.
pub fn connect_from(source: Ipv4Addr, server: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect(&server.into())?;
    Ok(socket.into())
}

/// Lets this process open so many files; nodes that it starts from then on, too.
#[track_caller]
pub fn allow_files(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        let is_allowed = setrlimit(Resource::Nofile, limit).is_ok();
        assert!(is_allowed, "this test opens {wanted} files\nhint: raise the hard limit, `ulimit -Hn`");
    }
}
