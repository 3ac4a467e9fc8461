"""What task flows make of odd recordings, as ffprobe sees it; moving pictures; EditMedia by the encoder; results after a lost catalog; jobs that die."""

import re
import urllib.parse

import media
import requests
from appliance import until
from test_process import FAST, children, encoder_of, finished, info, leftovers, probe, variants, video_of


X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 25"
TONE = "-f lavfi -i sine=f=440:d=3:r=44100"
# Two steps: one below all sources, one above.
LADDER = [{"Video": {"Codec": "libx264", "Fps": 0, "Bitrate": rate, "Height": height}, "Audio": {"Codec": "libfdk_aac", "Bitrate": 96, "SampleRate": 44100}}
          for height, rate in ((128, 200), (1080, 800))]

ODD = {
    "portrait": f"-f lavfi -i testsrc2=s=180x320:r=25:d=3 {TONE} {X264} -c:a aac",
    "oddsize": f"-f lavfi -i testsrc2=s=322x182:r=25:d=3 {TONE} {X264} -vf crop=321:181:0:0:exact=1,format=yuv444p -pix_fmt yuv444p -c:a aac",
    "fast": f"-f lavfi -i testsrc2=s=320x180:r=60:d=3 {TONE} {X264} -bf 3 -c:a aac",
    "ntsc": f"-f lavfi -i testsrc2=s=320x180:r=30000/1001:d=3 {TONE} {X264} -c:a aac",
    "silent": f"-f lavfi -i testsrc2=s=320x180:r=25:d=3 {X264}",
}


def loudness(path):
    """Integrated loudness, LUFS (EBU R 128)."""
    text = media.run(["ffmpeg", "-nostdin", "-hide_banner", "-i", path, "-vn", "-af", "ebur128", "-f", "null", "-"]).stderr.decode()
    return float(re.findall(r"I:\s+(-?[\d.]+) LUFS", text)[-1])


def key_indices(url):
    text = media.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags", "-of", "csv=p=0", url]).stdout.decode().split()
    times = [(float(line.split(",")[0]), "K" in line.split(",")[1]) for line in text]
    first = min(time for time, _ in times)
    return [round((time - first) * 1000) for time, key in times if key], round((max(time for time, _ in times) - first) * 1000)


def test_renditions_of_odd_sources(start):
    """Each with a rendition and an adaptive stream, two at a time."""
    appliance = start(process={"preset": "ultrafast", "jobs_max": 2})
    adaptive = appliance.call("CreateAdaptiveDynamicStreamingTemplate", Format="HLS", StreamInfos=LADDER, SegmentType="mp4", SegmentDuration=1)["Definition"]
    process = {"AdaptiveDynamicStreamingTaskSet": [{"Definition": adaptive}], "TranscodeTaskSet": [{"Definition": 100010}]}
    appliance.call("CreateProcedureTemplate", Name="both", MediaProcessTask=process)
    appliance.rule(appliance.template(mp4={"Procedure": "both"}), "odd.example")
    for name, recipe in ODD.items():
        media.run(["ffmpeg", "-v", "error", "-i", media.source(f"odd-{name}", recipe=recipe), "-c", "copy", "-f", "flv", appliance.url(name, "odd.example")])
    for name in ODD:
        check_results(appliance, name)


def check_results(busy, name):
    file = busy.file(name, "odd.example")
    original = file["BasicInfo"]["MediaUrl"]
    results = until(lambda: (found := info(busy, file["FileId"]))["AdaptiveDynamicStreamingInfo"]["AdaptiveDynamicStreamingSet"] and found, 60, "its results")
    (stream,) = results["AdaptiveDynamicStreamingInfo"]["AdaptiveDynamicStreamingSet"]
    rendition = next(entry for entry in results["TranscodeInfo"]["TranscodeSet"] if entry["Definition"] == 100010)
    source, made = video_of(original), video_of(rendition["Url"])
    frame_ms = 1000 / 25
    source_ms, made_ms = key_indices(original)[1], key_indices(rendition["Url"])[1]
    assert abs(source_ms - made_ms) <= frame_ms + 1 and made["r_frame_rate"] == "25/1"
    # 360 lines are asked for by hand, so there it may grow; its shape stays.
    assert min(made["width"], made["height"]) == 360 and (made["width"] > made["height"]) == (source["width"] > source["height"])
    if name != "silent":
        assert abs(loudness(original) - loudness(rendition["Url"])) < 0.5
    playlist = requests.get(stream["Url"], timeout=60).text
    steps = variants(playlist)
    even = lambda value: -(-value // 2) * 2  # noqa: E731
    top = (even(source["width"]), even(source["height"]))
    sizes = [tuple(map(int, attributes["RESOLUTION"].split("x"))) for _, attributes in steps]
    assert sizes[-1] == top and len(sizes) == 2 and min(sizes[0]) == 128, "one below, and never above the source"
    keys = []
    for address, attributes in steps:
        url = urllib.parse.urljoin(stream["Url"], address)
        video = video_of(url)
        assert f"{video['width']}x{video['height']}" == attributes["RESOLUTION"] and video["pix_fmt"] == "yuv420p"
        numerator, denominator = map(int, video["r_frame_rate"].split("/"))
        assert abs(float(attributes["FRAME-RATE"]) - numerator / denominator) < 0.01
        times, end = key_indices(url)
        keys.append(times)
        assert abs(end - source_ms) <= 1000 * denominator / numerator + 1
        body = requests.get(url, timeout=60).text
        parts = [(float(s), int(b) * 8) for s, b in re.findall(r"#EXTINF:([\d.]+),\n#EXT-X-BYTERANGE:(\d+)@", body)]
        average = sum(bits for _, bits in parts) / sum(seconds for seconds, _ in parts)
        assert average <= int(attributes["AVERAGE-BANDWIDTH"]) <= int(attributes["BANDWIDTH"])
    assert keys[0] == keys[1] and len(keys[0]) >= 3, "key frames at the same moments"
    assert ("AUDIO=" in playlist) == (name != "silent") and ("mp4a.40.2" in playlist) == (name != "silent")
    media.assert_decodes(stream["Url"])


def test_moving_pictures_and_a_lost_catalog(start, push, source, domain):
    appliance = start(**FAST)
    appliance.record(domain, mp4=True)
    push(source("av"), appliance.url("cam", domain))
    file = appliance.file("cam", domain)
    process = {"AnimatedGraphicTaskSet": [{"Definition": 20000, "StartTimeOffset": 1, "EndTimeOffset": 3}, {"Definition": 20001, "StartTimeOffset": -2, "EndTimeOffset": 0}],
               "TranscodeTaskSet": [{"Definition": 875}, {"Definition": 876}], "CoverBySnapshotTaskSet": [{"Definition": 10, "PositionType": "Time", "PositionValue": 1}],
               "ImageSpriteTaskSet": [{"Definition": 10}], "SampleSnapshotTaskSet": [{"Definition": 10}]}
    flow, results = finished(appliance, appliance.call("ProcessMedia", FileId=file["FileId"], MediaProcessTask=process)["TaskId"])
    assert all(result["Status"] == "SUCCESS" for found in results.values() for result in found), flow
    before = info(appliance, file["FileId"])
    gif, webp = before["AnimatedGraphicsInfo"]["AnimatedGraphicsSet"]
    assert (gif["Definition"], gif["Container"], gif["StartTimeOffset"], gif["EndTimeOffset"], gif["Width"]) == (20000, "gif", 1, 3, 320)
    assert (webp["Container"], round(webp["EndTimeOffset"] - webp["StartTimeOffset"], 3)) == ("webp", 2)
    answer = requests.get(gif["Url"], timeout=60)
    assert (answer.headers["Content-Type"], answer.content[:6], len(answer.content)) == ("image/gif", b"GIF89a", gif["Size"])
    frames = media.run(["ffprobe", "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames,width", "-of", "csv=p=0", gif["Url"]]).stdout.decode()
    assert frames.strip() == "320,10"
    body = requests.get(webp["Url"], timeout=60)
    assert body.headers["Content-Type"] == "image/webp" and body.content[8:12] == b"WEBP" and body.content.count(b"ANMF") == 10
    refused = [{"Definition": 20000, "StartTimeOffset": 0, "EndTimeOffset": 1}, {"Definition": 20000, "StartTimeOffset": 5}]
    assert appliance.error("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"AnimatedGraphicTaskSet": [{**refused[0], "Definition": 5}]}) == "InvalidParameterValue"
    assert appliance.error("ProcessMedia", FileId=file["FileId"], MediaProcessTask={"AnimatedGraphicTaskSet": [refused[1]]}) == "MissingParameter"
    # Everything that flows made is there again when the catalog is lost.
    appliance.stop()
    (appliance.data / "catalog.sqlite").unlink()
    appliance.start()
    until(lambda: "the catalog was built again" in appliance.log, what="the end of the rebuilding")
    after = info(appliance, file["FileId"])
    assert {key: after[key] for key in after if key != "BasicInfo"} == {key: before[key] for key in before if key != "BasicInfo"}
    assert after["BasicInfo"]["CoverUrl"] == before["BasicInfo"]["CoverUrl"] and requests.get(after["BasicInfo"]["CoverUrl"], timeout=60).status_code == 200


def edited(appliance, task, seconds=60):
    detail = until(lambda: (d := appliance.call("DescribeTaskDetail", TaskId=task))["Status"] in ("FINISH", "ABORTED") and d, seconds, f"the end of {task}")
    return detail["EditMediaTask"]


def test_unlike_inputs_are_joined_by_the_encoder(start, push, source, domain):
    appliance = start(record={"hls_container": "ts"}, **FAST)
    appliance.rule(appliance.template(mp4=True, hls=True), domain)
    push(source("av"), appliance.url("one", domain))
    push(source("bframes"), appliance.url("two", domain))
    push(source("aac"), appliance.url("sound", domain))
    one, two = (appliance.by_format(name, domain, "mp4", "hls") for name in ("one", "two"))
    sound = appliance.by_format("sound", domain, "mp4", "hls")["mp4"]
    appliance.call("ModifyEventConfig", Mode="PULL")
    # Alike in nothing: parameters, rates, a transport stream, sound alone.
    inputs = [{"FileId": one["mp4"]["FileId"], "StartTimeOffset": 1, "EndTimeOffset": 3}, {"FileId": two["hls"]["FileId"], "StartTimeOffset": -2},
              {"FileId": sound["FileId"], "EndTimeOffset": 1}]
    task = edited(appliance, appliance.call("EditMedia", InputType="File", FileInfos=inputs, OutputConfig={"MediaName": "joined"})["TaskId"])
    assert (task["ErrCode"], task["Progress"], task["Output"]["MediaName"]) == (0, 100, "joined"), task
    meta = task["MetaData"]
    assert abs(meta["Duration"] - 5) < 0.15 and (meta["Width"], meta["Height"]) == (160, 120)
    assert [s["Codec"] for s in meta["VideoStreamSet"] + meta["AudioStreamSet"]] == ["h264", "aac"]
    media.assert_decodes(task["Output"]["FileUrl"])
    found = probe(task["Output"]["FileUrl"])
    assert abs(float(found["format"]["duration"]) - 5) < 0.15
    # One input, encoded because the call says how, as HLS.
    video = {"Codec": "libx264", "Width": 320, "Height": 240, "Fps": 10, "Bitrate": 300}
    ask = {"InputType": "File", "FileInfos": [{"FileId": one["mp4"]["FileId"]}], "OutputConfig": {"Type": "hls", "VideoStream": video}}
    task = edited(appliance, appliance.call("EditMedia", **ask)["TaskId"])
    made = video_of(task["Output"]["FileUrl"])
    assert (made["width"], made["height"], made["r_frame_rate"], task["Output"]["FileType"]) == (320, 240, "10/1", "hls")
    assert abs(task["MetaData"]["Duration"] - one["mp4"]["MetaData"]["Duration"]) < 0.15
    assert appliance.error("EditMedia", **{**ask, "OutputConfig": {"VideoStream": {"Codec": "av1"}}}) == "UnsupportedOperation"
    assert appliance.error("EditMedia", **{**ask, "OutputConfig": {"VideoStream": {"Width": 5}}}) == "InvalidParameterValue.Width"
    until(lambda: not list((appliance.data / "clips").glob("*")), 10, "no leftover")
    events = [event["EditMediaCompleteEvent"]["TaskId"] for event in appliance.call("PullEvents")["EventSet"] if event["EventType"] == "EditMediaComplete"]
    assert len(events) == 2 == len(set(events))


def test_an_edit_is_killed_cancelled_and_done_once(start, push, source, domain):
    appliance = start(process={"preset": "slower", "jobs_max": 1})
    appliance.record(domain, mp4=True)
    push(source("long"), appliance.url("cam", domain))
    file = appliance.file("cam", domain)["FileId"]
    slow = {"InputType": "File", "FileInfos": [{"FileId": file}], "OutputConfig": {"MediaName": "slow", "VideoStream": {"Codec": "libx265", "Width": 2560, "Height": 1440, "Fps": 60}}}
    quick = {"InputType": "File", "FileInfos": [{"FileId": file, "EndTimeOffset": 2}], "OutputConfig": {"MediaName": "quick"}}
    task = appliance.call("EditMedia", **slow)["TaskId"]
    encoder = until(lambda: encoder_of(appliance), 20, "the encoder")
    # What needs no encoder is not held up; a flow waits for the one place.
    assert edited(appliance, appliance.call("EditMedia", **quick)["TaskId"], 10)["ErrCode"] == 0
    flow = appliance.call("ProcessMedia", FileId=file, MediaProcessTask={"TranscodeTaskSet": [{"Definition": 875}]})["TaskId"]
    assert appliance.call("DescribeTaskDetail", TaskId=flow)["Status"] == "WAITING"
    assert len(list(children(appliance))) == 1
    appliance.kill()
    appliance.start()
    until(lambda: encoder_of(appliance) not in (None, encoder), 20, "the attempt after the restart")
    appliance.call("ManageTask", TaskId=task, OperationType="Abort")
    assert edited(appliance, task)["Message"] == "The task was cancelled."
    assert appliance.error("ManageTask", TaskId=task, OperationType="Abort") == "ResourceNotFound"
    finished(appliance, flow)
    until(lambda: leftovers(appliance) == [] and not list((appliance.data / "clips").glob("*")), 20, "no leftover")
    assert [len(appliance.search(Names=[name])) for name in ("quick", "slow")] == [1, 0]
