//! A bad network in user space: packets of a stream are lost, late and overtake each other, as a seed has it.
//!
//! It is driven by the packets themselves: each tick is one packet of the sender's, and what it holds back comes out at a later one.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::tone::mulaw_sine;

/// What a phone sends: a packet each 20 ms, 160 samples in it.
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Where chance begins.
    pub seed: u64,
    /// How many of a hundred packets are lost.
    pub loss_percent: u64,
    /// By how many packets' time a packet may be late.
    pub late_packets: u64,
}

impl Shape {
    /// A network that loses nothing and holds nothing back.
    pub const NONE: Shape = Shape { seed: 1, loss_percent: 0, late_packets: 0 };

    /// Which of `count` packets leave at each tick.
    fn departures(self, count: u64) -> BTreeMap<u64, Vec<u64>> {
        // Marsaglia's xorshift: the same packets are lost in every run.
        let mut state = self.seed;
        let mut below = move |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let mut ticks: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for number in 0..count {
            let late = below(self.late_packets + 1);
            if below(100) >= self.loss_percent {
                ticks.entry(number + late).or_default().push(number);
            }
        }
        ticks
    }
}

/// Sends a tone of `hz` as G.711 µ-law through such a network, for as many seconds.
pub fn send_tone(socket: UdpSocket, destination: SocketAddr, hz: f64, seconds: u32, shape: Shape) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let sound = mulaw_sine(hz, seconds);
        let frames: Vec<&[u8]> = sound.chunks_exact(SAMPLES).collect();
        let departures = shape.departures(frames.len() as u64);
        for tick in 0..=departures.keys().last().copied().unwrap_or_default() {
            for number in departures.get(&tick).into_iter().flatten() {
                let number = u32::try_from(*number).unwrap();
                let mut packet = vec![0x80, 0];
                packet.extend(u16::try_from(number).unwrap().to_be_bytes());
                packet.extend((number * SAMPLES as u32).to_be_bytes());
                packet.extend(0x5eed_u32.to_be_bytes());
                packet.extend(frames[number as usize]);
                socket.send_to(&packet, destination).unwrap();
            }
            // A sender's clock, not a wait for anything.
            std::thread::sleep(PACKET);
        }
    })
}
