"""Callbacks: what is told, to whom, in what order, and that it arrives."""

import base64
import json
import os
import threading
import time

import pytest

import media
import rtmp
from appliance import free_port, until
from receiver import Receiver, is_signed
from test_command_line import capstan as command

URLS = ("StreamBeginNotifyUrl", "StreamEndNotifyUrl", "RecordNotifyUrl", "RecordStatusNotifyUrl", "RecordExceptionNotifyUrl", "PushExceptionNotifyUrl")


@pytest.fixture
def receiver():
    made = []

    def make(*arguments):
        made.append(Receiver(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def template(appliance, receiver, *urls, **more):
    named = {url: receiver.url() for url in urls}
    return appliance.call("CreateLiveCallbackTemplate", TemplateName="t", **named, **more)["TemplateId"]


def tell(appliance, domain, template_id, app=""):
    appliance.call("CreateLiveCallbackRule", DomainName=domain, TemplateId=template_id, **({"AppName": app} if app else {}))


def test_begin_file_end(capstan, source, push, domain, receiver):
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[:3], CallbackKey="capstan-callback-key"))
    capstan.record(domain, mp4=True, aac=True)
    push(source("av"), capstan.url("cam", domain, query="token=a%20b&x=1"))
    begin, end = mine.wait(1, 1)[0], mine.wait(1, 0)[0]
    files = {call["file_format"]: call for call in mine.wait(2, 100)}
    assert all(is_signed(call, "capstan-callback-key") for call in (begin, end, *files.values()))
    assert mine.calls[0] is begin and mine.calls.index(end) > 0
    for call in (begin, end):
        expected = {"appid": 1300000001, "app": domain, "appname": "live", "stream_id": "cam", "channel_id": "cam", "user_ip": "127.0.0.1", "set_id": 1}
        assert {field: call[field] for field in expected} == expected
        assert call["stream_param"] == f"vhost={domain}&token=a%20b&x=1" and call["node"] and call["sequence"].isdigit()
        assert abs(call["event_time"] - time.time()) < 60
    assert (begin["errcode"], begin["errmsg"], begin["width"]) == (0, "ok", 0)
    assert (end["errcode"], end["sequence"]) == (1, begin["sequence"]) and end["push_duration"].isdigit()
    for name, file in files.items():
        media = capstan.call("DescribeMediaInfos", FileIds=[file["file_id"]])["MediaInfoSet"][0]
        assert media["BasicInfo"]["MediaUrl"] == file["video_url"] and media["MetaData"]["Size"] == file["file_size"]
        assert round(media["MetaData"]["Duration"]) == file["duration"] and file["record_file_id"] == file["file_id"]
        assert (file["app"], file["appname"], file["stream_id"], file["task_id"], file["record_bps"]) == (domain, "live", "cam", "", 0)
        assert file["stream_param"] == begin["stream_param"] and file["start_time"] <= file["end_time"] and 0 <= file["start_time_usec"] < 1_000_000
    assert (end["width"], end["height"]) == tuple(map(int, json.loads(files["mp4"]["callback_ext"])["resolution"].split("x")))
    assert json.loads(files["mp4"]["callback_ext"])["video_codec"] == "h264"
    assert json.loads(files["aac"]["callback_ext"]) == {"audio_codec": "aac"}


def test_the_rule_of_domain_and_app_wins(capstan, source, push, domain, receiver):
    wide, narrow = receiver(), receiver()
    tell(capstan, domain, template(capstan, wide, *URLS[:2]))
    tell(capstan, domain, template(capstan, narrow, *URLS[:2]), app="studio")
    push(source("av"), capstan.url("cam", domain, app="studio"))
    push(source("av"), capstan.url("cam", domain, app="live"))
    assert [call["appname"] for call in narrow.wait(2, 0, 1)] == ["studio"] * 2
    assert [(call["event_type"], call["appname"]) for call in wide.wait(2, 0, 1)] == [(1, "live"), (0, "live")]
    assert len(narrow.calls) == 2


def test_a_task_names_itself(capstan, source, push, domain, receiver):
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, "RecordNotifyUrl"))
    task = capstan.call("CreateRecordTask", DomainName=domain, AppName="live", StreamName="cam", EndTime=int(time.time()) + 600)["TaskId"]
    push(source("av"), capstan.url("cam", domain, query="x=1"))
    (file,) = mine.wait(1, 100)
    assert (file["task_id"], file["stream_param"], file["file_format"]) == (task, "", "flv")


def test_attempts_go_on_in_order(start, source, push, domain, receiver):
    """Refused three times (once by a redirect, once by silence): the end waits for the begin, and each attempt is signed anew."""
    answers = [lambda handler: handler.wfile.close() or None, 302, 500]
    mine = receiver(lambda call, number: answers[number] if number < len(answers) else 200)
    capstan = start(callbacks={"retry_interval_ms": 300})
    tell(capstan, domain, template(capstan, mine, *URLS[:2], CallbackKey="k"))
    push(source("av"), capstan.url("cam", domain))
    mine.wait(1, 0)
    assert [call["event_type"] for call in mine.calls] == [1, 1, 1, 1, 0]
    assert all(call.path == "/" and is_signed(call, "k") for call in mine.calls)
    gaps = [later.time - earlier.time for earlier, later in zip(mine.calls, mine.calls[1:4])]
    assert all(gap > 0.28 for gap in gaps), gaps
    until(lambda: capstan.metric("capstan_callback_attempts_total", result="delivered") == 2, 10, "the count")
    until(lambda: capstan.metric("capstan_callback_attempts_total", result="failed") == 3, 10, "the failures")


def test_given_up_and_sent_again(start, source, push, domain, receiver):
    refuse = threading.Event()
    refuse.set()
    mine = receiver(lambda call, number: 503 if refuse.is_set() else 200)
    capstan = start(callbacks={"retry_interval_ms": 100, "retries_max": 2})
    tell(capstan, domain, template(capstan, mine, *URLS[:2]))
    push(source("av"), capstan.url("cam", domain))
    failed = until(lambda: (lambda a: a if a["TotalCount"] == 2 else None)(capstan.call("DescribeCallbackDeliveries", State="failed")), 20, "both given up")
    assert [call["event_type"] for call in mine.calls] == [1, 1, 1, 0, 0, 0]
    newest = failed["Deliveries"][0]
    assert (newest["EventType"], newest["Attempts"], newest["LastAnswer"], newest["State"]) == ("0", 3, "HTTP 503", "failed")
    assert newest["Url"] == mine.url() and newest["Stream"] == f"{domain}/live/cam" and json.loads(newest["Body"])["event_type"] == 0
    capstan.said("a callback is given up", count=2)
    until(lambda: capstan.metric("capstan_callback_attempts_total", result="given_up") == 2, 10, "the count")
    refuse.clear()
    assert capstan.error("ReplayCallbackDeliveries") == "MissingParameter"
    rows = command(capstan, "callbacks", "list", "--state", "failed").splitlines()
    assert rows[0].startswith("ID") and [row.split()[1:6:2] for row in rows[1:]] == [["0", mine.url(), "3"], ["1", mine.url(), "3"]]
    assert command(capstan, "callbacks", "list", "--event", "100") == "Nothing was to be told.\n"
    assert "say which" in command(capstan, "callbacks", "replay", code=1)
    assert command(capstan, "callbacks", "replay", "--state", "failed") == "2 to be sent again\n"
    until(lambda: len(mine.calls) == 8, 20, "both again")
    assert [call["event_type"] for call in mine.calls[6:]] == [1, 0]


def test_a_slow_receiver_delays_nobody_else(start, source, push, domain, receiver):
    stop = threading.Event()
    # It answers when everything else has been looked at.
    slow, fast = receiver(lambda call, number: stop.wait(300) and 200 or 200), receiver()
    capstan = start(callbacks={"requests_max": 2, "answer_timeout_ms": 300_000})
    dead = f"http://127.0.0.1:{free_port()}/"
    tell(capstan, domain, template(capstan, slow, *URLS[:2]), app="slow")
    tell(capstan, domain, capstan.call("CreateLiveCallbackTemplate", TemplateName="t", StreamBeginNotifyUrl=dead)["TemplateId"], app="dead")
    tell(capstan, domain, template(capstan, fast, *URLS[:2]), app="fast")
    push(source("av"), capstan.url("cam", domain, app="dead"))
    push(source("av"), capstan.url("cam", domain, app="fast"))
    fast.wait(2, 0, 1)
    push(source("av"), capstan.url("one", domain, app="slow"))
    push(source("av"), capstan.url("two", domain, app="slow"))
    slow.wait(1, 1)
    push(source("av"), capstan.url("cam", domain, app="fast"))
    assert [call["event_type"] for call in fast.wait(4, 0, 1)] == [1, 0, 1, 0]
    assert len(slow.calls) == 1, "one request at a time to an address that has not answered"
    stop.set()


def test_kill_9_between_the_file_and_its_callback(start, source, push, domain, receiver):
    """The receiver is not there when the file is finished: it hears of it, and of the end, after the restart."""
    mine = receiver()
    mine.close()
    # Nothing is given up, however long the receiver is away.
    capstan = start(callbacks={"retry_interval_ms": 200, "retries_max": 1000})
    tell(capstan, domain, template(capstan, mine, *URLS[:3], "RecordStatusNotifyUrl", CallbackKey="k"))
    capstan.record(domain, flv=True)
    push(source("av"), capstan.url("cam", domain))
    file = capstan.file("cam", domain)
    publisher = push.ffmpeg(source("live"), capstan.url("running", domain), realtime=True)
    # Its begin, and that of its recording.
    until(lambda: capstan.call("DescribeCallbackDeliveries", Stream=f"{domain}/live/running")["TotalCount"] == 2, what="what is to be told")
    capstan.wait_recording("running", domain)
    capstan.kill()
    publisher.wait(60)
    mine.open()
    capstan.start()
    mine.wait(2, 0)
    assert {call["file_id"] for call in mine.wait(2, 100)} == {file["FileId"], capstan.file("running", domain)["FileId"]}
    by_stream = lambda stream: [call["event_type"] for call in mine.calls if call["stream_id"] == stream and call["event_type"] != 332]  # noqa: E731
    assert sorted(by_stream("cam")) == [0, 1, 100] and by_stream("cam")[0] == 1
    assert sorted(by_stream("running")) == [0, 1, 100] and by_stream("running")[0] == 1
    (end,) = [call for call in mine.of(0) if call["stream_id"] == "running"]
    assert end["errcode"] == 5 and end["sequence"] == [call for call in mine.of(1) if call["stream_id"] == "running"][0]["sequence"]
    # The recording that was cut off has ended, too, once.
    until(lambda: len([call for call in mine.of(332) if call["stream_id"] == "running"]) == 2, 10, "the end of the recording")
    told = [call["record_event"] for call in mine.of(332) if call["stream_id"] == "running"]
    assert told == ["record_start_succeeded", "record_ended"]
    assert all(is_signed(call, "k") for call in mine.calls)


def test_standard_webhooks(start, source, push, domain, receiver):
    from standardwebhooks.webhooks import Webhook

    mine = receiver(lambda call, number: 500 if number == 0 else 200)
    secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
    capstan = start(callbacks={"webhook_secret": secret, "retry_interval_ms": 1100})
    tell(capstan, domain, template(capstan, mine, *URLS[:2]))
    push(source("av"), capstan.url("cam", domain))
    calls = mine.wait(3, 0, 1)
    for call in calls:
        assert Webhook(secret).verify(call.raw, {name.lower(): value for name, value in call.headers.items()}) == call.body
    first, again, end = calls
    assert first.headers["webhook-id"] == again.headers["webhook-id"] != end.headers["webhook-id"]
    assert int(first.headers["webhook-timestamp"]) < int(again.headers["webhook-timestamp"])


def test_forbidden_networks(start, source, push, domain, receiver):
    mine = receiver()
    capstan = start(callbacks={"retries_max": 0, "forbidden_networks": ["127.0.0.0/8"]})
    unsafe = {"TemplateName": "t", "StreamBeginNotifyUrl": mine.url()}
    assert capstan.error("CreateLiveCallbackTemplate", **unsafe) == "InvalidParameter.UrlNotSafe"
    assert capstan.error("ModifyEventConfig", NotificationUrl=mine.url()) == "InvalidParameter"
    capstan.stop()
    # What was entered before is not called either.
    capstan.settings["callbacks"]["forbidden_networks"] = []
    capstan.start()
    tell(capstan, domain, capstan.call("CreateLiveCallbackTemplate", **unsafe)["TemplateId"])
    capstan.stop()
    capstan.settings["callbacks"]["forbidden_networks"] = ["127.0.0.1"]
    capstan.start()
    push(source("av"), capstan.url("cam", domain))
    failed = until(lambda: capstan.call("DescribeCallbackDeliveries", State="failed")["Deliveries"], 10, "the failure")
    assert "must not be called" in failed[0]["LastAnswer"] and mine.calls == []


def test_catalog_events_are_pushed(capstan, source, push, domain, receiver):
    mine = receiver()
    app = capstan.call("CreateSubAppId", Name=f"push-{mine.port}")["SubAppId"]
    switches = {"UploadMediaCompleteEventSwitch": "ON", "DeleteMediaCompleteEventSwitch": "ON"}
    capstan.call("ModifyEventConfig", SubAppId=app, Mode="PUSH", NotificationUrl=mine.url("/vod"), SignKey="key1", **switches)
    capstan.record(domain, flv={"VodSubAppId": app})
    push(source("av"), capstan.url("cam", domain))
    upload = until(lambda: mine.calls, 20, "the upload")[0]
    assert upload["EventType"] == "NewFileUpload" and upload.path == "/vod" and is_signed(upload, "key1", "Sign", "T")
    file = upload["FileUploadEvent"]["FileId"]
    assert upload["FileUploadEvent"]["MediaBasicInfo"]["SourceInfo"]["SourceType"] == "Record"
    capstan.call("ModifyEventConfig", SubAppId=app, SignKey="")
    capstan.call("DeleteMedia", SubAppId=app, FileId=file)
    deleted = until(lambda: mine.calls[1:], 20, "the deletion")[0]
    assert deleted.body == {"EventType": "FileDeleted", "FileDeleteEvent": {"FileIdSet": [file], "FileDeleteResultInfo": [{"FileId": file, "DeleteParts": []}]}}


def states(receiver):
    return [(call["record_event"], json.loads(call["record_detail"])["file_format"]) for call in receiver.of(332)]


def test_states_of_recordings(capstan, source, push, domain, receiver):
    """One event for each format and state; a format that needs what does not come cannot begin."""
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[3:5], CallbackKey="k"))
    capstan.record(domain, mp4=True, flv=True, mp3=True)
    task = capstan.call("CreateRecordTask", DomainName=domain, AppName="live", StreamName="cam", EndTime=int(time.time()) + 600)["TaskId"]
    push(source("av"), capstan.url("cam", domain))
    until(lambda: len(mine.of(332)) == 7 and mine.of(341), 20, "all states")
    by_rule = [call for call in mine.of(332) if call["task_id"] == ""]
    by_task = [call for call in mine.of(332) if call["task_id"] == task]
    started, failed, ended = "record_start_succeeded", "record_start_failed", "record_ended"
    assert sorted((call["record_event"], json.loads(call["record_detail"])["file_format"]) for call in by_rule) == [
        (ended, 1), (ended, 3), (failed, 5), (started, 1), (started, 3)]
    assert [call["record_event"] for call in by_task] == [started, ended]
    detail = {"record_bps": 0, "record_content": 1, "source_type": 1, "codec_temp_id": 0}
    assert json.loads(by_rule[0]["record_detail"]).items() > {**detail, "start_model": 1}.items()
    assert json.loads(by_task[0]["record_detail"]).items() > {**detail, "start_model": 5}.items()
    for call in mine.of(332):
        expected = {"appid": 1300000001, "domain": domain, "appname": "live", "stream_id": "cam"}
        assert {field: call[field] for field in expected} == expected and is_signed(call, "k")
        assert call["seq"].isdigit() and call["session_id"].isdigit()
    assert len({call["seq"] for call in mine.of(332)}) == 7
    assert len({call["session_id"] for call in by_rule}) == 1 != len({call["session_id"] for call in mine.of(332)})
    (missing,) = mine.of(341)
    assert (missing["file_format"], missing["exception_level"], missing["stream_id"]) == ("MP3", "error", "cam")
    assert [(one["type"], one["occurs"]) for one in missing["exception"]] == [(-17, 1)] and missing["session_id"] == by_rule[0]["session_id"]


def test_pause_and_resume_are_told(capstan, source, push, domain, receiver):
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[2:4]))
    capstan.record(domain, hls=True, HlsSpecialParam={"FlowContinueDuration": 1800})
    push(source("av"), capstan.url("cam", domain))
    push(source("av"), capstan.url("cam", domain))
    until(lambda: len(mine.of(332)) == 4, what="the second pause")
    capstan.call("ForbidLiveStream", StreamName="cam", AppName="live", DomainName=domain)
    mine.wait(1, 100)
    told = ["record_start_succeeded", "record_paused", "record_resumed", "record_paused", "record_ended"]
    until(lambda: len(mine.of(332)) == len(told), 10, "all states")
    assert states(mine) == [(state, 2) for state in told]
    assert len({call["session_id"] for call in mine.of(332)}) == 1 and len(mine.of(100)) == 1


def test_errors_of_the_stream_and_of_its_recording(capstan, source, domain, receiver):
    """A publisher with jumps, steps back, large chunks and audio before its header; levels choose what is told."""
    mine, errors_only = receiver(), receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[4:], CallbackKey="k"))
    tell(capstan, domain, template(capstan, errors_only, *URLS[4:5], RecordExceptionLevels=["error"]), app="errors")
    capstan.record(domain, flv=True)
    for app in ("live", "errors"):
        publisher = rtmp.publisher(capstan.rtmp_port, f"cam?vhost={domain}", app)
        publisher.set_chunk_size(60_000)
        tags = list(media.flv_tags(source("av")))
        audio = next(tag for tag in tags if tag[0] == rtmp.AUDIO and not rtmp.is_configuration(tag[0], tag[2]))
        publisher.tag(*audio)
        offset = 0
        for number, (kind, timestamp, body) in enumerate(tags):
            if number == len(tags) // 2:
                offset = 60_000
            if number == len(tags) * 3 // 4:
                offset -= 100
            publisher.tag(kind, timestamp + offset, body)
        publisher.close()
    # Collected for a time; a publisher that is slow has its errors in several messages.
    found = lambda: {one["type"]: one for call in mine.of(321) for one in call["abnormal_event"]}  # noqa: E731
    # Both tracks went back and jumped; the chunks were large; one frame of audio came before its header.
    until(lambda: set(found()) >= {1, 2, 3, 4, 5, 11}, what="all errors")
    errors, found = mine.of(321)[0], found()
    expected = {"appid": 1300000001, "domain": domain, "path": "live", "stream_id": "cam", "report_interval": 5000, "interface": "general_callback", "timeout": 5000}
    assert {field: errors[field] for field in expected} == expected and is_signed(errors, "k")
    assert set(found) == {1, 2, 3, 4, 5, 11}, errors.body
    assert all(one["count"] == len(one["detail"]) >= 1 and one["type_desc_en"] and one["type_desc_cn"] for one in found.values())
    assert "60000 bytes" in found[5]["detail"][0]["desc"] and abs(found[5]["detail"][0]["occur_time"] / 1000 - time.time()) < 60
    trouble = mine.wait(1, 341)[0]
    assert (trouble["file_format"], trouble["exception_level"]) == ("FLV", "warning") and is_signed(trouble, "k")
    until(lambda: {one["type"] for call in mine.of(341) for one in call["exception"]} >= {-8, -9, -11}, what="all of the recording's")
    # A jump ends a file, in either app.
    capstan.files("cam", domain, 4)
    assert errors_only.of(341) == [], "warnings were not asked for"


def test_a_clean_stream_has_no_errors(capstan, source, push, domain, receiver):
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[1:]))
    capstan.record(domain, mp4=True, hls=True)
    push(source("av"), capstan.url("cam", domain), realtime=True)
    mine.wait(1, 0)
    mine.wait(2, 100)
    assert mine.of(321, 341) == []


def test_a_class_that_is_gone_is_a_warning(capstan, source, push, domain, receiver):
    mine = receiver()
    tell(capstan, domain, template(capstan, mine, *URLS[2:5:2]))
    capstan.record(domain, flv={"ClassId": 4711})
    push(source("av"), capstan.url("cam", domain))
    trouble, file = mine.wait(1, 341)[0], mine.wait(1, 100)[0]
    assert (trouble["exception_level"], trouble["file_format"], trouble["stream_id"]) == ("warning", "FLV", "cam")
    assert [one["type"] for one in trouble["exception"]] == [-100] and "4711" in trouble["exception"][0]["desc"] and trouble["session_id"].isdigit()
    assert capstan.call("DescribeMediaInfos", FileIds=[file["file_id"]])["MediaInfoSet"][0]["BasicInfo"]["ClassId"] == 0
