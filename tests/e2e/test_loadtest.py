"""The load generator against the server: every frame of every stream is recorded."""

import json
import os
import signal
import subprocess
from pathlib import Path

import media
from appliance import BINARY, until

LOADTEST = Path(os.environ.get("CAPSTAN_LOADTEST", BINARY.parent / "examples" / "loadtest"))


def loadtest(appliance, *options, timeout=360):
    command = [LOADTEST, "--target", f"rtmp://127.0.0.1:{appliance.rtmp_port}/live", "--pid", str(appliance.process.pid), "--verify", appliance.http, *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_twenty_streams_in_real_time(start):
    appliance = start()
    appliance.record("localhost", flv=True, mp4=True, hls=True)
    report = loadtest(appliance, "--streams", 20, "--bitrate-kbit", 1000, "--seconds", 3, "--formats", "flv,mp4,hls")
    assert report["files"] == {"flv": 20, "mp4": 20, "hls": 20}
    assert report["different_frames"] == report["wrong_times"] == 0
    assert report["errors"] == 0 and report["streams"] == 20 and report["verified_streams"] == 20
    assert report["wrong_streams"] == report["missing_frames"] == report["surplus_frames"] == 0
    assert report["frames"] == report["verified_frames"] > 20 * 200
    assert report["media_bytes"] >= 20 * 3 * 1_000_000 / 8 * 0.9
    assert report["bytes"] > report["media_bytes"] and report["server_cpu_s"] >= 0 and report["cpu_s_per_gb"] >= 0
    assert appliance.metric("capstan_dropped_frames_total") == 0
    # The other way to count.
    folder = subprocess.run([LOADTEST, "--help"], capture_output=True, text=True, timeout=60)
    assert "--verify" in folder.stdout


def test_flat_out(start):
    """As fast as the server takes it: TCP slows the publishers, nothing is lost."""
    appliance = start()
    appliance.record("localhost", flv=True)
    report = loadtest(appliance, "--streams", 3, "--bitrate-kbit", 4000, "--seconds", 1, "--rate", 0)
    assert report["errors"] == 0 and report["wrong_streams"] == 0 and report["verified_streams"] == 3
    assert appliance.metric("capstan_dropped_frames_total") == 0


def test_publishers_come_and_go(start):
    """Weak, fat and idle ones side by side, every one of them recorded in full, whether it says goodbye or not."""
    appliance = start()
    appliance.record("localhost", flv=True)
    report = loadtest(appliance, "--mix", "6x300", "--mix", "1x6000", "--idle", 3, "--churn", 8, "--abrupt", "--seconds", 4, "--core", "0,1")
    assert report["errors"] == 0 and report["wrong_streams"] == 0
    assert report["publications"] == report["verified_streams"] > report["streams"] + 10


def test_what_is_missing_is_found(start):
    appliance = start()
    appliance.record("localhost", flv=True)
    command = [LOADTEST, "--target", f"rtmp://127.0.0.1:{appliance.rtmp_port}/live", "--verify", appliance.http]
    options = ["--streams", "2", "--seconds", "1", "--formats", "flv,mp4", "--verify-seconds", "1"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["wrong_streams"] == 2 and report["missing_frames"] == report["frames"], done.stderr


def test_an_end_before_its_time(start):
    """Ctrl-C: what was sent until then is verified and told. And a server that dies costs no report."""
    appliance = start()
    appliance.record("localhost", flv=True)
    command = [LOADTEST, "--target", f"rtmp://127.0.0.1:{appliance.rtmp_port}/live", "--pid", str(appliance.process.pid)]
    command += ["--streams", "2", "--spread-ms", "0", "--seconds", "60"]

    def begin(prefix, *options):
        before = appliance.metric("capstan_frames_total", track="video")
        process = subprocess.Popen([*command, "--prefix", prefix, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        until(lambda: appliance.metric("capstan_frames_total", track="video") > before + 20, what="pictures of both")
        return process

    process = begin("stopped", "--verify", appliance.http, "--formats", "flv")
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=120)
    report = json.loads(out)
    assert process.returncode == 130 and report["interrupted"] and report["errors"] == 0, said
    assert report["verified_streams"] == 2 and report["wrong_streams"] == 0 and report["frames"] == report["verified_frames"] > 10, said
    process = begin("died")
    appliance.kill()
    out, said = process.communicate(timeout=120)
    report = json.loads(out)
    assert process.returncode == 1 and report["errors"] == 2 and report["server"]["is_gone"] and report["frames"] > 10, said
    # Nobody is there.
    done = subprocess.run([*command[:3], "--verify", appliance.http, "--seconds", "1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and f"nobody listens at 127.0.0.1:{appliance.rtmp_port}" in done.stderr, done.stderr
    for wrong in (["--formats", "ogg"], ["--seconds", "nan"], ["--pid", "4194305"], ["--verify", "/nowhere"], ["--core", "1023"]):
        done = subprocess.run([*command[:3], *wrong], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_publishes_a_file_in_a_loop(start):
    appliance = start()
    appliance.record("localhost", flv=True, mp4=True)
    report = loadtest(appliance, "--file", media.source("bframes"), "--streams", 2, "--seconds", 3, "--rate", 5, "--prefix", "loop")
    assert report["errors"] == 0 and report["wrong_streams"] == 0
    for index in range(2):
        file = appliance.by_format(f"loop{index}", "localhost", "flv", "mp4")["mp4"]
        found, whole = media.packets(appliance.path_of(file)), media.packets(media.source("bframes"))
        count = len(whole["video"])
        assert len(found["video"]) > 2 * count
        for kind in whole.kinds:
            cycle = [packet.md5 for packet in whole[kind]]
            assert [packet.md5 for packet in found[kind]] == (cycle * 4)[: len(found[kind])]
        assert all(a.dts < b.dts for a, b in zip(found["video"], found["video"][1:]))
