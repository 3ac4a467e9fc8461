"""A catalog that is damaged or lost: the appliance starts, records, and has everything again."""

import json
import os
import sqlite3
import subprocess

import pytest

import media
from appliance import BINARY, until
from check import check


def lose(path):
    path.unlink()


def damage(path):
    path.write_bytes(b"\x5a" * 40_000)


def damage_a_page(path):
    data = bytearray(path.read_bytes())
    data[8192:16384] = b"\x5a" * 8192
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [lose, damage, damage_a_page])
def test_recording_goes_on_without_the_catalog(start, source, push, harm):
    appliance = start()
    template = appliance.record("a.example", flv=True, mp4=True)
    push(source("av"), appliance.url("before", "a.example"))
    before = {file["FileId"]: file for file in appliance.files("before", "a.example", 2)}
    appliance.stop()
    harm(appliance.data / "catalog.sqlite")
    appliance.start()
    # The rule is still there, and so are the files.
    push(source("av"), appliance.url("after", "a.example"))
    for file in appliance.files("after", "a.example", 2):
        check(appliance, file, media.packets(source("av")))
    for file in appliance.files("before", "a.example", 2):
        assert file["BasicInfo"]["Name"] == before[file["FileId"]]["BasicInfo"]["Name"]
        assert file["MetaData"] == before[file["FileId"]]["MetaData"]
    assert [entry["TemplateId"] for entry in appliance.call("DescribeLiveRecordTemplates")["Templates"]] == [template]
    assert appliance.template(name="next", flv=True) == template + 1
    until(lambda: "the catalog was built again" in appliance.log, what="the end of the rebuilding")
    aside = [path.name for path in appliance.data.glob("catalog.sqlite.damaged-*")]
    assert aside == ([] if harm is lose else ["catalog.sqlite.damaged-1"])


def test_a_catalog_that_somebody_has_locked(start, source, push):
    """Calls that need it fail as our fault, recording goes on, and the files are entered as soon as it is free."""
    appliance = start()
    appliance.record("a.example", flv=True, mp4=True)
    lock = sqlite3.connect(appliance.data / "catalog.sqlite", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    push(source("av"), appliance.url("cam", "a.example"))
    until(lambda: len(list((appliance.data / "media").glob("*/*"))) == 2, what="two finished files")
    assert appliance.error("CreateLiveRecordTemplate", TemplateName="late") == "InternalError"
    # What needs no writing is answered.
    assert len(appliance.call("DescribeLiveRecordTemplates")["Templates"]) == 1
    lock.execute("ROLLBACK")
    lock.close()
    for file in appliance.files("cam", "a.example", 2):
        check(appliance, file, media.packets(source("av")))
    appliance.template(name="late", flv=True)


def test_a_catalog_that_is_damaged_while_it_runs(start, source, push):
    appliance = start()
    appliance.record("a.example", flv=True)
    push(source("av"), appliance.url("before", "a.example"))
    appliance.files("before", "a.example", 1)
    path = appliance.data / "catalog.sqlite"
    with open(path, "r+b") as catalog:
        for page in range(1, path.stat().st_size // 4096):
            catalog.seek(page * 4096)
            catalog.write(b"\x5a" * 4096)
    (appliance.data / "catalog.sqlite-wal").write_bytes(b"")
    push(source("av"), appliance.url("cam", "a.example"))
    until(lambda: len(list((appliance.data / "media").glob("*/*"))) == 2, what="the finished file")
    assert appliance.error("CreateLiveRecordTemplate", TemplateName="late") == "InternalError"
    appliance.kill()
    appliance.start()
    for name in ("before", "cam"):
        check(appliance, appliance.file(name, "a.example"), media.packets(source("av")))


def test_a_catalog_that_is_replaced_while_it_runs(start, source, push):
    """An older copy in its place: it is said, recording goes on, and what the copy lacks is in it after the next start."""
    appliance = start()
    appliance.record("a.example", flv=True)
    path, copy = appliance.data / "catalog.sqlite", appliance.folder / "copy"
    catalog, older = sqlite3.connect(path), sqlite3.connect(copy)
    catalog.backup(older)
    older.execute("PRAGMA journal_mode = DELETE")
    catalog.close()
    older.close()
    push(source("av"), appliance.url("before", "a.example"))
    appliance.files("before", "a.example", 1)
    os.replace(copy, path)

    def health():
        answer = appliance.session.get(f"{appliance.http}/healthz", timeout=60)
        assert answer.status_code == 200
        return answer.json()

    until(lambda: health()["status"] == "degraded", 10, "the loss being noticed")
    assert "was replaced by another file" in health()["catalog"]
    push(source("av"), appliance.url("cam", "a.example"))
    until(lambda: len(list((appliance.data / "media").glob("*/*"))) == 2, what="the finished file")
    appliance.stop()
    appliance.start()
    for name in ("before", "cam"):
        check(appliance, appliance.file(name, "a.example"), media.packets(source("av")))
    assert health()["status"] == "ok"


def rebuild(appliance):
    return subprocess.run([BINARY, "rebuild-catalog", "--config", appliance.config], capture_output=True, text=True, timeout=60, cwd=appliance.folder)


def test_rebuild_catalog(start, source, push):
    appliance = start()
    appliance.record("a.example", flv=True, hls=True)
    push(source("av"), appliance.url("cam", "a.example"))
    before = appliance.files("cam", "a.example", 2)
    refused = rebuild(appliance)
    assert refused.returncode == 1 and "another Capstan is running" in refused.stderr
    appliance.stop()
    done = rebuild(appliance)
    assert done.returncode == 0 and "2 recordings entered" in done.stdout, done.stdout + done.stderr
    assert (appliance.data / "catalog.sqlite.replaced-1").exists()
    assert json.loads((appliance.data / "policy.json").read_text())["tables"]["rule"]
    appliance.start()
    assert [file["FileId"] for file in appliance.files("cam", "a.example", 2)] == [file["FileId"] for file in before]
    push(source("av"), appliance.url("more", "a.example"))
    appliance.files("more", "a.example", 2)
