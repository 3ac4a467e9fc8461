"""The command line's half that talks to a running appliance."""

import json
import os
import re
import subprocess

from appliance import BINARY, until
from signing import Signed


def capstan(appliance, *arguments, environment=None, code=0):
    """What a command prints; fails unless it ends with `code`. Without --server it finds the appliance by its configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CAPSTAN_")}
    done = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=appliance.folder, env={**clean, "TZ": "UTC", **(environment or {})})
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout if code == 0 else done.stderr


def test_a_stream_is_recorded_and_found_from_a_terminal(start, source, push):
    appliance = start(record={"first_run_rule": False})
    template = appliance.record("localhost", mp4=True)
    assert capstan(appliance, "streams") == "Nobody publishes at the moment.\n"
    pushing = push.ffmpeg(source("live"), appliance.url("camera-1"), loop=True)
    appliance.wait_online("camera-1")

    row = until(lambda: (found := re.search(r"^localhost +live +camera-1 +h264 96x64 +aac 44100 Hz +\d+ kbit/s +0:\d\d +mp4 +0 +127.0.0.1$", capstan(appliance, "streams"), re.M)), 15, "the stream's line")
    assert row
    assert [stream["StreamName"] for stream in json.loads(capstan(appliance, "streams", "--json"))["Streams"]] == ["camera-1"]

    task = capstan(appliance, "tasks", "create", "live/camera-1", "--for", "1h").strip()
    assert re.search(rf"^{task} +localhost/live/camera-1 +running ", capstan(appliance, "tasks"), re.M)
    assert "say how long" in capstan(appliance, "tasks", "create", "live/camera-1", code=1)
    before = appliance.metric("capstan_frames_total", track="video")
    until(lambda: appliance.metric("capstan_frames_total", track="video") > before + 25, 15, "media")
    assert capstan(appliance, "tasks", "stop", task) == "stopped\n"
    assert re.search(rf"^{task} .* stopped ", capstan(appliance, "tasks"), re.M)
    assert capstan(appliance, "tasks", "delete", task) == "deleted\n"
    pushing.kill()
    files = {file["MetaData"]["Container"]: file["FileId"] for file in appliance.files("camera-1", count=2)}

    found = capstan(appliance, "search", "camera-1", "--format", "MP4", "--after", "1h").splitlines()
    assert found[0].startswith("FILEID") and len(found) == 2 and found[1].startswith(files["mp4"])
    assert capstan(appliance, "search", "--before", "1h") == "Nothing fits.\n"
    assert len(capstan(appliance, "recordings").splitlines()) == 3
    url = capstan(appliance, "play-url", files["mp4"]).strip()
    assert url.endswith(".mp4") and appliance.session.head(url, timeout=60).status_code == 200
    assert capstan(appliance, "play-url", "camera-1", "--format", "flv").strip().endswith(".flv")
    assert re.search(rf"^ +{template}  t +mp4$", capstan(appliance, "templates"), re.M)
    assert re.search(rf"^localhost  \*    \* +{template}  ", capstan(appliance, "rules"), re.M)
    assert json.loads(capstan(appliance, "call", "SearchMedia", "Limit=1"))["TotalCount"] == 2
    assert "there is no recording" in capstan(appliance, "play-url", "nobody", code=1)
    assert "no time" in capstan(appliance, "search", "--after", "tomorrow-ish", code=1)
    assert capstan(appliance, "delete", files["flv"]) == f"{files['flv']} deleted\n"
    assert "ResourceNotFound" in capstan(appliance, "delete", files["flv"], code=1)


def test_who_calls_and_whom(tmp_path):
    keys = [{"secret_id": "AKIDterminal", "secret_key": "a secret key for terminals", "role": "reader"}]
    tokens = [{"name": "tests", "token": Signed.TOKEN, "role": "admin"}]
    appliance = Signed(tmp_path / "signed", api={"credentials": keys, "bearer_tokens": tokens}).start()
    try:
        rules = ("rules", "--server", appliance.http)
        # By the configuration in this folder; by keys of the environment; by nothing.
        assert capstan(appliance, "rules") == "There are no rules.\n"
        assert capstan(appliance, *rules, "--secret-id", "AKIDterminal", environment={"CAPSTAN_SECRET_KEY": "a secret key for terminals"}) == "There are no rules.\n"
        assert capstan(appliance, *rules, environment={"CAPSTAN_TOKEN": Signed.TOKEN}) == "There are no rules.\n"
        assert "The request is not signed" in capstan(appliance, *rules, code=1)
        assert "does not match" in capstan(appliance, *rules, "--secret-id", "AKIDterminal", environment={"CAPSTAN_SECRET_KEY": "another key"}, code=1)
        assert "The role reader" in capstan(appliance, "delete", "1", "--secret-id", "AKIDterminal", environment={"CAPSTAN_SECRET_KEY": "a secret key for terminals"}, code=1)
    finally:
        appliance.stop()
    assert "does not answer" in capstan(appliance, "rules", code=1)
