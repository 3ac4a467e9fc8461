//! The next start: what the process before left is written back and finished, and may be killed meanwhile.

use capstan::domain::{PausedRecording, Resumptions};
use capstan::replay;
use capstan::segment::finish;
use capstan::segment::recover::{Found, LeftBehind, WriteBack};

use std::sync::Mutex;

use crate::Simulation;
use crate::store::entries;
use crate::world::{instant, set_fuse, take_fuse, until_killed, wall};

impl Simulation {
    /// Everything before publishers are let in, as often as it takes: it may be killed, too.
    pub fn find_left(&mut self) -> (Vec<LeftBehind>, Resumptions) {
        let fuse = take_fuse();
        for attempt in 0_u64.. {
            let kill = fuse.is_some() && attempt < 3 && self.random.below(3) == 0;
            set_fuse(kill.then(|| self.random.below(40)));
            // Half of the time the rest is done at once, so that it is killed as often.
            let whole = kill && self.random.below(2) == 0;
            let found = until_killed(|| {
                let mut found = self.write_back();
                if whole {
                    self.recover(&mut found.0, |_, _| ());
                }
                found
            });
            if let Some(found) = found
                && !whole
            {
                set_fuse(fuse);
                return found;
            }
        }
        unreachable!("the fourth attempt is not killed")
    }

    fn write_back(&self) -> (Vec<LeftBehind>, Resumptions) {
        let arenas = self.arenas();
        std::fs::create_dir_all(&arenas).expect("a folder");
        let mut left: Vec<LeftBehind> = self.finish.iter().map(|settings| LeftBehind::find(settings, &arenas).expect("a look")).collect();
        let labels: Vec<&str> = self.labels.iter().map(String::as_str).collect();
        WriteBack { settings: &self.finish, labels: &labels, left: &mut left, all_there: true }.run(|folders, journal| {
            instant();
            let begun = replay::replay_into(folders, journal);
            instant();
            begun
        });
        instant();
        let table = Mutex::new(Resumptions::default());
        for (settings, left) in self.finish.iter().zip(&mut left) {
            let mut table = table.lock().expect("nobody else has it");
            left.find_paused(settings, wall()).iter().for_each(|paused| table.announce(paused));
        }
        (left, table.into_inner().expect("nobody else has it"))
    }

    /// Finishes what was left, and hands over the recordings that may be gone on with.
    pub fn recover(&self, left: &mut [LeftBehind], mut paused: impl FnMut(usize, PausedRecording)) {
        for (index, left) in left.iter_mut().enumerate() {
            let recovered = left.recover(&self.finish[index], |found| {
                instant();
                match found {
                    Found::Finished(file) => self.enter(index, *file),
                    Found::Paused(one) => paused(index, one),
                    Found::Over(_) => {}
                }
            });
            // What was for a file that could not be created has no place.
            assert!(recovered.failed == 0 || self.faulty, "{recovered:?}");
        }
    }

    /// The catalog takes a file, and its note goes.
    pub fn enter(&self, index: usize, file: capstan::domain::FinishedFile) {
        let (id, note) = (file.identity.file_id, finish::note_path(&self.finish[index], file.identity.file_id));
        {
            let mut entries = entries(&self.catalog);
            if let Some((disk, known)) = entries.get(&id) {
                assert_eq!((disk, &known.summary), (&index, &file.summary), "a file is the same when it is adopted");
            }
            entries.insert(id, (index, file));
        }
        instant();
        std::fs::remove_file(note).expect("the note of a finished file");
    }
}
