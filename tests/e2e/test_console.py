"""The console in a browser: a publisher appears, a task is made, its file is played and deleted."""

import base64
import os
import random
import shutil

import pytest

from appliance import until
from signing import Signed

CHROMIUM = os.environ.get("CAPSTAN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# Where pictures of every page go, to be looked at.
PICTURES = os.environ.get("CAPSTAN_CONSOLE_PICTURES")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "there is no Chromium; tests/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that may neither fail nor ask anybody else for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(60_000)
    wrong, hosts = [], set()
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    yield page
    context.close()
    assert wrong == []
    assert hosts <= {"127.0.0.1"}, "the console asks strangers"


def picture(page, name):
    if PICTURES:
        os.makedirs(PICTURES, exist_ok=True)
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 860})
            page.screenshot(path=f"{PICTURES}/{name}-{scheme}-{width}.png", full_page=True)
        page.set_viewport_size({"width": 1280, "height": 860})
        page.emulate_media(color_scheme=None)


def visit(page, name, sign):
    page.goto(page.url.split("#")[0] + f"#/{name}")
    page.get_by_text(sign, exact=True).first.wait_for()
    picture(page, name.split("/")[0])


def played(page, seconds=1.0):
    """Until the player has advanced by so much, with frames decoded and no error."""
    # Asked to play while it still loads, it says that it was interrupted.
    page.locator("video").wait_for(state="attached")
    until(lambda: page.eval_on_selector("video", "video => video.readyState >= 2"), 10, "a picture")
    # A player that begins anew meanwhile interrupts it, and is asked again.
    asked = "video => { video.muted = true; return video.play().then(() => true, (error) => { if (error.name !== 'AbortError') throw error; return false; }); }"
    until(lambda: page.eval_on_selector("video", asked), 10, "the player to begin")
    figures = "video => [video.currentTime, video.getVideoPlaybackQuality().totalVideoFrames, video.error && video.error.message]"
    begin, frames, _ = page.eval_on_selector("video", figures)

    def advanced():
        now, after, error = page.eval_on_selector("video", figures)
        assert error is None
        # A live player may jump to the newest part: only then come its pictures.
        return now >= begin + seconds and after > frames

    until(advanced, 15, "the player advancing")


def test_a_stream_is_seen_recorded_played_and_deleted(start, source, push, page):
    appliance = start(record={"first_run_rule": False})
    appliance.record("localhost", hls=True)
    page.goto(f"{appliance.http}/")
    page.get_by_text("Nobody publishes at the moment").wait_for()
    pushing = push.ffmpeg(source("live"), appliance.url("camera-1"), loop=True)

    # Seen, with what it is and that it is recorded.
    row = page.get_by_role("row").filter(has_text="camera-1")
    row.get_by_text("96×64").wait_for()
    row.get_by_text("HLS").wait_for()
    assert "kbit/s" in row.inner_text()
    picture(page, "overview")

    # A task from now on, by the dialog; the page shows that it records.
    visit(page, "tasks", "New task")
    page.get_by_role("button", name="New task").click()
    page.get_by_label("Stream", exact=True).fill("camera-1")
    page.get_by_role("button", name="Create").click()
    row = page.get_by_role("row").filter(has_text="camera-1")
    row.get_by_text("recording", exact=True).wait_for()
    picture(page, "tasks")
    before = appliance.metric("capstan_frames_total", track="video")
    until(lambda: appliance.metric("capstan_frames_total", track="video") > before + 40, 15, "two seconds of media")
    row.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    row.get_by_text("stopped at").wait_for()

    # The other pages show what there is.
    for name, sign in (("templates", "Templates"), ("rules", "localhost"), ("push", "rtmp://127.0.0.1:%d/live/camera-1" % appliance.rtmp_port), ("settings", "rtmp_listen")):
        visit(page, name, sign)

    # The task's file is found by what people write, and so is the recording of the rule, once its publisher is gone.
    pushing.kill()
    appliance.files("camera-1", count=2)
    visit(page, "recordings", "Recordings")
    page.get_by_label("Search recordings").fill("camera-1 hls last 2h")
    page.get_by_text("1 found").wait_for()
    picture(page, "recordings")
    page.get_by_role("link").filter(has_text="camera-1").first.click()
    page.get_by_text("complete", exact=True).wait_for()
    played(page)
    picture(page, "recording")

    # Deleted after a question, and gone.
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_label("Search recordings").wait_for()
    files = until(lambda: (found := appliance.search()) and len(found) == 1 and found, 10, "the file being gone")
    assert files[0]["MetaData"]["Container"] == "flv"


def sought(page, seconds):
    """Jumps there; how long it took until the picture of that moment was there, ms."""
    return page.eval_on_selector(
        "video",
        """(video, seconds) => new Promise((resolve, reject) => {
            const begun = performance.now();
            video.addEventListener("seeked", () => resolve(performance.now() - begun), { once: true });
            const state = () => `${video.error?.message}, state ${video.readyState}, at ${video.currentTime}, ${video.buffered.length} stretches`;
            setTimeout(() => reject(new Error(`no picture at ${seconds} s: ${state()}`)), 60000);
            // Whoever waits for long jumps once more.
            setTimeout(() => (video.currentTime = seconds), 20000);
            video.currentTime = seconds;
        })""",
        seconds,
    )


def test_watching_a_live_recording_and_cutting_it(start, source, push, page):
    """A stream is watched while it is recorded, back to its beginning; its recording is sought through, and cut with the two handles."""
    appliance = start(record={"first_run_rule": False, "hls_segment_ms": 1000})
    appliance.record("localhost", hls=True)
    pushing = push.ffmpeg(source("live"), appliance.url("camera-1"), loop=True)
    appliance.wait_recording("camera-1")
    page.goto(f"{appliance.http}/#/overview")
    page.get_by_role("row").filter(has_text="camera-1").get_by_role("link", name="Watch").click()
    page.locator("video").wait_for(state="attached")
    until(lambda: page.eval_on_selector("video", "video => video.seekable.length && video.seekable.end(0)") > 4, 15, "four seconds to watch")
    played(page)
    page.get_by_role("button", name="To the beginning").click()
    until(lambda: page.eval_on_selector("video", "video => video.currentTime") < 2.5, 5, "the beginning")
    played(page, 0.5)
    page.get_by_role("button", name="Live", exact=True).click()
    played(page, 0.5)
    picture(page, "watch")
    pushing.kill()
    appliance.file("camera-1")

    # Seeking back and forth, then the handles by keyboard and by mouse.
    page.goto(f"{appliance.http}/#/recordings")
    page.get_by_role("link").filter(has_text="camera-1").first.click()
    page.get_by_text("complete", exact=True).wait_for()
    length = until(lambda: page.eval_on_selector("video", "video => video.duration || 0"), 10, "the length")
    chance = random.Random(7)
    for _ in range(20):
        sought(page, length * chance.random())
    begin, end = page.get_by_role("slider", name="Begin of the clip"), page.get_by_role("slider", name="End of the clip")
    begin.press("ArrowRight")
    begin.press("Shift+ArrowRight")
    box, bar = end.bounding_box(), page.locator(".track").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(bar["x"] + bar["width"] * 3.5 / length, box["y"] + 4, steps=4)
    page.mouse.up()
    assert float(begin.get_attribute("aria-valuenow")) == pytest.approx(1.1) and float(end.get_attribute("aria-valuenow")) == pytest.approx(3.5, abs=0.2)
    picture(page, "clip")
    page.get_by_role("button", name="Cut a clip").click()
    page.get_by_role("dialog").get_by_label("Name").fill("the goal")
    page.get_by_role("dialog").get_by_role("button", name="Cut").click()
    page.get_by_role("heading", name="the goal").wait_for()
    played(page, 0.5)


@pytest.fixture
def firefox(tmp_path):
    import firefox

    if not firefox.BINARY:
        pytest.skip("there is no Firefox; Debian's package is firefox-esr")
    browser = firefox.Firefox(tmp_path)
    yield browser
    browser.close()


def test_firefox_plays_what_lives_and_what_is_kept(start, source, push, firefox):
    """The same page in another browser: a stream that is live, then its recordings, sought through."""
    appliance = start(record={"first_run_rule": False, "hls_segment_ms": 1000})
    appliance.record("localhost", hls=True, mp4=True, flv=True)
    pushing = push.ffmpeg(source("live"), appliance.url("camera-1"), loop=True)
    appliance.wait_recording("camera-1")
    figures = "(() => { const v = document.querySelector('video'); return v && [v.currentTime, v.getVideoPlaybackQuality().totalVideoFrames, v.error?.message, v.readyState, v.duration]; })()"

    def plays():
        def ready():
            now = firefox.evaluate(figures)
            return now and now[3] >= 2 and now

        before = until(ready, 15, "a picture")
        until(lambda: firefox.evaluate("Object.assign(document.querySelector('video'), { muted: true }).play().then(() => true, (error) => { if (error.name !== 'AbortError') throw error; return false; })"), 10, "the player to begin")

        def advanced():
            now = firefox.evaluate(figures)
            assert now[2] is None, now
            return now[0] >= before[0] + 0.5 and now[1] > before[1]

        until(advanced, 15, "the player advancing")

    firefox.go(f"{appliance.http}/#/watch/localhost/live/camera-1")
    plays()
    pushing.kill()
    files = appliance.by_format("camera-1", "localhost", "flv", "hls", "mp4")
    for kind in ("flv", "mp4"):
        file = files[kind]
        firefox.go("about:blank")
        firefox.go(f"{appliance.http}/#/recording/{file['FileId']}")
        plays()
        for part in (0.7, 0.1, 0.5):
            sought = "new Promise((done) => { const v = document.querySelector('video'); v.addEventListener('seeked', () => done(v.currentTime), { once: true }); v.currentTime = v.duration * %s; })"
            length = firefox.evaluate(figures)[4]
            assert firefox.evaluate(sought % part) == pytest.approx(length * part, abs=0.3), kind
    assert firefox.errors == []


def test_who_watches_goes_on_watching_when_the_recording_comes_again(start, source, push, browser):
    """A player that had to begin anew does not stand still until somebody presses its button."""
    appliance = start(record={"first_run_rule": False, "hls_segment_ms": 1000})
    appliance.record("localhost", hls=True)
    push.ffmpeg(source("live"), appliance.url("camera-1"), loop=True)
    appliance.wait_recording("camera-1")
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{appliance.http}/#/watch/localhost/live/camera-1")
    played(page, 0.5)
    page.route("**/*.m3u8", lambda route: route.fulfill(status=404))
    page.get_by_text("it is asked for again").wait_for()
    page.unroute("**/*.m3u8")
    page.eval_on_selector("video", "video => video.addEventListener('emptied', () => { window.begunAnew = true; })")
    until(lambda: page.evaluate("window.begunAnew"), 10, "the player to begin anew")
    at = "video => video.currentTime"
    begin = until(lambda: page.eval_on_selector("video", "video => video.readyState >= 2") and page.eval_on_selector("video", at), 10, "a picture")
    until(lambda: page.eval_on_selector("video", at) > begin + 0.5, 10, "the player advancing")
    page.close()


def test_a_restart_of_the_appliance_is_seen_and_survived(start, browser):
    appliance = start()
    page = browser.new_page()
    page.goto(f"{appliance.http}/#/overview")
    page.get_by_text("all well", exact=True).wait_for()
    appliance.kill()
    page.get_by_role("alert").get_by_text("does not answer").wait_for()
    assert page.get_by_text("all well", exact=True).count() == 0, "what is shown is old"
    # Whoever goes on to another page may come back.
    page.get_by_role("link", name="Rules").click()
    page.get_by_role("button", name="Try again").wait_for()
    appliance.start()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("There are no rules").wait_for()
    page.get_by_role("link", name="Overview").click()
    page.get_by_text("all well", exact=True).wait_for()
    assert page.get_by_role("alert").count() == 0
    page.close()


def test_a_callback_is_looked_at_and_sent_again(start, source, push, page):
    """A receiver that refuses at first; what it was told stands on the page, which sends it once more."""
    from receiver import Receiver

    statuses = [500]
    receiver = Receiver(lambda call, number: statuses[-1])
    appliance = start()
    template = appliance.call("CreateLiveCallbackTemplate", TemplateName="hooks", StreamBeginNotifyUrl=f"http://127.0.0.1:{receiver.port}/")["TemplateId"]
    appliance.call("CreateLiveCallbackRule", DomainName="localhost", AppName="live", TemplateId=template)
    push(source("aac"), appliance.url("radio"))
    page.goto(f"{appliance.http}/#/callbacks")
    row = page.get_by_role("row").filter(has_text="Stream began")
    row.get_by_text("HTTP 500").wait_for()
    row.get_by_role("button", name="Look").click()
    page.get_by_role("dialog").get_by_text('"stream_id": "radio"').wait_for()
    # A question goes with the page that asked it.
    page.evaluate("location.hash = '#/rules'")
    page.get_by_text("There are no rules").wait_for()
    assert page.get_by_role("dialog").count() == 0
    page.goto(f"{appliance.http}/#/callbacks")
    statuses.append(200)
    row.get_by_role("button", name="Send now").click()
    row.get_by_text("delivered", exact=True).wait_for()
    receiver.close()


def test_login_signs_every_call(page, tmp_path):
    keys = [{"secret_id": "AKIDconsole", "secret_key": "a secret key for the console", "role": "reader"}]
    tokens = [{"name": "tests", "token": Signed.TOKEN, "role": "admin"}]
    appliance = Signed(tmp_path / "signed", api={"credentials": keys, "bearer_tokens": tokens}).start()
    try:
        page.goto(f"{appliance.http}/")
        page.get_by_label("SecretId").fill("AKIDconsole")
        page.get_by_label("SecretKey").fill("not the secret key")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").get_by_text("signature").wait_for()
        picture(page, "login")
        page.get_by_label("SecretId").fill("AKIDconsole")
        page.get_by_label("SecretKey").fill("a secret key for the console")
        page.get_by_role("button", name="Log in").click()
        page.get_by_text("Logged in as AKIDconsole (reader)").wait_for()
        # Who may only look is not offered to change.
        visit(page, "rules", "There are no rules")
        assert page.get_by_role("button", name="New rule").count() == 0
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("button", name="Token").click()
        page.get_by_label("Token", exact=True).fill(Signed.TOKEN)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="New rule").wait_for()
    finally:
        # It would go on asking.
        page.goto("about:blank")
        appliance.stop()


def test_codes_are_read_by_another_program(start, page):
    """Every length of an address up to the longest, drawn as it stands on the page."""
    import zxingcpp

    appliance = start()
    page.goto(f"{appliance.http}/#/push")
    page.get_by_label("Stream", exact=True).fill("camera 1ä")
    page.locator(".qr path").wait_for(state="attached")
    drawn = """async (texts) => {
        const { qr } = await import("/console/qr.js");
        const draw = (svg) => {
            const size = svg.viewBox.baseVal.width;
            const canvas = Object.assign(document.createElement("canvas"), { width: 4 * size, height: 4 * size });
            const context = canvas.getContext("2d");
            context.scale(4, 4);
            for (const part of svg.children) {
                context.fillStyle = part.getAttribute("fill");
                context.fill(new Path2D(part.getAttribute("d") ?? `M0 0h${size}v${size}h-${size}z`));
            }
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.width, btoa(Array.from({ length: data.length / 4 }, (_, at) => String.fromCharCode(data[4 * at])).join(""))];
        };
        return texts.map((text) => draw(text === null ? document.querySelector(".qr svg") : qr(text)));
    }"""
    texts = [None, *("rtmp://a.example/live/" + "k" * (length - 22) for length in (22, 23, 61, 62, 122, 123, 250, 411, 665)), "rtmp://a.example/live/ä東?x=1&y=2"]
    for text, (side, grey) in zip(texts, page.evaluate(drawn, texts)):
        (code,) = zxingcpp.read_barcodes(memoryview(base64.b64decode(grey)).cast("B", [side, side]))
        assert code.text == (text or f"rtmp://127.0.0.1:{appliance.rtmp_port}/live/camera%201%C3%A4")


def test_parts_that_the_browser_may_lack(start, page):
    """Digests of our own where the browser offers none, and codes that another program reads."""
    appliance = start()
    page.goto(f"{appliance.http}/")
    wrong = page.evaluate(
        """async () => {
            const { plainSha256, plainHmac, sha256, hmacSha256, hex } = await import("/console/digest.js");
            const wrong = [];
            for (const length of [0, 1, 3, 55, 56, 63, 64, 65, 119, 120, 1000]) {
                const bytes = Uint8Array.from({ length }, (_, index) => (index * 7 + length) & 255);
                if (hex(plainSha256(bytes)) !== hex(await sha256(bytes))) wrong.push(`sha256 of ${length} bytes`);
                if (length && hex(plainHmac(bytes, bytes)) !== hex(await hmacSha256(bytes, bytes))) wrong.push(`hmac of ${length} bytes`);
            }
            return wrong;
        }"""
    )
    assert wrong == []
    cases = page.evaluate(
        """async () => {
            const { readQuery } = await import("/console/query.js");
            const now = new Date(2026, 0, 31, 12, 0, 0);
            const local = (date) => date && [date.getMonth() + 1, date.getDate(), date.getHours(), date.getMinutes()].join(" ");
            return ["camera-1 MP4", "stream:a-b hls yesterday", "2026-01-30 14:00-15:30", "last 2h", "23:30-00:30", 'tag:"two words" evening show', "13:05", "id:1 11:00"].map((text) => {
                const { parameters, from, to } = readQuery(text, now);
                delete parameters.CreateTime;
                return [parameters, local(from), local(to)];
            });
        }"""
    )
    assert cases == [
        [{"MediaTypes": ["mp4"], "Text": "camera-1"}, None, None],
        [{"StreamIds": ["a-b"], "MediaTypes": ["hls"]}, "1 30 0 0", "1 31 0 0"],
        [{}, "1 30 14 0", "1 30 15 30"],
        [{}, "1 31 10 0", None],
        [{}, "1 31 23 30", "2 1 0 30"],
        [{"Tags": ["two words"], "Text": "evening show"}, None, None],
        [{}, "1 31 13 5", "1 31 13 5"],
        [{"FileIds": ["1"]}, "1 31 11 0", "1 31 11 0"],
    ]
