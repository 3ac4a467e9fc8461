"""The playlist while the stream runs and after it."""

import pytest

import media
from appliance import until
from check import check_playlist


def test_playlist_of_fragmented_mp4(start, source, push):
    appliance = start(record={"hls_segment_ms": 1000})
    domain = "hls.example"
    appliance.record(domain, hls=True)
    push(source("bframes"), appliance.url("list", domain))
    file = appliance.file("list", domain)
    path = appliance.path_of(file)
    segments = check_playlist(path)
    # Key frames every 2 s.
    assert [float(seconds) for seconds, _, _ in segments] == pytest.approx([2.0, 2.0, 2.0], abs=0.15)
    assert sum(seconds for seconds, _, _ in segments) == pytest.approx(6.0, abs=0.12)
    # Byte ranges of one file, without gaps.
    assert {uri for _, uri, _ in segments} == {"media-1.m4s"}
    for (length, offset), (_, following) in zip([part for _, _, part in segments], [part for _, _, part in segments[1:]]):
        assert offset + length == following


def test_playlist_of_transport_stream(start, source, push):
    appliance = start(record={"hls_segment_ms": 1000, "hls_container": "ts"})
    domain = "hls.example"
    appliance.record(domain, hls=True)
    push(source("av"), appliance.url("list", domain))
    path = appliance.path_of(appliance.file("list", domain))
    segments = check_playlist(path)
    assert [float(seconds) for seconds, _, _ in segments] == pytest.approx([1.0] * 6, abs=0.15)
    data = (path.parent / segments[0][1]).read_bytes()
    assert len(data) % 188 == 0 and set(data[::188]) == {0x47}
    for _, _, (length, offset) in segments:
        assert length % 188 == 0
        # Each segment can be played by itself: PAT first, then PMT.
        assert int.from_bytes(data[offset + 1 : offset + 3], "big") & 0x1FFF == 0
        assert int.from_bytes(data[offset + 188 + 1 : offset + 188 + 3], "big") & 0x1FFF != 0


@pytest.mark.parametrize("name", ["aac", "video"])
def test_playlist_of_one_track(start, source, push, name):
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.record("hls.example", hls=True)
    push(source(name), appliance.url("list", "hls.example"))
    segments = check_playlist(appliance.path_of(appliance.file("list", "hls.example")))
    assert [float(seconds) for seconds, _, _ in segments[:-1]] == pytest.approx([1.0] * (len(segments) - 1), abs=0.1)
    assert sum(float(seconds) for seconds, _, _ in segments) == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("container", ["fmp4", "ts"])
def test_playlist_while_live(start, source, push, tmp_path, container):
    """An EVENT playlist that grows, and that plays what is there."""
    appliance = start(record={"hls_segment_ms": 1000, "hls_container": container, "durability_ms": 100})
    appliance.record("hls.example", hls=True)
    process = push.ffmpeg(source("live"), appliance.url("live", "hls.example"), realtime=True)

    def playlist(count):
        for path in (appliance.data / "recording").glob("*/*.m3u8"):
            if path.read_text().count("#EXTINF") >= count:
                return path
        return None

    first = until(lambda: playlist(2), 20, "a playlist with two segments")
    before = first.read_text()
    segments = check_playlist(first, ended=False)
    assert [float(seconds) for seconds, _, _ in segments] == pytest.approx([1.0] * len(segments), abs=0.1)
    until(lambda: playlist(before.count("#EXTINF") + 1), 20, "a further segment")
    # EVENT: lines are only added.
    assert first.read_text().startswith(before.rstrip("\n"))
    # What a player that joins now may read, as if the stream ended here: segments are complete when they are listed.
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in first.parent.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "now.m3u8").write_text(first.read_text() + "#EXT-X-ENDLIST\n")
    shown = media.packets(copy / "now.m3u8", quiet=False) if container == "fmp4" else None
    media.assert_decodes(copy / "now.m3u8")
    process.kill()
    path = appliance.path_of(appliance.file("live", "hls.example"))
    segments = check_playlist(path)
    assert path.read_text().startswith(before.rstrip("\n"))
    if shown:
        begins = media.assert_part_of(media.packets(source("live")), shown)
        assert begins["video"] == 0


@pytest.mark.parametrize("container", ["mp4", "flv"])
def test_a_recording_that_is_no_hls_is_watched_while_it_grows(start, source, push, container):
    """Back to its beginning, and from one list to the next; what was listed is the same when the recording is finished."""
    appliance = start(record={"hls_segment_ms": 1000})
    appliance.record("hls.example", **{container: True})
    publisher = push.ffmpeg(source("live"), appliance.url("one", "hls.example"), "-t", "12", realtime=True)
    appliance.wait_recording("one")
    live = f"{appliance.media}/live/1300000001/hls.example/live/one.m3u8"
    get = lambda url: appliance.session.get(url, timeout=60)  # noqa: E731
    names = lambda text: [line for line in text.splitlines() if line.startswith("seg-")]  # noqa: E731
    growing = until(lambda: len(names((answer := get(live)).text)) >= 2 and answer, 15, "two segments")
    assert "#EXT-X-PLAYLIST-TYPE:EVENT" in growing.text and "ENDLIST" not in growing.text
    listed = {name: get(growing.url.rsplit("/", 1)[0] + f"/{name}").content for name in ["init.m4s", *names(growing.text)]}
    assert appliance.call("DescribeApplianceState")["Streams"][0]["LiveUrl"] == live
    # A reader that begins now sees it all, to its end.
    seen = media.packets(live, quiet=False)["video"]
    push.finish(publisher)
    sent = media.packets(source("live"))["video"]
    assert [packet.md5 for packet in seen] == [packet.md5 for packet in sent[: len(seen)]] and len(seen) >= 40
    appliance.file("one", "hls.example")
    final = get(growing.url)
    assert final.text.rstrip().endswith("#EXT-X-ENDLIST") and names(final.text)[: len(names(growing.text))] == names(growing.text)
    for name, content in listed.items():
        assert get(growing.url.rsplit("/", 1)[0] + f"/{name}").content == content, name
