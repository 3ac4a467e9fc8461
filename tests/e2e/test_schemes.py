"""The five ways to say what is recorded: by domain, by stream, by time, from now, audio only."""

import time

import pytest

import media
from appliance import until
from check import check, read
from rtmp import Live


def test_by_domain(capstan, source, push, domain):
    capstan.record(domain, mp4=True)
    for app, stream in (("live", "one"), ("other", "two")):
        push(source("av"), capstan.url(stream, domain, app=app))
    push(source("av"), capstan.url("three", "not-" + domain))
    expected = media.packets(source("av"))
    for stream in ("one", "two"):
        check(capstan, capstan.file(stream, domain), expected)
    assert {file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["StreamId"] for file in capstan.search(StreamDomains=[domain])} == {"one", "two"}
    assert capstan.search(StreamDomains=["not-" + domain]) == []


def test_by_exact_stream(capstan, source, push, domain):
    capstan.rule(capstan.template(flv=True), domain, "live", "wanted")
    for app, stream in (("live", "wanted"), ("live", "wanted2"), ("live", "Wanted"), ("other", "wanted")):
        push(source("av"), capstan.url(stream, domain, app=app))
    check(capstan, capstan.file("wanted", domain), media.packets(source("av")))
    assert len(capstan.search(StreamDomains=[domain])) == 1


def test_the_most_exact_rule_wins(capstan, source, push, domain):
    """events.md 5: domain+app+stream, domain+stream, domain+app, domain."""
    for container, app, stream in (("flv", "live", "cam"), ("mp4", "", "cam"), ("aac", "live", ""), ("hls", "", "")):
        capstan.rule(capstan.template(**{container: True}), domain, app, stream)
    for app, stream, container in (("live", "cam", "flv"), ("east", "cam", "mp4"), ("live", "any", "aac"), ("east", "any", "hls")):
        push(source("av"), capstan.url(stream, domain, app=app))
        file = capstan.file(stream, domain, StreamPaths=[app])
        assert file["BasicInfo"]["Type"] == container, f"{app}/{stream}"


def test_template_without_formats_switches_off(capstan, source, push, domain):
    capstan.record(domain, flv=True)
    capstan.rule(capstan.template(), domain, "live", "secret")
    push(source("av"), capstan.url("secret", domain))
    push(source("av"), capstan.url("public", domain))
    capstan.file("public", domain)
    assert len(capstan.search(StreamDomains=[domain])) == 1


def test_audio_only(capstan, source, push, domain):
    """A template with AAC alone keeps the sound of a stream with pictures."""
    capstan.record(domain, aac=True)
    push(source("bframes"), capstan.url("radio", domain))
    file = capstan.file("radio", domain)
    check(capstan, file, media.packets(source("bframes")).only("audio"))
    assert [stream["codec_type"] for stream in media.probe(capstan.path_of(file), quiet=False)["streams"]] == ["audio"]


def slack(live):
    """How much longer than on a calm machine anything takes, s."""
    return 3 * live.late_s


def key_frame_before(live, moment):
    """Index of the last key frame that had left by then."""
    return max(index for index in live.key_frames if live.sent["video"][index] <= moment)


def task(appliance, stream, domain, end, **parameters):
    return appliance.call("CreateRecordTask", StreamName=stream, DomainName=domain, AppName="live", EndTime=int(end), **parameters)["TaskId"]


def test_from_now(capstan, source, domain):
    """A task on a stream that is live begins with the group of pictures in memory: the moment asked for is in the file."""
    live = Live(source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    capstan.wait_online("cam", domain)
    # In the middle of a group of pictures (they take 1 s).
    until(lambda: len(live.key_frames) >= 3 and len(live.sent["video"]) >= live.key_frames[-1] + 10, what="three key frames")
    asked = time.time()
    task_id = task(capstan, "cam", domain, asked + 3600)
    told = time.time()
    until(lambda: len(live.sent["video"]) >= live.key_frames[-1] + 10 and time.time() > asked + 2)
    stopped = time.time()
    capstan.call("StopRecordTask", TaskId=task_id)
    answered = time.time()
    file = capstan.file("cam", domain)
    live.stop()
    found, whole = read(capstan, file), media.packets(source("live"))
    begins = media.assert_part_of(whole, found)
    assert file["BasicInfo"]["Type"] == "flv"
    # Asked when the call came, which is somewhere between its begin and its answer.
    assert key_frame_before(live, asked) <= begins["video"] <= key_frame_before(live, told), "the file begins with the key frame before the moment asked for"
    # Sound begins with the picture, to a frame.
    assert abs(whole["audio"][begins["audio"]].pts - whole["video"][begins["video"]].pts) <= 24
    # To the end: everything that had left before the stop (but for what was on its way), nothing from after it.
    last = begins["video"] + len(found["video"]) - 1
    # The cores hear of it at their next tick.
    assert stopped - 0.5 - slack(live) <= live.sent["video"][last] <= answered + 0.2 + slack(live)
    media.assert_decodes(capstan.path_of(file))


def test_by_time_period(capstan, source, domain):
    """A task with a begin and an end in whole seconds."""
    live = Live(source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    capstan.wait_online("cam", domain)
    start = int(time.time()) + 3
    template = capstan.template(mp4=True, hls=True)
    task(capstan, "cam", domain, start + 4, StartTime=start, TemplateId=template)
    files = capstan.by_format("cam", domain, "mp4", "hls")
    assert time.time() >= start + 4
    live.stop()
    whole = media.packets(source("live"))
    for file in files.values():
        found = read(capstan, file)
        begins = media.assert_part_of(whole, found)
        # The key frame at or before the start, or the first one after it; frames come in with the tick.
        assert begins["video"] in live.key_frames
        # Groups of a second; the one before is kept for a quarter of a second more.
        assert start - 1.35 - slack(live) <= live.sent["video"][begins["video"]] <= start + 1.2 + slack(live)
        last = live.sent["video"][begins["video"] + len(found["video"]) - 1]
        assert start + 3.7 - slack(live) <= last <= start + 4.1 + slack(live)
        assert file["MetaData"]["Duration"] == pytest.approx(4, abs=1.3 + 2 * slack(live))


def test_task_waits_for_the_stream(capstan, source, push, domain):
    """A task may be made before the stream is there; every publication in its window is recorded."""
    task_id = task(capstan, "later", domain, time.time() + 600)
    for _ in range(2):
        push(source("av"), capstan.url("later", domain))
    files = capstan.files("later", domain, 2)
    for file in files:
        check(capstan, file, media.packets(source("av")))
        assert file["BasicInfo"]["Type"] == "flv"
    capstan.call("StopRecordTask", TaskId=task_id)
    push(source("av"), capstan.url("later", domain))
    capstan.rule(capstan.template(mp4=True), domain)
    push(source("av"), capstan.url("later", domain))
    assert [file["BasicInfo"]["Type"] for file in capstan.files("later", domain, 3)] == ["flv", "flv", "mp4"]


def test_task_beside_a_rule(capstan, source, push, domain):
    """Tasks are independent of rules and of each other."""
    capstan.record(domain, mp4=True)
    for _ in range(2):
        task(capstan, "both", domain, time.time() + 600)
    push(source("av"), capstan.url("both", domain))
    files = capstan.files("both", domain, 3)
    assert sorted(file["BasicInfo"]["Type"] for file in files) == ["flv", "flv", "mp4"]
    for file in files:
        check(capstan, file, media.packets(source("av")))


def test_at_most_three_tasks_record_a_stream(capstan, source, domain):
    """The fourth waits until one ends."""
    tasks = [task(capstan, "four", domain, time.time() + 600) for _ in range(4)]
    live = Live(source("live"), capstan.rtmp_port, f"four?vhost={domain}")
    capstan.wait_online("four", domain)
    until(lambda: len(live.sent["video"]) > 25)
    capstan.call("StopRecordTask", TaskId=tasks[0])
    first = capstan.file("four", domain)
    until(lambda: len(live.sent["video"]) > 65)
    live.stop()
    files = capstan.files("four", domain, 4)
    whole = media.packets(source("live"))
    begins = {file["FileId"]: media.assert_part_of(whole, read(capstan, file))["video"] for file in files}
    ends = {file["FileId"]: len(read(capstan, file)["video"]) + begins[file["FileId"]] for file in files}
    late = [file for file in begins if begins[file] > 0]
    assert len(late) == 1, begins
    assert ends[first["FileId"]] < max(ends.values())


def test_deleted_task_finishes_what_runs(capstan, source, domain):
    """DeleteRecordTask: what it records goes on; new publications are not taken."""
    task_id = task(capstan, "gone", domain, time.time() + 600)
    live = Live(source("live"), capstan.rtmp_port, f"gone?vhost={domain}")
    capstan.wait_online("gone", domain)
    until(lambda: len(live.sent["video"]) > 15)
    capstan.call("DeleteRecordTask", TaskId=task_id)
    assert capstan.error("StopRecordTask", TaskId=task_id) == "InvalidParameter"
    at_delete = len(live.sent["video"])
    until(lambda: len(live.sent["video"]) > at_delete + 30)
    sent = live.stop()
    found = read(capstan, capstan.file("gone", domain))
    assert len(found["video"]) == sent["video"] and len(found["audio"]) == sent["audio"]
    again = Live(source("live"), capstan.rtmp_port, f"gone?vhost={domain}")
    until(lambda: len(again.sent["video"]) > 15)
    again.stop()
    capstan.wait_offline("gone", domain)
    assert len(capstan.search(StreamDomains=[domain])) == 1


def test_a_rule_takes_effect_for_the_next_publication(capstan, source, push, domain):
    """Running publications keep what they began with."""
    live = Live(source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    capstan.wait_online("cam", domain)
    capstan.record(domain, flv=True)
    until(lambda: len(live.sent["video"]) > 30)
    live.stop()
    capstan.wait_offline("cam", domain)
    push(source("av"), capstan.url("cam", domain))
    check(capstan, capstan.file("cam", domain), media.packets(source("av")))
