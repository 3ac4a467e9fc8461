//! Data messages (a name and values in AMF0) in terms that files other than FLV have a place for: JSON, and the sections of SCTE-35 that some bring.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use super::Payload;
use crate::rtmp::amf::{self, Value};
use crate::units::WallTime;
use crate::wire::crc32_mpeg;

/// A `splice_info_section` begins with this table id (SCTE 35, 9.6).
const SPLICE_TABLE_ID: u8 = 0xFC;
/// Table id, flags and length.
const SECTION_HEAD_BYTES: usize = 3;
const SECTION_BYTES_MAX: usize = SECTION_HEAD_BYTES + 0xFFF;

/// One message.
#[derive(Clone, PartialEq, Debug)]
pub struct Note {
    pub name: String,
    /// `{"name": ..., "values": [...]}`: numbers, texts, lists and objects as they are; a date as `{"unix_ms": ...}`, bytes that are no UTF-8 in Base64 as
    /// `{"base64": ...}`.
    pub json: String,
    /// The section of SCTE-35 that the message carries in Base64, as `onCuePoint`, `onSCTE35` and the like do.
    pub splice: Option<Vec<u8>>,
}

/// Reads the body of a data message. `None` if it is not a name and values.
pub fn parse(body: &[u8]) -> Option<Note> {
    let values = amf::decode_all(body).ok()?;
    let (name, values) = values.split_first()?;
    let name = name.as_str()?.to_owned();
    let splice = values.iter().find_map(splice);
    let json = Json::Object(Map::from_iter([
        ("name".to_owned(), Json::String(name.clone())),
        ("values".to_owned(), Json::Array(values.iter().map(json).collect())),
    ]));
    Some(Note { name, json: json.to_string(), splice })
}

/// How an onFI message begins.
const ON_FI: &[u8; 7] = b"\x02\0\x04onFI";

/// The time of day that an `onFI` message tells: `sd` is day, month and year, `st` the time with milliseconds, both taken as UTC. `None` for other messages.
pub fn time_of_day(body: &Payload<'_>) -> Option<WallTime> {
    let mut name = [0; ON_FI.len()];
    if body.peek(&mut name) < name.len() || name != *ON_FI {
        return None;
    }
    let values = amf::decode_all(&body.to_vec()).ok()?;
    let text = |name: &str| values.iter().find_map(|value| value.get(name)?.as_str());
    let date = jiff::civil::Date::strptime("%d-%m-%Y", text("sd")?.trim()).ok()?;
    let time: jiff::civil::Time = text("st")?.trim().parse().ok()?;
    let timestamp = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(WallTime::from_unix_micros(timestamp.as_microsecond()))
}

fn json(value: &Value) -> Json {
    let object = |properties: &[(String, Value)]| Json::Object(properties.iter().map(|(name, value)| (name.clone(), json(value))).collect());
    match value {
        // Whole numbers without a point; what JSON does not know (infinity, not a number) is null.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Json::Number((*number as i64).into()),
        Value::Number(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::Boolean(value) => Json::Bool(*value),
        Value::String(text) => Json::String(text.clone()),
        Value::Bytes(bytes) => Json::Object(Map::from_iter([("base64".to_owned(), Json::String(STANDARD.encode(bytes)))])),
        Value::Object(properties) | Value::EcmaArray(properties) | Value::TypedObject { properties, .. } => object(properties),
        Value::StrictArray(values) => Json::Array(values.iter().map(json).collect()),
        Value::Date { unix_ms, .. } => Json::Object(Map::from_iter([("unix_ms".to_owned(), json(&Value::Number(*unix_ms)))])),
        Value::Null | Value::Undefined => Json::Null,
    }
}

/// The section in a value or in what it holds.
fn splice(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) if text.len() <= SECTION_BYTES_MAX * 4 / 3 + 4 => {
            let bytes = STANDARD.decode(text.trim()).ok()?;
            is_splice(&bytes).then_some(bytes)
        }
        Value::Bytes(bytes) => is_splice(bytes).then(|| bytes.clone()),
        Value::StrictArray(values) => values.iter().find_map(splice),
        other => other.properties()?.iter().find_map(|(_, value)| splice(value)),
    }
}

/// A whole section with a right checksum: a text that looks like one by chance does not have that.
fn is_splice(bytes: &[u8]) -> bool {
    let &[SPLICE_TABLE_ID, high, low, ..] = bytes else { return false };
    SECTION_HEAD_BYTES + usize::from(u16::from_be_bytes([high & 0x0F, low])) == bytes.len() && crc32_mpeg(bytes) == 0
}

/// Any bytes: a note or none, and its JSON can be read.
pub fn fuzz_note(data: &[u8]) {
    if let Some(note) = parse(data) {
        let value: Json = serde_json::from_str(&note.json).expect("what was written is JSON");
        assert_eq!(value["name"], note.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_what_they_say() {
        let values = [
            Value::string("onCuePoint"),
            Value::EcmaArray(vec![("name".to_owned(), Value::string("a \"b\"")), ("time".to_owned(), Value::Number(1.5))]),
            Value::StrictArray(vec![Value::Number(3.0), Value::Boolean(true), Value::Null, Value::Number(f64::NAN)]),
            Value::Date { unix_ms: 1_767_225_600_123.0, zone_minutes: 0 },
            Value::Bytes(vec![0xFF, 0xFE]),
        ];
        let note = parse(&amf::encode_all(&values)).unwrap();
        assert_eq!(note.name, "onCuePoint");
        let expected =
            r#"{"name":"onCuePoint","values":[{"name":"a \"b\"","time":1.5},[3,true,null,null],{"unix_ms":1767225600123},{"base64":"//4="}]}"#;
        assert_eq!(serde_json::from_str::<Json>(&note.json).unwrap(), serde_json::from_str::<Json>(expected).unwrap());
        assert_eq!(note.splice, None);
        assert_eq!(parse(&amf::encode_all(&[Value::Number(1.0)])), None);
        assert_eq!(parse(b"\x02\0\x0aonText"), None);
    }

    #[test]
    fn an_encoder_tells_the_time() {
        let message = |name: &str, sd: &str, st: &str| {
            amf::encode_all(&[
                Value::string(name),
                Value::EcmaArray(vec![("sd".to_owned(), Value::string(sd)), ("st".to_owned(), Value::string(st))]),
            ])
        };
        for (name, sd, st, expected) in [
            ("onFI", "26-11-2026", "14:03:05.200", Some(1_795_701_785_200_000)),
            ("onFI", "01-01-1970", "00:00:01", Some(1_000_000)),
            ("onFI", "31-02-2026", "14:03:05.200", None),
            ("onFI", "26-11-2026", "25:00:00", None),
            ("onXY", "26-11-2026", "14:03:05.200", None),
        ] {
            let found = time_of_day(&Payload::contiguous(&message(name, sd, st)));
            assert_eq!(found.map(|wall| wall.unix_micros()), expected, "{name} {sd} {st}");
        }
    }

    #[test]
    fn splices_are_found_by_their_checksum() {
        // SCTE 35, 14.1: a time_signal.
        let text = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg==";
        let wrong = text.replace("cr0A", "cr0B");
        for (name, value, found) in [
            ("a value", Value::string(text), true),
            ("a property", Value::object(&[("type", Value::string("event")), ("parameters", Value::object(&[("data", Value::string(text))]))]), true),
            ("a wrong checksum", Value::string(&wrong), false),
            ("a text", Value::string("/DA0"), false),
        ] {
            let note = parse(&amf::encode_all(&[Value::string("onSCTE35"), value])).unwrap();
            assert_eq!(note.splice.is_some(), found, "{name}");
        }
    }
}
