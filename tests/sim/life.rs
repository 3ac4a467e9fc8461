//! One process, from its start to its stop or death.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use capstan::domain::{EndReason, FinishedFile, PausedRecording, Policy, RecordingSource, Resumptions};
use capstan::metrics::Metrics;
use capstan::recorder::{DropReason, MoovReserve, Publication, Recorder, RecorderSettings};
use capstan::rtmp::amf::Value;
use capstan::segment::disk::{DiskSettings, ResumptionSettings, SteppedDisk};
use capstan::segment::open::OpenRecordings;
use capstan::segment::recover::LeftBehind;
use capstan::segment::{Arena, CoreStore, DiskCommand, DiskHealth, Disks, FileIds, Places};
use capstan::units::{FileId, TaskId, TemplateId, WallTime};

use crate::marks::{Span, Truth};
use crate::publishers::{Character, Ending, Publisher};
use crate::store::{SimStore, entries, recaller};
use crate::world::{self, instant, mono, mono_ms, now, wall};
use crate::{ARENA_BYTES, END_MS_MAX, FLUSH_MS, Simulation, TICK_MS};

/// From the begin of a publication to its first file, if nothing is wrong.
const FIRST_FRAME_MS_MAX: i64 = 2_000;

/// One process.
pub struct Life {
    pub store: SimStore,
    pub disks: Vec<SteppedDisk>,
    settings: RecorderSettings,
    pub ending: Vec<(Recorder<SimStore>, Rc<RefCell<Truth>>)>,
    /// What the process before left and is looked after while publishers push, from this tick on.
    left: Option<(u64, Vec<LeftBehind>)>,
    /// When interrupted recordings end if nobody comes, by stream, with the publication that was interrupted.
    awaited: Vec<(Rc<RefCell<Truth>>, WallTime)>,
    /// Nothing was wrong so far, and nobody set the clock.
    pub is_calm: bool,
    /// Finished files on their way to the catalog, by disk.
    finished: Arc<Mutex<Vec<(usize, FinishedFile)>>>,
    /// Until when something is wrong with each disk, and whether it hangs.
    pub troubles: Vec<Option<(u64, bool)>>,
}

pub fn rule() -> RecordingSource {
    RecordingSource::Rule(TemplateId(1001))
}

pub fn task() -> RecordingSource {
    RecordingSource::Task(TaskId("task".into()))
}

impl Life {
    pub fn begin(&mut self, truth: &Truth, character: &Character) -> Recorder<SimStore> {
        let publication =
            Publication { id: truth.id, key: truth.key.clone(), push_url: String::new(), stream_param: String::new(), alias_domain: String::new() };
        let mut recorder = Recorder::new(publication, self.settings);
        if let Some(ring) = &character.ring {
            recorder.keep_ring(ring, now(), &mut self.store);
        }
        recorder.start(rule(), &character.template, now(), &mut self.store);
        world::trace(|| format!("publication {} begins: {character:?}", truth.number));
        recorder
    }

    /// The publication that a new one of the same stream goes on with, for certain.
    fn resumed(&self, truth: &Truth) -> Option<u32> {
        let (before, until) = self.awaited.iter().rev().find(|(before, _)| before.borrow().key == truth.key)?;
        let before = before.borrow();
        let is_early = until.unix_millis() - wall().unix_millis() > FIRST_FRAME_MS_MAX;
        (self.is_calm && truth.outlives && before.sealed == truth.sealed && is_early && !before.short && !before.frames.is_empty())
            .then_some(before.number)
    }

    pub fn tick_ending(&mut self) {
        let Self { ending, store, .. } = self;
        ending.retain_mut(|(recorder, truth)| {
            recorder.tick(now(), store);
            if recorder.is_finished() {
                let totals = recorder.totals();
                let of = |reason: DropReason| totals.dropped[reason as usize];
                let storage = [DropReason::StorageBusy, DropReason::StorageFull, DropReason::StorageFailed, DropReason::Unfit];
                let mut truth = truth.borrow_mut();
                let beside = truth.beside.iter().filter(|(frame, _)| frame.mark.kind != crate::marks::Kind::Data).count();
                let taken = truth.frames.len() as u64 + beside as u64 + truth.unmarked;
                assert_eq!(totals.video_frames + totals.audio_frames, taken, "the session's counters");
                truth.lost = Some(storage.into_iter().map(of).sum());
                world::trace(|| format!("publication {} is over: {totals:?}", truth.number));
            }
            !recorder.is_finished()
        });
    }
}

impl Simulation {
    /// One process.
    pub fn live(&mut self, number: u64) {
        let (left, paused) = self.find_left();
        let mut life = self.start(number, left, paused);
        let mut publishers: Vec<Publisher> = Vec::new();
        for index in 0..=self.random.below(2) as usize {
            let ids = (number, self.publications);
            let after = index.checked_sub(1).filter(|before| publishers[*before].character.template.flow_continue_duration_s > 0);
            // It comes back: in the same process, or in another one.
            let back = match after {
                Some(before) if self.random.below(2) == 0 => Some((publishers[before].character.clone(), after)),
                _ if self.random.below(2) == 0 => self.interrupted.take().map(|character| (character, None)),
                _ => None,
            };
            let back = back.map(|(mut character, after)| {
                if self.random.below(8) == 0 {
                    character.reseal();
                }
                (character, after)
            });
            let (character, after) = back.unwrap_or_else(|| (Character::new(&mut self.random, ids, self.rapid), None));
            let mut publisher = Publisher::new(&mut self.random, character, ids);
            publisher.after = after;
            self.publications += 1;
            self.truths.push(Rc::clone(&publisher.truth));
            publishers.push(publisher);
        }
        self.interrupted = publishers.iter().map(|publisher| &publisher.character).find(|one| one.template.flow_continue_duration_s > 0).cloned();
        self.record(&mut life, &mut publishers);
        let metrics = self.stop(&mut life, &publishers);
        std::fs::remove_dir_all(self.arenas()).expect("removed");
        self.unwritten.insert(number, metrics);
    }

    fn start(&mut self, number: u64, mut left: Vec<LeftBehind>, resumptions: Resumptions) -> Life {
        let arenas = self.arenas();
        std::fs::create_dir_all(&arenas).expect("a folder");
        let resumptions = Arc::new(Mutex::new(resumptions));
        let finished = Arc::new(Mutex::new(Vec::new()));
        let places = Arc::new(Places::default());
        for (index, left) in left.iter().enumerate() {
            left.files().for_each(|file_id| places.enter(file_id, index));
        }
        self.metrics = Metrics::new(1);
        let disks: Vec<SteppedDisk> = (0..self.finish.len())
            .map(|index| {
                let health = DiskHealth::new(&self.finish[index].data_folder).labeled(&self.labels[index]);
                SteppedDisk::new(DiskSettings {
                    index,
                    descriptors_max: 1 + self.random.below(8) as usize,
                    places: Arc::clone(&places),
                    finish: self.finish[index].clone(),
                    finished: Box::new({
                        let finished = Arc::clone(&finished);
                        move |file| finished.lock().unwrap_or_else(PoisonError::into_inner).push((index, file))
                    }),
                    metrics: Arc::clone(&self.metrics),
                    clock: mono,
                    health: Arc::new(health),
                    open: Arc::new(OpenRecordings::default()),
                    resumption: ResumptionSettings {
                        table: Arc::clone(&resumptions),
                        policy: Arc::new(arc_swap::ArcSwap::from_pointee(Policy::default())),
                        wall,
                        over: Box::new(|_| ()),
                    },
                })
                .expect("a disk")
            })
            .collect();
        let arena = Arena::create(&arenas.join("core-0.arena"), ARENA_BYTES).expect("an arena");
        let last = entries(&self.catalog).keys().max().copied().max(left.iter_mut().filter_map(|left| left.last_file_id()).max());
        let ids = Arc::new(FileIds::new(last, wall));
        let handles = Disks::new(disks.iter().map(SteppedDisk::handle).collect(), Arc::clone(&places));
        let mut core = CoreStore::new(arena, handles, ids, Arc::new(AtomicU64::new(1)), Arc::clone(&resumptions));
        core.set_recaller(recaller(&self.catalog, self.finish.iter().map(|settings| settings.data_folder.clone()).collect()));
        let settings = RecorderSettings {
            hls_transport_stream: self.transport_stream,
            hls_segment_ms: self.finish[0].hls_segment_ms,
            moov_reserve: if !self.rapid && self.random.below(30) == 0 { MoovReserve::Whole } else { MoovReserve::Insert },
            trust_encoder_clock: false,
        };
        // Recovery is mostly done before anybody pushes; else it begins at some tick.
        let begins = if self.random.below(3) > 0 { 0 } else { mono_ms() + self.random.below(1_500) };
        Life {
            store: SimStore { core, life: number, places, used: Rc::clone(&self.used) },
            troubles: vec![None; disks.len()],
            disks,
            settings,
            ending: Vec::new(),
            left: Some((begins, left)),
            awaited: Vec::new(),
            is_calm: true,
            finished,
        }
    }

    /// What the process before left is finished, beside the recording.
    fn look_after(&self, life: &mut Life, at_once: bool) {
        let Some((_, mut left)) = life.left.take_if(|(begins, _)| at_once || mono_ms() >= *begins) else { return };
        let files: Vec<FileId> = left.iter().flat_map(LeftBehind::files).collect();
        self.recover(&mut left, |index, paused: PausedRecording| {
            life.store.places.enter(paused.file_id, index);
            let sent = life.disks[index].handle().sender.try_send(DiskCommand::PauseRecording(Box::new(paused)));
            assert!(sent.is_ok(), "few recordings are interrupted");
        });
        files.into_iter().filter(|file| entries(&self.catalog).contains_key(file)).for_each(|file| life.store.places.forget(file));
    }

    fn take_finished(&self, life: &Life) {
        let finished = std::mem::take(&mut *life.finished.lock().unwrap_or_else(PoisonError::into_inner));
        for (index, file) in finished {
            instant();
            life.store.places.forget(file.identity.file_id);
            self.enter(index, file);
        }
    }

    fn record(&mut self, life: &mut Life, publishers: &mut [Publisher]) {
        let (mut next_flush, mut rest) = (0, false);
        while publishers.iter().any(|publisher| !publisher.over) {
            if self.pass(TICK_MS) {
                life.is_calm = false;
            }
            let time_ms = mono_ms();
            self.look_after(life, false);
            self.trouble(life);
            life.store.core.tick(mono());
            for index in 0..publishers.len() {
                let publisher = &publishers[index];
                let waits = publisher.after.is_some_and(|before| !publishers[before].over);
                if waits {
                    let (publisher, gap_ms) = (&mut publishers[index], self.random.below(1_500));
                    let lasts_ms = publisher.end_ms - publisher.begin_ms;
                    (publisher.begin_ms, publisher.end_ms) = (time_ms + gap_ms, time_ms + gap_ms + lasts_ms);
                } else if !publisher.over && time_ms >= publisher.begin_ms {
                    self.serve(&mut publishers[index], life);
                }
            }
            // A core looks after a publisher in one tick of several.
            if self.random.below(3) == 0 {
                let recorders = publishers.iter_mut().filter_map(|publisher| publisher.recorder.as_mut());
                recorders.for_each(|recorder| recorder.tick(now(), &mut life.store));
            }
            let recorders = publishers.iter_mut().filter_map(|publisher| publisher.recorder.as_mut());
            if std::mem::take(&mut rest) {
                recorders.for_each(|recorder| recorder.flush_rest(&mut life.store));
                life.store.core.sync();
            } else if time_ms >= next_flush {
                (next_flush, rest) = (time_ms + FLUSH_MS, true);
                recorders.for_each(|recorder| recorder.flush(&mut life.store));
            }
            life.tick_ending();
            if life.store.core.units_free() < 8 {
                life.is_calm = false;
                publishers.iter().filter(|publisher| !publisher.over).for_each(|publisher| publisher.truth.borrow_mut().short = true);
            }
            self.step_disks(life);
            self.take_finished(life);
        }
    }

    fn serve(&mut self, publisher: &mut Publisher, life: &mut Life) {
        let time_ms = mono_ms();
        if time_ms < publisher.stalled_until_ms {
            return;
        }
        if self.random.below(60) == 0 {
            publisher.stalled_until_ms = time_ms + self.random.below(1_500);
        }
        publisher.send(&mut self.random, (time_ms - publisher.begin_ms).min(publisher.end_ms - publisher.begin_ms));
        let is_new = publisher.recorder.is_none();
        let mut goes_on = publisher.serve(&mut self.random, life);
        if is_new && publisher.recorder.is_some() {
            let resumed = life.resumed(&publisher.truth.borrow());
            publisher.truth.borrow_mut().resumes = resumed;
        }
        self.task(publisher, life);
        if goes_on && time_ms >= publisher.end_ms {
            match publisher.ending {
                Ending::Says if publisher.wire.is_empty() && publisher.pending.is_empty() => {
                    publisher.command(1, &[Value::string("deleteStream"), Value::Number(4.0), Value::Null, Value::Number(1.0)]);
                    goes_on = publisher.serve(&mut self.random, life);
                }
                Ending::Says => {}
                // What lies in the socket is lost with it.
                Ending::Resets => goes_on = false,
                Ending::Garbage => {
                    let bytes: Vec<u8> = (0..1 + self.random.below(300)).map(|_| self.random.below(256) as u8).collect();
                    publisher.feed(&bytes, false, life);
                    goes_on = false;
                }
                Ending::Never => goes_on = time_ms < publisher.end_ms + 500,
            }
        }
        if !goes_on {
            publisher.close(EndReason::PublicationEnded, life);
            let wait_ms = publisher.character.template.flow_continue_duration_s as i64 * 1_000;
            if wait_ms > 0 {
                life.awaited.push((Rc::clone(&publisher.truth), WallTime::from_unix_millis(wall().unix_millis() + wait_ms)));
            }
        }
    }

    /// Somebody starts or stops a task.
    fn task(&mut self, publisher: &mut Publisher, life: &mut Life) {
        let Some(recorder) = &mut publisher.recorder else { return };
        if self.random.below(60) > 0 {
            return;
        }
        let mut truth = publisher.truth.borrow_mut();
        let frames = truth.frames.len();
        let ringed = truth.ringed;
        match &mut truth.task {
            None => {
                let since =
                    (ringed && self.random.below(4) > 0).then(|| WallTime::from_unix_millis(wall().unix_millis() - self.random.below(4_000) as i64));
                match since {
                    Some(since) => recorder.start_since(task(), &publisher.character.template, since, now(), &mut life.store),
                    None => recorder.start(task(), &publisher.character.template, now(), &mut life.store),
                }
                truth.task = Some(Span { from: frames, to: None, since });
            }
            Some(Span { to: end @ None, .. }) => {
                recorder.stop(&task(), EndReason::TaskEnded, now(), &mut life.store);
                *end = Some(frames);
            }
            Some(_) => {}
        }
    }

    /// An orderly stop. Returns how many frames the disks did not take.
    fn stop(&mut self, life: &mut Life, publishers: &[Publisher]) -> u64 {
        world::heal();
        for disk in &mut life.disks {
            disk.hang(false);
            disk.note_space(false);
        }
        life.troubles.fill(None);
        let begun_ms = mono_ms();
        while !life.ending.is_empty() {
            assert!(mono_ms() < begun_ms + END_MS_MAX, "a publication does not come to its end");
            self.pass(TICK_MS);
            life.store.core.tick(mono());
            life.tick_ending();
            self.step_disks(life);
            // Sessions in the past wait for files of the ring.
            self.take_finished(life);
        }
        self.look_after(life, true);
        loop {
            life.store.core.tick(mono());
            let mut more = life.store.core.backlog() > 0;
            for disk in &mut life.disks {
                while disk.write() {
                    more = true;
                }
                while disk.finish() {
                    more = true;
                }
            }
            if !more {
                break;
            }
        }
        life.disks.iter_mut().for_each(SteppedDisk::finish_again);
        self.take_finished(life);
        assert_eq!(life.store.core.units_free(), life.store.core.units_total(), "every block came back");
        assert!(publishers.iter().all(|publisher| publisher.truth.borrow().lost.is_some()));
        self.metrics.unwritten_frames()
    }
}
