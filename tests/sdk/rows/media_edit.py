import base64

from table import bad, ok

GIF = base64.b64encode(bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")).decode()


def rows(scene):
    # Files of its own: other rows look for the shared one by its name.
    file, gone = scene.recorded["another"](), scene.recorded["another"]()
    modify = lambda **more: {"FileId": file, **more}  # noqa: E731
    seen = lambda check, **more: ok("DescribeMediaInfos", lambda a: check(a["MediaInfoSet"][0]), FileIds=[file], **more)  # noqa: E731
    name, tag = f"Name {scene.tag}", scene.tag[-32:]
    return [
        ok("ModifyMediaInfo", lambda a: a["CoverUrl"] == "", **modify(Name=name, Description="é", ClearTags=1, ClearKeyFrameDescs=1)),
        ok("ModifyMediaInfo", **modify(AddTags=[tag, "b"], AddKeyFrameDescs=[{"TimeOffset": 1.5, "Content": "goal"}, {"TimeOffset": 3, "Content": "end"}])),
        seen(lambda m: m["BasicInfo"]["Name"] == name and sorted(m["BasicInfo"]["TagSet"]) == sorted([tag, "b"])),
        seen(lambda m: [d["TimeOffset"] for d in m["KeyFrameDescInfo"]["KeyFrameDescSet"]] == [1.5, 3], Filters=["keyFrameDescInfo"]),
        ok("SearchMedia", lambda a: a["TotalCount"] == 1, Tags=[tag, "nobody has this"]),
        ok("SearchMedia", lambda a: a["TotalCount"] == 1, Names=[name.upper()]),
        ok("ModifyMediaInfo", lambda a: a["CoverUrl"].startswith("http"), **modify(CoverData=GIF, DeleteTags=["b"], DeleteKeyFrameDescs=[3.0])),
        seen(lambda m: m["BasicInfo"]["CoverUrl"].startswith("http") and m["BasicInfo"]["TagSet"] == [tag]),
        bad("MissingParameter", "ModifyMediaInfo", Name="x"),
        bad("ResourceNotFound.FileNotExist", "ModifyMediaInfo", FileId="387702290000000000", Name="x"),
        bad("InvalidParameterValue.Name", "ModifyMediaInfo", **modify(Name="x" * 65)),
        bad("InvalidParameterValue.Description", "ModifyMediaInfo", **modify(Description="x" * 129)),
        bad("InvalidParameterValue", "ModifyMediaInfo", **modify(ClassId=999_999)),
        bad("InvalidParameterValue.ExpireTime", "ModifyMediaInfo", **modify(ExpireTime="2020-01-01T00:00:00Z")),
        bad("InvalidParameterValue.ImageDecodeError", "ModifyMediaInfo", **modify(CoverData="bm8gcGljdHVyZQ==")),
        bad("InvalidParameterValue.TagTooLong", "ModifyMediaInfo", **modify(AddTags=["x" * 33])),
        bad("LimitExceeded.TagCountReachMax", "ModifyMediaInfo", **modify(AddTags=[f"t{number}" for number in range(16)])),
        bad("InvalidParameterValue.AddTagsAndClearTagsConflict", "ModifyMediaInfo", **modify(AddTags=["x"], ClearTags=1)),
        bad("InvalidParameterValue.AddTagsAndDeleteTagsConflict", "ModifyMediaInfo", **modify(AddTags=["x"], DeleteTags=["x"])),
        bad("InvalidParameterValue.KeyFrameDescContentTooLong", "ModifyMediaInfo", **modify(AddKeyFrameDescs=[{"TimeOffset": 1, "Content": "x" * 129}])),
        bad("MissingParameter", "DeleteMedia"),
        bad("ResourceNotFound", "DeleteMedia", FileId="387702290000000000"),
        ok("DeleteMedia", FileId=gone),
        bad("ResourceNotFound", "DeleteMedia", FileId=gone),
        ok("DescribeMediaInfos", lambda a: a["NotExistFileIdSet"] == [gone], FileIds=[gone]),
    ]
