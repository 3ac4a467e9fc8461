"""One push, every format: packet for packet what was sent."""

import pytest

import media
from check import annexb, check, check_fast_start

# Source: the formats that can hold it.
HOLDS = {
    "av": ["aac", "flv", "hls", "mp4"],
    "bframes": ["aac", "flv", "hls", "mp4"],
    "vfr": ["aac", "flv", "hls", "mp4"],
    "aac": ["aac", "flv", "hls", "mp4"],
    "mp3": ["flv", "hls", "mp3", "mp4"],
    "video": ["flv", "hls", "mp4"],
    "avmp3": ["flv", "hls", "mp3", "mp4"],
}


@pytest.fixture(scope="module")
def transport(tmp_path_factory):
    """A server that writes HLS as MPEG-TS."""
    from appliance import Appliance

    appliance = Appliance(tmp_path_factory.mktemp("transport"), record={"hls_container": "ts", "hls_segment_ms": 1000}).start()
    yield appliance
    appliance.stop()


@pytest.mark.parametrize("name", HOLDS)
def test_every_format(capstan, source, push, domain, name):
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True, mp3=True)
    push(source(name), capstan.url(name, domain))
    expected = media.packets(source(name))
    files = capstan.by_format(name, domain, *HOLDS[name])
    for file in files.values():
        check(capstan, file, expected)
        assert file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["StreamId"] == name
    check_fast_start(capstan.path_of(files["mp4"]))
    for container in ("flv", "mp4", "hls"):
        media.assert_decodes(capstan.path_of(files[container]))


@pytest.mark.parametrize("name", ["av", "bframes", "vfr", "aac", "mp3", "video"])
def test_hls_as_transport_stream(transport, source, push, domain, name):
    transport.record(domain, hls=True)
    push(source(name), transport.url(name, domain))
    file = transport.file(name, domain)
    expected = annexb(source(name))
    # One PES packet may carry several audio frames; the time of the later ones follows from their length, to the rounding of the source.
    check(transport, file, expected, tolerance_ms=2)
    media.assert_decodes(transport.path_of(file))


def test_flv_metadata(capstan, source, push, domain):
    """Duration, size and key frames are in front, filled in at the end."""
    capstan.record(domain, flv=True)
    push(source("av"), capstan.url("meta", domain))
    file = capstan.file("meta", domain)
    path = capstan.path_of(file)
    kind, timestamp, body = next(media.flv_tags(path))
    assert (kind, timestamp) == (18, 0)
    assert body.startswith(b"\x02\x00\x0aonMetaData")
    values = amf_values(body)
    media.assert_duration(media.packets(source("av")), values["duration"])
    assert values["filesize"] == path.stat().st_size
    positions, times = values["keyframes"]["filepositions"], values["keyframes"]["times"]
    key_frames = [(at, timestamp) for at, kind, timestamp, body in tags_with_offsets(path) if kind == 9 and body[0] >> 4 == 1 and body[1] == 1]
    assert len(key_frames) == 6
    # Writers put the sequence header in front of the list, or not.
    assert [position for position in positions if position in dict(key_frames)] == [at for at, _ in key_frames]
    assert times[-1] == pytest.approx(key_frames[-1][1] / 1000, abs=0.001)


def tags_with_offsets(path):
    at = 13
    for kind, timestamp, body in media.flv_tags(path):
        yield at, kind, timestamp, body
        at += 11 + len(body) + 4


def amf_values(body):
    """The object of onMetaData as Python values."""
    import struct

    at = 13

    def text():
        nonlocal at
        length = int.from_bytes(body[at : at + 2], "big")
        at += 2 + length
        return body[at - length : at].decode()

    def value():
        nonlocal at
        kind = body[at]
        at += 1
        if kind == 0:
            at += 8
            return struct.unpack(">d", body[at - 8 : at])[0]
        if kind == 1:
            at += 1
            return bool(body[at - 1])
        if kind == 2:
            return text()
        if kind in (3, 8):
            at += 4 if kind == 8 else 0
            found = {}
            while key := text():
                found[key] = value()
            assert body[at] == 9
            at += 1
            return found
        if kind == 10:
            count = int.from_bytes(body[at : at + 4], "big")
            at += 4
            return [value() for _ in range(count)]
        raise AssertionError(f"AMF type {kind}")

    return value()


def test_three_publishers_at_once(capstan, source, push, domain):
    capstan.record(domain, flv=True, mp4=True)
    names = ["av", "bframes", "vfr"]
    running = [push.ffmpeg(source(name), capstan.url(f"three-{name}", domain), realtime=True) for name in names]
    for name in names:
        capstan.wait_online(f"three-{name}", domain)
    for process in running:
        push.finish(process)
    for name in names:
        expected = media.packets(source(name))
        for file in capstan.by_format(f"three-{name}", domain, "flv", "mp4").values():
            check(capstan, file, expected)


def test_a_stream_published_again_is_another_recording(capstan, source, push, domain):
    capstan.record(domain, mp4=True)
    for _ in range(2):
        push(source("av"), capstan.url("again", domain))
    expected = media.packets(source("av"))
    first, second = capstan.files("again", domain, 2)
    assert first["FileId"] != second["FileId"]
    for file in (first, second):
        check(capstan, file, expected)
