//! From a request to its answer: which room it is for, the checks of a call in their order, one log line.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::access::Caller;
use super::actions::Waiting;
use super::counters::{Counters, count};
use super::errors::ApiError;
use super::http::{HttpAnswer, HttpRequest};
use super::protocol::{Form, Reply, envelope};
use super::{ControlContext, actions, auth, console, drm, media, play_info, player};
use crate::delivery::resolve;
use crate::units::WallTime;

/// Name of the request log in filters: `info,capstan::request=warn`.
const LOG: &str = "capstan::request";

/// A call that may wait has a few short parameters.
const WAITING_BODY_BYTES_MAX: usize = 16 << 10;

/// What became of a request.
pub enum Handled {
    Answer(HttpAnswer),
    /// Its call may wait: see [`Control::handle`].
    Waits,
}

/// The control plane without its sockets.
pub struct Control {
    pub context: Arc<ControlContext>,
    pub counters: Counters,
}

impl Control {
    pub fn new(context: Arc<ControlContext>) -> Self {
        Self { context, counters: Counters::default() }
    }

    /// Answers any request, or says that its call waits for something to tell: then it is to be answered by a thread of its own, or without waiting.
    /// A panic behind it ends this request only.
    pub fn handle(&self, request: &HttpRequest) -> Handled {
        match request.path() {
            "/" if !console::is_page(request) && self.waits(request) => Handled::Waits,
            _ => Handled::Answer(self.answer(request, Waiting::Not)),
        }
    }

    /// Answers any request here and now; where `waiting` is allowed this may take some seconds.
    pub fn answer(&self, request: &HttpRequest, waiting: Waiting) -> HttpAnswer {
        let answer = match request.path() {
            "/" if !console::is_page(request) => self.api(request, waiting),
            path => catch_unwind(AssertUnwindSafe(|| self.page(path, request))).unwrap_or_else(|panic| {
                count(&self.counters.panics);
                tracing::error!(path, panic = panic_text(panic.as_ref()), "a request ended in a panic");
                HttpAnswer::text(500, "text/plain", "The appliance could not answer; its log says why.\n")
            }),
        };
        self.counters.request(answer.status);
        answer
    }

    /// A call of an action that waits. Whether it is a rightful one is found out in its own thread: a wrong one ends there at once.
    fn waits(&self, request: &HttpRequest) -> bool {
        // Only these requests are read twice: calls of them are small, and name the action early.
        let names_it = |text: &str| text.contains("PullEvents") || text.contains("pullEvents");
        let is_small = request.body.len() <= WAITING_BODY_BYTES_MAX;
        let is_named = is_small
            && (request.header("X-TC-Action").is_some_and(names_it)
                || names_it(&request.target)
                || std::str::from_utf8(&request.body).is_ok_and(names_it));
        let read = || actions::find(&Form::read(request)?.call()?).map(|action| action.waits);
        is_named && catch_unwind(AssertUnwindSafe(read)).is_ok_and(|waits| waits.unwrap_or(false))
    }

    fn page(&self, path: &str, request: &HttpRequest) -> HttpAnswer {
        let begun = Instant::now();
        let context = &self.context;
        let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
        let answer = match path {
            "/" => console::answer(request, "", &context.public_base),
            path if path.starts_with(console::PREFIX) => console::answer(request, &path[console::PREFIX.len()..], &context.public_base),
            path if resolve::is_media(path) => {
                count(&self.counters.media_requests);
                media::answer(context, request)
            }
            drm::KEY_PATH => drm::answer(context, request),
            path if path.starts_with(play_info::PREFIX) => play_info::answer(context, request),
            path if path.starts_with(player::PREFIX) => player::answer(request, &context.public_base),
            "/metrics" | "/healthz" if !is_read => HttpAnswer::text(405, "text/plain", "Use GET.\n").with("Allow", "GET, HEAD"),
            "/metrics" => HttpAnswer::text(
                200,
                "text/plain; version=0.0.4",
                (context.metrics_text)() + &self.counters.render() + &context.media.counters.render(),
            ),
            "/healthz" => match (context.health)() {
                Ok(state) => HttpAnswer::text(200, "application/json", state),
                Err(state) => HttpAnswer::text(503, "application/json", state),
            },
            _ => HttpAnswer::text(404, "text/plain", "There is nothing here. The console and the API are at /, finished files are under /vod/.\n"),
        };
        tracing::debug!(method = request.method, path, status = answer.status, us = begun.elapsed().as_micros() as u64, "http");
        answer
    }

    fn api(&self, request: &HttpRequest, waiting: Waiting) -> HttpAnswer {
        let begun = Instant::now();
        let request_id = uuid::Uuid::new_v4().to_string();
        let mut called = Called { caller: None, action: "-" };
        let now = (self.context.clock)();
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&self.context, request, now, begun, waiting, &mut called))).unwrap_or_else(|panic| {
            count(&self.counters.panics);
            Err(ApiError::internal(format!("panic: {}", panic_text(panic.as_ref()))))
        });
        let us = begun.elapsed().as_micros() as u64;
        let peer = request.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let code = outcome.as_ref().map_or_else(|error| error.code, |_| "ok");
        let Called { caller, action } = called;
        let caller = caller.map_or_else(|| "-".to_owned(), |caller| caller.to_string());
        self.counters.call(action, code);
        // A target of its own: whoever asks with a RequestId finds its line, and whoever polls a lot can switch these lines off.
        match &outcome {
            Err(ApiError { detail: Some(detail), .. }) => tracing::error!(target: LOG, request_id, caller, action, code, us, peer, detail, "call"),
            Err(error) => tracing::info!(target: LOG, request_id, caller, action, code, us, peer, reason = error.message, "call"),
            Ok(_) => tracing::info!(target: LOG, request_id, caller, action, code, us, peer, "call"),
        }
        match outcome {
            Ok(mut reply) => {
                let context = &self.context;
                reply.values_mut().for_each(|value| context.signing(now).all(value));
                envelope(Ok(reply), &request_id)
            }
            Err(error) => envelope(Err(&error), &request_id),
        }
    }
}

/// What is known of a call so far, for the log.
struct Called {
    caller: Option<Caller>,
    action: &'static str,
}

/// The checks in their fixed order: form, signature, version and action, role, rate, parameters; then the action itself.
fn call(
    context: &ControlContext,
    request: &HttpRequest,
    now: WallTime,
    begun: Instant,
    waiting: Waiting,
    called: &mut Called,
) -> Result<Reply, ApiError> {
    let form = Form::read(request)?;
    let access = context.access.load_full();
    let caller = auth::check(&access, &form, now)?;
    called.caller = Some(caller.clone());
    let call = form.call()?;
    if call.version.is_none() && matches!(caller, Caller::Key { .. }) {
        // Calls by hand may leave it out, client libraries never do.
        return Err(ApiError::missing("Version"));
    }
    let found = actions::find(&call)?;
    called.action = found.name;
    caller.authorize(found.name)?;
    access.admit(&caller, found.name, begun)?;
    (found.run)(&actions::Scope { context, now, caller: &caller, waiting }, call.parameters?)
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
