"""HLS recordings that outlive an interruption of their stream (FlowContinueDuration)."""

import re
import time

import pytest

import check
import media
import rtmp
from appliance import until


def interrupted(appliance, domain, seconds, **formats):
    """Records a domain as HLS that waits so long for its streams."""
    return appliance.record(domain, hls=True, HlsSpecialParam={"FlowContinueDuration": seconds}, **formats)


def open_playlist(appliance, parts):
    """The playlist of the one open HLS recording, once it lists segments of so many publications."""

    def look():
        found = list((appliance.data / "recording").glob("*/index.m3u8"))
        assert len(found) <= 1, found
        if not found:
            return None
        text = found[0].read_text()
        return found[0] if text.count("#EXT-X-DISCONTINUITY") == parts - 1 and text.rstrip().split("#EXT-X-DISCONTINUITY")[-1].count("#EXTINF") else None

    return until(look, 20, f"a playlist of {parts} publications")


def end_waiting(appliance, *streams):
    """Nobody comes back any more."""
    for stream in streams:
        appliance.wait_offline(stream, "resume.example")
        appliance.call("ForbidLiveStream", StreamName=stream, AppName="live", DomainName="resume.example")


def wait_paused(appliance, count):
    until(lambda: appliance.log.count("its return is awaited") >= count, 20, f"interruption {count}")


def stretches(path, folder):
    """Playlists of what lies between the discontinuities, each playable by itself."""
    folder.mkdir()
    for part in path.parent.iterdir():
        (folder / part.name).symlink_to(part)
    lines = path.read_text().replace("#EXT-X-ENDLIST\n", "")
    head, body = re.match(r"((?:#EXT(?:M3U|-X-(?:VERSION|TARGETDURATION|MEDIA-SEQUENCE|PLAYLIST-TYPE))[^\n]*\n)+)(.*)", lines, re.S).groups()
    made, init = [], ""
    for number, stretch in enumerate(body.split("#EXT-X-DISCONTINUITY\n")):
        own = re.match(r"#EXT-X-MAP:[^\n]*\n", stretch)
        # Without one of its own it goes on with the init segment before.
        init, stretch = (own[0], stretch[own.end() :]) if own else (init, stretch)
        made.append(folder / f"stretch-{number}.m3u8")
        made[-1].write_text(head + init + stretch + "#EXT-X-ENDLIST\n")
    return made


def assert_holds(path, folder, sources, transport_stream=False):
    playlists = stretches(path, folder)
    assert len(playlists) == len(sources), path.read_text()
    for playlist, name in zip(playlists, sources):
        if transport_stream:
            found = media.packets(playlist, video_filter="filter_units=pass_types=1-6", audio_filter="aac_adtstoasc")
        else:
            found = media.packets(playlist)
        media.assert_same(check.annexb(media.source(name)) if transport_stream else media.packets(media.source(name)), found, what=f"{name} in {playlist.name}")


def no_hls_yet(appliance, stream, domain):
    return [file for file in appliance.search(StreamIds=[stream], StreamDomains=[domain]) if file["BasicInfo"]["Type"] == "hls"] == []


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_the_playlist_goes_on(start, source, push, tmp_path, container):
    """Other parameters, other init segment; the MP4 beside it ends with each publication; one HLS file in the end."""
    appliance = start(record={"hls_segment_ms": 1000, "hls_container": container})
    interrupted(appliance, "resume.example", 1800, mp4=True)
    sources, texts = ["av", "bframes", "av"], []
    begin = time.time()
    for number, name in enumerate(sources, 1):
        push(source(name), appliance.url("cam", "resume.example"))
        path = open_playlist(appliance, number)
        wait_paused(appliance, number)
        text = path.read_text()
        assert "#EXT-X-PLAYLIST-TYPE:EVENT" in text and "#EXT-X-ENDLIST" not in text
        assert not texts or text.startswith(texts[-1]), "an EVENT playlist only grows"
        texts.append(text)
        assert no_hls_yet(appliance, "cam", "resume.example")
    end_waiting(appliance, "cam")
    files = appliance.files("cam", "resume.example", 4)
    (hls,) = [file for file in files if file["BasicInfo"]["Type"] == "hls"]
    for file, name in zip([file for file in files if file is not hls], sources):
        check.check(appliance, file, media.packets(source(name)))
    path = appliance.path_of(hls)
    # The last segment before an interruption is measured anew: its sound may end behind its picture.
    timeless = [re.sub(r"#EXTINF:[\d.]+", "#EXTINF", text) for text in (path.read_text(), texts[-1])]
    assert timeless[0] == timeless[1] + "#EXT-X-ENDLIST\n", "the final playlist is the live one and its end"
    check.check_playlist(path)
    assert_holds(path, tmp_path / "parts", sources, container == "ts")
    # The time on the wall, not the sum of what was sent.
    times = [media.run(["date", "+%s.%N", "-d", stamp]).stdout for stamp in re.findall(r"PROGRAM-DATE-TIME:(\S+)", path.read_text())]
    assert all(begin - 1 <= float(stamp) for stamp in times)
    assert hls["MetaData"]["Duration"] == pytest.approx(18, abs=0.3)
    assert hls["MetaData"]["Size"] == check.size_on_disk(appliance, hls)
    # The end of the recording is that of the last publication, not of the waiting.
    assert not (path.parent / "paused.json").exists()
    until(lambda: not list((appliance.data / "recording").iterdir()), 10, "nothing being left to do")


@pytest.mark.parametrize("clean", [True, False])
def test_across_a_restart(start, source, push, tmp_path, clean):
    appliance = start(record={"hls_segment_ms": 1000, "durability_ms": 100})
    interrupted(appliance, "resume.example", 1800)
    push(source("av"), appliance.url("idle", "resume.example"))
    wait_paused(appliance, 1)
    live = rtmp.Live(source("live"), appliance.rtmp_port, "cam?vhost=resume.example")
    appliance.wait_recording("cam", "resume.example")
    until(lambda: sum(path.read_text().count("#EXTINF") >= 2 for path in (appliance.data / "recording").glob("*/index.m3u8")) == 2, 20, "two segments of each")
    appliance.stop() if clean else appliance.kill()
    live._stop_asked.set()
    live.join(60)
    appliance.start()
    # Both are continued: the one that waited already, and the one that the end of the process interrupted.
    for name in ("idle", "cam"):
        push(source("av"), appliance.url(name, "resume.example"))
    end_waiting(appliance, "idle", "cam")
    idle = appliance.file("idle", "resume.example")
    assert_holds(appliance.path_of(idle), tmp_path / "idle", ["av", "av"])
    cam = appliance.file("cam", "resume.example")
    first, second = stretches(appliance.path_of(cam), tmp_path / "cam")
    media.assert_same(media.packets(source("av")), media.packets(second))
    begins = media.assert_part_of(media.packets(source("live")), media.packets(first))
    assert begins["video"] == 0
    assert int(cam["FileId"]) > int(idle["FileId"])


def test_a_restart_that_takes_too_long(start, source, push):
    appliance = start()
    interrupted(appliance, "resume.example", 1)
    push(source("av"), appliance.url("cam", "resume.example"))
    wait_paused(appliance, 1)
    appliance.stop()
    # If that took longer than its time, it is finished already.
    until(lambda: time.time() > max((path.stat().st_mtime for path in (appliance.data / "recording").glob("*/*")), default=0) + 1.2, 5, "the end of its time")
    appliance.start()
    push(source("av"), appliance.url("cam", "resume.example"))
    for file in appliance.files("cam", "resume.example", 2):
        check.check(appliance, file, media.packets(source("av")))


def test_what_ends_the_waiting(start, source, push):
    """A task's stop, a ban of the stream, a call to drop it (which does not), a newer publisher of the name (which goes on)."""
    appliance = start(record={"hls_segment_ms": 1000})
    domain = "resume.example"
    template = interrupted(appliance, domain, 1800)
    push(source("av"), appliance.url("banned", domain))
    appliance.rule(appliance.template(), domain, "live", "task")
    task = appliance.call("CreateRecordTask", StreamName="task", AppName="live", DomainName=domain, EndTime=int(time.time()) + 600, TemplateId=template)["TaskId"]
    push(source("av"), appliance.url("task", domain))
    wait_paused(appliance, 2)
    appliance.call("StopRecordTask", TaskId=task)
    check.check(appliance, appliance.file("task", domain), media.packets(source("av")))
    assert no_hls_yet(appliance, "banned", domain)
    appliance.call("ForbidLiveStream", StreamName="banned", AppName="live", DomainName=domain)
    check.check(appliance, appliance.file("banned", domain), media.packets(source("av")))

    first = rtmp.Live(source("live"), appliance.rtmp_port, f"taken?vhost={domain}")
    appliance.wait_recording("taken", domain)
    second = rtmp.Live(source("live"), appliance.rtmp_port, f"taken?vhost={domain}")
    open_playlist(appliance, 2)
    appliance.call("DropLiveStream", StreamName="taken", AppName="live", DomainName=domain)
    wait_paused(appliance, 4)
    for live in (first, second):
        live._stop_asked.set()
    third = rtmp.Live(source("live"), appliance.rtmp_port, f"taken?vhost={domain}")
    open_playlist(appliance, 3)
    appliance.call("ForbidLiveStream", StreamName="taken", AppName="live", DomainName=domain)
    third._stop_asked.set()
    file = appliance.file("taken", domain)
    assert appliance.path_of(file).read_text().count("#EXT-X-DISCONTINUITY") == 2


def test_audio_alone_is_resumed(start, source, push, tmp_path):
    appliance = start(record={"hls_segment_ms": 1000})
    interrupted(appliance, "resume.example", 1800)
    for number in (1, 2):
        push(source("aac"), appliance.url("radio", "resume.example"))
        wait_paused(appliance, number)
    end_waiting(appliance, "radio")
    assert_holds(appliance.path_of(appliance.file("radio", "resume.example")), tmp_path / "parts", ["aac", "aac"])


def test_record_type_of_the_push_address(capstan, source, push, domain):
    """`record_type=audio` asks for the sound alone, in every format of the template; `video` for both."""
    capstan.record(domain, mp4=True, flv=True)
    push(source("av"), capstan.url("sound", domain, query="record_type=audio"))
    push(source("av"), capstan.url("both", domain, query="record_type=video"))
    expected = media.packets(source("av"))
    for file in capstan.by_format("sound", domain, "flv", "mp4").values():
        check.check(capstan, file, expected.only("audio"))
    for file in capstan.by_format("both", domain, "flv", "mp4").values():
        check.check(capstan, file, expected)
