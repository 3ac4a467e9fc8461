//! Encoders: what they send, and how it comes to a recorder.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use capstan::domain::sealing::HlsEncryption;
use capstan::domain::{EndReason, RecordTemplate};
use capstan::recorder::Recorder;
use capstan::rtmp::amf::{Value, encode_all};
use capstan::rtmp::chunk_writer::{ChunkWriter, MessageHeader};
use capstan::rtmp::message::message_type;
use capstan::rtmp::{Event, MediaKind, Session, SessionConfig};
use capstan::units::{Format, PublicationId, StreamKey, TemplateId};

use crate::life::Life;
use crate::marks::{Handed, Kind, MARK_BYTES, Mark, Sound, Truth};
use crate::seeded::Random;
use crate::store::SimStore;
use crate::world::{mono_ms, now, trace, wall};

const PICTURE_HEADER: &[u8] = &[
    0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 30, 0xff, 0xe1, 0, 10, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x47, 0xfe, 0x88, 1, 0, 4, 0x68, 0xce, 0x3c,
    0x80,
];
const SOUND_HEADER: &[u8] = &[0xaf, 0, 0x12, 0x10];
/// The same of track 1 (Enhanced RTMP, "Multitrack"): several tracks, one in this message.
const FURTHER_PICTURE_HEAD: &[u8] = &[0x96, 0x00, b'a', b'v', b'c', b'1', 1];
const FURTHER_SOUND_HEAD: &[u8] = &[0x95, 0x00, b'm', b'p', b'4', b'a', 1];
/// MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes a frame.
const MP3_HEAD: [u8; 4] = [0xff, 0xfb, 0x90, 0x64];
const MP3_BYTES: usize = 417;
/// Not aligned to anything, as real ones.
const SOUND_US: u64 = 23_220;
/// An index of so many pictures has no place in the room that is left for it in front.
const RAPID_US: u64 = 1_500;

/// How a publication ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    Says,
    Resets,
    Garbage,
    /// With the process.
    Never,
}

/// What an encoder sends, and what is recorded of it: the same when it comes back.
#[derive(Clone, Debug)]
pub struct Character {
    pub key: StreamKey,
    sound: Sound,
    /// Between pictures; 0: there are none.
    picture_us: u64,
    gop: u32,
    picture_bytes_max: u64,
    /// One more track of each kind.
    further: bool,
    /// Its sound is so far behind the first.
    further_behind_ms: u32,
    formats: BTreeSet<Format>,
    pub template: Arc<RecordTemplate>,
    pub ring: Option<Arc<RecordTemplate>>,
}

impl Character {
    /// `rapid`: more pictures than the index has room for in front.
    pub fn new(random: &mut Random, (life, number): (u64, u32), rapid: bool) -> Self {
        let sound = random.pick([Sound::Aac, Sound::Aac, Sound::Mp3, Sound::None]);
        let picture_ms = if sound != Sound::None && random.below(5) == 0 { 0 } else { random.pick([33, 40, 40, 67, 200, 1_000]) };
        let mut formats: BTreeSet<Format> = [Format::Flv, Format::Mp4, Format::Hls].into_iter().filter(|_| random.below(3) > 0).collect();
        if sound != Sound::None && random.below(2) == 0 {
            formats.insert(if sound == Sound::Aac { Format::Aac } else { Format::Mp3 });
        }
        if formats.is_empty() {
            formats.insert(Format::Flv);
        }
        if rapid {
            formats = random.pick([&[Format::Mp4][..], &[Format::Mp4, Format::Hls], &[Format::Mp4, Format::Flv]]).iter().copied().collect();
        }
        let sealed = !rapid && random.below(8) == 0;
        if sealed {
            formats = BTreeSet::from([Format::Hls]);
        }
        let mut template = RecordTemplate::empty(TemplateId(1001), "test");
        for format in &formats {
            template.param_mut(*format).enable = true;
            template.param_mut(*format).record_interval_s = if rapid { 60 } else { random.pick([1, 2, 3, 60]) };
        }
        template.hls_encryption = sealed.then(|| HlsEncryption { rotation_segments: random.pick([0, 1, 2]) });
        template.flow_continue_duration_s = if random.below(3) == 0 { random.pick([1, 3, 5]) } else { 0 };
        // A ring is not encrypted: there is no such template.
        template.pre_record_s = if !rapid && !sealed && random.below(5) == 0 { 60 } else { 0 };
        let ring = template.ring().map(|mut ring| {
            ring.hls.record_interval_s = random.pick([1, 2, 10]);
            Arc::new(ring)
        });
        let further = !rapid && random.below(4) == 0;
        Self {
            key: StreamKey::new("localhost", "live", &format!("cam-{life}-{number}")),
            sound,
            picture_us: if rapid { RAPID_US } else { picture_ms * 1_000 },
            gop: random.pick([1, 5, 12, 25, 50]),
            picture_bytes_max: if rapid { 16 } else { 1 << (4 + random.below(9)) },
            further,
            further_behind_ms: if further { random.pick([0, 15, 40]) } else { 0 },
            formats,
            template: Arc::new(template),
            ring,
        }
    }

    /// Somebody changes the template: what was encrypted is not, or the other way round.
    pub fn reseal(&mut self) {
        let mut template = RecordTemplate::clone(&self.template);
        let sealed = template.hls_encryption.is_none();
        for format in &self.formats {
            template.param_mut(*format).enable = !sealed || *format == Format::Hls;
        }
        template.param_mut(Format::Hls).enable = true;
        template.hls_encryption = sealed.then_some(HlsEncryption { rotation_segments: 1 });
        template.pre_record_s = 0;
        self.formats = template.enabled().map(|(format, _)| format).collect();
        (self.template, self.ring) = (Arc::new(template), None);
    }
}

pub struct Publisher {
    pub truth: Rc<RefCell<Truth>>,
    pub character: Character,
    writer: ChunkWriter,
    session: Session,
    pub recorder: Option<Recorder<SimStore>>,
    /// Bytes that were sent and have not been read.
    pub wire: Vec<u8>,
    pub pending: Vec<u8>,
    /// It comes when that one of the process is over.
    pub after: Option<usize>,
    pub begin_ms: u64,
    pub end_ms: u64,
    pub ending: Ending,
    /// Added to every timestamp, wrapping.
    base_ms: u32,
    /// What `base_ms` has moved by, unwrapped.
    shift_ms: i64,
    pictures: u32,
    sounds: u32,
    words: u32,
    /// DTS of each frame sent, and whether a file may begin with it, by mark.
    times: BTreeMap<Mark, (i64, bool)>,
    level: u8,
    pub stalled_until_ms: u64,
    opened: bool,
    pub over: bool,
}

impl Publisher {
    pub fn new(random: &mut Random, character: Character, (life, number): (u64, u32)) -> Self {
        let truth = Truth {
            id: PublicationId(1_700_000_000_000_000 + u64::from(number)),
            number,
            key: character.key.clone(),
            life,
            sound: character.sound,
            formats: character.formats.clone(),
            sealed: character.template.hls_encryption.is_some(),
            outlives: character.template.flow_continue_duration_s > 0,
            ringed: character.ring.is_some(),
            frames: Vec::new(),
            beside: Vec::new(),
            in_hand: None,
            unmarked: 0,
            lost: None,
            short: false,
            task: None,
            resumes: None,
        };
        let begin_ms = mono_ms() + random.below(300);
        let rapid = character.picture_us == RAPID_US;
        let mut publisher = Self {
            truth: Rc::new(RefCell::new(truth)),
            character,
            writer: ChunkWriter::default(),
            session: Session::new(SessionConfig::default(), [7; 1528]),
            recorder: None,
            wire: Vec::new(),
            pending: Vec::new(),
            after: None,
            begin_ms,
            end_ms: begin_ms + if rapid { 4_000 } else { 200 + random.up_to([800, 2_500, 4_000]) },
            ending: random.pick([Ending::Says, Ending::Says, Ending::Resets, Ending::Garbage, Ending::Never]),
            base_ms: random.pick([0, 0, 0xff_fff0, u32::MAX - 1_500, 0x8000_0000]),
            shift_ms: 0,
            pictures: 0,
            sounds: 0,
            words: 0,
            times: BTreeMap::new(),
            level: 30,
            stalled_until_ms: 0,
            opened: false,
            over: false,
        };
        let chunk_bytes = if rapid { 4_096 } else { random.pick([128, 1_000, 4_096, 60_000]) };
        publisher.open(chunk_bytes);
        publisher
    }

    fn message(&mut self, type_id: u8, message_stream_id: u32, timestamp_ms: u32, body: &[u8]) {
        let chunk_stream_id = match type_id {
            message_type::AUDIO => 4,
            message_type::VIDEO => 6,
            message_type::SET_CHUNK_SIZE => 2,
            _ => 3,
        };
        let header = MessageHeader { chunk_stream_id, timestamp_ms, type_id, message_stream_id };
        self.writer.write(&header, body, &mut self.wire);
    }

    pub fn command(&mut self, message_stream_id: u32, values: &[Value]) {
        self.message(message_type::COMMAND_AMF0, message_stream_id, 0, &encode_all(values));
    }

    /// The handshake and the commands of an encoder.
    fn open(&mut self, chunk_bytes: u32) {
        self.wire.push(3);
        self.wire.resize(1 + 2 * 1_536, 0);
        let object = Value::object(&[("app", Value::string("live")), ("tcUrl", Value::string("rtmp://localhost/live"))]);
        self.command(0, &[Value::string("connect"), Value::Number(1.0), object]);
        self.message(message_type::SET_CHUNK_SIZE, 0, 0, &chunk_bytes.to_be_bytes());
        self.writer.set_chunk_bytes(chunk_bytes);
        self.command(0, &[Value::string("createStream"), Value::Number(2.0), Value::Null]);
        let name = self.character.key.stream.to_string();
        self.command(1, &[Value::string("publish"), Value::Number(3.0), Value::Null, Value::string(&name), Value::string("live")]);
    }

    fn picture_header(&mut self, timestamp_ms: u32) {
        let mut header = PICTURE_HEADER.to_vec();
        // Another level is another set of parameters.
        (header[8], header[16]) = (self.level, self.level);
        self.message(message_type::VIDEO, 1, timestamp_ms, &header);
    }

    fn headers(&mut self) {
        let has_pictures = self.character.picture_us > 0;
        if has_pictures {
            self.picture_header(self.base_ms);
        }
        if self.character.sound == Sound::Aac {
            self.message(message_type::AUDIO, 1, self.base_ms, SOUND_HEADER);
        }
        if self.character.further && has_pictures {
            let header = [FURTHER_PICTURE_HEAD, &PICTURE_HEADER[5..]].concat();
            self.message(message_type::VIDEO, 1, self.base_ms, &header);
        }
        if self.character.further && self.character.sound == Sound::Aac {
            let header = [FURTHER_SOUND_HEAD, &SOUND_HEADER[2..]].concat();
            self.message(message_type::AUDIO, 1, self.base_ms, &header);
        }
    }

    /// Sends what is due at `time_ms` of the publication.
    pub fn send(&mut self, random: &mut Random, time_ms: u64) {
        if !self.opened {
            self.opened = true;
            self.headers();
        }
        loop {
            let has_pictures = self.character.picture_us > 0;
            let picture_at = if has_pictures { u64::from(self.pictures) * self.character.picture_us / 1_000 } else { u64::MAX };
            let sound_at = if self.character.sound == Sound::None { u64::MAX } else { u64::from(self.sounds) * SOUND_US / 1_000 };
            let due = picture_at.min(sound_at);
            if due > time_ms {
                return;
            }
            let timestamp_ms = self.base_ms.wrapping_add(due as u32);
            let dts_ms = self.shift_ms + due as i64;
            if picture_at <= sound_at {
                self.picture(random, timestamp_ms, dts_ms);
            } else {
                self.sound(random, timestamp_ms, dts_ms, has_pictures);
            }
            if self.character.picture_us != RAPID_US && random.below(400) == 0 {
                // The encoder's clock jumps.
                let by = 20_000 + random.below(1 << 20) as i64;
                let by = if random.below(2) == 0 { by } else { -by };
                self.base_ms = self.base_ms.wrapping_add(by as u32);
                self.shift_ms += by;
                trace(|| format!("the clock of {} jumps by {by} ms behind {} pictures, {} sounds", self.character.key, self.pictures, self.sounds));
            }
            if random.below(100) == 0 {
                let mark = self.mark(Kind::Data, self.words, dts_ms, false);
                self.words += 1;
                let text = encode_all(&[Value::string("onTextData"), Value::object(&[("text", Value::string(&mark.text()))])]);
                self.message(message_type::DATA_AMF0, 1, timestamp_ms, &text);
            }
        }
    }

    fn mark(&mut self, kind: Kind, number: u32, dts_ms: i64, begins: bool) -> Mark {
        let mark = Mark { kind, publication: self.truth.borrow().number, number };
        self.times.insert(mark, (dts_ms, begins));
        mark
    }

    fn picture(&mut self, random: &mut Random, timestamp_ms: u32, dts_ms: i64) {
        let key = self.pictures.is_multiple_of(self.character.gop);
        // A rapid one is one file from its begin to its end.
        let is_rapid = self.character.picture_us == RAPID_US;
        if key && !is_rapid && random.below(12) == 0 {
            // Encoders repeat it, and some change it.
            self.level += random.below(2) as u8;
            self.picture_header(timestamp_ms);
        }
        let bytes = random.below(self.character.picture_bytes_max) as usize;
        let unit = |mark: Mark| {
            let mut unit = ((1 + MARK_BYTES + bytes) as u32).to_be_bytes().to_vec();
            unit.push(if key { 0x65 } else { 0x41 });
            unit.extend_from_slice(mark.text().as_bytes());
            unit.resize(unit.len() + bytes, b'.');
            unit
        };
        let mark = self.mark(Kind::Picture, self.pictures, dts_ms, key);
        let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, (random.below(3) * 40) as u8];
        body.extend_from_slice(&unit(mark));
        self.message(message_type::VIDEO, 1, timestamp_ms, &body);
        if self.character.further {
            let mark = self.mark(Kind::FurtherPicture, self.pictures, dts_ms, key);
            let mut body = FURTHER_PICTURE_HEAD.to_vec();
            // Coded frames without a composition time.
            (body[0], body[1]) = (if key { 0x96 } else { 0xa6 }, 0x03);
            body.extend_from_slice(&unit(mark));
            self.message(message_type::VIDEO, 1, timestamp_ms, &body);
        }
        self.pictures += 1;
    }

    fn sound(&mut self, random: &mut Random, timestamp_ms: u32, dts_ms: i64, has_pictures: bool) {
        let is_aac = self.character.sound == Sound::Aac;
        let mark = self.mark(Kind::Sound, self.sounds, dts_ms, !has_pictures);
        let mut body = if is_aac { vec![0xaf, 1, 0x21] } else { [&[0x2f][..], &MP3_HEAD, &[0; 32]].concat() };
        body.extend_from_slice(mark.text().as_bytes());
        let bytes = if is_aac { body.len() + random.below(200) as usize } else { 1 + MP3_BYTES };
        body.resize(bytes, b'.');
        self.message(message_type::AUDIO, 1, timestamp_ms, &body);
        if self.character.further && is_aac {
            let behind_ms = self.character.further_behind_ms;
            let mark = self.mark(Kind::FurtherSound, self.sounds, dts_ms - i64::from(behind_ms), false);
            let mut body = FURTHER_SOUND_HEAD.to_vec();
            // Coded frames.
            body[1] = 0x01;
            body.push(0x21);
            body.extend_from_slice(mark.text().as_bytes());
            self.message(message_type::AUDIO, 1, timestamp_ms.wrapping_sub(behind_ms), &body);
        }
        self.sounds += 1;
    }

    /// Reads from the wire and gives it to the recorder, as a connection does. False: the connection is over.
    pub fn serve(&mut self, random: &mut Random, life: &mut Life) -> bool {
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() && !self.feed(&pending, false, life) {
            return false;
        }
        let mut most = random.below(20_000) as usize + 1;
        while !self.wire.is_empty() && most > 0 && self.pending.is_empty() {
            let piece: Vec<u8> = self.wire.drain(..self.wire.len().min(most.min(1 + random.below(9_000) as usize))).collect();
            most -= piece.len();
            if !self.feed(&piece, false, life) {
                return false;
            }
        }
        true
    }

    pub fn feed(&mut self, input: &[u8], ending: bool, life: &mut Life) -> bool {
        let mut consumed = 0;
        loop {
            if !ending && self.recorder.as_ref().is_some_and(Recorder::is_blocked) {
                self.pending.extend_from_slice(&input[consumed..]);
                return true;
            }
            let event = match self.session.poll(input, &mut consumed) {
                Err(_) => return false,
                Ok(None) => break,
                Ok(Some(event)) => event,
            };
            match event {
                Event::Publish(request) => {
                    assert_eq!(request.address.stream, self.character.key.stream.to_string());
                    self.recorder = Some(life.begin(&self.truth.borrow(), &self.character));
                    self.session.accept_publish();
                }
                Event::Media { kind, timestamp_ms, payload } => {
                    let Some(recorder) = &mut self.recorder else { continue };
                    let mut truth = self.truth.borrow_mut();
                    let mark = Mark::find(&payload.to_vec()).first().map(|(_, mark)| *mark);
                    let handed = |mark| self.times.get(&mark).map(|&(dts_ms, begins)| Handed { mark, dts_ms, wall: wall(), begins });
                    let frame = mark.and_then(handed);
                    let before = recorder.totals();
                    truth.in_hand = frame;
                    let taken = match kind {
                        MediaKind::Video => recorder.video(timestamp_ms, payload, now(), &mut life.store),
                        MediaKind::Audio => recorder.audio(timestamp_ms, payload, now(), &mut life.store),
                        MediaKind::Data => {
                            recorder.data(timestamp_ms, payload, now(), &mut life.store);
                            Ok(())
                        }
                    };
                    truth.in_hand = None;
                    let after = recorder.totals();
                    let is_counted = (after.video_frames, after.audio_frames) != (before.video_frames, before.audio_frames);
                    let so_far = truth.frames.len();
                    match frame {
                        Some(frame) if frame.mark.kind.is_first() && is_counted => truth.frames.push(frame),
                        Some(frame) if is_counted || frame.mark.kind == Kind::Data => truth.beside.push((frame, so_far)),
                        _ if is_counted => truth.unmarked += 1,
                        _ => {}
                    }
                    if taken.is_err() {
                        return false;
                    }
                }
                Event::PublishEnd(_) => return false,
                Event::Refused { .. } => {}
            }
        }
        self.session.output_sent(self.session.output().len());
        true
    }

    /// Ends the publication; what was read before goes in.
    pub fn close(&mut self, reason: EndReason, life: &mut Life) {
        self.over = true;
        let pending = std::mem::take(&mut self.pending);
        self.feed(&pending, true, life);
        if let Some(mut recorder) = self.recorder.take() {
            recorder.finish(reason, now(), &mut life.store);
            life.ending.push((recorder, Rc::clone(&self.truth)));
        } else {
            // It ended before its wish to publish was read.
            self.truth.borrow_mut().lost = Some(0);
        }
    }
}
