//! Recordings on the control port: the same answers that the media listener gives, for who has these addresses.

use std::net::SocketAddr;

use super::http::{Body, HttpAnswer, HttpRequest};
use super::{ControlContext, drm, play_info, player};
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

/// What players ask for at the media listener beside media: keys, play information, the page of a player. `None`: it is none of these.
pub fn page(context: &ControlContext, asked: &Request<'_>) -> Option<Answer> {
    let request = HttpRequest {
        method: asked.method.to_owned(),
        target: asked.target.to_owned(),
        headers: asked.headers.to_vec(),
        body: Vec::new(),
        peer: asked.peer.map(|ip| SocketAddr::new(ip, 0)),
    };
    let answer = match asked.path() {
        drm::KEY_PATH => drm::answer(context, &request),
        path if path.starts_with(play_info::PREFIX) => play_info::answer(context, &request),
        path if path.starts_with(player::PREFIX) => player::answer(&request, &context.public_base),
        _ => return None,
    };
    let HttpAnswer { status, headers, body } = answer;
    let body = match body {
        Body::Bytes(bytes) => MediaBody::Bytes(bytes),
        Body::File(file) => MediaBody::File(file),
    };
    Some(Answer { status, headers, body })
}
