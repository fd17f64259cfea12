//! Wishes for key frames on their way to an end that knows only the other kind: PLI (RFC 4585 §6.3.1) becomes FIR (RFC 5104 §4.3.1), and FIR
//! becomes PLI. Everything else in a packet passes as it is.

/// The wishes for key frames that an end understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// That a picture was lost (PLI).
    pub picture_loss: bool,
    /// The command to send a whole one (FIR).
    pub full_intra: bool,
}

const PAYLOAD_SPECIFIC: u8 = 206;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA: u8 = 4;

/// Packets of a compound one, and commands of one packet, that are looked at: senders put two to five, and one, into it.
const MAX_PACKETS: usize = 16;
const MAX_COMMANDS: usize = 8;

impl Wishes {
    /// Rewrites what this end does not understand in a compound packet; `None` where there is nothing to rewrite. `number` counts commands, so
    /// that a new one is told from one that is repeated.
    pub(super) fn rewrite(self, packet: &[u8], number: &mut u8) -> Option<Vec<u8>> {
        let unknown = match (self.picture_loss, self.full_intra) {
            (true, false) => FULL_INTRA,
            (false, true) => PICTURE_LOSS,
            (true, true) | (false, false) => return None,
        };
        let mut rest = packet;
        let (mut written, mut is_changed) = (Vec::with_capacity(packet.len() + 8), false);
        for _ in 0..MAX_PACKETS {
            let Some([first, kind, high, low]) = rest.first_chunk::<4>() else { break };
            let len = 4 + usize::from(u16::from_be_bytes([*high, *low])) * 4;
            let (one, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let is_unknown = *kind == PAYLOAD_SPECIFIC && first & 0x3f == unknown;
            match (is_unknown, unknown) {
                (true, PICTURE_LOSS) => {
                    let (sender, source) = (one.get(4..8)?, one.get(8..12)?);
                    *number = number.wrapping_add(1);
                    written.extend([0x80 | FULL_INTRA, PAYLOAD_SPECIFIC, 0, 4]);
                    written.extend_from_slice(sender);
                    written.extend([0; 4]);
                    written.extend_from_slice(source);
                    written.extend([*number, 0, 0, 0]);
                }
                (true, _) => {
                    let sender = one.get(4..8)?;
                    for command in one.get(12..)?.chunks_exact(8).take(MAX_COMMANDS) {
                        written.extend([0x80 | PICTURE_LOSS, PAYLOAD_SPECIFIC, 0, 2]);
                        written.extend_from_slice(sender);
                        written.extend_from_slice(command.get(..4)?);
                    }
                }
                (false, _) => written.extend_from_slice(one),
            }
            is_changed |= is_unknown;
        }
        written.extend_from_slice(rest);
        is_changed.then_some(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSS: [u8; 12] = [0x81, 206, 0, 2, 0, 0, 0, 7, 0, 0, 0, 9];
    const COMMAND: [u8; 20] = [0x84, 206, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 1, 0, 0, 0];
    const REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 7];
    const BY_LOSS: Wishes = Wishes { picture_loss: true, full_intra: false };
    const BY_COMMAND: Wishes = Wishes { picture_loss: false, full_intra: true };

    #[test]
    fn each_kind_becomes_the_other_and_what_stands_beside_it_stays() {
        let mut number = 0;
        let asked = [&REPORT[..], &LOSS].concat();
        assert_eq!(BY_COMMAND.rewrite(&asked, &mut number), Some([&REPORT[..], &COMMAND].concat()));
        let again = BY_COMMAND.rewrite(&asked, &mut number);
        assert_eq!(again.and_then(|packet| packet.get(24).copied()), Some(2), "a new command");
        assert_eq!(BY_LOSS.rewrite(&[&REPORT[..], &COMMAND].concat(), &mut number), Some(asked));
    }

    #[test]
    fn what_is_understood_or_none_of_these_passes() {
        let mut number = 0;
        for (wishes, packet) in [
            (BY_LOSS, &LOSS[..]),
            (BY_COMMAND, &COMMAND),
            (Wishes::default(), &LOSS),
            (Wishes { picture_loss: true, full_intra: true }, &COMMAND),
            (BY_COMMAND, &REPORT),
        ] {
            assert_eq!(wishes.rewrite(packet, &mut number), None);
        }
    }

    #[test]
    fn what_is_cut_or_wrong_is_left_alone() {
        let mut number = 0;
        for (wishes, packet) in [(BY_COMMAND, &LOSS[..]), (BY_LOSS, &COMMAND)] {
            for len in 0..packet.len() {
                assert_eq!(wishes.rewrite(packet.get(..len).unwrap_or_default(), &mut number), None, "{len}");
            }
        }
        assert_eq!(BY_COMMAND.rewrite(&[0x81, 206, 0, 1, 0, 0, 0, 7], &mut number), None, "it names no source");
    }
}
