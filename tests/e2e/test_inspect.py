"""`capstan explain` and `capstan verify`: on recordings, on other programs' files, and on damaged ones."""

import json
import shutil
import subprocess

import pytest

import media
from appliance import BINARY


def capstan_command(*arguments):
    done = subprocess.run([str(part) for part in (BINARY, *arguments)], capture_output=True, text=True, timeout=60)
    assert "panicked" not in done.stderr
    return done


def explained(path):
    done = capstan_command("explain", "--json", path)
    return json.loads(done.stdout)


@pytest.fixture
def recorded(capstan, source, push, domain, request):
    """A recording in every format."""
    capstan.record(domain, flv=True, mp4=True, hls=True, aac=True)
    push(source("bframes"), capstan.url("cam", domain))
    return capstan.by_format("cam", domain, "flv", "mp4", "hls", "aac")


def test_recordings_hold_what_explain_says(capstan, source, recorded):
    whole = media.packets(source("bframes"))
    parts = {container: capstan.path_of(file) for container, file in recorded.items() if container != "hls"}
    parts["m4s"] = next(path for path in capstan.folder_of(recorded["hls"]).glob("media-*"))
    for container, path in parts.items():
        report = explained(path)
        assert report["faults"] == [], report
        tracks = {track["kind"]: track for track in report["tracks"]}
        for kind in whole.kinds if container != "aac" else ["audio"]:
            assert tracks[kind]["frames"] == len(whole[kind]), (container, kind)
            assert abs(tracks[kind]["duration_ms"] - media.duration_ms(whole.only(kind))) <= media.frame_ms(whole.only(kind)) + 90, (container, kind)
        if container != "aac":
            assert tracks["video"]["codec"] == "h264" and tracks["video"]["width"] == 160
            assert tracks["video"]["key_frames"] == 3
        text = capstan_command("explain", path)
        assert text.returncode == 0 and "Nothing wrong was found." in text.stdout


# Written by ffmpeg, not by us.
FOREIGN = {
    "plain.mp4": ("MP4", []),
    "faststart.mp4": ("MP4", ["-movflags", "+faststart"]),
    "fragmented.mp4": ("MP4", ["-movflags", "+frag_keyframe+empty_moov"]),
    "foreign.ts": ("MPEG-TS", ["-f", "mpegts"]),
    "foreign.m2ts": ("MPEG-TS", ["-f", "mpegts", "-mpegts_m2ts_mode", "1"]),
    "foreign.flv": ("FLV", []),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files(tmp_path, source, name):
    container, options = FOREIGN[name]
    path = tmp_path / name
    media.run([media.FFMPEG, "-v", "error", "-i", source("av"), "-c", "copy", *options, path])
    whole = media.packets(source("av"))
    report = explained(path)
    assert (report["container"], report["faults"]) == (container, [])
    frames = {track["kind"]: track["frames"] for track in report["tracks"]}
    expected = {kind: len(whole[kind]) for kind in whole.kinds}
    if container == "MPEG-TS":
        # ffmpeg packs several audio frames into one packet of the elementary stream, and Blu-ray's form has no number for AAC.
        sound = "other" if name.endswith("m2ts") else "audio"
        assert frames["video"] == expected["video"] and 0 < frames[sound] <= expected["audio"]
    else:
        assert frames == expected
    # Cut anywhere, it is said what is missing.
    data = path.read_bytes()
    for part in (3, 7, 10):
        cut = tmp_path / f"cut-{part}"
        cut.write_bytes(data[: len(data) * part // 11])
        done = capstan_command("explain", cut)
        assert done.returncode == 1 and "WRONG" in done.stdout, done.stdout


def test_no_media(tmp_path):
    for name, content, words in (("empty", b"", "the file is empty"), ("text", b"Hello, world. " * 99, "this is no MP4")):
        path = tmp_path / name
        path.write_bytes(content)
        done = capstan_command("explain", path)
        assert done.returncode == 1 and words in done.stdout
    assert "cannot open" in capstan_command("explain", tmp_path / "absent").stdout


def test_verify_finds_what_changed(capstan, recorded, tmp_path):
    for container, file in recorded.items():
        folder = capstan.folder_of(file)
        done = capstan_command("verify", folder)
        assert done.returncode == 0, f"{container}: {done.stdout}"
        assert capstan_command("verify", capstan.path_of(file)).returncode == 0
        copy = tmp_path / folder.name
        shutil.copytree(folder, copy)
        part = max(copy.iterdir(), key=lambda path: path.stat().st_size)
        data = part.read_bytes()
        part.write_bytes(data[: len(data) * 2 // 3])
        done = capstan_command("verify", copy)
        assert done.returncode == 1 and "when finished" in done.stdout, f"{container}: {done.stdout}"
        part.unlink()
        assert capstan_command("verify", copy).returncode == 1
    assert capstan_command("verify", capstan.data).returncode == 0
    assert "no finished recording" in capstan_command("verify", tmp_path / "nothing").stdout
