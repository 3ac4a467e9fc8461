"""RecordInterval: a new file at the first key frame after it, nothing lost, nothing doubled."""

from fractions import Fraction

import pytest

import media
from check import check_fast_start, read

INTERVAL_S = 30


def pieces(appliance, files, whole):
    """The files one after the other hold the source, and each keeps its time differences."""
    parts = [read(appliance, file) for file in files]
    media.assert_same_payloads(whole, media.joined(parts), "all files together")
    cursor = dict.fromkeys(whole.kinds, 0)
    for file, part in zip(files, parts):
        expected = media.Packets()
        for kind in part.kinds:
            expected.tracks[kind] = whole[kind][cursor[kind] : cursor[kind] + len(part[kind])]
            cursor[kind] += len(part[kind])
        media.assert_duration(expected, file["MetaData"]["Duration"], f"the catalog about {file['FileId']}")
        yield file, part, expected


@pytest.mark.parametrize("container", ["flv", "mp4"])
def test_video_splits_at_key_frames(capstan, source, push, domain, container):
    capstan.record(domain, **{container: {"RecordInterval": INTERVAL_S}})
    push(source("long"), capstan.url("long", domain))
    whole = media.packets(source("long"))
    # Key frames every 2.5 s: the files end at 30.0, 60.0 and 90.0 s.
    files = capstan.files("long", domain, 4)
    for file, part, expected in pieces(capstan, files, whole):
        path = capstan.path_of(file)
        media.probe(path)
        media.assert_same_times(expected, part, what=path.name)
        flags = media.run(["ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=flags", "-of", "csv=p=0", "-read_intervals", "%+#1", path])
        assert flags.stdout.decode().startswith("K"), f"{path.name} does not begin with a key frame"
        clock = (lambda packet: packet.dts) if container == "flv" else (lambda packet: packet.pts)
        assert min(clock(packet) for kind in part.kinds for packet in part[kind]) == 0
        if container == "mp4":
            check_fast_start(path)
    spans = [max(packet.dts for packet in part["video"]) - min(packet.dts for packet in part["video"]) for part in (read(capstan, file) for file in files)]
    assert [span + 100 for span in spans] == [30_000, 30_000, 30_000, 10_000]
    # Audio and video of a file end together, to a frame of each.
    for file in files[:-1]:
        part = read(capstan, file)
        ends = {kind: max(packet.pts for packet in part[kind]) + media.frame_ms(part.only(kind)) for kind in part.kinds}
        assert abs(ends["audio"] - ends["video"]) <= 64 + 100 + 200, ends


@pytest.mark.parametrize(("name", "container"), [("longaac", "aac"), ("longaac", "mp4"), ("longaac", "flv"), ("longmp3", "mp3")])
def test_audio_splits_at_any_frame(capstan, source, push, domain, name, container):
    capstan.record(domain, **{container: {"RecordInterval": INTERVAL_S}})
    push(source(name), capstan.url(name, domain))
    whole = media.packets(source(name))
    files = capstan.files(name, domain, 3)
    frame_ms = media.frame_ms(whole)
    for file, part, expected in pieces(capstan, files, whole):
        if container in ("mp4", "flv"):
            media.assert_same_times(expected, part)
            assert part["audio"][0].pts == 0
        if file is not files[-1]:
            span = expected["audio"][-1].dts - expected["audio"][0].dts
            assert abs(span - INTERVAL_S * 1000) <= frame_ms + 1, float(span)


def test_audio_file_of_a_stream_with_video(capstan, source, push, domain):
    """The AAC file of an audio and video stream is cut as well, and loses nothing."""
    capstan.record(domain, aac={"RecordInterval": INTERVAL_S}, mp4={"RecordInterval": 43200})
    push(source("long"), capstan.url("both", domain))
    whole = media.packets(source("long"))
    files = capstan.files("both", domain, 5)
    sound = [file for file in files if file["BasicInfo"]["Type"] == "aac"]
    assert len(sound) == 4
    media.assert_same_payloads(whole.only("audio"), media.joined([read(capstan, file) for file in sound]))
    (picture,) = [file for file in files if file["BasicInfo"]["Type"] == "mp4"]
    media.assert_same(whole, read(capstan, picture))


def test_hls_is_not_split(capstan, source, push, domain):
    capstan.record(domain, hls={"RecordInterval": INTERVAL_S})
    push(source("long"), capstan.url("one", domain))
    file = capstan.file("one", domain)
    media.assert_same(media.packets(source("long")), read(capstan, file))
    assert file["MetaData"]["Duration"] == pytest.approx(100.1, abs=0.2)


def test_times_wrap(capstan, source, push, domain):
    """RTMP time passes 2^24 ms (extended timestamps) and 2^32 ms (49.7 days) inside a recording."""
    from rtmp import publisher

    capstan.record(domain, flv=True, mp4=True)
    whole = media.packets(source("av"))
    for name, begin in (("extended", 2**24 - 2_000), ("wrapped", 2**32 - 2_000)):
        with_times = publisher(capstan.rtmp_port, f"{name}?vhost={domain}")
        for kind, timestamp, body in media.flv_tags(source("av")):
            is_media = kind != 18 and not (kind == 9 and body[1] == 0) and not (kind == 8 and body[1] == 0)
            with_times.tag(kind, (begin + timestamp if is_media else begin) % 2**32, body)
        with_times.close()
        for file in capstan.by_format(name, domain, "flv", "mp4").values():
            found = read(capstan, file)
            media.assert_same(whole, found, what=name)
            assert media.duration_ms(found) == pytest.approx(float(media.duration_ms(whole)), abs=float(Fraction(1)))
