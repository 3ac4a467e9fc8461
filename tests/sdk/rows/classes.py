from table import Saved, bad, ok


def rows(scene):
    named = lambda answer: {entry["ClassId"]: entry for entry in answer["ClassInfoSet"]}  # noqa: E731
    create = lambda save, parent, name: ok("CreateClass", lambda a: a["ClassId"] > 0, {save: "ClassId"}, ParentId=parent, ClassName=name)  # noqa: E731
    return [
        create("top", -1, scene.tag),
        create("second", Saved("top"), "音乐"),
        create("third", Saved("second"), "a b"),
        create("fourth", Saved("third"), "4"),
        ok("DescribeAllClass", lambda a: [c["Level"] for c in named(a).values() if c["ClassName"] in (scene.tag, "音乐", "a b", "4")] == [0, 1, 2, 3]),
        bad("FailedOperation.ClassLevelLimitExceeded", "CreateClass", ParentId=Saved("fourth"), ClassName="5"),
        bad("FailedOperation.ClassNameDuplicate", "CreateClass", ParentId=-1, ClassName=scene.tag),
        bad("FailedOperation.ParentIdNoFound", "CreateClass", ParentId=999_999, ClassName="x"),
        bad("InvalidParameterValue.ClassName", "CreateClass", ParentId=-1, ClassName="x" * 65),
        bad("MissingParameter", "CreateClass", ParentId=-1),
        ok("ModifyClass", ClassId=Saved("third"), ClassName="renamed"),
        ok("DescribeAllClass", lambda a: any(c["ClassName"] == "renamed" for c in a["ClassInfoSet"])),
        bad("FailedOperation.ClassNoFound", "ModifyClass", ClassId=999_999, ClassName="x"),
        bad("UnsupportedOperation.ClassNotEmpty", "DeleteClass", ClassId=Saved("third")),
        bad("InvalidParameterValue.ClassId", "DeleteClass", ClassId=999_999),
        bad("FailedOperation.InvalidVodUser", "DescribeAllClass", SubAppId=7),
        *(ok("DeleteClass", ClassId=Saved(name)) for name in ("fourth", "third", "second", "top")),
    ]
