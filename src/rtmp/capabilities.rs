//! What client and server tell each other in `connect` about Enhanced RTMP v2 ("Enhancing NetConnection connect Command").

use super::amf::Value;

/// `FourCcInfoMask`: the peer need not be able to decode here, only to hand the stream on: that is what recording is.
const CAN_FORWARD: f64 = 4.0;
/// `CapsExMask`.
const CAPS_RECONNECT: u32 = 1;
const CAPS_MULTITRACK: u32 = 2;
const CAPS_MOD_EX: u32 = 4;
const CAPS_TIMESTAMP_NANO_OFFSET: u32 = 8;

const VIDEO: [&str; 6] = ["avc1", "hvc1", "vvc1", "av01", "vp08", "vp09"];
const AUDIO: [&str; 6] = ["mp4a", ".mp3", "Opus", "fLaC", "ac-3", "ec-3"];

/// The client has said something of it: older ones are not bothered with what they do not know.
pub(super) fn asks(connect: &Value) -> bool {
    ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx"].iter().any(|name| connect.get(name).is_some())
}

pub(super) fn can_reconnect(connect: &Value) -> bool {
    connect.get("capsEx").and_then(Value::as_number).is_some_and(|caps| caps as u32 & CAPS_RECONNECT != 0)
}

/// The properties of our answer.
pub(super) fn ours() -> Vec<(String, Value)> {
    let map = |names: &[&str]| Value::Object(names.iter().map(|name| ((*name).to_owned(), Value::Number(CAN_FORWARD))).collect());
    let list = VIDEO.iter().chain(&AUDIO).map(|name| Value::string(name)).collect();
    let caps = CAPS_RECONNECT | CAPS_MULTITRACK | CAPS_MOD_EX | CAPS_TIMESTAMP_NANO_OFFSET;
    [
        ("fourCcList", Value::StrictArray(list)),
        ("videoFourCcInfoMap", map(&VIDEO)),
        ("audioFourCcInfoMap", map(&AUDIO)),
        ("capsEx", Value::Number(f64::from(caps))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_ask_nothing() {
        let old = Value::object(&[("app", Value::string("live")), ("videoFunction", Value::Number(1.0))]);
        assert!(!asks(&old) && !can_reconnect(&old));
        for (name, value) in ours() {
            assert!(asks(&Value::Object(vec![(name, value)])));
        }
        for (caps, expected) in [(0.0, false), (1.0, true), (2.0, false), (15.0, true), (f64::NAN, false)] {
            assert_eq!(can_reconnect(&Value::object(&[("capsEx", Value::Number(caps))])), expected, "{caps}");
        }
        let vvc = ours().iter().find(|(name, _)| name == "videoFourCcInfoMap").and_then(|(_, map)| map.get("vvc1")).and_then(Value::as_number);
        assert_eq!(vvc, Some(4.0));
    }
}
