"""Clips without encoding: EditMedia, SimpleHlsClip, LiveRealTimeClip, and HLS of files that were recorded as MP4 or FLV."""

import datetime
import re
import subprocess

import pytest

import media
import test_codecs
from appliance import ApiError, Appliance, until
from test_publishers import newer_ffmpeg


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    appliance = Appliance(folder, record={"hls_segment_ms": 2000, "first_run_rule": False}).start()
    appliance.record("a.example", mp4=True, flv=True, hls=True)
    subprocess.run(["ffmpeg", "-v", "error", "-i", media.source("bframes"), "-c", "copy", "-f", "flv", appliance.url("one", "a.example")], check=True, timeout=60)
    appliance.by = appliance.by_format("one", "a.example", "flv", "hls", "mp4")
    yield appliance
    appliance.stop()


@pytest.fixture(scope="module")
def recorded_ts(tmp_path_factory):
    """The same as a transport stream, and one of HEVC."""
    appliance = Appliance(tmp_path_factory.mktemp("clips-ts"), record={"hls_segment_ms": 2000, "hls_container": "ts"}).start()
    appliance.record("a.example", hls=True)
    for name, source, ffmpeg in (("one", media.source("bframes"), "ffmpeg"), ("hevc", test_codecs.source("hevc-aac"), newer_ffmpeg())):
        subprocess.run([ffmpeg, "-v", "error", "-i", source, "-c", "copy", "-f", "flv", appliance.url(name, "a.example")], check=True, timeout=60)
    appliance.by = {"ts": appliance.file("one", "a.example"), "hevc": appliance.file("hevc", "a.example")}
    yield appliance
    appliance.stop()


def frames(path, *options, ffmpeg="ffmpeg"):
    """Hashes of the decoded pictures, as a player shows them."""
    done = media.run([ffmpeg, "-v", "error", "-nostdin", *options, "-i", path, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"])
    lines = [line for line in done.stdout.decode().splitlines() if line and not line.startswith("#")]
    return [line.split(",")[-1].strip() for line in lines]


def times(path):
    """Presentation times of the source's pictures, s; the movie begins with the first picture or sound."""
    packets = media.packets(path)
    begin = min(float(packet.pts) for kind in packets.kinds for packet in packets[kind])
    return [(at - begin) / 1000 for at in sorted(float(packet.pts) for packet in packets["video"])]


def shown(frames_of_all, at, begin, end):
    """The pictures that are seen between two times: the first one is there already."""
    first = max((index for index, time in enumerate(at) if time <= begin + 0.0006), default=0)
    return [frame for index, frame in enumerate(frames_of_all) if index >= first and at[index] < end - 0.0006]


def edited(appliance, files, **output):
    task = appliance.call("EditMedia", InputType="File", FileInfos=files, OutputConfig=output, SessionContext="mine")["TaskId"]
    assert re.fullmatch(r"1300000001-EditMedia-[0-9a-f]+", task)
    detail = until(lambda: (found := appliance.call("DescribeTaskDetail", TaskId=task))["Status"] == "FINISH" and found, 60, "EditMedia")
    assert detail["TaskType"] == "EditMedia" and detail["EditMediaTask"]["SessionContext"] == "mine"
    return detail["EditMediaTask"]


@pytest.mark.parametrize("container", ["mp4", "flv", "hls", "ts"])
@pytest.mark.parametrize(("start", "end"), [(0, 0), (1.3, 4.1), (2.04, 2.12), (-1.5, 0), (0.5, -0.5)])
def test_cuts_are_frame_exact(request, container, start, end):
    """What is shown are the very pictures of the source between the two times, first and last."""
    recorded = request.getfixturevalue("recorded_ts" if container == "ts" else "recorded")
    task = edited(recorded, [{"FileId": recorded.by[container]["FileId"], "StartTimeOffset": start, "EndTimeOffset": end}], MediaName="cut")
    assert task["ErrCode"] == 0, task
    source = media.source("bframes")
    all_frames, at = frames(source), times(source)
    length = recorded.by[container]["MetaData"]["Duration"]
    begin, until_s = (start if start >= 0 else length + start), (end if end > 0 else length + end)
    wanted = shown(all_frames, at, begin, until_s)
    found = frames(task["Output"]["FileUrl"])
    assert found == wanted, f"{len(found)} pictures, expected {len(wanted)}"
    file = recorded.call("DescribeMediaInfos", FileIds=[task["Output"]["FileId"]])["MediaInfoSet"][0]
    assert file["BasicInfo"]["Name"] == "cut" and file["BasicInfo"]["SourceInfo"]["SourceType"] == "VideoProcessing"
    assert file["MetaData"]["Duration"] == pytest.approx(len(wanted) * 0.04, abs=0.045)
    media.probe(recorded.path_of(file))


def test_stretches_are_joined(recorded):
    mp4, flv = recorded.by["mp4"]["FileId"], recorded.by["flv"]["FileId"]
    cuts = [{"FileId": mp4, "StartTimeOffset": 1.0, "EndTimeOffset": 1.2}, {"FileId": mp4, "StartTimeOffset": 4.0, "EndTimeOffset": 5.0}, {"FileId": mp4}]
    task = edited(recorded, cuts)
    source = media.source("bframes")
    all_frames, at = frames(source), times(source)
    part = lambda begin, end: shown(all_frames, at, begin, end)  # noqa: E731
    assert frames(task["Output"]["FileUrl"]) == part(1.0, 1.2) + part(4.0, 5.0) + all_frames
    # Packets of hidden pictures make ffmpeg warn about their times when nothing decodes them.
    sound = media.packets(task["Output"]["FileUrl"], quiet=False)["audio"]
    assert len(sound) > 300 and task["MetaData"]["AudioStreamSet"][0]["Codec"] == "aac"
    as_hls = edited(recorded, cuts[:2], Type="hls")
    url = as_hls["Output"]["FileUrl"]
    assert url.endswith(".m3u8") and len(frames(url)) >= len(part(1.0, 1.2) + part(4.0, 5.0))
    with pytest.raises(ApiError) as refused:
        recorded.call("EditMedia", InputType="File", FileInfos=[{"FileId": flv, "StartTimeOffset": 99}])
    assert refused.value.code == "InvalidParameterValue"


def test_transport_streams_are_cut_and_joined(recorded_ts):
    """Units, sound and times as they were sent, whatever the codec; what does not fit together is said."""
    one, hevc = recorded_ts.by["ts"]["FileId"], recorded_ts.by["hevc"]["FileId"]
    for file, source in ((one, media.source("bframes")), (hevc, test_codecs.source("hevc-aac"))):
        task = edited(recorded_ts, [{"FileId": file}])
        assert task["ErrCode"] == 0, task
        sent, kept = media.packets(source, ffmpeg=newer_ffmpeg()), media.packets(task["Output"]["FileUrl"], quiet=False)
        assert [packet.md5 for packet in kept["audio"]] == [packet.md5 for packet in sent["audio"]]
        steps = lambda packets: [round(float(later.dts - packet.dts)) for packet, later in zip(packets, packets[1:])]  # noqa: E731
        assert steps(kept["video"]) == steps(sent["video"])
        assert frames(task["Output"]["FileUrl"], ffmpeg=newer_ffmpeg()) == frames(source, ffmpeg=newer_ffmpeg())
    as_hls = edited(recorded_ts, [{"FileId": one, "StartTimeOffset": 1}, {"FileId": one, "EndTimeOffset": 2}], Type="hls")
    assert as_hls["ErrCode"] == 0 and len(frames(as_hls["Output"]["FileUrl"])) >= 175
    task = edited(recorded_ts, [{"FileId": one}, {"FileId": hevc}])
    # What does not fit together is encoded, and the log says why.
    assert task["ErrCode"] == 0, task
    recorded_ts.said("the first has h264 160x120, aac, number 2 has h265")
    media.assert_decodes(task["Output"]["FileUrl"])


@pytest.mark.parametrize("container", ["mp4", "flv"])
def test_hls_of_other_files(recorded, container):
    """A playlist for a file that was not recorded as HLS; nothing more lies on the disk for it."""
    file = recorded.by[container]
    folder = recorded.path_of(file).parent
    before = sorted(path.name for path in folder.iterdir())
    url = f"{file['BasicInfo']['MediaUrl'].rsplit('/', 1)[0]}/x.m3u8"
    text = recorded.session.get(url, timeout=60).text
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in text and text.rstrip().endswith("#EXT-X-ENDLIST")
    assert frames(url) == frames(media.source("bframes"))
    media.assert_same_payloads(media.packets(media.source("bframes")), media.packets(url))
    # From a segment in the middle.
    assert len(frames(url, "-ss", "3")) < len(frames(url))
    assert sorted(path.name for path in folder.iterdir()) == before


def test_simple_hls_clip(recorded):
    url = recorded.by["hls"]["BasicInfo"]["MediaUrl"]
    # Key frames and segments every 2 s: the one that holds 2.5 and the one that holds 3.9.
    clip = recorded.call("SimpleHlsClip", Url=url, StartTimeOffset=2.5, EndTimeOffset=3.9)
    assert clip["FileId"] == "" and clip["MetaData"]["Duration"] == pytest.approx(2.0, abs=0.1)
    whole = frames(media.source("bframes"))
    found = frames(clip["Url"])
    assert len(found) == 50 and "".join(found) in "".join(whole)
    kept = recorded.call("SimpleHlsClip", Url=url, StartTimeOffset=2.5, EndTimeOffset=0, IsPersistence=1, SourceContext="why")
    assert len(frames(kept["Url"])) == 100
    for meta in (clip["MetaData"], kept["MetaData"]):
        ((video,), (audio,)) = meta["VideoStreamSet"], meta["AudioStreamSet"]
        assert (video["Codec"], video["Fps"], audio["Codec"], audio["SamplingRate"]) == ("h264", 25, "aac", 48000)
        assert video["Bitrate"] > audio["Bitrate"] > 50_000
    info = recorded.call("DescribeMediaInfos", FileIds=[kept["FileId"]])["MediaInfoSet"][0]
    assert info["BasicInfo"]["SourceInfo"]["SourceContext"] == "why"
    for changes, code in (
        ({"Url": "http://example.com/vod/1300000001/1/x.m3u8"}, "InvalidParameterValue.Url"),
        ({"Url": recorded.by["mp4"]["BasicInfo"]["MediaUrl"]}, "InvalidParameterValue.Url"),
        ({"StartTimeOffset": 99}, "InvalidParameterValue.StartTimeOffset"),
        ({"StartTimeOffset": 3, "EndTimeOffset": 2}, "InvalidParameterValue.EndTimeOffset"),
        ({"IsPersistence": 2}, "InvalidParameterValue.IsPersistence"),
        ({"IsPersistence": 1, "ExpireTime": "2020-01-01T00:00:00Z"}, "InvalidParameterValue.ExpireTime"),
        ({"IsPersistence": 1, "Procedure": "nobody"}, "InvalidParameterValue.Procedure"),
    ):
        with pytest.raises(ApiError) as refused:
            recorded.call("SimpleHlsClip", **{"Url": url, "StartTimeOffset": 0, **changes})
        assert refused.value.code == code, changes


def test_from_a_terminal(recorded):
    """Cut by id, kept by the name of its stream; what is made is still whole for whoever checks it."""
    from test_command_line import capstan

    made = capstan(recorded, "clip", recorded.by["flv"]["FileId"], "--from", "0:01", "--to", "2.5", "--name", "term").split()
    source = media.source("bframes")
    assert frames(made[1]) == shown(frames(source), times(source), 1, 2.5) and made[1].endswith("/term.mp4")
    kept = capstan(recorded, "clip", "a.example/live/one", "--last", "30m").split()
    # Pushed faster than it lasts: of the stream's own time, what has come by now.
    seen = frames(kept[1])
    assert len(seen) >= 50 and seen == frames(source)[: len(seen)] and capstan(recorded, "play-url", kept[0]).strip() == kept[1]
    assert "is no length" in capstan(recorded, "clip", "one", "--last", "soon", code=1)
    assert " 0 are not" in capstan(recorded, "verify", recorded.data)


def test_a_clip_of_a_stream_that_is_live(tmp_path):
    """By wall time, over two publications; kept, it outlives both."""
    appliance = Appliance(tmp_path, record={"hls_segment_ms": 1000, "first_run_rule": False}).start()
    appliance.record("a.example", hls=True)
    appliance.call("ModifyEventConfig", Mode="PULL", PersistenceCompleteEventSwitch="ON")
    utc = lambda at: at.strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
    begun = datetime.datetime.now(datetime.timezone.utc)
    url = appliance.url("cam", "a.example")
    subprocess.run(["ffmpeg", "-v", "error", "-re", "-i", media.source("av"), "-t", "3", "-c", "copy", "-f", "flv", url], check=True)
    first = appliance.file("cam", "a.example")
    publisher = subprocess.Popen(["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", media.source("av"), "-c", "copy", "-f", "flv", url])
    try:
        live = until(lambda: (answer := appliance.session.get(f"{appliance.media}/live/1300000001/a.example/live/cam.m3u8", timeout=60)).ok and answer, 15)
        later = begun + datetime.timedelta(seconds=60)
        wanted = {"StreamId": "cam", "StartTime": utc(begun), "EndTime": utc(later), "MetaDataRequired": 1}
        spanning = lambda found: found if len(found["SegmentSet"]) == 2 else None  # noqa: E731
        clip = until(lambda: spanning(appliance.call("LiveRealTimeClip", **wanted)), 15)
        assert live.ok and clip["MetaData"]["Duration"] > 3
        text = appliance.session.get(clip["Url"], timeout=60).text
        assert "#EXT-X-DISCONTINUITY" in text and "../" in text and "ENDLIST" in text
        assert len(frames(clip["Url"])) > 75
        kept = appliance.call("LiveRealTimeClip", IsPersistence=1, Host="a.example", **wanted)
        events = until(lambda: appliance.call("PullEvents")["EventSet"], 10)
        assert [event["PersistenceCompleteEvent"] for event in events] == [{"FileId": kept["FileId"], "PersistenceSource": "LiveRealTimeClip"}]
    finally:
        publisher.terminate()
        publisher.wait(60)
    count = len(frames(kept["Url"]))
    path = appliance.path_of(first)
    appliance.call("DeleteMedia", FileId=first["FileId"])
    until(lambda: not path.exists(), 10)
    assert len(frames(kept["Url"])) == count > 75
    for changes, code in (
        ({"StreamId": "nobody"}, "InvalidParameterValue.StreamIdInvalid"),
        ({"StartTime": "yesterday"}, "InvalidParameterValue.StartTime"),
        ({"EndTime": utc(begun - datetime.timedelta(hours=1))}, "InvalidParameterValue.EndTime"),
        ({"EndTime": utc(begun + datetime.timedelta(days=2))}, "InvalidParameterValue.ClipDuration"),
    ):
        with pytest.raises(ApiError) as refused:
            appliance.call("LiveRealTimeClip", **{**wanted, **changes})
        assert refused.value.code == code, changes
    appliance.stop()


def test_sound_alone_is_cut(capstan, domain):
    """AAC and MP3 files: whole frames, those that sound between the two times; the result is found as processed."""
    for kind, name in [("aac", "aac"), ("mp3", "mp3")]:
        capstan.record(f"{kind}-{domain}", **{kind: True})
        subprocess.run(["ffmpeg", "-v", "error", "-i", media.source(name), "-c", "copy", "-f", "flv", capstan.url(kind, f"{kind}-{domain}")], check=True, timeout=60)
        file = capstan.file(kind, f"{kind}-{domain}")
        task = edited(capstan, [{"FileId": file["FileId"], "StartTimeOffset": 1, "EndTimeOffset": 3}], MediaName=f"{kind} of {domain}")
        assert task["ErrCode"] == 0, task
        found = media.packets(task["Output"]["FileUrl"], quiet=False)
        sent = [packet.md5 for packet in media.packets(media.source(name))["audio"]]
        kept = [packet.md5 for packet in found["audio"]]
        begin = sent.index(kept[0])
        assert sent[begin : begin + len(kept)] == kept and task["MetaData"]["Duration"] == pytest.approx(2, abs=0.06)
    made = lambda *kinds: [file["BasicInfo"]["Name"] for file in capstan.search(Text=domain, SourceTypes=list(kinds))]  # noqa: E731
    assert sorted(made("VideoProcessing")) == [f"aac of {domain}", f"mp3 of {domain}"]
    assert made("Record") == [] and len(made("Record", "VideoProcessing")) == 2 and made("Upload") == []
    assert len(capstan.search(StreamDomains=[f"aac-{domain}"], SourceTypes=["Record"])) == 1
