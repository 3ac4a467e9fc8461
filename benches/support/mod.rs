//! What the benches of the packet path share: made-up media, timing, and counting instructions.

// Each bench uses its part.
#![allow(dead_code)]

use std::process::Command;
use std::time::{Duration, Instant};

use capstan::media::flv_tag::{AudioUnit, VideoUnit, parse_audio, parse_video};
use capstan::media::{Frame, Payload, TrackKind, Tracks};

/// How long one measurement takes; the median of [`RUNS`] is shown.
const RUN: Duration = Duration::from_millis(150);
const RUNS: usize = 5;
/// The first argument of a bench that counts its own instructions: case and rounds follow.
const COUNT: &str = "--count";

pub const VIDEO: u8 = 9;
pub const AUDIO: u8 = 8;

/// One FLV tag: type, time, body.
pub struct Tag {
    pub kind: u8,
    pub timestamp_ms: u32,
    pub body: Vec<u8>,
}

/// High profile, 640x360, no B-frames, behind its tag header.
const AVC_HEADER: &[u8] = &[
    0x17, 0x00, 0x00, 0x00, 0x00, 0x01, 0x64, 0x00, 0x1e, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1e, 0xac, 0xb2, 0x01, 0x40, 0x5f, 0xf2, 0xe0,
    0x22, 0x00, 0x00, 0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x64, 0x1e, 0x2c, 0x5c, 0x90, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xc3, 0xcb, 0x22, 0xc0,
    0xfd, 0xf8, 0xf8, 0x00,
];

/// H.264 at 30 frames a second and AAC at 48 kHz: sequence headers, then `seconds` of frames. A key frame every 2 s weighs as much as eight others.
pub fn media(bitrate_kbit: usize, seconds: usize) -> Vec<Tag> {
    let mut tags =
        vec![Tag { kind: VIDEO, timestamp_ms: 0, body: AVC_HEADER.to_vec() }, Tag { kind: AUDIO, timestamp_ms: 0, body: vec![0xaf, 0, 0x11, 0x90] }];
    let unit = (bitrate_kbit - 128) * 125 / (30 + 7 / 2);
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    let mut fill = |body: &mut Vec<u8>, count: usize| {
        body.extend((0..count).map(|_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            (noise >> 24) as u8 | 1
        }));
    };
    let mut frames = Vec::new();
    for index in 0..seconds * 30 {
        let key = index % 60 == 0;
        let bytes = (if key { unit * 8 } else { unit }).max(16) - 9;
        let mut body = vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        body.extend_from_slice(&(bytes as u32).to_be_bytes());
        body.push(if key { 0x65 } else { 0x41 });
        fill(&mut body, bytes - 1);
        frames.push(Tag { kind: VIDEO, timestamp_ms: (index * 1000 / 30) as u32, body });
    }
    for index in 0..seconds * 48_000 / 1024 {
        let mut body = vec![0xaf, 1];
        fill(&mut body, 341);
        frames.push(Tag { kind: AUDIO, timestamp_ms: (index * 1024 / 48) as u32, body });
    }
    frames.sort_by_key(|tag| tag.timestamp_ms);
    tags.extend(frames);
    tags
}

/// The tracks that the sequence headers describe.
pub fn tracks(tags: &[Tag]) -> Tracks {
    let mut tracks = Tracks::default();
    for tag in tags {
        match tag.kind {
            VIDEO => {
                if let Ok(VideoUnit::Config(video)) = parse_video(Payload::contiguous(&tag.body)) {
                    tracks.video = Some(video);
                }
            }
            _ => {
                if let Ok(AudioUnit::Config(audio)) = parse_audio(Payload::contiguous(&tag.body)) {
                    tracks.audio = Some(audio);
                }
            }
        }
    }
    tracks
}

/// The frames, without sequence headers.
pub fn frames(tags: &[Tag]) -> Vec<Frame<'_>> {
    tags.iter()
        .filter_map(|tag| {
            let payload = Payload::contiguous(&tag.body);
            let dts_ms = i64::from(tag.timestamp_ms);
            if tag.kind == VIDEO {
                match parse_video(payload).expect("a whole tag") {
                    VideoUnit::Frame(_, part) => Some(part.at(TrackKind::Video, dts_ms)),
                    _ => None,
                }
            } else {
                match parse_audio(payload).expect("a whole tag") {
                    AudioUnit::Frame(_, part) => Some(part.at(TrackKind::Audio, dts_ms)),
                    _ => None,
                }
            }
        })
        .collect()
}

/// The tags as RTMP chunks of message stream 1: a full header for the first of each track, deltas behind it, as encoders send them.
pub fn chunks(tags: &[Tag], chunk_bytes: usize) -> Vec<u8> {
    chunks_after(tags, chunk_bytes, [None; 2])
}

/// What follows [`chunks`] when the same frames are sent once more.
pub fn more_chunks(tags: &[Tag], chunk_bytes: usize) -> Vec<u8> {
    chunks_after(&tags[2..], chunk_bytes, [Some(0_u32.wrapping_sub(33)), Some(0_u32.wrapping_sub(21))])
}

fn chunks_after(tags: &[Tag], chunk_bytes: usize, mut last: [Option<u32>; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    for tag in tags {
        let (stream, slot) = if tag.kind == VIDEO { (6_u8, 0) } else { (4, 1) };
        let (format, time) = last[slot].map_or((0, tag.timestamp_ms), |last| (1_u8, tag.timestamp_ms.wrapping_sub(last)));
        last[slot] = Some(tag.timestamp_ms);
        out.push(format << 6 | stream);
        out.extend_from_slice(&time.to_be_bytes()[1..]);
        out.extend_from_slice(&(tag.body.len() as u32).to_be_bytes()[1..]);
        out.push(tag.kind);
        if format == 0 {
            out.extend_from_slice(&1_u32.to_le_bytes());
        }
        for (index, part) in tag.body.chunks(chunk_bytes).enumerate() {
            if index > 0 {
                out.push(0xc0 | stream);
            }
            out.extend_from_slice(part);
        }
    }
    out
}

/// Bytes a second of `round`, which handles `bytes` each time: the median of some runs.
pub fn measure(bytes: usize, mut round: impl FnMut()) -> f64 {
    round();
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let (begun, mut rounds) = (Instant::now(), 0_usize);
            while begun.elapsed() < RUN {
                round();
                rounds += 1;
            }
            (rounds * bytes) as f64 / begun.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[RUNS / 2]
}

/// Bytes a second of copying `bytes` from one place to another, both as cold or warm as that size makes them.
pub fn memcpy(bytes: usize) -> f64 {
    let from = vec![1_u8; bytes];
    let mut to = vec![0_u8; bytes];
    measure(bytes, || {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&to);
    })
}

/// The case and the rounds to run, if this process is there to be counted.
pub fn counted() -> Option<(String, usize)> {
    let mut arguments = std::env::args().skip_while(|argument| argument != COUNT).skip(1);
    Some((arguments.next()?, arguments.next()?.parse().ok()?))
}

/// Instructions of one round of a case: this program runs itself under callgrind with few rounds and with more. `None`: there is no valgrind.
///
/// Hardware counters would be quicker; virtual machines seldom have them.
pub fn instructions(case: &str) -> Option<f64> {
    let own = std::env::current_exe().ok()?;
    let count = |rounds: usize| -> Option<f64> {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(&own).args([COUNT, case, &rounds.to_string()]);
        let errors = String::from_utf8(command.output().ok()?.stderr).ok()?;
        let line = errors.lines().find(|line| line.contains("Collected"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    const FEW: usize = 2;
    Some((count(2 * FEW)? - count(FEW)?) / FEW as f64)
}

/// One row of a table: MB/s, and how much slower than copying.
pub fn row(name: &str, rate: f64, copy: f64, per_message: Option<f64>) {
    let instructions = per_message.map_or("-".to_owned(), |count| format!("{count:.0}"));
    println!("{name:<34} {:>9.0} {:>10.2} {instructions:>14}", rate / 1e6, copy / rate);
}

pub fn head(title: &str, copy: f64) {
    println!("\n{title}\n{:<34} {:>9} {:>10} {:>14}", "", "MB/s", "x memcpy", "instr./message");
    row("memcpy", copy, copy, None);
}
