"""A stream of two pictures, two sounds and data messages, and what of it a recording holds, track by track, with every time."""

import hashlib
import re
from pathlib import Path

import media
import rtmp

# One data message behind so many pictures.
PICTURES_A_MESSAGE = 5
NUMBER = re.compile(rb'"number":(\d+)')
TRACKS = ("video", "audio", "video1", "audio1", "data")


def several(tags):
    """The tags of a file with one picture and one sound (H.264 and AAC), each once more as track 1 of its kind, and data messages with running numbers."""
    pictures = messages = 0
    for kind, timestamp, body in tags:
        yield kind, timestamp, body
        if kind == rtmp.VIDEO and body[1] < 2:
            # Enhanced RTMP: one of several tracks; the type of the packet, the codec, the number of the track.
            yield kind, timestamp, bytes([0x80 | body[0] & 0x70 | 6, body[1]]) + b"avc1\x01" + body[5 if body[1] == 0 else 2 :]
            if body[1] == 1:
                pictures += 1
                if pictures % PICTURES_A_MESSAGE == 1:
                    yield rtmp.DATA, timestamp, rtmp.amf("onTextData") + rtmp.amf({"number": messages})
                    messages += 1
        elif kind == rtmp.AUDIO:
            yield kind, timestamp, bytes([0x95, body[1]]) + b"mp4a\x01" + body[2:]


def track_of(kind, body):
    """The track of a tag, and where its media begin; `None` for what is no frame."""
    if kind == rtmp.DATA:
        return None if b"onMetaData" in body[:16] else ("data", 0)
    if kind == rtmp.VIDEO and body[0] & 0x80:
        return ("video1", 10) if body[1] & 0x0F == 1 else None
    if kind == rtmp.AUDIO and body[0] >> 4 == 9:
        return ("audio1", 7) if body[1] & 0x0F == 1 else None
    if body[1] != 1:
        return None
    return ("video", 5) if kind == rtmp.VIDEO else ("audio", 2)


def frames_of(tags):
    """By track: hash of the media and time of each frame."""
    found = {track: [] for track in TRACKS}
    for kind, timestamp, body in tags:
        if named := track_of(kind, body):
            found[named[0]].append((hashlib.md5(body[named[1] :]).hexdigest(), timestamp))
    return found


class Holdings:
    """What the files of one format hold of a stream, file by file. `tags`: one turn of what was sent, which takes `turn_ms`."""

    def __init__(self, tags, turn_ms, transport):
        self.sent, self.turn_ms, self.transport = frames_of(tags), turn_ms, transport
        self.messages = len(self.sent["data"])
        self.counts = dict.fromkeys(("video", "audio", "data") if transport else TRACKS, 0)

    def take(self, appliance, file):
        path, container = appliance.path_of(file), file["BasicInfo"]["Type"]
        if container == "flv":
            found = frames_of(media.flv_tags(path))
            self.take_frames({track: [(md5, float(time)) for md5, time in frames] for track, frames in found.items()}, path, clamped=True)
            return
        parts = sorted(path.parent.glob("media-*.*"), key=lambda part: int(re.search(r"-(\d+)\.", part.name)[1])) if container == "hls" else [path]
        numbers = [int(number) for part in parts for number in NUMBER.findall(payload(part))]
        expected = [number % self.messages for number in range(self.counts["data"], self.counts["data"] + len(numbers))]
        assert numbers == expected, f"{path}: messages {first_unlike(numbers, expected)}"
        self.counts["data"] += len(numbers)
        if self.transport:
            return
        # Of the part whose times begin anew, ffmpeg has a word to say.
        found = media.packets(path, each=True, quiet=len(parts) == 1)
        names = {"video0": "video", "video1": "video1", "audio0": "audio", "audio1": "audio1"}
        # A playlist over several files has holes in its times.
        times = len(parts) == 1
        self.take_frames({names[track]: [(packet.md5, float(packet.dts) if times else None) for packet in some] for track, some in found.tracks.items()}, path)

    def take_frames(self, found, path, clamped=False):
        """`clamped`: what came before the first frame of the file stands at its beginning."""
        shifts = {}
        for track, frames in found.items():
            sent = self.sent[track]
            for index, (md5, time) in enumerate(frames, self.counts[track]):
                turn, place = divmod(index, len(sent))
                assert md5 == sent[place][0], f"{path}: {track} frame {index} is not what was sent there"
                if time is not None and not (clamped and time == 0):
                    shifts.setdefault(round(time - sent[place][1] - turn * self.turn_ms), f"{track} frame {index}")
            self.counts[track] += len(frames)
        assert not shifts or max(shifts) - min(shifts) <= 1, f"{path}: times are not what was sent: {shifts}"


def payload(path):
    """The bytes of a media file in which messages are looked for: those of their packets, in a transport stream."""
    data = Path(path).read_bytes()
    if path.suffix != ".ts":
        return data
    stream = b""
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        if int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x102:
            stream += packet[5 + packet[4] :] if packet[3] & 0x20 else packet[4:]
    return stream


def first_unlike(found, expected):
    place = next(place for place, pair in enumerate(zip(found, expected)) if pair[0] != pair[1])
    return f"{found[max(0, place - 2) : place + 3]} where {expected[max(0, place - 2) : place + 3]} came"
