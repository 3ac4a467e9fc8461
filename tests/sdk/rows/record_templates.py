from table import Saved, bad, ok

TEMPLATE = Saved("template")


def whole(answer):
    template = answer["Template"]
    formats = {name: template[f"{name}Param"] for name in ("Flv", "Hls", "Mp4", "Aac", "Mp3")}
    return [name for name, param in formats.items() if param["Enable"]] == ["Mp4"] and formats["Mp4"]["RecordInterval"] == 3600


def rows(scene):
    create = {"TemplateName": "news-新闻_1", "Description": "Morning news,\n+ & = % \"quoted\" é"}
    return [
        ok("CreateLiveRecordTemplate", lambda a: a["TemplateId"] > 1000, {"template": "TemplateId"}, **create,
           Mp4Param={"Enable": 1, "RecordInterval": 3600, "StorageTime": 0}, RemoveWatermark=True),
        ok("DescribeLiveRecordTemplate", whole, TemplateId=TEMPLATE),
        ok("DescribeLiveRecordTemplate", lambda a: (a["Template"]["TemplateName"], a["Template"]["Description"]) == tuple(create.values()), TemplateId=TEMPLATE),
        ok("DescribeLiveRecordTemplate", lambda a: a["Template"]["RemoveWatermark"] is True, TemplateId=TEMPLATE),
        ok("ModifyLiveRecordTemplate", TemplateId=TEMPLATE, HlsParam={"Enable": 1}, HlsSpecialParam={"FlowContinueDuration": 60},
           FlvSpecialParam={"UploadInRecording": True}),
        ok("DescribeLiveRecordTemplate", lambda a: a["Template"]["HlsSpecialParam"]["FlowContinueDuration"] == 60, TemplateId=TEMPLATE),
        ok("DescribeLiveRecordTemplates", lambda a: any(t["TemplateName"] == create["TemplateName"] for t in a["Templates"])),
        ok("DescribeLiveRecordTemplates", lambda a: a["Templates"] == [], IsDelayLive=1),
        # Switches recording off.
        ok("CreateLiveRecordTemplate", save={"empty": "TemplateId"}, TemplateName="off"),
        bad("MissingParameter", "CreateLiveRecordTemplate"),
        bad("InvalidParameterValue", "CreateLiveRecordTemplate", TemplateName="a b"),
        bad("InvalidParameterValue", "CreateLiveRecordTemplate", TemplateName="t", Mp4Param={"Enable": 1, "RecordInterval": 29}),
        bad("InvalidParameterValue", "CreateLiveRecordTemplate", TemplateName="t", Mp3Param={"Enable": 1, "RecordInterval": 7201}),
        bad("InvalidParameterValue", "CreateLiveRecordTemplate", TemplateName="t", HlsSpecialParam={"FlowContinueDuration": 1801}),
        bad("InvalidParameter.InvalidVodFileName", "CreateLiveRecordTemplate", TemplateName="t", AacParam={"VodFileName": "{Moon}"}),
        bad("InvalidParameter", "CreateLiveRecordTemplate", raw=True, TemplateName="t", FlvParam={"Enable": "yes"}),
        bad("UnknownParameter", "CreateLiveRecordTemplate", raw=True, TemplateName="t", Colour="red"),
        bad("UnsupportedOperation", "CreateLiveRecordTemplate", raw=True, TemplateName="t", CosStore=1),
        bad("MissingParameter", "DescribeLiveRecordTemplate"),
        bad("FailedOperation.NotFound", "DescribeLiveRecordTemplate", TemplateId=999_999_999),
        bad("InvalidParameter", "DescribeLiveRecordTemplates", raw=True, IsDelayLive="x"),
        bad("FailedOperation.NotFound", "ModifyLiveRecordTemplate", TemplateId=999_999_999, Description="x"),
        bad("InvalidParameterValue", "ModifyLiveRecordTemplate", TemplateId=TEMPLATE, Mp4Param={"StorageTime": -1}),
        bad("InternalError.ConfNotFound", "DeleteLiveRecordTemplate", TemplateId=999_999_999),
        ok("DeleteLiveRecordTemplate", TemplateId=TEMPLATE),
        ok("DeleteLiveRecordTemplate", TemplateId=Saved("empty")),
        bad("InternalError.ConfNotFound", "DeleteLiveRecordTemplate", TemplateId=TEMPLATE),
    ]
