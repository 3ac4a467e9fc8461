"""Key protection: addresses of an application that need a signature, and what playlists list."""

import hashlib
import re
import subprocess
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

import media
from test_readers import browser  # noqa: F401
from test_readers import gstreamer, open_page, parsed, played_by_all

KEY = "24FEQmTzro4V5u3D5epW"


@pytest.fixture(scope="module")
def protected(capstan):
    """Recordings of every kind in an application of their own, whose addresses need a signature."""
    app = capstan.call("CreateSubAppId", Name="protected")["SubAppId"]
    capstan.call("ModifyDefaultDistributionConfig", SubAppId=app, KeyProtection={"Enable": 1, "Key": KEY, "BackupKey": "backupkey2"})
    home = {"VodSubAppId": app}
    domain = f"protected-{app}.example"
    capstan.record(domain, mp4=home, hls=home, flv=home)
    url = capstan.url("cam", domain)
    subprocess.run(["ffmpeg", "-v", "error", "-i", media.source("av"), "-c", "copy", "-f", "flv", url], check=True, timeout=60)
    files = capstan.files("cam", domain, 3, SubAppId=app)
    yield capstan, app, {file["MetaData"]["Container"]: file["BasicInfo"]["MediaUrl"] for file in files}
    capstan.call("ModifyDefaultDistributionConfig", SubAppId=app, KeyProtection={"Enable": 0})


def signed(url, key=KEY, **terms):
    """The address as a backend signs it, by the documented formula."""
    path = urlsplit(url).path
    terms = {"t": f"{int(time.time()) + 600:x}", **terms}
    names = ["t", "exper", "rlimit", "us", "whref", "bkref", "whreg", "bkreg"]
    sign = hashlib.md5((key + path[: path.rindex("/") + 1] + "".join(str(terms.get(name, "")) for name in names)).encode()).hexdigest()
    return url.split("?")[0] + "?" + "&".join(f"{name}={value}" for name, value in [*terms.items(), ("sign", sign)])


def test_only_signed_addresses_are_answered(protected):
    _, _, urls = protected
    url = urls["mp4"]
    assert "sign=" in url and requests.get(url, timeout=60).status_code == 200, "answers give signed ones"
    plain = url.split("?")[0]
    for address, sentence in [
        (plain, "needs a signature"),
        (signed(plain, key="wrongkey1"), "is wrong"),
        (signed(plain, t=f"{int(time.time()) - 5:x}"), "has expired"),
        (signed(plain).replace("sign=", "us=x&sign="), "is wrong"),
        (signed(urls["flv"]).replace(urls["flv"].split("?")[0], plain), "is wrong"),
        (signed(plain, whref="a.example"), "may not"),
    ]:
        answer = requests.get(address, timeout=60)
        assert answer.status_code == 403 and sentence in answer.text, f"{address}: {answer.status_code} {answer.text}"
    for address in [signed(plain), signed(plain, key="backupkey2"), signed(plain, us="user-7", rlimit=1)]:
        assert requests.head(address, timeout=60).status_code == 200, address
    assert requests.get(signed(plain, whref="a.example"), headers={"Referer": "https://www.a.example/x"}, timeout=60).status_code == 200
    control = plain.replace(urlsplit(plain).netloc, urlsplit(protected[0].http).netloc)
    assert requests.get(control, timeout=60).status_code == 403 and requests.get(signed(control), timeout=60).status_code == 200


@pytest.mark.parametrize("container", ["hls", "mp4", "flv"])
def test_playlists_list_signed_addresses(protected, container):
    """Readers follow a playlist to its parts: ffmpeg, and whoever asks for each address."""
    _, _, urls = protected
    url = signed(re.sub(r"\.(mp4|flv)$", ".m3u8", urls[container].split("?")[0]), us="u1")
    text = requests.get(url, headers={"Range": "bytes=0-5"}, timeout=60).text
    names = [line for line in text.splitlines() if line and not line.startswith("#")] + re.findall(r'URI="([^"]+)"', text)
    assert len(names) >= 3 and all(parse_qs(urlsplit(name).query)["us"] == ["u1"] for name in names)
    media.assert_same_payloads(media.packets(media.source("av")), media.packets(url))


def test_signed_playlists_in_every_reader(protected, browser, tmp_path):  # noqa: F811
    """Players take the parameters of each address as they are listed."""
    capstan, _, urls = protected
    page = browser.new_page()
    open_page(page, capstan)
    for container in ("hls", "mp4", "flv"):
        url = signed(re.sub(r"\.(mp4|flv)$", ".m3u8", urls[container].split("?")[0]), us="u1", rlimit=3)
        assert parsed(url).is_endlist
        played_by_all(page, url)
        assert gstreamer(url, tmp_path / "raw", 149, (160, 120)), container
    page.close()


def test_a_preview_ends(protected):
    _, _, urls = protected
    for container in ["hls", "mp4"]:
        url = signed(re.sub(r"\.mp4$", ".m3u8", urls[container].split("?")[0]), exper=1)
        whole, seen = media.packets(media.source("av")), media.packets(url, quiet=False)
        assert 25 <= len(seen["video"]) < len(whole["video"]) - 20, "the first segment of several"
        listed = requests.get(url, timeout=60).text
        assert listed.rstrip().endswith("#EXT-X-ENDLIST")
        parts = [line for line in listed.splitlines() if line and not line.startswith("#")]
        part = requests.compat.urljoin(url, parts[-1])
        if container == "hls":
            assert requests.get(part, timeout=60).status_code == 403, "more of the file than the preview"
        later = requests.get(part.replace("seg-1.", "seg-2.").replace("upto=", "upto=9"), timeout=60)
        assert later.status_code == 403 and "preview" in later.text
    assert requests.get(signed(urls["flv"].split("?")[0], exper=30), timeout=60).status_code == 403


def test_other_applications_are_not_protected(protected):
    capstan, app, urls = protected
    found = capstan.call("SearchMedia", StreamIds=["cam"], StreamDomains=["protected.example"])
    assert found["TotalCount"] == 0, "the files of an application are its own"
    config = capstan.call("DescribeDefaultDistributionConfig", SubAppId=app)
    assert config["KeyProtection"] == {"Enable": 1, "Key": KEY, "BackupKey": "backupkey2", "Lifetime": 86400}
    assert "KeyProtection" not in capstan.call("DescribeDefaultDistributionConfig")
    assert capstan.error("ModifyDefaultDistributionConfig", SubAppId=app, KeyProtection={"Key": "short"}) == "InvalidParameterValue"
    clip = capstan.call("SimpleHlsClip", SubAppId=app, Url=urls["hls"], StartTimeOffset=1, EndTimeOffset=3)
    assert "sign=" in clip["Url"] and media.packets(clip["Url"], quiet=False)["video"]


@pytest.mark.parametrize("path", ["/vod/1300000001/../../catalog.sqlite", "/vod/1300000001/{id}/../../../catalog.sqlite", "/vod/1300000001/{id}/..%2f..%2fcatalog.sqlite",
    "/vod/1300000001/{id}/recording.json", "/vod/1300000001/{id}/%2e%2e/%2e%2e/master.key", "/vod//etc/passwd", "/live/1300000001/../../policy.json", "/vod/1300000001/{id}/media-1.m4s%00.mp4"])
def test_nothing_else_is_readable(protected, path):
    import http.client

    capstan, _, urls = protected
    identity = urlsplit(urls["hls"]).path.split("/")[3]
    for port in (capstan.media_port, urlsplit(capstan.http).port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        # As it stands here: other clients tidy paths up.
        connection.putrequest("GET", path.format(id=identity), skip_host=False)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in (400, 403, 404) and b"SQLite" not in body and b"root:" not in body, (path, answer.status)
        connection.close()
