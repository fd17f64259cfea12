//! Numbers and addresses written into texts.
//!
//! Without `fmt`, whose machinery would cost more than all else that a response is made of.

use std::fmt::Write;
use std::net::IpAddr;

/// A number in decimal digits, without allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal {
    digits: [u8; 20],
    first: usize,
}

impl<N: Into<u64>> From<N> for Decimal {
    fn from(number: N) -> Decimal {
        let mut number: u64 = number.into();
        let mut digits = [b'0'; 20];
        let mut first = digits.len();
        for place in digits.iter_mut().rev() {
            *place = b'0' + u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            first -= 1;
            if number == 0 {
                break;
            }
        }
        Decimal { digits, first }
    }
}

impl Decimal {
    /// The digits.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.digits.get(self.first..).unwrap_or_default()).unwrap_or_default()
    }
}

/// Writes a number in decimal digits.
pub(crate) fn push_number(text: &mut String, number: impl Into<u64>) {
    let number = number.into();
    match u8::try_from(number) {
        Ok(number) => push_octet(text, number),
        Err(_) => text.push_str(Decimal::from(number).as_str()),
    }
}

/// Most numbers in messages are parts of addresses.
fn push_octet(text: &mut String, number: u8) {
    let number = u64::from(number);
    if number >= 100 {
        text.push(digit(number / 100));
    }
    if number >= 10 {
        text.push(digit(number / 10));
    }
    text.push(digit(number));
}

/// The last digit of a number.
fn digit(number: u64) -> char {
    u8::try_from(number % 10).map_or('0', |digit| char::from(b'0' + digit))
}

/// Writes an address as it stands in a Via parameter, without brackets.
pub(crate) fn push_address(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                push_number(text, octet);
            }
        }
        // Writing to a String cannot fail.
        IpAddr::V6(address) => write!(text, "{address}").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_fmt_writes_them() {
        for number in [0, 9, 10, 99, 100, 65_535, u64::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string());
        }
        for address in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "::", "2001:db8::9"] {
            let mut text = String::new();
            push_address(&mut text, address.parse().unwrap());
            assert_eq!(text, address);
        }
    }
}
