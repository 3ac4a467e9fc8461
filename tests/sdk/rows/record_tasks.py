from table import Saved, bad, ok

DAY = 86_400


def rows(scene):
    now = scene.now
    where = {"StreamName": "cam", "DomainName": scene.domain, "AppName": "live"}
    window = {"StartTime": now - 3_600, "EndTime": now + DAY, "DomainName": scene.domain}
    listed = lambda answer: [(task["StartTime"], task["EndTime"], task["TemplateId"]) for task in answer["TaskList"]]  # noqa: E731
    refused = lambda **more: bad("InvalidParameter", "CreateRecordTask", **{**where, "EndTime": now + 600, **more})  # noqa: E731
    return [
        ok("CreateRecordTask", save={"timed": "TaskId"}, **where, StartTime=now + 3_600, EndTime=now + 7_200, TemplateId=999_999_999, StreamType=1, Extension="x"),
        ok("CreateRecordTask", save={"past": "TaskId"}, **where, StartTime=now - 1_800, EndTime=now + 600, TemplateId=0),
        ok("CreateRecordTask", save={"instant": "TaskId"}, **where, EndTime=now + 600),
        ok("CreateRecordTask", save={"latest": "TaskId"}, **where, StartTime=now + 6 * DAY - 5, EndTime=now + 7 * DAY - 5),
        ok("DescribeRecordTask", lambda a: listed(a)[0] == (now - 1_800, now + 600, 0) and listed(a)[2] == (now + 3_600, now + 7_200, 999_999_999), **window),
        ok("DescribeRecordTask", lambda a: len(a["TaskList"]) == 3 and a["ScrollToken"] == "", **window, StreamName="cam", AppName="live", ScrollToken=""),
        ok("DescribeRecordTask", lambda a: a["TaskList"] == [], **window, StreamName="Cam"),
        # Wholly inside the window, or not at all.
        ok("DescribeRecordTask", lambda a: len(a["TaskList"]) == 1, **{**window, "StartTime": now + 3_600, "EndTime": now + 7_200}),
        ok("DescribeRecordTask", lambda a: a["TaskList"] == [], **{**window, "StartTime": now + 3_601, "EndTime": now + 7_200}),
        ok("DescribeRecordTask", lambda a: a["TaskList"] == [], **{**window, "StartTime": now + 3_600, "EndTime": now + 7_199}),
        bad("MissingParameter", "CreateRecordTask", **where),
        bad("MissingParameter", "CreateRecordTask", StreamName="cam", DomainName=scene.domain, EndTime=now + 600),
        refused(AppName=""), refused(StreamName=""), refused(DomainName=""), refused(DomainName="no domain"), refused(StreamName="a/b"),
        refused(EndTime=now - 1), refused(StartTime=now + 600), refused(StartTime=now + 60, EndTime=now + 61 + DAY),
        refused(StartTime=now + 6 * DAY + 60, EndTime=now + 6 * DAY + 120), refused(StreamType=2), refused(Extension="x" * 4_097),
        bad("InvalidParameter", "CreateRecordTask", raw=True, **where, EndTime="tomorrow"),
        bad("UnknownParameter", "CreateRecordTask", raw=True, **where, EndTime=now + 600, Format="mp4"),
        ok("StopRecordTask", TaskId=Saved("instant")),
        ok("StopRecordTask", TaskId=Saved("instant")),
        ok("DescribeRecordTask", lambda a: sorted(bool(task["Stopped"]) for task in a["TaskList"]) == [False, False, True], **window),
        bad("MissingParameter", "StopRecordTask"),
        bad("InvalidParameter", "StopRecordTask", TaskId="nothing"),
        bad("InvalidParameter", "StopRecordTask", TaskId="a b/é"),
        bad("MissingParameter", "DescribeRecordTask", StartTime=now),
        bad("InvalidParameter", "DescribeRecordTask", StartTime=now, EndTime=now),
        bad("InvalidParameter", "DescribeRecordTask", StartTime=now, EndTime=now + 7 * DAY + 1),
        bad("InvalidParameter", "DescribeRecordTask", StartTime=now - 90 * DAY - 60, EndTime=now - 90 * DAY),
        bad("InvalidParameter", "DescribeRecordTask", **window, ScrollToken="x"),
        *(ok("DeleteRecordTask", TaskId=Saved(name)) for name in ("timed", "past", "instant", "latest")),
        bad("InvalidParameter", "DeleteRecordTask", TaskId=Saved("timed")),
        bad("InvalidParameter", "StopRecordTask", TaskId=Saved("instant")),
        ok("DescribeRecordTask", lambda a: a["TaskList"] == [], **window),
    ]
