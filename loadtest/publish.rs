//! The loop that writes what is due on every connection.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::client::{Connection, Target};
use crate::source::Source;

/// Bytes written to one connection before the next one gets its turn.
const TURN_BYTES: u64 = 256 << 10;
/// Reports of single connections on the error output; the rest is counted.
const REPORTS_MAX: u64 = 10;
/// How long the server may take to read the rest and to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Plan {
    pub seconds: f64,
    /// 0: as fast as possible.
    pub rate: f64,
    pub tick: Duration,
    pub spread: Duration,
}

/// What one stream sent, in whole frames.
#[derive(Clone, Copy, Default)]
pub struct Sent {
    pub frames: u64,
    pub media_bytes: u64,
}

pub struct Outcome {
    pub seconds: f64,
    pub bytes: u64,
    pub late_ms_max: f64,
    pub errors: u64,
    pub sent: Vec<Sent>,
}

enum State {
    Publishing,
    /// The farewell is written; waiting for the server to close.
    Closing,
    Ended,
}

struct Publisher {
    connection: Connection,
    state: State,
    /// Index of its name.
    index: usize,
    start: Instant,
    /// Bytes that go out before the loop continues: prelude, replies.
    pending: Vec<u8>,
    pending_at: usize,
    replies: Vec<u8>,
    /// Offset in the endless loop.
    offset: u64,
    /// Where it ends; `u64::MAX` while that is not decided.
    end: u64,
    bytes: u64,
    waits_for_room: bool,
}

impl Publisher {
    /// Writes up to `target`, at most a turn. Returns whether it was reached.
    fn write(&mut self, source: &Source, target: u64) -> Result<bool, String> {
        let mut left = TURN_BYTES;
        self.waits_for_room = false;
        loop {
            let from_pending = self.pending_at < self.pending.len();
            let bytes = if from_pending {
                &self.pending[self.pending_at..]
            } else {
                let inside = (self.offset % source.round.len() as u64) as usize;
                let count = target.saturating_sub(self.offset).min((source.round.len() - inside) as u64).min(left);
                &source.round[inside..inside + count as usize]
            };
            if bytes.is_empty() {
                break;
            }
            match (&self.connection.socket).write(bytes) {
                Ok(count) => {
                    self.bytes += count as u64;
                    if from_pending {
                        self.pending_at += count;
                    } else {
                        self.offset += count as u64;
                        left -= count as u64;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.waits_for_room = true;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("writing: {error}")),
            }
        }
        Ok(self.pending_at == self.pending.len() && self.offset >= target)
    }
}

pub fn publish(target: &Target, names: &[String], source: &Source, plan: &Plan) -> Result<Outcome, String> {
    let mut errors = 0;
    let mut report = |name: &str, message: &str| {
        errors += 1;
        if errors <= REPORTS_MAX {
            eprintln!("loadtest: {name}: {message}");
        }
    };
    let mut publishers = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match Connection::publish(target, name) {
            Ok(connection) => publishers.push((index, connection)),
            Err(message) => report(name, &message),
        }
    }
    let begin = Instant::now();
    let gap = plan.spread.checked_div(names.len() as u32).unwrap_or_default();
    let mut publishers: Vec<Publisher> = publishers
        .into_iter()
        .map(|(index, connection)| Publisher {
            pending: source.prelude(connection.stream_id),
            connection,
            state: State::Publishing,
            index,
            start: begin + if plan.rate > 0.0 { gap * index as u32 } else { Duration::ZERO },
            pending_at: 0,
            replies: Vec::new(),
            offset: source.lead_bytes(),
            end: if plan.rate > 0.0 { source.due_bytes(plan.seconds * 1000.0 * plan.rate).max(source.lead_bytes()) } else { u64::MAX },
            bytes: 0,
            waits_for_room: false,
        })
        .collect();

    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
    let flat_out = plan.rate == 0.0;
    for (slot, publisher) in publishers.iter().enumerate() {
        let flags = if flat_out { epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET } else { epoll::EventFlags::IN };
        epoll::add(&poll, &publisher.connection.socket, epoll::EventData::new_u64(slot as u64), flags).map_err(|error| format!("epoll: {error}"))?;
    }
    let mut outcome = Outcome { seconds: 0.0, bytes: 0, late_ms_max: 0.0, errors: 0, sent: vec![Sent::default(); names.len()] };
    let give_up = begin + plan.spread + Duration::from_secs_f64(plan.seconds) + DRAIN_TIMEOUT;
    let mut last_media = begin;
    let mut open = publishers.len();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    let mut next_tick = begin;
    while open > 0 {
        let now = Instant::now();
        let expired = now > give_up;
        let mut busy = false;
        for publisher in &mut publishers {
            if matches!(publisher.state, State::Ended) || publisher.start > now || (flat_out && publisher.waits_for_room && !expired) {
                continue;
            }
            let result = step(publisher, source, plan, &names[publisher.index], now, &mut outcome.late_ms_max);
            busy |= flat_out && !publisher.waits_for_room && matches!(publisher.state, State::Publishing);
            if matches!(publisher.state, State::Publishing) {
                last_media = now;
            }
            if let Err(message) = if expired { Err("not finished in time".to_owned()) } else { result } {
                report(&names[publisher.index], &message);
                publisher.state = State::Ended;
                open -= 1;
                let _ = publisher.connection.socket.shutdown(std::net::Shutdown::Both);
            }
        }
        next_tick = (next_tick + plan.tick).max(Instant::now());
        let wait = if busy { Duration::ZERO } else { next_tick.saturating_duration_since(Instant::now()) };
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("epoll: {error}")),
        }
        for event in &events {
            let (flags, publisher) = (event.flags, &mut publishers[event.data.u64() as usize]);
            publisher.waits_for_room &= !flags.contains(epoll::EventFlags::OUT);
            if matches!(publisher.state, State::Ended) || !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                continue;
            }
            let closing = matches!(publisher.state, State::Closing);
            match publisher.connection.drain(&mut publisher.replies) {
                Ok(true) => continue,
                // A server that hangs up on our farewell may answer with a reset: both are the end we asked for.
                Ok(false) | Err(_) if closing => {}
                Ok(false) => report(&names[publisher.index], "the server closed the connection"),
                Err(message) => report(&names[publisher.index], &message),
            }
            publisher.state = State::Ended;
            open -= 1;
            // Not left to the drop at the end: epoll would report it again and again.
            let _ = epoll::delete(&poll, &publisher.connection.socket);
        }
    }
    for publisher in &publishers {
        outcome.bytes += publisher.bytes;
        let (frames, media_bytes) = source.count(publisher.offset);
        outcome.sent[publisher.index] = Sent { frames, media_bytes };
    }
    outcome.errors = errors;
    outcome.seconds = last_media.duration_since(begin).as_secs_f64();
    Ok(outcome)
}

/// One turn of a publisher: writes what is due, says farewell when all is written.
fn step(publisher: &mut Publisher, source: &Source, plan: &Plan, name: &str, now: Instant, late_ms_max: &mut f64) -> Result<(), String> {
    if !matches!(publisher.state, State::Publishing) {
        return Ok(());
    }
    let elapsed_ms = now.duration_since(publisher.start).as_secs_f64() * 1000.0;
    let target = if plan.rate > 0.0 {
        source.due_bytes(elapsed_ms * plan.rate).max(publisher.offset).min(publisher.end)
    } else {
        if publisher.end == u64::MAX && elapsed_ms >= plan.seconds * 1000.0 {
            publisher.end = source.message_end(publisher.offset);
        }
        publisher.end
    };
    if plan.rate > 0.0 && publisher.offset < target {
        *late_ms_max = late_ms_max.max(elapsed_ms - source.due_ms(publisher.offset) as f64 / plan.rate);
    }
    if !publisher.write(source, target)? {
        return Ok(());
    }
    if !publisher.replies.is_empty() {
        publisher.pending = std::mem::take(&mut publisher.replies);
        publisher.pending_at = 0;
        publisher.write(source, target)?;
    }
    if publisher.offset >= publisher.end && publisher.pending_at == publisher.pending.len() {
        if publisher.pending.ends_with(&publisher.connection.farewell(name)) {
            publisher.connection.socket.shutdown(std::net::Shutdown::Write).map_err(|error| format!("closing: {error}"))?;
            publisher.state = State::Closing;
        } else {
            publisher.pending = publisher.connection.farewell(name);
            publisher.pending_at = 0;
        }
    }
    Ok(())
}
