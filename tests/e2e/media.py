"""ffmpeg and ffprobe: sources, packets, and whether a recording is its source."""

import fcntl
import hashlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("CAPSTAN_E2E_CACHE", REPOSITORY / "target" / "e2e-sources"))
FFMPEG = "ffmpeg"


def run(command, timeout=120, **options):
    """The finished process; fails with its error output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, timeout=timeout, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stderr.decode(errors='replace')}"
    return done


# Sources: small pictures, short groups of pictures. x264 and ffmpeg's own AAC encoder with one thread give the same bytes every time.
X264 = "-c:v libx264 -preset ultrafast -threads 1 -pix_fmt yuv420p -sc_threshold 0"
AAC = "-c:a aac -b:a 64k"


def picture(seconds, rate=25, size="160x120"):
    return f"-f lavfi -i testsrc2=s={size}:r={rate}:d={seconds}"


def tone(seconds, sample_rate=44100):
    # Noise, not a tone alone: every AAC frame differs from every other.
    return f"-f lavfi -i anoisesrc=d={seconds}:r={sample_rate}:a=0.2:s=7"


SOURCES = {
    # H.264 without B-frames, AAC.
    "av": f"{picture(6)} {tone(6)} {X264} -tune zerolatency -g 25 {AAC}",
    # Three B-frames in pyramids: composition offsets; AAC at another rate, stereo.
    "bframes": f"{picture(6)} {tone(6, 48000)} {X264} -preset veryfast -bf 3 -b_strategy 0 -g 50 {AAC} -ac 2",
    # Irregular frame times and a hole of 0.4 s.
    "vfr": f"{picture(6)} {tone(6)} -vf settb=1/1000,setpts='40*(N+0.35*sin(N*1.7))',select='not(between(n,60,69))' -fps_mode passthrough -enc_time_base 1:1000 {X264} -bf 2 -g 40 {AAC}",
    "aac": f"{tone(5, 48000)} {AAC}",
    "mp3": f"{tone(5)} -c:a libmp3lame -b:a 64k",
    "video": f"{picture(5)} {X264} -bf 2 -b_strategy 0 -g 25",
    "avmp3": f"{picture(5)} {tone(5)} {X264} -tune zerolatency -g 25 -c:a libmp3lame -b:a 64k",
    # For RecordInterval, whose smallest value is 30 s: pushed flat out, this takes a second.
    "long": f"{picture(100, rate=10, size='64x48')} {tone(100, 16000)} {X264} -bf 2 -b_strategy 0 -g 25 -c:a aac -b:a 16k",
    "longaac": f"{tone(75, 16000)} -c:a aac -b:a 16k",
    # MPEG-2 layer III: 576 samples a frame.
    "longmp3": f"{tone(75, 22050)} -c:a libmp3lame -b:a 16k",
    # For tests that need real time: key frames every second, long enough for any of them.
    "live": f"{picture(30, rate=20, size='96x64')} {tone(30)} {X264} -tune zerolatency -g 20 {AAC}",
}


def source(name, ffmpeg=FFMPEG, recipe=None, write=None):
    """Path of a generated FLV file; made once, kept in the build folder. `write`: makes it of ffmpeg's path, the recipe and a path, where ffmpeg cannot."""
    recipe = recipe or SOURCES[name]
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.flv"
    with open(CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            part = path.with_suffix(".part")
            if write:
                write(ffmpeg, recipe, part)
            else:
                run([ffmpeg, "-v", "error", "-y", *recipe.split(" "), "-f", "flv", "-flvflags", "no_duration_filesize", part])
            part.rename(path)
    return path


@dataclass
class Packet:
    dts: Fraction
    pts: Fraction
    duration: Fraction
    size: int
    md5: str


@dataclass
class Packets:
    """Packets by track, times in milliseconds as the file has them."""

    tracks: dict = field(default_factory=dict)

    def __getitem__(self, kind):
        return self.tracks[kind]

    @property
    def kinds(self):
        return sorted(self.tracks)

    def only(self, *kinds):
        return Packets({kind: packets for kind, packets in self.tracks.items() if kind in kinds})


def packets(path, video_filter=None, audio_filter=None, quiet=True, ffmpeg=FFMPEG, timeout=120, input_format=None, each=False):
    """Every packet that ffmpeg finds, by framemd5. `quiet`: a word of warning fails the test. `input_format`: for files too short to tell it. `each`: tracks
    of one kind apart, as `video0`, `video1` and so on."""
    filters = (["-bsf:v", video_filter] if video_filter else []) + (["-bsf:a", audio_filter] if audio_filter else [])
    command = [ffmpeg, "-v", "warning", "-nostdin", "-copyts", *(["-f", input_format] if input_format else []), "-i", path, "-map", "0:v?", "-map", "0:a?", "-c", "copy", "-copyinkf"]
    command += [*filters, "-avoid_negative_ts", "disabled", "-f", "framemd5", "-"]
    done = run(command, timeout=timeout)
    if quiet:
        assert done.stderr == b"", f"ffmpeg about {path}: {done.stderr.decode()}"
    kinds, bases, found = {}, {}, Packets()
    for line in done.stdout.decode().splitlines():
        if head := re.match(r"#tb (\d+): (\d+)/(\d+)", line):
            bases[int(head[1])] = Fraction(int(head[2]) * 1000, int(head[3]))
        elif head := re.match(r"#media_type (\d+): (\w+)", line):
            kinds[int(head[1])] = head[2]
        elif line and not line.startswith("#"):
            index, dts, pts, duration, size, md5 = (part.strip() for part in line.split(",")[:6])
            base = bases[int(index)]
            packet = Packet(int(dts) * base, int(pts) * base, int(duration) * base, int(size), md5)
            kind = kinds[int(index)]
            number = [kinds[other] for other in range(int(index))].count(kind)
            found.tracks.setdefault(f"{kind}{number}" if each else kind, []).append(packet)
    return found


def third_packets(path):
    """Every packet that the libraries of a third ffmpeg find, by track: (time of presentation in ms, size, hash)."""
    import av

    found = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            # Unknown codecs are told as such, and their packets are there all the same; each track ends with an empty one.
            if packet.size and packet.pts is not None and packet.stream.type in ("video", "audio"):
                found.setdefault((packet.stream.type, packet.stream.index), []).append((packet.pts * packet.time_base * 1000, packet.size, hashlib.md5(bytes(packet)).hexdigest()))
    return found


def assert_third_agrees(path, found, payloads=True, tolerance_ms=1):
    """The third ffmpeg finds in a recording what another reader has `found` there: payloads, and times within and between the tracks."""
    third = third_packets(path)
    kinds = sorted(kind for kind, _ in third)
    assert kinds == sorted(name.rstrip("0123456789") for name in found.tracks), f"{path}: {kinds}"
    shifts = {}
    for (kind, _), packets in sorted(third.items(), key=lambda item: item[0][1]):
        number = [other for other, _ in shifts].count(kind)
        known = found.tracks.get(kind) or found[f"{kind}{number}"]
        assert len(packets) == len(known), f"{path}: {len(packets)} {kind} packets, another reader finds {len(known)}"
        if payloads:
            assert [md5 for _, _, md5 in packets] == [packet.md5 for packet in known], f"{kind} of {path} by the third ffmpeg"
        off = [pts - packet.pts for (pts, _, _), packet in zip(packets, known)]
        assert max(off) - min(off) <= tolerance_ms, f"{kind} of {path}: times by the third ffmpeg are off by {float(min(off))} to {float(max(off))} ms"
        shifts[kind, number] = off[0]
    assert not shifts or max(shifts.values()) - min(shifts.values()) <= tolerance_ms, f"{path}: tracks apart by {shifts}"


def gstreamer_buffers(path, demuxer, pad):
    """(bytes, time of presentation in ms or None) of what a demuxer of GStreamer finds in one track."""
    done = run(["gst-launch-1.0", "-v", "filesrc", f"location={path}", "!", demuxer, "name=demux", f"demux.{pad}", "!", "queue", "!", "fakesink", "silent=false", "sync=false"])
    found = re.findall(r"chain\s+\*+ .*?\((\d+) bytes, dts: (?:[\d:.]+|none), pts: ([\d:.]+|none)", done.stdout.decode())
    return [(int(size), clock_ms(pts)) for size, pts in found]


def clock_ms(clock):
    if clock == "none":
        return None
    hours, minutes, seconds = clock.split(":")
    return Fraction(hours) * 3_600_000 + Fraction(minutes) * 60_000 + Fraction(seconds) * 1000


def assert_flvmeta_agrees(path, enhanced=False):
    """flvmeta finds the same tags, and no error where it knows the codecs: those by four letters it does not."""
    dump = json.loads(run(["flvmeta", "--full-dump", "--json", path]).stdout)
    kinds = {"audio": 8, "video": 9, "scriptData": 18}
    assert [(kinds[tag["type"]], tag["timestamp"], tag["dataSize"]) for tag in dump["tags"]] == [(kind, timestamp, len(body)) for kind, timestamp, body in flv_tags(path)]
    if enhanced:
        return
    # Its warnings are about what it counts otherwise: a sequence header is a key frame to it.
    verdict = subprocess.run(["flvmeta", "--check", str(path)], capture_output=True, text=True, timeout=60).stdout
    errors = [line for line in verdict.splitlines() if ": error " in line]
    assert re.search(r"\d+ error\(s\)", verdict) and not errors, f"flvmeta about {path}: {verdict}"


def joined(parts):
    """The packets of several files as one list per track; times only make sense within a part."""
    whole = Packets()
    for part in parts:
        for kind, some in part.tracks.items():
            whole.tracks.setdefault(kind, []).extend(some)
    return whole


def first_difference(expected, found):
    for index, (a, b) in enumerate(zip(expected, found)):
        if a != b:
            return index
    return min(len(expected), len(found))


def assert_same_payloads(expected, found, what="recording"):
    assert found.kinds == expected.kinds, f"{what}: tracks {found.kinds}, expected {expected.kinds}"
    for kind in expected.kinds:
        a, b = [packet.md5 for packet in expected[kind]], [packet.md5 for packet in found[kind]]
        assert a == b, f"{what}: {len(b)} {kind} packets, expected {len(a)}; the first difference is at {first_difference(a, b)}"


def assert_same_times(expected, found, tolerance_ms=0, what="recording"):
    """Differences of timestamps within a track and between tracks."""
    for clock in ("dts", "pts"):
        zeros = set()
        for kind in expected.kinds:
            shifts = [getattr(b, clock) - getattr(a, clock) for a, b in zip(expected[kind], found[kind])]
            wrong = [index for index, shift in enumerate(shifts) if abs(shift - shifts[0]) > tolerance_ms]
            assert not wrong, f"{what}: {clock} of {kind} packet {wrong[0]} is off by {float(shifts[wrong[0]] - shifts[0])} ms, {len(wrong)} are off"
            zeros.add(shifts[0])
        assert max(zeros) - min(zeros) <= tolerance_ms, f"{what}: {clock} between the tracks is off by {float(max(zeros) - min(zeros))} ms"


def assert_same(expected, found, tolerance_ms=0, what="recording"):
    assert_same_payloads(expected, found, what)
    assert_same_times(expected, found, tolerance_ms, what)


def assert_part_of(whole, found, what="recording"):
    """`found` is an unbroken piece of `whole`, every track, with its times. Returns the index of each track's first packet."""
    begins, piece = {}, Packets()
    for kind in found.kinds:
        all_md5, some_md5 = [packet.md5 for packet in whole[kind]], [packet.md5 for packet in found[kind]]
        begin = all_md5.index(some_md5[0])
        assert all_md5[begin : begin + len(some_md5)] == some_md5, f"{what}: {kind} is not an unbroken piece of what was sent"
        begins[kind] = begin
        piece.tracks[kind] = whole[kind][begin : begin + len(some_md5)]
    assert_same_times(piece, found, what=what)
    return begins


def probe(path, quiet=True):
    """ffprobe's view: format, streams, packets counted. `quiet`: a word of warning fails the test."""
    done = run(["ffprobe", "-v", "warning", "-of", "json", "-show_format", "-show_streams", "-count_packets", path])
    if quiet:
        assert done.stderr == b"", f"ffprobe about {path}: {done.stderr.decode()}"
    return json.loads(done.stdout)


def frame_ms(packets):
    """The longest usual frame of any track: the median distance of decoding times."""
    longest = Fraction(0)
    for kind in packets.kinds:
        times = sorted(packet.dts for packet in packets[kind])
        gaps = sorted(b - a for a, b in zip(times, times[1:])) or [Fraction(40)]
        longest = max(longest, gaps[len(gaps) // 2])
    return longest


def duration_ms(packets):
    """From the first presentation to the end of the last frame."""
    begin = min(packet.pts for kind in packets.kinds for packet in packets[kind])
    end = Fraction(0)
    for kind in packets.kinds:
        end = max(end, max(packet.pts for packet in packets[kind]) + frame_ms(packets.only(kind)))
    return end - begin


def assert_duration(expected, seconds, what="recording"):
    """Within one frame, and a millisecond for what the container rounds."""
    off = abs(Fraction(str(seconds)) * 1000 - duration_ms(expected))
    assert off <= frame_ms(expected) + 1, f"{what} says {seconds} s, the source is {float(duration_ms(expected)) / 1000} s"


def assert_decodes(path):
    """Decodes everything without an error."""
    # Time stamps as they are: the output would otherwise be made to fit a frame rate that VFR does not have.
    done = run([FFMPEG, "-v", "error", "-nostdin", "-xerror", "-i", path, "-fps_mode", "passthrough", "-enc_time_base", "1:90000", "-f", "null", "-"])
    assert done.stderr == b"", f"decoding {path}: {done.stderr.decode()}"


def nal_units(unit):
    """What stands behind lengths of four bytes in an access unit."""
    at = 0
    while at < len(unit):
        length = int.from_bytes(unit[at : at + 4], "big")
        yield unit[at + 4 : at + 4 + length]
        at += 4 + length


def flv_file(tags):
    """The bytes of an FLV file with these tags (type, timestamp in ms, body)."""
    parts = [b"FLV\x01\x05" + (9).to_bytes(4, "big") + bytes(4)]
    for kind, timestamp, body in tags:
        time = (timestamp & 0xFFFFFF).to_bytes(3, "big") + bytes([timestamp >> 24 & 0xFF])
        parts.append(bytes([kind]) + len(body).to_bytes(3, "big") + time + bytes(3) + body + (11 + len(body)).to_bytes(4, "big"))
    return b"".join(parts)


def flv_tags(path):
    """(type, timestamp in ms, body) of every tag."""
    data = Path(path).read_bytes()
    assert data[:4] == b"FLV\x01"
    at = 13
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        timestamp = int.from_bytes(data[at + 7 : at + 8] + data[at + 4 : at + 7], "big")
        body = data[at + 11 : at + 11 + size]
        assert len(body) == size, f"{path} ends within a tag"
        yield data[at] & 0x1F, timestamp, body
        at += 11 + size + 4
