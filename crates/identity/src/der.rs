//! ECDSA signatures between their two forms: r ‖ s of fixed length, and the DER that X.509 wants (RFC 3279 §2.2.3).

use crate::Signature;

pub(crate) const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;

/// Writes r ‖ s as SEQUENCE { INTEGER r, INTEGER s } (RFC 3279 §2.2.3). No length exceeds 127, so each is one byte.
pub(crate) fn signature_to_der(signature: &Signature) -> Vec<u8> {
    let mut integers = Vec::with_capacity(70);
    for half in signature.as_bytes().chunks(32) {
        let zeros = half.iter().take(31).take_while(|byte| **byte == 0).count();
        let digits = half.get(zeros..).unwrap_or_default();
        let sign = digits.first().is_some_and(|byte| byte & 0x80 != 0);
        integers.extend([INTEGER, (digits.len() + usize::from(sign)) as u8]);
        integers.extend(sign.then_some(0));
        integers.extend(digits);
    }
    let mut der = vec![SEQUENCE, integers.len() as u8];
    der.append(&mut integers);
    der
}

/// Reads SEQUENCE { INTEGER r, INTEGER s }, in DER only, so that a signature has one form.
pub(crate) fn signature_from_der(der: &[u8]) -> Option<Signature> {
    let [SEQUENCE, length, rest @ ..] = der else {
        return None;
    };
    if usize::from(*length) != rest.len() {
        return None;
    }
    let (r, rest) = integer_from_der(rest)?;
    let (s, rest) = integer_from_der(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 64];
    let (left, right) = bytes.split_at_mut(32);
    left.copy_from_slice(&r);
    right.copy_from_slice(&s);
    Some(Signature::from_bytes(bytes))
}

/// Reads one non-negative INTEGER of at most 256 bits.
fn integer_from_der(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let [INTEGER, length, rest @ ..] = der else {
        return None;
    };
    let (digits, rest) = rest.split_at_checked(usize::from(*length))?;
    let digits = match digits {
        [] => return None,
        [first, ..] if *first >= 0x80 => return None,
        [0, next, ..] if *next < 0x80 => return None,
        [0, digits @ ..] if !digits.is_empty() => digits,
        digits => digits,
    };
    let start = 32_usize.checked_sub(digits.len())?;
    let mut bytes = [0; 32];
    bytes.get_mut(start..)?.copy_from_slice(digits);
    Some((bytes, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn signatures_survive_the_way_to_der_and_back() {
        for fill in [[0x00_u8, 0x01], [0x7f, 0xff], [0x80, 0x00], [0xff, 0x80], [0x00, 0x00]] {
            let mut bytes = [fill[0]; 64];
            bytes[1] = fill[1];
            bytes[33] = fill[1];
            let signature = Signature::from_bytes(bytes);
            assert_eq!(signature_from_der(&signature_to_der(&signature)), Some(signature));
        }
    }

    #[test]
    fn a_signature_has_one_form_in_der() {
        let long_form = [0x30, 0x81, 0x06, 2, 1, 1, 2, 1, 1];
        let negative = [0x30, 6, 2, 1, 0x80, 2, 1, 1];
        let padded = [0x30, 7, 2, 2, 0, 1, 2, 1, 1];
        let trailing = [0x30, 7, 2, 1, 1, 2, 1, 1, 0];
        let empty = [0x30, 5, 2, 0, 2, 1, 1];
        for der in [&long_form[..], &negative, &padded, &trailing, &empty, &[], &[0x30]] {
            assert_eq!(signature_from_der(der), None, "{der:?} was read");
        }
        assert!(signature_from_der(&[0x30, 6, 2, 1, 1, 2, 1, 1]).is_some());
    }
}
