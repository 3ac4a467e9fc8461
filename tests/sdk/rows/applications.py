from table import Saved, bad, ok

APP = Saved("app")


def rows(scene):
    name = scene.tag[-30:]
    mine = lambda answer: [app for app in answer["SubAppIdInfoSet"] if app["SubAppId"] not in (0, 1_300_000_001)]  # noqa: E731
    return [
        ok("CreateSubAppId", lambda a: a["SubAppId"] > 0, {"app": "SubAppId"}, Name=name, Description="of the tests"),
        ok("DescribeSubAppIds", lambda a: [app["SubAppIdName"] for app in mine(a)] == [name] == [app["Name"] for app in mine(a)], Name=name),
        ok("DescribeSubAppIds", lambda a: a["TotalCount"] >= 2 and a["SubAppIdInfoSet"][0]["SubAppId"] == 1_300_000_001, Offset=0, Limit=200),
        ok("ModifySubAppIdInfo", SubAppId=APP, Description="changed"),
        ok("ModifySubAppIdStatus", SubAppId=APP, Status="Off"),
        ok("ModifySubAppIdStatus", SubAppId=APP, Status="On"),
        # Applications are walls.
        ok("SearchMedia", lambda a: a["TotalCount"] == 0, SubAppId=APP),
        ok("DescribeMediaInfos", lambda a: a["NotExistFileIdSet"] == [scene.recorded["file"]], SubAppId=APP, FileIds=[scene.recorded["file"]]),
        bad("MissingParameter", "CreateSubAppId"),
        bad("InvalidParameterValue.Name", "CreateSubAppId", Name="x" * 41),
        bad("InvalidParameterValue.Description", "CreateSubAppId", Name=name, Description="x" * 301),
        bad("InvalidParameterValue.SubAppId", "ModifySubAppIdInfo", SubAppId=999, Name="x"),
        bad("FailedOperation", "ModifySubAppIdInfo", SubAppId=1_300_000_001, Name="x"),
        bad("InvalidParameterValue", "ModifySubAppIdStatus", SubAppId=APP, Status="Gone"),
        bad("InvalidParameter", "DescribeSubAppIds", raw=True, Offset="x"),
        ok("ModifySubAppIdStatus", SubAppId=APP, Status="Destroyed"),
        bad("InvalidParameterValue.SubAppId", "SearchMedia", SubAppId=APP),
    ]
