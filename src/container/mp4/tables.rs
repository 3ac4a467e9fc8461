//! The sample tables of one track (ISO/IEC 14496-12, 8.6 and 8.7), run-length coded while the samples come.

use crate::container::boxes::BoxWriter;

/// One sample of the file, in decoding order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TableSample {
    /// Media time.
    pub dts_ms: u64,
    pub cts_ms: i32,
    /// Counts only for the last sample: else the next decoding time tells.
    pub duration_ms: u32,
    pub bytes: u32,
    pub sync: bool,
}

#[derive(Debug, Default)]
pub struct SampleTable {
    /// (samples, duration)
    stts: Vec<(u32, u32)>,
    /// (samples, composition offset)
    ctts: Vec<(u32, i32)>,
    stsz: Vec<u32>,
    /// Numbers of the sync samples, from 1.
    stss: Vec<u32>,
    /// File offsets.
    chunks: Vec<u64>,
    /// (number of the first chunk, samples in each)
    stsc: Vec<(u32, u32)>,
    chunk_samples: u32,
    /// The sample whose duration is not known yet.
    last: Option<TableSample>,
    media_bytes: u64,
    first_dts_ms: u64,
    first_pts_ms: i64,
    end_pts_ms: i64,
}

/// What a finished file says of a track's time beside the milliseconds that were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    pub ticks_per_ms: u32,
    /// How long the last sample lasts, in ticks; `None`: as the sample says.
    pub last: Option<u32>,
    /// Samples that a decoder needs before the first good one (`roll`, ISO/IEC 14496-12, 10.1); 0: none.
    pub roll: u16,
}

impl Default for Scale {
    fn default() -> Self {
        Self { ticks_per_ms: 1, last: None, roll: 0 }
    }
}

impl Scale {
    pub const fn ticks_per_second(&self) -> u32 {
        self.ticks_per_ms * 1_000
    }
}

/// Where a track lies on the movie's time line; milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timing {
    /// From the movie's start to its first presentation.
    pub delay_ms: u64,
    /// From its first presentation to the end of its last.
    pub duration_ms: u64,
    /// Media time of its first presentation.
    pub media_time_ms: u64,
}

impl SampleTable {
    /// Samples that follow lie one after the other from `offset` on.
    pub fn begin_chunk(&mut self, offset: u64) {
        self.end_chunk();
        self.chunks.push(offset);
    }

    /// A decoding time before the last one counts as the last one, with the presentation time kept.
    pub fn push(&mut self, mut sample: TableSample) {
        match self.last {
            None => {
                self.first_dts_ms = sample.dts_ms;
                self.first_pts_ms = i64::MAX;
                self.end_pts_ms = i64::MIN;
            }
            Some(last) => {
                let pts_ms = pts_ms(&sample);
                sample.dts_ms = sample.dts_ms.max(last.dts_ms);
                sample.cts_ms = (pts_ms - sample.dts_ms as i64).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
                let duration_ms = u32::try_from(sample.dts_ms - last.dts_ms).unwrap_or(u32::MAX);
                self.finish_sample(&last, duration_ms);
            }
        }
        self.first_pts_ms = self.first_pts_ms.min(pts_ms(&sample));
        self.stsz.push(sample.bytes);
        self.media_bytes += u64::from(sample.bytes);
        self.chunk_samples += 1;
        if sample.sync {
            self.stss.push(self.stsz.len() as u32);
        }
        match self.ctts.last_mut() {
            Some((samples, cts_ms)) if *cts_ms == sample.cts_ms => *samples += 1,
            _ => self.ctts.push((1, sample.cts_ms)),
        }
        self.last = Some(sample);
    }

    /// No more samples.
    pub fn finish(&mut self) {
        self.end_chunk();
        if let Some(last) = self.last {
            self.finish_sample(&last, last.duration_ms);
        }
    }

    fn finish_sample(&mut self, sample: &TableSample, duration_ms: u32) {
        self.end_pts_ms = self.end_pts_ms.max(pts_ms(sample) + i64::from(duration_ms));
        match self.stts.last_mut() {
            Some((samples, same_ms)) if *same_ms == duration_ms => *samples += 1,
            _ => self.stts.push((1, duration_ms)),
        }
    }

    fn end_chunk(&mut self) {
        let samples = std::mem::take(&mut self.chunk_samples);
        if samples == 0 {
            // A chunk without samples may not be listed.
            self.chunks.truncate(self.chunks.len().saturating_sub(1));
        } else if self.stsc.last().is_none_or(|(_, same)| *same != samples) {
            self.stsc.push((self.chunks.len() as u32, samples));
        }
    }

    pub fn samples(&self) -> u64 {
        self.stsz.len() as u64
    }
    pub fn sync_samples(&self) -> u64 {
        self.stss.len() as u64
    }
    pub fn media_bytes(&self) -> u64 {
        self.media_bytes
    }
    pub fn last_chunk_offset(&self) -> u64 {
        self.chunks.last().copied().unwrap_or(0)
    }
    /// `None` for a track without a sample.
    pub fn first_pts_ms(&self) -> Option<i64> {
        (!self.stsz.is_empty()).then_some(self.first_pts_ms)
    }

    /// Places the track in a movie that begins at `start_ms`, the smallest presentation time of all. `None` for a track without a sample.
    pub fn timing(&self, start_ms: i64) -> Option<Timing> {
        let first_pts_ms = self.first_pts_ms()?;
        Some(Timing {
            delay_ms: (first_pts_ms - start_ms).max(0) as u64,
            duration_ms: (self.end_pts_ms - first_pts_ms).max(0) as u64,
            media_time_ms: (first_pts_ms - self.first_dts_ms as i64).max(0) as u64,
        })
    }

    /// Would every duration fit into 32 bits if a millisecond had so many ticks?
    pub fn fits(&self, ticks_per_ms: u32) -> bool {
        self.stts.iter().all(|(_, duration_ms)| duration_ms.checked_mul(ticks_per_ms).is_some())
            && self.ctts.iter().all(|(_, cts_ms)| i64::from(*cts_ms).abs() < (1 << 31) / i64::from(ticks_per_ms))
    }

    /// Milliseconds that the last sample lasts; `None` without a sample, and where another is shown later.
    pub fn last_ms(&self) -> Option<u32> {
        let last = self.last?;
        (pts_ms(&last) + i64::from(last.duration_ms) == self.end_pts_ms).then_some(last.duration_ms)
    }

    /// All decoding durations, in ticks.
    pub fn media_ticks(&self, scale: &Scale) -> u64 {
        let ms: u64 = self.stts.iter().map(|(samples, duration_ms)| u64::from(*samples) * u64::from(*duration_ms)).sum();
        self.with_last(ms, scale)
    }

    /// From the first presentation to the end of the last, in ticks.
    pub fn presented(&self, scale: &Scale) -> u64 {
        let first_pts_ms = self.first_pts_ms().unwrap_or(0);
        self.with_last((self.end_pts_ms.max(first_pts_ms) - first_pts_ms) as u64, scale)
    }

    fn with_last(&self, ms: u64, scale: &Scale) -> u64 {
        let ticks = ms * u64::from(scale.ticks_per_ms);
        match (scale.last, self.last) {
            (Some(last), Some(sample)) => (ticks + u64::from(last)).saturating_sub(u64::from(sample.duration_ms) * u64::from(scale.ticks_per_ms)),
            _ => ticks,
        }
    }

    /// Durations in ticks, run-length coded.
    fn durations(&self, scale: &Scale) -> Vec<(u32, u32)> {
        let mut durations: Vec<_> = self.stts.iter().map(|(samples, duration_ms)| (*samples, duration_ms * scale.ticks_per_ms)).collect();
        if let (Some(last), Some((samples, duration))) = (scale.last, durations.last_mut())
            && *duration != last
        {
            *samples -= 1;
            if *samples == 0 {
                durations.pop();
            }
            durations.push((1, last));
        }
        durations
    }

    /// Bytes that [`SampleTable::write`] needs, at most.
    pub fn bytes(&self) -> usize {
        192 + 8 * (self.stts.len() + self.ctts.len() + self.chunks.len()) + 4 * (self.stsz.len() + self.stss.len()) + 12 * self.stsc.len()
    }

    /// The boxes of `stbl` after `stsd`. `shift_bytes` is added to every chunk offset.
    pub fn write(&self, out: &mut BoxWriter, shift_bytes: u64, scale: &Scale) {
        out.full(b"stts", 0, 0, |out| {
            let durations = self.durations(scale);
            out.u32(durations.len() as u32);
            for (samples, duration) in durations {
                out.u32(samples);
                out.u32(duration);
            }
        });
        self.write_ctts(out, scale);
        if self.stss.len() < self.stsz.len() {
            out.full(b"stss", 0, 0, |out| {
                out.u32(self.stss.len() as u32);
                self.stss.iter().for_each(|number| out.u32(*number));
            });
        }
        out.full(b"stsc", 0, 0, |out| {
            out.u32(self.stsc.len() as u32);
            for (first_chunk, samples) in &self.stsc {
                out.u32(*first_chunk);
                out.u32(*samples);
                out.u32(1);
            }
        });
        out.full(b"stsz", 0, 0, |out| {
            out.u32(0);
            out.u32(self.stsz.len() as u32);
            self.stsz.iter().for_each(|bytes| out.u32(*bytes));
        });
        let wide = self.last_chunk_offset() + shift_bytes > u64::from(u32::MAX);
        out.full(if wide { b"co64" } else { b"stco" }, 0, 0, |out| {
            out.u32(self.chunks.len() as u32);
            for offset in &self.chunks {
                match wide {
                    true => out.u64(offset + shift_bytes),
                    false => out.u32((offset + shift_bytes) as u32),
                }
            }
        });
        if scale.roll > 0 && !self.stsz.is_empty() {
            out.full(b"sgpd", 1, 0, |out| {
                out.raw(b"roll");
                out.u32(2);
                out.u32(1);
                out.u16(0_u16.wrapping_sub(scale.roll));
            });
            out.full(b"sbgp", 0, 0, |out| {
                out.raw(b"roll");
                out.u32(1);
                out.u32(self.stsz.len() as u32);
                out.u32(1);
            });
        }
    }

    fn write_ctts(&self, out: &mut BoxWriter, scale: &Scale) {
        // An edit cannot start before media time 0: where a presentation lies before the first decoding time, all offsets move up by that.
        let lift_ms = self.first_pts_ms().map_or(0, |first_pts_ms| (self.first_dts_ms as i64 - first_pts_ms).max(0));
        if self.ctts.iter().all(|(_, cts_ms)| *cts_ms == 0) {
            return;
        }
        let offset =
            |cts_ms: i32| ((i64::from(cts_ms) + lift_ms) * i64::from(scale.ticks_per_ms)).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let version = u8::from(self.ctts.iter().any(|(_, cts_ms)| offset(*cts_ms) < 0));
        out.full(b"ctts", version, 0, |out| {
            out.u32(self.ctts.len() as u32);
            for (samples, cts_ms) in &self.ctts {
                out.u32(*samples);
                out.u32(offset(*cts_ms) as u32);
            }
        });
    }
}

fn pts_ms(sample: &TableSample) -> i64 {
    sample.dts_ms as i64 + i64::from(sample.cts_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::boxes::{be32, find};

    fn table(samples: &[(u64, i32, bool)]) -> SampleTable {
        let mut table = SampleTable::default();
        for (index, (dts_ms, cts_ms, sync)) in samples.iter().enumerate() {
            if index % 2 == 0 {
                table.begin_chunk(1_000 * index as u64);
            }
            table.push(TableSample { dts_ms: *dts_ms, cts_ms: *cts_ms, duration_ms: 7, bytes: 10, sync: *sync });
        }
        table.finish();
        table
    }

    #[test]
    fn the_edit_begins_at_the_first_presentation() {
        // name, samples, expected: delay, duration, media time, media
        type Case<'a> = (&'a str, &'a [(u64, i32, bool)], (u64, u64, u64, u64));
        let cases: &[Case] = &[
            ("no offsets", &[(100, 0, true), (140, 0, false)], (50, 47, 0, 47)),
            ("B-frames", &[(100, 80, true), (140, 160, false), (180, 40, false)], (130, 160, 80, 87)),
            ("negative", &[(100, -30, true), (140, -30, false)], (20, 47, 0, 47)),
            ("one", &[(50, 0, true)], (0, 7, 0, 7)),
            ("dts goes back, pts stays", &[(100, 0, true), (90, 20, false)], (50, 17, 0, 7)),
        ];
        for (name, samples, (delay_ms, duration_ms, media_time_ms, media_ms)) in cases {
            let table = table(samples);
            let timing = table.timing(50).unwrap();
            let expected = Timing { delay_ms: *delay_ms, duration_ms: *duration_ms, media_time_ms: *media_time_ms };
            assert_eq!(timing, expected, "{name}");
            assert_eq!((table.media_ticks(&Scale::default()), table.presented(&Scale::default())), (*media_ms, *duration_ms), "{name}");
        }
        assert_eq!(SampleTable::default().timing(0), None);
    }

    #[test]
    fn boxes_appear_only_where_they_say_something() {
        let written = |samples: &[(u64, i32, bool)], shift_bytes: u64| {
            let mut out = BoxWriter::default();
            let table = table(samples);
            table.write(&mut out, shift_bytes, &Scale::default());
            assert!(out.len() <= table.bytes());
            out.into_bytes()
        };
        let plain = written(&[(0, 0, true), (40, 0, true), (80, 0, true)], 0);
        assert!(find(&plain, b"ctts").is_none() && find(&plain, b"stss").is_none() && find(&plain, b"co64").is_none());
        // Two samples, then one: two entries.
        assert_eq!(be32(find(&plain, b"stsc").unwrap(), 4), Some(2));

        let lifted = written(&[(0, -40, true), (40, 0, false)], 0);
        let ctts = find(&lifted, b"ctts").unwrap();
        assert_eq!((be32(ctts, 0), be32(ctts, 12), be32(ctts, 20)), (Some(0), Some(0), Some(40)));
        assert_eq!(be32(find(&lifted, b"stss").unwrap(), 4), Some(1));

        let negative = written(&[(0, 0, true), (40, -20, false)], 0);
        let ctts = find(&negative, b"ctts").unwrap();
        assert_eq!((be32(ctts, 0), be32(ctts, 20)), (Some(1 << 24), Some(-20_i32 as u32)));

        let fine = table(&[(0, 0, true), (21, 0, true), (43, 0, true)]);
        let scale = Scale { ticks_per_ms: 48, last: Some(1024), roll: 1 };
        let mut out = BoxWriter::default();
        fine.write(&mut out, 0, &scale);
        assert!(out.len() <= fine.bytes());
        let bytes = out.into_bytes();
        let stts = find(&bytes, b"stts").unwrap();
        assert_eq!((0..7).map(|at| be32(stts, 4 * at).unwrap()).collect::<Vec<_>>(), [0, 3, 1, 21 * 48, 1, 22 * 48, 1]);
        assert_eq!((be32(stts, 28), fine.media_ticks(&scale), fine.presented(&scale)), (Some(1024), 43 * 48 + 1024, 43 * 48 + 1024));
        assert_eq!(find(&bytes, b"sgpd").unwrap(), b"\x01\0\0\0roll\0\0\0\x02\0\0\0\x01\xff\xff");

        let far = written(&[(0, 0, true)], 1 << 32);
        assert_eq!(be32(find(&far, b"co64").unwrap(), 8), Some(1));
    }
}
