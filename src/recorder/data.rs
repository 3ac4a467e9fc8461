//! What stands between the frames of a publication (texts, cue points, times of day, and the frames of further tracks) on its way into the files that have
//! a place for it.
//!
//! A message stands between two frames. It waits here until the outputs have come so far, as frames wait in the cache.

use std::collections::VecDeque;

use super::cache::{CACHE_BYTES_MAX, Sequence};
use crate::media::TrackKind;

/// Messages that are kept at the same time, as the cache keeps frames: a group of pictures of some further tracks.
const MESSAGES_MAX: usize = 8192;
const BYTES_MAX: usize = CACHE_BYTES_MAX;

/// One message as it was sent: a tag of a further track, or, without `track`, a name and values in AMF0.
#[derive(Debug)]
pub struct DataMessage {
    /// It came before this frame.
    pub before: Sequence,
    pub epoch: u32,
    /// On the time line of the frames.
    pub time_ms: i64,
    pub track: Option<TrackKind>,
    pub body: Box<[u8]>,
}

#[derive(Debug, Default)]
pub struct DataLog {
    messages: VecDeque<DataMessage>,
    /// Number of `messages[0]`, counted up over the publication.
    first: u64,
    bytes: usize,
    /// Number of the first message that an output still has to take; those before are kept for tasks that join.
    needed: u64,
}

impl DataLog {
    /// False: there is no room, so that the message is lost.
    pub fn push(&mut self, message: DataMessage) -> bool {
        while (self.messages.len() >= MESSAGES_MAX || self.bytes + message.body.len() > BYTES_MAX) && self.first < self.needed {
            self.pop();
        }
        let fits = self.messages.len() < MESSAGES_MAX && self.bytes + message.body.len() <= BYTES_MAX;
        if fits {
            self.bytes += message.body.len();
            self.messages.push_back(message);
        }
        fits
    }

    /// Number behind the newest message.
    pub fn end(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// Message `number`, or the first that is still here.
    pub fn get(&self, number: u64) -> Option<&DataMessage> {
        self.messages.get(number.saturating_sub(self.first) as usize)
    }

    /// The number behind message `number`, which may be gone.
    pub fn number_behind(&self, number: u64) -> u64 {
        number.max(self.first) + 1
    }

    /// Lets go what stands before message `needed` and before frame `first_frame`, the oldest that a task could begin with.
    pub fn trim(&mut self, needed: u64, first_frame: Sequence) {
        self.needed = needed;
        while self.first < needed && self.messages.front().is_some_and(|message| message.before < first_frame) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(message) = self.messages.pop_front() {
            self.bytes -= message.body.len();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_within_bounds_and_go_with_their_frames() {
        let message = |before, bytes| DataMessage { before, epoch: 0, track: None, time_ms: before as i64, body: vec![0; bytes].into() };
        let mut log = DataLog::default();
        assert!(!log.push(message(0, BYTES_MAX + 1)));
        for before in 0..MESSAGES_MAX as u64 {
            assert!(log.push(message(before, 10)));
        }
        assert!(!log.push(message(3000, 10)));
        let end = MESSAGES_MAX as u64;
        assert_eq!((log.end(), log.get(5).map(|message| message.before)), (end, Some(5)));
        log.trim(100, 100);
        assert_eq!((log.end(), log.get(0).map(|message| message.before), log.get(255).map(|message| message.before)), (end, Some(100), Some(255)));
        assert!(log.get(end).is_none());
        log.trim(end, 200);
        assert_eq!((log.end(), log.get(0).map(|message| message.before)), (end, Some(200)));
        log.trim(end, Sequence::MAX);
        assert_eq!((log.end(), log.bytes), (end, 0));
        assert!(log.push(message(1000, BYTES_MAX)) && log.get(0).is_some_and(|message| message.before == 1000));
        // What is only kept for tasks that may join makes room.
        log.trim(end + 1, 0);
        assert!(log.push(message(1001, BYTES_MAX)) && log.get(0).is_some_and(|message| message.before == 1001));
    }
}
