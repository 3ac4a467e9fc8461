//! How receivers tell that a message is ours. Computed anew for every attempt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

use crate::catalog::{Message, MessageSign};
use crate::units::WallTime;

/// A signature is valid for this long after the sending.
const VALID_S: i64 = 600;

/// The body of a message with its signature, sent at `now`.
///
/// `sign` is the MD5 of key and `t` in lower-case hexadecimal digits; `t` is when it stops being valid, Unix seconds.
pub fn signed_body(message: &Message, now: WallTime) -> String {
    let object = message.body.strip_suffix('}').unwrap_or(&message.body);
    let t = now.unix_seconds() + VALID_S;
    match message.sign {
        MessageSign::Live => format!(r#"{object},"sign":"{}","t":{t}}}"#, sign(&message.key, t)),
        MessageSign::Vod if message.key.is_empty() => message.body.clone(),
        MessageSign::Vod => format!(r#"{object},"Sign":"{}","T":{t}}}"#, sign(&message.key, t)),
    }
}

fn sign(key: &str, t: i64) -> String {
    Md5::digest(format!("{key}{t}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `webhook-id`: the same for every attempt of a message, another one for every other message.
pub fn webhook_id(message: &Message) -> String {
    format!("msg_{:x}_{}", message.create_time.unix_micros(), message.id)
}

/// `webhook-signature` of Standard Webhooks: HMAC-SHA256 over id, timestamp (Unix seconds) and body, joined by dots.
pub fn webhook_signature(key: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sign: MessageSign, key: &str) -> Message {
        Message {
            id: 7,
            url: String::new(),
            stream: String::new(),
            event: String::new(),
            sign,
            key: key.to_owned(),
            body: r#"{"a":{}}"#.to_owned(),
            create_time: WallTime::from_unix_micros(255),
            due: WallTime::default(),
            attempts: 0,
        }
    }

    #[test]
    fn signatures() {
        let now = WallTime::from_unix_seconds(1_767_225_600);
        for (kind, key, expected) in [
            (MessageSign::Live, "capstan-callback-key", r#"{"a":{},"sign":"105737e334377d65d3d88779edf7b8ea","t":1767226200}"#),
            (MessageSign::Live, "", r#"{"a":{},"sign":"9d74678f41571b36ebfb73d633ae6561","t":1767226200}"#),
            (MessageSign::Vod, "capstan-callback-key", r#"{"a":{},"Sign":"105737e334377d65d3d88779edf7b8ea","T":1767226200}"#),
            (MessageSign::Vod, "", r#"{"a":{}}"#),
        ] {
            assert_eq!(signed_body(&message(kind, key), now), expected);
        }
    }

    #[test]
    fn standard_webhooks() {
        assert_eq!(webhook_id(&message(MessageSign::Live, "")), "msg_ff_7");
        // The example of the specification's libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("Base64");
        let signature = webhook_signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
