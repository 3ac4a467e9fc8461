"""Firefox without a window, driven by its own remote protocol (WebDriver BiDi) over a WebSocket (RFC 6455)."""

import base64
import itertools
import json
import os
import re
import shutil
import socket
import subprocess

from appliance import until

BINARY = os.environ.get("CAPSTAN_FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
# It asks nobody for updates or experiments, and plays without a click.
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.blocking_policy": 0,
    "media.autoplay.default": 0,
    "media.gmp-manager.updateEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}


class Firefox:
    """One browser with one page; `errors` are those that the page reported."""

    def __init__(self, folder):
        profile = folder / "firefox"
        profile.mkdir()
        (profile / "user.js").write_text("".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()))
        self.log = open(folder / "firefox.log", "w+")
        command = [BINARY, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0", "about:blank"]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env={**os.environ, "HOME": str(folder)})
        self.errors, self._ids, self._buffer = [], itertools.count(1), b""
        try:
            self._begin()
        except BaseException:
            self.process.kill()
            raise

    def _begin(self):
        self._socket = self._connect(self._port())
        self._command("session.new", capabilities={})
        self._command("session.subscribe", events=["log.entryAdded"])
        self.context = self._command("browsingContext.getTree")["contexts"][0]["context"]

    def _port(self):
        def said():
            self.log.seek(0)
            found = re.search(r"WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)", self.log.read())
            assert found or self.process.poll() is None, "Firefox ended"
            return found

        return int(until(said, 40, "Firefox listening")[1])

    @staticmethod
    def _connect(port):
        opened = socket.create_connection(("127.0.0.1", port), 120)
        key = base64.b64encode(os.urandom(16)).decode()
        opened.sendall(f"GET /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += opened.recv(1)
        assert b" 101 " in head.split(b"\r\n")[0], head
        return opened

    def _take(self, count):
        while len(self._buffer) < count:
            read = self._socket.recv(1 << 16)
            assert read, "Firefox closed the connection"
            self._buffer += read
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _send(self, text):
        body, mask = text.encode(), os.urandom(4)
        length = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big") if len(body) < 1 << 16 else b"\xff" + len(body).to_bytes(8, "big")
        self._socket.sendall(b"\x81" + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(body)))

    def _message(self):
        text, final = b"", False
        while not final:
            first, second = self._take(2)
            length = second & 127
            length = int.from_bytes(self._take({126: 2, 127: 8}[length]), "big") if length > 125 else length
            body, final = self._take(length), first & 0x80
            if first & 15 in (0, 1):
                text += body
        return json.loads(text or b"{}")

    def _command(self, method, **parameters):
        number = next(self._ids)
        self._send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._message()
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.errors.append(message["params"]["text"])
            if message.get("id") == number:
                assert message["type"] == "success", message
                return message["result"]

    def go(self, url):
        self._command("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, expression):
        """The value of an expression, or of what it promises."""
        wrapped = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        answer = self._command("script.evaluate", expression=wrapped, target={"context": self.context}, awaitPromise=True, userActivation=True)
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def close(self):
        self._socket.close()
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
