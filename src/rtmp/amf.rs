//! AMF0, the value encoding of RTMP commands and metadata (Action Message Format 0, Adobe 2007).
//!
//! Values are owned: commands and metadata are rare and small. Depth, number of values and text are bounded, so a hostile message costs no
//! more than a few times its own size.

use super::amf3;
use crate::limits::{AMF_DEPTH_MAX, AMF_MESSAGE_BYTES_MAX, AMF_VALUES_MAX};
use crate::wire::{Put, Reader, Truncated};

/// Properties of an object in the order they were sent. A handful, so looking one up is a scan.
pub type Properties = Vec<(String, Value)>;

#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Number(f64),
    Boolean(bool),
    String(String),
    /// A string that is not UTF-8 (some encoders send the local code page), or an AMF3 byte array.
    Bytes(Vec<u8>),
    Object(Properties),
    TypedObject {
        class: String,
        properties: Properties,
    },
    EcmaArray(Properties),
    StrictArray(Vec<Value>),
    /// Milliseconds since the Unix epoch; the zone is reserved by the specification and ignored by everybody.
    Date {
        unix_ms: f64,
        zone_minutes: i16,
    },
    Null,
    Undefined,
}

impl Value {
    pub fn string(text: &str) -> Self {
        Value::String(text.to_owned())
    }
    pub fn object(properties: &[(&str, Value)]) -> Self {
        Value::Object(properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Boolean(value) => Some(*value),
            _ => None,
        }
    }
    /// The properties of an object, typed object or ECMA array.
    pub fn properties(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(properties) | Value::EcmaArray(properties) | Value::TypedObject { properties, .. } => Some(properties),
            _ => None,
        }
    }
    /// The first property called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.properties()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Appends the value in AMF0.
    ///
    /// # Panics
    /// If a name or class is longer than 65535 bytes. Decoded ones never are.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Number(number) => {
                out.put_u8(marker::NUMBER);
                out.put_f64(*number);
            }
            Value::Boolean(value) => out.put(&[marker::BOOLEAN, u8::from(*value)]),
            Value::String(text) => encode_text(text.as_bytes(), out),
            Value::Bytes(bytes) => encode_text(bytes, out),
            Value::Object(properties) => {
                out.put_u8(marker::OBJECT);
                encode_properties(properties, out);
            }
            Value::TypedObject { class, properties } => {
                out.put_u8(marker::TYPED_OBJECT);
                encode_name(class, out);
                encode_properties(properties, out);
            }
            Value::EcmaArray(properties) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(properties.len() as u32);
                encode_properties(properties, out);
            }
            Value::StrictArray(values) => {
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(values.len() as u32);
                values.iter().for_each(|value| value.encode(out));
            }
            Value::Date { unix_ms, zone_minutes } => {
                out.put_u8(marker::DATE);
                out.put_f64(*unix_ms);
                out.put(&zone_minutes.to_be_bytes());
            }
            Value::Null => out.put_u8(marker::NULL),
            Value::Undefined => out.put_u8(marker::UNDEFINED),
        }
    }
}

/// Encodes values one behind the other, as the body of a command or data message.
pub fn encode_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out
}

/// Decodes the body of a command or data message.
///
/// # Errors
/// Any [`AmfError`]; nothing is returned of a body that is wrong at its end.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Value>, AmfError> {
    let mut decoder = Decoder::new(bytes);
    let mut values = Vec::new();
    while !decoder.is_empty() {
        values.push(decoder.value()?);
    }
    Ok(values)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AmfError {
    #[error("an AMF value is cut short")]
    Truncated(#[from] Truncated),
    #[error("AMF0 type marker {0:#04x} is unknown or reserved")]
    Marker(u8),
    #[error("AMF3 type marker {0:#04x} is unknown or not supported")]
    Marker3(u8),
    #[error("AMF references are not supported")]
    Reference,
    #[error("AMF3 externalizable objects are not supported")]
    Externalizable,
    #[error("AMF values are nested deeper than {AMF_DEPTH_MAX}")]
    TooDeep,
    #[error("an AMF message holds more than {AMF_VALUES_MAX} values")]
    TooManyValues,
    #[error("the strings of an AMF message are larger than the message bound of {AMF_MESSAGE_BYTES_MAX} bytes")]
    TooMuchText,
}

/// AMF0 type markers (section 2.1).
mod marker {
    pub const NUMBER: u8 = 0x00;
    pub const BOOLEAN: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const OBJECT: u8 = 0x03;
    pub const NULL: u8 = 0x05;
    pub const UNDEFINED: u8 = 0x06;
    pub const REFERENCE: u8 = 0x07;
    pub const ECMA_ARRAY: u8 = 0x08;
    pub const OBJECT_END: u8 = 0x09;
    pub const STRICT_ARRAY: u8 = 0x0a;
    pub const DATE: u8 = 0x0b;
    pub const LONG_STRING: u8 = 0x0c;
    pub const UNSUPPORTED: u8 = 0x0d;
    pub const XML_DOCUMENT: u8 = 0x0f;
    pub const TYPED_OBJECT: u8 = 0x10;
    pub const AVM_PLUS: u8 = 0x11;
}

/// What one message may still cost; shared by AMF0 and the AMF3 values inside it.
#[derive(Debug)]
pub(super) struct Budget {
    values_left: usize,
    text_bytes_left: usize,
}

impl Budget {
    pub(super) fn value(&mut self, depth: usize) -> Result<(), AmfError> {
        if depth > AMF_DEPTH_MAX {
            return Err(AmfError::TooDeep);
        }
        self.values_left = self.values_left.checked_sub(1).ok_or(AmfError::TooManyValues)?;
        Ok(())
    }
    /// Text is counted because an AMF3 reference of one byte copies a whole string.
    pub(super) fn text(&mut self, bytes: usize) -> Result<(), AmfError> {
        self.text_bytes_left = self.text_bytes_left.checked_sub(bytes).ok_or(AmfError::TooMuchText)?;
        Ok(())
    }
}

/// Reads the values of one message, one after the other.
#[derive(Debug)]
pub struct Decoder<'a> {
    reader: Reader<'a>,
    budget: Budget,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { reader: Reader::new(bytes), budget: Budget { values_left: AMF_VALUES_MAX, text_bytes_left: AMF_MESSAGE_BYTES_MAX } }
    }

    pub fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// # Errors
    /// Any [`AmfError`]; the decoder is of no further use then.
    pub fn value(&mut self) -> Result<Value, AmfError> {
        self.value_at(1)
    }

    fn value_at(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.budget.value(depth)?;
        Ok(match self.reader.u8()? {
            marker::NUMBER => Value::Number(self.reader.f64()?),
            marker::BOOLEAN => Value::Boolean(self.reader.u8()? != 0),
            marker::STRING => {
                let length = usize::from(self.reader.u16()?);
                self.text(length)?
            }
            marker::LONG_STRING | marker::XML_DOCUMENT => {
                let length = self.reader.u32()? as usize;
                self.text(length)?
            }
            marker::OBJECT => Value::Object(self.properties(depth)?),
            marker::TYPED_OBJECT => Value::TypedObject { class: self.name()?, properties: self.properties(depth)? },
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders get wrong; the end marker decides.
                self.reader.u32()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            marker::STRICT_ARRAY => {
                let count = self.reader.u32()?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value_at(depth + 1)?);
                }
                Value::StrictArray(values)
            }
            marker::DATE => Value::Date { unix_ms: self.reader.f64()?, zone_minutes: self.reader.u16()? as i16 },
            marker::NULL => Value::Null,
            marker::UNDEFINED | marker::UNSUPPORTED => Value::Undefined,
            marker::REFERENCE => return Err(AmfError::Reference),
            marker::AVM_PLUS => amf3::decode(&mut self.reader, &mut self.budget, depth)?,
            other => return Err(AmfError::Marker(other)),
        })
    }

    /// Names and values up to the end marker. A message that ends between two properties is taken as complete: some encoders leave the
    /// end marker out.
    fn properties(&mut self, depth: usize) -> Result<Properties, AmfError> {
        let mut properties = Vec::new();
        while !self.reader.is_empty() {
            let name = self.name()?;
            if name.is_empty() && self.reader.peek_rest().first() == Some(&marker::OBJECT_END) {
                self.reader.u8()?;
                break;
            }
            properties.push((name, self.value_at(depth + 1)?));
        }
        Ok(properties)
    }

    fn name(&mut self) -> Result<String, AmfError> {
        let length = usize::from(self.reader.u16()?);
        let bytes = self.reader.take(length)?;
        self.budget.text(length)?;
        // A name in a foreign code page is none that we look for; it only has to stay printable.
        Ok(lossy_name(bytes))
    }

    fn text(&mut self, length: usize) -> Result<Value, AmfError> {
        let bytes = self.reader.take(length)?;
        self.budget.text(length)?;
        Ok(text_value(bytes))
    }
}

pub(super) fn text_value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::string(text),
        Err(_) => Value::Bytes(bytes.to_vec()),
    }
}

/// A property name as text of at most 65535 bytes, what the length field of AMF0 can say.
pub(super) fn lossy_name(bytes: &[u8]) -> String {
    let mut name = String::from_utf8_lossy(bytes).into_owned();
    if name.len() > usize::from(u16::MAX) {
        let end = (0..=usize::from(u16::MAX)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
        name.truncate(end);
    }
    name
}

fn encode_text(bytes: &[u8], out: &mut Vec<u8>) {
    match u16::try_from(bytes.len()) {
        Ok(length) => {
            out.put_u8(marker::STRING);
            out.put_u16(length);
        }
        Err(_) => {
            out.put_u8(marker::LONG_STRING);
            out.put_u32(bytes.len() as u32);
        }
    }
    out.put(bytes);
}

/// # Panics
/// If `name` is longer than 65535 bytes; see [`lossy_name`] for decoded ones, ours are literals.
fn encode_name(name: &str, out: &mut Vec<u8>) {
    out.put_u16(u16::try_from(name.len()).expect("a property name fits its length field"));
    out.put(name.as_bytes());
}

fn encode_properties(properties: &Properties, out: &mut Vec<u8>) {
    for (name, value) in properties {
        encode_name(name, out);
        value.encode(out);
    }
    out.put(&[0, 0, marker::OBJECT_END]);
}

/// Whatever decodes, encodes, and decodes again to the same.
pub fn fuzz_amf(data: &[u8]) {
    let data = &data[..data.len().min(AMF_MESSAGE_BYTES_MAX)];
    let mut decoder = Decoder::new(data);
    let mut values = Vec::new();
    while !decoder.is_empty() {
        match decoder.value() {
            Ok(value) => values.push(value),
            Err(_) => break,
        }
    }
    // Compared as bytes: a NaN does not equal itself.
    let encoded = encode_all(&values);
    match decode_all(&encoded) {
        Ok(again) => assert_eq!(encode_all(&again), encoded),
        // Replacement characters and AMF3 (which packs tighter) may take the encoded form over the bound on text.
        Err(error) => assert_eq!(error, AmfError::TooMuchText),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_type_is_decoded_and_refused_at_every_cut() {
        let cases: &[(&str, &[u8], Value)] = &[
            ("number", b"\x00\x3f\xf8\0\0\0\0\0\0", Value::Number(1.5)),
            ("boolean", b"\x01\x01", Value::Boolean(true)),
            ("string", b"\x02\x00\x04live", Value::string("live")),
            ("string in a code page", b"\x02\x00\x02\xd6\xd0", Value::Bytes(vec![0xd6, 0xd0])),
            ("long string", b"\x0c\x00\x00\x00\x02ab", Value::string("ab")),
            ("xml document", b"\x0f\x00\x00\x00\x02<a", Value::string("<a")),
            ("object", b"\x03\x00\x03app\x02\x00\x04live\0\0\x09", Value::object(&[("app", Value::string("live"))])),
            ("null", b"\x05", Value::Null),
            ("undefined", b"\x06", Value::Undefined),
            ("unsupported", b"\x0d", Value::Undefined),
            (
                "ECMA array that counts wrong",
                b"\x08\xff\xff\xff\xff\x00\x01w\x00\x40\x00\0\0\0\0\0\0\0\0\x09",
                Value::EcmaArray(vec![("w".into(), Value::Number(2.0))]),
            ),
            ("strict array", b"\x0a\0\0\0\x02\x05\x01\x00", Value::StrictArray(vec![Value::Null, Value::Boolean(false)])),
            ("date", b"\x0b\x40\x00\0\0\0\0\0\0\xff\xc4", Value::Date { unix_ms: 2.0, zone_minutes: -60 }),
            (
                "typed object",
                b"\x10\x00\x01C\x00\x01x\x05\0\0\x09",
                Value::TypedObject { class: "C".into(), properties: vec![("x".into(), Value::Null)] },
            ),
            ("an empty property name", b"\x03\x00\x00\x05\0\0\x09", Value::object(&[("", Value::Null)])),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(decode_all(bytes).as_deref(), Ok(std::slice::from_ref(expected)), "{name}");
            for cut in 1..bytes.len() {
                // The one cut that is no error: an object whose end marker is missing altogether.
                match decode_all(&bytes[..cut]) {
                    Err(AmfError::Truncated(_)) => {}
                    other => assert!(expected.properties().is_some(), "{name} cut at {cut}: {other:?}"),
                }
            }
            fuzz_amf(bytes);
        }
    }

    #[test]
    fn an_object_without_its_end_marker_is_taken_as_it_is() {
        let bytes = b"\x03\x00\x03app\x02\x00\x04live";
        assert_eq!(decode_all(bytes), Ok(vec![Value::object(&[("app", Value::string("live"))])]));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let deep = [&[0x0a, 0, 0, 0, 1].repeat(AMF_DEPTH_MAX)[..], &[0x05]].concat();
        let many = [&b"\x0a\xff\xff\xff\xff"[..], &vec![0x05; AMF_VALUES_MAX]].concat();
        let cases: &[(&[u8], AmfError)] = &[
            (b"\x07\x00\x01", AmfError::Reference),
            (b"\x04", AmfError::Marker(4)),
            (b"\x0e", AmfError::Marker(14)),
            (b"\x09", AmfError::Marker(9)),
            (b"\xff", AmfError::Marker(255)),
            (b"\x0c\xff\xff\xff\xffab", AmfError::Truncated(Truncated { wanted: 0xffff_ffff, left: 2 })),
            (&deep, AmfError::TooDeep),
            (&many, AmfError::TooManyValues),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decode_all(bytes), Err(*expected), "{:02x?}", &bytes[..bytes.len().min(8)]);
            fuzz_amf(bytes);
        }
        let allowed = [&[0x0a, 0, 0, 0, 1].repeat(AMF_DEPTH_MAX - 1)[..], &[0x05]].concat();
        assert!(decode_all(&allowed).is_ok());
    }

    #[test]
    fn look_ups() {
        let value = Value::object(&[("a", Value::Number(1.0)), ("b", Value::Boolean(true)), ("a", Value::Null)]);
        assert_eq!(value.get("a").and_then(Value::as_number), Some(1.0));
        assert_eq!(value.get("b").and_then(Value::as_bool), Some(true));
        assert_eq!(value.get("c"), None);
        assert_eq!(Value::Null.get("a"), None);
        assert_eq!(Value::string("x").as_str(), Some("x"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            (-1e9..1e9).prop_map(Value::Number),
            any::<bool>().prop_map(Value::Boolean),
            ".{0,20}".prop_map(Value::String),
            Just(Value::String("x".repeat(70_000))),
            Just(Value::Null),
            Just(Value::Undefined),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            let properties = prop::collection::vec((".{0,8}", inner.clone()), 0..4);
            prop_oneof![
                properties.clone().prop_map(Value::Object),
                properties.clone().prop_map(Value::EcmaArray),
                properties.prop_map(|properties| Value::TypedObject { class: "flex".into(), properties }),
                prop::collection::vec(inner, 0..4).prop_map(Value::StrictArray),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_encoded_is_decoded(value in any_value()) {
            let encoded = encode_all(std::slice::from_ref(&value));
            match decode_all(&encoded) {
                Ok(values) => prop_assert_eq!(values, vec![value]),
                Err(error) => prop_assert!(error == AmfError::TooMuchText && encoded.len() > AMF_MESSAGE_BYTES_MAX),
            }
        }

        #[test]
        fn noise_never_panics(data in prop::collection::vec(prop_oneof![0..0x12_u8, any::<u8>()], 0..200)) {
            fuzz_amf(&data);
        }
    }
}
