"""The release binary as a fixture: its settings, its process, its API."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

import requests

from media import REPOSITORY

BINARY = Path(os.environ.get("CAPSTAN_BINARY", REPOSITORY / "target" / "release" / "capstan"))
LIVE, VOD = "2018-08-01", "2018-07-17"
VOD_ACTIONS = {
    *("SearchMedia", "DescribeMediaInfos", "ModifyMediaInfo", "DeleteMedia"),
    *("CreateSubAppId", "DescribeSubAppIds", "ModifySubAppIdInfo", "ModifySubAppIdStatus"),
    *("CreateClass", "DescribeAllClass", "ModifyClass", "DeleteClass"),
    *("ProcessMedia", "ProcessMediaByProcedure", "DescribeTasks", "DescribeTaskDetail", "ManageTask", "DescribeDrmDataKey"),
    *("DescribeDefaultDistributionConfig", "ModifyDefaultDistributionConfig"),
    *("CreateProcedureTemplate", "CreateTranscodeTemplate", "CreateAdaptiveDynamicStreamingTemplate", "CreateImageSpriteTemplate"),
    *("PullEvents", "ConfirmEvents", "ModifyEventConfig", "DescribeEventConfig"),
    *("EditMedia", "SimpleHlsClip", "LiveRealTimeClip", "DescribeTasks", "DescribeTaskDetail"),
}
FORMATS = ("Flv", "Hls", "Mp4", "Aac", "Mp3")


# Limits in the tests are what a machine with nothing else to do needs at most; one that is slow or busy may take so many times as long.
PATIENCE = 4


def until(question, seconds=30, what="it", pause=0.05):
    """The first answer that is true; asks again and again, fails after `seconds` of a calm machine."""
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s; the last answer was {answer!r}")
        time.sleep(pause)


# Servers that this test process has started.
_started = []
_reserved = []
# A byte of it is locked for each port that a test process was given, until that ends.
_ports = open(Path(tempfile.gettempdir()) / f"capstan-test-ports-{os.getuid()}", "ab")


def free_port():
    """A port that nobody listens on, and that no other test process is given."""
    while True:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.close()
        # Outside the range the kernel gives to outgoing connections, where ours would be taken at random; spread by process.
        port = 10_000 + (port * 7 + os.getpid() * 131 + len(_reserved) * 17) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port in _reserved:
            continue
        try:
            fcntl.lockf(_ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            continue
        _reserved.append(port)
        return port


def kill_all():
    """Ends what tests and fixtures that failed have left running."""
    for process in _started:
        if process.poll() is None:
            process.kill()


class ApiError(Exception):
    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def toml(settings):
    def show(value):
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + " }"
        if isinstance(value, (list, tuple)):
            return "[" + ", ".join(show(item) for item in value) + "]"
        return json.dumps(value)

    top = [f"{key} = {show(value)}" for key, value in settings.items() if not isinstance(value, dict)]
    for section, values in settings.items():
        if isinstance(values, dict):
            top += [f"[{section}]"] + [f"{key} = {show(value)}" for key, value in values.items()]
    return "\n".join(top) + "\n"


class Appliance:
    """One data folder and the server on it; it may be stopped and started again."""

    def __init__(self, folder, **settings):
        self.folder = Path(folder)
        self.data = self.folder / "data"
        self.rtmp_port, self.http_port = free_port(), free_port()
        self.settings = {
            "data_folder": str(self.data),
            "ingest": {"rtmp_listen": f"127.0.0.1:{self.rtmp_port}", "arena_mib": 64, "tick_ms": 20},
            "http": {"listen": f"127.0.0.1:{self.http_port}"},
            "record": {"first_run_rule": False},
            "log": {"level": "info"},
        }
        for section, values in settings.items():
            if isinstance(values, dict):
                self.settings.setdefault(section, {}).update(values)
            else:
                self.settings[section] = values
        self.config = self.folder / "capstan.toml"
        self.log_path = self.folder / "capstan.log"
        self.process = None
        self.session = requests.Session()

    @property
    def roots(self):
        """All data folders."""
        return [self.data, *map(Path, self.settings.get("more_data_folders", []))]

    @property
    def http(self):
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def media(self):
        """Where recordings are served: a port of the appliance's choice, which it says at the start."""
        # Said right after it answers for the first time.
        return until(lambda: re.findall(r"^  media +(\S+)$", self.log, re.M), 5, "the media address")[-1]

    @property
    def media_port(self):
        return int(self.media.rsplit(":", 1)[1])

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def said(self, *words, count=1):
        """The log's lines with all these words, once there are so many. They are written a moment after what they tell of."""
        lines = lambda: [line for line in self.log.splitlines() if all(word in line for word in words)]  # noqa: E731
        return until(lambda: len(found := lines()) >= count and found, 10, f"{count} lines with {words}")

    def start(self, ready=(200,)):
        """Until it answers with one of these."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(toml(self.settings))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([BINARY, "serve", "--config", self.config], stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)
        _started.append(self.process)
        until(lambda: self._ready(ready), 20, "the server's start")
        return self

    def _ready(self, codes):
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}:\n{self.log}"
        try:
            return self.session.get(f"{self.http}/healthz", timeout=5 * PATIENCE).status_code in codes
        except requests.ConnectionError:
            return False

    def stop(self, how=signal.SIGTERM, seconds=20):
        """Ends it as systemd does; it has to say 0."""
        self.process.send_signal(how)
        code = self.process.wait(seconds * PATIENCE)
        assert code == 0, f"the server ended with {code}:\n{self.log}"
        self.check_log()

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def check_log(self):
        assert "panicked" not in self.log, self.log

    # API

    def post(self, action, version=None, headers=None, **parameters):
        version = version or (VOD if action in VOD_ACTIONS else LIVE)
        headers = {"Content-Type": "application/json", "X-TC-Action": action, "X-TC-Version": version, **(headers or {})}
        return self.session.post(f"{self.http}/", data=json.dumps(parameters).encode(), headers=headers, timeout=15 * PATIENCE)

    def call(self, action, **parameters):
        """The answer's fields without RequestId; [`ApiError`] for an error."""
        return self.answer(self.post(action, **parameters))

    def get_call(self, action, version=None, **flat):
        """The same by a GET with flattened parameters."""
        version = version or (VOD if action in VOD_ACTIONS else LIVE)
        query = urllib.parse.urlencode({"Action": action, "Version": version, **flat})
        return self.answer(self.session.get(f"{self.http}/?{query}", timeout=15 * PATIENCE))

    @staticmethod
    def answer(response):
        assert response.status_code == 200, f"HTTP {response.status_code}: {response.text}"
        assert response.headers["Content-Type"] == "application/json"
        answer = response.json()["Response"]
        assert len(answer.pop("RequestId")) == 36
        if "Error" in answer:
            raise ApiError(answer["Error"]["Code"], answer["Error"]["Message"])
        return answer

    def error(self, action, **parameters):
        """The code with which a call is refused."""
        try:
            answer = self.call(action, **parameters)
        except ApiError as error:
            return error.code
        return f"no error but {answer}"

    def template(self, name="t", **formats):
        """A template's id; `flv=True` or `flv={"RecordInterval": 60}` enables a format."""
        parameters = {}
        for name_of_format in FORMATS:
            wanted = formats.pop(name_of_format.lower(), None)
            if wanted:
                parameters[f"{name_of_format}Param"] = {"Enable": 1, **(wanted if isinstance(wanted, dict) else {})}
        return self.call("CreateLiveRecordTemplate", TemplateName=name, **parameters, **formats)["TemplateId"]

    def rule(self, template, domain, app="", stream=""):
        named = {key: value for key, value in (("AppName", app), ("StreamName", stream)) if value}
        self.call("CreateLiveRecordRule", DomainName=domain, TemplateId=template, **named)

    def record(self, domain, **formats):
        """Records everything of a domain as these formats."""
        template = self.template(**formats)
        self.rule(template, domain)
        return template

    def url(self, name, domain=None, app="live", query=""):
        parameters = "&".join(part for part in (f"vhost={domain}" if domain else "", query) if part)
        return f"rtmp://127.0.0.1:{self.rtmp_port}/{app}/{name}" + (f"?{parameters}" if parameters else "")

    # Files

    def search(self, **filters):
        filters.setdefault("Limit", 100)
        return self.call("SearchMedia", **filters)["MediaInfoSet"]

    def files(self, stream, domain=None, count=1, seconds=30, **filters):
        """Finished files of a stream, oldest first; waits for `count` of them, fails on more."""
        if domain:
            filters["StreamDomains"] = [domain]
        filters.setdefault("Sort", {"Field": "CreateTime", "Order": "Asc"})

        def found():
            files = self.search(StreamIds=[stream], **filters)
            return files if len(files) >= count else None

        files = until(found, seconds, f"{count} files of {stream}")
        assert len(files) == count, f"{len(files)} files of {stream}, expected {count}: {[file['BasicInfo']['MediaUrl'] for file in files]}"
        return sorted(files, key=lambda file: int(file["FileId"]))

    def file(self, stream, domain=None, **named):
        return self.files(stream, domain, 1, **named)[0]

    def by_format(self, stream, domain, *formats, seconds=30):
        """One finished file of each format: {format: file}."""
        files = self.files(stream, domain, len(formats), seconds)
        found = {file["MetaData"]["Container"]: file for file in files}
        assert sorted(found) == sorted(formats)
        return found

    def folder_of(self, file):
        """Where the finished file lies."""
        folders = [folder for root in self.roots for folder in (root / "media").glob(f"*/{file['FileId']}")]
        assert len(folders) == 1, f"{file['FileId']} lies in {folders}"
        return folders[0]

    def path_of(self, file):
        """The finished file; the playlist of HLS."""
        extension = {"hls": "m3u8"}.get(file["BasicInfo"]["Type"], file["BasicInfo"]["Type"])
        found = list(self.folder_of(file).glob(f"*.{extension}"))
        assert len(found) == 1, found
        return found[0]

    def open_identities(self):
        """(data folder, identity) of each open recording; one that is just being begun or finished may be missing."""
        for root in self.roots:
            for place in (root / "recording").glob("*/identity.json"):
                try:
                    yield root, json.loads(place.read_text())["identity"]
                except (FileNotFoundError, ValueError):
                    continue

    def online(self, stream, domain=None):
        filters = {"StreamName": stream, **({"DomainName": domain} if domain else {})}
        return self.call("DescribeLiveStreamOnlineList", PageSize=100, **filters)["OnlineInfo"]

    def wait_online(self, stream, domain=None):
        return until(lambda: self.online(stream, domain), 15, f"{stream} being live")

    def wait_recording(self, stream, domain=None):
        """Until the only running publication is live and frames of it have come."""
        self.wait_online(stream, domain)
        before = self.metric("capstan_frames_total", track="video")
        until(lambda: self.metric("capstan_frames_total", track="video") > before + 10, 15, f"frames of {stream}")

    def wait_offline(self, stream, domain=None, seconds=15):
        return until(lambda: not self.online(stream, domain), seconds, f"{stream} not being live")

    def metrics(self):
        """Samples by name and labels as written."""
        samples = {}
        for line in self.session.get(f"{self.http}/metrics", timeout=10 * PATIENCE).text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric(self, name, **labels):
        """Sum over all samples of that name with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name and all(label in key for label in wanted))
