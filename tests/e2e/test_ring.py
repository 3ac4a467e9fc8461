"""What is kept of a stream for a while: recordings that begin before they were asked for, and clips of what nobody recorded."""

import time

import pytest

import media
from appliance import until
from rtmp import Live


def test_a_task_begins_in_the_past(capstan, domain):
    """A template that only keeps; a task made later yields files that begin earlier, and go on with what is live."""
    capstan.record(domain, PreRecordDuration=60)
    template = capstan.template("all", mp4=True, flv=True, hls=True, aac=True)
    live = Live(media.source("live"), capstan.rtmp_port, f"cam?vhost={domain}")
    until(lambda: len(live.sent["video"]) >= 100, what="five seconds of the stream")
    begun = live.sent["video"][0]
    asked = int(begun) + 3
    capstan.call("CreateRecordTask", DomainName=domain, AppName="live", StreamName="cam", StartTime=asked, EndTime=int(time.time()) + 60, TemplateId=template)
    assert capstan.search(StreamDomains=[domain]) == [], "what is kept is nobody's file"
    until(lambda: len(live.sent["video"]) >= 160, what="three more")
    count = live.stop()
    files = capstan.by_format("cam", domain, "aac", "flv", "hls", "mp4")
    sent = media.packets(media.source("live"))
    # The key frame at or before the moment, one a second; what was on its way may count as a moment later.
    keys = [index for index in live.key_frames if live.sent["video"][index] <= asked][-2:]
    for container, file in files.items():
        if container == "aac":
            # ffmpeg says that it only guesses how long it is; there are no times in it.
            found = media.packets(capstan.path_of(file), audio_filter="aac_adtstoasc", quiet=False)
            sounds, kept = ([packet.md5 for packet in packets["audio"]] for packets in (sent, found))
            begins = {"audio": sounds.index(kept[0])}
            assert sounds[begins["audio"] : begins["audio"] + len(kept)] == kept
        else:
            found = media.packets(capstan.path_of(file))
            begins = media.assert_part_of(sent.only(*found.kinds), found, container)
        for kind in found.kinds:
            first = sent[kind][begins[kind]].dts
            assert any(abs(first - sent["video"][key].dts) <= 50 for key in keys), f"{container}: {kind} begins at {float(first)} ms"
            assert begins[kind] + len(found[kind]) == count[kind], f"{container} ends early"
        if container != "aac":
            media.assert_decodes(capstan.path_of(file))
    # The clip of a moment before the task: nothing but the ring has it.
    moment = lambda at: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))  # noqa: E731
    clip = capstan.call("LiveRealTimeClip", StreamId="cam", StartTime=moment(begun - 2), EndTime=moment(begun + 1.5), Host=domain)
    clipped = media.packets(clip["Url"], quiet=False)
    assert clipped["video"][0].md5 == sent["video"][0].md5


@pytest.mark.parametrize(("seconds", "code"), [(9, "InvalidParameterValue"), (86401, "InvalidParameterValue"), (-1, "InvalidParameter")])
def test_how_much_is_kept(capstan, seconds, code):
    assert capstan.error("CreateLiveRecordTemplate", TemplateName="t", PreRecordDuration=seconds).startswith(code)
    template = capstan.template("kept", mp4=True, PreRecordDuration=600)
    described = lambda: capstan.call("DescribeLiveRecordTemplate", TemplateId=template)["Template"]  # noqa: E731
    assert described()["PreRecordDuration"] == 600
    capstan.call("ModifyLiveRecordTemplate", TemplateId=template, PreRecordDuration=0)
    assert "PreRecordDuration" not in described()
