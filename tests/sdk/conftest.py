import itertools
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# The appliance as a fixture is that of the end-to-end tests.
for folder in (HERE, HERE.parent / "e2e"):
    sys.path.insert(0, str(folder))

import media  # noqa: E402
from appliance import Appliance, until  # noqa: E402
from table import Scene  # noqa: E402
from transports import transport  # noqa: E402

SECRET_ID, SECRET_KEY = "AKIDsdktests", "a key of the tests that nobody else has"
_numbers = itertools.count()


class Signed(Appliance):
    """An appliance with credentials: calls without a signature are refused."""

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.http_port}"

    def client(self, name):
        return transport(name, self.endpoint, SECRET_ID, SECRET_KEY)


@pytest.fixture(scope="session")
def signed(tmp_path_factory):
    credentials = [{"secret_id": SECRET_ID, "secret_key": SECRET_KEY, "role": "admin"}]
    appliance = Signed(tmp_path_factory.mktemp("capstan"), api={"credentials": credentials}).start()
    yield appliance
    appliance.stop()


@pytest.fixture(scope="session")
def recorded(signed):
    """A recording in the catalog: its domain, stream and FileId."""
    client, domain = signed.client("python-TC3-HMAC-SHA256-POST"), "recorded.example"
    template = client.call("live", "CreateLiveRecordTemplate", {"TemplateName": "recorded", "Mp4Param": {"Enable": 1}})["TemplateId"]
    client.call("live", "CreateLiveRecordRule", {"DomainName": domain, "TemplateId": template})
    numbers = itertools.count()

    def record(stream):
        """Pushes a stream and answers the FileId of what was recorded."""
        subprocess.run([str(part) for part in push_command(signed, stream, domain)], check=True, timeout=240)
        search = {"StreamDomains": [domain], "StreamIds": [stream]}
        (file,) = until(lambda: client.call("vod", "SearchMedia", search)["MediaInfoSet"], what="the recording")
        return file["FileId"]

    def record_hls():
        """The address of a recording that is a playlist."""
        template = client.call("live", "CreateLiveRecordTemplate", {"TemplateName": "recorded-hls", "HlsParam": {"Enable": 1}})["TemplateId"]
        client.call("live", "CreateLiveRecordRule", {"DomainName": "hls-recorded.example", "TemplateId": template})
        subprocess.run([str(part) for part in push_command(signed, "hlscam", "hls-recorded.example")], check=True, timeout=240)
        search = {"StreamDomains": ["hls-recorded.example"], "StreamIds": ["hlscam"]}
        (file,) = until(lambda: client.call("vod", "SearchMedia", search)["MediaInfoSet"], what="the HLS recording")
        return file["BasicInfo"]["MediaUrl"]

    another = lambda: record(f"gone-{next(numbers)}")  # noqa: E731
    return {"domain": domain, "stream": "cam", "file": record("cam"), "another": another, "hls": record_hls()}


def push_command(signed, stream, domain):
    return [media.FFMPEG, "-v", "error", "-nostdin", "-i", media.source("av"), "-map", "0", "-c", "copy", "-f", "flv", signed.url(stream, domain, query="user=x")]


@pytest.fixture
def scene(recorded):
    return Scene(f"scene-{next(_numbers)}-{id(recorded) % 1000}", recorded)
