//! Keys of encrypted streams over HTTP, and playlists with a token in them (SimpleAES).
//!
//! ```text
//! /vod/<AppId>/<FileId>/voddrm.token.<token>.adp.12.m3u8     the playlist, its addresses with the token
//! /vodkey?fileId=<FileId>&keySource=VodBuildInKMS&edk=<edk>&token=<token>     16 bytes
//! ```

use super::ControlContext;
use super::http::{HttpAnswer, HttpRequest};
use super::tree::decode_form;
use crate::units::FileId;

/// Where the key service is.
pub const KEY_PATH: &str = "/vodkey";

/// Answers a request for a key.
pub fn answer(context: &ControlContext, request: &HttpRequest) -> HttpAnswer {
    let answer = match request.method.as_str() {
        "GET" => key(context, request),
        "OPTIONS" => HttpAnswer::empty(204).with("Access-Control-Allow-Methods", "GET, OPTIONS"),
        _ => HttpAnswer::text(405, "text/plain", "Use GET.\n").with("Allow", "GET, OPTIONS"),
    };
    // Pages of other hosts play, too; the token is what protects.
    answer.with("Access-Control-Allow-Origin", "*")
}

fn key(context: &ControlContext, request: &HttpRequest) -> HttpAnswer {
    let refused = |why: &str| HttpAnswer::text(403, "text/plain", format!("{why}\n"));
    let fields = decode_form(request.query().as_bytes()).unwrap_or_default();
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    let Some(file_id) = FileId::parse(field("fileId")) else { return refused("There is no such file.") };
    let now_s = (context.clock)().unix_seconds();
    if !context.master_key.accepts(field("token"), file_id, now_s) {
        return refused("The token is missing, wrong or too old.");
    }
    let Some((owner, key)) = context.master_key.unwrap(field("edk")) else { return refused("There is no such key.") };
    // A file that was deleted, or whose application is switched off, gives no keys.
    let is_played = context.catalog.playable(file_id).ok().flatten().is_some_and(|(_, is_played)| is_played);
    if owner != file_id || !is_played {
        return refused("There is no such key.");
    }
    let answer = match request.header("Range").and_then(range_of_segment) {
        None => HttpAnswer::text(200, "application/octet-stream", key.0.to_vec()),
        Some(from) => {
            let whole = from + key.0.len() as u64;
            HttpAnswer::text(206, "application/octet-stream", key.0.to_vec()).with("Content-Range", format!("bytes {from}-{}/{whole}", whole - 1))
        }
    };
    answer.with("Cache-Control", "no-store")
}

/// ffmpeg asks for the key of a segment that is a byte range with the range of the segment, and takes no other answer than one for that range. Nobody else
/// asks for anything behind the end of 16 bytes.
fn range_of_segment(range: &str) -> Option<u64> {
    let from = range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()?;
    (16..=u64::MAX / 2).contains(&from).then_some(from)
}

#[cfg(test)]
mod tests {
    use crate::delivery::playlist::{split_token, with_token};

    #[test]
    fn ranges_of_segments() {
        for (range, from) in [("bytes=0-99", None), ("bytes=144400-221679", Some(144_400)), ("bytes=16-", Some(16)), ("bytes=-5", None), ("x", None)]
        {
            assert_eq!(super::range_of_segment(range), from, "{range}");
        }
    }

    #[test]
    fn names_with_tokens() {
        for (name, expected) in [
            ("voddrm.token.3e8-ab.adp.12.m3u8", Some(("3e8-ab", "adp.12.m3u8"))),
            ("voddrm.token..adp.12.m3u8", None),
            ("voddrm.token.a/b.adp.12.m3u8", None),
            ("voddrm.token.a", None),
            ("voddrm.token.a.adp.12.ts", None),
            ("adp.12.m3u8", None),
        ] {
            assert_eq!(split_token(name), expected, "{name}");
        }
        assert_eq!(split_token(&format!("voddrm.token.{}.adp.12.m3u8", "a".repeat(200))), None);
    }

    #[test]
    fn playlists_with_tokens() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"i.m4s\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"../k?edk=x\",IV=1\n#EXTINF:4,\na.ts\n\
                        #EXT-X-MEDIA:TYPE=AUDIO,URI=\"a.m3u8\"\n#EXT-X-STREAM-INF:X\nv.m3u8\n";
        let expected = "#EXTM3U\n#EXT-X-MAP:URI=\"i.m4s\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"../k?edk=x&token=T\",IV=1\n#EXTINF:4,\na.ts\n\
                        #EXT-X-MEDIA:TYPE=AUDIO,URI=\"voddrm.token.T.a.m3u8\"\n#EXT-X-STREAM-INF:X\nvoddrm.token.T.v.m3u8\n";
        assert_eq!(with_token(playlist, "T"), expected);
    }
}
