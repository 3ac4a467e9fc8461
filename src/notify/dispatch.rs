//! From the outbox to the receivers: one thread decides what is sent next, others send.
//!
//! Messages about one stream go to one address one after the other; the catalog hands out the first of each only. An address that has just answered gets
//! several requests at a time; one that has not gets one, and all of those together at most half of the senders: who is slow or dead delays nobody else.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::catalog::{Attempt, Catalog, CatalogError, Message, Then};
use crate::metrics::{CallbackResult, Metrics};
use crate::units::WallTime;

use super::client::{Client, Networks};

/// A message that waited for this long is given up when its next attempt fails: days of a dead receiver's messages would otherwise take weeks.
const AGE_MAX_MICROS: i64 = 3 * 86_400 * 1_000_000;
/// A catalog that refuses is asked again after this.
const CATALOG_RETRY: Duration = Duration::from_secs(1);
/// Without anything to do the outbox is looked into this often: the clock may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// What is due when we are told to stop is sent for this long; the rest is sent at the next start.
const STOPPING: Duration = Duration::from_secs(3);
/// Addresses of which we remember whether they answer, beyond those that something waits for.
const ADDRESSES_REMEMBERED_MAX: usize = 10_000;
/// Old messages are looked for once in so many attempts.
const PURGE_EVERY: u64 = 1_024;

#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// After the first attempt.
    pub retries_max: u64,
    pub retry_interval: Duration,
    pub answer_timeout: Duration,
    /// Senders in all.
    pub requests_max: usize,
    /// Of these for one address that answers.
    pub requests_per_address_max: usize,
    pub forbidden: Networks,
    /// With it the headers of Standard Webhooks are sent too.
    pub webhook_key: Option<Vec<u8>>,
}

/// The running threads; [`Dispatcher::stop`] ends them.
pub struct Dispatcher {
    stopping: Arc<AtomicBool>,
    catalog: Catalog,
    thread: JoinHandle<()>,
}

impl Dispatcher {
    /// # Errors
    /// If there is no thread.
    pub fn start(catalog: Catalog, settings: DispatchSettings, metrics: Arc<Metrics>, clock: fn() -> WallTime) -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicU64::new(0));
        metrics.register_gauge("callbacks_waiting", "Messages that wait for their receivers.", {
            let waiting = Arc::clone(&waiting);
            Box::new(move || waiting.load(Ordering::Relaxed) as f64)
        });
        let thread = std::thread::Builder::new().name("callbacks".to_owned()).spawn({
            let (catalog, stopping) = (catalog.clone(), Arc::clone(&stopping));
            move || Dispatch::new(catalog, settings, metrics, clock, waiting).run(&stopping)
        })?;
        Ok(Self { stopping, catalog, thread })
    }

    /// Sends what is due for a moment more; what is left then is sent at the next start.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.catalog.wake_outbox();
        if self.thread.join().is_err() {
            tracing::error!("the callback thread panicked");
        }
    }
}

/// What the dispatcher knows of an address.
#[derive(Default)]
struct Address {
    /// Ids of messages under way.
    under_way: Vec<i64>,
    /// Its last answer was a good one.
    answers: bool,
}

/// An attempt that is over.
struct Outcome {
    message: Message,
    time: WallTime,
    result: Result<(), String>,
}

struct Dispatch {
    catalog: Catalog,
    settings: DispatchSettings,
    metrics: Arc<Metrics>,
    clock: fn() -> WallTime,
    waiting: Arc<AtomicU64>,
    client: Arc<Client>,
    addresses: HashMap<String, Address>,
    /// The address that was served last: the next round begins behind it.
    served: String,
    senders: usize,
    under_way: usize,
    to_senders: (Sender<Message>, Receiver<Message>),
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
    /// Attempts that the catalog has not taken yet.
    unnoted: Vec<Attempt>,
    attempts: u64,
}

impl Dispatch {
    fn new(catalog: Catalog, settings: DispatchSettings, metrics: Arc<Metrics>, clock: fn() -> WallTime, waiting: Arc<AtomicU64>) -> Self {
        let client = Client::new(settings.answer_timeout, settings.forbidden.clone(), settings.webhook_key.clone());
        Self {
            // As many as can be under way, so that nobody ever waits to enter.
            to_senders: bounded(settings.requests_max),
            outcomes: bounded(settings.requests_max),
            catalog,
            settings,
            metrics,
            clock,
            waiting,
            client: Arc::new(client),
            addresses: HashMap::new(),
            served: String::new(),
            senders: 0,
            under_way: 0,
            unnoted: Vec::new(),
            attempts: 0,
        }
    }

    fn run(mut self, stopping: &AtomicBool) {
        let mut until = None;
        loop {
            let seen = self.catalog.outbox_seen();
            self.collect();
            let wait = match self.note().and_then(|()| self.send_due()) {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::error!(%error, "the outbox of callbacks cannot be used; trying again");
                    CATALOG_RETRY
                }
            };
            let mut wait = wait;
            if stopping.load(Ordering::SeqCst) {
                let until = *until.get_or_insert_with(|| Instant::now() + STOPPING);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || (self.under_way == 0 && self.unnoted.is_empty()) {
                    return;
                }
                wait = wait.min(left);
            }
            self.catalog.wait_for_message(seen, wait);
        }
    }

    /// Takes over what the senders have done.
    fn collect(&mut self) {
        while let Ok(Outcome { message, time, result }) = self.outcomes.1.try_recv() {
            self.under_way -= 1;
            self.attempts += 1;
            if let Some(address) = self.addresses.get_mut(&message.url) {
                address.answers = result.is_ok();
            }
            let attempt = self.judge(&message, time, result);
            self.unnoted.push(attempt);
        }
    }

    fn judge(&self, message: &Message, time: WallTime, result: Result<(), String>) -> Attempt {
        let number = message.attempts + 1;
        let (event, stream) = (&message.event, &message.stream);
        // The query may hold a receiver's secret.
        let url = message.url.split(['?', '#']).next().unwrap_or_default();
        let Err(answer) = result else {
            tracing::debug!(event, stream, url, attempt = number, "callback delivered");
            self.metrics.callback_attempt(CallbackResult::Delivered);
            return Attempt { id: message.id, time, answer: "HTTP 200".to_owned(), then: Then::Delivered };
        };
        let is_old = time.unix_micros() - message.create_time.unix_micros() > AGE_MAX_MICROS;
        if message.attempts >= self.settings.retries_max || is_old {
            tracing::error!(event, stream, url, attempt = number, answer, "a callback is given up; `capstan callbacks replay` sends it again");
            self.metrics.callback_attempt(CallbackResult::GivenUp);
            return Attempt { id: message.id, time, answer, then: Then::GivenUp };
        }
        tracing::warn!(event, stream, url, attempt = number, answer, "a callback was not taken; it is tried again");
        self.metrics.callback_attempt(CallbackResult::Failed);
        Attempt { id: message.id, time, answer, then: Then::Again(later(time, self.settings.retry_interval)) }
    }

    /// Enters what became of attempts. Until then their messages count as under way, so that they are not sent twice.
    fn note(&mut self) -> Result<(), CatalogError> {
        if self.unnoted.is_empty() {
            return Ok(());
        }
        self.catalog.note_attempts(self.unnoted.clone())?;
        for attempt in self.unnoted.drain(..) {
            for address in self.addresses.values_mut() {
                address.under_way.retain(|id| *id != attempt.id);
            }
        }
        if self.attempts >= PURGE_EVERY {
            self.attempts = 0;
            while self.catalog.purge_messages((self.clock)())? > 0 {}
        }
        Ok(())
    }

    /// Sends what is due and may be sent now. Returns how long there is nothing more to do, as far as is known.
    fn send_due(&mut self) -> Result<Duration, CatalogError> {
        let mut waiting = self.catalog.outbox_addresses()?;
        self.waiting.store(waiting.iter().map(|(_, count)| count).sum(), Ordering::Relaxed);
        if self.addresses.len() > ADDRESSES_REMEMBERED_MAX {
            self.addresses.retain(|url, address| !address.under_way.is_empty() || waiting.binary_search_by(|(known, _)| known.cmp(url)).is_ok());
        }
        let first = waiting.partition_point(|(url, _)| *url <= self.served);
        waiting.rotate_left(first);
        let mut wait = LOOK;
        for (url, _) in waiting {
            if self.under_way >= self.settings.requests_max {
                // Whoever ends wakes us.
                break;
            }
            let free = self.free_for(&url);
            if free == 0 {
                continue;
            }
            let under_way = self.addresses.get(&url).map_or(&[][..], |address| &address.under_way);
            let mut next = self.catalog.next_messages(&url, under_way.len() + free + 1)?;
            next.retain(|message| !under_way.contains(&message.id));
            for message in next.into_iter().take(free) {
                let now = (self.clock)();
                let left = message.due.unix_micros() - now.unix_micros();
                // The clock may have been set back: nobody waits longer than an interval.
                let left = if left > micros(self.settings.retry_interval) { 0 } else { left };
                if left > 0 {
                    wait = wait.min(Duration::from_micros(left.unsigned_abs()));
                    break;
                }
                self.send(message);
                self.served.clone_from(&url);
            }
        }
        Ok(wait)
    }

    /// How many more requests this address may get now.
    fn free_for(&self, url: &str) -> usize {
        let address = self.addresses.get(url);
        let count = address.map_or(0, |address| address.under_way.len());
        let in_all = self.settings.requests_max - self.under_way;
        if address.is_some_and(|address| address.answers) {
            return self.settings.requests_per_address_max.saturating_sub(count).min(in_all);
        }
        let others: usize = self.addresses.values().filter(|address| !address.answers).map(|address| address.under_way.len()).sum();
        let is_free = count == 0 && others < self.settings.requests_max / 2;
        usize::from(is_free).min(in_all)
    }

    fn send(&mut self, message: Message) {
        if self.under_way == self.senders && !self.add_sender() {
            return;
        }
        self.addresses.entry(message.url.clone()).or_default().under_way.push(message.id);
        self.under_way += 1;
        if self.to_senders.0.send(message).is_err() {
            unreachable!("we hold the other end");
        }
    }

    /// Senders are made when they are needed. False: there is no thread, and none that would come back.
    fn add_sender(&mut self) -> bool {
        let sender = spawn_sender(self.to_senders.1.clone(), self.outcomes.0.clone(), Arc::clone(&self.client), self.catalog.clone(), self.clock);
        match sender {
            Ok(()) => {
                self.senders += 1;
                true
            }
            Err(error) => {
                tracing::error!(%error, senders = self.senders, "no further thread for callbacks");
                false
            }
        }
    }
}

/// Ends when the dispatcher is gone; nobody waits for it, since a receiver may.
fn spawn_sender(
    messages: Receiver<Message>,
    outcomes: Sender<Outcome>,
    client: Arc<Client>,
    catalog: Catalog,
    clock: fn() -> WallTime,
) -> io::Result<()> {
    let body = move || {
        for message in messages {
            let result = catch_unwind(AssertUnwindSafe(|| client.post(&message, clock())))
                .unwrap_or_else(|_| Err("a defect of ours while sending".to_owned()));
            if outcomes.send(Outcome { message, time: clock(), result }).is_err() {
                return;
            }
            catalog.wake_outbox();
        }
    };
    std::thread::Builder::new().name("callback-sender".to_owned()).spawn(body).map(drop)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn later(time: WallTime, by: Duration) -> WallTime {
    WallTime::from_unix_micros(time.unix_micros().saturating_add(micros(by)))
}
