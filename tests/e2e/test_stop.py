"""SIGTERM while publishers send: what arrived is in finished files, and told, in order."""

import json
import signal
import time

import pytest

from appliance import until
from check import check, read
from media import Packets, packets
from rtmp import Live
from test_callbacks import receiver, tell, template  # noqa: F401

URLS = ("StreamBeginNotifyUrl", "StreamEndNotifyUrl", "RecordNotifyUrl", "RecordStatusNotifyUrl")


@pytest.mark.parametrize("then", [None, signal.SIGTERM, signal.SIGKILL])
def test_a_stop_under_load(start, source, domain, receiver, then):  # noqa: F811
    """A second signal ends the stop itself, at once or when it has finished a part: the next start finishes and tells what is left, and nothing twice."""
    mine = receiver()
    capstan = start()
    tell(capstan, domain, template(capstan, mine, *URLS))
    capstan.record(domain, flv=True, mp4=True)
    names = [f"cam-{number}" for number in range(6)]
    publishers = {name: Live(source("live"), capstan.rtmp_port, f"{name}?vhost={domain}") for name in names}
    for name in names:
        capstan.wait_recording(name, domain)
    until(lambda: all(len(live.sent["video"]) > 40 for live in publishers.values()), what="pictures of all")
    # Begun and told: what nobody heard of need not be told to have ended.
    mine.wait(len(names), 1)
    mine.wait(2 * len(names), 332)
    asked = time.time()
    capstan.process.send_signal(signal.SIGTERM)
    if then == signal.SIGKILL:
        until(lambda: "file finished" in capstan.log or capstan.process.poll() is not None, 20, "a finished file", pause=0.001)
    if then:
        capstan.process.send_signal(then)
    code = capstan.process.wait(60)
    assert code == 0 or then, capstan.log
    capstan.check_log()
    capstan.start()
    whole = packets(source("live"))
    for name, live in publishers.items():
        live.join(60)
        arrived = {track: sum(at < asked for at in times) for track, times in live.sent.items()}
        for file in capstan.by_format(name, domain, "flv", "mp4").values():
            found = read(capstan, file)
            assert all(len(found[track]) >= (1 if then else arrived[track]) for track in arrived), (name, arrived)
            check(capstan, file, Packets({track: whole[track][: len(found[track])] for track in found.kinds}))
    mine.wait(len(names), 0)
    mine.wait(2 * len(names), 100)
    # A message whose answer was under way is sent again: it is the same one.
    states = lambda: {(call["stream_id"], call["seq"]): call for call in mine.of(332)}  # noqa: E731
    until(lambda: len(states()) >= 4 * len(names), 10, "the ends of the recordings")
    for name in names:
        assert next(call for call in mine.calls if call["stream_id"] == name)["event_type"] == 1
        for format in (1, 3):
            of_format = [
                call["record_event"]
                for call in states().values()
                if call["stream_id"] == name and json.loads(call["record_detail"])["file_format"] == format
            ]
            assert of_format == ["record_start_succeeded", "record_ended"], name
    until(lambda: not list((capstan.data / "recording").iterdir()), 10, "nothing being left to do")
