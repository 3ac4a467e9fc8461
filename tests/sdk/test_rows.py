"""Every action through every SDK, with every signature, by GET and by POST; good and bad. Answers are checked field by field."""

import re

import pytest

import wire
from appliance import REPOSITORY
from table import Scene, families, resolve, rows_of
from transports import TRANSPORTS, Refused, transport


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize("family", families())
def test_rows(signed, scene, family, name):
    client, saved, failures = signed.client(name), {}, []
    try:
        for number, row in enumerate(rows_of(family, scene)):
            problem = outcome(client, row, saved)
            if problem:
                failures.append(f"row {number}, {row.action}: {problem}")
    finally:
        client.close()
    assert not failures, "\n".join([""] + failures)


def outcome(client, row, saved):
    """What is wrong with the answer to a row; empty if nothing."""
    family = row.family or wire.family_of(row.action)
    try:
        parameters = resolve(row.parameters, saved)
    except KeyError as missing:
        return f"an earlier row did not bring {missing}"
    try:
        answer = client.call(family, row.action, parameters, raw=row.raw)
    except Refused as refused:
        if row.code and refused.code == row.code:
            return "" if len(refused.message) > 10 else f"the message is {refused.message!r}"
        return f"refused with {refused}; expected {row.code or 'an answer'}"
    if row.code:
        return f"accepted with {answer}; expected {row.code}"
    found = wire.problems(family, row.action, answer)
    saved.update({name: keep(answer) if callable(keep) else answer[keep] for name, keep in row.save.items() if callable(keep) or keep in answer})
    if not found and row.check and not row.check(answer):
        found = [f"unexpected answer {answer}"]
    return "; ".join(found)


def offered():
    """The actions in the tables of the source."""
    sources = (REPOSITORY / "src" / "control" / "actions").glob("*.rs")
    return {name for source in sources for name in re.findall(r'\b(?:waiting_)?action!\(\s*"(\w+)"', source.read_text())}


# They take nothing that could be wrong, or answer anything that is well-formed.
NEVER_REFUSED = {"DescribeLiveRecordRules"}
# Only an encrypted stream has such keys: the end-to-end tests make one.
NEEDS_MORE = {"DescribeDrmDataKey"}


def test_every_action_has_rows():
    scene = Scene("none", {"domain": "", "stream": "", "file": "", "another": lambda: ""})
    rows = [row for family in families() for row in rows_of(family, scene)]
    good, refused = ({row.action for row in rows if bool(row.code) == is_bad} for is_bad in (False, True))
    assert len(offered()) > 10
    assert offered() - good - NEEDS_MORE == set(), "actions without a row that succeeds"
    assert offered() - refused - NEVER_REFUSED == set(), "actions without a row that is refused"


@pytest.mark.parametrize("name", TRANSPORTS)
@pytest.mark.parametrize(("secret_id", "secret_key", "code"), [
    ("AKIDnobody", "a key of the tests that nobody else has", "AuthFailure.SecretIdNotFound"),
    ("AKIDsdktests", "another key, sixteen bytes", "AuthFailure.SignatureFailure"),
])
def test_wrong_keys(signed, name, secret_id, secret_key, code):
    client = transport(name, signed.endpoint, secret_id, secret_key)
    try:
        for family, action in (("live", "DescribeLiveRecordTemplates"), ("vod", "SearchMedia"), ("live", "NoSuchAction")):
            with pytest.raises(Refused) as refused:
                client.call(family, action, {}, raw=True)
            assert refused.value.code == code, "nothing is said of actions to who has no key"
    finally:
        client.close()
