"""The HTTP API: forms of requests, values, and the code of every refusal."""

import json
import time
import urllib.parse

import pytest

from appliance import LIVE, VOD, ApiError

NOW = int(time.time())


def test_the_same_call_in_three_forms(capstan):
    """GET, form POST and JSON POST."""
    flat = {"TemplateName": "three-forms", "Description": "a b+c&d", "Mp4Param.Enable": "1", "Mp4Param.RecordInterval": "3600", "RemoveWatermark": "True"}
    ids = [capstan.get_call("CreateLiveRecordTemplate", **flat)["TemplateId"]]
    form = urllib.parse.urlencode({"Action": "CreateLiveRecordTemplate", "Version": LIVE, **flat})
    response = capstan.session.post(f"{capstan.http}/", data=form, headers={"Content-Type": "application/x-www-form-urlencoded"}, timeout=60)
    ids.append(capstan.answer(response)["TemplateId"])
    nested = {"TemplateName": "three-forms", "Description": "a b+c&d", "Mp4Param": {"Enable": 1, "RecordInterval": 3600}, "RemoveWatermark": True}
    ids.append(capstan.call("CreateLiveRecordTemplate", **nested)["TemplateId"])
    shown = [capstan.call("DescribeLiveRecordTemplate", TemplateId=template)["Template"] for template in ids]
    assert [template.pop("TemplateId") for template in shown] == ids
    assert shown[0] == shown[1] == shown[2]
    assert ids == sorted(set(ids)) and ids[0] > 1000
    for template in ids:
        capstan.call("DeleteLiveRecordTemplate", TemplateId=template)


def test_request_ids_differ(capstan):
    ids = {capstan.post("DescribeLiveRecordRules").json()["Response"]["RequestId"] for _ in range(5)}
    assert len(ids) == 5


def test_template_with_all_its_defaults(capstan):
    template = capstan.template("defaults", flv=True, aac={"RecordInterval": 7200, "StorageTime": 86400, "ClassId": 0, "StorageMode": "cold"})
    shown = capstan.call("DescribeLiveRecordTemplate", TemplateId=template)["Template"]
    assert (shown["TemplateName"], shown["Description"], shown["IsDelayLive"], shown["RemoveWatermark"]) == ("defaults", "", 0, False)
    assert shown["FlvParam"]["Enable"] == 1 and shown["FlvParam"]["RecordInterval"] == 1800
    assert shown["AacParam"]["RecordInterval"] == 7200 and shown["AacParam"]["StorageTime"] == 86400 and shown["AacParam"]["StorageMode"] == "cold"
    for name in ("Hls", "Mp4", "Mp3"):
        parameters = shown[f"{name}Param"]
        assert parameters["Enable"] == 0 and parameters["StorageTime"] == 0 and parameters["VodSubAppId"] == 0
    assert shown["HlsSpecialParam"]["FlowContinueDuration"] == 0
    # Merged field by field; absent fields stay.
    capstan.call("ModifyLiveRecordTemplate", TemplateId=template, AacParam={"Enable": 1, "RecordInterval": 60}, Description="x")
    changed = capstan.call("DescribeLiveRecordTemplate", TemplateId=template)["Template"]
    assert changed["AacParam"]["RecordInterval"] == 60 and changed["AacParam"]["StorageTime"] == 86400
    assert changed["FlvParam"] == shown["FlvParam"] and changed["TemplateName"] == "defaults"
    # All or nothing.
    assert capstan.error("ModifyLiveRecordTemplate", TemplateId=template, Description="y", FlvParam={"RecordInterval": 1}) == "InvalidParameterValue"
    assert capstan.call("DescribeLiveRecordTemplate", TemplateId=template)["Template"] == changed
    listed = capstan.call("DescribeLiveRecordTemplates")["Templates"]
    assert changed in listed and [entry["TemplateId"] for entry in listed] == sorted(entry["TemplateId"] for entry in listed)
    capstan.call("DeleteLiveRecordTemplate", TemplateId=template)


def create(**parameters):
    return ("CreateLiveRecordTemplate", {"TemplateName": "t", **parameters})


def task(**parameters):
    return ("CreateRecordTask", {"StreamName": "s", "DomainName": "a.example", "AppName": "live", "EndTime": NOW + 3600, **parameters})


def without(call, name):
    action, parameters = call
    return action, {key: value for key, value in parameters.items() if key != name}


REFUSALS = [
    ("no such action", ("CreateLiveRecordTempalte", {}), "InvalidAction"),
    ("an action of the family that is not offered", ("DescribeDrmKeyProviderInfo", {"_version": VOD}), "UnsupportedOperation"),
    ("the wrong family", ("CreateLiveRecordTemplate", {"TemplateName": "t", "_version": VOD}), "InvalidAction"),
    ("no such version", ("CreateLiveRecordTemplate", {"TemplateName": "t", "_version": "2020-01-01"}), "NoSuchVersion"),
    ("unknown parameter", create(Colour=1), "UnknownParameter"),
    ("unknown format", create(FmpParam={"Enable": 1}), "UnknownParameter"),
    ("no name", without(create(), "TemplateName"), "MissingParameter"),
    ("null is absent", create(TemplateName=None), "MissingParameter"),
    ("empty name", create(TemplateName=""), "InvalidParameterValue"),
    ("name with a space", create(TemplateName="a b"), "InvalidParameterValue"),
    ("name too long", create(TemplateName="x" * 256), "InvalidParameterValue"),
    ("description too long", create(Description="x" * 1025), "InvalidParameterValue"),
    ("control character", create(Description="a\u0007"), "InvalidParameterValue"),
    ("wrong type", create(TemplateName=["t"]), "InvalidParameter"),
    ("object as number", create(FlvParam=1), "InvalidParameter"),
    ("fraction", create(FlvParam={"RecordInterval": 60.5}), "InvalidParameter"),
    ("not 0 or 1", create(FlvParam={"Enable": 2}), "InvalidParameterValue"),
    ("interval 29", create(FlvParam={"Enable": 1, "RecordInterval": 29}), "InvalidParameterValue"),
    ("FLV interval 43201", create(FlvParam={"RecordInterval": 43201}), "InvalidParameterValue"),
    ("AAC interval 7201", create(AacParam={"RecordInterval": 7201}), "InvalidParameterValue"),
    ("negative storage time", create(Mp4Param={"StorageTime": -1}), "InvalidParameterValue"),
    ("storage time over 1500 days", create(Mp4Param={"StorageTime": 129600001}), "InvalidParameterValue"),
    ("storage mode", create(Mp4Param={"StorageMode": "warm"}), "InvalidParameterValue"),
    ("unknown application", create(Mp4Param={"VodSubAppId": 5}), "InvalidParameterValue"),
    ("unknown placeholder", create(Mp4Param={"VodFileName": "{Moon}"}), "InvalidParameter.InvalidVodFileName"),
    ("slash in the file name", create(Mp4Param={"VodFileName": "a/b"}), "InvalidParameter.InvalidVodFileName"),
    ("file name too long", create(Mp4Param={"VodFileName": "x" * 256}), "InvalidParameter.InvalidVodFileName"),
    ("continue duration", create(HlsSpecialParam={"FlowContinueDuration": 1801}), "InvalidParameterValue"),
    ("object storage", create(CosStore=1), "UnsupportedOperation"),
    ("describe unknown", ("DescribeLiveRecordTemplate", {"TemplateId": 999999}), "FailedOperation.NotFound"),
    ("modify unknown", ("ModifyLiveRecordTemplate", {"TemplateId": 999999, "Description": "x"}), "FailedOperation.NotFound"),
    ("delete unknown", ("DeleteLiveRecordTemplate", {"TemplateId": 999999}), "InternalError.ConfNotFound"),
    ("describe nothing", ("DescribeLiveRecordTemplate", {}), "MissingParameter"),
    ("rule without template", ("CreateLiveRecordRule", {"DomainName": "a.example"}), "MissingParameter"),
    ("rule for an unknown template", ("CreateLiveRecordRule", {"DomainName": "a.example", "TemplateId": 999999}), "InvalidParameter.ConfNotFound"),
    ("delete an absent rule", ("DeleteLiveRecordRule", {"DomainName": "absent.example"}), "FailedOperation.NotFound"),
    ("domain that is none", ("DeleteLiveRecordRule", {"DomainName": "not a domain"}), "InvalidParameter.DomainFormatError"),
    ("domain too long", ("DeleteLiveRecordRule", {"DomainName": "a." * 127 + "example"}), "InvalidParameter.DomainTooLong"),
    ("task without an end", without(task(), "EndTime"), "MissingParameter"),
    ("task without an app", without(task(), "AppName"), "MissingParameter"),
    ("task with an empty app", task(AppName=""), "InvalidParameter"),
    ("task in the past", task(EndTime=NOW - 10), "InvalidParameter"),
    ("task that ends before it begins", task(StartTime=NOW + 7200), "InvalidParameter"),
    ("task over 24 hours", task(StartTime=NOW + 60, EndTime=NOW + 60 + 86401), "InvalidParameter"),
    ("task too far away", task(StartTime=NOW + 7 * 86400, EndTime=NOW + 7 * 86400 + 60), "InvalidParameter"),
    ("stream type", task(StreamType=2), "InvalidParameter"),
    ("extension too long", task(Extension="x" * 4097), "InvalidParameter"),
    ("end as text", task(EndTime="tomorrow"), "InvalidParameter"),
    ("stop unknown", ("StopRecordTask", {"TaskId": "nothing"}), "InvalidParameter"),
    ("delete unknown task", ("DeleteRecordTask", {"TaskId": "nothing"}), "InvalidParameter"),
    ("describe tasks without a window", ("DescribeRecordTask", {}), "MissingParameter"),
    ("window of 8 days", ("DescribeRecordTask", {"StartTime": NOW, "EndTime": NOW + 8 * 86400}), "InvalidParameter"),
    ("window backwards", ("DescribeRecordTask", {"StartTime": NOW, "EndTime": NOW - 1}), "InvalidParameter"),
    ("window 91 days ago", ("DescribeRecordTask", {"StartTime": NOW - 91 * 86400, "EndTime": NOW - 90 * 86400}), "InvalidParameter"),
    ("bad token", ("DescribeRecordTask", {"StartTime": NOW, "EndTime": NOW + 60, "ScrollToken": "x"}), "InvalidParameter"),
    ("page size", ("DescribeLiveStreamOnlineList", {"PageSize": 101}), "InvalidParameterValue"),
    ("page 0", ("DescribeLiveStreamOnlineList", {"PageNum": 0}), "InvalidParameterValue"),
    ("no file", ("DescribeMediaInfos", {"FileIds": []}), "InvalidParameterValue.FileIdsEmpty"),
    ("files absent", ("DescribeMediaInfos", {}), "MissingParameter"),
    ("21 files", ("DescribeMediaInfos", {"FileIds": ["1"] * 21}), "InvalidParameterValue.FileIdsOverLimit"),
    ("offset and limit", ("SearchMedia", {"Offset": 4999, "Limit": 2}), "InvalidParameterValue.Offset"),
    ("limit", ("SearchMedia", {"Limit": 5001}), "InvalidParameterValue.Limit"),
    ("sort field", ("SearchMedia", {"Sort": {"Field": "Size"}}), "InvalidParameterValue.Sort"),
    ("category", ("SearchMedia", {"Categories": ["Book"]}), "InvalidParameterValue.Categories"),
    ("too many ids", ("SearchMedia", {"FileIds": ["1"] * 11}), "InvalidParameterValue.FileIds"),
    ("too many names", ("SearchMedia", {"Names": ["x"] * 11}), "InvalidParameterValue.Names"),
    ("application", ("SearchMedia", {"SubAppId": 7}), "InvalidParameterValue.SubAppId"),
]


@pytest.mark.parametrize(("what", "call", "code"), REFUSALS, ids=[what for what, _, _ in REFUSALS])
def test_refusals(capstan, what, call, code):
    action, parameters = call
    parameters = dict(parameters)
    version = parameters.pop("_version", None)
    with pytest.raises(ApiError) as refusal:
        capstan.answer(capstan.post(action, version=version, **parameters))
    assert refusal.value.code == code, refusal.value
    assert len(refusal.value.message) > 10


def test_refusals_change_nothing(capstan):
    before = capstan.call("DescribeLiveRecordTemplates"), capstan.call("DescribeLiveRecordRules")
    for _, (action, parameters), _ in REFUSALS:
        parameters = dict(parameters)
        capstan.post(action, version=parameters.pop("_version", None), **parameters)
    assert (capstan.call("DescribeLiveRecordTemplates"), capstan.call("DescribeLiveRecordRules")) == before


def test_bodies_that_are_none(capstan):
    headers = {"Content-Type": "application/json", "X-TC-Action": "DescribeLiveRecordTemplates", "X-TC-Version": LIVE}
    for body in (b"", b"{", b"[]", b"null", b'{"IsDelayLive": 0, "IsDelayLive": 0}', b"\xff\xfe", b'{"IsDelayLive": 1e400}', b"[" * 10_000):
        response = capstan.session.post(f"{capstan.http}/", data=body, headers=headers, timeout=60)
        assert response.status_code == 200, body[:20]
        answer = response.json()["Response"]
        assert answer.get("Error", {}).get("Code", "ok") in (("ok", "InvalidParameter") if body == b"" else ("InvalidParameter",)), (body[:20], answer)
    response = capstan.session.put(f"{capstan.http}/", data=b"{}", headers=headers, timeout=60)
    assert response.status_code == 405 and response.json()["Response"]["Error"]["Code"] == "UnsupportedProtocol"


def test_oversized_bodies(capstan):
    """Refused without being read to the end."""
    import requests

    headers = {"Content-Type": "application/json", "X-TC-Action": "DescribeLiveRecordTemplates", "X-TC-Version": LIVE}
    try:
        response = requests.post(f"{capstan.http}/", data=b" " * (11 << 20), headers=headers, timeout=60)
        assert response.status_code == 413 or response.json()["Response"]["Error"]["Code"] == "RequestSizeLimitExceeded"
    except requests.ConnectionError:
        pass
    capstan.call("DescribeLiveRecordTemplates")


def test_rules(capstan, domain):
    one, two = capstan.template("one", flv=True), capstan.template("two", mp4=True)
    capstan.rule(one, domain.upper())
    assert capstan.error("CreateLiveRecordRule", DomainName=domain, TemplateId=two) == "FailedOperation.RuleAlreadyExist"
    capstan.rule(two, domain, "live", "直播")
    rules = [rule for rule in capstan.call("DescribeLiveRecordRules")["Rules"] if rule["DomainName"] == domain]
    assert [(rule["AppName"], rule["StreamName"], rule["TemplateId"]) for rule in rules] == [("", "", one), ("live", "直播", two)]
    assert all(len(rule["CreateTime"]) == 19 for rule in rules)
    assert capstan.error("DeleteLiveRecordTemplate", TemplateId=one) == "FailedOperation.ConfInUsed"
    assert capstan.error("DeleteLiveRecordRule", DomainName=domain, AppName="live") == "FailedOperation.NotFound"
    capstan.call("DeleteLiveRecordRule", DomainName=domain)
    capstan.call("DeleteLiveRecordTemplate", TemplateId=one)
    capstan.call("DeleteLiveRecordRule", DomainName=domain, AppName="live", StreamName="直播")
    assert not [rule for rule in capstan.call("DescribeLiveRecordRules")["Rules"] if rule["DomainName"] == domain]


def test_quotas(start):
    appliance = start(api={"templates_max": 3, "rules_max": 2, "tasks_max": 2})
    templates = [appliance.template(f"t{index}") for index in range(3)]
    assert appliance.error("CreateLiveRecordTemplate", TemplateName="more") == "InternalError.ConfOutLimit"
    appliance.call("DeleteLiveRecordTemplate", TemplateId=templates[2])
    assert appliance.template("t3") > templates[2], "ids are never used again"
    for index in range(2):
        appliance.rule(templates[0], "a.example", stream=f"s{index}")
    assert appliance.error("CreateLiveRecordRule", DomainName="a.example", TemplateId=templates[0]) == "InternalError.RuleOutLimit"
    parameters = {"StreamName": "s", "DomainName": "a.example", "AppName": "live", "EndTime": int(time.time()) + 600}
    tasks = [appliance.call("CreateRecordTask", **parameters)["TaskId"] for _ in range(2)]
    assert appliance.error("CreateRecordTask", **parameters) == "LimitExceeded.MaximumRunningTask"
    appliance.call("StopRecordTask", TaskId=tasks[0])
    appliance.call("CreateRecordTask", **parameters)


def test_tasks_are_listed_and_paged(capstan, domain):
    now = int(time.time())
    made = []
    for index in range(105):
        start = now + 100 + index // 2
        parameters = {"StreamName": f"s{index % 3}", "DomainName": domain, "AppName": "live", "StartTime": start, "EndTime": start + 60, "TemplateId": 0}
        made.append((start, capstan.call("CreateRecordTask", **parameters)["TaskId"]))
    window = {"StartTime": now, "EndTime": now + 3600, "DomainName": domain}
    first = capstan.call("DescribeRecordTask", **window)
    assert len(first["TaskList"]) == 100 and first["ScrollToken"]
    # A task deleted while paging causes no repeat and no hole.
    capstan.call("DeleteRecordTask", TaskId=first["TaskList"][0]["TaskId"])
    rest = capstan.call("DescribeRecordTask", **window, ScrollToken=first["ScrollToken"])
    assert len(rest["TaskList"]) == 5 and rest["ScrollToken"] == ""
    listed = [(entry["StartTime"], entry["TaskId"]) for entry in first["TaskList"] + rest["TaskList"]]
    assert listed == sorted(made)
    assert all(entry["Stopped"] == 0 and entry["EndTime"] == entry["StartTime"] + 60 for entry in first["TaskList"])
    of_one = capstan.call("DescribeRecordTask", **window, StreamName="s1", AppName="live")["TaskList"]
    assert len(of_one) == 35 - (first["TaskList"][0]["StreamName"] == "s1")
    # Wholly inside the window, or not at all.
    narrow = capstan.call("DescribeRecordTask", StartTime=now + 110, EndTime=now + 175, DomainName=domain)["TaskList"]
    assert {entry["StartTime"] for entry in narrow} == set(range(now + 110, now + 116))
    capstan.call("StopRecordTask", TaskId=made[-1][1])
    capstan.call("StopRecordTask", TaskId=made[-1][1])
    stopped = capstan.call("DescribeRecordTask", **window, ScrollToken=first["ScrollToken"])["TaskList"][-1]
    assert stopped["TaskId"] == made[-1][1] and now <= stopped["Stopped"] <= int(time.time())


def test_unknown_template_of_a_task_means_the_default(capstan, source, push, domain):
    capstan.call("CreateRecordTask", StreamName="cam", DomainName=domain, AppName="live", EndTime=int(time.time()) + 600, TemplateId=987654)
    push(source("av"), capstan.url("cam", domain))
    assert capstan.file("cam", domain)["BasicInfo"]["Type"] == "flv"


def test_search(capstan, source, push, domain):
    capstan.record(domain, flv={"VodFileName": "Morgenmagazin_{StreamID}"}, mp4={"VodFileName": "100%_{StreamID}"}, aac=True)
    for stream in ("north", "south"):
        push(source("av"), capstan.url(stream, domain))
    for stream in ("north", "south"):
        capstan.files(stream, domain, 3)

    def names(**filters):
        return sorted(file["BasicInfo"]["Name"] for file in capstan.search(StreamDomains=[domain], **filters))

    assert len(names()) == 6
    assert names(Names=["MORGEN"]) == ["Morgenmagazin_north", "Morgenmagazin_south"]
    assert names(Names=["magazin_s", "100%_n"]) == ["100%_north", "Morgenmagazin_south"]
    assert names(Names=["100%_"]) == ["100%_north", "100%_south"]
    assert names(Names=["1%0"]) == [] and names(Names=["M_rgen"]) == [] and names(Names=["*"]) == []
    assert names(NamePrefixes=["Morgen"]) == ["Morgenmagazin_north", "Morgenmagazin_south"]
    assert names(StreamIds=["south"], MediaTypes=["mp4"]) == ["100%_south"]
    assert len(names(MediaTypes=["mp4", "FLV"])) == 4
    assert len(names(Categories=["Audio"])) == 2 and len(names(Categories=["Video"])) == 4
    assert len(names(SourceTypes=["Record"])) == 6 and names(SourceTypes=["Upload"]) == []
    assert len(names(StreamPaths=["live"])) == 6 and names(StreamPaths=["studio"]) == []
    hour = lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))  # noqa: E731
    assert len(names(CreateTime={"After": hour(-3600), "Before": hour(3600)})) == 6
    assert names(CreateTime={"After": hour(3600)}) == [] and names(CreateTime={"Before": hour(-3600)}) == []
    assert names(ExpireTime={"After": hour(-3600), "Before": hour(3600)}) == [], "kept for ever"
    one = capstan.search(StreamDomains=[domain], StreamIds=["north"], MediaTypes=["flv"])[0]
    assert [file["FileId"] for file in capstan.search(FileIds=[one["FileId"], "1"])] == [one["FileId"]]
    # Pages.
    pages = [capstan.call("SearchMedia", StreamDomains=[domain], Limit=4, Offset=offset) for offset in (0, 4, 8)]
    assert [len(page["MediaInfoSet"]) for page in pages] == [4, 2, 0] and {page["TotalCount"] for page in pages} == {6}
    assert len({file["FileId"] for page in pages for file in page["MediaInfoSet"]}) == 6
    order = lambda direction: [file["FileId"] for file in capstan.search(StreamDomains=[domain], Sort={"Field": "CreateTime", "Order": direction})]  # noqa: E731
    assert order("Asc") == order("Desc")[::-1]
    # Parts.
    bare = capstan.search(FileIds=[one["FileId"]], Filters=["metaData"])[0]
    assert bare["MetaData"] == one["MetaData"] and not bare.get("BasicInfo")
    # DescribeMediaInfos: in the order asked, doubles once, the rest named.
    ids = [file["FileId"] for file in capstan.search(StreamDomains=[domain])]
    answer = capstan.call("DescribeMediaInfos", FileIds=[ids[2], "387702290000000001", ids[0], ids[2]])
    assert [file["FileId"] for file in answer["MediaInfoSet"]] == [ids[2], ids[0]]
    assert answer["NotExistFileIdSet"] == ["387702290000000001"]
    assert answer["MediaInfoSet"] == [capstan.search(FileIds=[ids[2]])[0], capstan.search(FileIds=[ids[0]])[0]]
    flat = capstan.get_call("DescribeMediaInfos", **{"FileIds.0": ids[0], "FileIds.1": ids[1]})
    assert [file["FileId"] for file in flat["MediaInfoSet"]] == ids[:2]


def test_media_info_of_a_recording(capstan, source, push, domain):
    capstan.record(domain, mp4={"StorageTime": 3600})
    before = int(time.time())
    push(source("av"), capstan.url("cam", domain))
    file = capstan.file("cam", domain)
    basic, meta = file["BasicInfo"], file["MetaData"]
    assert 18 <= len(file["FileId"]) <= 19 and file["FileId"].isdigit() and int(file["FileId"]) < 2**63
    assert (basic["Type"], basic["Category"], basic["ClassId"], basic["Status"], basic["Vid"]) == ("mp4", "Video", 0, "Normal", file["FileId"])
    parse = lambda text: time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone  # noqa: E731
    record = basic["SourceInfo"]["LiveRecordInfo"]
    assert basic["SourceInfo"]["SourceType"] == "Record"
    assert before - 1 <= parse(record["RecordStartTime"]) <= parse(record["RecordEndTime"]) <= parse(basic["CreateTime"]) <= time.time()
    assert abs(parse(basic["ExpireTime"]) - parse(record["RecordEndTime"]) - 3600) <= 1
    assert (meta["Width"], meta["Height"], meta["Container"]) == (160, 120, "mp4")
    streams = meta["VideoStreamSet"] + meta["AudioStreamSet"]
    assert isinstance(meta["Duration"], float) and meta["Bitrate"] == pytest.approx(sum(stream["Bitrate"] for stream in streams), rel=0.02)
    assert meta["VideoStreamSet"][0]["Fps"] == 25 and meta["AudioStreamSet"][0]["SamplingRate"] == 44100
    moment = lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))  # noqa: E731
    for begin, end, hits in ((0, 7200, 1), (0, 600, 0), (7200, 9000, 0)):
        expiring = capstan.search(StreamDomains=[domain], ExpireTime={"After": moment(begin), "Before": moment(end)})
        assert len(expiring) == hits, (begin, end)
    assert meta["VideoDuration"] == pytest.approx(6, abs=0.05) and meta["AudioDuration"] == pytest.approx(6.03, abs=0.05)


def test_online_list(capstan, source, push, domain):
    for index in range(12):
        push.ffmpeg(source("live"), capstan.url(f"s{index:02}", domain), loop=True)
        capstan.wait_online(f"s{index:02}", domain)
    first = capstan.call("DescribeLiveStreamOnlineList", DomainName=domain)
    assert (first["TotalNum"], first["TotalPage"], first["PageNum"], first["PageSize"], len(first["OnlineInfo"])) == (12, 2, 1, 10, 10)
    second = capstan.call("DescribeLiveStreamOnlineList", DomainName=domain, PageNum=2)
    streams = [entry["StreamName"] for entry in first["OnlineInfo"] + second["OnlineInfo"]]
    assert streams == [f"s{index:02}" for index in reversed(range(12))], "newest first"
    assert capstan.call("DescribeLiveStreamOnlineList", DomainName=domain, PageNum=3)["OnlineInfo"] == []
    (one,) = capstan.online("s03", domain)
    assert one["AppName"] == "live" and one["DomainName"] == domain and one["PublishTimeList"][0]["PublishTime"].endswith("Z")
    for process in push.running:
        process.kill()
    capstan.wait_offline("s00", domain)


def test_answer_is_what_client_libraries_expect(capstan):
    """Types that break them when they are wrong (protocol.md 1)."""
    template = capstan.template("types", mp4=True)
    assert isinstance(template, int)
    task_id = capstan.call("CreateRecordTask", StreamName="s", DomainName="types.example", AppName="live", EndTime=int(time.time()) + 600)["TaskId"]
    assert isinstance(task_id, str) and len(task_id) <= 128 and task_id.replace("-", "").replace("_", "").isalnum()
    assert capstan.call("SearchMedia", StreamIds=["never-published"]) == {"TotalCount": 0, "MediaInfoSet": []}
    refused = capstan.post("Nothing").json()["Response"]
    assert set(refused) == {"Error", "RequestId"}
    assert json.loads(capstan.post("DescribeLiveRecordRules").text)["Response"]["Rules"] is not None
    capstan.call("DeleteRecordTask", TaskId=task_id)
    capstan.call("DeleteLiveRecordTemplate", TemplateId=template)
