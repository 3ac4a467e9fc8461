"""The state of streams, and the calls that end and forbid them, with ffmpeg as the publisher."""

import time

import pytest

from appliance import until

FORM = "%Y-%m-%dT%H:%M:%SZ"


def utc(seconds):
    return time.strftime(FORM, time.gmtime(seconds))


def window(seconds=3600):
    return {"StartTime": utc(time.time() - seconds), "EndTime": utc(time.time() + seconds)}


def events(appliance, domain, **filters):
    return appliance.call("DescribeLiveStreamEventList", DomainName=domain, **{"PageSize": 100, **window(), **filters})["EventList"]


def state(appliance, key):
    return appliance.call("DescribeLiveStreamState", **key)["StreamState"]


@pytest.fixture
def key(domain):
    return {"DomainName": domain, "AppName": "live", "StreamName": "cam"}


@pytest.fixture
def live(capstan, source, push, domain):
    """A stream that runs."""
    capstan.record(domain, flv=True)
    publisher = push.ffmpeg(source("live"), capstan.url("cam", domain), loop=True)
    capstan.wait_recording("cam", domain)
    return publisher


def test_drop(capstan, source, push, domain, key, live):
    assert state(capstan, key) == "active"
    running = until(lambda: events(capstan, domain), 10, "the begin in the list")
    assert [(event["StreamEndTime"], event["StopReason"], event["ClientIp"]) for event in running] == [("", "", "127.0.0.1")]
    capstan.call("DropLiveStream", **key)
    live.wait(60)
    capstan.wait_offline("cam", domain)
    assert state(capstan, key) == "inactive"
    # What it sent is a file.
    assert capstan.file("cam", domain)["MetaData"]["Duration"] > 0
    ended = until(lambda: [event for event in events(capstan, domain) if event["StreamEndTime"]], 10, "the end in the list")
    assert len(ended) == 1 and ended[0]["StopReason"].startswith("21/100") and ended[0]["Resolution"] == "96x64"
    assert ended[0]["StreamStartTime"] == running[0]["StreamStartTime"] and 0 <= ended[0]["Duration"] <= 120
    # One that does not run is fine; and it may come back.
    capstan.call("DropLiveStream", **key)
    push(source("av"), capstan.url("cam", domain))
    capstan.files("cam", domain, 2)


def test_forbid_and_resume(capstan, source, push, domain, key, live):
    capstan.call("ForbidLiveStream", Reason="a test", **key)
    live.wait(60)
    assert state(capstan, key) == "forbid"
    listed = capstan.call("DescribeLiveForbidStreamList", PageSize=100)["ProhibitStreamList"]
    assert [entry for entry in listed if entry["StreamName"] == "cam"] != []
    assert capstan.call("DescribeLiveProhibitStreamList", PageSize=100)["ProhibitStreamList"] == listed
    refused = push.ffmpeg(source("av"), capstan.url("cam", domain))
    assert "18/305" in refused.communicate(timeout=60)[0].decode(errors="replace") and refused.returncode != 0
    # Others of the domain may.
    push(source("av"), capstan.url("other", domain))
    capstan.file("other", domain)
    until(lambda: len(events(capstan, domain, IsAsc=1)) == 3, 10, "all three in the list")
    assert [event["StopReason"].split(" ")[0] for event in events(capstan, domain, StreamName="cam", IsAsc=1)] == ["21/101", "18/305"]
    assert [event["StopReason"].split(" ")[0] for event in events(capstan, domain, StreamName="ca", IsFilter=1)] == ["21/101"]
    assert events(capstan, domain, StreamName="ca", IsStrict=1) == []
    assert [event["StreamName"] for event in events(capstan, domain, PageSize=1, PageNum=1)] == ["other"]
    published = capstan.call("DescribeLiveStreamPublishedList", DomainName=domain, PageSize=100, **window())
    assert sorted(entry["StreamName"] for entry in published["PublishInfo"]) == ["cam", "other"] and published["TotalNum"] == 2
    capstan.call("ResumeLiveStream", **key)
    capstan.call("ResumeLiveStream", **key)
    assert state(capstan, key) == "inactive"
    push(source("av"), capstan.url("cam", domain))
    capstan.files("cam", domain, 2)


def test_a_short_ban_ends_by_itself(capstan, source, push, domain, key):
    capstan.record(domain, flv=True)
    capstan.call("ForbidLiveStream", ResumeTime=utc(time.time() + 3600), **key)
    # The second call replaces the time.
    capstan.call("ForbidLiveStream", ResumeTime=utc(time.time() + 5), **key)
    assert state(capstan, key) == "forbid"
    until(lambda: state(capstan, key) == "inactive", 10, "the end of the ban")
    push(source("av"), capstan.url("cam", domain))
    capstan.file("cam", domain)


def test_bans_and_events_outlive_a_restart(start, source, push):
    appliance = start()
    cam = {"DomainName": "a.example", "AppName": "live", "StreamName": "cam"}
    appliance.call("ForbidLiveStream", **cam)
    publisher = push.ffmpeg(source("live"), appliance.url("killed", "a.example"), loop=True)
    until(lambda: events(appliance, "a.example"), 10, "the begin in the list")
    appliance.kill()
    publisher.wait(60)
    appliance.start()
    assert state(appliance, cam) == "forbid"
    killed = events(appliance, "a.example")
    assert len(killed) == 1 and killed[0]["StreamEndTime"] and "stopped" in killed[0]["StopReason"]
    refused = push.ffmpeg(source("av"), appliance.url("cam", "a.example"))
    assert "18/305" in refused.communicate(timeout=60)[0].decode(errors="replace")


def test_refusals(capstan):
    cam = {"DomainName": "a.example", "AppName": "live", "StreamName": "cam"}
    old = {"StartTime": utc(time.time() - 61 * 86400), "EndTime": utc(time.time() - 60 * 86400)}
    value = "InvalidParameterValue"
    for action, parameters, code in (
        ("DropLiveStream", {"DomainName": "a.example", "AppName": "live"}, "MissingParameter"),
        ("DropLiveStream", {**cam, "StreamName": ""}, value),
        ("DropLiveStream", {**cam, "DomainName": "a b"}, "InvalidParameter.DomainFormatError"),
        ("DropLiveStream", {**cam, "Reason": "x"}, "UnknownParameter"),
        ("ForbidLiveStream", {**cam, "ResumeTime": "tomorrow"}, value),
        ("ForbidLiveStream", {**cam, "ResumeTime": utc(time.time() - 5)}, value),
        ("ForbidLiveStream", {**cam, "ResumeTime": utc(time.time() + 91 * 86400)}, value),
        ("ForbidLiveStream", {**cam, "Reason": "x" * 2049}, value),
        ("DescribeLiveStreamState", {**cam, "AppName": None}, "MissingParameter"),
        ("DescribeLiveStreamEventList", {"StartTime": utc(time.time())}, "MissingParameter"),
        ("DescribeLiveStreamEventList", old, value),
        ("DescribeLiveStreamEventList", {"StartTime": "x", "EndTime": "y"}, value),
        ("DescribeLiveStreamEventList", {**window(), "PageSize": 101}, value),
        ("DescribeLiveStreamPublishedList", window(), "MissingParameter"),
        ("DescribeLiveStreamPublishedList", {**window(), "DomainName": "a.example", "PageSize": 9}, value),
        ("DescribeLiveForbidStreamList", {"PageSize": 101}, value),
    ):
        assert capstan.error(action, **parameters) == code, (action, parameters)
