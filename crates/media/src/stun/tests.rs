#![allow(clippy::unwrap_used)]

use super::*;

/// RFC 5769 §2.1: a request with everything.
pub(crate) fn request() -> Vec<u8> {
    let words: [u32; 27] = [
        0x0001_0058,
        0x2112_a442,
        0xb7e7_a701,
        0xbc34_d686,
        0xfa87_dfae,
        0x8022_0010,
        0x5354_554e,
        0x2074_6573,
        0x7420_636c,
        0x6965_6e74,
        0x0024_0004,
        0x6e00_01ff,
        0x8029_0008,
        0x932f_f9b1,
        0x5126_3b36,
        0x0006_0009,
        0x6576_746a,
        0x3a68_3676,
        0x5920_2020,
        0x0008_0014,
        0x9aea_a70c,
        0xbfd8_cb56,
        0x781e_f2b5,
        0xb2d3_f249,
        0xc1b5_71a2,
        0x8028_0004,
        0xe57a_3bcf,
    ];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// RFC 5769 §2.4: a request with the key of a long-term credential.
fn long_term() -> Vec<u8> {
    let words: [u32; 29] = [
        0x0001_0060,
        0x2112_a442,
        0x78ad_3433,
        0xc6ad_72c0,
        0x29da_412e,
        0x0006_0012,
        0xe383_9ee3,
        0x8388_e383,
        0xaae3_8383,
        0xe382_afe3,
        0x82b9_0000,
        0x0015_001c,
        0x662f_2f34,
        0x3939_6b39,
        0x3534_6436,
        0x4f4c_3334,
        0x6f4c_3946,
        0x5354_7679,
        0x3634_7341,
        0x0014_000b,
        0x6578_616d,
        0x706c_652e,
        0x6f72_6700,
        0x0008_0014,
        0xf670_2465,
        0x6dd6_4a3e,
        0x02b8_e071,
        0x2e85_c9a2,
        0x8ca8_9666,
    ];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn the_request_of_rfc_5769_is_read_by_who_knows_the_password() {
    let bytes = request();
    let message = Message::read(&bytes).unwrap();
    assert!(is_stun(&bytes) && message.has_fingerprint);
    assert_eq!((message.class, message.method), (Class::Request, method::BINDING));
    assert_eq!(message.text(attribute::USERNAME), Some("evtj:h6vY"));
    assert_eq!(message.place_of(attribute::USERNAME), Some(64..73));
    assert!(message.is_signed_with(&integrity_key(b"VOkJxbRl1RmTxUk/WvJxBt")));
    assert!(!message.is_signed_with(&integrity_key(b"other")));
}

#[test]
fn a_changed_or_cut_message_is_none() {
    for at in 0..108 {
        let mut changed = request();
        changed[at] ^= 1;
        // Where the type of FINGERPRINT is changed, there is none.
        assert!(Message::read(&changed).is_none_or(|message| !message.has_fingerprint), "byte {at}");
    }
    for len in 0..108 {
        assert!(Message::read(&request()[..len]).is_none(), "{len}");
    }
}

#[test]
fn what_comes_after_the_tag_is_not_looked_at() {
    let key = integrity_key(b"k");
    let signed = Writer::new(Class::Request, method::ALLOCATE, [1; 12]).put(attribute::USERNAME, b"a").sign(&key);
    let bytes = signed.put(attribute::LIFETIME, &[0; 4]).finish();
    let message = Message::read(&bytes).unwrap();
    assert!(message.is_signed_with(&key));
    assert_eq!(message.attribute(attribute::LIFETIME), None);
}

#[test]
fn addresses_are_those_of_rfc_5769() {
    let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
    for (address, wire) in [
        ("192.0.2.1:32853", [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43].as_slice()),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            &[
                0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4, 0xb5, 0xbe, 0xd2,
                0xb9, 0xd9,
            ],
        ),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let writer = Writer::new(Class::Success, method::BINDING, transaction);
        let bytes = writer.put_address(attribute::XOR_MAPPED_ADDRESS, address).finish();
        assert_eq!(&bytes[24..], wire);
        let message = Message::read(&bytes).unwrap();
        assert_eq!(message.address(message.attribute(attribute::XOR_MAPPED_ADDRESS).unwrap()), Some(address));
    }
    let mapped = Writer::new(Class::Success, method::BINDING, transaction)
        .put_address(attribute::XOR_MAPPED_ADDRESS, "[::ffff:192.0.2.1]:32853".parse().unwrap());
    assert_eq!(mapped.finish().len(), 32, "an IPv4 address in IPv6 clothes is IPv4");
}

#[test]
fn the_key_of_a_long_term_credential_is_that_of_rfc_5769() {
    let bytes = long_term();
    let message = Message::read(&bytes).unwrap();
    assert_eq!(message.text(attribute::REALM), Some("example.org"));
    assert_eq!(message.text(attribute::USERNAME), Some("マトリックス"));
    // MD5 of `マトリックス:example.org:TheMatrIX`, the password after SASLprep.
    let key = data_encoding::HEXLOWER.decode(b"e8ca7ad59d5eb0518e312911d2dab2a9").unwrap();
    assert!(message.is_signed_with(&integrity_key(&key)));
}

#[test]
fn every_class_and_method_is_read_as_it_was_written() {
    for method in (0..0x1000).step_by(7) {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            let bytes = Writer::new(class, method, [0; 12]).with_fingerprint().finish();
            let message = Message::read(&bytes).unwrap();
            assert_eq!((message.class, message.method), (class, method));
        }
    }
}
