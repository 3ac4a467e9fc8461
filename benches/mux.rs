//! The container writers: frames to bytes of a file in memory, with their patches and index.
//!
//! ```text
//! cargo bench --bench mux
//! ```

mod support;

use std::hint::black_box;

use capstan::container::es::AdtsWriter;
use capstan::container::flv::FlvWriter;
use capstan::container::mp4::Mp4Writer;
use capstan::container::mpegts::TsWriter;
use capstan::container::{Sink, flv, mp4};
use capstan::media::{Frame, TrackKind, Tracks};

const SECONDS: usize = 4;
const NAMES: [&str; 4] = ["flv", "mp4", "ts", "adts"];

/// Keeps a file's last megabytes at most: what one block of the arena does, so that the caches see what they see in production.
struct BlockSink {
    memory: Vec<u8>,
    start: u64,
}

const BLOCK_BYTES: usize = 1 << 20;

impl BlockSink {
    fn new() -> Self {
        Self { memory: Vec::with_capacity(2 * BLOCK_BYTES), start: 0 }
    }
    fn clear(&mut self) {
        self.memory.clear();
        self.start = 0;
    }
}

impl Sink for BlockSink {
    fn position(&self) -> u64 {
        self.start + self.memory.len() as u64
    }
    fn append(&mut self, bytes: &[u8]) {
        if self.memory.len() + bytes.len() > 2 * BLOCK_BYTES {
            let cut = self.memory.len().min(BLOCK_BYTES);
            self.memory.copy_within(cut.., 0);
            self.memory.truncate(self.memory.len() - cut);
            self.start += cut as u64;
        }
        self.memory.extend_from_slice(bytes);
    }
    fn draft(&mut self, _: u64) {}
    fn patch(&mut self, offset: u64, bytes: &[u8]) {
        // A fragment that began in a block that is gone: as far away as it would be in the arena, and gone to the disk here.
        if let Some(start) = offset.checked_sub(self.start) {
            self.memory[start as usize..start as usize + bytes.len()].copy_from_slice(bytes);
        }
    }
    fn seal(&mut self, _: u64) {}
}

fn round(name: &str, tracks: &Tracks, frames: &[Frame<'_>], sink: &mut BlockSink) {
    sink.clear();
    match name {
        "flv" => {
            let head = flv::head(tracks, 1800);
            let mut writer = FlvWriter::new(tracks, &head, 0);
            sink.append(&head);
            frames.iter().for_each(|frame| writer.push(frame, sink));
            black_box(writer.finish(sink.position()).expect("frames were pushed"));
        }
        "mp4" => {
            let mut writer = Mp4Writer::new(tracks, 0);
            sink.append(&mp4::head(tracks, 64 << 10));
            for frame in frames {
                black_box(writer.push(frame, sink));
            }
            black_box(writer.close_fragment(sink));
        }
        "ts" => {
            let mut writer = TsWriter::new(tracks, 0).expect("H.264 and AAC");
            for frame in frames {
                if frame.key && frame.track == TrackKind::Video {
                    writer.start_segment(sink);
                }
                writer.push(frame, sink).expect("a whole frame");
            }
        }
        _ => {
            let mut writer = AdtsWriter::new(tracks.audio.as_ref().expect("there is sound")).expect("AAC");
            for frame in frames.iter().filter(|frame| frame.track == TrackKind::Audio) {
                writer.push(frame, sink).expect("a whole frame");
            }
        }
    }
    black_box(&sink.memory);
}

fn main() {
    let counted = support::counted();
    for bitrate_kbit in [500, 4_000] {
        let tags = support::media(bitrate_kbit, SECONDS);
        let (tracks, frames) = (support::tracks(&tags), support::frames(&tags));
        let mut sink = BlockSink::new();
        if let Some((case, rounds)) = &counted {
            if let Some(name) = case.strip_prefix(&format!("{bitrate_kbit} ")) {
                (0..*rounds).for_each(|_| round(name, &tracks, &frames, &mut sink));
            }
            continue;
        }
        let all: usize = frames.iter().map(|frame| frame.media.len()).sum();
        let copy = support::memcpy(all.min(4 << 20));
        support::head(&format!("frames to files, {bitrate_kbit} kbit/s"), copy);
        for name in NAMES {
            let taken = |frame: &&Frame<'_>| name != "adts" || frame.track == TrackKind::Audio;
            let bytes: usize = frames.iter().filter(taken).map(|frame| frame.media.len()).sum();
            let messages = frames.iter().filter(taken).count();
            let rate = support::measure(bytes, || round(name, &tracks, &frames, &mut sink));
            let per_message = support::instructions(&format!("{bitrate_kbit} {name}")).map(|count| count / messages as f64);
            support::row(name, rate, copy, per_message);
        }
    }
}
