"""The media listener: what HTTP/1.1 asks of it, many readers, and playlists that grow."""

import re
import socket
import subprocess
import threading
import time
import urllib.request

import pytest

import media
from appliance import Appliance, until


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    appliance = Appliance(tmp_path_factory.mktemp("delivery"), delivery={"idle_timeout_s": 2}).start()
    appliance.record("a.example", mp4=True)
    subprocess.run(["ffmpeg", "-v", "error", "-i", media.source("bframes"), "-c", "copy", "-f", "flv", appliance.url("one", "a.example")], check=True, timeout=60)
    appliance.one = appliance.file("one", "a.example")
    yield appliance
    appliance.stop()


def talk(appliance, data, seconds=10):
    """Everything that is answered until the connection ends."""
    with socket.create_connection(("127.0.0.1", appliance.media_port), timeout=seconds) as sock:
        sock.sendall(data)
        answer = b""
        while part := sock.recv(1 << 16):
            answer += part
        return answer


def test_pipelined_requests_keep_alive_and_conditions(recorded):
    path = recorded.one["BasicInfo"]["MediaUrl"].split(str(recorded.media_port))[1]
    bytes_on_disk = recorded.path_of(recorded.one).read_bytes()
    ask = lambda *lines: f"GET {path} HTTP/1.1\r\nHost: x\r\n{''.join(line + chr(13) + chr(10) for line in lines)}\r\n".encode()  # noqa: E731
    # In one packet, the last one in two.
    answer = talk(recorded, ask("Range: bytes=0-3") + ask("Range: bytes=-4") + f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + ask("Range: bytes=4-7", "Connection: close"))
    heads = re.findall(rb"HTTP/1.1 (\d+)[^\r]*\r\n(.*?)\r\n\r\n", answer, re.S)
    assert [head[0] for head in heads] == [b"206", b"206", b"200", b"206"]
    assert answer.count(bytes_on_disk[:4]) >= 1 and answer.endswith(bytes_on_disk[4:8])
    assert b"Connection: keep-alive" in heads[0][1] and b"Connection: close" in heads[3][1]
    etag = re.search(rb"ETag: (.*)", heads[0][1]).group(1).decode().strip()
    for line in (f"If-None-Match: {etag}", f"If-None-Match: W/{etag}, \"other\""):
        unchanged = talk(recorded, ask(line, "Connection: close"))
        assert unchanged.startswith(b"HTTP/1.1 304") and unchanged.endswith(b"\r\n\r\n") and b"\r\nContent-Length" not in unchanged
    stale = talk(recorded, ask("Range: bytes=0-3", 'If-Range: "old"', "Connection: close"))
    assert stale.startswith(b"HTTP/1.1 200") and stale.endswith(bytes_on_disk)


@pytest.mark.parametrize(("request_bytes", "status"), [
    (b"GET /vod/x HTTP/1.1\r\n\r\n", b"400"),
    (b"GET /a HTTP/3.0\r\nHost: x\r\n\r\n", b"505"),
    (b"POST /vod/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"413"),
    (b"DELETE /vod/1300000001/1/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"405"),
    (b"OPTIONS /vod/1300000001/1/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"204"),
    (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
    (b"GET /?Action=SearchMedia HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"404"),
])
def test_bad_requests(recorded, request_bytes, status):
    assert talk(recorded, request_bytes).split(b" ")[1] == status


def test_silent_clients_are_closed(recorded):
    begun = time.monotonic()
    assert talk(recorded, f"HEAD /vod/1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()).startswith(b"HTTP/1.1 404")
    assert time.monotonic() - begun < 8, "an idle connection is closed after delivery.idle_timeout_s"


def test_hundreds_of_range_readers(recorded):
    url = recorded.one["BasicInfo"]["MediaUrl"]
    bytes_on_disk = recorded.path_of(recorded.one).read_bytes()
    wrong = []

    def read(number):
        begin = number * 997 % (len(bytes_on_disk) - 5000)
        request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-{begin + 4999}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.read() != bytes_on_disk[begin : begin + 5000]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_recording_that_grows(tmp_path, source):
    """Live and from its beginning: the address leads to a playlist that only grows, and stays true when it is finished."""
    appliance = Appliance(tmp_path, record={"hls_segment_ms": 1000, "first_run_rule": False}).start()
    appliance.record("a.example", hls=True)
    publisher = subprocess.Popen(["ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i", source("av"), "-c", "copy", "-f", "flv", appliance.url("cam", "a.example")])
    try:
        address = f"{appliance.media}/live/1300000001/a.example/live/cam.m3u8"
        # The request waits for the first segment.
        first = until(lambda: (answer := appliance.session.get(address, timeout=60)).status_code == 200 and answer, 10)
        assert re.search(r"/vod/1300000001/\d+/cam\.m3u8$", first.url) and "#EXT-X-PLAYLIST-TYPE:EVENT" in first.text
        assert "ENDLIST" not in first.text and first.headers["Cache-Control"] == "no-cache"
        second = until(lambda: (answer := appliance.session.get(first.url, timeout=60)).text != first.text and answer, 10)
        assert second.text.startswith(first.text), "an EVENT playlist only grows"
        # A player that rewinds to the beginning, while it is recorded.
        frames = media.run(["ffmpeg", "-v", "error", "-live_start_index", "0", "-i", address, "-t", "1.5", "-map", "0:v", "-f", "framemd5", "-"]).stdout
        assert frames.count(b"\n0,") > 20
    finally:
        publisher.terminate()
        publisher.wait(60)

    def end():
        """The same playlist all the while, until it ends."""
        answer = appliance.session.get(address, timeout=60)
        assert answer.status_code == 200 and answer.url == first.url, answer.text
        return "ENDLIST" in answer.text and answer

    ended = until(end, 10)
    file = appliance.file("cam", "a.example")
    finished = appliance.session.get(file["BasicInfo"]["MediaUrl"], timeout=60)
    assert appliance.session.get(address, timeout=60).text == ended.text == finished.text
    assert "ENDLIST" in finished.text
    lines = lambda text: [line for line in text.splitlines() if line.startswith(("#EXT-X-BYTERANGE", "media"))]  # noqa: E731
    assert lines(finished.text)[: len(lines(second.text)) - 2] == lines(second.text)[:-2], "what a viewer loaded stays true"
    # It is where the recording is.
    appliance.call("DeleteMedia", FileId=file["FileId"])
    until(lambda: appliance.session.get(address, timeout=15).status_code == 404, 10)
    appliance.stop()


def test_a_playlist_stays_true_when_its_files_are_finished(tmp_path):
    """An MP4 file ends and its index is put in front of the media: the bytes that a growing playlist lists move, and a viewer does not see it."""
    appliance = Appliance(tmp_path, record={"hls_segment_ms": 2000, "first_run_rule": False}).start()
    appliance.record("a.example", hls=True, mp4={"RecordInterval": 30})
    # Small pictures, many frames: the index of 30 s is larger than the room that is kept for it.
    clip = tmp_path / "clip.flv"
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x64:r=60:d=40", "-f", "lavfi", "-i", "sine=r=48000:d=40"]
    media.run(["ffmpeg", "-v", "error", *inputs, "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "120", "-c:a", "aac", "-b:a", "32k", clip])
    command = ["ffmpeg", "-v", "error", "-readrate", "8", "-i", clip, "-c", "copy", "-f", "flv", appliance.url("cam", "a.example")]
    publisher = subprocess.Popen(command)
    address = f"{appliance.media}/live/1300000001/a.example/live/cam.m3u8"
    first = until(lambda: (answer := appliance.session.get(address, timeout=60)).status_code == 200 and answer, 15)
    listed = re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)\n(\S+)", first.text)
    base = first.url.rsplit("/", 1)[0]

    def fetch(length, offset, uri):
        answer = appliance.session.get(f"{base}/{uri}", headers={"Range": f"bytes={offset}-{int(offset) + int(length) - 1}"}, timeout=60)
        assert answer.status_code == 206 and len(answer.content) == int(length)
        return answer.content

    held = [fetch(*segment) for segment in listed]
    # Each begins with the time of day of its first frame.
    assert held and all((content[4:8], content[36:40]) == (b"prft", b"moof") for content in held)
    # All the while, and after the end, the same ranges bring the same bytes.
    while publisher.poll() is None:
        assert [fetch(*segment) for segment in listed] == held
    assert publisher.returncode == 0
    files = appliance.files("cam", "a.example", 3)
    file = next(file for file in files if file["MetaData"]["Container"] == "hls")
    assert [fetch(*segment) for segment in listed] == held
    served = appliance.session.get(file["BasicInfo"]["MediaUrl"], timeout=60).text
    on_disk = appliance.path_of(file).read_text()
    offsets = lambda text: [int(offset) for offset in re.findall(r"@(\d+)\n", text)]  # noqa: E731
    assert offsets(served)[: len(listed)] == [int(offset) for _, offset, _ in listed]
    moved = [there - here for there, here in zip(offsets(on_disk), offsets(served))]
    assert max(moved) > 0 and min(moved) >= 0, "the index of 30 s with this sound needs more room than was reserved"
    whole = media.packets(clip)
    media.assert_same_payloads(whole, media.packets(file["BasicInfo"]["MediaUrl"]), "over HTTP")
    media.assert_same_payloads(whole, media.packets(appliance.path_of(file)), "on disk")
    appliance.stop()
