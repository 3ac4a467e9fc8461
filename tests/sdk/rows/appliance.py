from table import bad, ok


def rows(scene):
    file = scene.recorded["file"]
    own = {"raw": True, "family": "live"}
    return [
        ok("DescribeApplianceState", lambda a: (a["TotalNum"], a["Streams"]) == (0, []) and a["Time"] >= a["StartTime"], **own, DomainName=scene.domain),
        ok("DescribeApplianceState", lambda a: a["PageSize"] == 1_000, **own, PageNum=2, PageSize=1_000),
        bad("InvalidParameterValue", "DescribeApplianceState", **own, PageSize=1_001),
        bad("InvalidParameterValue", "DescribeApplianceState", **own, PageNum=0),
        ok("DescribeApplianceSettings", **own),
        bad("UnknownParameter", "DescribeApplianceSettings", **own, Colour="red"),
        ok("DescribeAppliancePasses", lambda a: a["Passes"][0]["Milliseconds"] >= a["Passes"][-1]["Milliseconds"] > 0 and "drain" in a["Passes"][0]["StageMilliseconds"], **own),
        bad("UnknownParameter", "DescribeAppliancePasses", **own, Colour="red"),
        ok("DescribeRecordingReceipt", raw=True, family="vod", FileId=file),
        bad("MissingParameter", "DescribeRecordingReceipt", raw=True, family="vod"),
        bad("InvalidParameterValue.SubAppId", "DescribeRecordingReceipt", raw=True, family="vod", FileId=file, SubAppId=7),
    ]
