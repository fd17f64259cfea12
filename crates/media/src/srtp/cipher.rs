//! Session keys and what is done with them: AES in counter mode with HMAC-SHA1 (RFC 3711 §4), AES-GCM (RFC 7714).

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::{ENCRYPTED, MAX_KEY_LEN, MAX_SALT_LEN, MasterKey, RTCP_INDEX_LEN, SrtpError, Suite};

/// Labels of the key derivation (RFC 3711 §4.3.1) for RTP; those of RTCP are three more.
const ENCRYPTION: u8 = 0;
const AUTHENTICATION: u8 = 1;
const SALTING: u8 = 2;
const RTCP: u8 = 3;

/// The block of AES.
const BLOCK_LEN: usize = 16;

/// The length of a key for HMAC-SHA1 (RFC 3711 §5.2).
const AUTHENTICATION_KEY_LEN: usize = 20;

/// The session keys under one master key.
pub(super) struct Keys {
    pub(super) rtp: Cipher,
    pub(super) rtcp: Cipher,
}

impl Keys {
    pub(super) fn derive(master: &MasterKey) -> Keys {
        let suite = master.suite;
        Keys {
            rtp: Cipher::derive(master, 0, suite.rtp_tag_len()),
            rtcp: Cipher::derive(master, RTCP, suite.rtcp_tag_len()),
        }
    }
}

/// The session keys for RTP or RTCP.
pub(super) struct Cipher {
    kind: Kind,
    salt: [u8; MAX_SALT_LEN],
    tag_len: usize,
}

enum Kind {
    /// Keys for authentication are a KiB and more of prepared state.
    Counter {
        key: Option<Box<EncryptingKey>>,
        authentication: Box<hmac::Key>,
    },
    Gcm {
        key: Option<Box<LessSafeKey>>,
    },
}

impl Cipher {
    fn derive(master: &MasterKey, labels: u8, tag_len: usize) -> Cipher {
        let prf = counter_key(master.key());
        let derive = |label: u8, out: &mut [u8]| {
            let mut iv = [0; BLOCK_LEN];
            for (byte, salt) in iv.iter_mut().zip(master.salt) {
                *byte = salt;
            }
            // The label stands before the 48 bits of the index, which is zero.
            iv[7] ^= label + labels;
            apply(prf.as_ref(), iv, out);
        };
        let (mut key, mut salt) = ([0; MAX_KEY_LEN], [0; MAX_SALT_LEN]);
        let key = key.split_at_mut(master.suite.key_len()).0;
        derive(ENCRYPTION, key);
        derive(SALTING, salt.split_at_mut(master.suite.salt_len()).0);
        let kind = match master.suite {
            Suite::AesCm80 | Suite::AesCm32 => {
                let mut authentication = [0; AUTHENTICATION_KEY_LEN];
                derive(AUTHENTICATION, &mut authentication);
                let authentication = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &authentication);
                Kind::Counter { key: counter_key(key).map(Box::new), authentication: Box::new(authentication) }
            }
            Suite::AesGcm => {
                Kind::Gcm { key: UnboundKey::new(&AES_128_GCM, key).map(LessSafeKey::new).map(Box::new).ok() }
            }
            Suite::AesGcm256 => {
                Kind::Gcm { key: UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map(Box::new).ok() }
            }
        };
        Cipher { kind, salt, tag_len }
    }

    pub(super) fn seal(&self, packet: &[u8], header: usize, ssrc: u32, index: u64) -> Result<Vec<u8>, SrtpError> {
        let mut sealed = Vec::with_capacity(packet.len() + self.tag_len);
        sealed.extend_from_slice(packet);
        let (clear, body) = sealed.split_at_mut_checked(header).ok_or(SrtpError::Short)?;
        match &self.kind {
            Kind::Counter { key, authentication } => {
                apply(key.as_deref(), self.counter_iv(ssrc, index), body);
                let tag = authenticate(authentication, &sealed, rollover(index));
                sealed.extend(tag.as_ref().iter().take(self.tag_len));
            }
            Kind::Gcm { key } => {
                let tag = seal_gcm(key.as_deref(), self.gcm_nonce(ssrc, index), clear, body)?;
                sealed.extend(tag);
            }
        }
        Ok(sealed)
    }

    pub(super) fn open(&self, packet: &[u8], header: usize, ssrc: u32, index: u64) -> Result<Vec<u8>, SrtpError> {
        let end = packet.len().checked_sub(self.tag_len).filter(|end| *end >= header).ok_or(SrtpError::Short)?;
        let (sealed, tag) = packet.split_at_checked(end).ok_or(SrtpError::Short)?;
        match &self.kind {
            Kind::Counter { key, authentication } => {
                let expected = authenticate(authentication, sealed, rollover(index));
                is_tag(&expected, tag)?;
                let mut opened = sealed.to_vec();
                let body = opened.get_mut(header..).ok_or(SrtpError::Short)?;
                apply(key.as_deref(), self.counter_iv(ssrc, index), body);
                Ok(opened)
            }
            Kind::Gcm { key } => {
                let mut opened = packet.to_vec();
                let (clear, body) = opened.split_at_mut_checked(header).ok_or(SrtpError::Short)?;
                open_gcm(key.as_deref(), self.gcm_nonce(ssrc, index), clear, body)?;
                opened.truncate(end);
                Ok(opened)
            }
        }
    }

    pub(super) fn seal_rtcp(&self, packet: &[u8], header: usize, ssrc: u32, index: u32) -> Result<Vec<u8>, SrtpError> {
        let word = (ENCRYPTED | index).to_be_bytes();
        let mut sealed = packet.to_vec();
        let (clear, body) = sealed.split_at_mut_checked(header).ok_or(SrtpError::Short)?;
        match &self.kind {
            Kind::Counter { key, authentication } => {
                apply(key.as_deref(), self.counter_iv(ssrc, u64::from(index)), body);
                let tag = authenticate(authentication, &sealed, word);
                sealed.extend(word);
                sealed.extend(tag.as_ref().iter().take(self.tag_len));
            }
            Kind::Gcm { key } => {
                let known = [clear, word.as_slice()].concat();
                let tag = seal_gcm(key.as_deref(), self.gcm_nonce(ssrc, u64::from(index)), &known, body)?;
                sealed.extend(tag);
                sealed.extend(word);
            }
        }
        Ok(sealed)
    }

    /// Opens a packet whose index `check` does not object to; returns that as well.
    pub(super) fn open_rtcp(
        &self,
        packet: &[u8],
        header: usize,
        ssrc: u32,
        check: impl FnOnce(u32) -> Result<u64, SrtpError>,
    ) -> Result<(Vec<u8>, u64), SrtpError> {
        let (rest, word, tag): (&[u8], [u8; RTCP_INDEX_LEN], &[u8]) = match &self.kind {
            Kind::Counter { .. } => {
                let end = packet.len().checked_sub(self.tag_len).ok_or(SrtpError::Short)?;
                let (rest, tag) = packet.split_at_checked(end).ok_or(SrtpError::Short)?;
                let (rest, word) = rest.split_last_chunk().ok_or(SrtpError::Short)?;
                (rest, *word, tag)
            }
            Kind::Gcm { .. } => {
                let (rest, word) = packet.split_last_chunk().ok_or(SrtpError::Short)?;
                (rest, *word, &[])
            }
        };
        let named = u32::from_be_bytes(word);
        let is_encrypted = named & ENCRYPTED != 0;
        let index = check(named & !ENCRYPTED)?;
        match &self.kind {
            Kind::Counter { key, authentication } => {
                is_tag(&authenticate(authentication, rest, word), tag)?;
                let mut opened = rest.to_vec();
                let body = opened.get_mut(header..).ok_or(SrtpError::Short)?;
                if is_encrypted {
                    apply(key.as_deref(), self.counter_iv(ssrc, index), body);
                }
                Ok((opened, index))
            }
            Kind::Gcm { key } => {
                let end = rest.len().checked_sub(self.tag_len).filter(|end| *end >= header).ok_or(SrtpError::Short)?;
                // What is only authenticated is all in what is known, and the tag is the whole cipher text (RFC 7714 §9.3).
                let clear_len = if is_encrypted { header } else { end };
                let mut opened = rest.to_vec();
                let (clear, body) = opened.split_at_mut_checked(clear_len).ok_or(SrtpError::Short)?;
                let known = [clear, word.as_slice()].concat();
                open_gcm(key.as_deref(), self.gcm_nonce(ssrc, index), &known, body)?;
                opened.truncate(end);
                Ok((opened, index))
            }
        }
    }

    /// RFC 3711 §4.1.1: (salt · 2^16) ⊕ (source · 2^64) ⊕ (index · 2^16).
    fn counter_iv(&self, ssrc: u32, index: u64) -> [u8; BLOCK_LEN] {
        let mut iv = [0; BLOCK_LEN];
        let [_, _, index @ ..] = index.to_be_bytes();
        let place = [0; 4].into_iter().chain(ssrc.to_be_bytes()).chain(index);
        for ((byte, salt), place) in iv.iter_mut().zip(self.salt).zip(place) {
            *byte = salt ^ place;
        }
        iv
    }

    /// RFC 7714 §8.1 and §9.1: in both the index is at the end, of 48 or 31 bits.
    fn gcm_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        let [_, _, index @ ..] = index.to_be_bytes();
        let place = [0; 2].into_iter().chain(ssrc.to_be_bytes()).chain(index);
        for ((byte, salt), place) in nonce.iter_mut().zip(self.salt).zip(place) {
            *byte = salt ^ place;
        }
        nonce
    }
}

fn counter_key(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == MAX_KEY_LEN { &AES_256 } else { &AES_128 };
    UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr).ok()
}

/// Applies the key stream that begins at this block. The library fails for a wrong length of keys only; should it do so all the same,
/// nothing must leave in clear.
fn apply(key: Option<&EncryptingKey>, iv: [u8; BLOCK_LEN], bytes: &mut [u8]) {
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    if key.is_none_or(|key| key.less_safe_encrypt(bytes, context).is_err()) {
        bytes.fill(0);
    }
}

fn authenticate(key: &hmac::Key, packet: &[u8], behind: [u8; 4]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(packet);
    context.update(&behind);
    context.sign()
}

fn is_tag(expected: &hmac::Tag, tag: &[u8]) -> Result<(), SrtpError> {
    let expected = expected.as_ref().get(..tag.len()).ok_or(SrtpError::Tag)?;
    verify_slices_are_equal(expected, tag).map_err(|_| SrtpError::Tag)
}

/// The rollover counter, which is authenticated though it is not sent (RFC 3711 §4.2).
fn rollover(index: u64) -> [u8; 4] {
    let [_, _, r0, r1, r2, r3, _, _] = index.to_be_bytes();
    [r0, r1, r2, r3]
}

fn seal_gcm(key: Option<&LessSafeKey>, nonce: [u8; 12], known: &[u8], body: &mut [u8]) -> Result<Vec<u8>, SrtpError> {
    let key = key.ok_or(SrtpError::Exhausted)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(known), body).map_err(|_| SrtpError::Exhausted)?;
    Ok(tag.as_ref().to_vec())
}

fn open_gcm(key: Option<&LessSafeKey>, nonce: [u8; 12], known: &[u8], body: &mut [u8]) -> Result<(), SrtpError> {
    let key = key.ok_or(SrtpError::Exhausted)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.open_in_place(nonce, Aad::from(known), body).map(|_| ()).map_err(|_| SrtpError::Tag)
}

#[cfg(test)]
mod tests {
    //! The vectors of RFC 3711 appendix B and RFC 7714 §16 and §17, whose keys are session keys.
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn gcm() -> Cipher {
        let key: Vec<u8> = (0..16).collect();
        let mut salt = [0; MAX_SALT_LEN];
        salt[..12].copy_from_slice(b"Quid pro quo");
        let key = UnboundKey::new(&AES_128_GCM, &key).map(LessSafeKey::new).map(Box::new).ok();
        Cipher { kind: Kind::Gcm { key }, salt, tag_len: 16 }
    }

    #[test]
    fn the_key_stream_is_that_of_rfc_3711_b_2() {
        let key = counter_key(&hex("2B7E151628AED2A6ABF7158809CF4F3C"));
        let mut stream = vec![0; 1_044_512];
        apply(key.as_ref(), hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000").try_into().unwrap(), &mut stream);
        assert_eq!(
            stream[..48],
            hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
        );
        assert_eq!(
            stream[stream.len() - 48..],
            hex("EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44")
        );
    }

    #[test]
    fn the_derived_keys_are_those_of_rfc_3711_b_3() {
        let master =
            MasterKey::new(Suite::AesCm80, &hex("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6"))
                .unwrap();
        let prf = counter_key(master.key());
        let mut iv: [u8; 16] = hex("0EC675AD498AFEEBB6960B3AABE60000").try_into().unwrap();
        let mut key = [0; 16];
        apply(prf.as_ref(), iv, &mut key);
        assert_eq!(key.to_vec(), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        iv[7] ^= AUTHENTICATION;
        let mut authentication = [0; 94];
        apply(prf.as_ref(), iv, &mut authentication);
        assert_eq!(
            authentication.to_vec(),
            hex("CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098 \
                 6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2")
        );
        assert_eq!(Cipher::derive(&master, 0, 10).salt.to_vec(), hex("30CBBC08863D8C85D49DB34A9AE1"));
    }

    #[test]
    fn rtp_under_gcm_is_that_of_rfc_7714_16_1() {
        let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 \
                         61727465 73207472 6573");
        let sealed = hex("8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a \
                          51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce");
        assert_eq!(gcm().seal(&plain, 12, 0x5501_a0b2, 0xf17b).unwrap(), sealed);
        assert_eq!(gcm().open(&sealed, 12, 0x5501_a0b2, 0xf17b).unwrap(), plain);
    }

    #[test]
    fn rtcp_under_gcm_is_that_of_rfc_7714_17_1() {
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef \
                         deadbeef deadbeef deadbeef");
        let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda \
                          4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4");
        assert_eq!(gcm().seal_rtcp(&plain, 8, 0x4d61_7273, 0x5d4).unwrap(), sealed);
        let opened = gcm().open_rtcp(&sealed, 8, 0x4d61_7273, |index| Ok(u64::from(index))).unwrap();
        assert_eq!(opened, (plain, 0x5d4));
    }

    #[test]
    fn rtcp_that_is_only_tagged_is_opened_as_rfc_7714_17_3_has_it() {
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef \
                         deadbeef deadbeef deadbeef");
        let sealed = [plain.clone(), hex("841dd968 3dd78ec9 2ae58790 125f62b3 000005d4")].concat();
        let opened = gcm().open_rtcp(&sealed, 8, 0x4d61_7273, |index| Ok(u64::from(index))).unwrap();
        assert_eq!(opened, (plain, 0x5d4));
    }
}
