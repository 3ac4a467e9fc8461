//! The page that plays one file by its FileId: `/player/<appId>/<fileId>?psign=...`. Embedded, for pages of others to embed.

use super::http::{HttpAnswer, HttpRequest};
use crate::units::FileId;

/// Where the page and its parts are.
pub const PREFIX: &str = "/player/";

/// Answers a request whose path begins with [`PREFIX`]. `media_base` is where the files are that it plays.
pub fn answer(request: &HttpRequest, media_base: &str) -> HttpAnswer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return HttpAnswer::text(405, "text/plain", "Use GET.\n").with("Allow", "GET, HEAD");
    }
    let (media_type, text) = match request.path().strip_prefix(PREFIX).unwrap_or_default() {
        "page.js" => ("text/javascript; charset=utf-8", include_str!("page.js")),
        "page.css" => ("text/css; charset=utf-8", include_str!("page.css")),
        path if is_page(path) => ("text/html; charset=utf-8", include_str!("page.html")),
        _ => return HttpAnswer::text(404, "text/plain", "There is no such player: its address is /player/<AppId>/<FileId>?psign=<signature>.\n"),
    };
    // Any page may hold it: what it shows, the signature in its address allows.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: {media_base}; media-src 'self' blob: {media_base}; \
         connect-src 'self' {media_base}; base-uri 'none'; form-action 'none'; frame-ancestors *"
    );
    HttpAnswer::text(200, media_type, text)
        .with("Cache-Control", "no-cache")
        .with("Content-Security-Policy", policy)
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", "no-referrer")
}

/// `<appId>/<fileId>`.
fn is_page(path: &str) -> bool {
    let Some((app, file)) = path.split_once('/') else { return false };
    app.parse::<u64>().is_ok() && FileId::parse(file).is_some()
}
