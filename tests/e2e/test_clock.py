"""The time of day jumps under a running server: nothing that is recorded ends, lasts longer or shorter for it; windows of tasks follow it."""

import time
from pathlib import Path

import pytest

import media
from appliance import until
from check import check, read
from rtmp import Live

HOUR_S = 3_600
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class Clock:
    """What servers that were started with it take for the time of day. Monotonic time is left as it is."""

    def __init__(self, place):
        self.place = place
        self.shift_s = 0
        self.jump(0)

    def jump(self, shift_s):
        """So far from the true time it is now."""
        self.shift_s = shift_s
        new = self.place.with_suffix(".new")
        new.write_text(f"{shift_s:+d}\n")
        new.rename(self.place)

    def now_s(self):
        return int(time.time()) + self.shift_s

    def start(self, start, **settings):
        mine = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.place),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in mine.items():
                patch.setenv(name, value)
            return start(**settings)


@pytest.fixture
def clock(tmp_path):
    assert LIBRARY, "libfaketime is missing: tests/run installs it"
    return Clock(tmp_path / "clock")


def more_frames(live, count=50):
    before = len(live.sent["video"])
    until(lambda: len(live.sent["video"]) >= before + count, 20, "more pictures")


def formats_written(capstan):
    return {identity["format"] for _, identity in capstan.open_identities()}


def test_recordings_and_tasks_when_the_clock_jumps(start, source, domain, clock):
    capstan = clock.start(start)
    capstan.record(domain, flv=True, mp4=True, hls=True)
    live = Live(source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    capstan.wait_recording("cam", domain)
    begin = clock.now_s() + HOUR_S
    window = {"StartTime": begin, "EndTime": begin + HOUR_S}
    aac = capstan.template("task", aac=True)
    capstan.call("CreateRecordTask", StreamName="cam", DomainName=domain, AppName="live", TemplateId=aac, **window)
    more_frames(live)
    # Into the window, out of it, into the past, and back.
    clock.jump(HOUR_S + 60)
    until(lambda: formats_written(capstan) == {"aac", "flv", "hls", "mp4"}, what="the task's recording")
    more_frames(live)
    clock.jump(2 * HOUR_S + 60)
    until(lambda: formats_written(capstan) == {"flv", "hls", "mp4"}, what="the end of the task's recording")
    for shift_s in (-24 * HOUR_S, 0):
        clock.jump(shift_s)
        more_frames(live)
    assert formats_written(capstan) == {"flv", "hls", "mp4"}, "nothing has ended"
    sent = live.stop()
    whole = media.packets(source("live"))
    files = capstan.by_format("cam", domain, "flv", "mp4", "hls", "aac")
    for container in ("flv", "mp4", "hls"):
        check(capstan, files[container], media.Packets({track: whole[track][:count] for track, count in sent.items()}))
        lasted = capstan.call("DescribeMediaInfos", FileIds=[files[container]["FileId"]])["MediaInfoSet"][0]["MetaData"]["Duration"]
        assert abs(lasted - sent["video"] / 20) < 1, container
    # What the task took is a piece of the sound, of the length that the window was open in true time.
    assert 0 < len(read(capstan, files["aac"])["audio"]) < sent["audio"]
