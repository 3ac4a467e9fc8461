//! One connection: bytes in, protocol events to the recorder, replies out.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::domain::event::{LiveEvent, LiveEventKind, Publisher};
use crate::domain::live::LiveFigures;
use crate::domain::task::TaskScheduler;
use crate::domain::{LiveStream, Policy};
use crate::media::Tracks;
use crate::metrics::CoreMetrics;
use crate::recorder::{Now, Publication, Recorder, Totals};
use crate::rtmp::message::MediaKind;
use crate::rtmp::session::{Event, PublishRequest, Session};
use crate::segment::{CoreStore, faults};
use crate::units::{MonoTime, PublicationId, WallTime};

use super::pace::{LargeReads, Pace};
use super::publish::{self, EndCause, publish_name, push_url};
use super::publishing::{Ending, Publishing, announce_tracks, is_data};
use super::reasons::{CloseReason, Refusal};
use super::tls::Tls;
use super::{DuplicatePublisher, Shared};

/// Longest wait for a listener at the other end of our replies; they are a few hundred bytes, so a full socket buffer means a dead or hostile peer.
const REPLY_BYTES_MAX: usize = 64 << 10;

/// `errcode` of every refused publication.
const REFUSED: u32 = 18;

/// Chunks above this are an error of the published stream (documented).
const CHUNK_BYTES_USUAL: u32 = 8_192;

/// What a connection works with while it is served.
pub struct Service<'a> {
    pub core: usize,
    pub now: Now,
    pub store: &'a mut CoreStore,
    pub metrics: &'a CoreMetrics,
    pub shared: &'a Shared,
    /// Room for decrypted input.
    pub plain: &'a mut Vec<u8>,
    /// Publications that are over and wait for storage that is busy.
    pub ending: &'a mut Vec<Ending>,
}

/// How a connection stands after it was served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
    /// All input is used up.
    Idle,
    /// There may be more to read.
    More,
    /// The storage is busy: do not read, come again next tick.
    Blocked,
}

/// With less than this part of the arena free, or less than this many units, nobody new is taken in: the rest is for those who are.
const NO_MEMORY_PART: usize = 32;
const NO_MEMORY_UNITS: usize = 16;

pub struct Connection {
    pub stream: TcpStream,
    /// RTMPS.
    tls: Option<Box<Tls>>,
    pub peer: SocketAddr,
    /// Its number on its core.
    pub token: u64,
    pub pace: Pace,
    /// It is on the core's list of those that have something to flush.
    pub to_flush: bool,
    pub looked_after: MonoTime,
    /// Bytes read, and what it was when the pace was last looked at, at that moment.
    received_bytes: u64,
    paced: (u64, MonoTime),
    /// The pace of its publication was not looked at yet.
    is_new: bool,
    large_reads: LargeReads,
    session: Session,
    /// Input that could not be used yet because the storage was busy.
    pending: Vec<u8>,
    /// The peer has closed its side: read on to the end, there will be no further event.
    hung_up: bool,
    /// We end it: what was read already goes in, whether the storage is busy or not.
    ending: bool,
    opened: MonoTime,
    last_input: MonoTime,
    publishing: Option<Box<Publishing>>,
}

impl Connection {
    pub fn new((stream, tls): (TcpStream, Option<Box<Tls>>), peer: SocketAddr, token: u64, session: Session, now: MonoTime) -> Self {
        Self {
            stream,
            tls,
            peer,
            token,
            pace: Pace::Young,
            to_flush: false,
            looked_after: now,
            received_bytes: 0,
            paced: (0, now),
            is_new: true,
            large_reads: LargeReads::default(),
            session,
            pending: Vec::new(),
            hung_up: false,
            ending: false,
            opened: now,
            last_input: now,
            publishing: None,
        }
    }

    /// The edge-triggered event said that the peer has closed its side. What it sent before may still wait to be read, and a read that is not full
    /// says nothing about the end behind it.
    pub fn hang_up(&mut self) {
        self.hung_up = true;
    }

    /// The pace that suits what it sends.
    pub fn new_pace(&mut self, now: MonoTime) -> Pace {
        let (bytes, since) = self.paced;
        let (bytes, elapsed_ms) = (self.received_bytes - bytes, now.millis_since(since));
        if self.pace == Pace::Young || !Pace::is_due(self.is_new, bytes, elapsed_ms) {
            return self.pace;
        }
        self.paced = (self.received_bytes, now);
        self.is_new = false;
        self.pace.at(bytes * 1_000 / elapsed_ms)
    }

    /// It had so much to read. True: it is to be read at [`Pace::Brisk`] from now on, and its rate is taken anew.
    pub fn hurries(&mut self, bytes: u64, now: MonoTime) -> bool {
        let hurries = self.large_reads.note(self.pace, bytes);
        if hurries {
            self.paced = (self.received_bytes, now);
        }
        hurries
    }

    pub fn is_publishing(&self) -> bool {
        self.publishing.is_some()
    }

    pub fn publication(&self) -> Option<PublicationId> {
        self.publishing.as_ref().map(|publishing| publishing.id)
    }

    /// Reads once and uses what came.
    ///
    /// # Errors
    /// The reason to close the connection; its publication must then be ended with [`Connection::close`].
    pub fn serve(&mut self, buffer: &mut [u8], service: &mut Service<'_>) -> Result<Served, CloseReason> {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            if self.feed(&pending, service)? == Served::Blocked {
                return Ok(Served::Blocked);
            }
        }
        if self.is_blocked() {
            return Ok(Served::Blocked);
        }
        let count = match rustix::net::recv(&self.stream, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(CloseReason::Eof),
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Served::Idle),
            Err(error) => return Err(CloseReason::Network(error.into())),
        };
        self.last_input = service.now.mono;
        self.received_bytes += count as u64;
        let served = match &mut self.tls {
            None => self.feed(&buffer[..count], service),
            Some(_) => self.feed_tls(&buffer[..count], service),
        };
        // What was asked is answered also when the next byte was wrong.
        let sent = self.send_replies();
        match served? {
            Served::Blocked => Ok(Served::Blocked),
            _ => {
                sent?;
                Ok(if self.hung_up || count == buffer.len() { Served::More } else { Served::Idle })
            }
        }
    }

    /// Bytes read from the socket so far.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Input of RTMPS: decrypts it all, then uses it as it would have come by RTMP.
    fn feed_tls(&mut self, input: &[u8], service: &mut Service<'_>) -> Result<Served, CloseReason> {
        let Some(tls) = &mut self.tls else { return Ok(Served::Idle) };
        let mut plain = std::mem::take(service.plain);
        plain.clear();
        let received = tls.receive(input, &mut plain);
        let closed = tls.is_closed();
        let served = self.feed(&plain, service);
        *service.plain = plain;
        received.map_err(CloseReason::Tls)?;
        match served? {
            Served::Idle if closed => Err(CloseReason::Eof),
            served => Ok(served),
        }
    }

    fn is_blocked(&self) -> bool {
        self.publishing.as_ref().is_some_and(|publishing| publishing.recorder.is_blocked())
    }

    fn feed(&mut self, input: &[u8], service: &mut Service<'_>) -> Result<Served, CloseReason> {
        let mut consumed = 0;
        loop {
            if self.is_blocked() && !self.ending {
                self.pending.extend_from_slice(&input[consumed..]);
                return Ok(Served::Blocked);
            }
            match self.session.poll(input, &mut consumed).map_err(CloseReason::Protocol)? {
                None => return Ok(Served::Idle),
                Some(Event::Media { kind, timestamp_ms, payload }) => {
                    let Some(publishing) = &mut self.publishing else { continue };
                    publishing.in_recorder = true;
                    let recorder = &mut publishing.recorder;
                    let mut taken = Ok(());
                    match kind {
                        MediaKind::Video => taken = recorder.video(timestamp_ms, payload, service.now, service.store),
                        MediaKind::Audio => taken = recorder.audio(timestamp_ms, payload, service.now, service.store),
                        MediaKind::Data if announce_tracks(recorder, &payload) => {}
                        MediaKind::Data if is_data(&payload) => {
                            recorder.data(timestamp_ms, payload, service.now, service.store);
                            faults::defect("data", &publishing.name.key.stream);
                        }
                        MediaKind::Data => {
                            tracing::debug!(client = %self.peer, bytes = payload.len(), "a data message that cannot be read, or too long to be kept")
                        }
                    }
                    publishing.in_recorder = false;
                    taken.map_err(CloseReason::Tag)?;
                }
                Some(Event::Refused { code, description }) => {
                    tracing::warn!(client = %self.peer, code, description, "refused");
                }
                Some(Event::Publish(request)) => self.publish(&request, service)?,
                Some(Event::PublishEnd(_)) => self.end_publication(EndCause::Closed, service),
            }
        }
    }

    /// Admits a publication, or refuses it with a reason.
    fn publish(&mut self, request: &PublishRequest, service: &mut Service<'_>) -> Result<(), CloseReason> {
        self.end_publication(EndCause::Closed, service);
        let shared = service.shared;
        let policy = shared.policy.load();
        let address = &request.address;
        let name = publish_name(&address.host, &address.app, &address.stream, &address.query, &shared.settings.default_domain, &policy);
        let id = shared.next_publication();
        let publisher = Arc::new(Publisher {
            key: name.key.clone(),
            publication: id,
            publish_time: service.now.wall,
            client_ip: self.peer.ip().to_string(),
            stream_param: address.query.clone(),
            alias_domain: name.alias.as_ref().map_or_else(String::new, |alias| alias.domain.to_string()),
        });
        let figures = Arc::new(LiveFigures::default());
        let live = LiveStream {
            key: name.key.clone(),
            publication: id,
            core: service.core,
            connection: self.token,
            publish_time: service.now.wall,
            client: publisher.client_ip.clone(),
            stream_param: address.query.clone(),
            figures: Arc::clone(&figures),
        };
        let admit = |policy: &Policy| {
            publish::admit(&name, &address.query, &policy.admission, service.now.wall, shared.settings.added_domains_only)
                .map_err(Refusal::NotAdmitted)
        };
        if let Err(refusal) = admit(&policy) {
            return self.refuse(refusal, publisher, service);
        }
        if let Some(refusal) = no_room(service) {
            return self.refuse(refusal, publisher, service);
        }
        let replaced = {
            let mut streams = shared.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if streams.len() >= shared.settings.publishers_max {
                drop(streams);
                return self.refuse(Refusal::TooMany, publisher, service);
            }
            if shared.settings.duplicate_publisher == DuplicatePublisher::Refuse && streams.get(&name.key).is_some() {
                drop(streams);
                return self.refuse(Refusal::NameInUse, publisher, service);
            }
            // A stream that is forbidden meanwhile is refused here, or found in the table by the call that forbids it.
            let newest = shared.policy.load();
            if newest.version != policy.version
                && let Err(refusal) = admit(&newest)
            {
                drop(streams);
                return self.refuse(refusal, publisher, service);
            }
            streams.begin(live)
        };
        if let Some(old) = replaced
            && !shared.end_publication(old.core, old.connection, old.publication, EndCause::Replaced)
        {
            tracing::error!(stream = %name.key, "the core of the replaced publisher does not take commands");
        }
        tracing::info!(stream = %name.key, publication = %id, client = %self.peer, encoder = %request.encoder, "publishing began");
        service.metrics.publication_began();
        let publication = Publication {
            id,
            key: name.key.clone(),
            push_url: push_url(&name.key, &address.query),
            stream_param: address.query.clone(),
            alias_domain: publisher.alias_domain.clone(),
        };
        let publishing = self.publishing.insert(Box::new(Publishing {
            id,
            recorder: Recorder::new(publication, shared.settings.recorder),
            in_recorder: false,
            tasks: TaskScheduler::default(),
            policy_version: policy.version,
            next_task_check: None,
            since: service.now,
            audio_only: publish::query_value(&address.query, "record_type").is_some_and(|kind| kind.eq_ignore_ascii_case("audio")),
            chunk_bytes: 0,
            reported: Totals::default(),
            told_tracks: Tracks::default(),
            figures,
            shown: (service.now.mono, 0),
            name,
            publisher,
        }));
        publishing.tell(LiveEventKind::PublishBegan, service);
        publishing.in_recorder = true;
        publishing.start_rule(&policy, service);
        publishing.schedule_tasks(&policy, service);
        publishing.in_recorder = false;
        (self.paced, self.is_new) = ((self.received_bytes, service.now.mono), true);
        self.session.accept_publish();
        Ok(())
    }

    fn refuse(&mut self, refusal: Refusal, publisher: Arc<Publisher>, service: &Service<'_>) -> Result<(), CloseReason> {
        let kind = LiveEventKind::PublishRefused { code: REFUSED, message: refusal.event_message() };
        service.shared.events.send(LiveEvent { publisher, time: service.now.wall, kind });
        self.session.refuse_publish(refusal.reason(), refusal.message());
        self.send_replies()?;
        Err(CloseReason::Refused(refusal))
    }

    /// When a task's window begins or ends next.
    pub fn next_task_check(&self) -> Option<WallTime> {
        self.publishing.as_ref().and_then(|publishing| publishing.next_task_check)
    }

    /// Something was recorded that [`Connection::flush`] with `rest` has not handed on.
    pub fn has_unflushed(&self) -> bool {
        self.publishing.as_ref().is_some_and(|publishing| publishing.recorder.has_unflushed())
    }

    /// What was received shall go to the disk; `rest`: also what waited for the next frame.
    pub fn flush(&mut self, rest: bool, store: &mut CoreStore) {
        if let Some(publishing) = &mut self.publishing {
            publishing.in_recorder = true;
            if rest {
                publishing.recorder.flush_rest(store);
            } else {
                publishing.recorder.flush(store);
            }
            faults::defect("flush", &publishing.name.key.stream);
            publishing.in_recorder = false;
        }
    }

    /// From time to time for a publishing connection: tasks, storage, counters.
    pub fn tick(&mut self, policy: &Policy, service: &mut Service<'_>) {
        self.look_at_chunks(service.now);
        let Some(publishing) = &mut self.publishing else { return };
        publishing.in_recorder = true;
        if publishing.policy_version != policy.version || publishing.next_task_check.is_some_and(|check| service.now.wall >= check) {
            publishing.policy_version = policy.version;
            publishing.schedule_tasks(policy, service);
        }
        publishing.recorder.tick(service.now, service.store);
        faults::defect("tick", &publishing.name.key.stream);
        publishing.in_recorder = false;
        publishing.report(service.metrics, service.shared, service.now);
        publishing.show(service.now.mono);
    }

    /// Notes chunks that are larger than they should be.
    fn look_at_chunks(&mut self, now: Now) {
        let Some(publishing) = &mut self.publishing else { return };
        let chunk_bytes = self.session.chunk_bytes_in();
        if std::mem::replace(&mut publishing.chunk_bytes, chunk_bytes) == chunk_bytes {
            return;
        }
        // A publisher that took over what we send ourselves did nothing wrong.
        if chunk_bytes > CHUNK_BYTES_USUAL && chunk_bytes != self.session.chunk_bytes_out() {
            publishing.recorder.chunk_too_large(chunk_bytes, now);
        }
    }

    /// The reason to close a silent connection.
    pub fn timed_out(&self, now: MonoTime, shared: &Shared) -> Option<CloseReason> {
        let millis = |duration: std::time::Duration| duration.as_millis() as u64;
        if self.publishing.is_some() {
            (now.millis_since(self.last_input) >= millis(shared.settings.idle_timeout)).then_some(CloseReason::Idle)
        } else {
            (now.millis_since(self.opened) >= millis(shared.settings.handshake_timeout)).then_some(CloseReason::HandshakeTimeout)
        }
    }

    fn send_replies(&mut self) -> Result<(), CloseReason> {
        if let Some(tls) = &mut self.tls {
            let plain = self.session.output().len();
            if plain > 0 {
                tls.send(self.session.output());
                self.session.output_sent(plain);
            }
        }
        loop {
            let output = self.tls.as_ref().map_or_else(|| self.session.output(), |tls| tls.waiting());
            if output.is_empty() {
                return Ok(());
            }
            if output.len() > REPLY_BYTES_MAX {
                return Err(CloseReason::RepliesUnread);
            }
            match rustix::net::send(&self.stream, output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => match &mut self.tls {
                    Some(tls) => tls.sent(count),
                    None => self.session.output_sent(count),
                },
                // Sent with the next replies; the bound above ends a peer that never reads.
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) => return Err(CloseReason::Network(error.into())),
            }
        }
    }

    /// Ends the publication, if there is one; the connection stays.
    fn end_publication(&mut self, cause: EndCause, service: &mut Service<'_>) {
        self.look_at_chunks(service.now);
        let Some(publishing) = &mut self.publishing else { return };
        if std::mem::replace(&mut publishing.in_recorder, true) {
            publishing.recorder.abandon(cause.end_reason(), service.now, service.store);
        } else {
            publishing.recorder.finish(cause.end_reason(), service.now, service.store);
        }
        publishing.in_recorder = false;
        let Some(mut publishing) = self.publishing.take() else { return };
        publishing.report(service.metrics, service.shared, service.now);
        service.metrics.publication_ended(cause.label());
        service.shared.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).end(&publishing.name.key, publishing.id);
        let push_ms = service.now.mono.millis_since(publishing.since.mono);
        let (width, height) = publishing.recorder.tracks().video.as_ref().map_or((0, 0), |video| (video.width, video.height));
        publishing.tell(LiveEventKind::PublishEnded { code: cause.code(), message: cause.message(), push_ms, width, height }, service);
        let totals = publishing.recorder.totals();
        let dropped: u64 = totals.dropped.iter().sum();
        tracing::info!(
            stream = %publishing.name.key,
            publication = %publishing.id,
            client = %self.peer,
            code = cause.code(),
            cause = cause.message(),
            seconds = push_ms as f64 / 1_000.0,
            video_frames = totals.video_frames,
            audio_frames = totals.audio_frames,
            media_bytes = totals.media_bytes,
            dropped,
            late = totals.late_frames,
            files = totals.files,
            "publishing ended"
        );
        if !publishing.recorder.is_finished() {
            service.ending.push(Ending(publishing));
        }
        // A connection that has published gets the handshake time anew.
        self.opened = service.now.mono;
    }

    /// Ends the publication by our decision and tells the publisher. If that meets a defect, it may be called once more.
    pub fn close(&mut self, reason: &CloseReason, service: &mut Service<'_>) {
        self.ending = true;
        let pending = std::mem::take(&mut self.pending);
        if !matches!(reason, CloseReason::Panic) && self.feed(&pending, service).is_err() {
            tracing::debug!(client = %self.peer, "the last bytes before the end are no RTMP");
        }
        self.end_publication(reason.cause(), service);
        if matches!(reason, CloseReason::Replaced | CloseReason::Dropped | CloseReason::Forbidden | CloseReason::Shutdown | CloseReason::Idle) {
            if matches!(reason, CloseReason::Shutdown) {
                self.session.request_reconnect(reason.cause().message());
            }
            self.session.end("NetStream.Unpublish.Success", reason.cause().message());
            // The peer may be gone; there is nobody to tell then.
            let _ = self.send_replies();
        }
        if let Some(tls) = &mut self.tls {
            tls.close();
            let _ = self.send_replies();
        }
        if let Some(label) = reason.label() {
            service.metrics.connection_error(label);
        }
        if reason.is_ordinary() {
            tracing::debug!(client = %self.peer, %reason, "connection closed");
        } else {
            tracing::warn!(client = %self.peer, reason = reason as &dyn std::error::Error, "connection closed");
        }
    }
}

/// What one more publication would take from those that run.
fn no_room(service: &Service<'_>) -> Option<Refusal> {
    let Shared { settings, live, bytes_per_second, .. } = service.shared;
    let rate = bytes_per_second.load(std::sync::atomic::Ordering::Relaxed);
    if settings.bytes_per_second_max > 0 && rate >= settings.bytes_per_second_max {
        return Some(Refusal::TooMuch);
    }
    if live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len() >= settings.sockets_max {
        return Some(Refusal::NoFiles);
    }
    (service.store.units_free() < (service.store.units_total() / NO_MEMORY_PART).max(NO_MEMORY_UNITS)).then_some(Refusal::NoMemory)
}
