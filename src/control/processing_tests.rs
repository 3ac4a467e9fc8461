//! Task flows over real sockets, with results as an encoder would bring them; their answers as golden files.

use std::sync::Arc;

use serde_json::{Value, json};

use super::actions::events::event_content;
use super::tests::{Running, code_of, enter, now};
use super::vod_tests::golden;
use crate::domain::content_key::{ContentKey, NONCE_BYTES};
use crate::domain::flow::{
    AdaptiveSet, CoverPicture, FailKind, Rendition, RenditionAudio, RenditionVideo, ResultFiles, SampleSet, SnapshotSet, SpriteSet, SubStream,
    SubtaskError, SubtaskOutput,
};
use crate::units::{FileId, Format};

const FILE: &str = "387702290000000001";

fn files(entry: &str, prefix: &str) -> ResultFiles {
    ResultFiles { entry: entry.to_owned(), prefix: prefix.to_owned() }
}

/// Results of one of each kind, in the order of the subtasks.
fn outputs() -> Vec<SubtaskOutput> {
    let video = RenditionVideo { codec: "h264".to_owned(), codec_tag: "avc1".to_owned(), width: 640, height: 360, fps: 25, bitrate: 400_000 };
    let audio = RenditionAudio { codec: "aac".to_owned(), sample_rate_hz: 44_100, bitrate: 64_000 };
    vec![
        SubtaskOutput::CoverBySnapshot(CoverPicture { extension: "png".to_owned() }),
        SubtaskOutput::SnapshotByTimeOffset(SnapshotSet {
            definition: 10,
            files: files("", "snap.10.a."),
            pictures: vec![(1_500, "snap.10.a.1.jpg".to_owned())],
        }),
        SubtaskOutput::SampleSnapshot(SampleSet {
            definition: 10,
            files: files("", "sample.10.a."),
            sample_type: "Percent".to_owned(),
            interval: 10,
            extension: "jpg".to_owned(),
            count: 2,
        }),
        SubtaskOutput::ImageSprites(SpriteSet {
            definition: 10,
            files: files("sprite.10.vtt", "sprite.10.a."),
            width: 142,
            height: 80,
            count: 101,
            extension: "jpg".to_owned(),
            sheets: 2,
        }),
        SubtaskOutput::Transcode(Rendition {
            definition: 100_010,
            files: files("v.f100010.mp4", ""),
            container: "mp4".to_owned(),
            size_bytes: 580_000,
            duration_ms: 10_000,
            video: Some(video),
            audio: Some(audio),
        }),
        SubtaskOutput::AdaptiveDynamicStreaming(AdaptiveSet {
            definition: 12,
            files: files("adp.12.m3u8", "adp.12.a."),
            drm_type: "SimpleAES".to_owned(),
            size_bytes: 600_000,
            streams: vec![SubStream { has_video: true, width: 426, height: 240, size_bytes: 500_000 }],
        }),
    ]
}

fn everything() -> Value {
    json!({
        "TranscodeTaskSet": [{"Definition": 100010}],
        "AdaptiveDynamicStreamingTaskSet": [{"Definition": 12}],
        "SnapshotByTimeOffsetTaskSet": [{"Definition": 10, "ExtTimeOffsetSet": ["1.5s"]}],
        "SampleSnapshotTaskSet": [{"Definition": 10}],
        "ImageSpriteTaskSet": [{"Definition": 10}],
        "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Time", "PositionValue": 0}],
    })
}

/// Ids of tasks are of chance.
fn without_id(mut answer: Value, id: &str) -> Value {
    let text = answer.to_string().replace(id, "TASK");
    answer = serde_json::from_str(&text).unwrap();
    answer
}

#[test]
fn golden_answers() {
    let running = Running::start();
    let (catalog, base) = (&running.context.catalog, running.context.public_base.clone());
    catalog.set_event_writer(Arc::new(move |event| event_content(event, &base, 1_300_000_001).to_string()));
    running.vod("ModifyEventConfig", json!({"Mode": "PULL"}));
    enter(&running, Format::Mp4, FILE, b"0123456789");
    let order = json!({"FileId": FILE, "MediaProcessTask": everything(), "TasksPriority": 5, "SessionId": "s", "SessionContext": "c"});
    let task = running.vod("ProcessMedia", order)["TaskId"].as_str().unwrap().to_owned();
    golden("DescribeTaskDetail.waiting", &without_id(running.vod("DescribeTaskDetail", json!({"TaskId": task})), &task));
    for (index, output) in outputs().into_iter().enumerate() {
        catalog.begin_subtask(&task, index, now()).unwrap();
        catalog.set_progress(&task, index, 42);
        let detail = running.vod("DescribeTaskDetail", json!({"TaskId": task}));
        let result = &detail["ProcedureTask"]["MediaProcessResultSet"][index];
        let percent = result.as_object().unwrap().values().find_map(|value| value.get("Progress"));
        assert_eq!((&detail["Status"], percent), (&json!("PROCESSING"), Some(&json!(42))), "{index}");
        catalog.finish_subtask(&task, index, Ok(output.clone()), now()).unwrap();
        // What was entered is entered once.
        assert!(catalog.finish_subtask(&task, index, Ok(output), now()).is_err(), "{index}");
    }
    golden("DescribeTaskDetail.finished", &without_id(running.vod("DescribeTaskDetail", json!({"TaskId": task})), &task));
    let mut events = without_id(running.vod("PullEvents", json!({})), &task);
    events["EventSet"][0]["EventHandle"] = json!("");
    golden("PullEvents.procedure", &events);
    let filters = ["transcodeInfo", "adaptiveDynamicStreamingInfo", "sampleSnapshotInfo", "imageSpriteInfo", "snapshotByTimeOffsetInfo"];
    golden("DescribeMediaInfos.results", &running.vod("DescribeMediaInfos", json!({"FileIds": [FILE], "Filters": filters})));

    // A second result of the definition takes the place of the first; its files are to go.
    let task =
        running.vod("ProcessMedia", json!({"FileId": FILE, "MediaProcessTask": {"SampleSnapshotTaskSet": [{"Definition": 10}]}}))["TaskId"].clone();
    let task = task.as_str().unwrap();
    let SubtaskOutput::SampleSnapshot(mut set) = outputs()[2].clone() else { panic!("another order") };
    set.files.prefix = "sample.10.b.".to_owned();
    catalog.begin_subtask(task, 0, now()).unwrap();
    catalog.finish_subtask(task, 0, Ok(SubtaskOutput::SampleSnapshot(set)), now()).unwrap();
    let removals = catalog.removals(0, 10).unwrap();
    assert_eq!(removals.iter().map(|(_, removal)| removal.parts.clone()).collect::<Vec<_>>(), [["sample.10.a.".to_owned()]]);
    let parts = json!([{"Type": "TranscodeFiles", "Definition": 0}, {"Type": "AdaptiveDynamicStreamingFiles", "Definition": 12}]);
    assert_eq!(code_of(&running.vod("DeleteMedia", json!({"FileId": FILE, "DeleteParts": parts}))), "ok");
    let removals = catalog.removals(removals[0].0, 10).unwrap();
    assert_eq!(removals[0].1.parts, ["v.f100010.mp4", "adp.12.m3u8", "adp.12.a."]);
    let left = running.vod("DescribeMediaInfos", json!({"FileIds": [FILE]}))["MediaInfoSet"][0].clone();
    assert_eq!(left["TranscodeInfo"]["TranscodeSet"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["AdaptiveDynamicStreamingInfo"]["AdaptiveDynamicStreamingSet"], json!([]));
}

#[test]
fn failures_retries_and_cancelled_flows() {
    let running = Running::start();
    let catalog = &running.context.catalog;
    enter(&running, Format::Mp4, FILE, b"0123456789");
    let process = json!({"TranscodeTaskSet": [{"Definition": 875}, {"Definition": 876}]});
    let order = |more: Value| {
        let mut body = json!({"FileId": FILE, "MediaProcessTask": process});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        running.vod("ProcessMedia", body)["TaskId"].as_str().unwrap_or_default().to_owned()
    };
    let results = |task: &str| running.vod("DescribeTaskDetail", json!({"TaskId": task}))["ProcedureTask"]["MediaProcessResultSet"].clone();
    let error = |message: &str| SubtaskError { kind: FailKind::Source, message: message.to_owned() };
    let task = order(json!({}));
    catalog.begin_subtask(&task, 0, now()).unwrap();
    catalog.put_back_subtask(&task, 0, Some(error("once more"))).unwrap();
    let result = &results(&task)[0]["TranscodeTask"];
    assert_eq!((&result["Status"], &result["ErrCode"], &result["Message"]), (&json!("PROCESSING"), &json!(0), &json!("once more")));
    catalog.begin_subtask(&task, 0, now()).unwrap();
    catalog.finish_subtask(&task, 0, Err(error("broken")), now()).unwrap();
    let result = &results(&task)[0]["TranscodeTask"];
    assert_eq!((&result["Status"], &result["ErrCode"], &result["Message"]), (&json!("FAIL"), &json!(60_000), &json!("broken")));
    assert_eq!(code_of(&running.vod("ManageTask", json!({"TaskId": task, "OperationType": "Abort"}))), "ok");
    let detail = running.vod("DescribeTaskDetail", json!({"TaskId": task}));
    assert_eq!(
        (&detail["Status"], &detail["ProcedureTask"]["MediaProcessResultSet"][1]["TranscodeTask"]["Message"]),
        (&json!("ABORTED"), &json!("The task was cancelled."))
    );
    assert!(catalog.begin_subtask(&task, 1, now()).is_err(), "nothing more is done");

    // A file that is gone: the result is not entered, and the flow says so.
    let task = order(json!({"SessionId": "x"}));
    catalog.begin_subtask(&task, 0, now()).unwrap();
    running.vod("DeleteMedia", json!({"FileId": FILE}));
    catalog.finish_subtask(&task, 0, Ok(outputs()[4].clone()), now()).unwrap();
    let result = &results(&task)[0]["TranscodeTask"];
    assert_eq!((&result["Status"], &result["ErrCode"]), (&json!("FAIL"), &json!(40_000)));
}

#[test]
fn refusals() {
    let running = Running::start();
    enter(&running, Format::Mp4, FILE, b"0123456789");
    let body = |more: Value| {
        let mut body = json!({"FileId": FILE, "MediaProcessTask": {"TranscodeTaskSet": [{"Definition": 875}]}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let adaptive = |definition: i64| json!({"MediaProcessTask": {"AdaptiveDynamicStreamingTaskSet": [{"Definition": definition}]}});
    for (action, body, code) in [
        ("ProcessMedia", json!({}), "MissingParameter"),
        ("ProcessMedia", json!({"FileId": FILE}), "InvalidParameterValue"),
        ("ProcessMedia", json!({"FileId": FILE, "MediaProcessTask": {}}), "InvalidParameterValue"),
        ("ProcessMedia", body(json!({"FileId": "5"})), "InvalidParameterValue.FileId"),
        ("ProcessMedia", body(json!({"FileId": "387702290000000009"})), "InvalidParameterValue.FileId"),
        ("ProcessMedia", body(json!({"TasksPriority": 11})), "InvalidParameterValue"),
        ("ProcessMedia", body(json!({"TasksNotifyMode": "Often"})), "InvalidParameterValue"),
        ("ProcessMedia", body(json!({"SessionContext": "x".repeat(1001)})), "InvalidParameterValue.SessionContextTooLong"),
        ("ProcessMedia", body(json!({"SessionId": "x".repeat(51)})), "InvalidParameterValue.SessionIdTooLong"),
        ("ProcessMedia", body(json!({"MediaStoragePath": "/x"})), "UnsupportedOperation"),
        ("ProcessMedia", body(json!({"Url": "http://x"})), "UnsupportedOperation"),
        ("ProcessMedia", body(json!({"OutputAsIndependentMedia": "ON"})), "UnsupportedOperation"),
        ("ProcessMedia", body(json!({"AiAnalysisTask": {"Definition": 10}})), "UnsupportedOperation"),
        ("ProcessMedia", body(adaptive(11)), "UnsupportedOperation"),
        ("ProcessMedia", body(adaptive(20)), "UnsupportedOperation"),
        ("ProcessMedia", body(adaptive(99)), "InvalidParameterValue"),
        ("ProcessMedia", body(json!({"SessionId": "one"})), "ok"),
        ("ProcessMedia", body(json!({"SessionId": "one"})), "InvalidParameterValue.SessionId"),
        ("ProcessMediaByProcedure", json!({"FileId": FILE}), "MissingParameter"),
        ("ProcessMediaByProcedure", json!({"FileId": FILE, "ProcedureName": "none"}), "InvalidParameterValue.ProcedureName"),
        ("ProcessMediaByProcedure", json!({"FileId": "5", "ProcedureName": "LongVideoPreset"}), "InvalidParameterValue.FileId"),
        ("ProcessMediaByProcedure", json!({"FileId": FILE, "ProcedureName": "LongVideoPreset"}), "ok"),
        ("ManageTask", json!({"TaskId": "x", "OperationType": "Abort"}), "ResourceNotFound"),
        ("ManageTask", json!({"TaskId": "x", "OperationType": "Hurry"}), "InvalidParameterValue"),
        ("DescribeDrmDataKey", json!({"EdkList": []}), "InvalidParameterValue"),
        ("DescribeDrmDataKey", json!({"EdkList": ["nothing"]}), "InvalidParameterValue"),
    ] {
        assert_eq!(code_of(&running.vod(action, body.clone())), code, "{action} {body}");
    }
}

#[test]
fn keys_are_given_for_tokens_only() {
    let running = Running::start();
    enter(&running, Format::Mp4, FILE, b"0123456789");
    let (master, file_id) = (&running.context.master_key, FileId::parse(FILE).unwrap());
    let edk = master.wrap(file_id, &ContentKey([9; 16]), [1; NONCE_BYTES]);
    let token = master.token(file_id, now().unix_seconds() + 60);
    let late = master.token(file_id, now().unix_seconds() - 1);
    let get = |query: String| {
        let reply = running.get(&format!("/vodkey?{query}"));
        (reply.status, reply.body)
    };
    let good = format!("fileId={FILE}&keySource=VodBuildInKMS&edk={edk}&token={token}");
    assert_eq!(get(good.clone()), (200, vec![9; 16]));
    for bad in [
        String::new(),
        format!("fileId={FILE}&edk={edk}"),
        format!("fileId={FILE}&edk={edk}&token={late}"),
        good.replace(FILE, "387702290000000002"),
        good.replace(&edk, "x"),
    ] {
        assert_eq!(get(bad.clone()).0, 403, "{bad}");
    }
    assert_eq!(running.vod("DescribeDrmDataKey", json!({"EdkList": [edk]}))["KeyList"][0]["Dk"], "CQkJCQkJCQkJCQkJCQkJCQ==");
    running.vod("DeleteMedia", json!({"FileId": FILE}));
    assert_eq!(get(good).0, 403, "the file is gone");
    assert_eq!(code_of(&running.vod("DescribeDrmDataKey", json!({"EdkList": [edk]}))), "InvalidParameterValue");
}
