"""Start, stop, restart, settings."""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import media
from appliance import BINARY, PATIENCE, Appliance, free_port, toml, until
from check import check, check_fast_start, read
from rtmp import Live


def serve(config, seconds=60):
    """Runs `capstan serve` with a settings text that is expected to be refused: (code, output)."""
    done = subprocess.run([BINARY, "serve", "--config", config], capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stdout + done.stderr


def test_first_run(start, source, push):
    """Nothing configured but addresses: every stream becomes MP4 and HLS, and the banner says so."""
    appliance = start(record={"first_run_rule": True})
    push(source("av"), appliance.url("cam"))
    for file in appliance.by_format("cam", "localhost", "mp4", "hls").values():
        check(appliance, file, media.packets(source("av")))
    push(source("av"), appliance.url("other", "some.example", app="app"))
    appliance.by_format("other", "some.example", "mp4", "hls")
    for words in (f"rtmp://127.0.0.1:{appliance.rtmp_port}", appliance.http, str(appliance.data)):
        appliance.said(words)


def test_command_line(tmp_path):
    shown = subprocess.run([BINARY, "--help"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0 and "serve" in shown.stdout and "check-config" in shown.stdout
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=60)
    assert version.returncode == 0 and version.stdout.startswith("capstan ")
    wrong = subprocess.run([BINARY, "record"], capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2


def test_check_config(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('data_folder = "./x"\n[ingest]\ntick_ms = 20\n')
    bad.write_text("[ingest]\n\ntick_seconds = 20\n")
    done = subprocess.run([BINARY, "check-config", good], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([BINARY, "check-config", bad], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "tick_seconds" in done.stderr and "3" in done.stderr
    assert not (tmp_path / "x").exists(), "checking makes nothing"
    # What a start would refuse.
    good.write_text('[ingest]\nrtmps_listen = "127.0.0.1:1936"\ntls_certificates = [{ certificate = "none.pem", key = "none.pem" }]\n')
    done = subprocess.run([BINARY, "check-config", good], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "tls_certificates" in done.stderr and "none.pem" in done.stderr
    absent = subprocess.run([BINARY, "check-config", tmp_path / "absent.toml"], capture_output=True, text=True, timeout=60)
    assert absent.returncode != 0 and "absent.toml" in absent.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ingest]\ntick_ms = 1\n", ["tick_ms", "5"]),
        ('[ingest]\ntick_ms = "fast"\n', ["tick_ms"]),
        ('[record]\nhls_container = "mkv"\n', ["hls_container", "fmp4", "ts"]),
        ('[record]\ntime_zone = "Mars/Olympus"\n', ["time_zone"]),
        ("[recording]\nx = 1\n", ["recording"]),
        ("surprise = 1\n", ["surprise", "1"]),
        ('[ingest]\nrtmp_listen = "here"\n', ["rtmp_listen"]),
        ('[http]\nlisten = "0.0.0.0:18080"\n', ["credentials"]),
        ('[ingest]\nrtmp_listen = "0.0.0.0:11935"\n', ["credentials"]),
        ("[ingest\n", ["line 2"]),
    ],
)
def test_settings_are_refused_with_a_sentence(tmp_path, text, words):
    config = tmp_path / "capstan.toml"
    config.write_text(f'data_folder = "{tmp_path}/data"\n' + text if not text.startswith("surprise") else text)
    code, output = serve(config)
    assert code != 0
    for word in words:
        assert word in output, output
    assert "panicked" not in output and "RUST_BACKTRACE" not in output


@pytest.mark.parametrize("which", ["rtmp", "http"])
def test_port_in_use(tmp_path, which):
    """One sentence that names the address; the other port is not left open."""
    ports = {"rtmp": free_port(), "http": free_port()}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[which]))
        taken.listen()
        config = tmp_path / "capstan.toml"
        config.write_text(
            f'data_folder = "{tmp_path}/data"\n[ingest]\nrtmp_listen = "127.0.0.1:{ports["rtmp"]}"\narena_mib = 64\n[http]\nlisten = "127.0.0.1:{ports["http"]}"\n'
        )
        code, output = serve(config)
    assert code != 0
    assert str(ports[which]) in output and {"rtmp": "ingest.rtmp_listen", "http": "http.listen"}[which] in output, output
    assert "panicked" not in output


# As containers do: io_uring_setup is answered with EPERM.
WITHOUT_RINGS = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
step = lambda code, if_true, if_false, value: struct.pack("HBBI", code, if_true, if_false, value)
code = ctypes.create_string_buffer(step(0x20, 0, 0, 0) + step(0x15, 0, 1, 425) + step(0x06, 0, 0, 0x50001) + step(0x06, 0, 0, 0x7FFF0000))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(Program(4, ctypes.addressof(code))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_io_uring_is_forbidden(tmp_path):
    """A container's usual rules: the start says so, instead of standing there without a core."""
    config = tmp_path / "capstan.toml"
    config.write_text(toml(Appliance(tmp_path).settings))
    done = subprocess.run([sys.executable, "-c", WITHOUT_RINGS, BINARY, "serve", "--config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "may not use io_uring" in done.stderr and "seccomp" in done.stderr, done.stderr


def test_two_servers_on_one_address(start):
    """SO_REUSEPORT must not let a second server steal publishers silently."""
    appliance = start()
    second = appliance.folder / "second.toml"
    second.write_text(
        f'data_folder = "{appliance.folder}/second"\n[ingest]\nrtmp_listen = "127.0.0.1:{appliance.rtmp_port}"\narena_mib = 64\n[http]\nlisten = "127.0.0.1:{free_port()}"\n'
    )
    code, output = serve(second)
    assert code != 0 and str(appliance.rtmp_port) in output, output


def test_two_servers_on_one_data_folder(start):
    appliance = start()
    second = appliance.folder / "second.toml"
    second.write_text(f'data_folder = "{appliance.data}"\n[ingest]\nrtmp_listen = "127.0.0.1:{free_port()}"\narena_mib = 64\n[http]\nlisten = "127.0.0.1:{free_port()}"\n')
    code, output = serve(second)
    assert code != 0 and str(appliance.data) in output, output


def test_data_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    config = tmp_path / "capstan.toml"
    config.write_text(f'data_folder = "{tmp_path}/file/data"\n[ingest]\nrtmp_listen = "127.0.0.1:{free_port()}"\narena_mib = 64\n[http]\nlisten = "127.0.0.1:{free_port()}"\n')
    code, output = serve(config)
    assert code != 0 and f"{tmp_path}/file" in output and "panicked" not in output, output


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_stop_while_publishing_leaves_finished_files(start, source, push, how):
    appliance = start()
    appliance.record("a.example", flv=True, mp4=True, hls=True, aac=True)
    live = Live(source("live"), appliance.rtmp_port, "cam?vhost=a.example")
    second = push.ffmpeg(source("live"), appliance.url("other", "a.example"), realtime=True)
    appliance.wait_online("cam")
    appliance.wait_online("other")
    until(lambda: len(live.sent["video"]) > 50)
    counted = len(live.sent["video"])
    begin = time.monotonic()
    appliance.stop(how)
    assert time.monotonic() - begin < 10 * PATIENCE
    second.wait(60)
    live._stop_asked.set()
    live.join(60)
    assert list((appliance.data / "recording").iterdir()) == []
    appliance.start()
    whole = media.packets(source("live"))
    for stream in ("cam", "other"):
        for container, file in appliance.by_format(stream, "a.example", "aac", "flv", "hls", "mp4").items():
            found = read(appliance, file)
            check(appliance, file, media.Packets({kind: whole[kind][: len(found[kind])] for kind in whole.kinds if kind in found.kinds}))
            if container == "mp4":
                check_fast_start(appliance.path_of(file))
            if container == "flv" and stream == "cam":
                assert len(found["video"]) >= counted - 2


def test_a_log_that_cannot_be_written(tmp_path, source, push):
    """Its disk is full: lines are missing, nothing else."""
    appliance = Appliance(tmp_path / "capstan", log={"level": "debug"})
    appliance.folder.mkdir()
    appliance.log_path.touch()
    appliance.config.write_text(toml(appliance.settings))
    with open("/dev/full", "wb") as full:
        appliance.process = subprocess.Popen([BINARY, "serve", "--config", appliance.config], stdout=full, stderr=full, stdin=subprocess.DEVNULL)
    until(lambda: appliance._ready((200,)), 20, "the server's start")
    try:
        appliance.record("a.example", mp4=True, flv=True)
        push.ffmpeg(source("av"), appliance.url("cam", "a.example")).wait(60)
        assert sorted(appliance.by_format("cam", "a.example", "flv", "mp4")) == ["flv", "mp4"]
        appliance.process.send_signal(signal.SIGTERM)
        assert appliance.process.wait(60) == 0
    finally:
        appliance.process.kill()


def test_a_log_that_nobody_reads(tmp_path, source, push):
    """Standard error is a pipe whose reader sleeps: streams come in, calls are answered, and what is missing is told when it wakes up."""
    appliance = Appliance(tmp_path)
    appliance.config.write_text(toml(appliance.settings))
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    appliance.log_path.write_text("")
    appliance.process = subprocess.Popen([BINARY, "serve", "--config", appliance.config], stdout=subprocess.DEVNULL, stderr=writer, cwd=tmp_path)
    os.close(writer)
    until(lambda: appliance._ready((200,)), 20, "the server's start")
    appliance.record("localhost", flv=True)
    for _ in range(100):
        appliance.call("DescribeLiveRecordRules")
    push(source("av"), appliance.url("cam"))
    check(appliance, appliance.file("cam"), media.packets(source("av")))
    appliance.process.send_signal(signal.SIGTERM)
    # It waits a moment for the log, and no longer.
    assert appliance.process.wait(60) == 0
    os.close(reader)


def test_everything_survives_a_restart(start, source, push):
    appliance = start()
    template = appliance.template("kept", mp4={"RecordInterval": 600, "StorageTime": 3600}, aac=True)
    unused = appliance.template("unused", flv=True)
    appliance.call("ModifyLiveRecordTemplate", TemplateId=template, Description="新闻\nmorning")
    appliance.rule(template, "a.example", "live", "cam")
    end = int(time.time()) + 3000
    waiting = appliance.call("CreateRecordTask", StreamName="later", DomainName="a.example", AppName="live", EndTime=end, TemplateId=unused)["TaskId"]
    stopped = appliance.call("CreateRecordTask", StreamName="never", DomainName="a.example", AppName="live", EndTime=end)["TaskId"]
    appliance.call("StopRecordTask", TaskId=stopped)
    push(source("av"), appliance.url("cam", "a.example"))
    appliance.by_format("cam", "a.example", "aac", "mp4")

    def all_of_it():
        window = {"StartTime": end - 4000, "EndTime": end + 10}
        return (
            appliance.call("DescribeLiveRecordTemplates"),
            appliance.call("DescribeLiveRecordRules"),
            appliance.call("DescribeRecordTask", **window),
            appliance.search(StreamIds=["cam"]),
        )

    before = all_of_it()
    assert [task["TaskId"] for task in before[2]["TaskList"]] == sorted([waiting, stopped], key=lambda task: (task != before[2]["TaskList"][0]["TaskId"]))
    appliance.stop()
    appliance.start()
    assert all_of_it() == before
    # And it is in force, not only listed.
    for stream in ("cam", "later", "never"):
        push(source("av"), appliance.url(stream, "a.example"))
    appliance.files("cam", "a.example", 4)
    assert appliance.file("later", "a.example")["BasicInfo"]["Type"] == "flv"
    assert appliance.search(StreamIds=["never"]) == []
    new = appliance.template("new", flv=True)
    assert new > unused
    ids = [int(file["FileId"]) for file in appliance.search(Sort={"Field": "CreateTime", "Order": "Asc"})]
    assert len(set(ids)) == len(ids) and min(ids[2:]) > max(ids[:2])


def test_killed_server_finishes_its_files_at_the_next_start(start, source):
    """kill -9: what was open is finished and entered when the server comes back."""
    appliance = start(record={"durability_ms": 100})
    appliance.record("a.example", flv=True, mp4=True, hls=True)
    live = Live(source("live"), appliance.rtmp_port, "cam?vhost=a.example")
    appliance.wait_online("cam")
    until(lambda: len(live.sent["video"]) > 80)
    appliance.kill()
    live._stop_asked.set()
    live.join(60)
    appliance.start()
    whole = media.packets(source("live"))
    for file in appliance.by_format("cam", "a.example", "flv", "hls", "mp4").values():
        found = read(appliance, file)
        begins = media.assert_part_of(whole, found)
        assert set(begins.values()) == {0}
        assert len(found["video"]) > 20
        check(appliance, file, media.Packets({kind: whole[kind][: len(found[kind])] for kind in whole.kinds}))


def test_metrics_and_health(start, source, push):
    appliance = start()
    appliance.record("a.example", mp4=True, flv=True)
    push(source("av"), appliance.url("cam", "a.example"))
    appliance.files("cam", "a.example", 2)
    text = appliance.session.get(f"{appliance.http}/metrics", timeout=60)
    assert text.headers["Content-Type"].startswith("text/plain")
    whole = media.packets(source("av"))
    assert appliance.metric("capstan_frames_total", track="video") == len(whole["video"])
    assert appliance.metric("capstan_frames_total", track="audio") == len(whole["audio"])
    assert appliance.metric("capstan_publications_total") == 1
    # Its parts hear of the end one after the other.
    for name, count in (("publication_ends_total", 1), ("files_finished_total", 2), ("open_files", 0), ("publishers", 0)):
        until(lambda name=name, count=count: appliance.metric(f"capstan_{name}") == count, 10, name)
    assert appliance.metric("capstan_publication_ends_total", reason="closed") == 1
    assert appliance.metric("capstan_dropped_frames_total") == 0
    assert appliance.metric("capstan_files_failed_total") == 0
    assert appliance.metric("capstan_recv_to_stored_seconds_count") > 0
    assert appliance.session.get(f"{appliance.http}/nothing", timeout=60).status_code == 404
    until(lambda: appliance.metric("capstan_http_requests_total", code="404") == 1, 10, "the count")
    assert appliance.metric("capstan_http_requests_total", code="200") > 10
    assert appliance.session.get(f"{appliance.http}/healthz", timeout=60).json()
    # One line for the begin and one for the end of a publication.
    lines = appliance.said("a.example/live/cam", "publishing ", count=2)
    assert len(lines) == 2, lines


def test_a_core_that_stands_still(start):
    """`/healthz` says so as long as it does. A debugger holds its thread, as a defect would."""
    appliance = start()
    tasks = sorted(Path(f"/proc/{appliance.process.pid}/task").iterdir(), key=lambda task: int(task.name))
    # A core's thread is older than its helper of the same name.
    core = next(task for task in tasks if (task / "comm").read_text().startswith("ingest-0"))
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    seize, interrupt, detach = 0x4206, 0x4207, 17
    assert ptrace(seize, int(core.name), None, None) == 0 and ptrace(interrupt, int(core.name), None, None) == 0, ctypes.get_errno()
    health = lambda: appliance.session.get(f"{appliance.http}/healthz", timeout=60)  # noqa: E731
    until(lambda: health().status_code == 503, 20, "the standstill being told")
    assert health().json()["ingest"].startswith("ingest core 0 stands still")
    assert ptrace(detach, int(core.name), None, None) == 0, ctypes.get_errno()
    until(lambda: health().status_code == 200, 20, "its end")


def test_log_as_json(start, source, push):
    import json

    appliance = start(log={"format": "json"})
    push(source("av"), appliance.url("cam"))
    appliance.wait_offline("cam")
    appliance.said("publishing ended")
    # The last one may be under way.
    lines = [line for line in appliance.log.splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
    assert lines and all(json.loads(line) for line in lines)
