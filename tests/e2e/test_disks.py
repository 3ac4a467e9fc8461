"""Several data folders: one that hangs, fails or is not there costs its own streams a new file, and the others nothing."""

import json
import subprocess

import pytest

import media
from appliance import BINARY, Appliance, until
from check import read
from rtmp import is_configuration
from test_storage import Looped, assert_no_core_waited, check_sum, receipt, wait_received


class TwoDisks(Appliance):
    def __init__(self, folder, **settings):
        self.more = folder / "more"
        super().__init__(folder, more_data_folders=[str(self.more)], ingest={"arena_mib": 32}, **settings)
        self.more.mkdir(parents=True)

    def open_recordings(self, name):
        """The data folders that a stream is recorded in, by its open recordings."""
        return [root for root, identity in self.open_identities() if identity["key"]["stream"] == name]

    def disks(self):
        answer = self.session.get(f"{self.http}/healthz", timeout=60)
        return answer.status_code, {disk["folder"]: disk["state"] for disk in answer.json()["disks"]}

    def root_of(self, file):
        return self.folder_of(file).parents[2]


@pytest.fixture
def two(tmp_path, fault):
    """A server with two data folders, and a function that makes its disks fail as a text says."""
    appliance = TwoDisks(tmp_path).start()
    yield appliance, fault
    fault("")
    if appliance.process.poll() is None:
        appliance.stop()


def assert_untouched(appliance, file, sent):
    """The file holds what was pushed, frame by frame, and nothing else."""
    packets = read(appliance, file)
    source = media.packets(media.source("live"))
    assert sum(len(packets[kind]) for kind in packets.kinds) == sent
    for kind in packets.kinds:
        once = [packet.md5 for packet in source[kind]]
        for number, packet in enumerate(packets[kind]):
            assert packet.md5 == once[number % len(once)], f"{kind} {number}"


@pytest.mark.parametrize("fault_of_disk, state", [("hang", "stalled"), ("eio", "failing")])
def test_a_disk_that_dies_costs_the_others_nothing(two, fault_of_disk, state):
    appliance, fault = two
    appliance.record("localhost", flv=True, hls=True)
    streams, where = {}, {}
    # Each stream's recordings lie together, on the disk with more room: by the fourth on both, whatever else is written to the machine's disk.
    for name in ("one", "two", "three", "four"):
        streams[name] = Looped(appliance, name, "live", speed=2)
        where[name] = until(lambda: appliance.open_recordings(name), 10, "an open recording")[0]
        if len(set(where.values())) == 2:
            break
    for stream in streams.values():
        until(lambda stream=stream: stream.frames > 200, 20, "frames")
    assert len(set(where.values())) == 2, where
    hit = next(name for name in where if where[name] == appliance.more)
    spared = next(name for name in where if where[name] != appliance.more)
    fault(f"write {fault_of_disk} {appliance.more}")
    until(lambda: appliance.disks()[1][str(appliance.more)] == state, 20, "the trouble being noticed")
    # Recording goes on: the appliance is degraded, not down.
    assert appliance.disks()[0] == 200
    until(lambda: appliance.data in appliance.open_recordings(hit), 20, "the stream being recorded on the other disk")
    frames = streams[hit].frames
    until(lambda: streams[hit].frames > frames + 200, 20, "frames")
    assert_no_core_waited(appliance)
    fault("")
    sent = {name: stream.stop() for name, stream in streams.items()}
    until(lambda: not list((appliance.more / "recording").iterdir()), 20, "everything being finished")
    files = {name: appliance.files(name, count=4 if where[name] == appliance.more else 2) for name in streams}
    kind = {name: [[file for file in files[name] if file["BasicInfo"]["Type"] == kind] for kind in ("flv", "hls")] for name in files}
    for file in files[spared]:
        assert appliance.root_of(file) == appliance.data
    assert_untouched(appliance, kind[spared][0][0], sent[spared])
    for before, after in kind[hit]:
        assert (appliance.root_of(before), appliance.root_of(after)) == (appliance.more, appliance.data)
        assert receipt(appliance, after)["receipt"]["continues"] == {"file_id": int(before["FileId"]), "reason": "storage_failed"}
        assert "goes on from file" in after["BasicInfo"]["Description"]
    held, lost = check_sum(appliance, kind[hit][0], sent[hit])
    if fault_of_disk == "hang":
        # What was for the disk that hung waited in memory, and the files were cut at a key frame.
        assert lost == 0
    else:
        assert receipt(appliance, kind[hit][0][0])["receipt"]["damaged"]
    # Files of both folders are played and deleted alike.
    for file in kind[hit][0]:
        path = appliance.path_of(file)
        assert appliance.session.get(file["BasicInfo"]["MediaUrl"], timeout=60).content == path.read_bytes()
        appliance.call("DeleteMedia", FileId=file["FileId"])
        until(lambda path=path: not path.exists(), 10, "the bytes to go")
    state = appliance.call("DescribeApplianceState")
    assert [disk["Folder"] for disk in state["Disks"]] == [str(root) for root in appliance.roots]


def test_a_disk_that_is_not_mounted(tmp_path):
    appliance = TwoDisks(tmp_path / "a").start()
    appliance.record("localhost", flv=True)
    streams = {name: Looped(appliance, name, "live", speed=1) for name in ("one", "two")}
    where = {name: until(lambda name=name: appliance.open_recordings(name), 10, "an open recording")[0] for name in streams}
    for stream in streams.values():
        until(lambda stream=stream: stream.frames > 100, 20, "frames")
    wait_received(appliance, *streams.values())
    appliance.kill()
    for stream in streams.values():
        stream.ending.set()
        stream.join(60)
    there, away = ("one", "two") if where["one"] == appliance.data else ("two", "one")

    # The mount point is there, its disk is not.
    disk = tmp_path / "disk"
    appliance.more.rename(disk)
    appliance.more.mkdir()
    appliance.start()
    code, disks = appliance.disks()
    assert (code, disks[str(appliance.more)]) == (200, "missing")
    appliance.said("its disk is not mounted")
    kept = appliance.file(there)
    live = Looped(appliance, "three", "live", speed=4)
    until(lambda: live.frames > 200, 20, "frames")
    sent = live.stop()
    assert_untouched(appliance, appliance.file("three"), sent)
    assert appliance.search(StreamIds=[away]) == []
    assert list(appliance.more.iterdir()) == [], "nothing was written into the mount point"
    assert appliance.session.get(f"{appliance.http}/healthz", timeout=60).json()["recovery"]["waiting_arenas"] > 0
    # Another start in between.
    appliance.stop()
    appliance.start()
    assert list(appliance.more.iterdir()) == []

    # It is mounted while everything runs.
    appliance.more.rmdir()
    disk.rename(appliance.more)
    back = appliance.file(away)
    assert appliance.root_of(back) == appliance.more and appliance.root_of(kept) == appliance.data
    until(lambda: appliance.disks() == (200, {str(root): "ok" for root in appliance.roots}), 10, "all being well")
    assert "recovery" not in appliance.session.get(f"{appliance.http}/healthz", timeout=60).json()
    # It is recorded to again.
    streams = [Looped(appliance, f"after-{number}", "live", speed=2) for number in range(2)]
    until(lambda: {root for stream in range(2) for root in appliance.open_recordings(f"after-{stream}")} == set(appliance.roots), 10, "both being used")
    for stream in streams:
        stream.stop()
    # What had been received and was in memory alone waited for its disk.
    packets = read(appliance, back)
    found = sum(len(packets[kind]) for kind in packets.kinds)
    assert found > 90 and not (appliance.data / "left-behind").exists()
    # Recovered files get their checksums a moment later.
    for file in (kept, back):
        (checksum,) = until(lambda file=file: receipt(appliance, file)["receipt"]["checksums"], 10, "checksums")
        assert (checksum["offset"], checksum["bytes"]) == (0, appliance.path_of(file).stat().st_size)
    verified = subprocess.run([BINARY, "verify", *appliance.roots], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout
    assert appliance.session.get(back["BasicInfo"]["MediaUrl"], timeout=60).content == appliance.path_of(back).read_bytes()
    appliance.stop()


def test_a_disk_that_is_unmounted_while_it_is_recorded_to(tmp_path):
    """Its streams go on elsewhere, nothing is written into its mount point, and what it holds is finished when it is back."""
    appliance = TwoDisks(tmp_path / "a", record={"first_run_rule": False, "in_data_folder": False, "reserve_mib": 16})
    more, disk = appliance.more, tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "--bind", disk, more], check=True)
        appliance.start()
        appliance.record("localhost", flv=True)
        live = Looped(appliance, "cam", "live", speed=2)
        until(lambda: live.frames > 200, 20, "frames")
        assert appliance.open_recordings("cam") == [more]
        subprocess.run(["umount", "-l", more], check=True)
        until(lambda: appliance.disks() == (200, {str(appliance.data): "ok", str(more): "missing"}), 10, "its absence being noticed")
        until(lambda: appliance.open_recordings("cam") == [appliance.data], 10, "the stream being recorded on the other disk")
        frames = live.frames
        until(lambda: live.frames > frames + 100, 20, "frames")
        assert list(more.iterdir()) == []
        subprocess.run(["mount", "--bind", disk, more], check=True)
        until(lambda: appliance.disks()[1][str(more)] == "ok", 10, "its return being noticed")
        first = appliance.file("cam")
        assert appliance.root_of(first) == more
        until(lambda: not list((more / "recording").iterdir()), 20, "nothing being left to do")
        sent = live.stop()
        files = appliance.files("cam", count=2)
        assert appliance.root_of(files[1]) == appliance.data
        check_sum(appliance, files, sent)
        appliance.stop()
    finally:
        if appliance.process and appliance.process.poll() is None:
            appliance.kill()
        subprocess.run(["umount", "-l", more])
        subprocess.run(["umount", "-l", disk], check=True)


def on_each_disk(appliance):
    """Two streams, each recorded on a disk of its own; also the name of that on the further disk, and of the other."""
    appliance.record("localhost", flv=True)
    streams = {name: Looped(appliance, name, "live", speed=1) for name in ("one", "two")}
    until(lambda: {root for name in streams for root in appliance.open_recordings(name)} == set(appliance.roots), 10, "both being used")
    (hit,) = [name for name in streams if appliance.open_recordings(name) == [appliance.more]]
    (spared,) = set(streams) - {hit}
    until(lambda: all(stream.frames > 100 for stream in streams.values()), 20, "frames")
    return streams, hit, spared


@pytest.mark.parametrize("step", ["write", "look"])
def test_a_disk_that_hangs_does_not_hold_up_the_stop(two, step):
    """What is for the others is finished; the next start brings the rest into its files. A disk may also hang without anything being written to it."""
    appliance, fault = two
    streams, hit, spared = on_each_disk(appliance)
    fault(f"{step} hang {appliance.more}")
    frames = streams[hit].frames
    until(lambda: streams[hit].frames > frames + 50, 20, "frames")
    arrived = {name: stream.frames for name, stream in streams.items()}
    wait_received(appliance, *streams.values())
    appliance.stop(seconds=40)
    appliance.said(f"the disk does not answer: what was for it is written at the next start folder={appliance.more}")
    for stream in streams.values():
        stream.join(60)
    finished = [path for root in appliance.roots for path in (root / "media").glob("*/*/recording.json")]
    names = {json.loads(path.read_text())["identity"]["key"]["stream"] for path in finished}
    assert names == ({spared} if step == "write" else {spared, hit})
    fault("")
    appliance.start()
    for name in streams:
        packets = read(appliance, appliance.file(name))
        assert sum(len(packets[kind]) for kind in packets.kinds) >= arrived[name], name


def test_a_disk_that_hangs_at_the_start_is_done_without(two):
    """It still answers when it is only looked at. What a killed run had in memory for it waits until it takes it."""
    appliance, fault = two
    streams, hit, spared = on_each_disk(appliance)
    arrived = {name: stream.frames for name, stream in streams.items()}
    wait_received(appliance, *streams.values())
    appliance.kill()
    for stream in streams.values():
        stream.join(60)
    fault(f"probe hang {appliance.more}\nwrite hang {appliance.more}")
    appliance.start()
    appliance.said(f"the data folder {appliance.more} does not answer")
    assert appliance.disks()[1][str(appliance.more)] == "missing"
    appliance.file(spared)
    fault("")
    for name in streams:
        packets = read(appliance, appliance.file(name))
        assert sum(len(packets[kind]) for kind in packets.kinds) >= arrived[name], name
