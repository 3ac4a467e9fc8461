from table import Saved, bad, ok

VIDEO = {"Codec": "libx264", "Fps": 30, "Bitrate": 800, "Height": 480, "ResolutionAdaptive": "open"}
AUDIO = {"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 48000, "AudioChannel": 2}
SPRITE = {"SampleType": "Time", "SampleInterval": 5, "RowCount": 4, "ColumnCount": 5}


def numbers(name):
    return lambda answer: [item["Definition"] for item in answer[name]]


def rows(scene):
    # An application of its own: the quota of one hundred holds for each.
    app = {"SubAppId": Saved("app")}
    plain = {"Container": "mp4", "VideoTemplate": VIDEO, "AudioTemplate": AUDIO}
    adaptive = {"Format": "HLS", "StreamInfos": [{"Video": VIDEO, "Audio": AUDIO}]}
    presets = {"10", "20", "30", "40", "210", "220", "230", "240", "875", "876", "1010", "1020", "1100", "1110", "1120", "1130", "1140",
               "100010", "100020", "100030", "100040", "100210", "100220", "100230", "100240"}
    simple = []
    for kind, fields in (("SnapshotByTimeOffset", {}), ("SampleSnapshot", {"SampleType": "Percent", "SampleInterval": 5})):
        create, describe, delete = f"Create{kind}Template", f"Describe{kind}Templates", f"Delete{kind}Template"
        simple += [
            ok(create, lambda a: a["Definition"] >= 1_400_001, {kind: "Definition"}, **app, **fields, Width=320, Format="png", Name="n"),
            ok(describe, lambda a, kind=kind: (a["TotalCount"], numbers(f"{kind}TemplateSet")(a)[0]) == (2, 10), **app),
            ok(describe, lambda a, kind=kind: [(t["Width"], t["Format"], t["Type"]) for t in a[f"{kind}TemplateSet"]] == [(320, "png", "Custom")], **app, Type="Custom"),
            ok(delete, **app, Definition=Saved(kind)),
            bad("ResourceNotFound.TemplateNotExist", delete, **app, Definition=Saved(kind)),
            bad("InvalidParameterValue.Definition", delete, Definition=10),
            bad("InvalidParameterValue.Width", create, **app, **fields, Width=5000),
            bad("InvalidParameterValue.Limit", describe, Limit=101),
        ]
    # Not in the table of wire types; the SDKs have them.
    animated = {"Fps": 5, "Width": 320, "Format": "webp", "Quality": 60}
    simple += [
        ok("CreateAnimatedGraphicsTemplate", lambda a: a["Definition"] >= 1_400_001, {"animated": "Definition"}, family="vod", raw=True, **app, **animated, Name="a"),
        ok("ModifyAnimatedGraphicsTemplate", family="vod", raw=True, **app, Definition=Saved("animated"), Fps=10),
        ok("DescribeAnimatedGraphicsTemplates", lambda a: [(t["Definition"] < 1_400_001, t["Fps"], t["Format"]) for t in a["AnimatedGraphicsTemplateSet"]]
           == [(True, 5, "gif"), (True, 5, "webp"), (False, 10, "webp")], family="vod", raw=True, **app),
        bad("MissingParameter", "CreateAnimatedGraphicsTemplate", family="vod", raw=True, **app),
        bad("InvalidParameterValue.Limit", "DescribeAnimatedGraphicsTemplates", family="vod", raw=True, Limit=101),
        bad("InvalidParameterValue.Fps", "CreateAnimatedGraphicsTemplate", family="vod", raw=True, **app, Fps=31),
        bad("InvalidParameterValue.Format", "CreateAnimatedGraphicsTemplate", family="vod", raw=True, **app, Fps=5, Format="jpg"),
        bad("InvalidParameterValue.Definition", "ModifyAnimatedGraphicsTemplate", family="vod", raw=True, Definition=20000, Fps=5),
        ok("DeleteAnimatedGraphicsTemplate", family="vod", raw=True, **app, Definition=Saved("animated")),
        bad("ResourceNotFound.TemplateNotExist", "DeleteAnimatedGraphicsTemplate", family="vod", raw=True, **app, Definition=Saved("animated")),
    ]
    for kind, fields in (("ImageSprite", SPRITE),):
        simple += [
            ok(f"Create{kind}Template", lambda a: a["Definition"] >= 1_400_001, {kind: "Definition"}, family="vod", raw=True, **app, **fields),
            ok(f"Modify{kind}Template", family="vod", raw=True, **app, Definition=Saved(kind), RowCount=3),
            ok(f"Describe{kind}Templates", lambda a: [t["RowCount"] for t in a["ImageSpriteTemplateSet"]] == [10, 3], family="vod", raw=True, **app),
            ok(f"Delete{kind}Template", family="vod", raw=True, **app, Definition=Saved(kind)),
            bad("InvalidParameterValue.RowCount", f"Create{kind}Template", family="vod", raw=True, **app, **{**fields, "RowCount": 0}),
            bad("InvalidParameterValue.Definition", f"Modify{kind}Template", family="vod", raw=True, Definition=10),
            bad("InvalidParameterValue.Limit", f"Describe{kind}Templates", family="vod", raw=True, Limit=101),
            bad("ResourceNotFound.TemplateNotExist", f"Delete{kind}Template", family="vod", raw=True, **app, Definition=Saved(kind)),
        ]
    for kind in ("SnapshotByTimeOffset", "SampleSnapshot"):
        fields = {"SampleType": "Time", "SampleInterval": 5} if kind == "SampleSnapshot" else {}
        simple += [
            ok(f"Create{kind}Template", save={"m": "Definition"}, **app, **fields),
            ok(f"Modify{kind}Template", family="vod", raw=True, **app, Definition=Saved("m"), Name="other"),
            ok(f"Describe{kind}Templates", lambda a, kind=kind: a[f"{kind}TemplateSet"][0]["Name"] == "other", **app, Definitions=[Saved("m")]),
            bad("InvalidParameterValue.Definition", f"Modify{kind}Template", family="vod", raw=True, Definition=10),
            ok(f"Delete{kind}Template", **app, Definition=Saved("m")),
        ]
    return [
        ok("CreateSubAppId", save={"app": "SubAppId"}, Name=scene.tag[-30:]),
        ok("CreateTranscodeTemplate", lambda a: a["Definition"] >= 1_400_001, {"mp4": "Definition"}, **app, **plain, Name="é", Comment="c"),
        ok("CreateTranscodeTemplate", save={"mp3": "Definition"}, **app, Container="mp3", RemoveVideo=1, AudioTemplate={"Codec": "libmp3lame", "Bitrate": 128, "SampleRate": 44100}),
        ok("DescribeTranscodeTemplates", lambda a: {t["Definition"] for t in a["TranscodeTemplateSet"]} == presets, Type="Preset", Limit=100),
        ok("DescribeTranscodeTemplates", lambda a: (a["TotalCount"], a["TranscodeTemplateSet"][0]["VideoTemplate"]["Height"]) == (2, 480), **app, Type="Custom", Limit=1),
        ok("DescribeTranscodeTemplates", lambda a: (a["TotalCount"], len(a["TranscodeTemplateSet"])) == (27, 10), **app),
        ok("DescribeTranscodeTemplates", lambda a: a["TotalCount"] == 7 + 1, **app, ContainerType="PureAudio"),
        ok("ModifyTranscodeTemplate", **app, Definition=Saved("mp4"), Container="hls", VideoTemplate={"Bitrate": 0, "Vcrf": 23}, SegmentType="fmp4"),
        ok("DescribeTranscodeTemplates", lambda a: [(t["Container"], t["VideoTemplate"]["Vcrf"], t["VideoTemplate"]["Fps"], t["SegmentType"]) for t in a["TranscodeTemplateSet"]]
           == [("hls", 23, 30, "fmp4")], **app, Definitions=[Saved("mp4")]),
        bad("MissingParameter", "CreateTranscodeTemplate", **app, Name="no container"),
        bad("InvalidParameterValue.Container", "CreateTranscodeTemplate", **app, **{**plain, "Container": "avi"}),
        bad("InvalidParameterValue.Fps", "CreateTranscodeTemplate", **app, **{**plain, "VideoTemplate": {**VIDEO, "Fps": 101}}),
        bad("UnsupportedOperation", "CreateTranscodeTemplate", **app, **plain, TEHDConfig={"Type": "TEHD-100"}),
        bad("InvalidParameterValue.Limit", "DescribeTranscodeTemplates", Limit=101),
        bad("InvalidParameterValue.Definition", "ModifyTranscodeTemplate", Definition=100010, Name="mine"),
        bad("InvalidParameterValue.Definition", "DeleteTranscodeTemplate", Definition=875),
        ok("DeleteTranscodeTemplate", **app, Definition=Saved("mp4")),
        bad("ResourceNotFound.TemplateNotExist", "DeleteTranscodeTemplate", **app, Definition=Saved("mp4")),
        ok("CreateAdaptiveDynamicStreamingTemplate", save={"adaptive": "Definition"}, **app, **adaptive, DrmType="SimpleAES", Name="two"),
        ok("DescribeAdaptiveDynamicStreamingTemplates", lambda a: [t["Definition"] for t in a["AdaptiveDynamicStreamingTemplateSet"]] == [10, 11, 12, 13, 20], Type="Preset"),
        ok("DescribeAdaptiveDynamicStreamingTemplates", lambda a: [(t["DrmType"], len(t["StreamInfos"])) for t in a["AdaptiveDynamicStreamingTemplateSet"]] == [("SimpleAES", 1)],
           **app, Definitions=[Saved("adaptive")]),
        ok("ModifyAdaptiveDynamicStreamingTemplate", **app, Definition=Saved("adaptive"), SegmentType="mp4"),
        bad("InvalidParameterValue.Format", "CreateAdaptiveDynamicStreamingTemplate", **app, **{**adaptive, "Format": "SMOOTH"}),
        bad("UnsupportedOperation", "CreateAdaptiveDynamicStreamingTemplate", **app, **{**adaptive, "Format": "MPEG-DASH"}),
        bad("InvalidParameterValue.DrmType", "CreateAdaptiveDynamicStreamingTemplate", **app, **adaptive, DrmType="Widevine"),
        bad("InvalidParameterValue.Limit", "DescribeAdaptiveDynamicStreamingTemplates", Limit=101),
        bad("InvalidParameterValue.Definition", "ModifyAdaptiveDynamicStreamingTemplate", Definition=10, Name="x"),
        ok("DeleteAdaptiveDynamicStreamingTemplate", **app, Definition=Saved("adaptive")),
        bad("ResourceNotFound.TemplateNotExist", "DeleteAdaptiveDynamicStreamingTemplate", **app, Definition=Saved("adaptive")),
        *simple,
        ok("ModifySubAppIdStatus", **app, Status="Destroyed"),
    ]
