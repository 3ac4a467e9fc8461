"""A defect of ours in the code of one publication: it ends, its files hold what was complete, and everything else goes on."""

import signal

from appliance import until
from check import read
from media import flv_tags, source
from rtmp import amf, is_configuration, publisher
from test_storage import Looped, check_sum


def test_a_panic_costs_its_publication(fault, start):
    appliance = start()
    appliance.record("localhost", flv=True, mp4=True)
    spared = Looped(appliance, "spared", "live", speed=2)
    sent = {}
    for place in ("data", "tick", "flush"):
        name = f"hit-{place}"
        connection = publisher(appliance.rtmp_port, name)
        tags = list(flv_tags(source("live")))[:80]
        for kind, timestamp, body in tags:
            connection.tag(kind, timestamp, body)
        sent[name] = sum(not is_configuration(kind, body) for kind, _, body in tags if kind != 18)
        until(lambda name=name: any(identity["key"]["stream"] == name for _, identity in appliance.open_identities()), 10, "an open recording")
        fault(f"defect {place} {name}")
        if place == "data":
            connection.tag(18, 4_000, amf("onCuePoint") + amf({"name": "here"}))
        connection.wait_closed(10)
        until(lambda name=name: not appliance.online(name), 10, "its end")
    fault("")
    for name, frames in sent.items():
        for file in appliance.files(name, count=2):
            packets = read(appliance, file)
            found = sum(len(packets[kind]) for kind in packets.kinds)
            # What was read before the defect: of the data message, everything.
            assert found == frames if name == "hit-data" else 0 < found <= frames, name
    assert len(appliance.said("a defect that a test asked for", count=len(sent))) == len(sent)
    until(lambda: appliance.metric("capstan_connection_errors_total", reason="internal") == len(sent), 10, "the count")
    total = spared.stop()
    for file in appliance.files("spared", count=2):
        assert check_sum(appliance, [file], total) == (total, 0)
    appliance.process.send_signal(signal.SIGTERM)
    assert appliance.process.wait(60) == 0
