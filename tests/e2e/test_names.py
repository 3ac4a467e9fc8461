"""Stream names, apps and query parameters of every kind; none of them reaches the file system."""

import os
import re

import pytest

import media
from check import check
from rtmp import Refused, publisher

NAMES = {
    "unicode": "直播-📹-Ünï",
    "escaped spaces": "my%20summer%20stream",
    "parent folders": "../../../../tmp/capstan-escaped",
    "dots": "..",
    "inner slash": "stage/left",
    "escaped slash": "..%2f..%2fescaped",
    "shell": "$(touch x);'\"`|",
    "255 bytes": "n" * 255,
    "255 bytes of unicode": "é" * 127 + "x",
    "leading dash": "-rf",
    "colon": "C:\\x:y",
}


def assert_nothing_outside(appliance):
    outside = sorted(path.name for path in appliance.folder.iterdir())
    assert outside == ["capstan.log", "capstan.toml", "data"], outside
    # What goes away meanwhile is passed over.
    for folder, folders, files in os.walk(appliance.data):
        for name in folders + files:
            assert re.fullmatch(r"[A-Za-z0-9._%~-]+", name) and len(name) <= 255, f"{name} in {folder} is a name from the network"


@pytest.mark.parametrize("what", NAMES)
def test_name(capstan, source, push, domain, what):
    name = NAMES[what]
    capstan.record(domain, mp4=True, flv=True, hls=True)
    app = ["-rtmp_app", "live", "-rtmp_playpath", f"{name}?vhost={domain}"]
    push(source("av"), f"rtmp://127.0.0.1:{capstan.rtmp_port}/live/x", *app)
    files = capstan.by_format(name, domain, "flv", "hls", "mp4")
    expected = media.packets(source("av"))
    for file in files.values():
        check(capstan, file, expected)
        assert file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["StreamId"] == name
        response = capstan.session.get(file["BasicInfo"]["MediaUrl"], timeout=60)
        assert response.status_code == 200 and response.content == capstan.path_of(file).read_bytes()
    assert_nothing_outside(capstan)


@pytest.mark.parametrize("name", ["x" * 256, "x" * 300, "é" * 128, "tab\there", "line\nhere", "null\0here", "", "   "])
def test_refused_name(capstan, source, push, domain, name):
    """Refused with the reason, and the next publisher is not concerned."""
    capstan.record(domain, flv=True)
    with pytest.raises((Refused, ConnectionError)) as refusal:
        publisher(capstan.rtmp_port, f"{name}?vhost={domain}").wait_closed(5)
    if refusal.type is Refused:
        assert "NetStream.Publish." in str(refusal.value)
    push(source("av"), capstan.url("after", domain))
    capstan.file("after", domain)
    assert capstan.search(StreamDomains=[domain])[0]["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["StreamId"] == "after"
    assert_nothing_outside(capstan)


def test_ffmpeg_is_told_about_300_bytes(capstan, source, push, domain):
    process = push.ffmpeg(source("av"), capstan.url("x" * 300, domain))
    process.communicate(timeout=60)
    assert process.returncode != 0


def test_same_name_in_two_apps(capstan, source, push, domain):
    capstan.record(domain, mp4=True)
    running = {app: push.ffmpeg(source(name), capstan.url("cam", domain, app=app), realtime=True) for app, name in (("live", "av"), ("studio", "bframes"))}
    for process in running.values():
        push.finish(process)
    for app, name in (("live", "av"), ("studio", "bframes")):
        file = capstan.file("cam", domain, StreamPaths=[app])
        check(capstan, file, media.packets(source(name)))
        assert file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["Path"] == app


def test_app_with_a_slash(capstan, source, domain):
    """RTMP apps may have instances: `live/east` is an app of its own."""
    capstan.record(domain, flv=True)
    connection = publisher(capstan.rtmp_port, f"cam?vhost={domain}", app="live/east")
    for tag in media.flv_tags(source("av")):
        connection.tag(*tag)
    connection.close()
    check(capstan, capstan.file("cam", domain, StreamPaths=["live/east"]), media.packets(source("av")))


def test_query_parameters_are_kept_but_not_the_secret(capstan, source, push, domain):
    capstan.record(domain, flv=True)
    push(source("av"), capstan.url("cam", domain, query="user=7&note=a%26b&txSecret=0123456789abcdef0123456789abcdef&txTime=6955C000"))
    file = capstan.file("cam", domain)
    context = file["BasicInfo"]["SourceInfo"]["SourceContext"]
    assert context.startswith("rtmp://") and "/live/cam?" in context
    assert f"vhost={domain}" in context and "user=7" in context and "note=a%26b" in context
    assert "txSecret" not in context and "0123456789abcdef" not in context
    assert "0123456789abcdef" not in capstan.log


def test_domain_is_the_host_of_the_address(capstan, source, push, domain):
    """`rtmp://host/...`: the host is the domain; `vhost` overrides it; an IP address alone is the default domain."""
    capstan.record(domain, flv=True)
    name = domain.split(".")[0]
    for tc_url in (f"rtmp://{domain}/live", f"rtmp://{domain.upper()}:1935/live"):
        connection = publisher(capstan.rtmp_port, name, url=tc_url)
        for tag in media.flv_tags(source("av")):
            connection.tag(*tag)
        connection.close()
    files = capstan.files(name, domain, 2)
    assert {file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["Domain"] for file in files} == {domain}
    process = push.ffmpeg(source("live"), f"rtmp://127.0.0.1:{capstan.rtmp_port}/live/{name}-bare", realtime=True)
    assert capstan.wait_online(f"{name}-bare")[0]["DomainName"] == "localhost"
    process.kill()


def test_catalog_name_follows_the_pattern(capstan, source, push, domain):
    capstan.record(domain, flv={"VodFileName": "{StreamID}-{StartYear}{StartMonth}{StartDay}x{EndHour}{EndMinute}{EndSecond}"}, mp4=True)
    push(source("av"), capstan.url("cam", domain))
    files = capstan.by_format("cam", domain, "flv", "mp4")
    assert re.fullmatch(r"cam-\d{8}x\d{6}", files["flv"]["BasicInfo"]["Name"])
    time = r"\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d"
    assert re.fullmatch(rf"cam_{time}_{time}", files["mp4"]["BasicInfo"]["Name"])
    start = files["mp4"]["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["RecordStartTime"]
    assert files["mp4"]["BasicInfo"]["Name"].split("_")[1] == re.sub(r"[T:]", "-", start.rstrip("Z"))
