"""RTMPS: real publishers and OpenSSL against our certificates."""

import os
import signal
import socket
import ssl
import subprocess

import pytest

import media
import rtmp
from appliance import Appliance, free_port, until
from check import check
from test_publishers import newer_ffmpeg


def certificate(folder, name, *names):
    """A self-signed certificate for these names; returns its two files."""
    folder.mkdir(parents=True, exist_ok=True)
    key, chain = folder / f"{name}.key", folder / f"{name}.pem"
    names = ",".join(f"DNS:{name}" for name in names)
    media.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key, "-out", chain, "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"])
    return {"certificate": str(chain), "key": str(key)}


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtmps")
    files = [certificate(folder, "first", "first.example", "localhost"), certificate(folder, "second", "second.example", "*.wild.example")]
    port = free_port()
    appliance = Appliance(folder / "capstan", ingest={"rtmps_listen": f"127.0.0.1:{port}", "tls_certificates": files})
    appliance.tls_port = port
    appliance.start()
    yield appliance
    appliance.stop()


def subject(port, name, *options):
    """The common name of the certificate that OpenSSL is given for a name."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *(["-servername", name] if name else ["-noservername"]), *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    text = media.run(["openssl", "x509", "-noout", "-subject"], input=done.stdout).stdout.decode()
    return text.strip().rpartition("=")[2].strip(), done.stdout.decode()


def test_a_publisher_records_as_over_rtmp(secure, push, source, domain):
    secure.record(domain, mp4=True, flv=True)
    url = f"rtmps://127.0.0.1:{secure.tls_port}/live/cam?vhost={domain}"
    push(source("bframes"), url, "-tls_verify", "0", ffmpeg=newer_ffmpeg())
    for file in secure.by_format("cam", domain, "mp4", "flv").values():
        check(secure, file, media.packets(source("bframes")))


def test_debian_ffmpeg_too(secure, push, source, domain):
    secure.record(domain, mp4=True)
    push(source("av"), f"rtmps://127.0.0.1:{secure.tls_port}/live/cam?vhost={domain}")
    check(secure, secure.file("cam", domain), media.packets(source("av")))


@pytest.mark.parametrize(("name", "expected"), [("first.example", "first"), ("second.example", "second"), ("a.wild.example", "second"), ("other.example", "first"), (None, "first")])
def test_the_certificate_follows_the_name(secure, name, expected):
    assert subject(secure.tls_port, name)[0] == expected


@pytest.mark.parametrize(("version", "spoken"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
def test_versions(secure, version, spoken):
    assert f"{spoken}, Cipher" in subject(secure.tls_port, "first.example", version)[1]


def test_old_versions_are_refused(secure):
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{secure.tls_port}", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], input=b"", capture_output=True, timeout=60)
    assert done.returncode != 0


def test_the_wrong_port_gets_a_clear_word(secure):
    plain = rtmp.Connection(secure.tls_port)
    with pytest.raises((ConnectionError, AssertionError)):
        plain.handshake()
    until(lambda: "plain RTMP on the RTMPS port" in secure.log, 5, "the log's word")
    subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{secure.rtmp_port}"], input=b"", capture_output=True, timeout=60)
    until(lambda: "a TLS ClientHello (RTMPS)" in secure.log, 5, "the log's word")
    with socket.create_connection(("127.0.0.1", secure.tls_port)) as web:
        web.sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(lambda: "an HTTP request on the RTMPS port" in secure.log, 5, "the log's word")


def hello():
    """A client's first flight."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        rtmp.any_certificate().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def test_noise_ends_the_connection_alone(secure, source, domain):
    secure.record(domain, mp4=True)
    tags = list(media.flv_tags(source("av")))
    publisher = rtmp.Connection(secure.tls_port, tls=True).handshake().connect().publish(f"cam?vhost={domain}")
    for tag in tags[: len(tags) // 2]:
        publisher.tag(*tag)
    for noise in (b"\xff" + os.urandom(3000), b"\x16\x03\x01\x02\x00" + os.urandom(600), hello() + os.urandom(100)):
        peer = rtmp.Connection(secure.tls_port)
        peer.socket.sendall(noise)
        peer.wait_closed(5)
    # Behind a good TLS handshake: no RTMP within, no record at all.
    peer = rtmp.Connection(secure.tls_port, tls=True)
    peer.socket.sendall(b"\xff" * 4000)
    peer.wait_closed(5)
    peer = rtmp.Connection(secure.tls_port, tls=True).handshake()
    socket.socket.sendall(peer.socket, b"\x17\x03\x03\x01\x00" + os.urandom(256))
    with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
        peer.wait_closed(5)
    # Cut off.
    for begin in (b"\x16\x03\x01", b""):
        with socket.create_connection(("127.0.0.1", secure.tls_port)) as half:
            half.sendall(begin)
    for tag in tags[len(tags) // 2 :]:
        publisher.tag(*tag)
    publisher.close()
    check(secure, secure.file("cam", domain), media.packets(source("av")))


def test_handshakes_that_stall_are_ended(start, tmp_path, push, source, domain):
    port = free_port()
    appliance = start(ingest={"rtmps_listen": f"127.0.0.1:{port}", "tls_certificates": [certificate(tmp_path, "a", "a.example")], "handshake_timeout_s": 2})
    appliance.record(domain, mp4=True)
    stalled = [rtmp.Connection(port) for _ in range(3)]
    # Nothing, half of the first flight, all of it but nothing behind; and TLS without a word of RTMP.
    stalled[1].socket.sendall(hello()[:100])
    stalled[2].socket.sendall(hello())
    stalled.append(rtmp.Connection(port, tls=True))
    push(source("av"), f"rtmps://127.0.0.1:{port}/live/cam?vhost={domain}")
    check(appliance, appliance.file("cam", domain), media.packets(source("av")))
    for connection in stalled:
        connection.wait_closed(10)
    until(lambda: appliance.log.count("no publication within the handshake time-out") == len(stalled), 5, "the log's word on each")


def test_publishers_that_can_reconnect_are_asked_to(start, tmp_path, source):
    """Enhanced RTMP v2: only those that have said so in `connect`, over TLS too."""
    port = free_port()
    appliance = start(ingest={"rtmps_listen": f"127.0.0.1:{port}", "tls_certificates": [certificate(tmp_path, "a", "a.example")]})
    # Reconnecting is the lowest bit.
    cases = [({}, False, False), ({"capsEx": 14}, False, False), ({"capsEx": 1}, False, True), ({"capsEx": 15}, True, True)]
    connections = []
    for number, (properties, tls, _) in enumerate(cases):
        connection = rtmp.Connection(port if tls else appliance.rtmp_port, tls=tls).handshake().connect(**properties).publish(f"cam-{number}")
        for tag in list(media.flv_tags(source("av")))[:20]:
            connection.tag(*tag)
        rtmp.wait_acknowledged(connection)
        connections.append(connection)
    appliance.process.send_signal(signal.SIGTERM)
    for connection, (properties, _, asked) in zip(connections, cases):
        said = connection.rest()
        assert (b"NetConnection.Connect.ReconnectRequest" in said) == asked, (properties, said)
        assert b"NetStream.Unpublish.Success" in said
    assert appliance.process.wait(60) == 0


def test_certificates_are_read_anew(start, tmp_path):
    files = certificate(tmp_path, "old", "a.example")
    port = free_port()
    appliance = start(ingest={"rtmps_listen": f"127.0.0.1:{port}", "tls_certificates": [files]})
    assert subject(port, "a.example")[0] == "old"
    renewed = certificate(tmp_path / "new", "renewed", "a.example")
    for kind in ("certificate", "key"):
        os.replace(renewed[kind], files[kind])
    # By SIGHUP at once; a look at the files finds it too.
    appliance.process.send_signal(signal.SIGHUP)
    until(lambda: subject(port, "a.example")[0] == "renewed", 10, "the renewed certificate")
    # A broken one changes nothing.
    (tmp_path / "old.pem").write_text("nothing")
    appliance.process.send_signal(signal.SIGHUP)
    until(lambda: "are not read anew" in appliance.log, 10, "the log's word")
    assert subject(port, "a.example")[0] == "renewed"


def test_settings_that_cannot_work(tmp_path):
    for settings, words in (
        ({"rtmps_listen": "127.0.0.1:1"}, "needs a certificate"),
        ({"rtmps_listen": "here"}, "empty, or IP address:port"),
        ({"tls_certificates": [{"certificate": "a"}]}, "`ingest.tls_certificates.key` is missing"),
    ):
        appliance = Appliance(tmp_path, ingest=settings)
        appliance.folder.mkdir(exist_ok=True)
        from appliance import BINARY, toml

        appliance.config.write_text(toml(appliance.settings))
        done = subprocess.run([BINARY, "check-config", appliance.config], capture_output=True, timeout=60)
        assert done.returncode != 0 and words in (done.stderr + done.stdout).decode()
