import time

from table import Saved, bad, ok


def china(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds + 8 * 3_600))


def rows(scene):
    stream, now = f"{scene.tag}-cam", scene.now
    timed = {"StreamName": stream, "StartTime": china(now + 3_600), "EndTime": china(now + 7_200)}
    refused = lambda code="InvalidParameterValue", **more: bad(code, "CreateLiveRecord", **{**timed, **more})  # noqa: E731
    mine = lambda name, **more: {"StreamName": stream, "TaskId": Saved(name), **more}  # noqa: E731
    return [
        ok("CreateLiveRecord", lambda a: a["TaskId"] > 0, {"timed": "TaskId"}, **timed),
        ok("CreateLiveRecord", save={"full": "TaskId"}, **timed, AppName="east", DomainName=scene.domain, RecordType="Audio", FileFormat="MP4", MixStream=1,
           Highlight=0, StreamParam="record_interval=7200&storage_time=86400&unknown=1"),
        ok("CreateLiveRecord", save={"highlight": "TaskId"}, StreamName=stream, Highlight=1),
        # Encoded by the caller once more, as the vendor's text asks for.
        ok("CreateLiveRecord", save={"encoded": "TaskId"}, StreamName=stream, StartTime=china(now - 60).replace(" ", "+").replace(":", "%3a"),
           EndTime=china(now + 600).replace(" ", "%20").replace(":", "%3A"), StreamParam="record_interval%3d3600"),
        bad("MissingParameter", "CreateLiveRecord"),
        bad("MissingParameter", "CreateLiveRecord", StreamName=stream),
        bad("MissingParameter", "CreateLiveRecord", StreamName=stream, StartTime=timed["StartTime"]),
        refused(StreamName=""), refused(StreamName="a/b"), refused(EndTime=timed["StartTime"]), refused(StartTime="tomorrow"),
        refused(StartTime=china(now - 7_200), EndTime=china(now - 3_600)), refused(RecordType="both"), refused(FileFormat="mkv"), refused(Highlight=2),
        refused(MixStream=2), refused(StreamParam="record_interval=1799"), refused(StreamParam="record_interval=7201"), refused(StreamParam="storage_time=x"),
        refused("InvalidParameter.DomainFormatError", DomainName="no domain"),
        # The two families of tasks do not see each other.
        ok("DescribeRecordTask", lambda a: a["TaskList"] == [], StartTime=now - 3_600, EndTime=now + 86_400, StreamName=stream),
        ok("CreateRecordTask", save={"newer": "TaskId"}, StreamName=stream, DomainName=scene.domain, AppName="live", EndTime=now + 600),
        ok("DeleteRecordTask", TaskId=Saved("newer")),
        bad("MissingParameter", "StopLiveRecord", StreamName=stream),
        bad("ResourceNotFound.TaskId", "StopLiveRecord", StreamName=stream, TaskId=999_999_999),
        bad("ResourceNotFound.TaskId", "StopLiveRecord", StreamName=stream, TaskId=-1),
        bad("ResourceNotFound.TaskId", "StopLiveRecord", **mine("timed", StreamName="another")),
        bad("InvalidParameter", "StopLiveRecord", raw=True, StreamName=stream, TaskId="one"),
        bad("FailedOperation.AlterTaskState", "DeleteLiveRecord", **mine("timed")),
        bad("FailedOperation.AlterTaskState", "DeleteLiveRecord", **mine("highlight")),
        *(ok("StopLiveRecord", **mine(name)) for name in ("timed", "full", "highlight", "encoded", "timed")),
        bad("ResourceNotFound.TaskId", "DeleteLiveRecord", **mine("timed", StreamName="another")),
        *(ok("DeleteLiveRecord", **mine(name)) for name in ("timed", "full", "highlight", "encoded")),
        bad("ResourceNotFound.TaskId", "DeleteLiveRecord", **mine("timed")),
        bad("ResourceNotFound.TaskId", "StopLiveRecord", **mine("timed")),
    ]
