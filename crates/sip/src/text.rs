//! Numbers and addresses written into texts.
//!
//! Without `fmt`, whose machinery would cost more than all else that a response is made of.

use std::fmt::Write;
use std::net::IpAddr;

/// Writes a number in decimal digits.
pub(crate) fn push_number(text: &mut String, number: impl Into<u64>) {
    let number = number.into();
    if number >= 10 {
        push_number(text, number / 10);
    }
    push_digit(text, number % 10);
}

/// Writes a number below 100 in two digits.
pub(crate) fn push_two_digits(text: &mut String, number: u64) {
    push_digit(text, number / 10);
    push_digit(text, number % 10);
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

fn push_digit(text: &mut String, digit: u64) {
    text.push(char::from(b'0' + u8::try_from(digit % 10).unwrap_or_default()));
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
        let mut text = String::new();
        push_two_digits(&mut text, 7);
        push_two_digits(&mut text, 59);
        assert_eq!(text, "0759");
    }
}
