from table import Saved, bad, ok


def rows(scene):
    app = {"SubAppId": Saved("app")}
    name = {"Name": "流程-" + scene.tag[-12:]}
    adaptive = {"MediaProcessTask": {"AdaptiveDynamicStreamingTaskSet": [{"Definition": 10}], "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Time", "PositionValue": 1.5}]}}
    sprites = {"MediaProcessTask": {"ImageSpriteTaskSet": [{"Definition": 10}], "TranscodeTaskSet": [{"Definition": 875, "StartTimeOffset": 1}]}}
    flow = lambda a: a["ProcedureTemplateSet"][0]["MediaProcessTask"]  # noqa: E731
    player = {"Name": "player_" + scene.tag[-12:]}
    return [
        ok("CreateSubAppId", save={"app": "SubAppId"}, Name=scene.tag[-30:]),
        ok("CreateProcedureTemplate", **app, **name, Comment="c", **adaptive),
        ok("DescribeProcedureTemplates", lambda a: flow(a)["AdaptiveDynamicStreamingTaskSet"][0]["Definition"] == 10 and flow(a)["TranscodeTaskSet"] == [], **app, Names=[name["Name"]]),
        ok("DescribeProcedureTemplates", lambda a: a["TotalCount"] == 3, **app, SortBy=[{"Field": "CreateTime", "Order": "Asc"}]),
        ok("DescribeProcedureTemplates", lambda a: {t["Name"] for t in a["ProcedureTemplateSet"]} == {"LongVideoPreset", "SimpleAesEncryptPreset"}, **app, Type="Preset"),
        ok("ResetProcedureTemplate", **app, **name, **sprites),
        ok("DescribeProcedureTemplates", lambda a: flow(a)["TranscodeTaskSet"][0]["StartTimeOffset"] == 1, **app, Names=[name["Name"]]),
        bad("InvalidParameter.ExistedProcedureName", "CreateProcedureTemplate", **app, **name, **adaptive),
        bad("InvalidParameterValue", "CreateProcedureTemplate", **app, **{"Name": "x" * 21}, **adaptive),
        bad("InvalidParameterValue", "CreateProcedureTemplate", **app, **{"Name": "none"}),
        bad("InvalidParameterValue.Limit", "DescribeProcedureTemplates", **app, Limit=101),
        bad("InvalidParameter.ProcedureNameNotExist", "ResetProcedureTemplate", **app, **{"Name": "none"}, **adaptive),
        ok("DeleteProcedureTemplate", **app, **name),
        bad("InvalidParameter", "DeleteProcedureTemplate", **app, **name),
        ok("CreateSuperPlayerConfig", **app, **player, ImageSpriteDefinition=10, ResolutionNames=[{"MinEdgeLength": 480, "Name": "SD"}]),
        ok("DescribeSuperPlayerConfigs", lambda a: [(c["ResolutionNameSet"][0]["Name"], c["AudioVideoType"]) for c in a["PlayerConfigSet"]] == [("SD", "AdaptiveDynamicStream")],
           **app, Names=[player["Name"]]),
        ok("ModifySuperPlayerConfig", **app, **player, AudioVideoType="Original", Comment="c"),
        ok("DescribeSuperPlayerConfigs", lambda a: a["PlayerConfigSet"][-1]["AudioVideoType"] == "Original" and a["TotalCount"] == 3, **app),
        bad("InvalidParameterValue", "CreateSuperPlayerConfig", **app, **player),
        bad("InvalidParameterValue", "CreateSuperPlayerConfig", **app, **{"Name": "no spaces"}),
        bad("ResourceNotFound", "ModifySuperPlayerConfig", **app, **{"Name": "none"}),
        bad("InvalidParameterValue.Limit", "DescribeSuperPlayerConfigs", **app, Limit=101),
        ok("DeleteSuperPlayerConfig", **app, **player),
        bad("ResourceNotFound", "DeleteSuperPlayerConfig", **app, **player),
        ok("ModifySubAppIdStatus", **app, Status="Destroyed"),
    ]
