"""Domains, and the signatures of push addresses, with ffmpeg as the publisher."""

import hashlib
import time

import pytest

from appliance import ApiError, until

KEY = "capstanpushkey"


def sign(stream, key=KEY, expires_in=600, algorithm="md5", decimal=False):
    """The query of a signed push address."""
    expires = int(time.time()) + expires_in
    written = str(expires) if decimal else f"{expires:X}"
    digest = hashlib.new(algorithm, f"{key}{stream}{written}".encode()).hexdigest()
    return f"txSecret={digest}&txTime={written}"


def reasons(appliance, domain, stream):
    """Why publications of a stream ended or were refused, oldest first; "" for one that runs."""
    now = time.time()
    form = "%Y-%m-%dT%H:%M:%SZ"
    window = {"StartTime": time.strftime(form, time.gmtime(now - 3600)), "EndTime": time.strftime(form, time.gmtime(now + 3600))}
    events = appliance.call("DescribeLiveStreamEventList", DomainName=domain, StreamName=stream, IsStrict=1, IsAsc=1, PageSize=100, **window)["EventList"]
    return [event["StopReason"] for event in events]


@pytest.fixture
def signed(capstan, domain):
    """A push domain that wants signatures, and a rule for it."""
    capstan.call("AddLiveDomain", DomainName=domain, DomainType=0)
    capstan.call("ModifyLivePushAuthKey", DomainName=domain, Enable=1, MasterAuthKey=KEY, BackupAuthKey="backup-key", AuthDelta=0)
    capstan.record(domain, flv=True)
    yield domain
    capstan.call("DeleteLiveDomain", DomainName=domain, DomainType=0)


def test_domains_from_adding_to_deleting(capstan, domain):
    name = domain.upper()
    capstan.call("AddLiveDomain", DomainName=name, DomainType=0, PlayType=2, VerifyOwnerType="dnsCheck")
    assert capstan.error("AddLiveDomain", DomainName=domain, DomainType=1) == "FailedOperation.DomainAdded"
    info = capstan.call("DescribeLiveDomain", DomainName=domain)["DomainInfo"]
    assert (info["Name"], info["Type"], info["Status"], info["PlayType"]) == (domain, 0, 1, 2)
    key = capstan.call("DescribeLivePushAuthKey", DomainName=domain)["PushAuthKeyInfo"]
    assert (key["Enable"], key["BackupAuthKey"], key["AuthDelta"], len(key["MasterAuthKey"])) == (0, "", 0, 32)
    capstan.call("ForbidLiveDomain", DomainName=domain)
    listed = capstan.call("DescribeLiveDomains", DomainPrefix=domain, DomainStatus=0)
    assert listed["AllCount"] == 1 and listed["DomainList"][0] == {**info, "Status": 0} and listed["PlayTypeCount"] == [0, 1, 0]
    capstan.call("EnableLiveDomain", DomainName=domain)
    assert capstan.call("DescribeLiveDomain", DomainName=domain)["DomainInfo"] == info
    # Absent and empty fields of a key stay.
    capstan.call("ModifyLivePushAuthKey", DomainName=domain, Enable=1, BackupAuthKey="backup", AuthDelta=60)
    capstan.call("ModifyLivePushAuthKey", DomainName=domain, MasterAuthKey="", BackupAuthKey="")
    changed = capstan.call("DescribeLivePushAuthKey", DomainName=domain)["PushAuthKeyInfo"]
    assert changed == {**key, "Enable": 1, "BackupAuthKey": "backup", "AuthDelta": 60}
    assert capstan.error("DeleteLiveDomain", DomainName=domain, DomainType=1) == "ResourceNotFound.DomainNotExist"
    capstan.call("DeleteLiveDomain", DomainName=domain, DomainType=0)
    for action, code in (
        ("DescribeLiveDomain", "ResourceNotFound.DomainNotExist"),
        ("EnableLiveDomain", "ResourceNotFound"),
        ("ForbidLiveDomain", "ResourceNotFound"),
        ("DescribeLivePushAuthKey", "ResourceNotFound.PushDomainNoRecord"),
        ("ModifyLivePushAuthKey", "ResourceNotFound.PushDomainNoRecord"),
    ):
        assert capstan.error(action, DomainName=domain) == code, action
    assert capstan.error("DeleteLiveDomain", DomainName=domain, DomainType=0) == "ResourceNotFound.DomainNotExist"
    for parameters, code in (
        ({"DomainName": "no domain", "DomainType": 0}, "InvalidParameter.DomainFormatError"),
        ({"DomainName": domain, "DomainType": 2}, "InvalidParameterValue"),
        ({"DomainName": domain, "DomainType": 0, "PlayType": 4}, "InvalidParameterValue"),
        ({"DomainName": domain}, "MissingParameter"),
        ({"DomainType": 0}, "MissingParameter"),
    ):
        assert capstan.error("AddLiveDomain", **parameters) == code, parameters
    assert capstan.error("ModifyLivePushAuthKey", DomainName=domain, MasterAuthKey="a b") == "InvalidParameterValue"
    assert capstan.error("ModifyLivePushAuthKey", DomainName=domain, AuthDelta=604801) == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("begin", "how", "end"),
    [("", {}, ""), ("", {"algorithm": "sha256"}, ""), ("", {"decimal": True}, ""), ("", {"key": "backup-key"}, ""), ("a=b&", {}, "&c=d")],
    ids=["md5", "sha256", "decimal", "backup", "among others"],
)
def test_signed_publications_are_recorded(capstan, source, push, signed, begin, how, end):
    # Signed now: the tests are collected long before they run.
    query = begin + sign("good", **how) + end
    push(source("av"), capstan.url("good", signed, query=query))
    assert capstan.file("good", signed)["MetaData"]["Container"] == "flv"
    # The secret reaches neither the catalog nor the log.
    secret = query.split("txSecret=")[1].split("&")[0]
    assert secret not in str(capstan.search(StreamDomains=[signed])) and secret not in capstan.log


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (lambda: "", "18/500"),
        (lambda: "txTime=6955C000", "18/502"),
        (lambda: sign("bad").split("&")[0], "18/500"),
        (lambda: sign("bad", expires_in=-5), "18/501"),
        (lambda: sign("other"), "18/503"),
        (lambda: sign("bad", key="no-key"), "18/503"),
    ],
    ids=["nothing", "no secret", "no time", "expired", "of another stream", "wrong key"],
)
def test_wrongly_signed_publications_are_refused(capstan, source, push, signed, query, reason):
    query = query()
    process = push.ffmpeg(source("av"), capstan.url("bad", signed, query=query))
    output = process.communicate(timeout=60)[0].decode(errors="replace")
    assert process.returncode != 0 and reason in output, output
    found = until(lambda: reasons(capstan, signed, "bad"), 10, "the refusal in the list")
    assert len(found) == 1 and found[0].startswith(reason), found
    assert capstan.search(StreamDomains=[signed]) == []


def test_a_late_signature_within_auth_delta(capstan, source, push, signed):
    capstan.call("ModifyLivePushAuthKey", DomainName=signed, AuthDelta=300)
    push(source("av"), capstan.url("late", signed, query=sign("late", expires_in=-100)))
    capstan.file("late", signed)


def test_a_running_stream_outlives_its_signature_and_key(capstan, source, push, signed):
    publisher = push.ffmpeg(source("live"), capstan.url("long", signed, query=sign("long", expires_in=6)), loop=True)
    capstan.wait_recording("long", signed)
    capstan.call("ModifyLivePushAuthKey", DomainName=signed, MasterAuthKey="another-key")
    time_over = time.time() + 7
    until(lambda: time.time() > time_over, 15, "the signature's end")
    assert publisher.poll() is None and capstan.online("long", signed)
    publisher.terminate()
    capstan.file("long", signed)


def test_forbidden_domain(capstan, source, push, domain):
    capstan.call("AddLiveDomain", DomainName=domain, DomainType=0)
    capstan.record(domain, flv=True)
    publisher = push.ffmpeg(source("live"), capstan.url("cam", domain), loop=True)
    capstan.wait_recording("cam", domain)
    capstan.call("ForbidLiveDomain", DomainName=domain)
    publisher.wait(60)
    capstan.file("cam", domain)
    refused = push.ffmpeg(source("av"), capstan.url("cam", domain))
    assert "18/303" in refused.communicate(timeout=60)[0].decode(errors="replace") and refused.returncode != 0
    until(lambda: len(reasons(capstan, domain, "cam")) == 2, 10, "both in the list")
    assert [reason.split(" ")[0] for reason in reasons(capstan, domain, "cam")] == ["21/101", "18/303"]
    capstan.call("EnableLiveDomain", DomainName=domain)
    push(source("av"), capstan.url("cam", domain))
    capstan.files("cam", domain, 2)
    capstan.call("DeleteLiveDomain", DomainName=domain, DomainType=0)


def test_only_added_domains(start, source, push):
    appliance = start(ingest={"added_domains_only": True}, api={"push_auth_default": True, "domains_max": 2})
    appliance.call("AddLiveDomain", DomainName="added.example", DomainType=0)
    appliance.call("AddLiveDomain", DomainName="play.example", DomainType=1)
    assert appliance.error("AddLiveDomain", DomainName="more.example", DomainType=0) == "LimitExceeded"
    key = appliance.call("DescribeLivePushAuthKey", DomainName="added.example")["PushAuthKeyInfo"]
    assert key["Enable"] == 1
    for domain in ("unknown.example", "play.example", None):
        refused = push.ffmpeg(source("av"), appliance.url("cam", domain))
        assert "18/302" in refused.communicate(timeout=60)[0].decode(errors="replace") and refused.returncode != 0, domain
    push(source("av"), appliance.url("cam", "added.example", query=sign("cam", key=key["MasterAuthKey"], expires_in=60)))
    # Keys and refusals outlive a restart.
    appliance.stop()
    appliance.start()
    assert appliance.call("DescribeLivePushAuthKey", DomainName="added.example")["PushAuthKeyInfo"] == key
    assert [reason[:6] for reason in reasons(appliance, "unknown.example", "cam")] == ["18/302"]
    with pytest.raises(ApiError):
        appliance.call("DescribeLivePushAuthKey", DomainName="play.example")
