"""The catalog side of recording: finding, changing, deleting and expiring files, applications, classes and events."""

import base64
import threading
import time

import pytest
import requests

import media
from appliance import until

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def record(capstan, push, source, domain, stream, **formats):
    capstan.record(domain, **formats)
    push(source("av"), capstan.url(stream, domain))


def names(capstan, **filters):
    return sorted(file["BasicInfo"]["SourceInfo"]["LiveRecordInfo"]["StreamId"] for file in capstan.search(**filters))


def listen(appliance, **switches):
    """Has all events of the main application fetched."""
    on = {"UploadMediaCompleteEventSwitch": "ON", "DeleteMediaCompleteEventSwitch": "ON"}
    appliance.call("ModifyEventConfig", Mode="PULL", **{**on, **switches})


def pull(appliance, count, seconds=30):
    """So many events, confirmed."""
    events = []
    deadline = time.monotonic() + seconds
    while len(events) < count:
        assert time.monotonic() < deadline, f"{len(events)} of {count} events: {events}"
        pulled = appliance.call("PullEvents")["EventSet"]
        if pulled:
            appliance.call("ConfirmEvents", EventHandles=[event["EventHandle"] for event in pulled])
        events += pulled
    assert len(events) == count
    return events


def test_a_file_is_changed_and_found_by_it(capstan, source, push, domain):
    record(capstan, push, source, domain, "cam", mp4=True)
    file = capstan.file("cam", domain)["FileId"]
    top = capstan.call("CreateClass", ParentId=-1, ClassName=domain)["ClassId"]
    below = capstan.call("CreateClass", ParentId=top, ClassName="Wetter")["ClassId"]
    answer = capstan.call(
        "ModifyMediaInfo",
        FileId=file,
        Name=f"Вечер {domain}",
        Description="первая запись",
        ClassId=below,
        ExpireTime="2099-01-01T00:00:00Z",
        AddTags=["tag one", domain[-32:]],
        AddKeyFrameDescs=[{"TimeOffset": 1.25, "Content": "tor"}],
        CoverData=base64.b64encode(PNG).decode(),
    )
    shown = capstan.call("DescribeMediaInfos", FileIds=[file])["MediaInfoSet"][0]
    basic = shown["BasicInfo"]
    assert (basic["Name"], basic["Description"], basic["TagSet"]) == (f"Вечер {domain}", "первая запись", ["tag one", domain[-32:]])
    assert (basic["ClassId"], basic["ClassName"], basic["ClassPath"]) == (below, "Wetter", f"{domain} - Wetter")
    assert (basic["ExpireTime"], basic["CoverUrl"]) == ("2099-01-01T00:00:00Z", answer["CoverUrl"])
    assert basic["UpdateTime"] >= basic["CreateTime"]
    assert shown["KeyFrameDescInfo"]["KeyFrameDescSet"] == [{"TimeOffset": 1.25, "Content": "tor"}]
    cover = requests.get(basic["CoverUrl"], timeout=60)
    assert (cover.status_code, cover.headers["Content-Type"], cover.content) == (200, "image/png", PNG)
    # The new name is in the address; the old address still plays.
    assert requests.head(basic["MediaUrl"], timeout=60).status_code == 200
    media.assert_decodes(capstan.path_of(shown))
    for filters in (
        {"Names": [f"вечер {domain}".upper()]},
        {"NamePrefixes": [f"ВЕЧЕР {domain}"]},
        {"Descriptions": ["ПЕРВАЯ ЗАП"], "Names": [domain]},
        {"Text": domain[:60]},
        {"Tags": [domain[-32:]]},
        {"ClassIds": [below]},
        {"ClassIds": [top]},
        {"FileIds": [file], "ExpireTime": {"After": "2099-01-01T00:00:00Z", "Before": "2099-01-01T00:00:01Z"}},
    ):
        assert [found["FileId"] for found in capstan.search(StreamDomains=[domain], **filters)] == [file], filters
    assert capstan.search(StreamDomains=[domain], ClassIds=[0]) == []
    assert capstan.error("DeleteClass", ClassId=below) == "UnsupportedOperation.ClassNotEmpty"


def test_deleted_files_and_their_bytes_are_gone(capstan, source, push, domain):
    """MP4 and HLS share their media; each can go without the other."""
    record(capstan, push, source, domain, "cam", mp4=True, hls=True)
    files = capstan.by_format("cam", domain, "mp4", "hls")
    mp4, hls = files["mp4"], files["hls"]
    folder = capstan.folder_of(mp4)
    capstan.call("DeleteMedia", FileId=mp4["FileId"])
    assert [file["FileId"] for file in capstan.search(StreamDomains=[domain])] == [hls["FileId"]]
    assert requests.get(mp4["BasicInfo"]["MediaUrl"], timeout=60).status_code == 404
    assert capstan.call("DescribeMediaInfos", FileIds=[mp4["FileId"]])["NotExistFileIdSet"] == [mp4["FileId"]]
    until(lambda: not folder.exists(), 15, "the bytes being gone")
    media.assert_decodes(capstan.path_of(hls))
    assert capstan.error("DeleteMedia", FileId=mp4["FileId"]) == "ResourceNotFound"

    # The original alone: the entry stays.
    folder = capstan.folder_of(hls)
    capstan.call("DeleteMedia", FileId=hls["FileId"], DeleteParts=[{"Type": "OriginalFiles", "Definition": 0}])
    left = capstan.file("cam", domain)
    assert (left["BasicInfo"]["MediaUrl"], left["TranscodeInfo"]["TranscodeSet"]) == ("", [])
    assert requests.get(hls["BasicInfo"]["MediaUrl"], timeout=60).status_code == 404
    until(lambda: sorted(path.name for path in folder.iterdir()) == ["recording.json"], 15, "the media being gone")


def test_killed_after_a_deletion(start, source, push):
    """The deletion stands, the bytes follow, and the id is not used again."""
    capstan = start()
    record(capstan, push, source, "a.example", "first", mp4=True)
    file = capstan.file("first")
    folder = capstan.folder_of(file)
    note = capstan.data / "recording" / f"{file['FileId']}.finished"
    text = (folder / "recording.json").read_bytes()
    capstan.call("DeleteMedia", FileId=file["FileId"])
    capstan.kill()
    # The worst a crash leaves: bytes not removed, and the note of the finished file back again.
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "left.mp4").write_bytes(b"x")
    note.write_bytes(text)
    capstan.start()
    push(source("av"), capstan.url("second", "a.example"))
    second = capstan.file("second")
    assert int(second["FileId"]) > int(file["FileId"])
    until(lambda: not note.exists(), 15, "the note being gone")
    assert names(capstan) == ["second"]


def test_files_expire(start, source, push):
    capstan = start()
    listen(capstan)
    record(capstan, push, source, "a.example", "short", mp4={"StorageTime": 3})
    first, second = pull(capstan, 2)
    assert (first["EventType"], second["EventType"]) == ("NewFileUpload", "FileDeleted")
    upload, deletion = first["FileUploadEvent"], second["FileDeleteEvent"]
    assert upload["MediaBasicInfo"]["SourceInfo"]["SourceType"] == "Record"
    assert upload["MediaBasicInfo"]["ExpireTime"] < "2099"
    assert upload["MetaData"]["Container"] == "mp4" and upload["MetaData"]["Size"] > 0
    assert deletion == {"FileIdSet": [upload["FileId"]], "FileDeleteResultInfo": [{"FileId": upload["FileId"], "DeleteParts": []}]}
    assert capstan.search() == []
    until(lambda: list((capstan.data / "media").glob("*/*")) == [], 15, "the bytes being gone")


def test_applications_are_walls(start, source, push):
    capstan = start()
    app = capstan.call("CreateSubAppId", Name="studio", Description="second")["SubAppId"]
    gone = capstan.call("CreateSubAppId", Name="gone")["SubAppId"]
    inside = capstan.call("CreateClass", ParentId=-1, ClassName="in", SubAppId=app)["ClassId"]
    record(capstan, push, source, "a.example", "kept", mp4={"VodSubAppId": app, "ClassId": inside})
    file = until(lambda: capstan.search(SubAppId=app), what="the file")[0]
    assert file["BasicInfo"]["ClassName"] == "in"
    assert capstan.search() == []
    assert capstan.call("DescribeMediaInfos", FileIds=[file["FileId"]])["NotExistFileIdSet"] == [file["FileId"]]
    media_url = file["BasicInfo"]["MediaUrl"]
    assert requests.head(media_url, timeout=60).status_code == 200
    capstan.call("ModifySubAppIdStatus", SubAppId=app, Status="Off")
    assert requests.head(media_url, timeout=60).status_code == 403
    assert capstan.error("ModifySubAppIdStatus", SubAppId=app, Status="Destroyed") == "FailedOperation"

    # What is gone when the file is ready costs the place, not the file.
    record(capstan, push, source, "b.example", "astray", mp4={"VodSubAppId": gone, "ClassId": 77})
    until(lambda: capstan.search(SubAppId=gone), what="the file")
    capstan.call("DeleteMedia", SubAppId=gone, FileId=capstan.search(SubAppId=gone)[0]["FileId"])
    capstan.call("ModifySubAppIdStatus", SubAppId=gone, Status="Destroyed")
    push(source("av"), capstan.url("astray", "b.example"))
    found = capstan.file("astray")
    assert (found["BasicInfo"]["ClassId"], found["BasicInfo"]["ClassName"]) == (0, "Other")
    listed = capstan.call("DescribeSubAppIds")
    assert [entry["Name"] for entry in listed["SubAppIdInfoSet"]] == ["Main", "studio"] and listed["TotalCount"] == 2
    assert capstan.error("SearchMedia", SubAppId=gone) == "InvalidParameterValue.SubAppId"


def test_waiting_for_events_holds_up_nobody(start, source, push):
    """More clients wait than there are workers."""
    capstan = start(http={"workers": 2})
    listen(capstan)
    answers = []

    def wait():
        answers.append(capstan.answer(requests.post(f"{capstan.http}/?Action=PullEvents&Version=2018-07-17", timeout=60))["EventSet"])

    begun = time.monotonic()
    waiting = [threading.Thread(target=wait) for _ in range(8)]
    for thread in waiting:
        thread.start()
    for _ in range(20):
        asked = time.monotonic()
        capstan.call("DescribeSubAppIds")
        # Behind those who wait it would be one of their waits at least.
        assert time.monotonic() - asked < 4
    for thread in waiting:
        thread.join(60)
    assert answers == [[]] * 8
    # One after the other it would be 20 s.
    assert 4 < time.monotonic() - begun < 18

    # A file that comes ends the wait.
    record(capstan, push, source, "a.example", "cam", mp4=True)
    event = pull(capstan, 1)[0]
    assert event["FileUploadEvent"]["FileId"] == capstan.file("cam")["FileId"]
    # Nothing that was confirmed comes again, also after a restart.
    capstan.kill()
    capstan.start()
    assert capstan.call("PullEvents")["EventSet"] == []


@pytest.mark.parametrize("offset, limit, code", [(0, 5001, "Limit"), (5000, 1, "Offset"), (4990, 11, "Offset")])
def test_paging_limits(capstan, offset, limit, code):
    assert capstan.error("SearchMedia", Offset=offset, Limit=limit) == f"InvalidParameterValue.{code}"
