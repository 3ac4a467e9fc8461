"""Recordings that are encrypted as they are written: nothing in the clear on any disk, whole frames after a kill, played with a token only."""

import re
import shutil
import subprocess
import urllib.parse

import media
import pytest
import requests
from appliance import BINARY, until
from check import annexb as frames
from test_console import browser  # noqa: F401
from test_player import APP, info, psign


def template(appliance, **more):
    return appliance.template(hls=True, HlsEncryption={"Type": "SimpleAES", "RotationSegments": 2, **more})


def opened(appliance, file):
    """The address under which a reader that knows nothing else plays it."""
    key = appliance.call("DescribeDefaultDistributionConfig", version="2018-07-17")["PlayKey"]
    streaming = info(appliance, file["FileId"], psign(key, file["FileId"], contentInfo={"audioVideoType": "Original"}))["media"]["streamingInfo"]
    assert "plainOutput" not in streaming and streaming["drmOutput"][0]["type"] == "SimpleAES"
    folder, name = streaming["drmOutput"][0]["url"].rsplit("/", 1)
    return f"{folder}/voddrm.token.{streaming['drmToken']}.{name}"


def assert_same_frames(expected, found):
    # ADTS headers are the container's: sound is compared by its count.
    assert found.kinds == expected.kinds
    for kind in expected.kinds:
        a, b = ([packet.md5 if kind == "video" else index for index, packet in enumerate(packets[kind])] for packets in (expected, found))
        assert a == b, f"{len(b)} {kind} packets, expected {len(a)}; the first difference is at {media.first_difference(a, b)}"


def clear_packets(folder):
    """Transport packets that lie anywhere in the clear: three sync bytes in their distance."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in (".ts", ".m4s", ".mp4", ".flv"):
            data = path.read_bytes()
            found += [path for at in range(0, min(len(data), 40_000)) if data[at : at + 565 : 188] == b"GGG" and len(data) > 565]
    return found


def test_templates_say_what_they_may_have(start):
    appliance = start()
    sealed = {"TemplateName": "t", "HlsEncryption": {"Type": "SimpleAES"}}
    on = {"Enable": 1}
    for wrong in ({"HlsParam": on, "Mp4Param": on}, {"Mp4Param": on}, {"HlsParam": on, "PreRecordDuration": 60}, {"HlsParam": {**on, "Procedure": "LongVideoPreset"}}):
        assert appliance.error("CreateLiveRecordTemplate", **sealed, **wrong) == "InvalidParameter", wrong
    assert appliance.error("CreateLiveRecordTemplate", TemplateName="t", HlsParam=on, HlsEncryption={"Type": "Widevine"}) == "InvalidParameterValue"
    made = appliance.call("CreateLiveRecordTemplate", **sealed, HlsParam=on)["TemplateId"]
    shown = appliance.call("DescribeLiveRecordTemplate", TemplateId=made)["Template"]
    assert shown["HlsEncryption"] == {"Type": "SimpleAES", "RotationSegments": 0}
    assert appliance.error("ModifyLiveRecordTemplate", TemplateId=made, FlvParam=on) == "InvalidParameter"
    appliance.call("ModifyLiveRecordTemplate", TemplateId=made, HlsEncryption={"Type": ""}, FlvParam=on)
    assert "HlsEncryption" not in appliance.call("DescribeLiveRecordTemplate", TemplateId=made)["Template"]


@pytest.mark.parametrize("name", ["bframes", "aac"])
def test_an_encrypted_recording(start, push, source, domain, name, tmp_path):
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.rule(template(appliance), domain)
    push(source(name), appliance.url("cam", domain))
    file = appliance.file("cam", domain)
    assert clear_packets(appliance.data) == []
    verify = lambda path: subprocess.run([BINARY, "verify", path], capture_output=True, text=True, timeout=60)  # noqa: E731
    assert (done := verify(appliance.data)).returncode == 0 and "only its checksums" not in done.stdout, done.stdout
    # Away from the key, what can be compared is.
    elsewhere = shutil.copytree(appliance.folder_of(file), tmp_path / file["FileId"])
    assert (done := verify(elsewhere)).returncode == 0 and "only its checksums" in done.stdout, done.stdout
    # Without a token there is a playlist and no key.
    plain = requests.get(file["BasicInfo"]["MediaUrl"], timeout=60).text
    keys = re.findall(r'#EXT-X-KEY:METHOD=AES-128,URI="([^"]+)",IV=0x([0-9a-f]{32})', plain)
    segments = plain.count("#EXTINF")
    assert len(keys) == segments >= 3 and len({vector for _, vector in keys}) == segments
    assert len({address for address, _ in keys}) == -(-segments // 2), "a key for two segments"
    for token in ("", "&token=7fffffff-00000000000000000000000000000000"):
        assert requests.get(urllib.parse.urljoin(file["BasicInfo"]["MediaUrl"], keys[0][0]) + token, timeout=60).status_code == 403
    url = opened(appliance, file)
    assert_same_frames(media.packets(source(name)) if name == "aac" else frames(source(name)), media.packets(url) if name == "aac" else frames(url))
    media.assert_decodes(url)
    assert abs(float(media.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", url]).stdout) - file["MetaData"]["Duration"]) < 0.2
    # A clip of it names the same keys; a file of its own it cannot be.
    clip = appliance.call("SimpleHlsClip", Url=file["BasicInfo"]["MediaUrl"], StartTimeOffset=1, EndTimeOffset=2)["Url"]
    folder, clip_name = clip.rsplit("/", 1)
    token = url.rsplit("/voddrm.token.", 1)[1].split(".")[0]
    media.assert_decodes(f"{folder}/voddrm.token.{token}.{clip_name}")
    assert appliance.error("SimpleHlsClip", Url=file["BasicInfo"]["MediaUrl"], IsPersistence=1) == "UnsupportedOperation"
    task = appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"CoverBySnapshotTaskSet": [{"Definition": 10}]})["TaskId"]
    done = until(lambda: (d := appliance.call("DescribeTaskDetail", TaskId=task))["Status"] == "FINISH" and d, what="the end of the flow")
    assert "encrypted" in done["ProcedureTask"]["MediaProcessResultSet"][0]["CoverBySnapshotTask"]["Message"]


def test_a_killed_encrypted_recording_has_every_frame(start, push, source, domain):
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.rule(template(appliance), domain)
    publisher = push.ffmpeg(source("live"), appliance.url("cam", domain), realtime=True)
    until(lambda: any(path.read_text().count("#EXTINF") >= 2 for path in appliance.data.glob("recording/*/index.m3u8")), 20, "two segments")
    appliance.kill()
    publisher.kill()
    assert clear_packets(appliance.data) == []
    appliance.start()
    file = appliance.file("cam", domain)
    url = opened(appliance, file)
    media.assert_decodes(url)
    sent, found = ([packet.md5 for packet in frames(path)["video"]] for path in (source("live"), url))
    assert len(found) >= 40 and found == sent[: len(found)]
    assert file["MetaData"]["VideoStreamSet"][0]["Fps"] == 20


def test_an_encrypted_recording_goes_on_after_an_interruption(start, push, source, domain):
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.rule(appliance.template(hls=True, HlsEncryption={"Type": "SimpleAES"}, HlsSpecialParam={"FlowContinueDuration": 3}), domain)
    push(source("av"), appliance.url("cam", domain))
    push(source("av"), appliance.url("cam", domain))
    file = appliance.file("cam", domain)
    assert [path.name for path in sorted(appliance.folder_of(file).glob("media-*.ts"))] == ["media-1.ts", "media-2.ts"]
    url = opened(appliance, file)
    media.assert_decodes(url)
    # Each publication counts from its own beginning, which readers remark upon.
    sent = [packet.md5 for packet in frames(source("av"))["video"]]
    found = media.packets(url, video_filter="h264_mp4toannexb,filter_units=pass_types=1-6", quiet=False)
    assert [packet.md5 for packet in found["video"]] == sent + sent


def test_an_encrypted_recording_plays_in_browsers(start, push, source, browser):  # noqa: F811
    """In the player page with a signature, and in the console for whoever may call the API."""
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.rule(template(appliance), "localhost")
    push(source("live"), appliance.url("cam"))
    file = appliance.file("cam")["FileId"]
    key = appliance.call("DescribeDefaultDistributionConfig", version="2018-07-17")["PlayKey"]
    state = "() => { const v = document.querySelector('video'); v.play().catch(() => {}); return [v.currentTime, v.getVideoPlaybackQuality().totalVideoFrames, v.error && v.error.code]; }"
    page = browser.new_page()
    for address in (f"/player/{APP}/{file}?autoplay=1&psign={psign(key, file)}", f"/#/recording/{file}"):
        page.goto(appliance.http + address)
        page.wait_for_selector("video")
        until(lambda: page.evaluate("() => document.querySelector('video').readyState") >= 2, 15, "a picture")
        # Into the middle, where another key holds.
        page.evaluate("() => { const v = document.querySelector('video'); v.muted = true; v.currentTime = 12.5; }")
        until(lambda: page.evaluate(state)[0] > 13 and page.evaluate(state)[1] > 5, 15, "the picture to move")
        assert page.evaluate(state)[2] is None
    page.get_by_text("encrypted", exact=True).wait_for()
    page.close()
