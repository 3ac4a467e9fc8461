//! The marks by which a frame is known again in whatever file it lies, and what was handed to the recorders.

use std::collections::BTreeSet;

use capstan::units::{Format, PublicationId, StreamKey, WallTime};

pub const MARK_BYTES: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Picture,
    Sound,
    FurtherPicture,
    FurtherSound,
    /// Words between the frames.
    Data,
}

impl Kind {
    /// The first track of its kind, which every format has that has any.
    pub fn is_first(self) -> bool {
        matches!(self, Kind::Picture | Kind::Sound)
    }

    pub fn is_picture(self) -> bool {
        matches!(self, Kind::Picture | Kind::FurtherPicture)
    }

    const fn letter(self) -> u8 {
        match self {
            Kind::Picture => b'v',
            Kind::Sound => b'a',
            Kind::FurtherPicture => b'w',
            Kind::FurtherSound => b'b',
            Kind::Data => b'd',
        }
    }

    fn of_letter(letter: u8) -> Option<Self> {
        [Kind::Picture, Kind::Sound, Kind::FurtherPicture, Kind::FurtherSound, Kind::Data].into_iter().find(|kind| kind.letter() == letter)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark {
    pub kind: Kind,
    pub publication: u32,
    pub number: u32,
}

impl Mark {
    /// Text, so that no container finds a start code or a sync word in it.
    pub fn text(self) -> String {
        format!("<{}{:03x}{:06x}>", char::from(self.kind.letter()), self.publication, self.number)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(b"<")?;
        let kind = Kind::of_letter(*text.first()?)?;
        let digits = std::str::from_utf8(text.get(1..10)?).ok()?;
        (text.get(10) == Some(&b'>')).then_some(())?;
        Some(Self { kind, publication: u32::from_str_radix(&digits[..3], 16).ok()?, number: u32::from_str_radix(&digits[3..], 16).ok()? })
    }

    /// All marks in `bytes`, with their places.
    pub fn find(bytes: &[u8]) -> Vec<(usize, Self)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'<') {
            at += next;
            found.extend(Self::parse(&bytes[at..bytes.len().min(at + MARK_BYTES)]).map(|mark| (at, mark)));
            at += 1;
        }
        found
    }
}

/// A frame that a recorder has been handed, and has taken.
#[derive(Clone, Copy, Debug)]
pub struct Handed {
    pub mark: Mark,
    pub dts_ms: i64,
    pub wall: WallTime,
    /// A file may begin with it.
    pub begins: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sound {
    None,
    Aac,
    Mp3,
}

/// A recording by task.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The first of the frames that came when it was there.
    pub from: usize,
    /// The frame before which it was stopped.
    pub to: Option<usize>,
    /// It began in the past, at this moment.
    pub since: Option<WallTime>,
}

/// What a publication brought, as far as it was handed to its recorder.
#[derive(Debug)]
pub struct Truth {
    pub id: PublicationId,
    pub number: u32,
    pub key: StreamKey,
    pub life: u64,
    pub sound: Sound,
    pub formats: BTreeSet<Format>,
    /// Its HLS recording is encrypted.
    pub sealed: bool,
    /// It outlives interruptions of the stream.
    pub outlives: bool,
    /// A ring is kept of it.
    pub ringed: bool,
    /// Of the first tracks.
    pub frames: Vec<Handed>,
    /// Of further tracks, and words: each with how many of `frames` came before.
    pub beside: Vec<(Handed, usize)>,
    /// The frame that was being handed over when the process died: it may be in files.
    pub in_hand: Option<Handed>,
    /// Frames without a mark, of garbage.
    pub unmarked: u64,
    /// Frames that the recorder counts as lost for want of storage, at the end of an orderly run.
    pub lost: Option<u64>,
    /// Memory was used up meanwhile.
    pub short: bool,
    pub task: Option<Span>,
    /// The publication whose HLS recording this one has to go on with.
    pub resumes: Option<u32>,
}

impl Truth {
    fn wants(&self, format: Format, kind: Kind) -> bool {
        match format {
            Format::Aac => kind == Kind::Sound && self.sound == Sound::Aac,
            Format::Mp3 => kind == Kind::Sound && self.sound == Sound::Mp3,
            _ => true,
        }
    }

    pub fn wanted(&self, format: Format, frames: &[Handed]) -> Vec<Mark> {
        frames.iter().map(|frame| frame.mark).filter(|mark| self.wants(format, mark.kind)).collect()
    }

    /// Where in `frames` the frame with a mark is.
    pub fn position(&self, mark: &Mark) -> usize {
        self.frames.iter().position(|frame| frame.mark == *mark).unwrap_or(usize::MAX)
    }
}
