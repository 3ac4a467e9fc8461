"""A bare RTMP publisher in Python, for what real encoders never do: stall, cut in the middle, lie about lengths."""

import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
import time

import media
from appliance import PATIENCE

AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20


def amf(value):
    match value:
        case None:
            return b"\x05"
        case bool():
            return bytes([1, value])
        case int() | float():
            return b"\x00" + struct.pack(">d", value)
        case str():
            text = value.encode()
            return b"\x02" + struct.pack(">H", len(text)) + text
        case dict():
            pairs = b"".join(struct.pack(">H", len(key)) + key.encode() + amf(item) for key, item in value.items())
            return b"\x03" + pairs + b"\x00\x00\x09"
    raise TypeError(value)


class Refused(Exception):
    """The server said no; the text is what it sent."""


def any_certificate():
    """A TLS client that trusts everybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Connection:
    def __init__(self, port, host="127.0.0.1", timeout=10, tls=False):
        self.socket = socket.create_connection((host, port), timeout=timeout * PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = any_certificate().wrap_socket(self.socket)
        self.chunk_bytes = 128
        self.host, self.port = host, port

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data

    def handshake(self):
        self.socket.sendall(b"\x03" + bytes(8) + bytes(range(256)) * 5 + bytes(248))
        answer = self.read(1 + 1536 + 1536)
        assert answer[0] == 3
        self.socket.sendall(answer[1:1537])
        return self

    def message(self, kind, body, timestamp=0, stream=0, chunk_stream=3, declared=None):
        """Bytes of a message with a full header. `declared`: a length that is a lie."""
        length = len(body) if declared is None else declared
        out = bytes([chunk_stream]) + min(timestamp, 0xFFFFFF).to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([kind]) + stream.to_bytes(4, "little")
        extended = timestamp.to_bytes(4, "big") if timestamp >= 0xFFFFFF else b""
        for at in range(0, max(len(body), 1), self.chunk_bytes):
            out += (bytes([0xC0 | chunk_stream]) if at else b"") + extended + body[at : at + self.chunk_bytes]
        return out

    def send(self, *arguments, **named):
        self.socket.sendall(self.message(*arguments, **named))

    def expect(self, text):
        """Reads until `text` comes."""
        data = b""
        while text not in data:
            part = self.socket.recv(4096)
            if not part:
                raise Refused(repr(data))
            data += part
            if b"_error" in data or b"\x00\x05error" in data:
                raise Refused(repr(data))
        return data

    def rest(self):
        """What still comes until the server ends in order."""
        return b"".join(iter(lambda: self.socket.recv(65536), b""))

    def set_chunk_size(self, size=4096):
        self.send(1, size.to_bytes(4, "big"), chunk_stream=2)
        self.chunk_bytes = size

    def connect(self, app="live", url=None, **properties):
        self.set_chunk_size()
        url = url or f"rtmp://{self.host}:{self.port}/{app}"
        self.send(COMMAND, amf("connect") + amf(1) + amf({"app": app, "type": "nonprivate", "flashVer": "FMLE/3.0 (test)", "tcUrl": url, **properties}))
        self.expect(b"_result")
        return self

    def publish(self, name):
        self.send(COMMAND, amf("createStream") + amf(4) + amf(None))
        self.expect(b"_result")
        self.send(COMMAND, amf("publish") + amf(5) + amf(None) + amf(name) + amf("live"), stream=1, chunk_stream=4)
        self.expect(b"NetStream.Publish.Start")
        return self

    def tag(self, kind, timestamp, body):
        """One FLV tag as a message."""
        if kind == DATA:
            body = amf("@setDataFrame") + body
        self.send(kind, body, timestamp=timestamp, stream=1, chunk_stream=6 if kind == VIDEO else 4)

    def close(self):
        """As encoders do at the end."""
        self.send(COMMAND, amf("FCUnpublish") + amf(6) + amf(None) + amf("x"))
        self.send(COMMAND, amf("deleteStream") + amf(7) + amf(None) + amf(1))
        self.socket.shutdown(socket.SHUT_WR)
        self.wait_closed(10)
        self.socket.close()

    def abort(self):
        """A reset instead of an end, as when the encoder's machine dies."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def wait_closed(self, seconds):
        """Seconds until the server closed; fails if it does not within `seconds` of a calm machine."""
        begin = time.monotonic()
        while (left := begin + seconds * PATIENCE - time.monotonic()) > 0:
            readable, _, _ = select.select([self.socket], [], [], left)
            try:
                if readable and not self.socket.recv(65536):
                    return time.monotonic() - begin
            except (ConnectionResetError, BrokenPipeError):
                return time.monotonic() - begin
        raise AssertionError(f"the server did not close the connection in {seconds * PATIENCE} s")


def publisher(port, name, app="live", url=None):
    """A connection that publishes."""
    return Connection(port).handshake().connect(app, url).publish(name)


def is_configuration(kind, body):
    """Sequence headers and metadata: no frame."""
    return kind == DATA or (kind == VIDEO and body[1] != 1) or (kind == AUDIO and body[0] >> 4 == 10 and body[1] == 0)


def wait_acknowledged(connection, seconds=10):
    """Until the server's kernel has everything: a reset loses what is still on its way."""
    deadline = time.monotonic() + seconds * PATIENCE
    while struct.unpack("i", fcntl.ioctl(connection.socket, termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
        assert time.monotonic() < deadline, "the server does not read"
        time.sleep(0.005)


class Live(threading.Thread):
    """Publishes a file in real time and notes when each frame left."""

    def __init__(self, path, port, name, app="live", url=None):
        super().__init__(daemon=True)
        self.tags = list(media.flv_tags(path))
        self.connection = publisher(port, name, app, url)
        # Wall-clock times, by frame and track.
        self.sent = {"video": [], "audio": []}
        self.key_frames = []
        # How late a frame left at most, s: about what this machine makes anybody wait who should run.
        self.late_s = 0
        self.error = None
        self._stop_asked = threading.Event()
        self.start()

    def run(self):
        begin = time.monotonic()
        try:
            for kind, timestamp, body in self.tags:
                if self._stop_asked.wait(max(0, begin + timestamp / 1000 - time.monotonic())):
                    break
                self.late_s = max(self.late_s, time.monotonic() - begin - timestamp / 1000)
                self.connection.tag(kind, timestamp, body)
                if not is_configuration(kind, body):
                    track = "video" if kind == VIDEO else "audio"
                    if kind == VIDEO and body[0] >> 4 == 1:
                        self.key_frames.append(len(self.sent["video"]))
                    self.sent[track].append(time.time())
        except OSError as error:
            self.error = error

    def stop(self):
        """Ends the publication; returns how many frames of each track were sent."""
        self._stop_asked.set()
        self.join(10 * PATIENCE)
        assert self.error is None, self.error
        self.connection.close()
        return {track: len(times) for track, times in self.sent.items()}
