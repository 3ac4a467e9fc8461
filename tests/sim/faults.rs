//! What goes wrong: disks that fail, hang and are full, one or several, and the helper threads that get no turn.

use capstan::segment::faults::Step;
use rustix::io::Errno;

use crate::Simulation;
use crate::life::Life;
use crate::world::{self, dies_next, instant, mono_ms};

impl Simulation {
    /// Something goes wrong with a disk, or is well again.
    pub fn trouble(&mut self, life: &mut Life) {
        let time_ms = mono_ms();
        for index in 0..life.disks.len() {
            match life.troubles[index] {
                Some((until_ms, _)) if time_ms >= until_ms => {
                    life.troubles[index] = None;
                    world::heal_folder(&self.finish[index].data_folder);
                    life.disks[index].hang(false);
                    life.disks[index].note_space(false);
                }
                None if self.faulty && self.random.below(40 * life.disks.len() as u64) == 0 => {
                    let until_ms = time_ms + self.random.pick([100, 1_000, 4_000, 14_000]);
                    life.troubles[index] = Some((until_ms, self.make_trouble(life, index)));
                    life.is_calm = false;
                    self.troubled.insert((life.store.life, index));
                }
                _ => {}
            }
        }
    }

    /// True: the disk hangs.
    fn make_trouble(&mut self, life: &mut Life, index: usize) -> bool {
        let errno = self.random.pick([Errno::IO, Errno::NOSPC]);
        let folder = self.finish[index].data_folder.clone();
        let what = self.random.below(8);
        world::trace(|| format!("disk {index} is in trouble {what}"));
        match what {
            0 => {
                life.disks[index].hang(true);
                return true;
            }
            1 => life.disks[index].note_space(true),
            2 => world::fail(Step::Create, &folder, errno),
            3 => world::fail(Step::Sync, &folder, Errno::IO),
            4 => world::fail(Step::Finish, &folder, errno),
            5 => world::fail(Step::Index, &folder, errno),
            6 => world::fail(Step::Publish, &folder, errno),
            _ => world::fail(Step::Write, &folder, errno),
        }
        false
    }

    /// The helper threads get a share of the time.
    pub fn step_disks(&mut self, life: &mut Life) {
        for index in 0..life.disks.len() {
            let hangs = matches!(life.troubles[index], Some((_, true)));
            if hangs {
                continue;
            }
            let disk = &mut life.disks[index];
            for _ in 0..self.random.below(12) {
                instant();
                if dies_next() && self.random.below(2) == 0 {
                    disk.tear(self.random.below(4) as usize);
                    instant();
                }
                match self.random.below(4) {
                    0 => disk.sync(),
                    1 => _ = disk.finish(),
                    _ => _ = disk.write(),
                }
            }
            if self.random.below(10) == 0 {
                disk.finish_again();
            }
        }
    }
}
