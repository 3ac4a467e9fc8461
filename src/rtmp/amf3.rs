//! The part of AMF3 that turns up inside AMF0 commands (Action Message Format 3, Adobe 2013): values behind the AVM+ marker.
//!
//! Object references and externalizable objects are refused: no encoder needs them to say what it publishes.

use super::amf::{AmfError, Budget, Properties, Value, lossy_name, text_value};
use crate::limits::AMF_VALUES_MAX;
use crate::wire::Reader;

/// Decodes one AMF3 value, its marker included. Each value has reference tables of its own (section 4.1).
pub(super) fn decode(reader: &mut Reader<'_>, budget: &mut Budget, depth: usize) -> Result<Value, AmfError> {
    Decoder { reader, budget, strings: Vec::new(), traits: Vec::new() }.value(depth)
}

/// Class name and sealed members of an object (section 3.12).
#[derive(Clone)]
struct Traits {
    class: String,
    members: Vec<String>,
    dynamic: bool,
}

struct Decoder<'d, 'a> {
    reader: &'d mut Reader<'a>,
    budget: &'d mut Budget,
    strings: Vec<&'a [u8]>,
    traits: Vec<Traits>,
}

impl<'a> Decoder<'_, 'a> {
    fn value(&mut self, depth: usize) -> Result<Value, AmfError> {
        Ok(match self.reader.u8()? {
            0x00 => Value::Undefined,
            0x01 => Value::Null,
            0x02 => Value::Boolean(false),
            0x03 => Value::Boolean(true),
            // 29-bit two's complement.
            0x04 => Value::Number(f64::from((self.u29()? << 3) as i32 >> 3)),
            0x05 => Value::Number(self.reader.f64()?),
            0x06 => {
                let bytes = self.string()?;
                self.budget.text(bytes.len())?;
                text_value(bytes)
            }
            0x07 | 0x0b => text_value(self.sized_bytes()?),
            0x08 => {
                self.inline()?;
                Value::Date { unix_ms: self.reader.f64()?, zone_minutes: 0 }
            }
            0x09 => self.array(depth)?,
            0x0a => self.object(depth)?,
            0x0c => Value::Bytes(self.sized_bytes()?.to_vec()),
            other => return Err(AmfError::Marker3(other)),
        })
    }

    fn nested(&mut self, depth: usize) -> Result<Value, AmfError> {
        self.budget.value(depth + 1)?;
        self.value(depth + 1)
    }

    /// Variable-length unsigned integer of 29 bits (section 1.3.1).
    fn u29(&mut self) -> Result<u32, AmfError> {
        let mut value = 0;
        for _ in 0..3 {
            let byte = u32::from(self.reader.u8()?);
            value = value << 7 | byte & 0x7f;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value << 8 | u32::from(self.reader.u8()?))
    }

    /// A length or count whose lowest bit says that the thing follows here and is no reference.
    fn inline(&mut self) -> Result<u32, AmfError> {
        match self.u29()? {
            value if value & 1 == 1 => Ok(value >> 1),
            _ => Err(AmfError::Reference),
        }
    }

    fn sized_bytes(&mut self) -> Result<&'a [u8], AmfError> {
        let length = self.inline()? as usize;
        let bytes = self.reader.take(length)?;
        self.budget.text(length)?;
        Ok(bytes)
    }

    /// A string, or a reference to an earlier one. The empty string is never referred to (section 1.3.2).
    fn string(&mut self) -> Result<&'a [u8], AmfError> {
        let head = self.u29()?;
        if head & 1 == 0 {
            return self.strings.get(head as usize >> 1).copied().ok_or(AmfError::Reference);
        }
        let bytes = self.reader.take(head as usize >> 1)?;
        if !bytes.is_empty() {
            if self.strings.len() == AMF_VALUES_MAX {
                return Err(AmfError::TooManyValues);
            }
            self.strings.push(bytes);
        }
        Ok(bytes)
    }

    fn name(&mut self) -> Result<String, AmfError> {
        let bytes = self.string()?;
        self.budget.text(bytes.len())?;
        Ok(lossy_name(bytes))
    }

    /// Names and values up to an empty name.
    fn pairs(&mut self, depth: usize, properties: &mut Properties) -> Result<(), AmfError> {
        loop {
            let name = self.name()?;
            if name.is_empty() {
                return Ok(());
            }
            properties.push((name, self.nested(depth)?));
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, AmfError> {
        let count = self.inline()?;
        let mut properties = Vec::new();
        self.pairs(depth, &mut properties)?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.nested(depth)?);
        }
        if properties.is_empty() {
            return Ok(Value::StrictArray(values));
        }
        properties.extend(values.into_iter().enumerate().map(|(index, value)| (index.to_string(), value)));
        Ok(Value::EcmaArray(properties))
    }

    fn object(&mut self, depth: usize) -> Result<Value, AmfError> {
        let head = self.inline()?;
        let Traits { class, members, dynamic } = self.traits(head)?;
        let mut properties = Vec::new();
        for member in members {
            properties.push((member, self.nested(depth)?));
        }
        if dynamic {
            self.pairs(depth, &mut properties)?;
        }
        Ok(if class.is_empty() { Value::Object(properties) } else { Value::TypedObject { class, properties } })
    }

    /// `head` is the object's head without its lowest bit.
    fn traits(&mut self, head: u32) -> Result<Traits, AmfError> {
        if head & 1 == 0 {
            let traits = self.traits.get(head as usize >> 1).ok_or(AmfError::Reference)?;
            let text_bytes = traits.class.len() + traits.members.iter().map(String::len).sum::<usize>();
            self.budget.text(text_bytes)?;
            return Ok(traits.clone());
        }
        if head & 2 != 0 {
            return Err(AmfError::Externalizable);
        }
        let count = head as usize >> 3;
        if count > AMF_VALUES_MAX {
            return Err(AmfError::TooManyValues);
        }
        let class = self.name()?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(self.name()?);
        }
        let traits = Traits { class, members, dynamic: head & 4 != 0 };
        self.traits.push(traits.clone());
        Ok(traits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::amf::{decode_all, fuzz_amf};

    #[test]
    fn values_behind_the_avm_plus_marker() {
        let cases: &[(&str, &[u8], Value)] = &[
            ("undefined", b"\x00", Value::Undefined),
            ("null", b"\x01", Value::Null),
            ("true", b"\x03", Value::Boolean(true)),
            ("integer of one byte", b"\x04\x7f", Value::Number(127.0)),
            ("integer of four bytes", b"\x04\xbf\xff\xff\xff", Value::Number(268_435_455.0)),
            ("negative integer", b"\x04\xff\xff\xff\xff", Value::Number(-1.0)),
            ("double", b"\x05\x3f\xf8\0\0\0\0\0\0", Value::Number(1.5)),
            ("string", b"\x06\x05ab", Value::string("ab")),
            ("date", b"\x08\x01\x40\x00\0\0\0\0\0\0", Value::Date { unix_ms: 2.0, zone_minutes: 0 }),
            ("byte array", b"\x0c\x05\xff\x00", Value::Bytes(vec![0xff, 0])),
            ("array", b"\x09\x05\x01\x04\x01\x06\x03x", Value::StrictArray(vec![Value::Number(1.0), Value::string("x")])),
            (
                "associative array",
                b"\x09\x03\x03k\x03\x01\x01",
                Value::EcmaArray(vec![("k".into(), Value::Boolean(true)), ("0".into(), Value::Null)]),
            ),
            ("dynamic object with a string reference", b"\x0a\x0b\x01\x07app\x06\x00\x01", Value::object(&[("app", Value::string("app"))])),
            (
                "sealed objects that share traits",
                b"\x09\x05\x01\x0a\x13\x03C\x03m\x01\x0a\x01\x03",
                Value::StrictArray(vec![
                    Value::TypedObject { class: "C".into(), properties: vec![("m".into(), Value::Null)] },
                    Value::TypedObject { class: "C".into(), properties: vec![("m".into(), Value::Boolean(true))] },
                ]),
            ),
        ];
        for (name, bytes, expected) in cases {
            let bytes = [&[0x11], *bytes].concat();
            assert_eq!(decode_all(&bytes).as_deref(), Ok(std::slice::from_ref(expected)), "{name}");
            for cut in 1..bytes.len() {
                assert!(matches!(decode_all(&bytes[..cut]), Err(AmfError::Truncated(_))), "{name} cut at {cut}");
            }
            fuzz_amf(&bytes);
        }
    }

    #[test]
    fn references_and_bombs_are_refused() {
        let long = vec![b'x'; 60_000];
        // A string of 60000 bytes, then references to it, one byte each.
        let head = [&[0x11, 0x09, 0x83, 0x7f, 0x01, 0x06, 0x87, 0xa9, 0x41][..], &long].concat();
        let bomb = [head, [0x06, 0x00].repeat(200)].concat();
        let cases: &[(&str, &[u8], AmfError)] = &[
            ("object reference", b"\x11\x0a\x00", AmfError::Reference),
            ("string reference to nowhere", b"\x11\x06\x02", AmfError::Reference),
            ("traits reference to nowhere", b"\x11\x0a\x01", AmfError::Reference),
            ("externalizable", b"\x11\x0a\x07\x03C", AmfError::Externalizable),
            ("vector", b"\x11\x0d\x01", AmfError::Marker3(0x0d)),
            ("members without end", b"\x11\x0a\xbf\xff\xff\xf3\x01", AmfError::TooManyValues),
            ("text from references", &bomb, AmfError::TooMuchText),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(decode_all(bytes), Err(*expected), "{name}");
            fuzz_amf(bytes);
        }
    }
}
