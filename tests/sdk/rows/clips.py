import time

from table import bad, ok


def utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def rows(scene):
    file, url = scene.recorded["file"], scene.recorded.get("hls", "")
    day = {"StartTime": utc(scene.now - 3600), "EndTime": utc(scene.now + 3600)}
    live = {"StreamId": "hlscam", "Host": "hls-recorded.example", **day}
    cut = {"InputType": "File", "FileInfos": [{"FileId": file, "StartTimeOffset": 1, "EndTimeOffset": 2.5}]}
    output = {"MediaName": "cut", "Type": "mp4", "ClassId": 0, "ExpireTime": "2035-01-01T00:00:00Z"}
    return [
        ok("EditMedia", lambda a: "-EditMedia-" in a["TaskId"], save={"edit": "TaskId"}, **cut, OutputConfig=output, SessionContext="context"),
        ok("EditMedia", InputType="Stream", StreamInfos=[{"StreamId": "cam", **day}]),
        ok("SimpleHlsClip", lambda a: a["FileId"] == "" and "/clip-" in a["Url"], Url=url, StartTimeOffset=0.5, EndTimeOffset=2),
        ok("SimpleHlsClip", lambda a: len(a["FileId"]) in (18, 19), Url=url, IsPersistence=1, SourceContext="why"),
        ok("LiveRealTimeClip", lambda a: a["MetaData"] is None and len(a["SegmentSet"]) == 1, **live),
        ok("LiveRealTimeClip", lambda a: a["MetaData"]["Container"] == "hls" and a["FileId"], **live, IsPersistence=1, MetaDataRequired=1),
        bad("MissingParameter", "EditMedia", FileInfos=[{"FileId": file}]),
        bad("InvalidParameterValue", "EditMedia", InputType="Files", FileInfos=[{"FileId": file}]),
        bad("InvalidParameterValue", "EditMedia", InputType="File"),
        bad("ResourceNotFound", "EditMedia", InputType="File", FileInfos=[{"FileId": "387702290000000000"}]),
        bad("InvalidParameterValue", "EditMedia", InputType="File", FileInfos=[{"FileId": file, "StartTimeOffset": 9999}]),
        bad("InvalidParameterValue", "EditMedia", **cut, OutputConfig={"Type": "avi"}),
        bad("InvalidParameterValue.ProcedureName", "EditMedia", **cut, ProcedureName="nobody"),
        bad("InvalidParameterValue.SessionIdTooLong", "EditMedia", **cut, SessionId="x" * 51),
        bad("InvalidParameterValue.SessionContextTooLong", "EditMedia", **cut, SessionContext="x" * 1001),
        bad("ResourceNotFound", "EditMedia", InputType="Stream", StreamInfos=[{"StreamId": "nobody", **day}]),
        bad("MissingParameter", "SimpleHlsClip"),
        bad("InvalidParameterValue.Url", "SimpleHlsClip", Url="http://example.com/x.m3u8"),
        bad("InvalidParameterValue.StartTimeOffset", "SimpleHlsClip", Url=url, StartTimeOffset=9999),
        bad("InvalidParameterValue.EndTimeOffset", "SimpleHlsClip", Url=url, StartTimeOffset=2, EndTimeOffset=1),
        bad("InvalidParameterValue.IsPersistence", "SimpleHlsClip", Url=url, IsPersistence=7),
        bad("MissingParameter", "LiveRealTimeClip", StreamId="hlscam"),
        bad("InvalidParameterValue.StreamIdInvalid", "LiveRealTimeClip", StreamId="nobody", **day),
        bad("InvalidParameterValue.StartTime", "LiveRealTimeClip", **{**live, "StartTime": "now"}),
        bad("InvalidParameterValue.EndTime", "LiveRealTimeClip", **{**live, "EndTime": day["StartTime"]}),
        bad("InvalidParameterValue.ClipDuration", "LiveRealTimeClip", **{**live, "EndTime": utc(scene.now + 90_000)}),
    ]
