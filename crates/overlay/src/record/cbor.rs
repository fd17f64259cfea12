//! Deterministic CBOR (RFC 8949 §4.2): the subset that the overlay uses, and nothing else.
//!
//! Unsigned integers, byte and text strings, booleans, null and arrays of known length; no maps, tags, floats or indefinite
//! lengths. Every value has exactly one encoding and the decoder accepts no other, so what was decoded encodes again to the
//! same bytes by construction. It neither recurses nor allocates, since its input comes from strangers. The tests hold it
//! against `ciborium`.

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const SIMPLE: u8 = 7;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// What is wrong with bytes that should have been an encoded item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the deterministic CBOR expected: {0}")]
pub struct CborError(pub &'static str);

/// Writes items one after the other.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// Makes an empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens an array of exactly `length` items, which have to follow.
    pub fn array(&mut self, length: usize) -> &mut Self {
        self.head(ARRAY, length as u64)
    }

    /// Writes an unsigned integer.
    pub fn unsigned(&mut self, number: u64) -> &mut Self {
        self.head(UNSIGNED, number)
    }

    /// Writes a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.head(BYTES, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
        self
    }

    /// Writes a text string.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(TEXT, text.len() as u64);
        self.out.extend_from_slice(text.as_bytes());
        self
    }

    /// Writes a boolean.
    pub fn boolean(&mut self, truth: bool) -> &mut Self {
        self.out.push(if truth { TRUE } else { FALSE });
        self
    }

    /// Writes null.
    pub fn null(&mut self) -> &mut Self {
        self.out.push(NULL);
        self
    }

    /// Appends items that are encoded already.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Self {
        self.out.extend_from_slice(encoded);
        self
    }

    /// Returns how many bytes were written so far.
    pub fn length(&self) -> usize {
        self.out.len()
    }

    /// Returns what was written.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Self {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        let (info, used): (u8, usize) = match argument {
            0..24 => {
                self.out.push(major | bytes[7]);
                return self;
            }
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            0x1_0000_0000.. => (27, 8),
        };
        self.out.push(major | info);
        self.out.extend_from_slice(bytes.get(8 - used..).unwrap_or_default());
        self
    }
}

/// Reads items one after the other.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Makes a decoder of these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Reads the head of an array of at most `max` items and returns their number.
    ///
    /// # Errors
    /// When no array begins here, or one with more items.
    pub fn array(&mut self, max: usize) -> Result<usize, CborError> {
        let length = self.head(ARRAY)?;
        usize::try_from(length).ok().filter(|length| *length <= max).ok_or(CborError("an array has too many items"))
    }

    /// Reads the head of an array of exactly `length` items.
    ///
    /// # Errors
    /// When no array begins here, or one of another length.
    pub fn array_of(&mut self, length: usize) -> Result<(), CborError> {
        if self.array(length)? == length { Ok(()) } else { Err(CborError("an array has too few items")) }
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// When none stands here in its shortest form.
    pub fn unsigned(&mut self) -> Result<u64, CborError> {
        self.head(UNSIGNED)
    }

    /// Reads an unsigned integer that fits into a narrower type.
    ///
    /// # Errors
    /// When none stands here, or a larger one.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T, CborError> {
        T::try_from(self.unsigned()?).map_err(|_| CborError("a number is too large"))
    }

    /// Reads a byte string of at most `max` bytes.
    ///
    /// # Errors
    /// When none stands here, or a longer one.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], CborError> {
        let length = self.head(BYTES)?;
        self.take(length, max)
    }

    /// Reads a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// When none stands here, or one of another length.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        self.bytes(N)?.try_into().map_err(|_| CborError("a byte string is too short"))
    }

    /// Reads a text string of at most `max` bytes.
    ///
    /// # Errors
    /// When none stands here, a longer one, or one that is not UTF-8.
    pub fn text(&mut self, max: usize) -> Result<&'a str, CborError> {
        let length = self.head(TEXT)?;
        std::str::from_utf8(self.take(length, max)?).map_err(|_| CborError("a text is not UTF-8"))
    }

    /// Reads a boolean.
    ///
    /// # Errors
    /// When none stands here.
    pub fn boolean(&mut self) -> Result<bool, CborError> {
        match self.byte()? {
            TRUE => Ok(true),
            FALSE => Ok(false),
            _ => Err(CborError("not a boolean")),
        }
    }

    /// Reads null if it stands here, and says whether it did.
    pub fn null(&mut self) -> bool {
        match self.rest.split_first() {
            Some((&NULL, rest)) => {
                self.rest = rest;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Passes over the items that are left of an array of `items`, of which `read` were read: what a newer program adds at the end.
    ///
    /// # Errors
    /// When one of them is malformed, or of a type that the overlay does not use.
    pub fn skip_rest(&mut self, items: usize, read: usize) -> Result<(), CborError> {
        let mut left = items.saturating_sub(read);
        // Each turn takes a byte at least, so that the input bounds it whatever the arrays within claim to hold.
        while left > 0 {
            left -= 1;
            match self.rest.first().map(|first| first >> 5) {
                Some(UNSIGNED) => drop(self.head(UNSIGNED)?),
                Some(major @ (BYTES | TEXT)) => {
                    let length = self.head(major)?;
                    self.take(length, usize::MAX)?;
                }
                Some(ARRAY) => left = left.saturating_add(self.array(usize::MAX)?),
                Some(SIMPLE) => {
                    if !self.null() {
                        self.boolean()?;
                    }
                }
                Some(_) => return Err(CborError("an item of a type that is not used")),
                None => return Err(CborError("it ends too early")),
            }
        }
        Ok(())
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// When something is left over.
    pub const fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError("bytes follow the last item")) }
    }

    fn head(&mut self, major: u8) -> Result<u64, CborError> {
        let first = self.byte()?;
        if first >> 5 != major {
            return Err(CborError("an item of another type was expected"));
        }
        let (length, least) = match first & 0x1f {
            info @ 0..24 => return Ok(u64::from(info)),
            24 => (1, 24),
            25 => (2, 0x100),
            26 => (4, 0x1_0000),
            27 => (8, 0x1_0000_0000),
            _ => return Err(CborError("reserved or indefinite length")),
        };
        let argument = self.take(length, 8)?.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        if argument < least { Err(CborError("a number is not in its shortest form")) } else { Ok(argument) }
    }

    fn byte(&mut self) -> Result<u8, CborError> {
        let (first, rest) = self.rest.split_first().ok_or(CborError("it ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: u64, max: usize) -> Result<&'a [u8], CborError> {
        let length =
            usize::try_from(length).ok().filter(|length| *length <= max).ok_or(CborError("a string is too long"))?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use ciborium::Value;

    use super::*;

    fn by_ciborium(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(value, &mut out).unwrap();
        out
    }

    #[test]
    fn numbers_at_every_width_encode_as_another_implementation_does() {
        for number in [0, 23, 24, 255, 256, 65_535, 65_536, 0xffff_ffff, 0x1_0000_0000, u64::MAX] {
            let encoded = Encoder::new().unsigned(number).finish();
            assert_eq!(encoded, by_ciborium(&Value::from(number)));
            assert_eq!(Decoder::new(&encoded).unsigned(), Ok(number));
        }
    }

    #[test]
    fn a_nested_item_encodes_as_another_implementation_does() {
        let ours = Encoder::new().array(5).text("bob").bytes(&[7; 30]).boolean(true).null().array(0).finish();
        let theirs = Value::Array(vec![
            "bob".into(),
            Value::Bytes(vec![7; 30]),
            true.into(),
            Value::Null,
            Value::Array(Vec::new()),
        ]);
        assert_eq!(ours, by_ciborium(&theirs));
    }

    #[test]
    fn longer_forms_of_a_number_are_refused() {
        for bytes in
            [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255], &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255]]
        {
            assert!(Decoder::new(bytes).unsigned().is_err());
        }
    }

    #[test]
    fn indefinite_lengths_torn_items_and_leftovers_are_refused() {
        assert!(Decoder::new(&[0x9f]).array(9).is_err());
        assert!(Decoder::new(&[0x5f]).bytes(9).is_err());
        assert!(Decoder::new(&[0x43, 1, 2]).bytes(9).is_err());
        assert!(Decoder::new(&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255]).bytes(9).is_err());
        assert!(Decoder::new(&[0x62, 0xff, 0xfe]).text(9).is_err());
        assert!(Decoder::new(&[0]).finish().is_err());
        assert!(Decoder::new(&[]).unsigned().is_err());
    }
}
