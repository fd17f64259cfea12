//! Datagrams: a flow id as a variable-length integer (RFC 9000 §16), and a packet or a half of one.

use super::{FLOW_STEP, MAX_FLOW};

/// Bytes that may stand before a packet: the longest flow id, and the number of a half.
pub const FRAMING_LEN: usize = 9;

/// Packets of one flow whose other half has not come yet. Halves are sent one after the other, so more were overtaken or lost.
const MAX_HALVES: usize = 4;

/// What a datagram brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The flow, as its receiver named it.
    pub flow: u64,
    /// The packet, or what of it is in this datagram.
    pub piece: Piece<'a>,
}

/// A packet, or a half of one with the number that both halves have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its beginning.
    First(u8, &'a [u8]),
    /// The rest.
    Second(u8, &'a [u8]),
}

impl<'a> Framed<'a> {
    /// Reads a datagram; `None` for what is none of ours. Nothing is empty.
    pub fn parse(datagram: &'a [u8]) -> Option<Framed<'a>> {
        let (id, rest) = read_integer(datagram)?;
        let flow = id - id % FLOW_STEP;
        let half = || rest.split_first().filter(|(_, bytes)| !bytes.is_empty());
        let piece = match id % FLOW_STEP {
            0 => Piece::Whole(Some(rest).filter(|rest| !rest.is_empty())?),
            1 => half().map(|(number, bytes)| Piece::First(*number, bytes))?,
            2 => half().map(|(number, bytes)| Piece::Second(*number, bytes))?,
            _ => return None,
        };
        Some(Framed { flow, piece })
    }
}

/// Writes the one or two datagrams of a packet, none longer than `longest`; none at all where even two do not take it. `number` tells the
/// halves of this packet from those of others, so it is another one each time.
pub fn pieces(flow: u64, number: u8, packet: &[u8], longest: usize) -> Vec<Vec<u8>> {
    if !flow.is_multiple_of(FLOW_STEP) || flow >= MAX_FLOW || packet.is_empty() {
        return Vec::new();
    }
    let whole = framed(flow, None, packet);
    if whole.len() <= longest {
        return vec![whole];
    }
    let (first, second) = packet.split_at(packet.len().div_ceil(2));
    let halves = vec![framed(flow + 1, Some(number), first), framed(flow + 2, Some(number), second)];
    if second.is_empty() || halves.iter().any(|half| half.len() > longest) { Vec::new() } else { halves }
}

fn framed(id: u64, number: Option<u8>, bytes: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(FRAMING_LEN + bytes.len());
    write_integer(&mut datagram, id);
    datagram.extend(number);
    datagram.extend_from_slice(bytes);
    datagram
}

/// Reads an integer, whatever the length it is written in.
fn read_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = 1_usize << (bytes.first()? >> 6);
    let (integer, rest) = bytes.split_at_checked(len)?;
    let value = integer.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let bits = u32::try_from(len * 8 - 2).ok()?;
    Some((value & ((1_u64 << bits) - 1), rest))
}

/// Writes it as short as it can be.
fn write_integer(to: &mut Vec<u8>, value: u64) {
    let (len, mark) = match value {
        0..=0x3f => (1, 0x00),
        0x40..=0x3fff => (2, 0x40),
        0x4000..=0x3fff_ffff => (4, 0x80),
        _ => (8, 0xc0),
    };
    let bytes = value.to_be_bytes();
    let written = bytes.get(bytes.len() - len..).unwrap_or_default();
    for (index, byte) in written.iter().enumerate() {
        to.push(if index == 0 { byte | mark } else { *byte });
    }
}

/// Puts the halves of one flow's packets together, in whichever order they come.
#[derive(Debug, Default)]
pub struct Joiner {
    waiting: Vec<Half>,
}

#[derive(Debug)]
struct Half {
    number: u8,
    is_first: bool,
    bytes: Vec<u8>,
}

impl Joiner {
    /// Takes what a datagram brought; gives the packet once it is whole and no longer than `longest`.
    pub fn take(&mut self, piece: Piece<'_>, longest: usize) -> Option<Vec<u8>> {
        let (number, is_first, bytes) = match piece {
            Piece::Whole(packet) => return (packet.len() <= longest).then(|| packet.to_vec()),
            Piece::First(number, bytes) => (number, true, bytes),
            Piece::Second(number, bytes) => (number, false, bytes),
        };
        if bytes.len() > longest {
            return None;
        }
        let known = self.waiting.iter().position(|half| half.number == number);
        if let Some(other) = known.map(|at| self.waiting.remove(at)).filter(|other| other.is_first != is_first) {
            let packet = if is_first { [bytes, &other.bytes].concat() } else { [&other.bytes, bytes].concat() };
            return (packet.len() <= longest).then_some(packet);
        }
        if self.waiting.len() >= MAX_HALVES {
            self.waiting.remove(0);
        }
        self.waiting.push(Half { number, is_first, bytes: bytes.to_vec() });
        None
    }
}
