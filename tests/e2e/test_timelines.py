"""Odd timelines, one case a row: what arrived is in the files with the times it had, and nothing else is."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime

import pytest

import media
import rtmp
from appliance import BINARY, Appliance, until
from test_codecs import SOURCES as CODECS
from test_publishers import newer_ffmpeg
from test_storage import receipt

VIDEO, AUDIO, DATA = rtmp.VIDEO, rtmp.AUDIO, rtmp.DATA
WRAP = 1 << 32
HEVC = CODECS["hevc-aac"][0]


@dataclass
class Case:
    """Messages to be sent, and which of them each file has to hold, by index."""

    sent: list
    files: list = field(default_factory=list)
    # Frames that are in no file, as the publication's totals count them.
    dropped: int = 0
    # What the files have where that is not what was sent.
    kept: list = None
    # Audio by its timestamps less audio by its samples, as the receipts tell it; None: nothing that could be noticed.
    drift_ms: int = None
    # What else the log and `explain` say of its times.
    odd: str = None


def is_frame(kind, body):
    return kind != DATA and not rtmp.is_configuration(kind, body) and len(body) > (5 if kind == VIDEO else 2)


def frames(sent, begin=0, end=None):
    """Indices of the frames in a range of messages."""
    return [index for index, (kind, _, body) in enumerate(sent) if begin <= index < (len(sent) if end is None else end) and is_frame(kind, body)]


def base():
    """2.5 s of H.264 at 20 fps, a key frame every second, and AAC; times from 0."""
    return [(kind, timestamp, body) for kind, timestamp, body in media.flv_tags(media.source("live")) if timestamp < 2500]


def moved(sent, by, begin=0, kinds=(VIDEO, AUDIO)):
    """From message `begin` on, later by `by` ms."""
    return [(kind, (timestamp + by) % WRAP if index >= begin and kind in kinds else timestamp, body) for index, (kind, timestamp, body) in enumerate(sent)]


def key_frame(sent, count):
    """Index of the `count`-th video key frame."""
    keys = [index for index, (kind, _, body) in enumerate(sent) if kind == VIDEO and body[0] >> 4 == 1 and body[1] == 1]
    return keys[count]


def whole(sent):
    return Case(sent, [frames(sent)])


def starting_at(start):
    return lambda: whole(moved(base(), start))


def jump(by):
    def case():
        sent = moved(base(), 100_000)
        at = key_frame(sent, 1)
        sent = moved(sent, by, at)
        return Case(sent, [frames(sent, 0, at), frames(sent, at)])

    return case


def stepped_back():
    """One audio frame 100 ms too early: no jump, and it stays where it was sent."""
    sent = base()
    at = [index for index, (kind, _, body) in enumerate(sent) if kind == AUDIO and is_frame(kind, body)][20]
    sent[at] = (AUDIO, sent[at][1] - 100, sent[at][2])
    return whole(sent)


def duplicates():
    """Every time twice: two frames that are shown at once."""
    return whole([(kind, timestamp // 100 * 100 if kind == VIDEO else timestamp, body) for kind, timestamp, body in base()])


def empty_frames():
    sent = []
    for kind, timestamp, body in base():
        sent.append((kind, timestamp, body))
        if is_frame(kind, body):
            sent.append((kind, timestamp, body[:5] if kind == VIDEO else body[:2]))
    return whole(sent)


def composition(offset):
    """Every picture shown so many ms from when it is decoded."""

    def case():
        time = (offset % (1 << 24)).to_bytes(3, "big")
        return whole([(kind, timestamp, body[:2] + time + body[5:] if kind == VIDEO and is_frame(kind, body) else body) for kind, timestamp, body in base()])

    return case


def far_composition():
    """A mistake of an encoder: one picture is to be shown in two hours. It is kept so, and told."""
    sent = base()
    index = next(index for index, (kind, _, body) in enumerate(sent) if kind == VIDEO and is_frame(kind, body) and body[0] >> 4 == 2)
    kind, timestamp, body = sent[index]
    sent[index] = (kind, timestamp, body[:2] + (7_200_000).to_bytes(3, "big") + body[5:])
    return Case(sent, [frames(sent)], odd="one picture is to be shown more than 15 minutes from when it is decoded")


def variable():
    step = [0, 3, 17, 49, 51, 52, 90, 33]
    sent, count = [], 0
    for kind, timestamp, body in base():
        if kind == VIDEO and is_frame(kind, body):
            timestamp += step[count % len(step)] % 50
            count += 1
        sent.append((kind, timestamp, body))
    return whole(sent)


def rate(ms):
    """Video alone, a frame every so many ms."""

    def case():
        sent, time = [], 0
        for kind, _, body in base():
            if kind == VIDEO:
                sent.append((kind, time, body))
                time += ms if is_frame(kind, body) else 0
        return whole(sent)

    return case


def drift():
    """Audio that runs 10 % too slow: kept, not repaired, and told."""
    sent = [(kind, timestamp + timestamp // 10 if kind == AUDIO else timestamp, body) for kind, timestamp, body in base()]
    return Case(sent, [frames(sent)], drift_ms=250)


def apart():
    """Audio from 2 s before the video on."""
    sent = sorted(moved(base(), 2000, kinds=(VIDEO,)), key=lambda tag: tag[1] if not rtmp.is_configuration(tag[0], tag[2]) else -1)
    return whole(sent)


def joined_late(sent):
    """Without the first key frame: the pictures before the second one are lost."""
    first = key_frame(sent, 0)
    sent = [tag for index, tag in enumerate(sent) if index != first]
    return without(sent, [index for index in frames(sent, 0, key_frame(sent, 0)) if sent[index][0] == VIDEO])


def without(sent, lost):
    """One file with all frames but the lost ones, which are counted."""
    return Case(sent, [[index for index in frames(sent) if index not in lost]], len(lost))


def late_key_frame():
    """The publisher joins in the middle of a group of pictures: what cannot be decoded is counted."""
    return joined_late(base())


def late_sequence_header():
    """Frames before their sequence header are counted, the stream goes on with the first key frame behind it."""
    sent = base()
    header = next(index for index, (kind, _, body) in enumerate(sent) if kind == VIDEO and body[1] == 0)
    tag = sent.pop(header)
    at = key_frame(sent, 1)
    sent.insert(at, (VIDEO, sent[at][1], tag[2]))
    lost = [index for index in frames(sent, 0, at) if sent[index][0] == VIDEO]
    kept = [index for index in frames(sent) if index not in lost]
    before = [index for index in kept if index < at]
    return Case(sent, [kept] if not before else [before, [index for index in kept if index > at]], len(lost))


def other_parameters():
    """A new sequence header: a new file, with the other size."""
    sent = base()
    at = key_frame(sent, 1)
    other = [tag for tag in media.flv_tags(media.source("bframes"))]
    header = next(body for kind, _, body in other if kind == VIDEO and body[1] == 0)
    pictures = [body for kind, _, body in other if kind == VIDEO and body[1] == 1]
    changed, count = sent[:at] + [(VIDEO, sent[at][1], header)], 0
    for kind, timestamp, body in sent[at:]:
        if kind == VIDEO and is_frame(kind, body):
            body, count = pictures[count], count + 1
        changed.append((kind, timestamp, body))
    return Case(changed, [frames(changed, 0, at), frames(changed, at)])


def other_parameters_in_band():
    """The same without a header: the key frame brings the parameter sets."""
    case = other_parameters()
    sent = case.sent
    at = next(index for index in range(case.files[1][0] - 1, -1, -1) if rtmp.is_configuration(sent[index][0], sent[index][2]))
    _, new = (tag[2] for tag in sent if tag[0] == VIDEO and rtmp.is_configuration(tag[0], tag[2]))
    sets = b"".join(len(unit).to_bytes(4, "big") + unit for unit in sets_of(new))
    later = sent[:at] + sent[at + 1 :]
    for index in range(at, len(later)):
        kind, timestamp, body = later[index]
        if kind == VIDEO and body[0] >> 4 == 1 and body[1] == 1:
            later[index] = (kind, timestamp, body[:5] + sets + body[5:])
    return Case(later, [frames(later, 0, at), frames(later, at)])


def sets_of(header):
    """SPS and PPS of an H.264 sequence header."""
    sps = header[13 : 13 + int.from_bytes(header[11:13], "big")]
    at = 13 + len(sps) + 1
    return sps, header[at + 2 : at + 2 + int.from_bytes(header[at : at + 2], "big")]


def same_parameters_again():
    """The same sequence header repeated with each key frame changes nothing."""
    sent, header = [], next(body for kind, _, body in base() if kind == VIDEO and body[1] == 0)
    for kind, timestamp, body in base():
        if kind == VIDEO and body[0] >> 4 == 1 and body[1] == 1:
            sent.append((VIDEO, timestamp, header))
        sent.append((kind, timestamp, body))
    return whole(sent)


def pictures_between():
    """The publisher joins in the middle of a group with B-frames: none of them can be decoded, and the first key frame's own stay."""
    return joined_late([tag for tag in media.flv_tags(media.source("bframes")) if tag[1] < 4500])


def no_sequence_header():
    """Pictures that nobody can decode are counted; the sound is recorded."""
    sent = [tag for tag in base() if not (tag[0] == VIDEO and rtmp.is_configuration(tag[0], tag[2]))]
    return without(sent, [index for index in frames(sent) if sent[index][0] == VIDEO])


def other_codec():
    """H.264, then H.265 as encoders sent it before there was a standard: a new file."""
    sent = base()
    at = key_frame(sent, 1)
    later = []
    for kind, timestamp, body in media.flv_tags(media.source("hevc-aac", newer_ffmpeg(), HEVC)):
        if kind == VIDEO and body[0] & 0x80 and body[0] & 0x0F in (0, 1, 3):
            packet = body[0] & 0x0F
            time = body[5:8] if packet == 1 else bytes(3)
            body = bytes([(body[0] >> 4 & 7) << 4 | 12, min(packet, 1)]) + time + body[8 if packet == 1 else 5 :]
            later.append((VIDEO, timestamp + sent[at][1], body))
    changed = sent[:at] + sorted([tag for tag in sent[at:] if tag[0] == AUDIO] + later, key=lambda tag: tag[1])
    begin = next(index for index, (kind, _, body) in enumerate(changed) if kind == VIDEO and body[0] & 0x0F == 12)
    return Case(changed, [frames(changed, 0, begin), frames(changed, begin)])


def start_codes():
    """Annex B where lengths belong, in frames and sequence header: put right, the NAL units are what was sent."""
    sent = []
    for kind, timestamp, body in base():
        if kind == VIDEO and is_frame(kind, body):
            body = body[:5] + b"".join(b"\0\0\0\1" + unit for unit in media.nal_units(body[5:]))
        elif kind == VIDEO and body[1] == 0:
            sps, pps = sets_of(body)
            body = body[:5] + b"\0\0\0\1" + sps + b"\0\0\0\1" + pps
        sent.append((kind, timestamp, body))
    return Case(sent, [frames(sent)], kept=base())


def adts_headers(with_header):
    """AAC behind the headers of ADTS, with the sequence header or, as some do, without one: the access units are recorded."""

    def case():
        sent = []
        header = next(body[2:] for kind, _, body in base() if kind == AUDIO and body[1] == 0)
        assert header == b"\x12\x08\x56\xe5\x00"
        for kind, timestamp, body in base():
            if kind == AUDIO and is_frame(kind, body):
                length = len(body) - 2 + 7
                body = body[:2] + bytes([0xFF, 0xF1, 0x50, 0x40 | length >> 11, length >> 3 & 0xFF, length << 5 & 0xE0 | 0x1F, 0xFC]) + body[2:]
            if with_header or kind != AUDIO or is_frame(kind, body):
                sent.append((kind, timestamp, body))
        kept = [tag for tag in base() if with_header or tag[0] != AUDIO or is_frame(tag[0], tag[2])]
        return Case(sent, [frames(sent)], kept=kept)

    return case


def delimiters_and_captions():
    """Access unit delimiters and SEI with captions in each picture, bit for bit."""
    sei = bytes.fromhex("0604 47b500314741393403d4fffc9420fc942cfd8080ff80".replace(" ", ""))
    units = b"".join(len(unit).to_bytes(4, "big") + unit for unit in (b"\x09\xf0", sei))
    return whole([(kind, timestamp, body[:5] + units + body[5:] if kind == VIDEO and is_frame(kind, body) else body) for kind, timestamp, body in base()])


CASES = {
    "wraps after 49.7 days": starting_at(WRAP - 1200),
    "starts at 2^31": starting_at(1 << 31),
    "starts just below 2^31": starting_at((1 << 31) - 1200),
    "extended timestamps begin": starting_at(0xFFFFFF - 1200),
    "all extended": starting_at(0x1234_5678),
    "jumps back": jump(-50_000),
    "jumps forward": jump(3_600_000),
    "jumps over half the circle": jump(0x9000_0000),
    "steps back a little": stepped_back,
    "duplicates": duplicates,
    "empty frames": empty_frames,
    "negative composition": composition(-40),
    "large composition": composition(5000),
    "one picture in two hours": far_composition,
    "variable rate": variable,
    "a frame every minute": rate(60_000),
    "240 frames a second": rate(4),
    "drift": drift,
    "tracks start apart": apart,
    "late key frame": late_key_frame,
    "late sequence header": late_sequence_header,
    "pictures between": pictures_between,
    "no sequence header": no_sequence_header,
    "other codec": other_codec,
    "other parameters": other_parameters,
    "other parameters in a key frame": other_parameters_in_band,
    "same parameters again": same_parameters_again,
    "start codes": start_codes,
    "headers of ADTS": adts_headers(True),
    "headers of ADTS alone": adts_headers(False),
    "delimiters and captions": delimiters_and_captions,
}


@pytest.fixture(scope="module")
def transport(tmp_path_factory):
    """A server that writes HLS as MPEG-TS."""
    appliance = Appliance(tmp_path_factory.mktemp("transport"), record={"hls_container": "ts"}).start()
    yield appliance
    appliance.stop()


@pytest.mark.parametrize("name", CASES)
def test_timeline(capstan, transport, domain, name):
    case = CASES[name]()
    # 50 frames, one a minute, are longer than the usual interval.
    capstan.record(domain, flv={"RecordInterval": 43200}, mp4={"RecordInterval": 43200}, hls=True)
    transport.record(domain, hls=True)
    for appliance in (capstan, transport):
        connection = rtmp.publisher(appliance.rtmp_port, f"cam?vhost={domain}")
        for kind, timestamp, body in case.sent:
            connection.tag(kind, timestamp, body)
        connection.close()
    files = capstan.files("cam", domain, 2 * len(case.files) + 1)
    expected = [[(case.kept or case.sent)[index] for index in file] for file in case.files]
    for container in ("flv", "mp4"):
        parts = [file for file in files if file["MetaData"]["Container"] == container]
        assert len(parts) == len(case.files)
        for part, wanted in zip(parts, expected):
            check = check_flv if container == "flv" else check_mp4
            check(capstan.path_of(part), wanted)
    check_drift(capstan, files, case.drift_ms)
    if case.odd:
        capstan.said("are odd; they are kept", case.odd)
        for part in (part for part in files if part["MetaData"]["Container"] in ("flv", "mp4")):
            assert case.odd in media.run([BINARY, "explain", capstan.path_of(part)]).stdout.decode()
    (playlist,) = (capstan.path_of(file) for file in files if file["MetaData"]["Container"] == "hls")
    check_playlist(playlist, "m4s", len(expected))
    if len(expected) == 1:
        check_mp4(playlist, expected[0], fragments=True)
    playlist = transport.path_of(transport.file("cam", domain))
    check_playlist(playlist, "ts", len(expected))
    for number, wanted in enumerate(expected, 1):
        check_transport(playlist.parent / f"media-{number}.ts", wanted)
    for appliance in (capstan, transport):
        line = until(lambda: next((line for line in appliance.log.splitlines() if "publishing ended" in line and domain in line), None), 5, "the end's line")
        assert f"dropped={case.dropped} " in line, line


def check_drift(capstan, files, drift_ms):
    """In the receipt of each, and where a user looks."""
    for file in files:
        found = receipt(capstan, file)["receipt"].get("drift", {})
        if drift_ms is None:
            assert "audio_clock_ms" not in found, found
            continue
        assert abs(found["audio_clock_ms"] - drift_ms) < 10 and abs(found["audio_end_ms"] - drift_ms) < 60, found
        capstan.said("are odd; they are kept", f"file_id={file['FileId']} ")
        if file["MetaData"]["Container"] != "hls":
            told = media.run([BINARY, "explain", capstan.path_of(file)]).stdout.decode()
            assert f"the samples of the audio last {found['audio_clock_ms']} ms shorter than its timestamps say" in told, told


def check_playlist(path, extension, parts):
    """One recording: what does not go on is another part behind a discontinuity."""
    text = path.read_text()
    assert sorted(file.name for file in path.parent.glob(f"media-*.{extension}")) == [f"media-{number}.{extension}" for number in range(1, parts + 1)]
    assert len(re.findall(rf"#EXT-X-DISCONTINUITY\n(?:#EXT.*\n)+media-\d+.{extension}", text)) >= parts - 1, text
    assert text.endswith("#EXT-X-ENDLIST\n")


def annexb(body):
    """NAL units of a picture as ffmpeg writes them, without the parameter sets and delimiters that a transport stream adds."""
    units = [unit for unit in media.nal_units(body[5:]) if unit and unit[0] & 0x1F not in (7, 8, 9)]
    return b"".join((b"\0\0\0\1" if index == 0 else b"\0\0\1") + unit for index, unit in enumerate(units))


def check_transport(path, expected):
    """The same pictures and sounds at the same times, also back and forth."""
    is_avc = all(body[0] & 0x0F == 7 for kind, _, body in expected if kind == VIDEO)
    found = media.packets(path, video_filter="filter_units=remove_types=7-9" if is_avc else None, audio_filter="aac_adtstoasc", quiet=False, input_format="mpegts")
    expected = unwrapped(expected)
    shifts = set()
    for name, kind in (("video", VIDEO), ("audio", AUDIO)):
        wanted = [(timestamp, body) for k, timestamp, body in expected if k == kind]
        packets = found.tracks.get(name, [])
        assert len(packets) == len(wanted), name
        if kind == AUDIO or is_avc:
            assert [packet.md5 for packet in packets] == [hashlib.md5(annexb(body) if kind == VIDEO else body[2:]).hexdigest() for _, body in wanted], name
        latest = 0
        for packet, (timestamp, body) in zip(packets, wanted):
            offset = int.from_bytes(body[2:5], "big", signed=True) if kind == VIDEO else 0
            # ffmpeg's parser makes up a time of its own for sound that goes back.
            if kind == VIDEO or timestamp >= latest:
                shifts.add(packet.pts - timestamp - offset)
                latest = timestamp
    assert max(shifts) - min(shifts) <= 1, sorted(map(float, shifts))


def unwrapped(expected):
    """Times of each track as they go on over the wrap; both tracks begin within half the circle."""
    last, found = {}, []
    zero = expected[0][1]
    for kind, timestamp, body in expected:
        before = last.get(kind, zero)
        now = before + ((timestamp - before + WRAP // 2) % WRAP - WRAP // 2)
        last[kind] = now
        found.append((kind, now, body))
    return found


def check_flv(path, expected):
    found = [(kind, timestamp, body) for kind, timestamp, body in media.flv_tags(path) if is_frame(kind, body)]
    assert [(kind, hashlib.md5(body).hexdigest()) for kind, _, body in found] == [(kind, hashlib.md5(body).hexdigest()) for kind, _, body in expected]
    expected = unwrapped(expected)
    zero = min(timestamp for _, timestamp, _ in expected[:20])
    assert [timestamp for _, timestamp, _ in found] == [(timestamp - zero) % WRAP for _, timestamp, _ in expected]


def check_mp4(path, expected, fragments=False):
    """Times of presentation between any two frames; decoding times may not go back in this container."""
    # Where offsets are below zero and no edit list says more, as in HLS, ffmpeg moves the whole track by the least of them.
    offsets = [int.from_bytes(body[2:5], "big", signed=True) for kind, _, body in expected if kind == VIDEO]
    moved_ms = -min([0, *offsets]) if fragments else 0
    found = media.packets(path, quiet=False)
    expected = unwrapped(expected)
    shifts = set()
    for name, kind, head in (("video", VIDEO, 5), ("audio", AUDIO, 2)):
        wanted = [(timestamp, body) for k, timestamp, body in expected if k == kind]
        packets = found.tracks.get(name, [])
        assert [packet.md5 for packet in packets] == [hashlib.md5(body[head:]).hexdigest() for _, body in wanted], name
        latest = 0
        for packet, (timestamp, body) in zip(packets, wanted):
            # Audio has no offsets: a frame from before its predecessor is put at the same time.
            timestamp = latest = max(timestamp, latest) if kind == AUDIO else timestamp
            offset = int.from_bytes(body[2:5], "big", signed=True) + moved_ms if kind == VIDEO else 0
            shifts.add(packet.pts - timestamp - offset)
    assert max(shifts) - min(shifts) <= 1, sorted(map(float, shifts))


SPLICE = "/DA0AAAAAAAA///wBQb+cr0AUAAeAhxDVUVJSAAAjn/PAAGlmbAICAAAAAAsoKGKNAIAmsnRfg=="


def test_the_time_of_day_that_the_encoder_sends(tmp_path, domain):
    """`onFI` says when the first frame was: playlists, fragments and the file say the same."""
    appliance = Appliance(tmp_path, record={"trust_encoder_clock": True, "hls_segment_ms": 1000}).start()
    try:
        appliance.record(domain, mp4=True, hls=True)
        connection = rtmp.publisher(appliance.rtmp_port, f"cam?vhost={domain}")
        connection.send(DATA, rtmp.amf("onFI") + rtmp.amf({"sd": "05-06-2031", "st": "14:03:05.200"}), timestamp=0, stream=1)
        for kind, timestamp, body in base():
            connection.tag(kind, timestamp, body)
        connection.close()
        files = appliance.by_format("cam", domain, "hls", "mp4")
        lines = [line for line in appliance.path_of(files["hls"]).read_text().splitlines() if "DATE-TIME" in line]
        assert [line.split("TIME:")[1] for line in lines][:2] == ["2031-06-05T14:03:05.200Z", "2031-06-05T14:03:06.200Z"], lines
        receipt = appliance.call("DescribeRecordingReceipt", version="2018-07-17", FileId=files["mp4"]["FileId"])["Receipt"]
        assert "1938434585200000" in json.dumps(receipt)
        created = media.run(["ffprobe", "-v", "error", "-show_entries", "format_tags=creation_time", "-of", "csv=p=0", appliance.path_of(files["mp4"])]).stdout.decode()
        assert created.startswith("2031-06-05T14:03:05")
        segment = next(appliance.path_of(files["hls"]).parent.glob("media-*.m4s")).read_bytes()
        at = segment.index(b"prft") + 12
        assert int.from_bytes(segment[at : at + 4], "big") == 1938434585 + 2208988800
    finally:
        appliance.stop()


def test_data_messages(capstan, transport, domain):
    """What stands between the frames (texts, cue points, times of day): in FLV as it is, in MP4 as a track of JSON, in HLS as events or ID3 tags; what marks
    a time is a date range of the playlist."""
    capstan.record(domain, flv=True, mp4=True, hls=True)
    transport.record(domain, hls=True)
    connections = [rtmp.publisher(appliance.rtmp_port, f"cam?vhost={domain}") for appliance in (capstan, transport)]
    sent = base()
    notes, values = [], []
    count = 0
    for kind, timestamp, body in sent:
        for connection in connections:
            connection.tag(kind, timestamp, body)
        if is_frame(kind, body):
            count += 1
            # The first ones come before any file has begun.
            if count % 25 == 1:
                name = ("onTextData", "onCuePoint", "onFI", "onSCTE35")[len(notes) % 4]
                value = {"text": f"note {len(notes)}", "sd": "26-11-2026", "st": SPLICE if name == "onSCTE35" else "02:00:00.000"}
                note = rtmp.amf(name) + rtmp.amf(value)
                for connection in connections:
                    connection.send(DATA, note, timestamp=timestamp, stream=1)
                notes.append((timestamp, note))
                values.append({"name": name, "values": [value]})
    for connection in connections:
        connection.close()
    files = capstan.by_format("cam", domain, "flv", "hls", "mp4")
    flv, mp4, playlist = (capstan.path_of(files[container]) for container in ("flv", "mp4", "hls"))
    found = [(timestamp, body) for kind, timestamp, body in media.flv_tags(flv) if kind == DATA][1:]
    assert found == notes
    assert media.probe(flv, quiet=False)["format"]
    check_flv(flv, [tag for tag in sent if is_frame(tag[0], tag[2])])
    check_mp4(mp4, [tag for tag in sent if is_frame(tag[0], tag[2])])
    # ffmpeg finds the track: texts and times.
    rows = media.run(["ffprobe", "-v", "error", "-select_streams", "d", "-show_entries", "packet=pts_time,size", "-of", "csv=p=0", mp4]).stdout.decode().split()
    assert [round(float(row.split(",")[0]) * 1000) for row in rows] == [timestamp for timestamp, _ in notes]
    text = media.run(["ffmpeg", "-v", "error", "-i", mp4, "-map", "0:d", "-c", "copy", "-f", "data", "-"]).stdout.decode()
    decoder, at, read = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        read.append(value)
    assert read == values
    # As events in front of the segments, and a splice as it is.
    segments = b"".join(file.read_bytes() for file in sorted(playlist.parent.glob("media-*.m4s")))
    assert segments.count(b"https://aomedia.org/emsg/ID3\0") == len(notes)
    assert segments.count(b"urn:scte:scte35:2013:bin\0\0" + base64.b64decode(SPLICE)) == sum(value["name"] == "onSCTE35" for value in values) > 0
    check_mp4(playlist, [tag for tag in sent if is_frame(tag[0], tag[2])])
    check_date_ranges(playlist, notes, values)
    # The transport stream: ffmpeg finds the tags, each with its time.
    playlist = transport.path_of(transport.file("cam", domain))
    check_date_ranges(playlist, notes, values)
    segment = playlist.parent / "media-1.ts"
    rows = media.run(["ffprobe", "-v", "error", "-show_entries", "packet=codec_type,pts_time", "-of", "csv=p=0", segment]).stdout.decode().split()
    times = {kind: [float(row.split(",")[1]) for row in rows if row.startswith(kind)] for kind in ("video", "data")}
    zero = min(timestamp for kind, timestamp, body in sent if kind == VIDEO and is_frame(kind, body))
    assert [round((time - times["video"][0]) * 1000) for time in times["data"]] == [timestamp - zero for timestamp, _ in notes]
    named = media.run(["ffprobe", "-v", "error", "-select_streams", "d", "-show_entries", "stream=codec_name", "-of", "csv=p=0", segment]).stdout.decode()
    assert set(named.split()) == {"timed_id3"}
    data = messages_of(segment)
    assert data.count(b"ID3\x04") == len(notes)
    for value in values:
        assert value["name"].encode() + b"\0" + json.dumps(value, separators=(",", ":"), sort_keys=True).encode() in data
    check_transport(segment, [tag for tag in sent if is_frame(tag[0], tag[2])])


def messages_of(path):
    """The payload of the packets with messages."""
    stream, file = b"", path.read_bytes()
    for at in range(0, len(file), 188):
        packet = file[at : at + 188]
        if int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x102:
            stream += packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    return stream


def check_date_ranges(playlist, notes, values):
    """Cue points and splices, at the time of day where they stood."""
    lines = [line for line in playlist.read_text().splitlines() if line.startswith("#EXT-X-DATERANGE:")]
    marked = [value["name"] for value in values if value["name"] in ("onCuePoint", "onSCTE35")]
    assert [line.count("SCTE35-CMD=0xFC") for line in lines] == [int(name == "onSCTE35") for name in marked] and len(set(re.findall('ID="([^"]+)"', " ".join(lines)))) == len(lines)
    start = [datetime.fromisoformat(re.search('START-DATE="([^"]+)"', line)[1]) for line in lines]
    times = [timestamp for (timestamp, _), value in zip(notes, values) if value["name"] in ("onCuePoint", "onSCTE35")]
    assert [round((at - start[0]).total_seconds() * 1000) for at in start] == [time - times[0] for time in times]
