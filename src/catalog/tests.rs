//! The catalog as its users see it, on a real file.

use std::collections::HashSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::container::{MediaSummary, TrackSummary};
use crate::domain::vod::{CLASS_TOP, SubApp};
use crate::domain::{EndReason, OwnFormat, RecordRule, RecordTask, RecordingIdentity};
use crate::units::{PublicationId, StreamKey, TemplateId};

pub(super) struct Fixture {
    folder: tempfile::TempDir,
    pub(super) catalog: Catalog,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Catalog::open(&folder.path().join("catalog.sqlite")).expect("a new catalog");
        Self { folder, catalog }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("catalog.sqlite")
    }

    /// As if the process ended and came back.
    pub(super) fn reopen(&mut self) {
        self.catalog.close();
        self.catalog = Catalog::open(&self.path()).expect("the catalog again");
    }
}

pub(super) fn at(seconds: i64) -> WallTime {
    WallTime::from_unix_seconds(seconds)
}

fn template(name: &str) -> RecordTemplate {
    let mut template = RecordTemplate::empty(TemplateId(0), name);
    template.mp4.enable = true;
    template
}

fn rule(domain: &str, app: &str, stream: &str, template_id: TemplateId) -> RecordRule {
    RecordRule { domain: domain.into(), app: app.into(), stream: stream.into(), template_id, create_time: at(1), update_time: at(2) }
}

fn task(id: &str, stream: &str, start: i64, end: i64) -> RecordTask {
    RecordTask {
        id: TaskId(id.into()),
        key: StreamKey::new("localhost", "live", stream),
        start: at(start),
        end: at(end),
        template_id: u64::MAX,
        stream_type: 1,
        extension: "x=1".to_owned(),
        create_time: at(start - 1),
        stopped: None,
        own: None,
    }
}

pub(super) fn file(number: u64, stream: &str, format: Format) -> FinishedFile {
    FinishedFile {
        receipt: crate::domain::Receipt::default(),
        identity: RecordingIdentity {
            publication: PublicationId(u64::MAX),
            push_url: "rtmp://push.example.com/live/x?a=b".to_owned(),
            stream_param: "a=b".to_owned(),
            start: at(100),
            media_start_ms: -5,
            ..RecordingIdentity::example(
                FileId::new(FileId::MIN + number).expect("in range"),
                format,
                StreamKey::new("push.example.com", "live", stream),
            )
        },
        end: at(200),
        reason: EndReason::Interval,
        folder: format!("media/2026-01-01/{number}"),
        entry: "x.mp4".to_owned(),
        size_bytes: u64::MAX,
        summary: MediaSummary { duration_ms: 100_000, video: Some(TrackSummary::default()), ..MediaSummary::default() },
    }
}

pub(super) fn ids(page: &MediaPage) -> Vec<u64> {
    page.rows.iter().map(|row| row.file.identity.file_id.get() - FileId::MIN).collect()
}

#[test]
fn everything_survives_a_restart() {
    let mut fixture = Fixture::new();
    assert!(fixture.catalog.is_new().expect("is_new"));
    let mut with_all = template("всё");
    with_all.hls.vod_file_name = "{StreamID}".to_owned();
    with_all.flow_continue_duration_s = 1800;
    let id = fixture.catalog.create_template(with_all.clone(), 10).expect("template");
    assert_eq!(id, TemplateId(1001));
    fixture.catalog.create_rule::<RecordTemplate>(rule("Push.Example.com", "live", "cam", id), 10).expect("rule");
    fixture.catalog.create_task(task("t1", "cam", 100, 200), 10, at(99)).expect("task");
    fixture.catalog.enter_file(file(1, "cam", Format::Mp4), "имя".to_owned(), at(300)).expect("file");
    fixture.reopen();

    assert!(!fixture.catalog.is_new().expect("is_new"));
    with_all.id = id;
    assert_eq!(fixture.catalog.templates::<RecordTemplate>().expect("templates"), [with_all.clone()]);
    assert_eq!(fixture.catalog.template::<RecordTemplate>(id).expect("template"), with_all);
    assert_eq!(fixture.catalog.rules::<RecordTemplate>().expect("rules"), [rule("push.example.com", "live", "cam", id)]);
    let policy = fixture.catalog.policy(7, at(150)).expect("policy");
    assert_eq!(policy.version, 7);
    assert_eq!(policy.rule_for(&StreamKey::new("push.example.com", "live", "cam")).map(|found| found.id), Some(id));
    assert_eq!(*policy.tasks_for(&StreamKey::new("localhost", "live", "cam"))[0], task("t1", "cam", 100, 200));
    let file_id = file(1, "", Format::Mp4).identity.file_id;
    let row = fixture.catalog.files(0, &[file_id]).expect("files").remove(&file_id).expect("the file");
    assert_eq!(row.file, file(1, "cam", Format::Mp4));
    assert_eq!((row.name.as_str(), row.description.as_str(), row.create_time, row.update_time, row.expire_time), ("имя", "", at(300), at(300), None));
    assert_eq!(ids(&fixture.catalog.search(&MediaQuery { names: vec!["ИМ".to_owned()], limit: 10, ..MediaQuery::default() }).expect("search")), [1]);
}

#[test]
fn template_ids_are_never_used_again() {
    let mut fixture = Fixture::new();
    let create = |fixture: &Fixture| fixture.catalog.create_template(template("t"), 10).expect("template").0;
    assert_eq!([create(&fixture), create(&fixture)], [1001, 1002]);
    fixture.catalog.delete_template::<RecordTemplate>(TemplateId(1002)).expect("delete");
    fixture.catalog.delete_template::<RecordTemplate>(TemplateId(1001)).expect("delete");
    fixture.reopen();
    assert_eq!(create(&fixture), 1003);
    assert!(!fixture.catalog.is_new().expect("is_new"));
}

#[test]
fn templates_are_bounded_modified_and_protected() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    let id = catalog.create_template(template("a"), 1).expect("template");
    assert!(matches!(catalog.create_template(template("b"), 1), Err(CatalogError::Limit { limit: 1 })));
    catalog
        .modify_template(
            id,
            Box::new(|template: &mut RecordTemplate| {
                template.name = "b".to_owned();
                template.id = TemplateId(7);
            }),
        )
        .expect("modify");
    assert_eq!(
        (catalog.template::<RecordTemplate>(id).expect("template").name, catalog.template::<RecordTemplate>(id).expect("template").id),
        ("b".to_owned(), id)
    );
    assert!(matches!(catalog.modify_template(TemplateId(1), Box::new(|_: &mut RecordTemplate| ())), Err(CatalogError::NotFound)));
    assert!(matches!(catalog.modify_template(id, Box::new(|_: &mut RecordTemplate| panic!("in a closure"))), Err(CatalogError::Storage(_))));
    assert!(matches!(catalog.template::<RecordTemplate>(TemplateId(u64::MAX)), Err(CatalogError::NotFound)));

    catalog.create_rule::<RecordTemplate>(rule("a.b", "", "", id), 10).expect("rule");
    assert!(matches!(catalog.delete_template::<RecordTemplate>(id), Err(CatalogError::InUse)));
    catalog.delete_rule::<RecordTemplate>("A.b", "", "").expect("delete rule");
    catalog.delete_template::<RecordTemplate>(id).expect("delete");
    assert!(matches!(catalog.delete_template::<RecordTemplate>(id), Err(CatalogError::NotFound)));
}

#[test]
fn rules_have_one_key_each() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    let id = catalog.create_template(template("a"), 10).expect("template");
    let other = catalog.create_template(template("b"), 10).expect("template");
    assert!(matches!(catalog.create_rule::<RecordTemplate>(rule("a.b", "", "", TemplateId(4711)), 10), Err(CatalogError::NotFound)));
    for (app, stream) in [("", ""), ("live", ""), ("Live", ""), ("", "cam"), ("live", "cam")] {
        catalog.create_rule::<RecordTemplate>(rule("a.b", app, stream, id), 5).expect("rule");
        assert!(matches!(catalog.create_rule::<RecordTemplate>(rule("A.B", app, stream, other), 10), Err(CatalogError::Exists)));
    }
    assert!(matches!(catalog.create_rule::<RecordTemplate>(rule("c.d", "", "", id), 5), Err(CatalogError::Limit { limit: 5 })));
    assert!(matches!(catalog.delete_rule::<RecordTemplate>("a.b", "LIVE", ""), Err(CatalogError::NotFound)));
    catalog.delete_rule::<RecordTemplate>("a.b", "live", "").expect("delete");
    let left: Vec<_> = catalog.rules::<RecordTemplate>().expect("rules").into_iter().map(|rule| (rule.app, rule.stream)).collect();
    assert_eq!(left, [("", ""), ("Live", ""), ("", "cam"), ("live", "cam")].map(|(app, stream)| (app.to_owned(), stream.to_owned())));
}

#[test]
fn the_first_run_rule_comes_once() {
    let mut fixture = Fixture::new();
    let id = fixture.catalog.enter_first_run(template("first"), at(1)).expect("first run").expect("new");
    let policy = fixture.catalog.policy(1, at(2)).expect("policy");
    assert_eq!(policy.rule_for(&StreamKey::new("any.where", "app", "stream")).map(|found| found.id), Some(id));
    fixture.catalog.delete_rule::<RecordTemplate>("", "", "").expect("delete rule");
    fixture.catalog.delete_template::<RecordTemplate>(id).expect("delete template");
    fixture.reopen();
    assert_eq!(fixture.catalog.enter_first_run(template("first"), at(3)).expect("first run"), None, "the user deleted it");
}

#[test]
fn tasks_are_stopped_deleted_and_counted() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    let id = |name: &str| TaskId(name.into());
    for name in ["a", "b", "c"] {
        catalog.create_task(task(name, "cam", 100, 200), 3, at(90)).expect("task");
    }
    assert!(matches!(catalog.create_task(task("a", "cam", 100, 200), 9, at(90)), Err(CatalogError::Exists)));
    assert!(matches!(catalog.create_task(task("d", "cam", 100, 200), 3, at(90)), Err(CatalogError::Limit { limit: 3 })));
    let key = StreamKey::new("LOCALHOST", "live", "cam");
    assert!(matches!(catalog.create_task(task("d", "cam", 100, 200), 3, at(199)), Err(CatalogError::Limit { limit: 3 })));

    catalog.stop_task(&id("a"), at(150)).expect("stop");
    catalog.stop_task(&id("a"), at(160)).expect("stop again");
    catalog.stop_task(&id("b"), at(200)).expect("stop after the end");
    assert!(matches!(catalog.stop_task(&id("x"), at(160)), Err(CatalogError::NotFound)));
    let query = TaskQuery { start: at(0), end: at(1000), limit: 10, ..TaskQuery::default() };
    let stopped: Vec<_> = catalog.tasks(&query).expect("tasks").into_iter().map(|task| task.stopped).collect();
    assert_eq!(stopped, [Some(at(150)), None, None]);

    catalog.delete_task(&id("a")).expect("delete");
    catalog.delete_task(&id("c")).expect("delete");
    for name in ["a", "c"] {
        assert!(matches!(catalog.delete_task(&id(name)), Err(CatalogError::NotFound)));
        assert!(matches!(catalog.stop_task(&id(name), at(170)), Err(CatalogError::NotFound)));
    }
    assert_eq!(catalog.tasks(&query).expect("tasks").len(), 1);
    // A core that still records `a` must learn that it was stopped; `c` was only deleted and goes on, so it is not in the policy.
    let policy = catalog.policy(1, at(170)).expect("policy");
    let in_policy: Vec<_> = policy.tasks_for(&key).iter().map(|task| (task.id.to_string(), task.stopped)).collect();
    assert_eq!(in_policy, [("a".to_owned(), Some(at(150))), ("b".to_owned(), None)]);
    assert!(catalog.policy(1, at(200)).expect("policy").tasks.is_empty());
}

#[test]
fn tasks_are_paged_without_repeats() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    // Several tasks of one start, so that the id decides; and some outside of the window on either side.
    for number in 0..50 {
        catalog
            .create_task(task(&format!("t{number:02}"), if number % 2 == 0 { "even" } else { "odd" }, 100 + number / 7, 500), 1000, at(0))
            .expect("task");
    }
    catalog.create_task(task("early", "even", 99, 500), 1000, at(0)).expect("task");
    catalog.create_task(task("long", "even", 100, 501), 1000, at(0)).expect("task");
    for (stream, expected) in [(None, 50), (Some("even".to_owned()), 25), (Some("none".to_owned()), 0)] {
        for limit in [1, 7, 100] {
            let mut query = TaskQuery {
                start: at(100),
                end: at(500),
                stream: stream.clone(),
                domain: Some("LocalHost".to_owned()),
                limit,
                ..TaskQuery::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = catalog.tasks(&query).expect("page");
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                query.after = Some((last.start, last.id.clone()));
                seen.extend(page.into_iter().map(|task| (task.start, task.id)));
                // One comes in before the place we are at, one goes away: neither may repeat or hide others.
                let newcomer = TaskId(format!("n{}-{limit}-{stream:?}", seen.len()).into());
                catalog.create_task(RecordTask { id: newcomer.clone(), ..task("", "other", 100, 500) }, 1000, at(0)).expect("task");
                catalog.delete_task(&newcomer).expect("delete");
            }
            assert_eq!(seen.len(), expected, "{stream:?} by {limit}");
            assert!(seen.is_sorted_by(|a, b| a < b), "{stream:?} by {limit}");
        }
    }
}

#[test]
fn old_tasks_are_purged() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    const DAY: i64 = 86_400;
    catalog.create_task(task("old", "cam", 0, DAY), 10, at(0)).expect("task");
    assert_eq!(catalog.purge_tasks(at(91 * DAY)).expect("purge"), 0, "exactly 90 days after the end");
    assert_eq!(catalog.purge_tasks(at(91 * DAY + 1)).expect("purge"), 1);
    catalog.create_task(task("old", "cam", 0, DAY), 10, at(0)).expect("task");
    catalog.create_task(task("new", "cam", 100 * DAY, 101 * DAY), 10, at(100 * DAY)).expect("task");
    let query = TaskQuery { start: at(0), end: at(1000 * DAY), limit: 10, ..TaskQuery::default() };
    assert_eq!(catalog.tasks(&query).expect("tasks").len(), 1);
}

fn own() -> OwnFormat {
    OwnFormat { format: Format::Mp4, audio_only: true, record_interval_s: 3600, storage_time_s: 60 }
}

#[test]
fn older_tasks_are_numbered_counted_and_apart() {
    const DAY: i64 = 86_400;
    let mut fixture = Fixture::new();
    let limits = OlderTaskLimits { open_max: 2, day_max: 4 };
    let create = |fixture: &Fixture, now| {
        fixture.catalog.create_older_task(RecordTask { own: Some(own()), ..task("", "cam", now, now + 10 * DAY) }, limits, at(now))
    };
    assert_eq!((create(&fixture, 100).ok(), create(&fixture, 101).ok()), (Some(1), Some(2)));
    assert!(matches!(create(&fixture, 102), Err(CatalogError::Limit { limit: 2 })));
    fixture.reopen();
    let catalog = &fixture.catalog;
    let stored = catalog.policy(1, at(102)).expect("policy");
    assert!(stored.tasks_for(&StreamKey::new("localhost", "live", "cam")).iter().all(|task| task.own == Some(own())));
    // Neither family sees the other's tasks.
    let query = TaskQuery { start: at(0), end: at(1000 * DAY), limit: 10, ..TaskQuery::default() };
    assert!(catalog.tasks(&query).expect("tasks").is_empty());
    catalog.create_task(task("7", "cam", 100, 200), 1, at(100)).expect("the older tasks are not in this quota");
    for refused in [
        catalog.stop_task(&TaskId("1".into()), at(103)),
        catalog.delete_task(&TaskId("1".into())),
        catalog.stop_older_task(7, "cam".to_owned(), at(103)),
        catalog.stop_older_task(1, "Cam".to_owned(), at(103)),
        catalog.delete_older_task(3, "cam".to_owned(), at(103)),
    ] {
        assert!(matches!(refused, Err(CatalogError::NotFound)), "{refused:?}");
    }
    // Only the record of an ended task can be deleted.
    assert!(matches!(catalog.delete_older_task(1, "cam".to_owned(), at(103)), Err(CatalogError::InUse)));
    catalog.stop_older_task(1, "cam".to_owned(), at(103)).expect("stop");
    catalog.stop_older_task(1, "cam".to_owned(), at(104)).expect("stop again");
    catalog.delete_older_task(1, "cam".to_owned(), at(104)).expect("delete");
    assert!(matches!(catalog.stop_older_task(1, "cam".to_owned(), at(104)), Err(CatalogError::NotFound)));
    catalog.delete_older_task(2, "cam".to_owned(), at(101 + 10 * DAY)).expect("its window is over");
    // Deleted or not, what was made within 24 hours counts.
    assert_eq!((create(&fixture, 105).ok(), create(&fixture, 106).ok()), (Some(3), Some(4)));
    assert!(matches!(create(&fixture, 100 + DAY - 1), Err(CatalogError::DayLimit { limit: 4 })));
    fixture.catalog.stop_older_task(3, "cam".to_owned(), at(200)).expect("stop");
    assert_eq!(create(&fixture, 100 + DAY).ok(), Some(5), "the first one is a day old");
}

#[derive(Clone, Debug)]
enum TaskStep {
    Create { start: i64, length: i64, older: bool },
    Stop(usize),
    Delete(usize),
    Wait(i64),
    Reopen,
}

fn task_step() -> impl Strategy<Value = TaskStep> {
    prop_oneof![
        4 => (-20..20_i64, 1..60_i64, any::<bool>()).prop_map(|(start, length, older)| TaskStep::Create { start, length, older }),
        2 => (0..16_usize).prop_map(TaskStep::Stop),
        2 => (0..16_usize).prop_map(TaskStep::Delete),
        2 => (0..40_i64).prop_map(TaskStep::Wait),
        2 => Just(TaskStep::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The catalog against a plain list: whatever is done, and however often the process ends, no task is lost, none comes back.
    #[test]
    fn tasks_survive_any_history(steps in proptest::collection::vec(task_step(), 1..30)) {
        let mut fixture = Fixture::new();
        let limits = OlderTaskLimits { open_max: 1000, day_max: 1000 };
        let mut now = 1_000;
        let mut model: Vec<RecordTask> = Vec::new();
        let mut hidden: HashSet<TaskId> = HashSet::new();
        for (number, step) in steps.into_iter().enumerate() {
            let catalog = &fixture.catalog;
            match step {
                TaskStep::Create { start, length, older } => {
                    let mut made = RecordTask { own: older.then(own), ..task(&format!("t{number}"), "cam", now + start, now + start + length) };
                    if older {
                        let id = catalog.create_older_task(made.clone(), limits, at(now)).expect("an older task");
                        made.id = TaskId(id.to_string().into());
                    } else {
                        catalog.create_task(made.clone(), 1000, at(now)).expect("a task");
                    }
                    model.push(made);
                }
                TaskStep::Stop(index) => {
                    let Some(task) = model.get_mut(index).filter(|task| !hidden.contains(&task.id)) else { continue };
                    match task.own {
                        None => catalog.stop_task(&task.id, at(now)).expect("stop"),
                        Some(_) => catalog.stop_older_task(task.id.0.parse().expect("a number"), "cam".to_owned(), at(now)).expect("stop"),
                    }
                    if task.end > at(now) {
                        task.stopped.get_or_insert(at(now));
                    }
                }
                TaskStep::Delete(index) => {
                    let Some(task) = model.get(index).filter(|task| !hidden.contains(&task.id)) else { continue };
                    match task.own {
                        None => catalog.delete_task(&task.id).expect("delete"),
                        Some(_) => match catalog.delete_older_task(task.id.0.parse().expect("a number"), "cam".to_owned(), at(now)) {
                            Err(CatalogError::InUse) => {
                                prop_assert!(task.is_open(at(now)) || task.start > at(now));
                                continue;
                            }
                            deleted => prop_assert!(deleted.is_ok() && task.has_ended(at(now))),
                        },
                    }
                    hidden.insert(task.id.clone());
                }
                TaskStep::Wait(seconds) => now += seconds,
                TaskStep::Reopen => fixture.reopen(),
            }
            let sorted = |mut tasks: Vec<RecordTask>| {
                tasks.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
                tasks
            };
            let policy = fixture.catalog.policy(1, at(now)).expect("policy");
            let in_policy = policy.tasks_for(&StreamKey::new("localhost", "live", "cam")).iter().map(|task| RecordTask::clone(task)).collect();
            let wanted = model.iter().filter(|task| task.end > at(now) && (task.stopped.is_some() || !hidden.contains(&task.id)));
            prop_assert_eq!(sorted(in_policy), sorted(wanted.cloned().collect()));
            let query = TaskQuery { start: at(0), end: at(1_000_000), limit: 1000, ..TaskQuery::default() };
            let wanted = model.iter().filter(|task| task.own.is_none() && !hidden.contains(&task.id));
            prop_assert_eq!(fixture.catalog.tasks(&query).expect("tasks"), sorted(wanted.cloned().collect()));
        }
    }
}

#[test]
fn tasks_without_a_template_record_the_default() {
    let fixture = Fixture::new();
    let formats = |catalog: &Catalog| {
        let policy = catalog.policy(1, at(0)).expect("policy");
        policy.task_template(&task("t", "cam", 0, 1)).enabled().map(|(format, _)| format).collect::<Vec<_>>()
    };
    assert_eq!(formats(&fixture.catalog), [Format::Flv]);
    fixture.catalog.set_task_default(default_task_template(Format::Hls));
    assert_eq!(formats(&fixture.catalog), [Format::Hls]);
}

#[test]
fn files_are_entered_once_and_expire() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    assert_eq!(catalog.last_file_id().expect("none"), None);
    let mut short = file(5, "cam", Format::Aac);
    short.identity.storage_time_s = 60;
    short.summary = MediaSummary::default();
    short.identity.storage_mode = "cold".to_owned();
    catalog.enter_files(vec![(short.clone(), "five".to_owned()), (file(3, "cam", Format::Flv), "three".to_owned())], at(300)).expect("enter");
    catalog.enter_file(short.clone(), "five again".to_owned(), at(400)).expect("again");
    assert_eq!(catalog.last_file_id().expect("last"), Some(short.identity.file_id));
    let rows = catalog.files(0, &[short.identity.file_id, FileId::new(FileId::MAX).expect("id")]).expect("files");
    assert_eq!(rows.len(), 1);
    let row = &rows[&short.identity.file_id];
    assert_eq!((row.name.as_str(), row.create_time, row.expire_time), ("five", at(300), Some(at(260))));
    assert_eq!((row.category(), row.storage_class()), ("Audio", "STANDARD_IA"));
    assert!(catalog.files(1, &[short.identity.file_id]).expect("files").is_empty(), "another sub-application is a wall");
    // One moment, two files: the second is one microsecond later.
    let page = catalog.search(&MediaQuery { limit: 10, ..MediaQuery::default() }).expect("search");
    assert_eq!(ids(&page), [3, 5]);
    assert_eq!(page.rows[0].create_time.unix_micros() - page.rows[1].create_time.unix_micros(), 1);
}

#[test]
fn a_burst_keeps_its_order() {
    let fixture = Fixture::new();
    let burst = |from: u64| (from..from + 300).map(|number| (file(number, "cam", Format::Mp4), format!("n{number}"))).collect::<Vec<_>>();
    fixture.catalog.enter_files(burst(0), at(10)).expect("burst");
    fixture.catalog.enter_files(burst(300), at(10)).expect("burst of the same moment");
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let catalog = fixture.catalog.clone();
            scope.spawn(move || {
                for number in 0..20 {
                    catalog.enter_file(file(1000 + thread * 20 + number, "cam", Format::Mp4), "parallel".to_owned(), at(5)).expect("file");
                }
            });
        }
    });
    let page =
        fixture.catalog.search(&MediaQuery { ascending: true, create_after: Some(at(10)), limit: 5000, ..MediaQuery::default() }).expect("search");
    assert_eq!(ids(&page), (0..600).collect::<Vec<_>>());
    assert_eq!(fixture.catalog.search(&MediaQuery { create_before: Some(at(10)), ..MediaQuery::default() }).expect("search").total, 160);
}

/// Names entered by number, oldest first.
const NAMES: [&str; 14] = [
    "СТРИМ утро",
    "стрим",
    "Übergröße Straße",
    "100% sure",
    "100 sure",
    "a_b",
    "aXb",
    "star*",
    "直播 测试",
    "say \"hi\" AND NOT OR (x) NEAR",
    "back\\slash 'quote'",
    "camera-1",
    "my camera-1",
    "CAMERA-12",
];

#[test]
fn search_takes_patterns_literally_without_case() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    for (number, name) in NAMES.iter().enumerate() {
        catalog.enter_file(file(number as u64, "cam", Format::Mp4), (*name).to_owned(), at(number as i64)).expect("file");
    }
    for (pattern, expected) in [
        ("стрим", vec![1, 0]),
        ("СТРИМ", vec![1, 0]),
        ("Стрим У", vec![0]),
        ("ÜBERGRÖSSE", vec![2]),
        ("strasse", vec![2]),
        ("STRAẞE", vec![2]),
        ("ö", vec![2]),
        ("%", vec![3]),
        ("0%", vec![3]),
        ("100", vec![4, 3]),
        ("a_b", vec![5]),
        ("_", vec![5]),
        ("*", vec![7]),
        ("star*", vec![7]),
        ("st*", vec![]),
        ("直", vec![8]),
        ("测试", vec![8]),
        ("播 测", vec![8]),
        ("\"", vec![9]),
        ("\"hi\" AND", vec![9]),
        ("NOT", vec![9]),
        ("(x)", vec![9]),
        ("\\", vec![10]),
        ("'quote'", vec![10]),
        ("camera-1", vec![11, 13, 12]),
        ("Camera-12", vec![13]),
        ("a-1 ", vec![]),
        ("zq", vec![]),
        ("\0", vec![]),
        (&"x".repeat(500), vec![]),
    ] {
        let by_name = MediaQuery { names: vec![pattern.to_owned()], limit: 20, ..MediaQuery::default() };
        let page = catalog.search(&by_name).expect("search");
        assert_eq!(ids(&page), expected, "{pattern}");
        assert_eq!(page.total, expected.len() as u64);
        let by_text = MediaQuery { text: Some(pattern.to_owned()), limit: 20, ..MediaQuery::default() };
        assert_eq!(ids(&catalog.search(&by_text).expect("search")), expected, "{pattern}");
        let by_description = MediaQuery { descriptions: vec![pattern.to_owned()], limit: 20, ..MediaQuery::default() };
        assert!(ids(&catalog.search(&by_description).expect("search")).is_empty());
        let by_prefix = MediaQuery { name_prefixes: vec![pattern.to_owned()], limit: 20, ascending: true, ..MediaQuery::default() };
        let begins: Vec<u64> = (0..14).filter(|number| index::fold(NAMES[*number as usize]).starts_with(&index::fold(pattern))).collect();
        assert_eq!(ids(&catalog.search(&by_prefix).expect("search")), begins, "{pattern}");
    }
    for empty in
        [MediaQuery { names: vec![String::new()], ..MediaQuery::default() }, MediaQuery { text: Some(String::new()), ..MediaQuery::default() }]
    {
        assert_eq!(catalog.search(&empty).expect("search").total, 14);
    }
}

#[test]
fn the_total_is_capped_and_pages_end_there() {
    let fixture = Fixture::new();
    let files = (0..5100).map(|number| (file(number, "cam", Format::Mp4), format!("cam {number:04}"))).collect();
    fixture.catalog.enter_files(files, at(10)).expect("files");
    for query in [MediaQuery::default(), MediaQuery { names: vec!["cam".to_owned()], ..MediaQuery::default() }] {
        let page = |offset, limit| fixture.catalog.search(&MediaQuery { offset, limit, ..query.clone() }).expect("search");
        assert_eq!(page(0, 0).total, 5000);
        assert_eq!(ids(&page(0, 3)), [5099, 5098, 5097]);
        assert_eq!(ids(&page(4998, 10)), [101, 100], "no page goes beyond the cap");
        assert!(ids(&page(u64::MAX, u64::MAX)).is_empty());
    }
    assert_eq!(fixture.catalog.search(&MediaQuery { names: vec!["cam 00".to_owned()], ..MediaQuery::default() }).expect("search").total, 100);
}

#[test]
fn a_broken_catalog_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.sqlite");
    std::fs::write(&path, "this is no database, but it is long enough to look like one ".repeat(100)).expect("write");
    let error = Catalog::open(&path).err().expect("refused").to_string();
    assert!(error.contains("not a database") && error.contains("catalog.sqlite"), "{error}");
    let error = Catalog::open(&folder.path().join("missing/catalog.sqlite")).err().expect("refused").to_string();
    assert!(error.contains("unable to open"), "{error}");

    // A newer version's catalog is not touched.
    let newer = folder.path().join("newer.sqlite");
    Connection::open(&newer).expect("open").pragma_update(None, "user_version", 1000).expect("version");
    assert!(matches!(Catalog::open(&newer), Err(CatalogError::Storage(_))));
}

#[test]
fn rows_that_cannot_be_read_are_errors() {
    let fixture = Fixture::new();
    let id = fixture.catalog.create_template(template("t"), 10).expect("template");
    fixture.catalog.enter_file(file(1, "cam", Format::Mp4), "n".to_owned(), at(1)).expect("file");
    let other = Connection::open(fixture.path()).expect("a second connection");
    other.execute_batch("UPDATE template SET body = '{}'; UPDATE media_file SET file = 'x'").expect("damage");
    assert!(matches!(fixture.catalog.template::<RecordTemplate>(id), Err(CatalogError::Storage(_))));
    assert!(matches!(fixture.catalog.policy(1, at(0)), Err(CatalogError::Storage(_))));
    assert!(matches!(fixture.catalog.search(&MediaQuery { limit: 1, ..MediaQuery::default() }), Err(CatalogError::Storage(_))));
    other.execute_batch("DROP TABLE media_index").expect("damage");
    assert!(matches!(fixture.catalog.enter_file(file(2, "cam", Format::Mp4), "n".to_owned(), at(2)), Err(CatalogError::Storage(_))));
    // What failed half-way left nothing behind.
    assert_eq!(fixture.catalog.last_file_id().expect("last"), FileId::new(FileId::MIN + 1));
}

#[test]
fn a_locked_catalog_is_an_error() {
    let fixture = Fixture::new();
    let other = Connection::open(fixture.path()).expect("a second connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("lock");
    let connection = Connection::open(fixture.path()).expect("a third connection");
    connection.busy_timeout(std::time::Duration::ZERO).expect("no waiting");
    let writer = Writer::start(connection, None).expect("a writer");
    let error = writer.write(|_| Ok(())).expect_err("locked").to_string();
    assert!(error.contains("locked"), "{error}");
    other.execute_batch("COMMIT").expect("unlock");
    writer.write(|_| Ok(())).expect("it goes on when the lock is gone");
}

#[test]
fn a_closed_catalog_refuses_writes_and_keeps_reading() {
    let fixture = Fixture::new();
    fixture.catalog.create_template(template("t"), 10).expect("template");
    fixture.catalog.close();
    let error = fixture.catalog.create_template(template("t"), 10).expect_err("closed").to_string();
    assert!(error.contains("closed"), "{error}");
    assert_eq!(fixture.catalog.templates::<RecordTemplate>().expect("templates").len(), 1);
}

/// The application of the tests beside the main one, and its classes: of each application one at the top and one below it.
const OTHER_APP: u64 = 1_500_000_001;
const PARENTS: [(i64, i64); 2] = [(2, 1), (4, 3)];

/// What the search must answer, written without any index.
fn search_by_hand(rows: &[(FinishedFile, String, i64)], query: &MediaQuery) -> (u64, Vec<u64>) {
    fn any<T>(wanted: &[T], is: impl Fn(&T) -> bool) -> bool {
        wanted.is_empty() || wanted.iter().any(is)
    }
    let fold = |text: &str| text.to_lowercase();
    let is_in = |class: i64, wanted: i64| class == wanted || PARENTS.contains(&(class, wanted));
    let mut hits: Vec<(usize, i64, u64)> = Vec::new();
    for (file, name, time) in rows {
        let (identity, name) = (&file.identity, fold(name));
        let expire = (identity.storage_time_s > 0).then(|| file.end.unix_micros() + identity.storage_time_s as i64 * 1_000_000);
        let within = |time: Option<i64>, after: Option<WallTime>, before: Option<WallTime>| {
            (after.is_none() && before.is_none())
                || time.is_some_and(|time| {
                    after.is_none_or(|after| after.unix_micros() <= time) && before.is_none_or(|before| time < before.unix_micros())
                })
        };
        let category = if file.summary.video.is_some() { "Video" } else { "Audio" };
        let matches = identity.vod_sub_app_id == query.sub_app_id
            && any(&query.file_ids, |id| *id == identity.file_id)
            && any(&query.names, |part| name.contains(&fold(part)))
            && any(&query.name_prefixes, |prefix| name.starts_with(&fold(prefix)))
            && query.descriptions.is_empty()
            && query.text.as_ref().is_none_or(|part| name.contains(&fold(part)))
            && any(&query.stream_ids, |stream| **stream == *identity.key.stream)
            && any(&query.media_types, |format| format == identity.format.name())
            && any(&query.categories, |wanted| wanted == category)
            && any(&query.class_ids, |class| is_in(identity.class_id, *class))
            && within(Some(*time), query.create_after, query.create_before)
            && within(expire, query.expire_after, query.expire_before);
        if matches {
            let rank = query.names.iter().chain(&query.text).map(|pattern| match name.strip_prefix(&fold(pattern)) {
                Some("") => 0,
                Some(_) => 1,
                None => 2,
            });
            // A pattern of the name filter that does not match at all ranks as a part: some other one matched.
            hits.push((rank.min().unwrap_or(2), *time, identity.file_id.get() - FileId::MIN));
        }
    }
    let by_relevance = !query.names.is_empty() || query.text.is_some();
    hits.sort_by_key(|(rank, time, _)| (if by_relevance { *rank } else { 0 }, if query.ascending && !by_relevance { *time } else { -*time }));
    let page = hits.iter().skip(query.offset as usize).take(query.limit as usize).map(|(_, _, id)| *id).collect();
    (hits.len() as u64, page)
}

fn texts(pattern: &'static str) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(pattern, 1..3)]
}

fn picks(values: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![3 => Just(Vec::new()), 1 => proptest::collection::vec(proptest::sample::select(values).prop_map(str::to_owned), 1..3)]
}

fn times() -> impl Strategy<Value = Option<WallTime>> {
    prop_oneof![2 => Just(None), 1 => (0..70_i64).prop_map(|seconds| Some(at(seconds)))]
}

prop_compose! {
    fn queries()(
        sub_app_id in prop_oneof![4 => Just(0_u64), 1 => Just(OTHER_APP)],
        file_ids in prop_oneof![5 => Just(Vec::new()), 1 => proptest::collection::vec((0..80_u64).prop_map(|n| FileId::new(FileId::MIN + n).expect("id")), 1..10)],
        names in texts("[abAж]{1,8}"),
        name_prefixes in texts("[abAж]{1,7}"),
        text in proptest::option::weighted(0.2, "[abж]{1,2}"),
        stream_ids in picks(&["s0", "s1", "none"]),
        media_types in picks(&["mp4", "aac"]),
        categories in picks(&["Video", "Audio", "Image"]),
        class_ids in prop_oneof![3 => Just(Vec::new()), 1 => Just(vec![0_i64]), 1 => Just(vec![1_i64]), 1 => Just(vec![-1, 4, 7])],
        create in (times(), times()),
        expire in (times(), times()),
        ascending in any::<bool>(),
        offset in 0..8_u64,
        limit in 0..40_u64,
    ) -> MediaQuery {
        MediaQuery {
            sub_app_id, file_ids, names, name_prefixes, text, stream_ids, media_types, categories, class_ids, ascending, offset, limit,
            create_after: create.0, create_before: create.1,
            // In steps of ten minutes: some ranges end at the full hour.
            expire_after: expire.0.map(|time| at(time.unix_seconds() * 600)), expire_before: expire.1.map(|time| at(time.unix_seconds() * 600)),
            ..MediaQuery::default()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn search_equals_a_search_by_hand(names in proptest::collection::vec("[abABжЖ]{0,12}", 1..70), queries in proptest::collection::vec(queries(), 40)) {
        let fixture = Fixture::new();
        let app = SubApp { name: "other".to_owned(), ..SubApp::default() };
        prop_assert_eq!(fixture.catalog.create_sub_app(app, 1, 0).expect("app"), OTHER_APP);
        for (child, parent) in PARENTS {
            let app = if parent == 1 { 0 } else { OTHER_APP };
            prop_assert_eq!(fixture.catalog.create_class(app, CLASS_TOP, "top".to_owned()).expect("class"), Ok(parent));
            prop_assert_eq!(fixture.catalog.create_class(app, parent, "below".to_owned()).expect("class"), Ok(child));
        }
        let mut rows = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let mut file = file(number as u64, if number % 3 == 0 { "s0" } else { "s1" }, if number % 4 == 0 { Format::Aac } else { Format::Mp4 });
            let is_other = number % 5 == 0;
            file.identity.vod_sub_app_id = if is_other { OTHER_APP } else { 0 };
            file.identity.class_id = if number % 2 == 0 { 0 } else if is_other { 4 } else { 2 };
            file.identity.storage_time_s = (number % 3) as u64 * 6_000;
            file.end = at(number as i64 / 2 * 600);
            if number % 4 == 0 {
                file.summary.video = None;
            }
            // Entered in an order of its own: the clock may go back.
            rows.push((file, name, (number as i64 * 37 % 71) * 1_000_000));
        }
        for (file, name, time) in &rows {
            fixture.catalog.enter_file(file.clone(), name.clone(), WallTime::from_unix_micros(*time)).expect("enter");
        }
        for query in queries {
            let (total, page) = search_by_hand(&rows, &query);
            let found = fixture.catalog.search(&query).expect("search");
            prop_assert_eq!((found.total, ids(&found)), (total, page), "{:?}", query);
            let distinct: HashSet<u64> = ids(&found).into_iter().collect();
            prop_assert_eq!(distinct.len(), found.rows.len());
        }
    }
}
