"""Any bytes to the HTTP port: a bounded answer or a close; others are served meanwhile, and recording does not notice."""

import socket
import threading
import time

import pytest

import media
from appliance import until
from check import check
from rtmp import Live

FORM = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
JSON = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CALL = b"Action=DescribeLiveRecordRules&Version=2018-08-01"

# What is sent; the status of the answer; a text inside it.
ONCE = {
    "no HTTP at all": (b"\x03" + bytes(1536) + b"\r\n\r\n", 400, ""),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, ""),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, ""),
    "a huge header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 200_000, 431, ""),
    "endless headers": (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 30_000, 431, ""),
    "a huge query": (b"GET /?A=" + b"b" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 413, "RequestSizeLimitExceeded"),
    "a form that is too large": (FORM + b"Content-Length: 1048577\r\n\r\n", 413, "RequestSizeLimitExceeded"),
    "JSON that is too large": (JSON + b"Content-Length: 10485761\r\n\r\n", 413, "RequestSizeLimitExceeded"),
    "a length that is no number": (JSON + b"Content-Length: -1\r\n\r\n", 400, ""),
    "two lengths": (JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, ""),
    "length and chunks": (JSON + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    "a chunk size that is none": (JSON + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, ""),
    "a chunk without its end": (JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n", 400, ""),
    "a chunk of a gigabyte": (JSON + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n", 413, "RequestSizeLimitExceeded"),
    "another method": (b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "UnsupportedProtocol"),
    "a body that is no JSON": (b"POST / HTTP/1.1\r\nHost: x\r\nX-TC-Action: SearchMedia\r\nX-TC-Version: 2018-07-17\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{nope", 200, "InvalidParameter"),
    "Expect": (FORM + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(CALL), 100, ""),
}


def connect(appliance):
    return socket.create_connection(("127.0.0.1", appliance.http_port), timeout=60)


def send(sock, data):
    """The server may answer and close before it has read everything."""
    try:
        sock.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def receive(sock):
    """Everything until the server closes."""
    data = b""
    try:
        while part := sock.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("what", ONCE)
def test_one_answer(capstan, what):
    data, status, text = ONCE[what]
    with connect(capstan) as sock:
        send(sock, data)
        answer = sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        while text.encode() not in answer:
            part = sock.recv(65536)
            assert part, answer
            answer += part
        if status == 100:
            send(sock, CALL)
            assert b'{"Response":' in receive_one(sock)


def receive_one(sock):
    """One answer with a length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1)
    length = int(next(line.split(b":")[1] for line in data.split(b"\r\n") if line.lower().startswith(b"content-length:")))
    while length:
        part = sock.recv(length)
        data, length = data + part, length - len(part)
    return data


def test_pipelined_calls_are_answered_in_order(capstan):
    calls = b"".join(
        b"GET /?Action=%s&Version=2018-08-01 HTTP/1.1\r\nHost: x\r\n\r\n" % name for name in (b"DescribeLiveRecordRules", b"NoSuchThing", b"DescribeLiveRecordTemplates")
    ) + FORM + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (CALL[:10], CALL[10:])) + b"0\r\n\r\n"
    with connect(capstan) as sock:
        send(sock, calls)
        answers = [receive_one(sock) for _ in range(4)]
    for answer, text in zip(answers, (b'"Rules"', b"InvalidAction", b'"Templates"', b'"Rules"')):
        assert answer.startswith(b"HTTP/1.1 200 ") and text in answer, answer


@pytest.fixture
def witness(capstan, domain):
    """A publisher who must not notice anything."""
    capstan.record(domain, flv=True)
    live = Live(media.source("live"), capstan.rtmp_port, f"witness?vhost={domain}")
    capstan.wait_online("witness", domain)
    yield live
    until(lambda: len(live.sent["video"]) > 20)
    sent = live.stop()
    whole = media.packets(media.source("live"))
    check(capstan, capstan.file("witness", domain), media.Packets({kind: whole[kind][:count] for kind, count in sent.items()}))


def test_a_thousand_that_say_nothing(capstan, witness):
    """Silent ones, half requests and ones that drip: every call meanwhile is answered soon."""
    begun = [b"", b"GET / HTT", JSON, FORM + b"Content-Length: 100\r\n\r\nAction"]
    idle = []
    for number in range(1000):
        sock = connect(capstan)
        send(sock, begun[number % len(begun)])
        idle.append(sock)
    stopped = threading.Event()

    def drip():
        while not stopped.wait(0.2):
            for sock in idle[-20:]:
                send(sock, b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    slowest = 0
    for _ in range(20):
        capstan.session.close()
        begin = time.monotonic()
        capstan.call("DescribeLiveRecordRules")
        slowest = max(slowest, time.monotonic() - begin)
    stopped.set()
    dripping.join()
    for sock in idle:
        sock.close()
    # Behind those who drip it would never be its turn, behind the silent ones not before their time-outs.
    assert slowest < 8, f"a call took {slowest:.1f} s"


def test_an_endless_body(capstan, witness):
    """Chunks without end are refused at the limit, not gathered."""
    with connect(capstan) as sock:
        send(sock, FORM + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"
        for _ in range(40):
            send(sock, chunk)
        assert receive(sock).startswith(b"HTTP/1.1 413 ")
    capstan.call("DescribeLiveRecordRules")
