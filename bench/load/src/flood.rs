//! RTP packets over given flows, counted when they come out of a relay.

use std::net::SocketAddr;
use std::time::Instant;

use crate::net::{self, Rx, Tx};
use crate::procfs::{self, Cpu};

/// What was relayed in 20 ms of silence will not come any more: its room in the window is given back.
const SILENCE_MS: u128 = 20;

pub struct Plan {
    /// Bytes of a packet, the RTP header counted.
    pub size: usize,
    /// Packets a second; 0: as many as the window lets.
    pub rate: f64,
    /// Packets on their way at once.
    pub window: u64,
    /// Seconds before anything is counted, and seconds counted.
    pub warmup: f64,
    pub duration: f64,
    /// The relay's process tree.
    pub pid: i32,
    pub label: String,
}

struct Flow {
    rx: Rx,
    tx: Tx,
    number: u16,
    /// Before each packet: the header of TURN's ChannelData (RFC 8656 §12.4), where the relay is a TURN server.
    header: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Snap {
    at: Instant,
    cpu: Cpu,
    sent: u64,
    relayed: u64,
    own: u64,
}

/// Sends from each flow's own address to its port of the relay (lines `LOCAL PORT`, or `LOCAL PORT CHANNEL` to a TURN server), and counts
/// what arrives at any of them.
pub fn run(flows: &str, plan: &Plan) -> std::io::Result<()> {
    let mut flows: Vec<Flow> =
        flows.lines().filter(|line| !line.trim().is_empty()).map(|line| open(line, plan.size)).collect::<Result<_, _>>()?;
    let mut packet = vec![0; plan.size.max(12)];
    (packet[0], packet[1]) = (0x80, 8);
    let start = Instant::now();
    let (mut sent, mut relayed, mut lost, mut next, mut heard) = (0_u64, 0_u64, 0_u64, 0, start);
    let snap = |sent, relayed| Snap {
        at: Instant::now(),
        cpu: if plan.pid > 0 { Cpu::of_tree(plan.pid) } else { Cpu::default() },
        sent,
        relayed,
        own: procfs::self_cpu_ns(),
    };
    let mut first: Option<Snap> = None;
    let last = loop {
        let now = start.elapsed().as_secs_f64();
        if first.is_none() && now >= plan.warmup {
            first = Some(snap(sent, relayed));
        }
        if now >= plan.warmup + plan.duration {
            break snap(sent, relayed);
        }
        let due = if plan.rate > 0.0 {
            ((now * plan.rate) as u64).saturating_sub(sent)
        } else {
            plan.window.saturating_sub(sent - relayed - lost)
        };
        for _ in 0..due.min(256) {
            let source = next as u32 + 1;
            let flow = &mut flows[next];
            flow.number = flow.number.wrapping_add(1);
            packet[2..4].copy_from_slice(&flow.number.to_be_bytes());
            packet[4..8].copy_from_slice(&(u32::from(flow.number) * 160).to_be_bytes());
            packet[8..12].copy_from_slice(&source.to_be_bytes());
            flow.tx.push(|datagram| {
                datagram.extend_from_slice(&flow.header);
                datagram.extend_from_slice(&packet);
            });
            next = (next + 1) % flows.len();
            sent += 1;
        }
        let before = relayed;
        for flow in &mut flows {
            flow.tx.flush();
            flow.rx.poll(|datagram| relayed += u64::from(datagram.len() >= packet.len()));
        }
        if relayed > before {
            heard = Instant::now();
        } else if heard.elapsed().as_millis() > SILENCE_MS {
            (lost, heard) = (sent - relayed, Instant::now());
        }
    };
    let first = first.unwrap_or(last);
    let seconds = (last.at - first.at).as_secs_f64();
    let (sent, relayed) = (last.sent - first.sent, last.relayed - first.relayed);
    let cpu_ns = (last.cpu.ns - first.cpu.ns) as f64;
    println!(
        "{{\"label\":\"{}\",\"mode\":\"flood\",\"size\":{},\"flows\":{},\"rate\":{},\"secs\":{seconds:.3},\"sent\":{sent},\
         \"relayed\":{relayed},\"ops_s\":{:.0},\"lost_share\":{:.5},\"cpu_us_op\":{:.3},\"server_util\":{:.3},\"gen_cpu\":{:.3}}}",
        plan.label,
        packet.len(),
        flows.len(),
        plan.rate,
        relayed as f64 / seconds,
        1.0 - relayed as f64 / sent.max(1) as f64,
        cpu_ns / 1e3 / relayed.max(1) as f64,
        cpu_ns / 1e9 / seconds,
        (last.own - first.own) as f64 / 1e9 / seconds,
    );
    Ok(())
}

fn open(line: &str, size: usize) -> std::io::Result<Flow> {
    let bad = || std::io::Error::other("a line of flows is LOCAL PORT, both as IP:PORT, and maybe CHANNEL, a number");
    let mut words = line.split_whitespace();
    let mut address = || words.next().and_then(|word| word.parse::<SocketAddr>().ok()).ok_or_else(bad);
    let (local, port) = (address()?, address()?);
    let header = match words.next() {
        None => Vec::new(),
        Some(channel) => {
            let channel: u16 = channel.parse().map_err(|_| bad())?;
            let len = u16::try_from(size.max(12)).map_err(|_| bad())?;
            [channel.to_be_bytes(), len.to_be_bytes()].concat()
        }
    };
    let (rx, tx) = net::udp(local, port)?;
    Ok(Flow { rx, tx, number: 0, header })
}
