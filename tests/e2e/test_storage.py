"""A disk that is full, slow or broken: what was received before is in valid files, and recording goes on by itself."""

import json
import os
import shutil
import subprocess
import threading
import time

import pytest

import media
from appliance import BINARY, ApiError, Appliance, until
from check import read
from rtmp import VIDEO, is_configuration, publisher
from test_callbacks import receiver, tell, template  # noqa: F401


class Looped(threading.Thread):
    """Publishes a source again and again, `speed` times as fast as real time, until it is stopped; each picture with so many bytes more than it has."""

    def __init__(self, appliance, name, source, speed=4, padding=0):
        super().__init__(daemon=True)
        self.tags = [
            (kind, timestamp, body if kind != VIDEO or is_configuration(kind, body) else body + bytes(padding)) for kind, timestamp, body in media.flv_tags(media.source(source))
        ]
        self.connection = publisher(appliance.rtmp_port, name)
        self.speed, self.frames, self.ending = speed, 0, threading.Event()
        self.error = None
        self.start()

    def run(self):
        span = max(timestamp for _, timestamp, _ in self.tags) + 100
        begin = time.monotonic()
        turn = 0
        try:
            while True:
                for kind, timestamp, body in self.tags:
                    if is_configuration(kind, body) and turn:
                        continue
                    timestamp += turn * span
                    if self.ending.wait(max(0, begin + timestamp / 1000 / self.speed - time.monotonic())):
                        return
                    self.connection.tag(kind, timestamp, body)
                    self.frames += not is_configuration(kind, body)
                turn += 1
        except OSError as error:
            self.error = error

    def stop(self):
        self.ending.set()
        self.join(60)
        assert self.error is None, self.error
        self.connection.close()
        return self.frames


def receipt(appliance, file):
    return json.loads((appliance.folder_of(file) / "recording.json").read_text())


def health(appliance):
    answer = appliance.session.get(f"{appliance.http}/healthz", timeout=60)
    return answer.status_code, answer.json()["disks"][0]


def assert_no_core_waited(appliance):
    """Not for a disk that hung: no pass of a core took as long as that, though one may get no processor for a while."""
    passes = {name: value for name, value in appliance.metrics().items() if name.startswith("capstan_tick_pass_seconds_bucket")}
    within, all_passes = (sum(value for name, value in passes.items() if f'le="{le}"' in name) for le in ("2.5", "+Inf"))
    assert within == all_passes > 0, passes


def check_sum(appliance, files, sent):
    """Frames in the files and frames that the receipts say were lost: together what was sent."""
    notes = [receipt(appliance, file) for file in files]
    held = sum(track["frames"] for note in notes for track in (note["summary"]["video"], note["summary"]["audio"]) if track)
    lost = sum(loss["frames"] for note in notes for loss in note["receipt"]["lost"])
    found = 0
    for file in files:
        packets = read(appliance, file)
        found += sum(len(packets[kind]) for kind in packets.kinds)
    assert held == found
    assert held + lost == sent, f"{held} in {len(files)} files and {lost} lost, {sent} sent"
    return held, lost


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MiB, and a function that takes all but `left` bytes of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    filler = folder / "of-somebody-else"

    def fill(left):
        filler.unlink(missing_ok=True)
        state = os.statvfs(folder)
        free = state.f_bavail * state.f_frsize
        if left is not None:
            with open(filler, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free - left)

    yield folder, fill
    subprocess.run(["umount", "-l", folder], check=True)


def on_disk(tmp_path, folder, **record):
    return Appliance(tmp_path, data_folder=str(folder / "data"), ingest={"arena_mib": 16}, record={"reserve_mib": 16, "first_run_rule": False, **record})


def test_a_full_disk(tmp_path, small_disk):
    folder, fill = small_disk
    appliance = on_disk(tmp_path, folder)
    appliance.data = folder / "data"
    appliance.start()
    try:
        appliance.record("localhost", flv=True, mp4=True, hls=True)
        live = Looped(appliance, "cam", "live")
        until(lambda: live.frames > 400, 20, "frames")
        code, disk = health(appliance)
        assert (code, disk["state"]) == (200, "ok") and disk["free_bytes"] > 30 << 20
        fill(4 << 20)
        until(lambda: health(appliance)[0] == 503, 10, "the full disk being noticed")
        assert health(appliance)[1]["state"] == "full"
        first = appliance.files("cam", count=3)
        assert {receipt(appliance, file)["reason"] for file in first} == {"StorageFull"}
        # The publisher goes on, and nothing is begun.
        frames = live.frames
        until(lambda: live.frames > frames + 400, 20, "frames while the disk is full")
        assert appliance.online("cam")
        assert appliance.metric("capstan_dropped_frames_total", reason="disk_full") > 0
        assert appliance.metric("capstan_disk_state") == 2
        fill(None)
        until(lambda: health(appliance)[0] == 200, 10, "the space being noticed")
        until(lambda: appliance.metric("capstan_open_files") > 0, 20, "recording to go on")
        frames = live.frames
        until(lambda: live.frames > frames + 200, 20, "frames")
        sent = live.stop()
        files = appliance.files("cam", count=6)
        held, lost = check_sum(appliance, [file for file in files if file["BasicInfo"]["Type"] == "flv"], sent)
        assert lost > 300 and held > 500
        described = [file["BasicInfo"]["Description"] for file in files]
        assert sum("frames lost (disk_full)" in text for text in described) == 3, described
        verified = subprocess.run([BINARY, "verify", appliance.data], capture_output=True, text=True)
        assert verified.returncode == 0, verified.stdout
        until(lambda: not list((folder / "data" / "recording").iterdir()), 10, "nothing being left to do")
        appliance.stop()
    finally:
        if appliance.process.poll() is None:
            appliance.kill()


def wait_received(appliance, *publishers):
    """How many frames the only publishers have sent by now; until all of these have been received."""
    sent = sum(live.frames for live in publishers)
    until(lambda: appliance.metric("capstan_frames_total") >= sent, 20, "what is under way")
    return sent


def killed_while_recording(appliance, frames):
    """A publisher of `cam`, killed with the appliance when it has sent so many frames: how many of them had been received."""
    live = Looped(appliance, "cam", "live", speed=1)
    until(lambda: live.frames > frames, 20, "frames")
    sent = wait_received(appliance, live)
    appliance.kill()
    live.ending.set()
    live.join(60)
    return sent


def test_a_disk_that_is_full_at_the_next_start(tmp_path, small_disk):
    """What was received before the kill waits in memory until there is room, also through further deaths; publishers come meanwhile."""
    folder, fill = small_disk
    appliance = on_disk(tmp_path, folder)
    appliance.data = folder / "data"
    appliance.start()
    try:
        appliance.record("localhost", flv=True, mp4=True)
        sent = killed_while_recording(appliance, 150)
        (folder / "data" / "ballast").unlink()
        fill(0)
        for ending in (appliance.kill, appliance.stop):
            appliance.start(ready=(200, 503))
            answer = appliance.session.get(f"{appliance.http}/healthz", timeout=60).json()
            assert answer["status"] == "degraded" and sum(answer["recovery"].values()) > 0, answer
            assert appliance.search(StreamIds=["cam"]) == []
            appliance.said("tried again")
            ending()
        appliance.start(ready=(200, 503))
        other = Looped(appliance, "other", "live", speed=2)
        until(lambda: other.frames > 100, 20, "frames while the disk is full")
        fill(None)
        for file in appliance.files("cam", count=2):
            packets = read(appliance, file)
            assert sum(len(packets[kind]) for kind in packets.kinds) >= sent
        until(lambda: "recovery" not in appliance.session.get(f"{appliance.http}/healthz", timeout=60).json(), 10, "all being well")
        until(lambda: appliance.metric("capstan_open_files") > 0, 20, "recording to begin")
        other.stop()
        appliance.files("other", count=2)
        appliance.stop()
    finally:
        if appliance.process.poll() is None:
            appliance.kill()


def test_old_recordings_make_room(tmp_path, small_disk):
    folder, fill = small_disk
    appliance = on_disk(tmp_path, folder, eviction="oldest")
    appliance.data = folder / "data"
    appliance.start()
    try:
        appliance.record("localhost", flv=True)
        names = [f"old-{number}" for number in range(3)]
        for name in names:
            live = Looped(appliance, name, "live", speed=20)
            until(lambda: live.frames > 2_000, 20, "frames")
            live.stop()
            appliance.file(name)
        oldest, newest = appliance.file(names[0]), appliance.file(names[-1])
        path = appliance.path_of(oldest)
        size = path.stat().st_size
        assert size > 512 << 10
        # A little less than twice the reserve is left.
        fill((32 << 20) - size // 4)
        until(lambda: not path.exists(), 20, "the oldest recording to go")
        until(lambda: not appliance.search(StreamIds=[names[0]]), 10, "its entry to go")
        fill(None)
        until(lambda: health(appliance)[1]["state"] == "ok", 10, "room")
        assert appliance.path_of(newest).exists(), "only as many as have to go"
        appliance.stop()
    finally:
        if appliance.process.poll() is None:
            appliance.kill()


def test_a_full_disk_that_holds_the_catalog(tmp_path, small_disk):
    """Recordings lie elsewhere: they go on, and enter the catalog when there is room. What was answered holds."""
    folder, fill = small_disk
    more = tmp_path / "more"
    more.mkdir()
    appliance = on_disk(tmp_path, folder, in_data_folder=False)
    appliance.settings["more_data_folders"] = [str(more)]
    appliance.data = folder / "data"
    appliance.start()
    try:
        appliance.record("localhost", flv=True)
        live = Looped(appliance, "cam", "live")
        until(lambda: live.frames > 200, 20, "frames")
        fill(0)
        made = []
        # The last pages that the catalog has for itself.
        for number in range(2_000):
            try:
                made.append(appliance.template(f"t{number}", flv=True))
            except ApiError as error:
                assert error.code == "InternalError"
                break
        else:
            pytest.fail("the catalog has no end")
        until(lambda: health(appliance)[1]["state"] == "full", 10, "the full disk being noticed")
        # Recording goes on.
        assert health(appliance)[0] == 200
        frames = live.frames
        until(lambda: live.frames > frames + 200, 20, "frames while the disk is full")
        sent = live.stop()
        until(lambda: appliance.metric("capstan_files_finished_total") == 1, 20, "the file")
        assert appliance.search(StreamIds=["cam"]) == []
        appliance.stop()
        appliance.start()
        other = Looped(appliance, "other", "live")
        until(lambda: other.frames > 200, 20, "frames")
        fill(None)
        file = appliance.file("cam")
        assert check_sum(appliance, [file], sent) == (sent, 0)
        check_sum(appliance, [appliance.file("other") if other.stop() else None], other.frames)
        known = {template["TemplateId"] for template in appliance.call("DescribeLiveRecordTemplates")["Templates"]}
        assert known >= set(made), "what was answered is there"
        appliance.stop()
    finally:
        if appliance.process.poll() is None:
            appliance.kill()


@pytest.fixture
def faulty(tmp_path, fault):
    """A server whose disk fails as the text says that is given to the function."""
    appliance = Appliance(tmp_path, ingest={"arena_mib": 16}).start()
    yield appliance, fault
    fault("")
    if appliance.process.poll() is None:
        appliance.stop()


@pytest.mark.parametrize("step", ["write", "sync"])
def test_an_error_of_the_disk(faulty, step):
    """The file ends, says what is damaged, and another begins."""
    appliance, fault = faulty
    appliance.record("localhost", flv=True)
    live = Looped(appliance, "cam", "live")
    until(lambda: live.frames > 300, 20, "frames")
    fault(f"{step} eio")
    until(lambda: appliance.metric("capstan_disk_errors") > 0, 20, "the error being noticed")
    fault("")
    frames = live.frames
    until(lambda: live.frames > frames + 600, 20, "frames")
    sent = live.stop()
    until(lambda: len(appliance.search(StreamIds=["cam"])) >= 2, 20, "files")
    until(lambda: not list((appliance.data / "recording").iterdir()), 20, "everything being finished")
    files = sorted(appliance.search(StreamIds=["cam"]), key=lambda file: int(file["FileId"]))
    check_sum(appliance, files, sent)
    damaged = [file for file in files if receipt(appliance, file)["receipt"]["damaged"]]
    # One, and whatever was begun until the fault was taken back.
    assert damaged == files[:-1] != []
    for file in damaged:
        (damage,) = receipt(appliance, file)["receipt"]["damaged"]
        assert damage["file"] == "media-1.flv" and damage["bytes"] > 0
        assert f"damaged, bytes {damage['offset']} to" in file["BasicInfo"]["Description"]
        assert receipt(appliance, file)["reason"] == "StorageFailed"


def test_a_disk_that_fails_at_the_next_start(faulty, receiver):  # noqa: F811
    """It is told which recordings wait for it."""
    appliance, fault = faulty
    mine = receiver()
    tell(appliance, "localhost", template(appliance, mine, "RecordExceptionNotifyUrl"))
    appliance.record("localhost", flv=True)
    sent = killed_while_recording(appliance, 100)
    fault("write eio")
    appliance.start(ready=(200, 503))
    (event,) = mine.wait(1, 341)
    assert event["stream_id"] == "cam" and "finished when the disk does" in event["exception"][0]["desc"]
    until(lambda: health(appliance)[1]["state"] == "failing", 10, "the trouble being shown")
    fault("")
    packets = read(appliance, appliance.file("cam"))
    assert sum(len(packets[kind]) for kind in packets.kinds) >= sent


def test_removed_files(start):
    """Somebody clears open recordings away; what comes then is recorded."""
    appliance = start()
    appliance.record("localhost", flv=True, mp4=True, hls=True)
    live = Looped(appliance, "cam", "live", speed=2)
    until(lambda: live.frames > 100, 20, "frames")
    recording = appliance.data / "recording"
    gone = set(recording.iterdir())
    assert len(gone) == 3
    for folder in gone:
        shutil.rmtree(folder, ignore_errors=True)
    until(lambda: len([path for path in recording.glob("*/media-*") if path.parent not in gone]) == 3, 10, "other files")
    frames = live.frames
    until(lambda: live.frames > frames + 100, 20, "frames")
    live.stop()
    appliance.files("cam", count=3)
    assert len(appliance.said("somebody has removed a file that is recorded to", count=2)) == 2


def test_a_disk_that_hangs_for_a_moment_costs_nothing(faulty):
    appliance, fault = faulty
    appliance.record("localhost", flv=True, mp4=True)
    live = Looped(appliance, "cam", "live", speed=2)
    until(lambda: live.frames > 200, 20, "frames")
    fault("write hang")
    until(lambda: health(appliance)[1]["state"] == "stalled", 20, "the stall being noticed")
    frames = live.frames
    until(lambda: live.frames > frames + 100, 20, "frames while the disk hangs")
    assert_no_core_waited(appliance)
    fault("")
    until(lambda: health(appliance)[1]["state"] == "ok", 20, "the disk's return")
    sent = live.stop()
    files = appliance.files("cam", count=2)
    for container in ("flv", "mp4"):
        held, lost = check_sum(appliance, [file for file in files if file["BasicInfo"]["Type"] == container], sent)
        assert (held, lost) == (sent, 0), container


def test_a_changed_byte_is_found(start):
    """The receipt's checksums, of every kind of file."""
    appliance = start()
    appliance.record("localhost", flv=True, mp4=True, hls=True, aac=True)
    live = Looped(appliance, "cam", "live", speed=10)
    until(lambda: live.frames > 1_000, 20, "frames")
    live.stop()
    files = appliance.files("cam", count=4)

    def verify(folder):
        done = subprocess.run([BINARY, "verify", folder], capture_output=True, text=True)
        return done.returncode, done.stdout

    code, text = verify(appliance.data)
    assert code == 0, text
    for file in files:
        (checksum,) = receipt(appliance, file)["receipt"]["checksums"]
        path = appliance.folder_of(file) / checksum["file"]
        assert checksum["offset"] + checksum["bytes"] == path.stat().st_size
        with open(path, "r+b") as media_file:
            media_file.seek(checksum["offset"] + checksum["bytes"] * 2 // 3)
            byte = media_file.read(1)
            media_file.seek(-1, os.SEEK_CUR)
            media_file.write(bytes([byte[0] ^ 1]))
        code, text = verify(appliance.folder_of(file))
        # MP4 and HLS share it.
        with open(path, "r+b") as media_file:
            media_file.seek(checksum["offset"] + checksum["bytes"] * 2 // 3)
            media_file.write(byte)
        assert code and "are not what was recorded" in text, text
