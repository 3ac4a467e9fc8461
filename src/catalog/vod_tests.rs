//! The catalog side as its users see it: applications, classes, changing, deleting and expiring files, events.

use std::time::Duration;

use super::tests::{Fixture, at, file, ids};
use super::*;
use crate::domain::vod::{AppStatus, CLASS_OTHER, CLASS_TOP, DeletePart, EventMode, KeyFrameDesc, PartKind, SubApp};

fn app(name: &str) -> SubApp {
    SubApp { name: name.to_owned(), ..SubApp::default() }
}

fn found(fixture: &Fixture, query: MediaQuery) -> Vec<u64> {
    ids(&fixture.catalog.search(&MediaQuery { limit: 100, ..query }).expect("search"))
}

fn id_of(number: u64) -> FileId {
    file(number, "cam", Format::Mp4).identity.file_id
}

/// Enters files 1..=count, all of one stream.
fn enter(fixture: &Fixture, count: u64) {
    for number in 1..=count {
        fixture.catalog.enter_file(file(number, "cam", Format::Mp4), format!("name {number}"), at(1000 + number as i64)).expect("enter");
    }
}

/// Events as plain words.
fn tell_events(fixture: &Fixture) {
    fixture.catalog.set_event_writer(Arc::new(|event| match event {
        CatalogEvent::NewFileUpload(row) => format!("new {}", row.file.identity.file_id.get() - FileId::MIN),
        CatalogEvent::FileDeleted { file_id, parts } => format!("deleted {} {}", file_id.get() - FileId::MIN, parts.len()),
        CatalogEvent::EditMediaComplete(task) => format!("edited {}", task.id),
        CatalogEvent::ProcedureStateChanged { task, .. } => format!("flow {}", task.id),
        CatalogEvent::PersistenceComplete { file_id, source } => format!("kept {} {source}", file_id.get() - FileId::MIN),
    }));
    let change = |config: &mut crate::domain::vod::EventConfig| {
        config.mode = EventMode::Pull;
        config.upload_complete = true;
        config.delete_complete = true;
    };
    fixture.catalog.modify_event_config(0, change).expect("configured");
}

fn pulled(fixture: &Fixture, seconds: i64) -> Vec<PulledEvent> {
    fixture.catalog.pull_events(0, at(seconds)).expect("events")
}

fn bodies(events: &[PulledEvent]) -> Vec<&str> {
    events.iter().map(|event| event.body.as_str()).collect()
}

#[test]
fn room_is_made_on_the_disk_that_needs_it() {
    let fixture = Fixture::new();
    for number in 1..=6 {
        // A name that looks like the field must not be taken for it.
        let mut one = file(number, "\"folder\":\"d00000000/x", Format::Mp4);
        one.folder = format!("{}media/2026-01-01/{}", if number % 2 == 0 { "d0123abcd/" } else { "" }, one.identity.file_id);
        one.size_bytes = 7;
        one.identity.storage_time_s = if number < 4 { 1_000 - number } else { 0 };
        fixture.catalog.enter_file(one, format!("name {number}"), at(1000 + number as i64)).expect("enter");
    }
    let left = || found(&fixture, MediaQuery { ascending: true, ..MediaQuery::default() });
    let evict = |label, expiring, count| fixture.catalog.evict(label, expiring, u64::MAX, count, at(5_000)).expect("evicted");
    assert_eq!((evict(Some("d0123abcd"), false, 2), left()), (2, vec![1, 3, 5, 6]));
    assert!(fixture.catalog.is_removing(Some("d0123abcd")).expect("read") && !fixture.catalog.is_removing(Some("")).expect("read"));
    assert!(fixture.catalog.is_removing(None).expect("read"));
    assert_eq!((evict(Some(""), true, 1), left()), (1, vec![1, 5, 6]), "the third expires before the first");
    assert_eq!((evict(Some("d0123abcd"), true, 9), left()), (0, vec![1, 5, 6]), "it does not expire");
    assert_eq!((evict(None, false, 2), left()), (2, vec![6]));
    assert_eq!(evict(Some("d9999abcd"), false, 2), 0);
}

#[test]
fn applications_are_made_changed_and_destroyed() {
    let mut fixture = Fixture::new();
    let create = |fixture: &Fixture, limit| fixture.catalog.create_sub_app(app("a"), limit, 1_500_000_002);
    assert_eq!(create(&fixture, 2).expect("first"), 1_500_000_001);
    assert_eq!(create(&fixture, 2).expect("second"), 1_500_000_003, "the reserved one is left out");
    assert!(matches!(create(&fixture, 2), Err(CatalogError::Limit { limit: 2 })));
    fixture.reopen();
    let catalog = &fixture.catalog;
    let listed: Vec<u64> = catalog.sub_apps().expect("list").iter().map(|app| app.id).collect();
    assert_eq!(listed, [0, 1_500_000_001, 1_500_000_003]);

    let mut inside = file(1, "cam", Format::Mp4);
    inside.identity.vod_sub_app_id = 1_500_000_001;
    assert_eq!(catalog.enter_files(vec![(inside.clone(), "n".to_owned())], at(1)).expect("enter"), []);
    assert!(catalog.files(0, &[id_of(1)]).expect("files").is_empty(), "a wall");
    let status = |id, status| catalog.modify_sub_app(id, move |app| app.status = status);
    status(1_500_000_001, AppStatus::Off).expect("off");
    assert!(matches!(catalog.playable(id_of(1)), Ok(Some((_, false)))));
    assert!(matches!(status(1_500_000_001, AppStatus::Destroyed), Err(CatalogError::InUse)));
    catalog.delete_media(1_500_000_001, id_of(1), Vec::new(), at(2)).expect("deleted");
    status(1_500_000_001, AppStatus::Destroyed).expect("destroyed");
    assert!(matches!(catalog.sub_app(1_500_000_001), Err(CatalogError::NotFound)));
    assert!(matches!(status(1_500_000_001, AppStatus::On), Err(CatalogError::NotFound)), "not to be brought back");

    // What is recorded for it from now on is not lost.
    inside.identity.file_id = id_of(2);
    let fell_back = catalog.enter_files(vec![(inside, "n".to_owned())], at(3)).expect("enter");
    assert_eq!(fell_back, [FellBack { file_id: id_of(2), gone: Gone::Application(1_500_000_001) }]);
    assert_eq!(found(&fixture, MediaQuery::default()), [2]);
    assert_eq!(create(&fixture, 2).expect("room again"), 1_500_000_004);
}

#[test]
fn classes_are_a_small_forest() {
    let fixture = Fixture::new();
    let catalog = &fixture.catalog;
    let create = |parent, name: &str| catalog.create_class(0, parent, name.to_owned()).expect("class");
    let top = create(CLASS_TOP, "news").expect("top");
    assert_eq!((top, create(CLASS_TOP, "news")), (1, Err(ClassRefusal::Duplicate)));
    assert_eq!((create(0, "x"), create(77, "x")), (Err(ClassRefusal::NoParent), Err(ClassRefusal::NoParent)));
    let mut parent = top;
    for name in ["a", "b", "c"] {
        parent = create(parent, name).expect("below");
    }
    assert_eq!(create(parent, "d"), Err(ClassRefusal::Level));
    let classes = catalog.classes(0).expect("list");
    assert_eq!(
        classes.iter().map(|class| (class.id, class.parent_id, class.level)).collect::<Vec<_>>(),
        [(1, -1, 0), (2, 1, 1), (3, 2, 2), (4, 3, 3)]
    );
    assert_eq!((&classes[0].children, &classes[3].children), (&vec![2], &Vec::new()));
    assert!(catalog.classes(5).expect("list").is_empty());

    let rename = |app, id, name: &str| catalog.rename_class(app, id, name.to_owned()).expect("rename");
    assert_eq!((rename(0, 9, "x"), rename(5, 1, "x")), (Err(ClassRefusal::NotFound), Err(ClassRefusal::NotFound)));
    let beside = create(1, "z").expect("beside");
    assert_eq!((rename(0, beside, "a"), rename(0, beside, "z"), rename(0, beside, "y")), (Err(ClassRefusal::Duplicate), Ok(()), Ok(())));

    let mut inside = file(1, "cam", Format::Mp4);
    inside.identity.class_id = 4;
    let mut astray = file(2, "cam", Format::Mp4);
    astray.identity.class_id = 99;
    let fell_back = catalog.enter_files(vec![(inside, "in".to_owned()), (astray, "out".to_owned())], at(1)).expect("enter");
    assert_eq!(fell_back, [FellBack { file_id: id_of(2), gone: Gone::Class(99) }]);
    let rows = catalog.files(0, &[id_of(1), id_of(2)]).expect("rows");
    assert_eq!(rows[&id_of(1)].class, ClassOfFile { id: 4, name: "c".to_owned(), path: "news - a - b - c".to_owned() });
    assert_eq!(rows[&id_of(2)].class, ClassOfFile::default());
    for (class, expected) in [(1, vec![1]), (4, vec![1]), (beside, vec![]), (0, vec![2]), (99, vec![])] {
        assert_eq!(found(&fixture, MediaQuery { class_ids: vec![class], ..MediaQuery::default() }), expected, "class {class}");
    }

    let delete = |id| catalog.delete_class(0, id).expect("delete");
    assert_eq!(
        (delete(1), delete(4), delete(99), delete(0)),
        (Err(ClassRefusal::NotEmpty), Err(ClassRefusal::NotEmpty), Err(ClassRefusal::NotFound), Err(ClassRefusal::NotFound))
    );
    let moved = catalog.modify_media(0, id_of(1), at(2), "no class", |media| {
        media.class_id = CLASS_OTHER;
        Ok(())
    });
    assert_eq!(moved.expect("modify"), Ok(()));
    assert_eq!((delete(4), delete(3)), (Ok(()), Ok(())));
    assert_eq!(create(2, "b"), Ok(6), "ids are not used again");
}

#[test]
fn a_class_has_at_most_500_children() {
    let fixture = Fixture::new();
    let create = |number: i64| fixture.catalog.create_class(0, CLASS_TOP, format!("c{number}")).expect("class");
    assert!((0..500).all(|number| create(number).is_ok()));
    assert_eq!(create(500), Err(ClassRefusal::Children));
}

#[test]
fn a_changed_file_is_found_by_what_it_is_now() {
    let mut fixture = Fixture::new();
    enter(&fixture, 2);
    let class = fixture.catalog.create_class(0, CLASS_TOP, "news".to_owned()).expect("class").expect("class");
    let change = move |media: &mut MediaChange| {
        media.name = "Über alles".to_owned();
        media.description = "описание".to_owned();
        media.class_id = class;
        media.expire_time = Some(at(9_000_000));
        media.tags = vec!["live".to_owned(), "спорт".to_owned()];
        media.extras.key_frame_descs = vec![KeyFrameDesc { time_offset_s: 1.5, content: "goal".to_owned() }];
        media.extras.cover = Some("png".to_owned());
        Ok::<_, &str>(())
    };
    assert_eq!(fixture.catalog.modify_media(0, id_of(1), at(5000), "no class", change).expect("modify"), Ok(()));
    fixture.reopen();
    let row = fixture.catalog.files(0, &[id_of(1)]).expect("files").remove(&id_of(1)).expect("the file");
    assert_eq!((row.create_time, row.update_time, row.expire_time), (at(1001), at(5000), Some(at(9_000_000))));
    assert_eq!((row.tags.as_slice(), row.extras.cover.as_deref()), (["live".to_owned(), "спорт".to_owned()].as_slice(), Some("png")));
    let texts = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let all = MediaQuery::default;
    for (query, expected) in [
        (MediaQuery { names: texts(&["name"]), ..all() }, vec![2]),
        (MediaQuery { names: texts(&["BER ALL"]), ..all() }, vec![1]),
        (MediaQuery { descriptions: texts(&["ОПИС"]), ..all() }, vec![1]),
        (MediaQuery { text: Some("описание".to_owned()), ..all() }, vec![1]),
        (MediaQuery { class_ids: vec![class], ..all() }, vec![1]),
        (MediaQuery { class_ids: vec![0], ..all() }, vec![2]),
        (MediaQuery { tags: texts(&["спорт"]), ..all() }, vec![1]),
        (MediaQuery { tags: texts(&["none", "live"]), ..all() }, vec![1]),
        (MediaQuery { tags: texts(&["Live"]), ..all() }, vec![]),
        (MediaQuery { tags: texts(&["live"]), file_ids: vec![id_of(1), id_of(2)], ..all() }, vec![1]),
        (MediaQuery { class_ids: vec![class], file_ids: vec![id_of(1), id_of(2)], ..all() }, vec![1]),
        (MediaQuery { expire_before: Some(at(9_000_001)), ..all() }, vec![1]),
        (MediaQuery { expire_before: Some(at(9_000_000)), ..all() }, vec![]),
        (MediaQuery { expire_after: Some(at(5)), expire_before: Some(at(5)), ..all() }, vec![]),
    ] {
        assert_eq!(found(&fixture, query.clone()), expected, "{query:?}");
    }

    // A refusal and a class that does not exist change nothing.
    let refused = fixture.catalog.modify_media(0, id_of(2), at(5000), "no class", |media| {
        media.name = "gone".to_owned();
        Err("refused")
    });
    assert_eq!(refused.expect("modify"), Err("refused"));
    let no_class = fixture.catalog.modify_media(0, id_of(2), at(5000), "no class", |media| {
        media.class_id = 99;
        Ok(())
    });
    assert_eq!(no_class.expect("modify"), Err("no class"));
    assert_eq!(found(&fixture, MediaQuery { names: texts(&["name 2"]), ..all() }), [2]);
    assert!(matches!(fixture.catalog.modify_media(0, id_of(3), at(1), (), |_| Ok(())), Err(CatalogError::NotFound)));
    assert!(matches!(fixture.catalog.modify_media(5, id_of(2), at(1), (), |_| Ok(())), Err(CatalogError::NotFound)));
}

#[test]
fn deleted_files_leave_a_removal_and_never_come_back() {
    let mut fixture = Fixture::new();
    enter(&fixture, 3);
    assert!(matches!(fixture.catalog.delete_media(5, id_of(3), Vec::new(), at(1)), Err(CatalogError::NotFound)));
    fixture.catalog.delete_media(0, id_of(3), Vec::new(), at(2000)).expect("deleted");
    assert!(matches!(fixture.catalog.delete_media(0, id_of(3), Vec::new(), at(2000)), Err(CatalogError::NotFound)));
    assert_eq!(found(&fixture, MediaQuery::default()), [2, 1]);
    assert_eq!(found(&fixture, MediaQuery { names: vec!["name".to_owned()], ..MediaQuery::default() }), [2, 1]);
    assert!(fixture.catalog.files(0, &[id_of(3)]).expect("files").is_empty());
    assert!(fixture.catalog.playable(id_of(3)).expect("playable").is_none());
    // Killed here: the bytes are still to be removed, the id is used up, and an adopted note enters nothing.
    fixture.reopen();
    assert_eq!(fixture.catalog.last_file_id().expect("last"), Some(id_of(3)));
    let left = fixture.catalog.removals(0, 10).expect("removals");
    let [(number, removal)] = left.as_slice() else { panic!("one removal: {left:?}") };
    assert_eq!((removal.file_id, removal.folder.as_str(), removal.whole), (id_of(3), "media/2026-01-01/3", true));
    fixture.catalog.enter_file(file(3, "cam", Format::Mp4), "again".to_owned(), at(2001)).expect("no error");
    assert_eq!(found(&fixture, MediaQuery::default()), [2, 1]);
    fixture.catalog.removed(*number, at(2002)).expect("ticked off");
    assert!(fixture.catalog.removals(0, 10).expect("removals").is_empty());
    fixture.catalog.enter_file(file(3, "cam", Format::Mp4), "again".to_owned(), at(2003)).expect("no error");
    assert_eq!(found(&fixture, MediaQuery::default()), [2, 1], "still remembered");

    // The original alone: the entry stays.
    let original = vec![DeletePart { kind: PartKind::OriginalFiles, definition: 0 }];
    for _ in 0..2 {
        fixture.catalog.delete_media(0, id_of(1), original.clone(), at(3000)).expect("deleted");
    }
    fixture.catalog.delete_media(0, id_of(2), vec![DeletePart { kind: PartKind::TranscodeFiles, definition: 0 }], at(3000)).expect("nothing to do");
    let left: Vec<_> = fixture.catalog.removals(0, 10).expect("removals").into_iter().map(|(_, removal)| (removal.file_id, removal.whole)).collect();
    assert_eq!(left, [(id_of(1), false)]);
    let rows = fixture.catalog.files(0, &[id_of(1), id_of(2)]).expect("files");
    assert_eq!((rows[&id_of(1)].extras.original_deleted, rows[&id_of(2)].extras.original_deleted), (true, false));
}

#[test]
fn files_expire_at_their_time_in_every_application() {
    let fixture = Fixture::new();
    let other = fixture.catalog.create_sub_app(app("other"), 5, 0).expect("app");
    for number in 1..=6 {
        let mut file = file(number, "cam", Format::Mp4);
        file.identity.storage_time_s = if number == 6 { 0 } else { number * 100 };
        file.identity.vod_sub_app_id = if number % 2 == 0 { other } else { 0 };
        fixture.catalog.enter_file(file, "n".to_owned(), at(210)).expect("enter");
    }
    // They end at 200 s.
    assert_eq!(fixture.catalog.expire(at(299), 10).expect("expire"), 0);
    assert_eq!(fixture.catalog.expire(at(300), 10).expect("expire"), 1);
    assert_eq!(fixture.catalog.expire(at(600), 2).expect("expire"), 2, "no more than asked for");
    assert_eq!(fixture.catalog.expire(at(600), 2).expect("expire"), 1);
    assert_eq!(
        (found(&fixture, MediaQuery::default()), found(&fixture, MediaQuery { sub_app_id: other, ..MediaQuery::default() })),
        (vec![5], vec![6])
    );
    assert_eq!(fixture.catalog.expire(at(1_000_000), 10).expect("expire"), 1);
    assert_eq!(fixture.catalog.removals(0, 10).expect("removals").len(), 5);
}

#[test]
fn events_come_until_they_are_confirmed() {
    let mut fixture = Fixture::new();
    enter(&fixture, 1);
    tell_events(&fixture);
    assert!(pulled(&fixture, 1001).is_empty(), "nobody wanted to know then");
    enter(&fixture, 20);
    fixture.reopen();
    tell_events(&fixture);
    fixture.catalog.delete_media(0, id_of(7), Vec::new(), at(1050)).expect("deleted");

    let first = pulled(&fixture, 1100);
    assert_eq!(first.len(), EVENTS_PER_PULL);
    assert_eq!((bodies(&first)[0], bodies(&first)[15]), ("new 2", "new 17"));
    let second = pulled(&fixture, 1110);
    assert_eq!(bodies(&second), ["new 18", "new 19", "new 20", "deleted 7 0"]);
    assert!(pulled(&fixture, 1120).is_empty());
    let handles = |events: &[PulledEvent]| events.iter().map(|event| event.handle.clone()).collect::<Vec<_>>();
    // One handle that is none, and nothing is confirmed.
    let mut with_one_wrong = handles(&first);
    with_one_wrong[9] = "1-1".to_owned();
    for wrong in [with_one_wrong, vec!["".to_owned()], vec!["zz-1".to_owned()]] {
        assert!(matches!(fixture.catalog.confirm_events(0, &wrong, at(1120)), Err(CatalogError::NotFound)));
    }
    assert!(matches!(fixture.catalog.confirm_events(5, &handles(&first), at(1120)), Err(CatalogError::NotFound)), "of another application");
    let mut twice = handles(&first);
    twice.push(twice[0].clone());
    fixture.catalog.confirm_events(0, &twice, at(1130)).expect("confirmed at the last moment");
    assert!(matches!(fixture.catalog.confirm_events(0, &handles(&first), at(1130)), Err(CatalogError::NotFound)));
    // What was not confirmed comes again after 30 s, with other handles.
    assert!(pulled(&fixture, 1139).is_empty());
    let again = pulled(&fixture, 1141);
    assert_eq!(bodies(&again), bodies(&second));
    assert!(matches!(fixture.catalog.confirm_events(0, &handles(&second), at(1141)), Err(CatalogError::NotFound)), "late");
    fixture.catalog.confirm_events(0, &handles(&again), at(1142)).expect("confirmed");
    assert!(pulled(&fixture, 9_999).is_empty());
}

#[test]
fn events_are_kept_for_four_days() {
    let fixture = Fixture::new();
    tell_events(&fixture);
    enter(&fixture, 2);
    let four_days = 4 * 86_400;
    assert_eq!(bodies(&pulled(&fixture, 1001 + four_days)), ["new 2"]);
    assert_eq!(fixture.catalog.purge_events(at(1001 + four_days)).expect("purge"), 1);
    assert!(pulled(&fixture, 1003 + four_days).is_empty());
    assert_eq!(fixture.catalog.purge_events(at(1003 + four_days)).expect("purge"), 1);
}

#[test]
fn a_wait_for_events_ends_with_one() {
    let fixture = Fixture::new();
    tell_events(&fixture);
    let seen = fixture.catalog.events_seen();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.catalog.wait_for_event(seen, Duration::from_secs(60)));
        enter(&fixture, 1);
        assert!(waiting.join().expect("no panic"));
    });
    fixture.catalog.stop_waiting_for_events();
    assert!(!fixture.catalog.wait_for_event(fixture.catalog.events_seen(), Duration::from_secs(60)));
}

#[test]
fn the_index_of_an_older_catalog_is_made_anew() {
    let mut fixture = Fixture::new();
    enter(&fixture, 30);
    fixture.catalog.close();
    let connection = rusqlite::Connection::open(fixture.path()).expect("open");
    connection
        .execute_batch("UPDATE high_water SET value = 1 WHERE name = 'index_version'; INSERT INTO media_index (media_index) VALUES ('delete-all')")
        .expect("damage");
    drop(connection);
    fixture.reopen();
    assert_eq!(found(&fixture, MediaQuery { names: vec!["name 1".to_owned()], ..MediaQuery::default() }).len(), 11);
    assert_eq!(found(&fixture, MediaQuery { stream_ids: vec!["cam".to_owned()], ..MediaQuery::default() }).len(), 30);
}
