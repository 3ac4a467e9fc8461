"""CreateLiveRecord, StopLiveRecord, DeleteLiveRecord: tasks that bring their own format."""

import signal
import time

import media
from appliance import until
from check import check, read
from rtmp import Live


def china(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds + 8 * 3600))


def older(appliance, stream, **parameters):
    return appliance.call("CreateLiveRecord", StreamName=stream, **{"Highlight": 1, **parameters})["TaskId"]


def test_formats_and_sound_alone(capstan, source, push, domain):
    """FLV by default; any container holds the sound alone if asked; without a domain a task takes the stream on every one."""
    stream = domain.split(".")[0]
    older(capstan, stream)
    older(capstan, stream, DomainName=domain, RecordType="AUDIO", FileFormat="Mp4", StreamParam="storage_time=3600")
    older(capstan, stream, DomainName="not-" + domain, FileFormat="aac")
    older(capstan, stream, AppName="other", FileFormat="mp3")
    push(source("av"), capstan.url(stream, domain))
    files = capstan.by_format(stream, domain, "flv", "mp4")
    whole = media.packets(source("av"))
    check(capstan, files["flv"], whole)
    check(capstan, files["mp4"], whole.only("audio"))
    assert files["mp4"]["BasicInfo"]["ExpireTime"] < "9999"
    assert files["mp4"]["MetaData"]["VideoStreamSet"] == []
    push(source("av"), capstan.url(stream, "third-" + domain))
    check(capstan, capstan.file(stream, "third-" + domain), whole)


def test_window_stop_and_delete(capstan, source, domain):
    """A window that began in the past records at once; StopLiveRecord ends it; three of a stream's tasks at a time, of both families."""
    stream, now = domain.split(".")[0], time.time()
    timed = {"Highlight": 0, "StartTime": china(now - 600), "EndTime": china(now + 600), "DomainName": domain}
    tasks = [older(capstan, stream, **timed) for _ in range(2)]
    newer = {"StreamName": stream, "DomainName": domain, "AppName": "live", "StartTime": int(now) - 300, "EndTime": int(now) + 600}
    capstan.call("CreateRecordTask", **newer)
    last = capstan.call("CreateRecordTask", **{**newer, "StartTime": int(now) - 200})["TaskId"]
    live = Live(source("live"), capstan.rtmp_port, f"{stream}?vhost={domain}")
    capstan.wait_online(stream, domain)
    until(lambda: len(live.sent["video"]) > 25)
    assert capstan.error("DeleteLiveRecord", StreamName=stream, TaskId=tasks[0]) == "FailedOperation.AlterTaskState"
    capstan.call("StopLiveRecord", StreamName=stream, TaskId=tasks[0])
    capstan.call("DeleteLiveRecord", StreamName=stream, TaskId=tasks[0])
    first = capstan.file(stream, domain)
    until(lambda: len(live.sent["video"]) > 65)
    capstan.call("DeleteRecordTask", TaskId=last)
    live.stop()
    files = capstan.files(stream, domain, 4)
    whole = media.packets(source("live"))
    begins = {file["FileId"]: media.assert_part_of(whole, read(capstan, file))["video"] for file in files}
    assert begins[first["FileId"]] == 0
    assert sorted(begin > 0 for begin in begins.values()) == [False, False, False, True], "the fourth waits"
    assert capstan.error("StopLiveRecord", StreamName=stream, TaskId=tasks[0]) == "ResourceNotFound.TaskId"
    capstan.call("StopLiveRecord", StreamName=stream, TaskId=tasks[1])


def test_tasks_survive_a_restart(start, source, push):
    """Of both families, whether the process ended in order or was killed; stopped ones stay stopped."""
    appliance = start()
    older(appliance, "cam", FileFormat="mp4")
    stopped = older(appliance, "cam", FileFormat="aac")
    appliance.call("StopLiveRecord", StreamName="cam", TaskId=stopped)
    appliance.call("CreateRecordTask", StreamName="cam", DomainName="localhost", AppName="live", EndTime=int(time.time()) + 600)
    for end in (appliance.kill, lambda: appliance.stop(signal.SIGTERM)):
        end()
        appliance.start()
        known = len(appliance.search(StreamIds=["cam"]))
        push(source("av"), appliance.url("cam"))
        files = appliance.files("cam", count=known + 2)
        assert sorted(file["BasicInfo"]["Type"] for file in files[known:]) == ["flv", "mp4"]


def test_quotas_of_the_older_calls(start):
    appliance = start(api={"older_tasks_max": 2, "older_tasks_per_day_max": 3, "tasks_max": 1})
    tasks = [older(appliance, "cam") for _ in range(2)]
    assert appliance.error("CreateLiveRecord", StreamName="cam", Highlight=1) == "LimitExceeded.MaximumRunningTask"
    # Each family has its own quota.
    appliance.call("CreateRecordTask", StreamName="cam", DomainName="a.example", AppName="live", EndTime=int(time.time()) + 600)
    appliance.call("StopLiveRecord", StreamName="cam", TaskId=tasks[0])
    assert older(appliance, "cam") > tasks[1]
    appliance.call("StopLiveRecord", StreamName="cam", TaskId=tasks[1])
    assert appliance.error("CreateLiveRecord", StreamName="cam", Highlight=1) == "LimitExceeded.MaximumTask"
