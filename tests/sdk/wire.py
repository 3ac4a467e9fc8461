"""Checks answers against the wire types of the strictest official SDK: every field declared, every value of the declared type."""

from pathlib import Path

FAMILIES = {"live": {}, "vod": {}}
for line in (Path(__file__).parent / "wire_types.tsv").read_text().splitlines():
    if line and not line.startswith("#"):
        family, name, field, kind = line.split("\t")
        FAMILIES[family].setdefault(name, {})[field] = kind

# In no SDK's model: the family is all that is known.
BARE = {
    "DescribeLiveForbidStreamList": "live", "DescribeLiveProhibitStreamList": "live",
    # Our own.
    "DescribeCallbackDeliveries": "live", "ReplayCallbackDeliveries": "live",
    "DescribeApplianceState": "live", "DescribeApplianceSettings": "live", "DescribeAppliancePasses": "live",
    "DescribeRecordingReceipt": "vod",
}


# Answered where it was asked for.
NULL_UNASKED = {"LiveRealTimeClip.MetaData"}

# Of features that are not offered, and sent all the same because the contract says so: always empty.
EMPTY = {("ModifyMediaInfoResponse", "AddedSubtitleSet"): []}

# Fields and answers that newer SDKs have and the strictest does not.
NEWER = {
    ("AdaptiveDynamicStreamingTemplate", "SegmentDuration"): "uint",
    ("CallBackTemplateInfo", "RecordStatusNotifyUrl"): "text",
    ("CallBackTemplateInfo", "RecordExceptionNotifyUrl"): "text",
    ("CallBackTemplateInfo", "RecordExceptionLevels"): "list of text",
}
NEWER_ACTIONS = {f"{verb}{kind}" for verb, kind in (
    *((verb, "ImageSpriteTemplate") for verb in ("Create", "Modify", "Delete")), ("Describe", "ImageSpriteTemplates"),
    ("Modify", "SnapshotByTimeOffsetTemplate"), ("Modify", "SampleSnapshotTemplate"), ("Manage", "Task"), ("Describe", "DrmDataKey"),
    ("Modify", "DefaultDistributionConfig"),
    *((verb, "AnimatedGraphicsTemplate") for verb in ("Create", "Modify", "Delete")), ("Describe", "AnimatedGraphicsTemplates"),
)}

# Fields that an answer may leave out: what depends on the kind of object, on the filters of the call, or on what the object went through.
OPTIONAL = {
    "MediaInfo", "MediaBasicInfo", "MediaMetaData", "MediaSourceData", "MediaTranscodeItem", "MediaVideoStreamItem", "MediaAudioStreamItem",
    "EventContent", "StreamName", "DescribeTaskDetailResponse", "MediaProcessTaskResult", "TranscodeTaskInput",
    *(f"MediaProcessTask{kind}Result" for kind in (
        "Transcode", "SnapshotByTimeOffset", "SampleSnapshot", "ImageSprite", "CoverBySnapshot", "AdaptiveDynamicStreaming",
    )),
}


def family_of(action):
    """`live` or `vod`; actions of neither are refused by the test that uses them."""
    for family, classes in FAMILIES.items():
        if f"{action}Request" in classes or f"{action}Response" in classes:
            return family
    return BARE.get(action)


def problems(family, action, answer):
    """What is wrong with an answer (without RequestId); empty if nothing."""
    if action in BARE or action in NEWER_ACTIONS:
        return []
    classes = FAMILIES[family]
    # An action whose answer is only a RequestId has no class in the table.
    return list(_object(classes, f"{action}Response", classes.get(f"{action}Response", {}), answer, action))


def _object(classes, name, fields, value, path):
    if not isinstance(value, dict):
        yield f"{path} is {value!r}; it must be an object"
        return
    for field, item in value.items():
        if (name, field) in EMPTY:
            if item != EMPTY[name, field]:
                yield f"{path}.{field} is {item!r}; it must be {EMPTY[name, field]!r}"
        elif (name, field) in NEWER:
            yield from _value(classes, NEWER[name, field], item, f"{path}.{field}", name)
        elif field not in fields:
            yield f"{path}.{field} is no field of {name}"
        else:
            yield from _value(classes, fields[field], item, f"{path}.{field}", name)
    for field in fields.keys() - value.keys():
        if name not in OPTIONAL:
            yield f"{path}.{field} is missing"


def _value(classes, kind, value, path, owner):
    if kind.startswith("list of "):
        if value is None and owner in OPTIONAL:
            return
        if not isinstance(value, list):
            yield f"{path} is {value!r}; it must be a list"
            return
        for index, item in enumerate(value):
            yield from _value(classes, kind.removeprefix("list of "), item, f"{path}.{index}", owner)
        return
    if kind in classes:
        if value is not None:
            yield from _object(classes, kind, classes[kind], value, path)
        elif owner not in OPTIONAL and path not in NULL_UNASKED:
            yield f"{path} is null"
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    good = {
        "text": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": is_number and isinstance(value, int) and -(2**63) <= value < 2**63,
        "uint": is_number and isinstance(value, int) and 0 <= value < 2**64,
        "float": is_number,
    }
    if kind not in good:
        yield f"{path}: the table names the unknown type {kind}"
    elif not good[kind]:
        yield f"{path} is {value!r}; it must be {kind}"
