"""The models of the official SDK against the appliance: every action and every field of a request that a client library can send is known."""

import inspect
import re

import pytest
from tencentcloud.live.v20180801 import live_client, models as live_models
from tencentcloud.vod.v20180717 import models as vod_models, vod_client

from test_rows import offered
from transports import Refused

CLIENTS = {"live": (live_client.LiveClient, live_models), "vod": (vod_client.VodClient, vod_models)}
DEPTH_MAX = 4


def actions_of(family):
    methods = inspect.getmembers(CLIENTS[family][0], inspect.isfunction)
    return [name for name, _ in methods if re.fullmatch(r"[A-Z]\w+", name) and hasattr(CLIENTS[family][1], f"{name}Request")]


def fields_of(models, name, depth=0):
    """Dotted names of every field of a request's model: those of lists as of their first element."""
    model = getattr(models, name)
    properties = inspect.getmembers(model, lambda member: isinstance(member, property))
    # `headers` is the SDK's own business.
    for field, prop in (pair for pair in properties if pair[0][0].isupper()):
        yield (field,)
        kind = re.search(r":rtype: (?:list of )?(\w+)", prop.fget.__doc__ or "")
        if kind and hasattr(models, kind[1]) and depth < DEPTH_MAX:
            is_list = "list of" in kind[0]
            for rest in fields_of(models, kind[1], depth + 1):
                yield (field, [rest]) if is_list else (field, *rest)


def parameters_of(path):
    """`("A", "B")` as {"A": {"B": None}}: null is the same as absent, and its name has to be known all the same."""
    head, *rest = path
    if not rest:
        return {head: None}
    if isinstance(rest[0], list):
        return {head: [parameters_of(rest[0][0])]}
    return {head: parameters_of(rest)}


@pytest.fixture(scope="module")
def client(signed):
    return signed.client("python-TC3-HMAC-SHA256-POST")


@pytest.mark.parametrize("family", ["live", "vod"])
def test_every_action_is_known(client, family):
    for action in actions_of(family):
        if action in offered():
            continue
        with pytest.raises(Refused) as refused:
            client.call(family, action, {}, raw=True)
        assert refused.value.code == "UnsupportedOperation", f"{action}: {refused.value}"
        assert action in refused.value.message


@pytest.mark.parametrize("family", ["live", "vod"])
def test_every_field_is_known(client, family):
    unknown = []
    for action in sorted(offered() & set(actions_of(family))):
        for path in fields_of(CLIENTS[family][1], f"{action}Request"):
            try:
                # Refused in any case: names are looked at before anything happens, in the order they come.
                client.call(family, action, parameters_of(path) | {"NoSuchField": 1}, raw=True)
            except Refused as refused:
                if refused.code == "UnknownParameter" and " NoSuchField " not in refused.message:
                    unknown.append(f"{action}: {refused.message}")
    assert not unknown, "\n" + "\n".join(sorted(set(unknown)))
