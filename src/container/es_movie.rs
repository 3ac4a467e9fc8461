//! Finished ADTS and MP3 files as the samples of a movie, so that pieces of them can be cut without encoding.

use super::mp4::{Movie, MovieSample};
use super::window::Window;
use super::{ReadAt, ScanError};
use crate::codec::aac::{ADTS_HEADER_BYTES, config_of_adts, parse_aac_config, parse_adts_header};
use crate::codec::mp3::{MP3_HEADER_BYTES, parse_mp3_header};
use crate::media::{AudioCodec, AudioTrack, Tracks};

/// Some days of sound.
const SAMPLES_MAX: usize = 16 << 20;

/// Access units of an ADTS file, each without its header. Ends at the first bytes that are no frame of the same stream.
///
/// # Errors
/// [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn adts<R: ReadAt + ?Sized>(file: &R) -> Result<Movie, ScanError> {
    let mut window = Window::new(file);
    let (mut at, mut dts, mut samples, mut track) = (0, 0, Vec::new(), None);
    while samples.len() < SAMPLES_MAX
        && let Some(header) = window.array::<ADTS_HEADER_BYTES>(at)?
        && let Some(frame) = parse_adts_header(header)
    {
        let stream = (frame.object_type, frame.sample_rate_hz, frame.channels);
        let end = at + frame.frame_bytes as u64;
        if end > window.file_len() || frame.frame_bytes <= frame.header_bytes || track.is_some_and(|(known, _, _)| known != stream) {
            break;
        }
        track.get_or_insert((stream, header, frame.samples));
        let (offset, bytes) = (at + frame.header_bytes as u64, (frame.frame_bytes - frame.header_bytes) as u32);
        samples.push(MovieSample { offset, bytes, dts, cts: 0, duration: frame.samples, sync: true });
        dts += u64::from(frame.samples);
        at = end;
    }
    let ((_, rate_hz, _), header, frame_samples) = track.ok_or(ScanError::Empty)?;
    let first = samples.first().map_or((0, 0), |sample: &MovieSample| (sample.offset, sample.bytes as usize));
    movie(adts_track(header, window.at(first.0, first.1)?, rate_hz, frame_samples), samples)
}

/// The track that an ADTS frame tells.
pub(super) fn adts_track(header: [u8; ADTS_HEADER_BYTES], access_unit: &[u8], sample_rate_hz: u32, samples: u32) -> AudioTrack {
    let config = config_of_adts(header, access_unit);
    let channels = parse_aac_config(&config).map_or(0, |config| config.channels);
    AudioTrack::new(AudioCodec::Aac, config, sample_rate_hz, channels, samples)
}

/// Frames of an MP3 file; what stands between frames is left out.
///
/// # Errors
/// [`ScanError::Empty`] without a frame, [`ScanError::Read`].
pub fn mp3<R: ReadAt + ?Sized>(file: &R) -> Result<Movie, ScanError> {
    let mut window = Window::new(file);
    let (mut at, mut dts, mut samples, mut track) = (0, 0, Vec::new(), None);
    while samples.len() < SAMPLES_MAX
        && let Some(header) = window.array::<MP3_HEADER_BYTES>(at)?
    {
        let frame = parse_mp3_header(header).ok().filter(|frame| at + u64::from(frame.frame_bytes) <= window.file_len());
        let same = |rate_hz: u32| track.as_ref().is_none_or(|known: &AudioTrack| known.sample_rate_hz == rate_hz);
        let Some(frame) = frame.filter(|frame| same(frame.sample_rate_hz)) else {
            at += 1;
            continue;
        };
        track.get_or_insert_with(|| AudioTrack::new(AudioCodec::Mp3, Vec::new(), frame.sample_rate_hz, frame.channels, frame.samples_per_frame));
        samples.push(MovieSample { offset: at, bytes: frame.frame_bytes, dts, cts: 0, duration: frame.samples_per_frame, sync: true });
        dts += u64::from(frame.samples_per_frame);
        at += u64::from(frame.frame_bytes);
    }
    movie(track.ok_or(ScanError::Empty)?, samples)
}

fn movie(track: AudioTrack, samples: Vec<MovieSample>) -> Result<Movie, ScanError> {
    let rate_hz = track.sample_rate_hz;
    let tracks = Tracks { audio: Some(track.into()), ..Tracks::default() };
    let mut movie = Movie::from_samples(&tracks, Vec::new(), samples).ok_or(ScanError::Empty)?;
    movie.tracks.iter_mut().for_each(|track| track.ticks_per_second = rate_hz);
    Ok(movie)
}

/// Any bytes: what is found lies in the file.
pub fn fuzz_es_movie(data: &[u8]) {
    for movie in [adts(data), mp3(data)].into_iter().flatten() {
        assert!(movie.tracks.iter().flat_map(|track| &track.samples).all(|sample| sample.offset + u64::from(sample.bytes) <= data.len() as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::es::{AdtsWriter, Mp3Writer};
    use crate::container::mp4::select;
    use crate::container::{MemorySink, Sink};
    use crate::media::{Frame, Payload, TagHeader, TrackKind};

    fn frame(media: &[u8]) -> Frame<'_> {
        Frame { track: TrackKind::Audio, dts_ms: 0, cts_ms: 0, key: true, tag_header: TagHeader::new(&[0xAF, 1]), media: Payload::contiguous(media) }
    }

    #[test]
    fn access_units_come_back_and_are_cut_by_time() {
        // AAC LC, 44.1 kHz, stereo.
        let track = AudioTrack::new(AudioCodec::Aac, &[0x12, 0x10][..], 44_100, 2, 1024);
        let (mut writer, mut sink) = (AdtsWriter::new(&track).unwrap(), MemorySink::default());
        for number in 0..100_u8 {
            writer.push(&frame(&[number, 7, number + 1]), &mut sink).unwrap();
        }
        let whole = sink.position();
        let movie = adts(&sink.bytes[..]).unwrap();
        let samples = &movie.tracks[0].samples;
        assert_eq!((samples.len(), movie.tracks[0].ticks_per_second, movie.tracks[0].codec_name()), (100, 44_100, "aac"));
        for (number, sample) in samples.iter().enumerate() {
            let media = &sink.bytes[sample.offset as usize..][..sample.bytes as usize];
            assert_eq!(media, [number as u8, 7, number as u8 + 1]);
        }
        assert_eq!(config_of_adts(sink.bytes[..7].try_into().unwrap(), &sink.bytes[7..]), [0x12, 0x10]);
        assert_eq!(movie.duration_ms(), 100 * 1024 * 1000 / 44_100);
        // 23.2 ms each: the one that sounds at 0.5 s is number 21.
        assert_eq!(select(&movie, 500, 1_000).unwrap().ranges[0], 21..44);
        for cut in 0..whole as usize {
            assert_eq!(adts(&sink.bytes[..cut]).map_or(0, |movie| movie.tracks[0].samples.len()), cut / 10, "cut at {cut}");
        }
    }

    #[test]
    fn mp3_frames_and_what_stands_between() {
        // MPEG-1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes.
        let mut one = vec![0; 417];
        one[..4].copy_from_slice(&[0xFF, 0xFB, 0x90, 0x00]);
        let (mut writer, mut sink) = (Mp3Writer::new(), MemorySink::default());
        writer.push(&frame(&one), &mut sink);
        sink.append(b"TAG of somebody");
        (0..9).for_each(|_| writer.push(&frame(&one), &mut sink));
        let movie = mp3(&sink.bytes[..]).unwrap();
        assert_eq!((movie.tracks[0].samples.len(), movie.tracks[0].codec_name()), (10, "mp3"));
        assert_eq!(movie.duration_ms(), 10 * 1152 * 1000 / 44_100);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600)) {
            fuzz_es_movie(&data);
        }
    }
}
