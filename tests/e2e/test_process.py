"""Task flows: renditions, adaptive streams, pictures and encrypted streams of real recordings; what dies in the middle; no encoder at all."""

import base64
import json
import os
import re
import signal
import subprocess
import urllib.parse
from pathlib import Path

import media
import pytest
import requests
from appliance import ApiError, until

FAST = {"process": {"preset": "ultrafast", "jobs_max": 2}}


def finished(appliance, task, seconds=90):
    """The flow when it is over: its results by kind and definition."""
    detail = until(lambda: (d := appliance.call("DescribeTaskDetail", TaskId=task))["Status"] in ("FINISH", "ABORTED") and d, seconds, f"the end of {task}")
    flow, results = detail["ProcedureTask"], {}
    for result in flow["MediaProcessResultSet"]:
        body = next(value for key, value in result.items() if key.endswith("Task"))
        results.setdefault(result["Type"], []).append(body)
    return flow, results


def only(results, kind):
    (result,) = results[kind]
    assert (result["Status"], result["ErrCode"]) == ("SUCCESS", 0), result
    return result["Output"]


def info(appliance, file_id):
    (found,) = appliance.call("DescribeMediaInfos", FileIds=[file_id])["MediaInfoSet"]
    return found


def probe(url):
    text = subprocess.run(["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", url], check=True, capture_output=True, timeout=60)
    assert text.stderr == b"", text.stderr
    return json.loads(text.stdout)


def video_of(url):
    return next(stream for stream in probe(url)["streams"] if stream["codec_type"] == "video")


def key_times(url):
    """Presentation times of the key frames, from the first one, in milliseconds."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", url]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()
    times = [float(line.split(",")[0]) for line in lines if "K" in line.split(",")[1]]
    return [round((time - times[0]) * 1000) for time in times]


def variants(playlist):
    """Address relative to the playlist, and attributes, of what a joining playlist names."""
    lines = playlist.splitlines()
    found = []
    for line, address in zip(lines, lines[1:]):
        if line.startswith("#EXT-X-STREAM-INF:"):
            found.append((address, dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line.split(":", 1)[1]))))
    return found


@pytest.fixture
def recorded(push, source, domain):
    def record(appliance, stream="cam", name="long", **template):
        appliance.record(domain, **(template or {"mp4": True}))
        push(source(name), appliance.url(stream, domain))
        return appliance.file(stream, domain)

    return record


def children(appliance):
    """Processes that the server began."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = path.read_text().rsplit(") ", 1)[1].split()[1]
        except OSError:
            continue
        if int(parent) == appliance.process.pid:
            yield path.parent.name


def leftovers(appliance):
    """Files of jobs that are under way, and encoders that are children of the server."""
    return [*(appliance.data / "process").iterdir(), *children(appliance)]


def test_a_procedure_turns_a_recording_into_what_it_says(start, recorded, push, source, domain):
    appliance = start(**FAST)
    streams = [{"Video": {"Codec": "libx264", "Fps": 25, "Bitrate": rate, "Height": height}, "Audio": {"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 44100}}
               for height, rate in ((128, 128), (600, 400))]
    adaptive = appliance.call("CreateAdaptiveDynamicStreamingTemplate", Format="HLS", StreamInfos=streams, SegmentType="mp4", SegmentDuration=2)["Definition"]
    sprite = appliance.call("CreateImageSpriteTemplate", SampleType="Time", SampleInterval=1, RowCount=2, ColumnCount=3, Width=80, Height=60)["Definition"]
    process = {
        "AdaptiveDynamicStreamingTaskSet": [{"Definition": adaptive}], "ImageSpriteTaskSet": [{"Definition": sprite}],
        "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Percent", "PositionValue": 50}], "SampleSnapshotTaskSet": [{"Definition": 10}],
        "SnapshotByTimeOffsetTaskSet": [{"Definition": 10, "ExtTimeOffsetSet": ["0s", "50%", "999s"]}],
        "TranscodeTaskSet": [{"Definition": 875}, {"Definition": 876}, {"Definition": 1010}, {"Definition": 100010, "EndTimeOffset": 2}],
    }
    appliance.call("CreateProcedureTemplate", Name="all", MediaProcessTask=process)
    appliance.call("ModifyEventConfig", Mode="PULL", UploadMediaCompleteEventSwitch="ON")
    template = appliance.template(mp4={"Procedure": "all"})
    appliance.rule(template, domain)
    push(source("av"), appliance.url("cam", domain))
    file = appliance.file("cam", domain)
    (upload,) = appliance.call("PullEvents")["EventSet"]
    # It would come again while the flow is at work.
    appliance.call("ConfirmEvents", EventHandles=[upload["EventHandle"]])
    task = upload["FileUploadEvent"]["ProcedureTaskId"]
    flow, results = finished(appliance, task)
    assert (flow["FileId"], flow["Status"], flow["FileName"]) == (file["FileId"], "FINISH", file["BasicInfo"]["Name"])
    assert all(result["Status"] == "SUCCESS" for found in results.values() for result in found), flow
    events = until(lambda: appliance.call("PullEvents")["EventSet"], what="the event of the flow")
    assert [event["EventType"] for event in events] == ["ProcedureStateChanged"]
    assert events[0]["ProcedureStateChangeEvent"]["MediaProcessResultSet"] == flow["MediaProcessResultSet"]

    found, duration = info(appliance, file["FileId"]), file["MetaData"]["Duration"]
    assert requests.get(found["BasicInfo"]["CoverUrl"], timeout=60).headers["Content-Type"] == "image/jpeg"
    renditions = {rendition["Definition"]: rendition for rendition in found["TranscodeInfo"]["TranscodeSet"]}
    assert set(renditions) == {0, 875, 876, 1010, 100010}
    # Packets as they were, in another container.
    media.assert_same_payloads(media.packets(file["BasicInfo"]["MediaUrl"]), media.packets(renditions[875]["Url"]))
    assert abs(renditions[876]["Duration"] - duration) < 0.1 and video_of(renditions[876]["Url"])["height"] == 120
    cut = probe(renditions[100010]["Url"])
    assert abs(float(cut["format"]["duration"]) - 2) < 0.1 and renditions[100010]["Height"] == 360 == video_of(renditions[100010]["Url"])["height"]
    assert [stream["codec_name"] for stream in probe(renditions[1010]["Url"])["streams"]] == ["mp3"]

    output = only(results, "AdaptiveDynamicStreaming")
    (listed,) = found["AdaptiveDynamicStreamingInfo"]["AdaptiveDynamicStreamingSet"]
    assert listed == output and [(stream["Width"], stream["Height"]) for stream in output["SubStreamSet"]] == [(160, 120)], "never above the source"

    (sheet,) = found["ImageSpriteInfo"]["ImageSpriteSet"]
    assert (sheet["Width"], sheet["Height"], sheet["TotalCount"]) == (80, 60, 6)
    assert len(sheet["ImageUrlSet"]) == -(-sheet["TotalCount"] // 6)
    assert video_of(sheet["ImageUrlSet"][0])["width"] == 240
    vtt = requests.get(sheet["WebVttUrl"], timeout=60)
    assert vtt.headers["Content-Type"].startswith("text/vtt") and vtt.text.count("-->") == sheet["TotalCount"]
    assert urllib.parse.urljoin(sheet["WebVttUrl"], re.findall(r"^(sprite.*)#xywh=80,0,80,60$", vtt.text, re.M)[0]) == sheet["ImageUrlSet"][0]
    (samples,) = found["SampleSnapshotInfo"]["SampleSnapshotSet"]
    assert len(samples["ImageUrlSet"]) == 10 and all(requests.head(url, timeout=60).status_code == 200 for url in samples["ImageUrlSet"])
    (snapshots,) = found["SnapshotByTimeOffsetInfo"]["SnapshotByTimeOffsetSet"]
    assert [requests.head(picture["Url"], timeout=60).status_code for picture in snapshots["PicInfoSet"]] == [200] * 3
    assert leftovers(appliance) == []

    # Deleted by parts, results go, their files follow; the rest stays.
    folder = appliance.folder_of(file)
    parts = [{"Type": "TranscodeFiles", "Definition": 876}, {"Type": "AdaptiveDynamicStreamingFiles", "Definition": 0}]
    appliance.call("DeleteMedia", FileId=file["FileId"], DeleteParts=parts)
    found = info(appliance, file["FileId"])
    assert {rendition["Definition"] for rendition in found["TranscodeInfo"]["TranscodeSet"]} == {0, 875, 1010, 100010}
    assert found["AdaptiveDynamicStreamingInfo"]["AdaptiveDynamicStreamingSet"] == []
    assert requests.get(output["Url"], timeout=60).status_code == 404
    until(lambda: not [path for path in folder.iterdir() if path.name.startswith(("adp.", "v.f876."))], what="the removal of their files")
    assert requests.head(renditions[875]["Url"], timeout=60).status_code == 200


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A source that is larger than the lowest steps."""
    path = tmp_path_factory.mktemp("wide") / "wide.flv"
    command = "-f lavfi -i testsrc2=s=854x480:r=25:d=5 -f lavfi -i sine=f=440:d=5:r=44100 -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac -f flv"
    media.run(["ffmpeg", "-v", "error", "-y", *command.split(), path])
    return path


@pytest.mark.parametrize("segment_type", ["ts", "mp4"])
def test_adaptive_streams_change_at_the_same_moments(start, push, domain, wide, segment_type):
    appliance = start(**FAST)
    appliance.record(domain, mp4=True)
    push(wide, appliance.url("cam", domain))
    file = appliance.file("cam", domain)
    streams = [{"Video": {"Codec": "libx264", "Fps": 25, "Bitrate": rate, "Height": height}, "Audio": {"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 44100}}
               for height, rate in ((240, 256), (480, 512), (720, 1024))]
    adaptive = appliance.call("CreateAdaptiveDynamicStreamingTemplate", Format="HLS", StreamInfos=streams, SegmentType=segment_type, SegmentDuration=2)["Definition"]
    task = appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"AdaptiveDynamicStreamingTaskSet": [{"Definition": adaptive}]})["TaskId"]
    _, results = finished(appliance, task)
    output = only(results, "AdaptiveDynamicStreaming")
    playlist = requests.get(output["Url"], timeout=60)
    assert playlist.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    steps = variants(playlist.text)
    assert [attributes["RESOLUTION"] for _, attributes in steps] == ["428x240", "854x480"]
    keys = []
    for address, attributes in steps:
        url = urllib.parse.urljoin(output["Url"], address)
        video, body = video_of(url), requests.get(url, timeout=60).text
        assert f"{video['width']}x{video['height']}" == attributes["RESOLUTION"]
        assert (video["r_frame_rate"], attributes["FRAME-RATE"]) == ("25/1", "25.000")
        profile = {"Constrained Baseline": "42c0", "Main": "4d40", "High": "6400"}[video["profile"]]
        assert attributes["CODECS"] == f'"avc1.{profile}{video["level"]:02x},mp4a.40.2"'
        total = sum(int(size) for size in re.findall(r"#EXT-X-BYTERANGE:(\d+)@", body))
        seconds = sum(float(length) for length in re.findall(r"#EXTINF:([\d.]+)", body))
        assert abs(seconds - file["MetaData"]["VideoDuration"]) < 0.05
        average = int(attributes["AVERAGE-BANDWIDTH"])
        assert total * 8 / seconds <= average <= int(attributes["BANDWIDTH"])
        keys.append(key_times(url))
    assert keys[0] == keys[1] and keys[0][:3] == [0, 2000, 4000]
    # Everything as a reader of the whole sees it.
    media.assert_decodes(output["Url"])
    assert ("AUDIO=" in playlist.text) == (segment_type == "mp4")


def test_an_encrypted_stream_opens_with_a_token_only(start, recorded):
    appliance = start(**FAST)
    file = recorded(appliance)
    task = appliance.call("ProcessMediaByProcedure", FileId=file["FileId"], ProcedureName="SimpleAesEncryptPreset")["TaskId"]
    _, results = finished(appliance, task)
    output = only(results, "AdaptiveDynamicStreaming")
    assert output["DrmType"] == "SimpleAES"
    (step, _), = variants(requests.get(output["Url"], timeout=60).text)
    url = urllib.parse.urljoin(output["Url"], step)
    body = requests.get(url, timeout=60).text
    (address,) = re.findall(r'#EXT-X-KEY:METHOD=AES-128,URI="([^"]+)"', body)
    key_url = urllib.parse.urljoin(url, address)
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlparse(key_url).query))
    assert (query["fileId"], query["keySource"]) == (file["FileId"], "VodBuildInKMS")
    for token in ("", "&token=", "&token=7fffffff-00000000000000000000000000000000"):
        refused = requests.get(key_url + token, timeout=60)
        assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (403, "*")
    (pair,) = appliance.call("DescribeDrmDataKey", EdkList=[query["edk"]])["KeyList"]
    key = base64.b64decode(pair["Dk"])
    assert len(key) == 16 and pair["Edk"] == query["edk"]
    with pytest.raises(ApiError) as unknown:
        appliance.call("DescribeDrmDataKey", EdkList=[query["edk"], query["edk"][:-2] + "AA"])
    assert unknown.value.code == "InvalidParameterValue"
    # The key opens the segment; without it, it is no transport stream.
    segment = urllib.parse.urljoin(url, re.findall(r"^(adp.*\.ts)$", body, re.M)[0])
    sealed = requests.get(segment, timeout=60).content
    path = next(appliance.folder_of(file).glob(segment.rsplit("/", 1)[1]))
    opened = subprocess.run(["ffprobe", "-v", "error", "-key", key.hex(), "-iv", "0" * 32, "-show_entries", "format=format_name", "-of", "csv=p=0", f"crypto:{path}"],
                            check=True, capture_output=True, text=True).stdout
    assert opened.strip() == "mpegts" and sealed[188:189] + sealed[376:377] != b"GG"
    assert (appliance.data / "master.key").stat().st_mode & 0o777 == 0o600
    assert key not in b"".join(path.read_bytes() for path in appliance.data.glob("catalog*"))


def slow_flow(appliance, file):
    """A flow whose encoder is at work for a while: its task, and the encoder's process."""
    definition = {"Container": "mp4", "VideoTemplate": {"Codec": "libx265", "Fps": 60, "Bitrate": 4000, "Width": 2560, "Height": 1440},
                  "AudioTemplate": {"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 44100}}
    slow = appliance.call("CreateTranscodeTemplate", **definition)["Definition"]
    process = {"TranscodeTaskSet": [{"Definition": slow}, {"Definition": 875}]}
    task = appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask=process, TasksNotifyMode="Change")["TaskId"]
    return task, until(lambda: encoder_of(appliance), what="the encoder")


def encoder_of(appliance):
    for pid in children(appliance):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"ffmpeg") and b"libx265" in words:
            return int(pid)
    return None


def is_running(pid):
    try:
        return " Z " not in open(f"/proc/{pid}/stat").read()
    except OSError:
        return False


def test_what_is_killed_is_done_again_and_once(start, recorded):
    """The encoder, then the appliance are killed in the middle; a cancelled flow ends at once. Nothing half-made is ever seen."""
    appliance = start(process={"preset": "ultrafast", "nice": 5})
    file = recorded(appliance)
    appliance.call("ModifyEventConfig", Mode="PULL")
    task, encoder = slow_flow(appliance, file)
    assert os.getpriority(os.PRIO_PROCESS, encoder) == 5
    os.kill(encoder, signal.SIGKILL)
    message = until(lambda: appliance.call("DescribeTaskDetail", TaskId=task)["ProcedureTask"]["MediaProcessResultSet"][0]["TranscodeTask"]["Message"], what="a reason")
    assert "killed by signal 9" in message
    again = until(lambda: (found := encoder_of(appliance)) != encoder and found, 20, "the next attempt")
    appliance.kill()
    until(lambda: not is_running(again), 10, "the encoder's end with the appliance")
    appliance.start()
    assert [rendition["Definition"] for rendition in info(appliance, file["FileId"])["TranscodeInfo"]["TranscodeSet"]] == [0]
    third = until(lambda: encoder_of(appliance), 20, "the attempt after the restart")
    folder = appliance.folder_of(file)
    assert not [path for path in folder.iterdir() if path.name.startswith("v.f")], "nothing half-made lies beside the file"
    # A clean stop does not wait for it either.
    appliance.stop()
    assert not is_running(third)
    appliance.start()
    fourth = until(lambda: encoder_of(appliance), 20, "the attempt after the next restart")
    appliance.call("ManageTask", TaskId=task, OperationType="Abort")
    until(lambda: not is_running(fourth), 10, "the end of a cancelled encoder")
    flow, results = finished(appliance, task)
    assert flow["Status"] == "ABORTED" and [result["Status"] for result in results["Transcode"]] == ["FAIL", "FAIL"]
    until(lambda: leftovers(appliance) == [], 10, "the removal of what the jobs left")

    # Another flow goes on as if nothing had been, and its result is there once.
    task = appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"TranscodeTaskSet": [{"Definition": 875}]}, SessionId="s")["TaskId"]
    finished(appliance, task)
    with pytest.raises(ApiError) as repeated:
        appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"TranscodeTaskSet": [{"Definition": 875}]}, SessionId="s")
    assert repeated.value.code == "InvalidParameterValue.SessionId"
    assert [rendition["Definition"] for rendition in info(appliance, file["FileId"])["TranscodeInfo"]["TranscodeSet"]] == [0, 875]
    told = [(event["ProcedureStateChangeEvent"]["TaskId"], event["ProcedureStateChangeEvent"]["Status"]) for event in appliance.call("PullEvents")["EventSet"]]
    assert len(told) == 2 and told[1] == (task, "FINISH") and told[0][1] == "ABORTED"


def test_without_an_encoder_everything_else_works(start, recorded, domain):
    appliance = start(process={"ffmpeg": "/nowhere/ffmpeg"})
    file = recorded(appliance, mp4={"Procedure": "no-such-flow"})
    health = requests.get(f"{appliance.http}/healthz", timeout=60)
    assert (health.status_code, health.json()["status"]) == (200, "ok") and "install the package ffmpeg" in health.json()["processing"]["error"]
    # A flow that is not there costs the file nothing.
    appliance.said("no-such-flow")
    task = appliance.call("ProcessMediaByProcedure", FileId=file["FileId"], ProcedureName="LongVideoPreset")["TaskId"]
    flow, results = finished(appliance, task)
    assert flow["Status"] == "FINISH"
    for result in (found for kind in results.values() for found in kind):
        assert (result["Status"], result["ErrCode"]) == ("FAIL", 70000) and "install the package ffmpeg" in result["Message"]
    listed = appliance.call("DescribeTasks", FileId=file["FileId"], Status="FINISH")["TaskSet"]
    assert [(entry["TaskId"], entry["TaskType"]) for entry in listed] == [(task, "Procedure")]
    assert requests.get(file["BasicInfo"]["MediaUrl"], timeout=60).status_code == 200
