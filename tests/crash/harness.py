"""Kills the appliance at a random instant, starts it again, and compares every file with what had been sent.

Before SIGKILL comes SIGSTOP: a stopped process stands at an instant as random as a killed one, and while it stands the kernel can be asked how many
bytes of each connection it had read. So a frame that has to be in the files is told from one that was still in a socket buffer, exactly.

A seed also chooses what is there beside: a second data folder, a ring that is kept of every stream, encrypted recordings, a recording that waits for its
stream to come back, an index that does not fit into the room in front of its file.
"""

import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import check  # noqa: E402
import media  # noqa: E402
import rtmp  # noqa: E402
import tracks  # noqa: E402
from appliance import BINARY, VOD, Appliance, toml, until  # noqa: E402

# A frame that was read this shortly before the kill may still have been on its way through the core: the pass of one tick, and what the machine's
# scheduler adds. Everything read before has to be in the files.
IN_HAND_MS = 100
# A core that gets no processor may stand longer between reading and storing, with what one read brought of one connection: each has one such buffer.
IN_HAND_BYTES = 256 << 10
CORES = os.cpu_count()
# ffmpeg says what it has sent every 0.1 s, and what of it was read is not known: what it said this long before the kill has to be there.
FFMPEG_MS = 1_000
# RecordInterval, the smallest. Media time: streams are pushed faster than real time, so that files are cut all the while.
INTERVAL_S = 30
# Until nothing is left to recover after the last start.
RECOVERY_S = 30
# A publisher without pace stops here, so that a run's files can be looked at in a few seconds.
FLAT_OUT_FRAMES_MAX = 3_000

# So many have an index of more than the 32 KiB that are left for it.
INDEX_FRAMES_MAX = 7_000
# A recording waits so long for its stream; what came back within half of it has to be in the same file.
WAIT_S = 4

# ffmpeg takes an elementary stream for one by a few frames in a row; shorter files it has to be told about.
ELEMENTARY_BYTES_SURE = 20_000

# What is going on when the kill comes.
MODES = ("recording", "finishing", "shutdown", "start", "recovery")


class CountingSocket:
    """Counts what was given to the kernel."""

    def __init__(self, inner):
        self.inner, self.sent = inner, 0

    def sendall(self, data):
        self.inner.sendall(data)
        self.sent += len(data)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Publisher(threading.Thread):
    """Pushes a source over and over, `speed` times as fast as real time (0: as fast as it is taken), until it is stopped or cut off."""

    def __init__(self, appliance, stream, source, speed, domain, frames_max=FLAT_OUT_FRAMES_MAX):
        super().__init__(daemon=True)
        self.appliance, self.stream, self.speed, self.frames_max = appliance, stream, speed, frames_max
        self.name_and_query = f"{stream}?vhost={domain}"
        self.tags = list(media.flv_tags(media.source(source)))
        # For each track, of each frame: bytes of the connection up to its end, and when it had been given to the kernel.
        self.frames = {"video": [], "audio": []}
        self.connection = None
        self.read_bytes = None
        self.ending = threading.Event()
        self.start()

    def span(self):
        return max(timestamp for _, timestamp, _ in self.tags) + 100

    def track_of(self, kind, body):
        if rtmp.is_configuration(kind, body):
            return None
        return "video" if kind == rtmp.VIDEO else "audio"

    def run(self):
        try:
            self.push()
        except (OSError, AssertionError, rtmp.Refused):
            # The appliance was killed: what counts is what it had read before.
            pass

    def push(self):
        connection = rtmp.Connection(self.appliance.rtmp_port)
        connection.socket = CountingSocket(connection.socket)
        self.connection = connection.handshake().connect().publish(self.name_and_query)
        span = self.span()
        begin, count = time.monotonic(), 0
        for turn in range(1_000):
            for kind, timestamp, body in self.tags:
                track = self.track_of(kind, body)
                if not track and turn:
                    continue
                timestamp += turn * span
                wait = begin + timestamp / 1000 / self.speed - time.monotonic() if self.speed else 0
                if self.ending.wait(wait) if wait > 0 else self.ending.is_set():
                    return
                self.send(connection, kind, timestamp, body)
                if track:
                    self.frames[track].append((connection.socket.sent, time.monotonic()))
                    count += 1
                if not self.speed and count >= self.frames_max:
                    self.ending.wait()
                    return

    def send(self, connection, kind, timestamp, body):
        connection.tag(kind, timestamp, body)

    def finish(self):
        """Ends the publication as an encoder does."""
        self.ending.set()
        self.join(60)
        if self.connection and not self.is_alive():
            try:
                self.connection.send(rtmp.COMMAND, rtmp.amf("deleteStream") + rtmp.amf(7) + rtmp.amf(None) + rtmp.amf(1))
                self.connection.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def cut(self):
        self.ending.set()
        self.join(60)
        assert not self.is_alive(), f"the publisher of {self.stream} hangs"
        if self.connection:
            self.connection.socket.close()

    def note_read(self):
        """Asks the kernel how much the stopped appliance has read."""
        if self.connection is None:
            self.read_bytes = 0
            return
        inner = self.connection.socket.inner
        port = inner.getsockname()[1]
        for _ in range(100):
            acknowledged = bytes_acknowledged(inner)
            unread = receive_queue(self.appliance.rtmp_port, port)
            # Data that move from one buffer to the other meanwhile would count twice or not at all.
            if acknowledged == bytes_acknowledged(inner):
                break
        self.read_bytes = acknowledged - unread if unread is not None else None

    def must(self, killed_at):
        """Frames of each track that have to be in the files."""
        counts = {}
        for track, frames in self.frames.items():
            whole = [at for end, at in frames if self.read_bytes is None or end <= self.read_bytes]
            counts[track] = sum(at <= killed_at - IN_HAND_MS / 1000 for at in whole)
        return counts

    def sure(self):
        """Of these, without those that one read may have brought last."""
        read_bytes = self.read_bytes or 0
        return {track: sum(end <= read_bytes - IN_HAND_BYTES for end, _ in frames) for track, frames in self.frames.items()}

    def sent(self):
        return {track: len(frames) for track, frames in self.frames.items()}


class TracksPublisher(Publisher):
    """Two pictures, two sounds, data messages."""

    def start(self):
        self.tags = list(tracks.several(tag for tag in self.tags if tag[0] != rtmp.DATA))
        self.frames = {track: [] for track in tracks.TRACKS}
        super().start()

    def track_of(self, kind, body):
        return (tracks.track_of(kind, body) or (None,))[0]

    def send(self, connection, kind, timestamp, body):
        connection.send(kind, body, timestamp=timestamp, stream=1, chunk_stream=6 if kind == rtmp.VIDEO else 4)


class Encoder:
    """ffmpeg, once through a source."""

    def __init__(self, appliance, stream, source, pace, domain):
        self.stream, self.whole = stream, media.packets(media.source(source))
        self.progress = [(time.monotonic(), 0)]
        command = [media.FFMPEG, "-v", "error", "-nostdin", *pace, "-i", media.source(source), "-map", "0", "-c", "copy", "-f", "flv"]
        command += ["-flvflags", "no_duration_filesize", "-progress", "pipe:1", "-stats_period", "0.1", appliance.url(stream, domain)]
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            key, _, value = line.strip().partition("=")
            if key == "out_time_us" and value.lstrip("-").isdigit():
                self.progress.append((time.monotonic(), int(value) / 1000))

    def finish(self):
        self.process.send_signal(signal.SIGINT)

    def cut(self):
        self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stdout.close()

    def note_read(self):
        pass

    def must(self, killed_at):
        # The muxer holds frames of one track back until the other follows.
        until_ms = max((out for at, out in self.progress if at <= killed_at - FFMPEG_MS / 1000), default=0) - 200
        return {track: sum(packet.pts <= until_ms for packet in self.whole[track]) for track in self.whole.kinds}

    def sure(self):
        return None

    def sent(self):
        return {track: len(self.whole[track]) for track in self.whole.kinds}


def bytes_acknowledged(connection):
    # tcpi_bytes_acked of struct tcp_info; the SYN counts as one byte.
    information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("<Q", information, 120)[0] - 1


def receive_queue(local_port, remote_port):
    """Unread bytes of the appliance's end of a connection; `None` if it is not there."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == local_port and int(fields[2].split(":")[1], 16) == remote_port:
            return int(fields[4].split(":")[1], 16)
    return None


@dataclass
class Stream:
    publisher: object
    source: str
    domain: str
    # Frames that have to be there, by track; known at the kill.
    must: dict = None
    # The kill it met.
    killed: int = 0

    @property
    def formats(self):
        return DOMAINS[self.domain]


@dataclass
class Result:
    """What a run showed, for the report."""

    seed: int
    mode: str
    files: int = 0
    frames: int = 0
    # (stream, format, track): frames that were read and are in no file.
    missing: dict = None


class Run:
    def __init__(self, seed, folder):
        self.seed, self.random = seed, random.Random(seed)
        self.mode = MODES[seed % len(MODES)]
        container = "ts" if self.random.random() < 0.3 else "fmp4"
        settings = {"ingest": {"arena_mib": 32}, "record": {"hls_container": container}}
        self.has_ring = self.random.random() < 0.3
        self.extra = self.random.choice(["index", "sealed", "back", "none"])
        if self.random.random() < 0.3:
            settings["more_data_folders"] = [str(folder / "more")]
            (folder / "more").mkdir(parents=True)
        self.appliance = Appliance(folder, **settings)
        self.streams = []
        self.kills = 0
        # Streams of which a core had read something that it had not stored, with the kill.
        self.in_hand = set()
        # How long the stream that comes back was away, each time.
        self.gaps = []
        self.result = Result(seed, self.mode, missing={})

    def go(self):
        try:
            self.appliance.start()
            self.rules()
            self.publish("a")
            time.sleep(self.random.uniform(0.3, 2.0))
            getattr(self, self.mode)()
            self.appliance.start()
            if self.extra == "back":
                self.come_back()
            self.wait_recovered()
            self.compare()
            self.appliance.stop()
        finally:
            for stream in self.streams:
                stream.publisher.cut()
            if self.appliance.process and self.appliance.process.poll() is None:
                self.appliance.kill()
            shutil.rmtree(self.arena_folder(), ignore_errors=True)
        return self.result

    def arena_folder(self):
        """Where the killed process's memory between network and disk lies; it is shared memory of the machine."""
        import hashlib

        name = hashlib.sha256(str(self.appliance.data).encode()).hexdigest()[:16]
        return Path("/dev/shm") / f"capstan-arena-{name}"

    # What is recorded

    def rules(self):
        interval = {"RecordInterval": INTERVAL_S}
        for domain, formats in DOMAINS.items():
            more = {"PreRecordDuration": 600} if self.has_ring and domain == "all.example" else {}
            if domain == "sealed.example":
                more["HlsEncryption"] = {"Type": "SimpleAES", "RotationSegments": self.random.randrange(3)}
            if domain == "back.example":
                more["HlsSpecialParam"] = {"FlowContinueDuration": WAIT_S}
            if domain == "index.example":
                interval = {"RecordInterval": 7200}
            self.appliance.record(domain, **{name: True if name == "hls" else interval for name in formats}, **more)

    def publish(self, round_name):
        streams = [
            ("cut", "long", lambda name: Publisher(self.appliance, name, "long", 25, "all.example"), "all.example"),
            ("flat", "long", lambda name: Publisher(self.appliance, name, "long", 0, "plain.example"), "plain.example"),
            ("many", "long", lambda name: TracksPublisher(self.appliance, name, "long", 25, "many.example"), "many.example"),
            ("mp3", "longmp3", lambda name: Publisher(self.appliance, name, "longmp3", 25, "mp3.example"), "mp3.example"),
            ("real", "live", lambda name: Encoder(self.appliance, name, "live", ["-re"], "all.example"), "all.example"),
            ("radio", "longaac", lambda name: Encoder(self.appliance, name, "longaac", ["-readrate", "20"], "aac.example"), "aac.example"),
        ]
        extra = {
            "index": ("index", "long", lambda name: Publisher(self.appliance, name, "long", 0, "index.example", INDEX_FRAMES_MAX), "index.example"),
            "sealed": ("sealed", "long", lambda name: Publisher(self.appliance, name, "long", 25, "sealed.example"), "sealed.example"),
        }
        if self.extra in extra:
            streams[1] = extra[self.extra]
        for name, source, publisher, domain in streams:
            name = f"{name}-{round_name}"
            self.streams.append(Stream(publisher(name), source, domain))
        if self.extra == "back":
            self.publish_back()

    def publish_back(self):
        """The stream that comes back under its name, every other time with other pictures, so that its turns can be told apart."""
        source = ("long", "live")[len(self.back()) % 2]
        was_there = bool(self.back())
        publisher = Publisher(self.appliance, "back", source, 25, "back.example")
        self.streams.append(Stream(publisher, source, "back.example"))
        if was_there:
            until(lambda: publisher.connection or not publisher.is_alive(), 20, "the stream that comes back")
            self.gaps.append(time.monotonic() - self.killed_at)

    def back(self):
        return [stream for stream in self.streams if stream.domain == "back.example"]

    def come_back(self):
        """One more turn, which ends as it should."""
        self.publish_back()
        publisher = self.streams[-1].publisher
        until(lambda: sum(map(len, publisher.frames.values())) > 500, 20, "frames of the stream that came back")
        publisher.finish()
        self.appliance.wait_offline("back", "back.example")
        self.streams[-1].must = publisher.sent()

    # Kills

    def kill(self, reading_until=None):
        """SIGSTOP, a look at the sockets, SIGKILL; the publishers go with it. `reading_until`: when it stopped reading, if before."""
        process = self.appliance.process
        killed_at = reading_until or time.monotonic()
        self.killed_at = killed_at
        process.send_signal(signal.SIGSTOP)
        for stream in self.streams:
            if stream.must is None:
                stream.publisher.note_read()
                stream.must, stream.killed = stream.publisher.must(killed_at), self.kills
        self.kills += 1
        self.appliance.kill()
        for stream in self.streams:
            stream.publisher.cut()

    def recording(self):
        self.kill()

    def finishing(self):
        for stream in self.streams:
            stream.publisher.finish()
        time.sleep(self.random.uniform(0, 0.2))
        self.kill()

    def shutdown(self):
        # It stops reading and closes the connections: what comes then, the publisher knows to be lost.
        asked_at = time.monotonic()
        self.appliance.process.send_signal(signal.SIGTERM)
        time.sleep(self.random.uniform(0, 0.25))
        self.kill(asked_at)

    def start(self):
        self.kill()
        for _ in range(self.random.randint(1, 3)):
            self.spawn()
            time.sleep(self.random.uniform(0, 0.5))
            self.appliance.kill()

    def recovery(self):
        """Recovery runs while publishers push already."""
        self.kill()
        self.appliance.start()
        self.publish("b")
        time.sleep(self.random.uniform(0, 0.5))
        self.kill()

    def spawn(self):
        """Starts it without waiting until it answers."""
        self.appliance.config.write_text(toml(self.appliance.settings))
        with open(self.appliance.log_path, "ab") as log:
            command = [BINARY, "serve", "--config", self.appliance.config]
            self.appliance.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.appliance.folder)

    # Comparing

    def wait_recovered(self):
        """Until nothing is open and nothing waits for the catalog."""
        recording = [root / "recording" for root in self.appliance.roots]
        until(lambda: not any(list(folder.iterdir()) for folder in recording), RECOVERY_S, "the end of recovery")

    def compare(self):
        faults = []
        known = set()
        with ThreadPoolExecutor(2) as readers:
            for name in dict.fromkeys(stream.publisher.stream for stream in self.streams):
                turns = [stream for stream in self.streams if stream.publisher.stream == name]
                files = self.appliance.call("SearchMedia", StreamIds=[name], Limit=1000, Sort={"Field": "CreateTime", "Order": "Asc"})["MediaInfoSet"]
                files.sort(key=lambda file: int(file["FileId"]))
                known |= {file["FileId"] for file in files}
                self.result.files += len(files)
                for container in turns[0].formats:
                    parts = [file for file in files if file["BasicInfo"]["Type"] == container]
                    try:
                        if isinstance(turns[0].publisher, TracksPublisher):
                            self.compare_tracks(turns[0], container, parts)
                            continue
                        read = list(readers.map(self.read, parts))
                        if len(turns) > 1:
                            self.compare_turns(turns, parts, media.joined(read))
                        else:
                            self.compare_one(turns[0], container, media.joined(read))
                    except AssertionError as fault:
                        faults.append(f"{name} {container} in {len(parts)} files: {fault}")
            rings = self.ring_folders()
            known |= {path.name for paths in rings.values() for path in paths}
            for stream in self.streams:
                if not self.has_ring or stream.domain != "all.example":
                    continue
                folders = rings.get(stream.publisher.stream, [])
                try:
                    read = list(readers.map(lambda folder: media.packets(next(folder.glob("*.m3u8"))), folders))
                    self.compare_one(stream, "ring", media.joined(read))
                except AssertionError as fault:
                    faults.append(f"{stream.publisher.stream} ring in {len(folders)} files: {fault}")
        lying = {path.name for root in self.appliance.roots for path in (root / "media").glob("*/*")}
        if lying != known:
            faults.append(f"on the disk but not in the catalog: {lying - known}; in the catalog but not on the disk: {known - lying}")
        # A fresh scan finds in every file what was noted when it was finished or recovered.
        verified = subprocess.run([BINARY, "verify", *self.appliance.roots], capture_output=True, text=True, timeout=240)
        if verified.returncode:
            faults.append(verified.stdout)
        self.appliance.check_log()
        for kill in range(self.kills):
            streams = [stream for number, stream in self.in_hand if number == kill]
            if len(streams) > CORES:
                faults.append(f"the newest frames of {streams} are missing; {CORES} cores had no more than one each in hand")
        if failed := [line for line in self.appliance.log.splitlines() if "could not be" in line]:
            faults.append("; ".join(failed))
        if faults:
            raise AssertionError(f"seed {self.seed} ({self.mode}, {self.extra}), {self.appliance.folder}:\n" + "\n".join(faults))

    def ring_folders(self):
        """Of what is kept of each stream, oldest first; searches do not show it."""
        found = {}
        for root in self.appliance.roots:
            for path in (root / "media").glob("*/*"):
                identity = json.loads((path / "recording.json").read_text())["identity"]
                if identity["source"] == "Ring":
                    found.setdefault(identity["key"]["stream"], []).append(path)
        return {stream: sorted(paths, key=lambda path: int(path.name)) for stream, paths in found.items()}

    def read(self, file):
        path, container = self.appliance.path_of(file), file["BasicInfo"]["Type"]
        playlist = path.read_text() if container == "hls" else ""
        if "#EXT-X-KEY" in playlist:
            return self.read_sealed(file, playlist)
        if path.stem == "back":
            # Each publication counts its times from its own beginning: its parts are read one by one.
            parts = sorted(path.parent.glob("media-*.[mt]*s"), key=lambda part: int(part.stem.split("-")[1]))
            filters = {"video_filter": "filter_units=pass_types=1-6", "audio_filter": "aac_adtstoasc"} if parts[0].suffix == ".ts" else {}
            return media.joined([media.packets(part, quiet=False, **filters) for part in parts])
        if "#EXT-X-DISCONTINUITY" in playlist:
            # Frames that no file had taken when the kill came are a part whose times begin anew: the playlist says so, and ffmpeg remarks upon it.
            filters = {} if "#EXT-X-MAP" in playlist else {"video_filter": "filter_units=pass_types=1-6", "audio_filter": check.transport_audio(path)}
            return media.packets(path, quiet=False, **filters)
        if container == "mp3" and json.loads((path.parent / "recording.json").read_text())["summary"]["audio"]["frames"] == 1:
            # ffmpeg takes a single frame for none: it is read twice in a row.
            twice = path.parent.parent.parent.parent / f"twice-{path.parent.name}.mp3"
            twice.write_bytes(path.read_bytes() * 2)
            found = media.packets(twice, quiet=False, input_format="mp3")
            del found.tracks["audio"][1:]
            twice.unlink()
            return found
        if container in ("aac", "mp3") and path.stat().st_size < ELEMENTARY_BYTES_SURE:
            found = media.packets(path, quiet=False, audio_filter="aac_adtstoasc" if container == "aac" else None, input_format=container)
            frames = file["MetaData"]["AudioStreamSet"] and found["audio"]
            assert frames, f"{path} holds no frame"
            return found
        return check.read(self.appliance, file)

    def compare_tracks(self, stream, container, parts):
        transport = container == "hls" and self.appliance.settings["record"]["hls_container"] == "ts"
        held = tracks.Holdings(stream.publisher.tags, stream.publisher.span(), transport)
        for part in parts:
            held.take(self.appliance, part)
        lost = []
        for track, count in held.counts.items():
            sent, missing = stream.publisher.sent()[track], stream.must[track] - count
            if transport and track != "data":
                # The first tracks, by ffmpeg, which has a word to say about the messages beside them.
                continue
            assert count <= sent, f"{count} of {track}, only {sent} were sent"
            self.result.frames += count
            if missing > 0:
                self.result.missing[(stream.publisher.stream, container, track)] = missing
                lost.append(f"{missing} of {stream.must[track]} of {track} that had been read are missing at the end")
        assert not lost, "; ".join(lost)
        if transport:
            filters = {"video_filter": "filter_units=pass_types=1-6", "audio_filter": "aac_adtstoasc"}
            read = [media.packets(self.appliance.path_of(part), quiet=False, **filters) for part in parts]
            self.compare_one(stream, container, media.joined(read))

    def read_sealed(self, file, playlist):
        """As a player gets it: with the keys that the key service hands out for a token."""
        token = self.appliance.call("DescribeRecordingReceipt", version=VOD, FileId=file["FileId"])["DrmToken"]
        folder, name = file["BasicInfo"]["MediaUrl"].rsplit("/", 1)
        url = f"{folder}/voddrm.token.{token}.{name}"
        assert "#EXT-X-ENDLIST" in playlist
        return media.packets(url, video_filter="filter_units=pass_types=1-6", audio_filter="aac_adtstoasc", quiet=False)

    def compare_turns(self, turns, files, found):
        """The publications of a stream that came back, one behind the other; in one file, if it came back in time."""
        transport = self.appliance.settings["record"]["hls_container"] == "ts"
        for track, packets in found.tracks.items():
            at = 0
            for number, stream in enumerate(turns):
                expected = [packet.md5 for packet in expected_packets(stream.source, transport)[track]]
                begin = at
                while at < len(packets) and packets[at].md5 == expected[(at - begin) % len(expected)]:
                    at += 1
                self.result.frames += at - begin
                missing, sent = stream.must[track] - (at - begin), stream.publisher.sent()[track]
                assert missing <= 0, f"turn {number}: {missing} of {stream.must[track]} {track} frames that had been read are missing"
                assert at - begin <= sent, f"turn {number}: {at - begin} {track} frames, only {sent} were sent"
            assert at == len(packets), f"{track} frame {at} of {len(packets)} is not what was sent there"
        in_time = all(gap < WAIT_S / 2 for gap in self.gaps)
        assert len(files) == 1 or not in_time, f"the stream was away for {self.gaps} s, and does not go on in its file"

    def compare_one(self, stream, container, found):
        transport = stream.domain == "sealed.example" or (container == "hls" and self.appliance.settings["record"]["hls_container"] == "ts")
        whole = expected_packets(stream.source, transport)
        sent, lost = stream.publisher.sent(), []
        tracks = ["audio"] if container in ("aac", "mp3") else whole.kinds
        for track in tracks:
            packets = found.tracks.get(track, [])
            expected = [packet.md5 for packet in whole[track]]
            for index, packet in enumerate(packets):
                assert packet.md5 == expected[index % len(expected)], f"{track} frame {index} of {len(packets)} is not what was sent there"
            assert len(packets) <= sent[track], f"{len(packets)} {track} frames, only {sent[track]} were sent"
            missing = stream.must[track] - len(packets)
            self.result.frames += len(packets)
            if missing > 0 and (sure := stream.publisher.sure()) and len(packets) >= sure[track]:
                self.in_hand.add((stream.killed, stream.publisher.stream))
            elif missing > 0:
                self.result.missing[(stream.publisher.stream, container, track)] = missing
                lost.append(f"{missing} of {stream.must[track]} {track} frames that had been read are missing at the end")
        assert not lost, "; ".join(lost)


# Push domains and what they record.
DOMAINS = {
    "all.example": ("flv", "mp4", "hls", "aac"),
    "plain.example": ("flv", "mp4"),
    "many.example": ("flv", "mp4", "hls"),
    "mp3.example": ("mp3", "mp4"),
    "aac.example": ("aac", "hls"),
    "index.example": ("mp4", "hls"),
    "sealed.example": ("hls",),
    "back.example": ("hls",),
}

_packets = {}


def expected_packets(source, transport):
    if (source, transport) not in _packets:
        path = media.source(source)
        has_video = "video" in media.packets(path).kinds
        _packets[source, transport] = check.annexb(path) if transport and has_video else media.packets(path)
    return _packets[source, transport]


def run_seed(seed, folder):
    """One run; [`AssertionError`] names everything that is wrong."""
    return Run(seed, Path(folder)).go()


def main():
    import argparse
    from multiprocessing import Pool

    parser = argparse.ArgumentParser(description="Kills the appliance at random instants and compares its files with what was sent.")
    parser.add_argument("seeds", type=int, nargs="?", default=40, help="how many (40)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time (2)")
    parser.add_argument("--folder", type=Path, help="where the data of failed runs stay (a temporary folder)")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="capstan-crash-"))
    failed = 0
    with Pool(arguments.jobs) as pool:
        tasks = [(seed, folder / f"seed-{seed}") for seed in range(arguments.first, arguments.first + arguments.seeds)]
        for seed, mode, text, seconds in pool.imap_unordered(one, tasks):
            failed += text.startswith("FAILED")
            print(f"seed {seed:4} {mode:9} {seconds:5.1f} s  {text}", flush=True)
    print(f"{arguments.seeds} seeds, {failed} failed" + (f"; their data: {folder}" if failed else ""))
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(bool(failed))


def one(task):
    seed, folder = task
    begin = time.monotonic()
    try:
        result = run_seed(seed, folder)
        text = f"{result.files} files, {result.frames} frames, nothing missing"
        shutil.rmtree(folder, ignore_errors=True)
    except Exception as error:  # noqa: BLE001 - the other seeds go on
        text = f"FAILED {type(error).__name__}: {error}"
    return seed, MODES[seed % len(MODES)], text, time.monotonic() - begin


if __name__ == "__main__":
    main()
