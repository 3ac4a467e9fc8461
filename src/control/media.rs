//! Recordings on the control port: the same answers that the media listener gives, for who has these addresses.

use super::ControlContext;
use super::http::{Body, HttpAnswer, HttpRequest};
use crate::delivery::http::{Answer, Body as MediaBody, Request};
use crate::delivery::resolve::{Answered, answer as resolve};

/// Answers a request that [`crate::delivery::resolve::is_media`] takes.
pub fn answer(context: &ControlContext, request: &HttpRequest) -> HttpAnswer {
    let peer = request.peer.map(|peer| peer.ip().to_canonical());
    let asked = Request { method: &request.method, target: &request.target, headers: &request.headers, peer };
    match resolve(&context.media, &asked) {
        Answered::Now(Answer { status, headers, body }) => {
            let body = match body {
                MediaBody::Bytes(bytes) => Body::Bytes(bytes),
                MediaBody::File(file) => Body::File(file),
            };
            HttpAnswer { status, headers, body }
        }
        // The few threads here do not wait.
        Answered::NotYet => HttpAnswer::text(404, "text/plain", "The recording has no complete segment yet.\n").with("Retry-After", "1"),
    }
}
