//! The data folders: one that holds everything, and further ones, usually on other disks, that hold recordings alone.
//!
//! A recording is found by its *place*: `media/DAY/FILE-ID` in the first folder, `LABEL/media/DAY/FILE-ID` in another. The label belongs to the folder, not to
//! its path: a disk may be mounted elsewhere tomorrow.

use std::path::{Path, PathBuf};

/// The rooms in which recordings lie.
const ROOMS: [&str; 2] = ["media", "recording"];

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataFolder {
    /// Empty for the first.
    pub label: String,
    /// Absolute.
    pub path: PathBuf,
}

/// All that are there, the first first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataFolders(Vec<DataFolder>);

/// Where a place is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located<'a> {
    /// Which of the data folders.
    pub index: usize,
    pub root: &'a Path,
    /// `media/DAY/FILE-ID`.
    pub within: &'a str,
}

/// The place names a folder that is not there: its disk is not mounted, or it was taken out of the settings.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the data folder of {place} is not there")]
pub struct AbsentFolder {
    pub place: String,
}

impl From<AbsentFolder> for std::io::Error {
    fn from(absent: AbsentFolder) -> Self {
        std::io::Error::new(std::io::ErrorKind::NotFound, absent)
    }
}

impl DataFolders {
    pub fn new(first: PathBuf, further: impl IntoIterator<Item = DataFolder>) -> Self {
        let first = DataFolder { label: String::new(), path: first };
        Self(std::iter::once(first).chain(further).collect())
    }

    /// The one that holds the catalog.
    pub fn first(&self) -> &Path {
        &self.0[0].path
    }

    pub fn folder(&self, index: usize) -> &DataFolder {
        &self.0[index]
    }

    pub fn root(&self, index: usize) -> &Path {
        &self.0[index].path
    }

    pub fn iter(&self) -> std::slice::Iter<'_, DataFolder> {
        self.0.iter()
    }

    /// The place of what lies at `within` in folder `index`.
    pub fn place(&self, index: usize, within: &str) -> String {
        let label = &self.0[index].label;
        if label.is_empty() { within.to_owned() } else { format!("{label}/{within}") }
    }

    /// # Errors
    /// If the folder is none of these.
    pub fn locate<'a>(&'a self, place: &'a str) -> Result<Located<'a>, AbsentFolder> {
        let absent = || AbsentFolder { place: place.to_owned() };
        let (begin, rest) = place.split_once('/').ok_or_else(absent)?;
        let (label, within) = if ROOMS.contains(&begin) { ("", place) } else { (begin, rest) };
        let is_it = |folder: &DataFolder| folder.label == label && (within == place || !label.is_empty());
        let index = self.0.iter().position(is_it).ok_or_else(absent)?;
        Ok(Located { index, root: &self.0[index].path, within })
    }

    /// The path of what lies at a place.
    ///
    /// # Errors
    /// As [`DataFolders::locate`].
    pub fn path_of(&self, place: &str) -> Result<PathBuf, AbsentFolder> {
        self.locate(place).map(|located| located.root.join(located.within))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_name_their_folder_by_its_label() {
        let further = DataFolder { label: "d3".to_owned(), path: "/mnt/b".into() };
        let folders = DataFolders::new("/srv".into(), [further]);
        for (place, expected) in [
            ("media/2026-01-31/7", Some((0, "/srv/media/2026-01-31/7"))),
            ("recording/7", Some((0, "/srv/recording/7"))),
            ("d3/media/2026-01-31/7", Some((1, "/mnt/b/media/2026-01-31/7"))),
            ("d4/media/2026-01-31/7", None),
            ("/media/7", None),
            ("media", None),
            ("", None),
        ] {
            let found = folders.locate(place).ok().map(|located| located.index).zip(folders.path_of(place).ok());
            let expected = expected.map(|(index, path)| (index, PathBuf::from(path)));
            assert_eq!(found, expected, "{place}");
        }
        assert_eq!((folders.place(0, "media/x"), folders.place(1, "media/x")), ("media/x".to_owned(), "d3/media/x".to_owned()));
    }
}
