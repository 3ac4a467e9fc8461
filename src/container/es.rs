//! Elementary streams as files: AAC in ADTS, and MP3. They have no head, no index and no timestamps: whole frames, one behind the other.

use super::window::{Window, apply};
use super::{FinishPlan, MediaSummary, ReadAt, ScanError, Sink, TrackSummary};
use crate::codec::aac::{ADTS_HEADER_BYTES, AacError, AdtsFrame, AdtsHeader, channels_of_access_unit, parse_adts_header};
use crate::codec::mp3::{MP3_HEADER_BYTES, Mp3Header, parse_mp3_header};
use crate::media::{AudioCodec, AudioTrack, Frame};

/// Whether an ADTS file can hold the track: AAC, of the kinds that its headers can tell.
pub fn adts_holds(track: &AudioTrack) -> bool {
    track.codec == AudioCodec::Aac && AdtsHeader::of(&track.config).is_ok()
}

/// Appends AAC access units, each behind its ADTS header.
#[derive(Clone, Debug)]
pub struct AdtsWriter {
    header: AdtsHeader,
    first: Option<AdtsFrame>,
    counts: Counts,
}

impl AdtsWriter {
    /// # Errors
    /// [`AacError`] if the configuration cannot be read or ADTS cannot express it.
    pub fn new(track: &AudioTrack) -> Result<Self, AacError> {
        Ok(Self { header: AdtsHeader::of(&track.config)?, first: None, counts: Counts::default() })
    }

    /// The most bytes that [`AdtsWriter::push`] appends for `frame`.
    pub fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        self.header.bytes() + frame.media.len()
    }

    /// # Errors
    /// [`AacError::AccessUnitTooLong`]: nothing is appended, the frame is lost to this file.
    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) -> Result<(), AacError> {
        let header = self.header.for_access_unit(frame.media.len())?;
        if self.first.is_none() {
            self.first = parse_adts_header(header).map(|first| AdtsFrame { channels: self.header.channels(), ..first });
        }
        self.counts.take(self.first.map_or(0, |first| first.samples), self.header.program().len() + frame.media.len());
        sink.append(&header);
        if !self.header.program().is_empty() {
            sink.append(self.header.program());
        }
        append_media(frame, sink);
        Ok(())
    }

    /// What makes the file final, now that it ends at `end`: the same as [`scan_adts`] finds, without reading the file.
    ///
    /// # Errors
    /// [`ScanError::Empty`] if nothing was pushed.
    pub fn finish(self, end: u64) -> Result<FinishPlan, ScanError> {
        let first = self.first.ok_or(ScanError::Empty)?;
        Ok(self.counts.plan(AudioCodec::Aac, (first.sample_rate_hz, first.channels), end, 0))
    }
}

/// Appends MPEG audio frames as they are.
#[derive(Clone, Debug, Default)]
pub struct Mp3Writer {
    first: Option<Mp3Header>,
    counts: Counts,
    /// Something was no whole frame.
    is_odd: bool,
}

impl Mp3Writer {
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that [`Mp3Writer::push`] appends for `frame`.
    pub fn push_bytes_max(&self, frame: &Frame<'_>) -> usize {
        frame.media.len()
    }

    pub fn push(&mut self, frame: &Frame<'_>, sink: &mut impl Sink) {
        let mut left = frame.media;
        while !(self.is_odd || left.is_empty()) {
            let mut header = [0; MP3_HEADER_BYTES];
            left.peek(&mut header);
            match parse_mp3_header(header) {
                Ok(header) if header.frame_bytes as usize <= left.len() => {
                    self.first.get_or_insert(header);
                    self.counts.take(header.samples_per_frame, header.frame_bytes as usize);
                    left = left.skip(header.frame_bytes as usize);
                }
                _ => self.is_odd = true,
            }
        }
        append_media(frame, sink);
    }

    /// What makes the file final, now that it ends at `end`: the same as [`scan_mp3`] finds, without reading the file. `None`: only reading it tells, as
    /// there is something in it that is no frame.
    pub fn finish(self, end: u64) -> Option<FinishPlan> {
        let first = self.first.filter(|_| !self.is_odd)?;
        Some(self.counts.plan(AudioCodec::Mp3, (first.sample_rate_hz, first.channels), end, 0))
    }
}

fn append_media(frame: &Frame<'_>, sink: &mut impl Sink) {
    for slice in frame.media.slices() {
        sink.append(slice);
    }
    sink.seal(sink.position());
}

/// Walks the frames of an ADTS file to the last whole one.
///
/// # Errors
/// [`ScanError::Empty`] if there is none, [`ScanError::Read`].
pub fn scan_adts<R: ReadAt + ?Sized>(file: &R) -> Result<FinishPlan, ScanError> {
    let mut window = Window::new(file);
    let mut counts = Counts::default();
    let mut first: Option<AdtsFrame> = None;
    let mut end = 0;
    while let Some(frame) = window.array::<ADTS_HEADER_BYTES>(end)?.and_then(parse_adts_header) {
        let like_the_first = first.is_none_or(|first| same_stream(first, frame));
        let bytes = window.at(end, frame.frame_bytes)?;
        // The frame may be written in part, with preallocated zeros behind: an access unit ends with the three bits of ID_END (ISO/IEC 14496-3,
        // 4.4.2.1) and less than a byte of alignment, never with a zero byte. An encoder's odd frame in the middle stays.
        let ends_in_zero = bytes.last() == Some(&0);
        if !like_the_first || bytes.len() < frame.frame_bytes {
            break;
        }
        let frame_end = end + frame.frame_bytes as u64;
        if ends_in_zero && window.file_len() > frame_end && window.zeros_behind(frame_end)? {
            break;
        }
        first.get_or_insert(frame);
        counts.take(frame.samples, frame.frame_bytes - frame.header_bytes);
        end = frame_end;
    }
    let first = first.ok_or(ScanError::Empty)?;
    let channels = if first.channels == 0 {
        channels_of_access_unit(window.at(first.header_bytes as u64, first.frame_bytes - first.header_bytes)?)
    } else {
        None
    };
    Ok(counts.plan(AudioCodec::Aac, (first.sample_rate_hz, channels.unwrap_or(first.channels)), end, window.torn_bytes(end)?))
}

fn same_stream(first: AdtsFrame, frame: AdtsFrame) -> bool {
    (first.object_type, first.sample_rate_hz, first.channels) == (frame.object_type, frame.sample_rate_hz, frame.channels)
}

/// How far the next frame is searched behind bytes that are no frame: publishers put tags and padding between frames now and then.
const RESYNC_BYTES_MAX: u64 = 16 << 10;

/// Walks the frames of an MP3 file to the last whole one. What is no frame stays in the file if frames follow.
///
/// A frame whose end is preallocated zeros counts as whole: real frames end with zeros too, and to lose one of these would be worse.
///
/// # Errors
/// [`ScanError::Empty`] if there is no frame, [`ScanError::Read`].
pub fn scan_mp3<R: ReadAt + ?Sized>(file: &R) -> Result<FinishPlan, ScanError> {
    let mut window = Window::new(file);
    let mut counts = Counts::default();
    let mut first: Option<Mp3Header> = None;
    let mut end = 0;
    let mut at = 0;
    while at < end + RESYNC_BYTES_MAX {
        let Some(header) = window.array::<MP3_HEADER_BYTES>(at)? else { break };
        let frame = parse_mp3_header(header).ok().filter(|frame| at + u64::from(frame.frame_bytes) <= window.file_len());
        // Out of step, one sync word is chance; two at the right distance are frames. Both must be whole: what is torn is cut off, and then the
        // first one would be chance again.
        match frame {
            Some(frame) if at == end || followed_by_frame(&mut window, at, frame)? => {
                first.get_or_insert(frame);
                counts.take(frame.samples_per_frame, frame.frame_bytes as usize);
                end = at + u64::from(frame.frame_bytes);
                at = end;
            }
            _ => at += 1,
        }
    }
    let first = first.ok_or(ScanError::Empty)?;
    Ok(counts.plan(AudioCodec::Mp3, (first.sample_rate_hz, first.channels), end, window.torn_bytes(end)?))
}

fn followed_by_frame<R: ReadAt + ?Sized>(window: &mut Window<'_, R>, at: u64, frame: Mp3Header) -> Result<bool, ScanError> {
    let next = window.array::<MP3_HEADER_BYTES>(at + u64::from(frame.frame_bytes))?;
    let next = next.and_then(|header| parse_mp3_header(header).ok());
    let end_of = |next: Mp3Header| at + u64::from(frame.frame_bytes) + u64::from(next.frame_bytes);
    Ok(next.is_some_and(|next| (next.version, next.sample_rate_hz) == (frame.version, frame.sample_rate_hz) && end_of(next) <= window.file_len()))
}

#[derive(Clone, Default, Debug)]
struct Counts {
    frames: u64,
    bytes: u64,
    samples: u64,
}

impl Counts {
    fn take(&mut self, samples: u32, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
        self.samples += u64::from(samples);
    }

    fn plan(self, codec: AudioCodec, (sample_rate_hz, channels): (u32, u8), end: u64, torn_bytes: u64) -> FinishPlan {
        let rate_hz = u64::from(sample_rate_hz);
        let duration_ms = (self.samples * 1000 + rate_hz / 2) / rate_hz;
        let audio = TrackSummary {
            codec: codec.name().to_owned(),
            frames: self.frames,
            bytes: self.bytes,
            duration_ms,
            sample_rate_hz,
            channels,
            ..TrackSummary::default()
        };
        let summary = MediaSummary { duration_ms, audio: Some(audio), ..MediaSummary::default() };
        FinishPlan { truncate_to: end, insert: None, writes: Vec::new(), append: Vec::new(), torn_bytes, summary }
    }
}

/// Finishing what was finished changes nothing, whatever the file.
pub fn fuzz_es_scan(data: &[u8]) {
    for scan in [scan_adts::<[u8]>, scan_mp3::<[u8]>] {
        let Ok(plan) = scan(data) else { continue };
        let finished = apply(&plan, data);
        let again = scan(&finished).expect("what we finished can be read");
        assert_eq!((again.truncate_to, again.torn_bytes), (finished.len() as u64, 0));
        assert_eq!(again.summary, plan.summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::MemorySink;
    use crate::media::payload::Span;
    use crate::media::{Payload, TagHeader, TrackKind};

    fn aac_track(config: &'static [u8]) -> AudioTrack {
        AudioTrack::new(AudioCodec::Aac, config, 44_100, 2, 1024)
    }

    fn frame<'a>(media: Payload<'a>) -> Frame<'a> {
        Frame { track: TrackKind::Audio, dts_ms: 0, cts_ms: 0, key: true, tag_header: TagHeader::new(&[0xaf, 1]), media }
    }

    /// `count` access units of 5, 6, 7, ... bytes, each in two pieces; and where each ends.
    fn adts(count: usize) -> (Vec<u8>, Vec<usize>) {
        let mut writer = AdtsWriter::new(&aac_track(&[0x12, 0x10])).unwrap();
        let mut sink = MemorySink::default();
        let mut ends = vec![0];
        for index in 0..count {
            let access_unit: Vec<u8> = (0..5 + index as u8).map(|at| at | 0x80).collect();
            let len = access_unit.len() as u32;
            let frame = frame(Payload::contiguous(&access_unit));
            let spans = [Span { start: 0, end: 2 }, Span { start: 2, end: len }];
            let pieces = Frame { media: Payload::chunked(&[], &access_unit, &spans), ..frame };
            writer.push(&pieces, &mut sink).unwrap();
            ends.push(ends[index] + writer.push_bytes_max(&frame));
            assert_eq!((sink.bytes.len(), sink.sealed), (ends[index + 1], ends[index + 1] as u64));
            assert!(sink.bytes.ends_with(&access_unit));
        }
        assert_eq!(writer.finish(sink.position()).ok(), scan_adts(&sink.bytes[..]).ok(), "what the writer counted is there");
        (sink.bytes, ends)
    }

    /// `count` frames of 417 and 418 bytes: 128 kbit/s at 44.1 kHz.
    fn mp3(count: usize) -> (Vec<u8>, Vec<usize>) {
        let mut sink = MemorySink::default();
        let mut writer = Mp3Writer::new();
        let mut ends = vec![0];
        for index in 0..count {
            let padded = index % 2;
            let mut bytes = vec![index as u8 | 0x20; 417 + padded];
            bytes[..4].copy_from_slice(&[0xff, 0xfb, 0x90 | (padded as u8) << 1, 0x64]);
            let frame = frame(Payload::contiguous(&bytes));
            writer.push(&frame, &mut sink);
            ends.push(ends[index] + writer.push_bytes_max(&frame));
        }
        assert_eq!(sink.bytes.len(), ends[count]);
        assert_eq!(writer.finish(sink.position()), scan_mp3(&sink.bytes[..]).ok(), "what the writer counted is there");
        (sink.bytes, ends)
    }

    #[test]
    fn adts_files_cut_anywhere_keep_their_whole_frames() {
        let (file, ends) = adts(9);
        for cut in 0..=file.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            for zeros in [0, 50, 10_000] {
                let mut torn = file[..cut].to_vec();
                torn.resize(cut + zeros, 0);
                match scan_adts(torn.as_slice()) {
                    Ok(plan) => {
                        assert_eq!(plan.truncate_to, ends[whole] as u64, "cut at {cut}, {zeros} zeros");
                        let audio = plan.summary.audio.unwrap();
                        assert_eq!((audio.frames, audio.bytes), (whole as u64, (ends[whole] - 7 * whole) as u64));
                        assert_eq!(plan.summary.duration_ms, (whole as u64 * 1024 * 1000 + 22_050) / 44_100);
                        assert_eq!((audio.codec.as_str(), audio.sample_rate_hz, audio.channels), ("aac", 44_100, 2));
                    }
                    Err(error) => assert!(matches!(error, ScanError::Empty) && whole == 0),
                }
                fuzz_es_scan(&torn);
            }
        }
    }

    #[test]
    fn channels_without_a_number_are_told_in_front_of_each_access_unit() {
        // Four channels, two in front and two behind, 48 kHz.
        let track = AudioTrack::new(AudioCodec::Aac, &b"\x11\x80\x04\xc4\x04\x00\x21\x10\x00"[..], 48_000, 4, 1024);
        assert!(adts_holds(&track));
        let (mut writer, mut sink) = (AdtsWriter::new(&track).unwrap(), MemorySink::default());
        for _ in 0..3 {
            let frame = frame(Payload::contiguous(&[0x21, 7]));
            let before = sink.bytes.len();
            writer.push(&frame, &mut sink).unwrap();
            assert_eq!(sink.bytes.len() - before, writer.push_bytes_max(&frame));
            assert_eq!(sink.bytes[before + ADTS_HEADER_BYTES..], [0xa0, 0x98, 0x80, 0x80, 0x04, 0x22, 0, 0x21, 7]);
        }
        let found = scan_adts(&sink.bytes[..]).unwrap();
        assert_eq!(writer.finish(sink.position()).unwrap(), found);
        assert_eq!((found.summary.audio.as_ref().unwrap().channels, found.torn_bytes), (4, 0));
        let movie = crate::container::es_movie::adts(&sink.bytes[..]).unwrap();
        assert_eq!((movie.tracks[0].samples.len(), movie.tracks[0].samples[0].bytes), (3, 9));
    }

    #[test]
    fn access_units_that_end_in_zero_stay_inside_the_file() {
        let mut writer = AdtsWriter::new(&aac_track(&[0x12, 0x10])).unwrap();
        let mut sink = MemorySink::default();
        for access_unit in [[1, 0], [1, 0], [1, 1]] {
            writer.push(&frame(Payload::contiguous(&access_unit)), &mut sink).unwrap();
        }
        assert_eq!(scan_adts(sink.bytes.as_slice()).unwrap().summary.audio.unwrap().frames, 3);
    }

    #[test]
    fn what_adts_cannot_hold_is_refused() {
        assert!(!adts_holds(&aac_track(&[0x12, 0x14])) && adts_holds(&aac_track(&[0x12, 0x10])));
        assert_eq!(AdtsWriter::new(&aac_track(&[0x12, 0x14])).unwrap_err(), AacError::NotInAdts { what: "frames of other than 1024 samples" });
        assert!(matches!(AdtsWriter::new(&aac_track(&[])).unwrap_err(), AacError::Truncated { .. }));
        let mut sink = MemorySink::default();
        let mut writer = AdtsWriter::new(&aac_track(&[0x12, 0x10])).unwrap();
        let long = vec![1; 8185];
        assert_eq!(writer.push(&frame(Payload::contiguous(&long)), &mut sink), Err(AacError::AccessUnitTooLong { bytes: 8185 }));
        assert!(sink.bytes.is_empty());
    }

    #[test]
    fn an_mp3_writer_knows_its_file_unless_something_in_it_is_no_frame() {
        let (file, ends) = mp3(3);
        let torn = [&file[..ends[2]], &file[ends[2]..ends[2] + 100]].concat();
        // Messages with two frames, cut inside the second header and elsewhere; with a tag between frames; with a frame that is not whole.
        for (message, is_known) in [(&file[..], true), (&[&file[..], b"TAG", &file[..]].concat()[..], false), (&torn, false)] {
            for cut in [0, 1, ends[1] + 2, ends[1] + 50] {
                let (mut writer, mut sink) = (Mp3Writer::new(), MemorySink::default());
                let (prefix, input) = message.split_at(cut);
                writer.push(&frame(Payload::chunked(prefix, input, &[Span { start: 0, end: input.len() as u32 }])), &mut sink);
                assert_eq!(writer.finish(sink.position()), scan_mp3(&sink.bytes[..]).ok().filter(|_| is_known), "cut at {cut}");
            }
        }
        assert_eq!(Mp3Writer::new().finish(0), None);
    }

    #[test]
    fn mp3_files_cut_anywhere_keep_their_whole_frames() {
        let (file, ends) = mp3(5);
        for cut in 0..=file.len() {
            let whole = ends.iter().rposition(|end| *end <= cut).unwrap();
            match scan_mp3(&file[..cut]) {
                Ok(plan) => {
                    assert_eq!(plan.truncate_to, ends[whole] as u64, "cut at {cut}");
                    assert_eq!(plan.torn_bytes, (cut - ends[whole]) as u64);
                    let audio = plan.summary.audio.unwrap();
                    assert_eq!((audio.codec.as_str(), audio.frames, audio.bytes), ("mp3", whole as u64, ends[whole] as u64));
                    assert_eq!(audio.duration_ms, (whole as u64 * 1152 * 1000 + 22_050) / 44_100);
                }
                Err(error) => assert!(matches!(error, ScanError::Empty) && whole == 0),
            }
            fuzz_es_scan(&file[..cut]);
        }
        let mut preallocated = file.clone();
        preallocated.resize(file.len() + 100_000, 0);
        assert_eq!(scan_mp3(preallocated.as_slice()).unwrap().truncate_to, file.len() as u64);
    }

    #[test]
    fn mp3_is_found_again_behind_other_bytes() {
        let (file, ends) = mp3(6);
        let junk = [b"TAG".as_slice(), &[0xff, 0xfb, 0x90, 0x64], &[0x55; 1000]].concat();
        let mixed = [&junk, &file[..ends[3]], &junk, &file[ends[3]..]].concat();
        let plan = scan_mp3(mixed.as_slice()).unwrap();
        assert_eq!((plan.truncate_to, plan.summary.audio.unwrap().frames), (mixed.len() as u64, 6));
        let far = [&file[..ends[3]], &vec![0x55; RESYNC_BYTES_MAX as usize], &file[ends[3]..]].concat();
        assert_eq!(scan_mp3(far.as_slice()).unwrap().truncate_to, ends[3] as u64);
        fuzz_es_scan(&mixed);
    }

    #[test]
    fn a_frame_behind_other_bytes_needs_a_whole_one_behind_it() {
        let (file, ends) = mp3(3);
        let junk = [0x55; 100];
        for cut in ends[1]..=ends[2] {
            let damaged = [&junk, &file[..cut]].concat();
            // Cut off with the torn second frame, nothing would tell the first one from chance any more.
            match scan_mp3(damaged.as_slice()) {
                Ok(plan) => assert_eq!((cut, plan.truncate_to), (ends[2], damaged.len() as u64)),
                Err(error) => assert!(matches!(error, ScanError::Empty) && cut < ends[2], "cut at {cut}: {error}"),
            }
            fuzz_es_scan(&damaged);
        }
    }
}
