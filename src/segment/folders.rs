//! Which data folders are there, and whether each is the one it is taken for.
//!
//! A further folder carries a mark with its label, and the first one keeps a list of all marks it has ever seen. A folder that is on the list and has lost
//! its mark is not mounted, or is another disk: nothing is written into it.

use std::fs::{File, FileType, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::patient::Patient;
use crate::domain::DataFolder;

/// The mark in a further folder. An empty one is filled in: "take this disk, although another was here".
pub const MARK_NAME: &str = "capstan-folder.json";
/// The list of marks, in the first folder.
const LIST_NAME: &str = "folders.json";
/// Keeps a second process away.
pub const LOCK_NAME: &str = "capstan.lock";
/// A folder that does not answer for this long is done without until it does.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// `d` and eight digits.
const LABEL_BYTES: usize = 9;
/// Bytes of a mark; a longer one is none.
const MARK_BYTES_MAX: u64 = 4096;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Mark {
    label: String,
}

/// A folder that was once used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Known {
    label: String,
    /// Where it was last.
    path: PathBuf,
    /// Its file system makes room inside files; `None`: not asked yet.
    #[serde(default)]
    makes_room: Option<bool>,
}

/// A folder of the settings that cannot be used now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    pub path: PathBuf,
    /// Known from an earlier start.
    pub label: Option<String>,
    /// A sentence with the remedy.
    pub why: String,
    /// It is a mistake in the settings: it cannot appear.
    pub is_mistake: bool,
    /// See [`note_makes_room`]; as it was last noted.
    pub makes_room: Option<bool>,
}

/// What [`open`] found.
#[derive(Debug, Default)]
pub struct Opened {
    pub folders: Vec<DataFolder>,
    pub absent: Vec<Absent>,
    /// Sentences for the log.
    pub warnings: Vec<String>,
    /// Of the folders; held as long as they are used.
    pub locks: Vec<File>,
}

impl Opened {
    /// Of folders that were used before and are not there now.
    pub fn absent_labels(&self) -> Vec<String> {
        self.absent.iter().filter_map(|absent| absent.label.clone()).collect()
    }
}

/// [`open`] with paths as they stand in the settings.
///
/// # Errors
/// As [`open`].
pub fn open_all(first: &Path, paths: &[PathBuf]) -> io::Result<Opened> {
    let paths: Vec<PathBuf> = paths.iter().map(std::path::absolute).collect::<io::Result<_>>()?;
    open(first, &paths)
}

/// Looks at the further folders of the settings (absolute paths). One that is not there costs nobody the start.
///
/// # Errors
/// If the list in `first` cannot be read or written.
pub fn open(first: &Path, paths: &[PathBuf]) -> io::Result<Opened> {
    let list_path = first.join(LIST_NAME);
    let mut list = read_list(&list_path)?;
    let before = list.clone();
    let mut opened = Opened::default();
    let first_device = device(first).ok();
    let mut devices = Vec::new();
    let mut seen = vec![first.canonicalize()?];
    for path in paths {
        let was = before.iter().find(|known| known.path == *path);
        let (known, makes_room) = (was.map(|known| known.label.clone()), was.and_then(|known| known.makes_room));
        let absent = |why: String| Absent { path: path.clone(), label: known.clone(), why, is_mistake: false, makes_room };
        let (owned, was_used) = (path.clone(), known.is_some());
        match patiently(path, move || look(&owned, was_used, None)).flatten() {
            Ok(Looked { label, real, lock, device }) => {
                if seen.contains(&real) {
                    opened.absent.push(Absent { is_mistake: true, ..absent(format!("the data folder {} is named twice", path.display())) });
                    continue;
                }
                if opened.folders.iter().any(|folder| folder.label == label) {
                    let why = format!(
                        "the data folder {} is a copy of another one: remove {MARK_NAME} from it and its path from {}",
                        path.display(),
                        list_path.display()
                    );
                    opened.absent.push(absent(why));
                    continue;
                }
                if Some(device) == first_device || devices.contains(&device) {
                    opened.warnings.push(format!("the data folder {} is on the same disk as another one: they fill it together", path.display()));
                }
                devices.push(device);
                seen.push(real);
                // Also at another path than before.
                let makes_room = list.iter().find(|known| known.label == label).and_then(|known| known.makes_room);
                list.retain(|known| known.label != label);
                list.push(Known { label: label.clone(), path: path.clone(), makes_room });
                opened.locks.push(lock);
                opened.folders.push(DataFolder { label, path: path.clone() });
            }
            Err(why) => opened.absent.push(absent(why)),
        }
    }
    for known in &before {
        let is_named = paths.contains(&known.path) || opened.folders.iter().any(|folder| folder.label == known.label);
        if !is_named {
            opened.warnings.push(format!(
                "the data folder {} was used before and is not in more_data_folders: its recordings cannot be played or deleted",
                known.path.display()
            ));
        }
    }
    if list != before {
        write_list(&list_path, &list)?;
    }
    Ok(opened)
}

/// The folder is still what it was when it was opened: its disk has not been unmounted.
pub fn is_there(folder: &DataFolder) -> bool {
    folder.label.is_empty() || matches!(read_mark(&folder.path), Ok(Some(Mark { label })) if label == folder.label)
}

/// Looks whether a folder is there that was not, and takes its lock. `is_new`: it was never used, and gets its mark. Waits for a disk that does not answer, but
/// not for long; a look that did not end is not to be made again before it has.
///
/// # Errors
/// A sentence that says why not.
pub fn take_in(first: &Path, folder: &DataFolder, is_new: bool) -> Result<File, String> {
    let looked = look(&folder.path, !is_new, Some(&folder.label))?;
    if is_new {
        let list_path = first.join(LIST_NAME);
        let listed = read_list(&list_path).and_then(|mut list| {
            list.push(Known { label: looked.label, path: folder.path.clone(), makes_room: None });
            write_list(&list_path, &list)
        });
        listed.map_err(|error| format!("cannot note the data folder {} in {} ({error})", folder.path.display(), list_path.display()))?;
    }
    Ok(looked.lock)
}

/// Notes whether the file system of a folder makes room inside files: when it is not there at a start, files that are begun may have to be finished there later.
///
/// # Errors
/// If the list in `first` cannot be read or written.
pub fn note_makes_room(first: &Path, label: &str, makes_room: bool) -> io::Result<()> {
    let path = first.join(LIST_NAME);
    let mut list = read_list(&path)?;
    match list.iter_mut().find(|known| known.label == label) {
        Some(known) if known.makes_room != Some(makes_room) => known.makes_room = Some(makes_room),
        _ => return Ok(()),
    }
    write_list(&path, &list)
}

/// Something is mounted at `path`, or has been made there: the same as when `before` was returned.
pub fn is_settled(path: &Path, before: &mut Option<u64>) -> bool {
    let now = device(path).ok();
    now.is_some() && std::mem::replace(before, now) == now
}

struct Looked {
    label: String,
    /// Without links.
    real: PathBuf,
    lock: File,
    device: u64,
}

/// Does something in the folder `path` on a thread of its own: a disk that hangs must not keep the others from being used.
///
/// # Errors
/// A sentence, if the disk does not answer in time.
pub fn patiently<T: Send + 'static>(path: &Path, act: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let look = Patient::spawn("disk-look", act).map_err(|error| format!("the data folder {} cannot be looked at: {error}", path.display()))?;
    let done = if look.ends_within(PATIENCE) { look.join().ok() } else { None };
    done.ok_or_else(|| format!("the data folder {} does not answer: look after its disk", path.display()))
}

/// `expected`: the label that it has to have, or gets.
fn look(path: &Path, was_used: bool, expected: Option<&str>) -> Result<Looked, String> {
    let shown = path.display();
    if !path.is_dir() {
        return Err(format!("the data folder {shown} is not there: mount its disk (or create the folder, if it is new)"));
    }
    let failed = |error: io::Error| format!("cannot write to the data folder {shown} ({error}): make it writable for this user");
    let label = match read_mark(path).map_err(failed)? {
        Some(mark) => mark.label,
        None if was_used && !path.join(MARK_NAME).exists() => {
            return Err(format!(
                "the data folder {shown} has lost its {MARK_NAME}, its disk is not mounted: mount it; for a new disk in its place, \
                 create an empty {MARK_NAME} in it and start again"
            ));
        }
        // Its recordings must not be looked for on a new disk.
        None if was_used && expected.is_some() => {
            return Err(format!("a new disk is in the place of the data folder {shown}: start again to use it"));
        }
        None => {
            let label = expected.map_or_else(new_label, |label| Ok(label.to_owned())).map_err(failed)?;
            write_whole(&path.join(MARK_NAME), &serde_json::to_vec_pretty(&Mark { label: label.clone() }).unwrap_or_default()).map_err(failed)?;
            label
        }
    };
    if expected.is_some_and(|expected| expected != label) {
        return Err(format!("the data folder {shown} carries the mark of another one ({label}): start again to use it"));
    }
    let lock = OpenOptions::new().create(true).write(true).truncate(false).open(path.join(LOCK_NAME)).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(format!("another Capstan is running on the data folder {shown}")),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    for room in ["recording", "media"] {
        std::fs::create_dir_all(path.join(room)).map_err(failed)?;
    }
    let real = path.canonicalize().map_err(failed)?;
    Ok(Looked { label, real, lock, device: device(path).map_err(failed)? })
}

fn device(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(path.metadata()?.dev())
}

/// `None`: there is none, or an empty one.
fn read_mark(folder: &Path) -> io::Result<Option<Mark>> {
    let mut text = String::new();
    match File::open(folder.join(MARK_NAME)) {
        Ok(file) => io::Read::read_to_string(&mut io::Read::take(file, MARK_BYTES_MAX), &mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mark: Mark = serde_json::from_str(&text)?;
    // It becomes the begin of places.
    let is_label = mark.label.len() == LABEL_BYTES && mark.label.starts_with('d') && mark.label.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_label { Ok(Some(mark)) } else { Err(io::Error::new(io::ErrorKind::InvalidData, format!("{MARK_NAME} holds no label"))) }
}

/// What a thing in the place of a file is, if opening it may wait for ever.
pub fn special_kind(kind: FileType) -> Option<&'static str> {
    if kind.is_fifo() {
        Some("named pipe")
    } else if kind.is_char_device() || kind.is_block_device() {
        Some("device")
    } else {
        None
    }
}

/// A label for a folder that was never used.
///
/// # Errors
/// If the system has no randomness.
pub fn new_label() -> io::Result<String> {
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("d{:08x}", u32::from_be_bytes(random)))
}

fn read_list(path: &Path) -> io::Result<Vec<Known>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).or_else(|error| {
            // The marks say the same; only what is not mounted just now is not known any more.
            tracing::error!(path = %path.display(), %error, "the list of data folders cannot be read and is made anew");
            Ok(Vec::new())
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn write_list(path: &Path, list: &[Known]) -> io::Result<()> {
    write_whole(path, &serde_json::to_vec_pretty(list).map_err(io::Error::other)?)
}

/// Replaces a small file, durable.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_mark() {
        let all = tempfile::tempdir().expect("a folder");
        let [first, one, two] = ["first", "one", "two"].map(|name| all.path().join(name));
        for folder in [&first, &one] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let paths = [one.clone(), two.clone()];
        let opened = open(&first, &paths).expect("opened");
        let [folder] = opened.folders.as_slice() else { panic!("{opened:?}") };
        assert!(folder.label.len() == 9 && is_there(folder) && folder.path == one, "{folder:?}");
        assert!(matches!(opened.absent.as_slice(), [absent] if absent.path == two && absent.label.is_none() && absent.why.contains("is not there")));
        assert!(opened.warnings[0].contains("same disk"), "{:?}", opened.warnings);
        let label = folder.label.clone();
        assert!(open(&first, &paths).expect("opened").absent[0].why.contains("another Capstan"));
        drop(opened);

        // Its disk is not mounted: the mount point is there, and empty.
        let aside = all.path().join("aside");
        std::fs::rename(&one, &aside).expect("moved");
        std::fs::create_dir(&one).expect("a mount point");
        let opened = open(&first, &paths).expect("opened");
        assert!(
            opened.folders.is_empty() && opened.absent[0].label.as_ref() == Some(&label) && opened.absent[0].why.contains(MARK_NAME),
            "{opened:?}"
        );
        assert!(std::fs::read_dir(&one).expect("listed").next().is_none(), "nothing was written into the mount point");

        // It comes back at another path.
        let opened = open(&first, std::slice::from_ref(&aside)).expect("opened");
        assert_eq!(opened.folders, [DataFolder { label: label.clone(), path: aside.clone() }]);
        drop(opened);
        let opened = open(&first, &[]).expect("opened");
        assert!(opened.warnings[0].contains("was used before"), "{opened:?}");

        // A new disk in the old one's place, said by an empty mark. And a copy is refused.
        let opened = open(&first, std::slice::from_ref(&one)).expect("opened");
        assert_ne!(opened.folders[0].label, label, "the list knows that the label is elsewhere now");
        drop(opened);
        std::fs::remove_file(one.join(MARK_NAME)).expect("removed");
        assert!(open(&first, std::slice::from_ref(&one)).expect("opened").folders.is_empty());
        std::fs::write(one.join(MARK_NAME), "").expect("written");
        assert_eq!(open(&first, std::slice::from_ref(&one)).expect("opened").folders.len(), 1);
        std::fs::copy(aside.join(MARK_NAME), one.join(MARK_NAME)).expect("copied");
        let opened = open(&first, &[aside.clone(), one.clone(), first.clone(), aside.clone()]).expect("opened");
        assert_eq!((opened.folders.len(), opened.absent.len()), (1, 3), "{opened:?}");
        assert!(opened.absent[0].why.contains("copy"));
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["{", "{\"label\":\"../x\"}", "{\"label\":\"media\"}", "{\"label\":\"\"}"] {
            std::fs::write(folder.path().join(MARK_NAME), text).expect("written");
            assert!(read_mark(folder.path()).is_err(), "{text}");
        }
    }
}
