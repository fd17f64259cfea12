//! Calls between two ends behind NAT boxes, played packet by packet: each end finds its addresses at a STUN and TURN server (the node's own
//! machine, [`meshtone_media::turn`]), tells the other, and both check every pair of them (RFC 8445, without its pacing and roles). What
//! comes out is how the sound of that call would go.
//!
//! Not simulated are loss and delay: they change when a way is found, not which.

mod boxes;
mod end;
pub mod mix;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use meshtone_media::stun::Family;
use meshtone_media::turn::{
    Client, Host, Limits, Login, Outcome, Port, Reach, RelayId, Server, ToClient, data_indication,
};

pub use boxes::Network;
use boxes::PacketBox;
use end::End;

/// How the sound of a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// From one end to the other.
    Direct,
    /// Through a relay that both ends, or the one that uses it, speak to over UDP.
    RelayedUdp,
    /// Through a relay that an end speaks to over TCP, since it cannot otherwise.
    RelayedTcp,
    /// Not at all.
    None,
}

/// The STUN and TURN server's address.
const SERVER: ([u8; 4], u16) = ([203, 0, 113, 1], 3478);
/// The key of everybody's login.
const KEY: [u8; 16] = [7; 16];
/// Rounds of checks: the first one opens boxes, the second gets through them, the third answers what the second has found.
const ROUNDS: usize = 4;
/// Packets of one call at most; one that needs more does not come to an end.
const MAX_PACKETS: usize = 10_000;

/// Something on its way.
#[derive(Debug, Clone)]
struct Packet {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// The server's own sockets.
#[derive(Debug, Default)]
struct Relays {
    open: Vec<(RelayId, SocketAddr)>,
    random: u8,
}

impl Host for Relays {
    fn login(&mut self, username: &str) -> Option<Login> {
        Some(Login { owner: username.to_owned(), key: KEY, stamp: 0 })
    }

    fn reach(&self, _: SocketAddr) -> Reach {
        Reach::Always
    }

    fn has_family(&self, family: Family) -> bool {
        family == Family::V4
    }

    fn open(&mut self, relay: RelayId, _: Family, _: Port) -> Option<SocketAddr> {
        let port = 50_000 + u16::try_from(relay.0).ok()?;
        let address = SocketAddr::from((SERVER.0, port));
        self.open.push((relay, address));
        Some(address)
    }

    fn close(&mut self, relay: RelayId) {
        self.open.retain(|(open, _)| *open != relay);
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        self.random = self.random.wrapping_add(1);
        bytes.fill(self.random);
    }
}

/// A call: two ends, a box before each, and the server.
struct Call {
    now: Instant,
    server: Server,
    relays: Relays,
    ends: [End; 2],
    boxes: [PacketBox; 2],
    on_their_way: Vec<Packet>,
    carried: usize,
}

/// Plays a call between ends in these networks, and says how its sound would go. `start` is any moment; `seed` decides which ports
/// boxes choose.
pub fn play(start: Instant, networks: [Network; 2], seed: u64) -> Way {
    let [one, other] = networks;
    let mut call = Call {
        now: start,
        server: Server::new(start, "sim.test", [3; 32], Limits::default()),
        relays: Relays::default(),
        ends: [End::new(0), End::new(1)],
        boxes: [PacketBox::new(one, 0, seed), PacketBox::new(other, 1, seed ^ 0x9e37_79b9_7f4a_7c15)],
        on_their_way: Vec::new(),
        carried: 0,
    };
    for index in 0..2 {
        call.gather(index);
    }
    let candidates = [call.ends[0].candidates(), call.ends[1].candidates()];
    for (index, theirs) in [(0, &candidates[1]), (1, &candidates[0])] {
        call.permit(index, theirs);
    }
    for _ in 0..ROUNDS {
        call.now += Duration::from_millis(50);
        for (index, theirs) in [(0, &candidates[1]), (1, &candidates[0])] {
            for packet in call.ends[index].checks(theirs) {
                call.leave(index, packet);
            }
        }
        call.settle();
    }
    // The call goes the way that both ends have found.
    let [one, other] = &call.ends;
    one.best().max(other.best())
}

impl Call {
    /// An end finds what others may reach it by.
    fn gather(&mut self, index: usize) {
        for packet in self.ends[index].ask() {
            self.leave(index, packet);
        }
        self.settle();
        if !self.ends[index].heard_over_udp() {
            self.ends[index].use_connection();
            for packet in self.ends[index].ask() {
                self.leave(index, packet);
            }
            self.settle();
        }
    }

    fn permit(&mut self, index: usize, theirs: &[SocketAddr]) {
        for packet in self.ends[index].permissions(theirs) {
            self.leave(index, packet);
        }
        self.settle();
    }

    /// A packet of an end on its way through its box. What it sends over its connection passes every box.
    fn leave(&mut self, index: usize, packet: Packet) {
        if self.ends[index].is_connection(packet.from) {
            self.on_their_way.push(packet);
        } else if let Some(packet) = self.boxes[index].leave(packet) {
            self.on_their_way.push(packet);
        }
    }

    /// Carries what is on its way until nothing is.
    fn settle(&mut self) {
        while let Some(packet) = self.on_their_way.pop() {
            self.carried += 1;
            assert!(self.carried < MAX_PACKETS, "a call without an end");
            self.arrive(packet);
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, bytes } = packet;
        if to == SocketAddr::from(SERVER) {
            return self.at_server(from, &bytes);
        }
        let relay = self.relays.open.iter().find(|(_, address)| *address == to).map(|(relay, _)| *relay);
        if let Some(relay) = relay {
            return self.at_relay(relay, from, &bytes);
        }
        let behind = self.boxes.iter_mut().position(|one| one.is_at(to.ip()));
        let Some(index) = behind else { return };
        let is_connection = self.ends[index].is_connection(to);
        let inside = if is_connection { Some(to) } else { self.boxes[index].arrive(from, to) };
        if let Some(inside) = inside {
            for answer in self.ends[index].handle(inside, from, &bytes) {
                self.leave(index, answer);
            }
        }
    }

    fn at_server(&mut self, from: SocketAddr, bytes: &[u8]) {
        let client = match self.ends.iter().position(|end| end.is_connection(from)) {
            Some(index) => Client::Connection { number: u64::from(index == 1), remote: from },
            None => Client::Datagrams { listener: 0, remote: from },
        };
        match self.server.handle_client(self.now, client, bytes, &mut self.relays) {
            // Ends ask for neither, and the server has one address.
            Outcome::Nothing | Outcome::AnswerFrom { .. } | Outcome::Connect { .. } | Outcome::Join { .. } => {}
            Outcome::Answer(answer) => {
                self.on_their_way.push(Packet { from: SERVER.into(), to: from, bytes: answer });
            }
            Outcome::ToPeer { relay, peer, data } => {
                let relayed = self.relays.open.iter().find(|(open, _)| *open == relay).map(|(_, address)| *address);
                if let (Some(from), Some(data)) = (relayed, bytes.get(data)) {
                    self.on_their_way.push(Packet { from, to: peer, bytes: data.to_vec() });
                }
            }
        }
    }

    fn at_relay(&mut self, relay: RelayId, peer: SocketAddr, bytes: &[u8]) {
        let Some(ToClient { client, .. }) = self.server.handle_peer(self.now, relay, peer, bytes.len()) else { return };
        let bytes = data_indication(peer, bytes, [9; 12]);
        self.on_their_way.push(Packet { from: SERVER.into(), to: client.remote(), bytes });
    }
}

/// The address of the box, or of the end where there is none, of the first or the second end.
fn outside(index: usize) -> IpAddr {
    IpAddr::from([198, 51, 100, if index == 0 { 1 } else { 2 }])
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the start of a test's own time")]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_networks_finds_the_best_way_there_is() {
        use Network::{Blocked, Cone, PortRestricted, Public, Symmetric};
        let now = Instant::now();
        for (one, other, way) in [
            (Public, Public, Way::Direct),
            (Public, Cone, Way::Direct),
            (Public, Symmetric, Way::Direct),
            (Cone, Cone, Way::Direct),
            (Cone, Symmetric, Way::Direct),
            (PortRestricted, PortRestricted, Way::Direct),
            (PortRestricted, Symmetric, Way::RelayedUdp),
            (Symmetric, Symmetric, Way::RelayedUdp),
            (Blocked, Public, Way::RelayedTcp),
            (Blocked, Cone, Way::RelayedTcp),
            (Blocked, Symmetric, Way::RelayedTcp),
            (Blocked, Blocked, Way::RelayedTcp),
        ] {
            for seed in 0..5 {
                assert_eq!(play(now, [one, other], seed), way, "{one:?} calls {other:?}");
                assert_eq!(play(now, [other, one], seed), way, "{other:?} calls {one:?}");
            }
        }
    }
}
