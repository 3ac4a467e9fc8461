"""Encoders that people have: two ffmpegs, GStreamer, librtmp."""

import shutil
import subprocess

import pytest

import media
from check import check

CONTAINERS = ("flv", "mp4", "hls")


def newer_ffmpeg():
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def check_all(appliance, stream, domain, expected):
    for file in appliance.by_format(stream, domain, *CONTAINERS).values():
        check(appliance, file, expected)


@pytest.mark.parametrize("name", ["av", "bframes", "vfr", "aac", "mp3", "video"])
def test_newer_ffmpeg(capstan, source, push, domain, name):
    """The static build of imageio-ffmpeg."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    push(source(name), capstan.url(name, domain), ffmpeg=newer_ffmpeg())
    check_all(capstan, name, domain, media.packets(source(name)))


@pytest.mark.parametrize("version", ["debian", "newer"])
def test_ffmpeg_encodes_while_it_pushes(capstan, push, domain, version, tmp_path):
    """As an encoder works: the reference is a copy of what it sends."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    reference = tmp_path / "reference.flv"
    binary = media.FFMPEG if version == "debian" else newer_ffmpeg()
    source = media.picture(2) + " " + media.tone(2) + " " + media.X264 + " -flags +global_header -bf 2 -g 25 " + media.AAC
    both = f"[f=flv:onfail=abort]{capstan.url('enc', domain)}|[f=flv]{reference}"
    push.finish(push.start([binary, "-v", "error", "-nostdin", *source.replace("-f lavfi", "-re -f lavfi").split(" "), "-map", "0:v", "-map", "1:a", "-f", "tee", both]))
    check_all(capstan, "enc", domain, media.packets(reference))


def gstreamer(push, pipeline):
    process = push.start(["gst-launch-1.0", "-q", "-e", *pipeline.split(" ")])
    push.finish(process)


GST_AV = (
    "videotestsrc num-buffers=100 pattern=ball ! video/x-raw,width=160,height=120,framerate=25/1 ! x264enc threads=1 key-int-max=25 {x264} ! h264parse ! mux. "
    "audiotestsrc num-buffers=172 samplesperbuffer=1024 wave=pink-noise ! audio/x-raw,rate=44100,channels=2 ! {audio} ! mux. "
    "flvmux name=mux streamable=true ! tee name=copies ! queue ! {sink} copies. ! queue ! filesink location={reference}"
)
GST_AAC, GST_MP3 = "avenc_aac ! aacparse", "lamemp3enc ! mpegaudioparse"


@pytest.mark.parametrize(("x264", "audio"), [("bframes=0", GST_AAC), ("bframes=2", GST_AAC), ("bframes=0", GST_MP3)])
def test_gstreamer_rtmp2sink(capstan, push, domain, tmp_path, x264, audio):
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    reference = tmp_path / "reference.flv"
    location = capstan.url("gst", domain)
    gstreamer(push, GST_AV.format(x264=x264, audio=audio, sink=f"rtmp2sink sync=false location={location}", reference=reference))
    check_all(capstan, "gst", domain, media.packets(reference, quiet=False))


def test_librtmp(capstan, push, domain, tmp_path):
    """GStreamer's rtmpsink is librtmp, which many encoders use: its handshake has digests."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    reference = tmp_path / "reference.flv"
    location = f'"{capstan.url("librtmp", domain)} live=1"'
    pipeline = GST_AV.format(x264="bframes=2", audio=GST_AAC, sink="@sink@", reference=reference).split(" ")
    at = pipeline.index("@sink@")
    process = push.start(["gst-launch-1.0", "-q", "-e", *pipeline[:at], "rtmpsink", "sync=false", f"location={location.strip(chr(34))}", *pipeline[at + 1 :]])
    push.finish(process)
    check_all(capstan, "librtmp", domain, media.packets(reference, quiet=False))


def test_librtmp_from_a_file(capstan, source, push, domain):
    """The packets of a file, sent by librtmp as they are."""
    capstan.record(domain, **dict.fromkeys(CONTAINERS, True))
    process = push.start(["gst-launch-1.0", "-q", "-e", "filesrc", f"location={source('bframes')}", "!", "video/x-flv", "!", "rtmpsink", f"location={capstan.url('file', domain)} live=1"])
    push.finish(process)
    check_all(capstan, "file", domain, media.packets(source("bframes")))


def test_rtmpdump_is_told_that_nothing_is_played(capstan, domain):
    if not shutil.which("rtmpdump"):
        pytest.fail("rtmpdump is missing; tests/run installs it")
    done = subprocess.run(["rtmpdump", "-q", "-r", capstan.url("cam", domain), "-o", "/dev/null", "-m", "5"], capture_output=True, timeout=60)
    assert done.returncode != 0
