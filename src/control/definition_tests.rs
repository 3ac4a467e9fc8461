//! Definitions, task flows and players over real sockets; their answers as golden files.

use serde_json::{Value, json};

use super::tests::{Running, code_of};
use super::vod_tests::golden;

fn video() -> Value {
    json!({"Codec": "libx264", "Fps": 30, "Bitrate": 800, "Height": 480, "Gop": 60})
}

fn audio() -> Value {
    json!({"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 48000, "AudioChannel": 1})
}

#[test]
fn golden_answers() {
    let running = Running::start();
    let vod = |action: &str, body: Value| running.vod(action, body);
    let create =
        json!({"Container": "hls", "Name": "Überall", "Comment": "c", "VideoTemplate": video(), "AudioTemplate": audio(), "SegmentType": "fmp4"});
    golden("CreateTranscodeTemplate", &vod("CreateTranscodeTemplate", create));
    golden("DescribeTranscodeTemplates", &vod("DescribeTranscodeTemplates", json!({"Definitions": [1400001, 875, 1010]})));
    golden(
        "ModifyTranscodeTemplate",
        &vod("ModifyTranscodeTemplate", json!({"Definition": 1400001, "Container": "mp4", "VideoTemplate": {"Fps": 0}})),
    );
    golden("DescribeTranscodeTemplates.modified", &vod("DescribeTranscodeTemplates", json!({"Type": "Custom"})));
    golden("DeleteTranscodeTemplate", &vod("DeleteTranscodeTemplate", json!({"Definition": 1400001})));

    let streams = json!([{"Video": video(), "Audio": audio()}, {"Video": {}, "RemoveAudio": 1}]);
    let create = json!({"Format": "HLS", "Name": "two", "StreamInfos": streams, "DrmType": "SimpleAES", "SegmentType": "mp4", "SegmentDuration": 4});
    golden("CreateAdaptiveDynamicStreamingTemplate", &vod("CreateAdaptiveDynamicStreamingTemplate", create));
    let describe = "DescribeAdaptiveDynamicStreamingTemplates";
    golden(describe, &vod(describe, json!({"Definitions": [1400002, 12]})));
    let modify = json!({"Definition": 1400002, "Name": "three", "SegmentDuration": 2});
    golden("ModifyAdaptiveDynamicStreamingTemplate", &vod("ModifyAdaptiveDynamicStreamingTemplate", modify));
    golden("DeleteAdaptiveDynamicStreamingTemplate", &vod("DeleteAdaptiveDynamicStreamingTemplate", json!({"Definition": 1400002})));

    let pictures = [
        ("SnapshotByTimeOffset", json!({"Width": 320, "Format": "png"})),
        ("SampleSnapshot", json!({"SampleType": "Time", "SampleInterval": 5, "Height": 90})),
        ("ImageSprite", json!({"SampleType": "Percent", "SampleInterval": 5, "RowCount": 4, "ColumnCount": 5})),
    ];
    for (number, (kind, body)) in pictures.into_iter().enumerate() {
        let definition = 1_400_003 + number as i64;
        for (verb, suffix, body) in [
            ("Create", "", body),
            ("Describe", "s", json!({})),
            ("Modify", "", json!({"Definition": definition, "Name": "n"})),
            ("Delete", "", json!({"Definition": definition})),
        ] {
            let action = format!("{verb}{kind}Template{suffix}");
            golden(&action, &running.vod(&action, body));
        }
    }

    let process = json!({
        "TranscodeTaskSet": [{"Definition": 100010, "StartTimeOffset": 1.5, "OverrideParameter": {"VideoTemplate": {"Bitrate": 300}}}],
        "SnapshotByTimeOffsetTaskSet": [{"Definition": 10, "ExtTimeOffsetSet": ["1.5s", "50%"]}],
        "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Percent", "PositionValue": 20}],
    });
    golden("CreateProcedureTemplate", &vod("CreateProcedureTemplate", json!({"Name": "流程", "Comment": "c", "MediaProcessTask": process})));
    golden("DescribeProcedureTemplates", &vod("DescribeProcedureTemplates", json!({"SortBy": [{"Field": "CreateTime", "Order": "Desc"}]})));
    let reset = json!({"Name": "流程", "MediaProcessTask": {"ImageSpriteTaskSet": [{"Definition": 10}]}});
    golden("ResetProcedureTemplate", &vod("ResetProcedureTemplate", reset));
    golden("DescribeProcedureTemplates.reset", &vod("DescribeProcedureTemplates", json!({"Names": ["流程"]})));
    golden("DeleteProcedureTemplate", &vod("DeleteProcedureTemplate", json!({"Name": "流程"})));

    let create = json!({"Name": "site", "ImageSpriteDefinition": 10, "ResolutionNames": [{"MinEdgeLength": 480, "Name": "SD"}], "Domain": "media.example.com"});
    golden("CreateSuperPlayerConfig", &vod("CreateSuperPlayerConfig", create));
    golden("ModifySuperPlayerConfig", &vod("ModifySuperPlayerConfig", json!({"Name": "site", "AudioVideoType": "Original", "Scheme": "HTTPS"})));
    golden("DescribeSuperPlayerConfigs", &vod("DescribeSuperPlayerConfigs", json!({})));
    golden("DeleteSuperPlayerConfig", &vod("DeleteSuperPlayerConfig", json!({"Name": "site"})));
}

#[test]
fn refusals() {
    let running = Running::start();
    let transcode = |change: Value| {
        let mut body = json!({"Container": "mp4", "VideoTemplate": video(), "AudioTemplate": audio()});
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Object(inner) if body[name].is_object() => {
                    for (name_inside, value) in inner {
                        body[name][name_inside] = value.clone();
                    }
                }
                value => body[name] = value.clone(),
            }
        }
        body
    };
    let adaptive = |change: Value| {
        let mut body = json!({"Format": "HLS", "StreamInfos": [{"Video": video(), "Audio": audio()}]});
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let flow = |process: Value| json!({"Name": "f", "MediaProcessTask": process});
    for (action, body, code) in [
        ("CreateTranscodeTemplate", json!({}), "MissingParameter"),
        ("CreateTranscodeTemplate", transcode(json!({"Container": "avi"})), "InvalidParameterValue.Container"),
        ("CreateTranscodeTemplate", transcode(json!({"Name": "x".repeat(65)})), "InvalidParameterValue.Name"),
        ("CreateTranscodeTemplate", transcode(json!({"Comment": "x".repeat(257)})), "InvalidParameterValue.Comment"),
        ("CreateTranscodeTemplate", transcode(json!({"RemoveVideo": 2})), "InvalidParameterValue.RemoveVideo"),
        ("CreateTranscodeTemplate", transcode(json!({"RemoveVideo": 1, "RemoveAudio": 1})), "InvalidParameter"),
        ("CreateTranscodeTemplate", json!({"Container": "mp4", "AudioTemplate": audio()}), "MissingParameter"),
        ("CreateTranscodeTemplate", json!({"Container": "mp4", "VideoTemplate": video()}), "MissingParameter"),
        ("CreateTranscodeTemplate", json!({"Container": "mp3", "AudioTemplate": audio()}), "InvalidParameterValue.Codec"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Codec": "av1"}})), "UnsupportedOperation"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Codec": "theora"}})), "InvalidParameterValue.Codec"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Fps": 101}})), "InvalidParameterValue.Fps"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Bitrate": 127}})), "InvalidParameterValue.Bitrate"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Width": 100}})), "InvalidParameterValue.Width"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Height": 8193}})), "InvalidParameterValue.Height"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Vcrf": 52}})), "InvalidParameterValue.Vcrf"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"FillType": "red"}})), "InvalidParameterValue.FillType"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"ResolutionAdaptive": "x"}})), "InvalidParameterValue.ResolutionAdaptive"),
        ("CreateTranscodeTemplate", transcode(json!({"AudioTemplate": {"Codec": "flac"}})), "InvalidParameterValue.Codec"),
        ("CreateTranscodeTemplate", transcode(json!({"AudioTemplate": {"Bitrate": 257}})), "InvalidParameterValue.Bitrate"),
        ("CreateTranscodeTemplate", transcode(json!({"AudioTemplate": {"SampleRate": 22050}})), "InvalidParameterValue.SampleRate"),
        ("CreateTranscodeTemplate", transcode(json!({"AudioTemplate": {"AudioChannel": 3}})), "InvalidParameterValue.AudioChannel"),
        ("CreateTranscodeTemplate", transcode(json!({"TEHDConfig": {"Type": "TEHD-100"}})), "UnsupportedOperation"),
        ("CreateTranscodeTemplate", transcode(json!({"SegmentType": "mkv"})), "InvalidParameterValue.SegmentType"),
        ("CreateTranscodeTemplate", transcode(json!({"VideoTemplate": {"Nope": 1}})), "UnknownParameter"),
        ("ModifyTranscodeTemplate", json!({"Definition": 10, "Name": "x"}), "InvalidParameterValue.Definition"),
        ("DeleteTranscodeTemplate", json!({"Definition": 875}), "InvalidParameterValue.Definition"),
        ("ModifyTranscodeTemplate", json!({"Definition": 1400777}), "ResourceNotFound.TemplateNotExist"),
        ("DeleteTranscodeTemplate", json!({"Definition": 5}), "ResourceNotFound.TemplateNotExist"),
        ("DescribeTranscodeTemplates", json!({"Limit": 101}), "InvalidParameterValue.Limit"),
        ("DescribeTranscodeTemplates", json!({"Limit": 0}), "InvalidParameterValue.Limit"),
        ("DescribeTranscodeTemplates", json!({"Type": "Mine"}), "InvalidParameterValue.Type"),
        ("DescribeTranscodeTemplates", json!({"ContainerType": "Box"}), "InvalidParameterValue.ContainerType"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"Format": "MPEG-DASH"})), "UnsupportedOperation"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"Format": "hls"})), "InvalidParameterValue.Format"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"StreamInfos": []})), "InvalidParameterValue.StreamInfos"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"StreamInfos": [{"Video": video()}]})), "MissingParameter"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"DrmType": "FairPlay"})), "InvalidParameterValue.DrmType"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"SegmentType": "fmp4"})), "InvalidParameterValue.SegmentType"),
        ("CreateAdaptiveDynamicStreamingTemplate", adaptive(json!({"SegmentDuration": 11})), "InvalidParameterValue.SegmentDuration"),
        ("DeleteAdaptiveDynamicStreamingTemplate", json!({"Definition": 12}), "InvalidParameterValue.Definition"),
        ("ModifyAdaptiveDynamicStreamingTemplate", json!({"Definition": 1400777}), "ResourceNotFound.TemplateNotExist"),
        ("CreateSnapshotByTimeOffsetTemplate", json!({"Width": 31}), "InvalidParameterValue.Width"),
        ("CreateSnapshotByTimeOffsetTemplate", json!({"Definition": 5}), "UnknownParameter"),
        ("CreateSnapshotByTimeOffsetTemplate", json!({"Format": "gif"}), "InvalidParameterValue.Format"),
        ("CreateSampleSnapshotTemplate", json!({"SampleType": "Time"}), "MissingParameter"),
        ("CreateSampleSnapshotTemplate", json!({"SampleType": "Often", "SampleInterval": 1}), "InvalidParameterValue.SampleType"),
        ("CreateSampleSnapshotTemplate", json!({"SampleType": "Percent", "SampleInterval": 101}), "InvalidParameterValue.SampleInterval"),
        (
            "CreateImageSpriteTemplate",
            json!({"SampleType": "Time", "SampleInterval": 1, "RowCount": 0, "ColumnCount": 1}),
            "InvalidParameterValue.RowCount",
        ),
        ("ModifyImageSpriteTemplate", json!({}), "MissingParameter"),
        ("CreateProcedureTemplate", json!({"Name": "x".repeat(21), "MediaProcessTask": {}}), "InvalidParameterValue"),
        ("CreateProcedureTemplate", json!({"Name": ""}), "InvalidParameterValue"),
        ("CreateProcedureTemplate", flow(json!({})), "InvalidParameterValue"),
        ("CreateProcedureTemplate", flow(json!({"TranscodeTaskSet": [{"Definition": 5}]})), "InvalidParameterValue"),
        ("CreateProcedureTemplate", flow(json!({"AnimatedGraphicTaskSet": [{"Definition": 20000}]})), "MissingParameter"),
        (
            "CreateProcedureTemplate",
            flow(json!({"SampleSnapshotTaskSet": [{"Definition": 10, "WatermarkSet": [{"Definition": 1}]}]})),
            "UnsupportedOperation",
        ),
        (
            "CreateProcedureTemplate",
            flow(json!({"SnapshotByTimeOffsetTaskSet": [{"Definition": 10, "ExtTimeOffsetSet": ["5"]}]})),
            "InvalidParameterValue",
        ),
        ("CreateProcedureTemplate", json!({"Name": "f", "AiAnalysisTask": {"Definition": 1}}), "UnsupportedOperation"),
        (
            "CreateProcedureTemplate",
            json!({"Name": "LongVideoPreset", "MediaProcessTask": {"ImageSpriteTaskSet": [{"Definition": 10}]}}),
            "InvalidParameter.ExistedProcedureName",
        ),
        ("ResetProcedureTemplate", flow(json!({"ImageSpriteTaskSet": [{"Definition": 10}]})), "InvalidParameter.ProcedureNameNotExist"),
        ("DeleteProcedureTemplate", json!({"Name": "f"}), "InvalidParameter"),
        ("DescribeProcedureTemplates", json!({"SortBy": [{"Field": "Name"}]}), "InvalidParameterValue"),
        ("CreateSuperPlayerConfig", json!({"Name": "a b"}), "InvalidParameterValue"),
        ("CreateSuperPlayerConfig", json!({"Name": "default"}), "InvalidParameterValue"),
        ("CreateSuperPlayerConfig", json!({"Name": "a", "AudioVideoType": "x"}), "InvalidParameterValue"),
        ("CreateSuperPlayerConfig", json!({"Name": "a", "AudioVideoType": "Transcode"}), "InvalidParameterValue"),
        ("ModifySuperPlayerConfig", json!({"Name": "none"}), "ResourceNotFound"),
        ("DeleteSuperPlayerConfig", json!({"Name": "none"}), "ResourceNotFound"),
    ] {
        assert_eq!(code_of(&running.vod(action, body.clone())), code, "{action} {body}");
    }
    // The quota of this server is three.
    for (name, code) in [("a", "ok"), ("b", "ok"), ("b", "InvalidParameter.ExistedProcedureName"), ("c", "ok"), ("d", "LimitExceeded")] {
        let body = json!({"Name": name, "MediaProcessTask": {"AdaptiveDynamicStreamingTaskSet": [{"Definition": 10}]}});
        assert_eq!(code_of(&running.vod("CreateProcedureTemplate", body)), code, "{name}");
    }
    for number in 0..101 {
        let code = code_of(&running.vod("CreateSnapshotByTimeOffsetTemplate", json!({})));
        assert_eq!(code, if number < 100 { "ok" } else { "LimitExceeded.TooMuchTemplate" }, "{number}");
    }
    // Every application has its own.
    let app = running.vod("CreateSubAppId", json!({"Name": "other"}))["SubAppId"].clone();
    let others = running.vod("DescribeSnapshotByTimeOffsetTemplates", json!({"SubAppId": app}));
    assert_eq!(others["TotalCount"], 1);
}
