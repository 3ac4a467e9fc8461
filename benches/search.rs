//! SearchMedia on a large catalog: how long each kind of query takes.
//!
//! ```text
//! cargo bench --bench search                       1,000,000 files in a temporary folder
//! cargo bench --bench search -- --files 100000     fewer
//! cargo bench --bench search -- --keep FOLDER      use the catalog in FOLDER; made if it is not there
//! ```
//!
//! Targets at a million files: any first page within 50 ms, a page deep in within 200 ms. A query beyond its target fails the run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use capstan::catalog::{Catalog, MediaQuery};
use capstan::domain::event::RecordSessionId;
use capstan::domain::{EndReason, FinishedFile, RecordingIdentity, RecordingSource};
use capstan::units::{FileId, Format, PublicationId, StreamKey, TemplateId, WallTime};

/// Files entered in one transaction.
const BATCH: usize = 2_000;
/// Runs of each query; the table shows their median and the slowest.
const RUNS: usize = 11;
const FIRST_PAGE_MAX: Duration = Duration::from_millis(50);
const DEEP_PAGE_MAX: Duration = Duration::from_millis(200);
/// 2025-01-01T00:00:00Z; the files are spread evenly over the year that follows.
const BEGIN_S: i64 = 1_735_689_600;
const YEAR_S: i64 = 365 * 86_400;
const DAY_S: i64 = 86_400;

fn main() -> ExitCode {
    let (mut files, mut keep) = (1_000_000_usize, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--files" => files = arguments.next().and_then(|count| count.parse().ok()).expect("--files COUNT"),
            "--keep" => keep = Some(PathBuf::from(arguments.next().expect("--keep FOLDER"))),
            // What cargo itself adds.
            _ => {}
        }
    }
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = keep.unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&folder).expect("the folder");
    let catalog = catalog(&folder, files);
    let span_s = |share: f64| WallTime::from_unix_seconds(BEGIN_S + (YEAR_S as f64 * share) as i64);
    let mut too_slow = 0;
    println!("{:<44} {:>6} {:>6} {:>10} {:>10} {:>8}", "query", "hits", "page", "median ms", "max ms", "target");
    for (name, query) in queries(&span_s) {
        for (offset, limit, ascending) in [(0, 10, false), (0, 10, true), (4_900, 100, false)] {
            let by_text = !query.names.is_empty() || !query.descriptions.is_empty() || query.text.is_some();
            if ascending && by_text {
                continue;
            }
            let target = if offset == 0 { FIRST_PAGE_MAX } else { DEEP_PAGE_MAX };
            let query = MediaQuery { offset, limit, ascending, ..query.clone() };
            let mut times = Vec::with_capacity(RUNS);
            let (mut total, mut rows) = (0, 0);
            for _ in 0..RUNS {
                let begun = Instant::now();
                let page = catalog.search(&query).expect("the search");
                times.push(begun.elapsed());
                (total, rows) = (page.total, page.rows.len());
            }
            times.sort_unstable();
            let (median, max) = (times[RUNS / 2], times[RUNS - 1]);
            let page = if ascending {
                "oldest"
            } else if offset == 0 {
                "first"
            } else {
                "deep"
            };
            let is_slow = median > target;
            too_slow += usize::from(is_slow);
            println!(
                "{name:<44} {total:>6} {page:>6} {:>10.2} {:>10.2} {:>8}{}",
                ms(median),
                ms(max),
                target.as_millis(),
                if is_slow { "  SLOW" } else { "" }
            );
            assert!(rows <= 100, "a page has at most its limit");
        }
    }
    if too_slow > 0 {
        println!("{too_slow} beyond their target");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// The catalog in `folder`, filled if it is new.
fn catalog(folder: &Path, files: usize) -> Catalog {
    let path = folder.join("catalog.sqlite");
    let is_new = !path.exists();
    let catalog = Catalog::open(&path).expect("the catalog");
    if is_new {
        let begun = Instant::now();
        let mut number = 0;
        while number < files {
            let batch: Vec<_> = (number..files.min(number + BATCH)).map(|number| file(number, files)).collect();
            let now = batch.last().map_or(WallTime::default(), |(file, _)| file.end);
            number += batch.len();
            catalog.enter_files(batch, now).expect("entering files");
        }
        let bytes = std::fs::metadata(&path).map_or(0, |stat| stat.len());
        println!("{files} files entered in {:.1} s, {} MiB", begun.elapsed().as_secs_f64(), bytes >> 20);
    }
    catalog
}

/// A number without pattern for every number (the finalizer of SplitMix64).
fn scatter(number: usize) -> u64 {
    let mut x = (number as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn date(unix_seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(unix_seconds).expect("in the calendar");
    time.strftime("%Y-%m-%d-%H-%M-%S").to_string()
}

/// File `number` of `files` and its name: half an hour of one of 1,000 streams on 20 domains.
fn file(number: usize, files: usize) -> (FinishedFile, String) {
    let random = scatter(number);
    let stream_number = random % 1_000;
    let stream = match stream_number % 10 {
        0..=5 => format!("camera-{stream_number}"),
        6 | 7 => format!("Студия {stream_number}"),
        8 => format!("直播间{stream_number}"),
        _ => format!("obs_{:08x}", scatter(stream_number as usize) as u32),
    };
    let end_s = BEGIN_S + (number as i64 * YEAR_S) / files as i64;
    let start_s = end_s - 1_800 + (random >> 20 & 0xff) as i64;
    let format = [Format::Mp4, Format::Mp4, Format::Mp4, Format::Hls, Format::Hls, Format::Flv, Format::Aac][(random >> 10) as usize % 7];
    let name = match random >> 32 & 7 {
        // Some were given names of their own.
        0 => format!("{stream} lecture {}", random >> 40 & 0xfff),
        _ => format!("{stream}_{}_{}", date(start_s), date(end_s)),
    };
    let days = [0, 30, 90, 400][(random >> 50) as usize & 3];
    let mut file = FinishedFile {
        receipt: capstan::domain::Receipt::default(),
        identity: RecordingIdentity {
            file_id: FileId::new(FileId::MIN + number as u64 * 1_000).expect("in range"),
            format,
            key: StreamKey::new(
                &format!("push{}.example.com", stream_number % 20),
                if stream_number.is_multiple_of(3) { "live" } else { "studio" },
                &stream,
            ),
            publication: PublicationId(random),
            source: RecordingSource::Rule(TemplateId(1001)),
            push_url: format!("rtmp://push{}.example.com/live/{stream}", stream_number % 20),
            stream_param: String::new(),
            start: WallTime::from_unix_seconds(start_s),
            first_frame: None,
            media_start_ms: 0,
            storage_time_s: days * DAY_S as u64,
            vod_sub_app_id: 0,
            vod_file_name: String::new(),
            procedure: String::new(),
            storage_mode: if random >> 60 == 0 { "cold" } else { "normal" }.to_owned(),
            class_id: 0,
            resume: None,
            session: RecordSessionId::default(),
            alias_domain: String::new(),
            encryption: None,
        },
        end: WallTime::from_unix_seconds(end_s),
        reason: EndReason::Interval,
        folder: format!("media/{}/{number}", &date(start_s)[..10]),
        entry: format!("x.{}", format.extension()),
        size_bytes: 900_000_000,
        summary: Default::default(),
    };
    file.summary.duration_ms = 1_800_000;
    if format != Format::Aac {
        file.summary.video = Some(Default::default());
    }
    file.summary.audio = Some(Default::default());
    (file, name)
}

/// Every kind of filter, alone and together: common and rare values, with many hits, few and none.
fn queries(at: &dyn Fn(f64) -> WallTime) -> Vec<(&'static str, MediaQuery)> {
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let all = MediaQuery::default();
    let names = |values: &[&str]| MediaQuery { names: texts(values), ..MediaQuery::default() };
    let prefixes = |values: &[&str]| MediaQuery { name_prefixes: texts(values), ..MediaQuery::default() };
    let text = |value: &str| MediaQuery { text: Some(value.to_owned()), ..MediaQuery::default() };
    vec![
        ("everything", all.clone()),
        ("one stream", MediaQuery { stream_ids: texts(&["camera-42"]), ..all.clone() }),
        ("ten streams", MediaQuery { stream_ids: (0..10).map(|n| format!("camera-{}", n * 10)).collect(), ..all.clone() }),
        ("no such stream", MediaQuery { stream_ids: texts(&["nobody"]), ..all.clone() }),
        ("one domain", MediaQuery { stream_domains: texts(&["push7.example.com"]), ..all.clone() }),
        ("domain and app", MediaQuery { stream_domains: texts(&["push7.example.com"]), stream_paths: texts(&["live"]), ..all.clone() }),
        ("mp4", MediaQuery { media_types: texts(&["mp4"]), ..all.clone() }),
        ("mp4 that is audio (none)", MediaQuery { media_types: texts(&["mp4"]), categories: texts(&["Audio"]), ..all.clone() }),
        ("audio or cold", MediaQuery { categories: texts(&["Audio"]), storage_classes: texts(&["STANDARD_IA"]), ..all.clone() }),
        ("class 0", MediaQuery { class_ids: vec![0], ..all.clone() }),
        ("created in one day", MediaQuery { create_after: Some(at(0.5)), create_before: Some(at(0.5027)), ..all.clone() }),
        (
            "one stream, created in a month",
            MediaQuery { stream_ids: texts(&["camera-42"]), create_after: Some(at(0.3)), create_before: Some(at(0.4)), ..all.clone() },
        ),
        ("expiring soon", MediaQuery { expire_before: Some(at(0.1)), ..all.clone() }),
        ("expiring early, many", MediaQuery { expire_before: Some(at(0.3)), ..all.clone() }),
        ("expiring in one day", MediaQuery { expire_after: Some(at(0.5)), expire_before: Some(at(0.5027)), ..all.clone() }),
        ("expiring late", MediaQuery { expire_after: Some(at(1.9)), ..all.clone() }),
        ("one stream, expiring early", MediaQuery { stream_ids: texts(&["camera-42"]), expire_before: Some(at(0.3)), ..all.clone() }),
        ("one domain, expiring early", MediaQuery { stream_domains: texts(&["push7.example.com"]), expire_before: Some(at(0.3)), ..all.clone() }),
        ("name: one letter", names(&["a"])),
        ("name: one digit", names(&["7"])),
        ("name: three letters", names(&["cam"])),
        ("name: a stream", names(&["camera-42"])),
        ("name: a date", names(&["2025-06-15"])),
        ("name: a date, other form (none)", names(&["15.06.2025"])),
        ("name: an hour of a day", names(&["2025-06-15-08"])),
        ("name: a time of day", names(&["-12-30-00"])),
        ("name: a time that is none", names(&["-12-61-00"])),
        ("name: a year and a month", names(&["2025-06"])),
        ("name: four characters", names(&["-061"])),
        ("name: five characters", names(&["15-08"])),
        ("name: five characters, many", names(&["5-06-"])),
        ("name: six characters", names(&["-06-15"])),
        ("name: minute and second of a day", names(&["15-12-30-17"])),
        ("name: every name", names(&["_2025-"])),
        ("name: stream and date", names(&["camera-42_2025-06"])),
        ("name: word", names(&["lecture"])),
        ("name: word and number", names(&["lecture 77"])),
        ("name: number alone", names(&["1234"])),
        ("name: 2 letters, Cyrillic", names(&["ди"])),
        ("name: word, Cyrillic, other case", names(&["СТУДИЯ 7"])),
        ("name: Chinese", names(&["直播"])),
        ("name: no such", names(&["xyzzy"])),
        ("name: ten", names(&["camera-1", "camera-2", "2025-01", "2025-02", "lecture", "obs", "直播", "студия", "-30-", "7"])),
        ("name: date, one domain", MediaQuery { stream_domains: texts(&["push7.example.com"]), ..names(&["2025-06-15"]) }),
        ("name: date, aac", MediaQuery { media_types: texts(&["aac"]), ..names(&["2025-06-15"]) }),
        ("name: date, created in another month (none)", MediaQuery { create_before: Some(at(0.3)), ..names(&["2025-06-15"]) }),
        ("name: date, expiring in a week", MediaQuery { expire_after: Some(at(0.5)), expire_before: Some(at(0.52)), ..names(&["2025-06"]) }),
        ("name: stream, expiring early", MediaQuery { expire_before: Some(at(0.3)), ..names(&["camera-42"]) }),
        ("prefix: one letter", prefixes(&["c"])),
        ("prefix: camera-4", prefixes(&["camera-4"])),
        ("prefix: stream and day", prefixes(&["camera-42_2025-06-15"])),
        ("prefix: no such", prefixes(&["amera"])),
        ("description: any (none)", MediaQuery { descriptions: texts(&["game"]), ..all.clone() }),
        ("text: a date", text("2025-06-15")),
        ("name and text: a date", MediaQuery { text: Some("camera".to_owned()), ..names(&["2025-06-15"]) }),
        ("text: one letter", text("e")),
        ("text: lecture 77", text("lecture 77")),
    ]
}
