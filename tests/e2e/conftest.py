import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
# A failed assertion in a helper shows its values, as one in a test does.
pytest.register_assert_rewrite("media", "appliance", "check", "rtmp")

import media  # noqa: E402
from appliance import PATIENCE, Appliance, kill_all  # noqa: E402

_numbers = itertools.count()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish():
    kill_all()


@pytest.fixture(scope="session")
def capstan(tmp_path_factory):
    """A server that the tests of one worker share; each test has a domain of its own. Nothing is recorded without a rule."""
    appliance = Appliance(tmp_path_factory.mktemp("capstan")).start()
    yield appliance
    appliance.stop()
    left = [path for path in (appliance.data / "recording").iterdir()] if (appliance.data / "recording").exists() else []
    assert left == [], f"unfinished recordings after a clean stop: {left}"


@pytest.fixture
def start(tmp_path):
    """Starts servers with settings of the test's own; they are stopped, and have to end with 0, at its end."""
    started = []

    def begin(name="capstan", **settings):
        appliance = Appliance(tmp_path / name, **settings)
        started.append(appliance)
        return appliance.start()

    yield begin
    for appliance in started:
        if appliance.process and appliance.process.poll() is None:
            appliance.stop()


@pytest.fixture
def fault(tmp_path, monkeypatch):
    """Makes the disks of servers that are started afterwards fail as a text says; "": no more."""
    script = tmp_path / "faults"
    script.write_text("")
    monkeypatch.setenv("CAPSTAN_TEST_DISK_FAULTS", str(script))

    def fault(text):
        new = script.with_suffix(".new")
        new.write_text(text + "\n")
        new.rename(script)

    return fault


@pytest.fixture
def domain(request):
    """A push domain that no other test uses."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    return f"{name}-{next(_numbers)}.example"


@pytest.fixture
def source():
    """`source("av")`: path of a generated FLV file."""
    return media.source


class Push:
    """Running publishers; what is left at the end of the test is killed."""

    def __init__(self):
        self.running = []

    def start(self, command):
        process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process

    def ffmpeg(self, path, url, *options, realtime=False, loop=False, ffmpeg=media.FFMPEG):
        """Starts ffmpeg: as fast as the server takes it, in real time, or in real time until it is ended. H.264 and audio go out as they are in `path`."""
        pace = ["-re", "-stream_loop", "-1"] if loop else ["-re"] if realtime else []
        return self.start([ffmpeg, "-v", "error", "-nostdin", *pace, "-i", path, "-map", "0", "-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize", *options, url])

    def __call__(self, path, url, *options, **named):
        """Pushes a file to its end."""
        self.finish(self.ffmpeg(path, url, *options, **named))

    @staticmethod
    def finish(process, seconds=90):
        output = process.communicate(timeout=seconds * PATIENCE)[0]
        assert process.returncode == 0, f"{' '.join(process.args)} ended with {process.returncode}: {output.decode(errors='replace')}"


@pytest.fixture
def push():
    pushes = Push()
    yield pushes
    for process in pushes.running:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()
