"""Whoever would take something from those who publish already is refused, with a reason."""

import os

import appliance as appliance_module

from appliance import BINARY, Appliance, until
from rtmp import Connection, Refused, publisher
from test_storage import Looped, check_sum




def test_bandwidth(start):
    appliance = start(ingest={"bandwidth_max_mib": 1})
    # Twenty pictures a second in real time, 64 KiB each.
    live = Looped(appliance, "fat", "live", padding=64 << 10)
    until(lambda: appliance.metric("capstan_media_bytes_total") > 1 << 20, 20, "bytes")
    text = until(lambda: denied(appliance, "second"), 10, "the rate being noticed")
    assert "no more bandwidth" in text
    frames = live.frames
    until(lambda: live.frames > frames + 200, 10, "the first to go on")
    live.stop()
    assert appliance.metric("capstan_connection_errors_total", reason="too_many") >= 1
    # The room is there again.
    until(lambda: not denied(appliance, "third"), 10, "the rate to go down")


def denied(appliance, name):
    """What a publisher is told; "" if it is taken."""
    try:
        publisher(appliance.rtmp_port, name).close()
    except Refused as said:
        return str(said)
    return ""


def test_memory(tmp_path, fault):
    """A disk that hangs until the memory between network and disk is used up: nobody new is taken in, and those who are lose nothing that fits."""
    fault("write hang")
    appliance = Appliance(tmp_path, ingest={"arena_mib": 8, "cores": [min(os.sched_getaffinity(0))]}).start()
    try:
        appliance.record("localhost", flv=True)
        live = [Looped(appliance, f"cam-{number}", "live", speed=20) for number in range(4)]
        text = until(lambda: denied(appliance, "more"), 30, "the memory being used up")
        assert "no memory left" in text
        frames = [one.frames for one in live]
        fault("")
        until(lambda: all(one.frames > before + 20 for one, before in zip(live, frames)), 20, "the others to go on")
        until(lambda: not denied(appliance, "more"), 20, "the memory being there again")
        sent = {f"cam-{number}": one.stop() for number, one in enumerate(live)}
        for name, count in sent.items():
            until(lambda name=name: appliance.search(StreamIds=[name]), 20, "a file")
            check_sum(appliance, appliance.search(StreamIds=[name]), count)
        appliance.stop()
    finally:
        fault("")
        if appliance.process.poll() is None:
            appliance.kill()


def test_file_descriptors(tmp_path, monkeypatch):
    """The limit of open files turns new publishers away before it takes files from the others."""
    limited = tmp_path / "capstan-with-few-files"
    limited.write_text(f'#!/bin/sh\nulimit -n 270\nexec "{BINARY}" "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setattr(appliance_module, "BINARY", limited)
    appliance = Appliance(tmp_path, ingest={"arena_mib": 32}).start()
    try:
        appliance.record("localhost", flv=True, mp4=True, aac=True)
        running = []
        for number in range(60):
            try:
                Connection(appliance.rtmp_port).socket.close()
                running.append(Looped(appliance, f"cam-{number}", "live", speed=1))
            except Refused as said:
                text = str(said)
                break
            until(lambda: appliance.metric("capstan_open_files") >= 3 * len(running), 10, "its files")
        assert "no file descriptors left" in text
        assert 5 < len(running) < 40
        frames = [live.frames for live in running]
        until(lambda: all(live.frames > before + 20 for live, before in zip(running, frames)), 20, "the others to go on")
        for live in running:
            live.stop()
        files = appliance.files("cam-0", count=3)
        assert all(file["BasicInfo"]["Description"] == "" for file in files)
        appliance.stop()
    finally:
        if appliance.process.poll() is None:
            appliance.kill()
