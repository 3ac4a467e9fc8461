"""A receiver of callbacks: keeps what it was sent, answers as a test says."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from appliance import free_port, until


class Call:
    def __init__(self, path, headers, raw):
        self.path, self.headers, self.raw, self.time = path, headers, raw, time.monotonic()
        self.body = json.loads(raw)

    def __getitem__(self, field):
        return self.body[field]


class Receiver:
    """Listens from its creation to [`close`]; may listen again at the same address."""

    def __init__(self, answer=lambda call, number: 200):
        # Gets a call and how many came before it; says the status, or what else to do (a function of the handler).
        self.answer = answer
        self.calls = []
        self.lock = threading.Lock()
        self.port = free_port()
        self.server = None
        self.open()

    def open(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.path, self.headers, raw)
                with receiver.lock:
                    number = len(receiver.calls)
                    receiver.calls.append(call)
                answer = receiver.answer(call, number)
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(b'{"code":0}')

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def of(self, *types):
        with self.lock:
            return [call for call in self.calls if call.body.get("event_type") in types]

    def wait(self, count, *types, seconds=30):
        """The first `count` calls of these event types; waits until they have come."""
        return until(lambda: (lambda calls: calls[:count] if len(calls) >= count else None)(self.of(*types)), seconds, f"{count} callbacks of {types}")


def is_signed(call, key, sign="sign", t="t"):
    """Lower-case hex MD5 of key and t; t is ten minutes from now."""
    assert call[sign] == hashlib.md5(f"{key}{call[t]}".encode()).hexdigest()
    assert type(call[t]) is int and abs(call[t] - 600 - time.time()) < 30
    assert call.headers["Content-Type"] == "application/json"
    return True
