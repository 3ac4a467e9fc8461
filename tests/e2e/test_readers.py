"""Every kind of playlist in every reader at hand: hls.js and Shaka Player in Chromium, ffmpeg, GStreamer, and a parser of playlists."""

import os
import re
import subprocess
from pathlib import Path

import m3u8
import pytest
import requests

import media
from appliance import until
from test_publishers import newer_ffmpeg

MODULES = Path(os.environ.get("CAPSTAN_NODE_MODULES") or media.REPOSITORY / "target" / "test-node" / "node_modules")

# The page comes from nowhere, which browsers take for the wide world: it may ask this machine.
ARGUMENTS = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"]

MULTITRACK = (
    f"{media.picture(8)} {media.picture(8, size='128x96')} {media.tone(8, 48000)} {media.tone(8, 44100)} -map 0:v -map 1:v -map 2:a -map 3:a {media.X264} -g 25 -c:a aac"
)

PAGE = """<!doctype html><script src="shaka.js"></script><script type="module">
import Hls from "./hls.js";
window.readers = {
    hls: (address, video, fail) => {
        const hls = new Hls({ enableWorker: false });
        hls.on(Hls.Events.ERROR, (_, data) => fail(`hls.js: ${data.details} ${data.error ?? ""}`, data.fatal));
        hls.loadSource(address);
        hls.attachMedia(video);
        return () => hls.destroy();
    },
    shaka: (address, video, fail) => {
        shaka.polyfill.installAll();
        const player = new shaka.Player();
        player.addEventListener("error", (event) => fail(`Shaka Player: ${event.detail.code} ${event.detail.data}`, true));
        player.attach(video).then(() => player.load(address)).catch((error) => fail(`Shaka Player: ${error.code} ${error.data}`, true));
        return () => player.destroy();
    },
};
// Until so much was played, with frames decoded and no error worth mentioning.
window.read = (reader, address, seconds) => new Promise((resolve, reject) => {
    const video = Object.assign(document.createElement("video"), { muted: true });
    document.body.append(video);
    const done = (settle, value) => { clearInterval(look); clearTimeout(end); close(); video.remove(); settle(value); };
    const close = window.readers[reader](address, video, (text, fatal) => fatal && done(reject, new Error(text)));
    let begun = null;
    const look = setInterval(() => {
        video.play().catch(() => {});
        const frames = video.getVideoPlaybackQuality().totalVideoFrames;
        if (begun === null && video.readyState >= 2) begun = video.currentTime;
        if (begun !== null && video.currentTime >= begun + seconds && frames > 5) done(resolve, [begun, video.currentTime, frames]);
    }, 30);
    const end = setTimeout(() => done(reject, new Error(`${reader}: ${video.currentTime} s, ready ${video.readyState}, ${video.error?.message}`)), 60000);
});
// Plays, changes to the other sound, and plays on with it.
window.change = (address) => new Promise((resolve, reject) => {
    const video = Object.assign(document.createElement("video"), { muted: true });
    document.body.append(video);
    const hls = new Hls({ enableWorker: false });
    const done = (settle, value) => { clearInterval(look); clearTimeout(end); hls.destroy(); video.remove(); settle(value); };
    const buffered = [];
    let changedAt = null;
    hls.on(Hls.Events.ERROR, (_, data) => data.fatal && done(reject, new Error(`hls.js: ${data.details} ${data.error ?? ""}`)));
    hls.on(Hls.Events.FRAG_BUFFERED, (_, { frag }) => buffered.push(frag.relurl));
    hls.on(Hls.Events.AUDIO_TRACK_SWITCHED, () => { changedAt ??= hls.audioTrack === 1 ? video.currentTime : null; });
    hls.loadSource(address);
    hls.attachMedia(video);
    const look = setInterval(() => {
        video.play().catch(() => {});
        if (hls.audioTracks.length === 2 && hls.audioTrack === 0 && video.currentTime > 0.3) hls.audioTrack = 1;
        const plays = changedAt !== null && video.currentTime > changedAt + 1 && buffered.some((name) => name.includes("audio-2"));
        if (plays) done(resolve, { sounds: hls.audioTracks.map((sound) => sound.name), levels: hls.levels.map((level) => level.width), buffered });
    }, 30);
    const end = setTimeout(() => done(reject, new Error(`${video.currentTime} s, ready ${video.readyState}, sound ${hls.audioTrack}, ${buffered}`)), 60000);
});
window.isReady = true;
</script>"""


def open_page(page, appliance):
    library = requests.get(f"{appliance.http}/console/vendor/hls.mjs", timeout=60)
    assert library.ok, "built without hls.js"
    shaka = (MODULES / "shaka-player" / "dist" / "shaka-player.compiled.js").read_text()
    parts = {"reader.html": (PAGE, "text/html"), "hls.js": (library.text, "text/javascript"), "shaka.js": (shaka, "text/javascript")}
    # As a site of somebody else's: everything it loads needs CORS.
    page.route("http://localhost:1/**", lambda route: route.fulfill(body=parts[route.request.url.split("/")[-1]][0], content_type=parts[route.request.url.split("/")[-1]][1]))
    page.goto("http://localhost:1/reader.html")
    page.wait_for_function("window.isReady")


@pytest.fixture(scope="module")
def browser():
    import shutil

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = os.environ.get("CAPSTAN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


def parsed(url):
    """As another parser understands it; what it lists is there."""
    answer = requests.get(url, timeout=60)
    assert answer.headers["Content-Type"] == "application/vnd.apple.mpegurl", url
    playlist = m3u8.loads(answer.text, uri=answer.url)
    assert playlist.segments and all(segment.duration <= playlist.target_duration + 0.5 for segment in playlist.segments)
    for segment in (playlist.segments[0], playlist.segments[-1]):
        headers = {}
        if segment.byterange:
            length, offset = map(int, segment.byterange.split("@"))
            headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        assert requests.get(segment.absolute_uri, headers=headers, timeout=60).status_code in (200, 206), segment.uri
    return playlist


def begin_gstreamer(url, raw):
    command = ["gst-launch-1.0", "-q", "souphttpsrc", f"location={url}", "!", "hlsdemux", "!", "decodebin", "!", "videoconvert", "!", "video/x-raw,format=I420", "!", "filesink", "buffer-mode=unbuffered", f"location={raw}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end_gstreamer(process, raw, size=(96, 64)):
    """How many pictures of this size it found, and the last one. Now and then it has read all and waits for itself for ever."""
    try:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said[-4000:]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    length = size[0] * size[1] * 3 // 2
    data = raw.read_bytes()
    return len(data) // length, data[-length:]


def gstreamer(url, raw, enough, size=(96, 64)):
    """Pictures of this size that GStreamer's demuxer finds. If they are not enough it is asked once more."""
    counts = (end_gstreamer(begin_gstreamer(url, raw), raw, size)[0] for _ in range(2))
    return next((count for count in counts if count >= enough), 0)


def variants(url):
    """The playlists that another one joins, as another parser understands it."""
    joining = m3u8.loads(requests.get(url, timeout=60).text, uri=url)
    assert joining.is_variant and all(variant.stream_info.bandwidth and variant.stream_info.codecs for variant in joining.playlists)
    return [variant.absolute_uri for variant in joining.playlists]


def played_by_all(page, url):
    """hls.js and Shaka Player each play a bit of it."""
    for reader in ("hls", "shaka"):
        page.evaluate("([reader, url]) => read(reader, url, 0.5)", [reader, url])


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_every_playlist_in_every_reader(start, source, push, browser, tmp_path, container):
    appliance = start(record={"first_run_rule": False, "hls_container": container, "hls_segment_ms": 1000})
    appliance.record("localhost", hls=True, mp4=True, flv=True)
    page = browser.new_page()
    try:
        publisher = push.ffmpeg(source("live"), appliance.url("cam"), loop=True)
        appliance.wait_recording("cam")
        open_page(page, appliance)
        live = f"{appliance.media}/live/1300000001/localhost/live/cam.m3u8"
        until(lambda: len(parsed(live).segments) >= 2, 15, "two segments")
        assert parsed(live).playlist_type == "event" and not parsed(live).is_endlist
        # It asks the live address again and again, also after the end of the stream.
        watcher = begin_gstreamer(live, tmp_path / "watched")
        played_by_all(page, live)
        until(lambda: appliance.metric("capstan_frames_total", track="video") >= 120, what="six seconds")
        publisher.terminate()
        appliance.wait_offline("cam")
        sent = appliance.metric("capstan_frames_total", track="video")
        files = appliance.by_format("cam", "localhost", "flv", "hls", "mp4")
        urls = {kind: re.sub(r"\.(mp4|flv)$", ".m3u8", file["BasicInfo"]["MediaUrl"]) for kind, file in files.items()}
        urls["clip"] = appliance.call("SimpleHlsClip", Url=urls["hls"], StartTimeOffset=2, EndTimeOffset=5)["Url"]
        for kind, url in urls.items():
            if container == "ts" and kind in ("mp4", "flv"):
                continue
            assert parsed(url).is_endlist, kind
            played_by_all(page, url)
            frames = len(media.packets(url, quiet=False)["video"])
            assert frames >= (50 if kind == "clip" else sent), f"{kind}: {frames} of {sent}"
        count, last = end_gstreamer(begin_gstreamer(urls["hls"], tmp_path / "raw"), tmp_path / "raw")
        assert count >= sent - 1
        watched, last_watched = end_gstreamer(watcher, tmp_path / "watched")
        assert watched > 20 and last_watched == last
        assert parsed(live).is_endlist and requests.get(live, timeout=10).url.rsplit("/", 1)[0] == urls["hls"].rsplit("/", 1)[0]
    finally:
        page.close()


def test_a_player_changes_the_sound(start, push, browser):
    """Several tracks, while they are recorded and afterwards: the pictures are levels, the sounds can be chosen."""
    path = media.source("multitrack-live", newer_ffmpeg(), MULTITRACK)
    appliance = start(record={"first_run_rule": False, "hls_segment_ms": 1000})
    appliance.record("localhost", hls=True)
    page = browser.new_page()
    try:
        publisher = push.ffmpeg(path, appliance.url("cam"), loop=True, ffmpeg=newer_ffmpeg())
        appliance.wait_recording("cam")
        open_page(page, appliance)
        live = f"{appliance.media}/live/1300000001/localhost/live/cam.m3u8"
        until(lambda: requests.get(live, timeout=60).text.count("rendition.") == 4, 15, "the master playlist")
        for url in (live, None):
            if url is None:
                publisher.terminate()
                url = appliance.file("cam", "localhost")["BasicInfo"]["MediaUrl"]
            found = page.evaluate("url => change(url)", url)
            assert (found["sounds"], sorted(found["levels"])) == (["Audio 1", "Audio 2"], [128, 160]), found
            assert any("audio-1" in name for name in found["buffered"]) and any("video-" in name for name in found["buffered"]), found
        page.evaluate("([reader, url]) => read(reader, url, 0.5)", ["shaka", url])
    finally:
        page.close()
