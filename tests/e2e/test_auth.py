"""Who may call: three signatures, tokens, roles, the clock, reloading."""

import re
import signal
import time

import pytest

from appliance import toml, until
from signing import bearer, code, older, tc3

ADMIN, OPERATOR, READER = ("AKIDadmin", "admin-key-0123456789"), ("AKIDoperator", "operator-key-0123456"), ("AKIDreader", "reader-key-012345678")
ALL_WAYS = {
    "tc3": lambda appliance, action, key, **named: tc3(appliance, action, *key, **named),
    "tc3 GET": lambda appliance, action, key, **named: tc3(appliance, action, *key, method="GET", service="127", **named),
    "HmacSHA1": lambda appliance, action, key, **named: older(appliance, action, *key, **named),
    "HmacSHA256": lambda appliance, action, key, **named: older(appliance, action, *key, method="POST", algorithm="HmacSHA256", **named),
}
FAILURE = "AuthFailure.SignatureFailure"


def credential(key, role):
    return f'[[api.credentials]]\nsecret_id = "{key[0]}"\nsecret_key = "{key[1]}"\nrole = "{role}"\n'


def token(name, text, role):
    return f'[[api.bearer_tokens]]\nname = "{name}"\ntoken = "{text}"\nrole = "{role}"\n'


KEYS = credential(ADMIN, "admin") + credential(OPERATOR, "operator") + credential(READER, "reader")
TOKENS = token("script", "reader-token-0001", "reader") + token("ci", "admin-token-00001", "admin")


def reload(appliance, blocks, **settings):
    """Writes the settings with these blocks, and has them read. Returns when that is said in the log."""
    for section, values in settings.items():
        appliance.settings.setdefault(section, {}).update(values)
    appliance.config.write_text(toml(appliance.settings) + blocks)
    said = len(re.findall("read anew", appliance.log))
    appliance.process.send_signal(signal.SIGHUP)
    until(lambda: len(re.findall("read anew", appliance.log)) > said, 10, "the reload")


@pytest.fixture
def locked(start):
    """Keys, after a start without any: calls on loopback were accepted until now."""
    appliance = start()
    assert code(appliance.post("DescribeLiveRecordRules")) == "ok"
    reload(appliance, KEYS + TOKENS)
    return appliance


def test_every_signature(locked):
    for name, way in ALL_WAYS.items():
        assert code(way(locked, "DescribeLiveRecordRules", ADMIN)) == "ok", name
        assert code(way(locked, "DescribeLiveDomains", ADMIN, DomainPrefix="a b+c&d=é_")) == "ok", name
        assert code(way(locked, "DescribeLiveRecordRules", (ADMIN[0], "wrong" + ADMIN[1]))) == FAILURE, name
        assert code(way(locked, "DescribeLiveRecordRules", (ADMIN[0], READER[1]))) == FAILURE, name
        assert code(way(locked, "DescribeLiveRecordRules", ("AKIDnobody", ADMIN[1]))) == "AuthFailure.SecretIdNotFound", name
        # Nothing is said about actions to somebody without a key.
        assert code(way(locked, "NoSuchAction", (ADMIN[0], READER[1]))) == FAILURE, name
        assert code(way(locked, "NoSuchAction", ADMIN)) == "InvalidAction", name
    assert code(tc3(locked, "DescribeLiveRecordRules", *ADMIN, unsigned_payload=True)) == "ok"
    # Temporary keys are not ours: their token is not looked at.
    assert code(tc3(locked, "DescribeLiveRecordRules", *ADMIN, headers={"X-TC-Token": "x"})) == "ok"
    assert code(older(locked, "DescribeLiveRecordRules", *ADMIN, Token="x")) == "ok"
    assert code(locked.post("DescribeLiveRecordRules")) == FAILURE
    assert code(locked.post("DescribeLiveRecordRules", headers={"Authorization": "SKIP"})) == FAILURE
    assert code(older(locked, "DescribeLiveRecordRules", *ADMIN, nonce=0)) == FAILURE


def test_clock_window(locked):
    # 300 s to either side; the call may take its time.
    for name, way in ALL_WAYS.items():
        for offset, expected in ((-270, "ok"), (299, "ok"), (-301, "AuthFailure.SignatureExpire"), (330, "AuthFailure.SignatureExpire")):
            assert code(way(locked, "DescribeLiveRecordRules", ADMIN, now=int(time.time()) + offset)) == expected, (name, offset)
    # A replay within the window is served: nonces are not remembered.
    now = int(time.time())
    assert [code(older(locked, "DescribeLiveRecordRules", *ADMIN, now=now)) for _ in range(2)] == ["ok", "ok"]


def test_roles(locked):
    denied = "AuthFailure.UnauthorizedOperation"
    calls = [
        ("DescribeLiveRecordRules", {}, "ok", "ok"),
        ("SearchMedia", {}, "ok", "ok"),
        ("AddLiveDomain", {"DomainName": "roles.example", "DomainType": 0}, "FailedOperation.DomainAdded", denied),
        ("DescribeLivePushAuthKey", {"DomainName": "roles.example"}, "ok", denied),
        ("DropLiveStream", {"DomainName": "roles.example", "AppName": "live", "StreamName": "s"}, "ok", denied),
        ("DeleteLiveDomain", {"DomainName": "roles.example", "DomainType": 0}, denied, denied),
        ("DeleteLiveRecordRule", {"DomainName": "roles.example"}, denied, denied),
    ]
    assert code(tc3(locked, "AddLiveDomain", *ADMIN, DomainName="roles.example", DomainType=0)) == "ok"
    for action, parameters, operator, reader in calls:
        for name in ("tc3", "HmacSHA1"):
            assert code(ALL_WAYS[name](locked, action, OPERATOR, **parameters)) == operator, (action, name)
            assert code(ALL_WAYS[name](locked, action, READER, **parameters)) == reader, (action, name)
    assert code(tc3(locked, "DeleteLiveDomain", *ADMIN, DomainName="roles.example", DomainType=0)) == "ok"


def test_bearer_tokens(locked):
    assert code(bearer(locked, "DescribeLiveRecordRules", "reader-token-0001")) == "ok"
    assert code(bearer(locked, "CreateLiveRecordTemplate", "reader-token-0001", TemplateName="t")) == "AuthFailure.UnauthorizedOperation"
    assert code(bearer(locked, "CreateLiveRecordTemplate", "admin-token-00001", TemplateName="t")) == "ok"
    assert code(bearer(locked, "DescribeLiveRecordRules", "reader-token-0002")) == "AuthFailure.TokenFailure"
    assert code(bearer(locked, "DescribeLiveRecordRules", "")) == FAILURE
    # A GET as one types it into curl.
    response = locked.session.get(f"{locked.http}/?Action=DescribeLiveRecordRules", headers={"Authorization": "bearer admin-token-00001"}, timeout=60)
    assert code(response) == "ok"


def test_keys_are_read_anew(locked):
    assert code(tc3(locked, "DescribeLiveRecordRules", *READER)) == "ok"
    # Another role for one, and the others are gone.
    reload(locked, credential(READER, "operator"))
    assert code(tc3(locked, "CreateLiveRecordTemplate", *READER, TemplateName="t")) == "ok"
    assert code(tc3(locked, "DescribeLiveRecordRules", *ADMIN)) == "AuthFailure.SecretIdNotFound"
    assert code(bearer(locked, "DescribeLiveRecordRules", "admin-token-00001")) == "AuthFailure.TokenFailure"
    # A file with a mistake changes nothing, and says no secret.
    reload(locked, credential(ADMIN, "emperor"))
    assert code(tc3(locked, "DescribeLiveRecordRules", *READER)) == "ok"
    locked.said("emperor")
    assert not any(key[1] in locked.log for key in (ADMIN, OPERATOR, READER))
    # Without keys this machine may call again; unless that is switched off.
    reload(locked, "")
    assert code(locked.post("DescribeLiveRecordRules")) == "ok"
    reload(locked, "", api={"unsigned_loopback": False})
    assert code(locked.post("DescribeLiveRecordRules")) == "AuthFailure.UnauthorizedOperation"


def test_rate_of_one_key(locked):
    reload(locked, KEYS, api={"requests_per_second": 1})
    codes = [code(tc3(locked, "DescribeLiveRecordRules", *READER)) for _ in range(2)]
    assert codes == ["ok", "ok"], "two seconds' worth at once"
    assert until(lambda: (answer := code(tc3(locked, "DescribeLiveRecordRules", *READER))) != "ok" and answer, what="a refusal", pause=0) == "RequestLimitExceeded"
    # Others are not hindered, nor is another action.
    assert code(tc3(locked, "DescribeLiveRecordRules", *ADMIN)) == "ok"
    assert code(tc3(locked, "DescribeLiveRecordTemplates", *READER)) == "ok"
    until(lambda: code(tc3(locked, "DescribeLiveRecordRules", *READER)) == "ok", 5, "another second")
    reload(locked, KEYS, api={"requests_per_second": 0})
    assert {code(tc3(locked, "DescribeLiveRecordRules", *READER)) for _ in range(30)} == {"ok"}


def test_every_request_is_in_the_log(locked):
    for response, caller in (
        (tc3(locked, "DescribeLiveRecordRules", *READER), READER[0]),
        (tc3(locked, "DeleteLiveDomain", *READER, DomainName="a.example", DomainType=0), READER[0]),
        (bearer(locked, "SearchMedia", "reader-token-0001"), "script"),
        (locked.post("SearchMedia"), "-"),
    ):
        request_id = response.json()["Response"]["RequestId"]
        lines = locked.said(request_id)
        assert len(lines) == 1 and caller in lines[0], lines
    assert not any(secret in locked.log for secret in (READER[1], "reader-token-0001"))
