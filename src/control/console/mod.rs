//! The console: one page and its parts, embedded. It has no rights of its own: everything it shows and does goes through the API.

use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::http::{HttpAnswer, HttpRequest};

/// Where the page's parts are.
pub const PREFIX: &str = "/console/";

struct Part {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! parts {
    ($($name:literal),+ $(,)?) => {
        &[$( Part { name: $name, media_type: media_type($name), bytes: include_bytes!($name) } ),+]
    };
}

const fn media_type(name: &str) -> &'static str {
    match name.as_bytes() {
        [.., b'.', b'j', b's'] => "text/javascript; charset=utf-8",
        [.., b'.', b'c', b's', b's'] => "text/css; charset=utf-8",
        [.., b'.', b's', b'v', b'g'] => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

const PARTS: &[Part] = parts![
    "index.html",
    "style.css",
    "icon.svg",
    "app.js",
    "api.js",
    "dom.js",
    "digest.js",
    "format.js",
    "player.js",
    "qr.js",
    "query.js",
    "widgets.js",
    "pages/callbacks.js",
    "pages/definitions.js",
    "pages/login.js",
    "pages/overview.js",
    "pages/processing.js",
    "pages/push.js",
    "pages/recordings.js",
    "pages/recording.js",
    "pages/rules.js",
    "pages/settings.js",
    "pages/tasks.js",
    "pages/templates.js",
    "pages/watch.js",
];

/// The player library that the build found, and its licence; empty without.
const HLS_PLAYER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hls-player.js"));
const HLS_PLAYER_LICENSE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hls-player.LICENSE"));

/// The build has embedded a player for browsers that play no HLS.
pub const fn has_hls_player() -> bool {
    !HLS_PLAYER.is_empty()
}

fn find(name: &str) -> Option<Part> {
    match name {
        "vendor/hls.mjs" if has_hls_player() => Some(Part { name: "vendor/hls.mjs", media_type: media_type("player.js"), bytes: HLS_PLAYER }),
        "vendor/hls.LICENSE" if has_hls_player() => {
            Some(Part { name: "vendor/hls.LICENSE", media_type: "text/plain; charset=utf-8", bytes: HLS_PLAYER_LICENSE })
        }
        _ => PARTS.iter().find(|part| part.name == name).map(|part| Part { ..*part }),
    }
}

/// Whether a request for `/` wants the page: it names no action in any of the forms, and is no call that forgot it.
pub fn is_page(request: &HttpRequest) -> bool {
    let has_any_header = ["X-TC-Action", "X-TC-Version", "Authorization"].iter().any(|name| request.header(name).is_some());
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    is_read && !has_any_header && request.query().is_empty()
}

/// Answers a request for a part; `""` is the page. `media_base` is where the files it plays are.
pub fn answer(request: &HttpRequest, name: &str, media_base: &str) -> HttpAnswer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return HttpAnswer::text(405, "text/plain", "Use GET.\n").with("Allow", "GET, HEAD");
    }
    let Some(part) = find(if name.is_empty() { "index.html" } else { name }) else {
        return HttpAnswer::text(404, "text/plain", "The console has no such part.\n");
    };
    let etag = etag(&part);
    let base = |status: u16| {
        HttpAnswer::empty(status)
            .with("ETag", etag.clone())
            // Asked for anew each time, sent only if it changed: after an update nobody sees a mixture.
            .with("Cache-Control", "no-cache")
            .with("Content-Security-Policy", policy(media_base))
            .with("X-Content-Type-Options", "nosniff")
            .with("X-Frame-Options", "DENY")
            .with("Referrer-Policy", "no-referrer")
            .with("Cross-Origin-Opener-Policy", "same-origin")
    };
    if request.header("If-None-Match").is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)) {
        return base(304);
    }
    base(200).with("Content-Type", part.media_type).with_bytes(part.bytes.to_vec())
}

/// Nothing from elsewhere but the files it plays; `blob:` is where the player library puts what it has unpacked.
fn policy(media_base: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: {media_base}; media-src 'self' blob: {media_base}; \
         connect-src 'self' {media_base}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// One for the whole console: its parts belong together.
fn etag(part: &Part) -> String {
    static DIGEST: OnceLock<String> = OnceLock::new();
    let digest = DIGEST.get_or_init(|| {
        let mut digest = Sha256::new();
        for bytes in PARTS.iter().map(|part| part.bytes).chain([HLS_PLAYER]) {
            digest.update(bytes);
        }
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    });
    format!("\"{digest}-{}\"", part.name.replace('/', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::http::Body;

    fn request(target: &str, headers: &[(&str, &str)]) -> HttpRequest {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        HttpRequest { method: "GET".to_owned(), target: target.to_owned(), headers, body: Vec::new(), peer: None }
    }

    #[test]
    fn the_page_is_only_what_no_call_is() {
        assert!(is_page(&request("/", &[])));
        assert!(is_page(&request("/", &[("Accept", "text/html")])));
        for (target, headers) in [
            ("/?Action=SearchMedia", vec![]),
            ("/?Version=2018-08-01", vec![]),
            ("/", vec![("x-tc-action", "SearchMedia")]),
            ("/", vec![("Authorization", "TC3-HMAC-SHA256 x")]),
        ] {
            assert!(!is_page(&request(target, &headers)), "{target} {headers:?}");
        }
    }

    #[test]
    fn parts_are_served_with_their_types_and_not_twice() {
        for (name, media_type) in [("", "text/html"), ("style.css", "text/css"), ("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")] {
            let answer = answer(&request("/", &[]), name, "http://m.example");
            assert_eq!((answer.status, answer.header("Content-Type").unwrap().starts_with(media_type)), (200, true), "{name}");
            assert!(matches!(&answer.body, Body::Bytes(bytes) if bytes.len() > 100), "{name}");
            let etag = answer.header("ETag").unwrap().to_owned();
            let again = super::answer(&request("/", &[("If-None-Match", &etag)]), name, "http://m.example");
            assert_eq!(again.status, 304);
            assert!(answer.header("Content-Security-Policy").unwrap().contains("media-src 'self' blob: http://m.example;"));
        }
        assert_eq!(answer(&request("/", &[]), "../mod.rs", "").status, 404);
    }

    /// What the page loads is embedded, and nothing comes from elsewhere.
    #[test]
    fn every_import_is_a_part() {
        for part in PARTS.iter().filter(|part| part.name.ends_with(".js")) {
            let text = std::str::from_utf8(part.bytes).unwrap();
            let folder = part.name.rsplit_once('/').map_or("", |(folder, _)| folder);
            for line in text.lines().filter(|line| line.starts_with("import ") || line.starts_with("export * from")) {
                let path = line.split('"').nth(1).unwrap_or_else(|| panic!("{}: {line}", part.name));
                let path = match path.strip_prefix("../") {
                    Some(path) => path.to_owned(),
                    None => [folder, path.trim_start_matches("./")].join("/").trim_start_matches('/').to_owned(),
                };
                assert!(find(&path).is_some(), "{} imports {path}", part.name);
            }
            assert!(!text.contains("https://"), "{}", part.name);
        }
    }
}
