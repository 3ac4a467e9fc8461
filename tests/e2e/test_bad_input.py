"""What strangers and broken encoders send: their connection ends with a reason, nobody else notices."""

import contextlib
import os
import random
import socket
import struct
import time

import pytest

import media
from appliance import Appliance, until
from check import check, read
from rtmp import COMMAND, VIDEO, Connection, Live, amf, is_configuration, publisher, wait_acknowledged

# Of the server whose time-outs are waited for. Whoever behaves has to keep them on a slow machine too.
HANDSHAKE_S, IDLE_S = 4, 8
# The defaults.
PATIENT_HANDSHAKE_S, PATIENT_IDLE_S = 10, 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    appliance = Appliance(tmp_path_factory.mktemp("bad")).start()
    yield appliance
    appliance.stop()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    appliance = Appliance(tmp_path_factory.mktemp("impatient"), ingest={"handshake_timeout_s": HANDSHAKE_S, "idle_timeout_s": IDLE_S}).start()
    yield appliance
    appliance.stop()


@contextlib.contextmanager
def watched(server, domain):
    """A publisher who must not notice: recorded from before the attack until after it, whole."""
    server.record(domain, flv=True, mp4=True)
    live = Live(media.source("live"), server.rtmp_port, f"witness?vhost={domain}")
    server.wait_online("witness", domain)
    yield live
    until(lambda: len(live.sent["video"]) > 20)
    sent = live.stop()
    whole = media.packets(media.source("live"))
    for file in server.by_format("witness", domain, "flv", "mp4").values():
        check(server, file, media.Packets({kind: whole[kind][:count] for kind, count in sent.items()}))
    assert server.session.get(f"{server.http}/healthz", timeout=60).status_code == 200
    for reason in ("no_block", "storage"):
        assert server.metric("capstan_dropped_frames_total", reason=reason) == 0
    server.check_log()


@pytest.fixture
def witness(server, domain):
    with watched(server, domain) as live:
        yield live


def connect(server):
    return socket.create_connection(("127.0.0.1", server.rtmp_port), timeout=60)


def closed_within(sock, seconds):
    connection = Connection.__new__(Connection)
    connection.socket = sock
    return connection.wait_closed(seconds)


def counted(server, reason):
    return server.metric("capstan_connection_errors_total", reason=reason)


def test_plain_http(server, witness):
    before = counted(server, "not_rtmp")
    for request in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /live HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"SSH-2.0-x\r\n"):
        with connect(server) as sock:
            sock.sendall(request)
            assert closed_within(sock, 5) < PATIENT_HANDSHAKE_S, request
    until(lambda: counted(server, "not_rtmp") == before + 4, 5)


def test_random_bytes(server, witness):
    noise = random.Random(1)
    for length in (1, 10, 1536, 1537, 3073, 5000, 100_000):
        for first in (noise.randbytes(1), b"\x03"):
            with connect(server) as sock:
                try:
                    sock.sendall(first + noise.randbytes(length - 1))
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                closed_within(sock, 5)


def test_noise_behind_a_good_handshake(server, witness):
    noise = random.Random(2)
    for _ in range(30):
        connection = Connection(server.rtmp_port).handshake()
        try:
            connection.socket.sendall(noise.randbytes(noise.choice([1, 50, 5000])))
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        connection.wait_closed(5)


def test_noise_in_a_publication(server, witness, domain):
    """Bit errors in the middle of a stream: what came before is in the file."""
    whole = media.packets(media.source("av"))
    for seed in range(5):
        noise = random.Random(seed)
        connection = publisher(server.rtmp_port, f"noise{seed}?vhost={domain}")
        tags = list(media.flv_tags(media.source("av")))
        for tag in tags[:150]:
            connection.tag(*tag)
        wait_acknowledged(connection)
        try:
            connection.socket.sendall(noise.randbytes(20_000))
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        connection.wait_closed(5)
        sent = {"video": 0, "audio": 0}
        for kind, _, body in tags[:150]:
            if not is_configuration(kind, body):
                sent["video" if kind == VIDEO else "audio"] += 1
        for file in server.by_format(f"noise{seed}", domain, "flv", "mp4").values():
            found = read(server, file)
            for kind, count in sent.items():
                assert [packet.md5 for packet in found[kind]][:count] == [packet.md5 for packet in whole[kind]][:count]


def test_silence_in_the_handshake(impatient):
    """Nothing, a part of the first message, all of it, a part of the second; each is given its time, and no more."""
    cases = [b"", b"\x03", b"\x03" + bytes(700), b"\x03" + bytes(1536), b"\x03" + bytes(1536) + bytes(100)]
    before, begin = counted(impatient, "timeout"), time.monotonic()
    silent = [connect(impatient) for _ in cases]
    for sock, sent in zip(silent, cases):
        sock.sendall(sent)
    for sock in silent:
        closed_within(sock, HANDSHAKE_S + 5)
        assert time.monotonic() - begin >= HANDSHAKE_S - 0.5
        sock.close()
    until(lambda: counted(impatient, "timeout") == before + len(cases), 5)


def test_dripping_handshake(impatient):
    """One byte now and then does not keep a connection."""
    with connect(impatient) as sock:
        begin = time.monotonic()
        try:
            while time.monotonic() < begin + HANDSHAKE_S + 60:
                sock.sendall(b"\x03")
                sock.settimeout(0.2)
                try:
                    if not sock.recv(4096):
                        break
                except TimeoutError:
                    pass
        except OSError:
            pass
        assert time.monotonic() - begin < HANDSHAKE_S + 20


def test_connected_and_never_published(impatient):
    Connection(impatient.rtmp_port).handshake().connect().wait_closed(HANDSHAKE_S + 5)


def test_oversized_message(server, witness, domain):
    """A length beyond every bound: closed at once, the file is complete."""
    connection = publisher(server.rtmp_port, f"big?vhost={domain}")
    tags = list(media.flv_tags(media.source("av")))
    for tag in tags[:100]:
        connection.tag(*tag)
    ended = server.metric("capstan_publication_ends_total", reason="message_too_large")
    connection.socket.sendall(connection.message(VIDEO, b"\x27" + bytes(4000), timestamp=5000, stream=1, chunk_stream=6, declared=0xFFFFFF))
    assert connection.wait_closed(5) < PATIENT_IDLE_S
    until(lambda: server.metric("capstan_publication_ends_total", reason="message_too_large") == ended + 1, 5)
    whole = media.packets(media.source("av"))
    for file in server.by_format("big", domain, "flv", "mp4").values():
        found = read(server, file)
        assert sum(len(found[kind]) for kind in found.kinds) == sum(not is_configuration(kind, body) for kind, _, body in tags[:100])
        media.assert_part_of(whole, found)


def test_stalled_publisher(impatient, domain):
    """No bytes for the idle time-out: closed, and the file is there."""
    with watched(impatient, domain):
        connection = publisher(impatient.rtmp_port, f"stalled?vhost={domain}")
        tags = list(media.flv_tags(media.source("av")))
        for tag in tags[:100]:
            connection.tag(*tag)
        ended = impatient.metric("capstan_publication_ends_total", reason="idle")
        assert IDLE_S - 1 <= connection.wait_closed(IDLE_S + 5)
        until(lambda: impatient.metric("capstan_publication_ends_total", reason="idle") == ended + 1, 5)
        for file in impatient.by_format("stalled", domain, "flv", "mp4").values():
            found = read(impatient, file)
            assert sum(len(found[kind]) for kind in found.kinds) == sum(not is_configuration(kind, body) for kind, _, body in tags[:100])


def test_bad_commands(server, witness):
    bodies = [
        b"",
        b"\x02",
        b"\x02\xff\xff",
        amf("connect"),
        amf("connect") + amf(1) + b"\x03\x00\x03app",
        amf("connect") + amf(1) + amf(None),
        amf("connect") + amf(1) + b"\x03" * 200,
        amf("connect") + amf(1) + b"\x0a\xff\xff\xff\xff",
        amf("connect") + amf(1) + b"\x08\xff\xff\xff\xff\x00\x00\x09",
        amf("connect") + amf(1) + b"\x0c\xff\xff\xff\xffxx",
        amf("publish") + amf(1) + amf(None) + amf("before-connect"),
        amf(1) + amf("connect"),
        b"\xee" * 1000,
    ]
    for body in bodies:
        connection = Connection(server.rtmp_port).handshake()
        try:
            connection.send(COMMAND, body)
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        connection.wait_closed(5)


def test_bad_chunks(server, witness):
    for data in (
        # A chunk size of 0, of 2^31, and one that is cut.
        b"\x02" + bytes(3) + b"\x00\x00\x04\x01" + bytes(4) + bytes(4),
        b"\x02" + bytes(3) + b"\x00\x00\x04\x01" + bytes(4) + b"\xff\xff\xff\xff",
        b"\x02" + bytes(3) + b"\x00\x00\x02\x01" + bytes(4) + b"\x00\x01",
        # A chunk without a header before it, on many chunk streams.
        b"\xc3" + bytes(128),
        b"".join(bytes([0x00, index]) + bytes(3) + b"\x00\x10\x00\x09" + bytes(4) + bytes(128) for index in range(256)),
        # An aggregate that lies about its parts.
        b"\x03" + bytes(3) + b"\x00\x00\x0b\x16" + bytes(4) + b"\x09\xff\xff\xff" + bytes(7),
    ):
        connection = Connection(server.rtmp_port).handshake()
        try:
            connection.socket.sendall(data)
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        connection.wait_closed(5)


def test_codecs_nobody_records(server, witness, domain):
    """They are named and counted; the tracks that can be recorded are, all of them."""
    server.record(domain + "x", flv=True)
    connection = publisher(server.rtmp_port, f"odd?vhost={domain}x")
    oddities = [(9, b"\x12" + bytes(20)), (8, b"\x5e" + bytes(20)), (9, b"\x90hvc1" + bytes(20)), (9, b"\x57\x00"), (15, b"xxx"), (99, b"xxx"), (18, b"\xff" * 50)]
    before = server.metric("capstan_unsupported_codec_total")
    for index, (kind, timestamp, body) in enumerate(media.flv_tags(media.source("av"))):
        connection.tag(kind, timestamp, body)
        if 20 < index <= 20 + len(oddities):
            odd_kind, odd_body = oddities[index - 21]
            connection.send(odd_kind, odd_body, timestamp=timestamp, stream=1, chunk_stream=6 if odd_kind == 9 else 4)
    connection.close()
    check(server, server.file("odd", domain + "x"), media.packets(media.source("av")))
    assert server.metric("capstan_unsupported_codec_total") >= before + 3


@pytest.mark.parametrize(
    ("kind", "body"),
    [(9, b""), (8, b""), (9, b"\x17"), (9, b"\x17\x01"), (9, b"\x17\x00\x00\x00\x00"), (9, b"\x17\x00\x00\x00\x00\x01\xff"), (8, b"\xaf"), (8, b"\xaf\x00"), (18, b"")],
)
def test_cut_tags(server, witness, domain, kind, body):
    """Passed over or the end of the connection: what came before is in the file either way."""
    name = f"cut{kind}-{body.hex()}"
    connection = publisher(server.rtmp_port, f"{name}?vhost={domain}")
    tags = list(media.flv_tags(media.source("av")))
    for tag in tags[:100]:
        connection.tag(*tag)
    connection.send(kind, body, timestamp=tags[100][1], stream=1, chunk_stream=6 if kind == 9 else 4)
    wait_acknowledged(connection)
    try:
        connection.close()
    except OSError:
        pass
    whole = media.packets(media.source("av"))
    for file in server.by_format(name, domain, "flv", "mp4").values():
        found = read(server, file)
        assert set(media.assert_part_of(whole, found).values()) == {0}
        assert sum(len(found[kind]) for kind in found.kinds) == sum(not is_configuration(kind, body) for kind, _, body in tags[:100])


def test_port_scan(server, witness):
    """Hundreds of connections that come and go at once, some by reset."""
    for index in range(300):
        sock = connect(server)
        if index % 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if index % 3 == 0:
            sock.sendall(os.urandom(3))
        sock.close()


def test_many_half_open_connections(impatient, domain):
    """200 that say nothing: the next one is served, and they are gone after the handshake time-out."""
    with watched(impatient, domain):
        idle = [connect(impatient) for _ in range(200)]
        publisher(impatient.rtmp_port, "between").close()
        for sock in idle:
            closed_within(sock, HANDSHAKE_S + 10)
            sock.close()
        descriptors = lambda: len(os.listdir(f"/proc/{impatient.process.pid}/fd"))  # noqa: E731
        until(lambda: descriptors() < 150, 10, "descriptors given back")


def test_publishers_max(start, source):
    appliance = start(ingest={"publishers_max": 2, "handshake_timeout_s": 2})
    kept = [publisher(appliance.rtmp_port, f"s{index}") for index in range(2)]
    with pytest.raises((Exception,)) as refusal:
        publisher(appliance.rtmp_port, "s2")
    assert "Start" not in str(refusal.value)
    kept[0].close()
    appliance.wait_offline("s0")
    publisher(appliance.rtmp_port, "s3").close()


def test_bad_http(server, witness):
    """The other port: half requests, huge headers, silence."""
    idle = []
    for data in (b"", b"GET", b"GET / HTTP/1.1\r\nHost:", b"\x03" + bytes(1536), b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000):
        sock = socket.create_connection(("127.0.0.1", server.http_port), timeout=60)
        try:
            sock.sendall(data)
        except OSError:
            pass
        idle.append(sock)
    for _ in range(3):
        server.session.close()
        server.call("DescribeLiveRecordRules")
    for sock in idle:
        sock.close()
