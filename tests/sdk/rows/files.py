from table import bad, ok

PARTS = ["basicInfo", "metaData", "transcodeInfo", "snapshotByTimeOffsetInfo", "nothing we know"]


def rows(scene):
    recorded = scene.recorded
    one = {"StreamDomains": [recorded["domain"]], "StreamIds": [recorded["stream"]], "SourceTypes": ["Record"]}

    def whole(answer):
        basic, meta = answer["MediaInfoSet"][0]["BasicInfo"], answer["MediaInfoSet"][0]["MetaData"]
        return (
            answer["TotalCount"] == 1
            and basic["SourceInfo"]["LiveRecordInfo"]["Domain"] == recorded["domain"]
            and (meta["Container"], len(meta["VideoStreamSet"]), len(meta["AudioStreamSet"])) == ("mp4", 1, 1)
            and basic["ExpireTime"] == "9999-12-31T23:59:59Z"
        )

    count = lambda number: lambda answer: answer["TotalCount"] == number == len(answer["MediaInfoSet"])  # noqa: E731
    many = {"Names": ["x"] * 11, "FileIds": ["1"] * 11, "StreamIds": ["x"] * 11, "Tags": ["x"] * 17}
    return [
        ok("SearchMedia", whole, **one),
        ok("SearchMedia", count(1), **one, MediaTypes=["mp4", "flv"], Categories=["Video"], StreamPaths=["live"], Names=["CAM_"],
           Filters=PARTS, Sort={"Field": "CreateTime", "Order": "Desc"}, Offset=0, Limit=10, CreateTime={"After": "2020-01-01T00:00:00Z"}, StorageClasses=["STANDARD"]),
        ok("SearchMedia", count(0), **one, MediaTypes=["flv"]),
        ok("SearchMedia", count(0), StreamIds=["never-published"], SubAppId=0),
        ok("SearchMedia", lambda a: not a["MediaInfoSet"][0].get("MetaData"), **one, Filters=["basicInfo"]),
        *(bad(f"InvalidParameterValue.{name}", "SearchMedia", **{name: values}) for name, values in many.items()),
        bad("InvalidParameterValue.Offset", "SearchMedia", Offset=4_999, Limit=2),
        bad("InvalidParameterValue.Limit", "SearchMedia", Limit=5_001),
        bad("InvalidParameterValue.Sort", "SearchMedia", Sort={"Field": "Size", "Order": "Asc"}),
        bad("InvalidParameterValue.Categories", "SearchMedia", Categories=["Book"]),
        bad("InvalidParameterValue.SubAppId", "SearchMedia", SubAppId=7),
        bad("UnknownParameter", "SearchMedia", raw=True, Colour="red"),
        ok("DescribeMediaInfos", lambda a: [m["FileId"] for m in a["MediaInfoSet"]] == [recorded["file"]] and a["NotExistFileIdSet"] == ["387702290000000000"],
           FileIds=[recorded["file"], "387702290000000000", recorded["file"]]),
        ok("DescribeMediaInfos", lambda a: (a["MediaInfoSet"], a["NotExistFileIdSet"]) == ([], ["x"]), FileIds=["x"], Filters=["basicInfo"]),
        bad("MissingParameter", "DescribeMediaInfos"),
        bad("InvalidParameterValue.FileIdsOverLimit", "DescribeMediaInfos", FileIds=["1"] * 21),
        bad("InvalidParameterValue.SubAppId", "DescribeMediaInfos", FileIds=["1"], SubAppId=7),
    ]
