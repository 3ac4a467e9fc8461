//! The data folders as those see them who read, place and remove finished recordings.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::folders::AbsentFolder;
use crate::domain::vod::Removal;
use crate::domain::{DataFolders, FinishedFile};
use crate::units::{FileId, MonoTime};

use super::finish::FinishSettings;
use super::health::DiskHealth;
use super::remove::remove;
use super::store::Places;

/// See the module.
pub struct Storage {
    pub folders: Arc<DataFolders>,
    /// How recordings are finished in each.
    pub finish: Vec<FinishSettings>,
    pub health: Vec<Arc<DiskHealth>>,
    /// Where those lie that are not in the catalog.
    pub places: Arc<Places>,
    pub clock: fn() -> MonoTime,
}

impl Storage {
    /// With one data folder.
    pub fn single(finish: FinishSettings, clock: fn() -> MonoTime) -> Self {
        Self {
            folders: Arc::new(DataFolders::new(finish.data_folder.clone(), [])),
            health: vec![Arc::new(DiskHealth::new(&finish.data_folder))],
            finish: vec![finish],
            places: Arc::default(),
            clock,
        }
    }

    /// The folders that are there now, and the labels of the others.
    pub fn present(&self) -> (DataFolders, Vec<String>) {
        let (mut there, mut absent) = (Vec::new(), Vec::new());
        for (folder, health) in self.folders.iter().zip(&self.health).skip(1) {
            if health.is_missing() { absent.push(folder.label.clone()) } else { there.push(folder.clone()) }
        }
        (DataFolders::new(self.folders.first().to_owned(), there), absent)
    }

    /// What holds for files in every folder.
    pub fn settings(&self) -> &FinishSettings {
        &self.finish[0]
    }

    /// Does the disk answer? What would wait for it must not be asked for, where others wait behind it.
    pub fn answers(&self, index: usize) -> bool {
        !self.health[index].is_stalled((self.clock)())
    }

    /// The folder of a place, and what is behind it.
    ///
    /// # Errors
    /// `NotFound` if the folder is not there, `TimedOut` if its disk does not answer.
    pub fn locate<'a>(&'a self, place: &'a str) -> io::Result<(usize, &'a FinishSettings, &'a str)> {
        let located = self.folders.locate(place)?;
        if self.health[located.index].is_missing() {
            return Err(AbsentFolder { place: place.to_owned() }.into());
        }
        if !self.answers(located.index) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("the disk of {place} does not answer")));
        }
        Ok((located.index, &self.finish[located.index], located.within))
    }

    /// # Errors
    /// As [`Storage::locate`].
    pub fn path_of(&self, place: &str) -> io::Result<PathBuf> {
        self.locate(place).map(|(_, settings, within)| settings.data_folder.join(within))
    }

    /// The open recording's folder, or that of a finished one that the catalog does not have yet.
    pub fn of_open(&self, recording: FileId) -> Option<usize> {
        self.places.get(recording).filter(|index| self.answers(*index) && !self.health[*index].is_missing())
    }

    /// Where a file that is made of others goes. `None`: no disk takes one.
    pub fn best(&self) -> Option<usize> {
        let now = (self.clock)();
        let best = (0..self.health.len()).rev().max_by_key(|index| self.health[*index].fitness(now))?;
        // A full one says so itself, in the words of the disk.
        (!self.health[best].is_missing() && !self.health[best].is_stalled(now)).then_some(best)
    }

    /// A file that folder `index` has finished, for the catalog: what lies beside it says nothing of the folder, which may be moved.
    pub fn placed(&self, index: usize, file: FinishedFile) -> FinishedFile {
        FinishedFile { folder: self.folders.place(index, &file.folder), ..file }
    }

    /// Removes the bytes of a file that the catalog has forgotten. False: its folder is not there, or does not answer; later.
    ///
    /// # Errors
    /// As [`remove`].
    pub fn remove(&self, removal: &Removal) -> io::Result<bool> {
        let Ok((_, settings, within)) = self.locate(&removal.folder) else { return Ok(false) };
        remove(settings, within, removal).map(|()| true)
    }
}
