//! The catalog side over real sockets, and the answers of its actions as golden files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::actions::events::event_content;
use super::tests::{Running, code_of, enter, now};
use crate::domain::FinishedFile;
use crate::units::{FileId, Format};

const VOD: &str = "2018-07-17";
const FIRST: &str = "387702290000000001";
const SECOND: &str = "387702290000000002";
const APP: u64 = 1_500_000_001;
/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

impl Running {
    pub fn vod(&self, action: &str, body: Value) -> Value {
        let mut answer = self.json(action, VOD, &body);
        answer.as_object_mut().unwrap().remove("RequestId");
        answer
    }

    fn vod_code(&self, action: &str, body: Value) -> String {
        code_of(&self.vod(action, body))
    }

    fn tell_events(&self) {
        let base = self.context.public_base.clone();
        self.context.catalog.set_event_writer(Arc::new(move |event| event_content(event, &base, 1_300_000_001).to_string()));
    }
}

/// Compares with `tests/golden/api/<name>.json`; with `CAPSTAN_BLESS=1` in the environment writes it, to be reviewed as a diff.
pub fn golden(name: &str, answer: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/api").join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(answer).unwrap() + "\n";
    if std::env::var_os("CAPSTAN_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, expected, "{name}; CAPSTAN_BLESS=1 rewrites it");
}

#[test]
fn golden_answers() {
    let running = Running::start();
    running.tell_events();
    let switches = json!({"Mode": "PULL", "UploadMediaCompleteEventSwitch": "ON", "DeleteMediaCompleteEventSwitch": "ON"});
    golden("DescribeEventConfig.default", &running.vod("DescribeEventConfig", json!({})));
    golden("ModifyEventConfig", &running.vod("ModifyEventConfig", switches));
    golden("DescribeEventConfig", &running.vod("DescribeEventConfig", json!({})));
    let app = json!({"Name": "studio", "Description": "Студия", "Tags": [{"TagKey": "team", "TagValue": "a"}]});
    golden("CreateSubAppId", &running.vod("CreateSubAppId", app));
    golden("ModifySubAppIdInfo", &running.vod("ModifySubAppIdInfo", json!({"SubAppId": APP, "Description": "studio 2"})));
    golden("ModifySubAppIdStatus", &running.vod("ModifySubAppIdStatus", json!({"SubAppId": APP, "Status": "Off"})));
    let mut apps = running.vod("DescribeSubAppIds", json!({}));
    // The main application is as old as the catalog.
    assert_eq!(apps["SubAppIdInfoSet"][0]["CreateTime"].as_str().unwrap().len(), 20);
    apps["SubAppIdInfoSet"][0]["CreateTime"] = json!("");
    golden("DescribeSubAppIds", &apps);
    golden("CreateClass", &running.vod("CreateClass", json!({"ParentId": -1, "ClassName": "news"})));
    running.vod("CreateClass", json!({"ParentId": 1, "ClassName": "морозы"}));
    golden("ModifyClass", &running.vod("ModifyClass", json!({"ClassId": 2, "ClassName": "weather"})));
    golden("DescribeAllClass", &running.vod("DescribeAllClass", json!({})));

    enter(&running, Format::Mp4, FIRST, b"0123456789");
    enter(&running, Format::Hls, SECOND, b"#EXTM3U\n");
    let change = json!({
        "FileId": FIRST, "Name": "Evening", "Description": "d", "ClassId": 2, "ExpireTime": "2030-01-01T00:00:00Z", "CoverData": STANDARD.encode(GIF),
        "AddTags": ["live", "спорт"], "AddKeyFrameDescs": [{"TimeOffset": 7, "Content": "goal"}, {"TimeOffset": 1.5, "Content": "begin"}],
    });
    golden("ModifyMediaInfo", &running.vod("ModifyMediaInfo", change));
    golden("DescribeMediaInfos", &running.vod("DescribeMediaInfos", json!({"FileIds": [FIRST, "5"]})));
    golden("SearchMedia", &running.vod("SearchMedia", json!({"Tags": ["спорт"], "ClassIds": [1], "Filters": ["basicInfo", "keyFrameDescInfo"]})));
    golden("DeleteMedia.parts", &running.vod("DeleteMedia", json!({"FileId": FIRST, "DeleteParts": [{"Type": "OriginalFiles", "Definition": 0}]})));
    golden(
        "DescribeMediaInfos.original-deleted",
        &running.vod("DescribeMediaInfos", json!({"FileIds": [FIRST], "Filters": ["basicInfo", "transcodeInfo"]})),
    );
    golden("DeleteMedia", &running.vod("DeleteMedia", json!({"FileId": FIRST})));
    golden("DeleteClass", &running.vod("DeleteClass", json!({"ClassId": 2})));
    let events = running.vod("PullEvents", json!({}));
    golden("PullEvents", &events);
    let handles: Vec<&Value> = events["EventSet"].as_array().unwrap().iter().map(|event| &event["EventHandle"]).collect();
    assert_eq!(handles.len(), 4);
    golden("ConfirmEvents", &running.vod("ConfirmEvents", json!({"EventHandles": handles})));
}

#[test]
fn refusals() {
    let running = Running::start();
    enter(&running, Format::Mp4, FIRST, b"0123456789");
    let long = |chars: usize| "新".repeat(chars);
    let descs = |count: usize| (0..count).map(|number| json!({"TimeOffset": number, "Content": "x"})).collect::<Vec<_>>();
    let tags = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>();
    let big = STANDARD.encode(vec![0; (1 << 20) + 3]);
    for (action, body, code) in [
        ("ModifyMediaInfo", json!({}), "MissingParameter"),
        ("ModifyMediaInfo", json!({"FileId": "x"}), "ResourceNotFound.FileNotExist"),
        ("ModifyMediaInfo", json!({"FileId": SECOND}), "ResourceNotFound.FileNotExist"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "SubAppId": 7}), "InvalidParameterValue.SubAppId"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "Name": long(65)}), "InvalidParameterValue.Name"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "Name": long(64), "Description": long(128)}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "Description": long(129)}), "InvalidParameterValue.Description"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ClassId": 5}), "InvalidParameterValue"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ExpireTime": "2026-01-01T08:00:00Z"}), "InvalidParameterValue.ExpireTime"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ExpireTime": "soon"}), "InvalidParameterValue.ExpireTime"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ExpireTime": "9999-12-31T23:59:59Z"}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "CoverData": "***"}), "InvalidParameterValue.ImageDecodeError"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "CoverData": STANDARD.encode(&GIF[..GIF.len() - 1])}), "InvalidParameterValue.ImageDecodeError"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "CoverData": big}), "InvalidParameterValue.ImageDecodeError"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": tags(17)}), "LimitExceeded.TagCountReachMax"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": tags(16)}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": ["t1", "more"]}), "LimitExceeded.TagCountReachMax"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": ["more"], "DeleteTags": ["t1", "none"]}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": [long(33)]}), "InvalidParameterValue.TagTooLong"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": [""]}), "InvalidParameterValue"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": ["a"], "ClearTags": 1}), "InvalidParameterValue.AddTagsAndClearTagsConflict"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddTags": ["a"], "DeleteTags": ["a"]}), "InvalidParameterValue.AddTagsAndDeleteTagsConflict"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ClearTags": 2}), "InvalidParameterValue"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ClearTags": 1}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddKeyFrameDescs": descs(101)}), "LimitExceeded.KeyFrameDescCountReachMax"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddKeyFrameDescs": descs(100)}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddKeyFrameDescs": descs(100)}), "ok"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddKeyFrameDescs": [{"TimeOffset": -1, "Content": "x"}]}), "InvalidParameterValue"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "AddKeyFrameDescs": [{"TimeOffset": "x", "Content": "x"}]}), "InvalidParameter"),
        (
            "ModifyMediaInfo",
            json!({"FileId": FIRST, "AddKeyFrameDescs": [{"TimeOffset": 1, "Content": long(129)}]}),
            "InvalidParameterValue.KeyFrameDescContentTooLong",
        ),
        (
            "ModifyMediaInfo",
            json!({"FileId": FIRST, "AddKeyFrameDescs": descs(1), "ClearKeyFrameDescs": 1}),
            "InvalidParameterValue.AddKeyFrameDescsAndClearKeyFrameDescsConflict",
        ),
        (
            "ModifyMediaInfo",
            json!({"FileId": FIRST, "AddKeyFrameDescs": descs(1), "DeleteKeyFrameDescs": [0]}),
            "InvalidParameterValue.AddKeyFrameDescsAndDeleteKeyFrameDescsConflict",
        ),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ClearSubtitles": 1}), "UnsupportedOperation"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "DeleteSubtitleIds": ["x"]}), "UnsupportedOperation"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "Nope": 1}), "UnknownParameter"),
        ("DeleteMedia", json!({"FileId": SECOND}), "ResourceNotFound"),
        ("DeleteMedia", json!({"FileId": "x"}), "ResourceNotFound"),
        ("DeleteMedia", json!({"FileId": FIRST, "DeleteParts": [{"Type": "Nope"}]}), "InvalidParameterValue"),
        ("SearchMedia", json!({"SubAppId": 7}), "InvalidParameterValue.SubAppId"),
        ("DescribeMediaInfos", json!({"SubAppId": 7, "FileIds": ["x"]}), "InvalidParameterValue.SubAppId"),
        ("CreateSubAppId", json!({"Name": ""}), "InvalidParameterValue.Name"),
        ("CreateSubAppId", json!({"Name": long(41)}), "InvalidParameterValue.Name"),
        ("CreateSubAppId", json!({"Name": "n", "Description": long(301)}), "InvalidParameterValue.Description"),
        ("CreateSubAppId", json!({"Name": "n", "Mode": "path"}), "UnsupportedOperation"),
        ("CreateSubAppId", json!({"Name": long(40), "Description": long(300)}), "ok"),
        ("CreateSubAppId", json!({"Name": "b"}), "ok"),
        ("CreateSubAppId", json!({"Name": "c"}), "ok"),
        ("CreateSubAppId", json!({"Name": "d"}), "LimitExceeded"),
        ("DescribeSubAppIds", json!({"Limit": 201}), "InvalidParameterValue"),
        ("ModifySubAppIdInfo", json!({"SubAppId": 7, "Name": "x"}), "InvalidParameterValue.SubAppId"),
        ("ModifySubAppIdInfo", json!({"SubAppId": 1_300_000_001, "Name": "x"}), "FailedOperation"),
        ("ModifySubAppIdInfo", json!({"SubAppId": 1_300_000_001, "Description": "x"}), "ok"),
        ("ModifySubAppIdStatus", json!({"SubAppId": APP, "Status": "Gone"}), "InvalidParameterValue"),
        ("ModifySubAppIdStatus", json!({"SubAppId": 1_300_000_001, "Status": "Destroyed"}), "FailedOperation"),
        ("ModifySubAppIdStatus", json!({"SubAppId": APP, "Status": "Destroyed"}), "ok"),
        ("ModifySubAppIdStatus", json!({"SubAppId": APP, "Status": "On"}), "InvalidParameterValue.SubAppId"),
        ("SearchMedia", json!({"SubAppId": APP}), "InvalidParameterValue.SubAppId"),
        ("CreateClass", json!({"ParentId": -1, "ClassName": ""}), "InvalidParameterValue.ClassName"),
        ("CreateClass", json!({"ParentId": -1, "ClassName": long(65)}), "InvalidParameterValue.ClassName"),
        ("CreateClass", json!({"ParentId": 9, "ClassName": "x"}), "FailedOperation.ParentIdNoFound"),
        ("CreateClass", json!({"ParentId": -1, "ClassName": "x"}), "ok"),
        ("CreateClass", json!({"ParentId": -1, "ClassName": "x"}), "FailedOperation.ClassNameDuplicate"),
        ("CreateClass", json!({"ParentId": -1, "ClassName": "x", "SubAppId": 7}), "FailedOperation.InvalidVodUser"),
        ("ModifyClass", json!({"ClassId": 9, "ClassName": "y"}), "FailedOperation.ClassNoFound"),
        ("DeleteClass", json!({"ClassId": 9}), "InvalidParameterValue.ClassId"),
        ("ModifyMediaInfo", json!({"FileId": FIRST, "ClassId": 1}), "ok"),
        ("DeleteClass", json!({"ClassId": 1}), "UnsupportedOperation.ClassNotEmpty"),
        ("ConfirmEvents", json!({"EventHandles": []}), "InvalidParameterValue"),
        ("ConfirmEvents", json!({"EventHandles": vec!["1-1"; 17]}), "InvalidParameterValue"),
        ("ConfirmEvents", json!({"EventHandles": ["1-1"]}), "InvalidParameterValue"),
        ("ModifyEventConfig", json!({"Mode": "push"}), "InvalidParameter"),
        ("ModifyEventConfig", json!({"NotificationUrl": "x"}), "InvalidParameter"),
        ("ModifyEventConfig", json!({"UploadMediaCompleteEventSwitch": "on"}), "InvalidParameter"),
        ("ModifyEventConfig", json!({"SignKey": "x".repeat(33)}), "InvalidParameter"),
        ("ModifyEventConfig", json!({"SignKey": "a-b"}), "InvalidParameter"),
        ("DescribeEventConfig", json!({"SubAppId": 7}), "InvalidParameterValue.SubAppId"),
        ("PullEvents", json!({"SubAppId": 7}), "InvalidParameterValue.SubAppId"),
    ] {
        let shown = body.to_string();
        assert_eq!(running.vod_code(action, body), code, "{action} {shown:.200}");
    }
}

#[test]
fn covers_and_switched_off_applications() {
    let running = Running::start();
    enter(&running, Format::Mp4, FIRST, b"0123456789");
    let cover = format!("/vod/1300000001/{FIRST}/cover.gif");
    assert_eq!(running.get(&cover).status, 404);
    let changed = running.vod("ModifyMediaInfo", json!({"FileId": FIRST, "CoverData": STANDARD.encode(GIF)}));
    assert_eq!(changed["CoverUrl"], format!("http://127.0.0.1:8080{cover}"));
    let reply = running.get(&cover);
    assert_eq!((reply.status, reply.header("Content-Type").as_deref(), &reply.body[..]), (200, Some("image/gif"), GIF));
    assert_eq!(running.get(&cover.replace("gif", "png")).status, 404);

    let app = running.vod("CreateSubAppId", json!({"Name": "n"}))["SubAppId"].as_u64().unwrap();
    let mut file: FinishedFile = running.context.catalog.files(0, &[FileId::parse(FIRST).unwrap()]).unwrap().into_values().next().unwrap().file;
    file.identity.file_id = FileId::parse(SECOND).unwrap();
    file.identity.vod_sub_app_id = app;
    running.context.catalog.enter_file(file, "other".to_owned(), now()).unwrap();
    let address = format!("/vod/1300000001/{SECOND}/x.mp4");
    assert_eq!(running.get(&address).status, 200);
    assert_eq!(running.vod("SearchMedia", json!({}))["TotalCount"], 1);
    assert_eq!(running.vod("SearchMedia", json!({"SubAppId": app}))["MediaInfoSet"][0]["FileId"], SECOND);
    running.vod("ModifySubAppIdStatus", json!({"SubAppId": app, "Status": "Off"}));
    assert_eq!(running.get(&address).status, 403);
    assert_eq!(running.vod_code("DeleteMedia", json!({"FileId": SECOND})), "ResourceNotFound", "a wall");
    assert_eq!(running.vod_code("ModifySubAppIdStatus", json!({"SubAppId": app, "Status": "Destroyed"})), "FailedOperation");
    assert_eq!(running.vod_code("DeleteMedia", json!({"FileId": SECOND, "SubAppId": app})), "ok");
    assert_eq!(running.get(&address).status, 404);
    // A template may name an application that exists.
    assert_eq!(running.code(&format!("CreateLiveRecordTemplate&TemplateName=t&Mp4Param.VodSubAppId={app}")), "ok");
    assert_eq!(running.code("CreateLiveRecordTemplate&TemplateName=t&Mp4Param.VodSubAppId=7"), "InvalidParameterValue");
}

/// More calls wait than there are workers, and others are answered meanwhile; an event ends all waits.
#[test]
fn waiting_calls_hold_no_worker() {
    let running = Running::start();
    running.tell_events();
    running.vod("ModifyEventConfig", json!({"Mode": "PULL", "DeleteMediaCompleteEventSwitch": "ON"}));
    enter(&running, Format::Mp4, FIRST, b"x");
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // Of 16 connections 4 may wait; there are 2 workers.
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| running.vod("PullEvents", json!({})))).collect();
        while running.server.as_ref().unwrap().calls_waiting() < 4 {
            assert!(begun.elapsed() < Duration::from_secs(20), "four calls are to wait");
            std::thread::yield_now();
        }
        assert_eq!(running.vod("PullEvents", json!({}))["EventSet"], json!([]), "a fifth does not wait");
        assert_eq!(running.vod_code("DeleteMedia", json!({"FileId": FIRST})), "ok");
        let pulled: usize = waiting.into_iter().map(|call| call.join().unwrap()["EventSet"].as_array().unwrap().len()).sum();
        assert_eq!(pulled, 1, "one of them has it");
    });
}

#[test]
fn a_stop_ends_the_waiting() {
    let mut running = Running::start();
    let server = running.server.take().unwrap();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| running.vod("PullEvents", json!({})));
        while server.calls_waiting() == 0 {
            std::thread::yield_now();
        }
        let begun = Instant::now();
        server.stop();
        assert_eq!(call.join().unwrap()["EventSet"], json!([]));
        assert!(begun.elapsed() < Duration::from_secs(4), "it did not wait to the end, which is after five");
    });
}
