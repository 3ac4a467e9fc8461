import time

from table import bad, ok


def utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def rows(scene):
    stream = {"AppName": "live", "DomainName": scene.domain, "StreamName": f"{scene.tag}-直播"}
    recorded = {"DomainName": scene.recorded["domain"], "StreamName": scene.recorded["stream"]}
    window = {"StartTime": utc(scene.now - 86_400), "EndTime": utc(scene.now + 3_600)}
    forbidden = lambda answer: [entry["StreamName"] for entry in answer["ProhibitStreamList"]]  # noqa: E731

    def ended(answer):
        (event,) = answer["EventList"]
        return event["StreamEndTime"].endswith("Z") and event["StopReason"] and event["Resolution"] == "160x120" and answer["TotalNum"] == 1

    return [
        ok("DescribeLiveStreamState", lambda a: a["StreamState"] == "inactive", **stream),
        ok("DropLiveStream", **stream),
        ok("ForbidLiveStream", **stream),
        ok("ForbidLiveStream", **stream, ResumeTime=utc(scene.now + 3_600), Reason="why & wherefore"),
        ok("DescribeLiveStreamState", lambda a: a["StreamState"] == "forbid", **stream),
        *(ok(action, lambda a: stream["StreamName"] in forbidden(a), raw=True, PageNum=1, PageSize=100)
          for action in ("DescribeLiveForbidStreamList", "DescribeLiveProhibitStreamList")),
        ok("ResumeLiveStream", **stream),
        ok("ResumeLiveStream", **stream),
        ok("DescribeLiveStreamState", lambda a: a["StreamState"] == "inactive", **stream),
        ok("DescribeLiveForbidStreamList", lambda a: stream["StreamName"] not in forbidden(a), raw=True, PageSize=100),
        ok("DescribeLiveStreamEventList", ended, **window, **recorded, AppName="live", IsStrict=1, IsFilter=1, IsAsc=1, PageNum=1, PageSize=10),
        ok("DescribeLiveStreamEventList", lambda a: (a["EventList"], a["TotalNum"], a["TotalPage"]) == ([], 0, 0), **window, DomainName=scene.domain),
        ok("DescribeLiveStreamPublishedList", lambda a: len(a["PublishInfo"]) == 1, **window, **recorded, PageSize=100),
        *(bad("MissingParameter", action, StreamName="cam") for action in ("DescribeLiveStreamState", "DropLiveStream", "ForbidLiveStream", "ResumeLiveStream")),
        bad("InvalidParameterValue", "ForbidLiveStream", **stream, ResumeTime=utc(scene.now - 60)),
        bad("InvalidParameterValue", "ForbidLiveStream", **stream, ResumeTime=utc(scene.now + 91 * 86_400)),
        bad("InvalidParameterValue", "ForbidLiveStream", **stream, ResumeTime="later"),
        bad("InvalidParameterValue", "ForbidLiveStream", **stream, Reason="x" * 2_049),
        *(bad("InvalidParameterValue", action, raw=True, PageSize=101) for action in ("DescribeLiveForbidStreamList", "DescribeLiveProhibitStreamList")),
        bad("MissingParameter", "DescribeLiveStreamEventList"),
        bad("InvalidParameterValue", "DescribeLiveStreamEventList", StartTime=window["EndTime"], EndTime=window["StartTime"]),
        bad("InvalidParameterValue", "DescribeLiveStreamEventList", StartTime=utc(scene.now - 31 * 86_400), EndTime=utc(scene.now)),
        bad("InvalidParameterValue", "DescribeLiveStreamEventList", StartTime=utc(scene.now - 61 * 86_400), EndTime=utc(scene.now - 59 * 86_400)),
        bad("InvalidParameterValue", "DescribeLiveStreamEventList", StartTime="yesterday", EndTime=utc(scene.now)),
        bad("MissingParameter", "DescribeLiveStreamPublishedList", **window),
        bad("InvalidParameterValue", "DescribeLiveStreamPublishedList", **window, **recorded, PageSize=9),
    ]
