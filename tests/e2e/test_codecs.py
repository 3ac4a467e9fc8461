"""Codecs of Enhanced RTMP: each in every container that can hold it, packet for packet, by readers that know nothing of each other."""

import hashlib
import json
import re
from fractions import Fraction

import m3u8
import pytest
import requests

import media
import rtmp
from check import assert_gstreamer_reads_transport, check, check_fast_start
from test_publishers import newer_ffmpeg

P, T = media.picture(3), media.tone(3, 48000)
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25"

# Source: recipe, names of video and audio in the catalog, which of the tracks a transport stream holds.
SOURCES = {
    "hevc-aac": (f"{P} {T} {X265}:bframes=2 -c:a aac -b:a 64k", "hevc", "aac", "video audio"),
    "hevc10-ac3": (f"{P} {T} {X265} -pix_fmt yuv420p10le -c:a ac3 -b:a 96k", "hevc", "ac3", "video audio"),
    "av1-opus": (f"{P} {T} -c:v libaom-av1 -cpu-used 8 -usage realtime -g 25 -threads 1 -c:a libopus -b:a 64k", "av1", "opus", "audio"),
    "vp9-flac": (f"{P} {T} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -c:a flac", "vp9", "flac", ""),
    "avc-eac3": (f"{P} {T} {media.X264} -bf 2 -g 25 -c:a eac3 -b:a 96k", "h264", "eac3", "video audio"),
    "avc-opus": (f"{P} {T} {media.X264} -bf 2 -g 25 -c:a libopus -b:a 64k", "h264", "opus", "video audio"),
    "opus": (f"{T} -c:a libopus -b:a 64k", None, "opus", "audio"),
    "flac": (f"{media.tone(3, 44100)} -c:a flac", None, "flac", ""),
    "vvc": (f"{media.picture(1)} -c:v libvvenc -preset faster -g 25", "vvc", None, ""),
    # ffmpeg writes no FLV with it: see `source`.
    "vp8": (f"{media.picture(2)} -c:v libvpx -deadline realtime -cpu-used 8 -g 25", "vp8", None, ""),
}


@pytest.fixture(params=SOURCES)
def name(request):
    return request.param


def source(name):
    wrap = vp8_in_flv if name == "vp8" else None
    return media.source(name, newer_ffmpeg(), SOURCES[name][0], wrap)


def vp8_in_flv(ffmpeg, recipe, path):
    """Frames of libvpx as Enhanced RTMP has them: ffmpeg has no VP8 in FLV."""
    frames = path.with_suffix(".ivf")
    media.run([ffmpeg, "-v", "error", "-y", *recipe.split(" "), "-f", "ivf", frames])
    data, tags = frames.read_bytes(), []
    at = int.from_bytes(data[6:8], "little")
    while at < len(data):
        size, number = int.from_bytes(data[at : at + 4], "little"), int.from_bytes(data[at + 4 : at + 12], "little")
        frame = data[at + 12 : at + 12 + size]
        tags.append((9, number * 40, bytes([0x91 if frame[0] & 1 == 0 else 0xA1]) + b"vp08" + frame))
        at += 12 + size
    path.write_bytes(media.flv_file(tags))
    frames.unlink()


def tracks_of(name):
    return [kind for kind, codec in zip(("video", "audio"), SOURCES[name][1:3]) if codec]


@pytest.fixture(scope="module")
def transport(tmp_path_factory):
    """A server that writes HLS as MPEG-TS."""
    from appliance import Appliance

    appliance = Appliance(tmp_path_factory.mktemp("transport"), record={"hls_container": "ts", "hls_segment_ms": 1000}).start()
    yield appliance
    appliance.stop()


def push_it(appliance, push, name, domain):
    if name == "vp8":
        connection = rtmp.publisher(appliance.rtmp_port, f"{name}?vhost={domain}")
        for tag in media.flv_tags(source(name)):
            connection.tag(*tag)
        connection.close()
    else:
        push(source(name), appliance.url(name, domain), ffmpeg=newer_ffmpeg())


def test_every_format(capstan, push, domain, name, tmp_path):
    capstan.record(domain, flv=True, mp4=True, hls=True)
    push_it(capstan, push, name, domain)
    expected = sent(name)
    files = capstan.by_format(name, domain, "flv", "hls", "mp4")
    for container, file in files.items():
        path = capstan.path_of(file)
        if (container, name) != ("flv", "vp8"):
            # ffmpeg's VVC encoder numbers the first key frame behind frames that follow it, and says so when it reads it.
            found = whole(media.packets(path, ffmpeg=newer_ffmpeg(), quiet=name != "vvc"))
            media.assert_same(expected, found, what=f"{container} of {name}")
        media.assert_third_agrees(path, expected)
        check_catalog(file, name)
        media.assert_duration(expected, file["MetaData"]["Duration"], f"the catalog about {container} of {name}")
    mp4, playlist = (capstan.path_of(files[container]) for container in ("mp4", "hls"))
    check_fast_start(mp4)
    assert tags(source(name)) == tags(capstan.path_of(files["flv"]))
    media.assert_flvmeta_agrees(capstan.path_of(files["flv"]), enhanced=True)
    # Other readers: an ffmpeg of years ago, and GStreamer; neither knows VVC.
    if SOURCES[name][1] != "vvc":
        for path in (mp4, playlist):
            media.assert_same(expected, media.packets(path), what=f"{path.name} of {name} by the older ffmpeg")
        assert_gstreamer_agrees(mp4, expected, name)
        assert_gstreamer_agrees(fragments_of(playlist, tmp_path / "fragments.mp4"), expected, name)
        media.assert_decodes(mp4)


def sent(name, **filters):
    if name == "vp8":
        packets = [media.Packet(Fraction(time), Fraction(time), Fraction(40), len(body) - 5, hashlib.md5(body[5:]).hexdigest()) for _, time, body in media.flv_tags(source(name))]
        return media.Packets({"video": packets})
    return whole(media.packets(source(name), ffmpeg=newer_ffmpeg(), **filters))


def whole(packets):
    """Without the empty ones that ffmpeg makes of the order of channels and the like."""
    return media.Packets({kind: [packet for packet in some if packet.size] for kind, some in packets.tracks.items()})


def tags(path):
    """Frames as they stand in FLV, modifiers and all."""
    return [(kind, body) for kind, _, body in media.flv_tags(path) if kind != 18 and is_frame(kind, body)]


def is_frame(kind, body):
    if len(body) == 5 and body[1:].isascii():
        return False
    if kind == 9:
        return body[0] & 0x0F in (1, 3) if body[0] & 0x80 else body[1] == 1
    return body[0] & 0x0F == 1 if body[0] >> 4 == 9 else body[0] >> 4 != 10 or body[1] == 1


def check_catalog(file, name):
    meta = file["MetaData"]
    _, video, audio, _ = SOURCES[name]
    if video:
        assert (meta["VideoStreamSet"][0]["Codec"], meta["Width"], meta["Height"]) == (video, 160, 120)
    if audio:
        assert meta["AudioStreamSet"][0]["Codec"] == audio and meta["AudioStreamSet"][0]["SamplingRate"] > 0


def assert_gstreamer_agrees(path, expected, name):
    """qtdemux finds the same packets: sizes, and times of presentation within a track."""
    for kind in expected.kinds:
        buffers = media.gstreamer_buffers(path, "qtdemux", f"{kind[:5]}_{kind[5:] or 0}")
        assert [size for size, _ in buffers] == [packet.size for packet in expected[kind]], f"{kind} of {name} by GStreamer"
        shifts = {round(float(time - packet.pts)) for (_, time), packet in zip(buffers, expected[kind]) if time is not None}
        assert max(shifts) - min(shifts) <= 1, f"{kind} of {name}: times by GStreamer are off by {shifts}"


def fragments_of(playlist, path):
    """What a player loads of a playlist on the disk, as one file."""
    segments = m3u8.load(str(playlist)).segments
    parts = [(segments[0].init_section.uri, segments[0].init_section.byterange), *((segment.uri, segment.byterange) for segment in segments)]
    with open(path, "wb") as file:
        for uri, byte_range in parts:
            data = (playlist.parent / uri).read_bytes()
            if byte_range:
                length, _, offset = byte_range.partition("@")
                data = data[int(offset) : int(offset) + int(length)]
            file.write(data)
    return path


def assert_mediainfo_agrees(path, expected, codecs):
    """mediainfo finds the same tracks, of as many bytes and frames and of the same length."""
    found = [track for track in json.loads(media.run(["mediainfo", "--Output=JSON", path]).stdout)["media"]["track"] if track["@type"] != "General"]
    assert [track["Format"] for track in found] == codecs
    for track, kind in zip(found, sorted(expected.tracks, reverse=True, key=lambda name: name[:5])):
        packets = expected[kind]
        # Where a track begins late, `Source_` is what its samples are; the others count the time before too.
        own = {name: track.get(f"Source_{name}", track.get(name)) for name in ("StreamSize", "FrameCount", "Duration")}
        assert int(own["StreamSize"]) == sum(packet.size for packet in packets), f"{kind} of {path.name} by mediainfo"
        if track["@type"] == "Audio":
            # Of pictures it makes the count out of length and rate.
            assert int(own["FrameCount"]) == len(packets), f"{kind} of {path.name} by mediainfo"
        media.assert_duration(media.Packets({kind: packets}), float(own["Duration"]), f"mediainfo about {kind} of {path.name}")


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "vvc"])
def test_transport_stream_holds_what_it_can(transport, push, domain, name):
    """The other tracks are left out, with a word; a stream without any is not recorded."""
    held = SOURCES[name][3].split()
    transport.record(domain, hls=True, flv=True)
    push_it(transport, push, name, domain)
    files = transport.by_format(name, domain, *(["hls"] if held else []), "flv")
    for kind in set(tracks_of(name)) - set(held):
        codec = SOURCES[name][1 if kind == "video" else 2]
        transport.said("has no place for the codec", f"{domain}/live/{name}", 'container="MPEG-TS"', f'codec="{codec}"')
    if not held:
        return
    path = transport.path_of(files["hls"])
    filters = {"hevc": "hevc_mp4toannexb,filter_units=pass_types=0-31|39-40", "h264": "h264_mp4toannexb,filter_units=pass_types=1-6"}
    video = filters[SOURCES[name][1]] if "video" in held else None
    expected = sent(name, video_filter=video).only(*held)
    audio = "aac_adtstoasc" if SOURCES[name][2] == "aac" and "audio" in held else None
    found = media.packets(path, video_filter=video and video.split(",")[1], audio_filter=audio)
    media.assert_same(expected, found, tolerance_ms=2, what=f"transport stream of {name}")
    assert_gstreamer_reads_transport(path)
    media.assert_decodes(path)


@pytest.mark.parametrize("form", ["lengths", "start codes"])
def test_legacy_hevc_as_codec_12(capstan, domain, form):
    """As encoders sent H.265 before there was a standard: the tag of AVC with another number; some with start codes, which are put right."""
    capstan.record(domain, mp4=True, flv=True)
    connection = rtmp.publisher(capstan.rtmp_port, f"old?vhost={domain}")
    for kind, timestamp, body in media.flv_tags(source("hevc-aac")):
        if kind == rtmp.VIDEO and body[0] & 0x80:
            frame_type, packet = body[0] >> 4 & 7, body[0] & 0x0F
            if packet == 4:
                continue
            packet_type = {0: 0, 1: 1, 2: 2, 3: 1}[packet]
            time = body[5:8] if packet == 1 else bytes(3)
            media_bytes = body[8 if packet == 1 else 5 :]
            if form == "start codes" and packet_type < 2:
                units = hevc_sets(media_bytes) if packet_type == 0 else media.nal_units(media_bytes)
                media_bytes = b"".join(b"\0\0\0\1" + unit for unit in units)
            body = bytes([frame_type << 4 | 12, packet_type]) + time + media_bytes
        connection.tag(kind, timestamp, body)
    connection.close()
    files = capstan.by_format("old", domain, "flv", "mp4")
    expected = sent("hevc-aac")
    media.assert_same(expected, media.packets(capstan.path_of(files["mp4"])))
    assert [body[0] & 0x0F for kind, _, body in media.flv_tags(capstan.path_of(files["flv"])) if kind == 9 and body[1] == 1] == [12] * len(expected["video"])


def hevc_sets(record):
    """The parameter sets of a HEVCDecoderConfigurationRecord."""
    at = 23
    for _ in range(record[22]):
        count, at = int.from_bytes(record[at + 1 : at + 3], "big"), at + 3
        for _ in range(count):
            length = int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : at + 2 + length]
            at += 2 + length


def test_channels_without_a_number(capstan, transport, push, domain):
    """AAC whose channels a program config element tells: ADTS headers cannot, so the element goes along. Every file sounds as what was sent, to the sample."""
    path = media.source("program", newer_ffmpeg(), f"{media.tone(2, 48000)} -ac 4 -channel_layout quad -c:a aac -b:a 128k")
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True)
    transport.record(domain, hls=True)
    for appliance in (capstan, transport):
        push(path, appliance.url("quad", domain), ffmpeg=newer_ffmpeg())
    sound = decoded(path)
    assert len(sound) > 4 * 2 * 2 * 48000
    files = capstan.by_format("quad", domain, "aac", "flv", "hls", "mp4")
    for file, appliance in [*((file, capstan) for file in files.values()), (transport.file("quad", domain), transport)]:
        assert decoded(appliance.path_of(file)) == sound, file["BasicInfo"]["MediaUrl"]


def decoded(path):
    """The samples, 16 bits each."""
    return media.run([newer_ffmpeg(), "-v", "error", "-i", path, "-map", "0:a", "-f", "s16le", "-"]).stdout


def test_sound_that_a_container_cannot_tell_leaves_the_pictures(capstan, transport, source, domain):
    """AAC with frames of 960 samples: MP4 and FLV say so, ADTS headers cannot, in files of their own and in transport streams."""
    capstan.record(domain, mp4=True, aac=True, flv=True)
    transport.record(domain, hls=True)
    sent = [tag for tag in media.flv_tags(source("live")) if tag[1] < 2000]
    for appliance in (capstan, transport):
        connection = rtmp.publisher(appliance.rtmp_port, f"odd?vhost={domain}")
        for kind, timestamp, body in sent:
            connection.tag(kind, timestamp, bytes.fromhex("af00120c") if kind == rtmp.AUDIO and body[1] == 0 else body)
        connection.close()
    files = capstan.by_format("odd", domain, "flv", "mp4")
    assert [file["MetaData"]["AudioStreamSet"][0]["Codec"] for file in files.values()] == ["aac", "aac"]
    path = transport.path_of(transport.file("odd", domain))
    pictures = [timestamp for kind, timestamp, body in sent if kind == rtmp.VIDEO and body[1] == 1]
    assert len(media.packets(path)["video"]) == len(pictures) > 30 and media.packets(path).kinds == ["video"]
    for appliance, container in ((capstan, "ADTS"), (transport, "MPEG-TS")):
        (word,) = appliance.said(f'container="{container}"', domain)
        assert "ADTS headers cannot tell" in word, word


def test_refused_tracks_leave_the_others(capstan, source, domain):
    """G.711, Speex and Nellymoser are named; the video is recorded."""
    capstan.record(domain, mp4=True)
    for name, head in (("alaw", 0x72), ("mulaw", 0x82), ("speex", 0xB2), ("nelly", 0x62)):
        connection = rtmp.publisher(capstan.rtmp_port, f"{name}?vhost={domain}")
        for kind, timestamp, body in media.flv_tags(source("video")):
            connection.tag(kind, timestamp, body)
            connection.tag(rtmp.AUDIO, timestamp, bytes([head]) + bytes(160))
        connection.close()
        file = capstan.file(name, domain)
        check(capstan, file, media.packets(source("video")))
    for codec in ("G.711 A-law", "G.711 mu-law", "Speex", "Nellymoser"):
        capstan.said("this codec is not recorded", codec)


def test_colours_reach_the_boxes(capstan, push, domain):
    recipe = f"{media.picture(1)} {X265} -pix_fmt yuv420p10le -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc"
    path = media.source("hdr", newer_ffmpeg(), recipe)
    colours = next((body for kind, _, body in media.flv_tags(path) if kind == 9 and body[0] & 0x8F == 0x84), None)
    assert colours and b"colorInfo" in colours
    capstan.record(domain, mp4=True, flv=True)
    push(path, capstan.url("hdr", domain), ffmpeg=newer_ffmpeg())
    files = capstan.by_format("hdr", domain, "flv", "mp4")
    data = capstan.path_of(files["mp4"]).read_bytes()
    at = data.index(b"colrnclx") + 8
    assert int.from_bytes(data[at + 4 : at + 6], "big") == 9
    assert any(kind == 9 and b"colorInfo" in body for kind, _, body in media.flv_tags(capstan.path_of(files["flv"])))


MULTITRACK = f"{P} {media.picture(3, size='128x96')} {T} {media.tone(3, 44100)} -map 0:v -map 1:v -map 2:a -map 3:a {media.X264} -g 25 -c:a:0 aac -c:a:1 libopus"


def test_languages(capstan, domain):
    """What onMetaData says of the tracks for people is in MP4, and tells the sounds of HLS apart."""
    capstan.record(domain, mp4=True, hls=True)
    connection = rtmp.publisher(capstan.rtmp_port, f"languages?vhost={domain}")
    sounds = {"0": {"language": "en"}, "1": {"language": "de-CH", "name": "Kommentar"}}
    connection.tag(rtmp.DATA, 0, rtmp.amf("onMetaData") + rtmp.amf({"audioTrackIdInfoMap": sounds}))
    for kind, timestamp, body in media.flv_tags(media.source("multitrack", newer_ffmpeg(), MULTITRACK)):
        if kind != rtmp.DATA:
            connection.tag(kind, timestamp, body)
    connection.close()
    files = capstan.by_format("languages", domain, "hls", "mp4")
    streams = [stream for stream in media.probe(capstan.path_of(files["mp4"]))["streams"] if stream["codec_type"] == "audio"]
    assert [stream["tags"]["language"] for stream in streams] == ["eng", "deu"] and streams[1]["tags"]["handler_name"] == "Kommentar"
    url = files["hls"]["BasicInfo"]["MediaUrl"]
    media_lines = m3u8.loads(requests.get(url, timeout=60).text, uri=url).media
    assert [(sound.language, sound.name) for sound in media_lines if sound.type == "AUDIO"] == [("en", "Audio 1"), ("de-CH", "Kommentar")]


def test_further_tracks(capstan, push, domain):
    """Two pictures and two sounds: FLV and MP4 hold them all; so does HLS, as variants and renditions of one master playlist."""
    path = media.source("multitrack", newer_ffmpeg(), MULTITRACK)
    capstan.record(domain, flv=True, mp4=True, hls=True)
    push(path, capstan.url("multi", domain), ffmpeg=newer_ffmpeg())
    files = capstan.by_format("multi", domain, "flv", "hls", "mp4")
    flv, mp4, playlist = (capstan.path_of(files[container]) for container in ("flv", "mp4", "hls"))
    frames = [(kind, timestamp, body) for kind, timestamp, body in media.flv_tags(path) if kind != 18 and is_coded(kind, body)]
    found = [(kind, timestamp, body) for kind, timestamp, body in media.flv_tags(flv) if kind != 18 and is_coded(kind, body)]
    assert [(kind, body) for kind, _, body in found] == [(kind, body) for kind, _, body in frames]
    zero = frames[0][1]
    assert [timestamp for _, timestamp, _ in found] == [timestamp - zero for _, timestamp, _ in frames]
    for tag in (b"\x96\x00avc1\x01", b"\x95\x00Opus\x01"):
        assert any(body.startswith(tag) for _, _, body in media.flv_tags(flv)), tag
    # Packet for packet, each track: what the newer ffmpeg finds in the file that was pushed.
    expected = media.packets(path, ffmpeg=newer_ffmpeg(), each=True)
    assert sorted(expected.tracks) == ["audio0", "audio1", "video0", "video1"]
    for container in ("flv", "mp4", "hls"):
        noted = capstan.call("DescribeRecordingReceipt", version="2018-07-17", FileId=files[container]["FileId"])["Receipt"]["Receipt"]
        counted = {further["Kind"]: (further["Number"], further["Track"]["Frames"]) for further in noted["Further"]}
        assert counted == {kind: (1, len(expected[f"{kind}1"])) for kind in ("audio", "video")} and noted["Lost"] == [], container
    for reader in (newer_ffmpeg(), media.FFMPEG):
        for file in (mp4, playlist):
            media.assert_same(expected, media.packets(file, ffmpeg=reader, each=True), what=f"{file.name} of four tracks by {reader}")
    assert_gstreamer_agrees(mp4, expected, "four tracks")
    assert_mediainfo_agrees(mp4, expected, ["AVC", "AVC", "AAC", "Opus"])
    # One copy on the disk.
    assert mp4.stat().st_nlink == 2
    check_fast_start(mp4)
    media.assert_decodes(mp4)
    for kind in ("mp4", "hls"):
        meta = files[kind]["MetaData"]
        assert ([track["Width"] for track in meta["VideoStreamSet"]], [track["Codec"] for track in meta["AudioStreamSet"]]) == ([160, 128], ["aac", "opus"])
    check_master(files["hls"]["BasicInfo"]["MediaUrl"], expected)
    assert "no place" not in "".join(line for line in capstan.log.splitlines() if domain in line)


def test_tracks_without_a_number_0(capstan, transport, source, domain):
    """Numbers begin where the publisher likes: the first track of each kind is in every format."""
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True)
    transport.record(domain, hls=True)
    sent = [tag for tag in media.flv_tags(source("live")) if tag[1] < 2000]
    for appliance in (capstan, transport):
        connection = rtmp.publisher(appliance.rtmp_port, f"ones?vhost={domain}")
        for kind, timestamp, body in sent:
            if kind == rtmp.VIDEO:
                # Coded frames without an offset, or a sequence header.
                body = bytes([0x80 | body[0] & 0x70 | 6, 3 if body[1] else 0]) + b"avc1\x01" + body[5:]
            elif kind == rtmp.AUDIO:
                body = bytes([0x95, body[1]]) + b"mp4a\x01" + body[2:]
            connection.tag(kind, timestamp, body)
        connection.close()
    whole, counts = media.packets(source("live")), {}
    for file in capstan.by_format("ones", domain, "aac", "flv", "hls", "mp4").values():
        path = capstan.path_of(file)
        is_adts = path.suffix == ".aac"
        found = media.packets(path, ffmpeg=newer_ffmpeg(), quiet=not is_adts, audio_filter="aac_adtstoasc" if is_adts else None)
        assert len(found["audio"]) > 80 and found.kinds == (["audio"] if is_adts else ["audio", "video"])
        for kind, packets in found.tracks.items():
            assert [packet.md5 for packet in packets] == [packet.md5 for packet in whole[kind][: len(packets)]], f"{kind} of {path}"
        counts = {**counts, **{kind: len(packets) for kind, packets in found.tracks.items()}}
    found = media.packets(transport.path_of(transport.file("ones", domain)))
    assert {kind: len(packets) for kind, packets in found.tracks.items()} == counts


def check_master(url, expected):
    """What players get of several tracks."""
    master = m3u8.loads(requests.get(url, timeout=60).text, uri=url)
    sounds = [sound for sound in master.media if sound.type == "AUDIO"]
    assert [(sound.name, sound.default, sound.channels) for sound in sounds] == [("Audio 1", "YES", "1"), ("Audio 2", "YES", "1")]
    infos = [variant.stream_info for variant in master.playlists]
    # A player that does not know a codec finds another: each picture with the sounds of each.
    assert [(info.resolution, info.audio, info.codecs.split(",")[1]) for info in infos] == [
        (size, group, codec) for size in ((160, 120), (128, 96)) for group, codec in ((sounds[0].group_id, "mp4a.40.2"), (sounds[1].group_id, "Opus"))
    ]
    assert all(info.codecs.startswith("avc1.") and abs(info.frame_rate - 25) < 0.1 for info in infos)
    # Each list holds its track and no other, packet for packet.
    uris = [variant.absolute_uri for variant in master.playlists[::2]] + [sound.absolute_uri for sound in sounds]
    for uri, name in zip(uris, ("video0", "video1", "audio0", "audio1")):
        alone = media.packets(uri, ffmpeg=newer_ffmpeg(), each=True)
        (kind,) = alone.tracks
        assert [packet.md5 for packet in alone[kind]] == [packet.md5 for packet in expected[name]], name
        shifts = {found.pts - sent.pts for found, sent in zip(alone[kind], expected[name])}
        assert max(shifts) - min(shifts) <= 1, name
    # A bandwidth is no smaller than what has to be loaded for it.
    for variant, track in zip(master.playlists[::2], ("video0", "video1")):
        playlist = m3u8.load(variant.absolute_uri)
        peak = max(len(requests.get(segment.absolute_uri, timeout=60).content) * 8 / segment.duration for segment in playlist.segments if segment.duration > 1)
        assert variant.stream_info.bandwidth >= peak * 0.9, track
    # All of it in one reader.
    whole = media.packets(url, ffmpeg=newer_ffmpeg(), each=True, quiet=False)
    assert sorted(whole.tracks) == sorted(expected.tracks)


def is_coded(kind, body):
    """Coded frames of any track."""
    head = body[0] & 0x0F
    if kind == 9 and body[0] & 0x80:
        return (body[1] & 0x0F if head == 6 else head) in (1, 3)
    if kind == 8 and body[0] >> 4 == 9:
        return (body[1] & 0x0F if head == 5 else head) == 1 and len(body) > 7
    return body[1] == 1
