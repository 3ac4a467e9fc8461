"""Finished files over HTTP, at the address that the catalog gives."""

import socket

import pytest

import media
from appliance import Appliance
from check import check_playlist

TYPES = {
    "flv": {"video/x-flv"},
    "mp4": {"video/mp4"},
    "hls": {"application/vnd.apple.mpegurl", "application/x-mpegURL"},
    "aac": {"audio/aac", "audio/x-aac"},
    "mp3": {"audio/mpeg"},
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A server with one recording of each format."""
    import subprocess

    appliance = Appliance(tmp_path_factory.mktemp("download")).start()
    appliance.record("a.example", flv=True, mp4=True, hls=True, aac=True, mp3=True)
    for name in ("bframes", "mp3"):
        url = appliance.url(name, "a.example")
        subprocess.run(["ffmpeg", "-v", "error", "-i", media.source(name), "-c", "copy", "-f", "flv", url], check=True, timeout=60)
    appliance.files_by_format = appliance.by_format("bframes", "a.example", "aac", "flv", "hls", "mp4")
    appliance.files_by_format["mp3"] = appliance.files("mp3", "a.example", 1, MediaTypes=["mp3"])[0]
    yield appliance
    appliance.stop()


def address(appliance, container):
    url = appliance.files_by_format[container]["BasicInfo"]["MediaUrl"]
    base, path = url.split("/vod/", 1)
    assert path.startswith(f"1300000001/{appliance.files_by_format[container]['FileId']}/")
    assert base == appliance.media != appliance.http
    return url


def on_control_port(appliance, url):
    """The same address where the API is."""
    return url.replace(appliance.media, appliance.http)


@pytest.mark.parametrize("container", TYPES)
def test_get_head_range(recorded, container):
    url = address(recorded, container)
    bytes_on_disk = recorded.path_of(recorded.files_by_format[container]).read_bytes()
    size = len(bytes_on_disk)
    whole = recorded.session.get(url, timeout=60)
    assert whole.status_code == 200 and whole.content == bytes_on_disk
    other = recorded.session.get(on_control_port(recorded, url), timeout=60)
    assert other.content == bytes_on_disk and other.headers["ETag"] == whole.headers["ETag"]
    assert whole.headers["Content-Type"] in TYPES[container]
    assert whole.headers["Content-Length"] == str(size)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Access-Control-Allow-Origin"] == "*"
    assert "Content-Encoding" not in whole.headers
    head = recorded.session.head(url, timeout=60)
    assert head.status_code == 200 and head.content == b""
    assert {name: head.headers[name] for name in ("Content-Type", "Content-Length")} == {name: whole.headers[name] for name in ("Content-Type", "Content-Length")}
    for text, begin, end in (
        ("bytes=0-99", 0, 100),
        ("bytes=10-10", 10, 11),
        ("bytes=100-", 100, size),
        ("bytes=-50", size - 50, size),
        (f"bytes=0-{size + 1000}", 0, size),
        (f"bytes=-{size + 5}", 0, size),
    ):
        part = recorded.session.get(url, headers={"Range": text}, timeout=60)
        assert part.status_code == 206, text
        assert part.content == bytes_on_disk[begin:end], text
        assert part.headers["Content-Range"] == f"bytes {begin}-{end - 1}/{size}", text
        assert part.headers["Content-Type"] in TYPES[container]
    beyond = recorded.session.get(url, headers={"Range": f"bytes={size}-"}, timeout=60)
    assert beyond.status_code == 416 and beyond.headers["Content-Range"] == f"bytes */{size}"
    # What is no byte range is no reason to fail (RFC 9110, 14.2).
    for text in ("items=0-5", "bytes=5-2", "bytes=x-y", "bytes="):
        assert recorded.session.get(url, headers={"Range": text}, timeout=60).status_code == 200, text
    several = recorded.session.get(url, headers={"Range": "bytes=0-1,5-9"}, timeout=60)
    assert several.status_code == 200 and len(several.content) == size


@pytest.mark.parametrize("container", ["mp4", "flv", "hls"])
def test_ffmpeg_plays_the_address(recorded, container):
    """Seeking included: the demuxers ask for ranges."""
    media.assert_same(media.packets(media.source("bframes")), media.packets(address(recorded, container), quiet=False))


def test_every_part_of_a_playlist(recorded):
    url = address(recorded, "hls")
    folder = url.rsplit("/", 1)[0]
    for _, uri, (length, offset) in check_playlist(recorded.path_of(recorded.files_by_format["hls"])):
        part = recorded.session.get(f"{folder}/{uri}", headers={"Range": f"bytes={offset}-{offset + length - 1}"}, timeout=60)
        assert part.status_code == 206 and len(part.content) == length
        assert part.headers["Content-Type"] in ("video/mp4", "video/iso.segment")
    start = recorded.session.get(f"{folder}/init-1.m4s", timeout=60)
    assert start.status_code == 200 and start.content[4:8] == b"ftyp"


def raw(appliance, request, port=None):
    """An answer to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", port or appliance.media_port), timeout=60) as sock:
        sock.sendall(request)
        sock.settimeout(10)
        data = b""
        while part := sock.recv(65536):
            data += part
            if b"\r\n\r\n" in data:
                break
        return data


@pytest.mark.parametrize(
    "path",
    [
        "/vod/1300000001/{id}/../../../catalog.sqlite",
        "/vod/1300000001/{id}/..%2f..%2f..%2fcatalog.sqlite",
        "/vod/1300000001/{id}/%2e%2e/%2e%2e/%2e%2e/catalog.sqlite",
        "/vod/1300000001/../../catalog.sqlite",
        "/vod/1300000001/{id}//etc/passwd",
        "/vod/1300000001/{id}/recording.json",
        "/vod/1300000001/{hls}/recording.json",
        "/vod/1300000001/{hls}/..",
        "/vod/1300000001/{id}/",
        "/vod/1300000001/{id}",
        "/vod/1300000001/999999999999999999/x.mp4",
        "/vod/1300000001/-1/x.mp4",
        "/vod/1/{id}/x.mp4",
        "/vod",
        "/../catalog.sqlite",
        "//catalog.sqlite",
        "/catalog.sqlite",
        "/nothing",
    ],
)
def test_nothing_else_is_served(recorded, path):
    path = path.replace("{id}", recorded.files_by_format["mp4"]["FileId"]).replace("{hls}", recorded.files_by_format["hls"]["FileId"])
    for method in ("GET", "HEAD"):
        for port in (recorded.media_port, recorded.http_port):
            answer = raw(recorded, f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(), port)
            assert answer.split(b" ")[1] in (b"404", b"400", b"403"), answer[:200]
            assert b"SQLite" not in answer and b"root:" not in answer


def test_other_methods_on_files(recorded):
    for method in ("POST", "PUT", "DELETE"):
        assert recorded.session.request(method, address(recorded, "mp4"), timeout=60).status_code in (404, 405)
    assert recorded.path_of(recorded.files_by_format["mp4"]).exists()


def test_public_base(start, source, push):
    """Behind another name: addresses begin with the setting."""
    appliance = start(http={"public_base": "https://vod.example/media"})
    appliance.record("a.example", mp4=True)
    push(source("av"), appliance.url("cam", "a.example"))
    file = appliance.file("cam", "a.example")
    assert file["BasicInfo"]["MediaUrl"].startswith(f"https://vod.example/media/vod/1300000001/{file['FileId']}/cam_")
