"""The player page by FileId in a browser: two qualities with a forced change, plain and encrypted; signatures that do not hold."""

import base64
import contextlib
import hashlib
import hmac
import html
import http.server
import json
import threading
import time

import media
import pytest
import requests
from appliance import until
from test_process import finished
from test_readers import browser  # noqa: F401
from test_readers import gstreamer, open_page, parsed, played_by_all, variants

APP = 1300000001


def psign(key, file_id, app=APP, **claims):
    text = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")  # noqa: E731
    body = {"appId": app, "fileId": file_id, "currentTimeStamp": int(time.time()), "expireTimeStamp": int(time.time()) + 600, **claims}
    signed = text({"alg": "HS256", "typ": "JWT"}) + b"." + text(body)
    return (signed + b"." + base64.urlsafe_b64encode(hmac.new(key.encode(), signed, hashlib.sha256).digest()).rstrip(b"=")).decode()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A recording with an adaptive stream of two steps, plain and encrypted, and pictures of the time line; the appliance, FileId and playback key."""
    from appliance import Appliance

    appliance = Appliance(tmp_path_factory.mktemp("player"), process={"preset": "ultrafast"}).start()
    path = tmp_path_factory.mktemp("source") / "wide.flv"
    command = "-f lavfi -i testsrc2=s=640x360:r=25:d=12 -f lavfi -i sine=f=440:d=12:r=44100 -c:v libx264 -preset ultrafast -g 25 -pix_fmt yuv420p -c:a aac -f flv"
    media.run(["ffmpeg", "-v", "error", "-y", *command.split(), path])
    appliance.record("player.example", mp4=True)
    media.run(["ffmpeg", "-v", "error", "-i", path, "-c", "copy", "-f", "flv", appliance.url("cam", "player.example")])
    file = appliance.file("cam", "player.example")["FileId"]
    steps = [{"Video": {"Codec": "libx264", "Fps": 25, "Bitrate": rate, "Height": height}, "Audio": {"Codec": "libfdk_aac", "Bitrate": 64, "SampleRate": 44100}}
             for height, rate in ((240, 256), (360, 512))]
    definitions = [appliance.call("CreateAdaptiveDynamicStreamingTemplate", Format="HLS", StreamInfos=steps, SegmentDuration=2, **more)["Definition"]
                   for more in ({"SegmentType": "mp4"}, {"DrmType": "SimpleAES"})]
    process = {"AdaptiveDynamicStreamingTaskSet": [{"Definition": definition} for definition in definitions], "ImageSpriteTaskSet": [{"Definition": 10}],
               "CoverBySnapshotTaskSet": [{"Definition": 10}]}
    task = appliance.call("ProcessMedia", FileId=file, MediaProcessTask=process)["TaskId"]
    _, results = finished(appliance, task)
    assert all(result["Status"] == "SUCCESS" for found in results.values() for result in found), results
    yield appliance, file, appliance.call("DescribeDefaultDistributionConfig", version="2018-07-17")["PlayKey"], definitions
    appliance.stop()


def info(appliance, file, sign, app=APP):
    reply = requests.get(f"{appliance.http}/getplayinfo/v4/{app}/{file}", params={"psign": sign}, timeout=60)
    assert (reply.status_code, reply.headers["Content-Type"], reply.headers["Access-Control-Allow-Origin"]) == (200, "application/json", "*")
    return reply.json()


def test_play_information(made):
    appliance, file, key, (plain, encrypted) = made
    content = lambda **info: {"contentInfo": info}  # noqa: E731
    raw = content(audioVideoType="RawAdaptive", rawAdaptiveDefinition=plain, imageSpriteDefinition=10, resolutionNames=[{"minEdgeLength": 360, "name": "SD"}])
    answer = info(appliance, file, psign(key, file, **raw))
    assert (answer["code"], answer["version"]) == (0, 4)
    output = answer["media"]["streamingInfo"]["plainOutput"]
    assert [(stream["width"], stream["height"], stream["resolutionName"]) for stream in output["subStreams"]] == [(426, 240, "SD"), (640, 360, "SD")]
    assert requests.get(output["url"], timeout=60).status_code == 200
    assert requests.get(answer["media"]["imageSpriteInfo"]["webVttUrl"], timeout=60).text.startswith("WEBVTT")
    assert answer["media"]["basicInfo"]["coverUrl"].endswith("/cover.jpg") and abs(answer["media"]["basicInfo"]["duration"] - 12) < 0.2
    # Nothing was made by the definition of the default player: the original is what there is.
    assert info(appliance, file, psign(key, file, pcfg="default"))["media"]["streamingInfo"]["plainOutput"]["type"] == "mp4"
    assert info(appliance, file, psign(key, file, **content(audioVideoType="Original")))["media"]["streamingInfo"]["plainOutput"]["type"] == "mp4"
    protected = info(appliance, file, psign(key, file, **content(audioVideoType="ProtectedAdaptive", drmAdaptiveInfo={"privateEncryptionDefinition": encrypted})))
    streaming = protected["media"]["streamingInfo"]
    assert "plainOutput" not in streaming and streaming["drmOutput"][0]["type"] == "SimpleAES"
    folder, name = streaming["drmOutput"][0]["url"].rsplit("/", 1)
    opened = f"{folder}/voddrm.token.{streaming['drmToken']}.{name}"
    # A reader that knows nothing but the address decrypts it.
    media.assert_decodes(opened)
    for sign in ("", "x.y.z", psign(key + "x", file), psign(key, file, expireTimeStamp=1), psign(key, "387702290000000009"), psign(key, file, app="1300000001"),
                 psign(key, file, **content(audioVideoType="Transcode", transcodeDefinition=10))):
        refused = info(appliance, file, sign)
        assert refused["code"] != 0 and len(refused["message"]) > 10 and "media" not in refused
    assert info(appliance, file, psign(key, file, app=7), app=7)["code"] != 0


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_adaptive_playlists_in_every_reader(made, browser, tmp_path, kind):  # noqa: F811
    """As somebody else's page and programs read them, with nothing but the address."""
    appliance, file, key, (plain, encrypted) = made
    content = {"audioVideoType": "RawAdaptive", "rawAdaptiveDefinition": plain}
    if kind == "encrypted":
        content = {"audioVideoType": "ProtectedAdaptive", "drmAdaptiveInfo": {"privateEncryptionDefinition": encrypted}}
    streaming = info(appliance, file, psign(key, file, contentInfo=content))["media"]["streamingInfo"]
    url = streaming["plainOutput"]["url"] if kind == "plain" else streaming["drmOutput"][0]["url"]
    if kind == "encrypted":
        folder, name = url.rsplit("/", 1)
        url = f"{folder}/voddrm.token.{streaming['drmToken']}.{name}"
    listed = [parsed(variant) for variant in variants(url)]
    assert len(listed) == 2 and all(playlist.is_endlist for playlist in listed)
    methods = {key.method for playlist in listed for key in playlist.keys if key}
    assert methods == ({"AES-128"} if kind == "encrypted" else set())
    page = browser.new_page()
    open_page(page, appliance)
    played_by_all(page, url)
    page.close()
    for variant, height in zip(variants(url), (240, 360)):
        width = 426 if height == 240 else 640
        assert gstreamer(variant, tmp_path / "raw", 299, (width, height)), variant
        assert len(media.packets(variant, quiet=False)["video"]) == 300


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_a_page_plays_two_qualities(made, browser, kind):  # noqa: F811
    appliance, file, key, (plain, encrypted) = made
    content = {"audioVideoType": "RawAdaptive", "rawAdaptiveDefinition": plain, "imageSpriteDefinition": 10}
    if kind == "encrypted":
        content = {"audioVideoType": "ProtectedAdaptive", "drmAdaptiveInfo": {"privateEncryptionDefinition": encrypted}}
    page = browser.new_page()
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    # In a page of somebody else's.
    address = f"{appliance.http}/player/{APP}/{file}?autoplay=1&psign={psign(key, file, contentInfo=content)}"
    with embedding(f'<iframe width="800" height="500" allow="autoplay; fullscreen" src="{html.escape(address)}"></iframe>') as other:
        page.goto(other)
        frame = page.wait_for_selector("iframe").content_frame()
        play_two_qualities(frame, kind)
        assert wrong == []
    page.close()


@contextlib.contextmanager
def embedding(body):
    """The address of a page of somebody else's."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = f"<!doctype html><title>x</title><link rel=icon href=data:,>{body}".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def play_two_qualities(frame, kind):
    frame.wait_for_selector("video")
    state = "() => { const v = document.querySelector('video'); return [v.currentTime, v.videoHeight, v.getVideoPlaybackQuality().totalVideoFrames, v.error && v.error.code]; }"
    until(lambda: frame.evaluate(state)[0] > 0.5 and frame.evaluate(state)[2] > 5, 20, "the picture to move")
    options = frame.eval_on_selector_all("#quality option", "options => options.map(option => option.value)")
    assert options == ["-1", "1", "0"]
    for level, height in (("0", 240), ("1", 360)):
        frame.evaluate("() => { const v = document.querySelector('video'); v.currentTime = 0; v.play().catch(() => {}); }")
        frame.select_option("#quality", level)
        until(lambda: frame.evaluate(state)[1] == height, 20, f"{height} lines")
    if kind == "plain":
        frame.hover("#timeline", position={"x": 300, "y": 7})
        assert "sprite.10." in frame.eval_on_selector("#picture", "picture => picture.style.backgroundImage")
    assert frame.evaluate(state)[3] is None


def test_a_page_without_a_signature_says_so(made, browser):  # noqa: F811
    appliance, file, _, _ = made
    page = browser.new_page()
    page.goto(f"{appliance.http}/player/{APP}/{file}")
    page.locator("#message").wait_for(state="visible")
    assert "psign" in page.locator("#message").text_content()
    page.close()
    assert requests.get(f"{appliance.http}/player/{APP}/nothing", timeout=60).status_code == 404
