"""Is a finished file what was sent? One check per format."""

import re
from fractions import Fraction

import media

FORMATS_WITH_TIMES = {"flv", "mp4", "hls"}


def read(appliance, file):
    """Packets of a recording, made comparable with those of an FLV source."""
    path = appliance.path_of(file)
    container = file["BasicInfo"]["Type"]
    if container == "aac":
        return quietly(path, audio_filter="aac_adtstoasc")
    if container == "mp3":
        return quietly(path)
    if is_transport(container, path):
        # MPEG-TS: back to what is in every container, slices and SEI.
        return media.packets(path, video_filter="filter_units=pass_types=1-6", audio_filter=transport_audio(path))
    return media.packets(path)


def is_transport(container, path):
    return container == "hls" and "EXT-X-MAP" not in path.read_text()


def assert_gstreamer_reads_transport(playlist):
    """tsdemux finds the packets that ffmpeg finds, in each file of an HLS recording: sizes, and times within a track."""
    for file in playlist.parent.glob("media-*.ts"):
        expected = media.packets(file, quiet=False)
        for kind, pid in (("video", 0x100), ("audio", 0x101)):
            if kind not in expected.kinds:
                continue
            buffers = media.gstreamer_buffers(file, "tsdemux", f"{kind}_0_{pid:04x}")
            what = f"{kind} of {file} by GStreamer"
            assert len(buffers) == len(expected[kind]), what
            # ffmpeg's parser counts the first zero of a start code to one picture or the other.
            assert all(abs(size - packet.size) <= 1 for (size, _), packet in zip(buffers, expected[kind])), what
            shifts = {round(float(time - packet.pts)) for (_, time), packet in zip(buffers, expected[kind]) if time is not None}
            assert max(shifts) - min(shifts) <= 1, f"{what}: times are off by {shifts}"


def transport_audio(path):
    codecs = {stream["codec_name"] for stream in media.probe(path)["streams"]}
    return "aac_adtstoasc" if "aac" in codecs else None


def quietly(path, **filters):
    """Elementary streams have no duration anywhere, and ffmpeg says so; nothing else may be said."""
    found = media.packets(path, quiet=False, **filters)
    words = media.run([media.FFMPEG, "-v", "warning", "-nostdin", "-i", path, "-c", "copy", "-f", "null", "-"]).stderr.decode()
    left = [line for line in words.splitlines() if "Estimating duration from bitrate" not in line]
    assert left == [], left
    return found


def annexb(path):
    """A source as an MPEG-TS recording of it is read."""
    return media.packets(path, video_filter="h264_mp4toannexb,filter_units=pass_types=1-6")


def size_on_disk(appliance, file):
    """Bytes of media and playlists; what the appliance notes about the recording is not part of it."""
    return sum(path.stat().st_size for path in appliance.folder_of(file).iterdir() if path.suffix != ".json")


def check(appliance, file, expected, tolerance_ms=0, begins_at_zero=True):
    """All of it: readable without a word, same packets, same time differences, durations and sizes as said. Returns its packets."""
    container, path = file["BasicInfo"]["Type"], appliance.path_of(file)
    if container in ("aac", "mp3"):
        expected = expected.only("audio")
    found = read(appliance, file)
    if container in ("aac", "mp3"):
        # GStreamer's parsers leave the header of an ADTS frame where it is.
        sizes = [size for size, _ in media.gstreamer_buffers(path, {"aac": "aacparse", "mp3": "mpegaudioparse"}[container], "src")]
        assert sizes == [packet.size + (7 if container == "aac" else 0) for packet in found["audio"]], f"{path} by GStreamer"
    what = f"{container} of {path.name}"
    media.assert_same_payloads(expected, found, what)
    assert file["MetaData"]["Container"] == container
    assert file["MetaData"]["Size"] == size_on_disk(appliance, file)
    media.assert_duration(expected, file["MetaData"]["Duration"], f"the catalog about {what}")
    check_streams(file, expected)
    if container not in FORMATS_WITH_TIMES:
        return found
    media.assert_same_times(expected, found, tolerance_ms, what)
    media.assert_third_agrees(path, found, payloads=not is_transport(container, path))
    if is_transport(container, path):
        assert_gstreamer_reads_transport(path)
    if container == "flv":
        media.assert_flvmeta_agrees(path)
    media.assert_duration(expected, media.probe(path)["format"]["duration"], f"ffprobe about {what}")
    if begins_at_zero and container != "hls":
        # FLV counts in decoding times, MP4 presents from 0.
        clock = (lambda packet: packet.dts) if container == "flv" else (lambda packet: packet.pts)
        first = min(clock(packet) for kind in found.kinds for packet in found[kind])
        assert first == 0, f"{what} begins at {float(first)} ms"
    return found


def check_streams(file, expected):
    meta = file["MetaData"]
    assert (len(meta["VideoStreamSet"]), len(meta["AudioStreamSet"])) == ("video" in expected.kinds, "audio" in expected.kinds)
    if "video" in expected.kinds:
        video = meta["VideoStreamSet"][0]
        assert video["Codec"] == "h264" and video["Width"] == meta["Width"] > 0 and video["Height"] == meta["Height"] > 0
    if "audio" in expected.kinds:
        assert meta["AudioStreamSet"][0]["Codec"] in ("aac", "mp3") and meta["AudioStreamSet"][0]["SamplingRate"] > 0
    assert file["BasicInfo"]["Category"] == ("Video" if "video" in expected.kinds else "Audio")


def atoms(path):
    """(type, offset, size) of the top-level boxes of an MP4 file."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8].decode()
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        assert size >= 8 and at + size <= len(data), f"box {kind} at {at} has {size} bytes"
        found.append((kind, at, size))
        at += size
    return found


def check_fast_start(path):
    """A plain MP4 with the index in front: what every player can start at once."""
    kinds = [kind for kind, _, _ in atoms(path)]
    assert kinds[0] == "ftyp" and kinds.count("moov") == 1 and "moof" not in kinds and kinds.count("mdat") == 1, kinds
    assert kinds.index("moov") < kinds.index("mdat"), kinds


def check_playlist(path, ended=True):
    """RFC 8216: returns the segments as (seconds, uri, (length, offset) or None)."""
    lines = path.read_text().splitlines()
    assert lines[0] == "#EXTM3U"
    tags = dict(line.lstrip("#").split(":", 1) for line in lines if line.startswith("#EXT-X-") and ":" in line and "BYTERANGE" not in line)
    assert tags["EXT-X-PLAYLIST-TYPE"] == "EVENT"
    assert ("#EXT-X-ENDLIST" in lines) == ended
    version = int(tags["EXT-X-VERSION"])
    if "EXT-X-MAP" in tags:
        assert version >= 6
        uri = re.search(r'URI="([^"]+)"', tags["EXT-X-MAP"])[1]
        assert (path.parent / uri).stat().st_size > 0
    segments, seconds, byte_range, ends = [], None, None, {}
    for line in lines:
        if line.startswith("#EXTINF:"):
            seconds = Fraction(line[len("#EXTINF:") :].split(",")[0])
        elif line.startswith("#EXT-X-BYTERANGE:"):
            assert version >= 4
            length, _, offset = line.partition(":")[2].partition("@")
            byte_range = (int(length), int(offset) if offset else None)
        elif line and not line.startswith("#"):
            assert seconds is not None, f"{line} has no EXTINF"
            assert "/" not in line and ".." not in line, line
            size = (path.parent / line).stat().st_size
            if byte_range:
                # Without an offset a range follows the one before it in the same file.
                offset = byte_range[1] if byte_range[1] is not None else ends[line]
                byte_range = (byte_range[0], offset)
                assert offset + byte_range[0] <= size, f"{byte_range} ends behind {line}"
                ends[line] = offset + byte_range[0]
            segments.append((seconds, line, byte_range))
            seconds, byte_range = None, None
    assert int(tags["EXT-X-TARGETDURATION"]) >= max(round(seconds) for seconds, _, _ in segments)
    return segments
