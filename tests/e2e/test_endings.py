"""Every way a publication can end: what was received is in the file."""

import signal

import pytest

import media
from appliance import until
from check import check, check_fast_start, read
from rtmp import COMMAND, DATA, VIDEO, Connection, Live, Refused, amf, is_configuration, publisher, wait_acknowledged

CONTAINERS = ("flv", "mp4", "hls", "aac")


def check_all(appliance, stream, domain, whole, count=None):
    """Every format holds an unbroken piece from the first frame on; returns how many frames of each track."""
    counts = {}
    for container, file in appliance.by_format(stream, domain, *CONTAINERS).items():
        found = read(appliance, file)
        expected = media.Packets({kind: whole[kind][: len(found[kind])] for kind in found.kinds})
        check(appliance, file, expected)
        if container == "mp4":
            check_fast_start(appliance.path_of(file))
        if container != "aac":
            counts[container] = {kind: len(found[kind]) for kind in found.kinds}
            if count:
                assert counts[container] == count, container
    assert len({str(value) for value in counts.values()}) == 1, counts
    return counts["flv"]


def test_publisher_killed_in_the_middle(capstan, source, push, domain):
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    process = push.ffmpeg(source("live"), capstan.url("killed", domain), realtime=True)
    capstan.wait_online("killed", domain)
    frames = capstan.metric("capstan_frames_total")
    until(lambda: capstan.metric("capstan_frames_total") > frames + 150, what="frames")
    process.kill()
    counts = check_all(capstan, "killed", domain, media.packets(source("live")))
    assert counts["video"] > 20 and counts["audio"] > 40
    capstan.wait_offline("killed", domain)


def test_interrupted_encoder(capstan, source, push, domain):
    """Ctrl-C at the encoder: a clean end."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    process = push.ffmpeg(source("live"), capstan.url("stopped", domain), realtime=True)
    capstan.wait_online("stopped", domain)
    frames = capstan.metric("capstan_frames_total")
    until(lambda: capstan.metric("capstan_frames_total") > frames + 150, what="frames")
    process.send_signal(signal.SIGINT)
    process.wait(60)
    check_all(capstan, "stopped", domain, media.packets(source("live")))


@pytest.mark.parametrize("end", ["reset", "half a message", "closed", "silent close"])
def test_exactly_what_was_sent(capstan, source, domain, end):
    """Whatever the end: every complete frame is in every file, the torn one is not."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    connection = publisher(capstan.rtmp_port, f"cut?vhost={domain}")
    tags, count = list(media.flv_tags(source("av"))), {"video": 0, "audio": 0}
    cut = next(index for index, (kind, timestamp, body) in enumerate(tags) if kind == VIDEO and timestamp > 3400)
    for kind, timestamp, body in tags[:cut]:
        connection.tag(kind, timestamp, body)
        if not is_configuration(kind, body):
            count["video" if kind == VIDEO else "audio"] += 1
    if end in ("half a message", "reset"):
        kind, timestamp, body = tags[cut]
        message = connection.message(kind, body, timestamp=timestamp, stream=1, chunk_stream=6)
        connection.socket.sendall(message[: len(message) // 2])
        wait_acknowledged(connection)
    if end == "reset":
        connection.abort()
    elif end == "closed":
        connection.close()
    else:
        connection.socket.close()
    check_all(capstan, "cut", domain, media.packets(source("av")), count)


def test_one_frame_is_a_file(capstan, source, domain):
    """Ours leaves a file whenever at least one frame of a recorded track came."""
    capstan.record(domain, flv=True, mp4=True)
    connection = publisher(capstan.rtmp_port, f"short?vhost={domain}")
    frames = 0
    for kind, timestamp, body in media.flv_tags(source("video")):
        connection.tag(kind, timestamp, body)
        frames += not is_configuration(kind, body)
        if frames == 1:
            break
    connection.close()
    for file in capstan.by_format("short", domain, "flv", "mp4").values():
        assert [len(packets) for packets in read(capstan, file).tracks.values()] == [1]


def test_nothing_published_is_no_file(capstan, source, push, domain):
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True)
    publisher(capstan.rtmp_port, f"empty?vhost={domain}").close()
    connection = publisher(capstan.rtmp_port, f"headers?vhost={domain}")
    for kind, timestamp, body in media.flv_tags(source("av")):
        if is_configuration(kind, body):
            connection.tag(kind, timestamp, body)
    connection.close()
    push(source("video"), capstan.url("after", domain))
    capstan.by_format("after", domain, "flv", "mp4", "hls")
    assert len(capstan.search(StreamDomains=[domain])) == 3
    until(lambda: not list((capstan.data / "recording").iterdir()), what="no open recording left")


def test_second_publisher_takes_the_name_over(capstan, source, domain):
    """Default: an encoder that comes back finds its half-open connection out of the way."""
    capstan.record(domain, flv=True, mp4=True)
    replaced = capstan.metric("capstan_publication_ends_total", reason="replaced")
    first = publisher(capstan.rtmp_port, f"cam?vhost={domain}")
    tags = list(media.flv_tags(source("av")))
    for tag in tags[:200]:
        first.tag(*tag)
    wait_acknowledged(first)
    second = publisher(capstan.rtmp_port, f"cam?vhost={domain}")
    first.wait_closed(5)
    early = capstan.by_format("cam", domain, "flv", "mp4")
    for tag in tags:
        second.tag(*tag)
    second.close()
    files = capstan.files("cam", domain, 4)
    whole = media.packets(source("av"))
    sent = {"video": 0, "audio": 0}
    for kind, _, body in tags[:200]:
        if not is_configuration(kind, body):
            sent["video" if kind == VIDEO else "audio"] += 1
    for file in files:
        if file["FileId"] in {one["FileId"] for one in early.values()}:
            check(capstan, file, media.Packets({kind: whole[kind][:number] for kind, number in sent.items()}))
        else:
            check(capstan, file, whole)
    assert capstan.metric("capstan_publication_ends_total", reason="replaced") == replaced + 1


def test_second_publisher_is_refused(start, source, push):
    """By setting: the first keeps the name."""
    appliance = start(ingest={"duplicate_publisher": "refuse"})
    appliance.record("a.example", flv=True)
    live = Live(source("live"), appliance.rtmp_port, "cam?vhost=a.example")
    appliance.wait_online("cam")
    with pytest.raises(Refused, match="NetStream.Publish.BadName"):
        publisher(appliance.rtmp_port, "cam?vhost=a.example")
    process = push.ffmpeg(source("av"), appliance.url("cam", "a.example"))
    process.communicate(timeout=60)
    assert process.returncode != 0
    # Another domain is another stream.
    push(source("av"), appliance.url("cam", "b.example"))
    until(lambda: len(live.sent["video"]) > 40)
    sent = live.stop()
    found = read(appliance, appliance.file("cam", "a.example"))
    assert {kind: len(found[kind]) for kind in found.kinds} == sent
    assert appliance.metric("capstan_connection_errors_total", reason="name_in_use") == 2


def test_a_second_publication_of_a_connection_is_refused(capstan, source, domain):
    """On a message stream of its own: the first goes on, and the second has its turn when that has ended."""
    capstan.record(domain, flv=True)
    connection = publisher(capstan.rtmp_port, f"cam?vhost={domain}")
    tags = list(media.flv_tags(source("av")))

    def publish_second():
        connection.send(COMMAND, amf("publish") + amf(9) + amf(None) + amf(f"second?vhost={domain}") + amf("live"), stream=2, chunk_stream=5)
        return connection.expect(b"NetStream.Publish.Start")

    for tag in tags[:200]:
        connection.tag(*tag)
    connection.send(COMMAND, amf("createStream") + amf(8) + amf(None))
    connection.expect(b"_result")
    with pytest.raises(Refused, match="NetStream.Publish.BadName.*publishes cam already"):
        publish_second()
    # What belongs to the second is nobody's.
    connection.send(VIDEO, b"\x27\x01\0\0\0\0\0\0\x01\x09", timestamp=1, stream=2, chunk_stream=7)
    for tag in tags[200:]:
        connection.tag(*tag)
    connection.send(COMMAND, amf("deleteStream") + amf(10) + amf(None) + amf(1))
    publish_second()
    for kind, timestamp, body in tags:
        connection.send(kind, body if kind != DATA else amf("@setDataFrame") + body, timestamp=timestamp, stream=2, chunk_stream=6 if kind == VIDEO else 4)
    connection.close()
    for stream in ("cam", "second"):
        check(capstan, capstan.file(stream, domain), media.packets(source("av")))


def test_playing_is_refused_politely(capstan, source, push, domain):
    live = Live(source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    capstan.wait_online("cam", domain)
    process = push.start(["ffprobe", "-v", "error", "-rw_timeout", "5000000", capstan.url("cam", domain)])
    process.communicate(timeout=60)
    assert process.returncode != 0
    connection = Connection(capstan.rtmp_port).handshake().connect()
    connection.send(COMMAND, amf("createStream") + amf(2) + amf(None))
    connection.expect(b"_result")
    connection.send(COMMAND, amf("play") + amf(3) + amf(None) + amf("cam"), stream=1, chunk_stream=8)
    with pytest.raises(Refused, match="NetStream.Play"):
        connection.expect(b"NetStream.Play.Start")
    assert live.error is None
    live.stop()


def test_a_publication_may_change_its_codec_parameters(capstan, source, domain):
    """Another resolution in the same publication: a new file, except for HLS, which marks a discontinuity."""
    capstan.record(domain, flv=True, mp4=True, hls=True)
    connection = publisher(capstan.rtmp_port, f"cam?vhost={domain}")
    begin = 0
    for name in ("video", "live"):
        for kind, timestamp, body in media.flv_tags(source(name)):
            if kind == VIDEO and timestamp < 5000:
                connection.tag(kind, begin + timestamp, body)
        begin += 5000
    connection.close()
    files = capstan.files("cam", domain, 5)
    parts = {"flv": [], "mp4": [], "hls": []}
    for file in files:
        parts[file["BasicInfo"]["Type"]].append(file)
    first, second = media.packets(source("video")), media.packets(source("live"))
    second = media.Packets({"video": [packet for packet in second["video"] if packet.dts < 5000]})
    for container in ("flv", "mp4"):
        for file, expected in zip(parts[container], (first, second), strict=True):
            check(capstan, file, expected)
        assert [file["MetaData"]["Width"] for file in parts[container]] == [160, 96]
    (playlist,) = parts["hls"]
    assert capstan.path_of(playlist).read_text().count("#EXT-X-DISCONTINUITY") >= 1
