//! A catalog that is damaged or gone is made again from what lies on the disk, and nobody waits for that.
//!
//! At the start a damaged catalog is put aside and an empty one takes its place, with the templates, rules and tasks of their copy; the files follow
//! while streams are recorded already. A mark beside the catalog stands until all are entered, so that a start in between takes it up again.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::tz::TimeZone;

use crate::catalog::{Catalog, CatalogError, RestoredFile};
use crate::config::Config;
use crate::domain::flow::{FileResults, RESULTS_NAME};
use crate::domain::vod::MediaExtras;
use crate::domain::{DataFolders, FinishedFile, naming};
use crate::logging::error_chain;
use crate::preflight::open_data_folder;
use crate::segment::finish::FINISHED_NAME;
use crate::segment::folders;
use crate::units::FileId;

pub const CATALOG_NAME: &str = "catalog.sqlite";
/// Stands while files are missing in the catalog.
const MARK_NAME: &str = "catalog.rebuild";
/// A catalog up to this size is looked through at the start: some tenths of a second. In a larger one damage shows when it is used.
const CHECK_BYTES_MAX: u64 = 256 << 20;
/// Files entered in one transaction.
const BATCH_MAX: usize = 256;
/// A `recording.json` is a few KiB.
const RECORDING_BYTES_MAX: u64 = 4 << 20;
/// Catalogs put aside are numbered up to this.
const ASIDE_MAX: u32 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    #[error("cannot use the catalog {path}")]
    Catalog { path: PathBuf, source: CatalogError },
    #[error("{step} {path}")]
    File { step: &'static str, path: PathBuf, source: io::Error },
}

fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RescueError {
    move |source| RescueError::File { step, path: path.to_owned(), source }
}

/// What [`rebuild`] did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Recordings that are in the catalog now.
    pub files: u64,
    /// Folders whose `recording.json` is missing or cannot be read.
    pub unreadable: u64,
    /// Asked to stop before the end; the next start goes on.
    pub stopped: bool,
}

/// The mark of a folder that was not there when the catalog was built again; in the first.
fn mark_of(data: &Path, label: &str) -> PathBuf {
    data.join(format!("{MARK_NAME}-{label}"))
}

/// The next start enters what the catalog lacks.
///
/// # Errors
/// If the mark cannot be made.
pub fn note_incomplete(data: &Path) -> Result<(), RescueError> {
    let mark = data.join(MARK_NAME);
    File::create(&mark).map(drop).map_err(at("creating", &mark))
}

/// Opens the catalog whatever state it is in. True: [`rebuild`] has to enter the files.
///
/// # Errors
/// What stands in the way of any catalog: no room, no permission, one of a newer version.
pub fn open_catalog(folders: &DataFolders) -> Result<(Catalog, bool), RescueError> {
    let data = folders.first();
    let path = data.join(CATALOG_NAME);
    let catalog_error = |source| RescueError::Catalog { path: path.clone(), source };
    let mark = data.join(MARK_NAME);
    let begin = || note_incomplete(data);
    if !path.exists() && all_recordings(folders)?.next().is_some() {
        tracing::warn!(path = %path.display(), "the catalog is not there; it is built again from the recordings");
        begin()?;
    }
    let catalog = match open_checked(&path) {
        Ok(catalog) => catalog,
        Err(CatalogError::Damaged(what)) => {
            begin()?;
            let aside = put_aside(&path, "damaged")?;
            tracing::error!(path = %path.display(), aside = %aside.display(), what, "the catalog is damaged; it was put aside and is built again from the recordings");
            Catalog::open(&path).map_err(catalog_error)?
        }
        Err(error) => return Err(catalog_error(error)),
    };
    // Begun anew in silence: what it held was in a journal that is gone.
    if !mark.exists() && catalog.last_file_id().map_err(catalog_error)?.is_none() && all_recordings(folders)?.next().is_some() {
        tracing::warn!(path = %path.display(), "the catalog is empty; it is built again from the recordings");
        begin()?;
    }
    let came_late = folders.iter().any(|folder| mark_of(data, &folder.label).exists());
    Ok((catalog, mark.exists() || came_late))
}

fn open_checked(path: &Path) -> Result<Catalog, CatalogError> {
    let catalog = Catalog::open(path)?;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() <= CHECK_BYTES_MAX) {
        catalog.check()?;
    }
    Ok(catalog)
}

/// Renames the catalog and what belongs to it; returns the new name.
fn put_aside(path: &Path, why: &str) -> Result<PathBuf, RescueError> {
    let named = |number: u32| path.with_file_name(format!("{CATALOG_NAME}.{why}-{number}"));
    let free = (1..ASIDE_MAX).map(named).find(|aside| !aside.exists());
    let aside = free.ok_or_else(|| at("too many put aside beside", path)(io::ErrorKind::AlreadyExists.into()))?;
    for suffix in ["-wal", "-shm", ""] {
        let [from, to] = [path, &aside].map(|path| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        });
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at("renaming", &from)(error)),
        }
    }
    Ok(aside)
}

/// Folders of finished recordings, `media/DAY/FILE-ID`. What cannot be listed is passed over: a damaged folder must not stop the start.
fn recordings(media: &Path) -> Result<impl Iterator<Item = (FileId, PathBuf)> + use<>, RescueError> {
    let days = match fs::read_dir(media) {
        Ok(days) => days.collect::<Result<Vec<_>, _>>().map_err(at("listing", media))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(at("listing", media)(error)),
    };
    let mut days: Vec<PathBuf> = days.into_iter().map(|day| day.path()).filter(|day| day.is_dir()).collect();
    days.sort();
    Ok(days.into_iter().flat_map(|day| {
        let mut found: Vec<(FileId, PathBuf)> = fs::read_dir(&day)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((FileId::parse(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        found.sort();
        found
    }))
}

/// Those of all data folders, each with the index of its folder.
fn all_recordings(folders: &DataFolders) -> Result<impl Iterator<Item = (usize, FileId, PathBuf)> + use<>, RescueError> {
    let each: Vec<_> = folders.iter().map(|folder| recordings(&folder.path.join("media"))).collect::<Result<_, _>>()?;
    Ok(each.into_iter().enumerate().flat_map(|(index, found)| found.map(move |(file_id, path)| (index, file_id, path))))
}

/// The greatest id among the recordings: new ones have to stay above it, and the catalog does not know it yet.
pub fn last_file_id(folders: &DataFolders) -> Result<Option<FileId>, RescueError> {
    Ok(all_recordings(folders)?.map(|(_, file_id, _)| file_id).max())
}

/// Enters every recording of the data folders; those that are in the catalog stay as they are. Ends early when `stop` is set. `absent`: labels of folders
/// that are not there; their recordings are entered when they are.
///
/// A recording whose note still lies in `recording/` is left out: recovery enters it, and announces it.
///
/// # Errors
/// If the catalog takes no files, or the folder cannot be listed. The next start goes on.
pub fn rebuild(folders: &DataFolders, absent: &[String], catalog: &Catalog, zone: &TimeZone, stop: &AtomicBool) -> Result<Rebuilt, RescueError> {
    let data = folders.first();
    let mut rebuilt = Rebuilt::default();
    let mut batch = Vec::new();
    let mut enter = |batch: &mut Vec<RestoredFile>| {
        rebuilt.files += batch.len() as u64;
        catalog.restore_files(std::mem::take(batch)).map_err(|source| RescueError::Catalog { path: data.join(CATALOG_NAME), source })
    };
    for (index, file_id, folder) in all_recordings(folders)? {
        if stop.load(Ordering::Relaxed) {
            rebuilt.stopped = true;
            return Ok(rebuilt);
        }
        let root = folders.root(index);
        if root.join("recording").join(format!("{file_id}.finished")).exists() {
            continue;
        }
        match read_recording(root, &folder).map(|file| FinishedFile { folder: folders.place(index, &file.folder), ..file }) {
            Ok(file) if file.identity.file_id == file_id => {
                let name = naming::catalog_name(&file.identity, file.end, zone);
                let created = file.end;
                let extras = read_extras(&folder, &file);
                batch.push(RestoredFile { file, name, created, extras });
            }
            Ok(file) => {
                rebuilt.unreadable += 1;
                tracing::warn!(path = %folder.display(), file_id = %file.identity.file_id, "the recording names another id than its folder; it is left out");
            }
            Err(error) => {
                rebuilt.unreadable += 1;
                tracing::warn!(path = %folder.display(), %error, "the recording cannot be entered into the catalog");
            }
        }
        if batch.len() >= BATCH_MAX {
            enter(&mut batch)?;
        }
    }
    enter(&mut batch)?;
    let mark = data.join(MARK_NAME);
    if mark.exists() {
        for label in absent {
            let late = mark_of(data, label);
            File::create(&late).map_err(at("creating", &late))?;
        }
    }
    for mark in folders.iter().map(|folder| mark_of(data, &folder.label)).chain([mark]) {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("removing", &mark)(error)),
            _ => {}
        }
    }
    Ok(rebuilt)
}

/// What a recording says of itself, at the place where it was found.
fn read_recording(data: &Path, folder: &Path) -> io::Result<FinishedFile> {
    let mut text = Vec::new();
    File::open(folder.join(FINISHED_NAME))?.take(RECORDING_BYTES_MAX).read_to_end(&mut text)?;
    let mut file: FinishedFile = serde_json::from_slice(&text)?;
    let place = folder.strip_prefix(data).unwrap_or(folder);
    place.to_str().ok_or(io::ErrorKind::InvalidData)?.clone_into(&mut file.folder);
    Ok(file)
}

/// What was made of a recording and lies beside it: pictures and renditions, by their note and as far as they are there.
fn read_extras(folder: &Path, file: &FinishedFile) -> MediaExtras {
    let is_there = |name: &str| folder.join(name).is_file();
    let cover = ["jpg", "png", "webp", "gif"].into_iter().find(|extension| is_there(&format!("cover.{extension}"))).map(str::to_owned);
    let read = || -> io::Result<FileResults> {
        let mut text = Vec::new();
        File::open(folder.join(RESULTS_NAME))?.take(RECORDING_BYTES_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    let mut results = read().unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(folder = %folder.display(), %error, "what was made of the recording cannot be entered into the catalog");
        }
        FileResults::default()
    });
    results.keep_those_there(is_there);
    MediaExtras { cover, results, original_deleted: !is_there(&file.entry), ..MediaExtras::default() }
}

/// The folder with this label has appeared, and is one of `present`. If the catalog was built again without it, its recordings are entered now.
pub fn enter_late((present, absent): &(DataFolders, Vec<String>), label: &str, catalog: &Catalog, zone: &TimeZone, stop: &AtomicBool) {
    if mark_of(present.first(), label).exists() {
        rebuild_beside(present, absent, catalog, zone, stop);
    }
}

/// [`rebuild`] beside the running appliance, with its lines in the log.
pub fn rebuild_beside(folders: &DataFolders, absent: &[String], catalog: &Catalog, zone: &TimeZone, stop: &AtomicBool) {
    let started = Instant::now();
    match rebuild(folders, absent, catalog, zone, stop) {
        Ok(Rebuilt { files, stopped: true, .. }) => tracing::info!(files, "the rebuilding of the catalog goes on at the next start"),
        Ok(Rebuilt { files, unreadable, .. }) => {
            tracing::info!(files, unreadable, seconds = started.elapsed().as_secs_f64(), "the catalog was built again from the recordings");
        }
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the catalog is not complete; the next start goes on building it"),
    }
}

/// `capstan rebuild-catalog`: puts the catalog aside and makes a new one. Refuses while the appliance runs.
pub fn rebuild_command(config: &Config) -> ExitCode {
    match rebuild_now(config) {
        Ok((aside, rebuilt)) => {
            println!("{} recordings entered", rebuilt.files);
            if rebuilt.unreadable > 0 {
                println!("{} folders left out: their {FINISHED_NAME} is missing or cannot be read", rebuilt.unreadable);
            }
            if let Some(aside) = aside {
                println!("the old catalog is {}", aside.display());
            }
            if rebuilt.unreadable > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(sentence) => {
            eprintln!("capstan: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn rebuild_now(config: &Config) -> Result<(Option<PathBuf>, Rebuilt), String> {
    // Nothing is created for a folder that holds nothing.
    if !config.data_folder.is_dir() {
        return Err(format!("there is no data folder {}", config.data_folder.display()));
    }
    let (data, _lock) = open_data_folder(&config.data_folder).map_err(|error| error_chain(&error))?;
    let zone = TimeZone::get(&config.record.time_zone).map_err(|error| format!("record.time_zone: {error}"))?;
    let opened = folders::open_all(&data, &config.more_data_folders).map_err(|error| error.to_string())?;
    for absent in &opened.absent {
        eprintln!("capstan: {}; its recordings are entered when it is there", absent.why);
    }
    let absent = opened.absent_labels();
    let all = DataFolders::new(data.clone(), opened.folders);
    let path = data.join(CATALOG_NAME);
    let rebuild_all = || -> Result<(Option<PathBuf>, Rebuilt), RescueError> {
        // If it still can be read, opening and closing it brings the copy of templates, rules and tasks up to date.
        let old = path.exists().then(|| Catalog::open(&path));
        if let Some(Ok(old)) = old {
            old.close();
        }
        note_incomplete(&data)?;
        let aside = if path.exists() { Some(put_aside(&path, "replaced")?) } else { None };
        let catalog = Catalog::open(&path).map_err(|source| RescueError::Catalog { path: path.clone(), source })?;
        let rebuilt = rebuild(&all, &absent, &catalog, &zone, &AtomicBool::new(false))?;
        catalog.close();
        Ok((aside, rebuilt))
    };
    rebuild_all().map_err(|error| error_chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MediaQuery;

    use crate::domain::{EndReason, RecordTemplate, RecordingIdentity};
    use crate::units::{Format, StreamKey, TemplateId, WallTime};

    fn recording(data: &Path, number: u64) -> FileId {
        let file_id = FileId::new(FileId::MIN + number).expect("an id");
        let folder = format!("media/2026-01-0{}/{file_id}", 1 + number % 3);
        let identity = RecordingIdentity {
            start: WallTime::from_unix_seconds(1000),
            ..RecordingIdentity::example(file_id, Format::Flv, StreamKey::new("localhost", "live", "cam"))
        };
        let end = WallTime::from_unix_seconds(2000 + number as i64);
        // The folder it names is not where it lies: a data folder may have been copied together from others.
        let file = FinishedFile {
            receipt: crate::domain::Receipt::default(),
            identity,
            end,
            reason: EndReason::PublicationEnded,
            folder: "elsewhere".to_owned(),
            entry: "cam.flv".to_owned(),
            size_bytes: 7,
            summary: Default::default(),
        };
        fs::create_dir_all(data.join(&folder)).expect("a folder");
        fs::write(data.join(&folder).join(FINISHED_NAME), serde_json::to_vec(&file).expect("JSON")).expect("a file");
        file_id
    }

    fn single(data: &Path) -> DataFolders {
        DataFolders::new(data.to_owned(), [])
    }

    fn ids(catalog: &Catalog) -> Vec<FileId> {
        let page = catalog.search(&MediaQuery { ascending: true, limit: 1000, ..MediaQuery::default() }).expect("a page");
        assert!(page.rows.iter().all(|row| row.file.folder.starts_with("media/2026-01-0") && row.create_time >= row.file.end));
        page.rows.iter().map(|row| row.file.identity.file_id).collect()
    }

    #[test]
    fn a_lost_or_damaged_catalog_comes_back_from_the_files() {
        type Damage = fn(&Path);
        let cases: [(&str, Damage); 4] = [
            ("nothing happened", |_| {}),
            ("lost", |path| fs::remove_file(path).expect("removed")),
            ("no database", |path| fs::write(path, "not a database at all, but long enough to be looked at").expect("written")),
            ("a damaged page", |path| {
                let mut bytes = fs::read(path).expect("read");
                let middle = bytes.len() / 2;
                bytes[4096..middle].fill(0x5A);
                fs::write(path, bytes).expect("written");
            }),
        ];
        for (name, damage) in cases {
            let folder = tempfile::tempdir().expect("a folder");
            let data = folder.path();
            let (catalog, incomplete) = open_catalog(&single(data)).expect("a new catalog");
            assert!(!incomplete, "{name}: a new data folder");
            let template = RecordTemplate::empty(TemplateId(0), "kept");
            let template = catalog.create_template(template, 10).expect("a template");
            let files: Vec<FileId> = (0..600).map(|number| recording(data, number)).collect();
            rebuild(&single(data), &[], &catalog, &TimeZone::UTC, &AtomicBool::new(false)).expect("entered");
            catalog.close();
            drop(catalog);
            damage(&data.join(CATALOG_NAME));

            let (catalog, incomplete) = open_catalog(&single(data)).expect(name);
            assert_eq!(incomplete, name != "nothing happened", "{name}");
            assert_eq!(
                catalog.templates::<RecordTemplate>().expect("templates").iter().map(|template| template.id).collect::<Vec<_>>(),
                [template],
                "{name}"
            );
            assert_eq!(last_file_id(&single(data)).expect("listed"), files.last().copied());
            let stopped = rebuild(&single(data), &[], &catalog, &TimeZone::UTC, &AtomicBool::new(true)).expect("stopped");
            assert!(stopped.stopped && data.join(MARK_NAME).exists() == incomplete, "{name}");
            let rebuilt = rebuild(&single(data), &[], &catalog, &TimeZone::UTC, &AtomicBool::new(false)).expect("rebuilt");
            assert_eq!(rebuilt, Rebuilt { files: 600, ..Rebuilt::default() }, "{name}");
            assert!(!data.join(MARK_NAME).exists(), "{name}");
            assert_eq!(ids(&catalog), files, "{name}");
        }
    }

    #[test]
    fn a_folder_that_was_not_there_comes_late() {
        let all = tempfile::tempdir().expect("a folder");
        let [first, more] = ["first", "more"].map(|name| all.path().join(name));
        let [one, two] = [(&first, 0), (&more, 1)].map(|(data, number)| recording(data, number));
        let (catalog, incomplete) = open_catalog(&single(&first)).expect("a catalog");
        assert!(incomplete);
        rebuild(&single(&first), &["d1".to_owned()], &catalog, &TimeZone::UTC, &AtomicBool::new(false)).expect("rebuilt");
        catalog.close();
        drop(catalog);
        let both = DataFolders::new(first.clone(), [crate::domain::DataFolder { label: "d1".to_owned(), path: more }]);
        assert!(!open_catalog(&single(&first)).expect("a catalog").1, "it is still not there");
        let (catalog, incomplete) = open_catalog(&both).expect("a catalog");
        assert!(incomplete);
        rebuild(&both, &[], &catalog, &TimeZone::UTC, &AtomicBool::new(false)).expect("rebuilt");
        let page = catalog.search(&MediaQuery { ascending: true, limit: 10, ..MediaQuery::default() }).expect("a page");
        let places: Vec<String> = page.rows.iter().map(|row| row.file.folder.clone()).collect();
        assert_eq!(places, [format!("media/2026-01-01/{one}"), format!("d1/media/2026-01-02/{two}")]);
        catalog.close();
        drop(catalog);
        assert!(!open_catalog(&both).expect("a catalog").1);
    }

    #[test]
    fn unreadable_recordings_are_left_out_and_noted_ones_wait() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path();
        let [good, damaged, noted] = [0, 1, 2].map(|number| recording(data, number));
        fs::write(data.join(format!("media/2026-01-02/{damaged}/{FINISHED_NAME}")), "{").expect("written");
        fs::create_dir_all(data.join("media/2026-01-02/no-recording")).expect("a folder");
        fs::create_dir_all(data.join("recording")).expect("a folder");
        fs::write(data.join(format!("recording/{noted}.finished")), "").expect("a note");
        let (catalog, incomplete) = open_catalog(&single(data)).expect("a catalog");
        assert!(incomplete);
        let rebuilt = rebuild(&single(data), &[], &catalog, &TimeZone::UTC, &AtomicBool::new(false)).expect("rebuilt");
        assert_eq!(rebuilt, Rebuilt { files: 1, unreadable: 1, stopped: false });
        assert_eq!(ids(&catalog), [good]);
    }
}
