"""Rows of calls: what is called with what, and what has to come of it. The files in rows/ hold them, one for each family of actions."""

import importlib
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Row:
    action: str
    parameters: dict
    # Refused with exactly this code; "": accepted.
    code: str = ""
    # Of the answer: true, or an assertion of its own.
    check: object = None
    # Keeps a field of the answer (or what a function makes of it) for later rows: {"template": "TemplateId"}.
    save: dict = field(default_factory=dict)
    # Says what the SDK's model of the request cannot hold.
    raw: bool = False
    # Where the wire types have no such action.
    family: str = ""


@dataclass(frozen=True)
class Saved:
    """What an earlier row kept under this name."""

    name: str


def ok(action, check=None, save=None, raw=False, family="", **parameters):
    return Row(action, parameters, "", check, save or {}, raw, family)


def bad(code, action, raw=False, family="", **parameters):
    return Row(action, parameters, code, None, {}, raw, family)


class Scene:
    """Names and times that the rows of one run are made with: no two runs share a domain."""

    def __init__(self, tag, recorded):
        self.now = int(time.time())
        self.tag = tag
        self.domain = f"{tag}.example"
        # Domain, stream and FileId of a recording that is in the catalog; `another` makes one more.
        self.recorded = recorded


def families():
    return sorted(path.stem for path in (Path(__file__).parent / "rows").glob("[a-z]*.py"))


def rows_of(family, scene):
    return importlib.import_module(f"rows.{family}").rows(scene)


def resolve(value, saved):
    if isinstance(value, Saved):
        return saved[value.name]
    if isinstance(value, dict):
        return {key: resolve(item, saved) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, saved) for item in value]
    return value
